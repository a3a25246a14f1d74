//! Sending to receivers in a task.

use super::super::bell::{Awaited, Bell, poll_until};
use super::news;
use super::receiver::failed;
use crate::broadcast::{
    Claim, MemberEvent, Part, Peer, Policy, SendError, Sender as Blocking, Sent, TrySendError,
};
use crate::connection::{Armed, Readiness};
use crate::error::CloseReason;
use crate::metrics::Stats;
use crate::wait::{Sliced, Slices};
use std::future::{Future, poll_fn};
use std::io;
use std::path::PathBuf;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Instant;
use tokio::time::Sleep;

/// The sending end of a route or of a member of a channel, for a task.
#[must_use]
pub struct Sender {
    half: Blocking,
    bell: Bell,
    clock: Clock,
}

impl Sender {
    /// Sends a message as the policy says, which may mean to wait for receivers; see [`Sender::send`](Blocking::send).
    ///
    /// # Errors
    /// As [`Sender::send`](Blocking::send).
    /// # Cancel safety
    /// The message is sent when the future completes; if it is dropped before, nothing of it is delivered, also when some
    /// of its fragments were on their way. So it may be sent again. A receiver that was disconnected meanwhile, as the
    /// policy says, stays so.
    pub async fn send(&mut self, message: &[u8]) -> Result<Sent, SendError> {
        let mut sending = Sending { sender: self, message, sent: 0 };
        poll_fn(|cx| sending.poll(cx)).await
    }

    /// Claims room for a message of `len` bytes as the policy says; see [`Sender::claim`](Blocking::claim).
    ///
    /// # Errors
    /// As [`Sender::claim`](Blocking::claim).
    /// # Cancel safety
    /// Nothing is claimed before the future completes.
    pub async fn claim(&mut self, len: usize) -> Result<Claim<'_>, SendError> {
        let reservation =
            poll_fn(|cx| self.poll_attempt(cx, len, |half| half.try_claim_by_policy(len))).await?;
        Ok(self.half.claim_of(reservation))
    }

    /// Sends a message if there is room for it now; see [`Sender::try_send`](Blocking::try_send).
    ///
    /// # Errors
    /// As [`Sender::try_send`](Blocking::try_send).
    pub fn try_send(&mut self, message: &[u8]) -> Result<Sent, TrySendError> {
        self.half.try_send(message)
    }

    /// Claims room for a message if there is room now; see [`Sender::try_claim`](Blocking::try_claim).
    ///
    /// # Errors
    /// As [`Sender::try_claim`](Blocking::try_claim).
    pub fn try_claim(&mut self, len: usize) -> Result<Claim<'_>, TrySendError> {
        self.half.try_claim(len)
    }

    /// Waits until there are at least `count` receivers, as long as it takes, and returns how many there are; see
    /// [`Sender::wait_for_receivers`](Blocking::wait_for_receivers).
    ///
    /// # Errors
    /// This handle has left.
    /// # Cancel safety
    /// Nothing is lost by dropping it.
    pub async fn wait_for_receivers(&mut self, count: usize) -> Result<usize, CloseReason> {
        news::wait_for(&mut self.half, &mut self.bell, count).await
    }

    /// Returns how many receivers there are.
    pub fn receiver_count(&mut self) -> usize {
        self.half.receiver_count()
    }

    /// Returns who receives; see [`Sender::receivers`](Blocking::receivers).
    pub fn receivers(&mut self) -> Vec<(Peer, u64)> {
        self.half.receivers()
    }

    /// Returns the next receiver that came or went, if any.
    pub fn try_event(&mut self) -> Option<MemberEvent> {
        self.half.try_event()
    }

    /// Disconnects one receiver; see [`Sender::disconnect_receiver`](Blocking::disconnect_receiver).
    pub fn disconnect_receiver(&mut self, peer: Peer) -> bool {
        self.half.disconnect_receiver(peer)
    }

    /// Returns what happens to slow receivers.
    pub fn policy(&self) -> Policy {
        self.half.policy()
    }

    /// Returns the path of this member's own socket.
    pub fn path(&self) -> PathBuf {
        self.half.path()
    }

    /// Returns what was sent so far, and what was dropped.
    pub fn stats(&self) -> Stats {
        self.half.stats()
    }

    /// Gives the blocking form back.
    pub fn into_blocking(self) -> Blocking {
        self.half
    }

    fn poll_attempt<T>(
        &mut self,
        cx: &mut Context<'_>,
        len: usize,
        mut attempt: impl FnMut(&mut Blocking) -> Result<T, TrySendError>,
    ) -> Poll<Result<T, SendError>> {
        let Self { half, bell, clock } = self;
        let polled = poll_until(bell, cx, &mut Room(half, len), |room| match attempt(room.0) {
            Ok(done) => Some(Ok(done)),
            Err(TrySendError::WouldBlock { .. }) => None,
            Err(TrySendError::TooLarge { len, max }) => Some(Err(SendError::TooLarge { len, max })),
            Err(TrySendError::NoMemory { errno }) => Some(Err(SendError::NoMemory { errno })),
            Err(TrySendError::Closed(reason)) => Some(Err(SendError::Closed(reason))),
        });
        match polled {
            Poll::Ready(Ok(outcome)) => Poll::Ready(outcome),
            Poll::Ready(Err(error)) => Poll::Ready(Err(SendError::Closed(failed(&error)))),
            Poll::Pending => {
                // Nobody rings when the time of a receiver that reads nothing is up: the next attempt cuts it off.
                clock.wake_at(half.next_stall(), cx);
                Poll::Pending
            }
        }
    }
}

impl From<Blocking> for Sender {
    fn from(half: Blocking) -> Self {
        Self { half, bell: Bell::default(), clock: Clock::default() }
    }
}

/// A message on its way; dropping it gives up what is not sent.
struct Sending<'a> {
    sender: &'a mut Sender,
    message: &'a [u8],
    sent: usize,
}

impl Sending<'_> {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<Sent, SendError>> {
        let Self { sender, message, sent } = self;
        let part_bytes_max = sender.half.record_bytes_max();
        loop {
            let part_bytes = (message.len() - *sent).min(part_bytes_max);
            let part = sender.poll_attempt(cx, part_bytes, |half| half.try_send_part(message, *sent));
            match ready!(part)? {
                Part::Some(bytes) => *sent += bytes,
                Part::Done(outcome) => {
                    *sent = message.len();
                    return Poll::Ready(Ok(outcome));
                }
            }
        }
    }
}

impl Drop for Sending<'_> {
    fn drop(&mut self) {
        self.sender.half.give_up(self.message, self.sent);
    }
}

/// Room for a message of so many bytes.
struct Room<'a>(&'a mut Blocking, usize);

impl Awaited for Room<'_> {
    fn readiness(&self) -> io::Result<Readiness> {
        self.0.readiness()
    }

    fn arm(&mut self) -> Armed {
        self.0.arm(self.1)
    }

    fn disarm(&mut self) {
        self.0.disarm();
    }

    fn spin_slice(&mut self, slices: &mut Slices) -> Sliced {
        self.0.spin_slice(self.1, slices)
    }
}

/// Wakes the task at a time, whatever else it waits for.
#[derive(Default)]
struct Clock {
    /// Made for the first wait that has an end, and kept.
    sleep: Option<Pin<Box<Sleep>>>,
}

impl Clock {
    fn wake_at(&mut self, time: Option<Instant>, cx: &mut Context<'_>) {
        let Some(time) = time else { return };
        let sleep = match &mut self.sleep {
            Some(sleep) => {
                if sleep.deadline() != time.into() {
                    sleep.as_mut().reset(time.into());
                }
                sleep
            }
            none => none.insert(Box::pin(tokio::time::sleep_until(time.into()))),
        };
        if sleep.as_mut().poll(cx).is_ready() {
            cx.waker().wake_by_ref();
        }
    }
}
