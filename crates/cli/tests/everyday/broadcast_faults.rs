//! `pub` and `sub`: slow, stopped and killed processes, and what cannot work.

use crate::support::{Outcome, Running, Scratch, noise, scratch, wait_until};
use serde_json::Value;

/// More than a ring of 16 KiB, the buffers of a receiver, and the pipe behind it hold.
const LINES: u64 = 100_000;

fn lines() -> String {
    (0..LINES).map(|number| format!("line {number} of many\n")).collect()
}

/// A sender with a small ring, and a receiver that is stopped before anything is sent.
fn start_with_a_stopped_receiver(scratch: &Scratch, policy: &str) -> (Running, Running) {
    let stopped = scratch.start(&["sub", "news", "--lines", "--json"], None);
    let args = ["pub", "news", "--lines", "--json", "--verbose", "--ring-bytes", "16384", "--policy", policy];
    let mut sender = scratch.start_open(&args);
    assert!(sender.read_line_of_stderr().contains("joined"));
    stopped.signal("STOP");
    (sender, stopped)
}

/// The events of one kind that a process told.
fn events(outcome: &Outcome, event: &str) -> Vec<Value> {
    let all = outcome.stderr.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    all.filter(|value| value["event"] == event).collect()
}

#[test]
fn a_receiver_learns_of_the_death_of_its_sender() {
    let scratch = scratch();
    let mut receiver = scratch.start_open(&["sub", "news"]);
    let mut sender = scratch.start_open(&["pub", "news", "--wait-for", "1"]);
    let input = noise(3 << 20, 3);
    sender.feed(input.clone(), false);
    assert!(receiver.read(input.len()) == input);
    sender.signal("KILL");
    let outcome = receiver.wait().expect(4);
    for part in ["died", "3145728 bytes", "were written"] {
        assert!(outcome.stderr.contains(part), "{}", outcome.stderr);
    }
}

#[test]
fn a_killed_sender_makes_room_for_the_next_and_followers_go_on() {
    let scratch = scratch();
    let mut receiver = scratch.start_open(&["sub", "news", "--lines", "--follow"]);
    for number in 0..3 {
        let mut sender = scratch.start_open(&["pub", "news", "--lines", "--wait-for", "1"]);
        sender.feed(format!("{number}\n").into(), false);
        assert_eq!(receiver.read(2), format!("{number}\n").as_bytes());
        sender.signal("KILL");
        sender.wait();
    }
    scratch.run(&["pub", "news", "--lines", "--wait-for", "1"], b"3\n").expect(0);
    assert_eq!(receiver.read(2), b"3\n");
    receiver.signal("TERM");
    receiver.wait().expect(0);
    assert!(scratch.names().is_empty(), "{:?}", scratch.names());
}

#[test]
fn a_second_sender_is_refused_while_the_first_lives() {
    let scratch = scratch();
    let mut first = scratch.start_open(&["pub", "news", "--lines"]);
    wait_until("the sender is there", || scratch.names().contains(&"news.route".to_owned()));
    let second = scratch.run(&["pub", "news", "--lines"], b"x\n").expect(1);
    assert!(second.stderr.contains("has a sender that lives"), "{}", second.stderr);
    first.close_input();
    first.wait().expect(0);
    scratch.run(&["pub", "news", "--lines"], b"x\n").expect(0);
}

#[test]
fn the_others_get_everything_when_a_receiver_is_killed() {
    let scratch = scratch();
    let receivers: Vec<_> = (0..3).map(|_| scratch.start(&["sub", "news", "--lines"], None)).collect();
    let mut sender =
        scratch.start_open(&["pub", "news", "--lines", "--wait-for", "3", "--ring-bytes", "16384"]);
    let input = lines();
    let (one, other) = input.split_at(input.len() / 2);
    sender.feed(one.into(), false);
    receivers[1].signal("KILL");
    sender.feed(other.into(), true);
    sender.wait().expect(0);
    for (number, receiver) in receivers.into_iter().enumerate().filter(|(number, _)| *number != 1) {
        assert!(receiver.wait().expect(0).text() == input, "receiver {number}");
    }
    let left = scratch.names();
    assert!(left.len() <= 1, "the dead one's name at most: {left:?}");
}

#[test]
fn a_stopped_receiver_holds_nobody_up_for_longer_than_it_may() {
    let scratch = scratch();
    let (mut sender, stopped) = start_with_a_stopped_receiver(&scratch, "block=0.2");
    let other = scratch.start(&["sub", "news", "--lines"], None);
    assert!(sender.read_line_of_stderr().contains("joined"));
    sender.feed(lines().into(), true);
    let sent = sender.wait().expect(0);
    let [left] = events(&sent, "left").try_into().unwrap();
    assert_eq!((&left["pid"], &left["reason"]), (&stopped.id().into(), &"too-slow".into()), "{left}");
    let summary = sent.last_event();
    assert_eq!((&summary["messages"], &summary["cut_off"]), (&LINES.into(), &1.into()), "{summary}");
    assert!(other.wait().expect(0).text() == lines());
    stopped.signal("CONT");
    let told = stopped.wait().expect(4);
    assert!(told.stderr.contains("cut us off"), "{}", told.stderr);
    assert!(lines().starts_with(told.text()), "what came is whole and in order");
}

#[test]
fn a_receiver_that_is_in_the_way_is_disconnected_at_once_if_that_is_the_policy() {
    let scratch = scratch();
    let (mut sender, stopped) = start_with_a_stopped_receiver(&scratch, "disconnect");
    sender.feed(lines().into(), true);
    let summary = sender.wait().expect(0).last_event();
    assert_eq!((&summary["messages"], &summary["cut_off"]), (&LINES.into(), &1.into()), "{summary}");
    stopped.signal("CONT");
    let told = stopped.wait().expect(4);
    assert!(told.stderr.contains("cut us off"), "{}", told.stderr);
}

#[test]
fn new_messages_are_dropped_and_counted_if_that_is_the_policy() {
    let scratch = scratch();
    let (mut sender, stopped) = start_with_a_stopped_receiver(&scratch, "drop-newest");
    sender.feed(lines().into(), true);
    let sent = sender.wait().expect(0).last_event();
    let number = |summary: &Value, field: &str| summary[field].as_u64().unwrap();
    assert_eq!(number(&sent, "messages") + number(&sent, "dropped"), LINES, "{sent}");
    assert!(number(&sent, "dropped") > 0 && number(&sent, "cut_off") == 0, "{sent}");
    stopped.signal("CONT");
    let told = stopped.wait().expect(0);
    assert_eq!(number(&told.last_event(), "messages"), number(&sent, "messages"));
    assert!(lines().starts_with(told.text()), "the ring was full once and for all");
}

#[test]
fn old_messages_are_overwritten_and_exactly_counted_if_that_is_the_policy() {
    let scratch = scratch();
    let (mut sender, stopped) = start_with_a_stopped_receiver(&scratch, "overwrite");
    sender.feed(lines().into(), true);
    let sent = sender.wait().expect(0).last_event();
    assert_eq!(
        (&sent["messages"], &sent["dropped"], &sent["cut_off"]),
        (&LINES.into(), &0.into(), &0.into())
    );
    stopped.signal("CONT");
    let told = stopped.wait().expect(0);
    let summary = told.last_event();
    let (came, lost) = (summary["messages"].as_u64().unwrap(), summary["lost"].as_u64().unwrap());
    assert_eq!(came + lost, LINES, "{summary}");
    let lagged: u64 = events(&told, "lagged").iter().map(|event| event["messages"].as_u64().unwrap()).sum();
    assert_eq!(lagged, lost);
    assert!(lost > 0 && lines().ends_with(told.text()), "{summary}");
}

#[test]
fn a_receiver_whose_output_nobody_reads_is_a_slow_one() {
    let scratch = scratch();
    let mut receiver = scratch.start_open(&["sub", "news", "--json"]);
    let args = ["pub", "news", "--json", "--policy", "overwrite", "--ring-bytes", "65536", "--wait-for", "1"];
    let sent = scratch.run(&args, &noise(16 << 20, 9)).expect(0).last_event();
    receiver.collect();
    let summary = receiver.wait().expect(0).last_event();
    let number = |field: &str| summary[field].as_u64().unwrap();
    assert!(number("lost") > 0, "{summary}");
    assert_eq!(number("messages") + number("lost"), sent["messages"].as_u64().unwrap(), "{summary}");
}

#[test]
fn receivers_that_do_not_come_and_senders_that_do_not_are_waited_for_in_vain() {
    let scratch = scratch();
    let args = ["pub", "news", "--wait-for", "1", "--timeout", "0.2"];
    let sender = scratch.run(&args, b"x").expect(3);
    assert!(sender.stderr.contains("0 of 1 receivers"), "{}", sender.stderr);
    let receiver = scratch.run(&["sub", "olds", "--timeout", "0.2"], b"").expect(3);
    assert!(receiver.stderr.contains("no sender came"), "{}", receiver.stderr);
    let receiver = scratch.run(&["sub", "floor", "--channel", "--timeout", "0.2"], b"").expect(3);
    assert!(receiver.stderr.contains("no sender came"), "{}", receiver.stderr);
}

#[test]
fn a_line_that_is_too_long_is_named_and_is_no_end() {
    let scratch = scratch();
    let receiver = scratch.start(&["sub", "news", "--lines"], None);
    let args = ["pub", "news", "--lines", "--message-bytes-max", "100", "--wait-for", "1"];
    let input = format!("one\n{}\n{}\nfour\n", "x".repeat(100), "y".repeat(101));
    let sender = scratch.run(&args, input.as_bytes()).expect(1);
    for part in ["line 3", "100 bytes", "--message-bytes-max"] {
        assert!(sender.stderr.contains(part), "{}", sender.stderr);
    }
    let receiver = receiver.wait().expect(4);
    assert_eq!(receiver.text(), format!("one\n{}\n", "x".repeat(100)));
    assert!(receiver.stderr.contains("died"), "{}", receiver.stderr);
}

#[test]
fn a_frame_that_is_cut_short_is_named_and_is_no_end() {
    let scratch = scratch();
    let receiver = scratch.start(&["sub", "news", "--frames"], None);
    let args = ["pub", "news", "--frames", "--wait-for", "1"];
    let sender = scratch.run(&args, b"\x03\0\0\0one\x09\0\0\0abc").expect(1);
    assert!(sender.stderr.contains("within frame 2"), "{}", sender.stderr);
    assert_eq!(receiver.wait().expect(4).stdout, b"\x03\0\0\0one");
}

#[test]
fn arguments_that_make_no_sense_are_usage() {
    let scratch = scratch();
    for args in [
        &["pub"][..],
        &["pub", "a b"],
        &["pub", "news", "--policy", "sometimes"],
        &["pub", "news", "--policy", "overwrite=3"],
        &["pub", "news", "--timeout", "1"],
        &["pub", "news", "--ring-bytes", "1000"],
        &["pub", "news", "--lines", "--frames"],
        &["sub", "news", "--count", "0"],
        &["sub", "news", "--policy", "block"],
        &["sub", "news", "--prefix", "a b"],
    ] {
        scratch.run(args, b"").expect(2);
    }
    let outcome = scratch.run(&["pub", "a b", "--json"], b"").expect(2);
    assert_eq!(outcome.last_event()["code"], 2);
}

#[test]
fn a_closed_output_ends_the_receiver_quietly_and_the_sender_goes_on() {
    let scratch = scratch();
    let mut closed = scratch.start_open(&["sub", "news", "--lines"]);
    let other = scratch.start(&["sub", "news", "--lines"], None);
    let sender = scratch.start(&["pub", "news", "--lines", "--wait-for", "2"], Some(lines().as_bytes()));
    assert_eq!(closed.read(5), b"line ");
    closed.close_output();
    assert_eq!(closed.wait().expect(0).stderr, "");
    sender.wait().expect(0);
    assert!(other.wait().expect(0).text() == lines());
}

#[test]
fn a_receiver_that_cannot_write_fails() {
    let scratch = scratch();
    let full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let mut receiver = scratch.command(&["sub", "news"]).stdout(full).spawn().unwrap();
    scratch.run(&["pub", "news", "--wait-for", "1"], &noise(1 << 20, 6)).expect(0);
    assert_eq!(receiver.wait().unwrap().code(), Some(1));
}

#[test]
fn an_interrupted_receiver_leaves_no_name() {
    let scratch = scratch();
    let receiver = scratch.start(&["sub", "news", "--json"], None);
    wait_until("the receiver is there", || scratch.names().len() == 1);
    receiver.signal("INT");
    let summary = receiver.wait().expect(0).last_event();
    assert_eq!((&summary["event"], &summary["messages"]), (&"received".into(), &0.into()));
    assert!(scratch.names().is_empty());
}
