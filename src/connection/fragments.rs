//! Sending a long message piece by piece, for callers that have something else to do while there is no room.

use super::sender::Sender;
use crate::error::TrySendError;

impl Sender {
    /// Goes on sending a message of any length as far as there is room now; `sent` says how far it is, at first 0.
    ///
    /// Until it is complete nothing else may be sent.
    ///
    /// # Errors
    /// As [`try_send`](Self::try_send); after [`TrySendError::Full`] go on with the same message.
    pub(crate) fn try_send_on(&mut self, message: &[u8], sent: &mut usize) -> Result<(), TrySendError> {
        if message.len() > self.parts.message_bytes_max {
            return Err(TrySendError::TooLarge { len: message.len(), max: self.parts.message_bytes_max });
        }
        if message.len() <= self.producer.payload_bytes_max() {
            return self.try_send(message);
        }
        while *sent < message.len() {
            let reservation = self.try_reserve(self.part_bytes(message, *sent), 1)?;
            self.send_part(message, sent, reservation);
        }
        Ok(())
    }

    /// Gives up a message of which `sent` bytes were sent by [`try_send_on`](Self::try_send_on).
    pub(crate) fn leave_unfinished(&mut self, sent: usize) {
        // What an earlier message owes stays owed.
        self.owes_abandon |= sent > 0;
    }
}
