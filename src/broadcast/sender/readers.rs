//! Who receives: coming, going, and being disconnected.

use super::super::link::Farewell;
use super::super::peer::{MemberEvent, Peer};
use super::Sender;
use super::parts::{NewReader, Reader, SenderNews, died};
use crate::connection::talk;
use crate::crash;
use crate::error::CloseReason;
use crate::error::broadcast::WaitError;
use crate::proto::handshake::{Joined, Message};
use std::time::{Duration, Instant};

impl Sender {
    /// Returns how many receive what is sent now.
    ///
    /// # Cost
    /// No system call, unless somebody is to be let in.
    pub fn receiver_count(&mut self) -> usize {
        let _ = self.check();
        self.readers.len()
    }

    /// Returns who receives, each with the bytes of the ring that it has not read yet, or not said so: a receiver says it
    /// when it has read an eighth of the ring, or all.
    ///
    /// # Cost
    /// Allocates; one load of each receiver's line.
    pub fn receivers(&mut self) -> Vec<(Peer, u64)> {
        if self.check().is_err() {
            return Vec::new();
        }
        while let Err((number, violation)) = self.producer.look() {
            self.cut(number, CloseReason::Violation(violation));
        }
        let behind = |peer: &Peer| {
            let found = self.producer.readers().find(|reader| reader.number == peer.number());
            found.map_or(0, |reader| self.producer.tail() - reader.position.min(self.producer.tail()))
        };
        self.readers.iter().map(|reader| (reader.peer, behind(&reader.peer))).collect()
    }

    /// Waits until there are at least `count` receivers, and returns how many there are.
    ///
    /// # Errors
    /// [`WaitError::Timeout`]: how many there were. [`WaitError::Closed`]: this handle has left.
    pub fn wait_for_receivers(&mut self, count: usize, timeout: Duration) -> Result<usize, WaitError> {
        let deadline = Instant::now().checked_add(timeout);
        if !timeout.is_zero() {
            // A sleep that was announced and given up.
            self.disarm();
        }
        loop {
            if let Err(super::room::Stop::Closed(reason)) = self.check() {
                return Err(WaitError::Closed(reason));
            }
            let present = self.readers.len();
            if present >= count {
                return Ok(present);
            }
            if deadline.is_some_and(|deadline| Instant::now() >= deadline) {
                return Err(WaitError::Timeout { present });
            }
            if self.desk.doze() {
                let slept = self.sleep(deadline);
                self.desk.wake();
                slept.map_err(|error| {
                    WaitError::Closed(CloseReason::Os { errno: error.raw_os_error().unwrap_or(0) })
                })?;
            }
        }
    }

    /// Returns the next that came or went, if anybody did. The last 1,024 are kept.
    ///
    /// # Cost
    /// As [`receiver_count`](Self::receiver_count).
    pub fn try_event(&mut self) -> Option<MemberEvent> {
        let _ = self.check();
        self.events.pop_front()
    }

    /// Disconnects a receiver; says whether it was done. It is told ([`CloseReason::PeerClosed`]) and may join again.
    ///
    /// With a policy that waits for ever nobody is disconnected: receivers may be reading in place.
    pub fn disconnect_receiver(&mut self, peer: Peer) -> bool {
        // Where nobody is ever overtaken receivers may be reading in place.
        let may_cut = !matches!(self.policy, super::Policy::Block { stall_max: None });
        self.check().is_ok() && may_cut && self.cut(peer.number(), CloseReason::Disconnected)
    }

    /// Sees to what the control thread has to say.
    #[cold]
    pub(super) fn attend(&mut self) {
        // A batch that was not published yet belongs to those who are there.
        self.producer.publish();
        while let Some(news) = self.desk.take() {
            match news {
                SenderNews::Reader(reader) => self.let_in(*reader),
                SenderNews::Gone(number) => self.remove_gone(number),
                SenderNews::Passed(peer, reason) => {
                    self.note(MemberEvent::Joined(peer));
                    self.note(MemberEvent::Left(peer, reason));
                }
            }
        }
    }

    /// Gives a newcomer its start, which is a record boundary, and tells it.
    fn let_in(&mut self, newcomer: NewReader) {
        let NewReader { number, link, consumed, mut waker, history, mut joined_at, seat } = newcomer;
        if waker.is_closed() {
            // It has left again already.
            return link.end(Farewell::Ring);
        }
        let (start, past) = self.history.start(history, &self.producer);
        let messages = self.producer.messages() - past;
        crash::point("broadcast.newcomer_seen");
        // In the list before it knows: nothing that it may read is overwritten from here on.
        self.producer.add_reader_at(number, consumed, start);
        joined_at.set(start);
        let joined = Message::Joined(Joined { start, messages });
        let watched = self.epoll.watch(link.socket(), number);
        if watched.is_err() || talk::say(link.socket(), &joined, &[]).is_err() {
            // It hung up, or nothing more can be watched: it will try again.
            self.producer.remove_reader(number);
            self.epoll.unwatch(link.socket());
            link.end(Farewell::Ring);
            return;
        }
        crash::point("broadcast.newcomer_told");
        let peer = Peer::new(number, link.cred());
        self.fences |= waker.needs_fence();
        self.readers.push(Reader { waker, link, peer, _seat: seat });
        self.note(MemberEvent::Joined(peer));
    }

    fn remove_gone(&mut self, number: u64) {
        let Some(reader) = self.take(number) else { return };
        let closed = reader.waker.is_closed();
        let reason = if closed { CloseReason::PeerClosed } else { died(&reader.peer) };
        self.note(MemberEvent::Left(reader.peer, reason));
    }

    /// Removes those who said that they will never look again.
    #[cold]
    pub(super) fn remove_closed(&mut self) {
        while let Some(reader) = self.readers.iter().find(|reader| reader.waker.is_closed()) {
            let peer = reader.peer;
            if let Some(reader) = self.take(peer.number()) {
                // Who says so and stays connected would keep a descriptor of ours for nothing.
                reader.link.end(Farewell::Ring);
            }
            self.note(MemberEvent::Left(peer, CloseReason::PeerClosed));
        }
    }

    /// Ends the subscription of a receiver, and tells it why; `false`: it was gone.
    pub(super) fn cut(&mut self, number: u64, reason: CloseReason) -> bool {
        let Some(reader) = self.take(number) else { return false };
        reader.link.end(match reason {
            CloseReason::TooSlow => Farewell::TooSlow,
            CloseReason::Disconnected => Farewell::Disconnected,
            _ => Farewell::Ring,
        });
        self.counters.cut_receivers.add(u64::from(reason == CloseReason::TooSlow));
        self.note(MemberEvent::Left(reader.peer, reason));
        true
    }

    /// Takes a receiver off the list: it holds nothing up any more.
    fn take(&mut self, number: u64) -> Option<Reader> {
        let index = self.readers.iter().position(|reader| reader.peer.number() == number)?;
        let reader = self.readers.swap_remove(index);
        self.producer.remove_reader(number);
        self.epoll.unwatch(reader.link.socket());
        Some(reader)
    }

    fn note(&mut self, event: MemberEvent) {
        if self.events.len() == EVENTS_MAX {
            self.events.pop_front();
        }
        self.events.push_back(event);
    }

    /// Tells all receivers that no more will come.
    pub(super) fn say_goodbye(&mut self) {
        self.producer.close();
        for reader in self.readers.drain(..) {
            // Always: whoever sleeps for data must see the close word.
            reader.link.ring();
            self.epoll.unwatch(reader.link.socket());
        }
        while let Some(news) = self.desk.take() {
            if let SenderNews::Reader(newcomer) = news {
                newcomer.link.end(Farewell::Ring);
            }
        }
    }
}

/// Comings and goings that nobody asked for yet.
const EVENTS_MAX: usize = 1024;
