//! Seeing who goes.

use super::super::link::{Farewell, Link};
use super::super::receiver::ReceiverNews;
use super::super::sender::SenderNews;
use super::{Item, Thread};
use crate::connection::name::Place;
use crate::metrics::ReaderCounters;
use crate::shm::{Peer, SharedWord};
use std::sync::Arc;

/// A subscription that stands.
pub(super) struct Watched {
    pub(super) post: u64,
    pub(super) link: Arc<Link>,
    pub(super) side: Side,
}

/// What the other end of a subscription is.
pub(super) enum Side {
    /// It reads our ring.
    Reader {
        number: u64,
        /// How far it says that it has read, for monitors.
        consumed: SharedWord<Peer>,
        counters: ReaderCounters,
    },
    /// We read its ring.
    Source { number: u64, place: Place },
}

impl Thread {
    /// Watches from now on for the end of a subscription.
    pub(super) fn watch(&mut self, watched: Watched) {
        let (token, process) = (self.fresh_token(), self.fresh_token());
        let link = Arc::clone(&watched.link);
        self.items.insert(token, Item::Link(watched));
        if link.pidfd().is_some() {
            self.items.insert(process, Item::Process(token));
        }
        let of_process = link.pidfd().map_or(Ok(()), |pidfd| self.epoll.watch(pidfd, process));
        if self.epoll.watch_end(link.socket(), token).and(of_process).is_err() {
            // Who cannot be watched would be waited for for ever.
            link.end(Farewell::Ring);
            // From here on the sender does not wait for us: what lies in its ring must not be read any more.
            if let Some(Item::Link(Watched { post, side: Side::Source { number, .. }, .. })) =
                self.items.get(&token)
                && let Some(reader) = self.posts.get(post).and_then(|post| post.reader.as_ref())
            {
                reader.desk.put(ReceiverNews::Gone(*number, Farewell::Disconnected));
            }
            self.lose(token);
        }
    }

    /// The other end is gone: tells the handle.
    pub(super) fn lose(&mut self, token: u64) {
        let Some(Item::Link(watched)) = self.items.remove(&token) else { return };
        let Watched { post, link, side } = watched;
        // The process of a link has the token after it.
        self.items.remove(&(token + 1));
        self.epoll.unwatch(link.socket());
        if let Some(pidfd) = link.pidfd() {
            self.epoll.unwatch(pidfd);
        }
        let Some(post) = self.posts.get_mut(&post) else { return };
        match side {
            Side::Reader { number, .. } => {
                let is_it =
                    |news: &SenderNews| matches!(news, SenderNews::Reader(one) if one.number == number);
                // Who came and went while the application did something else takes up no place meanwhile.
                if let Some(writer) = &post.writer
                    && writer.desk.replace(is_it, SenderNews::passed).is_none()
                {
                    writer.desk.put(SenderNews::Gone(number));
                }
            }
            Side::Source { number: lost, place } => {
                post.unhear(&place, lost);
                if let Some(reader) = &post.reader {
                    reader.desk.put(ReceiverNews::Gone(lost, link.farewell()));
                }
            }
        }
    }
}
