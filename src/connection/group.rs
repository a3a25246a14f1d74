//! A loop for many clients: a listener and the members that it brought, on one thread.

use super::bell::Bell;
use super::listener::Listener;
use super::member::{Event, Member, MemberId};
use super::roster::Roster;
use crate::error::AcceptError;
use std::io;
use std::time::Instant;

/// Serves all clients of a listener from one thread.
///
/// While messages come it sweeps the rings, a bounded number of messages from each; an idle ring costs at most one load.
/// When nothing comes it announces its sleep once, in its line of the endpoint segment, and sleeps for all at once.
/// [`Pool`](crate::Pool) does the same with several threads.
///
/// # Examples
/// ```no_run
/// use ringway::{Event, Group, Listener};
/// let mut group = Group::new(Listener::bind("echo")?)?;
/// loop {
///     group.turn(None, |member, event| {
///         if let Event::Message(bytes) = event {
///             let _ = member.sender().try_send(bytes);
///         }
///     })?;
/// }
/// # #[allow(unreachable_code)]
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Group {
    listener: Listener,
    roster: Roster,
    next_number: u64,
}

impl Group {
    /// Makes a group out of the clients that this listener will have.
    ///
    /// # Errors
    /// When the listener's 64 worker lines are all taken, or the process has no descriptors left.
    pub fn new(listener: Listener) -> io::Result<Self> {
        let roster = Roster::new(&listener)?;
        roster.watch_outside(listener.doorway())?;
        Ok(Self { listener, roster, next_number: 1 })
    }

    /// Returns how many members there are now.
    pub fn len(&self) -> usize {
        self.roster.len()
    }

    /// Says whether there is no member.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns the listener, for what it counts.
    pub fn listener(&self) -> &Listener {
        &self.listener
    }

    /// Returns what ends a [`turn`](Self::turn) from another thread.
    pub fn bell(&self) -> Bell {
        self.roster.bell().clone()
    }

    /// Lends the member of this name, if it is still there.
    pub fn member(&mut self, id: MemberId) -> Option<&mut Member> {
        self.roster.get(id)
    }

    /// Lends each member in turn, for sending to all.
    pub fn members(&mut self) -> impl Iterator<Item = &mut Member> {
        self.roster.iter_mut()
    }

    /// Sweeps once over all members and hands out what came; waits for something to come, at most until `deadline`.
    ///
    /// Returns the number of events; 0 when the deadline has passed or the [`bell`](Self::bell) was rung.
    ///
    /// # Errors
    /// [`AcceptError`]: the listener failed. A member that fails leaves, and that is an event.
    pub fn turn(
        &mut self,
        deadline: Option<Instant>,
        mut handle: impl FnMut(&mut Member, Event<'_>),
    ) -> Result<usize, AcceptError> {
        self.listener.check_owner()?;
        self.roster.be_patient();
        loop {
            let mut events = self.roster.sweep(&mut handle);
            // The handler may have forked: the child has events at most, and learns the rest at its next turn.
            if self.listener.check_owner().is_ok() {
                events += self.look_around(&mut handle)?;
            }
            if events > 0 || self.roster.take_rung() {
                return Ok(events);
            }
            if deadline.is_some_and(|deadline| Instant::now() >= deadline) {
                return Ok(0);
            }
            let Self { listener, roster, .. } = self;
            let until = listener.next_deadline().into_iter().chain(deadline).min();
            roster.rest(until, || listener.prepare()).map_err(os)?;
        }
    }

    /// Looks, now and then, after who has gone, and lets in who has come.
    fn look_around(&mut self, handle: &mut impl FnMut(&mut Member, Event<'_>)) -> Result<usize, AcceptError> {
        let now = Instant::now();
        self.roster.look_around(now).map_err(os)?;
        let is_due = self.listener.next_deadline().is_some_and(|until| now >= until);
        if !self.roster.take_outside() && !is_due {
            return Ok(0);
        }
        let mut joined = 0;
        while self.listener.check_owner().is_ok()
            && let Some(connection) = self.listener.drive()?
        {
            self.roster.join(connection, self.next_number, handle).map_err(os)?;
            self.next_number += 1;
            joined += 1;
        }
        Ok(joined)
    }
}

fn os(source: io::Error) -> AcceptError {
    AcceptError::Os { action: "wait for members", source }
}
