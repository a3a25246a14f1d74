//! What arrives.

use crate::support::{Outcome, frames, noise, scratch};
use serde_json::Value;

/// Sends `input` from one process to another, the listener first.
fn transfer(listen: &[&str], send: &[&str], input: &[u8]) -> (Outcome, Outcome) {
    let scratch = scratch();
    let listener = scratch.start(&[&["listen", "box"], listen].concat(), None);
    let sender = scratch.start(&[&["send", "box"], send].concat(), Some(input));
    let outcomes = (listener.wait(), sender.wait());
    assert!(scratch.names().is_empty(), "{:?}", scratch.names());
    outcomes
}

#[track_caller]
fn arrives(listen: &[&str], send: &[&str], input: &[u8], expected: &[u8]) {
    let (listener, sender) = transfer(listen, send, input);
    let (listener, sender) = (listener.expect(0), sender.expect(0));
    assert!(
        listener.stdout == expected,
        "{} bytes came, {} were expected",
        listener.stdout.len(),
        expected.len()
    );
    assert_eq!((listener.stderr.as_str(), sender.stderr.as_str(), sender.text()), ("", "", ""));
}

#[test]
fn many_bytes_arrive_as_they_were_sent() {
    let input = noise((64 << 20) + 12_345, 7);
    arrives(&[], &[], &input, &input);
}

#[test]
fn nothing_arrives_as_nothing() {
    for framing in [&[][..], &["--lines"], &["--frames"]] {
        arrives(framing, framing, b"", b"");
    }
}

#[test]
fn the_sender_may_come_first() {
    let scratch = scratch();
    let mut sender = scratch.start(&["send", "box", "--quiet"], Some(b"early"));
    // It looks again and again; whether the listener comes before its first look does not matter.
    std::thread::sleep(std::time::Duration::from_millis(200));
    assert!(sender.is_running());
    let listener = scratch.start(&["listen", "box"], None).wait().expect(0);
    sender.wait().expect(0);
    assert_eq!(listener.text(), "early");
}

#[test]
fn a_path_is_a_name_too_and_the_latency_profile_works() {
    let scratch = scratch();
    let path = scratch.path().join("by-path");
    let path = path.to_str().unwrap();
    let listener = scratch.start(&["listen", path, "--profile", "latency"], None);
    scratch.run(&["send", path, "--profile", "latency"], b"there").expect(0);
    assert_eq!(listener.wait().expect(0).text(), "there");
}

#[test]
fn lines_arrive_as_lines() {
    let long = "x".repeat(9 << 20);
    let input = format!("one\n\n\n{long}\nlast");
    arrives(&["--lines"], &["--lines"], input.as_bytes(), format!("{input}\n").as_bytes());
    arrives(&["--lines"], &["--lines"], b"\n", b"\n");
}

#[test]
fn a_line_comes_out_before_the_next_goes_in() {
    let scratch = scratch();
    let mut listener = scratch.start_open(&["listen", "box", "--lines"]);
    let mut sender = scratch.start_open(&["send", "box", "--lines"]);
    for line in ["first\n", "second\n"] {
        sender.feed(line.into(), false);
        assert_eq!(listener.read(line.len()), line.as_bytes());
    }
    sender.close_input();
    sender.wait().expect(0);
    listener.wait().expect(0);
}

#[test]
fn frames_arrive_as_frames() {
    let large = noise(3 << 20, 1);
    let input = frames(&[b"", b"one", &large, b"a\nb", b""]);
    arrives(&["--frames"], &["--frames"], &input, &input);
}

#[test]
fn frames_come_out_as_lines_where_lines_are_wanted() {
    arrives(&["--lines"], &["--frames"], &frames(&[b"one", b"", b"two"]), b"one\n\ntwo\n");
    arrives(&["--frames"], &["--lines"], b"one\n\ntwo", &frames(&[b"one", b"", b"two"]));
}

/// The confirmation of a transfer of 3 messages with 5 bytes looks like this.
fn end_note(messages: u64, bytes: u64) -> Vec<u8> {
    [b"\x89ringw\r\n\x01\0\x04\0\0\0\0\0".as_slice(), &messages.to_le_bytes(), &bytes.to_le_bytes()].concat()
}

#[test]
fn data_that_looks_like_the_protocol_is_data() {
    let (first, last) = (end_note(0, 0), end_note(3, 69));
    let input = frames(&[&first, b"hello", &last, &last]);
    arrives(&["--frames"], &["--frames"], &input, &input);
    arrives(&[], &[], &first, &first);
    arrives(&["--frames"], &["--frames"], &frames(&[&first]), &frames(&[&first]));
}

#[test]
fn one_listener_serves_many_senders() {
    let scratch = scratch();
    let mut listener = scratch.start_open(&["listen", "box", "--keep", "--lines"]);
    scratch.wait_for_name("box");
    for line in ["one\n", "two\n"] {
        scratch.run(&["send", "box", "--lines"], line.as_bytes()).expect(0);
        assert_eq!(listener.read(4), line.as_bytes());
    }
    // A second sender waits for its turn, and one that fails does not end the listener.
    let mut first = scratch.start_open(&["send", "box", "--lines"]);
    first.feed(b"three\n".to_vec(), false);
    assert_eq!(listener.read(6), b"three\n");
    let second = scratch.start(&["send", "box", "--lines"], Some(b"four\n"));
    first.signal("KILL");
    second.wait().expect(0);
    assert_eq!(listener.read(5), b"four\n");
    listener.signal("INT");
    let outcome = listener.wait().expect(0);
    assert!(outcome.stderr.contains("died"), "{}", outcome.stderr);
    assert!(scratch.names().is_empty());
}

#[test]
fn the_summary_is_json_where_it_is_wanted() {
    let (listener, sender) = transfer(&["--lines", "--json"], &["--lines", "--json"], b"one\ntwo\n");
    for (outcome, event) in [(listener.expect(0), "received"), (sender.expect(0), "sent")] {
        let summary: Value = serde_json::from_str(&outcome.stderr).unwrap();
        assert_eq!(summary["event"], event);
        assert_eq!((&summary["messages"], &summary["bytes"]), (&2.into(), &6.into()), "{summary}");
        assert!(summary["bytes_per_second"].is_number(), "{summary}");
    }
}

#[test]
fn an_echo_answers_senders_and_clients_of_the_library() {
    let scratch = scratch();
    let echo = scratch.start(&["echo", "back", "--json"], None);
    scratch.wait_for_name("back");
    let path = scratch.path().join("back.sock");
    let mut client = ringway::connect(path.to_str().unwrap()).unwrap();
    let lines: String = (0..200_000).map(|number| format!("line {number}\n")).collect();
    let answered = scratch.run(&["send", "back", "--answers", "--lines"], lines.as_bytes()).expect(0);
    assert!(answered.text() == lines);
    for message in [b"hello".as_slice(), b"", &noise(2 << 20, 3)] {
        client.send(message).unwrap();
        assert!(&*client.recv_timeout(crate::support::DEADLINE).unwrap() == message);
    }
    let bytes = noise(20 << 20, 9);
    let answered = scratch.run(&["send", "back", "--answers"], &bytes).expect(0);
    assert!(answered.stdout == bytes);
    let input = frames(&[&end_note(0, 0), b"", &end_note(2, 32)]);
    let answered = scratch.run(&["send", "back", "--answers", "--frames"], &input).expect(0);
    assert!(answered.stdout == input);
    // Answers that nobody asked for do not fill anything up.
    scratch.run(&["send", "back"], &bytes).expect(0);
    echo.signal("TERM");
    let summary: Value = serde_json::from_str(&echo.wait().expect(0).stderr).unwrap();
    assert_eq!(summary["event"], "answered");
    assert!(scratch.names().is_empty());
}

#[test]
fn an_echo_cuts_off_who_does_not_read_and_serves_the_others() {
    let scratch = scratch();
    let echo = scratch.start(&["echo", "back"], None);
    scratch.wait_for_name("back");
    let path = scratch.path().join("back.sock");
    let mut client = ringway::connect(path.to_str().unwrap()).unwrap();
    // More than fits into both rings.
    let _ = client.sender().send_timeout(&noise(30 << 20, 5), crate::support::DEADLINE);
    let answered = scratch.run(&["send", "back", "--answers", "--lines"], b"still here\n").expect(0);
    assert_eq!(answered.text(), "still here\n");
    echo.signal("INT");
    assert!(echo.wait().expect(0).stderr.contains("does not read its answers"));
}
