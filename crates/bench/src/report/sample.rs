//! Synthetic results for the tests: what a complete list looks like, with round figures.

use crate::report::group::Results;
use crate::row::{Percentiles, Row};

/// A row of ringway on two processors, measured in peace.
pub(crate) fn row(scenario: &str, bytes: u64) -> Row {
    Row {
        scenario: scenario.to_owned(),
        transport: "ringway".to_owned(),
        bytes: Some(bytes),
        pin: Some("0,1".to_owned()),
        runs: 3,
        canary_ns_before: Some(112.0),
        canary_ns_after: Some(118.0),
        commit: "0123abc".to_owned(),
        rustc: "rustc 1.95.0".to_owned(),
        cpu: "AMD EPYC".to_owned(),
        cores: 2,
        kernel: "6.18".to_owned(),
        ..Row::default()
    }
}

/// A row of another transport.
pub(crate) fn peer(transport: &str, work: &str, bytes: u64) -> Row {
    let scenario = if transport == "pipe" { "pipe" } else { "uds" };
    Row { transport: transport.to_owned(), work: Some(work.to_owned()), ..row(scenario, bytes) }
}

/// A limit of the machine.
pub(crate) fn limit(transport: &str, bytes: Option<u64>) -> Row {
    Row { transport: transport.to_owned(), bytes, ..row("limit", 0) }
}

/// `row` with this median of its latencies and a plausible tail.
pub(crate) fn taking(row: Row, p50: u64) -> Row {
    let ns = Percentiles { p50, p90: p50 * 11 / 10, p99: p50 * 3 / 2, p999: p50 * 4, max: p50 * 50 };
    let counts = [(9, 2_000), (10, 48_000), (11, 40_000), (13, 8_000), (15, 1_000), (40, 900), (500, 100)];
    let histogram = counts.map(|(tenths, count)| (p50 * tenths / 10, count)).to_vec();
    Row { ns: Some(ns), histogram, msgs_per_s: Some(1e9 / p50 as f64), ..row }
}

/// `row` with this many millions of messages a second.
pub(crate) fn at(row: Row, millions: f64) -> Row {
    let bytes_per_s = row.bytes.map(|bytes| bytes as f64 * millions * 1e6);
    Row { msgs_per_s: Some(millions * 1e6), bytes_per_s, secs: Some(2.0), cpu_s: Some(4.0), ..row }
}

/// `row` with this way to wait.
pub(crate) fn waiting(row: Row, wait: &str) -> Row {
    Row { wait: Some(wait.to_owned()), ..row }
}

/// `row` with this profile.
pub(crate) fn with(row: Row, profile: &str) -> Row {
    Row { profile: Some(profile.to_owned()), ..row }
}

/// `row` with this many clients.
pub(crate) fn of(row: Row, clients: u64) -> Row {
    Row { clients: Some(clients), ..row }
}

/// `row` served by a pool to this many clients in eight processes.
pub(crate) fn pooled(row: Row, work: &str, clients: u64) -> Row {
    let (processes, connections_each) = (Some(8), Some(clients.div_ceil(8)));
    let work = (row.scenario != work).then(|| work.to_owned());
    Row { work, clients: Some(clients), processes, connections_each, workers: Some(1), ..row }
}

/// `row` as calls with checksums.
pub(crate) fn called(row: Row, work: &str) -> Row {
    let row = Row { transport: "rpc".to_owned(), checksum: Some(true), workers: Some(1), ..row };
    Row { work: (row.scenario != work).then(|| work.to_owned()), ..row }
}

/// A row of messages of 2 to 256 bytes that were with the last of all receivers after so many milliseconds.
pub(crate) fn spread(work: &str, senders: u64, receivers: u64, ms: f64) -> Row {
    let scenario = if work == "bare" { "route" } else { work };
    let has_shape = work != "bare";
    let row = with(row(scenario, 256), "latency");
    Row {
        work: (work != scenario).then(|| work.to_owned()),
        bytes_min: Some(2),
        senders: has_shape.then_some(senders),
        receivers: has_shape.then_some(receivers),
        policy: has_shape.then(|| "block".to_owned()),
        secs: Some(ms / 1e3),
        sender_secs: Some(ms / 2e3),
        msgs_per_s: Some(1e8 / ms),
        ..row
    }
}

/// A list in which every bar is met.
pub(crate) fn list() -> Vec<Row> {
    let mut rows = vec![
        taking(limit("cacheline", None), 115),
        at(limit("memcpy", Some(65536)), 0.8),
        taking(limit("futex", None), 40_000),
        taking(limit("socket", None), 44_000),
        Row { rate: Some(100_000), ..taking(limit("cacheline", None), 130) },
    ];
    for (bytes, p50) in [(16, 140), (32, 160), (64, 200), (1024, 420)] {
        rows.push(waiting(taking(row("rtt", bytes), p50), "spin"));
    }
    for (transport, p50) in [("tonic", 40_000), ("tonic-uds", 80_000)] {
        let unary = Row { transport: transport.to_owned(), work: Some("rtt".to_owned()), ..row("grpc", 64) };
        rows.push(taking(unary, p50));
    }
    rows.push(called(waiting(taking(row("call", 64), 350), "spin"), "rtt"));
    rows.extend([at(limit("crc32", Some(64)), 200.0), at(limit("crc32", Some(1024)), 24.0)]);
    rows.push(waiting(taking(row("rtt", 64), 42_000), "sleep"));
    rows.push(waiting(taking(row("rtt", 64), 210), "auto"));
    rows.push(of(waiting(taking(row("rtt", 64), 240), "auto"), 8));
    rows.push(Row { rate: Some(100_000), ..waiting(taking(row("rtt", 64), 300), "auto") });
    for (bytes, latency, bulk) in [(64, 28.0, 82.0), (1024, 8.0, 39.0), (65536, 0.4, 0.6)] {
        rows.push(with(waiting(at(row("stream", bytes), latency), "auto"), "latency"));
        rows.push(with(waiting(at(row("stream", bytes), bulk), "auto"), "bulk"));
    }
    for (profile, millions) in [("latency", 61.0), ("bulk", 75.0)] {
        let batch = Row { batch: Some(16), ..row("stream", 64) };
        rows.push(with(waiting(at(batch, millions), "auto"), profile));
    }
    rows.push(of(with(waiting(at(row("stream", 64), 20.0), "auto"), "latency"), 8));
    rows.push(at(row("same-thread", 64), 60.0));
    rows.push(of(with(at(row("fanin", 1024), 7.0), "latency"), 8));
    rows.push(of(with(at(row("fanin", 1024), 20.0), "bulk"), 8));
    for (transport, rtt, streams, fanin) in [
        ("uds", Some(46_000), [1.0, 0.8], 1.1),
        ("uds-buffered", None, [30.0, 4.1], 5.9),
        ("pipe", Some(41_000), [2.1, 1.6], 1.9),
    ] {
        rows.extend(rtt.map(|p50| taking(peer(transport, "rtt", 64), p50)));
        rows.extend(
            [64, 1024]
                .into_iter()
                .zip(streams)
                .map(|(bytes, rate)| at(peer(transport, "stream", bytes), rate)),
        );
        rows.push(of(at(peer(transport, "fanin", 1024), fanin), 8));
    }
    rows.push(taking(Row { bytes: None, ..row("connect", 0) }, 90_000));
    let memory = Row { server_bytes: Some(1_200_000), connection_bytes: Some(40_960), ..row("memory", 0) };
    rows.push(Row { bytes: None, ..memory });
    rows.push(Row { bytes: None, secs: Some(2.0), cpu_s: Some(0.002), sleeps: Some(0), ..row("idle", 0) });
    rows.extend(servers());
    rows.extend(broadcasts());
    rows
}

/// Servers of many clients.
fn servers() -> Vec<Row> {
    let mut rows = Vec::new();
    let server = of(with(at(row("fanin", 1024), 19.0), "bulk"), 8);
    rows.push(Row { workers: Some(1), ..server });
    for (clients, one_way, answered) in
        [(32, 12.0, 4.0), (128, 11.0, 3.5), (512, 10.0, 3.0), (1000, 9.0, 2.0)]
    {
        rows.push(pooled(at(row("scale", 64), one_way), "fanin", clients));
        rows.push(pooled(at(row("scale", 64), answered), "echo", clients));
    }
    for (transport, millions) in [("ringway", 6.0), ("rpc", 2.0), ("uds-buffered", 1.5)] {
        let echo = Row { transport: transport.to_owned(), depth: Some(32), ..row("echo", 64) };
        rows.push(of(at(echo, millions), 8));
    }
    rows.push(pooled(taking(row("idle-probe", 64), 400), "probe", 1000));
    let crowd = pooled(row("idle-probe", 0), "crowd", 1000);
    rows.push(Row { bytes: None, secs: Some(1.0), cpu_s: Some(0.0), sleeps: Some(0), ..crowd });
    rows.push(Row { failed: Some(80), ..called(of(taking(row("reconnect", 64), 400_000), 8), "reconnect") });
    rows
}

/// Routes and channels, and what stands beside them.
fn broadcasts() -> Vec<Row> {
    let mut rows = Vec::new();
    for (receivers, ms) in [(1, 2.5), (2, 3.4), (4, 5.2), (8, 9.0)] {
        rows.push(spread("route", 1, receivers, ms));
        let sockets = Row {
            transport: "uds-buffered".to_owned(),
            profile: None,
            policy: None,
            ..spread("route", 1, receivers, 10.0 * ms)
        };
        rows.push(sockets);
    }
    rows.push(spread("bare", 1, 1, 2.4));
    for (senders, receivers, ms) in [(2, 1, 2.6), (4, 1, 2.8), (8, 1, 3.0), (2, 2, 3.5), (4, 4, 5.5)] {
        rows.push(spread("channel", senders, receivers, ms));
    }
    rows
}

/// Three lists whose figures lie 3 % apart.
pub(crate) fn results() -> Results {
    let lists = [1.0, 1.03, 0.98].map(|factor| {
        let change = |mut row: Row| {
            let scale = |ns: u64| (ns as f64 * factor).round() as u64;
            if let Some(ns) = &mut row.ns {
                *ns = Percentiles { p50: scale(ns.p50), p90: scale(ns.p90), p99: scale(ns.p99), ..*ns };
            }
            row.msgs_per_s = row.msgs_per_s.map(|rate| rate / factor);
            row.bytes_per_s = row.bytes_per_s.map(|rate| rate / factor);
            if row.sender_secs.is_some() {
                row.secs = row.secs.map(|secs| secs * factor);
            }
            row
        };
        list().into_iter().map(change).collect()
    });
    Results::of(lists.to_vec())
}
