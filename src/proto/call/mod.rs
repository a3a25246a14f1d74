//! Calls over frames: what the two sides of a connection say to each other.
//!
//! Requests and responses are told apart by the flags of the frame; a frame with both flags is said to the protocol
//! itself. A connection begins with [`Settings`] from each side; nobody waits for them.
//!
//! | flags | payload |
//! |---|---|
//! | none: one-way | the body |
//! | request | time left in us (u32, 0: no limit), stream window in bytes (u32, 0: no stream), the body |
//! | response | the body; with `STREAMING` a part. The last response to a streamed request is empty: the end |
//! | response, type `0xFFFF` | code (u32), reserved (u32), text in UTF-8: the call failed |
//! | both, type 1: settings | see [`Settings`] |
//! | both, type 2: cancel | nothing; the id says which call |
//! | both, type 3: credit | bytes (u32) by which the window of the stream opens |
//! | both, type 4 and 5: ping, pong | nothing; the pong has the id of the ping |
//! | both, type 6: going away | nothing; no new requests, those in flight are answered |
//!
//! The types from `0xFF00` on belong to the protocol.
//!
//! Ids of requests grow. A part of a stream costs as many bytes of the window as it has, 64 at least; while the window is
//! open at all, a part may go beyond it. A call that was cancelled counts as in flight no more; it may be answered or
//! not, and the answer may also have crossed the cancel, so the client lets it pass.

pub(crate) mod client;
pub(crate) mod server;

use super::frame::{Header, flag};
use crate::error::call::FrameError;

/// First message type that an application cannot use.
pub(crate) const TYPE_RESERVED: u16 = 0xFF00;
const TYPE_FAILED: u16 = 0xFFFF;
/// Bytes before the body of a request.
pub(crate) const PRELUDE_BYTES: usize = 8;
/// Calls that a client may have in flight before the server has said how many.
pub(crate) const CALLS_MAX_UNTOLD: u32 = 32;
/// What a part of a streamed response costs at least, so that empty parts are limited too.
pub(crate) const PART_BYTES_MIN: u32 = 64;
/// Intervals without a word after which the other side counts as dead; a ping is sent after the first.
pub(crate) const SILENT_INTERVALS: u32 = 3;
const SETTINGS_BYTES: usize = 16;
const PROTOCOL_VERSION: u32 = 1;

mod control {
    pub(super) const SETTINGS: u16 = 1;
    pub(super) const CANCEL: u16 = 2;
    pub(super) const CREDIT: u16 = 3;
    pub(super) const PING: u16 = 4;
    pub(super) const PONG: u16 = 5;
    pub(super) const GOING_AWAY: u16 = 6;
}

/// What the time that has passed means for a connection with a heartbeat.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Due {
    /// Say this.
    Ping,
    /// The other side counts as dead.
    Dead,
    /// Nothing to do.
    Nothing,
}

/// What one side tells the other first.
///
/// 16 bytes: protocol version (u32, 1), bits (u32; bit 0: content without checksums), calls in flight that the sender
/// of this accepts (u32), reserved (u32, 0).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Settings {
    /// The sender of this does without checksums if the other side does too. From its own settings on a side that has
    /// seen such settings of the other leaves them out; from the other's settings on it does not look at them.
    pub(crate) without_checksum: bool,
    /// Calls in flight that the sender of this accepts; 0 from a client.
    pub(crate) calls_max: u32,
}

/// A frame that was understood.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Frame<'a> {
    OneWay { message_type: u16, body: &'a [u8] },
    Request(Request<'a>),
    Response { id: u64, last: bool, body: &'a [u8] },
    Failed { id: u64, code: u32, text: &'a [u8] },
    Settings(Settings),
    Cancel { id: u64 },
    Credit { id: u64, bytes: u32 },
    Ping { id: u64 },
    Pong { id: u64 },
    GoingAway,
}

/// A request as it travels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Request<'a> {
    pub(crate) id: u64,
    pub(crate) message_type: u16,
    pub(crate) priority: bool,
    /// Time left when it was sent; 0: no limit.
    pub(crate) timeout_us: u32,
    /// Bytes of a streamed response that may come before credit is given; `None`: one response is expected.
    pub(crate) window: Option<u32>,
    pub(crate) body: &'a [u8],
}

/// Header and prelude of a frame; the body follows.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Head {
    pub(crate) header: Header,
    prelude: [u8; SETTINGS_BYTES],
    prelude_bytes: usize,
}

impl Head {
    fn new(flags: u8, message_type: u16, id: u64, prelude: &[u8]) -> Self {
        let mut bytes = [0; SETTINGS_BYTES];
        bytes[..prelude.len()].copy_from_slice(prelude);
        let header = Header { flags, message_type, id };
        Self { header, prelude: bytes, prelude_bytes: prelude.len() }
    }

    /// Returns what stands between the header and the body.
    pub(crate) fn prelude(&self) -> &[u8] {
        &self.prelude[..self.prelude_bytes]
    }
}

impl<'a> Frame<'a> {
    /// Understands a frame that the codec has checked.
    ///
    /// # Errors
    /// [`FrameError::Control`], [`FrameError::Payload`]: no side that keeps the protocol sends this.
    #[inline]
    pub(crate) fn parse(header: &Header, payload: &'a [u8]) -> Result<Self, FrameError> {
        let Header { flags, message_type, id } = *header;
        match (flags & flag::REQUEST != 0, flags & flag::RESPONSE != 0) {
            (true, false) => Request::parse(header, payload).map(Self::Request),
            (false, true) if message_type == TYPE_FAILED => {
                let ([code, _reserved], text) = take_words(header, payload)?;
                Ok(Self::Failed { id, code, text })
            }
            (false, true) => Ok(Self::Response { id, last: flags & flag::STREAMING == 0, body: payload }),
            (false, false) if message_type < TYPE_RESERVED => {
                Ok(Self::OneWay { message_type, body: payload })
            }
            (false, false) => Err(FrameError::Control { code: message_type }),
            (true, true) => Self::parse_control(header, payload),
        }
    }

    fn parse_control(header: &Header, payload: &[u8]) -> Result<Self, FrameError> {
        let id = header.id;
        let (frame, used) = match header.message_type {
            control::SETTINGS => (Self::Settings(Settings::parse(header, payload)?), SETTINGS_BYTES),
            control::CANCEL => (Self::Cancel { id }, 0),
            control::CREDIT => {
                let ([bytes], _) = take_words(header, payload)?;
                (Self::Credit { id, bytes }, 4)
            }
            control::PING => (Self::Ping { id }, 0),
            control::PONG => (Self::Pong { id }, 0),
            control::GOING_AWAY => (Self::GoingAway, 0),
            code => return Err(FrameError::Control { code }),
        };
        if payload.len() == used { Ok(frame) } else { Err(unfit(header, payload)) }
    }

    /// Returns what precedes the body of this frame on its way, and the body.
    #[inline]
    pub(crate) fn head(&self) -> (Head, &'a [u8]) {
        let control = flag::REQUEST | flag::RESPONSE;
        let bare = |code, id| (Head::new(control, code, id, &[]), &[][..]);
        match *self {
            Self::OneWay { message_type, body } => (Head::new(0, message_type, 0, &[]), body),
            Self::Request(request) => (request.head(), request.body),
            Self::Response { id, last, body } => {
                let flags = flag::RESPONSE | if last { 0 } else { flag::STREAMING };
                (Head::new(flags, 0, id, &[]), body)
            }
            Self::Failed { id, code, text } => {
                let prelude = u64::from(code).to_le_bytes();
                (Head::new(flag::RESPONSE, TYPE_FAILED, id, &prelude), text)
            }
            Self::Settings(settings) => (settings.head(control), &[][..]),
            Self::Cancel { id } => bare(control::CANCEL, id),
            Self::Credit { id, bytes } => {
                (Head::new(control, control::CREDIT, id, &bytes.to_le_bytes()), &[][..])
            }
            Self::Ping { id } => bare(control::PING, id),
            Self::Pong { id } => bare(control::PONG, id),
            Self::GoingAway => bare(control::GOING_AWAY, 0),
        }
    }
}

impl<'a> Request<'a> {
    fn parse(header: &Header, payload: &'a [u8]) -> Result<Self, FrameError> {
        if header.message_type >= TYPE_RESERVED {
            return Err(FrameError::Control { code: header.message_type });
        }
        let ([timeout_us, window], body) = take_words(header, payload)?;
        let streaming = header.flags & flag::STREAMING != 0;
        Ok(Self {
            id: header.id,
            message_type: header.message_type,
            priority: header.flags & flag::PRIORITY != 0,
            timeout_us,
            window: streaming.then_some(window),
            body,
        })
    }

    fn head(&self) -> Head {
        let mut flags = flag::REQUEST;
        if self.priority {
            flags |= flag::PRIORITY;
        }
        if self.window.is_some() {
            flags |= flag::STREAMING;
        }
        let prelude = u64::from(self.timeout_us) | u64::from(self.window.unwrap_or(0)) << 32;
        Head::new(flags, self.message_type, self.id, &prelude.to_le_bytes())
    }
}

impl Settings {
    fn parse(header: &Header, payload: &[u8]) -> Result<Self, FrameError> {
        let ([version, bits, calls_max, _reserved], _) = take_words(header, payload)?;
        if version != PROTOCOL_VERSION {
            return Err(FrameError::Version { found: version.min(255) as u8 });
        }
        Ok(Self { without_checksum: bits & 1 != 0, calls_max })
    }

    fn head(self, control: u8) -> Head {
        let mut prelude = [0; SETTINGS_BYTES];
        prelude[0..4].copy_from_slice(&PROTOCOL_VERSION.to_le_bytes());
        prelude[4] = self.without_checksum.into();
        prelude[8..12].copy_from_slice(&self.calls_max.to_le_bytes());
        Head::new(control, control::SETTINGS, 0, &prelude)
    }
}

/// Takes `N` words from the beginning of a payload.
fn take_words<'a, const N: usize>(
    header: &Header,
    payload: &'a [u8],
) -> Result<([u32; N], &'a [u8]), FrameError> {
    let (bytes, rest) = payload.split_at_checked(4 * N).ok_or_else(|| unfit(header, payload))?;
    let mut words = [0; N];
    for (word, bytes) in words.iter_mut().zip(bytes.chunks_exact(4)) {
        *word = u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
    }
    Ok((words, rest))
}

#[cold]
fn unfit(header: &Header, payload: &[u8]) -> FrameError {
    FrameError::Payload { message_type: header.message_type, bytes: payload.len() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::frame::{Codec, HEADER_BYTES};

    /// Sends a frame through the codec and back.
    fn travel<R>(frame: &Frame<'_>, look: impl FnOnce(Result<Frame<'_>, FrameError>) -> R) -> R {
        let codec = Codec::new();
        let (head, body) = frame.head();
        let mut bytes = vec![0; HEADER_BYTES + head.prelude().len() + body.len()];
        codec.write(&mut bytes, &head.header, head.prelude(), body);
        let (header, payload) = codec.read(&bytes).unwrap();
        look(Frame::parse(&header, payload))
    }

    #[test]
    fn every_frame_comes_back_as_it_was() {
        let request = Request {
            id: 7,
            message_type: 3,
            priority: true,
            timeout_us: 1_000,
            window: Some(4096),
            body: b"question",
        };
        let frames = [
            Frame::OneWay { message_type: 1, body: b"note" },
            Frame::Request(request),
            Frame::Request(Request { priority: false, window: None, timeout_us: 0, body: b"", ..request }),
            Frame::Response { id: 7, last: true, body: b"" },
            Frame::Response { id: u64::MAX, last: false, body: b"part" },
            Frame::Failed { id: 7, code: 5, text: b"no such thing" },
            Frame::Settings(Settings { without_checksum: true, calls_max: 64 }),
            Frame::Settings(Settings { without_checksum: false, calls_max: 0 }),
            Frame::Cancel { id: 9 },
            Frame::Credit { id: 9, bytes: 65_536 },
            Frame::Ping { id: 1 },
            Frame::Pong { id: 1 },
            Frame::GoingAway,
        ];
        for frame in frames {
            travel(&frame, |back| assert_eq!(back, Ok(frame)));
        }
    }

    #[test]
    fn what_no_honest_side_sends_is_refused() {
        let both = flag::REQUEST | flag::RESPONSE;
        let refused = |flags, message_type, payload: &[u8]| {
            Frame::parse(&Header { flags, message_type, id: 1 }, payload).unwrap_err()
        };
        assert!(matches!(refused(both, 77, b""), FrameError::Control { code: 77 }));
        assert!(matches!(refused(0, TYPE_RESERVED, b""), FrameError::Control { .. }));
        assert!(matches!(refused(flag::REQUEST, 0xFFFF, &[0; 8]), FrameError::Control { .. }));
        assert!(matches!(refused(flag::REQUEST, 1, &[0; 7]), FrameError::Payload { bytes: 7, .. }));
        assert!(matches!(refused(flag::RESPONSE, TYPE_FAILED, &[0; 7]), FrameError::Payload { .. }));
        assert!(matches!(refused(both, control::CANCEL, b"x"), FrameError::Payload { .. }));
        assert!(matches!(refused(both, control::CREDIT, b"xyz"), FrameError::Payload { .. }));
        assert!(matches!(refused(both, control::SETTINGS, &[0; 16]), FrameError::Version { found: 0 }));
        assert!(matches!(refused(both, control::SETTINGS, &[1, 0, 0, 0]), FrameError::Payload { .. }));
    }
}
