//! A peer that was admitted and then does what it wants: it writes anything into its memory at any time, never drains a
//! doorbell or never stops ringing. Threats 3 to 9 of `docs/threat-model.md`.
//!
//! The attacker is a process of its own, which does the handshake by hand and owns its segment.
#![allow(clippy::unwrap_used, reason = "tests")]

#[path = "hostile_peer/attacks.rs"]
mod attacks;
mod common;
#[path = "hostile_peer/support.rs"]
mod support;

use common::{Peer, Scratch, hang_guard, scratch_dir};
use ringway::{
    CloseReason, Config, Connection, Event, Group, Listener, RecvTimeoutError, SendTimeoutError,
    TryRecvError, TrySendError, Violation, Wait,
};
use std::os::fd::AsRawFd;
use std::time::{Duration, Instant};
use support::{PATIENCE, RING_BYTES, Raw};

#[test]
fn peer_process() {
    common::run_role(&[
        ("attack", attacks::attack),
        ("storm", attacks::storm),
        ("honest", support::honest),
        ("victim", victim),
    ]);
}

fn config() -> Config {
    Config::new().ring_bytes(RING_BYTES).message_bytes_max(1 << 20)
}

/// Starts an attacker against a listener of our own and takes it in.
fn attacked_by(attack: &str, config: &Config) -> (Scratch, Listener, Peer, Connection) {
    let scratch = scratch_dir();
    let mut listener = config.bind(&scratch.socket("a")).unwrap();
    let attacker = Peer::spawn("attack", &[("SOCKET", &scratch.socket("a")), ("ATTACK", attack)]);
    let connection = listener.accept_timeout(PATIENCE).unwrap();
    (scratch, listener, attacker, connection)
}

/// Receives until the connection ends.
fn end_of(connection: &mut Connection) -> CloseReason {
    let start = Instant::now();
    loop {
        assert!(start.elapsed() < PATIENCE, "it goes on for ever");
        match connection.recv_timeout(Duration::from_millis(100)) {
            Ok(_) | Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Closed(reason)) => return reason,
        }
    }
}

#[track_caller]
fn check_reason(reason: &CloseReason) {
    let expected = [CloseReason::Violation(Violation::Padding), CloseReason::PeerClosed];
    let known = matches!(reason, CloseReason::Violation(_) | CloseReason::PeerDied { .. });
    assert!(known || expected.contains(reason), "{reason:?}");
}

/// Uses every verb a bounded number of times, whatever comes back.
fn exercise(connection: &mut Connection, steps: usize) {
    let wait = Duration::from_micros(100);
    let (mut deaf, mut mute) = (false, false);
    for step in 0..steps {
        let received = match step % 4 {
            0 => connection.try_recv().map_err(|error| match error {
                TryRecvError::Empty => None,
                TryRecvError::Closed(reason) => Some(reason),
            }),
            1 => connection.recv_timeout(wait).map_err(|error| match error {
                RecvTimeoutError::Timeout => None,
                RecvTimeoutError::Closed(reason) => Some(reason),
            }),
            2 => {
                if let Err(TrySendError::Closed(reason)) = connection.try_send(&[7; 512]) {
                    check_reason(&reason);
                    mute = true;
                }
                continue;
            }
            _ => {
                if let Err(SendTimeoutError::Closed(reason)) = connection.send_timeout(&[7; 20_000], wait) {
                    check_reason(&reason);
                    mute = true;
                }
                continue;
            }
        };
        match received {
            Ok(message) => {
                assert!(message.len() <= 1 << 20, "a message of {} bytes", message.len());
                std::hint::black_box(message.iter().map(|byte| u64::from(*byte)).sum::<u64>());
            }
            Err(None) => {}
            Err(Some(reason)) => {
                check_reason(&reason);
                deaf = true;
            }
        }
        if deaf && mute {
            return;
        }
    }
}

#[test]
fn whatever_a_peer_scribbles_nothing_panics_hangs_or_leaves_its_bounds() {
    let _guard = hang_guard();
    let scratch = scratch_dir();
    let mut listener = config().bind(&scratch.socket("a")).unwrap();
    let attacker = Peer::spawn("storm", &[("SOCKET", &scratch.socket("a")), ("ROUNDS", "1")]);
    let mut violations = 0;
    for _ in 0..attacks::COMBINATIONS {
        let mut connection = listener.accept_timeout(PATIENCE).unwrap();
        exercise(&mut connection, 400);
        violations += connection.stats().violations;
    }
    attacker.finish();
    assert!(violations > 0, "no attack was noticed at all");
}

#[test]
fn an_honest_client_of_the_same_group_is_served_exactly_during_the_storm() {
    let _guard = hang_guard();
    serve_beside("storm", "", 1000);
}

/// Serves an honest client beside an attacker.
fn serve_beside(role: &str, attack: &str, count: u64) {
    let scratch = scratch_dir();
    let socket = scratch.socket("a");
    let mut group = Group::new(config().bind(&socket).unwrap()).unwrap();
    let _attacker = Peer::spawn(role, &[("SOCKET", &socket), ("ATTACK", attack), ("ROUNDS", "1000000")]);
    while group.is_empty() {
        group.turn(Some(Instant::now() + PATIENCE), |_, _| {}).unwrap();
    }
    let text = count.to_string();
    let mut honest = Peer::spawn("honest", &[("SOCKET", &socket), ("COUNT", &text)]);
    let (mut served, mut gone, mut left) = (0, false, Vec::new());
    let start = Instant::now();
    // The storm goes on until one of its attacks was noticed; other attacks break no rule.
    let noticed = |left: &[CloseReason]| {
        role != "storm" || left.iter().any(|reason| matches!(reason, CloseReason::Violation(_)))
    };
    while !gone || !noticed(&left) {
        assert!(start.elapsed() < common::DEADLINE, "served only {served}");
        let until = Instant::now() + Duration::from_millis(100);
        let turned = group.turn(Some(until), |member, event| {
            let is_honest = member.peer_cred().pid == honest.pid();
            match event {
                Event::Message(bytes) if is_honest => {
                    common::check(bytes, served, common::mixed_len(served, 2000));
                    served += 1;
                    member.sender().try_send(bytes).unwrap();
                }
                Event::Left(reason) if is_honest => {
                    assert_eq!(reason, CloseReason::PeerClosed);
                    gone = true;
                }
                Event::Message(bytes) => {
                    let _ = member.sender().try_send(&bytes[..bytes.len().min(64)]);
                }
                Event::Left(reason) => left.push(reason),
                Event::Joined | Event::Room => {}
            }
        });
        turned.unwrap();
    }
    assert_eq!(served, count);
    honest.expect_line("served");
    honest.finish();
}

#[test]
fn a_header_that_flips_while_its_payload_is_copied_is_read_once() {
    let _guard = hang_guard();
    let (_scratch, _listener, _attacker, mut connection) = attacked_by("flip", &config());
    let mut seen = [0; 2];
    // However long the attacker takes to get a core.
    while seen[0] + seen[1] < 30_000 || seen.contains(&0) {
        let first = connection.recv_timeout(PATIENCE).unwrap().len();
        let second = connection.recv_timeout(PATIENCE).unwrap().len();
        // The short record leads to the mark 1, the long one to the mark 2; nothing else is consistent.
        assert!((first, second) == (8, 1) || (first, second) == (4080, 2), "{first} led to {second}");
        seen[second - 1] += 1;
    }
}

#[test]
fn a_header_that_flips_between_legal_and_huge_gives_the_legal_message_or_a_violation() {
    let _guard = hang_guard();
    let scratch = scratch_dir();
    let mut listener = config().bind(&scratch.socket("a")).unwrap();
    let _attacker = Peer::spawn("attack", &[("SOCKET", &scratch.socket("a")), ("ATTACK", "flip to huge")]);
    for _ in 0..100 {
        let mut connection = listener.accept_timeout(PATIENCE).unwrap();
        let start = Instant::now();
        let reason = loop {
            assert!(start.elapsed() < PATIENCE);
            match connection.recv_timeout(PATIENCE) {
                Ok(message) => assert_eq!(message.len(), 8),
                Err(RecvTimeoutError::Closed(reason)) => break reason,
                Err(RecvTimeoutError::Timeout) => panic!("nothing came"),
            }
        };
        assert!(matches!(reason, CloseReason::Violation(Violation::Length { .. })), "{reason:?}");
    }
}

#[test]
fn a_consumed_position_that_jumps_is_a_violation() {
    let _guard = hang_guard();
    for (attack, jump, last) in
        [("backwards", 512, 1024), ("beyond", 1 << 20, 0), ("misaligned", 1025, 0), ("maximum", u64::MAX, 0)]
    {
        let (_scratch, _listener, mut attacker, mut connection) = attacked_by("position", &config());
        let mut sent = 0;
        let fill = |connection: &mut Connection, sent: &mut u64| loop {
            match connection.try_send(&[1; 248]) {
                Ok(()) => *sent += 256,
                Err(error) => return error,
            }
        };
        assert_eq!(fill(&mut connection, &mut sent), TrySendError::Full);
        if last > 0 {
            attacker.send_line(&last.to_string());
            attacker.expect_line("written");
            assert_eq!(fill(&mut connection, &mut sent), TrySendError::Full);
        }
        attacker.send_line(&jump.to_string());
        attacker.expect_line("written");
        let violation = Violation::Position { seen: jump, last, published: sent };
        let expected = TrySendError::Closed(CloseReason::Violation(violation.clone()));
        assert_eq!(fill(&mut connection, &mut sent), expected, "{attack}");
        assert_eq!(
            connection.send_timeout(b"more", PATIENCE),
            Err(SendTimeoutError::Closed(CloseReason::Violation(violation))),
            "{attack}: it stays ended"
        );
    }
}

#[test]
fn a_record_that_no_sender_may_write_ends_the_connection_by_its_name() {
    let _guard = hang_guard();
    let scratch = scratch_dir();
    let mut listener = config().bind(&scratch.socket("a")).unwrap();
    let _attacker = Peer::spawn("attack", &[("SOCKET", &scratch.socket("a")), ("ATTACK", "illegal headers")]);
    for (name, words) in attacks::ILLEGAL {
        let mut connection = listener.accept_timeout(PATIENCE).unwrap();
        let reason = end_of(&mut connection);
        let CloseReason::Violation(violation) = &reason else { panic!("{name}: {reason:?}") };
        let rule = format!("{violation:?}");
        assert!(rule.starts_with(name), "{words:x?} should break {name}, not {rule}");
        assert_eq!(connection.stats().violations, 1, "{name}");
        assert_eq!(connection.stats().received_messages, 0, "{name}");
    }
}

#[test]
fn huge_promises_take_no_memory() {
    let _guard = hang_guard();
    let before = support::status_kib("VmPeak:");
    let (_scratch, _listener, _attacker, mut connection) = attacked_by("huge length", &config());
    let reason = end_of(&mut connection);
    assert!(matches!(reason, CloseReason::Violation(Violation::Length { .. })), "{reason:?}");
    let growth = support::status_kib("VmPeak:") - before;
    assert!(growth < 2 << 20, "4 GiB were promised and {growth} KiB were reserved");
}

#[test]
fn fragments_without_end_stop_at_the_agreed_maximum() {
    let (_scratch, mut victim, raw) = prey("fragments");
    victim.send_line("go");
    attacks::fragments(&raw);
    victim.expect_line("returned");
    assert!(victim.wait_within(PATIENCE).success());
}

#[test]
fn endless_work_of_one_peer_does_not_keep_a_group_from_the_others() {
    let _guard = hang_guard();
    for attack in ["publish for ever", "first and abandon", "fragments"] {
        serve_beside("attack", attack, 300);
    }
}

#[test]
fn doorbells_without_end_do_not_keep_a_group_from_the_others() {
    let _guard = hang_guard();
    serve_beside("attack", "flood", 500);
}

#[test]
fn a_doorbell_storm_is_drained_and_counted() {
    let _guard = hang_guard();
    let (_scratch, _listener, _attacker, mut connection) = attacked_by("flood", &config());
    let start = Instant::now();
    while connection.stats().doorbell_bytes < 100_000 {
        assert!(start.elapsed() < PATIENCE, "{:?}", connection.stats());
        let received = connection.recv_timeout(Duration::from_millis(1)).map(|message| message.len());
        assert_eq!(received, Err(RecvTimeoutError::Timeout));
    }
}

#[test]
fn a_peer_that_never_drains_its_doorbells_does_not_block_us() {
    let _guard = hang_guard();
    let (_scratch, _listener, _attacker, mut connection) = attacked_by("never drain", &config());
    let start = Instant::now();
    let mut taken = 0;
    while connection.stats().space_bells < 5_000 {
        assert!(start.elapsed() < PATIENCE, "{:?}", connection.stats());
        taken += connection.recv_timeout(PATIENCE).unwrap().len();
    }
    assert!(taken > 0);
    let mut rung = 0;
    while rung < 5_000 {
        assert!(start.elapsed() < PATIENCE, "{:?}", connection.stats());
        match connection.try_send(b"!") {
            Ok(()) | Err(TrySendError::Full) => rung = connection.stats().data_bells,
            Err(error) => panic!("{error:?}"),
        }
    }
}

#[test]
fn descriptors_on_a_doorbell_are_closed() {
    let _guard = hang_guard();
    let scratch = scratch_dir();
    let mut victim = Peer::spawn("victim", &[("SOCKET", &scratch.socket("a")), ("CALL", "smuggled")]);
    victim.expect_line("bound");
    let raw = Raw::connect(&scratch.socket("a"));
    let (gift, _) = std::os::unix::net::UnixStream::pair().unwrap();
    let before = victim.next_number();
    for _ in 0..50 {
        for socket in [&raw.socket, &raw.space] {
            // A kernel that lets a socket refuse descriptors does not even carry them.
            if let Err(error) = support::send_files(socket.as_raw_fd(), b"!", &[gift.as_raw_fd(); 20]) {
                assert_eq!(error.kind(), std::io::ErrorKind::PermissionDenied);
                support::send_files(socket.as_raw_fd(), b"!", &[]).unwrap();
            }
        }
    }
    victim.send_line("go");
    let after = victim.next_number();
    assert!(after <= before, "{before} descriptors before, {after} after");
    victim.finish();
}

/// Role: an honest process whose single call is under attack by the process that started it.
fn victim() {
    let call = common::variable("CALL");
    let wait = if call.contains("sleep") { Wait::Sleep } else { Wait::Auto };
    let mut listener = config().wait(wait).bind(&common::variable("SOCKET")).unwrap();
    common::say("bound");
    let mut connection = listener.accept_timeout(PATIENCE).unwrap();
    match call.as_str() {
        "smuggled" => {
            common::say(&common::descriptors().to_string());
            common::hear();
            while connection.stats().doorbell_bytes < 50 {
                let _ = connection.recv_timeout(Duration::from_millis(10));
            }
            common::say(&common::descriptors().to_string());
        }
        "recv" => {
            common::hear();
            let ended = connection.recv_timeout(Duration::from_millis(50)).map(|message| message.to_vec());
            assert_eq!(ended, Err(RecvTimeoutError::Timeout));
        }
        "recv, sleep" => {
            common::hear();
            let ended = connection.recv_timeout(Duration::ZERO).map(|message| message.to_vec());
            assert_eq!(ended, Err(RecvTimeoutError::Timeout));
            // Hundreds of looks would be needed to drain all that was rung.
            assert!(connection.stats().data_sleeps <= 2, "{:?}", connection.stats());
        }
        "send, sleep" => {
            common::hear();
            while connection.try_send(&[0; 1000]).is_ok() {}
            let ended = connection.send_timeout(&[0; 1000], Duration::ZERO);
            assert_eq!(ended, Err(SendTimeoutError::Timeout));
            assert!(connection.stats().space_sleeps <= 2, "{:?}", connection.stats());
        }
        "fragments" => {
            // Without the bound this process should fail, and not the machine.
            let limit = libc::rlimit { rlim_cur: 1 << 30, rlim_max: 1 << 30 };
            // SAFETY: the limit outlives the call.
            assert_eq!(unsafe { libc::setrlimit(libc::RLIMIT_AS, &limit) }, 0);
            let before = support::status_kib("VmHWM:");
            common::hear();
            let reason = end_of(&mut connection);
            let CloseReason::Violation(Violation::MessageBytes { bytes, max }) = reason else {
                panic!("{reason:?}")
            };
            assert_eq!(max, 1 << 20);
            assert!(bytes > max && bytes <= max + RING_BYTES / 4, "{bytes}");
            assert_eq!(connection.stats().received_messages, 0);
            // The parts, once more while their vector grows, and what a process needs anyway.
            let growth = support::status_kib("VmHWM:") - before;
            assert!(growth < 8 << 10, "{growth} KiB for a message of 1 MiB at most");
        }
        "overwrite" => {
            common::hear();
            check_reason(&end_of(&mut connection));
        }
        _ => panic!("unknown call {call}"),
    }
    common::say("returned");
}

/// Starts a victim and connects to it by hand: here this process is the attacker.
fn prey(call: &str) -> (Scratch, Peer, Raw) {
    let scratch = scratch_dir();
    let mut victim = Peer::spawn("victim", &[("SOCKET", &scratch.socket("a")), ("CALL", call)]);
    victim.expect_line("bound");
    let raw = Raw::connect(&scratch.socket("a"));
    (scratch, victim, raw)
}

#[test]
fn a_call_with_a_time_out_ends_although_messages_are_begun_and_abandoned_for_ever() {
    let (_scratch, mut victim, raw) = prey("recv");
    attacks::fill_with_abandoned_messages(&raw);
    victim.send_line("go");
    assert!(victim.wait_within(PATIENCE / 2).success());
}

#[test]
fn a_call_whose_time_is_up_ends_although_the_doorbell_rings_and_rings() {
    for call in ["recv, sleep", "send, sleep"] {
        let (_scratch, mut victim, raw) = prey(call);
        attacks::flood(&raw);
        victim.send_line("go");
        victim.expect_line("returned");
        assert!(victim.wait_within(PATIENCE).success(), "{call}");
    }
}

#[test]
fn an_overwriting_ring_at_the_end_of_all_positions_is_refused_or_a_violation() {
    let scratch = scratch_dir();
    let socket = scratch.socket("a");
    let mut victim = Peer::spawn("victim", &[("SOCKET", &socket), ("CALL", "overwrite")]);
    victim.expect_line("bound");
    let mut words = support::connection_words(RING_BYTES);
    words[2].1 = 1;
    let own = support::Memory::create(support::RING + RING_BYTES as usize, &words, support::SEALS);
    let hello = support::Hello::client(RING_BYTES).put(40, &1_u64.to_le_bytes());
    let raw = match Raw::with(&socket, own, &hello) {
        Err(refused) => return assert_eq!(refused, support::FEATURES),
        Ok(raw) => raw,
    };
    for at in (0..RING_BYTES as usize).step_by(8) {
        raw.own.set(support::RING + at, support::PADDING);
    }
    raw.own.set(support::PUBLISHED, u64::MAX - 7);
    raw.own.set(support::INTENT, u64::MAX);
    victim.send_line("go");
    assert!(victim.wait_within(PATIENCE).success());
}
