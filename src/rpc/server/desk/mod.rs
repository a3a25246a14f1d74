//! What a worker knows of its clients, and what it does when they say something.

mod later;
mod say;

use super::outbox::Outbox;
use super::registry::Handler;
use super::request::{Reply, Request};
use super::stats::Counters;
use super::tasks::{Task, Tasks, Work};
use super::worker::Common;
use crate::connection::{Member, MemberId};
use crate::error::call::{Code, Failure};
use crate::proto::call::server::{Heard, Refused, ServerSession};
use crate::proto::call::{self, Frame, Settings};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

/// What a worker has of its own, apart from what it shares so that handlers can be lent while it changes.
pub(super) struct Desk {
    settings: Settings,
    /// By the member's seat.
    clients: Vec<Option<Client>>,
    tasks: Tasks<Owner>,
    /// When which call is too late.
    deadlines: BTreeSet<(Instant, MemberId, u64)>,
    heartbeat: Option<Duration>,
    /// When it is time to look who has said nothing; `None` while nobody is here.
    next_beat: Option<Instant>,
    counters: Arc<Counters>,
    /// Memory that is used again and again.
    reply: Vec<u8>,
    scratch: Vec<u8>,
    woken: Vec<usize>,
}

/// One connection.
struct Client {
    session: ServerSession<InFlight>,
    outbox: Outbox,
    /// One-way messages whose handlers are not done.
    one_way: u32,
}

/// A call that was not answered at once.
struct InFlight {
    place: usize,
    deadline: Option<Instant>,
    cancelled: Arc<AtomicBool>,
}

/// Whose a task is: `call` is `None` for a one-way message.
#[derive(Clone, Copy)]
struct Owner {
    member: MemberId,
    call: Option<u64>,
}

impl Desk {
    pub(super) fn new(
        settings: Settings,
        heartbeat: Option<Duration>,
        counters: Arc<Counters>,
        ring: impl Fn() + Send + Sync + 'static,
    ) -> Self {
        Self {
            settings,
            clients: Vec::new(),
            tasks: Tasks::new(ring),
            deadlines: BTreeSet::new(),
            heartbeat,
            next_beat: None,
            counters,
            reply: Vec::new(),
            scratch: Vec::new(),
            woken: Vec::new(),
        }
    }

    /// Says when something must be done although nothing happens.
    pub(super) fn wakes_at(&self) -> Option<Instant> {
        let deadline = self.deadlines.first().map(|(deadline, ..)| *deadline);
        deadline.into_iter().chain(self.next_beat).min()
    }

    /// Says whether nothing is in flight.
    pub(super) fn is_idle(&self) -> bool {
        self.tasks.is_empty() && self.clients.iter().flatten().all(|client| client.outbox.is_empty())
    }

    pub(super) fn join(&mut self, member: &mut Member) {
        let seat = member.seat();
        if self.clients.len() <= seat {
            self.clients.resize_with(seat + 1, || None);
        }
        let settings = self.settings;
        let session = ServerSession::new(settings);
        if self.next_beat.is_none() {
            self.next_beat = self.heartbeat.map(|interval| Instant::now() + interval);
        }
        self.counters.clients.add(1);
        self.clients[seat] = Some(Client { session, outbox: Outbox::default(), one_way: 0 });
        self.say(member, &Frame::Settings(settings));
    }

    pub(super) fn leave(&mut self, member: &Member) {
        let Some(mut client) = self.clients.get_mut(member.seat()).and_then(Option::take) else { return };
        for id in client.session.ids() {
            if let Some(call) = client.session.end(id) {
                self.give_up(member.id(), id, &call);
            }
        }
    }

    pub(super) fn hear<S>(&mut self, common: &Common<S>, member: &mut Member, message: &[u8]) {
        let Some(client) = self.clients.get_mut(member.seat()).and_then(Option::as_mut) else { return };
        match client.session.hear(message) {
            Ok(Heard::Request(request)) => self.ask(common, member, &request),
            Ok(Heard::OneWay { message_type, body }) => self.tell(common, member, message_type, body),
            Ok(Heard::Answer(frame)) => self.say(member, &frame),
            Ok(Heard::Cancel { id }) => {
                if let Some(call) = client.session.end(id) {
                    self.counters.cancelled.add(1);
                    self.give_up(member.id(), id, &call);
                }
            }
            Ok(Heard::Opened { id }) => {
                if let Some(call) = client.session.call_mut(id) {
                    self.tasks.wake(call.place);
                }
            }
            Ok(Heard::Nothing) => {}
            Err(error) => self.accuse(common, member, &error),
        }
    }

    /// Runs the handler of a request.
    fn ask<S>(&mut self, common: &Common<S>, member: &mut Member, asked: &call::Request<'_>) {
        let request = Request {
            message_type: asked.message_type,
            body: asked.body,
            priority: asked.priority,
            timeout: (asked.timeout_us > 0).then(|| Duration::from_micros(asked.timeout_us.into())),
            peer: member.peer_cred(),
            state: &common.state,
        };
        self.counters.calls.add(1);
        match common.registry.get(asked.message_type) {
            Some(Handler::Immediate(handler)) => {
                let (mut body, mut scratch) = self.lend_buffers();
                let mut reply = Reply::new(&mut body, &mut scratch);
                let outcome = self.contain(|| handler(&request, &mut reply)).flatten();
                self.answer(member, asked, outcome.map(|()| &*body));
                self.take_back(body, scratch);
            }
            Some(handler) => self.begin(common, member, asked, &request, handler),
            None => {
                self.counters.unknown.add(1);
                let text = format!("no handler for message type {}", asked.message_type);
                self.fail(member, asked.id, &Failure::new(Code::UNIMPLEMENTED, text));
            }
        }
    }

    /// Lends the buffers out, so that a handler can fill them; they must come back.
    fn lend_buffers(&mut self) -> (Vec<u8>, Vec<u8>) {
        (std::mem::take(&mut self.reply), std::mem::take(&mut self.scratch))
    }

    /// Takes the buffers back; what a rare large response needed is not kept.
    fn take_back(&mut self, mut reply: Vec<u8>, mut scratch: Vec<u8>) {
        for buffer in [&mut reply, &mut scratch] {
            if buffer.capacity() > KEPT_BYTES {
                *buffer = Vec::new();
            }
        }
        (self.reply, self.scratch) = (reply, scratch);
    }

    /// Answers a call that never was in flight.
    fn answer(&mut self, member: &mut Member, asked: &call::Request<'_>, outcome: Result<&[u8], Failure>) {
        let id = asked.id;
        match outcome {
            // Whoever expects parts gets one.
            Ok(body) if asked.window.is_some() => {
                self.say(member, &Frame::Response { id, last: false, body });
                self.say(member, &Frame::Response { id, last: true, body: &[] });
            }
            Ok(body) => self.say(member, &Frame::Response { id, last: true, body }),
            Err(failure) => self.fail(member, id, &failure),
        }
    }

    /// Sets a handler going that takes its time.
    fn begin<S>(
        &mut self,
        common: &Common<S>,
        member: &mut Member,
        asked: &call::Request<'_>,
        request: &Request<'_, S>,
        handler: &Handler<S>,
    ) {
        let id = asked.id;
        let Some(client) = self.clients.get_mut(member.seat()).and_then(Option::as_mut) else { return };
        match client.session.may_begin(id) {
            Ok(()) => {}
            Err(Refused::Violation(error)) => return self.accuse(common, member, &error),
            Err(Refused::TooMany { calls_max }) => {
                let text = format!("{calls_max} calls are in flight already, which is all that is allowed");
                return self.fail(member, id, &Failure::new(Code::RESOURCE_EXHAUSTED, text));
            }
        }
        if matches!(handler, Handler::Streamed(_)) && asked.window.is_none() {
            let text =
                format!("message type {} is answered in parts; call it as a stream", asked.message_type);
            return self.fail(member, id, &Failure::new(Code::INVALID_ARGUMENT, text));
        }
        let deadline = request.timeout.map(|timeout| Instant::now() + timeout);
        let cancelled = Arc::new(AtomicBool::new(false));
        let work = match self.start(common, handler, request, deadline, &cancelled) {
            Ok(work) => work,
            Err(failure) => return self.fail(member, id, &failure),
        };
        let place = self.tasks.add(Task { owner: Owner { member: member.id(), call: Some(id) }, work });
        let call = InFlight { place, deadline, cancelled };
        if let Some(client) = self.clients.get_mut(member.seat()).and_then(Option::as_mut) {
            client.session.begin(asked, call);
        }
        self.deadlines.extend(deadline.map(|deadline| (deadline, member.id(), id)));
    }

    /// Makes the future or stream of a handler.
    fn start<S>(
        &mut self,
        common: &Common<S>,
        handler: &Handler<S>,
        request: &Request<'_, S>,
        deadline: Option<Instant>,
        cancelled: &Arc<AtomicBool>,
    ) -> Result<Work, Failure> {
        let owned = request.to_owned(deadline, cancelled);
        let _context = common.enter();
        self.contain(|| match handler {
            Handler::Deferred(handler) => Work::Once(handler(owned)),
            Handler::Streamed(handler) => Work::Stream(handler(owned)),
            Handler::Immediate(_) => unreachable!("invariant: immediate handlers are never started"),
        })
    }

    /// Runs the handler of a one-way message.
    fn tell<S>(&mut self, common: &Common<S>, member: &mut Member, message_type: u16, body: &[u8]) {
        let request = Request {
            message_type,
            body,
            priority: false,
            timeout: None,
            peer: member.peer_cred(),
            state: &common.state,
        };
        self.counters.one_way.add(1);
        match common.registry.get(message_type) {
            Some(Handler::Immediate(handler)) => {
                let (mut body, mut scratch) = self.lend_buffers();
                let mut reply = Reply::new(&mut body, &mut scratch);
                let _ = self.contain(|| handler(&request, &mut reply));
                self.take_back(body, scratch);
            }
            Some(handler @ Handler::Deferred(_)) => {
                let Ok(work) = self.start(common, handler, &request, None, &Arc::default()) else { return };
                self.tasks.add(Task { owner: Owner { member: member.id(), call: None }, work });
                if let Some(client) = self.clients.get_mut(member.seat()).and_then(Option::as_mut) {
                    client.one_way += 1;
                }
                self.balance(member);
            }
            Some(Handler::Streamed(_)) | None => self.counters.unknown.add(1),
        }
    }
}

/// Buffers beyond this are not kept.
const KEPT_BYTES: usize = 1 << 20;
