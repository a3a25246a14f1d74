//! Several receivers, waited for at once.

use super::peer::Event;
use super::receiver::{Receiver, TakenEvent};
use crate::connection::{Armed, Readiness};
use crate::error::CloseReason;
use crate::sys;
use crate::wait::{Spinner, Spun, Wait, pause};
use std::fmt;
use std::io;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

/// Several receivers, of routes and channels, waited for at once by one thread.
///
/// Each is asked in turn, so none is starved. The descriptor of the set stands for all of them.
///
/// # Examples
/// ```
/// use ringway::{Route, broadcast::{Event, Select}};
/// # let directory = std::env::temp_dir().join(format!("ringway-doc-select-{}", std::process::id()));
/// # let (ticks, news) = (directory.join("ticks"), directory.join("news"));
/// # let (ticks, news) = (ticks.to_str().unwrap(), news.to_str().unwrap());
/// let mut select = Select::new()?;
/// let of_ticks = select.add(Route::receiver(ticks)?)?;
/// let of_news = select.add(Route::receiver(news)?)?;
/// let mut sender = Route::sender(news)?;
/// sender.send(b"good")?;
/// loop {
///     let (id, event) = select.next()?;
///     if let Event::Message(message) = event {
///         assert_eq!((id, &*message), (of_news, &b"good"[..]));
///         break;
///     }
/// }
/// # drop((sender, select));
/// # std::fs::remove_dir(directory)?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Select {
    receivers: Vec<Option<Receiver>>,
    /// Whose turn it is to be asked first.
    turn: usize,
    epoll: sys::Epoll,
    spinner: Option<Spinner>,
    owner: sys::ForkToken,
    armed: bool,
}

/// Names a receiver of a [`Select`]: a small number, given to another receiver only after this one was removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SelectId(usize);

impl Select {
    /// Makes an empty set.
    ///
    /// # Errors
    /// No descriptor is left.
    pub fn new() -> io::Result<Self> {
        let (epoll, owner) = (sys::Epoll::new()?, sys::ForkToken::current()?);
        Ok(Self { receivers: Vec::new(), turn: 0, epoll, spinner: None, owner, armed: false })
    }

    /// Puts a receiver into the set. How the set waits is how its first receiver does.
    ///
    /// # Errors
    /// It cannot be waited for; it is dropped.
    pub fn add(&mut self, receiver: Receiver) -> io::Result<SelectId> {
        if !self.owner.is_current() {
            return Err(io::ErrorKind::Unsupported.into());
        }
        let free = self.receivers.iter().position(Option::is_none);
        let at = free.unwrap_or(self.receivers.len());
        self.epoll.watch(receiver.set().as_fd(), at as u64)?;
        self.spinner.get_or_insert_with(|| receiver.spinner().clone());
        if free.is_none() {
            self.receivers.push(None);
        }
        self.receivers[at] = Some(receiver);
        Ok(SelectId(at))
    }

    /// Takes a receiver out of the set.
    pub fn remove(&mut self, id: SelectId) -> Option<Receiver> {
        let receiver = self.receivers.get_mut(id.0)?.take()?;
        // A child made by fork shares the set of its parent.
        if self.owner.is_current() {
            self.epoll.unwatch(receiver.set().as_fd());
        }
        Some(receiver)
    }

    /// Lends a receiver of the set; any of its verbs may be used.
    pub fn get(&mut self, id: SelectId) -> Option<&mut Receiver> {
        self.receivers.get_mut(id.0)?.as_mut()
    }

    /// Returns how many receivers there are.
    pub fn len(&self) -> usize {
        self.receivers.iter().flatten().count()
    }

    /// Says whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns what happened to one of the receivers, if anything has.
    ///
    /// # Errors
    /// As [`Receiver::try_next`]; [`remove`](Self::remove) that receiver: [`get`](Self::get) shows which it is.
    pub fn try_next(&mut self) -> Result<Option<(SelectId, Event<'_>)>, CloseReason> {
        let taken = self.try_take_event()?;
        Ok(taken.map(|(id, taken)| (id, self.event(id, taken))))
    }

    /// Returns what happens next to one of the receivers, waiting as long as it takes; for ever if there are none.
    ///
    /// # Errors
    /// As [`try_next`](Self::try_next).
    #[expect(clippy::should_implement_trait, reason = "what it returns borrows the set")]
    pub fn next(&mut self) -> Result<(SelectId, Event<'_>), CloseReason> {
        match self.take_event_until(None)? {
            Some((id, taken)) => Ok((id, self.event(id, taken))),
            None => unreachable!("invariant: no deadline was given"),
        }
    }

    /// Returns what happens next to one of the receivers, waiting for at most `timeout`; `None`: nothing has.
    ///
    /// # Errors
    /// As [`try_next`](Self::try_next).
    pub fn next_timeout(&mut self, timeout: Duration) -> Result<Option<(SelectId, Event<'_>)>, CloseReason> {
        let taken = self.take_event_until(Instant::now().checked_add(timeout))?;
        Ok(taken.map(|(id, taken)| (id, self.event(id, taken))))
    }

    /// Makes a descriptor to wait on for all of the receivers, in a reactor of any kind; the contract is that of
    /// [`Receiver::readiness`].
    ///
    /// # Errors
    /// No descriptor is left.
    pub fn readiness(&self) -> io::Result<Readiness> {
        self.epoll.share().map(Readiness)
    }

    /// Announces a sleep to all senders of all receivers, and looks once more; see [`readiness`](Self::readiness).
    pub fn arm(&mut self) -> Armed {
        if self.armed {
            self.disarm();
        }
        if self.is_ready() {
            return Armed::Ready;
        }
        self.receivers.iter_mut().flatten().for_each(Receiver::lie_down);
        // One barrier for all: the strongest that any of them needs.
        if let Some(receiver) = self.receivers.iter().flatten().max_by_key(|receiver| receiver.barrier_kind())
        {
            receiver.barrier();
        }
        if self.receivers.iter_mut().flatten().all(Receiver::settle) {
            self.armed = true;
            return Armed::Wait;
        }
        self.receivers.iter_mut().flatten().for_each(Receiver::rise);
        Armed::Ready
    }

    /// Takes the announcement back and drains the doorbells; see [`readiness`](Self::readiness).
    pub fn disarm(&mut self) {
        if std::mem::take(&mut self.armed) {
            self.receivers.iter_mut().flatten().for_each(Receiver::disarm);
        }
    }

    /// Takes what happened to one of the receivers; [`event`](Self::event) shows it until the next is taken.
    pub(crate) fn try_take_event(&mut self) -> Result<Option<(SelectId, TakenEvent)>, CloseReason> {
        for _ in 0..self.receivers.len() {
            let at = self.turn;
            let taken = match self.receivers.get_mut(at) {
                Some(Some(receiver)) => receiver.try_take_event(),
                _ => Ok(None),
            };
            self.turn = if at + 1 < self.receivers.len() { at + 1 } else { 0 };
            if let Some(taken) = taken? {
                return Ok(Some((SelectId(at), taken)));
            }
        }
        Ok(None)
    }

    /// Shows the event that was taken last.
    pub(crate) fn event(&self, id: SelectId, taken: TakenEvent) -> Event<'_> {
        match &self.receivers[id.0] {
            Some(receiver) => receiver.event(taken),
            None => unreachable!("invariant: it was taken from this receiver just now"),
        }
    }

    #[cfg(feature = "tokio")]
    pub(crate) fn take_spinner(&mut self) -> Option<Spinner> {
        self.spinner.take()
    }

    #[cfg(feature = "tokio")]
    pub(crate) fn set_spinner(&mut self, spinner: Spinner) {
        self.spinner = Some(spinner);
    }

    pub(crate) fn is_ready(&self) -> bool {
        self.receivers.iter().flatten().any(Receiver::is_ready)
    }

    fn take_event_until(
        &mut self,
        deadline: Option<Instant>,
    ) -> Result<Option<(SelectId, TakenEvent)>, CloseReason> {
        let mut waited = false;
        loop {
            if let Some(taken) = self.try_take_event()? {
                return Ok(Some(taken));
            }
            if waited && deadline.is_some_and(|deadline| Instant::now() >= deadline) {
                return Ok(None);
            }
            waited = true;
            self.wait(deadline)?;
        }
    }

    fn wait(&mut self, deadline: Option<Instant>) -> Result<(), CloseReason> {
        let patience = self.receivers.iter_mut().flatten().filter_map(Receiver::patience_due).max();
        pause(patience.unwrap_or(0));
        if let Some(mut spinner) = self.spinner.take() {
            let count = self.receivers.len();
            let spun = spinner.spin_over(count, deadline, patience.is_some(), || self.is_ready());
            let never_sleeps = spinner.wait() == Wait::Spin;
            self.spinner = Some(spinner);
            if spun != Spun::Exhausted || never_sleeps {
                return Ok(());
            }
        }
        if self.arm() == Armed::Ready {
            return Ok(());
        }
        let timeout = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
        let slept = self.epoll.wait(timeout).map(drop);
        self.disarm();
        slept.map_err(|error| CloseReason::Os { errno: error.raw_os_error().unwrap_or(0) })
    }
}

impl fmt::Debug for Select {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Select").field("receivers", &self.len()).finish_non_exhaustive()
    }
}
