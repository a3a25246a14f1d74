//! Calls that are not answered at once: polling them, and ending them when they are done, cancelled, or too late.

use super::{Desk, InFlight, Owner};
use crate::connection::{MemberId, Members};
use crate::error::call::{Code, Failure};
use crate::proto::call::{Due, Frame};
use crate::rpc::server::tasks::{Task, Work};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::Ordering;
use std::task::Poll;
use std::time::Instant;

/// What came of a call that was not answered at once.
type Outcome = Result<Vec<u8>, Failure>;
impl Desk {
    pub(in crate::rpc::server) fn poll_woken(&mut self, members: &mut Members<'_>) {
        let mut places = std::mem::take(&mut self.woken);
        self.tasks.take_woken(&mut places);
        for &place in &places {
            self.poll_task(place, members);
        }
        self.woken = places;
    }

    fn poll_task(&mut self, place: usize, members: &mut Members<'_>) {
        let Some((task, mut context)) = self.tasks.begin_poll(place) else { return };
        let owner = task.owner;
        match &mut task.work {
            Work::Once(future) => {
                let polled = catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(&mut context)));
                match polled {
                    Ok(Poll::Pending) => {}
                    Ok(Poll::Ready(outcome)) => self.finish(place, owner, members, outcome),
                    Err(panic) => {
                        let failure = self.note_panic(&*panic);
                        self.finish(place, owner, members, Err(failure));
                    }
                }
            }
            Work::Stream(_) => self.poll_stream(place, owner, members),
        }
    }

    /// Takes parts out of a stream as far as its window and its client permit.
    fn poll_stream(&mut self, place: usize, owner: Owner, members: &mut Members<'_>) {
        let Owner { member, call: Some(id) } = owner else { return };
        let Some(member) = members.get(member) else { return };
        for _ in 0..PARTS_PER_TURN {
            let Some(client) = self.clients.get_mut(member.seat()).and_then(Option::as_mut) else { return };
            // Credit, or room, wakes it again.
            if client.outbox.is_clogged() || !client.session.may_stream(id) {
                return;
            }
            let Some((task, mut context)) = self.tasks.begin_poll(place) else { return };
            let Work::Stream(stream) = &mut task.work else { return };
            let polled = catch_unwind(AssertUnwindSafe(|| stream.as_mut().poll_next(&mut context)));
            match polled {
                Ok(Poll::Pending) => return,
                Ok(Poll::Ready(Some(Ok(part)))) => {
                    client.session.charge(id, part.len());
                    self.say(member, &Frame::Response { id, last: false, body: &part });
                }
                Ok(Poll::Ready(None)) => return self.finish(place, owner, members, Ok(Vec::new())),
                Ok(Poll::Ready(Some(Err(failure)))) => {
                    return self.finish(place, owner, members, Err(failure));
                }
                Err(panic) => {
                    let failure = self.note_panic(&*panic);
                    return self.finish(place, owner, members, Err(failure));
                }
            }
        }
        // The others' turn.
        self.tasks.wake(place);
    }

    /// Ends a task that is done, and answers.
    fn finish(&mut self, place: usize, owner: Owner, members: &mut Members<'_>, outcome: Outcome) {
        let streamed = self.remove_task(place);
        let Some(member) = members.get(owner.member) else { return };
        let Some(client) = self.clients.get_mut(member.seat()).and_then(Option::as_mut) else { return };
        let Some(id) = owner.call else {
            client.one_way -= 1;
            return self.balance(member);
        };
        let expects_parts = client.session.expects_parts(id);
        let Some(call) = client.session.end(id) else { return };
        self.forget_deadline(owner.member, id, &call);
        match outcome {
            Ok(body) => {
                if expects_parts && !streamed {
                    self.say(member, &Frame::Response { id, last: false, body: &body });
                }
                let body = if expects_parts { &[][..] } else { &body };
                self.say(member, &Frame::Response { id, last: true, body });
            }
            Err(failure) => self.fail(member, id, &failure),
        }
    }

    /// Drops a task; says whether it was a stream.
    fn remove_task(&mut self, place: usize) -> bool {
        let task = self.tasks.remove(place);
        let streamed = matches!(task, Some(Task { work: Work::Stream(_), .. }));
        // What a handler holds may panic when it is dropped.
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| drop(task))) {
            self.note_panic(&*panic);
        }
        streamed
    }

    /// Ends a call that nobody waits for any more.
    pub(super) fn give_up(&mut self, member: MemberId, id: u64, call: &InFlight) {
        // Relaxed: as in `OwnedRequest::is_cancelled`.
        call.cancelled.store(true, Ordering::Relaxed);
        self.forget_deadline(member, id, call);
        self.remove_task(call.place);
    }

    fn forget_deadline(&mut self, member: MemberId, id: u64, call: &InFlight) {
        if let Some(deadline) = call.deadline {
            self.deadlines.remove(&(deadline, member, id));
        }
    }

    /// Ends the calls whose time is up.
    pub(in crate::rpc::server) fn expire(&mut self, members: &mut Members<'_>, now: Instant) {
        while let Some(&(deadline, member, id)) = self.deadlines.first() {
            if deadline > now {
                return;
            }
            self.deadlines.pop_first();
            let Some(member) = members.get(member) else { continue };
            let client = self.clients.get_mut(member.seat()).and_then(Option::as_mut);
            let Some(call) = client.and_then(|client| client.session.end(id)) else { continue };
            self.counters.expired.add(1);
            self.give_up(member.id(), id, &call);
            self.fail(member, id, &Failure::new(Code::DEADLINE_EXCEEDED, "the time of the call is up"));
        }
    }

    /// Pings the clients that said nothing for an interval, and lets go of those that said nothing for three.
    pub(in crate::rpc::server) fn beat(&mut self, members: &mut Members<'_>, now: Instant) {
        let Some((interval, due)) = self.heartbeat.zip(self.next_beat) else { return };
        if now < due {
            return;
        }
        let mut anybody = false;
        for member in members.iter_mut() {
            let Some(client) = self.clients.get_mut(member.seat()).and_then(Option::as_mut) else { continue };
            anybody = true;
            if client.one_way >= self.settings.calls_max {
                // It may have said much: it is we who do not read.
                continue;
            }
            match client.session.beat() {
                Due::Nothing => {}
                Due::Ping => self.say(member, &Frame::Ping { id: 0 }),
                Due::Dead => member.disconnect(),
            }
        }
        self.next_beat = anybody.then_some(now + interval);
    }
}

/// Parts taken from a stream before it is the others' turn.
const PARTS_PER_TURN: usize = 64;
