//! Rows of several repetitions, put together by what they measured.

use std::fmt;
use std::fs;
use std::io::Read;
use std::path::PathBuf;

use anyhow::{Context, Result, ensure};

use super::number::Figure;
use crate::row::Row;

/// What a row measured: two rows with the same identity are repetitions of one another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// Scenario as in [`Row::scenario`].
    pub scenario: String,
    /// Transport as in [`Row::transport`].
    pub transport: String,
    /// Work as in [`Row::work`].
    pub work: Option<String>,
    /// Profile as in [`Row::profile`].
    pub profile: Option<String>,
    /// Payload bytes of a message, of the longest if lengths vary.
    pub bytes: Option<u64>,
    /// Payload bytes of the shortest message if lengths vary.
    pub bytes_min: Option<u64>,
    /// Sending processes of a route or channel.
    pub senders: Option<u64>,
    /// Receiving processes of a route or channel.
    pub receivers: Option<u64>,
    /// What senders did about slow receivers.
    pub policy: Option<String>,
    /// Clients or pairs.
    pub clients: Option<u64>,
    /// Processes that share the clients.
    pub processes: Option<u64>,
    /// Requests that each client had under way at once.
    pub depth: Option<u64>,
    /// Threads of the server's pool.
    pub workers: Option<u64>,
    /// Whether calls had checksums.
    pub checksum: Option<bool>,
    /// Messages that were published at once.
    pub batch: Option<u64>,
    /// How the sides waited.
    pub wait: Option<String>,
    /// Whether the receivers read in place.
    pub trust: Option<bool>,
    /// Processors of the sides.
    pub pin: Option<String>,
    /// Bytes of a ring.
    pub ring_bytes: Option<u64>,
    /// Patience of the receivers.
    pub patience: Option<u32>,
    /// Messages per second that were asked for.
    pub rate: Option<u64>,
}

impl Identity {
    /// Takes from `row` what does not depend on how fast it was.
    pub fn of(row: &Row) -> Identity {
        Identity {
            scenario: row.scenario.clone(),
            transport: row.transport.clone(),
            work: row.work.clone(),
            profile: row.profile.clone(),
            bytes: row.bytes,
            bytes_min: row.bytes_min,
            senders: row.senders,
            receivers: row.receivers,
            policy: row.policy.clone(),
            clients: row.clients,
            processes: row.processes,
            depth: row.depth,
            workers: row.workers,
            checksum: row.checksum,
            batch: row.batch,
            wait: row.wait.clone(),
            trust: row.trust,
            pin: row.pin.clone(),
            ring_bytes: row.ring_bytes,
            patience: row.patience,
            rate: row.rate,
        }
    }

    /// Says what was done, whoever carried it: `rtt` of `uds` and `rtt` of `ringway` are the same work.
    pub fn work(&self) -> &str {
        match &self.work {
            Some(work) if self.scenario != LIMIT => work,
            _ => &self.scenario,
        }
    }

    /// Bytes of a message as people say them: `64 B`, `2-256 B`.
    pub fn size(&self) -> Option<String> {
        let shortest = self.bytes_min.map_or_else(String::new, |bytes| format!("{bytes}-"));
        Some(format!("{shortest}{}", size(self.bytes?)))
    }

    /// Says whether receivers got what all senders sent, or the same messages went another way beside.
    pub fn is_broadcast(&self) -> bool {
        ["route", "channel"].contains(&self.scenario.as_str())
    }

    /// Clients or pairs, 1 where none are named.
    pub fn clients(&self) -> u64 {
        self.clients.unwrap_or(1)
    }

    /// Messages that were published at once, 1 where none are named.
    pub fn batch(&self) -> u64 {
        self.batch.unwrap_or(1)
    }

    /// What the columns of a table do not show: `depth 32, trusted, 100000/s, ring 4 MiB, on 0,1`; the processors only if they
    /// are not `usual`.
    pub fn rest(&self, usual: Option<&str>) -> String {
        let mut parts = Vec::new();
        parts.extend(self.processes.map(|count| format!("in {count} processes")));
        parts.extend(self.depth.map(|depth| format!("depth {depth}")));
        parts.extend(self.workers.map(|count| format!("pool of {count}")));
        if self.checksum == Some(false) {
            parts.push("no checksum".to_owned());
        }
        if self.trust == Some(true) {
            parts.push("trusted".to_owned());
        }
        parts.extend(self.policy.clone().filter(|policy| policy != "block"));
        parts.extend(self.rate.map(|rate| format!("{rate}/s")));
        parts.extend(self.ring_bytes.map(|bytes| format!("ring {}", size(bytes))));
        parts.extend(self.patience.map(|pauses| format!("patience {pauses}")));
        let pin = self.pin.as_deref().filter(|pin| Some(*pin) != usual);
        parts.extend(pin.map(|pin| format!("on {pin}")));
        parts.join(", ")
    }
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.transport != RINGWAY && !self.transport.is_empty() {
            write!(f, "{} ", self.transport)?;
        }
        f.write_str(self.work())?;
        if let Some((senders, receivers)) = self.senders.zip(self.receivers) {
            write!(f, " {senders} to {receivers}")?;
        }
        if let Some(size) = self.size() {
            write!(f, " {size}")?;
        }
        let policy = self.policy.as_ref().filter(|policy| *policy != "block");
        for name in [self.profile.as_ref(), self.wait.as_ref(), policy].into_iter().flatten() {
            write!(f, " {name}")?;
        }
        if let Some(batch) = self.batch.filter(|batch| *batch > 1) {
            write!(f, " batch {batch}")?;
        }
        if self.clients() > 1 {
            write!(f, " {} clients", self.clients())?;
        }
        if let Some(processes) = self.processes {
            write!(f, " in {processes} processes")?;
        }
        if let Some(depth) = self.depth {
            write!(f, " depth {depth}")?;
        }
        if self.workers.is_some() && self.work() == "fanin" {
            f.write_str(" through a pool")?;
        }
        if self.checksum == Some(false) {
            f.write_str(" no checksum")?;
        }
        if self.trust == Some(true) {
            f.write_str(" trusted")?;
        }
        if let Some(rate) = self.rate {
            write!(f, " {rate}/s")?;
        }
        Ok(())
    }
}

/// All rows with one identity, each with the number of the list that it is from.
#[derive(Debug, Clone)]
pub struct Group {
    /// What they measured.
    pub identity: Identity,
    rows: Vec<(usize, Row)>,
}

impl Group {
    /// Says whether more than half of the repetitions were measured while the processors stood still.
    pub fn is_calm(&self) -> bool {
        2 * self.calm().count() > self.rows.len()
    }

    /// Says whether no message was lost or damaged in any repetition.
    pub fn is_sound(&self) -> bool {
        self.rows.iter().all(|(_, row)| row.is_sound())
    }

    /// The rows whose figures count: the calm ones, or all if the group is not calm.
    pub fn counted(&self) -> Vec<&(usize, Row)> {
        if self.is_calm() { self.calm().collect() } else { self.rows.iter().collect() }
    }

    /// Median and range of what `pick` reads from the rows that count; `None` if no row has it.
    pub fn figure(&self, pick: impl Fn(&Row) -> Option<f64>) -> Option<Figure> {
        Figure::of(self.counted().into_iter().filter_map(|(_, row)| pick(row)).collect())
    }

    /// Like [`Group::figure`] for the main figure: of one row alone the spread is the one of its runs.
    pub fn main_figure(&self, pick: impl Fn(&Row) -> Option<f64>) -> Option<Figure> {
        let figure = self.figure(pick)?;
        match self.counted()[..] {
            [(_, row)] => Some(Figure { spread: row.spread, ..figure }),
            _ => Some(figure),
        }
    }

    /// Median and range of `figure(own, other)`, each taken from two rows of the same list.
    pub fn figure_with(&self, other: &Group, figure: impl Fn(&Row, &Row) -> Option<f64>) -> Option<Figure> {
        let others = other.counted();
        let pairs = self.counted().into_iter().filter_map(|(list, own)| {
            let (_, other) = others.iter().find(|(number, _)| number == list)?;
            figure(own, other)
        });
        Figure::of(pairs.filter(|value| value.is_finite()).collect())
    }

    /// The histograms of all rows that count, added up.
    pub fn histogram(&self) -> Vec<(u64, u64)> {
        let mut steps = std::collections::BTreeMap::<u64, u64>::new();
        for (bound, count) in self.counted().into_iter().flat_map(|(_, row)| &row.histogram) {
            *steps.entry(*bound).or_default() += count;
        }
        steps.into_iter().collect()
    }

    fn calm(&self) -> impl Iterator<Item = &(usize, Row)> {
        self.rows.iter().filter(|(_, row)| row.is_calm())
    }
}

/// Everything that was read: the groups in the order in which they first appeared.
#[derive(Debug, Clone, Default)]
pub struct Results {
    /// Repetitions of the list of scenarios.
    pub lists: usize,
    /// The rows by what they measured.
    pub groups: Vec<Group>,
}

impl Results {
    /// Puts the rows of `files` together. Where a file has the same identity again, its next list has begun.
    pub fn of(files: Vec<Vec<Row>>) -> Results {
        let mut results = Results::default();
        for file in files {
            let first = results.lists;
            for row in file {
                results.add(first, row);
            }
        }
        results
    }

    fn add(&mut self, first: usize, row: Row) {
        let identity = Identity::of(&row);
        let known = self.groups.iter().position(|group| group.identity == identity);
        let index = known.unwrap_or_else(|| {
            self.groups.push(Group { identity, rows: Vec::new() });
            self.groups.len() - 1
        });
        let rows = &mut self.groups[index].rows;
        let list = rows.last().map_or(first, |(last, _)| first.max(last + 1));
        rows.push((list, row));
        self.lists = self.lists.max(list + 1);
    }

    /// The processors of the sides, if they were the same for all rows that name some.
    pub fn usual_pin(&self) -> Option<&str> {
        let mut pins = self.groups.iter().filter_map(|group| group.identity.pin.as_deref());
        let first = pins.next()?;
        pins.all(|pin| pin == first).then_some(first)
    }

    /// All rows that were read.
    pub fn rows(&self) -> impl Iterator<Item = &Row> {
        self.groups.iter().flat_map(|group| group.rows.iter().map(|(_, row)| row))
    }
}

/// Reads the rows of `files`, or of the standard input if there are none.
///
/// # Errors
/// A file that cannot be read, a line that is not a row, or no row at all.
pub fn read(files: &[PathBuf]) -> Result<Results> {
    let mut lists = Vec::new();
    if files.is_empty() {
        let mut text = String::new();
        std::io::stdin().read_to_string(&mut text).context("reading the standard input")?;
        lists.push(parse(&text).context("in the standard input")?);
    }
    for file in files {
        let text = fs::read_to_string(file).with_context(|| format!("reading {}", file.display()))?;
        lists.push(parse(&text).with_context(|| format!("in {}", file.display()))?);
    }
    let results = Results::of(lists);
    ensure!(!results.groups.is_empty(), "there is not a single row to read");
    Ok(results)
}

/// The rows of a text, one to a line; empty lines do not matter.
fn parse(text: &str) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    for (index, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
        let row: Row = serde_json::from_str(line).with_context(|| format!("line {} is no row", index + 1))?;
        ensure!(!row.scenario.is_empty(), "line {} names no scenario", index + 1);
        rows.push(row);
    }
    Ok(rows)
}

/// Bytes as people say them: `64 B`, `1 KiB`, `4 MiB`; never rounded.
pub fn size(bytes: u64) -> String {
    match bytes {
        0 => "0 B".to_owned(),
        _ if bytes.is_multiple_of(1 << 20) => format!("{} MiB", bytes >> 20),
        _ if bytes.is_multiple_of(1 << 10) => format!("{} KiB", bytes >> 10),
        _ => format!("{bytes} B"),
    }
}

/// The transport that all of this is about.
pub const RINGWAY: &str = "ringway";

/// The scenario of what the machine allows.
pub const LIMIT: &str = "limit";

#[cfg(test)]
mod tests {
    use super::*;

    fn row(bytes: u64, rate: f64) -> Row {
        let transport = RINGWAY.to_owned();
        Row {
            scenario: "stream".to_owned(),
            transport,
            bytes: Some(bytes),
            msgs_per_s: Some(rate),
            runs: 3,
            ..Row::default()
        }
    }

    #[test]
    fn rows_of_several_files_meet_by_identity() {
        let results = Results::of(vec![
            vec![row(64, 10.0), row(1024, 1.0)],
            vec![row(1024, 3.0), row(64, 30.0)],
            vec![row(64, 20.0), row(1024, 2.0)],
        ]);
        assert_eq!((results.lists, results.groups.len()), (3, 2));
        let figure = results.groups[0].figure(|row| row.msgs_per_s).unwrap();
        assert_eq!((figure.median, figure.min, figure.max, figure.count), (20.0, 10.0, 30.0, 3));
        assert_eq!(results.groups[1].figure(|row| row.msgs_per_s).unwrap().median, 2.0);
    }

    #[test]
    fn a_file_that_repeats_its_list_holds_several_lists() {
        let one = [row(64, 10.0), row(1024, 5.0), row(64, 30.0), row(1024, 10.0)];
        let results = Results::of(vec![one.to_vec(), vec![row(64, 1.0), row(1024, 1.0)]]);
        assert_eq!(results.lists, 3);
        let ratio = |own: &Row, other: &Row| Some(own.msgs_per_s? / other.msgs_per_s?);
        let figure = results.groups[0].figure_with(&results.groups[1], ratio).unwrap();
        assert_eq!((figure.median, figure.min, figure.max), (2.0, 1.0, 3.0));
    }

    #[test]
    fn a_ratio_is_taken_within_a_list_and_not_of_medians() {
        let pairs = [(10.0, 1.0), (20.0, 10.0), (30.0, 5.0)];
        let lists = pairs.map(|(small, large)| vec![row(64, small), row(1024, large)]);
        let results = Results::of(lists.to_vec());
        let ratio = |own: &Row, other: &Row| Some(own.msgs_per_s? / other.msgs_per_s?);
        assert_eq!(results.groups[0].figure_with(&results.groups[1], ratio).unwrap().median, 6.0);
    }

    #[test]
    fn rows_that_are_not_calm_do_not_count_while_they_are_few() {
        let moved = |rate| Row { canary_ns_after: Some(400.0), ..row(64, rate) };
        let few = Results::of(vec![vec![row(64, 10.0)], vec![moved(1.0)], vec![row(64, 20.0)]]);
        assert!(few.groups[0].is_calm());
        assert_eq!(few.groups[0].figure(|row| row.msgs_per_s).unwrap().median, 15.0);
        let many = Results::of(vec![vec![row(64, 10.0)], vec![moved(1.0)], vec![moved(2.0)]]);
        assert!(!many.groups[0].is_calm());
        assert_eq!(many.groups[0].figure(|row| row.msgs_per_s).unwrap().median, 2.0);
    }

    #[test]
    fn one_row_alone_has_the_spread_of_its_runs() {
        let results = Results::of(vec![vec![Row { spread: Some(0.25), ..row(64, 10.0) }]]);
        assert_eq!(results.groups[0].main_figure(|row| row.msgs_per_s).unwrap().spread, Some(0.25));
        assert_eq!(results.groups[0].figure(|row| row.msgs_per_s).unwrap().spread, None);
    }

    #[test]
    fn the_work_of_a_peer_has_the_name_of_ours() {
        let peer = Row { scenario: "uds".to_owned(), work: Some("rtt".to_owned()), ..Row::default() };
        assert_eq!(Identity::of(&peer).work(), "rtt");
        assert_eq!(Identity::of(&row(64, 1.0)).to_string(), "stream 64 B");
    }

    #[test]
    fn a_line_that_is_no_row_is_named() {
        let error = parse("{\"scenario\":\"rtt\"}\n\nnonsense\n").unwrap_err();
        assert!(error.to_string().contains("line 3"), "{error}");
        assert!(parse("{}").is_err());
    }
}
