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
    /// One copy of the body; 10 ns for the checksum of 64 bytes, 42 ns for that of 1 KiB.
    #[inline]
    pub(crate) fn write(&self, out: &mut [u8], header: &Header, prelude: &[u8], body: &[u8]) {
        let payload_bytes = prelude.len() + body.len();
        assert_eq!(out.len(), HEADER_BYTES + payload_bytes, "a frame fills its room");
        let payload_bytes = u32::try_from(payload_bytes).expect("invariant: messages are shorter than 4 GiB");
        out[at::MAGIC].copy_from_slice(&self.magic.to_le_bytes());
        out[at::VERSION] = VERSION;
        out[at::FLAGS] = header.flags;
        out[at::TYPE].copy_from_slice(&header.message_type.to_le_bytes());
        out[at::PAYLOAD_BYTES].copy_from_slice(&payload_bytes.to_le_bytes());
        out[at::ID].copy_from_slice(&header.id.to_le_bytes());
        out[at::CHECKSUM].fill(0);
        let (first, second) = out[HEADER_BYTES..].split_at_mut(prelude.len());
        first.copy_from_slice(prelude);
        second.copy_from_slice(body);
        if self.checksum {
            let checksum = crc32fast::hash(out);
            out[at::CHECKSUM].copy_from_slice(&checksum.to_le_bytes());
        }
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
        let magic = u32_at(head, at::MAGIC);
        if magic != self.magic {
            return Err(FrameError::Magic { found: magic, expected: self.magic });
        }
        if head[at::VERSION] != VERSION {
            return Err(FrameError::Version { found: head[at::VERSION] });
        }
        let flags = head[at::FLAGS];
        if flags & !flag::KNOWN != 0 {
            return Err(FrameError::Flags { found: flags });
        }
        let claimed = u32_at(head, at::PAYLOAD_BYTES);
        if claimed as usize != payload.len() {
            return Err(FrameError::Length { claimed, bytes: payload.len() });
        }
        if self.checksum {
            let found = u32_at(head, at::CHECKSUM);
            let computed = checksum(head, payload);
            if found != computed {
                return Err(FrameError::Checksum { found, computed });
            }
        }
        let mut id = [0; 8];
        id.copy_from_slice(&head[at::ID]);
        let message_type = u16::from_le_bytes([head[at::TYPE.start], head[at::TYPE.start + 1]]);
        Ok((Header { flags, message_type, id: u64::from_le_bytes(id) }, payload))
    }
}

fn checksum(head: &[u8; HEADER_BYTES], payload: &[u8]) -> u32 {
    let mut head = *head;
    head[at::CHECKSUM].fill(0);
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&head);
    hasher.update(payload);
    hasher.finalize()
}

fn u32_at(head: &[u8; HEADER_BYTES], at: std::ops::Range<usize>) -> u32 {
    let mut bytes = [0; 4];
    bytes.copy_from_slice(&head[at]);
    u32::from_le_bytes(bytes)
}

/// Where the fields lie.
mod at {
    use std::ops::Range;

    pub(super) const MAGIC: Range<usize> = 0..4;
    pub(super) const VERSION: usize = 4;
    pub(super) const FLAGS: usize = 5;
    pub(super) const TYPE: Range<usize> = 6..8;
    pub(super) const PAYLOAD_BYTES: Range<usize> = 8..12;
    pub(super) const ID: Range<usize> = 12..20;
    pub(super) const CHECKSUM: Range<usize> = 20..24;
}

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
            prop_assert_eq!(codec.read(&whole), Ok((header, &bytes[..])));
        }
    }
}
