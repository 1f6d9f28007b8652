//! The front door: listeners, the SMTP session driver and the reception, where every submission is
//! accepted or refused. What is allowed is decided in `galerne-core`; here it is asked and done.
#![forbid(unsafe_code)]

mod alarm;
pub mod certificates;
pub mod gate;
pub mod listener;
pub mod logins;
pub mod maildrop;
mod pace;
pub mod quotas;
pub mod reception;
pub mod registry;
mod session;
pub mod spool;
mod stream;

pub use gate::{Gate, View};
pub use listener::{Inbound, InboundWorld, bind};
pub use logins::{Judged, LoginDesk};
pub use maildrop::Maildrop;
pub use quotas::{Booking, Quotas};
pub use reception::{Letter, Reception};
pub use session::serve;
