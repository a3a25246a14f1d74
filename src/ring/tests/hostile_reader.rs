//! Positions from a reader that lies: legal or a violation, never a panic, never more room than the ring.

use super::*;
use crate::error::Violation;
use proptest::prelude::*;

/// A word that a hostile reader writes, relative to what would be legal.
#[derive(Debug, Clone)]
enum Lie {
    Absolute(u64),
    FromLast(i64),
    FromPublished(i64),
    /// A legal position: this share (of 256) of what is outstanding.
    Legal(u8),
}

fn lie() -> impl Strategy<Value = Lie> {
    let near = || prop_oneof![-9_i64..=9, Just(-(RING as i64)), Just(RING as i64), any::<i64>()];
    prop_oneof![
        3 => any::<u8>().prop_map(Lie::Legal),
        2 => near().prop_map(Lie::FromLast),
        2 => near().prop_map(Lie::FromPublished),
        1 => prop_oneof![Just(0), Just(u64::MAX), Just(u64::MAX - 7), Just(1 << 63), any::<u64>()]
            .prop_map(Lie::Absolute),
    ]
}

/// The reference: what the producer may believe of one reader.
struct Believed {
    last: u64,
    published: u64,
}

impl Believed {
    fn word(&self, lie: &Lie) -> u64 {
        match *lie {
            Lie::Absolute(word) => word,
            Lie::FromLast(by) => self.last.wrapping_add_signed(by),
            Lie::FromPublished(by) => self.published.wrapping_add_signed(by),
            Lie::Legal(share) => self.last + (self.published - self.last) * u64::from(share) / 256 / 8 * 8,
        }
    }

    fn is_legal(&self, word: u64) -> bool {
        (self.last..=self.published).contains(&word) && word.is_multiple_of(8)
    }
}

/// Sends empty records until there is no more room.
fn fill(rig: &mut Rig) -> Result<u64, NoRoom> {
    let mut bytes = 0;
    loop {
        match rig.producer.reserve(0, 8) {
            Ok(reservation) => {
                rig.producer.stage(reservation, Kind::Data, 0);
                rig.producer.publish();
                bytes += 8;
                assert!(bytes <= RING, "more room than the ring");
            }
            Err(NoRoom::Full) => return Ok(bytes),
            Err(error) => return Err(error),
        }
    }
}

proptest! {
    #![proptest_config(cases(256))]

    #[test]
    fn every_illegal_position_is_a_violation_and_every_legal_one_gives_its_room(
        start in (0..RING / 8).prop_map(|word| word * 8),
        lies in prop::collection::vec(lie(), 1..60),
    ) {
        let mut rig = Rig::new(1);
        rig.advance_to(start);
        let liar = rig.join();
        let honest = rig.readers.remove(0);
        rig.producer.remove_reader(honest.number);
        prop_assert_eq!(fill(&mut rig), Ok(RING - 8));
        let consumed = rig.readers[0].own.word(layout::consumer::CONSUMED);
        let number = rig.readers[0].number;
        let mut believed = Believed { last: 0, published: RING - 8 };
        for lie in &lies {
            let word = believed.word(lie);
            consumed.store_release(word);
            let found = fill(&mut rig);
            if believed.is_legal(word) {
                prop_assert_eq!(found, Ok(word - believed.last), "position {} from start {}", word, liar);
                believed = Believed { last: word, published: believed.published + word - believed.last };
            } else {
                let Believed { last, published } = believed;
                let violation = Violation::Position { seen: word, last, published };
                prop_assert_eq!(found, Err(NoRoom::Reader { number, violation }));
            }
        }
    }

    #[test]
    fn a_liar_among_honest_readers_is_named(
        words in prop::collection::vec(any::<u64>(), 1..20),
        liar in 0..3_usize,
    ) {
        let mut rig = Rig::new(3);
        prop_assert_eq!(fill(&mut rig), Ok(RING - 8));
        for word in words.into_iter().filter(|word| word % 8 != 0 || *word > RING - 8) {
            rig.readers[liar].own.word(layout::consumer::CONSUMED).store_release(word);
            let named = matches!(fill(&mut rig), Err(NoRoom::Reader { number, .. }) if number == liar as u64);
            prop_assert!(named, "position {}", word);
        }
        // Once it is removed the others go on.
        rig.producer.remove_reader(liar as u64);
        rig.readers.remove(liar);
        for reader in &mut rig.readers {
            reader.drain();
        }
        prop_assert_eq!(fill(&mut rig), Ok(RING - 8));
    }
}

#[test]
fn a_position_beyond_what_was_published_is_a_violation() {
    for beyond in [8, 16, RING, u64::MAX - 7 - 64] {
        let mut rig = Rig::new(1);
        assert!(rig.send(&payload(0, 56)));
        rig.readers[0].own.word(layout::consumer::CONSUMED).store_release(64 + beyond);
        // What is staged does not count as published.
        let staged = (0..8).find_map(|_| match rig.producer.reserve(PAYLOAD_MAX, 8) {
            Ok(reservation) => {
                rig.producer.stage(reservation, Kind::Data, PAYLOAD_MAX);
                None
            }
            Err(error) => Some(error),
        });
        let violation = Violation::Position { seen: 64 + beyond, last: 0, published: 64 };
        assert_eq!(staged, Some(NoRoom::Reader { number: 0, violation }));
    }
}

#[test]
fn a_reader_that_goes_backwards_is_a_violation() {
    let mut rig = Rig::new(1);
    assert_eq!(fill(&mut rig), Ok(RING - 8));
    rig.readers[0].own.word(layout::consumer::CONSUMED).store_release(800);
    assert_eq!(fill(&mut rig), Ok(800));
    rig.readers[0].own.word(layout::consumer::CONSUMED).store_release(792);
    let violation = Violation::Position { seen: 792, last: 800, published: RING - 8 + 800 };
    assert_eq!(fill(&mut rig), Err(NoRoom::Reader { number: 0, violation }));
}

#[test]
fn a_position_between_words_is_a_violation() {
    for seen in (1..8).map(|byte| 800 + byte) {
        let mut rig = Rig::new(1);
        assert_eq!(fill(&mut rig), Ok(RING - 8));
        rig.readers[0].own.word(layout::consumer::CONSUMED).store_release(seen);
        let violation = Violation::Position { seen, last: 0, published: RING - 8 };
        assert_eq!(fill(&mut rig), Err(NoRoom::Reader { number: 0, violation }));
    }
}

#[test]
fn positions_of_readers_do_not_stop_the_writer_of_an_overwrite_ring() {
    let mut rig = Rig::overwrite(1);
    for word in [0, 1, 8, RING, u64::MAX] {
        rig.readers[0].own.word(layout::consumer::CONSUMED).store_release(word);
        assert!((0..2 * RING / 64).all(|number| rig.send(&payload(number, 56))));
    }
}
