//! How long to look at memory before going to sleep.

use crate::sys;
use std::hint;
use std::os::fd::AsFd;
use std::sync::OnceLock;
use std::thread;
use std::time::{Duration, Instant};

/// How a blocking verb waits.
///
/// Waking a sleeper costs the system call and, on virtual machines, 4 us when both processes share a core and 20 us
/// between idle cores; so the choice decides the tail of the round trip, and whether a core is burnt while idle.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Wait {
    /// Spins for about as long as four wakes cost on this machine, 10 to 100 us, then sleeps; yields meanwhile to whoever
    /// wants the core, and then sleeps sooner.
    #[default]
    Auto,
    /// Never sleeps: lowest latency, one core each. Looks after the peer's health about once a millisecond.
    Spin,
    /// Sleeps at once: no core burnt, every message after a pause costs a wake. Both sides run a memory fence for each
    /// message, which makes sleeping itself cheaper.
    Sleep,
}

/// What spinning came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Spun {
    /// What was waited for is there.
    Ready,
    /// The budget is used up: sleep now (or, for [`Wait::Spin`], look after the peer's health and go on).
    Exhausted,
    /// The deadline has passed.
    TimedOut,
}

/// Spins within a budget that fits the machine.
#[derive(Debug, Clone)]
pub(crate) struct Spinner {
    wait: Wait,
    pub(super) budget: Duration,
    /// A yield took long, so others want this core.
    pub(super) crowded: bool,
}

impl Spinner {
    /// Makes a spinner; `wake_cost` is what waking a sleeper costs here, as measured or as the listener said.
    pub(crate) fn new(wait: Wait, wake_cost: Duration) -> Self {
        let budget = match wait {
            Wait::Auto if sys::online_cpu_count() > 1 => {
                (BUDGET_WAKES * wake_cost).clamp(BUDGET_MIN, BUDGET_MAX)
            }
            Wait::Auto | Wait::Sleep => Duration::ZERO,
            Wait::Spin => HEALTH_INTERVAL,
        };
        Self { wait, budget, crowded: false }
    }

    /// Returns how the user asked to wait.
    pub(crate) fn wait(&self) -> Wait {
        self.wait
    }

    /// Looks again and again until `ready`, the budget is used up, or the deadline has passed.
    ///
    /// Where others want this core it matters what is waited for. In a `stream` we yield on and on: whoever fills or drains
    /// the ring runs meanwhile, and a sleep would cost more. Whoever waits for a single answer yields once and then
    /// sleeps: the two sides are fast only while both have a core, and those that yield on and on would use up the time of
    /// the pair that has.
    pub(crate) fn spin(
        &mut self,
        deadline: Option<Instant>,
        stream: bool,
        ready: impl FnMut() -> bool,
    ) -> Spun {
        self.spin_over(1, deadline, stream, ready)
    }

    /// As [`spin`](Self::spin), where one call of `ready` looks at so many `rings`: what happens between two readings of
    /// the clock is bounded by the looks, not by the calls.
    pub(crate) fn spin_over(
        &mut self,
        rings: usize,
        deadline: Option<Instant>,
        stream: bool,
        mut ready: impl FnMut() -> bool,
    ) -> Spun {
        if self.budget.is_zero() {
            return if ready() { Spun::Ready } else { Spun::Exhausted };
        }
        // Most waits of a busy ring end within the first round, before a clock was read.
        let rounds = if deadline.is_some() { LOOKS_BEFORE_DEADLINE } else { LOOKS_PER_ROUND };
        let looks = (RINGS_PER_ROUND / rings.max(1)).clamp(1, rounds);
        if look(&mut ready, looks) {
            return Spun::Ready;
        }
        let sleeps_if_crowded = !stream && self.wait == Wait::Auto;
        let start = Instant::now();
        let mut yielded = start;
        loop {
            if look(&mut ready, looks) {
                return Spun::Ready;
            }
            let now = Instant::now();
            if deadline.is_some_and(|deadline| now >= deadline) {
                return Spun::TimedOut;
            }
            let crowded_share =
                if self.crowded && self.wait == Wait::Auto && stream { CROWDED_SHARE } else { 1 };
            if now - start >= self.budget / crowded_share {
                return Spun::Exhausted;
            }
            if now - yielded >= YIELD_INTERVAL || self.crowded && !sleeps_if_crowded {
                yielded = self.give_way(now);
                if self.crowded && sleeps_if_crowded {
                    return if ready() { Spun::Ready } else { Spun::Exhausted };
                }
            }
        }
    }

    /// Lets others have the core, and finds out whether any wanted it; returns the time afterwards.
    pub(super) fn give_way(&mut self, now: Instant) -> Instant {
        sys::yield_now();
        let yielded = Instant::now();
        self.crowded = yielded - now >= CROWDED_YIELD;
        yielded
    }
}

/// Lets so many PAUSE instructions pass, about 25 ns each, without touching memory.
pub(crate) fn pause(pauses: u32) {
    for _ in 0..pauses {
        hint::spin_loop();
    }
}

pub(super) fn look(ready: &mut impl FnMut() -> bool, rounds: usize) -> bool {
    for _ in 0..rounds {
        if ready() {
            return true;
        }
        hint::spin_loop();
    }
    false
}

/// Measures once per process what waking a sleeping thread costs, one way: half the median round trip of a byte
/// between two threads over a socket pair. Takes about a millisecond; a listener does it when it is bound and tells
/// its clients.
pub(crate) fn measure_wake_cost() -> Duration {
    static COST: OnceLock<Duration> = OnceLock::new();
    *COST.get_or_init(|| wake_round_trip().map_or(WAKE_COST_GUESS, |round_trip| round_trip / 2))
}

fn wake_round_trip() -> Option<Duration> {
    let (ours, theirs) = sys::stream_pair().ok()?;
    let answering = thread::Builder::new()
        .name("ringway-wake-cost".into())
        .spawn(move || {
            while let Ok(1..) = sys::poll(&mut [sys::PollItem::readable(theirs.as_fd())], Some(ROUND_LIMIT)) {
                match sys::drain_doorbell(theirs.as_fd()) {
                    sys::Drained::Bytes(_) => sys::ring_doorbell(theirs.as_fd()),
                    _ => break,
                };
            }
        })
        .ok()?;
    let mut rounds = [Duration::ZERO; 17];
    for round in &mut rounds {
        let start = Instant::now();
        sys::ring_doorbell(ours.as_fd());
        sys::poll(&mut [sys::PollItem::readable(ours.as_fd())], Some(ROUND_LIMIT)).ok()?;
        sys::drain_doorbell(ours.as_fd());
        *round = start.elapsed();
    }
    drop(ours);
    answering.join().ok()?;
    rounds.sort_unstable();
    Some(rounds[rounds.len() / 2])
}

/// Looks between two readings of the clock, and when a deadline is to be met.
pub(super) const LOOKS_PER_ROUND: usize = 32;
const LOOKS_BEFORE_DEADLINE: usize = 8;
/// Rings that are looked at between two readings of the clock, where one look is at many.
const RINGS_PER_ROUND: usize = 256;
/// Spinning for less than a few wakes makes processes that share cores fall asleep on each other.
const BUDGET_WAKES: u32 = 4;
const BUDGET_MIN: Duration = Duration::from_micros(10);
const BUDGET_MAX: Duration = Duration::from_micros(100);
/// A spinner that never sleeps looks after its peer this often.
const HEALTH_INTERVAL: Duration = Duration::from_millis(1);
/// Give way this often; the kernel returns at once when nobody wants the core.
pub(super) const YIELD_INTERVAL: Duration = Duration::from_micros(5);
/// A yield that took this long let somebody else run.
const CROWDED_YIELD: Duration = Duration::from_micros(2);
/// On a crowded machine the budget shrinks to this share.
const CROWDED_SHARE: u32 = 4;
/// What a wake costs if it could not be measured.
pub(crate) const WAKE_COST_GUESS: Duration = Duration::from_micros(10);
/// A round that takes longer is given up: the machine is too busy to measure.
const ROUND_LIMIT: Duration = Duration::from_millis(20);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_spin_ends_when_ready() {
        for wait in [Wait::Auto, Wait::Spin, Wait::Sleep] {
            let mut looks = 0;
            let spun = Spinner::new(wait, WAKE_COST_GUESS).spin(None, true, || {
                looks += 1;
                wait == Wait::Sleep || looks == 100
            });
            assert_eq!(spun, Spun::Ready, "{wait:?}");
        }
    }

    #[test]
    fn a_spin_ends_with_its_budget_or_its_deadline() {
        for wait in [Wait::Auto, Wait::Spin, Wait::Sleep] {
            assert_eq!(
                Spinner::new(wait, WAKE_COST_GUESS).spin(None, true, || false),
                Spun::Exhausted,
                "{wait:?}"
            );
        }
        let past = Some(Instant::now());
        assert_eq!(Spinner::new(Wait::Spin, WAKE_COST_GUESS).spin(past, true, || false), Spun::TimedOut);
    }

    #[test]
    fn the_wake_cost_is_measured_within_reason() {
        let cost = measure_wake_cost();
        assert!(cost > Duration::from_nanos(100) && cost < Duration::from_secs(1), "{cost:?}");
        assert_eq!(measure_wake_cost(), cost, "measured once");
    }
}
