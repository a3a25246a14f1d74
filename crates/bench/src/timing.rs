//! Clocks: the processor's own for single round trips, the kernel's for spans that several processes see.

use anyhow::Result;
use hdrhistogram::Histogram;
use quanta::Clock;
use rustix::time::{ClockId, clock_gettime};

/// Times single round trips: one raw stamp before, one after; recording is outside of both.
pub struct Stopwatch {
    clock: Clock,
    histogram: Histogram<u64>,
}

impl Stopwatch {
    /// Makes one that has recorded nothing. The first of a process takes up to 200 ms to learn the rate of the clock.
    pub fn new() -> Result<Self> {
        Ok(Self { clock: Clock::new(), histogram: histogram()? })
    }

    /// Returns the time stamp counter: no system call, no conversion.
    #[inline]
    pub fn stamp(&self) -> u64 {
        self.clock.raw()
    }

    /// Returns the nanoseconds between two stamps.
    #[inline]
    pub fn nanos(&self, start: u64, end: u64) -> u64 {
        self.clock.delta_as_nanos(start, end)
    }

    /// Records a latency in nanoseconds.
    #[inline]
    pub fn record(&mut self, nanos: u64) {
        self.histogram.saturating_record(nanos);
    }

    /// Returns how many were recorded.
    pub fn count(&self) -> u64 {
        self.histogram.len()
    }

    /// Forgets what was recorded.
    pub fn clear(&mut self) {
        self.histogram.reset();
    }

    /// Returns the value that a share of those recorded does not exceed, in nanoseconds.
    pub fn quantile(&self, share: f64) -> u64 {
        self.histogram.value_at_quantile(share)
    }

    /// Returns what was recorded as (nanoseconds, how many).
    pub fn steps(&self) -> Vec<(u64, u64)> {
        self.histogram.iter_recorded().map(|step| (step.value_iterated_to(), step.count_at_value())).collect()
    }
}

/// Makes an empty histogram of latencies: 0.1 % steps up to a minute.
pub fn histogram() -> Result<Histogram<u64>> {
    Ok(Histogram::new_with_bounds(1, NANOS_MAX, 3)?)
}

/// Returns nanoseconds of a clock that all processes of this machine share.
pub fn shared_nanos() -> u64 {
    let time = clock_gettime(ClockId::Monotonic);
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

/// Returns when a request is due that is one of so many per second, in nanoseconds from the first.
#[inline]
pub fn due(seq: u64, rate: u64) -> u64 {
    u64::try_from(u128::from(seq) * 1_000_000_000 / u128::from(rate)).unwrap_or(u64::MAX)
}

const NANOS_MAX: u64 = 60_000_000_000;
