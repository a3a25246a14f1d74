//! What is answered.

use crate::support::{frames, noise, scratch, wait_until};
use serde_json::Value;
use std::fs;

#[test]
fn every_type_answers_as_the_help_says() {
    let scratch = scratch();
    let serving = scratch.serve("box", &["--workers", "1"]);
    for (message_type, body, answer) in [
        ("echo", "as it is", "as it is"),
        ("1", "by number", "by number"),
        ("0x0006", "Straße 7", "STRAßE 7"),
        ("upper", "", ""),
        ("sum", "1 -20\n300", "281"),
        ("sum", "", "0"),
        ("sleep", "0.01", "0.01"),
        ("sink", "one", "1"),
        ("sink", "two", "2"),
    ] {
        let outcome = scratch.run(&["call", "box", "--type", message_type, "--data", body], b"").expect(0);
        assert_eq!((outcome.text(), outcome.stderr.as_str()), (answer, ""), "{message_type} {body}");
    }
    let served = serving.stop();
    assert_eq!(
        (&served["event"], &served["calls"], &served["clients"]),
        (&"served".into(), &9.into(), &9.into())
    );
    assert_eq!((&served["failed"], &served["one_way"]), (&0.into(), &0.into()), "{served}");
    assert!(scratch.names().is_empty(), "{:?}", scratch.names());
}

#[test]
fn any_bytes_come_back_as_they_went() {
    let scratch = scratch();
    let _serving = scratch.serve("box", &[]);
    let file = scratch.path().join("body");
    for bytes in [0, 1, 1 << 20, (5 << 20) + 3] {
        let body = noise(bytes, 11);
        let outcome = scratch.run(&["call", "box", "-t", "echo"], &body).expect(0);
        assert!(outcome.stdout == body, "{} of {bytes} bytes came back", outcome.stdout.len());
        fs::write(&file, &body).unwrap();
        let from_file = ["call", "box", "-t", "echo", "--data-file", file.to_str().unwrap()];
        assert!(scratch.run(&from_file, b"").expect(0).stdout == body);
    }
}

#[test]
fn the_settings_of_both_sides_work_together() {
    let scratch = scratch();
    let serving = scratch
        .serve("box", &["--pin", "--no-checksum", "--profile", "bulk", "--wait", "sleep", "--memory", "64M"]);
    let body = noise(3 << 20, 4);
    for settings in
        [&[][..], &["--no-checksum"], &["--wait", "spin"], &["--profile", "bulk", "--wait", "sleep"]]
    {
        let outcome = scratch.run(&[&["call", "box", "-t", "echo"], settings].concat(), &body).expect(0);
        assert!(outcome.stdout == body, "{settings:?}");
    }
    assert_eq!(serving.stop()["calls"], 4);
}

#[test]
fn a_response_in_parts_comes_part_by_part() {
    let scratch = scratch();
    let serving = scratch.serve("box", &["--workers", "1"]);
    // The second part takes an hour.
    let mut running =
        scratch.start_open(&["call", "box", "-t", "source", "-d", "2 3 3600", "--stream", "--lines"]);
    assert_eq!(running.read(4), b"000\n");
    running.signal("KILL");
    drop(running);
    // Its handler was dropped with it, so nothing is in flight.
    serving.stop();
}

#[test]
fn parts_are_framed_as_asked() {
    let scratch = scratch();
    let _serving = scratch.serve("box", &[]);
    let call = |body: &str, framing: &[&str]| {
        let args = [&["call", "box", "-t", "source", "--stream", "-d", body], framing].concat();
        scratch.run(&args, b"").expect(0).stdout
    };
    assert_eq!(call("3 2", &[]), b"001122");
    assert_eq!(call("3 2", &["--lines"]), b"00\n11\n22\n");
    assert_eq!(call("3 2", &["--frames"]), frames(&[b"00", b"11", b"22"]));
    assert_eq!(call("2 0", &["--lines"]), b"\n\n");
    assert_eq!(call("0 9", &["--lines"]), b"");
    let many = call("2000 1500", &[]);
    assert_eq!(many.len(), 3_000_000);
    assert!(
        many.chunks(1500)
            .zip(0_u64..)
            .all(|(part, number)| part.iter().all(|byte| *byte == b'0' + (number % 10) as u8))
    );
    let line = scratch.run(&["call", "box", "-t", "echo", "-d", "one", "--lines"], b"").expect(0);
    assert_eq!(line.text(), "one\n");
}

#[test]
fn one_way_messages_are_all_counted() {
    let scratch = scratch();
    let serving = scratch.serve("box", &["--workers", "1"]);
    let sent = scratch.run(&["call", "box", "-t", "sink", "-d", "x", "--one-way"], b"").expect(0);
    assert_eq!((sent.text(), sent.stderr.as_str()), ("", ""));
    let many = ["call", "box", "-t", "sink", "-d", "x", "--one-way", "--repeat", "500", "--concurrency", "2"];
    scratch.run(&many, b"").expect(0);
    // Each look is counted too.
    let mut looks = 0;
    wait_until("all have come", || {
        looks += 1;
        let count = scratch.run(&["call", "box", "-t", "sink", "-d", ""], b"").expect(0);
        count.text() == (501 + looks).to_string()
    });
    let served = serving.stop();
    assert_eq!((&served["one_way"], &served["calls"]), (&501.into(), &looks.into()), "{served}");
}

#[test]
fn many_calls_are_made_counted_and_measured() {
    let scratch = scratch();
    let serving = scratch.serve("box", &[]);
    for (threads, body) in [("1", ""), ("4", "seven b"), ("16", "longer than the number of the call")] {
        let args =
            ["call", "box", "-t", "echo", "-d", body, "--repeat", "1000", "--concurrency", threads, "--json"];
        let outcome = scratch.run(&args, b"").expect(0);
        let summary: Value = serde_json::from_str(outcome.text()).unwrap();
        assert_eq!((&summary["event"], &summary["calls"]), (&"called".into(), &1000.into()), "{summary}");
        assert_eq!((&summary["type"], &summary["checked"]), (&"echo".into(), &true.into()), "{summary}");
        assert_eq!(summary["answer_bytes"], 1000 * body.len(), "{summary}");
        let nanos = |name: &str| summary["ns"][name].as_u64().unwrap();
        assert!(
            0 < nanos("p50") && nanos("p50") <= nanos("p99") && nanos("p999") <= nanos("max"),
            "{summary}"
        );
        assert!(summary["calls_per_second"].as_f64().unwrap() > 0.0, "{summary}");
    }
    let args =
        ["call", "box", "-t", "source", "-d", "10 10", "--stream", "--repeat", "100", "--concurrency", "3"];
    let words = scratch.run(&args, b"").expect(0);
    for part in ["source", "100", "in flight", "p99.9"] {
        assert!(words.text().contains(part), "{}", words.text());
    }
    assert_eq!(serving.stop()["calls"], 3100);
}

#[test]
fn what_was_done_is_json_where_it_is_wanted() {
    let scratch = scratch();
    let serving = scratch.serve("box", &[]);
    let call =
        |args: &[&str]| scratch.run(&[&["call", "box", "--json"], args].concat(), b"").expect(0).last_event();
    let summary = call(&["-t", "source", "-d", "3 10", "--stream"]);
    assert_eq!((&summary["event"], &summary["type"]), (&"answered".into(), &"source".into()), "{summary}");
    assert_eq!((&summary["parts"], &summary["bytes"]), (&3.into(), &30.into()), "{summary}");
    let summary = call(&["-t", "99", "-d", "x", "--one-way"]);
    assert_eq!((&summary["event"], &summary["type"]), (&"sent".into(), &"99".into()), "{summary}");
    let quiet = scratch.run(&["call", "box", "--json", "--quiet", "-t", "echo", "-d", "x"], b"").expect(0);
    assert_eq!((quiet.text(), quiet.stderr.as_str()), ("x", ""));
    serving.signal("INT");
    let outcome = serving.wait().expect(0);
    let first: Value = serde_json::from_str(outcome.stderr.lines().next().unwrap()).unwrap();
    assert_eq!(first["event"], "serving");
    assert!(first["path"].as_str().unwrap().ends_with("box.sock"), "{first}");
}

#[test]
fn a_server_says_what_it_did_in_words_unless_it_is_to_be_quiet() {
    let scratch = scratch();
    for (quiet, parts) in
        [(&[][..], &["serving at", "1 calls", "1 clients", "1 failed"][..]), (&["--quiet"], &[])]
    {
        let running = scratch.start(&[&["serve", "box"], quiet].concat(), None);
        scratch.wait_for_name("box");
        scratch.run(&["call", "box", "-t", "fail", "-d", "5"], b"").expect(7);
        running.signal("TERM");
        let outcome = running.wait().expect(0);
        assert!(parts.iter().all(|part| outcome.stderr.contains(part)), "{}", outcome.stderr);
        assert!(!parts.is_empty() || outcome.stderr.is_empty(), "{}", outcome.stderr);
    }
}
