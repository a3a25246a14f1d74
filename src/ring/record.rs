//! The record header: one word, checked field by field whenever a peer wrote it.
//!
//! ```text
//!  63           48 47    40 39    32 31                             0
//! +---------------+--------+--------+--------------------------------+
//! |       0       | flags  |  kind  |         payload length         |
//! +---------------+--------+--------+--------------------------------+
//! ```

use crate::error::Violation;

/// Bytes of a record header.
pub(crate) const RECORD_HEADER_BYTES: u64 = 8;
/// A time stamp of 8 bytes follows the padded payload; its length does not count it.
const FLAG_TIME_STAMP: u64 = 1 << 40;
const LENGTH_MASK: u64 = 0xffff_ffff;

/// What a record is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A whole message.
    Data = 1,
    /// Nothing; skip it.
    Padding = 2,
    /// The first part of a message longer than a record.
    FragmentFirst = 3,
    /// A part that is neither first nor last.
    FragmentMiddle = 4,
    /// The part that completes the message.
    FragmentLast = 5,
    /// The message whose parts came so far will not be completed; forget them.
    Abandon = 6,
}

/// A header that was found legal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) kind: Kind,
    /// Bytes of payload.
    pub(crate) len: u32,
    /// Bytes of the record: header, padded payload, time stamp.
    pub(crate) total: u64,
}

/// Returns the bytes that a record with this payload takes.
pub(crate) const fn total_bytes(len: u64) -> u64 {
    RECORD_HEADER_BYTES + len.next_multiple_of(8)
}

/// Makes the header word of a record.
pub(crate) const fn encode(kind: Kind, len: u32) -> u64 {
    len as u64 | (kind as u64) << 32
}

/// Takes apart the header word of a plain message, as nearly all are: nothing but a length in it. `None` says nothing
/// about the word; ask [`decode`].
#[inline(always)]
pub(crate) fn decode_plain(word: u64, room: u64, record_max: u64) -> Option<Header> {
    let len = word & LENGTH_MASK;
    let total = total_bytes(len);
    let plain = word >> 32 == Kind::Data as u64 && total <= room && total <= record_max;
    plain.then_some(Header { kind: Kind::Data, len: len as u32, total })
}

/// Takes a header word of any kind apart, with or without flags.
///
/// `room` is the number of bytes from the header to the end of the ring, `record_max` the agreed maximum. Padding may
/// fill whatever room there is; everything else is bounded by both.
pub(crate) fn decode(word: u64, room: u64, record_max: u64) -> Result<Header, Violation> {
    let kind = match (word >> 32) as u8 {
        1 => Kind::Data,
        2 => Kind::Padding,
        3 => Kind::FragmentFirst,
        4 => Kind::FragmentMiddle,
        5 => Kind::FragmentLast,
        6 => Kind::Abandon,
        _ => return Err(Violation::Header { word }),
    };
    let stamped = word & FLAG_TIME_STAMP != 0;
    let known = LENGTH_MASK | 0xff << 32 | FLAG_TIME_STAMP;
    if word & !known != 0 || stamped && kind == Kind::Padding || kind == Kind::Abandon && word as u32 != 0 {
        return Err(Violation::Header { word });
    }
    let len = word & LENGTH_MASK;
    let total = total_bytes(len) + if stamped { 8 } else { 0 };
    let max = if kind == Kind::Padding { room } else { room.min(record_max) };
    if total > max {
        return Err(Violation::Length { claimed: total, max });
    }
    Ok(Header { kind, len: len as u32, total })
}

#[cfg(test)]
mod tests {
    use super::*;

    const KINDS: [Kind; 6] = [
        Kind::Data,
        Kind::Padding,
        Kind::FragmentFirst,
        Kind::FragmentMiddle,
        Kind::FragmentLast,
        Kind::Abandon,
    ];

    #[test]
    fn every_kind_survives_encoding() {
        for kind in KINDS {
            for len in [0, 1, 7, 8, 9, 4096] {
                let word = encode(kind, len);
                assert_ne!(word, 0, "zero is never a legal header");
                let decoded = decode(word, 1 << 20, 1 << 18);
                if kind == Kind::Abandon && len > 0 {
                    assert_eq!(decoded, Err(Violation::Header { word }));
                } else {
                    let total = 8 + u64::from(len).next_multiple_of(8);
                    assert_eq!(decoded, Ok(Header { kind, len, total }));
                }
            }
        }
    }

    #[test]
    fn every_single_bit_that_is_not_ours_is_a_violation() {
        for bit in (33..64).filter(|bit| *bit != 40) {
            let word = encode(Kind::Data, 8) | 1 << bit;
            let kind = (word >> 32) as u8;
            let legal = bit < 40 && (1..=6).contains(&kind) && kind != Kind::Abandon as u8;
            assert_eq!(decode(word, 4096, 4096).is_ok(), legal, "bit {bit}");
        }
    }

    #[test]
    fn kinds_from_zero_to_255_are_legal_only_in_the_table() {
        for kind in 0..=255_u64 {
            assert_eq!(decode(kind << 32, 4096, 4096).is_ok(), (1..=6).contains(&kind), "kind {kind}");
        }
    }

    #[test]
    fn lengths_are_bounded_by_room_and_by_the_maximum() {
        let longest = decode(encode(Kind::Data, 248), 256, 1024);
        assert_eq!(longest.map(|header| header.total), Ok(256));
        assert_eq!(
            decode(encode(Kind::Data, 249), 256, 1024),
            Err(Violation::Length { claimed: 264, max: 256 })
        );
        assert_eq!(
            decode(encode(Kind::Data, 249), 4096, 256),
            Err(Violation::Length { claimed: 264, max: 256 })
        );
        assert!(decode(encode(Kind::Data, u32::MAX), 1 << 30, 1 << 28).is_err());
        assert!(decode(encode(Kind::Padding, 4088), 4096, 256).is_ok(), "padding fills any room");
        assert!(decode(encode(Kind::Padding, 4089), 4096, 256).is_err());
    }

    #[test]
    fn what_is_taken_for_a_plain_message_is_one() {
        for kind in KINDS {
            for len in [0, 1, 8, 247, 248, 249, 4096, u32::MAX] {
                for word in
                    [encode(kind, len), encode(kind, len) | FLAG_TIME_STAMP, encode(kind, len) | 1 << 63]
                {
                    let plain = decode_plain(word, 256, 1024);
                    assert!(plain.is_none() || decode(word, 256, 1024) == Ok(plain.unwrap()), "{word:#x}");
                    assert_eq!(plain.is_some(), word == encode(Kind::Data, len) && len <= 248, "{word:#x}");
                }
            }
        }
    }

    #[test]
    fn a_time_stamp_adds_eight_bytes_that_are_not_payload() {
        let word = encode(Kind::Data, 5) | FLAG_TIME_STAMP;
        assert_eq!(decode(word, 24, 64), Ok(Header { kind: Kind::Data, len: 5, total: 24 }));
        assert_eq!(decode(word, 16, 64), Err(Violation::Length { claimed: 24, max: 16 }));
    }
}
