//! Models of the ring for loom: every pair of `docs/ordering.md`, each with a weakened twin that must go red.
//!
//! Both sides are spawned, own positions are plain locals, and the number of interleavings is asserted: a model that
//! explores one proves nothing.

use super::record::Kind;
use super::*;
use crate::primitive::{explore, explore_within};
use crate::shm::{loom_ring, loom_word};

/// One producer and `readers` consumers on a ring of `words` words.
fn ring(words: usize, readers: u64, mode: Mode) -> (Producer, Vec<Consumer>) {
    let (own, peer) = loom_ring(words, mode != Mode::Lossless);
    let (published, seen_published) = loom_word();
    let (intent, seen_intent) = loom_word();
    let (close, seen_close) = loom_word();
    let (messages, seen_messages) = loom_word();
    let (messages_after, seen_messages_after) = loom_word();
    let record_bytes_max = own.ring_bytes() / 2;
    let mut producer = Producer::new(ProducerParts {
        ring: own,
        published,
        intent,
        close,
        messages,
        messages_after,
        mode,
        record_bytes_max,
        allocate: None,
    });
    let consumers = (0..readers)
        .map(|number| {
            let (consumed, seen_consumed) = loom_word();
            Consumer::new(ConsumerParts {
                ring: peer.clone(),
                published: seen_published.clone(),
                intent: seen_intent.clone(),
                close: seen_close.clone(),
                messages: seen_messages.clone(),
                messages_after: seen_messages_after.clone(),
                consumed,
                mode,
                record_bytes_max,
                start: producer.add_reader(number, seen_consumed),
            })
        })
        .collect();
    (producer, consumers)
}

fn payload(number: u64) -> [u8; 8] {
    (0x0101_0101_0101_0101 * (number + 1)).to_le_bytes()
}

fn send(producer: &mut Producer, number: u64) -> bool {
    let sent = stage(producer, number);
    producer.publish();
    sent
}

fn stage(producer: &mut Producer, number: u64) -> bool {
    let Ok(reservation) = producer.reserve(8, 8) else { return false };
    producer.write(&reservation, &payload(number));
    producer.stage(reservation, Kind::Data, 8);
    true
}

/// Takes what is there; checks that it is message `number`.
fn receive(consumer: &mut Consumer, number: u64) -> bool {
    let Polled::Record(record) = consumer.poll().unwrap() else { return false };
    let mut out = Vec::new();
    assert!(consumer.take(record, &mut out));
    consumer.release();
    assert_eq!(out, payload(number), "message {number} is torn");
    true
}

/// Passes a full lap over the ring, so that stale payload lies where headers will be looked for.
fn warm_up(producer: &mut Producer, consumer: &mut Consumer, messages: u64) {
    for number in 0..messages {
        assert!(send(producer, number) && receive(consumer, number));
    }
}

#[test]
fn loom_a_message_is_whole_or_absent() {
    explore(|| {
        let (mut producer, mut consumers) = ring(8, 1, Mode::Lossless);
        let mut consumer = consumers.remove(0);
        warm_up(&mut producer, &mut consumer, 3);
        let writer = loom::thread::spawn(move || {
            assert!(send(&mut producer, 3));
            assert!(send(&mut producer, 4));
        });
        let reader = loom::thread::spawn(move || {
            let mut next = 3;
            for _ in 0..3 {
                next += u64::from(receive(&mut consumer, next));
            }
            next
        });
        writer.join().unwrap();
        assert!(reader.join().unwrap() <= 5);
    });
}

#[test]
fn loom_a_message_on_the_short_path_is_whole_or_absent() {
    explore(|| {
        let (mut producer, mut consumers) = ring(8, 1, Mode::Lossless);
        let mut consumer = consumers.remove(0);
        // A lap and back to its beginning, where there is room for two without another look.
        warm_up(&mut producer, &mut consumer, 4);
        let writer = loom::thread::spawn(move || {
            let mut number = 4;
            while producer.append(&payload(number)) {
                producer.publish();
                number += 1;
            }
            number
        });
        let reader = loom::thread::spawn(move || {
            let mut next = 4;
            for _ in 0..3 {
                let Some(record) = consumer.poll_plain(8) else { continue };
                let mut out = Vec::new();
                assert!(consumer.take_plain(record, &mut out));
                assert_eq!(out, payload(next), "message {next} is torn");
                next += 1;
            }
            next
        });
        let sent = writer.join().unwrap();
        assert!(sent > 4, "the short path was never open");
        assert!(reader.join().unwrap() <= sent);
    });
}

#[test]
fn loom_room_is_reused_only_after_it_was_read() {
    explore(|| {
        // Six messages of two words on eight words: the writer must wait for the reader's position.
        let (mut producer, mut consumers) = ring(8, 1, Mode::Lossless);
        let mut consumer = consumers.remove(0);
        for number in 0..3 {
            assert!(send(&mut producer, number));
        }
        let writer = loom::thread::spawn(move || {
            let mut next = 3;
            for _ in 0..3 {
                next += u64::from(send(&mut producer, next));
            }
        });
        let reader = loom::thread::spawn(move || {
            let mut next = 0;
            for _ in 0..4 {
                next += u64::from(receive(&mut consumer, next));
            }
            assert!(next >= 3, "what was published before is there");
        });
        writer.join().unwrap();
        reader.join().unwrap();
    });
}

#[test]
fn loom_a_batch_appears_at_once() {
    explore(|| {
        let (mut producer, mut consumers) = ring(8, 1, Mode::Lossless);
        let mut consumer = consumers.remove(0);
        warm_up(&mut producer, &mut consumer, 3);
        let writer = loom::thread::spawn(move || {
            // Starts at word 6: the second record is behind the end of the ring.
            assert!(stage(&mut producer, 3) && stage(&mut producer, 4));
            producer.publish();
        });
        let reader = loom::thread::spawn(move || {
            for _ in 0..2 {
                if receive(&mut consumer, 3) {
                    assert!(receive(&mut consumer, 4), "the second of a batch is missing");
                    return;
                }
            }
        });
        writer.join().unwrap();
        reader.join().unwrap();
    });
}

#[test]
fn loom_a_padding_record_leads_to_a_whole_message() {
    explore(|| {
        let (mut producer, mut consumers) = ring(8, 1, Mode::Lossless);
        let mut consumer = consumers.remove(0);
        warm_up(&mut producer, &mut consumer, 3);
        let long = [7_u8; 16];
        let writer = loom::thread::spawn(move || {
            // Three words do not fit into the two that are left before the end.
            let reservation = producer.reserve(16, 8).unwrap();
            producer.write(&reservation, &long);
            producer.stage(reservation, Kind::Data, 16);
            producer.publish();
        });
        let reader = loom::thread::spawn(move || {
            for _ in 0..2 {
                if let Polled::Record(record) = consumer.poll().unwrap() {
                    let mut out = Vec::new();
                    assert!(consumer.take(record, &mut out));
                    assert_eq!(out, long);
                    return;
                }
            }
        });
        writer.join().unwrap();
        reader.join().unwrap();
    });
}

#[test]
fn loom_two_readers_get_everything() {
    explore(|| {
        let (mut producer, mut consumers) = ring(8, 2, Mode::Lossless);
        assert!((0..3).all(|number| send(&mut producer, number)));
        let writer = loom::thread::spawn(move || {
            let mut next = 3;
            for _ in 0..2 {
                next += u64::from(send(&mut producer, next));
            }
        });
        let mut second = consumers.remove(1);
        let reader = loom::thread::spawn(move || {
            for number in 0..2 {
                assert!(receive(&mut second, number));
            }
        });
        let mut first = consumers.remove(0);
        for number in 0..2 {
            assert!(receive(&mut first, number));
        }
        writer.join().unwrap();
        reader.join().unwrap();
    });
}

#[test]
fn loom_an_overrun_is_noticed_and_never_delivered() {
    explore(|| {
        let (mut producer, mut consumers) = ring(4, 1, Mode::Overwrite);
        let mut consumer = consumers.remove(0);
        assert!(send(&mut producer, 0));
        let writer = loom::thread::spawn(move || {
            // Overwrites the message that the reader may be copying.
            assert!(send(&mut producer, 1) && send(&mut producer, 2));
        });
        let reader = loom::thread::spawn(move || {
            let Polled::Record(record) = consumer.poll().unwrap() else { return };
            let mut out = Vec::new();
            if consumer.take(record, &mut out) {
                assert_eq!(out, payload(0), "delivered what was overwritten");
            } else {
                assert!(out.is_empty() && matches!(consumer.poll(), Ok(Polled::Lagged(_))));
            }
        });
        writer.join().unwrap();
        reader.join().unwrap();
    });
}

#[test]
fn loom_who_sees_the_close_word_sees_every_record_before_it() {
    explore(|| {
        let (mut producer, mut consumers) = ring(8, 1, Mode::Lossless);
        let mut consumer = consumers.remove(0);
        let writer = loom::thread::spawn(move || {
            assert!(send(&mut producer, 0));
            producer.close();
        });
        let reader = loom::thread::spawn(move || {
            if consumer.is_closed() {
                assert!(receive(&mut consumer, 0), "closed, but its last record is missing");
            }
        });
        writer.join().unwrap();
        reader.join().unwrap();
    });
}

#[test]
fn loom_who_is_overrun_finds_a_boundary_ahead() {
    explore(|| {
        let (mut producer, mut consumers) = ring(4, 1, Mode::Overwrite);
        let mut consumer = consumers.remove(0);
        warm_up(&mut producer, &mut consumer, 1);
        let writer = loom::thread::spawn(move || {
            // The second overwrites the first, which is the only boundary that the reader does not know.
            assert!(send(&mut producer, 1) && send(&mut producer, 2));
        });
        let reader = loom::thread::spawn(move || match consumer.poll() {
            Ok(Polled::Lagged(lag)) => assert!(lag.bytes > 0),
            Ok(_) => {}
            Err(violation) => panic!("an honest writer is accused: {violation}"),
        });
        writer.join().unwrap();
        reader.join().unwrap();
    });
}

/// Takes what is there, on the short path where that is open; checks that it is message `number`. `None`: the writer
/// overtook us.
fn receive_or_lose(consumer: &mut Consumer, number: u64) -> Option<bool> {
    let mut out = Vec::new();
    let taken = match consumer.poll_plain(8) {
        Some(record) => consumer.take_plain(record, &mut out),
        None => match consumer.poll().unwrap() {
            Polled::Empty => return Some(false),
            Polled::Record(record) => consumer.take(record, &mut out),
            Polled::Lagged(_) | Polled::Cut => return None,
        },
    };
    if !taken {
        assert!(out.is_empty() && matches!(consumer.poll(), Ok(Polled::Lagged(_) | Polled::Cut)));
        return None;
    }
    assert_eq!(out, payload(number), "message {number} is torn");
    consumer.release();
    Some(true)
}

#[test]
fn loom_two_readers_that_may_be_overrun_get_nothing_torn() {
    // Two are enough: from a reader to the writer and back.
    explore_within(2, || {
        let (mut producer, consumers) = ring(8, 2, Mode::Overwrite);
        assert!((0..3).all(|number| send(&mut producer, number)));
        let writer = loom::thread::spawn(move || {
            // The second is written over the message that the readers may be copying. To publish it would only add steps.
            assert!(stage(&mut producer, 3) && stage(&mut producer, 4));
        });
        let readers = consumers.into_iter().map(|mut consumer| {
            loom::thread::spawn(move || {
                let record = consumer.poll_plain(8).unwrap();
                let mut out = Vec::new();
                let taken = consumer.take_plain(record, &mut out);
                assert!(!taken || out == payload(0), "delivered what was overwritten");
            })
        });
        let readers = readers.collect::<Vec<_>>();
        writer.join().unwrap();
        readers.into_iter().for_each(|reader| reader.join().unwrap());
    });
}

#[test]
fn loom_who_is_cut_off_gets_nothing_torn_and_the_other_loses_nothing() {
    explore(|| {
        let (mut producer, mut consumers) = ring(4, 2, Mode::Checked);
        let mut other = consumers.remove(1);
        let mut cut = consumers.remove(0);
        assert!(send(&mut producer, 0) && receive(&mut other, 0));
        let writer = loom::thread::spawn(move || {
            producer.remove_reader(0);
            assert!(send(&mut producer, 1));
            // Over what the one may be copying, but not before the other has read on.
            2 + u64::from(send(&mut producer, 2))
        });
        let cut = loom::thread::spawn(move || {
            // Published before, so there is something, whether it is still the message or not.
            assert_ne!(receive_or_lose(&mut cut, 0), Some(false));
        });
        let other = loom::thread::spawn(move || {
            let next = 1 + u64::from(receive(&mut other, 1));
            (other, next)
        });
        let sent = writer.join().unwrap();
        cut.join().unwrap();
        let (mut other, next) = other.join().unwrap();
        assert!((next..sent).all(|number| receive(&mut other, number)), "the other lost something");
    });
}

#[test]
fn loom_a_count_that_agrees_belongs_to_its_position() {
    explore(|| {
        let (mut producer, mut consumers) = ring(8, 1, Mode::Overwrite);
        let consumer = consumers.remove(0);
        let writer = loom::thread::spawn(move || {
            for number in 0..2 {
                assert!(stage(&mut producer, number));
                producer.count(1);
                producer.publish();
            }
        });
        let reader = loom::thread::spawn(move || {
            for _ in 0..2 {
                let (seen, messages, agree) = consumer.published_at_once();
                assert!(16 * messages <= seen, "messages that are not there");
                assert!(!agree || 16 * messages == seen, "{messages} messages do not take {seen} bytes");
            }
        });
        writer.join().unwrap();
        reader.join().unwrap();
    });
}
