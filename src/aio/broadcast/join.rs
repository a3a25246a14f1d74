//! How a task becomes a member, and the two halves of a member of a channel.

use super::receiver::Receiver;
use super::sender::Sender;
use crate::broadcast::{Builder, JoinError, Message, RecvError, SendError, Sent};
use crate::channel::Channel as Blocking;
use crate::route::Route as BlockingRoute;
use std::io;

/// Makes the ends of routes; see [`ringway::Route`](crate::Route).
#[derive(Debug)]
pub enum Route {}

impl Route {
    /// Becomes the sender of a route with default settings; see [`Route::sender`](BlockingRoute::sender).
    ///
    /// # Errors
    /// As [`Route::sender`](BlockingRoute::sender).
    /// # Cancel safety
    /// The name may still be taken when the future is dropped; it is given back then.
    pub async fn sender(name: &str) -> Result<Sender, JoinError> {
        Self::sender_with(&BlockingRoute::builder(), name).await
    }

    /// Becomes a receiver of a route with default settings; see [`Route::receiver`](BlockingRoute::receiver).
    ///
    /// # Errors
    /// As [`Route::receiver`](BlockingRoute::receiver).
    /// # Cancel safety
    /// It may still join when the future is dropped; it leaves then.
    pub async fn receiver(name: &str) -> Result<Receiver, JoinError> {
        Self::receiver_with(&BlockingRoute::builder(), name).await
    }

    /// Becomes the sender of a route with these settings, on a thread for blocking work.
    ///
    /// # Errors
    /// As [`Route::sender`](BlockingRoute::sender).
    /// # Cancel safety
    /// As [`sender`](Self::sender).
    pub async fn sender_with(builder: &Builder<BlockingRoute>, name: &str) -> Result<Sender, JoinError> {
        let (builder, name) = (builder.clone(), name.to_owned());
        aside(move || builder.sender(&name)).await.map(Into::into)
    }

    /// Becomes a receiver of a route with these settings, on a thread for blocking work.
    ///
    /// # Errors
    /// As [`Route::receiver`](BlockingRoute::receiver).
    /// # Cancel safety
    /// As [`receiver`](Self::receiver).
    pub async fn receiver_with(builder: &Builder<BlockingRoute>, name: &str) -> Result<Receiver, JoinError> {
        let (builder, name) = (builder.clone(), name.to_owned());
        aside(move || builder.receiver(&name)).await.map(Into::into)
    }
}

/// A member of a channel, for tasks.
#[must_use]
pub struct Channel {
    sender: Sender,
    receiver: Receiver,
}

impl Channel {
    /// Joins a channel with default settings; see [`Channel::join`](Blocking::join).
    ///
    /// # Errors
    /// As [`Channel::join`](Blocking::join).
    /// # Cancel safety
    /// It may still join when the future is dropped; it leaves then.
    pub async fn join(name: &str) -> Result<Self, JoinError> {
        Self::join_with(&Blocking::builder(), name).await
    }

    /// Joins a channel with these settings, on a thread for blocking work.
    ///
    /// # Errors
    /// As [`Channel::join`](Blocking::join).
    /// # Cancel safety
    /// As [`join`](Self::join).
    pub async fn join_with(builder: &Builder<Blocking>, name: &str) -> Result<Self, JoinError> {
        let (builder, name) = (builder.clone(), name.to_owned());
        aside(move || builder.join(&name)).await.map(Into::into)
    }

    /// Splits into the two halves, which may go to different tasks.
    pub fn split(self) -> (Sender, Receiver) {
        (self.sender, self.receiver)
    }

    /// Lends both halves, for answering a message while it is borrowed.
    pub fn halves(&mut self) -> (&mut Sender, &mut Receiver) {
        (&mut self.sender, &mut self.receiver)
    }

    /// Sends a message, as the policy says; see [`Sender::send`].
    ///
    /// # Errors
    /// As [`Sender::send`].
    /// # Cancel safety
    /// As [`Sender::send`]: nothing was sent.
    pub async fn send(&mut self, message: &[u8]) -> Result<Sent, SendError> {
        self.sender.send(message).await
    }

    /// Takes the next message, waiting for it; see [`Receiver::recv`].
    ///
    /// # Errors
    /// As [`Receiver::recv`].
    /// # Cancel safety
    /// As [`Receiver::recv`]: nothing is lost.
    pub async fn recv(&mut self) -> Result<Message<'_>, RecvError> {
        self.receiver.recv().await
    }
}

impl From<Blocking> for Channel {
    fn from(channel: Blocking) -> Self {
        let (sender, receiver) = channel.split();
        Self { sender: sender.into(), receiver: receiver.into() }
    }
}

/// Joins on a thread for blocking work: others are asked, and may take their time.
async fn aside<T: Send + 'static>(
    join: impl FnOnce() -> Result<T, JoinError> + Send + 'static,
) -> Result<T, JoinError> {
    match tokio::task::spawn_blocking(join).await {
        Ok(joined) => joined,
        Err(failed) => Err(JoinError::Os { action: "join in a thread", source: io::Error::other(failed) }),
    }
}
