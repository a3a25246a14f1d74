//! One to many and many to many: the server is the sender of a route, or all clients are members of a channel.
//!
//! A sender waits for slow receivers, and disconnects one that makes no progress for as long as the round says; that one
//! is told, and joins again. All others have every message.

use super::client;
use super::control::{ClientResult, Round, ServerResult, Work};
use super::family::SERVER;
use super::server::{Board, Span};
use anyhow::{Context, Result, anyhow, bail};
use ringway::broadcast::{Event, Message, Policy, Receiver, Sender, WaitError};
use ringway::{Channel, CloseReason, Route};
use ringway_bench::content;
use ringway_bench::tally::Tally;
use std::collections::BTreeMap;
use std::thread;
use std::time::{Duration, Instant};

/// Server: becomes the sender of a route. Of a channel the server is no member.
///
/// # Errors
/// The name cannot be had.
pub fn open(name: &str, round: Round) -> Result<Option<Sender>> {
    if round.work == Work::Channel {
        return Ok(None);
    }
    let builder = Route::builder().config(client::config(round)).policy(policy(round));
    Ok(Some(builder.sender(name).context("cannot become the sender")?))
}

/// Server: sends to all clients as soon as the board says that they are there.
///
/// # Errors
/// The sender fails.
pub fn send(mut sender: Sender, round: Round, board: &Board) -> Result<ServerResult> {
    while !board.is_begun() {
        if board.is_ended() {
            return Ok(ServerResult::default());
        }
        // Who joins needs this thread to take it in.
        sender.receiver_count();
        thread::sleep(LOOK_EVERY);
    }
    let sent = pour(SERVER, round, board, |message| sender.send(message).map(|_| ()).context("cannot send"))?;
    sender.close();
    Ok(ServerResult { sent, ..ServerResult::default() })
}

/// Sends as fast as it can until the time is up; returns how many messages that were.
///
/// # Errors
/// As `send`.
pub fn pour(
    number: u32,
    round: Round,
    board: &Board,
    mut send: impl FnMut(&[u8]) -> Result<()>,
) -> Result<u64> {
    let until = Instant::now() + Duration::from_millis(round.millis);
    let mut message = vec![0; round.bytes];
    let mut sent = 0_u64;
    let look_every = client::look_every(round.bytes);
    while !sent.is_multiple_of(look_every) || Instant::now() < until {
        content::fill(&mut message, number, sent);
        send(&message)?;
        sent += 1;
        if sent.is_multiple_of(look_every) {
            board.add(look_every);
        }
    }
    Ok(sent)
}

/// Client: joins, waits for the order to go, and takes part until all others have ended.
///
/// # Errors
/// The others do not come, or a member fails.
pub fn take_part(
    name: &str,
    number: u32,
    round: Round,
    wait_to_go: impl FnOnce() -> Result<Instant>,
) -> Result<ClientResult> {
    let config = client::config(round);
    if round.work == Work::Route {
        let builder = Route::builder().config(config);
        let mut receiver = builder.receiver(name).context("cannot become a receiver")?;
        receiver.wait_for_senders(1, JOIN_LIMIT).context("the sender is missing")?;
        wait_to_go()?;
        return Desk::new(round, 1).receive_all(receiver);
    }
    let others = round.clients.saturating_sub(1) as usize;
    let builder = Channel::builder().config(config).policy(policy(round));
    let (mut sender, mut receiver) = builder.join(name).context("cannot join the channel")?.split();
    // One that was killed meanwhile does not come.
    present(sender.wait_for_receivers(others, JOIN_LIMIT))?;
    let others = present(receiver.wait_for_senders(others, JOIN_LIMIT))?;
    wait_to_go()?;
    // Who sends and receives in turns would wait for room while others wait for it to read.
    let press = thread::spawn(move || {
        let sent = pour(number, round, &Board::default(), |message| {
            sender.send(message).map(|_| ()).context("cannot send")
        })?;
        sender.close();
        Ok::<_, anyhow::Error>(sent)
    });
    let result = Desk::new(round, others).receive_all(receiver)?;
    let sent = press.join().map_err(|_| anyhow!("the thread that sends panicked"))??;
    Ok(ClientResult { sent, ..result })
}

/// Returns how many are there, as many as were waited for or not.
fn present(waited: Result<usize, WaitError>) -> Result<usize> {
    match waited {
        Ok(present) | Err(WaitError::Timeout { present }) => Ok(present),
        Err(error) => Err(error).context("cannot wait for the others"),
    }
}

fn policy(round: Round) -> Policy {
    Policy::Block { stall_max: Some(round.stall_max()) }
}

/// What a receiver has got.
struct Desk {
    round: Round,
    /// Senders that have not ended.
    senders: usize,
    /// By number of the client that sent.
    tallies: BTreeMap<u32, Tally>,
    span: Span,
    cuts: u64,
}

impl Desk {
    fn new(round: Round, senders: usize) -> Self {
        Self { round, senders, tallies: BTreeMap::new(), span: Span::default(), cuts: 0 }
    }

    fn receive_all(mut self, mut receiver: Receiver) -> Result<ClientResult> {
        while self.senders > 0 {
            match receiver.next_timeout(GIVE_UP) {
                Ok(Some(event)) => self.handle(event)?,
                Ok(None) => {
                    // A sender that cut us off has ended before we were back.
                    if self.cuts > 0 && receiver.sender_count() == 0 {
                        break;
                    }
                }
                Err(reason) => bail!("cannot receive: {reason}"),
            }
        }
        let tallies = self.tallies.into_values().collect();
        Ok(ClientResult { tallies, cuts: self.cuts, nanos: self.span.nanos(), ..ClientResult::default() })
    }

    fn handle(&mut self, event: Event<'_>) -> Result<()> {
        match event {
            Event::Message(message) => self.note(message),
            Event::Left(_, CloseReason::TooSlow) => self.cuts += 1,
            // One that was killed is missing from here on.
            Event::Left(_, CloseReason::PeerClosed | CloseReason::PeerDied { .. }) => {
                self.senders -= 1;
                self.span.extend(Instant::now());
            }
            Event::Left(_, reason) => bail!("a sender left: {reason}"),
            Event::Lagged { messages, .. } => bail!("{messages} messages were overwritten"),
            Event::Refused(refusal) => bail!("a sender refused: {refusal}"),
            _ => {}
        }
        Ok(())
    }

    fn note(&mut self, message: Message<'_>) {
        if self.tallies.is_empty() {
            self.span.extend(Instant::now());
        }
        // What does not say whose it is belongs to the first, and is corrupt there.
        let sender = content::sender_of(&message).unwrap_or(SERVER);
        self.tallies.entry(sender).or_insert_with(|| Tally::new(sender)).note(&message, self.round.bytes);
    }
}

/// How long all may take to be there.
const JOIN_LIMIT: Duration = Duration::from_secs(10);
/// How long a sender that cut us off may take until it has us again.
const GIVE_UP: Duration = Duration::from_secs(1);
/// How often the server looks whether it is time to send.
const LOOK_EVERY: Duration = Duration::from_millis(2);
