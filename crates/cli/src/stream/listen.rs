//! `ringway listen`: from a connection to the standard output.

use super::framing::Framing;
use super::inlet::{Inlet, Output, TICK};
use super::interrupt::{GRACE, Interrupt};
use super::meter::{Meter, Show};
use super::wire::{Note, Reason, Role, Totals};
use super::{CommonArgs, FramingArgs, deadline_of, parse_seconds, read_greeting};
use crate::exit::{self, Code, OutputClosed, fault};
use anyhow::{Context, Result, anyhow};
use clap::Args;
use ringway::{AcceptError, CloseReason, Connection, Listener, Sender};
use std::io::{self, IsTerminal};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

/// Arguments of `listen`.
#[derive(Args)]
pub struct ListenArgs {
    /// Name to listen at, or the path of a socket if it has a slash
    name: String,
    #[command(flatten)]
    framing: FramingArgs,
    /// Serve one sender after the other, until interrupted
    #[arg(long)]
    keep: bool,
    /// Wait this long for a sender; for ever if not given
    #[arg(long, value_name = "SECS", value_parser = parse_seconds, conflicts_with = "keep")]
    timeout: Option<Duration>,
    #[command(flatten)]
    common: CommonArgs,
}

/// Runs `listen`.
///
/// # Errors
/// The name cannot be had, the sender fails, or the output does.
pub fn listen(args: ListenArgs) -> Result<()> {
    let interrupt = Interrupt::watch(GRACE)?;
    let listener = args.common.config().bind(&args.name)?;
    let mut desk = Desk {
        framing: args.framing.framing(),
        output: Output::stdout(args.framing.framing())?,
        show: args.common.show(io::stdout().is_terminal()),
    };
    if args.keep {
        return serve_all(listener, &interrupt, &mut desk);
    }
    let first = wait_for_one(listener, deadline_of(args.timeout), &interrupt)?;
    let Some(mut connection) = first else {
        interrupt.end();
        return Ok(());
    };
    greet(&mut connection)?;
    desk.serve(connection)
}

/// Waits for a client, and gives the name back. Returns nothing if interrupted.
fn wait_for_one(
    mut listener: Listener,
    deadline: Option<Instant>,
    interrupt: &Interrupt,
) -> Result<Option<Connection>> {
    let outcome = loop {
        let now = Instant::now();
        match listener.accept_timeout(deadline.map_or(TICK, |at| at.saturating_duration_since(now).min(TICK)))
        {
            Ok(connection) => break Ok(Some(connection)),
            Err(AcceptError::Timeout) if interrupt.came() => break Ok(None),
            Err(AcceptError::Timeout) if deadline.is_some_and(|at| Instant::now() >= at) => {
                let path = listener.path();
                break Err(fault(Code::TimedOut, format!("no sender came to {} in time", path.display())));
            }
            Err(AcceptError::Timeout) => {}
            Err(error) => break Err(error.into()),
        }
    };
    drop(listener);
    interrupt.release();
    outcome
}

/// Serves one sender after the other until interrupted. Those who wait for their turn are greeted at once, so that
/// they know whom they wait for.
fn serve_all(mut listener: Listener, interrupt: &Interrupt, desk: &mut Desk) -> Result<()> {
    let (queue, turns) = mpsc::channel::<Result<Connection>>();
    let (done, is_done) = mpsc::channel::<()>();
    let admission = thread::spawn({
        let interrupt = interrupt.clone();
        move || {
            let is_over = || interrupt.came() || is_done.try_recv() == Err(mpsc::TryRecvError::Disconnected);
            while !is_over() {
                let guest = match listener.accept_timeout(TICK) {
                    Ok(mut connection) => match greet(&mut connection) {
                        Ok(()) => Ok(connection),
                        // It is gone already.
                        Err(_) => continue,
                    },
                    Err(AcceptError::Timeout) => continue,
                    Err(error) => Err(error.into()),
                };
                if queue.send(guest).is_err() {
                    break;
                }
            }
            drop(listener);
            interrupt.release();
        }
    });
    let outcome = turns.iter().try_for_each(|guest| match desk.serve(guest?) {
        Err(error) if is_of_the_output(&error) => Err(error),
        Err(error) => {
            exit::tell_error(&error);
            Ok(())
        }
        Ok(()) => Ok(()),
    });
    drop(done);
    admission.join().map_err(|_| anyhow!("the thread that admits senders panicked"))?;
    outcome
}

fn greet(connection: &mut Connection) -> Result<()> {
    let greeting = Note::Greeting(Role::Listen, super::Content::Any);
    connection.send(&greeting.encode()).context("cannot greet the sender")
}

/// Marks an error of our own output, after which no other sender can be served either.
#[derive(Debug)]
struct OutputFailed;

impl std::fmt::Display for OutputFailed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("what came cannot be handed on")
    }
}

fn of_the_output(error: anyhow::Error) -> anyhow::Error {
    if error.is::<OutputClosed>() { error } else { error.context(OutputFailed) }
}

fn is_of_the_output(error: &anyhow::Error) -> bool {
    error.is::<OutputClosed>() || error.is::<OutputFailed>()
}

/// Where the data of senders goes.
struct Desk {
    framing: Framing,
    output: Output,
    show: Show,
}

impl Desk {
    /// Serves one sender, who was greeted, from its greeting to its end.
    fn serve(&mut self, mut connection: Connection) -> Result<()> {
        let pid = connection.peer_cred().pid;
        let (role, content) = match read_greeting(&mut connection) {
            Ok(greeting) => greeting,
            Err(error) => {
                stop(connection.sender(), Reason::Protocol);
                return Err(error);
            }
        };
        if role != Role::Send || !content.suits(self.framing.content()) {
            let reason = if role == Role::Send { Reason::Content } else { Reason::Protocol };
            stop(connection.sender(), reason);
            return Err(fault(Code::Violation, format!("cannot take what process {pid} sends: {reason}")));
        }
        connection.send(&Note::Go.encode()).context("the sender is gone")?;
        let (mut sender, receiver) = connection.split();
        let mut inlet = Inlet::new(receiver);
        let meter = Meter::start(self.show);
        if let Err(error) = self.take_all(&mut inlet, &meter, pid) {
            if error.is::<OutputClosed>() {
                stop(&mut sender, Reason::OutputClosed);
            } else if error.is::<OutputFailed>() {
                stop(&mut sender, Reason::OutputFailed);
            }
            return Err(error);
        }
        let totals = inlet.totals();
        // A sender that was killed after its end has left nothing open.
        let _ = sender.send(&Note::End(totals).encode());
        meter.summarize("received", totals);
        Ok(())
    }

    /// Writes all that comes, and finds out whether that was all.
    fn take_all(&mut self, inlet: &mut Inlet, meter: &Meter, pid: u32) -> Result<()> {
        let reason = inlet.drain(&mut self.output, meter, || Ok(())).map_err(of_the_output)?;
        let is_the_end = |note, totals| note == Note::End(totals);
        let end = inlet.finish(&mut self.output, is_the_end).map_err(of_the_output)?;
        if end.is_some() {
            return Ok(());
        }
        let Totals { messages, bytes } = inlet.totals();
        let so_far = format!("{bytes} bytes in {messages} messages came before and were written");
        Err(match reason {
            CloseReason::PeerClosed => {
                let text =
                    format!("the sender (process {pid}) gave up before the end of its input; {so_far}");
                fault(Code::PeerGone, text)
            }
            CloseReason::PeerDied { .. } => {
                fault(Code::PeerGone, format!("the sender (process {pid}) died; {so_far}"))
            }
            reason => fault(exit::code_of_close(&reason), format!("{reason}; {so_far}")),
        })
    }
}

fn stop(sender: &mut Sender, reason: Reason) {
    // There is room for it, or the sender is gone.
    let _ = sender.try_send(&Note::Stopped(reason).encode());
}
