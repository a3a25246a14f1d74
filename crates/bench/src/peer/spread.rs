//! One or several processes send to several, and each gets everything: over routes and channels, and over a Unix socket
//! for each receiver. Beside them the same messages over a bare connection.
//!
//! Senders are there first. Receivers join, and are ready when they hear all senders; then the senders are told to go.
//! A receiver begins without an order: it sleeps until the first message wakes it.
//!
//! A sender of a channel drops its receiver, and a receiver its sender: nobody reads what it does not want.

use super::frame::{FrameReader, FrameWriter};
use super::link;
use super::parts::{Receive, Send};
use super::{Audience, Keep, Outcome, Role, Stage};
use crate::case::{Case, Length, Policy, Transport, Work};
use crate::content::{self, Lengths};
use crate::ledger::Ledger;
use crate::timing::shared_nanos;
use anyhow::{Context, Result, bail};
use ringway::broadcast::{Event, Message, Receiver, Sender, Sent, TryRecvError};
use ringway::{Channel, CloseReason, Route};
use std::collections::HashMap;
use std::os::unix::net::{UnixListener, UnixStream};
use std::time::Duration;

/// Plays a part of a route or channel.
pub fn play(stage: &Stage) -> Result<(Outcome, Keep)> {
    let name = link::name(stage)?;
    let Case { work, policy, .. } = stage.job.case;
    let config = stage.job.case.config();
    let (sender, receiver) = if work == Work::Channel {
        let builder = Channel::builder().config(config).policy(policy.into());
        let (sender, receiver) = builder.join(&name).context("cannot join the channel")?.split();
        (Some(sender), Some(receiver))
    } else if stage.job.role == Role::Server {
        let builder = Route::builder().config(config).policy(policy.into());
        (Some(builder.sender(&name).context("cannot become the sender")?), None)
    } else {
        let builder = Route::builder().config(config);
        (None, Some(builder.receiver(&name).context("cannot become a receiver")?))
    };
    match (stage.job.role, sender, receiver) {
        (Role::Server, Some(sender), unwanted) => {
            drop(unwanted);
            Ok((send_all(stage, sender)?, Box::new(())))
        }
        (Role::Client, unwanted, Some(receiver)) => {
            drop(unwanted);
            receive_all(stage, receiver)
        }
        _ => bail!("invariant: each part has its half"),
    }
}

/// Sends this sender's share, once all receivers are there.
fn send_all(stage: &Stage, mut sender: Sender) -> Result<Outcome> {
    let case = &stage.job.case;
    stage.listening()?;
    sender.wait_for_receivers(case.clients as usize, JOIN_LIMIT).context("receivers are missing")?;
    // Who joins needs the sender's thread to take it in.
    let before = stage.ready_while(|| {
        sender.receiver_count();
    })?;
    let (lengths, share) = (case.lengths(), share(stage)?);
    let mut buffer = vec![0; lengths.max()];
    let (mut sent, mut dropped) = (0, 0);
    let began = shared_nanos();
    for _ in 0..share {
        match sender.send(lengths.fill(&mut buffer, stage.job.number, sent)).context("cannot send")? {
            // Its number is not used up: receivers know of nothing that is missing.
            Sent::Dropped { .. } => dropped += 1,
            _ => sent += 1,
        }
    }
    let span = Some((began, shared_nanos()));
    sender.close();
    let outcome = Outcome { sent, dropped, timed: sent, span, sending: span, ..Outcome::default() };
    Ok(outcome.since(before))
}

/// Receives and checks what all senders send.
fn receive_all(stage: &Stage, mut receiver: Receiver) -> Result<(Outcome, Keep)> {
    let senders = stage.job.case.senders as usize;
    receiver.wait_for_senders(senders, JOIN_LIMIT).context("senders are missing")?;
    let mut desk = Desk::new(&stage.job.case)?;
    let before = stage.ready_at_once()?;
    if stage.job.case.policy == Policy::Block {
        // Nothing is ever missing, so messages are all there is to see.
        while !desk.is_done() {
            desk.note(receiver.recv().context("cannot receive")?);
            match receiver.try_recv_batch(BATCH, |message| desk.note(message)) {
                Ok(_) | Err(TryRecvError::Empty) => {}
                Err(error) => bail!("cannot receive: {error}"),
            }
        }
    }
    while !desk.is_done() {
        // Looking at the clock costs as much as a message.
        let event = match desk.audience.cuts {
            0 => receiver.next().map(Some),
            _ => receiver.next_timeout(GIVE_UP),
        };
        match event {
            Ok(Some(event)) => desk.handle(event)?,
            Ok(None) => {
                if receiver.sender_count() == 0 {
                    // A sender that cut us off has ended before we were back.
                    break;
                }
            }
            Err(reason) => bail!("cannot receive: {reason}"),
        }
    }
    Ok((desk.close().since(before), Box::new(receiver)))
}

/// What one receiver has got of all senders.
struct Desk {
    lengths: Lengths,
    senders: usize,
    /// How many messages there are in all, where that is known.
    total: Option<u64>,
    seen: u64,
    /// By number of the peer.
    places: Vec<Option<usize>>,
    /// By process: where its ledger is. Who comes back after a cut has another number.
    processes: HashMap<u32, usize>,
    /// By process: messages missed before one came that says whose it is.
    early: HashMap<u32, u64>,
    ledgers: Vec<Ledger>,
    gone: usize,
    audience: Audience,
    first: Option<u64>,
    last: u64,
}

impl Desk {
    fn new(case: &Case) -> Result<Self> {
        let Length::Count(count) = case.length else { bail!("messages are counted here") };
        // Who must wait or tell loses none untold.
        let is_known = matches!(case.policy, Policy::Block | Policy::Overwrite);
        Ok(Self {
            lengths: case.lengths(),
            senders: case.senders as usize,
            total: is_known.then_some(count),
            seen: 0,
            places: Vec::new(),
            processes: HashMap::new(),
            early: HashMap::new(),
            ledgers: Vec::new(),
            gone: 0,
            audience: Audience::default(),
            first: None,
            last: 0,
        })
    }

    fn is_done(&self) -> bool {
        self.total.is_some_and(|total| self.seen >= total) || self.gone == self.senders
    }

    #[inline]
    fn handle(&mut self, event: Event<'_>) -> Result<()> {
        match event {
            Event::Message(message) => self.note(message),
            Event::Lagged { from, messages } => self.lag(from.pid(), messages),
            Event::Left(from, reason) => self.leave(from.pid(), reason)?,
            Event::Refused(refusal) => bail!("a sender refused: {refusal}"),
            _ => {}
        }
        Ok(())
    }

    #[inline]
    fn note(&mut self, message: Message<'_>) {
        let number = message.from().number() as usize;
        self.seen += 1;
        let place = self.places.get(number).copied().flatten();
        if let Some(place) = place.or_else(|| self.place(&message, number)) {
            self.ledgers[place].note(&message);
        }
    }

    /// Finds out whose messages come under this number.
    #[cold]
    fn place(&mut self, message: &Message<'_>, number: usize) -> Option<usize> {
        self.first.get_or_insert_with(shared_nanos);
        let pid = message.from().pid();
        if !self.processes.contains_key(&pid) {
            let Ok(client) = content::sender_of(message) else {
                // The first message says it; it was missed, and so is one that cannot be checked.
                *self.early.entry(pid).or_default() += 1;
                return None;
            };
            let mut ledger = Ledger::new(client, self.lengths);
            let early = self.early.remove(&pid).unwrap_or(0);
            ledger.lag(early);
            if self.audience.cuts > 0 {
                ledger.cut();
            }
            self.processes.insert(pid, self.ledgers.len());
            self.ledgers.push(ledger);
        }
        let place = self.processes.get(&pid).copied();
        if self.places.len() <= number {
            self.places.resize(number + 1, None);
        }
        self.places[number] = place;
        place
    }

    fn lag(&mut self, pid: u32, messages: u64) {
        self.seen += messages;
        match self.processes.get(&pid) {
            Some(place) => self.ledgers[*place].lag(messages),
            None => *self.early.entry(pid).or_default() += messages,
        }
    }

    fn leave(&mut self, pid: u32, reason: CloseReason) -> Result<()> {
        self.last = shared_nanos();
        match reason {
            CloseReason::PeerClosed => self.gone += 1,
            CloseReason::TooSlow => {
                self.audience.cuts += 1;
                // From here on nobody knows how many there are.
                self.total = None;
                if let Some(place) = self.processes.get(&pid) {
                    self.ledgers[*place].cut();
                }
            }
            reason => bail!("a sender left: {reason}"),
        }
        Ok(())
    }

    fn close(mut self) -> Outcome {
        let last = if self.is_done() { shared_nanos() } else { self.last };
        let mut outcome =
            Outcome { span: self.first.map(|first| (first, last.max(first))), ..Outcome::default() };
        self.audience.missed += self.early.values().sum::<u64>();
        for ledger in &mut self.ledgers {
            ledger.settle();
            outcome.delivered += ledger.delivered;
            outcome.corrupt += ledger.corrupt;
            self.audience.missed += ledger.missed;
        }
        outcome.audience = Some(self.audience);
        outcome
    }
}

/// Plays a part where each receiver has a Unix socket, and the sender writes each message to all of them.
pub fn play_sockets(stage: &Stage) -> Result<(Outcome, Keep)> {
    let path = stage.path(".sock");
    if stage.job.role == Role::Server {
        let listener = UnixListener::bind(&path).context("cannot listen")?;
        stage.listening()?;
        let writer = |stream| match stage.job.case.transport {
            Transport::UdsBuffered => FrameWriter::buffered(stream),
            _ => FrameWriter::unbuffered(stream),
        };
        let accept = |_| Ok(writer(listener.accept().context("cannot accept")?.0));
        let writers = (0..stage.job.case.clients).map(accept).collect::<Result<Vec<_>>>()?;
        return Ok((pour(stage, writers)?, Box::new(())));
    }
    let stream = UnixStream::connect(&path).context("cannot connect")?;
    let outcome = drain(stage, FrameReader::new(stream, stage.job.case.bytes))?;
    let audience = Some(Audience::default());
    Ok((Outcome { audience, timed: 0, ..outcome }, Box::new(())))
}

/// Plays a part of the same messages over a connection.
pub fn play_bare(stage: &Stage) -> Result<(Outcome, Keep)> {
    if stage.job.role == Role::Server {
        let (_listener, connection) = link::accept(stage)?;
        let (sender, receiver) = connection.split();
        return Ok((drain(stage, receiver)?, Box::new(sender)));
    }
    let (sender, receiver) = link::connect(stage)?.split();
    Ok((Outcome { timed: 0, ..pour(stage, vec![sender])? }, Box::new(receiver)))
}

/// Sends each message to all, and closes.
fn pour<S: Send>(stage: &Stage, mut to: Vec<S>) -> Result<Outcome> {
    let (lengths, share) = (stage.job.case.lengths(), share(stage)?);
    let mut buffer = vec![0; lengths.max()];
    let before = stage.ready()?;
    let began = shared_nanos();
    for seq in 0..share {
        let message = lengths.fill(&mut buffer, stage.job.number, seq);
        to.iter_mut().try_for_each(|to| to.send(message))?;
    }
    to.iter_mut().try_for_each(Send::flush)?;
    let span = Some((began, shared_nanos()));
    drop(to);
    Ok(Outcome { sent: share, timed: share, span, sending: span, ..Outcome::default() }.since(before))
}

/// Receives and checks until the sender closes.
fn drain(stage: &Stage, mut from: impl Receive) -> Result<Outcome> {
    let total = share(stage)?;
    let mut ledger = Ledger::new(0, stage.job.case.lengths());
    let before = stage.ready_at_once()?;
    let mut first = None;
    while ledger.seen() < total
        && let Some(message) = from.receive()?
    {
        if first.is_none() {
            first = Some(shared_nanos());
        }
        ledger.note(message);
    }
    let span = first.map(|first| (first, shared_nanos()));
    let Ledger { delivered, corrupt, .. } = ledger;
    Ok(Outcome { delivered, corrupt, timed: delivered, span, ..Outcome::default() }.since(before))
}

/// How many messages this sender sends, or the only sender does.
fn share(stage: &Stage) -> Result<u64> {
    let Length::Count(count) = stage.job.case.length else { bail!("messages are counted here") };
    Ok(if stage.job.role == Role::Server { stage.job.case.share_of(stage.job.number, count) } else { count })
}

/// Messages that a receiver takes before it looks whether it has all.
const BATCH: usize = 256;
/// How long all may take to be there.
const JOIN_LIMIT: Duration = Duration::from_secs(20);
/// How long a receiver waits for a sender that cut it off.
const GIVE_UP: Duration = Duration::from_secs(1);
