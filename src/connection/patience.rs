//! How long to leave rings alone between two sweeps.

/// How long to leave the rings alone between two sweeps.
///
/// Whoever looks at once at a ring that is being filled steals the line that its writer needs. So while messages only come
/// in, and a sweep brings few of them, the next sweep waits a little and finds more. Not while members are answered:
/// somebody waits for those.
pub(super) struct Patience {
    pauses: u32,
    /// Messages of the last sweep, and since the rings were last found empty.
    swept: usize,
    streak: usize,
    /// Somebody was sent something: in this sweep, and in the last one that brought messages.
    answers: bool,
    answered: bool,
}

impl Patience {
    /// Makes the patience of who sweeps over many rings, out of the pause that one ring needs.
    pub(super) fn new(pauses_of_one: u32) -> Self {
        let pauses = pauses_of_one / PATIENCE_SHARE;
        Self { pauses, swept: 0, streak: 0, answers: false, answered: false }
    }

    /// Takes note of what one member brought in a sweep, and whether it was sent something meanwhile.
    pub(super) fn note(&mut self, messages: usize, answered: bool) {
        self.swept += messages;
        self.streak += messages;
        self.answers |= answered;
    }

    /// Takes note that nothing came in a whole sweep; says whether that was in the middle of a stream.
    pub(super) fn rest(&mut self) -> bool {
        let stream = self.streams();
        self.streak = 0;
        stream
    }

    fn streams(&self) -> bool {
        self.streak >= STREAM_MESSAGES && !self.answered
    }

    /// Says how long to wait before the next sweep begins.
    pub(super) fn due(&mut self) -> u32 {
        if self.swept > 0 {
            self.answered = self.answers;
        }
        let due = if self.streams() && self.swept < SWEEP_MESSAGES_FEW { self.pauses } else { 0 };
        (self.swept, self.answers) = (0, false);
        due
    }
}

/// A sweep goes over many rings, so each is left alone for long enough by a part of the pause that one ring needs.
const PATIENCE_SHARE: u32 = 4;
/// This many messages since the rings were last found empty are a stream.
const STREAM_MESSAGES: usize = 8;
/// A sweep that brought less comes too early.
const SWEEP_MESSAGES_FEW: usize = 512;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rings_that_bring_few_messages_one_way_are_left_alone() {
        let mut patience = Patience::new(40 * PATIENCE_SHARE);
        assert_eq!(patience.due(), 0, "nothing came yet");
        patience.note(3, false);
        assert_eq!(patience.due(), 0, "three messages are no stream");
        patience.note(5, false);
        assert_eq!(patience.due(), 40);
        patience.note(SWEEP_MESSAGES_FEW, false);
        assert_eq!(patience.due(), 0, "a sweep that brought enough");
        assert!(patience.rest());
        patience.note(1, false);
        assert_eq!(patience.due(), 0, "the stream had ended");
    }

    #[test]
    fn nobody_who_is_answered_waits() {
        let mut patience = Patience::new(40 * PATIENCE_SHARE);
        for _ in 0..100 {
            patience.note(8, true);
            patience.note(8, false);
            assert_eq!(patience.due(), 0);
        }
        assert!(!patience.rest(), "nor is it a stream");
        patience.note(8, false);
        assert_eq!(patience.due(), 40, "only as long as there are answers");
    }
}
