//! The frame: a header of 24 bytes, a payload, and a checksum over both.
//!
//! Little-endian, no padding; one frame is one message of a connection.
//!
//! | bytes | field |
//! |---|---|
//! | 0..4 | magic |
//! | 4 | version, 1 |
//! | 5 | flags |
//! | 6..8 | message type, the application's |
//! | 8..12 | payload bytes |
//! | 12..20 | message id; a response carries the request's |
//! | 20..24 | CRC-32 (IEEE) of the header with these bytes zero, followed by the payload |
//!
//! The checksum finds accidents, not attackers: whoever can write a frame can write its checksum.

use crate::error::call::FrameError;

/// Bytes of the header.
pub(crate) const HEADER_BYTES: usize = 24;
/// What frames of ringway begin with: `RWF1`.
pub(crate) const MAGIC: u32 = u32::from_le_bytes(*b"RWF1");
const VERSION: u8 = 1;

/// Flags of a frame.
pub(crate) mod flag {
    /// Of a request: a streamed response is welcome. Of a response: a part, more follow.
    pub(crate) const STREAMING: u8 = 0x04;
    /// Overtakes frames that wait for room.
    pub(crate) const PRIORITY: u8 = 0x08;
    /// A request.
    pub(crate) const REQUEST: u8 = 0x10;
    /// A response. Together with `REQUEST`: said to the protocol itself.
    pub(crate) const RESPONSE: u8 = 0x20;
    /// What this version understands. Compressed (0x01) and encrypted (0x02) are reserved, 0x40 and 0x80 illegal.
    pub(crate) const KNOWN: u8 = STREAMING | PRIORITY | REQUEST | RESPONSE;
}

/// The fields of a header that are not implied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) flags: u8,
    pub(crate) message_type: u16,
    pub(crate) id: u64,
}

/// Writes and reads frames.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Codec {
    magic: u32,
    /// Frames carry a checksum; without one these bytes are zero and nobody looks at them.
    pub(crate) checksum: bool,
}

impl Codec {
    /// Makes the codec of ringway's own frames, with checksums.
    pub(crate) fn new() -> Self {
        Self { magic: MAGIC, checksum: true }
    }

    /// Writes a frame into `out`, whose payload is `prelude` followed by `body`.
    ///
    /// # Panics
    /// If `out` has another length than the frame, or the payload does not fit 32 bits: a bug of the caller.
    /// # Cost
    /// One copy of the body, and about 50 ns per KiB for the checksum.
    #[inline]
    pub(crate) fn write(&self, out: &mut [u8], header: &Header, prelude: &[u8], body: &[u8]) {
        let payload_bytes = prelude.len() + body.len();
        assert_eq!(out.len(), HEADER_BYTES + payload_bytes, "a frame fills its room");
        let payload_bytes = u32::try_from(payload_bytes).expect("invariant: messages are shorter than 4 GiB");
        let words = [
            u64::from(self.magic)
                | u64::from(VERSION) << 32
                | u64::from(header.flags) << 40
                | u64::from(header.message_type) << 48,
            u64::from(payload_bytes) | header.id << 32,
            header.id >> 32,
        ];
        // From where the bytes come from: reading back what was just written in other pieces takes longer.
        let checksum = if self.checksum { checksum(words, prelude, body) } else { 0 };
        let (head, payload) = out.split_at_mut(HEADER_BYTES);
        for (place, word) in head.chunks_exact_mut(8).zip(words) {
            place.copy_from_slice(&word.to_le_bytes());
        }
        head[CHECKSUM_AT..].copy_from_slice(&checksum.to_le_bytes());
        let (first, second) = payload.split_at_mut(prelude.len());
        first.copy_from_slice(prelude);
        second.copy_from_slice(body);
    }

    /// Checks a frame and takes it apart.
    ///
    /// `frame` must lie in private memory: what was checked must not change afterwards.
    ///
    /// # Errors
    /// [`FrameError`]: whoever sent this does not speak the protocol, or something broke it on the way.
    #[inline]
    pub(crate) fn read<'a>(&self, frame: &'a [u8]) -> Result<(Header, &'a [u8]), FrameError> {
        let Some((head, payload)) = frame.split_first_chunk::<HEADER_BYTES>() else {
            return Err(FrameError::Short { bytes: frame.len() });
        };
        let words = [word_at(head, 0), word_at(head, 8), word_at(head, 16)];
        let magic = words[0] as u32;
        if magic != self.magic {
            return Err(FrameError::Magic { found: magic, expected: self.magic });
        }
        let [version, flags] = [(words[0] >> 32) as u8, (words[0] >> 40) as u8];
        if version != VERSION {
            return Err(FrameError::Version { found: version });
        }
        if flags & !flag::KNOWN != 0 {
            return Err(FrameError::Flags { found: flags });
        }
        let claimed = words[1] as u32;
        if claimed as usize != payload.len() {
            return Err(FrameError::Length { claimed, bytes: payload.len() });
        }
        let found = (words[2] >> 32) as u32;
        let id = words[1] >> 32 | words[2] << 32;
        if self.checksum {
            let computed = checksum([words[0], words[1], id >> 32], &[], payload);
            if found != computed {
                return Err(FrameError::Checksum { found, computed });
            }
        }
        Ok((Header { flags, message_type: (words[0] >> 48) as u16, id }, payload))
    }
}

/// Returns the CRC-32 of a header, given as words with the checksum zero, and a payload in two pieces.
#[inline]
fn checksum(words: [u64; 3], prelude: &[u8], body: &[u8]) -> u32 {
    let mut state = !0;
    for word in words {
        state = advance(state, word);
    }
    let (whole, rest) = prelude.as_chunks::<8>();
    for bytes in whole {
        state = advance(state, u64::from_le_bytes(*bytes));
    }
    let mut hasher = crc32fast::Hasher::new_with_initial(!state);
    hasher.update(rest);
    hasher.update(body);
    hasher.finalize()
}

/// Takes eight bytes into a CRC-32: words that are still in registers, for which going through memory takes longer.
#[inline]
fn advance(state: u32, word: u64) -> u32 {
    let word = word ^ u64::from(state);
    (0..8).fold(0, |state, byte| state ^ TABLES[7 - byte][(word >> (8 * byte) & 0xFF) as usize])
}

/// What a byte does to a CRC-32 that is followed by 0 to 7 others.
const TABLES: [[u32; 256]; 8] = {
    let mut tables = [[0; 256]; 8];
    let mut byte = 0;
    while byte < 256 {
        let mut state = byte as u32;
        let mut bit = 0;
        while bit < 8 {
            state = if state & 1 == 1 { state >> 1 ^ POLYNOMIAL } else { state >> 1 };
            bit += 1;
        }
        tables[0][byte] = state;
        byte += 1;
    }
    let mut follow = 1;
    while follow < 8 {
        let mut byte = 0;
        while byte < 256 {
            let state: u32 = tables[follow - 1][byte];
            tables[follow][byte] = state >> 8 ^ tables[0][(state & 0xFF) as usize];
            byte += 1;
        }
        follow += 1;
    }
    tables
};
/// Of CRC-32 (IEEE), bits reversed.
const POLYNOMIAL: u32 = 0xEDB8_8320;

fn word_at(head: &[u8; HEADER_BYTES], at: usize) -> u64 {
    let mut bytes = [0; 8];
    bytes.copy_from_slice(&head[at..at + 8]);
    u64::from_le_bytes(bytes)
}

/// Where the checksum lies, the last field of the header.
const CHECKSUM_AT: usize = 20;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn frame(codec: &Codec, header: &Header, payload: &[u8]) -> Vec<u8> {
        let mut out = vec![0xAA; HEADER_BYTES + payload.len()];
        codec.write(&mut out, header, &[], payload);
        out
    }

    fn hex(text: &str) -> Vec<u8> {
        let digits: Vec<u32> = text.chars().filter_map(|c| c.to_digit(16)).collect();
        digits.chunks(2).map(|pair| (pair[0] << 4 | pair[1]) as u8).collect()
    }

    #[test]
    fn frames_are_the_ones_of_the_check_vectors() {
        let codec = Codec { magic: 0x4C41_5043, checksum: true };
        let vectors: [(u16, u64, &[u8], &str); 3] = [
            (2, 1, b"x", "4350414c 01 00 0200 01000000 0100000000000000 29ad2d60 78"),
            (1, 0, b"", "4350414c 01 00 0100 00000000 0000000000000000 5d8c024d"),
            (
                4,
                0x0102_0304_0506_0708,
                b"hello world",
                "4350414c 01 00 0400 0b000000 0807060504030201 46ae255a 68656c6c6f20776f726c64",
            ),
        ];
        for (message_type, id, payload, bytes) in vectors {
            let header = Header { flags: 0, message_type, id };
            assert_eq!(frame(&codec, &header, payload), hex(bytes));
            assert_eq!(codec.read(&hex(bytes)), Ok((header, payload)));
        }
    }

    #[test]
    fn every_broken_field_is_named() {
        let codec = Codec::new();
        let good = frame(&codec, &Header { flags: flag::REQUEST, message_type: 7, id: 9 }, b"payload");
        let broken = |index: usize, byte: u8| {
            let mut frame = good.clone();
            frame[index] = byte;
            codec.read(&frame).unwrap_err()
        };
        assert!(matches!(codec.read(&good[..23]), Err(FrameError::Short { bytes: 23 })));
        assert!(matches!(broken(0, 0), FrameError::Magic { .. }));
        assert!(matches!(broken(4, 2), FrameError::Version { found: 2 }));
        for flags in [0x01, 0x02, 0x40, 0x80] {
            assert!(matches!(broken(5, flags), FrameError::Flags { .. }));
        }
        assert!(matches!(broken(8, 6), FrameError::Length { claimed: 6, bytes: 7 }));
        for index in [6, 12, 20, 24, 30] {
            assert!(matches!(broken(index, !good[index]), FrameError::Checksum { .. }), "byte {index}");
        }
    }

    #[test]
    fn without_checksums_nobody_looks_at_those_bytes() {
        let codec = Codec { checksum: false, ..Codec::new() };
        let header = Header { flags: 0, message_type: 1, id: 2 };
        let mut frame = frame(&codec, &header, b"abc");
        assert_eq!(frame[20..24], [0; 4]);
        frame[20] = 1;
        assert_eq!(codec.read(&frame), Ok((header, &b"abc"[..])));
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic_and_good_frames_come_back(
            bytes in proptest::collection::vec(any::<u8>(), 0..200), flags in 0u8..16, id: u64, message_type: u16,
        ) {
            let codec = Codec::new();
            let _ = codec.read(&bytes);
            let header = Header { flags: flags << 2, message_type, id };
            let whole = frame(&codec, &header, &bytes);
            let mut zeroed = whole.clone();
            zeroed[20..24].fill(0);
            prop_assert_eq!(&crc32fast::hash(&zeroed).to_le_bytes()[..], &whole[20..24]);
            prop_assert_eq!(codec.read(&whole), Ok((header, &bytes[..])));
        }
    }
}
