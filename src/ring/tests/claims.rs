//! Claims: private until they are committed, aligned as asked, and batches that appear at once.

use super::*;

const ALIGNS: [u64; 4] = [8, 16, 32, 64];

#[test]
fn a_claim_that_is_dropped_leaves_no_trace() {
    let mut rig = Rig::new(1);
    for index in (0..RING).step_by(8 * 41) {
        rig.advance_to(index);
        let tail = rig.tail();
        for len in [0, 1, 100, PAYLOAD_MAX] {
            let reservation = rig.producer.reserve(len, 64).unwrap();
            rig.producer.claimed_mut(&reservation).fill(0xff);
            rig.producer.publish();
            assert_eq!(rig.tail(), tail);
            assert!(!rig.readers[0].consumer.is_ready());
            assert_eq!(rig.receive(), None);
        }
        assert!(rig.send(b"after"));
        assert_eq!(rig.readers[0].drain(), [b"after"]);
    }
}

#[test]
fn a_claim_that_is_dropped_takes_no_room() {
    let mut rig = Rig::new(1);
    let sent = until_full(|number| rig.producer.reserve(56, 8).is_ok() && rig.send(&payload(number, 56)));
    assert_eq!(sent, (RING - 8) / 64);
    assert_eq!(rig.readers[0].drain().len() as u64, sent);
}

#[test]
fn a_commit_may_be_shorter_than_its_claim() {
    let mut rig = Rig::new(1);
    let tail = rig.tail();
    for len in [0, 1, 8, 99, 100] {
        let reservation = rig.producer.reserve(100, 8).unwrap();
        // What the shorter record leaves over must not be taken for the next header.
        rig.producer.claimed_mut(&reservation).fill(0xff);
        rig.producer.stage(reservation, Kind::Data, len);
        rig.producer.publish();
        assert_eq!(rig.receive(), Some(vec![0xff; len]));
        assert_eq!(rig.receive(), None);
    }
    assert_eq!(rig.tail() - tail, [0, 1, 8, 99, 100].map(total).iter().sum::<u64>());
}

#[test]
fn a_shorter_commit_inside_a_batch_is_followed_by_the_next_record() {
    let mut rig = Rig::new(1);
    for len in [3, 40, 0] {
        let reservation = rig.producer.reserve(1000, 8).unwrap();
        rig.producer.claimed_mut(&reservation).fill(len as u8 | 0x80);
        rig.producer.stage(reservation, Kind::Data, len);
    }
    rig.producer.publish();
    assert_eq!(rig.readers[0].drain(), [vec![0x83; 3], vec![0xa8; 40], vec![]]);
}

#[test]
fn aligned_claims_are_aligned_in_the_mapping_at_every_index() {
    let mut rig = Rig::new(1);
    for index in (0..RING).step_by(8) {
        for align in ALIGNS {
            rig.advance_to(index);
            let reservation = rig.producer.reserve(100, align).unwrap();
            let window = rig.producer.claimed_mut(&reservation);
            assert!((window.as_ptr() as u64).is_multiple_of(align), "writer, index {index} align {align}");
            window.copy_from_slice(&payload(index, 100));
            rig.producer.stage(reservation, Kind::Data, 100);
            rig.producer.publish();
            let consumer = &mut rig.readers[0].consumer;
            let Polled::Record(record) = consumer.poll().unwrap() else { panic!("empty") };
            let lent = consumer.borrow(&record).unwrap();
            assert!((lent.as_ptr() as u64).is_multiple_of(align), "reader, index {index} align {align}");
            assert_eq!(lent, payload(index, 100));
            consumer.advance(record);
            assert!(consumer.release());
            assert!(matches!(consumer.poll(), Ok(Polled::Empty)));
        }
    }
}

#[test]
fn a_batch_appears_at_once_also_with_padding_inside() {
    // From here the batch holds padding for alignment, then the end of the ring, then both.
    for before_end in [8, 48, 64, 200, 1000, 4096] {
        for align in ALIGNS {
            let mut rig = Rig::new(1);
            rig.advance_to(RING - before_end);
            let mut expected = Vec::new();
            for number in 0..12 {
                let message = payload(number, (number * 53 % 190) as usize);
                let reservation = rig.producer.reserve(message.len(), align).unwrap();
                rig.producer.write(&reservation, &message);
                rig.producer.stage(reservation, Kind::Data, message.len());
                expected.push(message);
                assert_eq!(rig.receive(), None, "seen before it was published");
            }
            rig.producer.publish();
            assert_eq!(rig.readers[0].drain(), expected, "before end {before_end} align {align}");
        }
    }
}

#[test]
fn a_batch_may_fill_the_whole_ring() {
    for index in [0, 8, 4096, RING - 8] {
        let mut rig = Rig::new(1);
        rig.advance_to(index);
        let staged = until_full(|_| rig.stage(&[]));
        assert_eq!(staged, RING / 8 - 1);
        assert_eq!(rig.receive(), None);
        rig.producer.publish();
        assert_eq!(rig.readers[0].drain().len() as u64, staged);
    }
}

#[test]
fn a_batch_that_is_abandoned_is_never_seen() {
    for count in [1, 2, 30] {
        for index in [0, RING - 64] {
            let mut rig = Rig::new(1);
            rig.advance_to(index);
            assert!(rig.send(b"before"));
            for number in 0..count {
                assert!(rig.stage(&payload(number, 100)));
            }
            rig.producer.close();
            rig.producer.publish();
            assert_eq!(rig.readers[0].drain(), [b"before"]);
            assert!(rig.readers[0].consumer.is_closed());
            assert!(!rig.readers[0].consumer.is_ready());
        }
    }
}

#[test]
fn publishing_nothing_changes_nothing() {
    let mut rig = Rig::new(1);
    rig.producer.publish();
    assert_eq!(rig.receive(), None);
    assert!(rig.send(b"one"));
    rig.producer.publish();
    assert_eq!(rig.readers[0].drain(), [b"one"]);
}

#[test]
fn a_full_ring_in_the_middle_of_a_batch_keeps_the_batch() {
    let mut rig = Rig::new(1);
    let count = until_full(|number| rig.stage(&payload(number, 700)));
    assert!(!rig.stage(&payload(0, 700)), "still full");
    rig.producer.publish();
    let staged: Vec<_> = (0..count).map(|number| payload(number, 700)).collect();
    assert_eq!(rig.readers[0].drain(), staged);
}
