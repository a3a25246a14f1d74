//! Channels: any number of members, each of whom may send and receive.

use crate::broadcast::{Builder, Event, Message, Receiver, Sender, Sent, join};
use crate::error::CloseReason;
use crate::error::broadcast::{
    JoinError, RecvError, RecvTimeoutError, SendError, SendTimeoutError, TryRecvError, TrySendError,
};
use std::time::Duration;

/// A member of a channel: every member gets every message of every other, in the order in which that one sent it.
///
/// Each member has a ring of its own that all others read; nothing is written by two of them.
///
/// # Examples
/// ```
/// use ringway::Channel;
/// # let directory = std::env::temp_dir().join(format!("ringway-doc-channel-{}", std::process::id()));
/// # let path = directory.join("chat");
/// # let name = path.to_str().unwrap();
/// let mut here = Channel::join(name)?;
/// // In other processes, as many as you like:
/// let mut there = Channel::join(name)?;
/// here.send(b"hello")?;
/// there.send(b"hello yourself")?;
/// assert_eq!(&*there.recv()?, b"hello");
/// assert_eq!(&*here.recv()?, b"hello yourself");
/// # drop((here, there));
/// # std::fs::remove_dir(directory)?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[must_use]
#[derive(Debug)]
pub struct Channel {
    sender: Sender,
    receiver: Receiver,
}

impl Channel {
    /// Joins a channel with default settings; see [`Builder::join`].
    ///
    /// # Errors
    /// As [`Builder::join`].
    pub fn join(name: &str) -> Result<Self, JoinError> {
        Self::builder().join(name)
    }

    /// Returns settings to change.
    pub fn builder() -> Builder<Self> {
        Builder::new()
    }

    /// Splits into the two halves, which may go to different threads. The member has left when both are dropped; a half
    /// that is dropped neither sends nor receives any more.
    pub fn split(self) -> (Sender, Receiver) {
        (self.sender, self.receiver)
    }

    /// Lends both halves, for answering a message while it is borrowed.
    pub fn halves(&mut self) -> (&mut Sender, &mut Receiver) {
        (&mut self.sender, &mut self.receiver)
    }

    /// Lends the sending half, for claims and batches, and for who receives.
    pub fn sender(&mut self) -> &mut Sender {
        &mut self.sender
    }

    /// Lends the receiving half, for events and batches, and for who sends.
    pub fn receiver(&mut self) -> &mut Receiver {
        &mut self.receiver
    }

    /// Sends a message if there is room for it now; see [`Sender::try_send`].
    ///
    /// # Errors
    /// As [`Sender::try_send`].
    #[inline]
    pub fn try_send(&mut self, message: &[u8]) -> Result<Sent, TrySendError> {
        self.sender.try_send(message)
    }

    /// Sends a message as the policy says; see [`Sender::send`].
    ///
    /// # Errors
    /// As [`Sender::send`].
    #[inline]
    pub fn send(&mut self, message: &[u8]) -> Result<Sent, SendError> {
        self.sender.send(message)
    }

    /// Sends a message, waiting for at most `timeout`; see [`Sender::send_timeout`].
    ///
    /// # Errors
    /// As [`Sender::send_timeout`].
    pub fn send_timeout(&mut self, message: &[u8], timeout: Duration) -> Result<Sent, SendTimeoutError> {
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

    /// Returns what happens next, waiting for it; see [`Receiver::next`].
    ///
    /// # Errors
    /// As [`Receiver::next`].
    #[expect(clippy::should_implement_trait, reason = "what it returns borrows the member")]
    pub fn next(&mut self) -> Result<Event<'_>, CloseReason> {
        self.receiver.next()
    }
}

impl Builder<Channel> {
    /// Sets whether a member receives what it sends itself; it does not by default.
    ///
    /// With a policy that waits, whoever sends more than the ring holds must then receive in another thread.
    pub fn hear_myself(self, hear: bool) -> Self {
        self.set_hears_itself(hear)
    }

    /// Joins a channel: a name as for [`Config::bind`](crate::Config::bind).
    ///
    /// When it returns, the members that were there get everything that is sent from now on, and what they send is received.
    ///
    /// # Errors
    /// [`JoinError::Bind`]; [`JoinError::Refused`]: a member does not accept us, or we do not accept it.
    pub fn join(&self, name: &str) -> Result<Channel, JoinError> {
        let (sender, receiver) = join::channel(self.settings(), name)?;
        Ok(Channel { sender, receiver })
    }
}
