//! One sender, as its receiver reads it.

use super::super::link::{Farewell, Link};
use super::super::peer::Peer;
use crate::connection::name::Place as SocketPlace;
use crate::error::{CloseReason, Violation};
use crate::metrics::ReceiveCounters;
use crate::ring::{Assembly, Consumer, Kind, Lag, Polled, Record, Step};
use crate::sys;
use crate::wait::{Look, Sleeper, Waker};
use std::sync::Arc;

/// What a source is made of; the control thread puts it together.
pub(crate) struct SourceParts {
    pub(in super::super) peer: Peer,
    pub(in super::super) link: Arc<Link>,
    pub(in super::super) consumer: Consumer,
    /// Wakes the sender that waits for space.
    pub(in super::super) waker: Waker,
    /// Sleeps for data.
    pub(in super::super) sleeper: Sleeper,
    /// Where the sender is found again.
    pub(in super::super) place: SocketPlace,
    /// Counts this subscription among those of its receiver.
    pub(in super::super) _held: Arc<()>,
    /// Messages that the sender had published before our first.
    pub(in super::super) messages_before: u64,
    pub(in super::super) message_bytes_max: u64,
}

impl SourceParts {
    /// Leaves a sender that was never read.
    pub(in super::super) fn leave(mut self) {
        self.sleeper.close();
        self.link.end(Farewell::Ring);
    }
}

/// One sender, as its receiver reads it.
pub(super) struct Source {
    pub(super) parts: SourceParts,
    assembly: Assembly,
    /// Messages that were handed out, told as lost, or were none of ours.
    accounted: u64,
    /// The sender hung up, and said this last.
    gone: Option<Farewell>,
    /// When the sender was last told how far we are, while it waited.
    told: u64,
}

/// Where a message that was taken lies.
#[derive(Debug, Clone, Copy)]
pub(super) enum Place {
    Copied,
    Assembled,
    Lent(Record),
}

/// What a look at a source brought.
pub(super) enum Found {
    Message(Place),
    /// So many messages were lost.
    Lagged(u64),
    Ended(CloseReason),
    Nothing,
}

impl Source {
    pub(super) fn new(parts: SourceParts) -> Self {
        let assembly = Assembly::joining(parts.message_bytes_max);
        let accounted = parts.messages_before;
        Self { parts, assembly, accounted, gone: None, told: 0 }
    }

    /// Copies the next record where it is a message like most, and returns its length. `None`: nothing was done, go by
    /// [`next`](Self::next).
    #[inline(always)]
    pub(super) fn take_plain(
        &mut self,
        scratch: &mut Vec<u8>,
        counters: &mut ReceiveCounters,
    ) -> Option<usize> {
        let record = self.parts.consumer.poll_plain(self.parts.message_bytes_max)?;
        scratch.clear();
        if !self.parts.consumer.take_plain(record, scratch) {
            return None;
        }
        self.account(record.len, counters);
        Some(record.len)
    }

    /// Says whether the next record may be taken by [`take_plain`](Self::take_plain).
    pub(super) fn is_plain(&self) -> bool {
        !self.parts.consumer.lends() && self.assembly.is_idle() && !self.is_cut_off()
    }

    /// Takes records until a message is complete. Bounded: a sender that publishes for ever does not keep us here.
    pub(super) fn next(&mut self, scratch: &mut Vec<u8>, counters: &mut ReceiveCounters) -> Found {
        if self.is_cut_off() {
            return Found::Ended(self.reason());
        }
        for _ in 0..RECORDS_PER_CALL {
            let found = match self.parts.consumer.poll() {
                Ok(Polled::Record(record)) => self.take(record, scratch, counters),
                Ok(Polled::Empty) => Ok(Some(self.nothing(counters))),
                Ok(Polled::Lagged(lag)) => Ok(self.overtaken(lag, counters)),
                Ok(Polled::Cut) => {
                    // It waits for those on its list, so it took us off.
                    self.gone = Some(Farewell::TooSlow);
                    Ok(Some(Found::Ended(CloseReason::TooSlow)))
                }
                Err(violation) => Err(violation),
            };
            match found {
                Ok(Some(found)) => return found,
                Ok(None) => {}
                Err(violation) => {
                    counters.violations.add(1);
                    return Found::Ended(CloseReason::Violation(violation));
                }
            }
        }
        Found::Nothing
    }

    /// Shows the message that was taken last.
    #[inline]
    pub(super) fn bytes<'a>(&'a self, place: Place, scratch: &'a [u8]) -> &'a [u8] {
        match place {
            Place::Copied => scratch,
            Place::Assembled => self.assembly.message(),
            Place::Lent(record) => self.parts.consumer.borrow(&record).unwrap_or_default(),
        }
    }

    /// Passes on from a record that was lent.
    pub(super) fn give_back(&mut self, record: Record, counters: &mut ReceiveCounters) {
        self.parts.consumer.advance(record);
        self.release_if_due(counters);
    }

    /// Takes note that the sender hung up.
    pub(super) fn note_gone(&mut self, farewell: Farewell) {
        // A reason that was heard stays heard.
        if !self.is_cut_off() {
            self.gone = Some(farewell);
        }
    }

    /// Takes note of the last of the bytes that came: a ring, or why the sender is about to hang up.
    pub(super) fn hear(&mut self, last: Farewell) {
        if last != Farewell::Ring {
            self.note_gone(last);
        }
    }

    /// Says whether nothing more will come than what lies in the ring.
    #[inline(always)]
    pub(super) fn has_ended(&self) -> bool {
        self.gone.is_some() || self.parts.consumer.is_closed()
    }

    /// Says whether a look would bring news: a record, or the end.
    #[inline(always)]
    pub(super) fn is_ready(&self) -> bool {
        self.parts.consumer.is_ready() || self.has_ended()
    }

    /// Tells the sender how far we have read.
    pub(super) fn release(&mut self, counters: &mut ReceiveCounters) {
        if self.parts.consumer.release() && self.parts.waker.look() == Look::Ring {
            counters.bells.add(1);
            self.parts.link.ring();
        }
    }

    /// Ends the subscription from our side.
    pub(super) fn leave(&mut self) {
        self.parts.consumer.release();
        self.parts.sleeper.close();
        self.parts.link.end(Farewell::Ring);
    }

    fn take(
        &mut self,
        record: Record,
        scratch: &mut Vec<u8>,
        counters: &mut ReceiveCounters,
    ) -> Result<Option<Found>, Violation> {
        Ok(match self.assembly.step(record.kind, record.len)? {
            Step::Whole => {
                if self.parts.consumer.borrow(&record).is_some() {
                    self.account(record.len, counters);
                    return Ok(Some(Found::Message(Place::Lent(record))));
                }
                scratch.clear();
                if !self.parts.consumer.take(record, scratch) {
                    // Overtaken meanwhile: the next look says so.
                    return Ok(None);
                }
                self.account(record.len, counters);
                Some(Found::Message(Place::Copied))
            }
            Step::Part { last } => {
                if !self.parts.consumer.take(record, self.assembly.parts()) {
                    return Ok(None);
                }
                if !last {
                    self.release_if_due(counters);
                    return Ok(None);
                }
                self.account(self.assembly.message().len(), counters);
                Some(Found::Message(Place::Assembled))
            }
            Step::Void => {
                // The end of a message that had begun before we joined.
                self.accounted += u64::from(record.kind == Kind::FragmentLast);
                self.parts.consumer.advance(record);
                None
            }
            Step::LostLast => {
                self.parts.consumer.advance(record);
                self.accounted += 1;
                counters.lagged_messages.add(1);
                Some(Found::Lagged(1))
            }
        })
    }

    #[inline(always)]
    fn account(&mut self, bytes: usize, counters: &mut ReceiveCounters) {
        self.accounted += 1;
        counters.messages.add(1);
        counters.bytes.add(bytes as u64);
        self.release_if_due(counters);
    }

    /// Tells the sender how far we are when we have read much, or little in a long time for which it waits.
    #[inline(always)]
    fn release_if_due(&mut self, counters: &mut ReceiveCounters) {
        if self.parts.consumer.owes_release() {
            self.release(counters);
        } else if self.parts.waker.is_asleep() {
            self.release_in_time(counters);
        }
    }

    /// The sender sleeps for room: who reads on, however slowly, must not look as if it stood still.
    #[cold]
    fn release_in_time(&mut self, counters: &mut ReceiveCounters) {
        let now = sys::ticks();
        if now.wrapping_sub(self.told) >= TELL_TICKS {
            self.told = now;
            self.release(counters);
        }
    }

    /// The writer has overwritten what we had not read.
    #[cold]
    fn overtaken(&mut self, lag: Lag, counters: &mut ReceiveCounters) -> Option<Found> {
        self.assembly.lose();
        let messages = lag.messages.saturating_sub(self.accounted);
        self.accounted = self.accounted.max(lag.messages);
        counters.lagged_bytes.add(lag.bytes);
        counters.lagged_messages.add(messages);
        (messages > 0).then_some(Found::Lagged(messages))
    }

    /// The ring is empty: tells the sender how far we are, and finds out whether this is the end.
    fn nothing(&mut self, counters: &mut ReceiveCounters) -> Found {
        self.release(counters);
        // Read before the ring is looked at once more: what was committed before the end is delivered first.
        let closed = self.parts.consumer.is_closed();
        if !closed && self.gone.is_none() || self.parts.consumer.is_ready() || !self.is_end_explained() {
            return Found::Nothing;
        }
        Found::Ended(self.reason())
    }

    /// The ring is closed for all its readers, but the sender may have cut us off before: says whether that is known.
    fn is_end_explained(&mut self) -> bool {
        if self.gone.is_some() {
            return true;
        }
        match sys::drain_words(self.parts.link.socket()) {
            sys::Words::Bytes(_, last) => self.hear(Farewell::of(last)),
            sys::Words::Silence => {}
            // The control thread has seen, or is about to see, the last word, and says what it was.
            sys::Words::Gone => return false,
        }
        true
    }

    /// Says whether the sender has taken us off its list: what we have not read may be overwritten.
    fn is_cut_off(&self) -> bool {
        matches!(self.gone, Some(Farewell::TooSlow | Farewell::Disconnected))
    }

    fn reason(&self) -> CloseReason {
        match self.gone {
            Some(Farewell::TooSlow) => CloseReason::TooSlow,
            Some(Farewell::Disconnected) => CloseReason::PeerClosed,
            _ if self.parts.consumer.is_closed() => CloseReason::PeerClosed,
            _ => CloseReason::PeerDied { pid: self.parts.peer.pid() },
        }
    }
}

/// Records taken by one call at most, so that fragments without end do not keep the caller.
const RECORDS_PER_CALL: usize = 64;
/// How often a sender that waits is told how far we are: every 50 ms or so.
const TELL_TICKS: u64 = 1 << 27;
