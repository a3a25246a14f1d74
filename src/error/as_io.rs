//! The errors as `std::io` has them, for code that was written for sockets.

use super::{
    AcceptError, BindError, CloseReason, ConnectError, RecvError, RecvTimeoutError, SendError,
    SendTimeoutError,
};
use std::io;

impl From<BindError> for io::Error {
    fn from(error: BindError) -> Self {
        let kind = match &error {
            BindError::InUse { .. } => io::ErrorKind::AddrInUse,
            BindError::Permission { .. } => io::ErrorKind::PermissionDenied,
            BindError::Occupied { .. } => io::ErrorKind::AlreadyExists,
            BindError::Descriptors { .. } => io::ErrorKind::QuotaExceeded,
            BindError::Name(_) | BindError::Config(_) => io::ErrorKind::InvalidInput,
            BindError::Os { source, .. } => source.kind(),
        };
        Self::new(kind, error)
    }
}

impl From<ConnectError> for io::Error {
    fn from(error: ConnectError) -> Self {
        let kind = match &error {
            ConnectError::NoListener { .. } => io::ErrorKind::ConnectionRefused,
            ConnectError::Permission { .. } | ConnectError::Untrusted(_) => io::ErrorKind::PermissionDenied,
            ConnectError::Refused(_) => io::ErrorKind::ConnectionRefused,
            ConnectError::Timeout => io::ErrorKind::TimedOut,
            ConnectError::Dropped => io::ErrorKind::ConnectionReset,
            ConnectError::Name(_) | ConnectError::Config(_) => io::ErrorKind::InvalidInput,
            ConnectError::Os { source, .. } => source.kind(),
        };
        Self::new(kind, error)
    }
}

impl From<AcceptError> for io::Error {
    fn from(error: AcceptError) -> Self {
        let kind = match &error {
            AcceptError::Timeout => io::ErrorKind::TimedOut,
            AcceptError::Forked => io::ErrorKind::Unsupported,
            AcceptError::Os { source, .. } => source.kind(),
        };
        Self::new(kind, error)
    }
}

impl From<SendError> for io::Error {
    fn from(error: SendError) -> Self {
        let kind = match &error {
            SendError::TooLarge { .. } => io::ErrorKind::InvalidInput,
            SendError::NoMemory { .. } => io::ErrorKind::OutOfMemory,
            SendError::Closed(reason) => kind_of(reason, io::ErrorKind::BrokenPipe),
        };
        Self::new(kind, error)
    }
}

impl From<SendTimeoutError> for io::Error {
    fn from(error: SendTimeoutError) -> Self {
        let kind = match &error {
            SendTimeoutError::Timeout => io::ErrorKind::TimedOut,
            SendTimeoutError::TooLarge { .. } => io::ErrorKind::InvalidInput,
            SendTimeoutError::NoMemory { .. } => io::ErrorKind::OutOfMemory,
            SendTimeoutError::Closed(reason) => kind_of(reason, io::ErrorKind::BrokenPipe),
        };
        Self::new(kind, error)
    }
}

impl From<RecvError> for io::Error {
    fn from(error: RecvError) -> Self {
        let graceful = *error.reason() == CloseReason::PeerClosed;
        let end = if graceful { io::ErrorKind::UnexpectedEof } else { io::ErrorKind::ConnectionReset };
        Self::new(kind_of(error.reason(), end), error)
    }
}

impl From<RecvTimeoutError> for io::Error {
    fn from(error: RecvTimeoutError) -> Self {
        match error {
            RecvTimeoutError::Timeout => Self::new(io::ErrorKind::TimedOut, error),
            RecvTimeoutError::Closed(reason) => RecvError(reason).into(),
        }
    }
}

/// The kind for an end of the connection, `end` unless the cause lies on our side.
fn kind_of(reason: &CloseReason, end: io::ErrorKind) -> io::ErrorKind {
    match reason {
        CloseReason::PeerClosed | CloseReason::PeerDied { .. } | CloseReason::Violation(_) => end,
        CloseReason::PeerSilent => io::ErrorKind::TimedOut,
        CloseReason::Disconnected | CloseReason::TooSlow => io::ErrorKind::ConnectionAborted,
        CloseReason::Forked => io::ErrorKind::Unsupported,
        CloseReason::Os { errno } => io::Error::from_raw_os_error(*errno).kind(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::Violation;
    use super::*;

    #[test]
    fn an_end_has_the_kind_that_a_socket_would_have() {
        let died = CloseReason::PeerDied { pid: 7 };
        let lied = CloseReason::Violation(Violation::Padding);
        for reason in [died, lied] {
            assert_eq!(io::Error::from(RecvError(reason.clone())).kind(), io::ErrorKind::ConnectionReset);
            assert_eq!(io::Error::from(SendError::Closed(reason)).kind(), io::ErrorKind::BrokenPipe);
        }
        let closed = CloseReason::PeerClosed;
        assert_eq!(io::Error::from(RecvError(closed.clone())).kind(), io::ErrorKind::UnexpectedEof);
        assert_eq!(io::Error::from(SendError::Closed(closed)).kind(), io::ErrorKind::BrokenPipe);
    }

    #[test]
    fn the_cause_stays_within_reach() {
        let error = io::Error::from(RecvError(CloseReason::PeerDied { pid: 7 }));
        let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<RecvError>());
        assert_eq!(inner.map(RecvError::reason), Some(&CloseReason::PeerDied { pid: 7 }));
    }
}
