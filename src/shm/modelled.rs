//! The views of `bytes.rs` over loom's atomics, for model checking.
//!
//! Payload is modelled twice: as relaxed words, so that a publish without Release, or an overrun without its fences,
//! shows as a torn message; and, in lossless rings, as a cell that loom watches, so that a read and a write without
//! order between them are found even where they would bring the right bytes.
#![allow(unsafe_code)]

use super::{Own, Peer};
use crate::primitive::{AtomicU64, Ordering, fence};
use loom::cell::UnsafeCell;
use loom::sync::Arc;
use std::marker::PhantomData;

/// One modelled `u64`.
pub(crate) struct SharedWord<Side> {
    word: Arc<AtomicU64>,
    _side: PhantomData<Side>,
}

/// Makes the writer's and a reader's view of a fresh word that holds 0.
pub(crate) fn loom_word() -> (SharedWord<Own>, SharedWord<Peer>) {
    let word = Arc::new(AtomicU64::new(0));
    (SharedWord { word: Arc::clone(&word), _side: PhantomData }, SharedWord { word, _side: PhantomData })
}

impl<Side> SharedWord<Side> {
    pub(crate) fn load_relaxed(&self) -> u64 {
        self.word.load(Ordering::Relaxed)
    }

    pub(crate) fn load_acquire(&self) -> u64 {
        let value = self.word.load(Ordering::Relaxed);
        // Acquire: pairs with the Release store of the same word in `store_release`.
        fence(Ordering::Acquire);
        value
    }
}

impl Clone for SharedWord<Peer> {
    fn clone(&self) -> Self {
        Self { word: Arc::clone(&self.word), _side: PhantomData }
    }
}

impl SharedWord<Own> {
    pub(crate) fn store_relaxed(&self, value: u64) {
        self.word.store(value, Ordering::Relaxed);
    }

    pub(crate) fn store_release(&self, value: u64) {
        // Release: pairs with the Acquire fence in `load_acquire`.
        self.word.store(value, Ordering::Release);
    }
}

/// One word of a modelled ring.
struct Slot {
    word: AtomicU64,
    payload: UnsafeCell<()>,
}

// SAFETY: the cell holds nothing; loom records who enters it when, which is its whole purpose.
unsafe impl Sync for Slot {}

/// A modelled ring.
pub(crate) struct SharedBytes<Side> {
    slots: Arc<Vec<Slot>>,
    /// Payload may be written while it is read: overwrite rings only.
    races: bool,
    _side: PhantomData<Side>,
}

/// Makes the writer's and a reader's view of a ring of `words` words.
pub(crate) fn loom_ring(words: usize, races: bool) -> (SharedBytes<Own>, SharedBytes<Peer>) {
    assert!(words.is_power_of_two());
    let slot = |_| Slot { word: AtomicU64::new(0), payload: UnsafeCell::new(()) };
    let slots = Arc::new((0..words).map(slot).collect::<Vec<_>>());
    (
        SharedBytes { slots: Arc::clone(&slots), races, _side: PhantomData },
        SharedBytes { slots, races, _side: PhantomData },
    )
}

impl Clone for SharedBytes<Peer> {
    fn clone(&self) -> Self {
        Self { slots: Arc::clone(&self.slots), races: self.races, _side: PhantomData }
    }
}

impl<Side> SharedBytes<Side> {
    pub(crate) fn ring_bytes(&self) -> u64 {
        8 * self.slots.len() as u64
    }

    fn slot(&self, position: u64) -> &Slot {
        &self.slots[(position / 8) as usize & (self.slots.len() - 1)]
    }

    fn word(&self, position: u64) -> &AtomicU64 {
        &self.slot(position).word
    }

    pub(crate) fn header(&self, position: u64) -> u64 {
        self.word(position).load(Ordering::Relaxed)
    }

    pub(crate) fn acquire(&self) {
        // Acquire: pairs with the Release store in `SharedBytes::publish_header`.
        fence(Ordering::Acquire);
    }
}

impl SharedBytes<Own> {
    pub(crate) fn stage_header(&self, position: u64, header: u64) {
        self.word(position).store(header, Ordering::Relaxed);
    }

    pub(crate) fn publish_header(&self, position: u64, header: u64) {
        if cfg!(weaken = "publish_relaxed") {
            return self.word(position).store(header, Ordering::Relaxed);
        }
        // Release: pairs with the Acquire fence in `SharedBytes::acquire`; publishes payload and later headers.
        self.word(position).store(header, Ordering::Release);
    }

    pub(crate) fn copy_in(&mut self, position: u64, payload: &[u8]) {
        for (at, bytes) in payload.chunks(8).enumerate() {
            let mut word = [0; 8];
            word[..bytes.len()].copy_from_slice(bytes);
            let position = position + 8 * at as u64;
            if !self.races {
                self.slot(position).payload.with_mut(|_| ());
            }
            self.stage_header(position, u64::from_le_bytes(word));
        }
    }
}

impl SharedBytes<Peer> {
    pub(crate) fn copy_out(&self, position: u64, len: usize, out: &mut Vec<u8>) -> bool {
        for at in (0..len).step_by(8) {
            let position = position + at as u64;
            if !self.races {
                self.slot(position).payload.with(|_| ());
            }
            let word = self.header(position).to_le_bytes();
            out.extend_from_slice(&word[..8.min(len - at)]);
        }
        true
    }

    pub(crate) fn is_trusted(&self) -> bool {
        false
    }

    pub(crate) fn trusted(&self, _position: u64, _len: usize) -> Option<&[u8]> {
        None
    }
}
