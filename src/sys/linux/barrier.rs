//! A memory barrier that one process runs on the processors of others (`membarrier`).
//!
//! It lets the waker, who acts on every message, do without a store-load fence: the sleeper pays
//! for both sides, once, when it really parks.

use std::sync::atomic::{AtomicU64, Ordering, fence};

use rustix::thread::{MembarrierCommand, MembarrierQuery};

use super::fork::ForkToken;

/// Makes this process a target of everybody's [`barrier_all`]; once per process and fork.
///
/// `true` means that the kernel has the barrier and this process is registered. Any local process
/// can then interrupt ours with it, so register for trusted peers only.
pub(crate) fn register_barrier() -> bool {
    let Ok(token) = ForkToken::current() else {
        return false;
    };
    let usable_word = token.number() << 1 | 1;
    let unusable_word = token.number() << 1;
    // Relaxed: the word is the whole answer; a race registers twice, which is harmless.
    let known = REGISTRATION.load(Ordering::Relaxed);
    if known == usable_word || known == unusable_word {
        return known == usable_word;
    }
    let usable =
        is_barrier_known() && rustix::thread::membarrier(MembarrierCommand::RegisterGlobalExpedited).is_ok();
    REGISTRATION.store(if usable { usable_word } else { unusable_word }, Ordering::Relaxed);
    usable
}

/// Runs a full barrier on every running thread of every registered process, and on our own.
///
/// When it returns, each such thread has passed a point where all its earlier loads and stores
/// were visible before its later ones.
///
/// # Panics
/// Never. Where the kernel has no such barrier only our own thread passes one, so count on more
/// only if the peer said that its [`register_barrier`] returned `true`.
///
/// # Cost
/// One system call that interrupts those processors: 1-10 us.
pub(crate) fn barrier_all() {
    if rustix::thread::membarrier(MembarrierCommand::GlobalExpedited).is_err() {
        // ENOMEM is possible on machines with very many processors; the slow form (milliseconds)
        // allocates nothing. If it is missing too, nobody registered.
        let _ = rustix::thread::membarrier(MembarrierCommand::Global);
    }
    // SeqCst fence: our own half, also where the calls above are not to be had; pairs with the fence in
    // `wait::Waker::look`.
    fence(Ordering::SeqCst);
}

/// Tells whether the kernel has the barrier, without registering for it.
pub(crate) fn is_barrier_known() -> bool {
    let needed = MembarrierQuery::GLOBAL_EXPEDITED | MembarrierQuery::REGISTER_GLOBAL_EXPEDITED;
    rustix::thread::membarrier_query().contains(needed)
}

/// Fork token of the last registration, shifted left by one, and whether it succeeded; 0: none.
static REGISTRATION: AtomicU64 = AtomicU64::new(0);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn registration_gives_the_same_answer_twice() {
        assert_eq!(register_barrier(), is_barrier_known());
        assert_eq!(register_barrier(), is_barrier_known());
        barrier_all();
    }
}
