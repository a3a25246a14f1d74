//! The server process: receives from all clients, checks every message, and answers where that is the work.

use super::control::{self, Order, Report, Round, ServerResult, TICK, Transport, Work};
use super::{broadcast, calls, client, uds};
use anyhow::{Context, Result, anyhow, bail};
use ringway::{Event, Group, Member, TrySendError};
use ringway_bench::tally::Tally;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

/// What the thread that takes orders and those that serve tell each other.
#[derive(Debug, Default)]
pub struct Board {
    /// Messages checked so far; for the eye only.
    messages: AtomicU64,
    /// The clients are there: begin to send.
    begun: AtomicBool,
    /// No client will send any more.
    ended: AtomicBool,
}

impl Board {
    /// Adds to the messages checked so far.
    pub fn add(&self, messages: u64) {
        // Relaxed: a number to look at, nothing depends on it.
        self.messages.fetch_add(messages, Ordering::Relaxed);
    }

    /// Says whether it is time to send.
    pub fn is_begun(&self) -> bool {
        // Relaxed: as `is_ended`.
        self.begun.load(Ordering::Relaxed)
    }

    /// Says whether no client will send any more.
    pub fn is_ended(&self) -> bool {
        // Relaxed: it is looked at again and again, and nothing else is read because of it.
        self.ended.load(Ordering::Relaxed)
    }
}

/// From the first message to the last.
#[derive(Debug, Clone, Copy, Default)]
pub struct Span {
    ends: Option<(Instant, Instant)>,
}

impl Span {
    /// Takes note of a message.
    pub fn extend(&mut self, at: Instant) {
        let (first, last) = self.ends.unwrap_or((at, at));
        self.ends = Some((first.min(at), last.max(at)));
    }

    /// Takes note of the messages that another span knows.
    pub fn merge(&mut self, other: Self) {
        if let Some((first, last)) = other.ends {
            self.extend(first);
            self.extend(last);
        }
    }

    /// Returns its length in nanoseconds.
    pub fn nanos(self) -> u64 {
        let length = self.ends.map_or(Duration::ZERO, |(first, last)| last - first);
        length.as_nanos().try_into().unwrap_or(u64::MAX)
    }
}

/// Runs the server process until its orders end.
///
/// # Errors
/// The orchestrator cannot be told any more.
pub fn run(dir: PathBuf) -> Result<()> {
    // Best effort: a handful of clients needs no more than the default.
    let _ = ringway::raise_descriptor_limit();
    let orders = control::orders(dir.clone());
    while let Ok(order) = orders.recv() {
        if let Order::Prepare(round) = order {
            let result = serve(&dir, round, &orders);
            control::report(&match result {
                Ok(result) => Report::Server(result),
                Err(error) => Report::Failed(control::describe(&error)),
            })?;
        }
    }
    Ok(())
}

/// Serves one round: the work is done by another thread, this one takes orders and says how far it is.
fn serve(dir: &Path, round: Round, orders: &Receiver<Order>) -> Result<ServerResult> {
    let board = Arc::new(Board::default());
    let path = round.transport.socket(dir);
    let worker = match round.transport {
        Transport::Ringway => {
            let name = path.to_str().context("the temporary directory has a name that is no text")?;
            if round.work.is_broadcast() {
                let board = board.clone();
                let sender = broadcast::open(name, round)?;
                thread::spawn(move || {
                    sender.map_or(Ok(ServerResult::default()), |it| broadcast::send(it, round, &board))
                })
            } else if round.work.is_calls() {
                let server = calls::CallServer::bind(name, client::config(round), round, &board)?;
                thread::spawn(move || server.serve())
            } else {
                let group = Group::new(client::config(round).bind(name)?)?;
                let board = board.clone();
                thread::spawn(move || serve_group(group, round, &board))
            }
        }
        Transport::Uds => {
            let listener = uds::bind(&path)?;
            let board = board.clone();
            if round.work == Work::Route {
                thread::spawn(move || uds::send_to_all(listener, round, &board))
            } else {
                thread::spawn(move || uds::serve(listener, round, &board))
            }
        }
    };
    control::report(&Report::Ready)?;
    // Who only sends has done so long before all has arrived.
    while !worker.is_finished() || round.work.is_broadcast() {
        match orders.recv_timeout(TICK) {
            Ok(Order::End) => break,
            Ok(Order::Go) => {
                // Relaxed: see `Board::is_begun`.
                board.begun.store(true, Ordering::Relaxed);
                if round.transport == Transport::Uds {
                    uds::wake(&path);
                }
            }
            Ok(Order::Prepare(_)) => {}
            // Relaxed: a number to look at.
            Err(RecvTimeoutError::Timeout) => {
                control::report(&Report::Progress(board.messages.load(Ordering::Relaxed)))?;
            }
            Err(RecvTimeoutError::Disconnected) => bail!("the demo is gone"),
        }
    }
    // Relaxed: see `Board::is_ended` and `Board::is_begun`.
    board.ended.store(true, Ordering::Relaxed);
    board.begun.store(true, Ordering::Relaxed);
    if round.transport == Transport::Uds {
        uds::wake(&path);
    }
    worker.join().map_err(|_| anyhow!("the thread that serves the clients panicked"))?
}

/// Serves all clients from one thread.
fn serve_group(mut group: Group, round: Round, board: &Board) -> Result<ServerResult> {
    let mut desk = Desk { round, tallies: Vec::new(), span: Span::default(), messages: 0 };
    let mut drained_by = None;
    loop {
        let messages_before = desk.messages;
        group.turn(Some(Instant::now() + TICK), |member, event| desk.handle(member, event))?;
        if desk.messages > messages_before {
            desk.span.extend(Instant::now());
            board.add(desk.messages - messages_before);
        }
        if board.is_ended() {
            if group.is_empty() {
                break;
            }
            if Instant::now() > *drained_by.get_or_insert_with(|| Instant::now() + DRAIN_LIMIT) {
                bail!("{} clients have ended, but the server was not told", group.len());
            }
        }
    }
    let tallies = desk.tallies.into_iter().flatten().collect();
    Ok(ServerResult { tallies, nanos: desk.span.nanos(), sent: 0 })
}

/// Where messages of a group's members are checked and answered.
struct Desk {
    round: Round,
    /// By number of the member; nothing until its hello.
    tallies: Vec<Option<Tally>>,
    span: Span,
    messages: u64,
}

impl Desk {
    fn handle(&mut self, member: &mut Member, event: Event<'_>) {
        let Event::Message(message) = event else { return };
        let index = member.id().number() as usize;
        if let Some(Some(tally)) = self.tallies.get_mut(index) {
            tally.note(message, self.round.bytes);
            if self.messages == 0 {
                self.span.extend(Instant::now());
            }
            self.messages += 1;
            if self.round.work == Work::Call {
                answer(member, message);
            }
        } else if let Some(client) = message.first_chunk() {
            if self.tallies.len() <= index {
                self.tallies.resize(index + 1, None);
            }
            self.tallies[index] = Some(Tally::new(u32::from_le_bytes(*client)));
        }
    }
}

/// Sends the message back. A client has one call at a time, so there is room, unless it must travel in fragments: then
/// the client reads while we wait. An answer that cannot be sent is missed by the client, and reported by it.
fn answer(member: &mut Member, message: &[u8]) {
    let sender = member.sender();
    if let Err(TrySendError::Full | TrySendError::TooLarge { .. }) = sender.try_send(message) {
        let _ = sender.send_timeout(message, ANSWER_LIMIT);
    }
}

/// How long a client may take to read its answer.
const ANSWER_LIMIT: Duration = Duration::from_secs(5);
/// How long it may take until all is read that the clients have left behind.
pub const DRAIN_LIMIT: Duration = Duration::from_secs(20);
