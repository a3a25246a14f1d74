//! Error types: one per operation, small and exhaustive; the open sets of causes are `#[non_exhaustive]`.
//!
//! Every message says what happened, with numbers, why, and what to do.

macro_rules! error_with_reason {
    ($($name:ident),*) => {$(
        impl std::error::Error for $name {
            fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
                match self {
                    Self::Closed(reason) => $crate::error::violation_of(reason),
                    _ => None,
                }
            }
        }
    )*};
}

use error_with_reason;

mod as_io;
pub(crate) mod broadcast;
#[cfg(feature = "rpc")]
pub(crate) mod call;
mod setup;

pub use setup::*;

use std::error::Error;
use std::fmt;
use std::io;

/// Names why a connection ended.
///
/// # Examples
/// ```
/// let (mut left, right) = ringway::pair(&ringway::Config::new())?;
/// drop(right);
/// let end = left.recv().unwrap_err();
/// assert_eq!(end.reason(), &ringway::CloseReason::PeerClosed);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum CloseReason {
    /// The peer said that it would send (or read) no more: it dropped its handle or closed it.
    PeerClosed,
    /// The peer's process ended, or lost its socket, without saying good-bye.
    PeerDied {
        /// Process id as the kernel reported it at the handshake; a name for logs, never an identity.
        pid: u32,
    },
    /// We ended it: [`Member::disconnect`](crate::Member::disconnect) was called, or its handler panicked.
    Disconnected,
    /// The receiver read too slowly for the policy of the sender, which disconnected it. The messages that it had not
    /// read are lost to it.
    TooSlow,
    /// The peer's process lives, but said nothing for so long that it counts as dead; see the heartbeat of a client.
    PeerSilent,
    /// The peer broke the protocol. It was disconnected; nothing of the bad record was delivered.
    Violation(Violation),
    /// The handle was created before a `fork` and is used in the child. Connect anew there.
    Forked,
    /// The operating system refused to wait or to ring (its error number).
    Os {
        /// `errno` of the failed call.
        errno: i32,
    },
}

impl fmt::Display for CloseReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::PeerClosed => f.write_str("the peer closed its side; connect again to go on"),
            Self::PeerDied { pid } => {
                write!(f, "the peer (process {pid}) died without closing; connect again to go on")
            }
            Self::Disconnected => f.write_str("we ended the connection; the peer may connect again"),
            Self::TooSlow => f.write_str(
                "the receiver was cut off because it read too slowly; read faster, use a larger ring, or choose another policy",
            ),
            Self::PeerSilent => f.write_str(
                "the peer has not answered pings, so it counts as dead; is its process stopped or blocked?",
            ),
            Self::Violation(violation) => write!(f, "{violation}; the connection was ended, connect again"),
            Self::Forked => f.write_str(
                "this handle belongs to the parent process; a child made by fork must connect for itself",
            ),
            Self::Os { errno } => {
                write!(f, "waiting failed: {}; connect again", io::Error::from_raw_os_error(*errno))
            }
        }
    }
}

/// Names the rule of the shared-memory protocol that a peer broke.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Violation {
    /// A consumer said that it had read up to a position that it cannot have reached.
    Position {
        /// Position that the peer wrote, in bytes since the start of the ring.
        seen: u64,
        /// Last legal position that it wrote before.
        last: u64,
        /// Position up to which we have published.
        published: u64,
    },
    /// A record header is not one that any sender may write.
    Header {
        /// The header word as it was read.
        word: u64,
    },
    /// A record claims more bytes than the agreed maximum or than the ring has left.
    Length {
        /// Bytes that the record would occupy, its header included.
        claimed: u64,
        /// Bytes that it could occupy at most.
        max: u64,
    },
    /// More padding records in a row than any sender needs.
    Padding,
    /// A fragment out of turn: a part without a beginning, or a beginning inside another message.
    Fragment {
        /// Kind of the record that came, as in the header.
        kind: u8,
    },
    /// The parts of a message add up to more than the agreed maximum.
    MessageBytes {
        /// Bytes so far, the last part included.
        bytes: u64,
        /// Agreed maximum in bytes.
        max: u64,
    },
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Position { seen, last, published } => write!(
                f,
                "protocol violation: the peer claims to have read up to {seen}, but it stood at {last} and only {published} bytes were published"
            ),
            Self::Header { word } => {
                write!(f, "protocol violation: {word:#018x} is not a record header")
            }
            Self::Length { claimed, max } => write!(
                f,
                "protocol violation: a record claims {claimed} bytes but at most {max} are possible there"
            ),
            Self::Padding => f.write_str("protocol violation: a run of padding records without a message"),
            Self::Fragment { kind } => {
                write!(f, "protocol violation: a record of kind {kind} came out of turn between fragments")
            }
            Self::MessageBytes { bytes, max } => write!(
                f,
                "protocol violation: a fragmented message grew to {bytes} bytes but at most {max} were agreed"
            ),
        }
    }
}

impl Error for Violation {}

/// Tells why `try_send` and `try_claim` did not take a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TrySendError {
    /// No room at this moment; the receiver must read first.
    Full,
    /// The message can never be sent this way.
    TooLarge {
        /// Bytes of the message.
        len: usize,
        /// Bytes that would fit: one record for the try- and claim-verbs, a whole message for `send`.
        max: usize,
    },
    /// The operating system has no memory for the next part of the ring (first lap only); try again later.
    NoMemory {
        /// `errno` of the failed allocation.
        errno: i32,
    },
    /// The connection has ended.
    Closed(CloseReason),
}

/// Tells why `send` and `claim` did not take a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SendError {
    /// The message can never be sent this way; see [`TrySendError::TooLarge`].
    TooLarge {
        /// Bytes of the message.
        len: usize,
        /// Bytes that would fit.
        max: usize,
    },
    /// The operating system has no memory for the next part of the ring (first lap only); try again later.
    NoMemory {
        /// `errno` of the failed allocation.
        errno: i32,
    },
    /// The connection has ended.
    Closed(CloseReason),
}

/// Tells why a send with a time-out did not take a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SendTimeoutError {
    /// There was no room before the time was up. Nothing of the message will be delivered.
    Timeout,
    /// The message can never be sent this way; see [`TrySendError::TooLarge`].
    TooLarge {
        /// Bytes of the message.
        len: usize,
        /// Bytes that would fit.
        max: usize,
    },
    /// The operating system has no memory for the next part of the ring (first lap only); try again later.
    NoMemory {
        /// `errno` of the failed allocation.
        errno: i32,
    },
    /// The connection has ended.
    Closed(CloseReason),
}

/// Tells why `try_recv` has no message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TryRecvError {
    /// Nothing has arrived.
    Empty,
    /// The connection has ended and everything that was committed before has been delivered.
    Closed(CloseReason),
}

/// Tells why `recv` has no message: the connection has ended, and everything before has been delivered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecvError(pub(crate) CloseReason);

/// Tells why `recv_timeout` has no message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RecvTimeoutError {
    /// Nothing arrived before the time was up.
    Timeout,
    /// The connection has ended and everything that was committed before has been delivered.
    Closed(CloseReason),
}

impl RecvError {
    /// Returns why the connection ended.
    pub fn reason(&self) -> &CloseReason {
        &self.0
    }
}

fn too_large(f: &mut fmt::Formatter<'_>, len: usize, max: usize) -> fmt::Result {
    write!(
        f,
        "a message of {len} bytes cannot be sent this way, at most {max} fit; split it, use `send` (which fragments), or raise ring_bytes or message_bytes_max"
    )
}

fn no_memory(f: &mut fmt::Formatter<'_>, errno: i32) -> fmt::Result {
    let cause = io::Error::from_raw_os_error(errno);
    write!(f, "no memory for the next part of the ring ({cause}); free some and try again")
}

impl fmt::Display for TrySendError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Full => {
                f.write_str("the ring is full; the receiver must read first, try again or use `send`")
            }
            Self::TooLarge { len, max } => too_large(f, *len, *max),
            Self::NoMemory { errno } => no_memory(f, *errno),
            Self::Closed(reason) => reason.fmt(f),
        }
    }
}

impl fmt::Display for SendError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLarge { len, max } => too_large(f, *len, *max),
            Self::NoMemory { errno } => no_memory(f, *errno),
            Self::Closed(reason) => reason.fmt(f),
        }
    }
}

impl fmt::Display for SendTimeoutError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Timeout => {
                f.write_str("no room came free in time; the receiver reads too slowly or not at all")
            }
            Self::TooLarge { len, max } => too_large(f, *len, *max),
            Self::NoMemory { errno } => no_memory(f, *errno),
            Self::Closed(reason) => reason.fmt(f),
        }
    }
}

impl fmt::Display for TryRecvError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => f.write_str("no message has arrived; try again or use `recv`"),
            Self::Closed(reason) => reason.fmt(f),
        }
    }
}

impl fmt::Display for RecvError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for RecvTimeoutError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Timeout => f.write_str("no message arrived in time"),
            Self::Closed(reason) => reason.fmt(f),
        }
    }
}

fn violation_of(reason: &CloseReason) -> Option<&(dyn Error + 'static)> {
    if let CloseReason::Violation(violation) = reason { Some(violation) } else { None }
}

error_with_reason!(TrySendError, SendError, SendTimeoutError, TryRecvError, RecvTimeoutError);

impl Error for CloseReason {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        violation_of(self)
    }
}

impl Error for RecvError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        violation_of(&self.0)
    }
}
