//! Calls that go wrong, servers that end, and how that is told.

use crate::support::{Scratch, scratch, wait_until};
use ringway::rpc::Server;
use serde_json::Value;
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::sync::Mutex;

#[test]
fn a_failure_is_told_with_its_code_and_text() {
    let scratch = scratch();
    let serving = scratch.serve("box", &[]);
    for (message_type, body, parts) in [
        ("fail", "5 no such thing", &["not found (5)", "no such thing"][..]),
        ("fail", "1234", &["1234"]),
        ("fail", "nonsense", &["invalid argument (3)"]),
        ("sum", "1 two", &["invalid argument (3)", "two"]),
        ("sum", "9223372036854775807 1", &["out of range (11)"]),
        ("sleep", "-1", &["invalid argument (3)"]),
        ("source", "3 10", &["invalid argument (3)"]),
        ("99", "", &["unimplemented (12)"]),
    ] {
        let outcome = scratch.run(&["call", "box", "-t", message_type, "-d", body], b"").expect(7);
        assert!(parts.iter().all(|part| outcome.stderr.contains(part)), "{body}: {}", outcome.stderr);
        assert_eq!(outcome.text(), "");
    }
    let error =
        scratch.run(&["call", "box", "-t", "fail", "-d", "5 gone", "--json"], b"").expect(7).last_event();
    assert_eq!((&error["code"], &error["failure"]), (&7.into(), &5.into()), "{error}");
    let wrong_plan = ["call", "box", "-t", "source", "-d", "3", "--stream"];
    assert!(scratch.run(&wrong_plan, b"").expect(7).stderr.contains("PARTS BYTES"));
    assert_eq!(serving.stop()["failed"], 10);
}

#[test]
fn a_handler_that_panics_fails_its_call_and_no_other() {
    let scratch = scratch();
    let serving = scratch.serve("box", &["--workers", "1"]);
    for _ in 0..2 {
        let outcome = scratch.run(&["call", "box", "-t", "panic", "-d", "x"], b"").expect(7);
        assert!(outcome.stderr.contains("internal (13)"), "{}", outcome.stderr);
        assert_eq!(scratch.run(&["call", "box", "-t", "echo", "-d", "on"], b"").expect(0).text(), "on");
    }
    serving.signal("TERM");
    let outcome = serving.wait().expect(0);
    assert_eq!(outcome.last_event()["panics"], 2);
    let events: Vec<Value> = outcome.stderr.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let panics: Vec<_> = events.iter().filter(|event| event["event"] == "panic").collect();
    assert_eq!(panics.len(), 2, "{}", outcome.stderr);
    assert_eq!(panics[0]["message"], "a request asked for it");
}

#[test]
fn an_answer_that_belongs_to_another_call_is_noticed() {
    let scratch = scratch();
    let path = scratch.path().join("mixed.sock");
    // Each call gets the body of the one before, which differs in nothing but the number.
    let _server = Server::with_state(Mutex::new(0_u64.to_le_bytes().to_vec()))
        .handle(1, |request, reply| {
            let before = std::mem::replace(&mut *request.state().lock().unwrap(), request.body().to_vec());
            reply.write(&before);
            Ok(())
        })
        .bind(path.to_str().unwrap())
        .unwrap();
    let outcome =
        scratch.run(&["call", "mixed", "-t", "echo", "-d", "12345678", "--repeat", "10"], b"").expect(6);
    assert!(outcome.stderr.contains("call 2 of 10: the answer is not what was sent"), "{}", outcome.stderr);
}

#[test]
fn a_call_runs_out_of_time() {
    let scratch = scratch();
    let serving = scratch.serve("box", &[]);
    let outcome =
        scratch.run(&["call", "box", "-t", "sleep", "-d", "3600", "--timeout", "0.2"], b"").expect(3);
    assert!(outcome.stderr.contains("in time"), "{}", outcome.stderr);
    let stream = ["call", "box", "-t", "source", "-d", "2 3 3600", "--stream", "--timeout", "0.2"];
    assert_eq!(scratch.run(&stream, b"").expect(3).text(), "000");
    let served = serving.stop();
    assert_eq!(served["calls"], 2, "{served}");
}

#[test]
fn a_server_that_does_not_come_runs_out_of_time() {
    let scratch = scratch();
    let outcome =
        scratch.run(&["call", "box", "-t", "echo", "-d", "", "--connect-timeout", "0.1"], b"").expect(3);
    assert!(outcome.stderr.contains("nobody serves"), "{}", outcome.stderr);
    let call = scratch.start(&["call", "box", "-t", "echo", "-d", "early", "--connect-timeout", "30"], None);
    let _serving = scratch.serve("box", &[]);
    assert_eq!(call.wait().expect(0).text(), "early");
}

#[test]
fn a_directory_that_others_may_write_is_a_matter_of_permission() {
    let scratch = scratch();
    fs::set_permissions(scratch.path(), Permissions::from_mode(0o777)).unwrap();
    scratch.run(&["serve", "box"], b"").expect(5);
}

#[test]
fn a_peer_that_speaks_no_calls_breaks_the_protocol() {
    let scratch = scratch();
    let _echo = scratch.start(&["echo", "box"], None);
    scratch.wait_for_name("box");
    let outcome = scratch.run(&["call", "box", "-t", "echo", "-d", "x"], b"").expect(6);
    assert!(outcome.stderr.contains("protocol"), "{}", outcome.stderr);
    // And the other way round.
    let serving = scratch.serve("calls", &[]);
    scratch.run(&["send", "calls", "--timeout", "30"], b"x").expect(6);
    let served = serving.stop();
    assert_eq!(served["violations"], 1, "{served}");
}

#[test]
fn arguments_of_calls_that_make_no_sense_are_told_by_their_exit_code() {
    let scratch = scratch();
    for args in [
        &["call", "box"][..],
        &["call", "box", "-t", "nonsense"],
        &["call", "box", "-t", "65280"],
        &["call", "box", "-t", "echo", "--concurrency", "2"],
        &["call", "box", "-t", "echo", "--repeat", "0"],
        &["call", "box", "-t", "sink", "--one-way", "--stream"],
        &["call", "a b", "-t", "echo"],
        &["serve", "a b"],
        &["serve", "box", "--workers", "0"],
        &["serve", "box", "--connections", "0"],
        &["serve", "box", "--memory", "many"],
        &["serve", "box", "--memory", "4K"],
        &["serve", "box", "--grace", "-1"],
    ] {
        scratch.run(args, b"").expect(2);
    }
    let _serving = scratch.serve("box", &[]);
    assert!(scratch.run(&["serve", "box"], b"").expect(1).stderr.contains("in use"));
}

#[test]
fn a_client_too_many_is_refused() {
    let scratch = scratch();
    let _serving = scratch.serve("box", &["--connections", "1"]);
    let mut first = scratch.start_open(&["call", "box", "-t", "source", "-d", "2 3 3600", "--stream"]);
    assert_eq!(first.read(3), b"000");
    let second =
        scratch.run(&["call", "box", "-t", "echo", "-d", "x", "--connect-timeout", "0.2"], b"").expect(1);
    assert!(second.stderr.contains("limit"), "{}", second.stderr);
}

#[test]
fn the_death_of_the_server_ends_a_call() {
    let scratch = scratch();
    let serving = scratch.serve("box", &[]);
    let mut call = scratch.start_open(&["call", "box", "-t", "source", "-d", "2 3 3600", "--stream"]);
    assert_eq!(call.read(3), b"000");
    serving.signal("KILL");
    let outcome = call.wait().expect(4);
    assert!(outcome.stderr.contains("may have run"), "{}", outcome.stderr);
}

/// Looks at the count of the sink until it has gone beyond `count`.
fn wait_for_sink(scratch: &Scratch, count: u64) -> u64 {
    let mut seen = 0;
    wait_until("calls come to the sink", || {
        let answer = scratch.run(&["call", "box", "-t", "sink", "-d", "", "--connect-timeout", "30"], b"");
        seen = answer.expect(0).text().parse().unwrap();
        seen > count
    });
    seen
}

const CALLS: u64 = 100_000;

fn many_calls<'a>(calls: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    let call =
        ["call", "box", "-t", "sink", "-d", "x", "--repeat", calls, "--json", "--connect-timeout", "30"];
    [&call[..], more].concat()
}

#[test]
fn idempotent_calls_go_on_when_the_server_was_killed_and_comes_back() {
    let scratch = scratch();
    let first = scratch.serve("box", &[]);
    let calls = CALLS.to_string();
    let caller = scratch.start(&many_calls(&calls, &["--idempotent", "--concurrency", "2"]), None);
    let seen = wait_for_sink(&scratch, 100);
    first.signal("KILL");
    assert_eq!(first.wait().code, None);
    assert!(seen < CALLS, "it was killed in the middle");
    let second = scratch.serve("box", &[]);
    let summary: Value = serde_json::from_str(caller.wait().expect(0).text()).unwrap();
    assert_eq!(summary["calls"], CALLS, "{summary}");
    let served = second.stop();
    assert!(served["calls"].as_u64().unwrap() > 0, "{served}");
}

#[test]
fn other_calls_end_when_the_server_was_killed() {
    let scratch = scratch();
    let serving = scratch.serve("box", &[]);
    let calls = CALLS.to_string();
    let caller = scratch.start(&many_calls(&calls, &["--concurrency", "2"]), None);
    let seen = wait_for_sink(&scratch, 100);
    serving.signal("KILL");
    assert!(seen < CALLS, "it was killed in the middle");
    let error = caller.wait().expect(4).last_event();
    let text = error["error"].as_str().unwrap();
    assert!(text.contains("may have run") && text.contains(&format!("of {calls}")), "{error}");
}

#[test]
fn a_server_that_is_told_to_stop_finishes_what_is_in_flight() {
    let scratch = scratch();
    let serving = scratch.serve("box", &["--grace", "60"]);
    let mut parts =
        scratch.start_open(&["call", "box", "-t", "source", "-d", "4 3 0.2", "--stream", "--lines"]);
    assert_eq!(parts.read(4), b"000\n");
    serving.signal("TERM");
    wait_until("the name is gone", || scratch.names().is_empty());
    // New calls are not taken.
    scratch.run(&["call", "box", "-t", "echo", "-d", "", "--connect-timeout", "0"], b"").expect(3);
    parts.collect();
    assert_eq!(parts.wait().expect(0).text(), "111\n222\n333\n");
    let served = serving.wait().expect(0).last_event();
    assert_eq!((&served["calls"], &served["failed"]), (&1.into(), &0.into()), "{served}");
}

#[test]
fn a_server_that_is_told_to_stop_cuts_off_what_takes_too_long() {
    let scratch = scratch();
    let serving = scratch.serve("box", &["--grace", "0.2"]);
    let mut call = scratch.start_open(&["call", "box", "-t", "source", "-d", "2 3 3600", "--stream"]);
    assert_eq!(call.read(3), b"000");
    serving.signal("TERM");
    call.wait().expect(4);
    let error = serving.wait().expect(3).last_event();
    assert!(error["error"].as_str().unwrap().contains("cut off"), "{error}");
    assert!(scratch.names().is_empty());
}

#[test]
fn a_second_signal_ends_the_server_at_once() {
    let scratch = scratch();
    let serving = scratch.serve("box", &["--grace", "3600"]);
    let mut call = scratch.start_open(&["call", "box", "-t", "source", "-d", "2 3 3600", "--stream"]);
    assert_eq!(call.read(3), b"000");
    serving.signal("INT");
    wait_until("the first signal was heard", || scratch.names().is_empty());
    serving.signal("INT");
    assert_eq!(serving.wait().code, None, "ended by the signal");
    call.wait().expect(4);
}

#[test]
fn a_closed_output_ends_a_call_quietly() {
    let scratch = scratch();
    let serving = scratch.serve("box", &[]);
    let mut call = scratch.start_open(&["call", "box", "-t", "source", "-d", "1000000 100000", "--stream"]);
    call.read(1 << 20);
    call.close_output();
    assert_eq!(call.wait().expect(0).stderr, "");
    // The rest was cancelled.
    serving.stop();
}
