//! The answering side of one connection: who may ask what, which calls are in flight, how far their streams may go.

use super::{Due, Frame, PART_BYTES_MIN, Request, SILENT_INTERVALS, Settings};
use crate::error::call::FrameError;
use crate::proto::frame::{Codec, Header};
use std::collections::HashMap;

/// One connection of a server. `T` is what the server keeps for a call in flight.
pub(crate) struct ServerSession<T> {
    codec: Codec,
    own: Settings,
    /// The client has said what it wants.
    settled: bool,
    /// Calls that were not answered at once.
    calls: HashMap<u64, Flight<T>>,
    /// The client said something since the last beat; beats since it said something.
    heard: bool,
    silent: u32,
}

struct Flight<T> {
    /// Bytes that may still be streamed; a part may go beyond, the next one waits. `None`: one response is expected.
    window: Option<i64>,
    call: T,
}

/// What a message of the client means for the server.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Heard<'a> {
    /// Run this.
    Request(Request<'a>),
    /// Run this, and answer nothing.
    OneWay { message_type: u16, body: &'a [u8] },
    /// Say this.
    Answer(Frame<'static>),
    /// This call is wanted no more.
    Cancel { id: u64 },
    /// The window of this call, which was shut, is open again.
    Opened { id: u64 },
    /// Nothing to do.
    Nothing,
}

/// Why a call cannot go on beside others.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Refused {
    /// As many are in flight as the settings allow.
    TooMany { calls_max: u32 },
    /// The client broke the protocol.
    Violation(FrameError),
}

impl<T> ServerSession<T> {
    /// Begins a connection; say [`settings`](Self::settings) first.
    pub(crate) fn new(own: Settings) -> Self {
        Self { codec: Codec::new(), own, settled: false, calls: HashMap::new(), heard: true, silent: 0 }
    }

    /// Returns how frames are written now.
    #[inline]
    pub(crate) fn codec(&self) -> Codec {
        self.codec
    }

    /// Understands a message.
    ///
    /// # Errors
    /// [`FrameError`]: the client broke the protocol; close the connection.
    #[inline]
    pub(crate) fn hear<'a>(&mut self, message: &'a [u8]) -> Result<Heard<'a>, FrameError> {
        self.heard = true;
        let (header, payload) = self.codec.read(message)?;
        match Frame::parse(&header, payload)? {
            Frame::Request(request) => Ok(Heard::Request(request)),
            Frame::OneWay { message_type, body } => Ok(Heard::OneWay { message_type, body }),
            frame => self.hear_control(&header, &frame),
        }
    }

    #[cold]
    fn hear_control(&mut self, header: &Header, frame: &Frame<'_>) -> Result<Heard<'static>, FrameError> {
        match *frame {
            Frame::Settings(_) if self.settled => Err(FrameError::Turn { id: header.id }),
            Frame::Settings(theirs) => {
                self.settled = true;
                // From here on: what is still under way to us was written by a client that had not heard ours yet, but
                // checking less is never wrong.
                self.codec.checksum = !(theirs.without_checksum && self.own.without_checksum);
                Ok(Heard::Nothing)
            }
            Frame::Cancel { id } => {
                let known = self.calls.contains_key(&id);
                Ok(if known { Heard::Cancel { id } } else { Heard::Nothing })
            }
            Frame::Credit { id, bytes } => self.open(id, bytes),
            Frame::Ping { id } => Ok(Heard::Answer(Frame::Pong { id })),
            Frame::Pong { .. } => Ok(Heard::Nothing),
            // Only a client can say the others.
            _ => Err(FrameError::Turn { id: header.id }),
        }
    }

    fn open(&mut self, id: u64, bytes: u32) -> Result<Heard<'static>, FrameError> {
        // A call that has ended meanwhile is no mistake of the client.
        let Some(flight) = self.calls.get_mut(&id) else { return Ok(Heard::Nothing) };
        let window = flight.window.as_mut().ok_or(FrameError::Turn { id })?;
        let was_shut = *window <= 0;
        *window = window.saturating_add(bytes.into());
        Ok(if was_shut && *window > 0 { Heard::Opened { id } } else { Heard::Nothing })
    }

    /// Says whether a call with this id may be in flight beside the others.
    pub(crate) fn may_begin(&self, id: u64) -> Result<(), Refused> {
        if self.calls.contains_key(&id) {
            return Err(Refused::Violation(FrameError::Turn { id }));
        }
        if self.calls.len() >= self.own.calls_max as usize {
            return Err(Refused::TooMany { calls_max: self.own.calls_max });
        }
        Ok(())
    }

    /// Notes a call that [may begin](Self::may_begin) and will be answered later.
    pub(crate) fn begin(&mut self, request: &Request<'_>, call: T) {
        let window = request.window.map(i64::from);
        self.calls.insert(request.id, Flight { window, call });
    }

    /// Finds a call in flight.
    pub(crate) fn call_mut(&mut self, id: u64) -> Option<&mut T> {
        self.calls.get_mut(&id).map(|flight| &mut flight.call)
    }

    /// Ends a call: it was answered, cancelled or given up.
    pub(crate) fn end(&mut self, id: u64) -> Option<T> {
        self.calls.remove(&id).map(|flight| flight.call)
    }

    /// Says whether this call is answered in parts.
    pub(crate) fn expects_parts(&self, id: u64) -> bool {
        self.calls.get(&id).is_some_and(|flight| flight.window.is_some())
    }

    /// Says whether the stream of this call may be given another part.
    pub(crate) fn may_stream(&self, id: u64) -> bool {
        self.calls.get(&id).and_then(|flight| flight.window).is_some_and(|window| window > 0)
    }

    /// Takes a part of this many bytes out of the window.
    pub(crate) fn charge(&mut self, id: u64, bytes: usize) {
        if let Some(window) = self.calls.get_mut(&id).and_then(|flight| flight.window.as_mut()) {
            let cost = u32::try_from(bytes).unwrap_or(u32::MAX).max(PART_BYTES_MIN);
            *window -= i64::from(cost);
        }
    }

    /// Returns the ids of the calls in flight.
    pub(crate) fn ids(&self) -> Vec<u64> {
        self.calls.keys().copied().collect()
    }

    /// Notes that an interval of the heartbeat has passed.
    pub(crate) fn beat(&mut self) -> Due {
        self.silent = if std::mem::take(&mut self.heard) { 0 } else { self.silent + 1 };
        match self.silent {
            0 => Due::Nothing,
            SILENT_INTERVALS.. => Due::Dead,
            _ => Due::Ping,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::frame::HEADER_BYTES;

    const OWN: Settings = Settings { without_checksum: true, calls_max: 2 };

    fn session() -> ServerSession<char> {
        ServerSession::new(OWN)
    }

    fn bytes(codec: Codec, frame: &Frame<'_>) -> Vec<u8> {
        let (head, body) = frame.head();
        let mut out = vec![0; HEADER_BYTES + head.prelude().len() + body.len()];
        codec.write(&mut out, &head.header, head.prelude(), body);
        out
    }

    fn hear<R>(
        session: &mut ServerSession<char>,
        frame: &Frame<'_>,
        look: impl FnOnce(Result<Heard<'_>, FrameError>) -> R,
    ) -> R {
        let message = bytes(Codec::new(), frame);
        look(session.hear(&message))
    }

    fn request(id: u64, window: Option<u32>) -> Request<'static> {
        Request { id, message_type: 1, priority: false, timeout_us: 0, window, body: b"question" }
    }

    #[test]
    fn a_request_is_handed_out_as_it_came() {
        let asked = request(5, None);
        hear(&mut session(), &Frame::Request(asked), |heard| assert_eq!(heard, Ok(Heard::Request(asked))));
        let note = Frame::OneWay { message_type: 3, body: b"note" };
        hear(&mut session(), &note, |heard| {
            assert_eq!(heard, Ok(Heard::OneWay { message_type: 3, body: b"note" }));
        });
    }

    #[test]
    fn calls_beside_each_other_are_limited_and_have_ids_of_their_own() {
        let mut session = session();
        session.begin(&request(1, None), 'a');
        let twice = Refused::Violation(FrameError::Turn { id: 1 });
        assert_eq!(session.may_begin(1), Err(twice));
        session.begin(&request(2, None), 'b');
        assert_eq!(session.may_begin(3), Err(Refused::TooMany { calls_max: 2 }));
        assert_eq!(session.end(1), Some('a'));
        assert_eq!(session.may_begin(3), Ok(()));
        session.begin(&request(3, None), 'c');
        assert_eq!(session.end(1), None);
    }

    #[test]
    fn a_stream_waits_for_its_window() {
        let mut session = session();
        session.begin(&request(1, Some(100)), 'a');
        assert!(session.may_stream(1));
        session.charge(1, 99);
        assert!(session.may_stream(1), "one byte is left, so one part may go beyond");
        session.charge(1, 0);
        assert!(!session.may_stream(1), "an empty part costs something too");
        let credit = |bytes| Frame::Credit { id: 1, bytes };
        hear(&mut session, &credit(63), |heard| assert_eq!(heard, Ok(Heard::Nothing)));
        assert!(!session.may_stream(1));
        hear(&mut session, &credit(1), |heard| assert_eq!(heard, Ok(Heard::Opened { id: 1 })));
        assert!(session.may_stream(1));
        hear(&mut session, &credit(u32::MAX), |heard| assert_eq!(heard, Ok(Heard::Nothing)));
        hear(&mut session, &Frame::Credit { id: 9, bytes: 1 }, |heard| assert_eq!(heard, Ok(Heard::Nothing)));
    }

    #[test]
    fn credit_for_a_call_without_a_stream_is_a_violation() {
        let mut session = session();
        session.begin(&request(1, None), 'a');
        let credit = Frame::Credit { id: 1, bytes: 1 };
        hear(&mut session, &credit, |heard| assert_eq!(heard, Err(FrameError::Turn { id: 1 })));
        assert!(!session.may_stream(1));
    }

    #[test]
    fn only_calls_in_flight_can_be_cancelled() {
        let mut session = session();
        session.begin(&request(1, None), 'a');
        hear(&mut session, &Frame::Cancel { id: 2 }, |heard| assert_eq!(heard, Ok(Heard::Nothing)));
        hear(&mut session, &Frame::Cancel { id: 1 }, |heard| assert_eq!(heard, Ok(Heard::Cancel { id: 1 })));
    }

    #[test]
    fn a_ping_is_answered_with_its_id() {
        let pong = Heard::Answer(Frame::Pong { id: 77 });
        hear(&mut session(), &Frame::Ping { id: 77 }, |heard| assert_eq!(heard, Ok(pong)));
    }

    #[test]
    fn a_client_that_says_nothing_is_pinged_and_then_counts_as_dead() {
        let mut session = session();
        assert_eq!(session.beat(), Due::Nothing, "it has just come");
        assert_eq!([session.beat(), session.beat()], [Due::Ping, Due::Ping]);
        hear(&mut session, &Frame::Pong { id: 0 }, |heard| assert_eq!(heard, Ok(Heard::Nothing)));
        assert_eq!([session.beat(), session.beat(), session.beat()], [Due::Nothing, Due::Ping, Due::Ping]);
        assert_eq!(session.beat(), Due::Dead);
    }

    #[test]
    fn checksums_stop_only_when_both_sides_agree() {
        for (theirs, checksum) in [(true, false), (false, true)] {
            let mut session = session();
            let settings = Settings { without_checksum: theirs, calls_max: 0 };
            hear(&mut session, &Frame::Settings(settings), |heard| assert_eq!(heard, Ok(Heard::Nothing)));
            assert_eq!(session.codec().checksum, checksum);
            let mut message = bytes(Codec::new(), &Frame::Request(request(1, None)));
            *message.last_mut().unwrap() ^= 1;
            assert_eq!(session.hear(&message).is_err(), checksum);
        }
    }

    #[test]
    fn settings_come_once_and_answers_never() {
        let mut session = session();
        let settings = Frame::Settings(OWN);
        hear(&mut session, &settings, |heard| assert!(heard.is_ok()));
        for wrong in [settings, Frame::GoingAway, Frame::Response { id: 1, last: true, body: b"" }] {
            hear(&mut session, &wrong, |heard| assert!(matches!(heard, Err(FrameError::Turn { .. }))));
        }
    }
}
