//! The processes of the demo: a server and its clients, started from this very program, and ended with it.

use super::control::{self, Order, Report};
use anyhow::{Context, Result};
use ringway_bench::scratch;
use rustix::process::{Pid, Signal, kill_process};
use std::fs::DirBuilder;
use std::io::BufReader;
use std::os::unix::fs::DirBuilderExt;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::PathBuf;
use std::process::{self, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Number of the server; clients have 1 and up.
pub const SERVER: u32 = 0;

/// What came from a child.
#[derive(Debug)]
pub enum Event {
    /// It said this.
    Said(Report),
    /// It has ended, or says what nobody understands.
    Gone,
}

/// The children, by number. Dropping it ends them and removes their directory.
pub struct Family {
    dir: PathBuf,
    children: Vec<Child>,
    events: Receiver<(u32, Event)>,
    sender: Sender<(u32, Event)>,
}

struct Child {
    process: process::Child,
    stdin: Option<ChildStdin>,
}

impl Family {
    /// Makes a private directory and starts a server and `clients` clients.
    ///
    /// # Errors
    /// The directory cannot be made, or a process cannot be started.
    pub fn start(clients: u32) -> Result<Self> {
        let dir = make_private_dir()?;
        let (sender, events) = mpsc::channel();
        let mut family = Self { dir, children: Vec::new(), events, sender };
        for number in SERVER..=clients {
            let child = family.spawn(number)?;
            family.children.push(child);
        }
        Ok(family)
    }

    /// Starts a child again that was buried.
    ///
    /// # Errors
    /// The process cannot be started.
    pub fn revive(&mut self, number: u32) -> Result<()> {
        self.children[number as usize] = self.spawn(number)?;
        Ok(())
    }

    /// Returns the process number of a child.
    pub fn pid(&self, number: u32) -> u32 {
        self.children[number as usize].process.id()
    }

    /// Gives an order. A child that is gone says so by itself.
    pub fn tell(&mut self, number: u32, order: Order) {
        if let Some(stdin) = &mut self.children[number as usize].stdin {
            let _ = control::say(stdin, &order);
        }
    }

    /// Waits for what a child says.
    pub fn next(&self, timeout: Duration) -> Option<(u32, Event)> {
        self.events.recv_timeout(timeout).ok()
    }

    /// Kills a child. That it is gone is told as if it had ended by itself.
    pub fn kill(&mut self, number: u32) {
        // One that has ended is as good.
        let _ = self.children[number as usize].process.kill();
    }

    /// Stops a child, or has it go on.
    pub fn signal(&self, number: u32, signal: Signal) {
        // One that has ended needs neither.
        if let Some(pid) = Pid::from_raw(self.pid(number) as i32) {
            let _ = kill_process(pid, signal);
        }
    }

    /// Ends a child that is gone as far as we can see, and says how it ended.
    ///
    /// # Errors
    /// The operating system does not tell.
    pub fn bury(&mut self, number: u32) -> Result<ExitStatus> {
        let child = &mut self.children[number as usize];
        child.stdin = None;
        // It may have closed its output without ending. If it has ended, this changes nothing.
        let _ = child.process.kill();
        child.process.wait().context("cannot tell how a child ended")
    }

    fn spawn(&self, number: u32) -> Result<Child> {
        let program = std::env::current_exe().context("cannot find this program")?;
        let mut command = Command::new(program);
        if number == SERVER {
            command.arg("demo-server");
        } else {
            command.args(["demo-client", "--number", &number.to_string()]);
        }
        command.arg("--dir").arg(&self.dir);
        // Away from the terminal's signals: Ctrl-C ends the orchestrator, the children see the end of their input, and
        // what is left clears up.
        command.process_group(0).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut process = command.spawn().context("cannot start a child process")?;
        let stdin = process.stdin.take();
        let stdout = process.stdout.take().context("a child has no output")?;
        let events = self.sender.clone();
        thread::spawn(move || {
            let mut lines = BufReader::new(stdout);
            while let Ok(Some(report)) = control::hear(&mut lines) {
                if events.send((number, Event::Said(report))).is_err() {
                    return;
                }
            }
            let _ = events.send((number, Event::Gone));
        });
        Ok(Child { process, stdin })
    }
}

impl Drop for Family {
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

/// Says whether somebody ended this process on purpose, as opposed to a crash.
pub fn was_killed(status: ExitStatus) -> bool {
    status.signal().is_some_and(|signal| KILLS.contains(&signal))
}

fn make_private_dir() -> Result<PathBuf> {
    let nanos = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.subsec_nanos());
    let dir = std::env::temp_dir().join(format!("ringway-demo-{}-{nanos:08x}", process::id()));
    // Fails if it exists: nobody can have put something into its place.
    DirBuilder::new().mode(0o700).create(&dir).with_context(|| format!("cannot make {}", dir.display()))?;
    Ok(dir)
}

/// Hang-up, interrupt, kill and terminate; the same numbers on every Unix.
const KILLS: [i32; 4] = [1, 2, 9, 15];
