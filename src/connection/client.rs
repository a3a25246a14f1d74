//! The connecting side.

use super::Connection;
use super::endpoint::Endpoint;
use super::name::Place;
use super::setup::{Caller, Offer, welcome};
use super::talk::{Talk, Trouble};
use crate::config::Config;
use crate::error::ConnectError;
use crate::proto::handshake::Message;
use crate::sys;
use crate::wait::{WAKE_COST_GUESS, Wait};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Connects to the listener of this name with default settings.
///
/// A name is 1 to 64 characters of `A-Z a-z 0-9 . _ -` and is looked up in [`runtime_directory`](crate::runtime_directory);
/// a value with a slash is the path of a socket.
///
/// # Errors
/// [`ConnectError`]: nobody listens there, not allowed, no answer within 5 s, or what was offered is not acceptable.
/// # Cost
/// About 25 system calls; 0.15 ms when the listener is ready. Spins for up to 0.2 ms for the answer, then sleeps.
/// # Examples
/// ```no_run
/// let mut connection = ringway::connect("greeter")?;
/// connection.send(b"hello")?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn connect(name: &str) -> Result<Connection, ConnectError> {
    Config::new().connect(name)
}

/// Makes a connection whose both ends are in this process: for tests, and between threads.
///
/// # Errors
/// [`ConnectError`]: a setting is out of bounds, or the operating system has no memory or descriptors left.
pub fn pair(config: &Config) -> Result<(Connection, Connection), ConnectError> {
    config.check().map_err(ConnectError::Config)?;
    let os = |action| move |source| ConnectError::Os { action, source };
    let (here, there) = sys::stream_pair().map_err(os("make a socket pair"))?;
    for socket in [&here, &there] {
        sys::pass_credentials(socket.as_fd()).map_err(os("ask for credentials"))?;
    }
    let deadline = Instant::now() + config.connect_timeout;
    let tables = Arc::new(Endpoint::new(1).map_err(os("create the endpoint segment"))?);
    let caller = Caller::hello(here, Offer::new(config)?, config, deadline)?;
    let mut talk = Talk::new(there, deadline);
    // Everything was written before it is read, so nothing is ever incomplete.
    let Some((Message::Hello(terms), files)) = talk.receive()? else { return Err(ConnectError::Dropped) };
    let theirs = welcome(talk, terms, files, config, &tables, WAKE_COST_GUESS, &mut Vec::new())?;
    let ours = caller.read_answer(config)?.map_err(|_| ConnectError::Dropped)?;
    Ok((ours, theirs))
}

impl Config {
    /// Connects to the listener of this name; see [`connect`].
    ///
    /// # Errors
    /// As [`connect`], and [`ConnectError::Config`] when a setting is out of bounds.
    pub fn connect(&self, name: &str) -> Result<Connection, ConnectError> {
        let path = self.check_for(name)?.path();
        let deadline = Instant::now() + self.connect_timeout;
        let mut dropped = false;
        loop {
            match self.connect_once(&path, deadline) {
                // A listener with too many handshakes under way turns out the oldest.
                Err(ConnectError::Dropped) if Instant::now() < deadline => {
                    dropped = true;
                    sys::poll(&mut [], Some(QUEUE_RETRY))
                        .map_err(|source| os("wait for the listener", source))?;
                }
                Err(ConnectError::Timeout | ConnectError::NoListener { .. }) if dropped => {
                    return Err(ConnectError::Dropped);
                }
                outcome => return outcome,
            }
        }
    }

    /// Checks the settings and finds the place of the name, without doing anything there.
    pub(crate) fn check_for(&self, name: &str) -> Result<Place, ConnectError> {
        self.check().map_err(ConnectError::Config)?;
        Place::resolve(name).map_err(ConnectError::Name)
    }

    fn connect_once(&self, path: &Path, deadline: Instant) -> Result<Connection, ConnectError> {
        let offer = Offer::new(self)?;
        let socket = open(path, deadline)?;
        let mut caller = Caller::hello(socket, offer, self, deadline)?;
        let patience = if self.wait == Wait::Sleep { Duration::ZERO } else { ANSWER_SPIN };
        let said_hello = Instant::now();
        loop {
            caller = match caller.read_answer(self)? {
                Ok(connection) => return Ok(connection),
                Err(caller) => caller,
            };
            if said_hello.elapsed() < patience {
                sys::yield_now();
                continue;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            let mut items = [sys::PollItem::readable(caller.socket())];
            let ready =
                sys::poll(&mut items, Some(left)).map_err(|source| os("wait for the answer", source))?;
            if ready == 0 {
                return Err(ConnectError::Timeout);
            }
        }
    }
}

/// Opens the socket, again and again while the listener's queue is full.
fn open(path: &Path, deadline: Instant) -> Result<OwnedFd, ConnectError> {
    loop {
        let error = match sys::connect_stream(path) {
            Ok(socket) => return Ok(socket),
            Err(error) => error,
        };
        match error.kind() {
            io::ErrorKind::WouldBlock if Instant::now() < deadline => {
                sys::poll(&mut [], Some(QUEUE_RETRY))
                    .map_err(|source| os("wait for the listener", source))?;
            }
            io::ErrorKind::WouldBlock => return Err(ConnectError::Timeout),
            io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => {
                return Err(ConnectError::NoListener { path: path.to_path_buf() });
            }
            io::ErrorKind::PermissionDenied => {
                return Err(ConnectError::Permission { path: path.to_path_buf() });
            }
            _ => return Err(os("open the listener's socket", error)),
        }
    }
}

fn os(action: &'static str, source: io::Error) -> ConnectError {
    ConnectError::Os { action, source }
}

impl From<Trouble> for ConnectError {
    fn from(trouble: Trouble) -> Self {
        match trouble {
            Trouble::Unacceptable(refusal) => Self::Untrusted(refusal),
            Trouble::Refused(refusal) => Self::Refused(refusal),
            Trouble::HungUp => Self::Dropped,
            Trouble::Os(action, source) => Self::Os { action, source },
        }
    }
}

/// A listener that is ready answers within this time; to be woken would take another 20 us.
const ANSWER_SPIN: Duration = Duration::from_micros(200);
/// A full queue of the listener empties within microseconds once it runs.
const QUEUE_RETRY: Duration = Duration::from_millis(1);
