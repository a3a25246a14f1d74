//! One sender's messages for many receivers: what [routes](crate::Route) and [channels](crate::Channel) are made of.
//!
//! A sender has one ring, in memory that only it writes; all its receivers read that ring, each at its own pace, and say in
//! their own memory how far they are. A message is written once, however many receive it, and no receiver can disturb
//! another. What becomes of slow ones is the sender's [`Policy`].
//!
//! - [`Sender`] and [`Receiver`] are the two ends; [`Builder`] has the settings.
//! - [`Receiver::next`] tells who comes and goes, too; [`Sender::try_event`] does at the other end.
//! - [`Select`] waits for several receivers at once.

mod control;
mod desk;
pub(crate) mod join;
mod link;
mod membership;
mod message;
mod peer;
mod policy;
mod receiver;
mod seat;
mod select;
mod sender;
mod settings;
#[cfg(feature = "tokio")]
mod tasks;

pub use crate::error::broadcast::{
    JoinError, RecvError, RecvTimeoutError, SendError, SendTimeoutError, TryRecvError, TrySendError,
    WaitError,
};
pub use message::Message;
pub use peer::{Event, MemberEvent, Peer};
pub use policy::{Policy, Sent};
pub use receiver::Receiver;
#[cfg(feature = "tokio")]
pub(crate) use receiver::Taken;
pub use select::{Select, SelectId};
#[cfg(feature = "tokio")]
pub(crate) use sender::Part;
pub use sender::{Claim, Sender};
pub use settings::Builder;
