//! Several readers of one ring: who is where, who holds up the writer, who is cut off, who joins in the past.

use super::*;
use crate::error::Violation;

/// Sends messages of 64 bytes each, with the numbers from `first` on, until the ring is full.
fn fill(rig: &mut Rig, first: u64) -> u64 {
    until_full(|number| rig.send(&payload(first + number, 56)))
}

/// Reads messages of 64 bytes, with the numbers from `first` on, and tells the writer.
fn read(rig: &mut Rig, reader: usize, first: u64, count: u64) {
    for number in first..first + count {
        assert_eq!(rig.readers[reader].find(), Found::Message(payload(number, 56)), "message {number}");
    }
    rig.readers[reader].consumer.release();
}

/// Where the readers are, as the writer last saw it.
fn places(readers: impl Iterator<Item = ReaderAt>) -> Vec<(u64, u64)> {
    readers.map(|reader| (reader.number, reader.position)).collect()
}

#[test]
fn readers_are_where_they_were_when_last_looked_at() {
    for mode in [Mode::Lossless, Mode::Checked, Mode::Overwrite] {
        let mut rig = Rig::with(RING, mode, 2);
        assert!((0..10).all(|number| rig.send(&payload(number, 56))));
        rig.join();
        read(&mut rig, 1, 0, 3);
        assert_eq!(places(rig.producer.readers()), [(0, 0), (1, 0), (2, 640)]);
        assert_eq!(rig.producer.look(), Ok(()));
        assert_eq!(places(rig.producer.readers()), [(0, 0), (1, 192), (2, 640)]);
        rig.producer.remove_reader(0);
        assert_eq!(places(rig.producer.readers()), [(1, 192), (2, 640)]);
    }
}

#[test]
fn a_look_names_the_reader_that_lies() {
    let mut rig = Rig::overwrite(3);
    assert!(rig.send(&payload(0, 56)));
    rig.readers[1].own.word(layout::consumer::CONSUMED).store_release(72);
    let violation = Violation::Position { seen: 72, last: 0, published: 64 };
    assert_eq!(rig.producer.look(), Err((1, violation)));
    rig.producer.remove_reader(1);
    assert_eq!(rig.producer.look(), Ok(()));
}

#[test]
fn those_who_hold_up_a_record_are_named() {
    for mode in [Mode::Lossless, Mode::Checked] {
        let mut rig = Rig::with(RING, mode, 3);
        let sent = fill(&mut rig, 0);
        assert_eq!(places(rig.producer.blockers()), [(0, 0), (1, 0), (2, 0)]);
        read(&mut rig, 1, 0, sent);
        // Makes room for one message of 64 bytes with a header after it, not for a larger one.
        read(&mut rig, 2, 0, 1);
        assert!(matches!(rig.producer.reserve(56, 8), Err(NoRoom::Full)));
        assert_eq!(places(rig.producer.blockers()), [(0, 0)]);
        assert!(matches!(rig.producer.reserve(120, 8), Err(NoRoom::Full)));
        assert_eq!(places(rig.producer.blockers()), [(0, 0), (2, 64)]);
        rig.producer.remove_reader(0);
        assert!(rig.producer.reserve(56, 8).is_ok());
    }
}

#[test]
fn nobody_holds_up_the_writer_of_an_overwrite_ring() {
    let mut rig = Rig::overwrite(1);
    // Only a batch as long as the ring is ever too much.
    assert!((0..RING).any(|number| !rig.stage(&payload(number, 56))));
    assert_eq!(places(rig.producer.blockers()), []);
}

#[test]
fn a_reader_that_was_removed_reads_on_until_its_bytes_go_and_then_is_cut() {
    let mut rig = Rig::checked(2);
    let sent = fill(&mut rig, 0);
    assert_eq!(sent, RING / 64 - 1);
    read(&mut rig, 1, 0, sent);
    rig.producer.remove_reader(0);
    // Further than what is announced at once.
    read(&mut rig, 0, 0, 64);
    assert!(rig.send(&payload(sent, 56)), "nobody waits for the one that was removed");
    read(&mut rig, 0, 64, 100);
    let more = fill(&mut rig, sent + 1);
    assert!(rig.readers[0].consumer.is_ready(), "a look brings news");
    assert_eq!(rig.readers[0].find(), Found::Cut);
    assert_eq!(rig.readers[0].find(), Found::Cut, "there is nothing after it");
    read(&mut rig, 1, sent, 1 + more);
}

#[test]
fn what_is_overwritten_between_look_and_copy_cuts_a_reader_that_was_removed() {
    for plain in [false, true] {
        let mut rig = Rig::checked(2);
        let sent = fill(&mut rig, 0);
        read(&mut rig, 1, 0, sent);
        let record = if plain {
            rig.readers[0].consumer.poll_plain(RECORD_MAX).unwrap()
        } else {
            let Polled::Record(record) = rig.readers[0].consumer.poll().unwrap() else { panic!("empty") };
            record
        };
        rig.producer.remove_reader(0);
        fill(&mut rig, sent);
        let mut out = b"kept".to_vec();
        assert!(!rig.readers[0].consumer.take_plain(record, &mut out));
        assert_eq!(out, b"kept");
        assert_eq!(rig.readers[0].find(), Found::Cut);
    }
}

#[test]
fn a_reader_whose_position_was_overwritten_by_zeros_is_ready_for_the_news() {
    for mode in [Mode::Checked, Mode::Overwrite] {
        let mut rig = Rig::with(RING, mode, 1);
        assert!(rig.send(&[0; 1000]));
        rig.producer.remove_reader(0);
        while rig.producer.holds(0) {
            assert!(rig.send(&[0; 1000]));
        }
        // The ring may be read at its very beginning while there is a header.
        assert!((0..RING / 1000).all(|_| rig.send(&[0; 1000])));
        assert!(rig.readers[0].consumer.is_ready());
        assert!(matches!(rig.readers[0].find(), Found::Cut | Found::Lagged(_)));
    }
}

#[test]
fn a_reader_that_is_waited_for_is_never_warned() {
    let mut rig = Rig::checked(1);
    let (mut sent, mut had) = (0, 0);
    for turn in 0..2000 {
        if turn % 3 == 0 {
            sent += fill(&mut rig, sent);
        } else if rig.send(&payload(sent, 56)) {
            sent += 1;
        }
        let intent = rig.writer.word(layout::producer::INTENT).load_relaxed();
        assert!(intent <= 64 * had + RING, "warned at {had} of {sent}");
        let some = (turn * 7 % 64).min(sent - had);
        read(&mut rig, 0, had, some);
        had += some;
    }
    assert!(had > 10 * RING / 64);
}

#[test]
fn a_ring_holds_what_it_says_it_holds() {
    for mode in [Mode::Lossless, Mode::Checked, Mode::Overwrite] {
        let mut rig = Rig::with(RING, mode, 0);
        for number in 0..1000 {
            assert!(rig.send(&payload(number, 56)));
            let held =
                (0..=number + 1).rev().take_while(|first| rig.producer.holds(64 * first)).count() as u64 - 1;
            // All but the record where the tail is, and what is announced beyond it.
            let least = if mode == Mode::Overwrite { RING / 64 - 1 } else { RING / 8 * 7 / 64 - 1 };
            assert!(held >= least.min(number + 1), "{mode:?}: {held} after {number}");
            if number % 17 == 0 {
                let first = number + 1 - held;
                rig.join_at(64 * first);
                read(&mut rig, 0, first, held);
                assert_eq!(rig.readers[0].find(), Found::Empty);
                let gone = rig.readers.remove(0);
                rig.producer.remove_reader(gone.number);
            }
        }
        assert!(!rig.producer.holds(64 * 1001), "nothing is held that was never sent");
    }
}

#[test]
fn who_joins_in_the_past_holds_up_the_writer_from_there() {
    let mut rig = Rig::checked(1);
    for number in 0..1000 {
        assert!(rig.send(&payload(number, 56)));
        read(&mut rig, 0, number, 1);
    }
    rig.join_at(64 * 900);
    let more = fill(&mut rig, 1000);
    assert_eq!(more, RING / 64 - 1 - 100);
    assert_eq!(places(rig.producer.blockers()), [(1, 64 * 900)]);
    read(&mut rig, 1, 900, 100 + more);
    read(&mut rig, 0, 1000, more);
}

#[test]
fn what_a_dropped_claim_wrote_is_not_held() {
    for mode in [Mode::Lossless, Mode::Checked, Mode::Overwrite] {
        let mut rig = Rig::with(RING, mode, 0);
        for number in 0..RING / 64 - 1 {
            assert!(rig.send(&payload(number, 56)));
        }
        let claim = rig.producer.reserve(PAYLOAD_MAX, 8).unwrap();
        rig.producer.claimed_mut(&claim).fill(0xff);
        assert!(!rig.producer.holds(RECORD_MAX - 64), "{mode:?}");
        assert!(rig.producer.holds(rig.producer.tail()));
    }
}

#[test]
#[should_panic(expected = "invariant: a start was looked up in this ring")]
fn nobody_joins_where_the_ring_was_overwritten() {
    let mut rig = Rig::new(0);
    assert!((0..1000).all(|number| rig.send(&payload(number, 56))));
    rig.join_at(0);
}

#[test]
fn only_overwrite_rings_tell_how_many_messages_there_were() {
    for mode in [Mode::Lossless, Mode::Checked, Mode::Overwrite] {
        let mut rig = Rig::with(RING, mode, 0);
        assert!((0..5).all(|number| rig.send(&payload(number, 56))));
        assert_eq!((rig.producer.messages(), rig.producer.tail()), (5, 320));
        let told = if mode == Mode::Overwrite { 5 } else { 0 };
        for word in [layout::producer::MESSAGES, layout::producer::MESSAGES_AFTER] {
            assert_eq!(rig.writer.word(word).load_relaxed(), told);
        }
    }
}

#[test]
fn a_writer_that_never_agrees_with_itself_is_not_waited_for() {
    let forged = Forged::new(Mode::Overwrite);
    forged.forge.intent.store_relaxed(2 * RING);
    forged.forge.published.store_release(64);
    forged.forge.messages.store_relaxed(7);
    forged.forge.messages_after.store_relaxed(5);
    let polled = forged.consumer(0).poll();
    assert!(matches!(polled, Ok(Polled::Lagged(Lag { bytes: 64, messages: 5 }))), "{polled:?}");
}
