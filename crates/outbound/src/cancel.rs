//! A one-way switch: the client has gone, or the program stops now.

use std::future::Future;

use tokio::sync::watch;

/// The side that waits.
#[derive(Clone, Debug)]
pub struct Cancelled(watch::Receiver<bool>);

/// The side that says it.
#[derive(Debug)]
pub struct Cancel(watch::Sender<bool>);

impl Cancel {
    /// A switch that is off.
    pub fn new() -> (Cancel, Cancelled) {
        let (sender, receiver) = watch::channel(false);
        (Cancel(sender), Cancelled(receiver))
    }

    /// Switches it on, for good.
    pub fn cancel(&self) {
        self.0.send_replace(true);
    }
}

impl Cancelled {
    /// Whether it is on.
    pub fn is_cancelled(&self) -> bool {
        *self.0.borrow()
    }

    /// Does what is rarely needed unless the switch goes on first; `None`: it did. The work is
    /// boxed, so that what is usual need not carry its size.
    pub fn unless<'a, T>(
        &'a mut self,
        work: impl Future<Output = T> + Send + 'a,
    ) -> impl Future<Output = Option<T>> + Send + 'a {
        let mut work = Box::pin(work);
        async move {
            tokio::select! {
                biased;
                done = &mut work => Some(done),
                () = self.wait() => None,
            }
        }
    }

    /// Waits until it is on; for ever, when the other side went away without saying so.
    pub async fn wait(&mut self) {
        if self.0.wait_for(|on| *on).await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}
