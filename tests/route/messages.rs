//! What is sent: history, claims, batches, lengths from nothing to several rings.

use crate::broadcast::actor::{ask_for, quit};
use crate::broadcast::{
    Book, Speech, await_receivers, expect_nothing, name, receiver, receiver_process, sender,
};
use crate::common::{self, DEADLINE, check, hang_guard, message, scratch_dir};
use ringway::CloseReason;
use ringway::broadcast::{Receiver, SendError, SendTimeoutError, Sender, Sent, TryRecvError, TrySendError};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// Lets somebody join, and returns which messages it gets without any being sent.
fn past(sender: &mut Sender, route: &str, options: &str) -> std::ops::Range<u64> {
    let mut late = receiver(route, options);
    await_receivers(sender, 1);
    assert_eq!(late.wait_for_senders(1, DEADLINE), Ok(1));
    let mut book = Book::default();
    loop {
        match late.try_recv() {
            Ok(message) => _ = book.hear(&message),
            Err(TryRecvError::Empty) => break,
            Err(error) => panic!("{error}"),
        }
    }
    drop(late);
    common::wait_until("it is gone", || sender.receiver_count() == 0);
    book.line(1).map_or(0..0, |line| line.first..line.next)
}

#[test]
fn a_late_receiver_gets_the_last_messages_that_are_kept_for_it() {
    let _guard = hang_guard();
    let scratch = scratch_dir();
    let route = name(&scratch, "news");
    for policy in ["policy=block", "policy=block:1000", "policy=overwrite", "policy=drop"] {
        let mut sender = sender(&route, &format!("history=10 {policy}"));
        let mut speech = Speech::new(1, 100);
        assert_eq!(past(&mut sender, &route, ""), 0..0, "nothing yet");
        speech.send(&mut sender, 4);
        assert_eq!(past(&mut sender, &route, ""), 0..4, "fewer than are kept");
        speech.send(&mut sender, 500);
        assert_eq!(past(&mut sender, &route, ""), 494..504, "{policy}");
        assert_eq!(past(&mut sender, &route, "history=3"), 501..504);
        assert_eq!(past(&mut sender, &route, "history=11"), 494..504);
        assert_eq!(past(&mut sender, &route, "history=0"), 0..0);
        // The past, then what is sent after it, without a seam.
        let mut late = receiver(&route, "history=5");
        speech.send_to(&mut sender, 1, 20);
        let mut book = Book::default();
        book.receive(&mut late, 25);
        assert_eq!(book.report(), speech.report(499..524));
        expect_nothing_more(&mut late);
    }
}

#[track_caller]
fn expect_nothing_more(receiver: &mut Receiver) {
    assert_eq!(receiver.try_recv().map(|message| message.to_vec()), Err(TryRecvError::Empty));
}

#[test]
fn a_history_is_shorter_when_the_ring_no_longer_has_it() {
    let _guard = hang_guard();
    let scratch = scratch_dir();
    let route = name(&scratch, "news");
    for policy in ["policy=block", "policy=overwrite"] {
        let mut sender = sender(&route, &format!("history=100000 {policy}"));
        let mut speech = Speech::new(1, 400);
        for _ in 0..40 {
            speech.send(&mut sender, 37);
            let range = past(&mut sender, &route, "");
            assert_eq!(range.end, speech.next, "{policy}: the last is always among them");
            let bytes: usize =
                range.clone().map(|number| 24 + common::mixed_len(number, 400 - 16)).sum::<usize>();
            assert!(bytes <= 16 << 10, "{policy}: {bytes} bytes in a ring of 16 KiB");
            // A record of a quarter of the ring is the most that can be in the way of one more.
            let most = speech.next < 80 || bytes >= 8 << 10;
            assert!(most, "{policy}: only {bytes} bytes of {} messages", speech.next);
        }
    }
}

#[test]
fn a_history_counts_messages_and_not_their_parts() {
    let _guard = hang_guard();
    let scratch = scratch_dir();
    let route = name(&scratch, "news");
    let mut sender = sender(&route, "history=3 ring=65536");
    // 20,000 bytes take two records.
    let mut speech = Speech::new(1, 20_000);
    for round in 0..40 {
        speech.send(&mut sender, 1);
        let range = past(&mut sender, &route, "");
        assert_eq!(range.end, speech.next, "round {round}");
        assert!(range.end - range.start <= 3, "round {round}: {range:?}");
        assert!(!range.is_empty(), "round {round}: a message of a third of the ring is there");
    }
    // One that is longer than the ring cannot be kept, and nothing of it is given.
    sender.send(&message(9, 100_000)).unwrap();
    assert_eq!(past(&mut sender, &route, ""), 0..0);
    speech.send(&mut sender, 1);
    assert_eq!(past(&mut sender, &route, ""), speech.next - 1..speech.next);
}

#[test]
fn messages_of_every_length_arrive_as_they_were() {
    let _guard = hang_guard();
    let scratch = scratch_dir();
    let route = name(&scratch, "news");
    for options in ["", "trust", "policy=block wait=sleep"] {
        let mut sender = sender(&route, options);
        let mut receivers = [receiver(&route, options), receiver(&route, options)];
        await_receivers(&mut sender, 2);
        let most = sender.record_bytes_max();
        assert_eq!(most, 4088);
        for (number, len) in [0, 1, 7, 8, 9, 0, 0, most - 1, most, 0, 24].into_iter().enumerate() {
            let number = number as u64;
            assert_eq!(sender.try_send(&message(number, len)), Ok(Sent::To { receivers: 2 }));
            for receiver in &mut receivers {
                check(&receiver.recv().unwrap(), number, len);
            }
        }
        let refused = TrySendError::TooLarge { len: most + 1, max: most };
        assert_eq!(sender.try_send(&vec![0; most + 1]), Err(refused.clone()));
        assert_eq!(sender.try_claim(most + 1).map(|_| ()), Err(refused));
        let max = sender.message_bytes_max();
        let refused = sender.send(&vec![0; max + 1]);
        assert_eq!(refused, Err(SendError::TooLarge { len: max + 1, max }));
        receivers.iter_mut().for_each(expect_nothing_more);
    }
}

#[test]
fn a_message_is_borrowed_only_where_nobody_is_ever_cut_off_or_overtaken() {
    let _guard = hang_guard();
    let scratch = scratch_dir();
    let route = name(&scratch, "news");
    for (policy, options, borrowed) in [
        ("policy=block", "trust", true),
        ("policy=drop", "trust", false),
        ("policy=block", "", false),
        ("policy=block:1000", "trust", false),
        ("policy=overwrite", "trust", false),
        ("policy=disconnect", "trust", false),
    ] {
        let mut sender = sender(&route, policy);
        let mut receiver = receiver(&route, options);
        sender.send(&message(1, 100)).unwrap();
        let got = receiver.recv().unwrap();
        assert_eq!(got.is_borrowed(), borrowed, "{policy} {options}");
        check(got.bytes(), 1, 100);
    }
}

#[test]
fn a_lent_message_keeps_its_bytes_while_the_sender_goes_on() {
    let _guard = hang_guard();
    let scratch = scratch_dir();
    let route = name(&scratch, "news");
    let mut sender = sender(&route, "policy=block");
    let mut holder = receiver(&route, "trust");
    let mut other = receiver(&route, "trust");
    for number in 0..200 {
        sender.send(&message(number, 500)).unwrap();
        let lent = holder.recv().unwrap();
        // As much as there is room for: up to the message that is lent.
        let mut sent = 0;
        while sender.try_send(&message(sent, 300)).is_ok() {
            sent += 1;
        }
        assert!(lent.is_borrowed() && sent > 10);
        check(&lent, number, 500);
        check(&other.recv().unwrap(), number, 500);
        for receiver in [&mut holder, &mut other] {
            (0..sent).for_each(|number| check(&receiver.recv().unwrap(), number, 300));
        }
    }
}

#[test]
fn a_claim_is_built_in_place_once_and_read_by_all() {
    let _guard = hang_guard();
    let scratch = scratch_dir();
    let route = name(&scratch, "news");
    let mut sender = sender(&route, "");
    let mut receivers = [receiver(&route, ""), receiver(&route, "trust")];
    for number in 0..300 {
        let len = common::mixed_len(number, 2000);
        let mut claim = sender.claim(len).unwrap();
        common::fill(&mut claim, number);
        assert_eq!(claim.commit(), Sent::To { receivers: 2 });
        // Given up in all ways: leaves no trace.
        sender.try_claim(100).unwrap().abort();
        drop(sender.claim_timeout(200, DEADLINE).unwrap());
        let mut claim = sender.try_claim_aligned(64, 64).unwrap();
        assert!((claim.as_ptr() as usize).is_multiple_of(64));
        common::fill(&mut claim[..40], number);
        assert_eq!(claim.commit_len(40), Sent::To { receivers: 2 });
        for receiver in &mut receivers {
            check(&receiver.recv().unwrap(), number, len);
            check(&receiver.recv().unwrap(), number, 40);
        }
    }
    assert_eq!(sender.stats().sent_messages, 600);
    receivers.iter_mut().for_each(expect_nothing_more);
}

#[test]
fn a_batch_appears_to_all_and_says_how_much_of_it_was_sent() {
    let _guard = hang_guard();
    let scratch = scratch_dir();
    let route = name(&scratch, "news");
    let mut sender = sender(&route, "");
    let peer = receiver_process(&route, "");
    let mut peer = peer;
    let mut own = receiver(&route, "");
    await_receivers(&mut sender, 2);
    let mut speech = Speech::new(1, 300);
    let mut book = Book::default();
    let none: [&[u8]; 0] = [];
    assert_eq!(sender.try_send_batch(&none), Ok(0));
    // More than the ring holds: a part of it now, and then nothing, because of the other process.
    let batch: Vec<Vec<u8>> = (0..200).map(|_| speech.next().to_vec()).collect();
    let sent = sender.try_send_batch(&batch).unwrap();
    assert!((40..150).contains(&sent), "{sent} of 200 messages of about 160 bytes");
    let refused = sender.try_send_batch(&batch[sent..]);
    assert!(matches!(refused, Err(TrySendError::WouldBlock { .. })), "{refused:?}");
    peer.send_line("end");
    assert_eq!(own.wait_for_senders(1, DEADLINE), Ok(1));
    let mut received = 0;
    while received < sent {
        received += own.try_recv_batch(16, |message| _ = book.hear(&message)).unwrap();
    }
    // The rest, by the verb that waits; this process must read meanwhile.
    let rest = batch.len() - sent;
    std::thread::scope(|scope| {
        let reading = scope.spawn(|| book.receive(&mut own, rest as u64));
        assert_eq!(sender.send_batch(&batch[sent..]), Ok(rest));
        reading.join().unwrap();
    });
    assert_eq!(book.report(), speech.report_all());
    drop(sender);
    peer.expect_line(&format!("end PeerClosed {}", speech.report_all()));
    quit(peer);
}

#[test]
fn messages_longer_than_the_ring_arrive_whole_at_all_receivers() {
    let _guard = hang_guard();
    let scratch = scratch_dir();
    let route = name(&scratch, "news");
    let mut sender = sender(&route, "");
    let mut peers: Vec<_> = (0..3).map(|_| receiver_process(&route, "")).collect();
    await_receivers(&mut sender, 3);
    peers.iter_mut().for_each(|peer| peer.send_line("end"));
    let mut speech = Speech::new(1, 300_000);
    speech.send_to(&mut sender, 3, 60);
    assert_eq!(sender.stats().sent_messages, 60, "however many parts they had");
    drop(sender);
    peers.iter_mut().for_each(|peer| peer.expect_line(&format!("end PeerClosed {}", speech.report_all())));
    peers.into_iter().for_each(quit);
}

#[test]
fn who_joins_in_the_middle_of_a_long_message_begins_with_the_next_one() {
    let _guard = hang_guard();
    let scratch = scratch_dir();
    let route = name(&scratch, "news");
    let mut sender = sender(&route, "history=2");
    let mut steady = receiver(&route, "");
    await_receivers(&mut sender, 1);
    let enough = AtomicBool::new(false);
    let mut speech = Speech::new(1, 200_000);
    let sent = std::thread::scope(|scope| {
        let sending = scope.spawn(|| {
            while !enough.load(Ordering::Relaxed) {
                speech.send(&mut sender, 1);
            }
            drop(sender);
            speech.next
        });
        let reading = scope.spawn(|| {
            let mut book = Book::default();
            assert_eq!(book.receive_to_end(&mut steady), CloseReason::PeerClosed);
            book.count()
        });
        for _ in 0..40 {
            let mut book = Book::default();
            let mut late = receiver(&route, "");
            book.receive(&mut late, 2);
        }
        enough.store(true, Ordering::Relaxed);
        let sent = sending.join().unwrap();
        assert_eq!(reading.join().unwrap(), sent);
        sent
    });
    assert!(sent > 40);
}

#[test]
fn a_long_message_that_was_given_up_is_delivered_to_nobody() {
    let _guard = hang_guard();
    let scratch = scratch_dir();
    let route = name(&scratch, "news");
    let mut sender = sender(&route, "policy=block");
    let mut quick = receiver(&route, "");
    let mut slow = receiver_process(&route, "");
    await_receivers(&mut sender, 2);
    let mut speech = Speech::new(1, 1000);
    let mut book = Book::default();
    for _ in 0..5 {
        let refused = sender.send_timeout(&vec![0xee; 100_000], Duration::from_millis(5));
        let Err(SendTimeoutError::Timeout { pid, .. }) = refused else { panic!("{refused:?}") };
        assert!(pid == slow.pid() || pid == std::process::id());
        // Room for what comes next is made by reading what was begun.
        expect_nothing_more(&mut quick);
        ask_for(&mut slow, "receive 0", &format!("received {}", speech.report_all()));
        while ask_nothing(&mut slow) {
            match sender.try_send(speech.next()) {
                Ok(sent) => {
                    assert_eq!(sent, Sent::To { receivers: 2 });
                    break;
                }
                Err(TrySendError::WouldBlock { .. }) => speech.unsaid(),
                Err(error) => panic!("{error}"),
            }
        }
        book.receive(&mut quick, 1);
        ask_for(&mut slow, "receive 1", &format!("received {}", speech.report_all()));
        assert_eq!(book.report(), speech.report_all());
    }
    expect_nothing(&mut quick);
    quit(slow);
}

/// Lets it look, which takes unfinished parts out of the ring.
fn ask_nothing(peer: &mut common::Peer) -> bool {
    let answer = crate::broadcast::actor::ask(peer, "look");
    assert!(answer == "nothing" || answer.starts_with("joined"), "{answer}");
    true
}
