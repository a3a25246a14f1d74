//! One thread wakes another of the same process, at most once per sleep.

use crate::primitive::{AtomicU64, Ordering};

/// Whether the owner of a bell sleeps, and whether it was rung. In private memory: nothing of it is ever shared with a peer.
pub(crate) struct BellState(AtomicU64);

impl BellState {
    /// Makes the state of an owner that is awake and was not rung for.
    pub(crate) fn new() -> Self {
        Self(AtomicU64::new(AWAKE))
    }

    /// Rings; `true` means that the owner sleeps and this call must wake it.
    pub(crate) fn ring(&self) -> bool {
        // Release: pairs with the Acquire swap in `answer`, which then sees everything written before.
        let order = if cfg!(weaken = "bell_relaxed") { Ordering::Relaxed } else { Ordering::Release };
        self.0.swap(RUNG, order) == ASLEEP
    }

    /// Says, by the owner, that it is about to sleep; `false`: it was rung, so it must not.
    pub(crate) fn doze(&self) -> bool {
        if cfg!(weaken = "bell_dozes_blindly") {
            self.0.store(ASLEEP, Ordering::Relaxed);
            return true;
        }
        // Relaxed: one word decides, whoever comes second sees the first; `answer` orders the rest.
        self.0.compare_exchange(AWAKE, ASLEEP, Ordering::Relaxed, Ordering::Relaxed).is_ok()
    }

    /// Says, by the owner, that it is awake; `true` means that it was rung since the last answer.
    pub(crate) fn answer(&self) -> bool {
        // Acquire: pairs with the Release swap in `ring`.
        self.0.swap(AWAKE, Ordering::Acquire) == RUNG
    }

    /// Says, without order, whether it is worth while to [`answer`](Self::answer).
    #[inline(always)]
    pub(crate) fn is_rung(&self) -> bool {
        self.0.load(Ordering::Relaxed) == RUNG
    }
}

const AWAKE: u64 = 0;
const ASLEEP: u64 = 1;
const RUNG: u64 = 2;
