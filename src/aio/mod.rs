//! The verbs for tasks of tokio.
//!
//! The types have the names of the blocking ones, as those of tokio have the names of the standard library's:
//! [`Connection`] sends and receives messages, [`ByteStream`] is read and written like a `UnixStream` of tokio,
//! [`broadcast`] has routes and channels.
//!
//! A task that waits first looks again for a bounded time, about as long as four wakes cost on this machine, and lets the
//! other tasks of its thread run between two looks; only then it sleeps, and a task that sleeps costs nothing. So a round
//! trip costs a fraction of one over a socket, and a thousand idle connections need no processor.
//! [`Wait::Sleep`](crate::Wait::Sleep) sleeps at once; [`Wait::Spin`](crate::Wait::Spin) never does, and keeps a thread of
//! the runtime busy.
//!
//! # Panics
//! Waiting panics outside of a tokio runtime, or if its input and output are not enabled.
//!
//! # Examples
//! ```no_run
//! # async fn serve() -> Result<(), Box<dyn std::error::Error>> {
//! let mut listener = ringway::tokio::Listener::bind("greeter")?;
//! loop {
//!     let (mut sender, mut receiver) = listener.accept().await?.split();
//!     tokio::spawn(async move {
//!         while let Ok(message) = receiver.recv().await {
//!             if sender.send(&message).await.is_err() {
//!                 break;
//!             }
//!         }
//!     });
//! }
//! # }
//! ```

mod bell;
pub mod broadcast;
mod bytes;
#[cfg(feature = "rpc")]
mod call;
mod connection;
#[cfg(feature = "rpc")]
mod drive;
mod listener;
mod receiver;
mod sender;
#[cfg(feature = "tonic")]
pub mod tonic;
#[cfg(feature = "tower")]
mod tower;

pub use bytes::{ByteListener, ByteReader, ByteStream, ByteWriter};
#[cfg(feature = "rpc")]
pub use call::ResponseStream;
pub use connection::{Connection, connect};
pub use listener::Listener;
pub use receiver::Receiver;
pub use sender::{MessageSink, Sender};
#[cfg(feature = "tower")]
pub use tower::CallService;
