//! A one-way switch: the client has gone, or the program stops now.

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

    /// Waits until it is on; for ever, when the other side went away without saying so.
    pub async fn wait(&mut self) {
        if self.0.wait_for(|on| *on).await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}
