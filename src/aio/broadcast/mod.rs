//! Routes and channels, for tasks.
//!
//! The types have the names of the blocking ones in [`ringway::broadcast`](crate::broadcast), and waiting is that of
//! [`ringway::tokio`](super). What never waits is the same; for what is not here there is `into_blocking`.
//!
//! # Panics
//! Waiting panics outside of a tokio runtime, or if its input and output are not enabled; sending also if its time is not.
//!
//! # Examples
//! ```no_run
//! use ringway::tokio::broadcast::Channel;
//! # async fn chat() -> Result<(), Box<dyn std::error::Error>> {
//! let (mut sender, mut receiver) = Channel::join("chat").await?.split();
//! tokio::spawn(async move {
//!     while let Ok(message) = receiver.recv().await {
//!         println!("{}: {}", message.from().pid(), String::from_utf8_lossy(&message));
//!     }
//! });
//! sender.send(b"hello, everybody").await?;
//! # Ok(())
//! # }
//! ```

mod join;
mod news;
mod receiver;
mod select;
mod sender;

pub use join::{Channel, Route};
pub use receiver::Receiver;
pub use select::Select;
pub use sender::Sender;
