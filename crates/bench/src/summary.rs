//! A row out of the runs of a case.

use crate::case::{self, Case, Transport, Work};
use crate::footprint::CONNECTIONS;
use crate::report::group::LIMIT;
use crate::row::{Percentiles, Row};
use crate::sample::Sample;
use crate::timing;
use anyhow::Result;
use hdrhistogram::Histogram;
use std::collections::BTreeMap;

/// Which latencies a row is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Latency {
    /// The main ones.
    Main,
    /// Until the first answer after connecting.
    FirstAnswer,
}

/// Makes the row of a case out of the runs that count.
///
/// # Errors
/// Latencies cannot be added up.
pub fn row(case: &Case, samples: &[Sample], dropped: u64, latency: Latency) -> Result<Row> {
    let mut row = settings(case);
    row.runs = samples.len() as u64;
    row.runs_dropped = dropped;
    if case.has_messages() {
        let sum = |count: fn(&Sample) -> u64| Some(samples.iter().map(count).sum());
        row.sent = sum(|sample| sample.sent);
        row.delivered = sum(|sample| sample.delivered);
        row.lost = sum(|sample| sample.lost);
        row.corrupt = sum(|sample| sample.corrupt);
        row.failed = sum(|sample| sample.failed).filter(|_| case.work == Work::Reconnect);
        if case.is_broadcast() {
            row.dropped = sum(|sample| sample.dropped);
            row.missed = sum(|sample| sample.missed);
            row.cuts = sum(|sample| sample.cuts);
        }
    }
    let rates: Vec<f64> = samples.iter().map(Sample::rate).collect();
    if case.work == Work::Memory {
        weigh(&mut row, samples);
    } else {
        row.secs = median(samples.iter().map(|sample| sample.secs));
        row.sender_secs = median(samples.iter().filter_map(|sample| sample.sending_secs));
        row.cpu_s = median(samples.iter().map(|sample| sample.cpu_s));
        row.sleeps = median(samples.iter().map(|sample| sample.sleeps as f64)).map(|sleeps| sleeps as u64);
    }
    if !matches!(case.work, Work::Memory | Work::Idle | Work::Crowd | Work::Reconnect) {
        row.msgs_per_s = median(rates.iter().copied());
        if case.has_messages() || is_local(case) {
            // Of lengths that vary each is as frequent as the others.
            let bytes = (case.bytes + case.bytes_min.unwrap_or(case.bytes)) as f64 / 2.0;
            row.bytes_per_s = row.msgs_per_s.map(|rate| rate * bytes);
        }
        row.spread = spread(&rates);
    }
    add_latencies(&mut row, samples, latency)?;
    if latency == Latency::FirstAnswer {
        row.work = Some("first-answer".to_owned());
    }
    let worst = |canary: fn((f64, f64)) -> f64| {
        samples.iter().filter_map(|sample| sample.canary.map(canary)).reduce(f64::max)
    };
    row.canary_ns_before = worst(|canary| canary.0);
    row.canary_ns_after = worst(|canary| canary.1);
    Ok(row)
}

/// What was asked for.
fn settings(case: &Case) -> Row {
    let ours = case.is_ours();
    let has_bytes = case.has_messages() || is_local(case);
    let spreads = case.is_broadcast();
    let has_clients = case.servers() > 0 && case.work != Work::Memory && !spreads;
    let shared = case.processes.map(|_| u64::from(case.processes()));
    let most = (0..case.processes()).map(|process| case.clients_of(process).len() as u64).max();
    let work = work_name(case.work);
    Row {
        scenario: case.scenario.clone(),
        transport: case.transport.name().to_owned(),
        work: (![work, LIMIT].contains(&case.scenario.as_str())).then(|| work.to_owned()),
        profile: (ours && case.ring_bytes.is_none()).then(|| case::name_of(case.profile)).flatten(),
        bytes: has_bytes.then_some(case.bytes as u64),
        bytes_min: case.bytes_min.map(|bytes| bytes as u64),
        senders: spreads.then_some(u64::from(case.senders)),
        receivers: spreads.then_some(u64::from(case.clients)),
        policy: (spreads && ours).then(|| case::name_of(case.policy)).flatten(),
        clients: has_clients.then_some(u64::from(case.clients)),
        processes: shared,
        connections_each: shared.and(most),
        depth: (case.depth > 1).then_some(u64::from(case.depth)),
        workers: case.workers.map(u64::from),
        checksum: (case.transport == Transport::Rpc).then_some(case.checksum),
        batch: (case.batch > 1).then_some(case.batch as u64),
        wait: ours.then(|| case::name_of(case.wait)).flatten(),
        trust: (ours && has_bytes).then_some(case.trust),
        pin: case.pin.map(|(server, client)| format!("{server},{client}")),
        ring_bytes: ours.then(|| case.ring_bytes()),
        patience: case.patience,
        rate: case.rate.filter(|_| case.has_messages() || case.scenario == LIMIT),
        ..Row::default()
    }
}

/// Says whether bytes are worked on that go nowhere.
fn is_local(case: &Case) -> bool {
    matches!(case.work, Work::Copy | Work::Checksum)
}

fn work_name(work: Work) -> &'static str {
    match work {
        Work::Rtt => "rtt",
        Work::Stream => "stream",
        Work::Fanin => "fanin",
        Work::Route => "route",
        Work::Channel => "channel",
        Work::Bare => "bare",
        Work::Echo => "echo",
        Work::Probe => "probe",
        Work::Crowd => "crowd",
        Work::Reconnect => "reconnect",
        Work::Connect => "connect",
        Work::Memory => "memory",
        Work::Idle => "idle",
        Work::SameThread => "same-thread",
        Work::Copy => "copy",
        Work::Checksum => "checksum",
    }
}

fn add_latencies(row: &mut Row, samples: &[Sample], latency: Latency) -> Result<()> {
    let steps = |sample: &Sample| match latency {
        Latency::Main => sample.latencies.clone(),
        Latency::FirstAnswer => sample.answers.clone(),
    };
    let runs = samples.iter().map(|sample| add(&[steps(sample)])).collect::<Result<Vec<_>>>()?;
    let runs: Vec<Histogram<u64>> = runs.into_iter().filter(|run| !run.is_empty()).collect();
    if runs.is_empty() {
        return Ok(());
    }
    let at = |share: f64| {
        median(runs.iter().map(|run| run.value_at_quantile(share) as f64)).map_or(0, |nanos| nanos as u64)
    };
    row.ns = Some(Percentiles { p50: at(0.5), p90: at(0.9), p99: at(0.99), p999: at(0.999), max: at(1.0) });
    let p50s: Vec<f64> = runs.iter().map(|run| run.value_at_quantile(0.5) as f64).collect();
    row.spread = spread(&p50s);
    let mut all = BTreeMap::<u64, u64>::new();
    for (nanos, count) in samples.iter().flat_map(steps) {
        *all.entry(nanos).or_default() += count;
    }
    row.histogram = coarse(all);
    Ok(())
}

/// Merges the steps of a histogram, in their order: rows are kept, and those of the percentiles are thousands.
///
/// A merged step has the bound of its last one, so that no latency is above the bound of its step.
fn coarse(steps: impl IntoIterator<Item = (u64, u64)>) -> Vec<(u64, u64)> {
    let place = |nanos: u64| (STEPS_PER_DECADE * (nanos.max(1) as f64).log10()).floor();
    let mut merged: Vec<(u64, u64)> = Vec::new();
    for (nanos, count) in steps {
        match merged.last_mut() {
            Some((bound, sum)) if place(*bound) == place(nanos) => (*bound, *sum) = (nanos, *sum + count),
            _ => merged.push((nanos, count)),
        }
    }
    merged
}

fn add(parts: &[Vec<(u64, u64)>]) -> Result<Histogram<u64>> {
    let mut sum = timing::histogram()?;
    for (nanos, count) in parts.iter().flatten() {
        sum.saturating_record_n(*nanos, *count);
    }
    Ok(sum)
}

/// The server's processes come first.
fn weigh(row: &mut Row, samples: &[Sample]) {
    let of_server = |sample: &Sample| sample.footprints.first().map(|(empty, _)| empty.bytes() as f64);
    row.server_bytes = median(samples.iter().filter_map(of_server)).map(|bytes| bytes as u64);
    // The side that costs more.
    let of_side = |sample: &Sample| {
        let growth = sample.footprints.iter().map(|(empty, full)| full.bytes().saturating_sub(empty.bytes()));
        growth.max().map(|bytes| (bytes / CONNECTIONS) as f64)
    };
    let sides: Vec<f64> = samples.iter().filter_map(of_side).collect();
    row.connection_bytes = median(sides.iter().copied()).map(|bytes| bytes as u64);
    row.spread = spread(&sides);
}

/// Returns the middle value; of an even number of values the upper one.
fn median(values: impl IntoIterator<Item = f64>) -> Option<f64> {
    let mut values: Vec<f64> = values.into_iter().collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied()
}

/// (largest - smallest) / median; nothing for fewer than two runs.
fn spread(values: &[f64]) -> Option<f64> {
    let median = median(values.iter().copied()).filter(|median| *median > 0.0 && values.len() > 1)?;
    let (smallest, largest) =
        values.iter().fold((f64::MAX, f64::MIN), |(low, high), value| (low.min(*value), high.max(*value)));
    Some((largest - smallest) / median)
}

/// Steps of the histogram of a row, at most: each is 12 % wide.
const STEPS_PER_DECADE: f64 = 20.0;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::case::Length;

    fn case() -> Case {
        Case::new("rtt", Work::Rtt, Transport::Ringway, Length::Count(1))
    }

    fn sample(nanos: u64, sent: u64) -> Sample {
        let canary = Some((90.0, nanos as f64));
        let latencies = vec![(nanos, sent - 1), (10 * nanos, 1)];
        Sample { sent, delivered: sent, timed: sent, secs: 1.0, latencies, canary, ..Sample::default() }
    }

    #[test]
    fn a_row_has_medians_of_runs_and_sums_of_messages() {
        let samples = [sample(100, 200), sample(300, 100), sample(120, 300)];
        let row = row(&case(), &samples, 2, Latency::Main).unwrap();
        assert_eq!((row.sent, row.delivered, row.lost), (Some(600), Some(600), Some(0)));
        assert_eq!((row.runs, row.runs_dropped), (3, 2));
        assert_eq!(row.ns.unwrap().p50, 120);
        assert!((row.spread.unwrap() - 200.0 / 120.0).abs() < 0.02, "{:?}", row.spread);
        assert_eq!(row.msgs_per_s, Some(200.0));
        assert_eq!(row.histogram.iter().map(|(_, count)| count).sum::<u64>(), 600);
        assert_eq!((row.canary_ns_before, row.canary_ns_after), (Some(90.0), Some(300.0)));
        assert!(row.is_sound() && !row.is_calm());
    }

    #[test]
    fn a_histogram_is_merged_to_a_few_steps_and_loses_no_count() {
        let fine: Vec<(u64, u64)> = (1..100_000).step_by(7).map(|nanos| (nanos, nanos % 5 + 1)).collect();
        let merged = coarse(fine.clone());
        let sum = |steps: &[(u64, u64)]| steps.iter().map(|(_, count)| count).sum::<u64>();
        assert_eq!(sum(&merged), sum(&fine));
        assert!(merged.is_sorted_by(|a, b| a.0 < b.0), "{merged:?}");
        for decade in [10, 100, 1000, 10_000] {
            let in_decade = merged.iter().filter(|(bound, _)| (decade..10 * decade).contains(bound)).count();
            assert!(in_decade <= 20, "{in_decade} from {decade}: {merged:?}");
        }
        assert_eq!(merged.last().map(|(bound, _)| bound), fine.last().map(|(bound, _)| bound));
        assert!(merged.iter().all(|step| fine.iter().any(|(nanos, _)| *nanos == step.0)));
        assert_eq!(coarse([(100, 2), (101, 3), (111, 1), (113, 4)]), [(111, 6), (113, 4)]);
        assert_eq!(coarse([(0, 1), (1, 2), (2, 3)]), [(1, 3), (2, 3)]);
        assert_eq!(coarse([]), []);
    }

    #[test]
    fn percentiles_are_as_fine_as_they_were_measured() {
        let latencies = (1000..1100).map(|nanos| (nanos, 1)).collect();
        let sample = Sample { latencies, ..sample(100, 100) };
        let row = row(&case(), &[sample], 0, Latency::Main).unwrap();
        let ns = row.ns.unwrap();
        assert_eq!((ns.p50, ns.p90, ns.p99), (1049, 1089, 1098));
        assert_eq!(row.histogram, [(1099, 100)]);
    }

    #[test]
    fn a_row_of_lost_or_corrupt_messages_is_not_sound() {
        let bad = [Sample { lost: 1, ..sample(100, 200) }, Sample { corrupt: 1, ..sample(100, 200) }];
        for bad in bad {
            assert!(!row(&case(), &[sample(100, 200), bad], 0, Latency::Main).unwrap().is_sound());
        }
    }

    #[test]
    fn a_row_comes_out_of_json_as_it_went_in() {
        let row = row(&case(), &[sample(100, 200)], 0, Latency::Main).unwrap();
        let text = serde_json::to_string(&row).unwrap();
        assert_eq!(serde_json::from_str::<Row>(&text).unwrap(), row);
        assert!(!text.contains("server_bytes"), "{text}");
    }

    #[test]
    fn one_run_has_no_spread_and_none_has_no_median() {
        assert_eq!((spread(&[5.0]), median([])), (None, None));
        assert_eq!(median([3.0, 1.0]), Some(3.0));
    }
}
