//! What a receiver got from one sender: every message is checked and its place in the sequence is counted.

use crate::content;
use serde::{Deserialize, Serialize};

/// What a receiver got from one sender.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tally {
    /// Number of the client.
    pub client: u32,
    /// Right messages, each in its turn.
    pub delivered: u64,
    /// Sequence numbers that were left out.
    pub gaps: u64,
    /// Right messages whose turn was over: they came twice or too late.
    pub late: u64,
    /// Messages with wrong content.
    pub corrupt: u64,
    next: u64,
}

impl Tally {
    /// Makes the tally of a client that has sent nothing.
    pub fn new(client: u32) -> Self {
        Self { client, ..Self::default() }
    }

    /// Checks and counts a message that should be `bytes` long.
    #[inline]
    pub fn note(&mut self, message: &[u8], bytes: usize) {
        match content::check(message, self.client, bytes) {
            Ok(seq) if seq == self.next => {
                self.delivered += 1;
                self.next += 1;
            }
            Ok(seq) => self.note_jump(seq),
            // It stands in the place of the next.
            Err(_) => {
                self.corrupt += 1;
                self.next += 1;
            }
        }
    }

    #[cold]
    fn note_jump(&mut self, seq: u64) {
        if seq < self.next {
            self.late += 1;
            return;
        }
        self.gaps += seq - self.next;
        self.delivered += 1;
        self.next = seq.saturating_add(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(seq: u64) -> Vec<u8> {
        let mut message = vec![0; 100];
        content::fill(&mut message, 2, seq);
        message
    }

    fn tally_of(messages: &[Vec<u8>]) -> Tally {
        let mut tally = Tally::new(2);
        messages.iter().for_each(|message| tally.note(message, 100));
        tally
    }

    #[test]
    fn a_whole_sequence_is_delivered() {
        let tally = tally_of(&(0..300).map(message).collect::<Vec<_>>());
        assert_eq!((tally.delivered, tally.gaps, tally.late, tally.corrupt), (300, 0, 0, 0));
    }

    #[test]
    fn a_lost_message_is_a_gap() {
        let tally = tally_of(&[0, 1, 5, 6].map(message));
        assert_eq!((tally.delivered, tally.gaps, tally.late, tally.corrupt), (4, 3, 0, 0));
    }

    #[test]
    fn a_message_that_comes_twice_or_too_late_is_told_apart() {
        let tally = tally_of(&[0, 2, 1, 2].map(message));
        assert_eq!((tally.delivered, tally.gaps, tally.late, tally.corrupt), (2, 1, 2, 0));
    }

    #[test]
    fn a_corrupt_message_is_no_gap() {
        let mut wrong = message(1);
        wrong[70] ^= 1;
        let tally = tally_of(&[message(0), wrong, message(2)]);
        assert_eq!((tally.delivered, tally.gaps, tally.late, tally.corrupt), (2, 0, 0, 1));
    }
}
