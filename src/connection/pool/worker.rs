//! A thread that serves its share of the members.

use super::handler::{Handler, Members, WorkerContext};
use super::shared::Shared;
use crate::connection::member::{Event, Member};
use crate::connection::roster::Roster;
use crate::error::CloseReason;
use crate::sys;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::mpsc::Sender;
use std::time::Instant;

/// A worker with the handler that it made.
pub(super) struct Worker<H> {
    roster: Roster,
    handler: H,
    shared: Arc<Shared>,
    desk: Desk,
}

/// Where a worker works.
#[derive(Debug, Clone, Copy)]
pub(super) struct Desk {
    /// Its number.
    pub(super) index: usize,
    /// The processor to stay on.
    pub(super) cpu: Option<usize>,
    /// It touches the memory of its own segments.
    pub(super) prefaults: bool,
}

impl<H: Handler> Worker<H> {
    /// Runs until the pool ends; says whether the handler had nothing in flight then.
    pub(super) fn run(
        roster: Roster,
        shared: Arc<Shared>,
        desk: Desk,
        make: &dyn Fn(WorkerContext) -> H,
        ready: Sender<io::Result<()>>,
    ) -> bool {
        if let Some(Err(error)) = desk.cpu.map(sys::pin_current_thread) {
            let _ = ready.send(Err(error));
            return true;
        }
        let handler = make(WorkerContext::new(desk.index, roster.bell().clone()));
        let _ = ready.send(Ok(()));
        drop(ready);
        Self { roster, handler, shared, desk }.serve()
    }

    /// Serves until the pool ends. A child that the handler made by fork is none: there the thread ends.
    fn serve(mut self) -> bool {
        while self.roster.is_ours() {
            let rung = self.roster.take_rung();
            if rung && self.shared.end().is_some() {
                return self.finish();
            }
            if let Some(wakes_at) = self.turn(rung) {
                self.rest(wakes_at);
            }
        }
        true
    }

    /// The pool is to end: goes on until nothing is in flight, or the time is up.
    fn finish(mut self) -> bool {
        let deadline = self.shared.end().flatten();
        self.turn(true);
        self.guard(|handler, roster| handler.on_shutdown(&mut Members::new(roster)));
        // What lies in the rings was sent before anybody could know of the end.
        self.roster.look_at_all();
        while self.roster.is_ours() {
            let rung = self.roster.take_rung();
            let quiet = self.turn(rung);
            let idle = self.guard(|handler, _| handler.is_idle()).unwrap_or(true);
            if idle && quiet.is_some() || deadline.is_some_and(|deadline| Instant::now() >= deadline) {
                return idle;
            }
            if let Some(wakes_at) = quiet {
                self.rest(wakes_at.into_iter().chain(deadline).min());
            }
        }
        true
    }

    /// Sweeps once and lets the handler do what follows; when there was nothing to do, returns until when to rest.
    fn turn(&mut self, rung: bool) -> Option<Option<Instant>> {
        self.roster.be_patient();
        let mut events = if rung { self.let_join() } else { 0 };
        let Self { roster, handler, shared, desk } = self;
        events += roster.sweep(&mut |member, event| deliver(handler, shared, desk.index, member, event));
        let now = Instant::now();
        // It cannot fail for a set of our own; if it did, the members would still be swept.
        let _ = roster.look_around(now);
        let wakes_at = self.guard(|handler, _| handler.wakes_at()).flatten();
        if events == 0 && !rung && wakes_at.is_none_or(|wakes_at| now < wakes_at) {
            return Some(wakes_at);
        }
        self.guard(|handler, roster| handler.on_turn(&mut Members::new(roster), now));
        None
    }

    fn rest(&mut self, deadline: Option<Instant>) {
        // As for `look_around`: who cannot sleep sweeps on.
        let _ = self.roster.rest(deadline, || true);
    }

    fn let_join(&mut self) -> usize {
        let Self { roster, handler, shared, desk } = self;
        let dealt = shared.take_dealt(desk.index);
        let count = dealt.len();
        for (number, mut connection) in dealt {
            if desk.prefaults {
                connection.sender().prefault();
            }
            let stats = connection.stats();
            let joined = roster.join(connection, number, &mut |member, event| {
                deliver(handler, shared, desk.index, member, event)
            });
            if joined.is_err() {
                shared.note_left(desk.index, &stats);
            }
        }
        count
    }

    /// Calls the handler outside of an event; `None` if it panicked.
    fn guard<T>(&mut self, call: impl FnOnce(&mut H, &mut Roster) -> T) -> Option<T> {
        let Self { roster, handler, shared, .. } = self;
        let called = catch_unwind(AssertUnwindSafe(|| call(handler, roster)));
        called.inspect_err(|_| shared.note_panic()).ok()
    }
}

/// Hands an event to the handler. If that panics, the member is disconnected: what the handler knows of it is in doubt.
fn deliver<H: Handler>(
    handler: &mut H,
    shared: &Shared,
    index: usize,
    member: &mut Member,
    event: Event<'_>,
) {
    // In a child made by fork the lock of the statistics may be held for ever.
    let left = matches!(&event, Event::Left(reason) if *reason != CloseReason::Forked);
    if catch_unwind(AssertUnwindSafe(|| handler.on_event(member, event))).is_err() {
        shared.note_panic();
        member.disconnect();
    }
    if left {
        shared.note_left(index, &member.stats());
    }
}
