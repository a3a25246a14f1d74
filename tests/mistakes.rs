//! The mistakes of the systems we follow (REQUIREMENTS, section 4), between two processes; each number is a test here.
#![allow(clippy::unwrap_used, reason = "what fails in a test may panic")]

mod broadcast;
mod common;

use broadcast::actor::{ask_for, quit};
use broadcast::{Speech, await_receivers, member, name, receiver_process, sender};
use common::{DEADLINE, Peer, check, hang_guard, hear, message, mixed_len, scratch_dir};
use ringway::{CloseReason, Config, Connection, RecvTimeoutError, SendTimeoutError, TrySendError, Wait};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

#[test]
fn peer_process() {
    common::run_role(&[
        ("obey", role_obey),
        ("stream", role_stream),
        ("actor", broadcast::actor::play),
        ("members", role_members),
    ]);
}

/// Mistake 1: process-private wake calls over shared memory never woke; a time-out hid it.
#[test]
fn mistake_1_a_sleeping_receiver_is_woken_by_another_process_and_by_no_time_out() {
    let _guard = hang_guard();
    let (mut peer, mut connection) = obeying(&Config::new().wait(Wait::Sleep));
    for round in 0..50 {
        // Without a time-out only the wake of the other process ends this sleep.
        let (tell, told) = mpsc::channel();
        let receiving = thread::spawn(move || {
            tell.send(common::thread_id()).unwrap();
            check(&connection.recv().unwrap(), round, 100);
            connection
        });
        let thread = told.recv().unwrap();
        common::wait_until("the receiver sleeps", || common::is_asleep(std::process::id(), thread));
        peer.send_line(&format!("send {round} 100"));
        connection = receiving.join().unwrap();
    }
    assert!(connection.stats().data_sleeps >= 50, "{:?}", connection.stats());
}

/// Mistake 2: an exactly full ring was read as empty.
#[test]
fn mistake_2_an_exactly_full_ring_is_received_completely() {
    let _guard = hang_guard();
    let (mut peer, mut connection) = obeying(&small());
    // Records of 8 bytes more than their payload; the ring keeps 8 bytes for the next header.
    for payload in [8, 24, 56, 120] {
        let record = payload + 8;
        let fitting = (16_384 - 8) / record;
        let mut count = 0;
        while connection.try_send(&message(count as u64, payload)).is_ok() {
            count += 1;
        }
        assert!(count == fitting || count + 1 == fitting, "{count} of {fitting} records of {record} bytes");
        assert_eq!(connection.try_send(&message(0, payload)), Err(TrySendError::Full));
        peer.send_line(&format!("receive {count} {payload}"));
        peer.expect_line(&format!("received {count}"));
        // A look that finds nothing tells the sender how far the receiver is.
        peer.send_line("nothing");
        peer.expect_line("nothing");
    }
}

/// Mistake 2: an exactly full ring was read as empty. Here not one byte is left.
#[test]
fn mistake_2_a_ring_that_is_full_to_the_last_byte_is_received_completely() {
    let _guard = hang_guard();
    let (mut peer, mut connection) = obeying(&small());
    let lens = [4088, 4088, 4088, 4080];
    for (number, len) in lens.iter().enumerate() {
        connection.try_send(&message(number as u64, *len)).unwrap();
    }
    assert_eq!(connection.try_send(b""), Err(TrySendError::Full), "even an empty message has a header");
    for (number, len) in lens.iter().enumerate() {
        peer.send_line(&format!("receive 1 {len} {number}"));
        peer.expect_line("received 1");
    }
    peer.send_line("nothing");
    peer.expect_line("nothing");
    connection.try_send(b"").unwrap();
}

/// Mistake 2: an empty message made the reader drop everything queued.
#[test]
fn mistake_2_an_empty_message_between_others_is_a_message() {
    let _guard = hang_guard();
    let (mut peer, mut connection) = obeying(&small());
    let mut number = 0;
    for len in [0, 0, 5, 0, 4088, 0, 1, 0, 0] {
        connection.send(&message(number, len)).unwrap();
        peer.send_line(&format!("receive 1 {len} {number}"));
        number += 1;
    }
    for _ in 0..number {
        peer.expect_line("received 1");
    }
}

/// Mistake 2: a length prefix was written past the end of the ring.
#[test]
fn mistake_2_records_that_end_at_every_place_near_the_end_of_the_ring_are_whole() {
    let _guard = hang_guard();
    let (mut peer, mut connection) = obeying(&small());
    // Steps of 8 less than a divisor of the ring: the end is met at every multiple of 8.
    for len in [4080, 1000, 496, 104] {
        let count = 3 * 16_384 / len;
        peer.send_line(&format!("receive {count} {len}"));
        for number in 0..count {
            connection.send(&message(number as u64, len)).unwrap();
        }
        peer.expect_line(&format!("received {count}"));
    }
}

/// Mistake 2: a second attach erased queued data.
#[test]
fn mistake_2_a_second_client_does_not_disturb_what_is_queued_for_the_first() {
    let _guard = hang_guard();
    let scratch = scratch_dir();
    let socket = scratch.socket("test");
    let mut listener = Config::new().bind(&socket).unwrap();
    let start = || Peer::spawn("obey", &[("SOCKET", &socket)]);
    let mut first = start();
    let mut to_first = listener.accept_timeout(DEADLINE).unwrap();
    for number in 0..500 {
        to_first.send(&message(number, 100)).unwrap();
    }
    first.send_line("send 0 100");
    first.expect_line("sent");
    let mut second = start();
    let mut to_second = listener.accept_timeout(DEADLINE).unwrap();
    to_second.send(&message(0, 30)).unwrap();
    second.send_line("receive 1 30");
    second.expect_line("received 1");
    first.send_line("receive 500 100");
    first.expect_line("received 500");
    check(&to_first.recv().unwrap(), 0, 100);
}

/// Mistake 3: the position was published before the bytes were written, so messages were torn.
#[test]
fn mistake_3_no_message_is_torn_while_the_reader_stays_at_the_writers_heels() {
    let _guard = hang_guard();
    let (peer, mut connection) =
        common::connected("stream", &[("COUNT", "300000")], &Config::new().wait(Wait::Spin));
    for number in 0..300_000 {
        check(&connection.recv().unwrap(), number, mixed_len(number, 256));
    }
    assert_eq!(connection.recv().unwrap_err().reason(), &CloseReason::PeerClosed);
    peer.finish();
}

/// Mistake 5: send said true 257 times, and the slow receiver got 1.
#[test]
fn mistake_5_a_slow_receiver_gets_every_message_whose_send_succeeded() {
    let _guard = hang_guard();
    let (mut peer, mut connection) = obeying(&small());
    let (mut accepted, mut refused) = (0, 0);
    // Many more than there is room for, while the receiver takes one now and then.
    while accepted < 2_000 {
        match connection.try_send(&message(accepted, 200)) {
            Ok(()) => accepted += 1,
            Err(TrySendError::Full) => {
                refused += 1;
                peer.send_line("receive 7 200");
                peer.expect_line("received 7");
            }
            Err(error) => panic!("the slow receiver was cut off: {error}"),
        }
    }
    assert!(refused > 100, "the receiver was not slow: {refused} times full");
    let received = 7 * refused;
    peer.send_line(&format!("receive {} 200", accepted - received));
    peer.expect_line(&format!("received {}", accepted - received));
    peer.send_line("nothing");
    peer.expect_line("nothing");
}

/// Mistake 5, and 4: a receiver that does not read at all is not thrown out; the sender is told.
#[test]
fn mistake_5_a_sender_is_told_that_a_receiver_does_not_read() {
    let _guard = hang_guard();
    let (mut peer, mut connection) = obeying(&small());
    let mut count = 0;
    while connection.try_send(&message(count, 200)).is_ok() {
        count += 1;
    }
    for _ in 0..1000 {
        assert_eq!(connection.try_send(&[1; 200]), Err(TrySendError::Full));
    }
    let told = connection.send_timeout(&[1; 200], Duration::from_millis(5));
    assert_eq!(told, Err(SendTimeoutError::Timeout));
    peer.send_line(&format!("receive {count} 200"));
    peer.expect_line(&format!("received {count}"));
    connection.send(&message(count, 200)).expect("the receiver is still there");
    peer.send_line("receive 1 200");
    peer.expect_line("received 1");
}

/// Mistake 4: `try_send` threw the receivers out when the ring was full, and its result was ignored.
#[test]
fn mistake_4_trying_to_send_into_a_full_ring_harms_no_receiver_and_names_who_is_in_the_way() {
    let _guard = hang_guard();
    let scratch = scratch_dir();
    let route = name(&scratch, "news");
    let mut sender = sender(&route, "");
    let mut peers = [receiver_process(&route, ""), receiver_process(&route, "")];
    await_receivers(&mut sender, 2);
    let mut speech = Speech::new(1, 200);
    while sender.try_send(speech.next()).is_ok() {}
    speech.unsaid();
    for _ in 0..100_000 {
        let refused = sender.try_send(&[1; 200]);
        let Err(ringway::broadcast::TrySendError::WouldBlock { pid, .. }) = refused else {
            panic!("{refused:?}");
        };
        assert!(peers.iter().any(|peer| peer.pid() == pid));
    }
    // One reads: the other is in the way, by its name.
    let report = format!("received {}", speech.report_all());
    ask_for(&mut peers[0], &format!("receive {}", speech.next), &report);
    ask_for(&mut peers[0], "look", "nothing");
    let refused = sender.try_send(&[1; 200]);
    assert!(
        matches!(refused, Err(ringway::broadcast::TrySendError::WouldBlock { pid, .. }) if pid == peers[1].pid()),
        "{refused:?}"
    );
    assert_eq!((sender.try_event().is_some(), sender.receiver_count()), (true, 2));
    assert!(sender.stats().full > 100_000, "counted");
    ask_for(&mut peers[1], &format!("receive {}", speech.next), &report);
    ask_for(&mut peers[1], "look", "nothing");
    speech.send_to(&mut sender, 2, 1);
    peers.into_iter().for_each(quit);
}

/// Mistake 5: send said true 257 times, and the slow receiver got 1.
#[test]
fn mistake_5_every_receiver_of_a_route_gets_what_was_said_to_go_to_so_many() {
    let _guard = hang_guard();
    let scratch = scratch_dir();
    let route = name(&scratch, "news");
    let mut sender = sender(&route, "policy=block");
    let mut peers = [receiver_process(&route, ""), receiver_process(&route, "")];
    await_receivers(&mut sender, 2);
    peers[0].send_line("end");
    peers[1].send_line("slow 1000 300");
    let mut speech = Speech::new(1, 256);
    speech.send_to(&mut sender, 2, 1000);
    drop(sender);
    peers.iter_mut().for_each(|peer| peer.expect_line(&format!("end PeerClosed {}", speech.report_all())));
    peers.into_iter().for_each(quit);
}

/// Mistake 6: after kill -9 of a sender there was never a new one.
#[test]
fn mistake_6_a_killed_sender_is_followed_by_a_new_one_at_once() {
    let _guard = hang_guard();
    let scratch = scratch_dir();
    let route = name(&scratch, "news");
    let mut peer = receiver_process(&route, "");
    for _ in 0..20 {
        let mut killed = broadcast::sender_process(&route, "");
        ask_for(&mut killed, "await 1", "receivers 1");
        ask_for(&mut killed, "flow 200", "flowing");
        peer.send_line("end");
        killed.kill9();
        let end = peer.next_line();
        assert!(end.starts_with(&format!("end PeerDied {{ pid: {} }}", killed.pid())), "{end}");
    }
    let mut sender = sender(&route, "");
    Speech::new(1, 100).send_to(&mut sender, 1, 10);
    quit(peer);
}

/// Mistake 6: after kill -9 of 32 receivers the channel was full for ever.
#[test]
fn mistake_6_a_channel_whose_members_are_killed_by_the_dozen_stays_usable() {
    let _guard = hang_guard();
    let scratch = scratch_dir();
    let channel = name(&scratch, "square");
    let mut stays = member(&channel, "policy=block");
    let mut speech = Speech::new(1, 200);
    for round in 0..3 {
        let mut peers: Vec<Peer> = (0..4).map(|_| Peer::spawn("members", &[("CHANNEL", &channel)])).collect();
        peers.iter_mut().for_each(|peer| peer.expect_line("joined"));
        await_receivers(stays.sender(), 32);
        speech.send_to(stays.sender(), 32, 10);
        peers.iter_mut().for_each(Peer::kill9);
        common::wait_until("all are gone", || stays.sender().receiver_count() == 0);
        // Several rings: nobody is in the way.
        speech.send(stays.sender(), 300);
        while stays.receiver().sender_count() > 0 {
            let event = stays.receiver().next_timeout(DEADLINE).unwrap().expect("the end has not come");
            let text = broadcast::describe(&event);
            assert!(text.starts_with("joined") || text.contains("PeerDied"), "round {round}: {text}");
        }
    }
    let mut peer = broadcast::member_process(&channel, "");
    assert_eq!(scratch.entries().len(), 2, "the names of the dead are gone: {:?}", scratch.entries());
    await_receivers(stays.sender(), 1);
    ask_for(&mut peer, "hearing 1", "senders 1");
    ask_for(&mut peer, "look", &format!("joined {}", std::process::id()));
    ask_for(&mut peer, "look", "nothing");
    quit(peer);
}

/// Mistake 7: a peer's data made the receiver panic. Whatever bytes a message has, they are only bytes.
#[test]
fn mistake_7_messages_that_look_like_headers_are_only_bytes() {
    let _guard = hang_guard();
    let (mut peer, mut connection) = obeying(&small());
    // Kinds 0 to 8 in the place of a record header, with lengths that would leave the ring.
    let mut count = 0;
    for kind in 0..=8_u64 {
        for len in [0, 1, 0x3fff, 0xffff_ffff] {
            peer.send_line(&format!("echo {}", 8 * 200));
            let word = (kind << 32 | len).to_le_bytes();
            let sent = word.repeat(200);
            connection.send(&sent).unwrap();
            assert_eq!(&*connection.recv().unwrap(), sent.as_slice());
            count += 1;
        }
    }
    let stats = connection.stats();
    assert_eq!((stats.received_messages, stats.violations), (count, 0));
}

/// Mistake 8: "zero allocation" was proved on a ring that nobody wrote to, and connections were not connections.
/// `allocations.rs` counts on rings that carry data; here: what is counted as sent is what the other process got.
#[test]
fn mistake_8_what_is_counted_as_sent_was_received_by_another_process() {
    let _guard = hang_guard();
    let (mut peer, mut connection) = obeying(&Config::new());
    assert_ne!(connection.peer_cred().pid, std::process::id());
    assert_eq!(connection.peer_cred().pid, peer.pid());
    for number in 0..1000 {
        connection.send(&message(number, 100)).unwrap();
    }
    peer.send_line("receive 1000 100");
    peer.expect_line("received 1000");
    peer.send_line("stats");
    assert_eq!((peer.next_number(), peer.next_number()), (1000, 100_000));
    let stats = connection.stats();
    assert_eq!((stats.sent_messages, stats.sent_bytes), (1000, 100_000));
}

/// Mistake 10: `sleep(1 us)` slept 1 ms and became the latency.
#[test]
fn mistake_10_an_idle_receiver_is_rung_and_sleeps_in_no_steps() {
    let _guard = hang_guard();
    let (mut peer, connection) = obeying(&Config::new().wait(Wait::Sleep));
    let (mut sender, mut receiver) = connection.split();
    let (tell, told) = mpsc::channel();
    let receiving = thread::spawn(move || {
        tell.send(common::thread_id()).unwrap();
        check(&receiver.recv().unwrap(), 0, 100);
        receiver
    });
    let thread = told.recv().unwrap();
    let own = std::process::id();
    common::wait_until("the receiver sleeps", || common::is_asleep(own, thread));
    let before = context_switches(thread);
    // The other process does something else for a while.
    for number in 0..200 {
        sender.send(&message(number, 100)).unwrap();
        peer.send_line("receive 1 100");
        peer.expect_line("received 1");
    }
    assert!(common::is_asleep(own, thread));
    assert_eq!(context_switches(thread), before, "it woke up although nothing came");
    peer.send_line("send 0 100");
    let receiver = receiving.join().unwrap();
    let stats = receiver.stats();
    assert_eq!(stats.data_sleeps, 1, "one sleep, however long");
    assert_eq!(stats.doorbell_bytes, 1, "ended by one ring");
    peer.expect_line("sent");
    peer.send_line("bells");
    assert_eq!(peer.next_number(), 1, "rings of the other process");
}

/// Mistake 10: an idle connection with a deadline sleeps until the deadline, once.
#[test]
fn mistake_10_a_time_out_is_one_sleep() {
    let _guard = hang_guard();
    let (_peer, mut connection) = obeying(&Config::new().wait(Wait::Sleep));
    let nothing = connection.recv_timeout(Duration::from_millis(30)).map(|_| ());
    assert_eq!(nothing, Err(RecvTimeoutError::Timeout));
    assert_eq!(connection.stats().data_sleeps, 1);
}

fn obeying(config: &Config) -> (Peer, Connection) {
    common::connected("obey", &[], config)
}

fn small() -> Config {
    Config::new().ring_bytes(16 << 10)
}

/// Returns how often a thread of this process went to sleep by itself.
fn context_switches(thread: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/self/task/{thread}/status")).unwrap();
    let line = status.lines().find(|line| line.starts_with("voluntary_ctxt_switches")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

// Roles.

/// Does what it is told: `send NUMBER LEN`, `receive COUNT LEN [FIRST]`, `echo LEN`, `nothing`, `stats`, `bells`.
///
/// Numbers of received messages begin at 0 with each new length, and go on while the length stays.
fn role_obey() {
    let mut connection = common::join(&Config::new().ring_bytes(16 << 10));
    let (mut next, mut last_len) = (0, usize::MAX);
    loop {
        let order = hear();
        let words: Vec<&str> = order.split(' ').collect();
        let number = |index: usize| words[index].parse::<u64>().unwrap();
        match words[0] {
            "send" => {
                connection.send(&message(number(1), number(2) as usize)).unwrap();
                common::say("sent");
            }
            "receive" => {
                let (count, len) = (number(1), number(2) as usize);
                if len != last_len {
                    (next, last_len) = (0, len);
                }
                if words.len() > 3 {
                    next = number(3);
                }
                for _ in 0..count {
                    check(&connection.recv().unwrap(), next, len);
                    next += 1;
                }
                common::say(&format!("received {count}"));
            }
            "echo" => {
                let (sender, receiver) = connection.halves();
                let message = receiver.recv().unwrap();
                assert_eq!(message.len() as u64, number(1));
                sender.send(&message).unwrap();
            }
            "nothing" => {
                assert!(matches!(connection.try_recv(), Err(ringway::TryRecvError::Empty)));
                common::say("nothing");
            }
            "stats" => {
                let stats = connection.stats();
                common::say(&stats.received_messages.to_string());
                common::say(&stats.received_bytes.to_string());
            }
            "bells" => common::say(&connection.stats().data_bells.to_string()),
            _ => panic!("what is {order:?}?"),
        }
    }
}

fn role_stream() {
    let mut connection = common::join(&Config::new().ring_bytes(16 << 10));
    for number in 0..common::number_variable("COUNT") {
        connection.send(&message(number, mixed_len(number, 256))).unwrap();
    }
}

/// Eight members of a channel that neither speak nor listen.
fn role_members() {
    let channel = common::variable("CHANNEL");
    let mut members: Vec<_> = (0..8).map(|_| member(&channel, "")).collect();
    members.iter_mut().for_each(|member| assert!(member.sender().receiver_count() >= 1));
    common::say("joined");
    hear();
}
