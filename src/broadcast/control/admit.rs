//! Letting a reader in to our ring.

use super::super::link::Link;
use super::super::seat::Seat;
use super::super::sender::{NewReader, SenderNews};
use super::Thread;
use super::post::Post;
use super::watch::{Side, Watched};
use crate::connection::PeerCred;
use crate::connection::endpoint::Quota;
use crate::connection::talk::{Talk, Trouble, exactly};
use crate::crash;
use crate::error::Refusal;
use crate::metrics::SlotKind;
use crate::proto::handshake::{Message, Terms};
use crate::shm::layout::{consumer, sleep};
use crate::shm::{Peer, PeerSegment, SharedWord};
use crate::sys::{self, Suspect};
use crate::wait::{self, Barrier, Waker};
use std::os::fd::AsFd;
use std::sync::Arc;

/// Somebody who may read, before it was told.
struct Admitted {
    theirs: PeerSegment,
    barrier: bool,
    number: u64,
    cred: PeerCred,
    seat: Seat,
}

impl Thread {
    /// Checks who wants to read, and what came with its hello; lets it in, or says why not.
    pub(super) fn admit(&mut self, number: u64, mut talk: Talk, terms: &Terms, files: Vec<Suspect>) {
        crash::point("broadcast.hello_received");
        let Some(post) = self.posts.get_mut(&number) else { return };
        let admitted = match check(post, &talk, terms, files) {
            Ok(admitted) => admitted,
            Err(trouble) => {
                post.reception.note_refused();
                talk.refuse(match trouble {
                    Trouble::Unacceptable(refusal) => refusal,
                    _ => Refusal::Resources,
                });
                return;
            }
        };
        let pidfd = talk.take_pidfd();
        let consumed = admitted.theirs.word(consumer::CONSUMED);
        let reader_counters = admitted.seat.slot().reader_counters();
        let reader_number = admitted.number;
        let mut told = None;
        let sent = post.writer.as_ref().map(|writer| {
            // What is sent after the reader has heard that it is welcome is received.
            writer.desk.put_after(|| {
                talk.send(&welcome(post, writer, admitted.barrier), &[writer.segment.file()])?;
                crash::point("broadcast.welcome_sent");
                let link = Arc::new(Link::new(talk.into_socket(), pidfd, admitted.cred));
                told = Some(Arc::clone(&link));
                Ok::<_, Trouble>(SenderNews::Reader(Box::new(new_reader(admitted, link, terms))))
            })
        });
        if let (Some(Ok(())), Some(link)) = (sent, told) {
            let side = Side::Reader { number: reader_number, consumed, counters: reader_counters };
            self.watch(Watched { post: number, link, side });
        }
    }

    /// Takes note of how far all readers of a post are, for a monitor.
    pub(super) fn refresh(&mut self, number: u64) {
        for item in self.items.values_mut() {
            if let super::Item::Link(watched) = item
                && watched.post == number
                && let Side::Reader { consumed, counters, .. } = &mut watched.side
            {
                let position: u64 = counters.joined_at.get().saturating_add(read(consumed));
                counters.consumed.set(position);
            }
        }
    }
}

fn read(consumed: &SharedWord<Peer>) -> u64 {
    // Relaxed: for people who look.
    consumed.load_relaxed()
}

fn check(post: &mut Post, talk: &Talk, terms: &Terms, files: Vec<Suspect>) -> Result<Admitted, Trouble> {
    let config = &post.settings.config;
    let sender = talk.admitted(config)?;
    let [segment] = exactly(files)?;
    let writer = post.writer.as_ref().ok_or(Refusal::Purpose)?;
    if terms.message_bytes_max < writer.message_bytes_max {
        return Err(Refusal::MessageBytes.into());
    }
    // It has nothing to say before it is welcome.
    talk.refuse_descriptors()?;
    let theirs = PeerSegment::reader(segment.as_fd()).map_err(|_| Refusal::Descriptors)?;
    // It is a memfd, which closes at once.
    drop(segment.into_trusted());
    let quota = Quota {
        connections_per_uid_max: config.connections_per_uid_max,
        bytes_max: u64::MAX,
        bytes_per_uid_max: u64::MAX,
    };
    let seat = Seat::take(post.tables.admit(sender.uid, 0, quota), sender.pid, SlotKind::Reader)?;
    let barrier =
        terms.barrier && config.wants_barrier() && sender.uid == sys::uid() && sys::register_barrier();
    post.readers += 1;
    let cred = PeerCred { pid: sender.pid, uid: sender.uid, gid: sender.gid };
    Ok(Admitted { theirs, barrier, number: post.readers, cred, seat })
}

fn welcome(post: &Post, writer: &super::WriterPart, barrier: bool) -> Message {
    Message::Welcome(Terms {
        segment_features: writer.features,
        ring_bytes: writer.segment.ring_bytes(),
        message_bytes_max: writer.message_bytes_max,
        barrier,
        wake_cost_ns: wait::measure_wake_cost().as_nanos().try_into().unwrap_or(u32::MAX),
        instance: writer.instance,
        policy: writer.policy,
        ..Terms::new(post.purpose)
    })
}

fn new_reader(admitted: Admitted, link: Arc<Link>, terms: &Terms) -> NewReader {
    let Admitted { theirs, barrier, number, seat, .. } = admitted;
    let barrier = if barrier { Barrier::Expedited } else { Barrier::Fence };
    NewReader {
        number,
        link,
        consumed: theirs.word(consumer::CONSUMED),
        waker: Waker::new(theirs.word(sleep::DATA), barrier, None),
        history: terms.history,
        joined_at: seat.slot().reader_counters().joined_at,
        seat,
    }
}
