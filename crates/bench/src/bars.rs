//! The figures that ringway must reach, and whether it did.
//!
//! A bar is looked up by what a row measured. Where it is a share of another row (a limit of the machine, a peer) the
//! ratio is taken within each list, for the machine differs between lists, and then the median over the lists. Rows
//! that were measured while the processors had moved apart do not count; if they are half or more, the bar is not
//! judged. A row with lost or damaged messages misses its bar, however fast it was.

mod judge;
mod query;

use std::io::Write;
use std::path::PathBuf;

use anyhow::{Context, Result};

use crate::report::group::{self, Results};
use crate::report::number::{significant, time};
use crate::row::Row;
use judge::{Bar, Judgement, Outcome, Unit, judge, table};
use query::Query;

/// Arguments of the check.
#[derive(Debug, clap::Args)]
pub struct BarsArgs {
    /// Files of results, one JSON row a line; each is a repetition of the same list, three are usual
    #[arg(required = true)]
    pub files: Vec<PathBuf>,
}

/// Prints every bar with its figure; returns whether all were met.
///
/// # Errors
/// A file that cannot be read or holds something else than rows, and output that cannot be written.
pub fn run(args: BarsArgs) -> Result<bool> {
    let results = group::read(&args.files)?;
    let judgements = all(&results);
    let count = |outcome: Outcome| judgements.iter().filter(|judged| judged.outcome == outcome).count();
    let met = count(Outcome::Met);
    let text = format!(
        "{}\n{met} of {} bars met, {} missed, {} not measured, {} not calm; median (range) of {} list{}.\n",
        table(&judgements),
        judgements.len(),
        count(Outcome::Missed),
        count(Outcome::NotMeasured),
        count(Outcome::NotCalm),
        results.lists,
        if results.lists == 1 { "; three are usual" } else { "s" },
    );
    std::io::stdout().write_all(text.as_bytes()).context("printing the bars")?;
    Ok(met == judgements.len())
}

/// Every bar, judged.
fn all(results: &Results) -> Vec<Judgement> {
    let parts = [round_trips, calls, streams, many_clients, broadcast, sleeping, waiting_well, connections];
    parts.iter().flat_map(|part| part(results)).collect()
}

fn round_trips(results: &Results) -> Vec<Judgement> {
    let raw = Query::limit("cacheline");
    let smallest = Query::ours("rtt").bytes(16).wait("spin");
    let share = Bar::at_most(1.5, Unit::Times).of("raw cache-line ping-pong");
    let mut judged = vec![
        judge(results, &smallest, "p50", share).against(&raw, p50, p50),
        judge(results, &smallest, "p99", Bar::at_most(500.0, Unit::Time)).alone(p99),
    ];
    for (bytes, ns) in [(32, 170.0), (64, 220.0), (1024, 440.0)] {
        let query = Query::ours("rtt").bytes(bytes).wait("spin");
        judged.push(judge(results, &query, "p50", Bar::at_most(ns, Unit::Time)).by_canary(p50));
    }
    judged
}

fn calls(results: &Results) -> Vec<Judgement> {
    let call = Query::peer("rpc", "rtt").bytes(64).wait("spin").checksum(true);
    let bare = Query::ours("rtt").bytes(64).wait("spin");
    let twice = Bar::at_most(2.0, Unit::Times).of("a bare round trip");
    let checksum = Query::limit("crc32").bytes(1024);
    let [grpc, grpc_uds] = ["tonic", "tonic-uds"].map(|transport| Query::peer(transport, "rtt").bytes(64));
    let slower = Bar::at_least(1.5, Unit::Times).of("tonic rtt");
    vec![
        judge(results, &call, "p50", twice).against(&bare, p50, p50),
        judge(results, &grpc_uds, "p50", slower).against(&grpc, p50, p50),
        judge(results, &checksum, "each", Bar::below(60.0, Unit::Time)).alone(each),
    ]
}

fn streams(results: &Results) -> Vec<Judgement> {
    let mut judged = Vec::new();
    let bars = [(64, "latency", 25.0, None), (1024, "latency", 7.0, None)];
    let bulk = [(64, "bulk", 40.0, Some(80.0)), (1024, "bulk", 18.0, Some(38.0))];
    for (bytes, profile, least, aim) in bars.into_iter().chain(bulk) {
        let query = Query::ours("stream").bytes(bytes).profile(profile);
        let bar = Bar::at_least(least * 1e6, Unit::Rate).aiming_at(aim);
        judged.push(judge(results, &query, "", bar).alone(rate));
    }
    let batch = Query::ours("stream").bytes(64).batch(16).best();
    let buffered = Query::peer("uds-buffered", "stream").bytes(64);
    judged.push(judge(results, &batch, "", Bar::at_least(60e6, Unit::Rate)).alone(rate));
    let twice = Bar::at_least(2.0, Unit::Times).of("uds-buffered stream");
    judged.push(judge(results, &batch, "", twice).against(&buffered, rate, rate));
    let large = Query::ours("stream").bytes(65536).profile("bulk");
    let copy = Bar::at_least(0.6, Unit::Percent).of("memcpy");
    judged.push(judge(results, &large, "bytes", copy).against(
        &Query::limit("memcpy").bytes(65536),
        byte_rate,
        byte_rate,
    ));
    let same = Query::ours("same-thread").bytes(64);
    judged.push(judge(results, &same, "", Bar::at_least(50e6, Unit::Rate)).alone(rate));
    judged
}

fn many_clients(results: &Results) -> Vec<Judgement> {
    let fanin = |profile| Query::ours("fanin").bytes(1024).clients(8).profile(profile);
    let buffered = Query::peer("uds-buffered", "fanin").bytes(1024).clients(8);
    let twice = Bar::at_least(2.0, Unit::Times).of("uds-buffered fanin");
    let bulk = Bar::at_least(12e6, Unit::Rate).aiming_at(Some(25.0));
    let server = Query::pool("fanin").bytes(1024).clients(8).profile("bulk");
    let mut judged = vec![
        judge(results, &fanin("latency"), "", Bar::at_least(6e6, Unit::Rate)).alone(rate),
        judge(results, &fanin("bulk"), "", bulk).alone(rate),
        judge(results, &fanin("bulk"), "", twice.clone()).against(&buffered, rate, rate),
        judge(results, &server, "", twice).against(&buffered, rate, rate),
    ];
    for (clients, least) in [(32, 3.8), (128, 5.3), (512, 5.3)] {
        let query = |work| Query::pool(work).bytes(64).clients(clients);
        let bar = Bar::above(least * 1e6, Unit::Rate);
        judged.push(judge(results, &query("fanin"), "", bar).beside(&query("echo"), "answered", rate, rate));
    }
    judged
}

/// 100,000 messages in all, until the last receiver has checked everything.
fn broadcast(results: &Results) -> Vec<Judgement> {
    let time = |work, senders, receivers, ms: f64| {
        let query = Query::spread(work, senders, receivers);
        let bar = Bar::at_most(ms * 1e6, Unit::Time);
        judge(results, &query, "last has all", bar).beside(&query, "all sent", whole, sent)
    };
    let mut judged: Vec<Judgement> = [(1, 4.0), (2, 6.0), (4, 9.0), (8, 15.0)]
        .map(|(receivers, ms)| time("route", 1, receivers, ms))
        .into();
    let channels = [(2, 1, 5.0), (4, 1, 5.0), (8, 1, 5.0), (2, 2, 7.0), (4, 4, 14.0)];
    judged.extend(channels.map(|(senders, receivers, ms)| time("channel", senders, receivers, ms)));
    let beside = Bar::at_most(1.1, Unit::Times).of("a bare connection");
    let one = Query::spread("route", 1, 1);
    judged.push(judge(results, &one, "last has all", beside).against(&Query::varied("bare"), whole, whole));
    judged
}

fn sleeping(results: &Results) -> Vec<Judgement> {
    let query = Query::ours("rtt").bytes(64).wait("sleep");
    let limits = [Query::limit("futex"), Query::limit("socket")];
    let own = query.find(results, None).map(|group| &group.identity);
    let slower = limits.iter().filter_map(|limit| limit.find(results, own)).max_by(|a, b| {
        let [a, b] = [a, b].map(|limit| limit.figure(p50).map_or(0.0, |figure| figure.median));
        a.total_cmp(&b)
    });
    let name = slower.map_or("futex", |limit| &limit.identity.transport);
    let bar = Bar::at_most(1.3, Unit::Times).of(&format!("bare {name} ping-pong"));
    let socket = Query::peer("uds", "rtt").bytes(64);
    vec![
        judge(results, &query, "p50", bar).against(&Query::limit(name), p50, p50),
        judge(results, &query, "p50", Bar::below(1.0, Unit::Times).of("uds rtt")).against(&socket, p50, p50),
    ]
}

fn waiting_well(results: &Results) -> Vec<Judgement> {
    let steady = Query::ours("rtt").rate(RATE).wait("auto");
    let floor = Query::limit("cacheline").rate(RATE);
    let tail = judge(results, &steady, "p99", Bar::at_most(10e3, Unit::Time));
    let mut judged = vec![tail.beside(&floor, "raw ping-pong at that rate", p99, p99)];
    for work in ["rtt", "stream"] {
        let query = |clients| Query::ours(work).bytes(64).wait("auto").clients(clients);
        let bar = Bar::at_least(0.5, Unit::Times).of("one pair");
        judged.push(judge(results, &query(8), "in sum", bar).against(&query(1), rate, rate));
    }
    let idle = Query::ours("idle");
    judged.push(judge(results, &idle, "processor time", Bar::below(0.01, Unit::Percent)).alone(load));
    let probe = Query::pool("probe").bytes(64).clients(1000);
    judged.push(judge(results, &probe, "p99", Bar::at_most(10e3, Unit::Time)).alone(p99));
    let crowd = Query::pool("crowd");
    judged.push(judge(results, &crowd, "wake-ups", Bar::at_most(0.0, Unit::PerSecond)).alone(wakes));
    judged
}

fn connections(results: &Results) -> Vec<Judgement> {
    let memory = Query::ours("memory");
    let server = |row: &Row| row.server_bytes.map(|bytes| bytes as f64);
    let connection = |row: &Row| row.connection_bytes.map(|bytes| bytes as f64);
    let most = |bytes: u64| Bar::at_most(bytes as f64, Unit::Bytes);
    vec![
        judge(results, &Query::ours("connect"), "p50", Bar::at_most(200e3, Unit::Time)).alone(p50),
        judge(results, &memory, "server", most(3 << 20)).alone(server),
        judge(results, &memory, "each side", most(64 << 10)).alone(connection),
        judge(results, &Query::peer("rpc", "reconnect"), "max", Bar::at_most(100e6, Unit::Time))
            .alone(slowest),
    ]
}

fn p50(row: &Row) -> Option<f64> {
    row.ns.map(|ns| ns.p50 as f64)
}

fn p99(row: &Row) -> Option<f64> {
    row.ns.map(|ns| ns.p99 as f64)
}

fn slowest(row: &Row) -> Option<f64> {
    row.ns.map(|ns| ns.max as f64)
}

/// Nanoseconds of each of what was done one after the other.
fn each(row: &Row) -> Option<f64> {
    row.msgs_per_s.filter(|rate| *rate > 0.0).map(|rate| 1e9 / rate)
}

/// Nanoseconds of a run.
fn whole(row: &Row) -> Option<f64> {
    row.secs.map(|secs| secs * 1e9)
}

/// Nanoseconds until everything was sent.
fn sent(row: &Row) -> Option<f64> {
    row.sender_secs.map(|secs| secs * 1e9)
}

/// Wake-ups per second.
fn wakes(row: &Row) -> Option<f64> {
    Some(row.sleeps? as f64 / row.secs.filter(|secs| *secs > 0.0)?)
}

fn rate(row: &Row) -> Option<f64> {
    row.msgs_per_s
}

fn byte_rate(row: &Row) -> Option<f64> {
    row.bytes_per_s
}

/// Processors that were busy.
fn load(row: &Row) -> Option<f64> {
    Some(row.cpu_s? / row.secs.filter(|secs| *secs > 0.0)?)
}

/// Requests per second of the round trips that must have a short tail while they come one by one.
const RATE: u64 = 100_000;

#[cfg(test)]
mod tests;
