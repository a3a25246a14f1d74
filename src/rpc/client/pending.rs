//! Calls that were sent and are waited for later.

use super::blocking::Ticket;
use super::core::Line;
use super::response::Response;
use crate::error::CloseReason;
use crate::error::call::CallError;
use std::sync::Arc;
use std::time::Instant;

/// A call that is in flight; see [`CallBuilder::start`](super::CallBuilder::start).
///
/// One thread can have many of them, as many as the server accepts, and wait for them in any order. Dropping one cancels
/// its call.
#[must_use = "dropping it cancels the call"]
pub struct PendingCall {
    line: Arc<Line>,
    ticket: Ticket,
    deadline: Option<Instant>,
    over: bool,
}

impl PendingCall {
    pub(super) fn new(line: Arc<Line>, ticket: Ticket, deadline: Option<Instant>) -> Self {
        Self { line, ticket, deadline, over: false }
    }

    /// Waits for the response.
    ///
    /// # Errors
    /// As [`Client::call`](super::Client::call). A call that was lost is not made again, idempotent or not.
    pub fn wait(self) -> Result<Response, CallError> {
        let mut out = Vec::new();
        self.wait_into(&mut out)?;
        Ok(Response::new(out))
    }

    /// Waits for the response and puts it into `out`, whose memory is used again.
    ///
    /// # Errors
    /// As [`wait`](Self::wait); the content of `out` is arbitrary then.
    pub fn wait_into(mut self, out: &mut Vec<u8>) -> Result<(), CallError> {
        self.over = true;
        if !self.line.is_ours() {
            return Err(CallError::Lost { may_have_run: true, reason: CloseReason::Forked });
        }
        self.line.collect(self.line.hold(), self.ticket, self.deadline, out)
    }
}

impl Drop for PendingCall {
    fn drop(&mut self) {
        // In a child made by fork the lock may be held by a thread that is not there.
        if !self.over && self.line.is_ours() {
            let mut core = self.line.hold();
            core.give_up(self.ticket.id);
            core.leave(self.ticket.seat);
        }
    }
}
