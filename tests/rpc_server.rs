//! The server in a process of its own, against clients that keep the protocol and clients that do not.
#![cfg(feature = "rpc")]
#![allow(clippy::unwrap_used, reason = "what fails in a test may panic")]

mod common;
#[path = "rpc_server/raw.rs"]
mod raw;
#[path = "rpc_server/role.rs"]
mod role;

use common::{DEADLINE, Peer, Scratch, check, hang_guard, message, mixed_len, scratch_dir, wait_until};
use raw::{
    CANCEL, CONTROL, CREDIT, FAILED, GOING_AWAY, PING, PONG, RESPONSE, Raw, SETTINGS, STREAMING, asked, frame,
};
use ringway::rpc::Code;
use ringway::{Config, TrySendError, Wait};
use role::kind;

#[test]
fn peer_process() {
    common::run_role(&[("serve", role::serve), ("nag", nag)]);
}

struct Fixture {
    server: Peer,
    socket: String,
    _scratch: Scratch,
    _guard: common::HangGuard,
}

impl Fixture {
    fn new() -> Self {
        Self::with(1, 64, 0)
    }

    fn with(workers: u32, calls_max: u32, heartbeat_ms: u32) -> Self {
        let guard = hang_guard();
        let scratch = scratch_dir();
        let socket = scratch.socket("test");
        let [workers, calls_max, beat] = [workers, calls_max, heartbeat_ms].map(|number| number.to_string());
        let variables = [
            ("SOCKET", socket.as_str()),
            ("WORKERS", &workers),
            ("CALLS_MAX", &calls_max),
            ("HEARTBEAT_MS", &beat),
        ];
        let mut server = Peer::spawn("serve", &variables);
        server.expect_line("ready");
        Self { server, socket, _scratch: scratch, _guard: guard }
    }

    fn connect(&self) -> Raw {
        Raw::connect(&self.socket)
    }

    /// Stops the server; returns whether all was finished, and what it counted.
    fn stop(mut self, timeout_ms: u32) -> (bool, String) {
        self.server.send_line(&timeout_ms.to_string());
        let complete = self.server.next_line() == "complete true";
        let stats = self.server.next_line();
        self.server.finish();
        (complete, stats)
    }
}

fn number(raw: &mut Raw, kind: u16) -> u64 {
    raw.ask(kind, u64::MAX, &[]);
    u64::from_le_bytes(raw.hear_response(u64::MAX).try_into().unwrap())
}

#[test]
fn calls_of_all_lengths_are_answered_with_their_content() {
    let server = Fixture::new();
    let mut raw = server.connect();
    for id in 1..=2_000 {
        let body = message(id, mixed_len(id, 5_000));
        raw.ask(kind::ECHO, id, &body);
        check(&raw.hear_response(id), id, body.len());
    }
    // Longer than a record, both ways.
    for (id, len) in [(5_001, 300_000), (5_002, 2_000_000), (5_003, 0)] {
        raw.ask(kind::ECHO, id, &message(id, len));
        check(&raw.hear_response(id), id, len);
    }
    assert_eq!(raw.calls_max, 64);
    drop(raw);
    let (complete, stats) = server.stop(10_000);
    assert!(complete && stats.contains("calls: 2003, one_way: 0, failed: 0"), "{stats}");
}

#[test]
fn failures_are_values_and_a_type_without_a_handler_is_one() {
    let server = Fixture::new();
    let mut raw = server.connect();
    raw.ask(kind::FAIL, 1, "grüße".as_bytes());
    assert_eq!(raw.hear_failure(1), (1_234, "grüße".into()));
    raw.ask(kind::FAIL, 2, "ü".repeat(3_000).as_bytes());
    assert_eq!(raw.hear_failure(2).1, "ü".repeat(2_048), "cut at 4 KiB, between characters");
    raw.ask(99, 3, b"");
    let (code, text) = raw.hear_failure(3);
    assert_eq!((Code(code), text.as_str()), (Code::UNIMPLEMENTED, "no handler for message type 99"));
    raw.ask(kind::PARTS, 4, &1_u64.to_le_bytes());
    assert_eq!(Code(raw.hear_failure(4).0), Code::INVALID_ARGUMENT, "parts for a call without a stream");
    raw.ask(kind::ECHO, 5, b"still here");
    assert_eq!(raw.hear_response(5), b"still here");
}

#[test]
fn a_panic_is_a_failure_of_its_call_and_nothing_else() {
    let server = Fixture::new();
    let mut raw = server.connect();
    for (id, kind, text) in [
        (1, kind::PANIC, "the handler panicked: on purpose"),
        (2, kind::PANIC_LATER, "the handler panicked: later, on purpose"),
        (3, kind::BLOCK, "the handler panicked: blocking, on purpose"),
    ] {
        raw.ask(kind, id, &[]);
        assert_eq!(raw.hear_failure(id), (Code::INTERNAL.0, text.into()));
    }
    raw.ask(kind::BLOCK, 4, b"abc");
    assert_eq!(raw.hear_response(4), b"cba");
    drop(raw);
    let (_, stats) = server.stop(10_000);
    assert!(stats.contains("panics: 3"), "{stats}");
}

#[test]
fn typed_handlers_see_values_and_refuse_what_is_none() {
    let server = Fixture::new();
    let mut raw = server.connect();
    for kind in [kind::UPPER, kind::UPPER_LATER, kind::UPPER_BLOCKING] {
        raw.ask(kind, 1, "grün".as_bytes());
        assert_eq!(raw.hear_response(1), "GRÜN".as_bytes());
        raw.ask(kind, 2, b"");
        assert_eq!(raw.hear_failure(2), (Code::INVALID_ARGUMENT.0, "nothing to write large".into()));
        raw.ask(kind, 3, b"\xff");
        let (code, text) = raw.hear_failure(3);
        assert!(Code(code) == Code::INVALID_ARGUMENT && text.contains("utf-8"), "{text}");
    }
    raw.ask_for_stream(kind::NUMBERS, 4, 1_000, b"abc");
    assert_eq!([raw.hear().payload, raw.hear().payload, raw.hear().payload], [b"1", b"2", b"3"]);
    assert_eq!(raw.hear_response(4), b"");
    raw.ask_for_stream(kind::NUMBERS, 5, 1_000, b"\xff");
    assert_eq!(Code(raw.hear_failure(5).0), Code::INVALID_ARGUMENT);
}

#[test]
fn one_way_messages_are_run_and_not_answered() {
    let server = Fixture::with(1, 2, 0);
    let mut raw = server.connect();
    for number in 1..=1_000_u64 {
        // More of the later kind at once than calls are allowed: the rest waits in the ring, none is lost.
        let kind = if number % 2 == 0 { kind::NOTE } else { kind::NOTE_LATER };
        raw.say(0, kind, 0, &number.to_le_bytes());
    }
    raw.say(0, 99, 0, b"nobody handles this");
    wait_until("all notes are counted", || number(&mut raw, kind::COUNT) == 500_500);
}

#[test]
fn what_breaks_the_protocol_ends_the_connection_and_no_other() {
    let mut server = Fixture::new();
    let mut good = server.connect();
    let mut broken = frame(raw::REQUEST, kind::ECHO, 1, &asked(0, 0, b"x"));
    *broken.last_mut().unwrap() ^= 1;
    let attacks: [(&str, Vec<u8>); 9] = [
        ("too short", vec![0; 10]),
        ("begins with", vec![0; 100]),
        ("checksum", broken),
        ("is of version", {
            let mut frame = frame(0, 1, 1, b"");
            frame[4] = 9;
            frame
        }),
        ("flags", frame(0x41, 1, 1, b"")),
        ("reserved type", frame(CONTROL, 77, 1, b"")),
        ("cannot have 7 payload bytes", frame(raw::REQUEST, 1, 1, &[0; 7])),
        ("out of turn", frame(RESPONSE, 1, 1, b"an answer to nobody")),
        ("announces", {
            let mut frame = frame(0, 1, 1, b"abc");
            frame[8] = 200;
            frame
        }),
    ];
    for (expected, attack) in attacks {
        let mut liar = server.connect();
        liar.connection.send(&attack).unwrap();
        liar.hear_end();
        let line = server.server.next_line();
        assert!(line.starts_with("violation of") && line.contains(expected), "{line}");
        good.ask(kind::ECHO, 1, b"unharmed");
        assert_eq!(good.hear_response(1), b"unharmed");
    }
    drop(good);
    assert!(server.stop(10_000).1.contains("violations: 9"));
}

#[test]
fn an_id_in_flight_cannot_be_used_again_and_the_limit_is_answered() {
    let mut server = Fixture::with(1, 3, 0);
    let mut raw = server.connect();
    for id in 1..=3 {
        raw.ask(kind::NEVER, id, b"");
    }
    raw.ask(kind::NEVER, 4, b"");
    assert_eq!(Code(raw.hear_failure(4).0), Code::RESOURCE_EXHAUSTED);
    raw.ask(kind::ECHO, 5, b"what is answered at once does not count");
    raw.hear_response(5);
    raw.say(CONTROL, CANCEL, 2, &[]);
    raw.ask(kind::YIELD, 6, b"a place is free");
    assert_eq!(raw.hear_response(6), b"a place is free");
    raw.ask(kind::NEVER, 1, b"");
    raw.hear_end();
    assert!(server.server.next_line().contains("call 1 came out of turn"));
}

#[test]
fn a_cancelled_call_is_dropped_where_it_waits_and_not_answered() {
    let server = Fixture::new();
    let mut raw = server.connect();
    for id in 1..=50 {
        raw.ask(kind::NEVER, id, b"");
        // Done only after the worker has polled the other.
        raw.ask(kind::YIELD, 100 + id, b"");
        raw.hear_response(100 + id);
        raw.say(CONTROL, CANCEL, id, &[]);
        raw.say(CONTROL, CANCEL, id, &[]);
    }
    raw.ask_for_stream(kind::PARTS, 60, 10, &u64::MAX.to_le_bytes());
    assert_eq!(raw.hear().flags, RESPONSE | STREAMING);
    raw.say(CONTROL, CANCEL, 60, &[]);
    assert_eq!(number(&mut raw, kind::DROPPED), 51);
    drop(raw);
    let (complete, stats) = server.stop(10_000);
    assert!(complete && stats.contains("cancelled: 51"), "{stats}");
}

#[test]
fn a_call_is_ended_when_its_time_is_up() {
    let server = Fixture::new();
    let mut raw = server.connect();
    raw.say(raw::REQUEST, kind::NEVER, 1, &asked(20_000, 0, b""));
    raw.say(raw::REQUEST, kind::YIELD, 2, &asked(60_000_000, 0, b"in time"));
    assert_eq!(raw.hear_response(2), b"in time");
    assert_eq!(Code(raw.hear_failure(1).0), Code::DEADLINE_EXCEEDED);
    assert_eq!(number(&mut raw, kind::DROPPED), 1);
    drop(raw);
    assert!(server.stop(10_000).1.contains("expired: 1"));
}

#[test]
fn the_calls_of_a_client_that_dies_are_dropped() {
    let server = Fixture::new();
    let mut raw = server.connect();
    for _ in 0..3 {
        let mut other = server.connect();
        other.ask(kind::NEVER, 1, b"");
        other.ask_for_stream(kind::PARTS, 2, 1, &u64::MAX.to_le_bytes());
        other.hear();
    }
    wait_until("all six are dropped", || number(&mut raw, kind::DROPPED) == 6);
}

#[test]
fn a_stream_goes_as_far_as_its_window_and_ends_with_an_empty_response() {
    let server = Fixture::new();
    let mut raw = server.connect();
    raw.ask_for_stream(kind::PARTS, 1, 2_500, &10_u64.to_le_bytes());
    for part in 0..3 {
        let frame = raw.hear();
        assert_eq!((frame.flags, frame.id), (RESPONSE | STREAMING, 1));
        check(&frame.payload, part, 1_000);
    }
    // The window is 500 below zero; nothing more was made, let alone sent.
    assert_eq!(number(&mut raw, kind::MADE), 3);
    raw.say(CONTROL, CREDIT, 1, &501_u32.to_le_bytes());
    check(&raw.hear().payload, 3, 1_000);
    assert_eq!(number(&mut raw, kind::MADE), 4);
    raw.say(CONTROL, CREDIT, 1, &1_000_000_u32.to_le_bytes());
    for part in 4..10 {
        check(&raw.hear().payload, part, 1_000);
    }
    assert_eq!(raw.hear_response(1), b"", "the end");
    raw.say(CONTROL, CREDIT, 1, &1_u32.to_le_bytes());
    raw.ask_for_stream(kind::ECHO, 2, 100, b"whole");
    assert_eq!((raw.hear().payload, raw.hear_response(2)), (b"whole".to_vec(), Vec::new()));
}

#[test]
fn a_stream_goes_on_when_what_waited_for_room_went_with_another_answer() {
    let server = Fixture::new();
    let (mut raw, mut other) = (server.connect(), server.connect());
    let file = server._scratch.path().join("read");
    raw.ask(kind::WAIT, 1, file.to_str().unwrap().as_bytes());
    raw.say(0, kind::WAIT, 0, b"");
    raw.ask_for_stream(kind::PARTS, 2, u32::MAX, &10_000_u64.to_le_bytes());
    // Our ring is full then, and the server keeps as much as it is willing to.
    let mut made = 0;
    wait_until("no more is made", || {
        let before = std::mem::replace(&mut made, number(&mut other, kind::MADE));
        made > 2_500 && made == before
    });
    other.say(0, kind::LET_GO, 0, b"");
    wait_until("the worker is held up", || file.with_extension("held").exists());
    // When the ring is empty all that was kept finds room with the answer, and then the one-way message ends.
    let mut parts = 0;
    let mut take = |message: &[u8]| {
        if message[5] == RESPONSE | STREAMING {
            check(&message[24..], parts, 1_000);
            parts += 1;
        }
        message[5] == RESPONSE && message[12] == 2
    };
    while let Ok(message) = raw.connection.try_recv() {
        take(&message);
    }
    std::fs::write(&file, b"").unwrap();
    while !take(&raw.connection.recv_timeout(DEADLINE / 4).unwrap()) {}
    assert_eq!(parts, 10_000);
}

#[test]
fn a_stream_of_a_handler_that_blocks_comes_in_order_and_fails_where_it_fails() {
    let server = Fixture::new();
    let mut raw = server.connect();
    raw.ask_for_stream(kind::ITER, 1, 1_000_000, &12_u64.to_le_bytes());
    raw.ask_for_stream(kind::ITER, 2, 1_000_000, &100_u64.to_le_bytes());
    let (mut next, mut ended) = ([0_u64; 2], 0);
    while ended < 2 {
        let frame = raw.hear();
        let stream = frame.id as usize - 1;
        match (frame.flags, frame.kind) {
            (RESPONSE, FAILED) => {
                assert_eq!((frame.id, next[1]), (2, 13));
                ended += 1;
            }
            (RESPONSE, _) => {
                assert_eq!((frame.id, next[0]), (1, 12));
                ended += 1;
            }
            _ => {
                check(&frame.payload, next[stream], 100);
                next[stream] += 1;
            }
        }
    }
}

#[test]
fn a_client_that_never_reads_holds_up_nobody_and_costs_a_bounded_amount() {
    let server = Fixture::new();
    let mut deaf = server.connect();
    let request = frame(raw::REQUEST, kind::BLOW_UP, 1, &asked(0, 0, &100_000_u64.to_le_bytes()));
    let mut sent = 0_u64;
    let mut good = server.connect();
    // The server stops reading when it has made so much for us that nobody takes: our ring fills up.
    loop {
        match deaf.connection.try_send(&request) {
            Ok(()) => sent += 1,
            Err(TrySendError::Full) => break,
            Err(error) => panic!("{error}"),
        }
        if sent.is_multiple_of(100) {
            good.ask(kind::ECHO, sent, b"served");
            assert_eq!(good.hear_response(sent), b"served");
        }
    }
    let ring_records = (1 << 20) / 48;
    assert!(sent < ring_records + 100, "{sent} requests were taken; the ring holds {ring_records}");
    for _ in 0..100 {
        good.ask(kind::ECHO, 1, b"served");
        good.hear_response(1);
    }
    // Now it reads, and gets every answer.
    for _ in 0..sent {
        assert_eq!(deaf.hear_response(1).len(), 100_000);
    }
    deaf.ask(kind::ECHO, 2, b"served too");
    assert_eq!(deaf.hear_response(2), b"served too");
}

#[test]
fn a_response_longer_than_the_client_accepts_is_a_failure_that_says_so() {
    let server = Fixture::new();
    let mut raw = Raw::with(&Config::new().wait(Wait::Sleep).message_bytes_max(10_000), &server.socket);
    raw.ask(kind::BLOW_UP, 1, &20_000_u64.to_le_bytes());
    let (code, text) = raw.hear_failure(1);
    assert_eq!(Code(code), Code::RESOURCE_EXHAUSTED);
    assert!(text.contains("20024 bytes") && text.contains("accepts 10000"), "{text}");
    raw.ask(kind::BLOW_UP, 2, &9_976_u64.to_le_bytes());
    assert_eq!(raw.hear_response(2).len(), 9_976);
}

/// Floods the server with calls and reads the answers, for ever.
fn nag() {
    let mut raw = Raw::connect(&common::variable("SOCKET"));
    let (mut asked, mut answered) = (0_u64, 0_u64);
    loop {
        while asked - answered < 1_000 {
            raw.ask(kind::ECHO, asked, b"nag");
            asked += 1;
        }
        raw.hear_response(answered);
        answered += 1;
        if answered == 10_000 {
            common::say("busy");
        }
    }
}

#[test]
fn clients_that_flood_or_are_killed_starve_nobody() {
    let server = Fixture::with(2, 64, 0);
    let mut nags: Vec<Peer> = (0..3).map(|_| Peer::spawn("nag", &[("SOCKET", &server.socket)])).collect();
    nags.iter_mut().for_each(|nag| nag.expect_line("busy"));
    for round in 0..10 {
        let mut raw = server.connect();
        for id in 0..20 {
            raw.ask(kind::ECHO, id, b"small");
            assert_eq!(raw.hear_response(id), b"small");
        }
        if round == 5 {
            nags[0].kill9();
        }
    }
    drop(nags);
    let mut raw = server.connect();
    raw.ask(kind::YIELD, 1, b"after them");
    assert_eq!(raw.hear_response(1), b"after them");
}

#[test]
fn a_shutdown_finishes_what_is_in_flight_and_tells_everybody() {
    let mut server = Fixture::new();
    let mut raw = server.connect();
    raw.ask_for_stream(kind::PARTS, 1, 500, &2_u64.to_le_bytes());
    check(&raw.hear().payload, 0, 1_000);
    server.server.send_line("30000");
    let frame = raw.hear();
    assert_eq!((frame.flags, frame.kind), (CONTROL, GOING_AWAY));
    // The stream still waits for us, so the server waits for it, and still answers.
    raw.ask(kind::ECHO, 2, b"crossed on the way");
    assert_eq!(raw.hear_response(2), b"crossed on the way");
    raw.say(CONTROL, CREDIT, 1, &10_000_u32.to_le_bytes());
    check(&raw.hear().payload, 1, 1_000);
    assert_eq!(raw.hear_response(1), b"");
    server.server.expect_line("complete true");
    raw.hear_end();
}

#[test]
fn a_shutdown_does_not_wait_for_ever() {
    let server = Fixture::new();
    let mut raw = server.connect();
    raw.ask(kind::NEVER, 1, b"");
    assert_eq!(number(&mut raw, kind::DROPPED), 0);
    let (complete, _) = server.stop(50);
    assert!(!complete);
    raw.hear_end();
}

#[test]
fn a_heartbeat_lets_go_of_a_client_that_is_silent_and_keeps_one_that_answers() {
    let server = Fixture::with(1, 64, 50);
    let mut silent = server.connect();
    let mut raw = server.connect();
    for _ in 0..5 {
        let ping = raw.hear();
        assert_eq!((ping.flags, ping.kind), (CONTROL, PING));
        raw.say(CONTROL, PONG, ping.id, &[]);
    }
    silent.hear_end();
    raw.say(CONTROL, PING, 77, &[]);
    let pong = std::iter::repeat_with(|| raw.hear()).find(|frame| frame.kind != PING).unwrap();
    assert_eq!((pong.flags, pong.kind, pong.id), (CONTROL, PONG, 77));
}

#[test]
fn a_heartbeat_keeps_a_client_that_is_not_read_because_its_messages_take_long() {
    let server = Fixture::with(1, 2, 20);
    let mut held_back = server.connect();
    for _ in 0..2 {
        held_back.say(0, kind::NEVER, 0, &[]);
    }
    let mut raw = server.connect();
    for _ in 0..10 {
        let ping = raw.hear();
        assert_eq!((ping.flags, ping.kind), (CONTROL, PING));
        raw.say(CONTROL, PONG, ping.id, &[]);
        while let Ok(message) = held_back.connection.try_recv().map(|message| message.to_vec()) {
            assert_eq!(message[5..8], frame(CONTROL, PING, 0, &[])[5..8]);
            held_back.say(CONTROL, PONG, 0, &[]);
        }
    }
    assert!(matches!(held_back.connection.try_recv(), Err(ringway::TryRecvError::Empty)));
}

#[test]
fn checksums_stop_when_both_sides_want_that_and_not_before() {
    let server = Fixture::new();
    let mut raw = server.connect();
    // This server wants them, so our offer changes nothing.
    let mut settings = [0; 16];
    (settings[0], settings[4]) = (1, 1);
    raw.say(CONTROL, SETTINGS, 0, &settings);
    raw.ask(kind::ECHO, 1, b"checked");
    assert_eq!(raw.hear_response(1), b"checked");
    let mut broken = frame(raw::REQUEST, kind::ECHO, 2, &asked(0, 0, b"x"));
    broken[20..24].fill(0);
    raw.connection.send(&broken).unwrap();
    raw.hear_end();
}
