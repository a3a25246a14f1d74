//! Receiving from senders in a task.

use super::super::bell::{Awaited, Bell, errno_of, poll_until};
use super::news;
use crate::broadcast::{Event, Message, Peer, Receiver as Blocking, RecvError, Taken, TryRecvError};
use crate::connection::{Armed, Readiness};
use crate::error::CloseReason;
use crate::metrics::Stats;
use crate::wait::{Sliced, Slices};
use futures_core::Stream;
use std::future::poll_fn;
use std::io;
use std::path::PathBuf;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

/// The receiving end of a route or of a member of a channel, for a task.
///
/// As a [`Stream`] it yields owned messages, and what was lost as an error between them. It ends after an error that is
/// final: this handle has left.
#[must_use]
pub struct Receiver {
    half: Blocking,
    bell: Bell,
    /// The stream has told how it ended.
    told: bool,
}

impl Receiver {
    /// Takes the next message, waiting as long as it takes, for a sender too; see [`Receiver::recv`](Blocking::recv).
    ///
    /// # Errors
    /// As [`Receiver::recv`](Blocking::recv).
    /// # Cancel safety
    /// A message, or the news that some were lost, is taken when the future completes and not before: dropping it loses
    /// nothing.
    pub async fn recv(&mut self) -> Result<Message<'_>, RecvError> {
        let Self { half, bell, .. } = self;
        let taken = poll_fn(|cx| poll_take(half, bell, cx)).await?;
        Ok(half.message(taken))
    }

    /// Takes whatever happens next, waiting as long as it takes; see [`Receiver::next`](Blocking::next).
    ///
    /// # Errors
    /// As [`Receiver::next`](Blocking::next).
    /// # Cancel safety
    /// An event is taken when the future completes and not before: dropping it loses nothing.
    pub async fn next(&mut self) -> Result<Event<'_>, CloseReason> {
        let Self { half, bell, .. } = self;
        let taken = poll_fn(|cx| {
            let polled = poll_until(bell, cx, half, |half| half.try_take_event().transpose());
            polled.map(|polled| polled.unwrap_or_else(|error| Err(failed(&error))))
        });
        let taken = taken.await?;
        Ok(half.event(taken))
    }

    /// Takes the next message if there is one; see [`Receiver::try_recv`](Blocking::try_recv).
    ///
    /// # Errors
    /// As [`Receiver::try_recv`](Blocking::try_recv).
    pub fn try_recv(&mut self) -> Result<Message<'_>, TryRecvError> {
        self.half.try_recv()
    }

    /// Takes whatever happened next, if anything; see [`Receiver::try_next`](Blocking::try_next).
    ///
    /// # Errors
    /// As [`Receiver::try_next`](Blocking::try_next).
    pub fn try_next(&mut self) -> Result<Option<Event<'_>>, CloseReason> {
        self.half.try_next()
    }

    /// Waits until at least `count` senders are heard, as long as it takes, and returns how many are. What they send meanwhile
    /// is kept.
    ///
    /// # Errors
    /// This handle has left.
    /// # Cancel safety
    /// Nothing is lost by dropping it.
    pub async fn wait_for_senders(&mut self, count: usize) -> Result<usize, CloseReason> {
        news::wait_for(&mut self.half, &mut self.bell, count).await
    }

    /// Returns how many senders are heard.
    pub fn sender_count(&mut self) -> usize {
        self.half.sender_count()
    }

    /// Returns who is heard.
    pub fn senders(&mut self) -> Vec<Peer> {
        self.half.senders()
    }

    /// Returns the path of this member's own socket.
    pub fn path(&self) -> PathBuf {
        self.half.path()
    }

    /// Returns what was received so far, and what was lost.
    pub fn stats(&self) -> Stats {
        self.half.stats()
    }

    /// Gives the blocking form back.
    pub fn into_blocking(self) -> Blocking {
        self.half
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
        let Self { half, bell, told } = &mut *self;
        if *told {
            return Poll::Ready(None);
        }
        Poll::Ready(match ready!(poll_take(half, bell, cx)) {
            Ok(taken) => Some(Ok(half.message(taken).to_vec())),
            Err(error) => {
                *told = is_final(&error);
                Some(Err(error))
            }
        })
    }
}

impl Awaited for Blocking {
    fn readiness(&self) -> io::Result<Readiness> {
        Self::readiness(self)
    }

    fn arm(&mut self) -> Armed {
        Self::arm(self)
    }

    fn disarm(&mut self) {
        Self::disarm(self);
    }

    fn spin_slice(&mut self, slices: &mut Slices) -> Sliced {
        Self::spin_slice(self, slices)
    }
}

/// Takes the next message; the receiver shows it until the next is taken.
fn poll_take(half: &mut Blocking, bell: &mut Bell, cx: &mut Context<'_>) -> Poll<Result<Taken, RecvError>> {
    let polled = poll_until(bell, cx, half, |half| match half.try_take() {
        Ok(taken) => Some(Ok(taken)),
        Err(TryRecvError::Empty) => None,
        Err(TryRecvError::Lagged(messages)) => Some(Err(RecvError::Lagged(messages))),
        Err(TryRecvError::Closed(reason)) => Some(Err(RecvError::Closed(reason))),
    });
    polled.map(|polled| polled.unwrap_or_else(|error| Err(RecvError::Closed(failed(&error)))))
}

/// Says whether nothing comes after this any more; else a sender was lost, or messages of it.
fn is_final(error: &RecvError) -> bool {
    use CloseReason::{Disconnected, Forked, Os};
    matches!(error, RecvError::Closed(Disconnected | Forked | Os { .. }))
}

/// The reactor has failed.
pub(super) fn failed(error: &io::Error) -> CloseReason {
    CloseReason::Os { errno: errno_of(error) }
}
