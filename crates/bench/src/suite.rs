//! Runs cases: repeats runs that the machine disturbed, prints rows, and says whether all went well.

use crate::args::{self, BenchArgs, Scenario};
use crate::case::{Case, Length, Profile, RATE_DEFAULT, Transport, Wait, Work};
use crate::machine::Machine;
use crate::print::Printer;
use crate::row::Row;
use crate::sample::{self, Sample};
use crate::scenario;
use crate::summary::{self, Latency};
use crate::timing::Stopwatch;
use anyhow::{Context, Result};
use std::io::{self, Write};
use std::time::{Duration, Instant};

/// Runs `ringway bench`.
///
/// Says whether every message arrived whole.
///
/// # Errors
/// A `clap::Error`: the arguments contradict each other. Else something could not be measured.
pub fn run(args: &BenchArgs) -> Result<bool> {
    let cases = args.cases()?;
    let mut printer = Printer::new(args.json, cases.len());
    let machine = Machine::look();
    let mut watch = Stopwatch::new()?;
    let mut budget = Budget::default();
    let mut sound = true;
    for rivals in cases.chunk_by(Case::is_rival_of) {
        printer.begin(rivals);
        // A share for each, so that the first do not use up what the others may need.
        budget.allowed += match args.scenario {
            Scenario::All => BUDGET * rivals.len() as u32 / cases.len() as u32,
            _ => UNBOUNDED,
        };
        let taken = take(rivals, args.runs, &mut budget, &mut watch)?;
        for (case, taken) in rivals.iter().zip(taken) {
            sound &= taken.is_sound();
            for row in taken.rows(case, &machine)? {
                printer.print(&row)?;
            }
            for sample in taken.samples.iter().filter(|sample| !sample.is_sound()) {
                let Sample { sent, lost, corrupt, .. } = sample;
                printer
                    .suspend(|| tell(&format!("{case}: {lost} of {sent} messages lost, {corrupt} corrupt")));
            }
        }
    }
    printer.finish(&machine)?;
    Ok(sound)
}

/// How much longer the runs so far may take because some did not count.
#[derive(Default)]
struct Budget {
    allowed: Duration,
    spent: Duration,
}

/// Takes the runs of cases that are held against each other, in turns.
fn take(cases: &[Case], runs: u32, budget: &mut Budget, watch: &mut Stopwatch) -> Result<Vec<Taken>> {
    let mut samples: Vec<Vec<Sample>> = vec![Vec::new(); cases.len()];
    // Until enough runs count, but not for ever: if none counts, all are shown as they are.
    for attempt in 0..(1 + EXTRA_FACTOR) * runs {
        for (case, samples) in cases.iter().zip(&mut samples) {
            let is_extra = attempt >= runs;
            let enough = samples.iter().filter(|sample| is_good(sample)).count() >= runs as usize;
            if enough || is_extra && budget.spent >= budget.allowed {
                continue;
            }
            let begin = Instant::now();
            let taken = sample::take(case, watch).with_context(|| format!("cannot measure {case}"))?;
            samples.push(taken);
            if is_extra {
                budget.spent += begin.elapsed();
            }
        }
    }
    Ok(samples.into_iter().map(Taken::choose).collect())
}

/// The runs of a case that its row is made of.
struct Taken {
    samples: Vec<Sample>,
    dropped: u64,
}

impl Taken {
    fn choose(mut samples: Vec<Sample>) -> Self {
        let all = samples.len();
        if samples.iter().any(Sample::is_calm) {
            samples.retain(is_good);
        }
        Self { dropped: (all - samples.len()) as u64, samples }
    }

    fn is_sound(&self) -> bool {
        self.samples.iter().all(Sample::is_sound)
    }

    fn rows(&self, case: &Case, machine: &Machine) -> Result<Vec<Row>> {
        let latencies: &[Latency] = if case.work == Work::Connect {
            &[Latency::Main, Latency::FirstAnswer]
        } else {
            &[Latency::Main]
        };
        let row = |latency: &Latency| {
            let mut row = summary::row(case, &self.samples, self.dropped, *latency)?;
            machine.sign(&mut row);
            Ok(row)
        };
        latencies.iter().map(row).collect()
    }
}

/// A run whose canaries were slow does not count; but one that lost a message always does.
fn is_good(sample: &Sample) -> bool {
    sample.is_calm() || !sample.is_sound()
}

/// Returns the fixed list of `all`.
pub fn cases(length: Length) -> Vec<Case> {
    let ringway = |scenario, work, bytes, wait| {
        let case = Case::new(scenario, work, Transport::Ringway, length);
        Case { bytes, wait, ..case }
    };
    let mut cases = args::limits(length, RATE_DEFAULT);
    for (wait, sizes) in [
        (Wait::Spin, [16, 32, 64, 1024].as_slice()),
        (Wait::Auto, [16, 64, 1024].as_slice()),
        (Wait::Sleep, [64].as_slice()),
    ] {
        for bytes in sizes {
            cases.push(ringway("rtt", Work::Rtt, *bytes, wait));
            if wait == Wait::Spin && scenario::CALL_BYTES.contains(bytes) {
                cases.extend(scenario::calls(*bytes, length));
            }
        }
    }
    let rtt = || ringway("rtt", Work::Rtt, 64, Wait::Auto);
    cases.push(Case { rate: Some(RATE_DEFAULT), ..rtt() });
    cases.push(Case { clients: PAIRS, ..rtt() });
    for profile in [Profile::Latency, Profile::Bulk] {
        let stream = |bytes| Case { profile, ..ringway("stream", Work::Stream, bytes, Wait::Auto) };
        cases.extend([64, 256, 1024, 4096, 65_536].map(stream));
        cases.push(Case { batch: 16, ..stream(64) });
    }
    cases.push(Case { clients: PAIRS, ..ringway("stream", Work::Stream, 64, Wait::Auto) });
    cases.push(ringway("same-thread", Work::SameThread, 64, Wait::Auto));
    for (bytes, profile) in [(1024, Profile::Latency), (1024, Profile::Bulk), (64, Profile::Latency)] {
        let fanin = ringway("fanin", Work::Fanin, bytes, Wait::Auto);
        cases.push(Case { clients: PAIRS, profile, ..fanin });
    }
    let server = ringway("fanin", Work::Fanin, 1024, Wait::Auto);
    cases.push(Case { clients: PAIRS, profile: Profile::Bulk, workers: Some(1), ..server });
    cases.extend(socket_cases(length));
    cases.extend(scenario::echo(length));
    cases.extend(scenario::scale(length));
    cases.extend(scenario::idle_probe(length));
    cases.push(scenario::reconnect(RESTARTS));
    cases.extend(scenario::route(scenario::BROADCAST_COUNT));
    cases.extend(scenario::channel(scenario::BROADCAST_COUNT));
    #[cfg(feature = "grpc")]
    cases.extend(scenario::grpc(length));
    cases.push(Case { clients: PAIRS, ..ringway("idle", Work::Idle, 64, Wait::Auto) });
    cases.push(ringway("connect", Work::Connect, 64, Wait::Auto));
    cases.push(ringway("memory", Work::Memory, 64, Wait::Auto));
    cases
}

/// The same work over what the system has.
fn socket_cases(length: Length) -> Vec<Case> {
    let over = |scenario, work, transport, bytes, clients| {
        let case = Case::new(scenario, work, transport, length);
        Case { bytes, clients, ..case }
    };
    let mut cases = vec![over("uds", Work::Rtt, Transport::Uds, 64, 1)];
    for transport in [Transport::Uds, Transport::UdsBuffered] {
        cases.extend([64, 1024, 65_536].map(|bytes| over("uds", Work::Stream, transport, bytes, 1)));
        cases.push(over("uds", Work::Fanin, transport, 1024, PAIRS));
    }
    cases.push(over("pipe", Work::Rtt, Transport::Pipe, 64, 1));
    cases.extend([64, 1024].map(|bytes| over("pipe", Work::Stream, Transport::Pipe, bytes, 1)));
    cases
}

/// Writes a line to stderr; if nobody reads it, so be it.
fn tell(line: &str) {
    let _ = writeln!(io::stderr(), "ringway: {line}");
}

/// How many times as many runs as asked for may be added because some did not count.
const EXTRA_FACTOR: u32 = 2;
/// How much time they may take in `all`, all cases together.
const BUDGET: Duration = Duration::from_secs(45);
/// More than anybody waits: then only the number of runs is bounded.
const UNBOUNDED: Duration = Duration::from_secs(1 << 32);
const PAIRS: u32 = 8;
const RESTARTS: u64 = 5;

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(canary: f64, lost: u64) -> Sample {
        Sample { canary: Some((90.0, canary)), lost, ..Sample::default() }
    }

    #[test]
    fn disturbed_runs_are_dropped() {
        let taken = Taken::choose(vec![sample(100.0, 0), sample(400.0, 0), sample(90.0, 0)]);
        assert_eq!((taken.samples.len(), taken.dropped), (2, 1));
    }

    #[test]
    fn a_disturbed_run_that_lost_a_message_is_not_hidden() {
        let taken = Taken::choose(vec![sample(100.0, 0), sample(400.0, 1)]);
        assert_eq!((taken.samples.len(), taken.dropped), (2, 0));
    }

    #[test]
    fn if_all_were_disturbed_all_are_shown() {
        let taken = Taken::choose(vec![sample(400.0, 0), sample(300.0, 0)]);
        assert_eq!((taken.samples.len(), taken.dropped), (2, 0));
    }

    #[test]
    fn the_list_of_all_names_no_case_twice() {
        let cases = cases(Length::Nanos(1));
        for (index, case) in cases.iter().enumerate() {
            assert!(!cases[index + 1..].contains(case), "{case:?}");
        }
    }
}
