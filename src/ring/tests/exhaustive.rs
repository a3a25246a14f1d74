//! The arithmetic of placing records, over every index of the smallest ring.

use super::*;

/// Lengths at which something changes: empty, around words and lines, up to the maximum.
const LENS: [usize; 14] = [0, 1, 7, 8, 9, 16, 23, 55, 56, 57, 120, 1000, PAYLOAD_MAX - 1, PAYLOAD_MAX];
const ALIGNS: [u64; 4] = [8, 16, 32, 64];

#[test]
fn at_every_index_a_record_lies_inside_the_ring_aligned_and_as_early_as_possible() {
    let mut rig = Rig::new(1);
    for index in (0..RING).step_by(8) {
        rig.advance_to(index);
        let tail = rig.tail();
        for len in LENS {
            for align in ALIGNS {
                let reservation = rig.producer.reserve(len, align).unwrap();
                let record = reservation.payload() - RECORD_HEADER_BYTES;
                assert_eq!(record, expected_place(tail, len, align), "index {index} len {len} align {align}");
                assert_eq!(record % 8, 0);
                assert!(record % RING + total(len) <= RING, "straddles the end");
                assert!(reservation.payload().is_multiple_of(align));
                assert!(record + total(len) + 8 - rig.readers[0].told() <= RING);
            }
        }
    }
}

/// The first position, found by trying all, at which the record is aligned and does not pass the end.
fn expected_place(tail: u64, len: usize, align: u64) -> u64 {
    let fits = |at: &u64| (at + 8).is_multiple_of(align) && at % RING + total(len) <= RING;
    (tail..).step_by(8).find(fits).unwrap()
}

#[test]
fn at_every_index_padding_records_cover_the_gap_exactly() {
    let mut rig = Rig::new(1);
    let forge = Forge::new(&rig.writer);
    for index in (0..RING).step_by(8) {
        for len in [0, 56, 1000, PAYLOAD_MAX] {
            for align in [8, 64] {
                rig.advance_to(index);
                let tail = rig.tail();
                let reservation = rig.producer.reserve(len, align).unwrap();
                let record = reservation.payload() - RECORD_HEADER_BYTES;
                rig.producer.stage(reservation, Kind::Data, len);
                rig.producer.publish();
                let context = format!("index {index} len {len} align {align}");
                let mut at = tail;
                let mut padding = 0;
                while at < record {
                    let room = RING - at % RING;
                    let header = record::decode(forge.ring.header(at), room, RECORD_MAX).expect(&context);
                    assert_eq!(header.kind, Kind::Padding, "{context}");
                    at += header.total;
                    padding += 1;
                }
                assert_eq!(at, record, "{context}");
                assert!(padding <= 2, "{context}");
                assert_eq!(forge.ring.header(record), record::encode(Kind::Data, len as u32), "{context}");
                assert_eq!(forge.ring.header(record + total(len)), 0, "{context}");
                rig.readers[0].skip();
                assert_eq!(rig.readers[0].told(), record + total(len), "{context}");
            }
        }
    }
}

#[test]
fn at_every_distance_to_the_reader_room_is_given_exactly_up_to_the_last_word() {
    let mut rig = Rig::new(1);
    for used in (0..RING).step_by(8) {
        // The tail is at 0 of a lap, so that the end of the ring is not in the way of what follows.
        rig.advance_to(RING - used);
        let mut left = used;
        while left > 0 {
            let total = left.min(RECORD_MAX);
            let reservation = rig.producer.reserve((total - 8) as usize, 8);
            let Ok(reservation) = reservation else { break };
            let len = reservation.len();
            rig.producer.stage(reservation, Kind::Data, len);
            rig.producer.publish();
            left -= total;
        }
        assert_eq!(left, 0, "used {used}");
        for len in LENS {
            let fits = used + total(len) + 8 <= RING;
            let room = rig.producer.reserve(len, 8);
            assert_eq!(room.is_ok(), fits, "used {used} len {len}: {room:?}");
        }
        rig.readers[0].drain();
    }
}
