//! The listening side: a name, and handshakes driven side by side.

use super::Connection;
use super::doorway::Doorway;
use super::endpoint::Endpoint;
use super::name::Place;
use super::reception::{Reception, Visit};
use super::rings;
use super::setup::welcome;
use super::talk::Trouble;
use crate::config::Config;
use crate::error::{AcceptError, BindError, Refusal};
use crate::proto::handshake::{Message, Purpose};
use crate::ring::Mode;
use crate::shm::{Own, Segment, SharedWord};
use crate::sys;
use crate::wait;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Waits for clients under a name.
///
/// A client that is slow, dies, or lies during its handshake holds nobody else up: all handshakes go on side by side,
/// each with a deadline, and the first complete one is returned. Dropping the listener removes its name; connections
/// go on.
///
/// # Examples
/// ```no_run
/// let mut listener = ringway::Listener::bind("greeter")?;
/// for connection in listener.incoming() {
///     let mut connection = connection?;
///     std::thread::spawn(move || while let Ok(message) = connection.recv() {
///         println!("{} bytes", message.len());
///     });
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[must_use]
pub struct Listener {
    reception: Reception,
    config: Config,
    tables: Arc<Endpoint>,
    wake_cost: Duration,
    /// Segments for the next clients, made ahead.
    warm: Vec<Segment>,
    /// Makes the set readable for a reactor when something must be done although nothing arrived.
    pub(super) timer: Option<sys::Timer>,
}

impl Listener {
    /// Binds a name with default settings; see [`Config::bind`].
    ///
    /// # Errors
    /// As [`Config::bind`].
    pub fn bind(name: &str) -> Result<Self, BindError> {
        Config::new().bind(name)
    }

    /// Waits for the next client whose handshake succeeds.
    ///
    /// # Errors
    /// [`AcceptError::Os`]: the listener itself failed. Clients that fail are refused, counted, and not reported here.
    /// # Cost
    /// About 30 us of work per connection; sleeps in between.
    pub fn accept(&mut self) -> Result<Connection, AcceptError> {
        self.accept_until(None)
    }

    /// Waits for the next client for at most `timeout`.
    ///
    /// # Errors
    /// [`AcceptError::Timeout`], else as [`accept`](Self::accept).
    pub fn accept_timeout(&mut self, timeout: Duration) -> Result<Connection, AcceptError> {
        self.accept_until(Instant::now().checked_add(timeout))
    }

    /// Returns a client whose handshake is complete now, and drives those of the others.
    ///
    /// # Errors
    /// [`AcceptError::Timeout`] when there is none, else as [`accept`](Self::accept).
    pub fn try_accept(&mut self) -> Result<Connection, AcceptError> {
        self.check_owner()?;
        self.drive()?.ok_or(AcceptError::Timeout)
    }

    /// Returns an iterator over clients, which waits for each and never ends.
    pub fn incoming(&mut self) -> Incoming<'_> {
        Incoming { listener: self }
    }

    /// Returns the path of the socket.
    pub fn path(&self) -> PathBuf {
        self.reception.doorway().path()
    }

    /// Returns how many connections of this listener exist now.
    pub fn connections(&self) -> usize {
        self.tables.connections()
    }

    /// Returns how many clients were refused or gave up during their handshake.
    pub fn refused(&self) -> u64 {
        self.reception.refused()
    }

    fn accept_until(&mut self, deadline: Option<Instant>) -> Result<Connection, AcceptError> {
        self.check_owner()?;
        loop {
            if let Some(connection) = self.drive()? {
                return Ok(connection);
            }
            if deadline.is_some_and(|deadline| Instant::now() >= deadline) {
                return Err(AcceptError::Timeout);
            }
            self.wait(deadline)?;
        }
    }

    /// Waits until there is something to [`drive`](Self::drive), at most until `deadline`.
    pub(super) fn wait(&mut self, deadline: Option<Instant>) -> Result<(), AcceptError> {
        let until = self.next_deadline().into_iter().chain(deadline).min();
        let left = until.map(|until| until.saturating_duration_since(Instant::now()));
        // Between two segments it looks whether somebody waits already.
        let timeout = if self.prepare() { left } else { Some(Duration::ZERO) };
        let waited = self.reception.set().wait(timeout).map(drop);
        waited.map_err(|source| AcceptError::Os { action: "wait for clients", source })
    }

    /// Makes a segment for a client to come while nobody waits for it; says whether that was all. Nobody else ever had it.
    pub(super) fn prepare(&mut self) -> bool {
        if self.warm.len() >= self.config.warm_segments {
            return true;
        }
        match rings::create_segment(&self.config, Mode::Lossless) {
            Ok(segment) => {
                self.warm.push(segment);
                self.warm.len() >= self.config.warm_segments
            }
            // What cannot be had now is asked for again, and reported, when somebody needs it.
            Err(_) => true,
        }
    }

    pub(super) fn check_owner(&self) -> Result<(), AcceptError> {
        if self.reception.doorway().is_ours() { Ok(()) } else { Err(AcceptError::Forked) }
    }

    /// Returns what is readable while there is something to [`drive`](Self::drive).
    pub(super) fn doorway(&self) -> BorrowedFd<'_> {
        self.reception.set().as_fd()
    }

    /// Makes another descriptor of [`doorway`](Self::doorway).
    pub(super) fn share_set(&self) -> io::Result<sys::Epoll> {
        self.reception.set().share()
    }

    /// Ends waiting, too, when there is something to read here.
    pub(super) fn watch_outside(&self, fd: BorrowedFd<'_>) -> io::Result<()> {
        self.reception.set().watch(fd, OUTSIDE)
    }

    /// Says whether somebody may wait in the queue who is no news to a reactor.
    pub(super) fn has_queue_left(&self) -> bool {
        self.reception.has_queue_left()
    }

    /// Returns when something must be done although nothing arrived.
    pub(super) fn next_deadline(&self) -> Option<Instant> {
        self.reception.next_deadline()
    }

    /// Takes in who waits in the queue and goes on with every handshake; returns the first that is complete.
    pub(super) fn drive(&mut self) -> Result<Option<Connection>, AcceptError> {
        if let Some(timer) = &self.timer {
            timer.stop();
        }
        for _ in 0..VISITS_AT_ONCE {
            let Some(Visit { talk, message, files }) = self.reception.drive()? else { return Ok(None) };
            let Self { reception, config, tables, wake_cost, warm, .. } = self;
            let told = match message {
                Message::Hello(terms) if terms.purpose == Purpose::Monitor => match tables.show(talk, config)
                {
                    Err(Trouble::Unacceptable(refusal)) => Err(refusal.into()),
                    _ => Ok(()),
                },
                Message::Hello(terms) => {
                    match welcome(talk, terms, files, config, tables, *wake_cost, warm) {
                        Ok(connection) => return Ok(Some(connection)),
                        Err(trouble) => Err(trouble),
                    }
                }
                _ => {
                    talk.refuse(Refusal::Malformed);
                    Err(Refusal::Malformed.into())
                }
            };
            if told.is_err() {
                reception.note_refused();
            }
        }
        self.reception.note_more();
        Ok(None)
    }

    /// Leaves it to others to touch the segments, on processors nearer to their use; says whether anything is to be touched.
    pub(super) fn leave_prefault(&mut self) -> bool {
        std::mem::take(&mut self.config.prefault)
    }

    /// Leaves the queue alone for a moment: something failed there.
    pub(super) fn back_off(&mut self) {
        self.reception.back_off();
    }

    pub(super) fn tables(&self) -> Arc<Endpoint> {
        Arc::clone(&self.tables)
    }

    pub(super) fn worker_line(&self) -> Option<(u64, SharedWord<Own>)> {
        self.tables.worker_line()
    }

    pub(super) fn config(&self) -> &Config {
        &self.config
    }

    pub(super) fn wake_cost(&self) -> Duration {
        self.wake_cost
    }
}

impl Config {
    /// Listens under a name: 1 to 64 characters of `A-Z a-z 0-9 . _ -`, a socket in
    /// [`runtime_directory`](crate::runtime_directory); a value with a slash is the path of the socket.
    ///
    /// The name of a listener that died is taken over; that of a living one is not. Dead names in the directory are
    /// removed on the way.
    ///
    /// # Errors
    /// [`BindError`]: the name is in use, something else lies in its place, the directory is not safe to use, or
    /// [`connections_max`](Self::connections_max) needs more descriptors than the process may have.
    /// # Cost
    /// About 1 ms the first time in a process: what a wake costs on this machine is measured once.
    pub fn bind(&self, name: &str) -> Result<Listener, BindError> {
        self.check().map_err(BindError::Config)?;
        let place = Place::resolve(name).map_err(BindError::Name)?;
        let path = place.path();
        let os =
            |action: &'static str, source: io::Error| BindError::Os { action, path: path.clone(), source };
        let tables = Endpoint::new(self.reserve_descriptors()?)
            .map_err(|error| os("create the endpoint segment for", error))?;
        let wake_cost = wait::measure_wake_cost();
        let doorway = Doorway::open(self, place)?;
        let reception =
            Reception::new(Arc::new(doorway), self.handshake_timeout).map_err(|error| os("watch", error))?;
        Ok(Listener {
            reception,
            config: self.clone(),
            tables: Arc::new(tables),
            wake_cost,
            warm: Vec::new(),
            timer: None,
        })
    }

    /// Returns for how many connections there are descriptors, after raising the soft limit if that is too low.
    fn reserve_descriptors(&self) -> Result<usize, BindError> {
        let (soft, hard) = sys::descriptor_limit();
        let wanted = self.connections_within(u64::MAX).unwrap_or(usize::MAX);
        if self.connections_within(soft) == Ok(wanted) {
            return Ok(wanted);
        }
        // Who may not raise it has to do with the soft limit.
        let limit = sys::raise_descriptor_limit().map_or(soft, |(soft, _)| soft);
        self.connections_within(limit).map_err(|needed| BindError::Descriptors {
            connections_max: wanted,
            needed,
            limit: limit.min(hard),
        })
    }
}

/// Iterator over clients; see [`Listener::incoming`].
pub struct Incoming<'a> {
    listener: &'a mut Listener,
}

impl Iterator for Incoming<'_> {
    type Item = Result<Connection, AcceptError>;

    fn next(&mut self) -> Option<Self::Item> {
        Some(self.listener.accept())
    }
}

/// Number in the set of descriptors; the reception has those below.
const OUTSIDE: u64 = 2;
/// Handshakes that one call completes at most without success.
const VISITS_AT_ONCE: usize = 64;
