//! Models of the sleep/wake protocol for loom, in its fence form.

use super::{Barrier, Look, Sleeper, Waker, barrier, before_peeks};
use crate::primitive::{AtomicU64, Ordering, explore};
use crate::shm::layout::sleep;
use crate::shm::loom_word;
use loom::sync::Arc;

/// A sleeper that has seen `seen` of `messages` counts as asleep for good unless its doorbell was rung.
fn nobody_sleeps_through(messages: u64, worker: Option<u64>) {
    explore(move || {
        let (word, seen_word) = loom_word();
        let (line, seen_line) = loom_word();
        let published = Arc::new(AtomicU64::new(0));
        let ring = Arc::clone(&published);
        let waking = loom::thread::spawn(move || {
            let lines = worker.map(|_| -> super::sleep::WorkerLines {
                let seen_line = std::sync::Mutex::new(Some(seen_line));
                Box::new(move |_| seen_line.lock().unwrap().take())
            });
            let mut waker = Waker::new(seen_word, Barrier::Fence, lines);
            let mut rung = Vec::new();
            for message in 1..=messages {
                ring.store(message, Ordering::Release);
                if waker.look() == Look::Ring {
                    rung.push(waker.rung_generation());
                }
            }
            rung
        });
        let sleeping = loom::thread::spawn(move || {
            let mut sleeper = match worker {
                None => Sleeper::new(word, Barrier::Fence),
                Some(number) => {
                    Sleeper::new(word, Barrier::Fence).delegate(number);
                    Sleeper::new(line, Barrier::Fence)
                }
            };
            let mut seen = 0;
            for armed in 1..=messages {
                sleeper.arm();
                let now = published.load(Ordering::Acquire);
                if now == seen {
                    return (seen, armed, true);
                }
                sleeper.disarm();
                seen = now;
                if seen == messages {
                    return (seen, armed, false);
                }
            }
            (seen, messages, false)
        });
        let rung = waking.join().unwrap();
        let (seen, generation, asleep) = sleeping.join().unwrap();
        assert!(rung.is_sorted_by(|earlier, later| earlier < later), "rang twice for one sleep: {rung:?}");
        let missed = asleep && seen < messages && !rung.contains(&generation);
        assert!(!missed, "sleep {generation} goes on for ever with a message waiting");
    });
}

#[test]
fn loom_a_sleeper_is_never_missed() {
    nobody_sleeps_through(1, None);
}

#[test]
fn loom_a_second_sleep_is_never_missed() {
    nobody_sleeps_through(2, None);
}

#[test]
fn loom_a_sleeping_worker_is_never_missed() {
    nobody_sleeps_through(2, Some(5));
}

/// One that publishes and wakes two, with one fence; each of them sleeps for good if it finds nothing and is not rung.
#[test]
fn loom_one_fence_serves_the_looks_at_two_sleepers() {
    explore(|| {
        let words = [loom_word(), loom_word()];
        let published = Arc::new(AtomicU64::new(0));
        let ring = Arc::clone(&published);
        let (own, seen): (Vec<_>, Vec<_>) = words.into_iter().unzip();
        let waking = loom::thread::spawn(move || {
            let mut wakers =
                seen.into_iter().map(|word| Waker::new(word, Barrier::Fence, None)).collect::<Vec<_>>();
            ring.store(1, Ordering::Release);
            let fences = wakers.iter_mut().fold(false, |fences, waker| waker.needs_fence() || fences);
            before_peeks(fences);
            wakers.iter_mut().map(|waker| waker.peek() == Look::Ring).collect::<Vec<_>>()
        });
        let sleeping = own.into_iter().map(|word| {
            let published = Arc::clone(&published);
            loom::thread::spawn(move || {
                Sleeper::new(word, Barrier::Fence).arm();
                published.load(Ordering::Acquire) == 0
            })
        });
        let sleeping = sleeping.collect::<Vec<_>>();
        let rung = waking.join().unwrap();
        for (rung, sleeper) in rung.into_iter().zip(sleeping) {
            assert!(rung || !sleeper.join().unwrap(), "sleeps for ever with a message waiting");
        }
    });
}

/// One that sleeps for two, with one barrier; it sleeps for good if it finds nothing and nobody rings.
#[test]
fn loom_one_barrier_serves_a_sleep_on_two_words() {
    explore(|| {
        let (own, seen): (Vec<_>, Vec<_>) = [loom_word(), loom_word()].into_iter().unzip();
        let rings = [0, 1].map(|_| Arc::new(AtomicU64::new(0)));
        let waking = seen.into_iter().zip(rings.clone()).map(|(word, ring)| {
            loom::thread::spawn(move || {
                ring.store(1, Ordering::Release);
                Waker::new(word, Barrier::Fence, None).look() == Look::Ring
            })
        });
        let waking = waking.collect::<Vec<_>>();
        let sleeping = loom::thread::spawn(move || {
            let mut sleepers =
                own.into_iter().map(|word| Sleeper::new(word, Barrier::Fence)).collect::<Vec<_>>();
            sleepers.iter_mut().for_each(Sleeper::announce);
            barrier(sleepers.iter().map(Sleeper::barrier).max().unwrap());
            rings.iter().map(|ring| ring.load(Ordering::Acquire) == 0).collect::<Vec<_>>()
        });
        let missed = sleeping.join().unwrap();
        for (missed, waker) in missed.into_iter().zip(waking) {
            let rung = waker.join().unwrap();
            assert!(rung || !missed, "a message that neither was seen nor rang");
        }
    });
}

#[test]
fn loom_a_message_after_the_close_word_finds_it() {
    explore(|| {
        let (word, seen_word) = loom_word();
        let closing = loom::thread::spawn(move || Sleeper::new(word, Barrier::Fence).close());
        let waking = loom::thread::spawn(move || {
            let mut waker = Waker::new(seen_word, Barrier::Fence, None);
            for _ in 0..3 {
                let look = waker.look();
                assert!(look == Look::Awake || look == Look::Closed && waker.is_closed());
            }
            waker
        });
        closing.join().unwrap();
        let mut waker = waking.join().unwrap();
        assert_eq!(waker.look(), Look::Closed);
        assert_eq!(sleep::STATE_MASK, 3);
    });
}

#[test]
fn loom_a_bell_wakes_its_owner_and_shows_what_was_written_before() {
    explore(|| {
        let bell = Arc::new(super::BellState::new());
        let work = Arc::new(AtomicU64::new(0));
        let (rings, leaves) = (Arc::clone(&bell), Arc::clone(&work));
        let ringing = loom::thread::spawn(move || {
            // Relaxed: the bell is what publishes it.
            leaves.store(1, Ordering::Relaxed);
            rings.ring()
        });
        let owning = loom::thread::spawn(move || {
            let dozed = bell.doze();
            if dozed && !bell.is_rung() {
                // Sleeps now; only who rang can end it.
                return None;
            }
            Some((bell.answer(), work.load(Ordering::Relaxed)))
        });
        let woke = ringing.join().unwrap();
        match owning.join().unwrap() {
            None => assert!(woke, "the owner sleeps and nobody wakes it"),
            Some((rung, seen)) => assert!(!rung || seen == 1, "rung for work that is not to be seen"),
        }
    });
}

/// What two callers share: who reads, what came and was not read, whose answers were handed out.
struct Callers {
    baton: super::Baton<loom::thread::Thread>,
    incoming: Vec<usize>,
    answered: [bool; 2],
}

/// Caller `number` waits for its answer as those of a client do; `patience`: how often it looks before it gives up.
fn wait_for_answer(shared: &loom::sync::Mutex<Callers>, number: usize, patience: usize) {
    let fire = |wake: Option<loom::thread::Thread>| wake.into_iter().for_each(|thread| thread.unpark());
    let mut callers = shared.lock().unwrap();
    for _ in 0..patience {
        if callers.answered[number] {
            break;
        }
        if callers.baton.take() {
            let first = callers.baton.rise(number);
            drop(callers);
            fire(first);
            // Here one would sleep until something comes; everything is there.
            callers = shared.lock().unwrap();
            let mut woken = None;
            if let Some(other) = callers.incoming.pop() {
                callers.answered[other] = true;
                woken = callers.baton.seated(other);
            }
            let next = callers.baton.put_back();
            drop(callers);
            fire(woken);
            fire(next);
        } else {
            callers.baton.sit(number, loom::thread::current());
            drop(callers);
            loom::thread::park();
        }
        callers = shared.lock().unwrap();
    }
    let next = callers.baton.rise(number);
    drop(callers);
    fire(next);
}

/// Loom fails a model in which everybody sleeps. The one who reads at first leaves without having read.
fn nobody_sleeps_while_nobody_reads(patience: [usize; 2]) {
    explore(move || {
        let mut baton = super::Baton::new();
        assert!(baton.take());
        let shared =
            Arc::new(loom::sync::Mutex::new(Callers { baton, incoming: vec![0, 1], answered: [false; 2] }));
        let callers = [0, 1].map(|number| {
            let shared = Arc::clone(&shared);
            loom::thread::spawn(move || wait_for_answer(&shared, number, patience[number]))
        });
        let next = shared.lock().unwrap().baton.put_back();
        next.into_iter().for_each(|thread| thread.unpark());
        callers.into_iter().for_each(|caller| caller.join().unwrap());
        assert!(shared.lock().unwrap().answered[1]);
    });
}

#[test]
fn loom_a_reader_that_leaves_appoints_the_next() {
    nobody_sleeps_while_nobody_reads([usize::MAX; 2]);
}

#[test]
fn loom_an_appointed_reader_that_gives_up_appoints_the_next() {
    nobody_sleeps_while_nobody_reads([1, usize::MAX]);
}
