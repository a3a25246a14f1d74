//! Both sides of the handshake over a socket, and what it makes: a connection.

use super::endpoint::{self, Endpoint, Quota, Ticket};
use super::link::{Link, LinkParts, PeerCred};
use super::receiver::ReceiverParts;
use super::rings;
use super::sender::SenderParts;
use super::talk::{Talk, Trouble, exactly};
use super::{Connection, Receiver, Sender};
use crate::config::Config;
use crate::error::Refusal;
use crate::metrics::Slot;
use crate::proto::handshake::{Message, Purpose, Terms};
use crate::ring::Mode;
use crate::shm::layout::{self, consumer, sleep};
use crate::shm::{PeerSegment, Segment};
use crate::sys::Suspect;
use crate::wait::{Barrier, Sleeper, Spinner, WAKE_COST_GUESS, Waker, WorkerLines};
use crate::{crash, sys};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A connecting side that has said hello.
pub(super) struct Caller {
    talk: Talk,
    space: OwnedFd,
    segment: Segment,
    barrier: bool,
}

/// What both sides know when the connection is made.
struct Agreed {
    space: OwnedFd,
    pidfd: Option<OwnedFd>,
    peer: PeerCred,
    own: Segment,
    theirs: PeerSegment,
    their_terms: Terms,
    barrier: Barrier,
    wake_cost: Duration,
    lines: Option<WorkerLines>,
    slot: Slot,
    ticket: Option<Box<dyn Send + Sync>>,
}

/// What a hello brings, made before the listener knows of us: between connecting and the hello it waits.
pub(super) struct Offer {
    space: OwnedFd,
    their_space: OwnedFd,
    segment: Segment,
}

impl Offer {
    pub(super) fn new(config: &Config) -> Result<Self, Trouble> {
        let segment = rings::create_segment(config, Mode::Lossless)?;
        let (space, their_space) =
            sys::stream_pair().map_err(|error| Trouble::Os("make a doorbell", error))?;
        sys::refuse_descriptors(space.as_fd());
        Ok(Self { space, their_space, segment })
    }
}

impl Caller {
    /// Says hello on a connected socket.
    pub(super) fn hello(
        socket: OwnedFd,
        offer: Offer,
        config: &Config,
        deadline: Instant,
    ) -> Result<Self, Trouble> {
        let Offer { space, their_space, segment } = offer;
        let listener = sys::socket_credentials(socket.as_fd());
        // Being registered lets any local process slow us down, so only for our own user.
        let barrier = config.wants_barrier()
            && listener.is_ok_and(|cred| cred.uid == sys::uid())
            && sys::register_barrier();
        let hello = Message::Hello(terms(config, barrier, 0, 0));
        let talk = Talk::new(socket, deadline);
        talk.send(&hello, &[segment.file(), their_space.as_fd()])?;
        crash::point("handshake.hello_sent");
        Ok(Self { talk, space, segment, barrier })
    }

    pub(super) fn socket(&self) -> BorrowedFd<'_> {
        self.talk.socket()
    }

    /// Reads what the listener answered; gives itself back while the answer is incomplete.
    pub(super) fn read_answer(mut self, config: &Config) -> Result<Result<Connection, Self>, Trouble> {
        let Some((message, files)) = self.talk.receive()? else {
            return Ok(Err(self));
        };
        crash::point("handshake.welcome_received");
        let terms = match message {
            Message::Welcome(terms) => terms,
            Message::Refused(refusal) => return Err(Trouble::Refused(refusal)),
            _ => return Err(Refusal::Malformed.into()),
        };
        let sender = self.talk.expected(config)?;
        if terms.purpose != Purpose::Connection {
            return Err(Refusal::Purpose.into());
        }
        let [segment, tables] = exactly(files)?;
        let theirs = map_peer(segment, &terms, config)?;
        let lines = map_tables(tables, &terms)?;
        // Doorbells that have come already are not needed: the ring is looked at before any sleep.
        self.talk.refuse_descriptors()?;
        let slot = Slot::new(self.segment.words_from(layout::OWN_SLOT), 1, sender.pid, sender.uid);
        let lines: WorkerLines = Box::new(move |number| {
            let known = number < layout::endpoint::WORKERS_MAX as u64;
            known.then(|| lines.word(endpoint::worker_line_offset(number)))
        });
        let wake_cost = match terms.wake_cost_ns {
            0 => WAKE_COST_GUESS,
            ns => Duration::from_nanos(ns.into()),
        };
        let barrier = if self.barrier && terms.barrier { Barrier::Expedited } else { Barrier::Fence };
        let agreed = Agreed {
            space: self.space,
            pidfd: self.talk.take_pidfd(),
            peer: PeerCred { pid: sender.pid, uid: sender.uid, gid: sender.gid },
            own: self.segment,
            theirs,
            their_terms: terms,
            barrier,
            wake_cost,
            lines: Some(lines),
            slot,
            ticket: None,
        };
        agreed.connect(self.talk.into_socket(), config).map(Ok)
    }
}

/// Checks who says hello and what came with it, and answers with our own segment: a `warm` one if there is one.
pub(super) fn welcome(
    mut talk: Talk,
    terms: Terms,
    files: Vec<Suspect>,
    config: &Config,
    tables: &Arc<Endpoint>,
    wake_cost: Duration,
    warm: &mut Vec<Segment>,
) -> Result<Connection, Trouble> {
    crash::point("handshake.hello_received");
    match prepare(&mut talk, terms, files, config, tables, wake_cost, warm) {
        Ok((agreed, welcome)) => {
            let files = [agreed.own.file(), tables.file()];
            if let Err(trouble) = talk.send(&welcome, &files) {
                agreed.slot.clear();
                return Err(trouble);
            }
            crash::point("handshake.welcome_sent");
            agreed.connect(talk.into_socket(), config)
        }
        Err(Trouble::Unacceptable(refusal)) => {
            talk.refuse(refusal);
            Err(Trouble::Unacceptable(refusal))
        }
        Err(trouble) => {
            talk.refuse(Refusal::Resources);
            Err(trouble)
        }
    }
}

fn prepare(
    talk: &mut Talk,
    terms: Terms,
    files: Vec<Suspect>,
    config: &Config,
    tables: &Arc<Endpoint>,
    wake_cost: Duration,
    warm: &mut Vec<Segment>,
) -> Result<(Agreed, Message), Trouble> {
    let sender = talk.admitted(config)?;
    if terms.purpose != Purpose::Connection {
        return Err(Refusal::Purpose.into());
    }
    let [segment, space] = exactly(files)?;
    let stream = sys::is_stream_socket(space.as_fd()).unwrap_or(false);
    // Nobody has anything to say on either socket before the welcome.
    if !stream
        || ![space.as_fd(), talk.socket()].into_iter().all(|socket| sys::refuse_descriptors(socket).is_some())
    {
        return Err(Refusal::Descriptors.into());
    }
    let theirs = map_peer(segment, &terms, config)?;
    let ticket: Ticket = tables
        .admit(sender.uid, config.ring_bytes + terms.ring_bytes, quota(config))
        .ok_or(Refusal::Limit)?;
    let own = warm.pop().map_or_else(|| rings::create_segment(config, Mode::Lossless), Ok)?;
    crash::point("handshake.segment_created");
    let barrier =
        terms.barrier && config.wants_barrier() && sender.uid == sys::uid() && sys::register_barrier();
    let wake_cost_ns = wake_cost.as_nanos().try_into().unwrap_or(u32::MAX);
    let welcome = Message::Welcome(self::terms(config, barrier, tables.slots() as u32, wake_cost_ns));
    let slot = ticket.slot(sender.pid).map_err(|error| Trouble::Os("make a statistics slot", error))?;
    let pidfd = talk.take_pidfd();
    let agreed = Agreed {
        space: space.into_trusted(),
        pidfd,
        peer: PeerCred { pid: sender.pid, uid: sender.uid, gid: sender.gid },
        own,
        theirs,
        their_terms: terms,
        barrier: if barrier { Barrier::Expedited } else { Barrier::Fence },
        wake_cost,
        lines: None,
        slot,
        ticket: Some(Box::new(ticket)),
    };
    Ok((agreed, welcome))
}

impl Agreed {
    /// Puts the two halves together.
    fn connect(self, socket: OwnedFd, config: &Config) -> Result<Connection, Trouble> {
        let Self { own, theirs, their_terms, barrier, .. } = self;
        let spinner = Spinner::new(config.wait, self.wake_cost);
        let message_bytes_max = their_terms.message_bytes_max.min(usize::MAX as u64) as usize;
        let sender_parts = SenderParts {
            waker: Waker::new(theirs.word(sleep::DATA), barrier, self.lines),
            sleeper: Sleeper::new(own.word(sleep::SPACE), barrier),
            spinner: spinner.clone(),
            counters: self.slot.send_counters(),
            message_bytes_max,
        };
        let receiver_parts = ReceiverParts {
            waker: Waker::new(theirs.word(sleep::SPACE), barrier, None),
            sleeper: Sleeper::new(own.word(sleep::DATA), barrier),
            spinner,
            counters: self.slot.receive_counters(),
            patience: config.patience,
            message_bytes_max: config.message_bytes_max,
        };
        let consumed = own.word(consumer::CONSUMED);
        let consumer = rings::consumer(&theirs, consumed, Mode::Lossless, their_terms.ring_bytes, 0);
        let mut producer = rings::producer(own, Mode::Lossless);
        producer.add_reader(0, theirs.word(consumer::CONSUMED));
        let link = Link::new(LinkParts {
            socket,
            space: self.space,
            pidfd: self.pidfd,
            peer: self.peer,
            slot: self.slot,
            ticket: self.ticket,
        })
        .map_err(|error| Trouble::Os("set up the fork check", error))?;
        let link = Arc::new(link);
        let sender = Sender::new(producer, Arc::clone(&link), sender_parts);
        Ok(Connection::new(sender, Receiver::new(consumer, link, receiver_parts)))
    }
}

fn map_peer(file: Suspect, terms: &Terms, config: &Config) -> Result<PeerSegment, Trouble> {
    // Both rings of a connection wait for their reader.
    if terms.segment_features != 0 {
        return Err(Refusal::Features.into());
    }
    rings::map_ring(file, terms, config)
}

fn map_tables(file: Suspect, terms: &Terms) -> Result<PeerSegment, Trouble> {
    let segment = PeerSegment::endpoint(file.as_fd(), terms.endpoint_slots as usize)
        .map_err(|_| Refusal::Descriptors)?;
    drop(file.into_trusted());
    Ok(segment)
}

fn quota(config: &Config) -> Quota {
    Quota {
        connections_per_uid_max: config.connections_per_uid_max,
        bytes_max: config.memory_bytes_max,
        bytes_per_uid_max: config.memory_bytes_per_uid_max,
    }
}

fn terms(config: &Config, barrier: bool, endpoint_slots: u32, wake_cost_ns: u32) -> Terms {
    Terms {
        ring_bytes: config.ring_bytes,
        message_bytes_max: config.message_bytes_max,
        barrier,
        endpoint_slots,
        wake_cost_ns,
        ..Terms::new(Purpose::Connection)
    }
}
