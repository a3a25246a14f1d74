//! Waiting for several receivers at once in a task.

use super::super::bell::{Awaited, Bell, poll_until};
use super::receiver::failed;
use crate::broadcast::{Event, Receiver, Select as Blocking, SelectId};
use crate::connection::{Armed, Readiness};
use crate::error::CloseReason;
use crate::wait::{Sliced, Slices};
use std::future::poll_fn;
use std::io;

/// Several receivers, waited for at once by one task; see [`Select`](Blocking).
///
/// Tasks that wait for one receiver each need no set: a task costs little.
#[must_use]
pub struct Select {
    set: Blocking,
    bell: Bell,
}

impl Select {
    /// Makes an empty set.
    ///
    /// # Errors
    /// No descriptor is left, or no memory.
    pub fn new() -> io::Result<Self> {
        Blocking::new().map(Into::into)
    }

    /// Adds a receiver, and names it; see [`Select::add`](Blocking::add).
    ///
    /// # Errors
    /// As [`Select::add`](Blocking::add).
    pub fn add(&mut self, receiver: impl Into<Receiver>) -> io::Result<SelectId> {
        self.set.add(receiver.into())
    }

    /// Takes a receiver out.
    pub fn remove(&mut self, id: SelectId) -> Option<Receiver> {
        self.set.remove(id)
    }

    /// Lends a receiver of the set.
    pub fn get(&mut self, id: SelectId) -> Option<&mut Receiver> {
        self.set.get(id)
    }

    /// Returns how many receivers are in the set.
    pub fn len(&self) -> usize {
        self.set.len()
    }

    /// Says whether there is none.
    pub fn is_empty(&self) -> bool {
        self.set.is_empty()
    }

    /// Takes whatever happens next at any of them, waiting as long as it takes; see [`Select::next`](Blocking::next).
    ///
    /// # Errors
    /// As [`Select::next`](Blocking::next).
    /// # Cancel safety
    /// An event is taken when the future completes and not before: dropping it loses nothing.
    pub async fn next(&mut self) -> Result<(SelectId, Event<'_>), CloseReason> {
        let Self { set, bell } = self;
        let taken = poll_fn(|cx| {
            let polled = poll_until(bell, cx, set, |set| set.try_take_event().transpose());
            polled.map(|polled| polled.unwrap_or_else(|error| Err(failed(&error))))
        });
        let (id, taken) = taken.await?;
        Ok((id, set.event(id, taken)))
    }

    /// Takes whatever happened next at any of them, if anything; see [`Select::try_next`](Blocking::try_next).
    ///
    /// # Errors
    /// As [`Select::try_next`](Blocking::try_next).
    pub fn try_next(&mut self) -> Result<Option<(SelectId, Event<'_>)>, CloseReason> {
        self.set.try_next()
    }

    /// Gives the blocking form back.
    pub fn into_blocking(self) -> Blocking {
        self.set
    }
}

impl From<Blocking> for Select {
    fn from(set: Blocking) -> Self {
        Self { set, bell: Bell::default() }
    }
}

impl From<super::receiver::Receiver> for Receiver {
    fn from(receiver: super::receiver::Receiver) -> Self {
        receiver.into_blocking()
    }
}

impl Awaited for Blocking {
    fn readiness(&self) -> io::Result<Readiness> {
        Self::readiness(self)
    }

    fn arm(&mut self) -> Armed {
        Self::arm(self)
    }

    fn disarm(&mut self) {
        Self::disarm(self);
    }

    fn spin_slice(&mut self, slices: &mut Slices) -> Sliced {
        Self::spin_slice(self, slices)
    }
}
