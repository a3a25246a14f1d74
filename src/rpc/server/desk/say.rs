//! What goes to a client, what happens when it does not read, and what is done with panics and violations.

use super::Desk;
use crate::connection::Member;
use crate::error::call::{Code, Failure, FrameError};
use crate::proto::call::Frame;
use crate::rpc::server::outbox::Undeliverable;
use crate::rpc::server::worker::Common;
use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};

impl Desk {
    pub(super) fn fail(&mut self, member: &mut Member, id: u64, failure: &Failure) {
        self.counters.failed.add(1);
        let text = failure.text();
        let text = &text[..text.floor_char_boundary(FAILURE_TEXT_BYTES)];
        self.say(member, &Frame::Failed { id, code: failure.code().0, text: text.as_bytes() });
    }

    /// Sends a frame, now or when there is room.
    pub(in crate::rpc::server) fn say(&mut self, member: &mut Member, frame: &Frame<'_>) {
        let Some(client) = self.clients.get_mut(member.seat()).and_then(Option::as_mut) else { return };
        let codec = client.session.codec();
        match client.outbox.say(member.sender(), codec, frame) {
            Ok(()) if client.outbox.is_empty() => {}
            Ok(()) => self.balance(member),
            Err(trouble) => self.despair(member, frame, &trouble),
        }
    }

    #[cold]
    fn despair(&mut self, member: &mut Member, frame: &Frame<'_>, trouble: &Undeliverable) {
        match (trouble, frame) {
            (Undeliverable::TooLarge { len, max }, Frame::Response { id, .. }) => {
                // Of a stream this part is the end.
                let client = self.clients.get_mut(member.seat()).and_then(Option::as_mut);
                if let Some(call) = client.and_then(|client| client.session.end(*id)) {
                    self.give_up(member.id(), *id, &call);
                }
                let text = format!("the response has {len} bytes with its header, the client accepts {max}");
                self.fail(member, *id, &Failure::new(Code::RESOURCE_EXHAUSTED, text));
            }
            // Its end is an event of its own.
            (Undeliverable::Closed, _) => {}
            (Undeliverable::NoMemory | Undeliverable::TooLarge { .. }, _) => member.disconnect(),
        }
    }

    /// There is room again for a client that did not read.
    pub(in crate::rpc::server) fn resume(&mut self, member: &mut Member) {
        let Some(client) = self.clients.get_mut(member.seat()).and_then(Option::as_mut) else { return };
        match client.outbox.pump(member.sender()) {
            Ok(()) | Err(Undeliverable::Closed) => {}
            Err(Undeliverable::NoMemory | Undeliverable::TooLarge { .. }) => member.disconnect(),
        }
        if !client.outbox.is_clogged() {
            for id in client.session.ids() {
                if client.session.expects_parts(id)
                    && let Some(call) = client.session.call_mut(id)
                {
                    self.tasks.wake(call.place);
                }
            }
        }
        self.balance(member);
    }

    /// Asks for room while frames wait, and reads from this client only while what is made for it stays within bounds.
    ///
    /// A client at its limit of calls is not paused: its cancels and credits would stay unread too, and streams that
    /// wait for credit never end. It is refused instead; one that keeps to the settings never meets that.
    pub(super) fn balance(&mut self, member: &mut Member) {
        let Some(client) = self.clients.get_mut(member.seat()).and_then(Option::as_mut) else { return };
        if !client.outbox.is_empty() {
            // Never taken back, also if a later frame takes the others along: streams wait for what follows.
            member.want_room(true);
        }
        if client.outbox.is_clogged() || client.one_way >= self.settings.calls_max {
            member.pause();
        } else {
            member.resume();
        }
    }

    /// Disconnects a client that broke the protocol.
    #[cold]
    pub(super) fn accuse<S>(&mut self, common: &Common<S>, member: &mut Member, error: &FrameError) {
        self.counters.violations.add(1);
        let peer = member.peer_cred();
        let _ = self.contain(|| (common.on_violation)(peer, error));
        member.disconnect();
    }

    /// Runs foreign code; a panic becomes a failure.
    #[inline]
    pub(super) fn contain<R>(&self, run: impl FnOnce() -> R) -> Result<R, Failure> {
        catch_unwind(AssertUnwindSafe(run)).map_err(|panic| self.note_panic(&*panic))
    }

    #[cold]
    pub(super) fn note_panic(&self, panic: &(dyn Any + Send)) -> Failure {
        self.counters.panics.add(1);
        let text = panic.downcast_ref::<&str>().copied();
        let text = text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("no text");
        Failure::new(Code::INTERNAL, format!("the handler panicked: {text}"))
    }
}

/// How much of the text of a failure travels.
const FAILURE_TEXT_BYTES: usize = 4096;
