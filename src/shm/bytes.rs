//! The only place that touches shared memory raw: words as atomics, payload as volatile copies.
//!
//! With a correct peer there is no data race: payload is read only after the header that publishes it. With a
//! hostile one a copy may race with its writes; the result is treated as arbitrary bytes, and no reference to
//! such memory ever exists unless the user has vouched for the peer (`Config::trust_peer`).
//!
//! The copies themselves are in `copy.rs`.
//!
//! Peers' memory is mapped read-only, and the language promises only *relaxed* atomic loads there, so an acquire
//! load is a relaxed one followed by a fence. On x86-64 that costs nothing; elsewhere an empty poll gets cheaper.
#![allow(unsafe_code)]

use super::copy::{copy_from_shared, copy_to_shared};
use super::{Own, Peer};
use crate::primitive::{AtomicU64, Ordering, fence};
use crate::sys::Mapping;
use std::marker::PhantomData;
use std::ptr::NonNull;
use std::sync::Arc;

/// One `u64` at a fixed place of a mapped segment.
pub(crate) struct SharedWord<Side> {
    word: NonNull<AtomicU64>,
    _mapping: Arc<Mapping>,
    _side: PhantomData<Side>,
}

// SAFETY: the word lives in a mapping that the `Arc` keeps alive and is only accessed as an atomic.
unsafe impl<Side> Send for SharedWord<Side> {}
// SAFETY: as above; all methods take `&self` and use atomic operations.
unsafe impl<Side> Sync for SharedWord<Side> {}

impl<Side> SharedWord<Side> {
    /// Views the word at `offset`. The caller (`segment.rs`) made the mapping with matching access.
    ///
    /// Panics when the offset is not a multiple of 8 inside the mapping: a bug of ours, never a peer's doing.
    pub(in crate::shm) fn new(mapping: &Arc<Mapping>, offset: usize) -> Self {
        assert!(offset.is_multiple_of(8) && offset + 8 <= mapping.bytes());
        // SAFETY: `offset + 8` lies inside the mapping (asserted above), so the pointer stays in bounds.
        let word = unsafe { mapping.base().add(offset) }.cast::<AtomicU64>();
        Self { word, _mapping: Arc::clone(mapping), _side: PhantomData }
    }

    #[inline(always)]
    fn atomic(&self) -> &AtomicU64 {
        // SAFETY: in bounds and aligned to 8 (asserted in `new`; mappings start on a page), alive as long as
        // `_mapping`, and everybody in this process accesses it through this type, atomically.
        unsafe { self.word.as_ref() }
    }

    /// Loads without order: for words whose value alone matters.
    #[inline(always)]
    pub(crate) fn load_relaxed(&self) -> u64 {
        self.atomic().load(Ordering::Relaxed)
    }

    /// Loads, and sees everything that was written before the matching `store_release`.
    #[inline(always)]
    pub(crate) fn load_acquire(&self) -> u64 {
        let value = self.atomic().load(Ordering::Relaxed);
        // Acquire: pairs with the Release store of the same word in `store_release`.
        fence(Ordering::Acquire);
        value
    }
}

impl SharedWord<Own> {
    /// Stores without order: for statistics, sleep words (their fence is elsewhere) and the identity line.
    #[inline(always)]
    pub(crate) fn store_relaxed(&self, value: u64) {
        self.atomic().store(value, Ordering::Relaxed);
    }

    /// Stores, and makes everything written before visible to who sees the value by `load_acquire`.
    #[inline(always)]
    pub(crate) fn store_release(&self, value: u64) {
        // Release: pairs with the Acquire fence in `load_acquire`.
        self.atomic().store(value, Ordering::Release);
    }
}

/// The bytes of one ring, addressed by position: the mask of its size turns positions into places.
pub(crate) struct SharedBytes<Side> {
    base: NonNull<u8>,
    bytes: u64,
    trusted: bool,
    mapping: Arc<Mapping>,
    _side: PhantomData<Side>,
}

// SAFETY: the bytes live in a mapping that the `Arc` keeps alive; headers are accessed as atomics and payload by
// volatile copies, or, on the own side, through `&mut self`.
unsafe impl<Side> Send for SharedBytes<Side> {}

impl<Side> SharedBytes<Side> {
    /// Views `bytes` (a power of two) from `offset` on; `trusted` permits [`SharedBytes::trusted`].
    pub(in crate::shm) fn new(mapping: &Arc<Mapping>, offset: usize, bytes: u64, trusted: bool) -> Self {
        assert!(bytes.is_power_of_two() && offset.is_multiple_of(64));
        assert!(offset as u64 + bytes <= mapping.bytes() as u64);
        // SAFETY: `offset` lies inside the mapping (asserted above).
        let base = unsafe { mapping.base().add(offset) };
        Self { base, bytes, trusted, mapping: Arc::clone(mapping), _side: PhantomData }
    }

    /// Returns the size of the ring.
    #[inline(always)]
    pub(crate) fn ring_bytes(&self) -> u64 {
        self.bytes
    }

    #[inline(always)]
    fn word(&self, position: u64) -> &AtomicU64 {
        let index = (position & (self.bytes - 8)) as usize;
        // SAFETY: the mask leaves a multiple of 8 below `bytes`, so the word is in bounds (asserted in `new`)
        // and aligned; it lives as long as `mapping`, and header words are only accessed as atomics here.
        unsafe { self.base.cast::<AtomicU64>().byte_add(index).as_ref() }
    }

    /// Loads the header word at `position`; follow a word that is not zero with [`acquire`](Self::acquire).
    #[inline(always)]
    pub(crate) fn header(&self, position: u64) -> u64 {
        self.word(position).load(Ordering::Relaxed)
    }

    /// Makes everything visible that was written before the header just seen was published.
    #[inline(always)]
    pub(crate) fn acquire(&self) {
        // Acquire: pairs with the Release store in `SharedBytes::publish_header`.
        fence(Ordering::Acquire);
    }

    /// Says where in the ring `len` bytes at `position` begin, if they do not pass its end.
    #[inline(always)]
    fn place(&self, position: u64, len: usize) -> Option<usize> {
        let index = position & (self.bytes - 1);
        (index.is_multiple_of(8) && len as u64 <= self.bytes - index).then_some(index as usize)
    }
}

impl SharedBytes<Own> {
    /// Stores a header that an earlier header will publish, or the zero after the last record.
    #[inline(always)]
    pub(crate) fn stage_header(&self, position: u64, header: u64) {
        self.word(position).store(header, Ordering::Relaxed);
    }

    /// Stores the header that makes a record, and all that is chained to it, visible.
    #[inline(always)]
    pub(crate) fn publish_header(&self, position: u64, header: u64) {
        // Release: pairs with the Acquire fence in `SharedBytes::acquire`; publishes payload and later headers.
        self.word(position).store(header, Ordering::Release);
    }

    /// Copies a payload in. Panics when it passes the end of the ring: the producer never places it so.
    #[inline(always)]
    pub(crate) fn copy_in(&mut self, position: u64, payload: &[u8]) {
        let index = self.place(position, payload.len()).expect("invariant: a record never passes the end");
        // SAFETY: `index + len` was bounded by `place`, `&mut self` makes us the only writer, and `payload` is private
        // memory, so the ranges do not overlap.
        unsafe { copy_to_shared(payload.as_ptr(), self.base.as_ptr().add(index), payload.len()) };
    }

    /// Touches every page, so that no page fault is left for later; they must be allocated.
    pub(crate) fn prefault(&self) -> std::io::Result<()> {
        self.mapping.prefault()
    }

    /// Lends the place of a payload for building it there. Panics as [`copy_in`](Self::copy_in) does.
    pub(crate) fn window_mut(&mut self, position: u64, len: usize) -> &mut [u8] {
        let index = self.place(position, len).expect("invariant: a record never passes the end");
        // SAFETY: in bounds by `place`; `&mut self` makes this the only reference into our own ring for as long as it
        // lives, no header word is touched meanwhile (that needs `self` too), and peers map it read-only and read it
        // only once it is published.
        unsafe { std::slice::from_raw_parts_mut(self.base.as_ptr().add(index), len) }
    }

    /// Lends the place of a payload for reading what was built there. Panics as [`copy_in`](Self::copy_in) does.
    pub(crate) fn window(&self, position: u64, len: usize) -> &[u8] {
        let index = self.place(position, len).expect("invariant: a record never passes the end");
        // SAFETY: in bounds by `place`; only we write our own ring, which needs `&mut self` for payload, and callers
        // pass the place of a claim, where no header word lies.
        unsafe { std::slice::from_raw_parts(self.base.as_ptr().add(index), len) }
    }
}

impl SharedBytes<Peer> {
    /// Appends `len` bytes of payload to `out`; `false`, and nothing done, when they pass the end of the ring.
    #[inline(always)]
    pub(crate) fn copy_out(&self, position: u64, len: usize, out: &mut Vec<u8>) -> bool {
        let Some(index) = self.place(position, len) else { return false };
        out.reserve(len);
        let spare = out.spare_capacity_mut();
        // SAFETY: the source is in bounds by `place`, also rounded up to 8 since the ring is a multiple of 8, and
        // aligned to 8; the destination has room for `len` (reserved above) and is private memory, so the ranges do
        // not overlap.
        unsafe { copy_from_shared(self.base.as_ptr().add(index), spare.as_mut_ptr().cast(), len) };
        // SAFETY: the copy above initialised exactly `len` bytes after the old length.
        unsafe { out.set_len(out.len() + len) };
        true
    }

    /// Views the header word at `position` by itself, for looking at many rings in turn.
    pub(crate) fn header_word(&self, position: u64) -> SharedWord<Peer> {
        let word = NonNull::from(self.word(position));
        SharedWord { word, _mapping: Arc::clone(&self.mapping), _side: PhantomData }
    }

    /// Says whether the user vouched for the peer.
    pub(crate) fn is_trusted(&self) -> bool {
        self.trusted
    }

    /// Lends a payload in place; `None` unless the user vouched for the peer, or when it passes the end.
    #[inline]
    pub(crate) fn trusted(&self, position: u64, len: usize) -> Option<&[u8]> {
        let index = self.place(position, len).filter(|_| self.trusted)?;
        // SAFETY: in bounds by `place`. That nobody writes there while the slice lives is what the caller of
        // `unsafe Config::trust_peer` promised of the peer; a correct producer keeps it until we release it.
        Some(unsafe { std::slice::from_raw_parts(self.base.as_ptr().add(index), len) })
    }
}
