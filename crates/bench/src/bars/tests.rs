use super::*;
use crate::report::sample::{
    at, called, limit, list, of, peer, pooled, results, row, spread, taking, waiting, with,
};

fn judged(rows: Vec<Row>) -> Vec<Judgement> {
    all(&Results::of(vec![rows]))
}

/// The only judgement of the row `name` whose bar contains `bar`.
fn find<'a>(judged: &'a [Judgement], name: &str, bar: &str) -> &'a Judgement {
    let found: Vec<_> = judged.iter().filter(|one| one.row == name && one.bar.contains(bar)).collect();
    assert_eq!(found.len(), 1, "{name}, {bar}: {judged:#?}");
    found[0]
}

#[test]
fn a_good_list_meets_every_bar() {
    let judged = all(&results());
    println!("{}", table(&judged));
    assert_eq!(judged.len(), 45);
    assert!(judged.iter().all(|one| one.outcome == Outcome::Met), "{}", table(&judged));
}

#[test]
fn what_was_not_measured_is_not_met() {
    let judged = judged(vec![row("rtt", 4096)]);
    assert!(judged.iter().all(|one| one.outcome == Outcome::NotMeasured), "{}", table(&judged));
    assert_eq!(judged.len(), 45);
    assert_eq!(judged[0].row, "rtt 16 B spin, p50");
    assert_eq!(judged[0].remark, "there is no rtt 16 B spin");
}

#[test]
fn a_share_without_its_other_row_is_not_measured() {
    let judged = judged(vec![waiting(taking(row("rtt", 16), 140), "spin")]);
    let share = find(&judged, "rtt 16 B spin, p50", "1.5 x");
    assert_eq!((share.outcome, &*share.remark), (Outcome::NotMeasured, "there is no cacheline limit"));
}

#[test]
fn a_figure_beyond_its_bar_is_missed() {
    let slow = waiting(taking(row("rtt", 16), 400), "spin");
    let judged = judged(vec![taking(limit("cacheline", None), 115), slow]);
    let share = find(&judged, "rtt 16 B spin, p50", "<= 1.5 x raw cache-line ping-pong");
    assert_eq!((share.outcome, &*share.figure), (Outcome::Missed, "3.48 x"));
    assert_eq!(share.remark, "400 ns to 115 ns");
    let tail = find(&judged, "rtt 16 B spin, p99", "500 ns");
    assert_eq!((tail.outcome, &*tail.figure), (Outcome::Missed, "600 ns"));
}

#[test]
fn a_bar_holds_at_its_very_value() {
    let judged =
        judged(vec![with(at(row("stream", 64), 25.0), "latency"), with(at(row("stream", 64), 39.9), "bulk")]);
    assert_eq!(find(&judged, "stream 64 B latency", "25 M/s").outcome, Outcome::Met);
    assert_eq!(find(&judged, "stream 64 B bulk", ">= 40 M/s (aim 80)").outcome, Outcome::Missed);
}

#[test]
fn a_row_that_was_not_calm_is_not_judged() {
    let moved = Row { canary_ns_after: Some(380.0), ..with(at(row("stream", 64), 30.0), "latency") };
    let judged = judged(vec![moved]);
    assert_eq!(find(&judged, "stream 64 B latency", "25").outcome, Outcome::NotCalm);
}

#[test]
fn a_share_of_a_row_that_was_not_calm_is_not_judged() {
    let raw = Row { canary_ns_before: Some(380.0), ..taking(limit("cacheline", None), 115) };
    let judged = judged(vec![raw, waiting(taking(row("rtt", 16), 140), "spin")]);
    assert_eq!(find(&judged, "rtt 16 B spin, p50", "1.5 x").outcome, Outcome::NotCalm);
}

#[test]
fn lost_messages_miss_the_bar() {
    let judged = judged(vec![Row { lost: Some(1), ..with(at(row("stream", 64), 30.0), "latency") }]);
    let stream = find(&judged, "stream 64 B latency", "25");
    assert_eq!((stream.outcome, &*stream.remark), (Outcome::Missed, "messages were lost or damaged"));
}

#[test]
fn one_list_of_three_that_was_not_calm_does_not_count() {
    let stream = |rate| with(at(row("stream", 64), rate), "latency");
    let moved = Row { canary_ns_after: Some(380.0), ..stream(2.0) };
    let judged = all(&Results::of(vec![vec![stream(28.0)], vec![moved], vec![stream(30.0)]]));
    let stream = find(&judged, "stream 64 B latency", "25");
    assert_eq!((stream.outcome, &*stream.figure), (Outcome::Met, "29.0 M/s (28.0-30.0 M/s)"));
    assert_eq!(stream.remark, "2 of 3 lists count");
}

#[test]
fn the_median_of_the_lists_is_judged() {
    let lists = [24.0, 26.0, 10.0].map(|rate| vec![with(at(row("stream", 64), rate), "latency")]);
    let judged = all(&Results::of(lists.to_vec()));
    let stream = find(&judged, "stream 64 B latency", "25");
    assert_eq!((stream.outcome, &*stream.figure), (Outcome::Missed, "24.0 M/s (10.0-26.0 M/s)"));
}

#[test]
fn a_share_is_the_median_of_the_shares_of_the_lists() {
    // Of medians it would be 160 / 115 = 1.39; the lists say 1.6, 1.39 and 1.6.
    let lists = [(100, 160), (115, 160), (150, 240)].map(|(raw, p50)| {
        vec![taking(limit("cacheline", None), raw), waiting(taking(row("rtt", 16), p50), "spin")]
    });
    let judged = all(&Results::of(lists.to_vec()));
    let share = find(&judged, "rtt 16 B spin, p50", "1.5 x");
    assert_eq!((share.outcome, &*share.figure), (Outcome::Missed, "1.60 x (1.39-1.60 x)"));
}

#[test]
fn a_round_trip_is_scaled_by_a_canary_that_differs() {
    let at_canary = |p50, ns| {
        let row = waiting(taking(row("rtt", 64), p50), "spin");
        judged(vec![Row { canary_ns_before: Some(ns), canary_ns_after: Some(ns), ..row }])
    };
    let usual = at_canary(221, 119.0);
    assert_eq!(find(&usual, "rtt 64 B spin, p50", "220 ns").outcome, Outcome::Missed);
    let far = at_canary(260, 138.0);
    let far = find(&far, "rtt 64 B spin, p50", "220 ns");
    assert_eq!((far.outcome, &*far.figure), (Outcome::Met, "260 ns"));
    assert_eq!(far.remark, "1.88 x the canary of 138 ns: judged as 217 ns, that is bar x 1.20");
    let near = at_canary(200, 69.0);
    assert_eq!(find(&near, "rtt 64 B spin, p50", "220 ns").outcome, Outcome::Missed);
}

#[test]
fn a_sleeping_round_trip_is_held_to_the_slower_limit() {
    let judged = judged(list());
    let bare = find(&judged, "rtt 64 B sleep, p50", "<= 1.3 x");
    assert_eq!(bare.bar, "<= 1.3 x bare socket ping-pong");
    assert_eq!(bare.remark, "42.0 us to 44.0 us");
    assert_eq!(find(&judged, "rtt 64 B sleep, p50", "uds").bar, "< 1 x uds rtt");
}

#[test]
fn a_batch_is_judged_by_its_best_profile() {
    let judged = judged(list());
    assert_eq!(find(&judged, "stream 64 B bulk auto batch 16", "60 M/s").figure, "75.0 M/s");
    let twice = find(&judged, "stream 64 B bulk auto batch 16", "2 x");
    assert_eq!((&*twice.figure, &*twice.remark), ("2.50 x", "75.0 M/s to 30.0 M/s"));
}

#[test]
fn trusted_and_batched_rows_do_not_stand_in_for_plain_ones() {
    let trusted = Row { trust: Some(true), ..with(at(row("stream", 64), 90.0), "bulk") };
    let batched = Row { batch: Some(16), ..with(at(row("stream", 64), 90.0), "bulk") };
    let judged = judged(vec![trusted, batched, of(with(at(row("stream", 64), 90.0), "bulk"), 8)]);
    assert_eq!(find(&judged, "stream 64 B bulk", ">= 40").outcome, Outcome::NotMeasured);
}

#[test]
fn many_pairs_are_compared_with_one_of_the_same_profile_and_wait() {
    let stream = |profile, wait, rate| with(waiting(at(row("stream", 64), rate), wait), profile);
    let eight = of(stream("bulk", "auto", 30.0), 8);
    let judged = judged(vec![
        stream("latency", "auto", 25.0),
        stream("bulk", "spin", 90.0),
        stream("bulk", "auto", 80.0),
        eight,
    ]);
    let sum = find(&judged, "stream 64 B bulk auto 8 clients, in sum", "0.5 x one pair");
    assert_eq!((sum.outcome, &*sum.figure), (Outcome::Missed, "0.375 x"));
}

#[test]
fn memory_and_idle_bars_are_about_bytes_and_shares() {
    let memory = Row { server_bytes: Some(3 << 20), connection_bytes: Some(65537), ..row("memory", 0) };
    let idle = Row { secs: Some(2.0), cpu_s: Some(0.02), ..row("idle", 0) };
    let judged = judged(vec![memory, idle, at(peer("uds", "stream", 64), 1.0)]);
    let outcomes: Vec<_> =
        judged.iter().filter(|one| !one.figure.is_empty()).map(|one| one.outcome).collect();
    assert_eq!(outcomes, [Outcome::Missed, Outcome::Met, Outcome::Missed], "{}", table(&judged));
}

#[test]
fn a_limit_on_the_same_processors_comes_first() {
    let one = |row| Row { pin: Some("0,0".to_owned()), ..row };
    let judged = judged(vec![
        one(taking(limit("futex", None), 8_000)),
        one(taking(limit("socket", None), 9_000)),
        taking(limit("futex", None), 44_000),
        taking(limit("socket", None), 40_000),
        waiting(taking(row("rtt", 64), 46_000), "sleep"),
    ]);
    let bare = find(&judged, "rtt 64 B sleep, p50", "1.3 x");
    assert_eq!(bare.bar, "<= 1.3 x bare futex ping-pong");
    assert_eq!((bare.outcome, &*bare.remark), (Outcome::Met, "46.0 us to 44.0 us"));
}

#[test]
fn a_limit_at_a_rate_is_not_the_limit() {
    let at_rate = Row { rate: Some(100_000), ..taking(limit("cacheline", None), 100) };
    let fast = waiting(taking(row("rtt", 16), 150), "spin");
    let alone = judged(vec![at_rate.clone(), fast.clone()]);
    assert_eq!(find(&alone, "rtt 16 B spin, p50", "1.5 x").outcome, Outcome::NotMeasured);
    let judged = judged(vec![at_rate, taking(limit("cacheline", None), 120), fast]);
    let share = find(&judged, "rtt 16 B spin, p50", "1.5 x");
    assert_eq!((share.outcome, &*share.remark), (Outcome::Met, "150 ns to 120 ns"));
}

#[test]
fn a_tail_at_a_rate_stands_beside_its_floor_and_is_judged_alone() {
    let at_rate = |row| Row { rate: Some(100_000), ..row };
    let ours = || at_rate(waiting(taking(row("rtt", 64), 20_000), "auto"));
    let floor = |p50| at_rate(taking(limit("cacheline", None), p50));
    let name = "rtt 64 B auto 100000/s, p99";
    let lists = [18_000, 20_000, 24_000].map(|p50| vec![floor(p50), ours()]);
    let both = all(&Results::of(lists.to_vec()));
    let tail = find(&both, name, "<= 10 us");
    assert_eq!((tail.outcome, &*tail.figure), (Outcome::Missed, "30.0 us (30.0 us)"));
    assert_eq!(tail.remark, "raw ping-pong at that rate: 30.0 us (27.0-36.0 us)");
    let without = judged(vec![ours(), taking(limit("cacheline", None), 120)]);
    assert_eq!(find(&without, name, "<= 10 us").remark, "");
    let moved = Row { canary_ns_after: Some(380.0), ..floor(20_000) };
    let fast = at_rate(waiting(taking(row("rtt", 64), 300), "auto"));
    let moved = judged(vec![moved, fast]);
    let tail = find(&moved, name, "<= 10 us");
    assert_eq!(tail.outcome, Outcome::Met);
    assert_eq!(tail.remark, "raw ping-pong at that rate: 30.0 us, not calm");
}

#[test]
fn files_of_three_lists_are_read_and_judged() {
    let folder = std::env::temp_dir().join(format!("ringway-bars-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let files: Vec<PathBuf> = (1..=3).map(|number| folder.join(format!("{number}.jsonl"))).collect();
    let text: String = list().iter().map(|row| serde_json::to_string(row).unwrap() + "\n").collect();
    for file in &files {
        std::fs::write(file, &text).unwrap();
    }
    assert!(run(BarsArgs { files: files.clone() }).unwrap());
    let without_the_last = text.trim_end().rsplit_once('\n').unwrap().0;
    std::fs::write(&files[0], without_the_last).unwrap();
    assert!(run(BarsArgs { files: files.clone() }).unwrap(), "two of three lists have it");
    assert!(!run(BarsArgs { files: vec![files[0].clone()] }).unwrap());
    std::fs::remove_dir_all(&folder).unwrap();
    let error = run(BarsArgs { files }).unwrap_err();
    assert!(error.to_string().contains("1.jsonl"), "{error}");
}

#[test]
fn a_server_that_is_a_pool_is_not_taken_for_one_that_is_not() {
    let plain = of(with(at(row("fanin", 1024), 30.0), "bulk"), 8);
    let server = Row { workers: Some(1), ..of(with(at(row("fanin", 1024), 9.0), "bulk"), 8) };
    let buffered = of(at(peer("uds-buffered", "fanin", 1024), 5.0), 8);
    let judged = judged(vec![server, plain, buffered]);
    let pool = find(&judged, "fanin 1 KiB bulk 8 clients through a pool", "2 x");
    assert_eq!((pool.outcome, &*pool.figure), (Outcome::Missed, "1.80 x"));
    assert_eq!(find(&judged, "fanin 1 KiB bulk 8 clients", "2 x").figure, "6.00 x");
}

#[test]
fn a_call_is_held_against_a_bare_round_trip() {
    let call = |checksum, p50| Row {
        checksum: Some(checksum),
        ..called(waiting(taking(row("call", 64), p50), "spin"), "rtt")
    };
    let bare = waiting(taking(row("rtt", 64), 200), "spin");
    let judged = judged(vec![call(false, 300), call(true, 402), bare]);
    let share = find(&judged, "rpc rtt 64 B spin, p50", "2 x a bare round trip");
    assert_eq!((share.outcome, &*share.remark), (Outcome::Missed, "402 ns to 200 ns"));
}

#[test]
fn many_clients_must_be_above_the_bar_and_answers_stand_beside() {
    let rows =
        [("fanin", 3.8), ("echo", 2.0)].map(|(work, rate)| pooled(at(row("scale", 64), rate), work, 32));
    let judged = judged(rows.into());
    let scale = find(&judged, "fanin 64 B 32 clients in 8 processes through a pool", "> 3.8 M/s");
    assert_eq!((scale.outcome, &*scale.remark), (Outcome::Missed, "answered: 2.00 M/s"));
}

#[test]
fn one_wake_up_of_an_idle_server_is_too_many() {
    let crowd = |sleeps| {
        let row = pooled(row("idle-probe", 0), "crowd", 1000);
        judged(vec![Row { bytes: None, secs: Some(2.0), cpu_s: Some(0.0), sleeps: Some(sleeps), ..row }])
    };
    let name = "crowd 1000 clients in 8 processes, wake-ups";
    assert_eq!(find(&crowd(0), name, "<= 0 per s").outcome, Outcome::Met);
    let once = crowd(1);
    assert_eq!(
        (find(&once, name, "0 per s").outcome, &*find(&once, name, "0 per s").figure),
        (Outcome::Missed, "0.500 per s")
    );
}

#[test]
fn the_last_receiver_counts_and_the_sender_stands_beside() {
    let judged = judged(vec![spread("route", 1, 4, 9.5), spread("channel", 4, 4, 13.0)]);
    let route = find(&judged, "route 1 to 4 2-256 B latency, last has all", "<= 9 ms");
    assert_eq!((route.outcome, &*route.figure), (Outcome::Missed, "9.50 ms"));
    assert_eq!(route.remark, "all sent: 4.75 ms");
    let channel = find(&judged, "channel 4 to 4 2-256 B latency, last has all", "<= 14 ms");
    assert_eq!(channel.outcome, Outcome::Met);
}

#[test]
fn a_route_to_one_is_held_against_a_bare_connection() {
    let judged = judged(vec![spread("route", 1, 1, 3.0), spread("bare", 1, 1, 2.5)]);
    let share = find(&judged, "route 1 to 1 2-256 B latency, last has all", "1.1 x a bare connection");
    assert_eq!((share.outcome, &*share.remark), (Outcome::Missed, "3.00 ms to 2.50 ms"));
}

#[test]
fn a_route_that_loses_messages_on_purpose_does_not_stand_in_for_one_that_does_not() {
    let judged = judged(vec![Row { policy: Some("overwrite".to_owned()), ..spread("route", 1, 2, 1.0) }]);
    assert_eq!(find(&judged, "route 1 to 2 2-256 B, last has all", "6 ms").outcome, Outcome::NotMeasured);
}

#[test]
fn the_slowest_reconnect_counts() {
    let slow = called(of(taking(row("reconnect", 64), 2_000_001), 8), "reconnect");
    let judged = judged(vec![slow]);
    let slow = find(&judged, "rpc reconnect 64 B 8 clients, max", "<= 100 ms");
    assert_eq!((slow.outcome, &*slow.figure), (Outcome::Missed, "100 ms"));
}
