//! The two halves of the sleep/wake protocol.

use crate::crash;
use crate::primitive::{Ordering, fence};
use crate::shm::layout::sleep;
use crate::shm::{Own, Peer, SharedWord};

/// Which store-load barrier the two sides agreed on in the handshake.
///
/// Who sleeps on several words runs the greatest of theirs: the second serves the first as well.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Barrier {
    /// Each side fences for itself.
    Fence,
    /// The sleeper runs one on the processors of both.
    Expedited,
}

/// Keeps announcements before the look that decides whether to sleep, for all words announced so far.
///
/// Cost: a fence, or one system call in the barrier form (0.7 us; 8.6 with a busy peer).
pub(crate) fn barrier(kind: Barrier) {
    match kind {
        #[cfg(not(loom))]
        Barrier::Expedited => crate::sys::barrier_all(),
        _ if cfg!(weaken = "sleeper_no_fence") => {}
        // SeqCst fence: pairs with the one in `before_peeks`. Either the waker sees the word, or we see its
        // record when we look once more; without both fences each may miss the other.
        _ => fence(Ordering::SeqCst),
    }
    crash::point("sleeper.armed");
}

/// Keeps what was published before the [peeks](Waker::peek) that follow; `fences`: one of them
/// [needs](Waker::needs_fence) more than the order of the program.
#[inline(always)]
pub(crate) fn before_peeks(fences: bool) {
    if !fences {
        // Pairs with the barrier in `barrier`, which orders our processor too; only the compiler must keep the order
        // of the program.
        #[cfg(not(loom))]
        std::sync::atomic::compiler_fence(Ordering::SeqCst);
    } else if !cfg!(weaken = "waker_no_fence") {
        // SeqCst fence: pairs with the one in `barrier`.
        fence(Ordering::SeqCst);
    }
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
    /// Cost: as [`barrier`].
    pub(crate) fn arm(&mut self) {
        self.announce();
        barrier(self.barrier);
    }

    /// Announces a sleep, for who sleeps on several words: run one [`barrier`] after all of them, then look once more.
    pub(crate) fn announce(&mut self) {
        self.generation += 1;
        self.word.store_relaxed(self.generation << 2 | sleep::ASLEEP);
    }

    /// Returns the barrier that both sides agreed on.
    pub(crate) fn barrier(&self) -> Barrier {
        self.barrier
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
        before_peeks(self.fences && self.needs_fence());
        self.peek()
    }

    /// Says whether this waker must fence between publishing and [`peek`](Self::peek), and finds out whether that will be
    /// our duty the next time.
    #[inline]
    pub(crate) fn needs_fence(&mut self) -> bool {
        let needs = self.fences;
        #[cfg(not(loom))]
        if needs && self.relieved {
            self.fences = !crate::sys::is_barrier_registered();
        }
        needs
    }

    /// Looks whether the peer sleeps, after [`before_peeks`]. For who wakes several: one fence serves all.
    #[inline(always)]
    pub(crate) fn peek(&mut self) -> Look {
        let word = self.word.load_relaxed();
        if word & sleep::STATE_MASK == sleep::AWAKE { Look::Awake } else { self.decide(word) }
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

    /// Says, without order, whether the peer sleeps.
    #[cfg(not(loom))]
    #[inline(always)]
    pub(crate) fn is_asleep(&self) -> bool {
        self.word.load_relaxed() & sleep::STATE_MASK == sleep::ASLEEP
    }

    /// Says whether the peer said that it will never look again. For loops that publish nothing.
    pub(crate) fn is_closed(&self) -> bool {
        self.word.load_relaxed() == sleep::CLOSED
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::shm::Segment;

    fn word_pair() -> (SharedWord<Own>, SharedWord<Peer>) {
        let own = Segment::connection(1 << 14, 0).expect("a segment");
        let peer = crate::shm::PeerSegment::connection(own.file(), 1 << 14, 0, false).expect("a view of it");
        (own.word(sleep::DATA), peer.word(sleep::DATA))
    }

    #[test]
    fn a_sleeper_on_two_words_is_rung_once_for_each() {
        let pairs = [word_pair(), word_pair()];
        let (mut sleepers, mut wakers) = (Vec::new(), Vec::new());
        for (word, seen) in pairs {
            sleepers.push(Sleeper::new(word, Barrier::Fence));
            wakers.push(Waker::new(seen, Barrier::Fence, None));
        }
        for _ in 0..3 {
            sleepers.iter_mut().for_each(Sleeper::announce);
            barrier(sleepers.iter().map(Sleeper::barrier).max().expect("two"));
            for waker in &mut wakers {
                before_peeks(waker.needs_fence());
                assert_eq!(waker.peek(), Look::Ring);
                assert_eq!(waker.peek(), Look::Awake, "once per sleep");
            }
            sleepers.iter_mut().for_each(Sleeper::disarm);
            assert!(wakers.iter_mut().all(|waker| waker.look() == Look::Awake));
        }
    }

    #[test]
    fn the_barrier_of_another_counts_only_once_we_are_registered() {
        let (_, seen) = word_pair();
        let mut waker = Waker::new(seen, Barrier::Fence, None);
        assert!(waker.needs_fence() && waker.needs_fence(), "the fence form stays");
        assert!(Barrier::Expedited > Barrier::Fence, "it serves both");
        let (_, seen) = word_pair();
        let mut waker = Waker::new(seen, Barrier::Expedited, None);
        assert!(waker.needs_fence(), "not known yet");
        assert_eq!(waker.needs_fence(), !crate::sys::is_barrier_registered());
    }
}
