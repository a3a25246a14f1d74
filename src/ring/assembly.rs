//! Putting messages together that came in several records.

use super::record::Kind;
use crate::error::Violation;

/// Checks the order and the sum of fragments. Memory grows as bytes arrive, never by what a header promises.
pub(crate) struct Assembly {
    parts: Vec<u8>,
    active: bool,
    headless: Headless,
    message_bytes_max: u64,
}

/// Whether what follows may be the rest of a message whose beginning we do not have, and why.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Headless {
    No,
    /// We joined in the middle of it.
    Joined,
    /// A part of it was overwritten.
    Lost,
}

/// What to do with a record.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// It is a whole message.
    Whole,
    /// Append it to the parts; `last` completes the message.
    Part { last: bool },
    /// Pass on: it says that the parts so far are void, or is the rest of a message that was lost.
    Void,
    /// Pass on: it completes a message of which a part was overwritten. No count of messages passed over has it.
    LostLast,
}

impl Assembly {
    /// Makes an empty assembly for messages of at most `message_bytes_max`.
    pub(crate) fn new(message_bytes_max: u64) -> Self {
        Self { parts: Vec::new(), active: false, headless: Headless::No, message_bytes_max }
    }

    /// Makes an assembly for who begins to read where the middle of a message may be.
    pub(crate) fn joining(message_bytes_max: u64) -> Self {
        Self { headless: Headless::Joined, ..Self::new(message_bytes_max) }
    }

    /// Says whether the next record can be a whole message without further ado.
    pub(crate) fn is_idle(&self) -> bool {
        !self.active && self.headless == Headless::No && self.parts.is_empty()
    }

    /// Decides on a record of `len` payload bytes before anything of it is copied.
    #[inline]
    pub(crate) fn step(&mut self, kind: Kind, len: usize) -> Result<Step, Violation> {
        if kind == Kind::Data && self.is_idle() && len as u64 <= self.message_bytes_max {
            return Ok(Step::Whole);
        }
        self.step_part(kind, len)
    }

    /// Decides on a fragment, and on whatever comes after one.
    fn step_part(&mut self, kind: Kind, len: usize) -> Result<Step, Violation> {
        if self.headless != Headless::No
            && let Some(step) = self.pass_rest(kind)
        {
            return Ok(step);
        }
        let in_turn = match kind {
            Kind::Data | Kind::FragmentFirst => !self.active,
            _ => self.active,
        };
        let fragment = matches!(kind, Kind::FragmentFirst | Kind::FragmentMiddle | Kind::FragmentLast);
        // An empty fragment would make no progress and could go on for ever.
        if !in_turn || fragment && len == 0 {
            return Err(Violation::Fragment { kind: kind as u8 });
        }
        if !self.active && !self.parts.is_empty() {
            // The message that was handed out last: give its memory back.
            self.parts = Vec::new();
        }
        let bytes = if fragment { self.parts.len() as u64 } else { 0 } + len as u64;
        if bytes > self.message_bytes_max {
            return Err(Violation::MessageBytes { bytes, max: self.message_bytes_max });
        }
        self.active = matches!(kind, Kind::FragmentFirst | Kind::FragmentMiddle);
        Ok(match kind {
            Kind::Data | Kind::Padding => Step::Whole,
            Kind::FragmentFirst | Kind::FragmentMiddle => Step::Part { last: false },
            Kind::FragmentLast => Step::Part { last: true },
            Kind::Abandon => {
                self.parts = Vec::new();
                Step::Void
            }
        })
    }

    /// Decides on a record that may be the rest of a message whose beginning we do not have; `None`: it is not.
    fn pass_rest(&mut self, kind: Kind) -> Option<Step> {
        if kind == Kind::FragmentMiddle {
            return Some(Step::Void);
        }
        let headless = std::mem::replace(&mut self.headless, Headless::No);
        match kind {
            Kind::FragmentLast if headless == Headless::Lost => Some(Step::LostLast),
            Kind::FragmentLast | Kind::Abandon => Some(Step::Void),
            _ => None,
        }
    }

    /// Lends the parts for appending a record to them.
    pub(crate) fn parts(&mut self) -> &mut Vec<u8> {
        &mut self.parts
    }

    /// Forgets a message of which a part was lost, and the rest of it that may still come.
    pub(crate) fn lose(&mut self) {
        self.parts = Vec::new();
        self.active = false;
        self.headless = Headless::Lost;
    }

    /// Hands out the completed message.
    pub(crate) fn message(&self) -> &[u8] {
        &self.parts
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_in_order_make_a_message() {
        let mut assembly = Assembly::new(100);
        assert_eq!(assembly.step(Kind::Data, 7), Ok(Step::Whole));
        for (kind, step) in [
            (Kind::FragmentFirst, Step::Part { last: false }),
            (Kind::FragmentMiddle, Step::Part { last: false }),
            (Kind::FragmentLast, Step::Part { last: true }),
        ] {
            assert_eq!(assembly.step(kind, 2), Ok(step));
            assembly.parts().extend_from_slice(&[kind as u8; 2]);
        }
        assert_eq!(assembly.message(), [3, 3, 4, 4, 5, 5]);
        assert_eq!(assembly.step(Kind::Data, 0), Ok(Step::Whole));
    }

    #[test]
    fn parts_out_of_turn_are_violations() {
        for kind in [Kind::FragmentMiddle, Kind::FragmentLast, Kind::Abandon] {
            let mut assembly = Assembly::new(100);
            assert_eq!(assembly.step(kind, 1), Err(Violation::Fragment { kind: kind as u8 }));
        }
        for kind in [Kind::Data, Kind::FragmentFirst] {
            let mut assembly = Assembly::new(100);
            assert!(assembly.step(Kind::FragmentFirst, 1).is_ok());
            assert_eq!(assembly.step(kind, 1), Err(Violation::Fragment { kind: kind as u8 }));
        }
    }

    #[test]
    fn empty_fragments_are_a_violation_and_empty_messages_are_not() {
        let mut assembly = Assembly::new(100);
        assert_eq!(assembly.step(Kind::Data, 0), Ok(Step::Whole));
        assert!(assembly.step(Kind::FragmentFirst, 0).is_err());
    }

    #[test]
    fn the_sum_is_bounded() {
        let mut assembly = Assembly::new(10);
        assert_eq!(assembly.step(Kind::Data, 11), Err(Violation::MessageBytes { bytes: 11, max: 10 }));
        assert!(assembly.step(Kind::FragmentFirst, 8).is_ok());
        assembly.parts().extend_from_slice(&[0; 8]);
        assert_eq!(
            assembly.step(Kind::FragmentMiddle, 3),
            Err(Violation::MessageBytes { bytes: 11, max: 10 })
        );
    }

    #[test]
    fn the_rest_of_a_lost_message_is_passed_over_and_its_end_is_told() {
        let middle = (Kind::FragmentMiddle, Step::Void);
        let last = (Kind::FragmentLast, Step::LostLast);
        for rest in [&[middle, last][..], &[(Kind::Abandon, Step::Void)], &[]] {
            let mut assembly = Assembly::new(100);
            assembly.lose();
            for (kind, step) in rest {
                assert_eq!(assembly.step(*kind, 0).as_ref(), Ok(step));
            }
            assert_eq!(assembly.step(Kind::Data, 3), Ok(Step::Whole));
            assert!(assembly.step(Kind::FragmentLast, 3).is_err(), "only once");
        }
    }

    #[test]
    fn who_joins_in_the_middle_of_a_message_passes_over_its_rest_and_misses_nothing() {
        for rest in
            [&[Kind::FragmentMiddle, Kind::FragmentMiddle, Kind::FragmentLast][..], &[Kind::Abandon], &[]]
        {
            let mut assembly = Assembly::joining(100);
            assert!(!assembly.is_idle(), "the next record may be a part");
            for kind in rest {
                assert_eq!(assembly.step(*kind, 0), Ok(Step::Void));
            }
            assert_eq!(assembly.step(Kind::FragmentFirst, 3), Ok(Step::Part { last: false }));
            assembly.parts().extend_from_slice(b"abc");
            assert_eq!(assembly.step(Kind::FragmentLast, 3), Ok(Step::Part { last: true }));
            assert!(assembly.step(Kind::FragmentLast, 3).is_err(), "only once");
        }
    }

    #[test]
    fn an_abandoned_message_leaves_nothing() {
        let mut assembly = Assembly::new(10);
        assert!(assembly.step(Kind::FragmentFirst, 8).is_ok());
        assembly.parts().extend_from_slice(&[0; 8]);
        assert_eq!(assembly.step(Kind::Abandon, 0), Ok(Step::Void));
        assert_eq!(assembly.step(Kind::Data, 10), Ok(Step::Whole));
        assert!(assembly.message().is_empty());
    }
}
