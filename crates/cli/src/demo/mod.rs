//! The demo: clients and a server as processes of their own, over ringway and over Unix sockets in turns, every
//! message checked, and the results side by side.
//!
//! The orchestrator starts the processes and tells them what to do ([`control`]); it does not touch a message. Each
//! round has a stage in which all clients connect, then they are told to go, then the server reports when the last of
//! them has left. A client that is killed is missing from there on; the others do not notice.

mod calls;
mod client;
mod control;
mod family;
mod progress;
mod report;
mod server;
mod uds;

pub use client::run as run_client;
pub use control::describe;
pub use progress::tell;
pub use ringway_bench::content::MESSAGE_BYTES_MIN;
pub use server::run as run_server;

use crate::figures::thousands;
use anyhow::{Result, anyhow, bail};
use control::{ClientResult, Order, Report, Round, ServerResult, Transport, Work};
use family::{Event, Family, SERVER};
use progress::Progress;
use report::Row;
use ringway_bench::machine::Machine;
use std::collections::{BTreeMap, BTreeSet};
use std::process::ExitStatus;
use std::time::{Duration, Instant};

/// What the user asked for.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// Client processes.
    pub clients: u32,
    /// Bytes of a message.
    pub bytes: usize,
    /// Seconds for each transport.
    pub secs: u64,
    /// Use the settings for bulk data.
    pub bulk: bool,
    /// Print JSON.
    pub json: bool,
}

/// Runs the demo and prints its results; says whether all went well.
///
/// # Errors
/// A process cannot be started, or the demo could not be played to its end.
pub fn run(options: Options) -> Result<bool> {
    let rounds = rounds(options);
    let family = Family::start(options.clients)?;
    let length = Duration::from_millis(rounds.iter().map(|round| round.millis).sum());
    let mut demo = Demo { alive: (1..=options.clients).collect(), family, progress: Progress::new(length) };
    demo.introduce();
    let mut rows = Vec::new();
    for round in rounds {
        rows.push(demo.play(round)?);
    }
    rows.sort_by_key(Row::place);
    demo.progress.finish();
    drop(demo);
    let machine = Machine::look();
    report::print(&rows, &machine, options)?;
    let mut well = true;
    for complaint in rows.iter().filter_map(Row::complaint) {
        progress::tell(&format!("ringway: {complaint}"));
        well = false;
    }
    Ok(well)
}

/// The same time for each work, the transports in turns, so that a noisy moment does not hit one alone. In the last round
/// a client is killed, so all begin with as many.
fn rounds(options: Options) -> Vec<Round> {
    let round = |work, transport, kill| Round {
        transport,
        work,
        bytes: options.bytes,
        millis: options.secs * 1000 / WORKS,
        bulk: options.bulk,
        kill,
    };
    let mut rounds: Vec<_> = [Work::Stream, Work::Call, Work::Parts]
        .into_iter()
        .flat_map(|work| [Transport::Ringway, Transport::Uds].map(|transport| round(work, transport, false)))
        .collect();
    rounds.push(round(Work::Pipeline, Transport::Uds, false));
    rounds.push(round(Work::Pipeline, Transport::Ringway, true));
    rounds
}

struct Demo {
    alive: BTreeSet<u32>,
    family: Family,
    progress: Progress,
}

/// A client that ended in the middle of a round.
struct Death {
    number: u32,
    status: ExitStatus,
}

/// What the stages of a round have in common.
struct Stage {
    round: Round,
    deaths: Vec<Death>,
    deadline: Instant,
    /// Who is to be killed, and when.
    victim: Option<(u32, Instant)>,
}

impl Demo {
    fn introduce(&self) {
        let pids: Vec<String> =
            self.alive.iter().map(|number| self.family.pid(*number).to_string()).collect();
        progress::tell(&format!("server: pid {}; clients: pids {}", self.family.pid(SERVER), pids.join(" ")));
        progress::tell("(kill -9 any client, and see that the others go on)");
    }

    fn play(&mut self, round: Round) -> Result<Row> {
        self.progress.begin(round);
        let deadline = Instant::now() + Duration::from_millis(round.millis) + ROUND_SPARE;
        let mut stage = Stage { round, deaths: Vec::new(), deadline, victim: None };
        let players = self.alive.clone();
        if players.is_empty() {
            bail!("no client is left for the {round}");
        }
        self.family.tell(SERVER, Order::Prepare(round));
        self.hear_from(&mut stage, [SERVER].into())?;
        self.tell_clients(Order::Prepare(round));
        self.hear_from(&mut stage, players.clone())?;
        self.tell_clients(Order::Go);
        self.progress.go();
        if round.kill && players.len() > 1 {
            let half = Instant::now() + Duration::from_millis(round.millis) / 2;
            stage.victim = players.last().map(|last| (*last, half));
        }
        let heard = self.hear_from(&mut stage, players.clone())?;
        self.family.tell(SERVER, Order::End);
        let Some(Report::Server(served)) = self.hear_from(&mut stage, [SERVER].into())?.remove(&SERVER)
        else {
            bail!("the server did not report the {round}");
        };
        let results: BTreeMap<u32, Option<ClientResult>> = players
            .iter()
            .map(|number| (*number, None))
            .chain(heard.into_iter().filter_map(|(number, report)| match report {
                Report::Client(result) => Some((number, Some(result))),
                _ => None,
            }))
            .collect();
        self.mourn(&stage, &served, players.len())?;
        Row::new(round, &results, &served, stage.deaths.len())
    }

    fn tell_clients(&mut self, order: Order) {
        for number in &self.alive {
            self.family.tell(*number, order);
        }
    }

    /// Waits until all of `pending` have said something or are gone.
    fn hear_from(&mut self, stage: &mut Stage, mut pending: BTreeSet<u32>) -> Result<BTreeMap<u32, Report>> {
        let mut heard = BTreeMap::new();
        pending.retain(|number| *number == SERVER || self.alive.contains(number));
        while !pending.is_empty() {
            let event = self.family.next(control::TICK);
            self.progress.tick();
            self.kill(stage);
            match event {
                Some((SERVER, Event::Said(Report::Progress(messages)))) => self.progress.count(messages),
                Some((number, Event::Said(Report::Failed(why)))) => {
                    return Err(self.failure(stage, number, &why));
                }
                Some((number, Event::Said(report))) => {
                    pending.remove(&number);
                    heard.insert(number, report);
                }
                Some((SERVER, Event::Gone)) => return Err(self.server_death(stage)),
                Some((number, Event::Gone)) => {
                    pending.remove(&number);
                    self.alive.remove(&number);
                    stage.deaths.push(Death { number, status: self.family.bury(number)? });
                }
                None if Instant::now() > stage.deadline => {
                    let names: Vec<String> = pending.iter().map(|number| self.name(*number)).collect();
                    bail!("no sign of {} in the {}; gave up", names.join(", "), stage.round);
                }
                None => {}
            }
        }
        Ok(heard)
    }

    /// Kills whose time has come.
    fn kill(&mut self, stage: &mut Stage) {
        if let Some((number, _)) = stage.victim.take_if(|(_, at)| Instant::now() >= *at) {
            self.progress.tell(&format!("(kill -9 {}: {})", self.family.pid(number), self.name(number)));
            self.family.kill(number);
        }
    }

    fn name(&self, number: u32) -> String {
        let pid = self.family.pid(number);
        if number == SERVER {
            format!("the server (pid {pid})")
        } else {
            format!("client {number} (pid {pid})")
        }
    }

    /// Clients that fail may do so because the server died: waits a moment for that to be known.
    fn failure(&mut self, stage: &Stage, number: u32, why: &str) -> anyhow::Error {
        let until = Instant::now() + LAST_WORDS;
        while number != SERVER && Instant::now() < until {
            if let Some((SERVER, Event::Gone)) = self.family.next(control::TICK) {
                return self.server_death(stage);
            }
        }
        anyhow!("{} failed during the {}: {why}", self.name(number), stage.round)
    }

    fn server_death(&mut self, stage: &Stage) -> anyhow::Error {
        let name = self.name(SERVER);
        let how =
            self.family.bury(SERVER).map_or_else(|error| error.to_string(), |status| status.to_string());
        anyhow!("{name} died during the {} ({how}); the clients noticed and were ended", stage.round)
    }

    /// Reports the clients that died in a round. One that crashed by itself is an error.
    fn mourn(&mut self, stage: &Stage, served: &ServerResult, players: usize) -> Result<()> {
        for Death { number, status } in &stage.deaths {
            let name = self.name(*number);
            if !family::was_killed(*status) {
                bail!("{name} failed during the {}: {status}", stage.round);
            }
            let arrived = served
                .tallies
                .iter()
                .find(|tally| tally.client == *number)
                .map_or(0, |tally| tally.delivered);
            self.progress.tell(&format!(
                "{name} died during the {}; {} of its messages had arrived and were checked; {}",
                stage.round,
                thousands(arrived),
                match players - stage.deaths.len() {
                    0 => "nobody was left".to_owned(),
                    1 => "the other one went on".to_owned(),
                    others => format!("the other {others} went on"),
                }
            ));
        }
        Ok(())
    }
}

/// Works that share the time of a transport.
const WORKS: u64 = 4;
/// How much longer than planned a round may take: for connecting, and for reading what is left.
const ROUND_SPARE: Duration = Duration::from_secs(30);
/// How long to wait for the news that the server died.
const LAST_WORDS: Duration = Duration::from_secs(2);
