//! Both sides of the handshake over a socket, and what it makes: a connection.

use super::endpoint::{self, Endpoint, Quota, Ticket};
use super::link::{Link, LinkParts, PeerCred};
use super::receiver::ReceiverParts;
use super::sender::SenderParts;
use super::talk::{Talk, Trouble, exactly};
use super::{Connection, Receiver, Sender};
use crate::config::Config;
use crate::error::Refusal;
use crate::metrics::Slot;
use crate::proto::handshake::{Message, Purpose, Terms};
use crate::ring::{Consumer, ConsumerParts, Producer, ProducerParts};
use crate::shm::layout::{self, consumer, producer, sleep};
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

/// A socket that was accepted and has not said hello yet.
pub(super) struct Guest {
    talk: Talk,
    /// User that connected: for fairness among those who have not said hello. Admission goes by the hello.
    uid: u32,
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
        let segment = create_segment(config)?;
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

impl Guest {
    /// Takes an accepted socket.
    pub(super) fn new(socket: OwnedFd, deadline: Instant) -> Self {
        let uid = sys::socket_credentials(socket.as_fd()).map_or(u32::MAX, |cred| cred.uid);
        Self { talk: Talk::new(socket, deadline), uid }
    }

    pub(super) fn uid(&self) -> u32 {
        self.uid
    }

    pub(super) fn socket(&self) -> BorrowedFd<'_> {
        self.talk.socket()
    }

    pub(super) fn deadline(&self) -> Instant {
        self.talk.deadline()
    }

    pub(super) fn is_expired(&self, now: Instant) -> bool {
        self.talk.is_expired(now)
    }

    /// Reads on; `None` while the hello is incomplete.
    pub(super) fn read_hello(&mut self) -> Result<Option<(Terms, Vec<Suspect>)>, Trouble> {
        match self.talk.receive()? {
            None => Ok(None),
            Some((Message::Hello(terms), files)) => Ok(Some((terms, files))),
            Some(_) => Err(Refusal::Malformed.into()),
        }
    }

    /// Says why not, as far as the other side listens, and hangs up.
    pub(super) fn refuse(self, refusal: Refusal) {
        self.talk.refuse(refusal);
    }

    /// Shows a monitor what it asked for, and hangs up.
    pub(super) fn show(self, config: &Config, tables: &Endpoint) -> Result<(), Trouble> {
        tables.show(self.talk, config)
    }

    /// Checks who says hello and what came with it, and answers with our own segment: a `warm` one if there is one.
    pub(super) fn welcome(
        mut self,
        terms: Terms,
        files: Vec<Suspect>,
        config: &Config,
        tables: &Arc<Endpoint>,
        wake_cost: Duration,
        warm: &mut Vec<Segment>,
    ) -> Result<Connection, Trouble> {
        crash::point("handshake.hello_received");
        match self.prepare(terms, files, config, tables, wake_cost, warm) {
            Ok((agreed, welcome)) => {
                let files = [agreed.own.file(), tables.file()];
                if let Err(trouble) = self.talk.send(&welcome, &files) {
                    agreed.slot.clear();
                    return Err(trouble);
                }
                crash::point("handshake.welcome_sent");
                agreed.connect(self.talk.into_socket(), config)
            }
            Err(Trouble::Unacceptable(refusal)) => {
                self.refuse(refusal);
                Err(Trouble::Unacceptable(refusal))
            }
            Err(trouble) => {
                self.refuse(Refusal::Resources);
                Err(trouble)
            }
        }
    }

    fn prepare(
        &mut self,
        terms: Terms,
        files: Vec<Suspect>,
        config: &Config,
        tables: &Arc<Endpoint>,
        wake_cost: Duration,
        warm: &mut Vec<Segment>,
    ) -> Result<(Agreed, Message), Trouble> {
        let sender = self.talk.admitted(config)?;
        if terms.purpose != Purpose::Connection {
            return Err(Refusal::Purpose.into());
        }
        let [segment, space] = exactly(files)?;
        let stream = sys::is_stream_socket(space.as_fd()).unwrap_or(false);
        // Nobody has anything to say on either socket before the welcome.
        if !stream || ![space.as_fd(), self.talk.socket()].into_iter().all(sys::refuse_descriptors) {
            return Err(Refusal::Descriptors.into());
        }
        let theirs = map_peer(segment, &terms, config)?;
        let ticket: Ticket = tables
            .admit(sender.uid, config.ring_bytes + terms.ring_bytes, quota(config))
            .ok_or(Refusal::Limit)?;
        let own = warm.pop().map_or_else(|| create_segment(config), Ok)?;
        crash::point("handshake.segment_created");
        let barrier =
            terms.barrier && config.wants_barrier() && sender.uid == sys::uid() && sys::register_barrier();
        let wake_cost_ns = wake_cost.as_nanos().try_into().unwrap_or(u32::MAX);
        let welcome = Message::Welcome(self::terms(config, barrier, tables.slots() as u32, wake_cost_ns));
        let slot = ticket.slot(sender.pid).map_err(|error| Trouble::Os("make a statistics slot", error))?;
        let pidfd = self.talk.take_pidfd();
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
        let consumer = Consumer::new(ConsumerParts {
            ring: theirs.ring(),
            published: theirs.word(producer::PUBLISHED),
            intent: theirs.word(producer::INTENT),
            close: theirs.word(producer::CLOSE),
            consumed: own.word(consumer::CONSUMED),
            overwrite: their_terms.segment_features & layout::feature::OVERWRITE != 0,
            record_bytes_max: their_terms.ring_bytes / layout::RECORD_SHARE,
            start: 0,
        });
        let mut producer = make_producer(own);
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

fn make_producer(own: Segment) -> Producer {
    let ring_bytes = own.ring_bytes();
    let parts = |allocate| ProducerParts {
        ring: own.ring(),
        published: own.word(producer::PUBLISHED),
        intent: own.word(producer::INTENT),
        close: own.word(producer::CLOSE),
        overwrite: false,
        record_bytes_max: ring_bytes / layout::RECORD_SHARE,
        allocate,
    };
    if own.is_prefaulted() {
        return Producer::new(parts(None));
    }
    let segment = own.share();
    let mut done = 0;
    Producer::new(parts(Some(Box::new(move |end| {
        segment
            .allocate(layout::HEADER_BYTES as u64 + done, end - done)
            .map_err(|error| error.raw_os_error().unwrap_or(0))?;
        done = end;
        Ok(())
    }))))
}

/// Creates our side's segment of a connection.
pub(super) fn create_segment(config: &Config) -> Result<Segment, Trouble> {
    let os = |error| Trouble::Os("create the segment", error);
    let mut segment = Segment::connection(config.ring_bytes, 0).map_err(os)?;
    if config.prefault {
        segment.prefault().map_err(os)?;
    }
    Ok(segment)
}

fn map_peer(file: Suspect, terms: &Terms, config: &Config) -> Result<PeerSegment, Trouble> {
    // Both rings of a connection wait for their reader.
    if terms.segment_features != 0 {
        return Err(Refusal::Features.into());
    }
    // Looking at its pages gives them memory, at our expense too.
    if terms.ring_bytes > config.peer_ring_bytes_max.max(config.ring_bytes) {
        return Err(Refusal::Limit.into());
    }
    let segment =
        PeerSegment::connection(file.as_fd(), terms.ring_bytes, terms.segment_features, config.trust_peer)
            .map_err(|_| Refusal::Descriptors)?;
    // It is a memfd, which closes at once.
    drop(file.into_trusted());
    Ok(segment)
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
