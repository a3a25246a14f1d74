//! The demo: clients and a server as processes of their own, over ringway and over Unix sockets in turns, every
//! message checked, and the results side by side.
//!
//! The orchestrator starts the processes and tells them what to do ([`control`]); it does not touch a message. Each
//! round has a stage in which all clients connect, then they are told to go, then the server reports when the last of
//! them has left. A client that is killed is missing from there on; the others do not notice.

mod broadcast;
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
use rustix::process::Signal;
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

/// The same time for each work, the transports in turns, so that a noisy moment does not hit one alone. In the last rounds
/// clients are killed, one of them is stopped, and who was killed is started again: all begin with as many.
fn rounds(options: Options) -> Vec<Round> {
    let round = |work, transport| Round {
        transport,
        work,
        bytes: options.bytes,
        millis: options.secs * 1000 / WORKS,
        bulk: options.bulk,
        kill: false,
        stop: false,
        clients: options.clients,
    };
    let mut rounds: Vec<_> = [Work::Stream, Work::Call, Work::Parts]
        .into_iter()
        .flat_map(|work| [Transport::Ringway, Transport::Uds].map(|transport| round(work, transport)))
        .collect();
    rounds.push(round(Work::Pipeline, Transport::Uds));
    rounds.push(round(Work::Route, Transport::Uds));
    // Nobody would hear anybody.
    if options.clients > 1 {
        rounds.push(round(Work::Channel, Transport::Ringway));
    }
    rounds.push(Round { kill: true, ..round(Work::Pipeline, Transport::Ringway) });
    rounds.push(Round { kill: true, stop: true, ..round(Work::Route, Transport::Ringway) });
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
    /// What is done to whom, and when, the next one last.
    deeds: Vec<(Instant, Deed, u32)>,
    /// Who was killed by us, and who was stopped.
    killed: BTreeSet<u32>,
    stopped: Option<u32>,
}

/// What is done to a client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Deed {
    Kill,
    Stop,
    Continue,
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
        let players = self.alive.clone();
        if players.is_empty() {
            bail!("no client is left for the {round}");
        }
        let round = Round { clients: players.len() as u32, ..round };
        let mut stage = Stage::new(round);
        self.family.tell(SERVER, Order::Prepare(round));
        self.hear_from(&mut stage, [SERVER].into())?;
        self.tell_clients(Order::Prepare(round));
        self.hear_from(&mut stage, players.clone())?;
        self.tell_clients(Order::Go);
        if round.work.is_broadcast() {
            self.family.tell(SERVER, Order::Go);
        }
        self.progress.go();
        stage.plan(&players);
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
        if let Some(result) = stage.stopped.and_then(|number| results.get(&number)?.as_ref()) {
            self.tell_of_stop(&stage, result, served.sent);
        }
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
            let event = self.family.next(stage.patience());
            self.progress.tick();
            self.act(stage);
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

    /// Does to clients what it is time for.
    fn act(&mut self, stage: &mut Stage) {
        while let Some((_, deed, number)) = stage.deeds.pop_if(|(at, ..)| Instant::now() >= *at) {
            let signal = match deed {
                Deed::Kill => "-9",
                Deed::Stop => "-STOP",
                Deed::Continue => "-CONT",
            };
            self.progress.tell(&format!(
                "(kill {signal} {}: {})",
                self.family.pid(number),
                self.name(number)
            ));
            match deed {
                Deed::Kill => {
                    stage.killed.insert(number);
                    self.family.kill(number);
                }
                Deed::Stop => {
                    stage.stopped = Some(number);
                    self.family.signal(number, Signal::STOP);
                }
                Deed::Continue => self.family.signal(number, Signal::CONT),
            }
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
            let arrived = match stage.round.work.is_broadcast() {
                true => String::new(),
                false => format!(" {} of its messages had arrived and were checked;", thousands(arrived)),
            };
            self.progress.tell(&format!(
                "{name} died during the {};{arrived} {}",
                stage.round,
                match players - stage.deaths.len() {
                    0 => "nobody was left".to_owned(),
                    1 => "the other one went on".to_owned(),
                    others => format!("the other {others} went on"),
                }
            ));
        }
        for number in &stage.killed {
            if stage.deaths.iter().any(|death| death.number == *number) {
                self.family.revive(*number)?;
                self.alive.insert(*number);
            }
        }
        Ok(())
    }

    /// Says what a client has missed that was stopped.
    fn tell_of_stop(&self, stage: &Stage, result: &ClientResult, sent: u64) {
        let Some(number) = stage.stopped else { return };
        let got: u64 = result.tallies.iter().map(|tally| tally.delivered + tally.corrupt).sum();
        let missed = match result.cuts {
            0 => "was not in anybody's way, and has all messages".to_owned(),
            _ => format!(
                "held the others up for {} ms, was cut off and told so; it has {} messages and missed {}",
                stage.round.stall_max().as_millis(),
                thousands(got),
                thousands(sent.saturating_sub(got))
            ),
        };
        self.progress.tell(&format!("{} was stopped; it {missed}", self.name(number)));
    }
}

impl Stage {
    fn new(round: Round) -> Self {
        let deadline = Instant::now() + Duration::from_millis(round.millis) + ROUND_SPARE;
        Self {
            round,
            deaths: Vec::new(),
            deadline,
            deeds: Vec::new(),
            killed: BTreeSet::new(),
            stopped: None,
        }
    }

    /// Plans what is done to clients; one at least is left in peace.
    fn plan(&mut self, players: &BTreeSet<u32>) {
        let quarter = |quarters| Instant::now() + Duration::from_millis(self.round.millis) * quarters / 4;
        let mut victims = players.iter().skip(1).rev();
        let mut deeds = Vec::new();
        if let Some(victim) = victims.next().filter(|_| self.round.kill) {
            deeds.push((quarter(2), Deed::Kill, *victim));
        }
        if let Some(victim) = victims.next().filter(|_| self.round.stop) {
            deeds.push((quarter(1), Deed::Stop, *victim));
            deeds.push((quarter(3), Deed::Continue, *victim));
        }
        deeds.sort_by_key(|(at, ..)| std::cmp::Reverse(*at));
        self.deeds = deeds;
    }

    /// Returns how long to wait for what a child says.
    fn patience(&self) -> Duration {
        let next = self.deeds.last().map(|(at, ..)| at.saturating_duration_since(Instant::now()));
        next.map_or(control::TICK, |next| next.min(control::TICK))
    }
}

/// Works that share the time of a transport.
const WORKS: u64 = 6;
/// How much longer than planned a round may take: for connecting, and for reading what is left.
const ROUND_SPARE: Duration = Duration::from_secs(30);
/// How long to wait for the news that the server died.
const LAST_WORDS: Duration = Duration::from_secs(2);
