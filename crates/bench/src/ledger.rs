//! What a receiver got of one sender whose messages vary in length, and must come in order, each exactly once, except
//! those of which it is told that they are lost.

use crate::content::{Lengths, VARIED_BYTES_MIN};

/// What a receiver got of one sender.
#[derive(Debug, Clone)]
pub struct Ledger {
    client: u32,
    lengths: Lengths,
    /// Right messages, each in its turn.
    pub delivered: u64,
    /// Messages with wrong content, or out of turn.
    pub corrupt: u64,
    /// Messages that it was told to have missed; and those that came right after a cut and cannot be told apart.
    pub missed: u64,
    next: u64,
    /// After a cut: messages that are too short to say which they are.
    unplaced: Option<Vec<Vec<u8>>>,
}

impl Ledger {
    /// Makes the ledger of a sender that has sent nothing.
    pub fn new(client: u32, lengths: Lengths) -> Self {
        Self { client, lengths, delivered: 0, corrupt: 0, missed: 0, next: 0, unplaced: None }
    }

    /// Returns how many messages are accounted for.
    pub fn seen(&self) -> u64 {
        self.delivered + self.corrupt + self.missed
    }

    /// Checks and counts a message.
    #[inline]
    pub fn note(&mut self, message: &[u8]) {
        if self.unplaced.is_none() && self.lengths.check(message, self.client, self.next).is_ok() {
            self.delivered += 1;
            self.next += 1;
        } else {
            self.note_unexpected(message);
        }
    }

    /// So many messages were overwritten before they were read: those that were due next.
    pub fn lag(&mut self, messages: u64) {
        self.missed += messages;
        self.next += messages;
    }

    /// We were cut off: an unknown number of messages is missing before the next.
    pub fn cut(&mut self) {
        self.settle();
        self.unplaced = Some(Vec::new());
    }

    /// Everything has come: what could not be placed until now never will be.
    pub fn settle(&mut self) {
        self.missed += self.unplaced.take().map_or(0, |unplaced| unplaced.len() as u64);
    }

    #[cold]
    fn note_unexpected(&mut self, message: &[u8]) {
        let Some(unplaced) = &mut self.unplaced else {
            // It stands in the place of the next.
            self.corrupt += 1;
            self.next += 1;
            return;
        };
        if message.len() < VARIED_BYTES_MIN {
            self.corrupt += 1;
            return;
        }
        match self.lengths.check_any(message, self.client) {
            Ok(None) => unplaced.push(message.to_vec()),
            Ok(Some(seq)) => self.resume(seq),
            Err(_) => self.corrupt += 1,
        }
    }

    /// The first message after a cut that says which it is; those before it have the numbers before its own.
    fn resume(&mut self, seq: u64) {
        let unplaced = self.unplaced.take().unwrap_or_default();
        let first = seq.saturating_sub(unplaced.len() as u64);
        if first < self.next {
            // Too early: it came twice.
            self.corrupt += unplaced.len() as u64 + 1;
            return;
        }
        self.missed += first - self.next;
        for (place, message) in unplaced.iter().enumerate() {
            match self.lengths.check(message, self.client, first + place as u64) {
                Ok(()) => self.delivered += 1,
                Err(_) => self.corrupt += 1,
            }
        }
        self.delivered += 1;
        self.next = seq + 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LENGTHS: (usize, usize) = (2, 40);

    fn message(seq: u64) -> Vec<u8> {
        Lengths::new(LENGTHS.0, LENGTHS.1).fill(&mut [0; 40], 2, seq).to_vec()
    }

    fn ledger() -> Ledger {
        Ledger::new(2, Lengths::new(LENGTHS.0, LENGTHS.1))
    }

    fn counts(ledger: &Ledger) -> (u64, u64, u64) {
        (ledger.delivered, ledger.corrupt, ledger.missed)
    }

    #[test]
    fn a_whole_sequence_is_delivered() {
        let mut ledger = ledger();
        (0..5000).for_each(|seq| ledger.note(&message(seq)));
        assert_eq!((counts(&ledger), ledger.seen()), ((5000, 0, 0), 5000));
    }

    #[test]
    fn a_message_that_is_wrong_or_out_of_turn_is_corrupt() {
        let mut ledger = ledger();
        ledger.note(&message(0));
        ledger.note(&message(0));
        ledger.note(&[message(2), vec![0]].concat());
        ledger.note(&message(3));
        assert_eq!(counts(&ledger), (2, 2, 0));
    }

    #[test]
    fn what_was_told_to_be_lost_must_be_exactly_that() {
        let mut told = ledger();
        told.note(&message(0));
        told.lag(7);
        (8..100).for_each(|seq| told.note(&message(seq)));
        assert_eq!((counts(&told), told.seen()), ((93, 0, 7), 100));
        let mut wrong = ledger();
        wrong.lag(7);
        (8..100).for_each(|seq| wrong.note(&message(seq)));
        assert!(wrong.corrupt > 80, "{wrong:?}");
    }

    #[test]
    fn a_cut_is_bridged_by_the_first_message_that_says_which_it_is() {
        // From every place, so that short messages come first too.
        for start in 10..200 {
            let mut ledger = ledger();
            (0..10).for_each(|seq| ledger.note(&message(seq)));
            ledger.cut();
            (start..300).for_each(|seq| ledger.note(&message(seq)));
            ledger.settle();
            assert_eq!(counts(&ledger), (10 + 300 - start, 0, start - 10));
        }
    }

    #[test]
    fn what_came_before_a_cut_must_not_come_again() {
        let mut ledger = ledger();
        (0..100).for_each(|seq| ledger.note(&message(seq)));
        ledger.cut();
        (50..60).for_each(|seq| ledger.note(&message(seq)));
        ledger.settle();
        assert!(ledger.corrupt > 0 && ledger.delivered == 100, "{ledger:?}");
    }

    #[test]
    fn what_cannot_be_placed_in_the_end_does_not_count_as_delivered() {
        let short = (1..).map(message).find(|message| message.len() < 16).unwrap_or_default();
        let mut ledger = ledger();
        ledger.cut();
        ledger.note(&short);
        ledger.settle();
        assert_eq!(counts(&ledger), (0, 0, 1));
    }
}
