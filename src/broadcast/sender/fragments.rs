//! Sending messages that are longer than a record: in fragments, one after the other, with nothing in between.

use super::super::peer::Peer;
use super::super::policy::{Policy, Sent};
use super::Sender;
use super::room::Stop;
use crate::crash;
use crate::error::CloseReason;
#[cfg(feature = "tokio")]
use crate::error::broadcast::TrySendError;
use crate::ring::{Kind, Reservation};
use std::time::{Duration, Instant};

/// What sending a part of a message came to.
pub(crate) enum Part {
    /// So many bytes of it were sent, and there are more.
    Some(usize),
    /// That is settled.
    Done(Sent),
}

impl Sender {
    /// Sends a message in fragments.
    pub(super) fn send_fragments(&mut self, message: &[u8], deadline: Option<Instant>) -> Result<Sent, Stop> {
        let mut sent = 0;
        let outcome = self.send_rest(message, &mut sent, deadline);
        if outcome.is_err() {
            self.give_up(message, sent);
        }
        outcome
    }

    fn send_rest(
        &mut self,
        message: &[u8],
        sent: &mut usize,
        deadline: Option<Instant>,
    ) -> Result<Sent, Stop> {
        loop {
            match self.try_part(message, *sent) {
                Ok(Part::Some(bytes)) => *sent += bytes,
                Ok(Part::Done(result)) => return Ok(result),
                Err(Stop::WouldBlock(by)) => {
                    if deadline.is_some_and(|deadline| Instant::now() >= deadline) {
                        return Err(Stop::WouldBlock(by));
                    }
                    self.wait_for_room(self.part_bytes(message, *sent), 1, deadline)?;
                }
                Err(stop) => return Err(stop),
            }
        }
    }

    /// Sends what comes after the first `sent` bytes of a message, as far as one record holds it, going by the policy.
    /// Until the message is complete nothing else may be sent, or it must be [given up](Self::give_up).
    ///
    /// # Errors
    /// As [`try_send`](Self::try_send). After [`TrySendError::WouldBlock`] wait for room, at the latest until
    /// [`next_stall`](Self::next_stall), then go on with the same message.
    #[cfg(feature = "tokio")]
    pub(crate) fn try_send_part(&mut self, message: &[u8], sent: usize) -> Result<Part, TrySendError> {
        match self.try_part(message, sent) {
            Ok(part) => Ok(part),
            Err(Stop::Settled(result)) => {
                self.give_up(message, sent);
                Ok(Part::Done(result))
            }
            Err(stop) => Err(stop.into()),
        }
    }

    /// Takes note that a message ends after `sent` bytes: receivers must be told, unless they have none or all of them.
    pub(crate) fn give_up(&mut self, message: &[u8], sent: usize) {
        // Nobody is waited for until the next send.
        self.stalls.clear();
        if 0 < sent && sent < message.len() && !self.owes_abandon {
            self.owes_abandon = true;
            self.history.forget_last();
        }
    }

    /// Tells the receivers to forget the fragments of a message that was given up.
    #[cold]
    pub(super) fn pay_abandon(&mut self) -> Result<(), Stop> {
        loop {
            match self.producer.reserve(0, 1) {
                Ok(reservation) => {
                    self.producer.stage(reservation, Kind::Abandon, 0);
                    self.owes_abandon = false;
                    self.publish(0, 0);
                    return Ok(());
                }
                Err(no_room) => self.refuse(no_room, 0)?,
            }
        }
    }

    fn try_part(&mut self, message: &[u8], sent: usize) -> Result<Part, Stop> {
        self.check()?;
        if sent == 0 {
            if message.len() > self.message_bytes_max {
                return Err(Stop::TooLarge { len: message.len(), max: self.message_bytes_max });
            }
            if !self.is_wanted() {
                return Err(Stop::Settled(Sent::NoReceivers));
            }
        }
        let len = self.part_bytes(message, sent);
        let found = if sent == 0 { self.reserve_or_drop(len) } else { self.reserve_rest(len) };
        let reservation = found?;
        Ok(self.send_part(message, sent, reservation))
    }

    /// Finds room for a message going by the policy, without waiting.
    pub(super) fn reserve_or_drop(&mut self, len: usize) -> Result<Reservation, Stop> {
        match self.reserve_by_policy(len, 1) {
            Err(Stop::WouldBlock(by)) => Err(self.or_drop(by)),
            found => found,
        }
    }

    /// There is no room because of `by`: drops the message if that is the policy.
    pub(super) fn or_drop(&mut self, by: Peer) -> Stop {
        if self.policy != Policy::DropNewest {
            return Stop::WouldBlock(by);
        }
        self.counters.dropped_messages.add(1);
        Stop::Settled(Sent::Dropped { by })
    }

    /// Finds room for the rest of a message that was begun. Policies that never wait do for a moment, as long as receivers
    /// make progress: a message longer than the ring could not be sent otherwise.
    fn reserve_rest(&mut self, len: usize) -> Result<Reservation, Stop> {
        if matches!(self.policy, Policy::Block { .. } | Policy::Overwrite) {
            return self.reserve_by_policy(len, 1);
        }
        loop {
            let by = match self.find_room(len, 1) {
                Err(Stop::WouldBlock(by)) => by,
                outcome => return outcome,
            };
            let now = Instant::now();
            self.note_stalls(now);
            match self.stalls.overdue(now, REST_STALL_MAX) {
                None => return Err(Stop::WouldBlock(by)),
                Some(number) if self.policy == Policy::Disconnect => {
                    self.cut(number, CloseReason::TooSlow);
                }
                Some(_) => {
                    self.counters.dropped_messages.add(1);
                    return Err(Stop::Settled(Sent::Dropped { by }));
                }
            }
        }
    }

    /// Returns how long the next fragment of a message is.
    fn part_bytes(&self, message: &[u8], sent: usize) -> usize {
        self.record_bytes_max().min(message.len() - sent)
    }

    /// Sends the next fragment of a message into room reserved for it.
    fn send_part(&mut self, message: &[u8], sent: usize, reservation: Reservation) -> Part {
        let part = &message[sent..sent + reservation.len()];
        let last = sent + part.len() == message.len();
        let kind = match sent {
            0 if last => Kind::Data,
            0 => Kind::FragmentFirst,
            _ if last => Kind::FragmentLast,
            _ => Kind::FragmentMiddle,
        };
        if sent == 0 {
            self.history.begin(self.producer.staged());
        }
        if last {
            self.history.complete();
        }
        self.producer.write(&reservation, part);
        self.producer.stage(reservation, kind, part.len());
        let result = self.publish(u64::from(last), part.len());
        crash::point("fragments.between");
        if last { Part::Done(result) } else { Part::Some(part.len()) }
    }
}

/// How long policies that never wait wait for a receiver that makes no progress in the middle of a message.
pub(super) const REST_STALL_MAX: Duration = Duration::from_millis(100);
