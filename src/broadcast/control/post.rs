//! A name under which a handle, or the two halves of a member, are there for others.

use super::super::desk::Desk;
use super::super::link::Farewell;
use super::super::receiver::ReceiverNews;
use super::super::sender::SenderNews;
use super::super::settings::Settings;
use super::Thread;
use crate::connection::endpoint::Endpoint;
use crate::connection::name::{Place, Role};
use crate::connection::reception::{Reception, Visit};
use crate::connection::talk::Talk;
use crate::error::Refusal;
use crate::proto::handshake::{Knock, Message, Purpose};
use crate::shm::Segment;
use std::collections::HashMap;
use std::sync::Arc;

/// A name under which we are there for others.
pub(super) struct Post {
    pub(super) token: u64,
    pub(super) reception: Reception,
    pub(super) settings: Settings,
    pub(super) tables: Arc<Endpoint>,
    pub(super) purpose: Purpose,
    pub(super) writer: Option<WriterPart>,
    pub(super) reader: Option<ReaderPart>,
    /// Shared with every subscription to a sender, read or not yet read: says how many there are.
    pub(super) held: Arc<()>,
    /// Senders that we hear, or try to, by the file names of their sockets.
    pub(super) hearing: HashMap<String, Hearing>,
    /// Receivers and senders so far: their numbers are never used twice.
    pub(super) readers: u64,
    pub(super) sources: u64,
}

/// What is let out of a sender.
pub(crate) struct WriterPart {
    pub(in super::super) desk: Arc<Desk<SenderNews>>,
    pub(in super::super) segment: Segment,
    pub(in super::super) features: u64,
    /// Names this sender among all that ever had the same name.
    pub(in super::super) instance: u64,
    /// What it does about slow readers, for information.
    pub(in super::super) policy: u32,
    pub(in super::super) message_bytes_max: u64,
}

/// Where news for a receiver go.
pub(crate) struct ReaderPart {
    pub(in super::super) desk: Arc<Desk<ReceiverNews>>,
}

/// What we know of the sender, or of those one after the other, at one place.
#[derive(Default)]
pub(super) struct Hearing {
    /// This one has let us in.
    pub(super) heard: Option<Heard>,
    /// The call with this token is under way.
    pub(super) calling: Option<u64>,
}

/// A sender that has let us in.
#[derive(Clone, Copy)]
pub(super) struct Heard {
    pub(super) instance: u64,
    /// Its number here.
    pub(super) number: u64,
}

impl Post {
    pub(super) fn new(token: u64, reception: Reception, settings: Settings, tables: Arc<Endpoint>) -> Self {
        let purpose = match reception.doorway().place().role() {
            Role::ChannelMember => Purpose::Channel,
            _ => Purpose::Route,
        };
        Self {
            token,
            reception,
            settings,
            tables,
            purpose,
            writer: None,
            reader: None,
            held: Arc::new(()),
            hearing: HashMap::new(),
            readers: 0,
            sources: 0,
        }
    }

    /// Takes note that the source with this number is not heard any more.
    pub(super) fn unhear(&mut self, place: &Place, number: u64) {
        if let Some(hearing) = self.hearing.get_mut(&place.file_name) {
            hearing.heard = hearing.heard.filter(|heard| heard.number != number);
            self.prune(place);
        }
    }

    /// Forgets a place of which nothing is known.
    pub(super) fn prune(&mut self, place: &Place) {
        let known = self.hearing.get(&place.file_name);
        if known.is_some_and(|known| known.heard.is_none() && known.calling.is_none()) {
            self.hearing.remove(&place.file_name);
        }
    }

    /// Returns our own place.
    pub(super) fn place(&self) -> &Place {
        self.reception.doorway().place()
    }

    /// Returns the place of the sender that knocks; `None` if that is ourselves and we do not listen to that.
    fn place_of(&self, knock: &Knock) -> Option<Place> {
        let place = match knock.purpose {
            Purpose::Channel => {
                self.place().beside(Role::ChannelMember, std::str::from_utf8(&knock.name).ok()?)
            }
            _ => self.place().beside(Role::RouteSender, ""),
        };
        (self.settings.hears_itself || place != *self.place()).then_some(place)
    }
}

impl Thread {
    /// Hears all who came to a post and have said what they want, a bounded number at a time.
    pub(super) fn receive_visits(&mut self, number: u64) {
        for _ in 0..VISITS_AT_ONCE {
            let Some(post) = self.posts.get_mut(&number) else { return };
            match post.reception.drive() {
                Ok(Some(visit)) => {
                    // Who knocks after our handle has looked around must find it reading, so what the handle asked
                    // for before is done first.
                    self.obey_all();
                    self.receive(number, visit);
                }
                Ok(None) => return,
                Err(_) => return post.reception.back_off(),
            }
        }
    }

    fn receive(&mut self, number: u64, visit: Visit) {
        let Visit { talk, message, files } = visit;
        let Some(post) = self.posts.get_mut(&number) else { return };
        let purpose = post.purpose;
        match message {
            Message::Hello(terms) if terms.purpose == Purpose::Monitor => {
                if talk.admitted(&post.settings.config).is_ok() {
                    self.refresh(number);
                }
                if let Some(post) = self.posts.get_mut(&number)
                    && post.tables.show(talk, &post.settings.config).is_err()
                {
                    post.reception.note_refused();
                }
            }
            Message::Hello(terms) if terms.purpose == purpose && post.writer.is_some() => {
                self.admit(number, talk, &terms, files);
            }
            Message::Knock(knock) if knock.purpose == purpose => self.answer_knock(number, talk, &knock),
            // There is nothing to read here: no mistake of whoever looks.
            Message::Hello(terms) if terms.purpose == purpose => talk.refuse(Refusal::Purpose),
            Message::Hello(_) | Message::Knock(_) => {
                post.reception.note_refused();
                talk.refuse(Refusal::Purpose);
            }
            _ => {
                post.reception.note_refused();
                talk.refuse(Refusal::Malformed);
            }
        }
    }

    fn answer_knock(&mut self, number: u64, talk: Talk, knock: &Knock) {
        let Some(post) = self.posts.get_mut(&number) else { return };
        if let Err(refusal) = talk.admitted(&post.settings.config) {
            post.reception.note_refused();
            return talk.refuse(refusal);
        }
        if post.reader.is_some()
            && let Some(place) = post.place_of(knock)
        {
            self.subscribe(number, place, Some((knock.instance, talk)), None);
        }
    }

    pub(super) fn stop_writing(&mut self, number: u64) {
        let writer = self.posts.get_mut(&number).and_then(|post| post.writer.take());
        // Those that were welcome after the handle had left: nobody will ever tell them where to start.
        while let Some(news) = writer.as_ref().and_then(|writer| writer.desk.take()) {
            if let SenderNews::Reader(newcomer) = news {
                newcomer.link.end(Farewell::Ring);
            }
        }
    }

    pub(super) fn stop_reading(&mut self, number: u64) {
        self.hang_up(number);
        if let Some(post) = self.posts.get_mut(&number) {
            // Those that let us in after the handle had left: nobody else will ever read them.
            if let Some(reader) = post.reader.take() {
                while let Some(news) = reader.desk.take() {
                    if let ReceiverNews::Source(parts) = news {
                        parts.leave();
                    }
                }
            }
            post.hearing.clear();
        }
    }
}

/// Visits that one look at a post takes at most.
const VISITS_AT_ONCE: usize = 64;
