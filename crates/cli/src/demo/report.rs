//! Results: rows of numbers, and what they say in words.

use super::Options;
use super::control::{ClientResult, Round, ServerResult, Transport, Work};
use super::family::SERVER;
use crate::figures::{self, LINES, RoundTrips, thousands, three_digits};
use anyhow::Result;
use comfy_table::{CellAlignment, Table};
use ringway_bench::machine::Machine;
use serde::Serialize;
use std::collections::BTreeMap;
use std::io::{self, Write};

/// The result of one round.
#[derive(Debug, Clone, Serialize)]
pub struct Row {
    transport: Transport,
    work: Work,
    clients: usize,
    bytes: usize,
    /// Of clients that were killed, only what is known to have been sent.
    sent: u64,
    /// Stream: right messages. Otherwise right answers, or parts of them; of clients that were killed, right requests.
    delivered: u64,
    lost: u64,
    corrupt: u64,
    out_of_order: u64,
    /// One or many to many: messages that were sent while their receiver was cut off, which it was told.
    #[serde(skip_serializing_if = "Option::is_none")]
    missed: Option<u64>,
    killed: usize,
    secs: f64,
    msgs_per_s: f64,
    bytes_per_s: f64,
    ns: Option<RoundTrips>,
}

/// A row as JSON.
#[derive(Serialize)]
struct Line<'a> {
    #[serde(flatten)]
    row: &'a Row,
    profile: &'static str,
    #[serde(flatten)]
    machine: &'a Machine,
}

impl Row {
    /// Adds up what clients and server reported; a client without a result died.
    ///
    /// # Errors
    /// The round trips cannot be added up.
    pub fn new(
        round: Round,
        results: &BTreeMap<u32, Option<ClientResult>>,
        served: &ServerResult,
        killed: usize,
    ) -> Result<Self> {
        let mut row = Self {
            transport: round.transport,
            work: round.work,
            clients: results.len(),
            bytes: round.bytes,
            sent: 0,
            delivered: 0,
            lost: 0,
            corrupt: 0,
            out_of_order: served.tallies.iter().map(|tally| tally.late).sum(),
            missed: round.work.is_broadcast().then_some(0),
            killed,
            secs: served.nanos as f64 / 1e9,
            msgs_per_s: 0.0,
            bytes_per_s: 0.0,
            ns: None,
        };
        if round.work.is_broadcast() {
            row.add_copies(results, served);
        } else {
            results.iter().for_each(|(number, result)| row.add(*number, result.as_ref(), served));
        }
        if row.secs > 0.0 {
            row.msgs_per_s = row.delivered as f64 / row.secs;
            row.bytes_per_s = row.msgs_per_s * row.bytes as f64;
        }
        row.ns = round_trips(results.values().flatten())?;
        Ok(row)
    }

    fn add(&mut self, number: u32, result: Option<&ClientResult>, served: &ServerResult) {
        let mut tallies = served.tallies.iter().filter(|tally| tally.client == number);
        let tally = tallies.next().cloned().unwrap_or_default();
        self.corrupt += tally.corrupt;
        let Some(result) = result else {
            self.sent += tally.delivered + tally.gaps + tally.corrupt;
            self.delivered += tally.delivered;
            self.lost += tally.gaps;
            return;
        };
        let delivered = if self.work == Work::Stream { tally.delivered } else { result.answered };
        self.corrupt += result.corrupt;
        self.sent += result.sent;
        self.delivered += delivered;
        self.lost += result.sent.saturating_sub(delivered + tally.corrupt + result.corrupt);
    }

    /// Adds up what each receiver got of each sender: every one should have everything. What became of a receiver that
    /// was killed nobody knows.
    fn add_copies(&mut self, results: &BTreeMap<u32, Option<ClientResult>>, served: &ServerResult) {
        let receivers = || results.iter().filter_map(|(number, result)| Some((*number, result.as_ref()?)));
        let mut senders: BTreeMap<u32, Option<u64>> = BTreeMap::from([(SERVER, Some(served.sent))]);
        if self.work == Work::Channel {
            let sent = |result: &Option<ClientResult>| result.as_ref().map(|result| result.sent);
            senders = results.iter().map(|(number, result)| (*number, sent(result))).collect();
        }
        for (number, receiver) in receivers() {
            for (sender, sent) in senders.iter().filter(|(sender, _)| **sender != number) {
                let tally = receiver.tallies.iter().find(|tally| tally.client == *sender);
                let tally = tally.cloned().unwrap_or_default();
                let known = tally.delivered + tally.corrupt;
                let sent = sent.unwrap_or(known + tally.gaps);
                let unseen = sent.saturating_sub(known);
                let told = if receiver.cuts > 0 { unseen } else { 0 };
                self.sent += sent - told;
                self.delivered += tally.delivered;
                self.corrupt += tally.corrupt + known.saturating_sub(sent);
                self.out_of_order += tally.late;
                self.lost += unseen - told;
                self.missed = self.missed.map(|missed| missed + told);
            }
        }
        self.secs = receivers().map(|(_, result)| result.nanos).max().unwrap_or(0) as f64 / 1e9;
    }

    /// Returns what rows are ordered by.
    pub fn place(&self) -> (Work, Transport) {
        (self.work, self.transport)
    }

    /// Says what went wrong, if something did. A killed client alone is nothing wrong.
    pub fn complaint(&self) -> Option<String> {
        let name = format!("{} {}", self.transport.name(), self.work.name());
        if self.lost + self.corrupt + self.out_of_order > 0 {
            let Self { lost, corrupt, out_of_order, .. } = self;
            return Some(format!("{name}: {lost} lost, {corrupt} corrupt, {out_of_order} out of order"));
        }
        (self.delivered == 0).then(|| format!("{name}: nothing was delivered"))
    }

    fn cells(&self) -> Vec<String> {
        let micros = self.ns.map_or_else(|| ["-"; 4].map(str::to_owned), |ns| ns.micros());
        let cells = [
            self.transport.title().to_owned(),
            self.work.title().to_owned(),
            self.clients.to_string(),
            thousands(self.sent),
            thousands(self.delivered),
            thousands(self.lost),
            thousands(self.corrupt),
            three_digits(self.msgs_per_s / 1e6),
            three_digits(self.bytes_per_s / 1e9),
        ];
        cells.into_iter().chain(micros).collect()
    }
}

/// Prints the results. If nobody reads them any more, that is no error.
///
/// # Errors
/// The output cannot be written for another reason.
pub fn print(rows: &[Row], machine: &Machine, options: Options) -> Result<()> {
    let text = if options.json { json(rows, machine, options)? } else { words(rows, machine) };
    let mut stdout = io::stdout().lock();
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(error.into()),
        _ => Ok(()),
    }
}

fn json(rows: &[Row], machine: &Machine, options: Options) -> Result<String> {
    let profile = if options.bulk { "bulk" } else { "latency" };
    let mut text = String::new();
    for row in rows {
        text += &serde_json::to_string(&Line { row, profile, machine })?;
        text.push('\n');
    }
    Ok(text)
}

fn words(rows: &[Row], machine: &Machine) -> String {
    let checked: u64 = rows.iter().map(|row| row.delivered + row.corrupt + row.out_of_order).sum();
    let Machine { cpu, cores, kernel } = machine;
    format!(
        "{}\n\n{}\n{cores} cores, {cpu}, kernel {kernel}; {} messages checked: sequence number and a word per 64 bytes \
         in each, every byte in 1 of 64.\n",
        table(rows),
        comparison(rows),
        thousands(checked),
    )
}

/// Lays the rows out as a table; if the terminal is too narrow for that, with a column for each.
fn table(rows: &[Row]) -> Table {
    let mut table = Table::new();
    table.load_preset(LINES);
    let width = table.width().map_or(usize::MAX, usize::from);
    table.set_header(HEADER).add_rows(rows.iter().map(Row::cells));
    let needed = table.lines().map(|line| line.chars().count()).max().unwrap_or(0);
    if needed > width {
        let columns: Vec<Vec<String>> = rows.iter().map(Row::cells).collect();
        let cells = |line: usize| columns.iter().map(move |column| column[line].clone());
        table = Table::new();
        table.load_preset(LINES);
        let title = |line: usize| HEADER[line].replace('\n', " ");
        table.set_header(std::iter::once(title(0)).chain(cells(0)));
        for line in 1..HEADER.len() {
            table.add_row(std::iter::once(title(line)).chain(cells(line)));
        }
    }
    for (index, column) in table.column_iter_mut().enumerate() {
        if index > 0 && (needed > width || index > 1) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    table
}

/// Puts the ratios of the two transports into words.
fn comparison(rows: &[Row]) -> String {
    let find = |transport, work| {
        let of_both = |row: &&Row| row.transport == transport && row.work == work;
        rows.iter().find(of_both).filter(|row| row.delivered > 0)
    };
    let both = |work| Some((find(Transport::Ringway, work)?, find(Transport::Uds, work)?));
    let faster = |(ours, theirs): (&Row, &Row)| {
        let ratio = ours.msgs_per_s / theirs.msgs_per_s;
        (times(ratio), if ratio < 0.995 { " (it was slower)" } else { "" })
    };
    let mut parts = Vec::new();
    if let Some(rows) = both(Work::Stream) {
        let (ratio, slower) = faster(rows);
        parts.push(format!("ringway moved {ratio} x the messages of the Unix socket{slower}"));
    }
    if let Some((ours, theirs)) = both(Work::Call) {
        let (ratio, slower) = faster((ours, theirs));
        parts.push(format!("it answered {ratio} x the requests{slower}"));
        if let (Some(ours), Some(theirs)) = (ours.ns, theirs.ns) {
            let median = share(ours.p50 as f64 / theirs.p50 as f64);
            let tail = share(ours.p99 as f64 / theirs.p99 as f64);
            parts.push(format!("a round trip took {median} (median), {tail} (99th percentile)"));
        }
    }
    if let Some(rows) = both(Work::Pipeline) {
        let (ratio, slower) = faster(rows);
        parts.push(format!("with many in flight it answered {ratio} x the calls{slower}"));
    }
    if let Some(rows) = both(Work::Parts) {
        let (ratio, slower) = faster(rows);
        parts.push(format!("in parts it answered {ratio} x as fast{slower}"));
    }
    if let Some(rows) = both(Work::Route) {
        let (ratio, slower) = faster(rows);
        parts.push(format!("from one to all clients it delivered {ratio} x the messages{slower}"));
    }
    if parts.is_empty() {
        return "Nothing was measured that could be compared.".to_owned();
    }
    let killed = rows.iter().any(|row| row.killed > 0);
    let note = if killed { "; not all rounds had the same number of clients" } else { "" };
    format!("{}{note}.", parts.join("; "))
}

/// Says how long something takes in comparison.
fn share(ratio: f64) -> String {
    match ratio {
        ratio if ratio > 1.005 => format!("{} x the time (slower)", times(ratio)),
        ratio if ratio > 0.55 => format!("{} of the time", times(ratio)),
        ratio => format!("1/{:.0} of the time", 1.0 / ratio),
    }
}

fn round_trips<'a>(results: impl Iterator<Item = &'a ClientResult>) -> Result<Option<RoundTrips>> {
    let mut all = figures::histogram()?;
    for (nanos, count) in results.flat_map(|result| &result.latencies) {
        all.saturating_record_n(*nanos, *count);
    }
    Ok(RoundTrips::of(&all))
}

fn times(ratio: f64) -> String {
    if ratio >= 10.0 {
        format!("{ratio:.0}")
    } else if ratio >= 0.95 {
        format!("{ratio:.1}")
    } else {
        format!("{ratio:.2}")
    }
}

const HEADER: [&str; 13] = [
    "transport",
    "work",
    "clients",
    "sent",
    "delivered",
    "lost",
    "corrupt",
    "M/s",
    "GB/s",
    "p50\nus",
    "p99\nus",
    "p99.9\nus",
    "max\nus",
];

#[cfg(test)]
mod tests {
    use super::*;
    use ringway_bench::tally::Tally;

    fn round(transport: Transport, work: Work) -> Round {
        Round { transport, work, bytes: 64, millis: 1, bulk: false, kill: false, stop: false, clients: 3 }
    }

    fn row(transport: Transport, work: Work, msgs_per_s: f64, p50: Option<u64>) -> Row {
        let mut row =
            Row::new(round(transport, work), &BTreeMap::new(), &ServerResult::default(), 0).unwrap();
        row.delivered = 10;
        row.msgs_per_s = msgs_per_s;
        row.ns = p50.map(|p50| RoundTrips { p50, p99: p50, p999: p50, max: p50 });
        row
    }

    fn four(ours: f64, our_p50: u64) -> Vec<Row> {
        vec![
            row(Transport::Ringway, Work::Stream, ours, None),
            row(Transport::Uds, Work::Stream, 1e6, None),
            row(Transport::Ringway, Work::Call, 1.0, Some(our_p50)),
            row(Transport::Uds, Work::Call, 1.0, Some(9000)),
        ]
    }

    #[test]
    fn the_comparison_says_what_was_measured() {
        assert_eq!(
            comparison(&four(4.1e6, 1000)),
            "ringway moved 4.1 x the messages of the Unix socket; it answered 1.0 x the requests; \
             a round trip took 1/9 of the time (median), 1/9 of the time (99th percentile)."
        );
        assert_eq!(
            comparison(&four(0.5e6, 18000)),
            "ringway moved 0.50 x the messages of the Unix socket (it was slower); it answered 1.0 x the requests; \
             a round trip took 2.0 x the time (slower) (median), 2.0 x the time (slower) (99th percentile)."
        );
        assert_eq!(comparison(&[]), "Nothing was measured that could be compared.");
    }

    #[test]
    fn clients_that_ended_and_clients_that_died_add_up() {
        let round = round(Transport::Ringway, Work::Stream);
        let result = |sent| Some(ClientResult { sent, ..ClientResult::default() });
        let results = BTreeMap::from([(1, result(100)), (2, result(50)), (3, None)]);
        let tally = |client, delivered, gaps, corrupt| {
            let mut tally = Tally::new(client);
            (tally.delivered, tally.gaps, tally.corrupt) = (delivered, gaps, corrupt);
            tally
        };
        let tallies = vec![tally(1, 100, 0, 0), tally(2, 47, 2, 1), tally(3, 30, 1, 0)];
        let row =
            Row::new(round, &results, &ServerResult { tallies, nanos: 2_000_000_000, sent: 0 }, 1).unwrap();
        assert_eq!((row.sent, row.delivered, row.lost, row.corrupt), (181, 177, 3, 1));
        assert_eq!((row.killed, row.msgs_per_s), (1, 88.5));
        assert_eq!(row.complaint().as_deref(), Some("ringway stream: 3 lost, 1 corrupt, 0 out of order"));
    }

    fn tally(client: u32, delivered: u64, gaps: u64) -> Tally {
        let mut tally = Tally::new(client);
        (tally.delivered, tally.gaps) = (delivered, gaps);
        tally
    }

    fn got(tallies: Vec<Tally>, sent: u64, cuts: u64) -> Option<ClientResult> {
        Some(ClientResult { sent, tallies, cuts, nanos: 1_000_000_000, ..ClientResult::default() })
    }

    #[test]
    fn every_receiver_of_a_route_must_have_everything_that_it_was_not_told_to_have_missed() {
        let results = BTreeMap::from([
            (1, got(vec![tally(SERVER, 100, 0)], 0, 0)),
            (2, got(vec![tally(SERVER, 60, 40)], 0, 1)),
            (3, got(vec![tally(SERVER, 99, 1)], 0, 0)),
            (4, None),
        ]);
        let served = ServerResult { sent: 100, ..ServerResult::default() };
        let row = Row::new(round(Transport::Ringway, Work::Route), &results, &served, 1).unwrap();
        assert_eq!((row.sent, row.delivered, row.lost, row.missed), (260, 259, 1, Some(40)));
        assert_eq!((row.corrupt, row.secs), (0, 1.0));
    }

    #[test]
    fn members_of_a_channel_must_have_what_the_others_sent() {
        let results = BTreeMap::from([
            (1, got(vec![tally(2, 20, 0), tally(3, 7, 0)], 10, 0)),
            (2, got(vec![tally(1, 10, 0), tally(3, 8, 1)], 20, 0)),
            (3, None),
        ]);
        let row = Row::new(round(Transport::Ringway, Work::Channel), &results, &ServerResult::default(), 1)
            .unwrap();
        assert_eq!((row.sent, row.delivered, row.lost), (20 + 7 + 10 + 9, 45, 1));
        let silent = BTreeMap::from([(1, got(vec![], 10, 0)), (2, got(vec![tally(1, 10, 0)], 20, 0))]);
        let row =
            Row::new(round(Transport::Ringway, Work::Channel), &silent, &ServerResult::default(), 0).unwrap();
        assert_eq!((row.sent, row.delivered, row.lost), (30, 10, 20));
    }

    #[test]
    fn a_round_without_a_message_is_a_complaint() {
        let mut row = row(Transport::Uds, Work::Call, 1.0, None);
        assert_eq!(row.complaint(), None);
        row.delivered = 0;
        assert_eq!(row.complaint().as_deref(), Some("uds call: nothing was delivered"));
    }
}
