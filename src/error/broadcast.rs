//! Errors of routes and channels.

use super::{BindError, CloseReason, Refusal, no_memory, too_large};
use std::error::Error;
use std::fmt;
use std::io;
use std::path::PathBuf;

/// Tells why a route or a channel could not be joined.
#[derive(Debug)]
#[non_exhaustive]
pub enum JoinError {
    /// The route has a sender already, and it lives. It may be taken over as soon as that one has ended or died.
    SenderExists {
        /// Path of its socket.
        path: PathBuf,
    },
    /// The name cannot be used, or the directory, or a setting is out of bounds.
    Bind(BindError),
    /// Somebody there does not accept us, or we do not accept them.
    Refused(Refusal),
    /// The handle was created before a `fork` and is used in the child. Join anew there.
    Forked,
    /// The operating system refused.
    Os {
        /// What was tried.
        action: &'static str,
        /// The cause.
        source: io::Error,
    },
}

impl fmt::Display for JoinError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::SenderExists { path } => write!(
                f,
                "the route at {} has a sender that lives; stop it, choose another name, or use a channel, which has many",
                path.display()
            ),
            Self::Bind(error) => error.fmt(f),
            Self::Refused(refusal) => write!(f, "a member does not go together with us: {refusal}"),
            Self::Forked => f.write_str(
                "this handle belongs to the parent process; a child made by fork must join for itself",
            ),
            Self::Os { action, source } => write!(f, "cannot {action}: {source}"),
        }
    }
}

impl Error for JoinError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Bind(error) => error.source(),
            Self::Os { source, .. } => Some(source),
            _ => None,
        }
    }
}

impl From<JoinError> for io::Error {
    fn from(error: JoinError) -> Self {
        let kind = match error {
            JoinError::Bind(error) => return error.into(),
            JoinError::SenderExists { .. } => io::ErrorKind::AddrInUse,
            JoinError::Refused(_) => io::ErrorKind::ConnectionRefused,
            JoinError::Forked => io::ErrorKind::Unsupported,
            JoinError::Os { ref source, .. } => source.kind(),
        };
        Self::new(kind, error)
    }
}

/// Tells why `try_send` and `try_claim` did not take a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TrySendError {
    /// No room at this moment, because of the receiver that has read least. Nothing was done to it.
    WouldBlock {
        /// Its number, as in `Peer::number`.
        receiver: u64,
        /// Its process, for logs.
        pid: u32,
    },
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
    /// This handle has left: [`CloseReason::Disconnected`] or [`CloseReason::Forked`].
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
    /// This handle has left: [`CloseReason::Disconnected`] or [`CloseReason::Forked`].
    Closed(CloseReason),
}

/// Tells why a send with a time-out did not take a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SendTimeoutError {
    /// There was no room before the time was up, because of the receiver that has read least. Nothing of the message
    /// will be delivered.
    Timeout {
        /// Its number, as in `Peer::number`.
        receiver: u64,
        /// Its process, for logs.
        pid: u32,
    },
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
    /// This handle has left: [`CloseReason::Disconnected`] or [`CloseReason::Forked`].
    Closed(CloseReason),
}

/// Tells why `try_recv` has no message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TryRecvError {
    /// Nothing has arrived.
    Empty,
    /// So many messages of one sender were overwritten before they were read. The next call goes on behind them.
    Lagged(u64),
    /// A sender was lost with messages that we had not read: it cut us off as too slow
    /// ([`CloseReason::TooSlow`]; we subscribe again by ourselves), or it broke the protocol. The next call goes on.
    /// [`CloseReason::Forked`], [`CloseReason::Disconnected`] and [`CloseReason::Os`] are final.
    Closed(CloseReason),
}

/// Tells why `recv` has no message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RecvError {
    /// As [`TryRecvError::Lagged`].
    Lagged(u64),
    /// As [`TryRecvError::Closed`].
    Closed(CloseReason),
}

/// Tells why `recv_timeout` has no message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RecvTimeoutError {
    /// Nothing arrived before the time was up.
    Timeout,
    /// As [`TryRecvError::Lagged`].
    Lagged(u64),
    /// As [`TryRecvError::Closed`].
    Closed(CloseReason),
}

/// Tells why waiting for others ended without them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WaitError {
    /// There were only so many before the time was up.
    Timeout {
        /// Members that are there.
        present: usize,
    },
    /// This handle has left.
    Closed(CloseReason),
}

fn would_block(f: &mut fmt::Formatter<'_>, receiver: u64, pid: u32) -> fmt::Result {
    write!(
        f,
        "the ring is full because receiver {receiver} (process {pid}) has not read on; wait with `send`, or choose a policy that does not wait"
    )
}

impl fmt::Display for TrySendError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::WouldBlock { receiver, pid } => would_block(f, *receiver, *pid),
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
            Self::Timeout { receiver, pid } => write!(
                f,
                "no room came free in time because receiver {receiver} (process {pid}) reads too slowly or not at all"
            ),
            Self::TooLarge { len, max } => too_large(f, *len, *max),
            Self::NoMemory { errno } => no_memory(f, *errno),
            Self::Closed(reason) => reason.fmt(f),
        }
    }
}

fn lagged(f: &mut fmt::Formatter<'_>, messages: u64) -> fmt::Result {
    write!(f, "{messages} messages were overwritten before they were read; read faster or use a larger ring")
}

impl fmt::Display for TryRecvError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => f.write_str("no message has arrived; try again or use `recv`"),
            Self::Lagged(messages) => lagged(f, *messages),
            Self::Closed(reason) => reason.fmt(f),
        }
    }
}

impl fmt::Display for RecvError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Lagged(messages) => lagged(f, *messages),
            Self::Closed(reason) => reason.fmt(f),
        }
    }
}

impl fmt::Display for RecvTimeoutError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Timeout => f.write_str("no message arrived in time"),
            Self::Lagged(messages) => lagged(f, *messages),
            Self::Closed(reason) => reason.fmt(f),
        }
    }
}

impl fmt::Display for WaitError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Timeout { present } => {
                write!(f, "only {present} were there before the time was up; are the others running?")
            }
            Self::Closed(reason) => reason.fmt(f),
        }
    }
}

super::error_with_reason!(
    TrySendError,
    SendError,
    SendTimeoutError,
    TryRecvError,
    RecvError,
    RecvTimeoutError,
    WaitError
);
