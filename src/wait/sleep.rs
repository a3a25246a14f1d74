//! The two halves of the sleep/wake protocol.

use crate::crash;
use crate::primitive::{Ordering, fence};
use crate::shm::layout::sleep;
use crate::shm::{Own, Peer, SharedWord};

/// Which store-load barrier the two sides agreed on in the handshake.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Barrier {
    /// Each side fences for itself.
    Fence,
    /// The sleeper runs one on the processors of both.
    Expedited,
}

/// The sleeping half: announces in its own segment that it is about to sleep.
pub(crate) struct Sleeper {
    word: SharedWord<Own>,
    generation: u64,
    barrier: Barrier,
}

impl Sleeper {
    /// Makes the sleeping half over a word that nobody else writes.
    pub(crate) fn new(word: SharedWord<Own>, barrier: Barrier) -> Self {
        Self { word, generation: 0, barrier }
    }

    /// Announces a sleep. Look once more afterwards; sleep only if there is still nothing.
    ///
    /// Cost: a fence, or one system call in the barrier form (0.7 us; 8.6 with a busy peer).
    pub(crate) fn arm(&mut self) {
        self.generation += 1;
        self.word.store_relaxed(self.generation << 2 | sleep::ASLEEP);
        match self.barrier {
            #[cfg(not(loom))]
            Barrier::Expedited => crate::sys::barrier_all(),
            _ if cfg!(weaken = "sleeper_no_fence") => {}
            // SeqCst fence: pairs with the one in `Waker::look`. Either the waker sees the word, or we see its
            // record when we look once more; without both fences each may miss the other.
            _ => fence(Ordering::SeqCst),
        }
        crash::point("sleeper.armed");
    }

    /// Takes the announcement back.
    pub(crate) fn disarm(&mut self) {
        self.word.store_relaxed(self.generation << 2 | sleep::AWAKE);
    }

    /// Says whether a sleep is announced.
    #[cfg(not(loom))]
    pub(crate) fn is_armed(&self) -> bool {
        self.word.load_relaxed() & sleep::STATE_MASK == sleep::ASLEEP
    }

    /// Leaves sleeping to the worker with this number; its line in the endpoint segment says when it sleeps.
    pub(crate) fn delegate(&mut self, worker: u64) {
        self.word.store_relaxed(worker << 2 | sleep::DELEGATED);
    }

    /// Says that this side will never look again.
    pub(crate) fn close(&mut self) {
        self.word.store_relaxed(sleep::CLOSED);
    }
}

/// What the waker saw.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Look {
    /// No doorbell is wanted.
    Awake,
    /// Ring now.
    Ring,
    /// The other side will never look again.
    Closed,
}

/// The lines of a listening process's workers, as its peers see them.
pub(crate) type WorkerLines = Box<dyn Fn(u64) -> Option<SharedWord<Peer>> + Send>;

/// The waking half: looks at the peer's word after every publish.
pub(crate) struct Waker {
    word: SharedWord<Peer>,
    /// The word for which the doorbell was rung last; the peer's segment is read-only for us, so we remember.
    rung: u64,
    /// We fence for ourselves.
    fences: bool,
    /// The sleeper would do it for us, as soon as our process is registered.
    #[cfg(not(loom))]
    relieved: bool,
    lines: Option<WorkerLines>,
    worker: Option<Worker>,
}

/// The worker to whom the peer left its sleeping.
struct Worker {
    number: u64,
    line: SharedWord<Peer>,
    rung: u64,
}

impl Waker {
    /// Makes the waking half; `lines` finds the line of a worker if the peer has any.
    pub(crate) fn new(word: SharedWord<Peer>, barrier: Barrier, lines: Option<WorkerLines>) -> Self {
        #[cfg(loom)]
        let _ = barrier;
        Self {
            word,
            rung: 0,
            fences: true,
            #[cfg(not(loom))]
            relieved: barrier == Barrier::Expedited,
            lines,
            worker: None,
        }
    }

    /// Looks whether the peer sleeps; call after publishing.
    ///
    /// Wait-free; one load of a line that does not change while the peer is awake (two where it left sleeping to a
    /// worker), and a fence in the fence form.
    #[inline(always)]
    pub(crate) fn look(&mut self) -> Look {
        if self.fences {
            self.fence();
        } else {
            // Pairs with the barrier in `Sleeper::arm`, which orders our processor too; only the compiler must keep
            // the order of the program.
            #[cfg(not(loom))]
            std::sync::atomic::compiler_fence(Ordering::SeqCst);
        }
        let word = self.word.load_relaxed();
        if word & sleep::STATE_MASK == sleep::AWAKE { Look::Awake } else { self.decide(word) }
    }

    /// Keeps the publish before the look at the sleep word, and finds out whether that is still our duty.
    #[inline]
    fn fence(&mut self) {
        if !cfg!(weaken = "waker_no_fence") {
            // SeqCst fence: pairs with the one in `Sleeper::arm`.
            fence(Ordering::SeqCst);
        }
        #[cfg(not(loom))]
        if self.relieved {
            self.fences = !crate::sys::is_barrier_registered();
        }
    }

    #[inline(never)]
    fn decide(&mut self, word: u64) -> Look {
        match word & sleep::STATE_MASK {
            sleep::CLOSED => Look::Closed,
            sleep::DELEGATED => self.look_at_worker(word >> 2),
            _ if word == self.rung => Look::Awake,
            _ => {
                self.rung = word;
                Look::Ring
            }
        }
    }

    #[inline]
    fn look_at_worker(&mut self, number: u64) -> Look {
        if self.worker.as_ref().is_none_or(|worker| worker.number != number) {
            // A number without a line is a lie that costs only the liar its wake-ups.
            let Some(line) = self.lines.as_ref().and_then(|lines| lines(number)) else { return Look::Awake };
            self.worker = Some(Worker { number, line, rung: 0 });
        }
        let Some(worker) = &mut self.worker else { return Look::Awake };
        let word = worker.line.load_relaxed();
        if word & sleep::STATE_MASK != sleep::ASLEEP || word == worker.rung {
            return Look::Awake;
        }
        worker.rung = word;
        Look::Ring
    }

    /// Returns the generation of the sleep for which the doorbell was rung last.
    #[cfg(all(test, loom))]
    pub(crate) fn rung_generation(&self) -> u64 {
        self.worker.as_ref().map_or(self.rung, |worker| worker.rung) >> 2
    }

    /// Says whether the peer said that it will never look again. For loops that publish nothing.
    pub(crate) fn is_closed(&self) -> bool {
        self.word.load_relaxed() == sleep::CLOSED
    }
}
