//! Connections: a socket that authenticates, tells of death and rings, and a segment from each side.

mod bell;
mod bytes;
pub mod census;
mod claim;
mod client;
pub(crate) mod doorway;
pub(crate) mod endpoint;
mod fragments;
mod group;
mod link;
mod listener;
mod member;
mod message;
pub(crate) mod name;
mod patience;
mod pool;
mod readiness;
mod receiver;
pub(crate) mod reception;
pub(crate) mod rings;
mod roster;
mod seat;
mod sender;
mod setup;
pub(crate) mod talk;
#[cfg(feature = "tokio")]
mod tasks;

pub use bell::Bell;
#[cfg(feature = "tokio")]
pub(crate) use bytes::Rest;
pub use bytes::{ByteListener, ByteReader, ByteStream, ByteWriter};
pub use census::census;
pub use claim::Claim;
pub use client::{connect, pair};
pub use group::Group;
pub use link::PeerCred;
pub use listener::{Incoming, Listener};
pub use member::{Event, Member, MemberId};
pub use message::Message;
pub use name::runtime_directory;
pub use pool::{Handler, Members, Pool, PoolBuilder, PoolStats, Shutdown, WorkerContext};
pub use readiness::{Armed, Readiness};
#[cfg(feature = "tokio")]
pub(crate) use receiver::Place;
pub use receiver::{Messages, Receiver};
pub use sender::Sender;

use crate::error::{RecvError, RecvTimeoutError, SendError, SendTimeoutError, TryRecvError, TrySendError};
use crate::metrics::Stats;
use std::time::Duration;

/// A connection to another process: a ring in each direction.
///
/// The verbs of both halves are here too; [`split`](Self::split) gives the halves to two threads.
///
/// # Examples
/// ```no_run
/// // One process: let mut listener = ringway::Listener::bind("greeter")?;
/// let mut connection = ringway::connect("greeter")?;
/// connection.send(b"hello")?;
/// println!("{}", String::from_utf8_lossy(&connection.recv()?));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[must_use]
pub struct Connection {
    sender: Sender,
    receiver: Receiver,
}

impl Connection {
    fn new(sender: Sender, receiver: Receiver) -> Self {
        Self { sender, receiver }
    }

    /// Splits into the two halves, which may go to different threads. Dropping one closes one direction.
    pub fn split(self) -> (Sender, Receiver) {
        (self.sender, self.receiver)
    }

    /// Lends both halves, for answering a message while it is borrowed.
    ///
    /// # Examples
    /// ```
    /// let (mut here, mut there) = ringway::pair(&ringway::Config::new())?;
    /// here.send(b"echo")?;
    /// let (sender, receiver) = there.halves();
    /// sender.send(&receiver.recv()?)?;
    /// assert_eq!(&*here.recv()?, b"echo");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn halves(&mut self) -> (&mut Sender, &mut Receiver) {
        (&mut self.sender, &mut self.receiver)
    }

    /// Lends the sending half, for claims and batches.
    pub fn sender(&mut self) -> &mut Sender {
        &mut self.sender
    }

    /// Lends the receiving half, for batches and iterators.
    pub fn receiver(&mut self) -> &mut Receiver {
        &mut self.receiver
    }

    /// Sends a message if there is room for it now; see [`Sender::try_send`].
    ///
    /// # Errors
    /// As [`Sender::try_send`].
    #[inline]
    pub fn try_send(&mut self, message: &[u8]) -> Result<(), TrySendError> {
        self.sender.try_send(message)
    }

    /// Sends a message, waiting for room; see [`Sender::send`].
    ///
    /// # Errors
    /// As [`Sender::send`].
    #[inline]
    pub fn send(&mut self, message: &[u8]) -> Result<(), SendError> {
        self.sender.send(message)
    }

    /// Sends a message, waiting for at most `timeout`; see [`Sender::send_timeout`].
    ///
    /// # Errors
    /// As [`Sender::send_timeout`].
    pub fn send_timeout(&mut self, message: &[u8], timeout: Duration) -> Result<(), SendTimeoutError> {
        self.sender.send_timeout(message, timeout)
    }

    /// Takes the next message if there is one; see [`Receiver::try_recv`].
    ///
    /// # Errors
    /// As [`Receiver::try_recv`].
    #[inline]
    pub fn try_recv(&mut self) -> Result<Message<'_>, TryRecvError> {
        self.receiver.try_recv()
    }

    /// Takes the next message, waiting for it; see [`Receiver::recv`].
    ///
    /// # Errors
    /// As [`Receiver::recv`].
    #[inline]
    pub fn recv(&mut self) -> Result<Message<'_>, RecvError> {
        self.receiver.recv()
    }

    /// Takes the next message, waiting for at most `timeout`; see [`Receiver::recv_timeout`].
    ///
    /// # Errors
    /// As [`Receiver::recv_timeout`].
    pub fn recv_timeout(&mut self, timeout: Duration) -> Result<Message<'_>, RecvTimeoutError> {
        self.receiver.recv_timeout(timeout)
    }

    /// Returns who is at the other end, as the kernel said at the handshake.
    pub fn peer_cred(&self) -> PeerCred {
        self.sender.peer_cred()
    }

    /// Returns what this side of the connection has done so far.
    pub fn stats(&self) -> Stats {
        self.sender.stats()
    }

    /// Closes both directions; the same as dropping it. What was sent before is still delivered.
    pub fn close(self) {}
}
