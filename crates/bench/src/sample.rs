//! One run of a case, with a canary before and after it.

use crate::alone;
use crate::canary;
use crate::case::{Case, Length, Work};
use crate::crew::Crew;
use crate::footprint::Footprint;
use crate::peer::{Audience, Outcome, join};
use crate::row::CANARY_NS_MAX;
use crate::timing::Stopwatch;
use anyhow::Result;
use std::time::Duration;

/// What came out of one run.
#[derive(Debug, Clone, Default)]
pub struct Sample {
    /// Messages sent, as their senders say.
    pub sent: u64,
    /// Right messages, as their receivers say.
    pub delivered: u64,
    /// Messages that arrived damaged, late, or twice.
    pub corrupt: u64,
    /// Messages that did not arrive.
    pub lost: u64,
    /// Requests whose sender was told that they may have been lost.
    pub failed: u64,
    /// Messages that the policy of a sender dropped.
    pub dropped: u64,
    /// Messages that receivers were told to have missed.
    pub missed: u64,
    /// How often a receiver was disconnected as too slow.
    pub cuts: u64,
    /// Seconds from the first message to the last of all that send to many.
    pub sending_secs: Option<f64>,
    /// Seconds from the first beginning to the last end.
    pub secs: f64,
    /// What was done in that time: messages, round trips, connects.
    pub timed: u64,
    /// Latencies in nanoseconds, and how many took that long.
    pub latencies: Vec<(u64, u64)>,
    /// Latencies of first answers.
    pub answers: Vec<(u64, u64)>,
    /// Processor seconds of all processes.
    pub cpu_s: f64,
    /// Voluntary context switches of all processes.
    pub sleeps: u64,
    /// Per process: before the connections, and with them; the server first.
    pub footprints: Vec<(Footprint, Footprint)>,
    /// Raw ping-pong in nanoseconds, before and after.
    pub canary: Option<(f64, f64)>,
}

impl Sample {
    /// Adds up what the processes report.
    pub fn of(outcomes: Vec<Outcome>) -> Self {
        let sent = outcomes.iter().map(|outcome| outcome.sent).sum();
        let mut sample = Self { sent, ..Self::default() };
        let (mut span, mut sending) = (None, None);
        let has_audience = outcomes.iter().any(|outcome| outcome.audience.is_some());
        for outcome in outcomes {
            if let Some(audience) = outcome.audience {
                sample.add_receiver(&outcome, audience);
            }
            sample.delivered += outcome.delivered;
            sample.corrupt += outcome.corrupt;
            sample.failed += outcome.failed;
            sample.dropped += outcome.dropped;
            sample.timed += outcome.timed;
            sample.latencies.extend(outcome.latencies);
            sample.answers.extend(outcome.answers);
            sample.cpu_s += outcome.cpu_nanos as f64 / 1e9;
            sample.sleeps += outcome.sleeps;
            sample.footprints.extend(outcome.footprints);
            span = join(span, outcome.span);
            sending = join(sending, outcome.sending);
        }
        if !has_audience {
            // What came damaged came; what came more often than it was sent is counted as corrupt already.
            sample.lost = sample.sent.saturating_sub(sample.delivered + sample.corrupt + sample.failed);
            sample.corrupt += sample.delivered.saturating_sub(sample.sent);
        }
        let secs = |(begin, end): (u64, u64)| (end - begin) as f64 / 1e9;
        sample.secs = span.map_or(0.0, secs);
        sample.sending_secs = sending.map(secs);
        sample
    }

    /// Counts what one of many receivers should have got, and what became of it. All that were sent are known.
    fn add_receiver(&mut self, outcome: &Outcome, audience: Audience) {
        let Audience { missed, cuts } = audience;
        let seen = outcome.delivered + outcome.corrupt + missed;
        let unseen = self.sent.saturating_sub(seen);
        self.corrupt += seen.saturating_sub(self.sent);
        // Who was cut off was told so, but not what it cost.
        let told = if cuts > 0 { unseen } else { 0 };
        self.lost += unseen - told;
        self.missed += missed + told;
        self.cuts += cuts;
    }

    /// Returns what was done per second.
    pub fn rate(&self) -> f64 {
        if self.secs > 0.0 { self.timed as f64 / self.secs } else { 0.0 }
    }

    /// Says whether every message that was sent arrived whole.
    pub fn is_sound(&self) -> bool {
        self.lost == 0 && self.corrupt == 0
    }

    /// Says whether the processors were as near to each other as usual, before and after.
    pub fn is_calm(&self) -> bool {
        self.canary.is_none_or(|(before, after)| before < CANARY_NS_MAX && after < CANARY_NS_MAX)
    }
}

/// Runs a case once.
///
/// # Errors
/// A process cannot be started, dies, or hangs.
pub fn take(case: &Case, watch: &mut Stopwatch) -> Result<Sample> {
    match case.work {
        Work::SameThread => return Ok(Sample::of(vec![alone::same_thread(case)?])),
        Work::Copy => return Ok(Sample::of(vec![alone::copy(case)])),
        Work::Checksum => return Ok(Sample::of(vec![alone::checksum(case)])),
        _ => {}
    }
    let mut sing = || case.needs_canary().then(|| canary::sing(case.pin, watch)).transpose();
    let early = if case.spins_ahead() { sing()? } else { None };
    let mut crew = Crew::start(case)?;
    // Everybody is connected and waits for the order to go, so the processors are free, unless somebody spins already.
    let before = if case.spins_ahead() { early } else { sing()? };
    let outcomes = match (case.work, case.length) {
        (Work::Reconnect, Length::Count(restarts)) => crew.play_and_restart(case, restarts, COUNT_LIMIT)?,
        _ => crew.play(limit(case.length))?,
    };
    if case.spins_ahead() {
        drop(crew);
    }
    let after = sing()?;
    Ok(Sample { canary: before.zip(after), ..Sample::of(outcomes) })
}

/// Returns how long a run may take before it counts as hanging.
fn limit(length: Length) -> Duration {
    match length {
        Length::Nanos(nanos) => Duration::from_nanos(nanos) + SPARE,
        Length::Count(_) => COUNT_LIMIT,
    }
}

/// How much longer than planned a run may take.
const SPARE: Duration = Duration::from_secs(20);
/// How long a run may take that has no planned length.
const COUNT_LIMIT: Duration = Duration::from_secs(600);

#[cfg(test)]
mod tests {
    use super::*;

    fn outcomes(sent: u64, delivered: u64, corrupt: u64) -> Vec<Outcome> {
        let server = Outcome { delivered, corrupt, ..Outcome::default() };
        vec![server, Outcome { sent, span: Some((5, 1_000_000_005)), ..Outcome::default() }]
    }

    #[test]
    fn a_message_that_did_not_arrive_is_lost() {
        let sample = Sample::of(outcomes(10, 9, 0));
        assert_eq!((sample.lost, sample.corrupt, sample.is_sound()), (1, 0, false));
    }

    #[test]
    fn a_message_that_came_damaged_is_corrupt_and_not_lost() {
        let sample = Sample::of(outcomes(10, 9, 1));
        assert_eq!((sample.lost, sample.corrupt, sample.is_sound()), (0, 1, false));
    }

    #[test]
    fn more_messages_than_were_sent_are_no_success() {
        assert!(!Sample::of(outcomes(10, 11, 0)).is_sound());
    }

    #[test]
    fn a_whole_run_is_sound_and_its_span_is_that_of_all() {
        let mut both = outcomes(10, 10, 0);
        both[0].span = Some((1_000_000_000, 2_000_000_005));
        both[0].timed = 10;
        let sample = Sample::of(both);
        assert!(sample.is_sound() && sample.is_calm());
        assert!((sample.secs - 2.0).abs() < 1e-9 && (sample.rate() - 5.0).abs() < 1e-6);
    }

    #[test]
    fn each_of_many_receivers_must_have_everything() {
        let sender = |sent| Outcome { sent, dropped: 1, sending: Some((0, 5)), ..Outcome::default() };
        let receiver = |delivered, corrupt, missed, cuts| Outcome {
            delivered,
            corrupt,
            audience: Some(Audience { missed, cuts }),
            span: Some((0, 9)),
            ..Outcome::default()
        };
        let sample = |receivers: [Outcome; 2]| Sample::of([&[sender(6), sender(4)], &receivers[..]].concat());
        let whole = sample([receiver(10, 0, 0, 0), receiver(10, 0, 0, 0)]);
        assert_eq!((whole.sent, whole.delivered, whole.dropped, whole.is_sound()), (10, 20, 2, true));
        assert_eq!(whole.sending_secs, Some(5e-9));
        // What one has too much does not make up for what another has too little.
        let uneven = sample([receiver(11, 0, 0, 0), receiver(9, 0, 0, 0)]);
        assert_eq!((uneven.lost, uneven.corrupt, uneven.is_sound()), (1, 1, false));
        let told = sample([receiver(7, 0, 3, 0), receiver(5, 0, 1, 1)]);
        assert_eq!((told.lost, told.missed, told.cuts, told.is_sound()), (0, 8, 1, true));
        let bad = sample([receiver(9, 1, 0, 0), receiver(10, 0, 0, 0)]);
        assert_eq!((bad.lost, bad.corrupt), (0, 1));
    }

    #[test]
    fn a_run_counts_only_if_both_canaries_were_fast() {
        for (canary, calm) in [((100.0, 110.0), true), ((160.0, 100.0), false), ((100.0, 310.0), false)] {
            assert_eq!(Sample { canary: Some(canary), ..Sample::default() }.is_calm(), calm);
        }
    }
}
