//! `ringway send`: from the standard input to a connection.
//!
//! A thread of its own reads the input and sends; the first thread takes what comes back, and decides. So an input that
//! says nothing does not hide that the listener died, and answers are read while data is sent, whatever fills up.

use super::framing::{Framing, Splitter};
use super::inlet::{Inlet, Output, TICK};
use super::meter::Meter;
use super::wire::{Content, Note, Role, Totals};
use super::{CommonArgs, FramingArgs, deadline_of, parse_seconds, read, read_greeting};
use crate::demo::tell;
use crate::exit::{self, Code, fault};
use anyhow::{Context, Result, anyhow};
use clap::Args;
use ringway::{CloseReason, Config, ConnectError, Connection, RecvTimeoutError, SendError, Sender};
use std::fs::File;
use std::io::{self, IsTerminal};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// Arguments of `send`.
#[derive(Args)]
pub struct SendArgs {
    /// Name where somebody listens, or the path of a socket if it has a slash
    name: String,
    #[command(flatten)]
    framing: FramingArgs,
    /// Write the answers of `ringway echo` to the standard output, framed as the input is
    #[arg(long)]
    answers: bool,
    /// Wait this long for a listener, and for one's turn; for ever if not given, as with a named pipe
    #[arg(long, value_name = "SECS", value_parser = parse_seconds)]
    timeout: Option<Duration>,
    #[command(flatten)]
    common: CommonArgs,
}

/// Runs `send`.
///
/// # Errors
/// Nobody listens in time, the input fails, or the listener does before it has confirmed everything.
pub fn send(args: SendArgs) -> Result<()> {
    let deadline = deadline_of(args.timeout);
    let framing = args.framing.framing();
    let mut output = if args.answers { Output::stdout(framing)? } else { Output::nowhere() };
    let hint = !args.common.quiet && !args.common.json;
    let mut connection = connect(&args.common.config(), &args.name, deadline, hint)?;
    let pid = connection.peer_cred().pid;
    let content = if args.answers { Content::Any } else { framing.content() };
    connection.send(&Note::Greeting(Role::Send, content).encode()).context("the listener is gone")?;
    match read_greeting(&mut connection)?.0 {
        Role::Listen if args.answers => {
            let text =
                format!("process {pid} is `ringway listen`, which gives no answers; use `ringway echo`");
            return Err(fault(Code::Violation, text));
        }
        Role::Listen | Role::Echo => {}
        Role::Send => {
            let text = format!("process {pid} is no listener: it sent our own greeting back");
            return Err(fault(Code::Violation, text));
        }
    }
    wait_for_turn(&mut connection, deadline)?;
    let meter = Meter::start(
        args.common.show(io::stdin().is_terminal() || args.answers && io::stdout().is_terminal()),
    );
    let (sender, receiver) = connection.split();
    let mut pump = Pump::start(sender, framing)?;
    let mut inlet = Inlet::new(receiver);
    let reason = inlet.drain(&mut output, &meter, || pump.look(&meter))?;
    let note = inlet.finish(&mut output, |note, _| matches!(note, Note::End(_) | Note::Stopped(_)))?;
    let sent = pump.sent.totals();
    match note {
        Some(Note::End(totals)) if totals == sent => {
            meter.summarize("sent", sent);
            Ok(())
        }
        note => Err(pump.blame().unwrap_or_else(|| unconfirmed(note, &reason, pid, sent))),
    }
}

/// Waits for somebody to listen, and connects.
fn connect(config: &Config, name: &str, deadline: Option<Instant>, hint: bool) -> Result<Connection> {
    let start = Instant::now();
    let mut hints = hint.then_some(());
    loop {
        let attempt = Instant::now();
        let left = deadline.map_or(CONNECT_LIMIT, |at| at.saturating_duration_since(attempt));
        let limit = left.clamp(CONNECT_LIMIT_MIN, CONNECT_LIMIT);
        let error = match config.clone().connect_timeout(limit).connect(name) {
            Ok(connection) => return Ok(connection),
            Err(error) => error,
        };
        match error {
            // One that has just gone away may come back.
            ConnectError::NoListener { .. } => {}
            ConnectError::Dropped if attempt.elapsed() < limit => {}
            ConnectError::Dropped => {
                let text = "whatever listens there closes every connection; it is no `ringway listen`";
                return Err(fault(Code::Violation, text));
            }
            error => return Err(error).with_context(|| format!("cannot connect to {name:?}")),
        }
        if deadline.is_some_and(|deadline| Instant::now() >= deadline) {
            return Err(fault(
                Code::TimedOut,
                format!("nobody listens at {name:?}, and the time is up: {error}"),
            ));
        }
        if start.elapsed() >= HINT_AFTER && hints.take().is_some() {
            tell(&format!("ringway: waiting for somebody to listen at {name:?} ({error})"));
        }
        thread::sleep(RETRY);
    }
}

/// Waits until it is this sender's turn.
fn wait_for_turn(connection: &mut Connection, deadline: Option<Instant>) -> Result<()> {
    let pid = connection.peer_cred().pid;
    let receiver = connection.receiver();
    let message = loop {
        let limit = deadline.unwrap_or_else(|| Instant::now() + TURN_TICK);
        match receiver.recv_deadline(limit) {
            Ok(message) => break Note::decode(&message),
            Err(RecvTimeoutError::Timeout) if deadline.is_some() => {
                let text = format!("the listener (process {pid}) serves another sender, and the time is up");
                return Err(fault(Code::TimedOut, text));
            }
            Err(RecvTimeoutError::Timeout) => {}
            Err(error) => return Err(error).context("the listener ended before it was our turn"),
        }
    };
    match message {
        Ok(Note::Go) => Ok(()),
        Ok(Note::Stopped(reason)) => {
            Err(fault(Code::Violation, format!("the listener (process {pid}) refused: {reason}")))
        }
        Ok(_) | Err(_) => {
            Err(fault(Code::Violation, format!("the listener (process {pid}) does not follow the protocol")))
        }
    }
}

/// Makes the error for an end without the right confirmation.
fn unconfirmed(note: Option<Note>, reason: &CloseReason, pid: u32, sent: Totals) -> anyhow::Error {
    let Totals { messages, bytes } = sent;
    let what = format!("{bytes} bytes in {messages} messages were sent and not confirmed");
    match (note, reason) {
        (Some(Note::End(totals)), _) => {
            let text = format!("the listener (process {pid}) confirmed {} bytes, but {what}", totals.bytes);
            fault(Code::Violation, text)
        }
        (Some(Note::Stopped(why)), _) => {
            fault(Code::PeerGone, format!("the listener (process {pid}) stopped: {why}; {what}"))
        }
        (_, CloseReason::PeerDied { .. }) => {
            fault(Code::PeerGone, format!("the listener (process {pid}) died; {what}"))
        }
        (_, CloseReason::PeerClosed) => {
            fault(Code::PeerGone, format!("the listener (process {pid}) closed the connection; {what}"))
        }
        (_, reason) => fault(exit::code_of_close(reason), format!("{reason}; {what}")),
    }
}

/// How much was sent; written by the pump.
#[derive(Default)]
struct Sent {
    messages: AtomicU64,
    bytes: AtomicU64,
}

impl Sent {
    fn add(&self, messages: usize, bytes: usize) {
        // Relaxed, here and below: the final numbers are read after they came back over the connection, or after the
        // thread was joined; others are to look at.
        self.messages.fetch_add(messages as u64, Ordering::Relaxed);
        self.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    fn totals(&self) -> Totals {
        Totals {
            // Relaxed: see `add`.
            messages: self.messages.load(Ordering::Relaxed),
            bytes: self.bytes.load(Ordering::Relaxed),
        }
    }
}

/// The thread that reads the input and sends.
struct Pump {
    thread: Option<JoinHandle<Result<()>>>,
    sent: Arc<Sent>,
    failed: Option<anyhow::Error>,
    failed_at: Option<Instant>,
}

impl Pump {
    fn start(sender: Sender, framing: Framing) -> Result<Self> {
        let input = io::stdin().as_fd().try_clone_to_owned().context("cannot use the standard input")?;
        let input = File::from(input);
        super::widen(&input);
        let sent = Arc::new(Sent::default());
        let thread = thread::spawn({
            let sent = Arc::clone(&sent);
            move || send_all(sender, input, framing, &sent)
        });
        Ok(Self { thread: Some(thread), sent, failed: None, failed_at: None })
    }

    /// Looks how far it is, and whether it failed. A listener that is gone tells more by how it went, so that comes
    /// first.
    fn look(&mut self, meter: &Meter) -> Result<()> {
        meter.show(self.sent.totals().bytes);
        self.note_end();
        let is_over = match (&self.failed, self.failed_at) {
            (Some(error), Some(at)) => !is_closed(error) || at.elapsed() > CLOSE_GRACE,
            _ => false,
        };
        if is_over {
            Err(self.failed.take().unwrap_or_else(|| anyhow!("the input cannot be sent")))
        } else {
            Ok(())
        }
    }

    /// Returns why it failed, unless that is only because the listener did.
    fn blame(&mut self) -> Option<anyhow::Error> {
        // It drops its half of the connection before it ends, so a listener may have closed in answer to a failure.
        let until = Instant::now() + TICK;
        while self.thread.as_ref().is_some_and(|thread| !thread.is_finished()) && Instant::now() < until {
            thread::yield_now();
        }
        self.note_end();
        self.failed.take().filter(|error| !is_closed(error))
    }

    fn note_end(&mut self) {
        if let Some(thread) = self.thread.take_if(|thread| thread.is_finished()) {
            let result =
                thread.join().unwrap_or_else(|_| Err(anyhow!("the thread that reads the input panicked")));
            self.failed = result.err();
            self.failed_at = Some(Instant::now());
        }
    }
}

fn is_closed(error: &anyhow::Error) -> bool {
    matches!(error.downcast_ref(), Some(SendError::Closed(_)))
}

/// Sends the whole input, its end, and closes. A failure closes without an end.
fn send_all(mut sender: Sender, input: File, framing: Framing, sent: &Sent) -> Result<()> {
    match framing {
        Framing::Raw => send_bytes(&mut sender, input, sent)?,
        Framing::Lines | Framing::Frames => send_messages(&mut sender, input, framing, sent)?,
    }
    sender.send(&Note::End(sent.totals()).encode())?;
    Ok(())
}

/// Lets the kernel put the input where the listener reads it.
fn send_bytes(sender: &mut Sender, mut input: File, sent: &Sent) -> Result<()> {
    let chunk_bytes = sender.record_bytes_max().min(CHUNK_BYTES);
    loop {
        let mut claim = sender.claim(chunk_bytes)?;
        let bytes = read(&mut input, &mut claim)?;
        if bytes == 0 {
            return Ok(());
        }
        // Before the commit: who knows of the message must find it counted.
        sent.add(1, bytes);
        claim.commit_len(bytes);
    }
}

/// Sends line by line or frame by frame: all that have come, then waits for more.
fn send_messages(sender: &mut Sender, mut input: File, framing: Framing, sent: &Sent) -> Result<()> {
    let mut splitter = Splitter::new(framing, sender.message_bytes_max());
    let mut places = Vec::new();
    loop {
        let bytes = read(&mut input, splitter.space())?;
        splitter.filled(bytes);
        let outcome = loop {
            match if bytes == 0 { splitter.finish() } else { splitter.next() } {
                Ok(Some(place)) => places.push(place),
                other => break other,
            }
        };
        let messages: Vec<&[u8]> = places.drain(..).map(|place| splitter.bytes(place)).collect();
        sent.add(messages.len(), messages.iter().map(|message| message.len()).sum());
        sender.send_batch(&messages)?;
        // Those before the one that failed were sent.
        outcome?;
        if bytes == 0 {
            return Ok(());
        }
    }
}

/// How often somebody is looked for who listens.
const RETRY: Duration = Duration::from_millis(20);
/// How long a listener that is there may take to answer.
const CONNECT_LIMIT: Duration = Duration::from_secs(10);
const CONNECT_LIMIT_MIN: Duration = Duration::from_secs(1);
/// When a user who waits is told for what.
const HINT_AFTER: Duration = Duration::from_secs(2);
const TURN_TICK: Duration = Duration::from_secs(3600);
/// How long the end of the connection may be seen by one half only.
const CLOSE_GRACE: Duration = Duration::from_secs(2);
/// One read: a quarter of what fits into the ring makes both sides wait for each other less than larger ones do.
const CHUNK_BYTES: usize = 256 << 10;
