//! A client process: sends as fast as it can, or calls and checks the answers.

use super::broadcast;
use super::calls;
use super::control::{self, ClientResult, Order, Report, Round, Transport, Work};
use super::uds::UdsWire;
use crate::figures;
use anyhow::{Context, Result, bail};
use ringway::rpc::Client;
use ringway::{Config, ConnectError, Connection, Profile, RecvTimeoutError};
use ringway_bench::content;
use std::path::{Path, PathBuf};
use std::sync::mpsc::Receiver;
use std::thread;
use std::time::{Duration, Instant};

/// What became of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// The right answer came.
    Right,
    /// Another answer came.
    Wrong,
    /// No answer came in time.
    Missing,
}

impl Answer {
    /// Makes an answer out of what its check said.
    pub fn of(right: bool) -> Self {
        if right { Self::Right } else { Self::Wrong }
    }
}

/// A connection to the server, over either transport.
pub trait Wire {
    /// Sends a message, waiting for room.
    ///
    /// # Errors
    /// The server is gone.
    fn send(&mut self, message: &[u8]) -> Result<()>;

    /// Sends what is kept back, and closes.
    ///
    /// # Errors
    /// The server is gone.
    fn finish(self) -> Result<()>;

    /// Sends a request, and waits for the answer, which `check` looks at.
    ///
    /// # Errors
    /// The server is gone.
    fn call(&mut self, request: &[u8], check: impl FnOnce(&[u8]) -> bool) -> Result<Answer>;
}

impl Wire for Connection {
    fn send(&mut self, message: &[u8]) -> Result<()> {
        Self::send(self, message).context("cannot send")
    }

    fn finish(self) -> Result<()> {
        self.close();
        Ok(())
    }

    fn call(&mut self, request: &[u8], check: impl FnOnce(&[u8]) -> bool) -> Result<Answer> {
        Self::send(self, request).context("cannot send a request")?;
        match self.recv_timeout(ANSWER_LIMIT) {
            Ok(answer) => Ok(Answer::of(check(&answer))),
            Err(RecvTimeoutError::Timeout) => Ok(Answer::Missing),
            Err(error) => Err(error).context("no answer"),
        }
    }
}

/// Returns the settings of both sides.
pub fn config(round: Round) -> Config {
    let profile = if round.bulk { Profile::Bulk } else { Profile::Latency };
    Config::new()
        .profile(profile)
        .message_bytes_max(MESSAGE_BYTES_MAX.max(round.bytes as u64 + HEADER_BYTES_MAX))
}

/// Runs client `number` until its orders end.
///
/// # Errors
/// The orchestrator cannot be told any more.
pub fn run(dir: PathBuf, number: u32) -> Result<()> {
    let orders = control::orders(dir.clone());
    while let Ok(order) = orders.recv() {
        if let Order::Prepare(round) = order {
            control::report(&match take_part(&dir, number, round, &orders) {
                Ok(result) => Report::Client(result),
                Err(error) => Report::Failed(control::describe(&error)),
            })?;
        }
    }
    Ok(())
}

fn take_part(dir: &Path, number: u32, round: Round, orders: &Receiver<Order>) -> Result<ClientResult> {
    let path = round.transport.socket(dir);
    match round.transport {
        Transport::Ringway => {
            let name = path.to_str().context("the temporary directory has a name that is no text")?;
            if round.work.is_broadcast() {
                return broadcast::take_part(name, number, round, || wait_to_go(round, orders));
            }
            if round.work.is_calls() {
                let builder = Client::builder().config(config(round)).reconnect_never();
                let client = connect(|| builder.clone().connect(name))?;
                let until = wait_to_go(round, orders)?;
                return calls::work(client, number, round, until);
            }
            let mut connection = connect(|| config(round).connect(name))?;
            connection.send(&number.to_le_bytes())?;
            work(connection, number, round, wait_to_go(round, orders)?)
        }
        Transport::Uds => {
            let wire = UdsWire::connect(&path, number)?;
            if round.work == Work::Route {
                wait_to_go(round, orders)?;
                return wire.receive_all(round);
            }
            let until = wait_to_go(round, orders)?;
            if round.work.is_calls() {
                return calls::work(wire, number, round, until);
            }
            work(wire, number, round, until)
        }
    }
}

/// Connects. When very many do so at once, the listener turns some of them away, and asks them to try again.
fn connect<C>(attempt: impl Fn() -> Result<C, ConnectError>) -> Result<C, ConnectError> {
    let until = Instant::now() + CONNECT_LIMIT;
    loop {
        match attempt() {
            Err(ConnectError::Dropped) if Instant::now() < until => thread::yield_now(),
            result => return result,
        }
    }
}

/// Waits for the order to go, and returns when the round ends.
fn wait_to_go(round: Round, orders: &Receiver<Order>) -> Result<Instant> {
    control::report(&Report::Ready)?;
    let Ok(Order::Go) = orders.recv() else { bail!("expected the order to go") };
    Ok(Instant::now() + Duration::from_millis(round.millis))
}

fn work(wire: impl Wire, number: u32, round: Round, until: Instant) -> Result<ClientResult> {
    if round.work == Work::Stream {
        stream(wire, number, round.bytes, until)
    } else {
        call(wire, number, round.bytes, until)
    }
}

fn stream(mut wire: impl Wire, number: u32, bytes: usize, until: Instant) -> Result<ClientResult> {
    let mut message = vec![0; bytes];
    let look_every = look_every(bytes);
    let mut sent = 0_u64;
    while !sent.is_multiple_of(look_every) || Instant::now() < until {
        content::fill(&mut message, number, sent);
        wire.send(&message)?;
        sent += 1;
    }
    wire.finish()?;
    Ok(ClientResult { sent, ..ClientResult::default() })
}

/// Returns after how many messages a sender looks at the clock: that costs a quarter of a small message, and large ones
/// take long by themselves.
pub fn look_every(bytes: usize) -> u64 {
    (LOOK_BYTES / bytes as u64).clamp(1, LOOK_MESSAGES_MAX)
}

fn call(mut wire: impl Wire, number: u32, bytes: usize, until: Instant) -> Result<ClientResult> {
    let mut request = vec![0; bytes];
    let mut round_trips = figures::histogram()?;
    let mut result = ClientResult::default();
    let mut now = Instant::now();
    while now < until {
        let seq = result.sent;
        content::fill(&mut request, number, seq);
        result.sent += 1;
        let start = Instant::now();
        let answer = wire.call(&request, |answer| {
            now = Instant::now();
            content::check(answer, number, bytes) == Ok(seq)
        })?;
        match answer {
            Answer::Right => result.answered += 1,
            Answer::Wrong => result.corrupt += 1,
            Answer::Missing => break,
        }
        round_trips.saturating_record((now - start).as_nanos().try_into().unwrap_or(u64::MAX));
    }
    wire.finish()?;
    result.latencies =
        round_trips.iter_recorded().map(|step| (step.value_iterated_to(), step.count_at_value())).collect();
    Ok(result)
}

/// Longest message of a connection, which calls put a header before.
const MESSAGE_BYTES_MAX: u64 = 64 << 20;
const HEADER_BYTES_MAX: u64 = 64;
/// How long a client tries to connect again when it was turned away.
const CONNECT_LIMIT: Duration = Duration::from_secs(10);
/// How long an answer may take before it counts as lost.
pub const ANSWER_LIMIT: Duration = Duration::from_secs(10);
/// After how many bytes, but at most messages, a stream looks at the clock.
const LOOK_BYTES: u64 = 256 << 10;
const LOOK_MESSAGES_MAX: u64 = 64;
