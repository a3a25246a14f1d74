//! Errors of binding, connecting, accepting and settings.

use std::error::Error;
use std::fmt;
use std::io;
use std::path::PathBuf;

/// Tells why a peer turned a connection down, as it said so in its answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Refusal {
    /// The other side speaks another version of the protocol or lays memory out differently.
    Version,
    /// A feature that one side requires is unknown to the other.
    Features,
    /// The user or group of the connecting process is not allowed here.
    NotAllowed,
    /// The listener has as many connections as it may have, or they have as much memory, in all or for this user.
    Limit,
    /// A descriptor was missing, of the wrong type, not sealed, or of another size than announced.
    Descriptors,
    /// A field of the hello is out of its bounds.
    Malformed,
    /// The listener serves something else than what was asked for.
    Purpose,
    /// The listener could not create its own segment.
    Resources,
    /// One side sends longer messages than the other accepts.
    MessageBytes,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Version => "protocol or layout version differs; run the same ringway release on both sides",
            Self::Features => "a required feature is unknown to the other side; update it",
            Self::NotAllowed => {
                "the connecting user is not on the allow-list; see Config::allow_uid and allow_gid"
            }
            Self::Limit => {
                "the limit of connections or of their memory is reached, in all or for this user; raise it or close others"
            }
            Self::Descriptors => "a descriptor was missing, of the wrong type, unsealed or of the wrong size",
            Self::Malformed => "a field of the hello is out of bounds",
            Self::Purpose => "the listener serves another purpose than the one asked for",
            Self::MessageBytes => {
                "one side may send longer messages than the other accepts; set the same message_bytes_max on both sides"
            }
            Self::Resources => "the listener ran out of memory or descriptors; see its log",
        })
    }
}

/// Tells why a name or path cannot be used for a listener.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum NameError {
    /// A name has 1 to 64 characters out of `A-Z a-z 0-9 . _ -`, and does not begin with a dot.
    Invalid {
        /// The name as given.
        name: String,
    },
    /// The path of the socket is longer than the operating system allows.
    TooLong {
        /// The path of the socket.
        path: PathBuf,
        /// Bytes that it may have at most.
        max: usize,
    },
}

impl fmt::Display for NameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Invalid { name } => write!(
                f,
                "{name:?} is not a name: use 1 to 64 characters of A-Z a-z 0-9 . _ - not beginning with a dot, or a path with a slash"
            ),
            Self::TooLong { path, max } => write!(
                f,
                "the socket path {} has more than {max} bytes; choose a shorter name or set RINGWAY_DIR to a shorter directory",
                path.display()
            ),
        }
    }
}

/// Tells why a listener could not be bound.
#[derive(Debug)]
#[non_exhaustive]
pub enum BindError {
    /// The name is not usable.
    Name(NameError),
    /// Another living process listens there.
    InUse {
        /// Path of the socket.
        path: PathBuf,
    },
    /// Something that is not ours occupies the place of the socket or of its directory.
    Occupied {
        /// Path of what is in the way.
        path: PathBuf,
        /// What it is and what to do.
        what: String,
    },
    /// The directory belongs to somebody else, is open to others' writes, or is closed to us.
    Permission {
        /// Path of the directory.
        path: PathBuf,
        /// What is wrong with it and what to do.
        what: String,
    },
    /// A setting of the configuration is out of bounds.
    Config(ConfigError),
    /// The process may not have as many descriptors as `connections_max` needs.
    Descriptors {
        /// Connections that were asked for.
        connections_max: usize,
        /// Descriptors that they need.
        needed: u64,
        /// Descriptors that the process may have: its hard limit.
        limit: u64,
    },
    /// The operating system refused.
    Os {
        /// What was tried.
        action: &'static str,
        /// Path that it was tried on.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
}

impl fmt::Display for BindError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(error) => error.fmt(f),
            Self::InUse { path } => {
                write!(f, "{} is in use by a living listener; stop it or choose another name", path.display())
            }
            Self::Occupied { path, what } | Self::Permission { path, what } => {
                write!(f, "{} cannot be used: {what}", path.display())
            }
            Self::Config(error) => error.fmt(f),
            Self::Descriptors { connections_max, needed, limit } => write!(
                f,
                "{connections_max} connections need {needed} descriptors but this process may have {limit}; lower connections_max or raise the hard limit (ulimit -Hn, LimitNOFILE)"
            ),
            Self::Os { action, path, source } => write!(f, "cannot {action} {}: {source}", path.display()),
        }
    }
}

impl Error for BindError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Os { source, .. } => Some(source),
            Self::Config(error) => Some(error),
            _ => None,
        }
    }
}

/// Tells why a connection could not be made.
#[derive(Debug)]
#[non_exhaustive]
pub enum ConnectError {
    /// The name is not usable.
    Name(NameError),
    /// Nobody listens there.
    NoListener {
        /// Path of the socket that was tried.
        path: PathBuf,
    },
    /// The socket or its directory may not be opened by this user.
    Permission {
        /// Path of the socket that was tried.
        path: PathBuf,
    },
    /// The listener turned us down.
    Refused(Refusal),
    /// The listener runs as a user that was not expected, or what it sent is not acceptable.
    Untrusted(Refusal),
    /// No answer before the time was up.
    Timeout,
    /// The listener closed the connection during the handshake.
    Dropped,
    /// A setting of the configuration is out of bounds.
    Config(ConfigError),
    /// The operating system refused.
    Os {
        /// What was tried.
        action: &'static str,
        /// The cause.
        source: io::Error,
    },
}

impl fmt::Display for ConnectError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(error) => error.fmt(f),
            Self::NoListener { path } => {
                write!(f, "nobody listens on {}; start the server first or check the name", path.display())
            }
            Self::Permission { path } => write!(
                f,
                "no permission to open {}; run as the listener's user, or let it allow yours (Config::allow_uid)",
                path.display()
            ),
            Self::Refused(refusal) => write!(f, "the listener refused: {refusal}"),
            Self::Untrusted(refusal) => write!(f, "the listener's answer is not acceptable: {refusal}"),
            Self::Timeout => f.write_str("the listener did not answer in time; it is stopped or overloaded"),
            Self::Dropped => {
                f.write_str("the listener closed the connection during the handshake; try again")
            }
            Self::Config(error) => error.fmt(f),
            Self::Os { action, source } => write!(f, "cannot {action}: {source}"),
        }
    }
}

impl Error for ConnectError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Os { source, .. } => Some(source),
            Self::Config(error) => Some(error),
            _ => None,
        }
    }
}

/// Tells why `accept` returned no connection.
#[derive(Debug)]
#[non_exhaustive]
pub enum AcceptError {
    /// No handshake was completed (try form: at this moment; time-out form: before the time was up).
    Timeout,
    /// The listener was created before a `fork` and is used in the child. Bind anew there.
    Forked,
    /// The operating system refused; the listener stays usable.
    Os {
        /// What was tried.
        action: &'static str,
        /// The cause.
        source: io::Error,
    },
}

impl fmt::Display for AcceptError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Timeout => f.write_str("no client completed its handshake in time"),
            Self::Forked => f.write_str(
                "this listener belongs to the parent process; a child made by fork must bind for itself",
            ),
            Self::Os { action, source } => write!(f, "cannot {action}: {source}"),
        }
    }
}

impl Error for AcceptError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Os { source, .. } => Some(source),
            _ => None,
        }
    }
}

/// Tells which setting is out of its bounds.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum ConfigError {
    /// Ring sizes are powers of two from 16 KiB to 1 GiB.
    RingBytes {
        /// The size as given, in bytes.
        ring_bytes: u64,
    },
    /// The longest message lies between 1 byte and 1 GiB.
    MessageBytesMax {
        /// The limit as given, in bytes.
        message_bytes_max: u64,
    },
    /// A connection limit is 1 to 65,536.
    Connections {
        /// The limit as given.
        connections_max: usize,
    },
    /// The limit of memory does not even suffice for one connection with the smallest ring at the other side.
    MemoryBytes {
        /// The limit as given, in bytes.
        memory_bytes_max: u64,
        /// Bytes that one connection needs at least.
        needed: u64,
    },
    /// At most 65,536 segments can be made ahead.
    WarmSegments {
        /// The number as given.
        segments: usize,
    },
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::RingBytes { ring_bytes } => write!(
                f,
                "ring_bytes is {ring_bytes} but must be a power of two from 16384 (16 KiB) to 1073741824 (1 GiB)"
            ),
            Self::MessageBytesMax { message_bytes_max } => write!(
                f,
                "message_bytes_max is {message_bytes_max} but must lie between 1 and 1073741824 (1 GiB)"
            ),
            Self::Connections { connections_max } => {
                write!(f, "the connection limit is {connections_max} but must lie between 1 and 65536")
            }
            Self::MemoryBytes { memory_bytes_max, needed } => write!(
                f,
                "the memory limit is {memory_bytes_max} bytes but one connection needs {needed}; raise it or lower ring_bytes"
            ),
            Self::WarmSegments { segments } => {
                write!(f, "warm_segments is {segments} but must be at most 65536")
            }
        }
    }
}

impl Error for ConfigError {}
