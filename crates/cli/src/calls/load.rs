//! Many calls, from several threads over one connection: how many a second, and how long each took.

use super::call::{Caller, Form};
use crate::exit::{self, Code, fault};
use crate::figures::{self, LINES, RoundTrips, thousands, three_digits};
use anyhow::{Context, Result, anyhow};
use comfy_table::{CellAlignment, Table};
use hdrhistogram::Histogram;
use serde::Serialize;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Instant;

/// What is to be done.
#[derive(Debug, Clone, Copy)]
pub struct Plan {
    /// Calls of all threads together.
    pub calls: u64,
    /// Threads that make them.
    pub threads: u16,
    /// Bodies are numbered, and the answer must be the body.
    pub checked: bool,
}

/// What came of it.
#[derive(Debug, Serialize)]
pub struct Summary {
    event: &'static str,
    #[serde(rename = "type")]
    message_type: String,
    calls: u64,
    concurrency: u16,
    body_bytes: usize,
    answer_bytes: u64,
    checked: bool,
    seconds: f64,
    calls_per_second: f64,
    ns: Option<RoundTrips>,
}

/// What one thread did.
struct Share {
    times: Histogram<u64>,
    answer_bytes: u64,
}

/// Makes the calls. The first that fails ends it.
///
/// # Errors
/// A call failed, or its answer was not the right one.
pub fn run(caller: &Caller, body: &[u8], plan: Plan) -> Result<Summary> {
    let next = AtomicU64::new(0);
    let start = Instant::now();
    let shares = thread::scope(|scope| {
        let threads: Vec<_> =
            (0..plan.threads).map(|_| scope.spawn(|| take_part(caller, body, plan, &next))).collect();
        let panicked = || anyhow!("a thread that makes calls panicked");
        threads
            .into_iter()
            .map(|thread| thread.join().map_err(|_| panicked())?)
            .collect::<Result<Vec<Share>>>()
    })?;
    let seconds = start.elapsed().as_secs_f64();
    let mut times = figures::histogram()?;
    for share in &shares {
        times.add(&share.times)?;
    }
    Ok(Summary {
        event: "called",
        message_type: caller.ask.message_type.to_string(),
        calls: plan.calls,
        concurrency: plan.threads,
        body_bytes: body.len(),
        answer_bytes: shares.iter().map(|share| share.answer_bytes).sum(),
        checked: plan.checked,
        seconds,
        calls_per_second: plan.calls as f64 / seconds.max(f64::EPSILON),
        // Nobody knows when a one-way message has arrived.
        ns: RoundTrips::of(&times).filter(|_| caller.ask.form != Form::OneWay),
    })
}

/// Makes calls until all are made, or one has failed.
fn take_part(caller: &Caller, body: &[u8], plan: Plan, next: &AtomicU64) -> Result<Share> {
    let mut share = Share { times: figures::histogram()?, answer_bytes: 0 };
    let (mut body, mut buffer) = (body.to_vec(), Vec::new());
    loop {
        // Relaxed: each number is given once, and nothing else is read because of it.
        let number = next.fetch_add(1, Ordering::Relaxed);
        if number >= plan.calls {
            return Ok(share);
        }
        if plan.checked {
            put_number(&mut body, number);
        }
        let (mut came, mut is_right) = (0, true);
        let start = Instant::now();
        let outcome = caller.make(&body, &mut buffer, |part| {
            is_right &= body.get(came..came + part.len()) == Some(part);
            came += part.len();
            Ok(())
        });
        share.times.saturating_record(start.elapsed().as_nanos().try_into().unwrap_or(u64::MAX));
        share.answer_bytes += came as u64;
        let is_complete = caller.ask.form == Form::OneWay || is_right && came == body.len();
        let outcome = outcome.and_then(|()| {
            if plan.checked && !is_complete {
                return Err(fault(Code::Violation, "the answer is not what was sent"));
            }
            Ok(())
        });
        if outcome.is_err() {
            // The others make no more; see above.
            next.store(plan.calls, Ordering::Relaxed);
            return outcome.with_context(|| format!("call {} of {}", number + 1, plan.calls)).map(|()| share);
        }
    }
}

/// Puts the number of a call into the first bytes of its body, as far as there is room.
fn put_number(body: &mut [u8], number: u64) {
    for (byte, digit) in body.iter_mut().zip(number.to_le_bytes()) {
        *byte = digit;
    }
}

impl Summary {
    /// Writes it to the standard output.
    ///
    /// # Errors
    /// The output fails.
    pub fn print(&self, json: bool) -> Result<()> {
        let text = if json { serde_json::to_string(self)? } else { self.words() };
        exit::print(text + "\n")
    }

    fn words(&self) -> String {
        let mut table = Table::new();
        table.load_preset(LINES).set_header(HEADER);
        let micros = self.ns.map_or_else(|| ["-"; 4].map(str::to_owned), |ns| ns.micros());
        let cells = [
            self.message_type.clone(),
            thousands(self.calls),
            thousands(self.concurrency.into()),
            thousands(self.body_bytes as u64),
            three_digits(self.seconds),
            three_digits(self.calls_per_second),
        ];
        table.add_row(cells.into_iter().chain(micros));
        for column in table.column_iter_mut().skip(1) {
            column.set_cell_alignment(CellAlignment::Right);
        }
        let note = if self.checked { "\nevery answer was checked" } else { "" };
        format!("{table}{note}")
    }
}

const HEADER: [&str; 10] = [
    "type",
    "calls",
    "in flight",
    "bytes",
    "seconds",
    "calls/s",
    "p50\nus",
    "p99\nus",
    "p99.9\nus",
    "max\nus",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_is_numbered_as_far_as_there_is_room() {
        for (bytes, expected) in [(0, &[][..]), (1, &[0x39]), (3, &[0x39, 0x30, 0]), (10, &[0x39, 0x30])] {
            let mut body = vec![0; bytes];
            put_number(&mut body, 12345);
            assert!(body.starts_with(expected) && body.len() == bytes, "{body:?}");
        }
    }
}
