//! Layout version 1: what lies where in a segment. `docs/layout.md` is this file in prose; a golden test holds both.
//!
//! Shared words are little-endian `u64` at fixed offsets. Every line of 128 bytes is written by one thread of
//! one process: 128 because processors fetch cache lines in pairs. Reserved words are zero.

/// First word of every segment: `RINGWAY` and a byte that is no ASCII character.
pub(crate) const SEGMENT_MAGIC: u64 = u64::from_le_bytes(*b"RINGWAY\x97");
/// Number of this layout; it changes with any change in this file.
pub(crate) const LAYOUT_VERSION: u32 = 1;
/// Bytes of one line; no two threads write the same one.
pub(crate) const LINE_BYTES: usize = 128;
/// Bytes before the ring or the tables begin.
pub(crate) const HEADER_BYTES: usize = 4096;

/// Kind of a segment, in its identity line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SegmentKind {
    /// One ring with its lines; given to one peer (or to the readers of one route).
    Connection = 1,
    /// Sleep lines of workers and statistics; never payload; given to every admitted peer.
    Endpoint = 2,
    /// How far a reader of a route or channel is, and whether it sleeps; no ring; given to the sender that it reads.
    Reader = 3,
}

/// Rings are powers of two between these bounds.
pub(crate) const RING_BYTES_MIN: u64 = 16 << 10;
pub(crate) const RING_BYTES_MAX: u64 = 1 << 30;
/// Largest record, header included, as a share of the ring: a quarter fits at any position, also after padding
/// and while the consumer holds back an eighth.
pub(crate) const RECORD_SHARE: u64 = 4;

/// Feature bits of a segment: fixed at creation, announced in the hello, compared with the mapped header.
pub(crate) mod feature {
    /// The writer does not wait for readers; they check the intent position.
    pub(crate) const OVERWRITE: u64 = 1 << 0;
    /// The writer waits for readers, but may leave one behind; they check the intent position.
    pub(crate) const CUTS: u64 = 1 << 1;
    /// Every bit this version knows.
    pub(crate) const KNOWN: u64 = OVERWRITE | CUTS;
}

/// Identity line: written once, before the segment is sealed.
pub(crate) mod identity {
    pub(crate) const MAGIC: usize = 0x00;
    /// Layout version in the low 32 bits, segment kind in the high 32.
    pub(crate) const VERSION_KIND: usize = 0x08;
    pub(crate) const FEATURES: usize = 0x10;
    /// Bytes of the ring; 0 in an endpoint segment.
    pub(crate) const RING_BYTES: usize = 0x18;
    /// Process id of the creator as it sees itself: for people who look, never compared.
    pub(crate) const PID: usize = 0x20;
    /// Start time of the creator in clock ticks since boot: for people who look.
    pub(crate) const START_TIME: usize = 0x28;
    /// Bytes of the whole segment.
    pub(crate) const SEGMENT_BYTES: usize = 0x30;
}

/// Producer line of a connection segment: written by the thread that sends.
pub(crate) mod producer {
    /// Bytes ever published: after every publish in an overwrite ring, at the close in a lossless one.
    pub(crate) const PUBLISHED: usize = 0x80;
    /// Rings whose readers check: end of what the writer may be writing at this moment.
    pub(crate) const INTENT: usize = 0x88;
    /// 0 open, 1 nothing will be published after what is published now.
    pub(crate) const CLOSE: usize = 0x90;
    /// Overwrite rings: messages ever published, stored before `PUBLISHED`.
    pub(crate) const MESSAGES: usize = 0x98;
    /// Overwrite rings: the same, stored after it; both are equal around a position to which they belong.
    pub(crate) const MESSAGES_AFTER: usize = 0xa0;
}

/// Consumer line, of a reader segment too: how far the creator of this segment has read the **peer's** ring.
pub(crate) mod consumer {
    pub(crate) const CONSUMED: usize = 0x100;
}

/// Sleep words: `generation << 2 | state`, each on a line of its own.
pub(crate) mod sleep {
    /// The creator waits for data in the peer's ring.
    pub(crate) const DATA: usize = 0x180;
    /// The creator waits for room in its own ring.
    pub(crate) const SPACE: usize = 0x200;

    /// Polling or busy: no doorbell wanted.
    pub(crate) const AWAKE: u64 = 0;
    /// Asleep or about to be: ring once for this generation.
    pub(crate) const ASLEEP: u64 = 1;
    /// Look at the worker's line in the endpoint segment; the worker's number is in place of the generation.
    pub(crate) const DELEGATED: u64 = 2;
    /// This side will never read (data word) again.
    pub(crate) const CLOSED: u64 = 3;
    pub(crate) const STATE_MASK: u64 = 3;
}

/// Reserved: `u32` words for a futex on which only one peer sleeps; one line for each direction.
#[cfg(test)]
pub(crate) mod wake {
    pub(crate) const DATA: usize = 0x280;
    pub(crate) const SPACE: usize = 0x300;
}

/// Endpoint segment: sleep lines of the workers, then statistics slots.
pub(crate) mod endpoint {
    use super::{HEADER_BYTES, LINE_BYTES};

    /// Number of worker lines and of slots, in the identity line.
    pub(crate) const WORKERS: usize = 0x38;
    pub(crate) const SLOTS: usize = 0x40;
    /// Slots that were ever used, from the first on: a monitor reads no more. Written by whoever admits peers.
    pub(crate) const SLOTS_USED: usize = 0x80;

    pub(crate) const WORKERS_MAX: usize = 64;
    pub(crate) const WORKER_LINES: usize = HEADER_BYTES;
    pub(crate) const SLOT_TABLE: usize = WORKER_LINES + WORKERS_MAX * LINE_BYTES;
    pub(crate) const SLOT_BYTES: usize = 4 * LINE_BYTES;
}

/// Words of one statistics slot, as offsets from its start. One line each for the owner of the slot, the sending
/// thread and the receiving thread; the fourth is reserved for sampled latency.
pub(crate) mod slot {
    /// 0 free, else the number of the connection that has the slot, counted from 1.
    pub(crate) const CONNECTION: usize = 0x00;
    pub(crate) const PEER_PID: usize = 0x08;
    pub(crate) const PEER_UID: usize = 0x10;
    /// Position that a reader of our ring had come to when we last looked.
    pub(crate) const CONSUMED: usize = 0x18;
    /// Position at which it joined.
    pub(crate) const JOINED_AT: usize = 0x20;
    /// What the slot is of: 0 a connection, 1 the sender or receiver itself, 2 a reader of its ring, 3 a sender that it
    /// reads.
    pub(crate) const KIND: usize = 0x28;

    pub(crate) const SENT_MESSAGES: usize = 0x80;
    pub(crate) const SENT_BYTES: usize = 0x88;
    pub(crate) const FULL: usize = 0x90;
    pub(crate) const SPACE_SLEEPS: usize = 0x98;
    pub(crate) const DATA_BELLS: usize = 0xa0;
    /// Bytes ever published.
    pub(crate) const POSITION: usize = 0xa8;
    /// Messages that were not sent because somebody had no room.
    pub(crate) const DROPPED: usize = 0xb0;
    /// Receivers that were disconnected because they were too slow.
    pub(crate) const CUT: usize = 0xb8;

    pub(crate) const RECEIVED_MESSAGES: usize = 0x100;
    pub(crate) const RECEIVED_BYTES: usize = 0x108;
    pub(crate) const DATA_SLEEPS: usize = 0x110;
    pub(crate) const SPACE_BELLS: usize = 0x118;
    pub(crate) const DOORBELL_BYTES: usize = 0x120;
    pub(crate) const VIOLATIONS: usize = 0x128;
    pub(crate) const LAGGED_BYTES: usize = 0x130;
    /// Messages that were lost before they were read.
    pub(crate) const LAGGED_MESSAGES: usize = 0x138;

    /// Bytes of each line that are in use; the rest is reserved.
    pub(crate) const LINE_USED: usize = 0x40;
}

/// Slot of a side that has no endpoint segment, in the header of its connection segment.
pub(crate) const OWN_SLOT: usize = 0x400;

/// Bytes of a connection segment whose ring has `ring_bytes`.
pub(crate) const fn connection_segment_bytes(ring_bytes: u64) -> u64 {
    HEADER_BYTES as u64 + ring_bytes
}

/// Bytes of a reader segment: the header is all there is.
pub(crate) const READER_SEGMENT_BYTES: u64 = HEADER_BYTES as u64;

/// Bytes of an endpoint segment with room for `slots` connections.
pub(crate) const fn endpoint_segment_bytes(slots: usize) -> u64 {
    (endpoint::SLOT_TABLE + slots * endpoint::SLOT_BYTES).next_multiple_of(4096) as u64
}

/// Says whether rings may have this size.
pub(crate) const fn is_ring_bytes(ring_bytes: u64) -> bool {
    ring_bytes.is_power_of_two() && ring_bytes >= RING_BYTES_MIN && ring_bytes <= RING_BYTES_MAX
}

const fn line(offset: usize) -> usize {
    offset / LINE_BYTES
}

const _: () = {
    assert!(cfg!(target_endian = "little"), "the layout is little-endian");
    assert!(cfg!(target_pointer_width = "64"), "the layout needs 64-bit positions");
    assert!(line(identity::SEGMENT_BYTES) == 0 && line(endpoint::SLOTS) == 0);
    assert!(line(endpoint::SLOTS_USED) == 1);
    assert!(line(producer::PUBLISHED) == 1 && line(producer::MESSAGES_AFTER) == 1);
    assert!(line(consumer::CONSUMED) == 2 && line(sleep::DATA) == 3 && line(sleep::SPACE) == 4);
    assert!(HEADER_BYTES.is_multiple_of(LINE_BYTES) && endpoint::SLOT_TABLE.is_multiple_of(LINE_BYTES));
    assert!(OWN_SLOT.is_multiple_of(LINE_BYTES) && OWN_SLOT + endpoint::SLOT_BYTES <= HEADER_BYTES);
    assert!(slot::KIND < slot::CONNECTION + slot::LINE_USED);
    assert!(slot::CUT < slot::SENT_MESSAGES + slot::LINE_USED);
    assert!(slot::LAGGED_MESSAGES < slot::RECEIVED_MESSAGES + slot::LINE_USED);
    assert!(line(slot::CONNECTION) == 0 && line(slot::KIND) == 0);
    assert!(line(slot::SENT_MESSAGES) == 1 && line(slot::CUT) == 1);
    assert!(line(slot::RECEIVED_MESSAGES) == 2 && line(slot::LAGGED_MESSAGES) == 2);
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_writers_share_a_line() {
        let lines = [
            line(identity::MAGIC),
            line(producer::PUBLISHED),
            line(consumer::CONSUMED),
            line(sleep::DATA),
            line(sleep::SPACE),
            line(wake::DATA),
            line(wake::SPACE),
        ];
        let mut unique = lines.to_vec();
        unique.dedup();
        assert_eq!(unique, lines);
        assert_eq!(line(producer::MESSAGES_AFTER), line(producer::PUBLISHED));
    }

    #[test]
    fn sleep_states_fill_the_two_low_bits() {
        let states = [sleep::AWAKE, sleep::ASLEEP, sleep::DELEGATED, sleep::CLOSED];
        assert_eq!(states, [0, 1, 2, 3]);
        assert!(states.iter().all(|state| state & !sleep::STATE_MASK == 0));
    }

    #[test]
    fn only_powers_of_two_in_bounds_are_ring_sizes() {
        assert!(is_ring_bytes(RING_BYTES_MIN) && is_ring_bytes(1 << 20) && is_ring_bytes(RING_BYTES_MAX));
        for bytes in [0, 1, RING_BYTES_MIN / 2, RING_BYTES_MIN + 8, RING_BYTES_MAX * 2, u64::MAX] {
            assert!(!is_ring_bytes(bytes), "{bytes}");
        }
    }

    #[test]
    fn segments_are_whole_pages() {
        assert_eq!(connection_segment_bytes(1 << 20), (1 << 20) + 4096);
        assert_eq!(endpoint_segment_bytes(1), 16384);
        assert_eq!(endpoint_segment_bytes(1024) % 4096, 0);
    }
}
