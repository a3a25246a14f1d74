//! The Markdown: the environment, then a table for each kind of result.

use std::collections::BTreeSet;
use std::fmt::Write;

use super::group::{Group, LIMIT, RINGWAY, Results, size};
use super::number::{Figure, percent, significant, span, time};
use super::table::Table;
use crate::row::{CANARY_NS_MAX, Row};

/// The results as a fragment of a Markdown page; `files` is how many files they are from.
pub fn markdown(results: &Results, files: usize) -> String {
    let mut page = environment(results, files);
    let sections = [
        ("Round trips", latency(results)),
        ("Throughput", throughput(results)),
        ("One to many, many to many", broadcast(results)),
        ("What the machine allows", limits(results)),
        ("In comparison", comparison(results)),
        ("Connect, reconnect, memory, idle", others(results)),
    ];
    for (title, table) in sections.iter().filter(|(_, table)| !table.is_empty()) {
        let _ = write!(page, "\n### {title}\n\n{}", table.markdown());
        match *title {
            "Round trips" => page.push_str(&floors(results)),
            "One to many, many to many" => page.push_str(BROADCAST_NOTE),
            "In comparison" => page.push_str(COMPARISON_NOTE),
            _ => {}
        }
    }
    page + &footnotes(results)
}

/// The line that says on what all of this was measured.
fn environment(results: &Results, files: usize) -> String {
    let distinct = |pick: fn(&Row) -> &str| {
        let values: BTreeSet<&str> = results.rows().map(pick).filter(|value| !value.is_empty()).collect();
        if values.is_empty() { "?".to_owned() } else { values.into_iter().collect::<Vec<_>>().join(" / ") }
    };
    let cores: BTreeSet<u64> = results.rows().map(|row| row.cores).collect();
    let cores = cores.into_iter().map(|cores| cores.to_string()).collect::<Vec<_>>().join(" / ");
    let canaries = results.rows().flat_map(|row| [row.canary_ns_before, row.canary_ns_after]);
    let canary = match Figure::of(canaries.flatten().collect()) {
        Some(figure) => format!("canary {}", span(&time(figure.min, 3), &time(figure.max, 3))),
        None => "no canary".to_owned(),
    };
    let pin = results.usual_pin().map_or_else(String::new, |pin| format!(" (the sides on {pin})"));
    let lists = if results.lists == files { String::new() } else { format!(" with {} lists", results.lists) };
    format!(
        "Commit {}, {}, {}, {cores} cores{pin}, Linux {}; {canary}; {files} file{}{lists}{}.\n",
        distinct(|row| &row.commit),
        distinct(|row| &row.rustc),
        distinct(|row| &row.cpu),
        distinct(|row| &row.kernel),
        if files == 1 { "" } else { "s" },
        if results.lists > 1 { ": medians, the spread is the range" } else { "" },
    )
}

fn latency(results: &Results) -> Table {
    let head = [
        "transport",
        "bytes",
        "wait",
        "profile",
        "pairs",
        "with",
        "p50",
        "p90",
        "p99",
        "p99.9",
        "max",
        "M/s",
        "spread",
        "canary",
    ];
    let mut table = Table::new(&head);
    for group in results.groups.iter().filter(|group| group.identity.work() == "rtt") {
        let id = &group.identity;
        let cell = |pick: fn(&Row) -> Option<u64>| {
            group.figure(|row| pick(row).map(|ns| ns as f64)).map_or_else(String::new, |figure| figure.time())
        };
        let Some(p50) = group.main_figure(|row| row.ns.map(|ns| ns.p50 as f64)) else { continue };
        let rate = group.figure(|row| row.msgs_per_s).filter(|_| id.clients() > 1 || id.rate.is_some());
        table.push(vec![
            marked(group, &id.transport),
            id.bytes.map_or_else(String::new, size),
            id.wait.clone().unwrap_or_default(),
            id.profile.clone().unwrap_or_default(),
            more_than_one(id.clients()),
            id.rest(results.usual_pin()),
            p50.time(),
            cell(|row| row.ns.map(|ns| ns.p90)),
            cell(|row| row.ns.map(|ns| ns.p99)),
            cell(|row| row.ns.map(|ns| ns.p999)),
            cell(|row| row.ns.map(|ns| ns.max)),
            rate.map_or_else(String::new, |figure| figure.scaled(1e-6).plain()),
            p50.range(|ns| time(ns, 3)),
            canary(group),
        ]);
    }
    table
}

/// What the machine does to round trips that are due at a fixed rate, whoever answers them.
fn floors(results: &Results) -> String {
    let mut notes = String::new();
    for group in results.groups.iter().filter(|group| group.identity.work() == LIMIT) {
        let rate = group.identity.rate;
        let has_rows =
            results.groups.iter().any(|row| row.identity.work() == "rtt" && row.identity.rate == rate);
        let cell = |pick: fn(&Row) -> Option<u64>| {
            group.figure(|row| pick(row).map(|ns| ns as f64)).map_or_else(String::new, |figure| figure.time())
        };
        if rate.is_some() && has_rows {
            let _ = write!(
                notes,
                "\nThe floor of round trips at {}, a {} that is due as often and carries no message: p50 {}, p99 {}, \
                 p99.9 {}, max {}.\n",
                group.identity.rest(results.usual_pin()),
                marked(group, "raw cache-line ping-pong"),
                cell(|row| row.ns.map(|ns| ns.p50)),
                cell(|row| row.ns.map(|ns| ns.p99)),
                cell(|row| row.ns.map(|ns| ns.p999)),
                cell(|row| row.ns.map(|ns| ns.max)),
            );
        }
    }
    notes
}

fn throughput(results: &Results) -> Table {
    let head = [
        "work",
        "transport",
        "bytes",
        "profile",
        "batch",
        "clients",
        "wait",
        "with",
        "M/s",
        "GB/s",
        "spread",
        "cpu s per s",
        "canary",
    ];
    let mut table = Table::new(&head);
    let skipped = |group: &Group| {
        let elsewhere =
            ["rtt", LIMIT, "connect", "first-answer", "reconnect", "memory", "idle", "probe", "crowd"];
        elsewhere.contains(&group.identity.work()) || group.identity.is_broadcast()
    };
    for group in results.groups.iter().filter(|group| !skipped(group)) {
        let id = &group.identity;
        let Some(rate) = group.main_figure(|row| row.msgs_per_s) else { continue };
        let bytes_rate = group.main_figure(|row| row.bytes_per_s);
        let cpu = group.figure(|row| Some(row.cpu_s? / row.secs.filter(|secs| *secs > 0.0)?));
        table.push(vec![
            marked(group, id.work()),
            id.transport.clone(),
            id.bytes.map_or_else(String::new, size),
            id.profile.clone().unwrap_or_default(),
            more_than_one(id.batch()),
            id.clients().to_string(),
            id.wait.clone().unwrap_or_default(),
            id.rest(results.usual_pin()),
            rate.scaled(1e-6).plain(),
            bytes_rate.map_or_else(String::new, |figure| figure.scaled(1e-9).plain()),
            rate.range(|rate| significant(rate * 1e-6, 3)),
            cpu.map_or_else(String::new, |figure| significant(figure.median, 2)),
            canary(group),
        ]);
    }
    table
}

/// How long it took until the last receiver had everything.
fn broadcast(results: &Results) -> Table {
    let head = [
        "work",
        "transport",
        "senders",
        "receivers",
        "bytes",
        "with",
        "last has all",
        "all sent",
        "M/s",
        "spread",
        "missed",
        "cpu s per s",
        "canary",
    ];
    let mut table = Table::new(&head);
    for group in results.groups.iter().filter(|group| group.identity.is_broadcast()) {
        let id = &group.identity;
        let nanos = |secs: Option<f64>| secs.map(|secs| secs * 1e9);
        let Some(all) = group.main_figure(|row| nanos(row.secs)) else { continue };
        let sent = group.figure(|row| nanos(row.sender_secs));
        let rate = group.figure(|row| row.msgs_per_s);
        let missed = group.figure(|row| Some((row.missed.unwrap_or(0) + row.dropped.unwrap_or(0)) as f64));
        let cpu = group.figure(|row| Some(row.cpu_s? / row.secs.filter(|secs| *secs > 0.0)?));
        table.push(vec![
            marked(group, id.work()),
            id.transport.clone(),
            id.senders.unwrap_or(1).to_string(),
            id.receivers.unwrap_or(1).to_string(),
            id.size().unwrap_or_default(),
            id.rest(results.usual_pin()),
            all.time(),
            sent.map_or_else(String::new, |figure| figure.time()),
            rate.map_or_else(String::new, |figure| figure.scaled(1e-6).plain()),
            all.range(|ns| time(ns, 3)),
            missed.filter(|figure| figure.max > 0.0).map_or_else(String::new, |figure| figure.plain()),
            cpu.map_or_else(String::new, |figure| significant(figure.median, 2)),
            canary(group),
        ]);
    }
    table
}

fn limits(results: &Results) -> Table {
    let mut table = Table::new(&["limit", "bytes", "with", "p50", "p99", "M/s", "GB/s", "spread", "canary"]);
    for group in results.groups.iter().filter(|group| group.identity.work() == LIMIT) {
        let id = &group.identity;
        let p50 = group.main_figure(|row| row.ns.map(|ns| ns.p50 as f64));
        let p99 = group.figure(|row| row.ns.map(|ns| ns.p99 as f64));
        let rate = group.main_figure(|row| row.msgs_per_s).filter(|_| p50.is_none());
        let bytes_rate = group.main_figure(|row| row.bytes_per_s);
        let spread = match (p50, bytes_rate, rate) {
            (Some(p50), ..) => p50.range(|ns| time(ns, 3)),
            (None, Some(rate), _) => rate.range(|rate| format!("{} GB/s", significant(rate * 1e-9, 3))),
            (None, None, Some(rate)) => rate.range(|rate| format!("{} M/s", significant(rate * 1e-6, 3))),
            (None, None, None) => String::new(),
        };
        table.push(vec![
            marked(group, &id.transport),
            id.bytes.map_or_else(String::new, size),
            id.rest(results.usual_pin()),
            p50.map_or_else(String::new, |figure| figure.time()),
            p99.map_or_else(String::new, |figure| figure.time()),
            rate.map_or_else(String::new, |figure| figure.scaled(1e-6).plain()),
            bytes_rate.map_or_else(String::new, |figure| figure.scaled(1e-9).plain()),
            spread,
            canary(group),
        ]);
    }
    table
}

/// How many times better we are than each peer at the same work with as many bytes and clients.
fn comparison(results: &Results) -> Table {
    let mut table = Table::new(&["ringway", "figure", "to uds", "to uds-buffered", "to pipe"]);
    let ours = |group: &&Group| group.identity.transport == RINGWAY && WORKS.contains(&group.identity.work());
    for group in results.groups.iter().filter(ours).filter(|group| group.identity.rate.is_none()) {
        let ratios = PEERS.map(|peer| {
            let peer = peer_of(results, group, peer)?;
            let ratio = group.figure_with(peer, advantage)?;
            let counts = [group, peer].iter().all(|group| group.is_calm() && group.is_sound());
            let alone = if counts { "" } else { NOT_COUNTED };
            let range = ratio.range(|ratio| significant(ratio, 3));
            let range = if range.contains('-') { format!(" ({range})") } else { String::new() };
            Some(format!("{} x{range}{alone}", ratio.plain()))
        });
        if ratios.iter().any(Option::is_some) {
            let figure = match group.main_figure(|row| row.ns.map(|ns| ns.p50 as f64)) {
                Some(p50) => p50.time(),
                None => group
                    .main_figure(|row| row.msgs_per_s)
                    .map_or_else(String::new, |rate| format!("{} M/s", rate.scaled(1e-6).plain())),
            };
            let cells = ratios.into_iter().map(Option::unwrap_or_default);
            let name = name(group, results);
            table.push([marked(group, &name), figure].into_iter().chain(cells).collect());
        }
    }
    table
}

/// The group in which `peer` did the work of `group`, on the same processors if that was measured.
pub fn peer_of<'a>(results: &'a Results, group: &Group, peer: &str) -> Option<&'a Group> {
    let own = &group.identity;
    let same = results.groups.iter().filter(|group| {
        let id = &group.identity;
        let size = (id.bytes, id.bytes_min, id.clients()) == (own.bytes, own.bytes_min, own.clients())
            && (id.senders, id.receivers) == (own.senders, own.receivers);
        id.transport == peer
            && id.work() == own.work()
            && size
            && id.rate == own.rate
            && id.depth == own.depth
    });
    let same: Vec<&Group> = same.collect();
    same.iter().find(|group| group.identity.pin == own.pin).or(same.first()).copied()
}

/// How many times shorter our round trip is, or how many times more we carry.
fn advantage(own: &Row, peer: &Row) -> Option<f64> {
    match (own.ns, peer.ns) {
        (Some(own), Some(peer)) => Some(peer.p50 as f64 / own.p50 as f64),
        _ => Some(own.msgs_per_s? / peer.msgs_per_s?),
    }
}

fn others(results: &Results) -> Table {
    let mut table = Table::new(&["row", "with", "figure", "spread"]);
    for group in &results.groups {
        let id = &group.identity;
        let mut push = |what: &str, figure: Option<Figure>, write: &dyn Fn(f64, usize) -> String| {
            if let Some(figure) = figure {
                let row = marked(group, &format!("{id}, {what}"));
                let range = figure.range(|value| write(value, 3));
                table.push(vec![
                    row,
                    id.rest(results.usual_pin()),
                    write(figure.median, figure.digits()),
                    range,
                ]);
            }
        };
        match id.work() {
            "connect" | "first-answer" | "reconnect" | "probe" => {
                push("p50", group.main_figure(|row| row.ns.map(|ns| ns.p50 as f64)), &time);
                push("p99", group.figure(|row| row.ns.map(|ns| ns.p99 as f64)), &time);
                if id.work() == "probe" {
                    push("p99.9", group.figure(|row| row.ns.map(|ns| ns.p999 as f64)), &time);
                }
                push("max", group.figure(|row| row.ns.map(|ns| ns.max as f64)), &time);
            }
            "memory" => {
                push("server", group.figure(|row| row.server_bytes.map(|bytes| bytes as f64)), &kib);
                push("each side", group.figure(|row| row.connection_bytes.map(|bytes| bytes as f64)), &kib);
            }
            "idle" | "crowd" => {
                let cpu = group.figure(|row| Some(row.cpu_s? / row.secs.filter(|secs| *secs > 0.0)?));
                push("processor time", cpu, &|share, _| percent(share));
                let sleeps = group.figure(|row| row.sleeps.map(|sleeps| sleeps as f64));
                push("context switches", sleeps, &|count, _| format!("{count:.0}"));
            }
            _ => {}
        }
    }
    table
}

/// The name of a row where no column has its processors.
fn name(group: &Group, results: &Results) -> String {
    let pin = group.identity.pin.as_deref().filter(|pin| Some(*pin) != results.usual_pin());
    format!("{}{}", group.identity, pin.map_or_else(String::new, |pin| format!(" on {pin}")))
}

fn kib(bytes: f64, digits: usize) -> String {
    format!("{} KiB", significant(bytes / 1024.0, digits))
}

fn canary(group: &Group) -> String {
    let canaries =
        group.counted().into_iter().flat_map(|(_, row)| [row.canary_ns_before, row.canary_ns_after]);
    Figure::of(canaries.flatten().collect())
        .map_or_else(String::new, |figure| span(&time(figure.min, 3), &time(figure.max, 3)))
}

fn more_than_one(count: u64) -> String {
    if count > 1 { count.to_string() } else { String::new() }
}

/// `name` with the marks of the footnotes that apply to `group`.
fn marked(group: &Group, name: &str) -> String {
    let moved = if group.is_calm() { "" } else { "[^moved]" };
    let unsound = if group.is_sound() { "" } else { "[^unsound]" };
    format!("{name}{moved}{unsound}")
}

fn footnotes(results: &Results) -> String {
    let mut notes = String::new();
    if results.groups.iter().any(|group| !group.is_calm()) {
        let _ = write!(
            notes,
            "\n[^moved]: The canary, a raw cache-line ping-pong before and after the runs, took {CANARY_NS_MAX} ns or \
             more, or no run was left: the processors had moved apart, and the figure does not count.\n"
        );
    }
    if results.groups.iter().any(|group| !group.is_sound()) {
        notes.push_str("\n[^unsound]: Messages were lost or arrived damaged; the figure does not count.\n");
    }
    notes
}

/// What other systems do too.
pub const WORKS: [&str; 5] = ["rtt", "stream", "fanin", "echo", "route"];

/// What users pick today.
pub const PEERS: [&str; 3] = ["uds", "uds-buffered", "pipe"];

const NOT_COUNTED: &str = " (does not count)";

const BROADCAST_NOTE: &str = "\nEach sender and each receiver is a process. The messages of a run are shared out among the senders, \
     and each receiver gets all of them. The time counts from the first send until the last receiver has checked everything; `bare` \
     is a connection with the same messages, `uds-buffered` one socket for each receiver.\n";

const COMPARISON_NOTE: &str = "\nHow many times shorter the round trip is (p50), or how many times more messages arrive, \
     at the same work within the same file.\n";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::sample::{at, limit, list, peer, results, row, spread, taking};

    fn page(rows: Vec<Row>) -> String {
        markdown(&Results::of(vec![rows]), 1)
    }

    fn line<'a>(page: &'a str, start: &str) -> &'a str {
        page.lines().find(|line| line.starts_with(start)).unwrap_or_else(|| panic!("no {start} in\n{page}"))
    }

    #[test]
    fn a_complete_list_has_all_sections() {
        let page = markdown(&results(), 3);
        let start = "Commit 0123abc, rustc 1.95.0, AMD EPYC, 2 cores (the sides on 0,1), Linux 6.18; canary 112-118 ns; \
                     3 files: medians, the spread is the range.\n";
        assert!(page.starts_with(start), "{page}");
        let titles: Vec<&str> = page.lines().filter_map(|line| line.strip_prefix("### ")).collect();
        let expected = [
            "Round trips",
            "Throughput",
            "One to many, many to many",
            "What the machine allows",
            "In comparison",
            "Connect, reconnect, memory, idle",
        ];
        assert_eq!(titles, expected);
        assert!(!page.contains("[^"), "nothing moved and nothing was lost");
        assert!(!page.contains("NaN") && !page.contains("inf"), "{page}");
    }

    #[test]
    fn a_latency_row_has_its_percentiles_and_its_range() {
        let page = markdown(&results(), 3);
        let row = line(&page, "| ringway   | 64 B  | spin");
        for cell in
            [" 200 ns ", " 220 ns ", " 300 ns ", " 800 ns ", " 10.0 us ", " 196-206 ns ", " 112-118 ns "]
        {
            assert!(row.contains(cell), "{cell} in {row}");
        }
    }

    #[test]
    fn a_throughput_row_has_messages_bytes_and_processor_time() {
        let page = page(vec![Row { spread: Some(0.2), ..at(row("stream", 1024), 8.02) }]);
        let row = line(&page, "| stream");
        for cell in [" 1 KiB ", " 8.0 ", " 8.2 ", " 20 % ", " 2.0 "] {
            assert!(row.contains(cell), "{cell} in {row}");
        }
    }

    #[test]
    fn a_route_has_the_time_of_its_last_receiver_and_of_its_sender() {
        let sockets = Row { transport: "uds-buffered".to_owned(), ..spread("route", 1, 2, 30.0) };
        let page = page(vec![spread("route", 1, 2, 3.0), sockets, spread("bare", 1, 1, 2.0)]);
        let row = line(&page, "| route | ringway ");
        for cell in [" 2-256 B ", " 3.0 ms ", " 1.5 ms ", " 33 "] {
            assert!(row.contains(cell), "{cell} in {row}");
        }
        assert!(line(&page, "| route 1 to 2 2-256 B").contains(" 10 x "), "{page}");
        assert!(!page.contains("### Throughput"), "{page}");
    }

    #[test]
    fn peers_are_compared_at_the_same_work_only() {
        let rows = vec![
            at(row("stream", 64), 30.0),
            at(peer("uds", "stream", 64), 1.5),
            at(peer("uds-buffered", "stream", 1024), 5.0),
            taking(peer("pipe", "rtt", 64), 40_000),
        ];
        let page = page(rows);
        let row = line(&page, "| stream 64 B | 30 M/s");
        assert!(row.contains(" 20 x "), "{row}");
        assert!(!page.contains("to pipe") && !page.contains("to uds-buffered"), "{page}");
    }

    #[test]
    fn what_does_not_count_is_marked() {
        let mut rows = list();
        rows[5].canary_ns_before = Some(320.0);
        rows[6].lost = Some(1);
        let page = page(rows);
        assert!(page.contains("| ringway[^moved]   | 16 B "), "{page}");
        assert!(page.contains("| ringway[^unsound] | 32 B "), "{page}");
        assert_eq!(page.matches("\n[^").count(), 2, "{page}");
    }

    #[test]
    fn round_trips_at_a_rate_stand_beside_their_floor() {
        let at_rate = |row| Row { rate: Some(100_000), ..row };
        let floor = at_rate(taking(limit("cacheline", None), 20_000));
        let both = page(vec![floor.clone(), at_rate(taking(row("rtt", 64), 22_000))]);
        let note = line(&both, "The floor of round trips at 100000/s");
        assert!(note.ends_with(": p50 20 us, p99 30 us, p99.9 80 us, max 1.0 ms."), "{note}");
        let limits = line(&both, "| cacheline");
        assert!(limits.contains(" 100000/s ") && limits.contains(" 30 us "), "{limits}");
        let alone = page(vec![floor, taking(row("rtt", 64), 200)]);
        assert!(!alone.contains("The floor of"), "{alone}");
    }

    #[test]
    fn processors_are_named_where_they_differ() {
        let other = Row { pin: Some("0,0".to_owned()), ..taking(row("rtt", 64), 9_000) };
        let page = page(vec![taking(row("rtt", 64), 200), other, taking(peer("uds", "rtt", 64), 44_000)]);
        assert!(page.contains(" on 0,0 ") && page.contains(" on 0,1 "), "{page}");
    }
}
