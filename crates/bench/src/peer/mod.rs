//! A child process: plays one part of one run, and says how it went.
//!
//! A server makes what it listens at and says `Listening`; a client connects; both say `Ready`, and neither spins or
//! sends before the order to go. The end of its input ends a child, whatever it is waiting for.

mod frame;
#[cfg(feature = "grpc")]
mod grpc;
mod limit;
mod link;
mod parts;
mod pool;
mod rpc;
mod spread;

use crate::args::PeerArgs;
use crate::case::{Case, Transport, Work};
use crate::footprint::Footprint;
use crate::lines;
use crate::raw::{self, Usage};
use crate::scratch;
use anyhow::{Context, Result, anyhow, bail};
use serde::{Deserialize, Serialize};
use std::any::Any;
use std::io;
use std::path::PathBuf;
use std::process;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread;
use std::time::Duration;

pub use parts::join;

/// Which part a child plays.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Role {
    /// Listens, receives, answers.
    Server,
    /// Connects and sends.
    Client,
}

/// What a child is told when it starts.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Job {
    /// Where sockets and pages are.
    pub dir: PathBuf,
    /// Its part.
    pub role: Role,
    /// Which of its kind it is, from 0; of clients that have a process each, the number of the client.
    pub number: u32,
    /// What is measured.
    pub case: Case,
}

/// What a child is told later.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub enum Order {
    /// Begin.
    Go,
}

/// What a child says.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum Report {
    /// Server: clients may connect.
    Listening,
    /// Connected, and waits for the order to go.
    Ready,
    /// Client: had the first answer of a server that was started again, or of the first one.
    Answered,
    /// It has done its part.
    Done(Box<Outcome>),
    /// It cannot go on; why.
    Failed(String),
}

/// What a child did.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Outcome {
    /// Messages this side sent as their origin, answers not counted.
    pub sent: u64,
    /// Messages this side received as their destination and found right.
    pub delivered: u64,
    /// Messages (and requests on their way) that were damaged, late, or came twice.
    pub corrupt: u64,
    /// Requests whose sender was told that they may have been lost.
    pub failed: u64,
    /// Messages that its policy had a sender drop; they do not count as sent.
    pub dropped: u64,
    /// Of a receiver that should have got everything that all sent.
    pub audience: Option<Audience>,
    /// When a sender of several began and ended to send.
    pub sending: Option<(u64, u64)>,
    /// When the part that is timed began and ended, on the clock that all processes share.
    pub span: Option<(u64, u64)>,
    /// What it did in that time: messages, round trips, connects.
    pub timed: u64,
    /// Latencies in nanoseconds, and how many took that long.
    pub latencies: Vec<(u64, u64)>,
    /// A second kind of latencies: of the first answers after connecting.
    pub answers: Vec<(u64, u64)>,
    /// What was in memory, before the connections and with them.
    pub footprints: Option<(Footprint, Footprint)>,
    /// Processor time of this process from the order to go on.
    pub cpu_nanos: u64,
    /// Voluntary context switches of this process from the order to go on.
    pub sleeps: u64,
}

/// How a receiver fared that should have got everything.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Audience {
    /// Messages that it was told to have missed.
    pub missed: u64,
    /// How often a sender disconnected it as too slow: then nobody knows how many it missed.
    pub cuts: u64,
}

/// What stays open until the orchestrator lets go.
pub type Keep = Box<dyn Any>;

/// What a part has to talk to the orchestrator.
pub struct Stage {
    job: Job,
    orders: Receiver<Order>,
}

impl Stage {
    /// Says that clients may connect.
    fn listening(&self) -> Result<()> {
        say(&Report::Listening)
    }

    /// Says that this side is connected, and waits for the order to go.
    fn ready(&self) -> Result<Usage> {
        say(&Report::Ready)?;
        self.orders.recv().map_err(|_| anyhow!("the benchmark is gone"))?;
        Ok(raw::usage())
    }

    /// Says that this side is ready, and begins without an order: it waits for what comes.
    fn ready_at_once(&self) -> Result<Usage> {
        say(&Report::Ready)?;
        Ok(raw::usage())
    }

    /// Says that this side is ready; until the order to go it does `meanwhile` again and again.
    fn ready_while(&self, mut meanwhile: impl FnMut()) -> Result<Usage> {
        say(&Report::Ready)?;
        loop {
            meanwhile();
            match self.orders.recv_timeout(MEANWHILE) {
                Ok(Order::Go) => return Ok(raw::usage()),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => bail!("the benchmark is gone"),
            }
        }
    }

    /// Says that a server has answered that had not answered before.
    fn answered(&self) -> Result<()> {
        say(&Report::Answered)
    }

    /// Returns the path of a file of a pair.
    fn path(&self, name: &str) -> PathBuf {
        self.job.dir.join(format!("{}{name}", self.pair()))
    }

    /// Returns the number of the pair, or 0 where all have one name.
    fn pair(&self) -> u32 {
        let case = &self.job.case;
        if case.servers() == 1 || case.is_broadcast() { 0 } else { self.job.number }
    }
}

impl Outcome {
    /// Adds what another part of the same process has counted.
    fn and(mut self, other: Self) -> Self {
        self.sent += other.sent;
        self.delivered += other.delivered;
        self.corrupt += other.corrupt;
        self.failed += other.failed;
        self.span = parts::join(self.span, other.span);
        self.timed += other.timed;
        self.latencies.extend(other.latencies);
        self
    }

    /// Completes what a part has counted with what the process used since it was told to go.
    fn since(mut self, before: Usage) -> Self {
        let after = raw::usage();
        self.cpu_nanos = after.cpu_nanos - before.cpu_nanos;
        self.sleeps = after.sleeps - before.sleeps;
        self
    }
}

/// Runs a child process until the orchestrator closes its input.
///
/// # Errors
/// The orchestrator cannot be told any more.
pub fn run(args: &PeerArgs) -> Result<bool> {
    let played = serde_json::from_str(&args.job).context("not a job").and_then(|job| {
        let job: Job = job;
        let stage = Stage { orders: orders(job.dir.clone()), job };
        let played = play(&stage)?;
        Ok((stage, played))
    });
    let report = match &played {
        Ok((_, (outcome, _))) => Report::Done(Box::new(outcome.clone())),
        Err(error) => Report::Failed(lines::describe(error)),
    };
    // What stays open is part of the other side's measurement: held until the input ends the process.
    say(&report)?;
    let Ok((stage, _)) = &played else { return Ok(false) };
    while stage.orders.recv().is_ok() {}
    Ok(true)
}

fn play(stage: &Stage) -> Result<(Outcome, Keep)> {
    let Job { case, role, .. } = &stage.job;
    if let Some((server, client)) = case.pin {
        let cpu = if *role == Role::Server { server } else { client };
        ringway::pin_current_thread(cpu).with_context(|| format!("cannot use processor {cpu}"))?;
    }
    // Best effort: a handful of connections needs no more than the default.
    let _ = ringway::raise_descriptor_limit();
    match case.transport {
        Transport::Ringway if case.is_broadcast() => spread::play(stage),
        Transport::Ringway if case.work == Work::Bare => spread::play_bare(stage),
        Transport::Ringway if case.workers.is_some() => pool::play(stage),
        Transport::Ringway => link::play(stage),
        Transport::Rpc => rpc::play(stage),
        #[cfg(feature = "grpc")]
        Transport::Tonic | Transport::TonicUds => grpc::play(stage),
        Transport::CacheLine | Transport::Futex => limit::play_page(stage),
        Transport::Socket => limit::play_socket(stage),
        Transport::Uds | Transport::UdsBuffered if case.work == Work::Route => spread::play_sockets(stage),
        Transport::Uds | Transport::UdsBuffered if matches!(case.work, Work::Fanin | Work::Echo) => {
            frame::play_crowd(stage)
        }
        Transport::Uds | Transport::UdsBuffered => frame::play_uds(stage),
        Transport::Pipe => frame::play_pipe(stage),
        Transport::Memcpy | Transport::Crc32 => Err(anyhow!("this work needs no processes")),
    }
}

/// Reads orders in a thread of its own. When they end the orchestrator is gone, however it went, and so are we.
///
/// The directory goes too: an orchestrator that was killed has not removed it.
fn orders(dir: PathBuf) -> Receiver<Order> {
    let (orders, receiver) = mpsc::channel();
    thread::spawn(move || {
        let mut stdin = io::stdin().lock();
        while let Ok(Some(order)) = lines::hear(&mut stdin) {
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

fn say(report: &Report) -> Result<()> {
    lines::say(io::stdout().lock(), report).context("cannot report to the benchmark")
}

/// How often something is done while the order to go has not come: often enough for what joins, and rarely enough for
/// the canary.
const MEANWHILE: Duration = Duration::from_millis(2);
