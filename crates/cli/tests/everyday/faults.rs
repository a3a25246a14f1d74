//! What goes wrong, and how that is told.

use crate::support::{DEADLINE, frames, noise, scratch};
use ringway::Listener;
use serde_json::Value;
use std::fs::{self, Permissions};
use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::thread;

#[test]
fn a_sender_that_nobody_hears_runs_out_of_time() {
    let scratch = scratch();
    let outcome = scratch.run(&["send", "nobody", "--timeout", "0.2"], b"x").expect(3);
    assert!(outcome.stderr.contains("nobody listens"), "{}", outcome.stderr);
}

#[test]
fn a_listener_to_whom_nobody_speaks_runs_out_of_time() {
    let scratch = scratch();
    let outcome = scratch.run(&["listen", "box", "--timeout", "0.2"], b"").expect(3);
    assert!(outcome.stderr.contains("no sender came"), "{}", outcome.stderr);
    assert!(scratch.names().is_empty());
}

#[test]
fn a_sender_whose_turn_does_not_come_runs_out_of_time() {
    let scratch = scratch();
    let mut listener = scratch.start_open(&["listen", "box", "--keep"]);
    let mut first = scratch.start_open(&["send", "box"]);
    first.feed(b"mine".to_vec(), false);
    assert_eq!(listener.read(4), b"mine");
    let second = scratch.run(&["send", "box", "--timeout", "0.3"], b"x").expect(3);
    assert!(second.stderr.contains("another sender"), "{}", second.stderr);
}

#[test]
fn a_line_that_is_too_long_is_named_with_the_limit() {
    let scratch = scratch();
    let listener = scratch.start(&["listen", "box", "--lines", "--message-bytes-max", "100"], None);
    let input = format!("one\n{}\n{}\nfour\n", "x".repeat(100), "y".repeat(101));
    let sender = scratch.run(&["send", "box", "--lines"], input.as_bytes()).expect(1);
    for part in ["line 3", "100 bytes", "--message-bytes-max"] {
        assert!(sender.stderr.contains(part), "{}", sender.stderr);
    }
    let listener = listener.wait().expect(4);
    assert_eq!(listener.text(), format!("one\n{}\n", "x".repeat(100)));
    assert!(listener.stderr.contains("gave up"), "{}", listener.stderr);
}

#[test]
fn a_frame_that_is_too_long_or_cut_short_is_named() {
    for (second, part) in
        [(&b"\xff\xff\xff\x7f"[..], "frame 2 is longer"), (b"\x09\0\0\0abc", "within frame 2")]
    {
        let scratch = scratch();
        let listener = scratch.start(&["listen", "box", "--frames"], None);
        let input = [&frames(&[b"one"]), second].concat();
        let sender = scratch.run(&["send", "box", "--frames"], &input).expect(1);
        assert!(sender.stderr.contains(part), "{}", sender.stderr);
        let listener = listener.wait().expect(4);
        assert_eq!(listener.stdout, frames(&[b"one"]));
    }
}

#[test]
fn a_sender_learns_of_the_death_of_its_listener() {
    let scratch = scratch();
    let mut listener = scratch.start_open(&["listen", "box"]);
    let mut sender = scratch.start_open(&["send", "box"]);
    sender.feed(noise(1 << 20, 1), false);
    assert_eq!(listener.read(1 << 20), noise(1 << 20, 1));
    // Its input stays open and says nothing more.
    listener.signal("KILL");
    let outcome = sender.wait().expect(4);
    assert!(
        outcome.stderr.contains("1048576 bytes") && outcome.stderr.contains("not confirmed"),
        "{}",
        outcome.stderr
    );
}

#[test]
fn a_sender_in_the_middle_learns_of_the_death_of_its_listener() {
    let scratch = scratch();
    // Nobody reads the listener's output, so everything fills up.
    let mut listener = scratch.start_open(&["listen", "box"]);
    let sender = scratch.start(&["send", "box", "--json"], Some(&noise(64 << 20, 2)));
    listener.read(1 << 20);
    listener.signal("KILL");
    let error: Value = serde_json::from_str(&sender.wait().expect(4).stderr).unwrap();
    assert_eq!(error["code"], 4);
    assert!(error["error"].as_str().unwrap().contains("died"), "{error}");
}

#[test]
fn what_a_sender_had_sent_before_it_died_is_written() {
    let scratch = scratch();
    let listener = scratch.start(&["listen", "box"], None);
    let mut sender = scratch.start_open(&["send", "box"]);
    let input = noise(3 << 20, 3);
    sender.feed(input.clone(), false);
    // More than a pipe holds and one read takes: when this is in, all of the input was sent.
    sender.feed(vec![0; 2 << 20], false);
    sender.signal("KILL");
    let outcome = listener.wait().expect(4);
    assert!(outcome.stdout.len() >= input.len() && outcome.stdout[..input.len()] == input);
    assert!(outcome.stderr.contains("died") && outcome.stderr.contains("were written"), "{}", outcome.stderr);
}

#[test]
fn a_server_of_the_library_is_no_listener() {
    let scratch = scratch();
    let path = scratch.path().join("plain.sock");
    let mut listener = Listener::bind(path.to_str().unwrap()).unwrap();
    let server = thread::spawn(move || {
        let mut connection = listener.accept_timeout(DEADLINE).unwrap();
        while let Ok(message) = connection.recv_timeout(DEADLINE).map(|message| message.to_vec()) {
            let _ = connection.send(&message);
        }
    });
    let outcome = scratch.run(&["send", "plain"], b"x").expect(6);
    assert!(outcome.stderr.contains("no listener"), "{}", outcome.stderr);
    server.join().unwrap();
}

#[test]
fn a_server_that_says_something_else_is_no_listener() {
    let scratch = scratch();
    let path = scratch.path().join("plain.sock");
    let mut listener = Listener::bind(path.to_str().unwrap()).unwrap();
    let server = thread::spawn(move || {
        let mut connection = listener.accept_timeout(DEADLINE).unwrap();
        connection.send(b"welcome to another service").unwrap();
        let _ = connection.recv_timeout(DEADLINE);
    });
    let outcome = scratch.run(&["send", "plain"], b"x").expect(6);
    assert!(outcome.stderr.contains("no peer for this command"), "{}", outcome.stderr);
    server.join().unwrap();
}

#[test]
fn a_socket_that_speaks_garbage_is_no_listener() {
    let scratch = scratch();
    let listener = UnixListener::bind(scratch.path().join("garbage.sock")).unwrap();
    let server = thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        stream.write_all(&noise(4096, 4)).unwrap();
        let _ = stream.read(&mut [0; 4096]);
    });
    scratch.run(&["send", "garbage"], b"x").expect(6);
    server.join().unwrap();
}

#[test]
fn a_client_of_the_library_is_no_sender() {
    for greets in [true, false] {
        let scratch = scratch();
        let listener = scratch.start(&["listen", "box"], None);
        scratch.wait_for_name("box");
        let path = scratch.path().join("box.sock");
        let mut client = ringway::connect(path.to_str().unwrap()).unwrap();
        if greets {
            client.send(b"hello").unwrap();
        }
        client.close();
        let outcome = listener.wait().expect(6);
        assert!(outcome.stderr.contains("no peer for this command"), "{}", outcome.stderr);
        assert!(outcome.stdout.is_empty());
    }
}

#[test]
fn bytes_are_not_taken_for_messages() {
    let scratch = scratch();
    let listener = scratch.start(&["listen", "box", "--lines"], None);
    let sender = scratch.run(&["send", "box"], b"x").expect(6);
    assert!(sender.stderr.contains("--lines"), "{}", sender.stderr);
    listener.wait().expect(6);
}

#[test]
fn a_listener_gives_no_answers() {
    let scratch = scratch();
    let listener = scratch.start(&["listen", "box"], None);
    let sender = scratch.run(&["send", "box", "--answers"], b"x").expect(6);
    assert!(sender.stderr.contains("ringway echo"), "{}", sender.stderr);
    assert_ne!(listener.wait().code, Some(0));
}

#[test]
fn a_directory_that_others_may_write_is_a_matter_of_permission() {
    let scratch = scratch();
    fs::set_permissions(scratch.path(), Permissions::from_mode(0o777)).unwrap();
    let outcome = scratch.run(&["listen", "box", "--json"], b"").expect(5);
    let error: Value = serde_json::from_str(&outcome.stderr).unwrap();
    assert!(error["error"].as_str().unwrap().contains("mode 0777"), "{error}");
    assert_eq!(error["code"], 5);
}

#[test]
fn arguments_that_make_no_sense_are_usage() {
    let scratch = scratch();
    for args in [
        &["listen"][..],
        &["listen", "a b"],
        &["send", "box", "--lines", "--frames"],
        &["listen", "box", "--timeout", "-1"],
        &["listen", "box", "--message-bytes-max", "1"],
        &["nonsense"],
    ] {
        scratch.run(args, b"").expect(2);
    }
    let outcome = scratch.run(&["send", "--json"], b"").expect(2);
    let error: Value = serde_json::from_str(&outcome.stderr).unwrap();
    assert_eq!(error["code"], 2);
}

#[test]
fn a_name_in_use_is_a_failure() {
    let scratch = scratch();
    let _first = scratch.start(&["listen", "box"], None);
    scratch.wait_for_name("box");
    assert!(scratch.run(&["listen", "box"], b"").expect(1).stderr.contains("in use"));
}

#[test]
fn a_closed_output_ends_the_listener_quietly_and_tells_the_sender() {
    let scratch = scratch();
    let mut listener = scratch.start_open(&["listen", "box", "--lines"]);
    let sender = scratch.start(&["send", "box", "--lines"], Some(&b"yes\n".repeat(10 << 20)));
    assert_eq!(listener.read(4), b"yes\n");
    listener.close_output();
    assert_eq!(listener.wait().expect(0).stderr, "");
    let sender = sender.wait().expect(4);
    assert!(sender.stderr.contains("has closed it"), "{}", sender.stderr);
}

#[test]
fn a_listener_that_keeps_on_ends_with_its_output_and_leaves_no_name() {
    let scratch = scratch();
    let mut listener = scratch.start_open(&["listen", "box", "--keep"]);
    scratch.wait_for_name("box");
    listener.close_output();
    scratch.run(&["send", "box"], b"x").expect(4);
    assert_eq!(listener.wait().expect(0).stderr, "");
    assert!(scratch.names().is_empty());
}

#[test]
fn a_listener_that_cannot_write_fails_and_tells_the_sender() {
    let scratch = scratch();
    let full = fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let mut listener = scratch.command(&["listen", "box"]).stdout(full).spawn().unwrap();
    let sender = scratch.run(&["send", "box"], &noise(1 << 20, 6)).expect(4);
    assert!(sender.stderr.contains("cannot write its output"), "{}", sender.stderr);
    assert_eq!(listener.wait().unwrap().code(), Some(1));
}

#[test]
fn an_interrupted_listener_leaves_no_name() {
    let scratch = scratch();
    let listener = scratch.start(&["listen", "box"], None);
    scratch.wait_for_name("box");
    listener.signal("INT");
    assert_eq!(listener.wait().code, None, "ended by the signal");
    assert!(scratch.names().is_empty());
}

#[test]
fn an_input_that_cannot_be_read_is_a_failure() {
    let scratch = scratch();
    let listener = scratch.start(&["listen", "box"], None);
    let folder = fs::File::open(scratch.path()).unwrap();
    let sender = scratch.command(&["send", "box"]).stdin(folder).output().unwrap();
    assert_eq!(sender.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&sender.stderr).contains("cannot read the standard input"));
    listener.wait().expect(4);
}
