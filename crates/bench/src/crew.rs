//! The processes of one run: started from this very program, and ended with it.

use crate::case::{Case, Work};
use crate::lines;
use crate::peer::{Job, Order, Outcome, Report, Role};
use crate::scratch;
use anyhow::{Context, Result, bail};
use std::fs::DirBuilder;
use std::io::BufReader;
use std::os::unix::fs::DirBuilderExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{self, ChildStdin, Command, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// The processes of one run. Dropping it ends them and removes their directory.
pub struct Crew {
    dir: PathBuf,
    children: Vec<Child>,
    events: Receiver<(usize, Event)>,
    sender: Sender<(usize, Event)>,
}

struct Child {
    process: process::Child,
    role: Role,
    stdin: Option<ChildStdin>,
    name: String,
    /// It begins when it is told to; else as soon as it is ready.
    waits: bool,
    /// It has said so.
    is_ready: bool,
    /// Killed on purpose: what it says does not matter any more.
    is_over: bool,
}

enum Event {
    Said(Report),
    Gone,
}

impl Crew {
    /// Starts servers, then clients, and waits until all are connected.
    ///
    /// # Errors
    /// A process cannot be started, fails, or is not ready in time.
    pub fn start(case: &Case) -> Result<Self> {
        let (sender, events) = mpsc::channel();
        let mut crew = Self { dir: make_private_dir()?, children: Vec::new(), events, sender };
        let deadline = Instant::now() + START_LIMIT;
        for number in 0..case.servers() {
            crew.spawn(case, Role::Server, number)?;
        }
        crew.hear_all(deadline, Child::any, |report| matches!(report, Report::Listening).then_some(()))?;
        for number in 0..case.processes() {
            crew.spawn(case, Role::Client, number)?;
        }
        // Some may have been ready before all were there.
        while let Some(missing) = crew.children.iter().position(|child| !child.is_ready) {
            crew.hear(deadline, missing)?;
        }
        Ok(crew)
    }

    /// Gives the order to go, and waits at most `limit` for what the processes report.
    ///
    /// # Errors
    /// A process fails, dies, or is not done in time.
    pub fn play(&mut self, limit: Duration) -> Result<Vec<Outcome>> {
        self.go();
        self.hear_outcomes(Instant::now() + limit, Child::any)
    }

    /// Gives the order to go; then, whenever all clients have had an answer, kills the server and starts another.
    /// Returns what the clients report.
    ///
    /// # Errors
    /// As [`play`](Self::play).
    pub fn play_and_restart(&mut self, case: &Case, restarts: u64, limit: Duration) -> Result<Vec<Outcome>> {
        self.go();
        let deadline = Instant::now() + limit;
        let answered = |report| matches!(report, Report::Answered).then_some(());
        for _ in 0..restarts {
            self.hear_all(deadline, Child::is_client, answered)?;
            thread::sleep(LOAD);
            self.kill_servers();
            self.spawn(case, Role::Server, 0)?;
        }
        self.hear_outcomes(deadline, Child::is_client)
    }

    fn go(&mut self) {
        for child in self.children.iter_mut().filter(|child| child.waits) {
            if let Some(stdin) = &mut child.stdin {
                // One that is gone says so by itself.
                let _ = lines::say(stdin, &Order::Go);
            }
        }
    }

    fn kill_servers(&mut self) {
        for index in 0..self.children.len() {
            if self.children[index].is_server() {
                self.children[index].is_over = true;
                self.bury(index);
            }
        }
    }

    fn hear_outcomes(&mut self, deadline: Instant, from: fn(&Child) -> bool) -> Result<Vec<Outcome>> {
        self.hear_all(deadline, from, |report| match report {
            Report::Done(outcome) => Some(*outcome),
            _ => None,
        })
    }

    /// Waits until each child of a kind has said what is wanted.
    fn hear_all<T>(
        &mut self,
        deadline: Instant,
        from: fn(&Child) -> bool,
        mut want: impl FnMut(Report) -> Option<T>,
    ) -> Result<Vec<T>> {
        let mut heard: Vec<Option<T>> = self.children.iter().map(|_| None).collect();
        let is_missing = |child: &Child, heard: &Option<T>| from(child) && heard.is_none();
        while let Some(missing) =
            self.children.iter().zip(&heard).position(|(child, heard)| is_missing(child, heard))
        {
            let (index, report) = self.hear(deadline, missing)?;
            heard[index] = want(report).or(heard[index].take());
        }
        Ok(heard.into_iter().flatten().collect())
    }

    /// Waits for what the next child says, of which `missing` is one that is waited for.
    fn hear(&mut self, deadline: Instant, missing: usize) -> Result<(usize, Report)> {
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            match self.events.recv_timeout(left) {
                Ok((index, _)) if self.children[index].is_over => {}
                Ok((index, Event::Said(Report::Failed(why)))) => {
                    bail!("{} failed: {why}", self.children[index].name);
                }
                Ok((index, Event::Said(report))) => {
                    self.children[index].is_ready |= matches!(report, Report::Ready);
                    return Ok((index, report));
                }
                Ok((index, Event::Gone)) => {
                    let status = self.bury(index);
                    bail!("{} died: {status}", self.children[index].name);
                }
                Err(RecvTimeoutError::Timeout) => {
                    bail!("no sign of {} any more; gave up", self.children[missing].name);
                }
                Err(RecvTimeoutError::Disconnected) => unreachable!("invariant: we hold a sender"),
            }
        }
    }

    fn bury(&mut self, index: usize) -> String {
        let child = &mut self.children[index];
        child.stdin = None;
        // It may have closed its output without ending. If it has ended, this changes nothing.
        let _ = child.process.kill();
        child.process.wait().map_or_else(|error| error.to_string(), |status| status.to_string())
    }

    fn spawn(&mut self, case: &Case, role: Role, number: u32) -> Result<()> {
        let program = std::env::current_exe().context("cannot find this program")?;
        let job = Job { dir: self.dir.clone(), role, number, case: case.clone() };
        let mut command = Command::new(program);
        command.args(["bench-peer", "--job", &serde_json::to_string(&job)?]);
        // Away from the terminal's signals: Ctrl-C ends the orchestrator, and the children see the end of their input.
        command.process_group(0).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut process = command.spawn().context("cannot start a process")?;
        let stdin = process.stdin.take();
        let stdout = process.stdout.take();
        let kind = match (role, case.is_broadcast()) {
            (Role::Server, false) => "server",
            (Role::Client, false) => "client",
            (Role::Server, true) => "sender",
            (Role::Client, true) => "receiver",
        };
        // Many that are woken for an order would stand in the way of those that have begun.
        let waits = match case.work {
            Work::Route | Work::Channel => role == Role::Server,
            Work::Bare => role == Role::Client,
            _ => true,
        };
        let name = format!("{kind} {} (pid {})", number + 1, process.id());
        let index = self.children.len();
        self.children.push(Child { process, role, stdin, name, waits, is_ready: false, is_over: false });
        let mut reader = BufReader::new(stdout.context("a process has no output")?);
        let events = self.sender.clone();
        thread::spawn(move || {
            while let Ok(Some(report)) = lines::hear(&mut reader) {
                if events.send((index, Event::Said(report))).is_err() {
                    return;
                }
            }
            let _ = events.send((index, Event::Gone));
        });
        Ok(())
    }
}

impl Child {
    fn any(&self) -> bool {
        !self.is_over
    }

    fn is_client(&self) -> bool {
        self.role == Role::Client
    }

    fn is_server(&self) -> bool {
        self.role == Role::Server && !self.is_over
    }
}

impl Drop for Crew {
    fn drop(&mut self) {
        for child in &mut self.children {
            child.stdin = None;
            // Those that have ended by themselves are waited for all the same.
            let _ = child.process.kill();
        }
        for child in &mut self.children {
            let _ = child.process.wait();
        }
        scratch::remove(&self.dir);
    }
}

fn make_private_dir() -> Result<PathBuf> {
    let nanos = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_nanos());
    // In memory if that is there: the page of a raw ping-pong must not be written to a disk now and then.
    let parent = Path::new("/dev/shm");
    let parent = if parent.is_dir() { parent.to_path_buf() } else { std::env::temp_dir() };
    let make = |parent: &Path| {
        let dir = parent.join(format!("ringway-bench-{}-{nanos:x}", process::id()));
        // Fails if it exists: nobody can have put something into its place.
        DirBuilder::new().mode(0o700).create(&dir).map(|()| dir)
    };
    make(&parent).or_else(|_| make(&std::env::temp_dir())).context("cannot make a temporary directory")
}

/// How long clients call a server before it is killed.
const LOAD: Duration = Duration::from_millis(20);
/// How long processes may take to start and to connect.
const START_LIMIT: Duration = Duration::from_secs(30);
