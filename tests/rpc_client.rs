//! The client against a server in another process: good, dying, stalled or lying.
#![cfg(feature = "rpc")]
#![allow(clippy::unwrap_used, reason = "what fails in a test may panic")]

mod common;
#[path = "rpc_client/stand_in.rs"]
mod stand_in;

use common::{DEADLINE, Peer, Scratch, check, hang_guard, message, mixed_len, scratch_dir, wait_until};
use ringway::rpc::{CallError, Client, ClientBuilder, Code, FrameError};
use ringway::{CloseReason, Config, ConnectError, Wait};
use stand_in::{Seen, kind};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

#[test]
fn peer_process() {
    common::run_role(&[("server", stand_in::role), ("forking", role_forking)]);
}

struct Fixture {
    _guard: common::HangGuard,
    scratch: Scratch,
    socket: String,
    server: Peer,
    calls_max: String,
    wait: &'static str,
}

impl Fixture {
    fn new(calls_max: u32) -> Self {
        Self::with(calls_max, "auto")
    }

    fn with(calls_max: u32, wait: &'static str) -> Self {
        let _guard = hang_guard();
        let scratch = scratch_dir();
        let socket = scratch.socket("test");
        let calls_max = calls_max.to_string();
        let server = start(&socket, &calls_max, wait);
        Self { _guard, scratch, socket, server, calls_max, wait }
    }

    fn client(&self) -> Client {
        self.build(Client::builder())
    }

    fn build(&self, builder: ClientBuilder) -> Client {
        builder.connect(&self.socket).unwrap()
    }

    /// Starts another server in the place of the one that is dead.
    fn restart(&mut self) {
        self.server = start(&self.socket, &self.calls_max, self.wait);
    }
}

fn start(socket: &str, calls_max: &str, wait: &str) -> Peer {
    let mut server = Peer::spawn("server", &[("SOCKET", socket), ("CALLS_MAX", calls_max), ("WAIT", wait)]);
    server.expect_line("ready");
    server
}

fn plan(parts: u32, bytes: u32) -> [u8; 8] {
    let mut plan = [0; 8];
    plan[..4].copy_from_slice(&parts.to_le_bytes());
    plan[4..].copy_from_slice(&bytes.to_le_bytes());
    plan
}

fn lost(error: &CallError) -> (bool, &CloseReason) {
    match error {
        CallError::Lost { may_have_run, reason } => (*may_have_run, reason),
        other => panic!("{other:?}"),
    }
}

fn assert_send_sync<T: Send + Sync>() {}

#[test]
fn a_client_may_go_anywhere() {
    assert_send_sync::<Client>();
    assert_send_sync::<ringway::rpc::ResponseStream>();
    assert_send_sync::<ringway::rpc::Response>();
    assert_send_sync::<ringway::rpc::PendingCall>();
    assert_send_sync::<ringway::rpc::Typed<str, String>>();
    assert_send_sync::<CallError>();
}

#[test]
fn every_length_comes_back_as_it_went() {
    for wait in ["auto", "sleep"] {
        let fixture = Fixture::with(64, wait);
        let client = fixture.client();
        let mut out = Vec::new();
        // Up to four times the ring.
        for (number, max) in (0..200).map(|number| (number, 1_000)).chain((0..20).map(|n| (n, 256 << 10))) {
            let len = mixed_len(number, max);
            client.call_into(kind::ECHO, &message(number, len), &mut out).unwrap();
            check(&out, number, len);
            check(&client.call(kind::ECHO, &message(number, len)).unwrap(), number, len);
        }
        assert_eq!(Seen::ask(&client).of(kind::ECHO), 440);
    }
}

#[test]
fn eight_threads_get_their_own_answers() {
    for wait in ["auto", "sleep"] {
        let fixture = Fixture::with(64, wait);
        let client = fixture.build(Client::builder().config(Config::new().ring_bytes(stand_in::RING_BYTES)));
        thread::scope(|scope| {
            for caller in 0..8_u64 {
                let client = client.clone();
                scope.spawn(move || {
                    let mut out = Vec::new();
                    for round in 0..2_000_u64 {
                        let number = caller << 32 | round;
                        let len = mixed_len(number, if round % 100 == 0 { 100_000 } else { 500 });
                        client.call_into(kind::ECHO, &message(number, len), &mut out).unwrap();
                        check(&out, number, len);
                    }
                });
            }
        });
        assert_eq!(Seen::ask(&client).of(kind::ECHO), 16_000, "{wait}");
    }
}

#[test]
fn one_thread_has_many_calls_in_flight_and_waits_for_them_in_any_order() {
    let fixture = Fixture::new(8);
    let client = fixture.client();
    // More than the server accepts at once: starting takes in what was answered meanwhile.
    let mut calls: Vec<_> = (0..500_u64)
        .map(|number| {
            (number, client.request(kind::ECHO).start(&message(number, mixed_len(number, 900))).unwrap())
        })
        .collect();
    calls.reverse();
    let dropped = calls.split_off(450);
    drop(dropped);
    let mut out = Vec::new();
    for (number, call) in calls {
        call.wait_into(&mut out).unwrap();
        check(&out, number, mixed_len(number, 900));
    }
    check(&client.call(kind::ECHO, &message(1, 10)).unwrap(), 1, 10);
}

#[test]
fn callers_beyond_the_limit_of_the_server_wait() {
    let fixture = Fixture::new(3);
    let client = fixture.client();
    // The server answers whenever three calls are there, so four times.
    thread::scope(|scope| {
        for _ in 0..12 {
            scope.spawn(|| assert_eq!(&*client.call(kind::GATHER, &()).unwrap(), b"all here"));
        }
    });
    assert_eq!(Seen::ask(&client).of(kind::GATHER), 12);
}

#[test]
fn a_call_that_waits_for_a_place_ends_with_its_time() {
    let fixture = Fixture::new(2);
    let client = fixture.client();
    client.call(kind::ECHO, &()).unwrap();
    let streams: Vec<_> =
        (0..2).map(|_| client.call_stream(kind::STREAM, &plan(1_000, 4_096)).unwrap()).collect();
    let error = client.call_timeout(kind::ECHO, &(), Duration::from_millis(20)).unwrap_err();
    assert!(matches!(error, CallError::Timeout { sent: false }), "{error:?}");
    drop(streams);
    client.call(kind::ECHO, &()).unwrap();
    assert_eq!((Seen::ask(&client).of(kind::ECHO), Seen::ask(&client).cancels()), (2, 2));
}

#[test]
fn a_call_ends_with_its_time_and_is_cancelled() {
    let fixture = Fixture::new(8);
    let client = fixture.build(Client::builder().timeout(Duration::from_millis(20)));
    let error = client.call(kind::NEVER, b"x").unwrap_err();
    assert!(matches!(error, CallError::Timeout { sent: true }) && error.may_have_run(), "{error:?}");
    let client = fixture.client();
    let error = client.call_timeout(kind::LATE, &(), Duration::from_millis(5)).unwrap_err();
    assert!(matches!(error, CallError::Timeout { sent: true }));
    // The answer that came too late disturbs nobody.
    client.call(kind::ECHO, b"next").unwrap();
    assert_eq!(Seen::ask(&client).cancels(), 2);
}

#[test]
fn the_server_is_told_how_much_time_is_left() {
    let fixture = Fixture::new(8);
    let client = fixture.client();
    let left = |response: &[u8]| u32::from_le_bytes(response.try_into().unwrap());
    assert_eq!(left(&client.call(kind::TIME_LEFT, &()).unwrap()), 0);
    let told = left(&client.call_timeout(kind::TIME_LEFT, &(), DEADLINE).unwrap());
    assert!(told > 0 && told <= DEADLINE.as_micros() as u32, "{told}");
}

#[test]
fn a_failure_is_a_value() {
    let fixture = Fixture::new(8);
    let client = fixture.client();
    let error = client.call(kind::FAIL, "no such file").unwrap_err();
    let failure = error.failure().unwrap();
    assert_eq!((failure.code(), failure.text()), (Code::NOT_FOUND, "no such file"));
    client.call(kind::ECHO, b"the connection lives").unwrap();
}

#[test]
fn one_way_messages_arrive() {
    let fixture = Fixture::new(8);
    let client = fixture.client();
    for number in 0..1_000 {
        client.notify(kind::NOTE, &message(number, mixed_len(number, 2_000))).unwrap();
    }
    assert_eq!(Seen::ask(&client).of(kind::NOTE), 1_000);
}

#[test]
fn calls_in_flight_fail_at_once_when_the_server_dies_and_go_on_with_the_next() {
    let mut fixture = Fixture::new(64);
    let client = fixture.client();
    thread::scope(|scope| {
        let pending: Vec<_> =
            (0..4).map(|_| scope.spawn(|| client.call(kind::NEVER, b"x").unwrap_err())).collect();
        wait_until("all are in flight", || Seen::ask(&client).of(kind::NEVER) == 4);
        fixture.server.kill9();
        for call in pending {
            let error = call.join().unwrap();
            assert!(matches!(lost(&error), (true, CloseReason::PeerDied { .. })), "{error:?}");
            assert!(error.may_have_run());
        }
    });
    fixture.restart();
    client.call(kind::ECHO, b"again").unwrap();
    let seen = Seen::ask(&client);
    assert_eq!((seen.of(kind::NEVER), seen.of(kind::ECHO)), (0, 1), "nothing was made again");
}

#[test]
fn a_death_while_nobody_calls_costs_no_call() {
    let mut fixture = Fixture::new(8);
    let client = fixture.client();
    client.call(kind::ECHO, b"before").unwrap();
    fixture.server.kill9();
    fixture.restart();
    client.call(kind::ECHO, b"after").unwrap();
    assert_eq!(Seen::ask(&client).of(kind::ECHO), 1);
}

#[test]
fn idempotent_calls_are_made_again_and_others_never() {
    let mut fixture = Fixture::new(8);
    let client = fixture.client();
    let mark = format!("{}/died", fixture.scratch.path().display());
    let error = client.call(kind::DIE_ONCE, &mark).unwrap_err();
    assert!(lost(&error).0);
    std::fs::remove_file(&mark).unwrap();
    fixture.restart();
    assert_eq!(Seen::ask(&client).of(kind::DIE_ONCE), 0);
    thread::scope(|scope| {
        let call = scope.spawn(|| client.request(kind::DIE_ONCE).idempotent(true).call(&mark));
        assert!(!fixture.server.wait_within(DEADLINE).success());
        fixture.restart();
        assert_eq!(&*call.join().unwrap().unwrap(), b"lived");
    });
    assert_eq!(Seen::ask(&client).of(kind::DIE_ONCE), 1, "once more, exactly");
}

#[test]
fn an_idempotent_call_that_kills_every_server_is_given_up() {
    let mut fixture = Fixture::new(8);
    let client = fixture.client();
    thread::scope(|scope| {
        let call = scope.spawn(|| client.request(kind::DIE).idempotent(true).call(&()));
        for left in (0..4).rev() {
            fixture.server.wait_within(DEADLINE);
            if left > 0 {
                fixture.restart();
            }
        }
        assert!(lost(&call.join().unwrap().unwrap_err()).0);
    });
}

#[test]
fn without_a_server_a_call_ends_with_its_patience_or_its_time() {
    let mut fixture = Fixture::new(8);
    let client = fixture.build(Client::builder().connect_patience(Duration::from_millis(50)));
    fixture.server.kill9();
    // A call this soon after the last sign of life may not know yet.
    let _ = client.call(kind::ECHO, &());
    for outcome in
        [client.call(kind::ECHO, &()), client.call_timeout(kind::ECHO, &(), Duration::from_millis(5))]
    {
        match outcome {
            Err(error @ CallError::Unreachable(ConnectError::NoListener { .. })) => {
                assert!(!error.may_have_run())
            }
            other => panic!("{other:?}"),
        }
    }
    fixture.restart();
    client.call(kind::ECHO, &()).unwrap();
}

#[test]
fn a_client_may_be_there_before_its_server() {
    let _guard = hang_guard();
    let scratch = scratch_dir();
    let socket = scratch.socket("test");
    let client = Client::builder().connect_patience(DEADLINE).connect_later(&socket).unwrap();
    assert!(matches!(Client::connect(&socket), Err(ConnectError::NoListener { .. })));
    thread::scope(|scope| {
        let calls: Vec<_> = (0..4).map(|_| scope.spawn(|| client.call(kind::ECHO, b"first"))).collect();
        let _server = start(&socket, "8", "auto");
        calls.into_iter().for_each(|call| assert_eq!(&*call.join().unwrap().unwrap(), b"first"));
    });
}

#[test]
fn a_client_that_does_not_reconnect_ends_with_its_connection() {
    let mut fixture = Fixture::new(8);
    let client = fixture.build(Client::builder().reconnect_never());
    fixture.server.kill9();
    fixture.restart();
    let error = client.call(kind::ECHO, &()).unwrap_err();
    assert!(matches!(lost(&error), (false, CloseReason::PeerDied { .. })), "{error:?}");
}

#[test]
fn a_server_that_goes_away_gets_no_new_calls() {
    let mut fixture = Fixture::new(8);
    let client = fixture.client();
    let first = client.call_stream(kind::STREAM, &plan(10, 100)).unwrap();
    assert_eq!(&*client.call(kind::GO_AWAY, &()).unwrap(), b"good-bye");
    // This goes over a new connection, which that server still accepts.
    client.call(kind::ECHO, b"elsewhere").unwrap();
    assert_eq!(first.map(Result::unwrap).count(), 10, "what is in flight is finished");
    fixture.server.kill9();
}

#[test]
fn a_closed_client_makes_no_calls() {
    let fixture = Fixture::new(8);
    let client = fixture.client();
    let stream = client.call_stream(kind::STREAM, &plan(10, 100)).unwrap();
    client.clone().close();
    assert!(matches!(client.call(kind::ECHO, &()), Err(CallError::Closed)));
    assert_eq!(stream.map(Result::unwrap).count(), 10);
}

#[test]
fn streams_bring_every_part_in_order() {
    let fixture = Fixture::new(8);
    let client = fixture.client();
    for (parts, bytes) in [(0, 0), (1, 0), (10, 0), (1_000, 100), (100, 10_000), (5, 200_000)] {
        let stream = client.request(kind::STREAM).window(30_000).stream(&plan(parts, bytes)).unwrap();
        let mut count = 0;
        for part in stream {
            check(&part.unwrap(), count, bytes as usize);
            count += 1;
        }
        assert_eq!(count, u64::from(parts));
    }
}

#[test]
fn a_stream_that_is_not_read_is_held_back_while_others_go_on() {
    let fixture = Fixture::new(8);
    let client = fixture.client();
    let mut slow = client.request(kind::STREAM).window(20_000).stream(&plan(10_000, 1_000)).unwrap();
    for number in 0..1_000 {
        check(&client.call(kind::ECHO, &message(number, 300)).unwrap(), number, 300);
    }
    let most = |client: &Client| {
        u64::from_le_bytes((*client.call(kind::STREAMED, &()).unwrap()).try_into().unwrap())
    };
    assert!((20_000..=21_000).contains(&most(&client)), "{}", most(&client));
    for number in 0..5_000 {
        check(&slow.next().unwrap().unwrap(), number, 1_000);
    }
    assert!(most(&client) <= 21_000, "{}", most(&client));
    drop(slow);
    assert_eq!(Seen::ask(&client).cancels(), 1);
}

#[test]
fn streams_that_fill_the_ring_do_not_lock_up_long_requests() {
    let fixture = Fixture::new(8);
    let client = fixture.build(Client::builder().config(Config::new().ring_bytes(16 << 10)));
    // More than the ring of the server holds, and nobody reads it but the sender of the long request.
    let stream = client.request(kind::STREAM).window(1 << 20).stream(&plan(2_000, 500)).unwrap();
    let long = message(7, 300_000);
    check(&client.call(kind::ECHO, &long).unwrap(), 7, 300_000);
    for number in 0..100 {
        client.notify(kind::NOTE, &message(number, 3_000)).unwrap();
    }
    assert_eq!(stream.map(Result::unwrap).count(), 2_000);
    assert_eq!(Seen::ask(&client).of(kind::NOTE), 100);
}

fn violation(kind: u16) -> FrameError {
    let fixture = Fixture::new(8);
    let client = fixture.client();
    let error = match kind {
        kind::OVERDRAW => {
            let _stream = client.request(kind).window(1_000).stream(&plan(10, 600)).unwrap();
            // Whoever waits for something else reads the parts.
            client.call(kind::NEVER, &()).unwrap_err()
        }
        kind => match client.call(kind, &()) {
            Ok(response) => {
                assert_eq!((kind, &*response), (kind::TWICE, &b"once"[..]));
                // The second answer is met by whoever reads next.
                client.call(kind::NEVER, &()).unwrap_err()
            }
            Err(error) => error,
        },
    };
    client.call(kind::ECHO, b"a new connection").unwrap();
    match error {
        CallError::Protocol(error) => error,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_server_that_sends_garbage_is_cut_off() {
    assert!(matches!(violation(kind::GARBAGE), FrameError::Magic { .. }));
}

#[test]
fn a_server_that_answers_what_nobody_asked_is_cut_off() {
    assert_eq!(violation(kind::WRONG_ID), FrameError::Turn { id: 1_001 });
}

#[test]
fn a_server_that_answers_twice_is_cut_off() {
    assert_eq!(violation(kind::TWICE), FrameError::Turn { id: 1 });
}

#[test]
fn a_server_that_ignores_the_window_is_cut_off() {
    assert_eq!(violation(kind::OVERDRAW), FrameError::Turn { id: 1 });
}

#[test]
fn a_server_that_streams_to_a_single_call_is_cut_off() {
    assert_eq!(violation(kind::PART), FrameError::Turn { id: 1 });
}

#[test]
fn a_server_that_hangs_up_is_told_from_one_that_died() {
    let fixture = Fixture::new(8);
    let error = fixture.client().call(kind::HANG_UP, &()).unwrap_err();
    assert_eq!(lost(&error), (true, &CloseReason::PeerClosed));
}

#[test]
fn a_stopped_server_is_found_by_the_heartbeat() {
    let fixture = Fixture::new(8);
    let client = fixture.build(
        Client::builder().heartbeat(Duration::from_millis(20)).connect_patience(Duration::from_millis(20)),
    );
    client.call(kind::ECHO, &()).unwrap();
    fixture.server.stop();
    let error = client.call(kind::ECHO, &()).unwrap_err();
    assert_eq!(lost(&error), (true, &CloseReason::PeerSilent));
    fixture.server.go_on();
    wait_until("the server answers", || client.call(kind::ECHO, &()).is_ok());
}

#[test]
fn a_stopped_server_is_found_by_the_heartbeat_while_a_request_waits_for_room() {
    let fixture = Fixture::new(8);
    let config = Config::new().ring_bytes(stand_in::RING_BYTES);
    let client = fixture
        .build(Client::builder().config(config).heartbeat(Duration::from_millis(20)).reconnect_never());
    client.call(kind::ECHO, &()).unwrap();
    fixture.server.stop();
    let error = client.call_timeout(kind::ECHO, &vec![7; 300_000], DEADLINE / 4).unwrap_err();
    assert_eq!(lost(&error), (false, &CloseReason::PeerSilent));
    fixture.server.go_on();
}

#[test]
fn a_live_server_that_takes_long_is_not_found_dead() {
    let fixture = Fixture::new(8);
    let client = fixture.build(Client::builder().heartbeat(Duration::from_millis(10)));
    let error = client.call_timeout(kind::NEVER, &(), Duration::from_millis(150)).unwrap_err();
    assert!(matches!(error, CallError::Timeout { sent: true }), "{error:?}");
}

#[test]
fn a_request_that_the_server_does_not_accept_is_refused_here() {
    let fixture = Fixture::new(8);
    let client = fixture.client();
    let error = client.call(kind::ECHO, &vec![0; 64 << 20]).unwrap_err();
    assert!(matches!(error, CallError::TooLarge { max: 67_108_864, .. }), "{error:?}");
    client.call(kind::ECHO, &()).unwrap();
}

#[test]
fn typed_calls_take_and_give_values() {
    let fixture = Fixture::new(8);
    let client = fixture.client();
    let echo = client.typed::<str, String>(kind::ECHO);
    assert_eq!(echo.call("grüß Gott").unwrap(), "grüß Gott");
    let wrong = client.typed::<[u8], String>(kind::ECHO);
    let error = wrong.call(b"\xFF").unwrap_err();
    assert!(matches!(error, CallError::Body(_)) && error.may_have_run());
}

#[test]
fn a_client_is_an_error_in_a_child_made_by_fork_and_goes_on_in_the_parent() {
    let fixture = Fixture::new(8);
    Peer::spawn("forking", &[("SOCKET", &fixture.socket)]).finish();
}

fn role_forking() {
    let client = Client::connect(&common::variable("SOCKET")).unwrap();
    let mut stream = client.call_stream(kind::STREAM, &plan(100, 5_000)).unwrap();
    check(&stream.next().unwrap().unwrap(), 0, 5_000);
    // SAFETY: no other thread holds a lock; the child ends in `_exit`.
    let pid = unsafe { libc::fork() };
    assert!(pid >= 0);
    if pid == 0 {
        // SAFETY: no memory is involved.
        unsafe { libc::alarm(30) };
        let forked = |error: CallError| lost(&error).1 == &CloseReason::Forked;
        let refused = forked(client.call(kind::ECHO, &()).unwrap_err())
            && forked(client.notify(kind::NOTE, &()).unwrap_err())
            && forked(stream.next().unwrap().unwrap_err())
            && stream.next().is_none();
        drop((client, stream));
        // SAFETY: never returns; destructors of the parent's things must not run here.
        unsafe { libc::_exit(i32::from(!refused)) };
    }
    let mut status = 0;
    // SAFETY: `status` outlives the call.
    assert_eq!(unsafe { libc::waitpid(pid, &raw mut status, 0) }, pid);
    assert!(libc::WIFEXITED(status) && libc::WEXITSTATUS(status) == 0, "{status}");
    for number in 1..100 {
        check(&stream.next().unwrap().unwrap(), number, 5_000);
    }
    client.call(kind::ECHO, b"still here").unwrap();
}

/// Runs `free` when another thread waits at the gate, asleep; that thread must then be answered.
fn is_let_in_after(client: &Client, free: impl FnOnce()) {
    let (asleep, told) = mpsc::channel();
    let (done, answered) = mpsc::channel();
    let client = client.clone();
    let waiting = thread::spawn(move || {
        asleep.send(common::thread_id()).unwrap();
        done.send(client.call(kind::ECHO, b"next").unwrap()).unwrap();
    });
    let thread = told.recv().unwrap();
    wait_until("the caller sleeps", || common::is_asleep(std::process::id(), thread));
    free();
    assert_eq!(&*answered.recv_timeout(DEADLINE / 4).unwrap(), b"next");
    waiting.join().unwrap();
}

#[test]
fn a_caller_that_waits_for_a_place_and_reads_for_all_is_let_in_although_nothing_comes() {
    for wait in [Wait::Auto, Wait::Sleep] {
        let fixture = Fixture::new(1);
        let client = fixture.build(Client::builder().config(Config::new().wait(wait)));
        client.call(kind::ECHO, b"hears the limit").unwrap();
        let stream = client.call_stream(kind::NEVER, &()).unwrap();
        is_let_in_after(&client, || drop(stream));
    }
}

#[test]
fn a_caller_that_waits_for_a_long_message_of_another_is_let_in_although_nothing_comes() {
    let fixture = Fixture::new(8);
    let config = Config::new().ring_bytes(stand_in::RING_BYTES).wait(Wait::Sleep);
    let client = fixture.build(Client::builder().config(config));
    client.call(kind::ECHO, &()).unwrap();
    fixture.server.stop();
    let (begun, told) = mpsc::channel();
    let sending = {
        let client = client.clone();
        thread::spawn(move || {
            begun.send(common::thread_id()).unwrap();
            client.notify(kind::NOTE, &vec![7; 300_000])
        })
    };
    let sender = told.recv().unwrap();
    wait_until("the way is blocked", || common::is_asleep(std::process::id(), sender));
    is_let_in_after(&client, || fixture.server.go_on());
    sending.join().unwrap().unwrap();
}

#[test]
fn credit_that_found_no_room_is_given_later_although_whoever_reads_sleeps() {
    let fixture = Fixture::new(8);
    let config = Config::new().ring_bytes(stand_in::RING_BYTES).wait(Wait::Sleep);
    let client = fixture.build(Client::builder().config(config));
    let (begun, told) = mpsc::channel();
    let reading = {
        let client = client.clone();
        thread::spawn(move || {
            begun.send(common::thread_id()).unwrap();
            client.call(kind::NEVER, &()).map(drop)
        })
    };
    let reader = told.recv().unwrap();
    wait_until("somebody reads", || common::is_asleep(std::process::id(), reader));
    let mut stream = client.request(kind::STREAM).window(1_000).stream(&plan(10, 600)).unwrap();
    client.call(kind::ECHO, b"the first two parts are here").unwrap();
    fixture.server.stop();
    let short = Duration::from_millis(5);
    while client.request(kind::NOTE).timeout(short).notify(&()).is_ok() {}
    for part in 0..2 {
        check(&stream.next().unwrap().unwrap(), part, 600);
    }
    let (all, rest) = mpsc::channel();
    thread::spawn(move || {
        (2..10).for_each(|part| check(&stream.next().unwrap().unwrap(), part, 600));
        all.send(stream.next().is_none()).unwrap();
    });
    fixture.server.go_on();
    assert_eq!(rest.recv_timeout(DEADLINE / 4), Ok(true));
    drop(fixture);
    assert!(reading.join().unwrap().is_err());
}

#[test]
fn callers_that_sleep_are_woken() {
    let fixture = Fixture::with(64, "sleep");
    let client = fixture.build(Client::builder().config(Config::new().wait(Wait::Sleep)));
    thread::scope(|scope| {
        for caller in 0..4_u64 {
            let client = &client;
            scope.spawn(move || {
                for round in 0..500 {
                    let number = caller << 32 | round;
                    check(&client.call(kind::ECHO, &message(number, 40)).unwrap(), number, 40);
                }
            });
        }
    });
}
