//! The connection of a client: made, shared, replaced.
//!
//! A caller takes the connection that there is; if it turns out to have ended, the caller discards it and comes back.
//! Whoever finds none makes one, one caller at a time; the others wait for it. After an attempt that failed, and after a
//! connection that did not last, there is a pause before the next.

use super::ask::Ask;
use super::core::Line;
use super::options::{Backoff, Options};
use crate::error::call::CallError;
use crate::error::{CloseReason, ConnectError, Refusal};
use crate::proto::call::client::ClientSession;
use crate::sys::ForkToken;
use std::path::PathBuf;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Where callers get the connection from.
pub(crate) struct Hub {
    name: String,
    pub(crate) options: Options,
    owner: ForkToken,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    line: Option<Arc<Line>>,
    /// When the connection was made.
    since: Option<Instant>,
    /// Somebody is making one.
    connecting: bool,
    closed: bool,
    /// Why the last one ended.
    lost: Option<CloseReason>,
    /// Not before this is another made.
    next_attempt: Option<Instant>,
    /// Pauses in a row.
    pauses: u32,
    /// Why the last attempt failed.
    trouble: Option<Passing>,
}

impl Hub {
    /// Makes a client's hub, connected at once or with the first call.
    pub(crate) fn new(name: &str, options: Options, now: bool) -> Result<Self, ConnectError> {
        options.config.check_for(name)?;
        let os = |source| ConnectError::Os { action: "tell the process from its children", source };
        let hub = Self {
            name: name.to_owned(),
            options,
            owner: ForkToken::current().map_err(os)?,
            state: Mutex::default(),
            changed: Condvar::new(),
        };
        if now {
            let line = hub.connect(hub.options.config.connect_timeout)?;
            hub.lock().enter(line);
        }
        Ok(hub)
    }

    /// Says whether this process made the client; a child made by fork did not. Locks are not to be touched there: another
    /// thread may have held them.
    #[inline]
    pub(crate) fn is_ours(&self) -> bool {
        self.owner.is_current()
    }

    /// Returns the connection, if there is one.
    ///
    /// # Errors
    /// [`CallError::Closed`], and [`CallError::Lost`] in a child made by fork.
    #[inline]
    pub(crate) fn line_now(&self) -> Result<Option<Arc<Line>>, CallError> {
        if !self.is_ours() {
            return Err(CallError::Lost { may_have_run: false, reason: CloseReason::Forked });
        }
        let state = self.lock();
        if state.closed { Err(CallError::Closed) } else { Ok(state.line.clone()) }
    }

    /// Returns the connection; makes one if there is none, and waits for that as long as the call may.
    #[inline]
    pub(crate) fn line(&self, ask: &Ask) -> Result<Arc<Line>, CallError> {
        match self.line_now()? {
            Some(line) => Ok(line),
            None => self.line_soon(ask.deadline),
        }
    }

    /// Waits for a connection, or makes it.
    #[cold]
    pub(crate) fn line_soon(&self, deadline: Option<Instant>) -> Result<Arc<Line>, CallError> {
        let patience = Instant::now().checked_add(self.options.connect_patience);
        let Some(give_up) = [deadline, patience].into_iter().flatten().min() else {
            return Err(CallError::Unreachable(ConnectError::Timeout));
        };
        let mut state = self.lock();
        loop {
            if state.closed {
                return Err(CallError::Closed);
            }
            if let Some(line) = &state.line {
                return Ok(Arc::clone(line));
            }
            let Some(backoff) = self.backoff(&state)? else { return Err(self.unreachable(&state)) };
            let now = Instant::now();
            let pause = state.next_attempt.filter(|at| *at > now);
            if state.connecting || pause.is_some() {
                if now >= give_up {
                    return Err(self.unreachable(&state));
                }
                // Who connects tells when it is done.
                let until = pause.filter(|_| !state.connecting).map_or(give_up, |pause| pause.min(give_up));
                state = self.wait(state, until - now);
                continue;
            }
            state.connecting = true;
            drop(state);
            let outcome = self.connect(give_up.saturating_duration_since(now));
            state = self.lock();
            state.connecting = false;
            self.changed.notify_all();
            match outcome {
                Ok(line) => state.enter(line),
                Err(error) => {
                    state.pause(backoff, Instant::now());
                    state.trouble = Passing::of(&error);
                    if state.trouble.is_none() {
                        return Err(CallError::Unreachable(error));
                    }
                }
            }
        }
    }

    /// Says how to try again; for a client that does not: only if it never was connected.
    fn backoff(&self, state: &State) -> Result<Option<Backoff>, CallError> {
        match (&self.options.backoff, &state.lost) {
            (Some(backoff), _) => Ok(Some(*backoff)),
            (None, Some(reason)) => Err(CallError::Lost { may_have_run: false, reason: reason.clone() }),
            (None, None) if state.pauses == 0 => Ok(Some(Backoff::default())),
            (None, None) => Ok(None),
        }
    }

    /// Takes a connection that ended out of use.
    #[cold]
    pub(crate) fn discard(&self, line: &Arc<Line>, reason: CloseReason) {
        let mut state = self.lock();
        if state.line.as_ref().is_none_or(|current| !Arc::ptr_eq(current, line)) {
            return;
        }
        state.line = None;
        state.lost = Some(reason);
        let backoff = self.options.backoff.unwrap_or_default();
        let now = Instant::now();
        if state.since.is_some_and(|since| now.saturating_duration_since(since) > backoff.max) {
            state.pauses = 0;
            state.next_attempt = None;
        } else {
            state.pause(backoff, now);
        }
    }

    /// Ends the client: no new calls.
    pub(crate) fn close(&self) {
        if self.is_ours() {
            let mut state = self.lock();
            state.closed = true;
            state.line = None;
            self.changed.notify_all();
        }
    }

    fn connect(&self, limit: Duration) -> Result<Arc<Line>, ConnectError> {
        let Options { config, calls_max, heartbeat, without_checksum, .. } = &self.options;
        let timeout = config.connect_timeout.min(limit);
        let connection = config.clone().connect_timeout(timeout).connect(&self.name)?;
        let session = ClientSession::new(*without_checksum, *calls_max, *heartbeat);
        Ok(Arc::new(Line::new(connection.split(), session, self.owner)))
    }

    /// Says why there is no connection, to one whose time is up.
    fn unreachable(&self, state: &State) -> CallError {
        CallError::Unreachable(match state.trouble.clone() {
            Some(Passing::NoListener(path)) => ConnectError::NoListener { path },
            Some(Passing::Dropped) => ConnectError::Dropped,
            Some(Passing::Refused(refusal)) => ConnectError::Refused(refusal),
            Some(Passing::Timeout) | None => ConnectError::Timeout,
        })
    }

    fn wait<'a>(&self, state: MutexGuard<'a, State>, limit: Duration) -> MutexGuard<'a, State> {
        self.changed.wait_timeout(state, limit).unwrap_or_else(PoisonError::into_inner).0
    }

    #[inline]
    fn lock(&self) -> MutexGuard<'_, State> {
        // What a panic left is whole: every change is one assignment after another that cannot fail.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn enter(&mut self, line: Arc<Line>) {
        self.line = Some(line);
        self.since = Some(Instant::now());
    }

    fn pause(&mut self, backoff: Backoff, now: Instant) {
        let pause = backoff.first.saturating_mul(1 << self.pauses.min(16)).min(backoff.max);
        self.pauses += 1;
        self.next_attempt = now.checked_add(pause);
    }
}

/// Trouble that may be over in a moment.
#[derive(Clone)]
enum Passing {
    NoListener(PathBuf),
    Timeout,
    Dropped,
    Refused(Refusal),
}

impl Passing {
    fn of(error: &ConnectError) -> Option<Self> {
        match error {
            ConnectError::NoListener { path } => Some(Self::NoListener(path.clone())),
            ConnectError::Timeout => Some(Self::Timeout),
            ConnectError::Dropped => Some(Self::Dropped),
            ConnectError::Refused(refusal @ (Refusal::Limit | Refusal::Resources)) => {
                Some(Self::Refused(*refusal))
            }
            _ => None,
        }
    }
}
