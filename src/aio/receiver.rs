//! Receiving in a task.

use super::bell::{Bell, errno_of, poll_until};
use crate::connection::{Message, PeerCred, Place, Receiver as Blocking};
use crate::error::{CloseReason, RecvError, TryRecvError};
use crate::metrics::Stats;
use futures_core::Stream;
use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

/// The receiving half of a connection, for a task.
///
/// As a [`Stream`] it yields owned messages, and ends when the connection ends gracefully.
#[must_use]
pub struct Receiver {
    half: Blocking,
    bell: Bell,
    /// The stream has told how it ended.
    told: bool,
}

impl Receiver {
    /// Takes the next message, waiting as long as it takes.
    ///
    /// # Errors
    /// [`RecvError`]: the connection has ended, and all that was committed before has been delivered.
    /// # Cancel safety
    /// A message is taken when the future completes and not before: dropping it loses nothing.
    pub async fn recv(&mut self) -> Result<Message<'_>, RecvError> {
        let place = poll_fn(|cx| self.poll_take(cx)).await?;
        Ok(self.half.message(place))
    }

    /// Takes the next message if there is one; see [`Receiver::try_recv`](Blocking::try_recv).
    ///
    /// # Errors
    /// As [`Receiver::try_recv`](Blocking::try_recv).
    pub fn try_recv(&mut self) -> Result<Message<'_>, TryRecvError> {
        self.half.try_recv()
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

    /// Takes the next message; [`taken`](Self::taken) shows it until the next is taken.
    pub(super) fn poll_take(&mut self, cx: &mut Context<'_>) -> Poll<Result<Place, RecvError>> {
        let Self { half, bell, .. } = self;
        let polled = poll_until(bell, cx, half, |half| match half.try_take() {
            Ok(place) => Some(Ok(place)),
            Err(TryRecvError::Closed(reason)) => Some(Err(RecvError(reason))),
            Err(TryRecvError::Empty) => None,
        });
        Poll::Ready(match ready!(polled) {
            Ok(outcome) => outcome,
            Err(error) => Err(RecvError(CloseReason::Os { errno: errno_of(&error) })),
        })
    }

    pub(super) fn half(&self) -> &Blocking {
        &self.half
    }
}

impl From<Blocking> for Receiver {
    fn from(half: Blocking) -> Self {
        Self { half, bell: Bell::default(), told: false }
    }
}

impl Stream for Receiver {
    type Item = Result<Vec<u8>, RecvError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.told {
            return Poll::Ready(None);
        }
        Poll::Ready(match ready!(self.poll_take(cx)) {
            Ok(place) => Some(Ok(self.half.message(place).to_vec())),
            Err(error) => {
                self.told = true;
                (error.reason() != &CloseReason::PeerClosed).then_some(Err(error))
            }
        })
    }
}
