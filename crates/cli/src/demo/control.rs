//! What the orchestrator and its children say to each other: one JSON object a line, over stdin and stdout.

pub use ringway_bench::lines::{describe, hear, say};

use anyhow::{Context, Result};
use ringway_bench::scratch;
use ringway_bench::tally::Tally;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::process;
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::Duration;

/// What carries the messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Transport {
    /// The library.
    Ringway,
    /// A Unix stream socket.
    Uds,
}

/// What is done with them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Work {
    /// Clients send as fast as they can, the server only checks.
    Stream,
    /// Clients wait for the answer to each message before they send the next.
    Call,
    /// Calls of clients and servers for that, several in flight at a time.
    Pipeline,
    /// Such calls one by one, with answers in parts.
    Parts,
    /// The server sends as fast as it can, and all clients get everything.
    Route,
    /// All clients send as fast as they can, and get what all others send.
    Channel,
}

/// One of the measurements.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Round {
    /// What carries the messages.
    pub transport: Transport,
    /// What is done with them.
    pub work: Work,
    /// Length of a message.
    pub bytes: usize,
    /// How long the clients send.
    pub millis: u64,
    /// Use the settings for bulk data.
    pub bulk: bool,
    /// A client is killed in the middle.
    pub kill: bool,
    /// A client is stopped for half of the time.
    pub stop: bool,
    /// Clients that take part.
    pub clients: u32,
}

/// What the orchestrator tells a child.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub enum Order {
    /// Server: listen. Client: connect.
    Prepare(Round),
    /// Client: begin to send. Server: the same, if it is the one that sends.
    Go,
    /// Server: no client will send any more; report as soon as the last has left.
    End,
}

/// What a child tells the orchestrator.
#[derive(Debug, Serialize, Deserialize)]
pub enum Report {
    /// It did what `Prepare` asked for.
    Ready,
    /// Server: messages checked so far in this round.
    Progress(u64),
    /// Client: its part of the round is over.
    Client(ClientResult),
    /// Server: the round is over.
    Server(ServerResult),
    /// The child cannot go on with the round; why.
    Failed(String),
}

/// What a client did in a round.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct ClientResult {
    /// Messages sent.
    pub sent: u64,
    /// Calls: right answers.
    pub answered: u64,
    /// Calls: wrong answers.
    pub corrupt: u64,
    /// Calls: round trips as (nanoseconds, how many).
    pub latencies: Vec<(u64, u64)>,
    /// One or many to many: what it got from each sender.
    pub tallies: Vec<Tally>,
    /// One or many to many: how often it was cut off as too slow, and told so.
    pub cuts: u64,
    /// One or many to many: from the first message that it got to the last.
    pub nanos: u64,
}

/// What the server saw in a round.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct ServerResult {
    /// What it got from each client.
    pub tallies: Vec<Tally>,
    /// From the first message to the last.
    pub nanos: u64,
    /// One to many: messages sent.
    pub sent: u64,
}

impl Round {
    /// Returns how many calls a client has in flight: never so many that a socket could fill up in both directions.
    pub fn depth(&self) -> usize {
        if self.work == Work::Pipeline { (BYTES_IN_FLIGHT / self.bytes).clamp(1, DEPTH_MAX) } else { 1 }
    }

    /// Returns how long a receiver may hold up the others of the round. One that is stopped is cut off after that.
    pub fn stall_max(&self) -> Duration {
        if self.stop { Duration::from_millis((self.millis / 8).max(STALL_MILLIS_MIN)) } else { STALL_MAX }
    }

    /// Returns how many parts an answer has.
    pub fn parts(&self) -> u64 {
        if self.work == Work::Parts { (BYTES_IN_FLIGHT / self.bytes).clamp(2, PARTS_MAX) as u64 } else { 1 }
    }
}

impl Transport {
    /// Returns the name in results.
    pub fn name(self) -> &'static str {
        match self {
            Self::Ringway => "ringway",
            Self::Uds => "uds",
        }
    }

    /// Returns the name for people.
    pub fn title(self) -> &'static str {
        match self {
            Self::Ringway => "ringway",
            Self::Uds => "Unix socket",
        }
    }

    /// Returns the path of its socket in the directory of the demo.
    pub fn socket(self, dir: &Path) -> PathBuf {
        dir.join(format!("{}.sock", self.name()))
    }
}

impl Work {
    /// Says whether it is done by clients and servers for calls.
    pub fn is_calls(self) -> bool {
        matches!(self, Self::Pipeline | Self::Parts)
    }

    /// Says whether receivers get everything that others send.
    pub fn is_broadcast(self) -> bool {
        matches!(self, Self::Route | Self::Channel)
    }

    /// Returns the name for people.
    pub fn title(self) -> &'static str {
        match self {
            Self::Stream => "stream",
            Self::Call => "request/answer",
            Self::Pipeline => "pipelined calls",
            Self::Parts => "answers in parts",
            Self::Route => "one to many",
            Self::Channel => "many to many",
        }
    }

    /// Returns the name in results.
    pub fn name(self) -> &'static str {
        match self {
            Self::Stream => "stream",
            Self::Call => "call",
            Self::Pipeline => "pipeline",
            Self::Parts => "parts",
            Self::Route => "route",
            Self::Channel => "channel",
        }
    }
}

impl fmt::Display for Round {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.transport.title(), self.work.title())
    }
}

/// Reports to the orchestrator.
///
/// # Errors
/// The orchestrator is gone.
pub fn report(what: &Report) -> Result<()> {
    say(io::stdout().lock(), what).context("cannot report to the demo")
}

/// Reads orders in a thread of its own. When they end, the orchestrator is gone, however it went: the directory is
/// removed and the process ends, whatever its other threads are waiting for.
pub fn orders(dir: PathBuf) -> Receiver<Order> {
    let (orders, receiver) = mpsc::channel();
    thread::spawn(move || {
        let mut stdin = io::stdin().lock();
        while let Ok(Some(order)) = hear(&mut stdin) {
            if orders.send(order).is_err() {
                break;
            }
        }
        // Whoever comes first does it.
        scratch::remove(&dir);
        process::exit(0);
    });
    receiver
}

/// Bytes that a client has in flight in one direction, unless a single message is longer.
const BYTES_IN_FLIGHT: usize = 64 << 10;
/// Calls that a client has in flight.
const DEPTH_MAX: usize = 16;
/// Parts of an answer.
const PARTS_MAX: usize = 16;
/// How long a receiver that is stopped may hold up others, at least, and how long one that is not.
const STALL_MILLIS_MIN: u64 = 20;
const STALL_MAX: Duration = Duration::from_secs(5);
/// How often the server says how far it is, and looks whether it should end.
pub const TICK: Duration = Duration::from_millis(100);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_comes_out_as_it_went_in() {
        let round = Round {
            transport: Transport::Uds,
            work: Work::Call,
            bytes: 64,
            millis: 500,
            bulk: true,
            kill: false,
            stop: false,
            clients: 2,
        };
        let mut wire = Vec::new();
        say(&mut wire, &Order::Prepare(round)).unwrap();
        say(&mut wire, &Order::Go).unwrap();
        let mut wire = wire.as_slice();
        assert!(matches!(hear(&mut wire), Ok(Some(Order::Prepare(heard))) if heard == round));
        assert!(matches!(hear(&mut wire), Ok(Some(Order::Go))));
        assert!(matches!(hear::<Order>(&mut wire), Ok(None)));
    }
}
