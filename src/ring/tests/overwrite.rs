//! Rings whose writer never waits: readers notice that they were overrun and go on at a boundary.

use super::*;

/// Where the writer stands, as it says itself.
fn published(rig: &Rig) -> u64 {
    rig.writer.word(layout::producer::PUBLISHED).load_relaxed()
}

#[test]
fn the_writer_of_an_overwrite_ring_is_never_full() {
    let mut rig = Rig::overwrite(2);
    assert!((0..10_000).all(|number| rig.send(&payload(number, 100))));
}

#[test]
fn a_reader_that_keeps_up_loses_nothing() {
    let mut rig = Rig::overwrite(1);
    for number in 0..5000 {
        let len = (number * 61 % (PAYLOAD_MAX as u64 + 1)) as usize;
        assert!(rig.send(&payload(number, len)));
        assert_eq!(rig.readers[0].find(), Found::Message(payload(number, len)));
    }
    assert_eq!(rig.readers[0].find(), Found::Empty);
}

#[test]
fn a_slow_reader_is_told_the_exact_bytes_and_goes_on_at_a_boundary() {
    for read_first in [0, 3, 100] {
        let mut rig = Rig::overwrite(1);
        for number in 0..read_first {
            assert!(rig.send(&payload(number, 40)));
            assert_eq!(rig.readers[0].find(), Found::Message(payload(number, 40)));
        }
        let head = published(&rig);
        for number in 0..1000 {
            assert!(rig.send(&payload(number, 40)));
        }
        let lag = Lag { bytes: published(&rig) - head, messages: read_first + 1000 };
        assert_eq!(rig.readers[0].find(), Found::Lagged(lag));
        assert_eq!(rig.readers[0].find(), Found::Empty);
        assert!(rig.send(b"after"));
        assert_eq!(rig.readers[0].find(), Found::Message(b"after".to_vec()));
    }
}

#[test]
fn a_full_ring_less_one_word_is_still_readable() {
    let mut rig = Rig::overwrite(1);
    // 255 records of 64 bytes: the header after the last lies 56 bytes before the oldest record.
    let count = RING / 64 - 1;
    for number in 0..count {
        assert!(rig.send(&payload(number, 56)));
    }
    for number in 0..7 {
        assert!(rig.send(&payload(number, 0)));
    }
    for number in 0..count {
        assert_eq!(rig.readers[0].find(), Found::Message(payload(number, 56)));
    }
    for _ in 0..7 {
        assert_eq!(rig.readers[0].find(), Found::Message(vec![]));
    }
    assert_eq!(rig.readers[0].find(), Found::Empty);
}

#[test]
fn one_word_more_than_the_ring_holds_is_a_lag() {
    let mut rig = Rig::overwrite(1);
    for number in 0..RING / 64 {
        assert!(rig.send(&payload(number, 56)));
    }
    assert_eq!(rig.readers[0].find(), Found::Lagged(Lag { bytes: RING, messages: RING / 64 }));
}

#[test]
fn what_is_overwritten_between_look_and_copy_is_not_delivered() {
    let mut rig = Rig::overwrite(1);
    assert!(rig.send(&payload(0, 1000)));
    let Polled::Record(record) = rig.readers[0].consumer.poll().unwrap() else { panic!("empty") };
    for number in 1..17 {
        assert!(rig.send(&payload(number, 1000)));
    }
    let mut out = b"kept".to_vec();
    assert!(!rig.readers[0].consumer.take(record, &mut out));
    assert_eq!(out, b"kept", "what was read before stays, what was torn goes");
    assert_eq!(rig.readers[0].find(), Found::Lagged(Lag { bytes: published(&rig), messages: 17 }));
    assert!(rig.send(b"after"));
    assert_eq!(rig.readers[0].find(), Found::Message(b"after".to_vec()));
}

#[test]
fn what_the_writer_may_be_writing_counts_as_overwritten() {
    let mut rig = Rig::overwrite(1);
    for number in 0..RING / 64 - 1 {
        assert!(rig.send(&payload(number, 56)));
    }
    let tail = published(&rig);
    let reservation = rig.producer.reserve(56, 8).unwrap();
    rig.producer.claimed_mut(&reservation).fill(0xff);
    assert_eq!(
        rig.readers[0].find(),
        Found::Lagged(Lag { bytes: tail, messages: RING / 64 - 1 }),
        "announced, though not yet published"
    );
    rig.producer.stage(reservation, Kind::Data, 56);
    rig.producer.publish();
    assert_eq!(rig.readers[0].find(), Found::Message(vec![0xff; 56]));
}

#[test]
fn nothing_is_ever_lent_in_place() {
    let mut rig = Rig::overwrite(1);
    assert!(rig.send(b"message"));
    let Polled::Record(record) = rig.readers[0].consumer.poll().unwrap() else { panic!("empty") };
    assert!(rig.readers[0].consumer.borrow(&record).is_none());
}

#[test]
fn a_late_reader_of_an_overwrite_ring_starts_at_the_tail() {
    let mut rig = Rig::overwrite(0);
    for number in 0..1000 {
        assert!(rig.send(&payload(number, 100)));
    }
    assert_eq!(rig.join(), published(&rig));
    assert_eq!(rig.readers[0].find(), Found::Empty);
    assert!(rig.send(b"later"));
    assert_eq!(rig.readers[0].find(), Found::Message(b"later".to_vec()));
}

#[test]
fn a_reader_that_was_overrun_in_the_middle_of_a_message_can_forget_its_parts() {
    let mut rig = Rig::overwrite(1);
    let mut assembly = Assembly::new(1 << 20);
    let reservation = rig.producer.reserve(100, 8).unwrap();
    rig.producer.stage(reservation, Kind::FragmentFirst, 100);
    rig.producer.publish();
    let Polled::Record(record) = rig.readers[0].consumer.poll().unwrap() else { panic!("empty") };
    assert!(assembly.step(record.kind, record.len).is_ok());
    assert!(rig.readers[0].consumer.take(record, assembly.parts()));
    for number in 0..100 {
        assert!(rig.send(&payload(number, 1000)));
    }
    assert!(matches!(rig.readers[0].find(), Found::Lagged(_)));
    assembly.lose();
    assert_eq!(assembly.step(Kind::Data, 5), Ok(Step::Whole));
    assert!(assembly.message().is_empty());
}

/// Fills an overwrite ring so that its reader is nearly as far behind as it may be, the tail far from the end.
fn barely_behind() -> Rig {
    let mut rig = Rig::overwrite(1);
    for number in 0..RING / 2 / 64 {
        assert!(rig.send(&payload(number, 56)));
        assert_eq!(rig.readers[0].find(), Found::Message(payload(number, 56)));
    }
    for number in 0..(RING - 1024) / 64 {
        assert!(rig.send(&payload(number, 56)));
    }
    rig
}

#[test]
fn a_dropped_claim_is_not_forgotten_by_a_smaller_one() {
    let mut rig = barely_behind();
    // Writes over the oldest records, then gives up.
    let claim = rig.producer.reserve(PAYLOAD_MAX, 8).unwrap();
    rig.producer.claimed_mut(&claim).fill(0xff);
    assert!(rig.send(b"small"));
    let behind = published(&rig) - RING / 2;
    let found = rig.readers[0].find();
    assert!(
        matches!(found, Found::Lagged(lag) if lag.bytes == behind),
        "garbage where the oldest record was"
    );
}

#[test]
fn a_shorter_commit_is_not_forgotten_by_the_next_record() {
    let mut rig = barely_behind();
    let claim = rig.producer.reserve(PAYLOAD_MAX, 8).unwrap();
    rig.producer.claimed_mut(&claim).fill(0xff);
    rig.producer.stage(claim, Kind::Data, 8);
    rig.producer.publish();
    assert!(rig.send(b"small"));
    let behind = published(&rig) - RING / 2;
    let found = rig.readers[0].find();
    assert!(
        matches!(found, Found::Lagged(lag) if lag.bytes == behind),
        "garbage where the oldest record was"
    );
}

/// Stages records of 64 bytes, at most `count` and as many as the ring takes in one batch.
fn stage_many(rig: &mut Rig, count: u64) -> u64 {
    (0..count).take_while(|number| rig.stage(&payload(*number, 56))).count() as u64
}

/// Reads everything; all of a batch must come, or a lag that skips it.
fn read_batch(rig: &mut Rig, staged: u64) {
    let mut next = 0;
    loop {
        match rig.readers[0].find() {
            Found::Empty => break,
            Found::Message(message) => {
                assert!(next < staged, "there is no record behind the end of the batch");
                assert_eq!(message, payload(next, 56));
                next += 1;
            }
            Found::Lagged(lag) => {
                assert_eq!((next, lag.bytes), (0, staged * 64));
                next = staged;
            }
            Found::Cut => panic!("cut off by a writer that never waits"),
        }
    }
    assert_eq!(next, staged);
}

#[test]
fn a_batch_as_long_as_the_ring_leaves_no_record_behind_its_end() {
    for laps in 1..=2 {
        let mut rig = Rig::overwrite(1);
        let staged = stage_many(&mut rig, laps * RING / 64);
        rig.producer.publish();
        read_batch(&mut rig, staged);
        assert!(rig.send(b"after"));
        assert_eq!(rig.readers[0].find(), Found::Message(b"after".to_vec()));
    }
}

#[test]
fn a_batch_as_long_as_the_ring_that_nobody_reads_leaves_nothing_for_who_joins() {
    let mut rig = Rig::new(0);
    assert!(stage_many(&mut rig, RING / 64) > 0);
    rig.producer.publish();
    rig.join();
    assert_eq!(rig.readers[0].find(), Found::Empty, "the header of the batch, taken for a new record");
}

#[test]
fn a_reader_that_has_read_everything_is_never_told_of_a_lag_of_nothing() {
    let mut rig = Rig::overwrite(1);
    // An unpublished batch longer than the ring: the reader at its beginning has lost nothing yet.
    for number in 0..2 * RING / 64 {
        rig.stage(&payload(number, 56));
        assert_eq!(rig.readers[0].find(), Found::Empty, "after {} records of the batch", number + 1);
    }
}
