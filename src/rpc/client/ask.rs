//! What is asked, apart from the body.

use crate::proto::call::{Frame, PRELUDE_BYTES, Request};
use crate::proto::frame::HEADER_BYTES;
use std::time::Instant;

/// A request or a one-way message, apart from its body.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ask {
    pub(crate) message_type: u16,
    /// No answer is expected.
    pub(crate) one_way: bool,
    /// Overtakes those that wait to be sent.
    pub(crate) priority: bool,
    /// Is made again if it is not known whether it ran.
    pub(crate) idempotent: bool,
    /// Bytes of a streamed response that may come before credit is given.
    pub(crate) window: Option<u32>,
    /// When it began, if that was asked for: reading the clock takes time.
    pub(crate) began: Option<Instant>,
    /// When it ends, answered or not.
    pub(crate) deadline: Option<Instant>,
}

impl Ask {
    /// Says whether it counts as a call in flight.
    #[inline]
    pub(crate) fn needs_place(&self) -> bool {
        !self.one_way
    }

    /// Returns the bytes of its frame.
    #[inline]
    pub(crate) fn frame_bytes(&self, body: &[u8]) -> usize {
        HEADER_BYTES + body.len() + if self.one_way { 0 } else { PRELUDE_BYTES }
    }

    /// Returns its frame.
    #[inline]
    pub(crate) fn frame<'a>(&self, id: u64, body: &'a [u8]) -> Frame<'a> {
        let message_type = self.message_type;
        if self.one_way {
            return Frame::OneWay { message_type, body };
        }
        Frame::Request(Request {
            id,
            message_type,
            priority: self.priority,
            timeout_us: self.began.zip(self.deadline).map_or(0, |(began, deadline)| micros(began, deadline)),
            window: self.window,
            body,
        })
    }
}

/// Returns the time left as it travels: 0 means no limit.
fn micros(now: Instant, deadline: Instant) -> u32 {
    let left = deadline.saturating_duration_since(now).as_micros();
    u32::try_from(left).map_or(0, |left| left.max(1))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn time_left_is_never_taken_for_no_limit() {
        let now = Instant::now();
        assert_eq!(micros(now, now), 1);
        assert_eq!(micros(now, now + Duration::from_millis(3)), 3_000);
        assert_eq!(micros(now, now + Duration::from_secs(1 << 20)), 0, "twelve days: as good as none");
    }
}
