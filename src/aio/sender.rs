//! Sending in a task.

use super::bell::{Bell, Room, errno_of, poll_until};
use crate::connection::{PeerCred, Sender as Blocking};
use crate::error::{CloseReason, SendError, TrySendError};
use crate::metrics::Stats;
use futures_sink::Sink;
use std::future::poll_fn;
use std::io::IoSlice;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

/// The sending half of a connection, for a task.
#[must_use]
pub struct Sender {
    half: Blocking,
    bell: Bell,
}

impl Sender {
    /// Sends a message, waiting for room as long as it takes.
    ///
    /// A message longer than a record travels in fragments; see [`Sender::send`](Blocking::send).
    ///
    /// # Errors
    /// As [`Sender::send`](Blocking::send).
    /// # Cancel safety
    /// The message is sent when the future completes; if it is dropped before, nothing of it is delivered, also when some
    /// of its fragments were on their way. So it may be sent again.
    pub async fn send(&mut self, message: &[u8]) -> Result<(), SendError> {
        let mut sending = Sending { sender: self, message, sent: 0 };
        poll_fn(|cx| sending.poll(cx)).await
    }

    /// Sends a message if there is room for it now; see [`Sender::try_send`](Blocking::try_send).
    ///
    /// # Errors
    /// As [`Sender::try_send`](Blocking::try_send).
    pub fn try_send(&mut self, message: &[u8]) -> Result<(), TrySendError> {
        self.half.try_send(message)
    }

    /// Makes a [`Sink`] of it.
    pub fn into_sink<M: AsRef<[u8]> + Unpin>(self) -> MessageSink<M> {
        MessageSink { sender: Some(self), waiting: None }
    }

    /// Returns who is at the other end, as the kernel said at the handshake.
    pub fn peer_cred(&self) -> PeerCred {
        self.half.peer_cred()
    }

    /// Returns what this side of the connection has done so far, both halves together.
    pub fn stats(&self) -> Stats {
        self.half.stats()
    }

    /// Gives the blocking form back.
    pub fn into_blocking(self) -> Blocking {
        self.half
    }

    /// Sends the part of a message that comes next; returns how many bytes that was.
    fn poll_part(
        &mut self,
        cx: &mut Context<'_>,
        message: &[u8],
        sent: usize,
    ) -> Poll<Result<usize, SendError>> {
        let part_bytes = (message.len() - sent).min(self.half.record_bytes_max());
        self.poll_attempt(cx, part_bytes, |half| half.try_send_part(message, sent))
    }

    /// Sends the beginning of `parts` as one record; returns how many bytes that was.
    pub(super) fn poll_gathered(
        &mut self,
        cx: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<Result<usize, SendError>> {
        let len = self.half.gathered_len(parts);
        self.poll_attempt(cx, len, |half| half.try_send_gathered(parts))
    }

    fn poll_attempt(
        &mut self,
        cx: &mut Context<'_>,
        len: usize,
        mut attempt: impl FnMut(&mut Blocking) -> Result<usize, TrySendError>,
    ) -> Poll<Result<usize, SendError>> {
        let Self { half, bell } = self;
        let polled = poll_until(bell, cx, &mut Room(half, len), |room| match attempt(room.0) {
            Ok(bytes) => Some(Ok(bytes)),
            Err(TrySendError::Full) => None,
            Err(TrySendError::TooLarge { len, max }) => Some(Err(SendError::TooLarge { len, max })),
            Err(TrySendError::NoMemory { errno }) => Some(Err(SendError::NoMemory { errno })),
            Err(TrySendError::Closed(reason)) => Some(Err(SendError::Closed(reason))),
        });
        Poll::Ready(match ready!(polled) {
            Ok(outcome) => outcome,
            Err(error) => Err(SendError::Closed(CloseReason::Os { errno: errno_of(&error) })),
        })
    }
}

impl From<Blocking> for Sender {
    fn from(half: Blocking) -> Self {
        Self { half, bell: Bell::default() }
    }
}

/// A message on its way; dropping it gives up what is not sent.
struct Sending<'a> {
    sender: &'a mut Sender,
    message: &'a [u8],
    sent: usize,
}

impl Sending<'_> {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), SendError>> {
        let Self { sender, message, sent } = self;
        loop {
            *sent += ready!(sender.poll_part(cx, message, *sent))?;
            if *sent == message.len() {
                return Poll::Ready(Ok(()));
            }
        }
    }
}

impl Drop for Sending<'_> {
    fn drop(&mut self) {
        self.sender.half.give_up(self.message, self.sent);
    }
}

/// A [`Sink`] for messages; see [`Sender::into_sink`].
///
/// It holds at most one message, for which there was no room. Closing it ends this direction of the connection.
#[must_use]
pub struct MessageSink<M> {
    /// `None`: closed.
    sender: Option<Sender>,
    /// The message that goes next, and how many bytes of it have gone.
    waiting: Option<(M, usize)>,
}

impl<M: AsRef<[u8]> + Unpin> MessageSink<M> {
    fn poll_waiting(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), SendError>> {
        let Self { sender, waiting } = self;
        while let Some((message, sent)) = waiting {
            let sender = sender.as_mut().ok_or(CLOSED)?;
            let message = message.as_ref();
            match ready!(sender.poll_part(cx, message, *sent)) {
                Ok(bytes) => *sent += bytes,
                Err(error) => {
                    sender.half.give_up(message, *sent);
                    *waiting = None;
                    return Poll::Ready(Err(error));
                }
            }
            if *sent == message.len() {
                *waiting = None;
            }
        }
        Poll::Ready(Ok(()))
    }
}

impl<M: AsRef<[u8]> + Unpin> Sink<M> for MessageSink<M> {
    type Error = SendError;

    fn poll_ready(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), SendError>> {
        self.poll_waiting(cx)
    }

    fn start_send(mut self: Pin<&mut Self>, message: M) -> Result<(), SendError> {
        assert!(self.waiting.is_none(), "start_send without poll_ready");
        let sender = self.sender.as_mut().ok_or(CLOSED)?;
        match sender.try_send(message.as_ref()) {
            Ok(()) => {}
            // Waits for room, or goes in fragments.
            Err(TrySendError::Full | TrySendError::TooLarge { .. }) => self.waiting = Some((message, 0)),
            Err(TrySendError::NoMemory { errno }) => return Err(SendError::NoMemory { errno }),
            Err(TrySendError::Closed(reason)) => return Err(SendError::Closed(reason)),
        }
        Ok(())
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), SendError>> {
        self.poll_waiting(cx)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), SendError>> {
        ready!(self.poll_waiting(cx))?;
        self.sender = None;
        Poll::Ready(Ok(()))
    }
}

/// What is sent to a sink after it was closed.
const CLOSED: SendError = SendError::Closed(CloseReason::PeerClosed);
