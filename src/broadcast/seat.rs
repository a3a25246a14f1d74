//! A place in the tables that monitors see.

use crate::connection::endpoint::Ticket;
use crate::connection::talk::Trouble;
use crate::error::Refusal;
use crate::metrics::{Slot, SlotKind};
use crate::sys;

/// A place in the tables that monitors see; dropping it gives it back.
pub(crate) struct Seat {
    slot: Slot,
    ticket: Option<Ticket>,
    owner: sys::ForkToken,
}

impl Seat {
    /// Takes a place for somebody.
    pub(super) fn take(ticket: Option<Ticket>, pid: u32, kind: SlotKind) -> Result<Self, Trouble> {
        let ticket = ticket.ok_or(Refusal::Limit)?;
        let owner = sys::ForkToken::current().map_err(|error| Trouble::Os("set up the fork check", error))?;
        let slot = ticket.slot(pid).map_err(|error| Trouble::Os("make a statistics slot", error))?;
        slot.set_kind(kind);
        Ok(Self { slot, ticket: Some(ticket), owner })
    }

    pub(super) fn slot(&self) -> &Slot {
        &self.slot
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        // In a child made by fork the slot is not mapped, and it is the parent's to clear.
        if self.owner.is_current() {
            self.slot.clear();
        } else {
            // The lock of the tables may have been held by another thread when the process forked.
            std::mem::forget(self.ticket.take());
        }
    }
}
