//! What the user of a pool writes, and what it is given.

use crate::connection::bell::Bell;
use crate::connection::member::{Event, Member, MemberId};
use crate::connection::roster::Roster;
use std::time::Instant;

/// Serves the members of one worker of a [`Pool`](crate::Pool).
///
/// Made on the worker's thread and never leaves it. It must not wait: a handler that does holds up all its members.
pub trait Handler {
    /// Takes what happened to a member.
    fn on_event(&mut self, member: &mut Member, event: Event<'_>);

    /// Called after every sweep that brought something, after a ring of the [`Bell`], and when
    /// [`wakes_at`](Self::wakes_at) has come; at times more often.
    fn on_turn(&mut self, members: &mut Members<'_>, now: Instant) {
        let _ = (members, now);
    }

    /// Says when [`on_turn`](Self::on_turn) must be called although nothing happens. A sleeping worker wakes up to a
    /// millisecond later.
    fn wakes_at(&self) -> Option<Instant> {
        None
    }

    /// Called once, when the pool is to end: finish what is in flight.
    fn on_shutdown(&mut self, members: &mut Members<'_>) {
        let _ = members;
    }

    /// Says, after [`on_shutdown`](Self::on_shutdown), whether nothing is in flight any more: then the worker ends.
    fn is_idle(&self) -> bool {
        true
    }
}

/// The members of one worker.
pub struct Members<'a> {
    roster: &'a mut Roster,
}

impl<'a> Members<'a> {
    pub(super) fn new(roster: &'a mut Roster) -> Self {
        Self { roster }
    }

    /// Lends the member of this name, if it is still there.
    ///
    /// # Cost
    /// Constant.
    pub fn get(&mut self, id: MemberId) -> Option<&mut Member> {
        self.roster.get(id)
    }

    /// Lends each member in turn, in the order of their seats.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = &mut Member> {
        self.roster.iter_mut()
    }

    /// Returns how many there are.
    pub fn len(&self) -> usize {
        self.roster.len()
    }

    /// Says whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// What a worker tells who makes its handler.
#[derive(Debug, Clone)]
pub struct WorkerContext {
    index: usize,
    bell: Bell,
}

impl WorkerContext {
    pub(super) fn new(index: usize, bell: Bell) -> Self {
        Self { index, bell }
    }

    /// Returns the number of the worker, counted from 0.
    pub fn index(&self) -> usize {
        self.index
    }

    /// Returns the bell by which other threads make the worker call [`Handler::on_turn`].
    pub fn bell(&self) -> &Bell {
        &self.bell
    }
}
