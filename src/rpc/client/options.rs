//! Settings of a client.

use super::Client;
use crate::config::Config;
use crate::error::ConnectError;
use std::time::Duration;

/// How long a client waits before it tries again to connect.
///
/// The first pause is `first`, each further one twice as long as the one before, at most `max`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Backoff {
    /// The first pause; 1 ms by default.
    pub first: Duration,
    /// The longest pause; 20 ms by default.
    pub max: Duration,
}

impl Default for Backoff {
    fn default() -> Self {
        Self { first: Duration::from_millis(1), max: Duration::from_millis(20) }
    }
}

#[derive(Debug, Clone)]
pub(crate) struct Options {
    pub(crate) config: Config,
    pub(crate) timeout: Option<Duration>,
    pub(crate) backoff: Option<Backoff>,
    pub(crate) connect_patience: Duration,
    pub(crate) heartbeat: Option<Duration>,
    pub(crate) without_checksum: bool,
    pub(crate) calls_max: u32,
    pub(crate) window: u32,
}

/// Settings of a [`Client`].
///
/// # Examples
/// ```no_run
/// use ringway::rpc::Client;
/// use std::time::Duration;
/// let client = Client::builder()
///     .timeout(Duration::from_secs(1))
///     .heartbeat(Duration::from_millis(100))
///     .connect("clock")?;
/// # Ok::<(), ringway::ConnectError>(())
/// ```
#[derive(Debug, Clone)]
#[must_use]
pub struct ClientBuilder {
    options: Options,
}

impl Default for ClientBuilder {
    fn default() -> Self {
        Self::new()
    }
}

impl ClientBuilder {
    /// Makes the default settings.
    pub fn new() -> Self {
        Self {
            options: Options {
                config: Config::new(),
                timeout: None,
                backoff: Some(Backoff::default()),
                connect_patience: CONNECT_PATIENCE,
                heartbeat: None,
                without_checksum: false,
                calls_max: CALLS_MAX_DEFAULT,
                window: WINDOW_DEFAULT,
            },
        }
    }

    /// Sets how connections are made, and how callers wait.
    pub fn config(mut self, config: Config) -> Self {
        self.options.config = config;
        self
    }

    /// Sets how long a call may take if nothing else is said for it; without limit by default.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.options.timeout = Some(timeout);
        self
    }

    /// Sets the pauses between attempts to connect.
    pub fn reconnect(mut self, backoff: Backoff) -> Self {
        self.options.backoff = Some(backoff);
        self
    }

    /// Says that the client ends with its first connection.
    pub fn reconnect_never(mut self) -> Self {
        self.options.backoff = None;
        self
    }

    /// Sets how long a call waits for a connection; 5 s by default, and never beyond its own time-out.
    pub fn connect_patience(mut self, patience: Duration) -> Self {
        self.options.connect_patience = patience;
        self
    }

    /// Asks the server for a sign of life when it has said nothing for an interval while calls are in flight. If nothing
    /// comes for two more, it counts as dead: [`CloseReason::PeerSilent`](crate::CloseReason::PeerSilent).
    ///
    /// Not needed for a process that died, which is noticed at once; it finds one that is stopped or blocked. Choose it
    /// longer than a handler of the server may keep a thread.
    pub fn heartbeat(mut self, interval: Duration) -> Self {
        self.options.heartbeat = Some(interval);
        self
    }

    /// Does without checksums if the server does too.
    ///
    /// A checksum finds what broke by accident, in memory that both sides share; it costs about 50 ns per KiB on each side.
    pub fn without_checksum(mut self, without: bool) -> Self {
        self.options.without_checksum = without;
        self
    }

    /// Sets how many calls may be in flight at once, 1 to 65,536; 1024 by default, and never more than the server
    /// accepts. Further callers wait.
    pub fn calls_max(mut self, calls_max: u32) -> Self {
        self.options.calls_max = calls_max.clamp(1, CALLS_MAX);
        self
    }

    /// Sets how many bytes of a streamed response may wait here to be taken, beside one part; 256 KiB by default.
    pub fn window(mut self, bytes: u32) -> Self {
        self.options.window = bytes.max(1);
        self
    }

    /// Connects to the server of this name; see [`connect`](crate::connect) for names.
    ///
    /// # Errors
    /// As [`Config::connect`]: it tries once, since a server that was never there may never come.
    pub fn connect(self, name: &str) -> Result<Client, ConnectError> {
        Client::open(name, self.options, true)
    }

    /// Makes a client that connects with its first call, so that the server may be started later.
    ///
    /// # Errors
    /// [`ConnectError::Name`], [`ConnectError::Config`].
    pub fn connect_later(self, name: &str) -> Result<Client, ConnectError> {
        Client::open(name, self.options, false)
    }
}

const CONNECT_PATIENCE: Duration = Duration::from_secs(5);
const CALLS_MAX_DEFAULT: u32 = 1024;
const CALLS_MAX: u32 = 65_536;
const WINDOW_DEFAULT: u32 = 256 << 10;
