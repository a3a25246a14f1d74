//! A writer that lies: whatever it writes into its own segment, at whatever moment, the consumer says what it found
//! or names a violation. It does not panic, and it does not look further than its own bounds.

use super::*;
use crate::error::Violation;
use proptest::prelude::*;
use std::thread;

const TIME_STAMP: u64 = 1 << 40;
/// No honest position comes near: at 64 GB/s it takes two years.
const BEYOND_REASON: u64 = 1 << 62;

/// A header word: anything, or nearly right.
fn word() -> impl Strategy<Value = u64> {
    let lens = prop_oneof![
        4 => 0..300_u64,
        2 => RECORD_MAX - 24..RECORD_MAX + 24,
        1 => RING - 24..RING + 24,
        1 => any::<u32>().prop_map(u64::from),
        1 => u64::from(u32::MAX - 16)..=u64::from(u32::MAX),
    ];
    let flags = prop_oneof![8 => Just(0), 2 => Just(TIME_STAMP), 1 => any::<u8>().prop_map(|flags| u64::from(flags) << 40)];
    let nearly = (lens, 0..8_u64, flags).prop_map(|(len, kind, flags)| len | kind << 32 | flags);
    let nearly = nearly.boxed();
    prop_oneof![
        6 => nearly.clone(),
        2 => (0..400_u64).prop_map(|len| len | 2 << 32),
        1 => (nearly, 0..64_u64).prop_map(|(word, bit)| word ^ 1 << bit),
        1 => prop_oneof![Just(0), Just(u64::MAX), any::<u64>()],
    ]
}

/// The kind of a record: mostly one that goes on with a message in parts.
fn kind() -> impl Strategy<Value = u64> {
    prop_oneof![12 => Just(Kind::FragmentMiddle as u64), 1 => 1..7_u64]
}

/// An aligned position in any of the first laps.
fn position() -> impl Strategy<Value = u64> {
    (0..3 * RING / 8).prop_map(|word| word * 8)
}

/// The reference for one header: kind, length, bytes of the record; written from the specification alone.
fn read_header(word: u64, position: u64) -> Option<(u64, usize, u64)> {
    let (len, kind, flags, rest) = (word & 0xffff_ffff, word >> 32 & 0xff, word >> 40 & 0xff, word >> 48);
    if rest != 0 || flags > 1 || !(1..=6).contains(&kind) {
        return None;
    }
    if kind == 2 && flags != 0 || kind == 6 && len != 0 {
        return None;
    }
    let total = 8 + len.div_ceil(8) * 8 + 8 * flags;
    let inside = position % RING + total <= RING;
    (inside && (kind == 2 || total <= RECORD_MAX)).then_some((kind, len as usize, total))
}

/// What the reference says of one look.
#[derive(Debug, PartialEq, Eq)]
enum Expected {
    /// A record: kind, length, its header's position, its end.
    Record(u64, usize, u64, u64),
    Empty,
    Violation,
}

fn expected(forge: &Forge, mut position: u64) -> Expected {
    for _ in 0..3 {
        let word = forge.ring.header(position);
        if word == 0 {
            return Expected::Empty;
        }
        match read_header(word, position) {
            None => return Expected::Violation,
            Some((2, _, total)) => position += total,
            Some((kind, len, total)) => return Expected::Record(kind, len, position, position + total),
        }
    }
    Expected::Violation
}

/// Rewrites everything that a record of `total` bytes at `position` consists of.
fn scribble(forge: &Forge, position: u64, total: u64, word: u64) {
    for at in (position..position + total).step_by(8) {
        forge.ring.stage_header(at, word);
    }
}

proptest! {
    #![proptest_config(cases(1024))]

    #[test]
    fn any_headers_are_records_or_violations(
        start in position(),
        words in prop::collection::vec((word(), word(), 0..6_u64, word()), 1..24),
    ) {
        let forged = Forged::new(Mode::Lossless);
        let forge = &forged.forge;
        let mut consumer = forged.consumer(start);
        let mut head = start;
        for (here, there, distance, afterwards) in words {
            forge.header(head, here);
            forge.header(head + 8 * distance, there);
            let expected = expected(forge, head);
            match consumer.poll() {
                Ok(Polled::Record(record)) => {
                    let Expected::Record(kind, len, position, end) = expected else {
                        panic!("{record:?} instead of {expected:?}");
                    };
                    prop_assert_eq!((record.kind as u64, record.len), (kind, len));
                    // The double fetch: nothing of the header may be believed a second time.
                    scribble(forge, position, end - position, afterwards);
                    let mut out = vec![0x55; 3];
                    prop_assert!(consumer.take(record, &mut out));
                    prop_assert_eq!(out.len(), 3 + len);
                    let bytes = afterwards.to_le_bytes();
                    prop_assert!(out[3..].iter().enumerate().all(|(at, byte)| *byte == bytes[at % 8]));
                    consumer.release();
                    head = end;
                    prop_assert_eq!(forged.own.word(layout::consumer::CONSUMED).load_relaxed(), head - start);
                }
                Ok(Polled::Empty) => {
                    prop_assert_eq!(expected, Expected::Empty);
                    // It may stand behind a padding record now; begin again where we know it is.
                    consumer.release();
                    head = start + forged.own.word(layout::consumer::CONSUMED).load_relaxed();
                }
                Ok(found @ (Polled::Lagged(_) | Polled::Cut)) => panic!("{found:?} in a lossless ring"),
                Err(_) => {
                    // A violation ends the stream.
                    prop_assert_eq!(expected, Expected::Violation);
                    return Ok(());
                }
            }
        }
    }

    #[test]
    fn any_words_of_the_writers_line_are_lags_records_or_violations(
        start in position(),
        steps in prop::collection::vec((word(), line_word(), line_word(), line_word(), line_word(), any::<u64>()), 1..24),
    ) {
        let forged = Forged::new(Mode::Overwrite);
        let mut consumer = forged.consumer(start);
        let mut head = start;
        for (word, intent, published, intent_then, published_then, close) in steps {
            forged.forge.header(head, word);
            forged.forge.close.store_release(close);
            prop_assert_eq!(consumer.is_closed(), close != 0);
            let lagging = overrun(&forged, head, &intent, &published);
            let expected = expected(&forged.forge, head);
            match consumer.poll() {
                Ok(Polled::Cut) => panic!("cut off by a writer that never waits"),
                Ok(Polled::Lagged(lag)) => {
                    prop_assert!(lagging.allows(lag.bytes), "{:?} at {}: {:?}", lag, head, lagging);
                    head += lag.bytes;
                }
                Ok(Polled::Empty) => {
                    prop_assert_eq!((&lagging, expected), (&Fate::None, Expected::Empty));
                    consumer.release();
                    head = start + forged.own.word(layout::consumer::CONSUMED).load_relaxed();
                }
                Ok(Polled::Record(record)) => {
                    prop_assert_eq!(&lagging, &Fate::None);
                    let Expected::Record(_, len, position, end) = expected else {
                        panic!("{record:?} instead of {expected:?}");
                    };
                    let lagging = overrun(&forged, position, &intent_then, &published_then);
                    let mut out = vec![0x55; 3];
                    if consumer.take(record, &mut out) {
                        prop_assert_eq!((lagging, out.len()), (Fate::None, 3 + len));
                        head = end;
                        continue;
                    }
                    prop_assert_eq!(out, vec![0x55; 3]);
                    match consumer.poll() {
                        Ok(Polled::Lagged(lag)) => {
                            prop_assert!(lagging.allows(lag.bytes), "{:?} at {}: {:?}", lag, head, lagging);
                            head = position + lag.bytes;
                        }
                        Err(violation) => {
                            prop_assert!(lagging.violates(), "{:?}", violation);
                            return Ok(());
                        }
                        Ok(polled) => panic!("{polled:?} after an overrun"),
                    }
                }
                Err(violation) => {
                    let header = lagging == Fate::None && expected == Expected::Violation;
                    prop_assert!(header || lagging.violates(), "{:?}", violation);
                    return Ok(());
                }
            }
        }
    }

    #[test]
    fn any_parts_add_up_to_no_more_than_was_agreed(
        parts in prop::collection::vec((kind(), prop_oneof![1..40_usize, 1..=PAYLOAD_MAX, 0..=1_usize]), 1..40),
    ) {
        let max = 10_000;
        let forged = Forged::new(Mode::Lossless);
        let mut consumer = forged.consumer(0);
        let mut assembly = Assembly::new(max);
        let mut head = 0;
        // A message of parts has begun; mostly it goes on.
        for (kind, len) in [(Kind::FragmentFirst as u64, 100)].into_iter().chain(parts) {
            if head % RING + total(len) > RING {
                forged.forge.header(head, (RING - head % RING - 8) | 2 << 32);
                head = head.next_multiple_of(RING);
            }
            let len = if kind == 6 { 0 } else { len };
            forged.forge.header(head, len as u64 | kind << 32);
            head += total(len);
            forged.forge.header(head, 0);
            let Polled::Record(record) = consumer.poll().unwrap() else { continue };
            let (had, bytes) = (assembly.parts().capacity(), assembly.parts().len());
            match assembly.step(record.kind, record.len) {
                Ok(Step::Part { .. }) => {
                    assert!(consumer.take(record, assembly.parts()));
                }
                Ok(Step::Whole | Step::Void | Step::LostLast) => consumer.advance(record),
                Err(_) => {
                    prop_assert!(assembly.parts().capacity() <= had, "memory for a promise");
                    return Ok(());
                }
            }
            let (has, arrived) = (assembly.parts().capacity(), assembly.parts().len());
            prop_assert!(arrived as u64 <= max && arrived <= bytes + len);
            prop_assert!(has <= had.max(2 * arrived).max(8), "{} bytes of memory for {} that arrived", has, arrived);
        }
    }
}

/// A word of the producer line, relative to the consumer's position.
#[derive(Debug, Clone)]
enum LineWord {
    Absolute(u64),
    FromHead(i64),
}

fn line_word() -> impl Strategy<Value = LineWord> {
    let ring = RING as i64;
    prop_oneof![
        4 => (-3..20_i64).prop_map(|words| LineWord::FromHead(8 * words)),
        2 => (-9..9_i64).prop_map(LineWord::FromHead),
        3 => (ring - 9..ring + 10).prop_map(LineWord::FromHead),
        1 => (0..1000_i64).prop_map(|words| LineWord::FromHead(1000 * words)),
        2 => prop_oneof![Just(0), Just(1), Just(u64::MAX), Just(u64::MAX - 7), Just(u64::MAX - 8), Just(1 << 63)]
            .prop_map(LineWord::Absolute),
        1 => any::<u64>().prop_map(LineWord::Absolute),
        1 => any::<u64>().prop_map(|word| LineWord::Absolute(word & !7)),
    ]
}

impl LineWord {
    fn at(&self, head: u64) -> u64 {
        match *self {
            Self::Absolute(word) => word,
            Self::FromHead(by) => head.wrapping_add_signed(by),
        }
    }
}

/// What the reference says of an overwrite ring's line.
#[derive(Debug, PartialEq, Eq)]
enum Fate {
    /// Not overrun.
    None,
    /// Overrun; so many bytes are lost, up to this position.
    Lost(u64, u64),
    /// Overrun, but the position to go on from cannot be.
    Violation,
}

impl Fate {
    fn allows(&self, lost: u64) -> bool {
        matches!(self, Self::Lost(bytes, _) if *bytes == lost)
    }

    /// A lag of nothing, or to a position beyond reason, may be refused as well.
    fn violates(&self) -> bool {
        matches!(self, Self::Violation | Self::Lost(0, _))
            || matches!(self, Self::Lost(_, position) if *position >= BEYOND_REASON)
    }
}

/// Writes both words and says what must come of it.
fn overrun(forged: &Forged, head: u64, intent: &LineWord, published: &LineWord) -> Fate {
    let (intent, published) = (intent.at(head), published.at(head));
    forged.forge.intent.store_relaxed(intent);
    forged.forge.published.store_release(published);
    if intent <= head || intent - head <= RING {
        Fate::None
    } else if published < head || !published.is_multiple_of(8) {
        Fate::Violation
    } else {
        Fate::Lost(published - head, published)
    }
}

#[test]
fn the_largest_position_of_all_is_no_panic() {
    for published in [u64::MAX - 7, u64::MAX - 4095, 1 << 63, BEYOND_REASON] {
        let forged = Forged::new(Mode::Overwrite);
        let mut consumer = forged.consumer(0);
        forged.forge.intent.store_relaxed(u64::MAX);
        forged.forge.published.store_release(published);
        // Records that end exactly at the end of the ring, which is where the numbers end, too.
        for at in (RING - RECORD_MAX..RING).step_by(8) {
            forged.forge.header(at, record::encode(Kind::Data, (RING - at - 8) as u32));
        }
        for _ in 0..8 {
            let Ok(found) = consumer.poll() else { break };
            if let Polled::Record(record) = found {
                let _ = consumer.take(record, &mut Vec::new());
            }
            let _ = consumer.owes_release() && consumer.release();
        }
    }
}

#[test]
fn a_published_position_behind_us_or_between_words_is_a_violation() {
    for published in [0, 8, 56, 65, 66, 71, 4097, u64::MAX] {
        let forged = Forged::new(Mode::Overwrite);
        forged.forge.intent.store_relaxed(u64::MAX);
        forged.forge.published.store_release(published);
        let polled = forged.consumer(64).poll();
        assert!(matches!(polled, Err(Violation::Position { seen, last: 64, .. }) if seen == published));
    }
}

#[test]
fn a_lag_of_nothing_does_not_go_on_for_ever() {
    let forged = Forged::new(Mode::Overwrite);
    let mut consumer = forged.consumer(64);
    forged.forge.intent.store_relaxed(u64::MAX);
    forged.forge.published.store_release(64);
    assert!(!matches!(consumer.poll(), Ok(Polled::Lagged(_))), "whoever reads on after a lag never stops");
}

#[test]
fn nothing_but_padding_is_a_violation_after_a_bounded_number_of_records() {
    for total in [8, 16, 1024, RING] {
        let forged = Forged::new(Mode::Lossless);
        for at in (0..RING).step_by(total as usize) {
            forged.forge.header(at, record::encode(Kind::Padding, (total - 8) as u32));
        }
        assert_eq!(forged.consumer(0).poll().err(), Some(Violation::Padding), "padding of {total} bytes");
    }
}

#[test]
fn two_padding_records_in_a_row_are_legal_and_three_are_not() {
    for (count, legal) in [(0, true), (1, true), (2, true), (3, false), (4, false)] {
        let forged = Forged::new(Mode::Lossless);
        (0..count).for_each(|at| forged.forge.header(16 * at, record::encode(Kind::Padding, 8)));
        forged.forge.header(16 * count, record::encode(Kind::Data, 0));
        let polled = forged.consumer(0).poll();
        assert_eq!(matches!(polled, Ok(Polled::Record(_))), legal, "{count}: {polled:?}");
        assert_eq!(matches!(polled, Err(Violation::Padding)), !legal, "{count}: {polled:?}");
    }
}

#[test]
fn at_every_index_a_record_past_the_end_is_a_violation() {
    let forged = Forged::new(Mode::Lossless);
    for position in (RING..2 * RING).step_by(64).chain(2 * RING - 128..2 * RING).filter(|at| at % 8 == 0) {
        let room = 2 * RING - position;
        for kind in [Kind::Data, Kind::FragmentFirst, Kind::FragmentMiddle, Kind::FragmentLast, Kind::Padding]
        {
            let max = if kind == Kind::Padding { room } else { room.min(RECORD_MAX) };
            for (len, stamp) in
                [(max - 8, 0), (max - 7, 0), (max, 0), (u64::from(u32::MAX), 0), (max - 8, TIME_STAMP)]
            {
                // Padding has no time stamp, and padding of a whole ring leads to itself.
                if kind == Kind::Padding && (stamp != 0 || room == RING) {
                    continue;
                }
                forged.forge.header(0, 0);
                forged.forge.header(position, record::encode(kind, len as u32) | stamp);
                let polled = forged.consumer(position).poll();
                let claimed = 8 + len.div_ceil(8) * 8 + stamp / TIME_STAMP * 8;
                if claimed <= max {
                    assert!(polled.is_ok(), "{kind:?} of {len} at {position}: {polled:?}");
                } else {
                    assert_eq!(
                        polled.err(),
                        Some(Violation::Length { claimed, max }),
                        "{kind:?} of {len} at {position}"
                    );
                }
            }
        }
    }
}

/// Writes anything anywhere, quickly.
struct Scribbler {
    forge: Forge,
    state: u64,
}

impl Scribbler {
    fn random(&mut self) -> u64 {
        self.state ^= self.state << 13;
        self.state ^= self.state >> 7;
        self.state ^= self.state << 17;
        self.state
    }

    /// Mostly short records, so that the reader gets somewhere; else padding, long ones, garbage.
    fn word(&mut self) -> u64 {
        let random = self.random();
        match random >> 60 {
            0 => 0,
            1 => random,
            2 => record::encode(Kind::Padding, random as u32 & 0x7f),
            3 => record::encode(Kind::Data, random as u32 & 0x1fff),
            4 => record::encode(Kind::Data, random as u32 & 0x7f) | TIME_STAMP,
            _ => record::encode(Kind::Data, random as u32 & 0x7f),
        }
    }

    fn line(&mut self) -> u64 {
        let random = self.random();
        match random >> 61 {
            0 => 0,
            1 => u64::MAX,
            2 => random,
            3 => random & 0x7fff_fff8,
            _ => random & 0xffff8,
        }
    }

    fn sweep(&mut self) {
        for at in (0..RING).step_by(8) {
            let word = self.word();
            self.forge.header(at, word);
            if at % 512 == 0 {
                let (intent, published, close) = (self.line(), self.line(), self.line());
                self.forge.intent.store_relaxed(intent);
                self.forge.published.store_release(published);
                self.forge.close.store_release(close);
                self.forge.messages.store_relaxed(intent);
                self.forge.messages_after.store_relaxed(close);
            }
        }
    }
}

#[test]
fn a_writer_that_scribbles_all_the_time_gets_records_lags_cuts_and_violations() {
    for mode in [Mode::Lossless, Mode::Checked, Mode::Overwrite] {
        let forged = Forged::new(mode);
        let mut scribbler = Scribbler { forge: Forge::new(&forged.writer), state: 0x1234_5678_9abc_def1 };
        scribbler.sweep();
        let hostile = thread::spawn(move || (0..20_000).for_each(|_| scribbler.sweep()));
        let mut consumer = forged.consumer(0);
        let (mut records, mut ends, mut turns) = (0, 0, 0_u64);
        let mut out = Vec::new();
        while !hostile.is_finished() || turns < 20_000 {
            turns += 1;
            match consumer.poll() {
                Ok(Polled::Record(record)) => {
                    out.clear();
                    assert!(record.len <= PAYLOAD_MAX);
                    if consumer.take(record, &mut out) {
                        assert_eq!(out.len(), record.len);
                        records += 1;
                    }
                    let _ = consumer.owes_release() && consumer.release();
                }
                Ok(Polled::Empty | Polled::Lagged(_)) => {}
                Ok(Polled::Cut) | Err(_) => {
                    // Ends the stream; the next one begins elsewhere.
                    ends += 1;
                    consumer = forged.consumer(turns * 8 % RING);
                }
            }
        }
        hostile.join().unwrap();
        assert!(records > 100 && ends > 100, "{mode:?}: {records} records and {ends} ends only");
    }
}
