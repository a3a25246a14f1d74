//! Waiting for what happens next.

use super::super::control::DESK;
use super::super::link::Farewell;
use super::source::Source;
use super::{Receiver, Taken, TakenEvent};
use crate::connection::Armed;
use crate::crash;
use crate::error::CloseReason;
use crate::error::broadcast::{RecvTimeoutError, TryRecvError, WaitError};
use crate::sys;
use crate::wait::{self, Barrier, Spinner, Spun, Wait, pause};
use std::io;
use std::time::{Duration, Instant};

impl Receiver {
    /// Waits until at least `count` senders are heard, and returns how many are. What they send meanwhile is kept.
    ///
    /// # Errors
    /// [`WaitError::Timeout`]: how many there were. [`WaitError::Closed`]: this handle has left.
    pub fn wait_for_senders(&mut self, count: usize, timeout: Duration) -> Result<usize, WaitError> {
        let deadline = Instant::now().checked_add(timeout);
        if !timeout.is_zero() {
            // A sleep that was announced and given up.
            self.disarm();
        }
        loop {
            self.check().map_err(WaitError::Closed)?;
            let present = self.sources.len();
            if present >= count {
                return Ok(present);
            }
            if deadline.is_some_and(|deadline| Instant::now() >= deadline) {
                return Err(WaitError::Timeout { present });
            }
            if self.desk.doze() {
                let slept = self.sleep(deadline);
                self.desk.wake();
                slept.map_err(WaitError::Closed)?;
            }
        }
    }

    pub(super) fn take_until(&mut self, deadline: Option<Instant>) -> Result<Taken, RecvTimeoutError> {
        let mut waited = false;
        loop {
            match self.try_take() {
                Ok(taken) => return Ok(taken),
                Err(TryRecvError::Lagged(messages)) => return Err(RecvTimeoutError::Lagged(messages)),
                Err(TryRecvError::Closed(reason)) => return Err(RecvTimeoutError::Closed(reason)),
                Err(TryRecvError::Empty) => {}
            }
            if !self.wait(&mut waited, deadline).map_err(RecvTimeoutError::Closed)? {
                return Err(RecvTimeoutError::Timeout);
            }
        }
    }

    pub(super) fn take_event_until(
        &mut self,
        deadline: Option<Instant>,
    ) -> Result<Option<TakenEvent>, CloseReason> {
        let mut waited = false;
        loop {
            if let Some(taken) = self.try_take_event()? {
                return Ok(Some(taken));
            }
            if !self.wait(&mut waited, deadline)? {
                return Ok(None);
            }
        }
    }

    /// Waits once; `false`: the deadline has passed.
    fn wait(&mut self, waited: &mut bool, deadline: Option<Instant>) -> Result<bool, CloseReason> {
        // Whatever woke us, records that make no message included, the deadline ends it.
        if *waited && deadline.is_some_and(|deadline| Instant::now() >= deadline) {
            return Ok(false);
        }
        *waited = true;
        let patience = self.patience_due();
        let stream = patience.is_some();
        pause(patience.unwrap_or(0));
        let Self { sources, desk, spinner, .. } = self;
        let ready = || desk.has_news() || sources.iter().any(Source::is_ready);
        match spinner.spin_over(sources.len(), deadline, stream, ready) {
            Spun::Ready => return Ok(true),
            Spun::TimedOut => return Ok(false),
            Spun::Exhausted if spinner.wait() == Wait::Spin => return Ok(true),
            Spun::Exhausted => {}
        }
        if self.arm() == Armed::Ready {
            return Ok(true);
        }
        let slept = self.sleep(deadline);
        self.rise();
        slept.map(|()| true)
    }

    /// Says how long to leave the rings alone, if nothing was found in the middle of a stream.
    pub(crate) fn patience_due(&mut self) -> Option<u32> {
        self.ends_stream().then_some(self.patience)
    }

    /// Says whether nothing was found in the middle of a stream.
    fn ends_stream(&mut self) -> bool {
        let seen = self.counters.messages.get();
        let streak = seen - std::mem::replace(&mut self.seen_at_wait, seen);
        streak >= STREAM_MESSAGES
    }

    /// Says whether a look would bring news.
    pub(crate) fn is_ready(&self) -> bool {
        !self.told_next.is_empty()
            || self.ended.is_some()
            || !self.owner.is_current()
            || self.desk.has_news()
            || self.sources.iter().any(Source::is_ready)
    }

    /// Announces a sleep to all senders. A barrier must follow, then [`settle`](Self::settle).
    pub(crate) fn lie_down(&mut self) {
        for source in &mut self.sources {
            // Whoever waits for room must not wait for us meanwhile.
            source.release(&mut self.counters);
            source.parts.sleeper.announce();
        }
    }

    /// Looks once more, and tells the desk; `false`: do not sleep. Then [`rise`](Self::rise) takes the announcement back.
    pub(crate) fn settle(&mut self) -> bool {
        if self.is_ready() || !self.desk.doze() {
            return false;
        }
        self.counters.sleeps.add(1);
        self.armed = true;
        true
    }

    /// Runs the barrier for every sleep that was announced.
    pub(crate) fn barrier(&self) {
        wait::barrier(self.barrier);
    }

    /// Returns the strongest barrier that any of the senders needs.
    pub(crate) fn barrier_kind(&self) -> Barrier {
        self.barrier
    }

    /// Returns what a sleep waits for.
    pub(crate) fn set(&self) -> &sys::Epoll {
        &self.epoll
    }

    pub(crate) fn spinner(&self) -> &Spinner {
        &self.spinner
    }

    #[cfg(feature = "tokio")]
    pub(crate) fn set_spinner(&mut self, spinner: Spinner) {
        self.spinner = spinner;
    }

    /// Takes the announcement back.
    pub(crate) fn rise(&mut self) {
        for source in &mut self.sources {
            source.parts.sleeper.disarm();
        }
        self.desk.wake();
        self.armed = false;
    }

    pub(crate) fn is_armed(&self) -> bool {
        self.armed
    }

    /// Sleeps until somebody rings or the deadline passes, and drains what rang.
    pub(crate) fn sleep(&mut self, until: Option<Instant>) -> Result<(), CloseReason> {
        let timeout: Option<Duration> = until.map(|until| until.saturating_duration_since(Instant::now()));
        self.drain(timeout).map_err(|error| {
            let reason = CloseReason::Os { errno: error.raw_os_error().unwrap_or(0) };
            self.ended.insert(reason).clone()
        })
    }

    fn drain(&mut self, timeout: Option<Duration>) -> io::Result<()> {
        crash::point("sleeper.parked");
        let batch = self.epoll.wait(timeout)?;
        crash::point("sleeper.woken");
        for found in batch.iter() {
            if found.token == DESK {
                self.desk.silence();
                continue;
            }
            let known = |source: &&mut Source| source.parts.peer.number() == found.token;
            let Some(source) = self.sources.iter_mut().find(known) else { continue };
            if found.hung_up {
                // The control thread says why; until then it must not keep us awake.
                self.epoll.unwatch(source.parts.link.socket());
            } else if let sys::Words::Bytes(bytes, last) = sys::drain_words(source.parts.link.socket()) {
                self.counters.doorbell_bytes.add(bytes as u64);
                source.hear(Farewell::of(last));
            }
        }
        Ok(())
    }
}

/// This many messages without a pause are a stream.
const STREAM_MESSAGES: u64 = 8;
