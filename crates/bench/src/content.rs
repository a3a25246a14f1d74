//! What a message holds, so that the receiver can tell whether it is the right one and whole.
//!
//! Bytes 0..8 are the sequence number, 8..12 the number of the client, 12..16 a check word over both and the length.
//! After them each line of 64 bytes begins with a word of its own; in 1 of 64 messages every byte is written and
//! checked. All words follow from client, sequence number and place, so no two messages have one in common but by
//! chance. Every transport gets the same.
//!
//! Where lengths vary they follow from client and sequence number too. A message that is shorter than its header is the
//! beginning of one: its receiver must know which message is due.

use serde::{Deserialize, Serialize};
use std::fmt;

/// Shortest message of a fixed length: its header.
pub const MESSAGE_BYTES_MIN: usize = 16;
/// Shortest message where lengths vary: the low bytes of its sequence number.
pub const VARIED_BYTES_MIN: usize = 2;

/// What was wrong with a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// It is shorter or longer than agreed.
    Length {
        /// Bytes that came.
        bytes: usize,
    },
    /// Sequence number, client, length and check word do not belong together, or another client's message came.
    Header,
    /// A word behind the header is not the one that belongs there.
    Word {
        /// Where it lies, in bytes from the start.
        at: usize,
    },
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Length { bytes } => write!(f, "{bytes} bytes is not the agreed length"),
            Self::Header => f.write_str("the header does not hold together"),
            Self::Word { at } => write!(f, "the word at byte {at} is wrong"),
        }
    }
}

/// Writes message `seq` of `client` into `message`, which may hold an earlier one.
///
/// # Panics
/// If `message` is shorter than [`MESSAGE_BYTES_MIN`].
#[inline]
pub fn fill(message: &mut [u8], client: u32, seq: u64) {
    fill_seeded(message, client, seq, seed(client, seq));
}

#[inline(always)]
fn fill_seeded(message: &mut [u8], client: u32, seq: u64, seed: u64) {
    let check = header_check(seed, message.len());
    write_header(message, client, seq, check);
    if is_full(seq) {
        fill_words(message, seed);
    } else if message.len() > LINE_BYTES {
        fill_lines(message, seed);
    }
}

/// Writes every byte behind the header.
#[cold]
fn fill_words(message: &mut [u8], seed: u64) {
    let (words, rest) = message.as_chunks_mut::<WORD_BYTES>();
    for (index, bytes) in words.iter_mut().enumerate().skip(HEADER_WORDS) {
        *bytes = word(seed, index).to_le_bytes();
    }
    rest.copy_from_slice(&word(seed, words.len()).to_le_bytes()[..rest.len()]);
}

/// Writes the first word of each line but the first.
fn fill_lines(message: &mut [u8], seed: u64) {
    let (lines, rest) = message.as_chunks_mut::<LINE_BYTES>();
    let mut expected = seed;
    for line in lines.iter_mut().skip(1) {
        expected = expected.wrapping_add(LINE_STEP);
        line[..WORD_BYTES].copy_from_slice(&expected.to_le_bytes());
    }
    if let Some(first) = rest.first_chunk_mut() {
        *first = expected.wrapping_add(LINE_STEP).to_le_bytes();
    }
}

/// Checks a message that should be one of `client` and `bytes` long; returns its sequence number.
///
/// # Errors
/// [`Fault`]: what is wrong with it.
#[inline]
pub fn check(message: &[u8], client: u32, bytes: usize) -> Result<u64, Fault> {
    if message.len() != bytes {
        return Err(Fault::Length { bytes: message.len() });
    }
    check_seeded(message, client, |seq| seed(client, seq))
}

/// Checks everything but the length; the seed may be known already.
#[inline(always)]
fn check_seeded(message: &[u8], client: u32, seed: impl FnOnce(u64) -> u64) -> Result<u64, Fault> {
    let bytes = message.len();
    let (Some(seq), Some(sender), Some(check)) =
        (array_at(message, 0), array_at(message, 8), array_at(message, 12))
    else {
        return Err(Fault::Length { bytes });
    };
    let seq = u64::from_le_bytes(seq);
    let seed = seed(seq);
    if u32::from_le_bytes(sender) != client || u32::from_le_bytes(check) != header_check(seed, bytes) {
        return Err(Fault::Header);
    }
    let wrong = if is_full(seq) {
        wrong_word(message, seed)
    } else if bytes > LINE_BYTES {
        wrong_line(message, seed)
    } else {
        None
    };
    wrong.map_or(Ok(seq), |index| Err(Fault::Word { at: index * WORD_BYTES }))
}

/// Looks at every byte; returns the index of the first wrong word.
#[cold]
fn wrong_word(message: &[u8], seed: u64) -> Option<usize> {
    let (words, rest) = message.as_chunks::<WORD_BYTES>();
    let is_wrong = |(index, bytes): &(usize, &[u8; WORD_BYTES])| **bytes != word(seed, *index).to_le_bytes();
    let wrong = words.iter().enumerate().skip(HEADER_WORDS).find(is_wrong);
    let rest_is_wrong = *rest != word(seed, words.len()).to_le_bytes()[..rest.len()];
    wrong.map(|(index, _)| index).or(rest_is_wrong.then_some(words.len()))
}

/// Looks at the first word of each line but the first; returns the index of the first wrong one.
///
/// Differences are gathered, and looked at once: twice as fast as a branch for each line.
fn wrong_line(message: &[u8], seed: u64) -> Option<usize> {
    let (lines, rest) = message.as_chunks::<LINE_BYTES>();
    let (mut expected, mut differences) = (seed, 0);
    for line in lines.iter().skip(1) {
        expected = expected.wrapping_add(LINE_STEP);
        differences |= expected ^ line.first_chunk().map_or(0, |word| u64::from_le_bytes(*word));
    }
    if let Some(first) = rest.first_chunk() {
        differences |= expected.wrapping_add(LINE_STEP) ^ u64::from_le_bytes(*first);
    }
    if differences == 0 { None } else { Some(first_wrong_line(message, seed)) }
}

#[cold]
fn first_wrong_line(message: &[u8], seed: u64) -> usize {
    let mut lines = message.chunks(LINE_BYTES).enumerate().skip(1);
    let wrong = lines.find(|(line, chunk)| {
        chunk.first_chunk().is_some_and(|first| *first != word(seed, line * LINE_WORDS).to_le_bytes())
    });
    wrong.map_or(0, |(line, _)| line * LINE_WORDS)
}

/// Returns whose message this claims to be, for who cannot know it otherwise.
///
/// # Errors
/// [`Fault::Length`]: it is too short to say.
#[inline]
pub fn sender_of(message: &[u8]) -> Result<u32, Fault> {
    array_at(message, 8).map(u32::from_le_bytes).ok_or(Fault::Length { bytes: message.len() })
}

#[inline]
fn array_at<const N: usize>(message: &[u8], at: usize) -> Option<[u8; N]> {
    message.get(at..)?.first_chunk().copied()
}

/// How long messages are that vary: as long as client and sequence number say, each length equally often.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lengths {
    min: usize,
    max: usize,
}

impl Lengths {
    /// Makes lengths from `min` to `max`.
    ///
    /// # Panics
    /// If `min` is below [`VARIED_BYTES_MIN`], or `max` below [`MESSAGE_BYTES_MIN`] or `min`.
    pub fn new(min: usize, max: usize) -> Self {
        assert!(min >= VARIED_BYTES_MIN && max >= MESSAGE_BYTES_MIN.max(min), "{min} to {max}");
        Self { min, max }
    }

    /// Returns the longest.
    pub fn max(self) -> usize {
        self.max
    }

    /// The first message of a client has the whole header, and so says whose it is.
    #[inline]
    fn of(self, seed: u64, seq: u64) -> usize {
        let lengths = (self.max - self.min + 1) as u64;
        // The upper half of the seed times the number of lengths, divided by 2^32: no division.
        if seq == 0 { self.max } else { self.min + (((seed >> 32) * lengths) >> 32) as usize }
    }

    /// Writes message `seq` of `client` to the beginning of `buffer`, which may hold an earlier one, and returns it.
    ///
    /// # Panics
    /// If `buffer` is shorter than the longest message.
    #[inline]
    pub fn fill(self, buffer: &mut [u8], client: u32, seq: u64) -> &[u8] {
        let seed = seed(client, seq);
        let bytes = self.of(seed, seq);
        if self.max > EVEN_BYTES_MAX || is_full(seq) && bytes >= MESSAGE_BYTES_MIN {
            self.fill_as_any(&mut buffer[..bytes], client, seq, seed);
        } else {
            // As many steps for a short message as for a long one: how many it would need the processor cannot guess.
            write_header(buffer, client, seq, header_check(seed, bytes));
            if self.max > LINE_BYTES {
                fill_lines(&mut buffer[..self.max], seed);
            }
        }
        &buffer[..bytes]
    }

    /// Writes a message where writing behind its end would cost more than it saves, or where every byte counts.
    #[cold]
    fn fill_as_any(self, message: &mut [u8], client: u32, seq: u64, seed: u64) {
        if message.len() < MESSAGE_BYTES_MIN {
            message.copy_from_slice(&header(client, seq, seed, message.len())[..message.len()]);
        } else {
            fill_seeded(message, client, seq, seed);
        }
    }

    /// Checks a message that should be message `seq` of `client`.
    ///
    /// # Errors
    /// [`Fault`]: what is wrong with it.
    #[inline]
    pub fn check(self, message: &[u8], client: u32, seq: u64) -> Result<(), Fault> {
        let seed = seed(client, seq);
        let bytes = message.len();
        if bytes != self.of(seed, seq) {
            return Err(Fault::Length { bytes });
        }
        if bytes < MESSAGE_BYTES_MIN {
            let is_right = *message == header(client, seq, seed, bytes)[..bytes];
            return if is_right { Ok(()) } else { Err(Fault::Header) };
        }
        match check_seeded(message, client, |_| seed) {
            Ok(found) if found == seq => Ok(()),
            Ok(_) => Err(Fault::Header),
            Err(fault) => Err(fault),
        }
    }

    /// Checks a message of which nobody knows which it should be; returns its sequence number, or nothing if it is too
    /// short to say.
    ///
    /// # Errors
    /// [`Fault`]: what is wrong with it.
    pub fn check_any(self, message: &[u8], client: u32) -> Result<Option<u64>, Fault> {
        if message.len() < MESSAGE_BYTES_MIN {
            return Ok(None);
        }
        let seq = check_seeded(message, client, |seq| seed(client, seq))?;
        self.check(message, client, seq).map(|()| Some(seq))
    }
}

/// The header of a message of `bytes` bytes, of which a shorter one has the beginning.
fn header(client: u32, seq: u64, seed: u64, bytes: usize) -> [u8; MESSAGE_BYTES_MIN] {
    let mut header = [0; MESSAGE_BYTES_MIN];
    write_header(&mut header, client, seq, header_check(seed, bytes));
    header
}

#[inline]
fn write_header(message: &mut [u8], client: u32, seq: u64, check: u32) {
    message[0..8].copy_from_slice(&seq.to_le_bytes());
    message[8..12].copy_from_slice(&client.to_le_bytes());
    message[12..16].copy_from_slice(&check.to_le_bytes());
}

/// Says whether every byte of this message is written and checked.
fn is_full(seq: u64) -> bool {
    seq.is_multiple_of(FULL_EVERY)
}

/// Mixes client and sequence number (the finalizer of splitmix64: each bit in changes half the bits out).
fn seed(client: u32, seq: u64) -> u64 {
    let mut mixed = seq.wrapping_add(u64::from(client).rotate_left(40)).wrapping_add(GOLDEN);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

fn header_check(seed: u64, bytes: usize) -> u32 {
    let mixed = seed ^ (bytes as u64).wrapping_mul(GOLDEN);
    (mixed ^ (mixed >> 32)) as u32
}

/// The word of the eight bytes with this index.
fn word(seed: u64, index: usize) -> u64 {
    seed.wrapping_add((index as u64).wrapping_mul(GOLDEN))
}

const WORD_BYTES: usize = 8;
const HEADER_WORDS: usize = MESSAGE_BYTES_MIN / WORD_BYTES;
const LINE_BYTES: usize = 64;
const LINE_WORDS: usize = LINE_BYTES / WORD_BYTES;
/// From the first word of a line to that of the next.
const LINE_STEP: u64 = GOLDEN.wrapping_mul(LINE_WORDS as u64);
const FULL_EVERY: u64 = 64;
/// Up to here messages of varying lengths are filled in as many steps as the longest needs.
const EVEN_BYTES_MAX: usize = 512;
/// 2^64 divided by the golden ratio, odd: multiples of it are spread evenly.
const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;

#[cfg(test)]
mod tests {
    use super::*;

    const LENGTHS: [usize; 9] = [16, 17, 23, 63, 64, 71, 72, 1024, 4099];

    fn message(bytes: usize, client: u32, seq: u64) -> Vec<u8> {
        let mut message = vec![0xee; bytes];
        fill(&mut message, client, seq);
        message
    }

    #[test]
    fn what_was_filled_passes_whatever_the_buffer_held_before() {
        for bytes in LENGTHS {
            let mut message = vec![0; bytes];
            for seq in 0..200 {
                fill(&mut message, 7, seq);
                assert_eq!(check(&message, 7, bytes), Ok(seq), "{bytes} bytes");
            }
        }
    }

    #[test]
    fn every_byte_of_a_full_message_counts() {
        for bytes in LENGTHS {
            let good = message(bytes, 3, 128);
            for at in 0..bytes {
                let mut bad = good.clone();
                bad[at] ^= 0x10;
                assert!(check(&bad, 3, bytes).is_err(), "byte {at} of {bytes}");
            }
        }
    }

    #[test]
    fn the_word_of_each_line_counts_in_every_message() {
        for bytes in LENGTHS {
            let good = message(bytes, 3, 5);
            let words =
                (0..bytes).filter(|at| *at < 16 || *at >= 64 && at % 64 < 8 && at - at % 64 + 8 <= bytes);
            for at in words {
                let mut bad = good.clone();
                bad[at] ^= 0x01;
                assert!(check(&bad, 3, bytes).is_err(), "byte {at} of {bytes}");
            }
        }
    }

    #[test]
    fn messages_of_varying_lengths_pass_and_have_every_length() {
        let lengths = Lengths::new(2, 256);
        let mut buffer = [0xee; 300];
        let mut counts = [0; 257];
        for seq in 0..50_000 {
            let message = lengths.fill(&mut buffer, 7, seq);
            counts[message.len()] += 1;
            assert_eq!(lengths.check(message, 7, seq), Ok(()), "{seq}");
            let any = (message.len() >= MESSAGE_BYTES_MIN).then_some(seq);
            assert_eq!(lengths.check_any(message, 7), Ok(any), "{seq}");
        }
        assert_eq!(counts[..2], [0, 0]);
        assert!(counts[2..].iter().all(|count| (100..300).contains(count)), "{counts:?}");
    }

    #[test]
    fn the_first_message_is_the_longest_and_says_whose_it_is() {
        let mut buffer = [0; 256];
        let message = Lengths::new(2, 256).fill(&mut buffer, 9, 0);
        assert_eq!((message.len(), sender_of(message)), (256, Ok(9)));
    }

    #[test]
    fn every_byte_of_a_short_message_counts_and_so_does_its_place() {
        let lengths = Lengths::new(2, 40);
        let mut buffer = [0; 40];
        for seq in 0..500 {
            let message = lengths.fill(&mut buffer, 3, seq).to_vec();
            if message.len() < MESSAGE_BYTES_MIN {
                for at in 0..message.len() {
                    let mut bad = message.clone();
                    bad[at] ^= 0x10;
                    assert_eq!(lengths.check(&bad, 3, seq), Err(Fault::Header), "byte {at} of {seq}");
                }
            }
            assert!(lengths.check(&message, 3, seq + 1).is_err(), "{seq}");
            assert!(lengths.check(&message[1..], 3, seq).is_err(), "{seq}");
        }
    }

    #[test]
    fn a_message_says_whose_it_is() {
        assert_eq!(sender_of(&message(64, 9, 5)), Ok(9));
        assert_eq!(sender_of(&[0; 11]), Err(Fault::Length { bytes: 11 }));
    }

    #[test]
    fn a_fault_says_what_is_wrong() {
        let good = message(1024, 3, 5);
        assert_eq!(check(&good[..1023], 3, 1024), Err(Fault::Length { bytes: 1023 }));
        assert_eq!(check(&good[..8], 3, 8), Err(Fault::Length { bytes: 8 }));
        assert_eq!(check(&good, 4, 1024), Err(Fault::Header), "another client's message");
        let mut torn = good;
        torn[512..].copy_from_slice(&message(1024, 3, 6)[512..]);
        assert_eq!(check(&torn, 3, 1024), Err(Fault::Word { at: 512 }), "half of the next message");
    }
}
