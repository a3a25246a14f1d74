//! Creating segments that only we can write, and accepting those of others only when they cannot hurt us.

use super::layout::{self, SegmentKind, endpoint, identity};
use super::{Own, Peer, SharedBytes, SharedWord};
use crate::sys;
use std::fmt;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

/// A segment that this process created: mapped writable, then sealed, so that nobody else ever can.
pub(crate) struct Segment {
    file: Arc<OwnedFd>,
    mapping: Arc<sys::Mapping>,
    ring_bytes: u64,
    is_prefaulted: bool,
}

impl Segment {
    /// Creates the segment of one side of a connection, or of the sender of a route or channel.
    ///
    /// Cost: seven system calls; no page but the first is touched.
    pub(crate) fn connection(ring_bytes: u64, features: u64) -> io::Result<Self> {
        assert!(layout::is_ring_bytes(ring_bytes), "invariant: the configuration checked ring_bytes");
        let bytes = layout::connection_segment_bytes(ring_bytes);
        Self::create(SegmentKind::Connection, bytes, ring_bytes, features, &[])
    }

    /// Creates the segment in which a reader of somebody else's ring says how far it is.
    pub(crate) fn reader() -> io::Result<Self> {
        Self::create(SegmentKind::Reader, layout::READER_SEGMENT_BYTES, 0, 0, &[])
    }

    /// Creates the segment that a listening process shows to all its peers: sleep lines and statistics.
    pub(crate) fn endpoint(slots: usize) -> io::Result<Self> {
        let tables = [(endpoint::WORKERS, endpoint::WORKERS_MAX as u64), (endpoint::SLOTS, slots as u64)];
        Self::create(SegmentKind::Endpoint, layout::endpoint_segment_bytes(slots), 0, 0, &tables)
    }

    fn create(
        kind: SegmentKind,
        bytes: u64,
        ring_bytes: u64,
        features: u64,
        tables: &[(usize, u64)],
    ) -> io::Result<Self> {
        let file = sys::create_segment_file(bytes)?;
        let mapping = Arc::new(sys::Mapping::shared(file.as_fd(), bytes as usize, sys::Access::ReadWrite)?);
        let segment = Self { file: Arc::new(file), mapping, ring_bytes, is_prefaulted: false };
        // Before the first touch: a page that cannot be had is an error here and would be a signal there.
        sys::allocate(segment.file.as_fd(), 0, layout::HEADER_BYTES as u64)?;
        let words = [
            (identity::MAGIC, layout::SEGMENT_MAGIC),
            (identity::VERSION_KIND, version_and_kind(kind)),
            (identity::FEATURES, features),
            (identity::RING_BYTES, ring_bytes),
            (identity::PID, u64::from(sys::pid())),
            (identity::START_TIME, sys::start_time()),
            (identity::SEGMENT_BYTES, bytes),
        ];
        for &(offset, value) in words.iter().chain(tables) {
            segment.word(offset).store_relaxed(value);
        }
        sys::seal(segment.file.as_fd())?;
        Ok(segment)
    }

    /// Makes another handle, descriptor included.
    pub(crate) fn share(&self) -> Self {
        let (file, mapping) = (Arc::clone(&self.file), Arc::clone(&self.mapping));
        Self { file, mapping, ring_bytes: self.ring_bytes, is_prefaulted: self.is_prefaulted }
    }

    /// Returns what finds a word by its offset from `start`, without holding the descriptor open.
    pub(crate) fn words_from(
        &self,
        start: usize,
    ) -> impl Fn(usize) -> SharedWord<Own> + Send + Sync + 'static {
        let mapping = Arc::clone(&self.mapping);
        move |offset| SharedWord::new(&mapping, start + offset)
    }

    /// Views one word.
    pub(crate) fn word(&self, offset: usize) -> SharedWord<Own> {
        SharedWord::new(&self.mapping, offset)
    }

    /// Views the ring. Called once for a segment: its producer is the only writer.
    pub(crate) fn ring(&self) -> SharedBytes<Own> {
        SharedBytes::new(&self.mapping, layout::HEADER_BYTES, self.ring_bytes, false)
    }

    /// Lends the descriptor for sending it to a peer.
    pub(crate) fn file(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }

    /// Returns the size of the ring.
    pub(crate) fn ring_bytes(&self) -> u64 {
        self.ring_bytes
    }

    /// Makes sure that `bytes` of the segment from `offset` on have memory behind them.
    pub(crate) fn allocate(&self, offset: u64, bytes: u64) -> io::Result<()> {
        sys::allocate(self.file.as_fd(), offset, bytes)
    }

    /// Allocates and touches the whole segment, so that no page fault is left for later.
    pub(crate) fn prefault(&mut self) -> io::Result<()> {
        self.allocate(0, self.mapping.bytes() as u64)?;
        self.mapping.prefault()?;
        self.is_prefaulted = true;
        Ok(())
    }

    /// Says whether the whole segment has memory.
    pub(crate) fn is_prefaulted(&self) -> bool {
        self.is_prefaulted
    }
}

/// A segment that a peer created: verified, mapped read-only.
pub(crate) struct PeerSegment {
    mapping: Arc<sys::Mapping>,
    ring_bytes: u64,
    trusted: bool,
}

/// Tells why a peer's segment is not mapped.
#[derive(Debug)]
pub(crate) enum SegmentFault {
    /// Not memory, not sealed, or of another size than announced.
    File(sys::SegmentFileFault),
    /// The identity line says something else than the hello did.
    Identity { offset: usize, announced: u64, found: u64 },
    /// It could not be mapped.
    Os(io::Error),
}

impl fmt::Display for SegmentFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(fault) => write!(f, "the peer's segment is not acceptable: {fault:?}"),
            Self::Identity { offset, announced, found } => write!(
                f,
                "the peer's segment differs from its hello: {found:#x} instead of {announced:#x} at {offset:#x}"
            ),
            Self::Os(error) => write!(f, "the peer's segment could not be mapped: {error}"),
        }
    }
}

impl PeerSegment {
    /// Verifies and maps a segment with a ring: seals and size before, identity after. `ring_bytes` was bounded by
    /// the hello; from here on nothing of the geometry is ever read from the segment again.
    pub(crate) fn connection(
        file: BorrowedFd<'_>,
        ring_bytes: u64,
        features: u64,
        trusted: bool,
    ) -> Result<Self, SegmentFault> {
        let bytes = layout::connection_segment_bytes(ring_bytes);
        let segment = Self::map(file, bytes, ring_bytes, trusted)?;
        segment.expect(SegmentKind::Connection, features, bytes)?;
        Ok(segment)
    }

    /// Verifies and maps the segment of a reader.
    pub(crate) fn reader(file: BorrowedFd<'_>) -> Result<Self, SegmentFault> {
        let segment = Self::map(file, layout::READER_SEGMENT_BYTES, 0, false)?;
        segment.expect(SegmentKind::Reader, 0, layout::READER_SEGMENT_BYTES)?;
        Ok(segment)
    }

    /// Verifies and maps the endpoint segment of a listening process. Its size is taken from the file, within
    /// bounds, since only its creator knows how many slots it wanted.
    pub(crate) fn endpoint(file: BorrowedFd<'_>, slots: usize) -> Result<Self, SegmentFault> {
        let bytes = layout::endpoint_segment_bytes(slots);
        let segment = Self::map(file, bytes, 0, false)?;
        segment.expect(SegmentKind::Endpoint, 0, bytes)?;
        Ok(segment)
    }

    fn map(file: BorrowedFd<'_>, bytes: u64, ring_bytes: u64, trusted: bool) -> Result<Self, SegmentFault> {
        sys::verify_segment_file(file, bytes).map_err(SegmentFault::File)?;
        let mapping =
            sys::Mapping::shared(file, bytes as usize, sys::Access::ReadOnly).map_err(SegmentFault::Os)?;
        Ok(Self { mapping: Arc::new(mapping), ring_bytes, trusted })
    }

    fn expect(&self, kind: SegmentKind, features: u64, bytes: u64) -> Result<(), SegmentFault> {
        let words = [
            (identity::MAGIC, layout::SEGMENT_MAGIC),
            (identity::VERSION_KIND, version_and_kind(kind)),
            (identity::FEATURES, features),
            (identity::RING_BYTES, self.ring_bytes),
            (identity::SEGMENT_BYTES, bytes),
        ];
        for (offset, announced) in words {
            let found = self.word(offset).load_relaxed();
            if found != announced {
                return Err(SegmentFault::Identity { offset, announced, found });
            }
        }
        Ok(())
    }

    /// Views one word.
    pub(crate) fn word(&self, offset: usize) -> SharedWord<Peer> {
        SharedWord::new(&self.mapping, offset)
    }

    /// Views the ring.
    pub(crate) fn ring(&self) -> SharedBytes<Peer> {
        SharedBytes::new(&self.mapping, layout::HEADER_BYTES, self.ring_bytes, self.trusted)
    }
}

fn version_and_kind(kind: SegmentKind) -> u64 {
    u64::from(layout::LAYOUT_VERSION) | (kind as u64) << 32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peer_sees_what_the_creator_writes() {
        let own = Segment::connection(layout::RING_BYTES_MIN, 0).unwrap();
        let peer = PeerSegment::connection(own.file(), layout::RING_BYTES_MIN, 0, false).unwrap();
        own.word(layout::consumer::CONSUMED).store_release(4711);
        assert_eq!(peer.word(layout::consumer::CONSUMED).load_acquire(), 4711);
        own.ring().copy_in(8, b"hello");
        let mut out = Vec::new();
        assert!(peer.ring().copy_out(8, 5, &mut out));
        assert_eq!(out, b"hello");
    }

    #[test]
    fn payload_is_lent_in_place_only_after_trust() {
        let own = Segment::connection(layout::RING_BYTES_MIN, 0).unwrap();
        for trusted in [false, true] {
            let peer = PeerSegment::connection(own.file(), layout::RING_BYTES_MIN, 0, trusted).unwrap();
            assert_eq!(peer.ring().trusted(8, 16).is_some(), trusted);
            assert!(peer.ring().trusted(layout::RING_BYTES_MIN - 8, 16).is_none());
        }
    }

    #[test]
    fn a_segment_that_differs_from_its_hello_is_refused() {
        let own = Segment::connection(layout::RING_BYTES_MIN, 0).unwrap();
        let fault = PeerSegment::connection(own.file(), layout::RING_BYTES_MIN, 1, false).err().unwrap();
        assert!(matches!(fault, SegmentFault::Identity { offset: identity::FEATURES, .. }), "{fault}");
        let fault = PeerSegment::connection(own.file(), 2 * layout::RING_BYTES_MIN, 0, false).err().unwrap();
        assert!(matches!(fault, SegmentFault::File(_)), "{fault}");
        let endpoint = Segment::endpoint(8).unwrap();
        assert!(PeerSegment::endpoint(endpoint.file(), 8).is_ok());
        assert!(PeerSegment::endpoint(own.file(), 8).is_err());
    }

    #[test]
    fn a_reader_says_in_its_own_page_how_far_it_is_and_nothing_else_is_taken_for_one() {
        let own = Segment::reader().unwrap();
        let peer = PeerSegment::reader(own.file()).unwrap();
        own.word(layout::consumer::CONSUMED).store_release(4711);
        assert_eq!(peer.word(layout::consumer::CONSUMED).load_acquire(), 4711);
        assert_eq!(own.ring_bytes(), 0);
        let ring = Segment::connection(layout::RING_BYTES_MIN, 0).unwrap();
        assert!(PeerSegment::reader(ring.file()).is_err());
        assert!(PeerSegment::connection(own.file(), layout::RING_BYTES_MIN, 0, false).is_err());
        assert!(PeerSegment::endpoint(own.file(), 8).is_err());
        let page = Segment::create(SegmentKind::Endpoint, layout::READER_SEGMENT_BYTES, 0, 0, &[]).unwrap();
        let fault = PeerSegment::reader(page.file()).err().unwrap();
        assert!(matches!(fault, SegmentFault::Identity { offset: identity::VERSION_KIND, .. }), "{fault}");
    }

    #[test]
    fn a_fresh_segment_holds_zeros() {
        let own = Segment::connection(layout::RING_BYTES_MIN, 0).unwrap();
        let ring = own.ring();
        assert!((0..layout::RING_BYTES_MIN).step_by(8).all(|position| ring.header(position) == 0));
    }
}
