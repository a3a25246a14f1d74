//! Spinning in a task that shares its thread with others.

use super::spin::{LOOKS_PER_ROUND, Spinner, Wait, YIELD_INTERVAL, look};
use std::time::{Duration, Instant};

/// The waits of a task that shares its thread with others: each spins in slices and gives way between them.
///
/// What a task waits for is often an answer that takes longer than a few wakes, because the other side is a task of a
/// runtime too: to sleep for it and be woken would double it. So the budget grows to twice what the last waits took, as long as
/// that is less than a sleep is worth, and shrinks again where waits take long.
#[derive(Debug, Default)]
pub(crate) struct Slices {
    begun: Option<Instant>,
    yielded: Option<Instant>,
    count: u32,
    /// What the last waits have made of the budget; counts where it is more than the spinner's.
    grown: Duration,
}

impl Slices {
    /// What the task waited for is there: the next wait begins.
    pub(crate) fn end(&mut self) {
        if let Some(begun) = self.begun.take() {
            self.learn(begun.elapsed());
        }
        *self = Self { grown: self.grown, ..Self::default() };
    }

    fn learn(&mut self, waited: Duration) {
        self.grown = if waited <= WORTH_SPINNING {
            self.grown.max(2 * waited).min(WORTH_SPINNING)
        } else {
            self.grown / 2
        };
    }
}

/// What a slice of spinning came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sliced {
    /// What was waited for is there.
    Ready,
    /// Let others run, then spin on.
    Again,
    /// The budget is used up, or others want this core: sleep now (or, for [`Wait::Spin`], look after the peer's health
    /// and begin anew).
    Exhausted,
}

impl Spinner {
    /// Looks for about a microsecond; the slices of one wait share its budget.
    ///
    /// The first slices only give way: what this task waits for may depend on a task that runs next.
    pub(crate) fn spin_slice(&mut self, slices: &mut Slices, mut ready: impl FnMut() -> bool) -> Sliced {
        if self.budget.is_zero() {
            return Sliced::Exhausted;
        }
        slices.count = slices.count.saturating_add(1);
        if slices.count <= SLICES_GIVEN_AWAY {
            return Sliced::Again;
        }
        if look(&mut ready, LOOKS_PER_ROUND) {
            return Sliced::Ready;
        }
        let now = Instant::now();
        if now - *slices.begun.get_or_insert(now) >= self.budget.max(slices.grown) {
            return Sliced::Exhausted;
        }
        // Where others wanted the core the last time, the peer may be one of them: it answers while we give way.
        if self.crowded || now - *slices.yielded.get_or_insert(now) >= YIELD_INTERVAL {
            slices.yielded = Some(self.give_way(now));
            if self.crowded && self.wait() == Wait::Auto {
                return if ready() { Sliced::Ready } else { Sliced::Exhausted };
            }
        }
        Sliced::Again
    }
}

/// A task gives way this often before it looks for itself.
const SLICES_GIVEN_AWAY: u32 = 2;

/// Beyond that a sleep costs little in comparison.
const WORTH_SPINNING: Duration = Duration::from_micros(300);

#[cfg(test)]
mod tests {
    use super::super::WAKE_COST_GUESS;
    use super::*;

    #[test]
    fn slices_give_way_first_and_end_when_ready_or_with_the_budget_of_all() {
        let mut spinner = Spinner::new(Wait::Spin, WAKE_COST_GUESS);
        let mut slices = Slices::default();
        for _ in 0..SLICES_GIVEN_AWAY {
            assert_eq!(spinner.spin_slice(&mut slices, || panic!("looked")), Sliced::Again);
        }
        assert_eq!(spinner.spin_slice(&mut slices, || true), Sliced::Ready);
        let begin = Instant::now();
        while spinner.spin_slice(&mut slices, || false) != Sliced::Exhausted {}
        assert!(begin.elapsed() >= spinner.budget);
        let mut spinner = Spinner::new(Wait::Sleep, WAKE_COST_GUESS);
        assert_eq!(spinner.spin_slice(&mut Slices::default(), || panic!("looked")), Sliced::Exhausted);
    }

    #[test]
    fn the_budget_grows_with_short_waits_and_shrinks_with_long_ones() {
        let mut slices = Slices::default();
        slices.learn(Duration::from_micros(60));
        assert_eq!(slices.grown, Duration::from_micros(120));
        slices.learn(Duration::from_micros(10));
        assert_eq!(slices.grown, Duration::from_micros(120), "shorter waits fit too");
        slices.learn(Duration::from_micros(299));
        assert_eq!(slices.grown, WORTH_SPINNING);
        (0..10).for_each(|_| slices.learn(Duration::from_millis(5)));
        assert!(slices.grown < Duration::from_micros(1));
    }
}
