//! Rows for people and for programs.

use crate::case::Case;
use crate::machine::Machine;
use crate::row::Row;
use anyhow::Result;
use comfy_table::{CellAlignment, Table, presets};
use indicatif::{ProgressBar, ProgressStyle};
use std::io::{self, ErrorKind, IsTerminal, Write};

/// Prints rows: as JSON when they are there, as a table in the end.
pub struct Printer {
    json: bool,
    rows: Vec<Row>,
    /// None if stderr is no terminal.
    bar: Option<ProgressBar>,
}

impl Printer {
    /// Makes one for so many cases.
    pub fn new(json: bool, cases: usize) -> Self {
        let bar = io::stderr().is_terminal().then(|| {
            let style = ProgressStyle::with_template("{pos}/{len} {elapsed:>4}  {msg}");
            ProgressBar::new(cases as u64).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
        });
        Self { json, rows: Vec::new(), bar }
    }

    /// Says what is measured now, in turns.
    pub fn begin(&self, cases: &[Case]) {
        if let (Some(bar), Some(first)) = (&self.bar, cases.first()) {
            bar.inc(cases.len() as u64);
            let more = cases.len() - 1;
            let rivals = if more == 0 { String::new() } else { format!(", and {more} held against it") };
            bar.set_message(format!("{first}{rivals}"));
        }
    }

    /// Writes something to stderr without tearing the progress line.
    pub fn suspend(&self, write: impl FnOnce()) {
        match &self.bar {
            Some(bar) => bar.suspend(write),
            None => write(),
        }
    }

    /// Takes a row, and prints it if it is to be JSON.
    ///
    /// # Errors
    /// The output cannot be written.
    pub fn print(&mut self, row: &Row) -> Result<()> {
        if self.json {
            let line = serde_json::to_string(row)? + "\n";
            self.suspend_result(|| write_out(&line))
        } else {
            self.rows.push(row.clone());
            Ok(())
        }
    }

    /// Prints the table.
    ///
    /// # Errors
    /// The output cannot be written.
    pub fn finish(&mut self, machine: &Machine) -> Result<()> {
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
        if self.json {
            return Ok(());
        }
        let Machine { cpu, cores, kernel } = machine;
        write_out(&format!(
            "{}\n{cores} cores, {cpu}, kernel {kernel}. Medians of the runs; canary: raw cache-line round trip in ns.\n",
            table(&self.rows)
        ))
    }

    fn suspend_result(&self, write: impl FnOnce() -> Result<()>) -> Result<()> {
        match &self.bar {
            Some(bar) => bar.suspend(write),
            None => write(),
        }
    }
}

impl Drop for Printer {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

/// Writes to stdout. If nobody reads it any more, that is no error.
fn write_out(text: &str) -> Result<()> {
    let mut stdout = io::stdout().lock();
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => Err(error.into()),
        _ => Ok(()),
    }
}

fn table(rows: &[Row]) -> Table {
    let mut table = Table::new();
    table.load_preset(presets::NOTHING).set_header(HEADER);
    for row in rows {
        table.add_row(cells(row));
    }
    for column in table.column_iter_mut().skip(2) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table
}

fn cells(row: &Row) -> Vec<String> {
    let whole = |value: Option<u64>| value.map_or_else(String::new, |value| value.to_string());
    let what = match &row.work {
        Some(work) => format!("{} {work}", row.scenario),
        None => row.scenario.clone(),
    };
    let settings = [
        row.profile.clone(),
        row.wait.clone(),
        row.policy.clone().filter(|policy| policy != "block"),
        row.batch.map(|batch| format!("batch {batch}")),
        row.depth.map(|depth| format!("depth {depth}")),
        row.workers.map(|workers| format!("pool {workers}")),
        row.checksum.filter(|checksum| !checksum).map(|_| "no checksum".to_owned()),
        row.rate.map(|rate| format!("{rate}/s")),
        row.trust.filter(|trust| *trust).map(|_| "trust".to_owned()),
        row.pin.clone(),
    ];
    let settings: Vec<String> = settings.into_iter().flatten().collect();
    let ns = row.ns.unwrap_or_default();
    let latency = |nanos: u64| row.ns.map_or_else(String::new, |_| nanos.to_string());
    let memory = row.server_bytes.zip(row.connection_bytes);
    vec![
        format!("{what} {}", settings.join(" ")).trim_end().to_owned(),
        row.transport.clone(),
        format!(
            "{}{}",
            row.bytes_min.map_or_else(String::new, |bytes| format!("{bytes}-")),
            whole(row.bytes)
        ),
        match (row.processes, row.connections_each, row.senders.zip(row.receivers)) {
            (Some(processes), Some(each), _) => format!("{} ({processes} x {each})", whole(row.clients)),
            (.., Some((senders, receivers))) => format!("{senders} to {receivers}"),
            _ => whole(row.clients),
        },
        match (row.secs, row.sender_secs) {
            (Some(secs), Some(sender)) => format!("{:.2} ({:.2})", 1e3 * secs, 1e3 * sender),
            _ => String::new(),
        },
        row.msgs_per_s.map_or_else(String::new, |rate| format!("{:.3}", rate / 1e6)),
        row.bytes_per_s.map_or_else(String::new, |rate| format!("{:.2}", rate / 1e9)),
        latency(ns.p50),
        latency(ns.p99),
        latency(ns.p999),
        latency(ns.max),
        row.cpu_s.map_or_else(String::new, |cpu| format!("{cpu:.2}")),
        whole(row.sleeps),
        memory.map_or_else(String::new, |(server, each)| format!("{} + {}", server >> 10, each >> 10)),
        row.spread.map_or_else(String::new, |spread| format!("{:.0} %", 100.0 * spread)),
        format!("{}-{}", row.runs, row.runs_dropped),
        row.canary_ns_before
            .zip(row.canary_ns_after)
            .map_or_else(String::new, |(before, after)| format!("{before:.0} {after:.0}")),
        verdict(row),
    ]
}

/// What became of the messages, in words.
fn verdict(row: &Row) -> String {
    if !row.is_sound() {
        return "LOST OR CORRUPT".to_owned();
    }
    let told =
        [(row.failed, "failed"), (row.dropped, "dropped"), (row.missed, "missed"), (row.cuts, "cut off")];
    let told = told.into_iter().filter_map(|(count, what)| Some((count?, what)));
    let mut text = "whole".to_owned();
    for (count, what) in told.filter(|(count, what)| *count > 0 || *what == "failed") {
        text += &format!(", {count} {what}");
    }
    text
}

const HEADER: [&str; 18] = [
    "scenario",
    "over",
    "bytes",
    "clients (processes x connections)",
    "ms to last (sent)",
    "M/s",
    "GB/s",
    "p50 ns",
    "p99",
    "p99.9",
    "max",
    "cpu s",
    "sleeps",
    "KiB server + connection",
    "spread",
    "runs-dropped",
    "canary",
    "messages",
];
