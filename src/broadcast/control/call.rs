//! Subscribing to a sender: from its socket's name to a ring that may be read.

use super::super::link::{Farewell, Link};
use super::super::membership::PEERS_MAX_DEFAULT;
use super::super::peer::Peer;
use super::super::receiver::{ReceiverNews, SourceParts};
use super::post::{Heard, Post};
use super::watch::{Side, Watched};
use super::{Answer, Item, Thread};
use crate::connection::name::Place;
use crate::connection::talk::{Talk, Trouble, exactly};
use crate::connection::{PeerCred, rings};
use crate::crash;
use crate::error::Refusal;
use crate::proto::handshake::{Joined, Message, Terms};
use crate::ring::Mode;
use crate::shm::layout::{consumer, sleep};
use crate::shm::{PeerSegment, Segment};
use crate::sys;
use crate::wait::{Barrier, Sleeper, Waker};
use std::io;
use std::sync::Arc;
use std::sync::mpsc::SyncSender;
use std::time::{Duration, Instant};

/// A subscription under way.
pub(super) struct Call {
    post: u64,
    place: Place,
    stage: Stage,
    /// Those that knocked before we said hello, which reaches them or who came after them: hung up when this is done.
    knockers: Vec<Talk>,
    /// Those that knocked since then, as these instances: if it is not the one that we reach, we call once more.
    later: Vec<(u64, Talk)>,
    /// There were more of them than are kept.
    has_more: bool,
    answers: Vec<SyncSender<Answer>>,
    /// Counts this subscription.
    held: Arc<()>,
    /// Our number for the sender, once it has let us in.
    heard: Option<u64>,
    /// How long to wait before the next try to connect.
    redial: Duration,
}

/// How far a call has come.
enum Stage {
    /// Its queue is full: it is dialled again.
    Dialling,
    /// We have said hello.
    Asked { talk: Talk, segment: Segment, barrier: bool },
    /// It has let us in, and will say where we start.
    Welcomed {
        talk: Talk,
        segment: Segment,
        terms: Terms,
        theirs: PeerSegment,
        mode: Mode,
        barrier: bool,
        number: u64,
    },
}

/// How a call ended.
enum End {
    /// Nobody is there, or nobody who sends.
    Absent,
    /// We do not go together.
    Refused(Refusal),
}

impl Call {
    fn talk(&self) -> Option<&Talk> {
        match &self.stage {
            Stage::Dialling => None,
            Stage::Asked { talk, .. } | Stage::Welcomed { talk, .. } => Some(talk),
        }
    }

    /// Says that we will not read, whether or not we were let in already.
    fn leave(&self) {
        if let Stage::Asked { segment, .. } | Stage::Welcomed { segment, .. } = &self.stage {
            Sleeper::new(segment.word(sleep::DATA), Barrier::Fence).close();
        }
    }

    /// Takes note of a sender that knocks; of too many, that there was one.
    fn note_knock(&mut self, instance: u64, knocker: Talk) {
        if matches!(self.stage, Stage::Dialling) {
            if self.knockers.len() < KNOCKERS_MAX {
                self.knockers.push(knocker);
            }
        } else if self.later.len() < KNOCKERS_MAX {
            self.later.push((instance, knocker));
        } else {
            self.has_more = true;
        }
    }

    /// Lets go of those that we have called in time, and returns the others; `None`: there are none, so once is enough.
    fn unmet(&mut self, reached: Option<u64>) -> Option<Vec<Talk>> {
        self.knockers.clear();
        let unmet = self.later.drain(..).filter(|(instance, _)| Some(*instance) != reached);
        let unmet: Vec<Talk> = unmet.map(|(_, knocker)| knocker).collect();
        (std::mem::take(&mut self.has_more) || !unmet.is_empty()).then_some(unmet)
    }

    /// Tells all who wait for the outcome.
    fn answer(&mut self, answer: Answer) {
        for waiting in self.answers.drain(..) {
            // Who no longer waits has a time-out.
            let _ = waiting.try_send(answer);
        }
    }
}

impl Thread {
    /// Subscribes to a sender, unless that is done or under way.
    pub(super) fn subscribe(
        &mut self,
        number: u64,
        place: Place,
        knock: Option<(u64, Talk)>,
        answer: Option<SyncSender<Answer>>,
    ) {
        let Some(post) = self.posts.get_mut(&number).filter(|post| post.reader.is_some()) else { return };
        let known = post.hearing.get(&place.file_name);
        let heard = known.and_then(|known| known.heard);
        if heard.is_some_and(|heard| knock.as_ref().is_none_or(|knock| knock.0 == heard.instance)) {
            if let Some(answer) = answer {
                let _ = answer.try_send(Ok(true));
            }
            return;
        }
        if let Some(token) = known.and_then(|known| known.calling) {
            if let Some(Item::Call(call)) = self.items.get_mut(&token) {
                call.answers.extend(answer);
                if let Some((instance, knocker)) = knock {
                    call.note_knock(instance, knocker);
                }
            }
            return;
        }
        // Nobody is heard there, or another sender has taken its place, or so it says.
        let senders_max = post.settings.config.connections_max.unwrap_or(PEERS_MAX_DEFAULT);
        // One is the post's own. Those that nobody has read to their end count too.
        if Arc::strong_count(&post.held) > senders_max {
            if let Some(reader) = &post.reader {
                reader.desk.put(ReceiverNews::Refused(Refusal::Limit));
            }
            return;
        }
        let knockers = knock.into_iter().map(|(_, knocker)| knocker).collect();
        self.call(number, place, knockers, answer.into_iter().collect());
    }

    /// Begins to subscribe to a sender.
    fn call(&mut self, number: u64, place: Place, knockers: Vec<Talk>, answers: Vec<SyncSender<Answer>>) {
        let token = self.fresh_token();
        let Some(post) = self.posts.get_mut(&number) else { return };
        post.hearing.entry(place.file_name.clone()).or_default().calling = Some(token);
        let held = Arc::clone(&post.held);
        let call = Call {
            post: number,
            place,
            stage: Stage::Dialling,
            knockers,
            later: Vec::new(),
            has_more: false,
            answers,
            held,
            heard: None,
            redial: REDIAL_FIRST,
        };
        self.items.insert(token, Item::Call(Box::new(call)));
        self.dial(token);
    }

    /// Subscribes once more to a sender that has cut us off.
    pub(super) fn renew(&mut self, number: u64, place: Place, source: u64) {
        let Some(post) = self.posts.get_mut(&number) else { return };
        // Its end may not have been seen yet.
        post.unhear(&place, source);
        self.subscribe(number, place, None, None);
    }

    /// Connects to the sender's socket and says hello.
    pub(super) fn dial(&mut self, token: u64) {
        let Some(Item::Call(call)) = self.items.get_mut(&token) else { return };
        let Some(post) = self.posts.get(&call.post) else { return };
        match hello(post, &call.place) {
            Ok(stage) => {
                call.stage = stage;
                let watched = call.talk().map_or(Ok(()), |talk| self.epoll.watch(talk.socket(), token));
                if watched.is_err() {
                    self.finish(token, &End::Refused(Refusal::Resources));
                }
            }
            Err(Trouble::Os(_, error)) if error.kind() == io::ErrorKind::WouldBlock => {
                let when = Instant::now() + call.redial;
                call.redial = (call.redial * 2).min(REDIAL_MAX);
                self.redials.push((when, token));
            }
            Err(Trouble::Os(_, error)) if sys::is_out_of_descriptors(&error) => {
                self.redials.push((Instant::now() + REDIAL_MAX, token));
            }
            Err(Trouble::Os(_, error)) if error.kind() == io::ErrorKind::ConnectionRefused => {
                // Its process is dead: who finds that removes the name.
                post.reception.doorway().remove_dead(std::slice::from_ref(&call.place));
                self.finish(token, &End::Absent);
            }
            Err(Trouble::Os(_, error)) if error.kind() == io::ErrorKind::PermissionDenied => {
                self.finish(token, &End::Refused(Refusal::NotAllowed));
            }
            Err(_) => self.finish(token, &End::Absent),
        }
    }

    /// The sender has said something, or hung up.
    pub(super) fn go_on(&mut self, token: u64) {
        // A welcome, and where we start, may have come together.
        for _ in 0..2 {
            match self.step(token) {
                Ok(true) => {}
                Ok(false) => return,
                Err(Trouble::Unacceptable(refusal) | Trouble::Refused(refusal)) => {
                    let end = if refusal == Refusal::Purpose { End::Absent } else { End::Refused(refusal) };
                    return self.finish(token, &end);
                }
                Err(Trouble::HungUp | Trouble::Os(..)) => return self.finish(token, &End::Absent),
            }
        }
    }

    /// We were let in by a sender. If another has knocked meanwhile, which may have taken its place, we call once more.
    fn call_once_more(&mut self, token: u64, instance: u64) {
        let Some(Item::Call(call)) = self.items.get_mut(&token) else { return };
        let (number, place) = (call.post, call.place.clone());
        if let Some(knockers) = call.unmet(Some(instance)) {
            self.call(number, place, knockers, Vec::new());
        }
    }

    /// Goes on by one message; `true`: there may be another.
    fn step(&mut self, token: u64) -> Result<bool, Trouble> {
        let Some(Item::Call(call)) = self.items.get_mut(&token) else { return Ok(false) };
        let Some(post) = self.posts.get_mut(&call.post) else { return Ok(false) };
        let talk = match &mut call.stage {
            Stage::Dialling => return Ok(false),
            Stage::Asked { talk, .. } | Stage::Welcomed { talk, .. } => talk,
        };
        let Some((message, files)) = talk.receive()? else { return Ok(false) };
        // However this goes on: a socket that is given up must not stay in the set, where a forked child could keep it.
        self.epoll.unwatch(talk.socket());
        match (message, std::mem::replace(&mut call.stage, Stage::Dialling)) {
            (Message::Refused(refusal), _) => Err(Trouble::Refused(refusal)),
            (Message::Welcome(terms), Stage::Asked { mut talk, segment, barrier }) => {
                crash::point("broadcast.welcome_received");
                let config = &post.settings.config;
                talk.expected(config)?;
                let [ring] = exactly(files)?;
                if terms.purpose != post.purpose {
                    return Err(Refusal::Malformed.into());
                }
                if terms.message_bytes_max > config.message_bytes_max {
                    return Err(Refusal::MessageBytes.into());
                }
                let mode = rings::mode(terms.segment_features)?;
                let theirs = rings::map_ring(ring, &terms, config)?;
                let hearing = post.hearing.entry(call.place.file_name.clone()).or_default();
                hearing.calling = None;
                if hearing.heard.is_some_and(|heard| heard.instance == terms.instance) {
                    // Whoever has knocked in its name lied: we hear it already.
                    Sleeper::new(segment.word(sleep::DATA), Barrier::Fence).close();
                    call.answer(Ok(true));
                    self.call_once_more(token, terms.instance);
                    self.items.remove(&token);
                    return Ok(false);
                }
                talk.expect_another(far_away());
                self.epoll
                    .watch(talk.socket(), token)
                    .map_err(|error| Trouble::Os("watch a socket", error))?;
                post.sources += 1;
                let number = post.sources;
                hearing.heard = Some(Heard { instance: terms.instance, number });
                call.heard = Some(number);
                let (barrier, instance) = (barrier && terms.barrier, terms.instance);
                call.stage = Stage::Welcomed { talk, segment, terms, theirs, mode, barrier, number };
                call.answer(Ok(true));
                self.call_once_more(token, instance);
                Ok(true)
            }
            (Message::Joined(joined), stage @ Stage::Welcomed { .. }) => {
                self.hand_over(token, stage, &joined)?;
                Ok(false)
            }
            _ => Err(Refusal::Malformed.into()),
        }
    }

    /// Gives the receiver a source that may be read.
    fn hand_over(&mut self, token: u64, stage: Stage, joined: &Joined) -> Result<(), Trouble> {
        let Stage::Welcomed { mut talk, segment, terms, theirs, mode, barrier, number } = stage else {
            return Ok(());
        };
        // Where somebody else would have us read is bounded before it is used.
        // No message is shorter than a header.
        if joined.start > START_MAX || joined.messages > joined.start / RECORD_BYTES_MIN {
            return Err(Refusal::Malformed.into());
        }
        // Rings that have come already are not needed: the ring is looked at before any sleep.
        let last = Farewell::of(talk.refuse_descriptors()?);
        let Some(Item::Call(call)) = self.items.remove(&token) else { return Ok(()) };
        let Some(post) = self.posts.get_mut(&call.post) else { return Ok(()) };
        let Some(reader) = &post.reader else { return Ok(()) };
        let sender = talk.expected(&post.settings.config)?;
        let pidfd = talk.take_pidfd();
        let cred = PeerCred { pid: sender.pid, uid: sender.uid, gid: sender.gid };
        let link = Arc::new(Link::new(talk.into_socket(), pidfd, cred));
        let barrier = if barrier { Barrier::Expedited } else { Barrier::Fence };
        let consumed = segment.word(consumer::CONSUMED);
        reader.desk.put(ReceiverNews::Source(Box::new(SourceParts {
            peer: Peer::new(number, cred),
            link: Arc::clone(&link),
            consumer: rings::consumer(&theirs, consumed, mode, terms.ring_bytes, joined.start),
            waker: Waker::new(theirs.word(sleep::SPACE), barrier, None),
            sleeper: Sleeper::new(segment.word(sleep::DATA), barrier),
            place: call.place.clone(),
            _held: call.held,
            messages_before: joined.messages,
            message_bytes_max: post.settings.config.message_bytes_max,
        })));
        if last != Farewell::Ring {
            reader.desk.put(ReceiverNews::Gone(number, last));
        }
        crash::point("broadcast.joined");
        let side = Side::Source { number, place: call.place };
        self.watch(Watched { post: call.post, link, side });
        Ok(())
    }

    /// A call came to nothing: tells who waits for it, or calls again if somebody has knocked meanwhile.
    fn finish(&mut self, token: u64, end: &End) {
        let Some(Item::Call(call)) = self.items.get_mut(&token) else { return };
        if let Some(talk) = call.talk() {
            self.epoll.unwatch(talk.socket());
        }
        if let Some(knockers) = call.unmet(None) {
            call.knockers = knockers;
            call.stage = Stage::Dialling;
            self.redials.push((Instant::now(), token));
            return;
        }
        let Some(Item::Call(mut call)) = self.items.remove(&token) else { return };
        let Some(post) = self.posts.get_mut(&call.post) else { return };
        // Another call may have taken its place: a later sender has knocked.
        if let Some(hearing) = post.hearing.get_mut(&call.place.file_name) {
            hearing.calling = hearing.calling.filter(|current| *current != token);
            hearing.heard = hearing.heard.filter(|heard| call.heard != Some(heard.number));
        }
        post.prune(&call.place);
        match end {
            End::Absent => call.answer(Ok(false)),
            End::Refused(refusal) => {
                call.answer(Err(*refusal));
                if let Some(reader) = &post.reader {
                    reader.desk.put(ReceiverNews::Refused(*refusal));
                }
            }
        }
    }

    /// Gives up all calls of a post.
    pub(super) fn hang_up(&mut self, number: u64) {
        let epoll = &self.epoll;
        self.items.retain(|_, item| match item {
            Item::Call(call) if call.post == number => {
                if let Some(talk) = call.talk() {
                    epoll.unwatch(talk.socket());
                }
                call.leave();
                false
            }
            _ => true,
        });
    }
}

/// Says hello to a sender.
fn hello(post: &Post, place: &Place) -> Result<Stage, Trouble> {
    let config = &post.settings.config;
    let os = |action| move |error| Trouble::Os(action, error);
    let socket = sys::connect_stream(&place.path()).map_err(os("open the sender's socket"))?;
    let theirs = sys::socket_credentials(std::os::fd::AsFd::as_fd(&socket));
    // Being registered lets any local process slow us down, so only for our own user.
    let barrier =
        config.wants_barrier() && theirs.is_ok_and(|cred| cred.uid == sys::uid()) && sys::register_barrier();
    let segment = Segment::reader().map_err(os("create the segment"))?;
    let terms = Terms {
        message_bytes_max: config.message_bytes_max,
        barrier,
        history: post.settings.history.unwrap_or(u32::MAX),
        ..Terms::new(post.purpose)
    };
    // Who is stopped answers when it goes on, so there is no deadline.
    let talk = Talk::new(socket, far_away());
    talk.send(&Message::Hello(terms), &[segment.file()])?;
    crash::point("broadcast.hello_sent");
    Ok(Stage::Asked { talk, segment, barrier })
}

fn far_away() -> Instant {
    Instant::now() + FAR_AWAY
}

const FAR_AWAY: Duration = Duration::from_secs(3600 * 24 * 365);
/// How soon a sender whose queue is full is dialled again, at first and later.
const REDIAL_FIRST: Duration = Duration::from_millis(1);
const REDIAL_MAX: Duration = Duration::from_millis(100);
/// Those that have knocked and are told when a call is done.
const KNOCKERS_MAX: usize = 64;
/// An empty message is a header.
const RECORD_BYTES_MIN: u64 = 8;
/// No ring has moved that many bytes.
const START_MAX: u64 = 1 << 61;
