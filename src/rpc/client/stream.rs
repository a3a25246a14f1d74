//! Streamed responses.

use super::blocking::Ticket;
use super::core::{Core, Line};
use crate::error::CloseReason;
use crate::error::call::CallError;
use std::sync::Arc;
use std::time::Instant;

/// A streamed response: an iterator over its parts, which waits for each.
///
/// It ends after the last part, or with an error. Parts that were not taken wait in this process, up to the window of the
/// call; the server waits when it is full. Dropping it before its end cancels the call.
#[must_use = "dropping it cancels the call"]
pub struct ResponseStream {
    line: Arc<Line>,
    ticket: Ticket,
    deadline: Option<Instant>,
    over: bool,
}

impl ResponseStream {
    pub(super) fn new(line: Arc<Line>, ticket: Ticket, deadline: Option<Instant>) -> Self {
        Self { line, ticket, deadline, over: false }
    }
}

impl Core {
    /// Takes the next part of a stream, or its end; something must be there.
    pub(crate) fn take_part(&mut self, ticket: Ticket) -> Option<Result<Vec<u8>, CallError>> {
        let Some(part) = self.seats.take_part(ticket.seat) else {
            return self.seats.collect(ticket.seat, &mut Vec::new()).err().map(Err);
        };
        if let Some(credit) = self.session.took(ticket.id, part.len()) {
            self.say(credit);
        }
        Some(Ok(part))
    }
}

impl Iterator for ResponseStream {
    type Item = Result<Vec<u8>, CallError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.over {
            return None;
        }
        if !self.line.is_ours() {
            self.over = true;
            return Some(Err(CallError::Lost { may_have_run: true, reason: CloseReason::Forked }));
        }
        let seat = self.ticket.seat;
        let core = self.line.hold();
        let (mut core, ready) = self.line.wait(core, seat, self.deadline, |core| core.seats.has_part(seat));
        let item = if ready {
            core.take_part(self.ticket)
        } else {
            core.give_up(self.ticket.id);
            Some(Err(CallError::Timeout { sent: true }))
        };
        if !matches!(item, Some(Ok(_))) {
            self.over = true;
            core.leave(seat);
        }
        item
    }
}

impl Drop for ResponseStream {
    fn drop(&mut self) {
        // In a child made by fork the lock may be held by a thread that is not there.
        if !self.over && self.line.is_ours() {
            let mut core = self.line.hold();
            core.give_up(self.ticket.id);
            core.leave(self.ticket.seat);
        }
    }
}
