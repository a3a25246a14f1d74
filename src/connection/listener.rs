//! The listening side: a name, and handshakes driven side by side.

use super::Connection;
use super::doorway::Doorway;
use super::endpoint::Endpoint;
use super::name::Place;
use super::setup::{Guest, create_segment};
use super::talk::Trouble;
use crate::config::Config;
use crate::error::{AcceptError, BindError};
use crate::proto::handshake::Purpose;
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
    doorway: Doorway,
    config: Config,
    tables: Arc<Endpoint>,
    guests: Vec<Guest>,
    /// What is waited for: the queue, and those who have not said hello.
    epoll: sys::Epoll,
    wake_cost: Duration,
    /// Segments for the next clients, made ahead.
    warm: Vec<Segment>,
    /// More may wait in the queue than were let in at once.
    queue_left: bool,
    /// Descriptors ran out: leave the queue alone until then.
    resting_until: Option<Instant>,
    refused: u64,
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
        self.doorway.path()
    }

    /// Returns how many connections of this listener exist now.
    pub fn connections(&self) -> usize {
        self.tables.connections()
    }

    /// Returns how many clients were refused or gave up during their handshake.
    pub fn refused(&self) -> u64 {
        self.refused
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
        let waited = self.epoll.wait(timeout).map(drop);
        waited.map_err(|source| AcceptError::Os { action: "wait for clients", source })
    }

    /// Makes a segment for a client to come while nobody waits for it; says whether that was all. Nobody else ever had it.
    pub(super) fn prepare(&mut self) -> bool {
        if self.warm.len() >= self.config.warm_segments {
            return true;
        }
        match create_segment(&self.config) {
            Ok(segment) => {
                self.warm.push(segment);
                self.warm.len() >= self.config.warm_segments
            }
            // What cannot be had now is asked for again, and reported, when somebody needs it.
            Err(_) => true,
        }
    }

    pub(super) fn check_owner(&self) -> Result<(), AcceptError> {
        if self.doorway.is_ours() { Ok(()) } else { Err(AcceptError::Forked) }
    }

    /// Returns what is readable while there is something to [`drive`](Self::drive).
    pub(super) fn doorway(&self) -> BorrowedFd<'_> {
        self.epoll.as_fd()
    }

    /// Makes another descriptor of [`doorway`](Self::doorway).
    pub(super) fn share_set(&self) -> io::Result<sys::Epoll> {
        self.epoll.share()
    }

    /// Ends waiting, too, when there is something to read here.
    pub(super) fn watch_outside(&self, fd: BorrowedFd<'_>) -> io::Result<()> {
        self.epoll.watch(fd, OUTSIDE)
    }

    /// Says whether somebody may wait in the queue who is no news to a reactor.
    pub(super) fn has_queue_left(&self) -> bool {
        self.queue_left
    }

    /// Returns when something must be done although nothing arrived.
    pub(super) fn next_deadline(&self) -> Option<Instant> {
        self.guests.iter().map(Guest::deadline).chain(self.resting_until).min()
    }

    /// Takes in who waits in the queue and goes on with every handshake; returns the first that is complete.
    pub(super) fn drive(&mut self) -> Result<Option<Connection>, AcceptError> {
        if let Some(timer) = &self.timer {
            timer.stop();
        }
        self.let_in()?;
        let now = Instant::now();
        let mut index = 0;
        while index < self.guests.len() {
            if self.guests[index].is_expired(now) {
                self.take_guest(index);
                self.refused += 1;
                continue;
            }
            match self.guests[index].read_hello() {
                Ok(None) => index += 1,
                Ok(Some((terms, _))) if terms.purpose == Purpose::Monitor => {
                    let shown = self.take_guest(index).show(&self.config, &self.tables);
                    self.refused += u64::from(matches!(shown, Err(Trouble::Unacceptable(_))));
                }
                Ok(Some((terms, files))) => {
                    let guest = self.take_guest(index);
                    let Self { config, tables, wake_cost, warm, .. } = self;
                    match guest.welcome(terms, files, config, tables, *wake_cost, warm) {
                        Ok(connection) => return Ok(Some(connection)),
                        Err(_) => self.refused += 1,
                    }
                }
                Err(trouble) => {
                    let guest = self.take_guest(index);
                    self.refused += 1;
                    if let Trouble::Unacceptable(refusal) = trouble {
                        guest.refuse(refusal);
                    }
                }
            }
        }
        Ok(None)
    }

    /// Accepts the sockets in the queue, a bounded number at a time.
    fn let_in(&mut self) -> Result<(), AcceptError> {
        let now = Instant::now();
        if self.resting_until.is_some_and(|until| now < until) {
            return Ok(());
        }
        if self.resting_until.take().is_some() {
            self.mute_queue(false)?;
        }
        self.queue_left = false;
        for _ in 0..LET_IN_AT_ONCE {
            if !self.has_room(now)? {
                return Ok(());
            }
            match sys::accept(self.socket()) {
                Ok(None) => return Ok(()),
                Ok(Some(socket)) => {
                    let guest = Guest::new(socket, now + self.config.handshake_timeout);
                    self.limit_half_open(guest.uid(), now);
                    if self.epoll.watch(guest.socket(), GUEST).is_err() {
                        // The user has no watches left. This client tries again, as after any hang-up.
                        self.refused += 1;
                        return self.rest_until(now + DESCRIPTOR_REST);
                    }
                    self.guests.push(guest);
                }
                Err(error) if sys::is_out_of_descriptors(&error) => {
                    return self.rest_until(now + DESCRIPTOR_REST);
                }
                Err(source) => return Err(AcceptError::Os { action: "accept a client", source }),
            }
        }
        self.queue_left = true;
        Ok(())
    }

    /// Says whether one more may come in: there is a place, or somebody who had time enough to say hello can go for it.
    fn has_room(&mut self, now: Instant) -> Result<bool, AcceptError> {
        let room = self.guests.len() < HALF_OPEN_MAX || self.turn_out(None, now);
        if !room {
            // They wait in the kernel's queue, which nobody can be turned out of.
            self.rest_until(now + HELLO_GRACE)?;
        }
        Ok(room)
    }

    /// Keeps one user from taking all places.
    fn limit_half_open(&mut self, uid: u32, now: Instant) {
        let of_uid = self.guests.iter().filter(|guest| guest.uid() == uid).count();
        if of_uid >= HALF_OPEN_PER_UID_MAX {
            self.turn_out(Some(uid), now);
        }
    }

    /// Turns out the oldest half-open handshake, of one user or of all, if it had time enough: an honest client says
    /// hello within microseconds after it was scheduled.
    fn turn_out(&mut self, uid: Option<u32>, now: Instant) -> bool {
        let candidates =
            self.guests.iter().enumerate().filter(|(_, guest)| uid.is_none_or(|uid| guest.uid() == uid));
        let oldest = candidates.min_by_key(|(_, guest)| guest.deadline());
        let patience_left = self.config.handshake_timeout.saturating_sub(HELLO_GRACE);
        let Some((index, _)) = oldest.filter(|(_, guest)| guest.deadline() <= now + patience_left) else {
            return false;
        };
        self.take_guest(index);
        self.refused += 1;
        true
    }

    fn take_guest(&mut self, index: usize) -> Guest {
        let guest = self.guests.swap_remove(index);
        self.epoll.unwatch(guest.socket());
        guest
    }

    /// Leaves the queue alone until then.
    fn rest_until(&mut self, until: Instant) -> Result<(), AcceptError> {
        self.resting_until = Some(until);
        self.mute_queue(true)
    }

    fn mute_queue(&self, muted: bool) -> Result<(), AcceptError> {
        let changed = self.epoll.mute(self.socket(), QUEUE, muted);
        changed.map_err(|source| AcceptError::Os { action: "watch the queue of clients", source })
    }

    /// Leaves it to others to touch the segments, on processors nearer to their use; says whether anything is to be touched.
    pub(super) fn leave_prefault(&mut self) -> bool {
        std::mem::take(&mut self.config.prefault)
    }

    /// Leaves the queue alone for a moment: something failed there.
    pub(super) fn back_off(&mut self) {
        // If not even that goes, the queue is looked at again at once.
        let _ = self.rest_until(Instant::now() + DESCRIPTOR_REST);
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

    fn socket(&self) -> BorrowedFd<'_> {
        self.doorway.socket()
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
        let epoll = sys::Epoll::new().map_err(|error| os("make the set of descriptors for", error))?;
        let doorway = Doorway::open(self, place)?;
        let watched = epoll.watch(doorway.socket(), QUEUE);
        watched.map_err(|error| os("watch", error))?;
        Ok(Listener {
            doorway,
            config: self.clone(),
            tables: Arc::new(tables),
            guests: Vec::new(),
            epoll,
            wake_cost,
            warm: Vec::new(),
            queue_left: false,
            resting_until: None,
            refused: 0,
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

/// Numbers in the set of descriptors.
const QUEUE: u64 = 0;
const GUEST: u64 = 1;
const OUTSIDE: u64 = 2;
/// Handshakes that may be under way at one time: in all, and of one user.
const HALF_OPEN_MAX: usize = 256;
const HALF_OPEN_PER_UID_MAX: usize = 192;
/// How long a client certainly has for its hello, however many others there are.
const HELLO_GRACE: Duration = Duration::from_millis(10);
/// Well below the limits above, so that who was let in is heard before the next are.
const LET_IN_AT_ONCE: usize = 16;
/// How long to leave the queue alone when the process has no descriptors left.
const DESCRIPTOR_REST: Duration = Duration::from_millis(10);
