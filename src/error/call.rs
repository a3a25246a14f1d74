//! Errors of calls: frames that cannot be understood, handlers that fail, calls without an answer.

use super::{CloseReason, ConnectError};
use std::error::Error;
use std::fmt;

/// Tells why a frame was not understood. The connection that it came on is closed.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum FrameError {
    /// The message is shorter than a header.
    Short {
        /// Bytes of the message.
        bytes: usize,
    },
    /// It does not begin as a frame does: the other side speaks another protocol.
    Magic {
        /// What it begins with.
        found: u32,
        /// What it should begin with.
        expected: u32,
    },
    /// It is of another version of the protocol.
    Version {
        /// That version.
        found: u8,
    },
    /// It has flags that are reserved or illegal.
    Flags {
        /// All flags of the frame.
        found: u8,
    },
    /// It announces another length than it has.
    Length {
        /// Payload bytes as announced.
        claimed: u32,
        /// Payload bytes that came.
        bytes: usize,
    },
    /// Its checksum is wrong.
    Checksum {
        /// The checksum in the frame.
        found: u32,
        /// The checksum of what came.
        computed: u32,
    },
    /// It has a reserved message type that means nothing.
    Control {
        /// The type.
        code: u16,
    },
    /// Its payload does not have the form that its type has.
    Payload {
        /// The type.
        message_type: u16,
        /// Payload bytes that came.
        bytes: usize,
    },
    /// It is right in itself but out of turn, such as a second request with the id of one in flight.
    Turn {
        /// The id that it names.
        id: u64,
    },
}

impl fmt::Display for FrameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Short { bytes } => write!(f, "a message of {bytes} bytes is too short for a frame (24)"),
            Self::Magic { found, expected } => write!(
                f,
                "a frame begins with {found:#010x} instead of {expected:#010x}; the other side does not speak ringway's call protocol"
            ),
            Self::Version { found } => {
                write!(f, "a frame is of version {found}; run the same ringway release on both sides")
            }
            Self::Flags { found } => {
                write!(f, "a frame has the flags {found:#04x}, some of which are reserved")
            }
            Self::Length { claimed, bytes } => {
                write!(f, "a frame announces {claimed} payload bytes but has {bytes}")
            }
            Self::Checksum { found, computed } => {
                write!(f, "a frame has the checksum {found:#010x} but its bytes have {computed:#010x}")
            }
            Self::Control { code } => {
                write!(f, "a frame has the reserved type {code:#06x}, which means nothing")
            }
            Self::Payload { message_type, bytes } => {
                write!(f, "a frame of type {message_type:#06x} cannot have {bytes} payload bytes")
            }
            Self::Turn { id } => write!(f, "a frame for call {id} came out of turn"),
        }
    }
}

impl Error for FrameError {}

/// Classifies a failed call. The numbers up to 16 mean what they mean in gRPC; an application has those from 1000 on.
///
/// # Examples
/// ```
/// use ringway::rpc::Code;
/// assert_eq!(Code::NOT_FOUND.to_string(), "not found (5)");
/// assert_eq!(Code(1234).to_string(), "1234");
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Code(pub u32);

impl Code {
    /// The call was cancelled by whoever made it.
    pub const CANCELLED: Self = Self(1);
    /// No other code fits.
    pub const UNKNOWN: Self = Self(2);
    /// The request makes no sense, whatever the state of the server.
    pub const INVALID_ARGUMENT: Self = Self(3);
    /// The time of the call was up before it was done; a client has it as [`CallError::Timeout`].
    pub const DEADLINE_EXCEEDED: Self = Self(4);
    /// What was asked for does not exist.
    pub const NOT_FOUND: Self = Self(5);
    /// What should be created exists.
    pub const ALREADY_EXISTS: Self = Self(6);
    /// Whoever asks may not do that.
    pub const PERMISSION_DENIED: Self = Self(7);
    /// Something is used up: more calls in flight than are allowed, memory, a quota.
    pub const RESOURCE_EXHAUSTED: Self = Self(8);
    /// The server is not in the state that this needs.
    pub const FAILED_PRECONDITION: Self = Self(9);
    /// Somebody else was in the way; start anew.
    pub const ABORTED: Self = Self(10);
    /// Past the end of something.
    pub const OUT_OF_RANGE: Self = Self(11);
    /// No handler has this message type.
    pub const UNIMPLEMENTED: Self = Self(12);
    /// The handler panicked, or broke a rule of its own.
    pub const INTERNAL: Self = Self(13);
    /// What the call needs is not there at the moment; try again later.
    pub const UNAVAILABLE: Self = Self(14);
    /// Data is lost for good.
    pub const DATA_LOSS: Self = Self(15);
    /// Whoever asks has not said who it is.
    pub const UNAUTHENTICATED: Self = Self(16);
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match *self {
            Self::CANCELLED => "cancelled",
            Self::UNKNOWN => "unknown",
            Self::INVALID_ARGUMENT => "invalid argument",
            Self::DEADLINE_EXCEEDED => "deadline exceeded",
            Self::NOT_FOUND => "not found",
            Self::ALREADY_EXISTS => "already exists",
            Self::PERMISSION_DENIED => "permission denied",
            Self::RESOURCE_EXHAUSTED => "resource exhausted",
            Self::FAILED_PRECONDITION => "failed precondition",
            Self::ABORTED => "aborted",
            Self::OUT_OF_RANGE => "out of range",
            Self::UNIMPLEMENTED => "unimplemented",
            Self::INTERNAL => "internal",
            Self::UNAVAILABLE => "unavailable",
            Self::DATA_LOSS => "data loss",
            Self::UNAUTHENTICATED => "unauthenticated",
            Self(number) => return write!(f, "{number}"),
        };
        write!(f, "{name} ({})", self.0)
    }
}

/// What a handler answers instead of a response: a code and a text.
///
/// # Examples
/// ```
/// use ringway::rpc::{Code, Failure};
/// let failure = Failure::new(Code::NOT_FOUND, "no file of that name");
/// assert_eq!(failure.to_string(), "not found (5): no file of that name");
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    code: Code,
    text: String,
}

impl Failure {
    /// Makes a failure; a text beyond 4 KiB is cut on its way.
    pub fn new(code: Code, text: impl Into<String>) -> Self {
        Self { code, text: text.into() }
    }

    /// Returns the code.
    pub fn code(&self) -> Code {
        self.code
    }

    /// Returns the text.
    pub fn text(&self) -> &str {
        &self.text
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.code, self.text)
    }
}

impl Error for Failure {}

/// Tells why a call has no response.
#[derive(Debug)]
#[non_exhaustive]
pub enum CallError {
    /// The server answered that it failed.
    Failed(Failure),
    /// No answer before the time was up. The server was told to stop; whether the call ran is not known, unless it could
    /// not even be sent.
    Timeout {
        /// The request had been sent.
        sent: bool,
    },
    /// The connection ended before the answer.
    Lost {
        /// The request had been sent, so it may have run, wholly or in part. If not it certainly did not run.
        may_have_run: bool,
        /// Why it ended.
        reason: CloseReason,
    },
    /// There is no connection, and none could be made in time. The call did not run.
    Unreachable(ConnectError),
    /// The server broke the protocol, and the connection was closed. The call may have run.
    Protocol(FrameError),
    /// The request is longer than the server accepts.
    TooLarge {
        /// Bytes of the request with its header.
        len: usize,
        /// Bytes that the server accepts.
        max: usize,
    },
    /// The operating system has no memory for the next part of the ring; try again later.
    NoMemory {
        /// `errno` of the failed allocation.
        errno: i32,
    },
    /// The request could not be encoded, or the response not decoded.
    Body(BodyError),
    /// The client was closed. The call did not run.
    Closed,
}

impl CallError {
    /// Says whether the call may have run, wholly or in part, although there is no answer. If not, it is safe to make it
    /// again.
    pub fn may_have_run(&self) -> bool {
        match self {
            Self::Failed(_) | Self::Protocol(_) => true,
            Self::Timeout { sent } => *sent,
            Self::Lost { may_have_run, .. } => *may_have_run,
            Self::Body(error) => error.is_of_response(),
            Self::Unreachable(_) | Self::TooLarge { .. } | Self::NoMemory { .. } | Self::Closed => false,
        }
    }

    /// Returns what the handler answered, if it did.
    pub fn failure(&self) -> Option<&Failure> {
        if let Self::Failed(failure) = self { Some(failure) } else { None }
    }
}

impl fmt::Display for CallError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Failed(failure) => write!(f, "the call failed: {failure}"),
            Self::Timeout { sent: true } => f.write_str(
                "no answer in time; the call may have run, make it again only if that does no harm",
            ),
            Self::Timeout { sent: false } => {
                f.write_str("the call could not be sent in time; it did not run")
            }
            Self::Lost { may_have_run: true, reason } => {
                write!(f, "the connection ended before the answer: {reason}; the call may have run")
            }
            Self::Lost { may_have_run: false, reason } => {
                write!(f, "the connection ended before the call was sent: {reason}; it did not run")
            }
            Self::Unreachable(_) => f.write_str("no connection to the server in time; the call did not run"),
            Self::Protocol(_) => f.write_str("the server broke the protocol; the connection was closed"),
            Self::TooLarge { len, max } => write!(
                f,
                "a request of {len} bytes with its header, but the server accepts {max}; split it, or raise message_bytes_max there"
            ),
            Self::NoMemory { errno } => {
                let cause = std::io::Error::from_raw_os_error(*errno);
                write!(f, "no memory for the next part of the ring ({cause}); free some and try again")
            }
            Self::Body(error) => error.fmt(f),
            Self::Closed => f.write_str("this client was closed; the call did not run"),
        }
    }
}

impl Error for CallError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Unreachable(error) => Some(error),
            Self::Protocol(error) => Some(error),
            _ => None,
        }
    }
}

/// Tells why a body could not be encoded or decoded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BodyError {
    what: String,
    of_response: bool,
}

impl BodyError {
    /// Makes an error that says what is wrong with a body.
    pub fn new(what: impl Into<String>) -> Self {
        Self { what: what.into(), of_response: false }
    }

    /// Says that it was a response that could not be decoded: the call has run.
    pub(crate) fn of_response(self) -> Self {
        Self { of_response: true, ..self }
    }

    fn is_of_response(&self) -> bool {
        self.of_response
    }
}

impl fmt::Display for BodyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let which =
            if self.of_response { "the response cannot be decoded" } else { "the body is not usable" };
        write!(f, "{which}: {}; do both sides use the same types?", self.what)
    }
}

impl Error for BodyError {}
