//! Sizes, the full ring, wrapping, readers that come and go, messages in parts.

use super::*;

#[test]
fn every_small_size_survives() {
    let mut rig = Rig::new(1);
    for len in 0..=64 {
        assert!(rig.send(&payload(1, len)));
        assert_eq!(rig.receive(), Some(payload(1, len)));
    }
}

#[test]
fn sizes_around_the_maximum_survive_and_larger_ones_are_refused() {
    let mut rig = Rig::new(1);
    assert_eq!(rig.producer.payload_bytes_max(), PAYLOAD_MAX);
    for len in PAYLOAD_MAX - 20..=PAYLOAD_MAX {
        assert!(rig.send(&payload(2, len)));
        assert_eq!(rig.receive(), Some(payload(2, len)));
    }
    for len in [PAYLOAD_MAX + 1, PAYLOAD_MAX + 8, RING as usize, 1 << 40, usize::MAX - 16, usize::MAX] {
        let refused = rig.producer.reserve(len, 8).err();
        assert_eq!(refused, Some(NoRoom::TooLarge { max: PAYLOAD_MAX }), "{len}");
    }
}

#[test]
fn an_empty_message_is_a_message_and_hides_nothing() {
    let mut rig = Rig::new(1);
    assert!(!rig.readers[0].consumer.is_ready());
    for message in [&b"one"[..], b"", b"", b"two", b""] {
        assert!(rig.send(message));
    }
    assert!(rig.readers[0].consumer.is_ready());
    let expected: [&[u8]; 5] = [b"one", b"", b"", b"two", b""];
    assert_eq!(rig.readers[0].drain(), expected);
    assert!(!rig.readers[0].consumer.is_ready());
}

/// Fills the ring with records of this payload length and says how many bytes went in.
fn fill(rig: &mut Rig, len: usize) -> (u64, Vec<Vec<u8>>) {
    let count = until_full(|number| rig.send(&payload(number, len)));
    (count * total(len), (0..count).map(|number| payload(number, len)).collect())
}

#[test]
fn a_full_ring_holds_all_but_eight_bytes_and_is_readable_in_order() {
    for len in [0, 1, 8, 24, 56, 120, 1016] {
        let mut rig = Rig::new(1);
        let (bytes, sent) = fill(&mut rig, len);
        assert_eq!(bytes, (RING - 8) / total(len) * total(len), "len {len}");
        assert_eq!(rig.readers[0].drain(), sent, "len {len}");
        let (again, sent) = fill(&mut rig, len);
        assert!(again >= RING - 8 - 2 * total(len), "len {len}");
        assert_eq!(rig.readers[0].drain(), sent, "len {len}");
    }
}

#[test]
fn exactly_ring_bytes_less_eight_are_usable_at_every_index() {
    for index in (0..RING).step_by(8 * 37) {
        let mut rig = Rig::new(1);
        rig.advance_to(index);
        let (bytes, sent) = fill(&mut rig, 0);
        assert_eq!(bytes, RING - 8, "index {index}");
        assert_eq!(rig.readers[0].drain(), sent);
    }
}

#[test]
fn the_next_header_never_touches_the_oldest_record() {
    // Empty records fill what is left, so that the last header lies directly before the oldest record.
    for oldest in [8, 16, 24, 40, 64, 4088] {
        for filler in [0, 8, 24, 56] {
            let mut rig = Rig::new(1);
            assert!(rig.send(&payload(77, oldest)));
            let count = until_full(|number| rig.send(&payload(number, filler)));
            let empties = until_full(|_| rig.send(&[]));
            assert_eq!(rig.receive(), Some(payload(77, oldest)), "oldest {oldest} filler {filler}");
            for number in 0..count {
                assert_eq!(rig.receive(), Some(payload(number, filler)));
            }
            assert_eq!(rig.readers[0].drain().len() as u64, empties);
        }
    }
}

#[test]
fn one_byte_of_room_more_than_free_is_full_until_it_was_released() {
    let mut rig = Rig::new(1);
    let (_, sent) = fill(&mut rig, 56);
    assert!(!rig.send(&[]) || !rig.send(&payload(0, 56)));
    for message in sent.iter().take(3) {
        let Polled::Record(record) = rig.readers[0].consumer.poll().unwrap() else { panic!("empty") };
        let mut out = Vec::new();
        assert!(rig.readers[0].consumer.take(record, &mut out));
        assert_eq!(&out, message);
        assert!(!rig.send(&payload(0, 56)), "read, but not yet released");
    }
    assert!(rig.readers[0].consumer.release());
    assert!(!rig.readers[0].consumer.release(), "that was no news");
    assert!(rig.send(&payload(0, 56)));
}

#[test]
fn a_record_wraps_correctly_at_every_index() {
    let mut rig = Rig::new(1);
    for index in (0..RING).step_by(8) {
        rig.advance_to(index);
        for len in [100, 1, 0, 777] {
            assert!(rig.send(&payload(index, len)));
            assert_eq!(rig.receive(), Some(payload(index, len)), "index {index} len {len}");
        }
        assert_eq!(rig.receive(), None);
    }
}

#[test]
fn a_gap_of_exactly_eight_bytes_becomes_a_padding_record() {
    let mut rig = Rig::new(1);
    rig.advance_to(RING - 8);
    let tail = rig.tail();
    assert!(rig.send(b"does not fit into eight bytes"));
    let forge = Forge::new(&rig.writer);
    assert_eq!(forge.ring.header(tail), record::encode(Kind::Padding, 0));
    assert_eq!(rig.receive().unwrap(), b"does not fit into eight bytes");
    assert_eq!(rig.tail(), tail + 8 + total(29));
}

#[test]
fn a_record_may_end_exactly_at_the_end_of_the_ring() {
    let mut rig = Rig::new(1);
    for len in [0, 8, 64, PAYLOAD_MAX] {
        rig.advance_to(RING - total(len));
        let tail = rig.tail();
        assert!(rig.send(&payload(3, len)));
        assert_eq!(rig.tail(), tail + total(len), "no padding");
        assert_eq!(rig.tail() % RING, 0);
        assert_eq!(rig.receive(), Some(payload(3, len)));
        assert_eq!(rig.receive(), None);
    }
}

#[test]
fn the_largest_record_fits_at_every_index_after_everything_was_read() {
    let mut rig = Rig::new(1);
    for index in (0..RING).step_by(8) {
        rig.advance_to(index);
        for align in [8, 64] {
            let room = rig.producer.reserve(PAYLOAD_MAX, align);
            assert!(room.is_ok(), "index {index} align {align}");
        }
    }
}

#[test]
fn the_largest_record_fits_at_every_index_with_the_laziest_release() {
    // A lazy reader holds back up to an eighth of the ring, less one word.
    let held = RING / 8 - 8;
    for index in (0..RING).step_by(8) {
        let mut rig = Rig::new(1);
        rig.advance_to(index.wrapping_sub(held) & (RING - 1));
        let mut left = held;
        while left > 0 {
            let before_end = RING - (rig.tail() & (RING - 1));
            let total = left.min(before_end);
            let reservation = rig.producer.reserve((total - 8) as usize, 8).unwrap();
            let len = reservation.len();
            rig.producer.stage(reservation, Kind::Data, len);
            rig.producer.publish();
            assert!(rig.receive().is_some());
            left -= total;
        }
        assert_eq!(rig.tail() - rig.readers[0].told(), held, "nothing of it was released");
        for align in [8, 64] {
            assert!(rig.producer.reserve(PAYLOAD_MAX, align).is_ok(), "index {index} align {align}");
        }
    }
}

#[test]
fn a_release_is_owed_from_an_eighth_of_the_ring_on() {
    let mut rig = Rig::new(1);
    for number in 1..=RING / 8 / 64 {
        assert!(rig.send(&payload(0, 56)));
        let Polled::Record(record) = rig.readers[0].consumer.poll().unwrap() else { panic!("empty") };
        rig.readers[0].consumer.advance(record);
        assert_eq!(rig.readers[0].consumer.owes_release(), number == RING / 8 / 64);
    }
}

#[test]
fn a_late_reader_starts_at_a_boundary_and_sees_only_what_comes_later() {
    let mut rig = Rig::new(1);
    for number in 0..2000 {
        let before = payload(number, (number * 31 % 1000) as usize);
        assert!(rig.send(&before));
        if number % 400 == 399 {
            let start = rig.join();
            assert_eq!(start, rig.tail());
            assert_eq!(rig.readers[1].receive(), None, "nothing before the join");
            assert!(rig.send(b"later"));
            assert_eq!(rig.readers[1].drain(), [b"later"]);
            let gone = rig.readers.pop().unwrap();
            rig.producer.remove_reader(gone.number);
            assert_eq!(rig.receive(), Some(before.clone()));
            assert_eq!(rig.receive().unwrap(), b"later");
        } else {
            assert_eq!(rig.receive(), Some(before));
        }
    }
}

#[test]
fn a_late_reader_is_waited_for_from_its_own_start() {
    let mut rig = Rig::new(1);
    rig.advance_to(RING / 2);
    rig.join();
    let (_, sent) = fill(&mut rig, 56);
    assert_eq!(rig.readers[0].drain(), sent);
    assert!(!rig.send(&payload(0, 56)), "the late reader has read nothing yet");
    assert_eq!(rig.readers[1].drain(), sent);
    assert!(rig.send(&payload(0, 56)));
}

#[test]
fn a_reader_that_joins_a_full_ring_changes_nothing_for_the_others() {
    let mut rig = Rig::new(1);
    let (_, sent) = fill(&mut rig, 56);
    rig.join();
    assert!(!rig.send(&payload(0, 56)));
    assert_eq!(rig.readers[0].drain(), sent);
    assert_eq!(rig.readers[1].receive(), None);
    let (_, sent) = fill(&mut rig, 56);
    assert_eq!(rig.readers[1].drain(), sent);
    assert_eq!(rig.readers[0].drain(), sent);
}

#[test]
fn removing_a_slow_reader_frees_its_room() {
    let mut rig = Rig::new(2);
    let (_, sent) = fill(&mut rig, 56);
    assert_eq!(rig.readers[0].drain(), sent);
    assert!(!rig.send(&payload(0, 56)), "the second reader holds everything");
    let slow = rig.readers.remove(1);
    rig.producer.remove_reader(slow.number);
    let (bytes, sent) = fill(&mut rig, 56);
    assert!(bytes >= RING - 256);
    assert_eq!(rig.readers[0].drain(), sent);
}

#[test]
fn without_readers_nothing_is_ever_full() {
    let mut rig = Rig::new(0);
    assert!((0..5000).all(|number| rig.send(&payload(number, 100))));
    rig.join();
    assert!(rig.send(b"seen"));
    assert_eq!(rig.readers[0].drain(), [b"seen"]);
}

#[test]
fn readers_of_different_speed_get_everything() {
    let mut rig = Rig::new(4);
    let mut next = [0_u64; 4];
    let message = |number: u64| payload(number, (number * 97 % 900) as usize);
    let mut sent = 0;
    for _ in 0..4000 {
        let room = rig.send(&message(sent));
        sent += u64::from(room);
        for (reader, speed) in [(0, 1), (1, 3), (2, 50), (3, 7)] {
            // The slow ones look rarely and then take as much as the others; when the ring is full all read it up.
            let takes = if !room {
                u64::MAX
            } else if sent.is_multiple_of(speed) {
                speed
            } else {
                0
            };
            for _ in 0..takes {
                let Some(found) = rig.readers[reader].receive() else { break };
                assert_eq!(found, message(next[reader]), "reader {reader}");
                next[reader] += 1;
            }
        }
        assert!(room || next == [sent; 4]);
    }
    assert!(sent > 3000);
}

#[test]
fn a_message_of_five_records_is_put_together() {
    let mut rig = Rig::new(1);
    let message = payload(5, 5 * PAYLOAD_MAX - 11);
    let mut assembly = Assembly::new(message.len() as u64);
    let chunks: Vec<&[u8]> = message.chunks(PAYLOAD_MAX).collect();
    let mut complete = 0;
    for (at, chunk) in chunks.iter().enumerate() {
        let kind = match at {
            0 => Kind::FragmentFirst,
            4 => Kind::FragmentLast,
            _ => Kind::FragmentMiddle,
        };
        let reservation = rig.producer.reserve(chunk.len(), 8).unwrap();
        rig.producer.write(&reservation, chunk);
        rig.producer.stage(reservation, kind, chunk.len());
        rig.producer.publish();
        let Polled::Record(record) = rig.readers[0].consumer.poll().unwrap() else { panic!("empty") };
        let step = assembly.step(record.kind, record.len).unwrap();
        assert_eq!(step, Step::Part { last: at == 4 });
        assert!(rig.readers[0].consumer.take(record, assembly.parts()));
        rig.readers[0].consumer.release();
        complete += usize::from(step == Step::Part { last: true });
    }
    assert_eq!((chunks.len(), complete), (5, 1));
    assert_eq!(assembly.message(), message);
}

#[test]
fn an_abandoned_message_leaves_room_for_the_next() {
    let mut rig = Rig::new(1);
    let mut assembly = Assembly::new(1000);
    let mut whole = Vec::new();
    let records = [
        (Kind::FragmentFirst, 600),
        (Kind::Abandon, 0),
        (Kind::FragmentFirst, 600),
        (Kind::FragmentLast, 400),
    ];
    for (kind, len) in records {
        let reservation = rig.producer.reserve(len, 8).unwrap();
        rig.producer.write(&reservation, &payload(len as u64, len));
        rig.producer.stage(reservation, kind, len);
        rig.producer.publish();
        let Polled::Record(record) = rig.readers[0].consumer.poll().unwrap() else { panic!("empty") };
        match assembly.step(record.kind, record.len).unwrap() {
            Step::Void | Step::LostLast => rig.readers[0].consumer.advance(record),
            Step::Part { last } => {
                assert!(rig.readers[0].consumer.take(record, assembly.parts()));
                if last {
                    whole = assembly.message().to_vec();
                }
            }
            Step::Whole => panic!("no whole message was sent"),
        }
    }
    assert_eq!(whole, [payload(600, 600), payload(400, 400)].concat());
}

#[test]
fn who_sees_the_close_word_finds_every_record_before_it() {
    let mut rig = Rig::new(1);
    assert!(rig.send(b"last") && !rig.readers[0].consumer.is_closed());
    rig.producer.close();
    assert!(rig.readers[0].consumer.is_closed());
    assert_eq!(rig.readers[0].drain(), [b"last"]);
    let published = rig.writer.word(layout::producer::PUBLISHED).load_relaxed();
    assert_eq!(published, total(4), "the close says how much was published");
}

#[test]
fn memory_that_cannot_be_had_is_an_error_and_is_asked_for_again() {
    let ring_bytes = 1 << 18;
    let writer = Segment::connection(ring_bytes, 0).unwrap();
    let asked = std::sync::Arc::new(std::sync::Mutex::new(Vec::new()));
    let log = std::sync::Arc::clone(&asked);
    let allocate = move |end: u64| {
        let mut log = log.lock().unwrap();
        log.push(end);
        if log.len() == 2 { Err(12) } else { Ok(()) }
    };
    let mut producer = Producer::new(producer_parts(&writer, Mode::Lossless, Some(Box::new(allocate))));
    let mut refused = 0;
    let mut sent = 0;
    for _ in 0..41 {
        match producer.reserve(16 << 10, 8) {
            Ok(reservation) => {
                let end = reservation.payload() + (16 << 10) + 8;
                let had = asked.lock().unwrap().iter().copied().max().unwrap();
                assert!(end <= had || had == ring_bytes, "written where no memory was made sure of");
                producer.stage(reservation, Kind::Data, 16 << 10);
                producer.publish();
                sent += 1;
            }
            Err(NoRoom::NoMemory { errno: 12 }) => refused += 1,
            Err(error) => panic!("{error:?}"),
        }
    }
    assert_eq!((sent, refused), (40, 1));
    let asked = asked.lock().unwrap();
    assert_eq!(asked[1], asked[2], "the same again after the refusal");
    assert_eq!(*asked.last().unwrap(), ring_bytes, "and never more than the ring");
    assert!(asked.len() <= 6, "only during the first lap: {asked:?}");
}

#[test]
fn a_ring_that_is_touched_at_once_asks_for_its_memory_once() {
    let writer = Segment::connection(RING, 0).unwrap();
    let (segment, asked) = (writer.share(), std::sync::Arc::new(std::sync::Mutex::new(Vec::new())));
    let log = std::sync::Arc::clone(&asked);
    let allocate = move |end: u64| {
        log.lock().unwrap().push(end);
        segment.allocate(layout::HEADER_BYTES as u64, end).map_err(|error| error.raw_os_error().unwrap())
    };
    let mut producer = Producer::new(producer_parts(&writer, Mode::Lossless, Some(Box::new(allocate))));
    producer.prefault();
    producer.prefault();
    for number in 0..4 * RING / 16 {
        let reservation = producer.reserve(8, 1).unwrap();
        producer.write(&reservation, &number.to_le_bytes());
        producer.stage(reservation, Kind::Data, 8);
        producer.publish();
    }
    assert_eq!(*asked.lock().unwrap(), [RING]);
}
