//! Where the last messages begin, for those who come late.

use crate::ring::Producer;
use std::collections::VecDeque;

/// Positions of the last messages, each a record boundary.
pub(super) struct History {
    starts: VecDeque<u64>,
    messages_max: usize,
    /// The last one is being sent in fragments, and not complete.
    is_begun: bool,
}

impl History {
    pub(super) fn new(messages_max: u32, ring_bytes: u64) -> Self {
        // More than that no ring holds.
        let messages_max = u64::from(messages_max).min(ring_bytes / RECORD_BYTES_MIN) as usize;
        // Memory for all of it now, so that no send allocates.
        Self { starts: VecDeque::with_capacity(messages_max), messages_max, is_begun: false }
    }

    /// Says whether messages are kept for those who come late.
    pub(super) fn is_kept(&self) -> bool {
        self.messages_max > 0
    }

    /// Takes note of where a message begins.
    #[inline(always)]
    pub(super) fn note(&mut self, start: u64) {
        if self.messages_max > 0 {
            self.push(start);
        }
    }

    /// Takes note of where a message begins that is sent in fragments.
    pub(super) fn begin(&mut self, start: u64) {
        self.note(start);
        self.is_begun = true;
    }

    /// The message that was begun is complete.
    pub(super) fn complete(&mut self) {
        self.is_begun = false;
    }

    fn push(&mut self, start: u64) {
        if self.starts.len() == self.messages_max {
            self.starts.pop_front();
        }
        self.starts.push_back(start);
    }

    /// Takes back the last note: that message was begun and is given up.
    pub(super) fn forget_last(&mut self) {
        self.starts.pop_back();
        self.is_begun = false;
    }

    /// Returns where a receiver starts that wants so many messages of the past, and how many of those that were completed
    /// it gets.
    pub(super) fn start(&self, wanted: u32, producer: &Producer) -> (u64, u64) {
        let kept = self.starts.iter().rev().take(wanted as usize);
        let held = kept.take_while(|start| producer.holds(**start));
        let (start, count) = held.fold((producer.tail(), 0_u64), |(_, count), start| (*start, count + 1));
        (start, if self.is_begun { count.saturating_sub(1) } else { count })
    }
}

/// An empty message is a header.
const RECORD_BYTES_MIN: u64 = 8;
