//! The futures and streams of one worker.
//!
//! A small executor of its own, since a call must be removable from outside at any time (cancelled, too late, client
//! gone), and a stream must not be polled while its window is shut or its client does not read. Wakes may come from any
//! thread; they queue the task's place and ring the worker.

use super::registry::{Parts, Pending};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Wake, Waker};

/// Something that goes on for a call.
pub(super) struct Task<O> {
    /// Whose it is.
    pub(super) owner: O,
    pub(super) work: Work,
}

/// What goes on.
pub(super) enum Work {
    Once(Pending),
    Stream(Parts),
}

/// The tasks of one worker.
pub(super) struct Tasks<O> {
    slots: Vec<Slot<O>>,
    free: Vec<usize>,
    woken: Arc<Woken>,
}

struct Slot<O> {
    task: Option<Task<O>>,
    waker: Waker,
    flag: Arc<SlotWaker>,
}

/// Places of tasks that want to be polled.
struct Woken {
    places: Mutex<Vec<usize>>,
    ring: Box<dyn Fn() + Send + Sync>,
}

struct SlotWaker {
    place: usize,
    queued: AtomicBool,
    woken: Arc<Woken>,
}

impl<O> Tasks<O> {
    /// Makes an empty set; `ring` makes the worker look here, from any thread.
    pub(super) fn new(ring: impl Fn() + Send + Sync + 'static) -> Self {
        let woken = Woken { places: Mutex::default(), ring: Box::new(ring) };
        Self { slots: Vec::new(), free: Vec::new(), woken: Arc::new(woken) }
    }

    /// Adds a task, which is polled soon; returns its place.
    pub(super) fn add(&mut self, task: Task<O>) -> usize {
        let place = self.free.pop().unwrap_or_else(|| {
            let place = self.slots.len();
            let woken = Arc::clone(&self.woken);
            let flag = Arc::new(SlotWaker { place, queued: AtomicBool::new(false), woken });
            self.slots.push(Slot { task: None, waker: Waker::from(Arc::clone(&flag)), flag });
            place
        });
        self.slots[place].task = Some(task);
        self.wake(place);
        place
    }

    /// Polls this task soon.
    pub(super) fn wake(&self, place: usize) {
        self.slots[place].waker.wake_by_ref();
    }

    /// Takes a task out, wherever it is.
    pub(super) fn remove(&mut self, place: usize) -> Option<Task<O>> {
        let task = self.slots[place].task.take()?;
        self.free.push(place);
        Some(task)
    }

    /// Moves the places of the tasks to poll into `places`, which is cleared first.
    pub(super) fn take_woken(&mut self, places: &mut Vec<usize>) {
        places.clear();
        std::mem::swap(&mut *self.woken.lock(), places);
    }

    /// Lends a task and its context for polling; `None` if it is gone, for a wake may come late.
    pub(super) fn begin_poll(&mut self, place: usize) -> Option<(&mut Task<O>, Context<'_>)> {
        let slot = &mut self.slots[place];
        // AcqRel: pairs with the swap in `SlotWaker::wake_by_ref`: what the waker did before is seen by the poll, and a
        // wake from here on queues anew.
        slot.flag.queued.swap(false, Ordering::AcqRel);
        let task = slot.task.as_mut()?;
        Some((task, Context::from_waker(&slot.waker)))
    }

    /// Says whether there is no task.
    pub(super) fn is_empty(&self) -> bool {
        self.free.len() == self.slots.len()
    }
}

impl Woken {
    fn lock(&self) -> MutexGuard<'_, Vec<usize>> {
        self.places.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Wake for SlotWaker {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        // AcqRel: pairs with the swap in `Tasks::begin_poll`, so that what happened before this wake is seen by the poll
        // that follows, also when an earlier wake has queued it.
        if !self.queued.swap(true, Ordering::AcqRel) {
            self.woken.lock().push(self.place);
            (self.woken.ring)();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicUsize;
    use std::task::Poll;

    fn tasks() -> (Tasks<u8>, Arc<AtomicUsize>) {
        let rings = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&rings);
        let tasks = Tasks::new(move || {
            counted.fetch_add(1, Ordering::Relaxed);
        });
        (tasks, rings)
    }

    fn task(work: impl Future<Output = ()> + Send + 'static) -> Task<u8> {
        let work = Work::Once(Box::pin(async move {
            work.await;
            Ok(Vec::new())
        }));
        Task { owner: 1, work }
    }

    fn poll(tasks: &mut Tasks<u8>, place: usize) -> Option<Poll<()>> {
        let (task, mut context) = tasks.begin_poll(place)?;
        match &mut task.work {
            Work::Once(future) => Some(future.as_mut().poll(&mut context).map(|_| ())),
            Work::Stream(_) => None,
        }
    }

    fn woken(tasks: &mut Tasks<u8>) -> Vec<usize> {
        let mut places = vec![99];
        tasks.take_woken(&mut places);
        places
    }

    #[test]
    fn a_task_is_polled_when_added_and_once_for_many_wakes() {
        let (mut tasks, rings) = tasks();
        let mut polls = 0;
        let place = tasks.add(task(std::future::poll_fn(move |context| {
            polls += 1;
            context.waker().wake_by_ref();
            context.waker().wake_by_ref();
            if polls == 3 { Poll::Ready(()) } else { Poll::Pending }
        })));
        for ready in [false, false, true] {
            assert_eq!(woken(&mut tasks), [place]);
            assert_eq!(poll(&mut tasks, place).unwrap().is_ready(), ready);
        }
        assert_eq!(rings.load(Ordering::Relaxed), 4);
    }

    #[test]
    fn a_removed_task_is_dropped_and_its_place_used_again() {
        struct Dropped(Arc<AtomicUsize>);
        impl Drop for Dropped {
            fn drop(&mut self) {
                self.0.fetch_add(1, Ordering::Relaxed);
            }
        }
        let (mut tasks, drops) = tasks();
        drops.store(0, Ordering::Relaxed);
        let witness = Arc::new(AtomicUsize::new(0));
        let guard = Dropped(Arc::clone(&witness));
        let place = tasks.add(task(async move {
            let _guard = guard;
            std::future::pending::<()>().await;
        }));
        assert!(poll(&mut tasks, place).unwrap().is_pending());
        drop(tasks.remove(place));
        assert_eq!(witness.load(Ordering::Relaxed), 1);
        assert!(tasks.is_empty() && poll(&mut tasks, place).is_none());
        assert_eq!(tasks.add(task(async {})), place);
        assert!(poll(&mut tasks, place).unwrap().is_ready());
    }

    #[test]
    fn wakes_from_many_threads_are_not_lost() {
        let (mut tasks, _) = tasks();
        let done = Arc::new(AtomicUsize::new(0));
        let seen = Arc::clone(&done);
        let (sent, wakers) = std::sync::mpsc::channel();
        let place = tasks.add(task(std::future::poll_fn(move |context| {
            let _ = sent.send(context.waker().clone());
            if seen.load(Ordering::Relaxed) == 400 { Poll::Ready(()) } else { Poll::Pending }
        })));
        assert!(poll(&mut tasks, place).unwrap().is_pending());
        let waker = wakers.recv().unwrap();
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..100 {
                        done.fetch_add(1, Ordering::Relaxed);
                        waker.wake_by_ref();
                    }
                });
            }
            // Whoever came last must have queued it after its own step.
            loop {
                if woken(&mut tasks).contains(&place) && poll(&mut tasks, place).unwrap().is_ready() {
                    break;
                }
                std::thread::yield_now();
            }
        });
    }
}
