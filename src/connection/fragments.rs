//! Sending messages that are longer than a record: in fragments, one after the other, with nothing in between.

use super::sender::{Sender, Stop};
use crate::crash;
#[cfg(feature = "rpc")]
use crate::error::SendTimeoutError;
use crate::error::TrySendError;
use crate::ring::{Kind, Reservation};
use std::time::Instant;

impl Sender {
    /// Sends a message in fragments.
    pub(super) fn send_fragments(&mut self, message: &[u8], deadline: Option<Instant>) -> Result<(), Stop> {
        let mut sent = 0;
        let outcome = self.send_rest(message, &mut sent, deadline);
        if outcome.is_err() {
            self.give_up(message, sent);
        }
        outcome
    }

    /// Sends what comes after the first `sent` bytes of a message, as far as one record holds it, if there is room now;
    /// returns how many bytes that was. Until the message is complete nothing else may be sent, or it must be
    /// [given up](Self::give_up).
    ///
    /// # Errors
    /// As [`try_send`](Self::try_send); after [`TrySendError::Full`] go on with the same message.
    #[cfg(any(feature = "rpc", feature = "tokio"))]
    pub(crate) fn try_send_part(&mut self, message: &[u8], sent: usize) -> Result<usize, TrySendError> {
        if message.len() <= self.record_bytes_max() {
            return self.try_send(message).map(|()| message.len());
        }
        self.check_len(message).map_err(|(len, max)| TrySendError::TooLarge { len, max })?;
        let reservation = self.try_reserve(self.part_bytes(message, sent), 1)?;
        let mut now = sent;
        self.send_part(message, &mut now, reservation);
        Ok(now - sent)
    }

    /// Sends what comes after the first `sent` bytes of a message, and counts on, waiting for room until `deadline`.
    ///
    /// # Errors
    /// As [`send_deadline`](Self::send_deadline); after a time-out go on with the same message.
    #[cfg(feature = "rpc")]
    pub(crate) fn send_on(
        &mut self,
        message: &[u8],
        sent: &mut usize,
        deadline: Instant,
    ) -> Result<(), SendTimeoutError> {
        if message.len() <= self.producer.payload_bytes_max() {
            return self.send_deadline(message, deadline);
        }
        self.check_len(message).map_err(|(len, max)| SendTimeoutError::TooLarge { len, max })?;
        self.send_rest(message, sent, Some(deadline)).map_err(Stop::into_timeout_error)
    }

    /// Takes note that a message ends after `sent` bytes: the receiver must be told, unless it has none or all of them.
    pub(crate) fn give_up(&mut self, message: &[u8], sent: usize) {
        // What an earlier message owes stays owed.
        self.owes_abandon |= 0 < sent && sent < message.len();
    }

    /// Tells the receiver to forget the fragments of a message that was given up.
    #[cold]
    pub(super) fn pay_abandon(&mut self) -> Result<(), TrySendError> {
        let reservation = self.producer.reserve(0, 1).map_err(|no_room| self.refuse(no_room, 0))?;
        self.producer.stage(reservation, Kind::Abandon, 0);
        self.publish(0, 0);
        self.owes_abandon = false;
        Ok(())
    }

    fn send_rest(&mut self, message: &[u8], sent: &mut usize, deadline: Option<Instant>) -> Result<(), Stop> {
        while *sent < message.len() {
            let reservation = self.reserve_until(self.part_bytes(message, *sent), 1, deadline)?;
            self.send_part(message, sent, reservation);
        }
        Ok(())
    }

    #[cfg(any(feature = "rpc", feature = "tokio"))]
    fn check_len(&self, message: &[u8]) -> Result<(), (usize, usize)> {
        let (len, max) = (message.len(), self.parts.message_bytes_max);
        if len > max { Err((len, max)) } else { Ok(()) }
    }

    /// Returns how long the next fragment of a message is.
    fn part_bytes(&self, message: &[u8], sent: usize) -> usize {
        self.producer.payload_bytes_max().min(message.len() - sent)
    }

    /// Sends the next fragment of a message into room reserved for it.
    fn send_part(&mut self, message: &[u8], sent: &mut usize, reservation: Reservation) {
        let part = &message[*sent..*sent + reservation.len()];
        let last = *sent + part.len() == message.len();
        let kind = match *sent {
            0 => Kind::FragmentFirst,
            _ if last => Kind::FragmentLast,
            _ => Kind::FragmentMiddle,
        };
        self.producer.write(&reservation, part);
        self.producer.stage(reservation, kind, part.len());
        self.publish(u64::from(last), part.len());
        *sent += part.len();
        crash::point("fragments.between");
    }
}
