//! `pub` and `sub`: what arrives at whom.

use crate::support::{Running, Scratch, frames, noise, scratch, wait_until};
use serde_json::Value;

/// `count` numbered lines.
fn lines(count: u32) -> String {
    (0..count).map(|number| format!("line {number}\n")).collect()
}

impl Scratch {
    /// Starts receivers of a route and waits until they are there.
    fn subscribe(&self, count: usize, args: &[&str]) -> Vec<Running> {
        let receivers = (0..count).map(|_| self.start(&[&["sub", "news"], args].concat(), None)).collect();
        self.wait_for_members("news.route.", count);
        receivers
    }

    fn wait_for_members(&self, prefix: &str, count: usize) {
        let is_there = |name: &String| name.starts_with(prefix) && !name.ends_with(".tmp");
        wait_until(&format!("{count} of {prefix}"), || {
            self.names().iter().filter(|name| is_there(name)).count() == count
        });
    }
}

#[track_caller]
fn check_all_get(args: &[&str], input: &[u8], expected: &[u8]) {
    let scratch = scratch();
    let receivers = scratch.subscribe(3, args);
    let sender = scratch.run(&[&["pub", "news", "--wait-for", "3"], args].concat(), input).expect(0);
    assert_eq!((sender.stderr.as_str(), sender.text()), ("", ""));
    for receiver in receivers {
        let receiver = receiver.wait().expect(0);
        assert!(receiver.stdout == expected, "{} bytes of {}", receiver.stdout.len(), expected.len());
        assert_eq!(receiver.stderr, "");
    }
    assert!(scratch.names().is_empty(), "{:?}", scratch.names());
}

#[test]
fn every_receiver_gets_every_line() {
    let input = lines(100_000);
    check_all_get(&["--lines"], input.as_bytes(), input.as_bytes());
    check_all_get(&["--lines"], b"one\n\nlast", b"one\n\nlast\n");
}

#[test]
fn every_receiver_gets_every_byte() {
    let input = noise((24 << 20) + 777, 5);
    check_all_get(&[], &input, &input);
    check_all_get(&["--profile", "latency", "--wait", "sleep"], &input, &input);
}

#[test]
fn every_receiver_gets_every_frame_however_long() {
    let input = frames(&[b"", b"one", &noise(3 << 20, 1), b"a\nb", b""]);
    check_all_get(&["--frames"], &input, &input);
}

#[test]
fn frames_come_out_as_lines_where_lines_are_wanted() {
    let scratch = scratch();
    let receivers = scratch.subscribe(1, &["--lines"]);
    let args = ["pub", "news", "--frames", "--wait-for", "1"];
    scratch.run(&args, &frames(&[b"one", b"", b"two"])).expect(0);
    assert_eq!(receivers.into_iter().next().unwrap().wait().expect(0).text(), "one\n\ntwo\n");
}

#[test]
fn the_sender_may_come_first() {
    let scratch = scratch();
    let sender = scratch.start(&["pub", "news", "--lines", "--wait-for", "2"], Some(b"one\ntwo\n"));
    wait_until("the sender is there", || scratch.names().contains(&"news.route".to_owned()));
    let receivers = [0, 1].map(|_| scratch.start(&["sub", "news", "--lines"], None));
    sender.wait().expect(0);
    for receiver in receivers {
        assert_eq!(receiver.wait().expect(0).text(), "one\ntwo\n");
    }
}

#[test]
fn a_receiver_gets_what_is_sent_from_when_it_came() {
    let scratch = scratch();
    let mut sender = scratch.start_open(&["pub", "news", "--lines", "--wait-for", "1"]);
    let mut first = scratch.start_open(&["sub", "news", "--lines"]);
    sender.feed(b"one\n".to_vec(), false);
    assert_eq!(first.read(4), b"one\n");
    let mut second = scratch.start_open(&["sub", "news", "--lines", "--json", "--verbose"]);
    // It says when it hears the sender.
    let joined: Value = serde_json::from_str(&second.read_line_of_stderr()).unwrap();
    assert_eq!((&joined["event"], &joined["kind"]), (&"joined".into(), &"sender".into()), "{joined}");
    assert_eq!(joined["pid"], sender.id());
    sender.feed(b"two\n".to_vec(), false);
    assert_eq!((first.read(4), second.read(4)), (b"two\n".to_vec(), b"two\n".to_vec()));
    sender.close_input();
    sender.wait().expect(0);
    first.wait().expect(0);
    let second = second.wait().expect(0);
    let summary = second.last_event();
    assert_eq!((&summary["event"], &summary["messages"]), (&"received".into(), &1.into()), "{summary}");
}

#[test]
fn a_late_receiver_gets_the_history_that_it_wants() {
    let scratch = scratch();
    let args = ["pub", "news", "--lines", "--history", "3", "--wait-for", "1"];
    let mut sender = scratch.start_open(&args);
    let mut first = scratch.start_open(&["sub", "news", "--lines"]);
    sender.feed(b"1\n2\n3\n4\n5\n".to_vec(), false);
    assert_eq!(first.read(10), b"1\n2\n3\n4\n5\n");
    for (wants, expected) in
        [(&["--count", "3"][..], "3\n4\n5\n"), (&["--history", "1", "--count", "1"], "5\n")]
    {
        let late = scratch.run(&[&["sub", "news", "--lines"], wants].concat(), b"").expect(0);
        assert_eq!(late.text(), expected);
    }
    let mut none = scratch.start_open(&["sub", "news", "--lines", "--history", "0", "--verbose"]);
    none.read_line_of_stderr();
    sender.feed(b"6\n".to_vec(), false);
    assert_eq!(none.read(2), b"6\n");
}

#[test]
fn a_receiver_ends_after_as_many_messages_as_it_wants() {
    let scratch = scratch();
    let receivers = scratch.subscribe(2, &["--lines", "--count", "2"]);
    let mut sender = scratch.start_open(&["pub", "news", "--lines", "--wait-for", "2"]);
    sender.feed(b"1\n2\n3\n".to_vec(), false);
    for receiver in receivers {
        assert_eq!(receiver.wait().expect(0).text(), "1\n2\n");
    }
    assert!(sender.is_running());
    sender.close_input();
    sender.wait().expect(0);
}

#[test]
fn every_member_of_a_channel_gets_what_all_senders_send() {
    let scratch = scratch();
    let count = (2 * 3000).to_string();
    let args = ["sub", "floor", "--channel", "--lines", "--count", &count];
    let receivers = [0, 1].map(|_| scratch.start(&args, None));
    scratch.wait_for_members("floor.channel.", 2);
    let inputs = ["a", "b"].map(|who| (0..3000).map(|n| format!("{who} {n}\n")).collect::<String>());
    let args = ["pub", "floor", "--channel", "--lines", "--wait-for", "2"];
    let senders = inputs.clone().map(|input| scratch.start(&args, Some(input.as_bytes())));
    for sender in senders {
        sender.wait().expect(0);
    }
    for receiver in receivers {
        let receiver = receiver.wait().expect(0);
        for (who, input) in ["a", "b"].iter().zip(&inputs) {
            let of_one: String = receiver
                .text()
                .lines()
                .filter(|line| line.starts_with(who))
                .map(|line| format!("{line}\n"))
                .collect();
            assert!(of_one == *input, "{who}");
        }
    }
    assert!(scratch.names().is_empty(), "{:?}", scratch.names());
}

#[test]
fn a_receiver_of_a_channel_goes_on_when_a_sender_ends_until_it_is_interrupted() {
    let scratch = scratch();
    let mut receiver = scratch.start_open(&["sub", "floor", "--channel", "--lines", "--json"]);
    scratch.wait_for_members("floor.channel.", 1);
    for line in ["one\n", "two\n"] {
        scratch.run(&["pub", "floor", "--channel", "--lines", "--wait-for", "1"], line.as_bytes()).expect(0);
        assert_eq!(receiver.read(4), line.as_bytes());
    }
    receiver.signal("INT");
    let summary = receiver.wait().expect(0).last_event();
    assert_eq!((&summary["messages"], &summary["lost"]), (&2.into(), &0.into()), "{summary}");
    assert!(scratch.names().is_empty(), "{:?}", scratch.names());
}

#[test]
fn name_spaces_do_not_hear_each_other() {
    let scratch = scratch();
    let [mut mine, mut yours] =
        ["mine-", "yours-"].map(|prefix| scratch.start_open(&["sub", "news", "--lines", "--prefix", prefix]));
    for (prefix, receiver) in [("mine-", &mut mine), ("yours-", &mut yours)] {
        let args = ["pub", "news", "--lines", "--prefix", prefix, "--wait-for", "1"];
        scratch.run(&args, prefix.as_bytes()).expect(0);
        assert_eq!(receiver.read(prefix.len() + 1), format!("{prefix}\n").as_bytes());
    }
    mine.wait().expect(0);
    yours.wait().expect(0);
}

#[test]
fn the_summary_is_json_where_it_is_wanted() {
    let scratch = scratch();
    let receivers = scratch.subscribe(1, &["--lines", "--json"]);
    let args = ["pub", "news", "--lines", "--json", "--wait-for", "1"];
    let sent = scratch.run(&args, b"one\ntwo\n").expect(0).last_event();
    let received = receivers.into_iter().next().unwrap().wait().expect(0).last_event();
    for (summary, event, losses) in
        [(sent, "published", ["dropped", "cut_off"]), (received, "received", ["lost", "cut_off"])]
    {
        assert_eq!(summary["event"], event);
        assert_eq!((&summary["messages"], &summary["bytes"]), (&2.into(), &6.into()), "{summary}");
        losses.iter().for_each(|field| assert_eq!(summary[field], 0, "{summary}"));
    }
}

#[test]
fn what_nobody_hears_is_counted() {
    let scratch = scratch();
    let sent = scratch.run(&["pub", "news", "--lines", "--json"], b"one\ntwo\n").expect(0).last_event();
    assert_eq!((&sent["messages"], &sent["unheard"]), (&2.into(), &2.into()), "{sent}");
    assert!(scratch.names().is_empty(), "{:?}", scratch.names());
}

#[test]
fn who_comes_and_goes_is_said_where_that_is_wanted() {
    let scratch = scratch();
    let receivers = scratch.subscribe(1, &["--lines"]);
    let mut sender = scratch.start_open(&["pub", "news", "--lines", "--verbose"]);
    let pid = receivers[0].id();
    assert_eq!(sender.read_line_of_stderr(), format!("ringway: receiver 1 (process {pid}) joined\n"));
    receivers[0].signal("KILL");
    assert_eq!(sender.read_line_of_stderr(), format!("ringway: receiver 1 (process {pid}) died\n"));
    let late = scratch.start(&["sub", "news"], None);
    let pid = late.id();
    assert_eq!(sender.read_line_of_stderr(), format!("ringway: receiver 2 (process {pid}) joined\n"));
    late.signal("TERM");
    assert_eq!(sender.read_line_of_stderr(), format!("ringway: receiver 2 (process {pid}) left\n"));
}
