//! Who is there: everybody with a name in the run-time directory, and who is connected to whom.
//!
//! Each is asked for its tables, as a monitor; all at the same time, so that one who is stopped holds nobody up. Nothing
//! is changed, and the asked spend no more than a handshake on it.

use super::endpoint::slot_offset;
use super::link::PeerCred;
use super::name::{Place, runtime_directory};
use super::talk::{Talk, Trouble, exactly};
use crate::error::Refusal;
use crate::metrics::{SlotKind, Stats};
use crate::proto::handshake::{Message, Purpose, Terms};
use crate::shm::layout::{endpoint, slot};
use crate::shm::{Peer, PeerSegment, SharedWord};
use crate::sys::{self, Suspect};
use std::io;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

pub use super::name::Role;

/// A name in the run-time directory, and what is known of it.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Entry {
    /// What the socket is for.
    pub role: Role,
    /// The name, without what the role adds to it: what `bind`, `connect` and the like take.
    pub name: String,
    /// Path of the socket.
    pub path: PathBuf,
    /// Whether somebody answers there.
    pub state: State,
    /// Who answers, as the kernel says; if nobody answers, who bound the socket; `None` if that cannot be told.
    pub owner: Option<PeerCred>,
    /// What it has done: a listener with the connections that exist now, all together; a sender or receiver by itself.
    /// Zeros unless it answers.
    pub stats: Stats,
    /// Who is connected to it. Empty unless it answers.
    pub links: Vec<Link>,
}

/// Whether somebody answers under a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum State {
    /// It lives and answers.
    Answers,
    /// It lives, and does not let this user look.
    Refuses,
    /// A process holds the socket but said nothing for 200 ms: it is stopped or overloaded, or does not accept.
    Silent,
    /// The process ended without removing the name. The next that binds a name there removes it.
    Dead,
}

/// One who is connected to an [`Entry`].
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Link {
    /// What it is to the entry.
    pub kind: LinkKind,
    /// Counted from 1 by the entry, never used twice.
    pub number: u64,
    /// Process id as the entry sees it; 0 if it cannot.
    pub pid: u32,
    /// User id as the entry sees it.
    pub uid: u32,
    /// Receivers: bytes that the entry has sent and that this one had not read when the entry last looked. A sender looks
    /// when it needs room, and when it is asked.
    pub behind_bytes: Option<u64>,
    /// What the entry has done for this one: messages sent to it and received from it.
    pub stats: Stats,
}

/// What one who is connected is to an [`Entry`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum LinkKind {
    /// A client of a listener.
    Client,
    /// Receives what the entry sends.
    Receiver,
    /// Sends what the entry receives.
    Sender,
}

/// Lists who is there: listeners, senders and receivers of routes, members of channels, and the names of the dead.
///
/// `directory`: where to look; [`runtime_directory`](crate::runtime_directory) if `None`. One that does not exist has
/// nobody in it. Sorted by name and role.
///
/// # Errors
/// The directory cannot be read, or others than its owner and root may write it; or this process has no descriptors left.
/// # Cost
/// About 0.1 ms for each name, 200 ms more if somebody does not answer. Up to 256 descriptors at a time.
/// # Examples
/// ```
/// for entry in ringway::census(None)? {
///     println!("{:?} {} has {} connections", entry.role, entry.name, entry.links.len());
/// }
/// # Ok::<(), std::io::Error>(())
/// ```
pub fn census(directory: Option<&Path>) -> io::Result<Vec<Entry>> {
    match directory {
        Some(directory) => count(directory, PATIENCE),
        None => count(&runtime_directory(), PATIENCE),
    }
}

/// Lists who is there; the asked may take so long to answer.
fn count(path: &Path, patience: Duration) -> io::Result<Vec<Entry>> {
    let directory = match sys::Directory::open(path, false, false) {
        Ok(directory) => directory,
        Err(fault) if fault.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(fault) => return Err(io::Error::new(fault.kind(), fault)),
    };
    let place = |name: &String| {
        let (role, _) = Place::parse(name)?;
        Some(Place::found(directory.path(), name, role))
    };
    let places: Vec<Place> = directory.names()?.iter().filter_map(place).collect();
    let mut entries = ask_all(places, patience)?;
    let order = |entry: &Entry| (entry.name.clone(), entry.role as u8, entry.path.clone());
    entries.sort_by_cached_key(order);
    Ok(entries)
}

/// One who was asked and has not answered yet.
struct Asked {
    entry: Entry,
    talk: Talk,
}

/// What came of asking.
enum Asking {
    /// There is nothing to wait for.
    Known(Entry),
    Waits(Asked),
    /// The name is gone, or something else than a socket of ours.
    Gone,
}

/// Asks everybody, many at a time.
fn ask_all(mut places: Vec<Place>, patience: Duration) -> io::Result<Vec<Entry>> {
    let (mut entries, mut asked) = (Vec::new(), Vec::new());
    loop {
        while asked.len() < ASKED_AT_ONCE
            && let Some(place) = places.pop()
        {
            match ask(&place, patience) {
                Ok(Asking::Known(entry)) => entries.push(entry),
                Ok(Asking::Waits(one)) => asked.push(one),
                Ok(Asking::Gone) => {}
                // Those who are through give their descriptors back.
                Err(error) if sys::is_out_of_descriptors(&error) && !asked.is_empty() => {
                    places.push(place);
                    break;
                }
                Err(error) => return Err(error),
            }
        }
        let Some(deadline) = asked.iter().map(|one: &Asked| one.talk.deadline()).min() else {
            return Ok(entries);
        };
        let mut items: Vec<_> = asked.iter().map(|one| sys::PollItem::readable(one.talk.socket())).collect();
        sys::poll(&mut items, Some(deadline.saturating_duration_since(Instant::now())))?;
        drop(items);
        let now = Instant::now();
        for mut one in std::mem::take(&mut asked) {
            match one.hear(now) {
                true => entries.push(one.entry),
                false => asked.push(one),
            }
        }
    }
}

/// Connects, and asks to be shown the tables.
fn ask(place: &Place, patience: Duration) -> io::Result<Asking> {
    let mut entry = Entry {
        role: place.role(),
        name: place.name().to_owned(),
        path: place.path(),
        state: State::Silent,
        owner: None,
        stats: Stats::default(),
        links: Vec::new(),
    };
    let socket = match sys::connect_stream(&entry.path) {
        Ok(socket) => socket,
        Err(error) => {
            entry.state = match error.kind() {
                io::ErrorKind::ConnectionRefused => State::Dead,
                io::ErrorKind::PermissionDenied => State::Refuses,
                // Its queue is full.
                io::ErrorKind::WouldBlock => State::Silent,
                _ if sys::is_out_of_descriptors(&error) => return Err(error),
                _ => return Ok(Asking::Gone),
            };
            return Ok(Asking::Known(entry));
        }
    };
    entry.owner = sys::socket_credentials(socket.as_fd()).ok().map(cred_of);
    let talk = Talk::new(socket, Instant::now() + patience);
    Ok(match talk.send(&Message::Hello(Terms::new(Purpose::Monitor)), &[]) {
        Ok(()) => Asking::Waits(Asked { entry, talk }),
        Err(_) => Asking::Known(entry),
    })
}

impl Asked {
    /// Takes the answer if it has come; says whether there is nothing more to wait for.
    fn hear(&mut self, now: Instant) -> bool {
        match self.talk.receive() {
            Ok(None) => return self.talk.is_expired(now),
            Ok(Some((Message::Refused(_), _))) => self.entry.state = State::Refuses,
            Ok(Some((Message::Welcome(terms), files))) => {
                if let Ok(tables) = map_tables(&terms, files) {
                    self.entry.state = State::Answers;
                    self.entry.read(&tables, u64::from(terms.endpoint_slots));
                }
            }
            // It hung up, or what it says is nothing that we know.
            Ok(Some(_)) | Err(_) => {}
        }
        if let Some(sender) = self.talk.sender() {
            self.entry.owner = Some(cred_of(sender));
        }
        true
    }
}

fn map_tables(terms: &Terms, files: Vec<Suspect>) -> Result<PeerSegment, Trouble> {
    if terms.purpose != Purpose::Monitor {
        return Err(Refusal::Purpose.into());
    }
    let [file] = exactly(files)?;
    let slots = terms.endpoint_slots as usize;
    let tables = PeerSegment::endpoint(file.as_fd(), slots).map_err(|_| Refusal::Descriptors)?;
    // It is a memfd, which closes at once.
    drop(file.into_trusted());
    Ok(tables)
}

impl Entry {
    /// Reads the slots in use. They may change meanwhile: these are figures for people.
    fn read(&mut self, tables: &PeerSegment, slots: u64) {
        // Looking at a page gives it memory, so only at those that were used once.
        let used = tables.word(endpoint::SLOTS_USED).load_relaxed().min(slots);
        let (mut own_position, mut sum) = (None, Stats::default());
        for number in 0..used as usize {
            let word = |offset| -> SharedWord<Peer> { tables.word(slot_offset(number) + offset) };
            let read = |offset| word(offset).load_relaxed();
            let stats = Stats::read(read);
            let consumed = read(slot::CONSUMED);
            let kind = match SlotKind::of(read(slot::KIND)) {
                _ if read(slot::CONNECTION) == 0 => continue,
                Some(SlotKind::Itself) => {
                    own_position = Some(stats.position);
                    self.stats = stats;
                    continue;
                }
                Some(SlotKind::Connection) => LinkKind::Client,
                Some(SlotKind::Reader) => LinkKind::Receiver,
                Some(SlotKind::Source) => LinkKind::Sender,
                None => continue,
            };
            sum.add(&stats);
            self.links.push(Link {
                kind,
                number: read(slot::CONNECTION),
                pid: read(slot::PEER_PID) as u32,
                uid: read(slot::PEER_UID) as u32,
                behind_bytes: (kind == LinkKind::Receiver).then_some(consumed),
                stats,
            });
        }
        match own_position {
            Some(position) => {
                for link in &mut self.links {
                    link.behind_bytes = link.behind_bytes.map(|consumed| position.saturating_sub(consumed));
                }
            }
            None => {
                self.stats = sum;
                self.links.iter_mut().for_each(|link| link.behind_bytes = None);
            }
        }
        self.links.sort_unstable_by_key(|link| link.number);
    }
}

fn cred_of(found: sys::Credentials) -> PeerCred {
    PeerCred { pid: found.pid, uid: found.uid, gid: found.gid }
}

/// How long the asked may take to answer. One that is ready takes a fraction of a millisecond.
const PATIENCE: Duration = Duration::from_millis(200);
/// Each takes a descriptor here, and a place among the half-open handshakes only of the one it visits.
const ASKED_AT_ONCE: usize = 256;

#[cfg(test)]
mod tests;
