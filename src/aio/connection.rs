//! A connection, for tasks, and how it comes about.

use super::receiver::Receiver;
use super::sender::Sender;
use crate::config::Config;
use crate::connection::{Connection as Blocking, Message, PeerCred};
use crate::error::{ConnectError, RecvError, SendError};
use crate::metrics::Stats;
use std::io;

/// A connection to another process, for tasks.
#[must_use]
pub struct Connection {
    sender: Sender,
    receiver: Receiver,
}

/// Connects to the listener of this name with default settings; see [`connect`](crate::connect).
///
/// # Errors
/// As [`connect`](crate::connect).
/// # Cancel safety
/// The connection may still be made when the future is dropped; it is closed then.
pub async fn connect(name: &str) -> Result<Connection, ConnectError> {
    Connection::connect_with(&Config::new(), name).await
}

impl Connection {
    /// Connects to the listener of this name with these settings, on a thread for blocking work.
    ///
    /// # Errors
    /// As [`Config::connect`].
    /// # Cancel safety
    /// The connection may still be made when the future is dropped; it is closed then.
    pub async fn connect_with(config: &Config, name: &str) -> Result<Self, ConnectError> {
        let (config, name) = (config.clone(), name.to_owned());
        match tokio::task::spawn_blocking(move || config.connect(&name)).await {
            Ok(connected) => Ok(connected?.into()),
            Err(failed) => {
                Err(ConnectError::Os { action: "connect in a thread", source: io::Error::other(failed) })
            }
        }
    }

    /// Splits into the two halves, which may go to different tasks. Dropping one closes one direction.
    pub fn split(self) -> (Sender, Receiver) {
        (self.sender, self.receiver)
    }

    /// Lends both halves, for answering a message while it is borrowed.
    pub fn halves(&mut self) -> (&mut Sender, &mut Receiver) {
        (&mut self.sender, &mut self.receiver)
    }

    /// Sends a message, waiting for room; see [`Sender::send`].
    ///
    /// # Errors
    /// As [`Sender::send`].
    /// # Cancel safety
    /// As [`Sender::send`]: nothing was sent.
    pub async fn send(&mut self, message: &[u8]) -> Result<(), SendError> {
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

    /// Returns who is at the other end, as the kernel said at the handshake.
    pub fn peer_cred(&self) -> PeerCred {
        self.sender.peer_cred()
    }

    /// Returns what this side of the connection has done so far.
    pub fn stats(&self) -> Stats {
        self.sender.stats()
    }
}

impl From<Blocking> for Connection {
    fn from(connection: Blocking) -> Self {
        let (sender, receiver) = connection.split();
        Self { sender: sender.into(), receiver: receiver.into() }
    }
}
