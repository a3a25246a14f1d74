//! `ringway sub`: from the sender of a route, or from the members of a channel, to the standard output.

use super::SharedArgs;
use super::voice::{Kind, Voice};
use crate::exit::{self, Code, fault};
use crate::stream::{FramingArgs, GRACE, Interrupt, Meter, Output, TICK, Totals, parse_seconds};
use anyhow::{Result, anyhow};
use clap::Args;
use ringway::broadcast::{Event, Peer, Receiver};
use ringway::{Channel, CloseReason, Route};
use std::io::{self, IsTerminal};
use std::time::{Duration, Instant};

/// Arguments of `sub`.
#[derive(Args)]
pub struct SubArgs {
    /// Name of the route or channel, or its path if it has a slash
    name: String,
    #[command(flatten)]
    framing: FramingArgs,
    /// Take at most so many messages from before, if the sender keeps any [default: all that it has]
    #[arg(long, value_name = "N")]
    history: Option<u32>,
    /// End after so many messages
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    count: Option<u64>,
    /// When the sender has ended, wait for the next; a channel is always followed
    #[arg(long)]
    follow: bool,
    /// Wait this long for a sender; for ever if not given
    #[arg(long, value_name = "SECS", value_parser = parse_seconds)]
    timeout: Option<Duration>,
    #[command(flatten)]
    shared: SharedArgs,
}

/// Runs `sub`.
///
/// # Errors
/// The name cannot be used, no sender comes in time, the sender of a route dies, or the output fails.
pub fn subscribe(args: SubArgs) -> Result<()> {
    let interrupt = Interrupt::watch(GRACE)?;
    let mut receiver = args.join()?;
    let framing = args.framing.framing();
    let mut desk = Desk {
        output: Output::stdout(framing)?,
        voice: args.shared.voice(),
        meter: Meter::start(args.shared.common.show(io::stdout().is_terminal())),
        totals: Totals::default(),
        tally: Tally::default(),
        count: args.count,
        follow: args.follow || args.shared.channel,
        deadline: args.timeout.and_then(|timeout| Instant::now().checked_add(timeout)),
        cut_at: None,
        is_done: false,
    };
    let outcome = desk.take_all(&mut receiver, &interrupt);
    drop(receiver);
    interrupt.release();
    let flushed = desk.output.flush();
    outcome?;
    flushed?;
    desk.summarize();
    Ok(())
}

impl SubArgs {
    fn join(&self) -> Result<Receiver> {
        let (config, prefix) = (self.shared.config(), &self.shared.prefix);
        if self.shared.channel {
            let builder = Channel::builder().config(config).prefix(prefix);
            let builder = self.history.map_or(builder.clone(), |history| builder.history(history));
            return Ok(builder.join(&self.name)?.split().1);
        }
        let builder = Route::builder().config(config).prefix(prefix);
        let builder = self.history.map_or(builder.clone(), |history| builder.history(history));
        Ok(builder.receiver(&self.name)?)
    }
}

/// What was lost.
#[derive(Default)]
struct Tally {
    /// Messages that were overwritten.
    lost: u64,
    /// How often we were cut off.
    cuts: u64,
}

/// Where messages go, and the books.
struct Desk {
    output: Output,
    voice: Voice,
    meter: Meter,
    totals: Totals,
    tally: Tally,
    count: Option<u64>,
    follow: bool,
    /// When it is over if no sender came; none once there was one.
    deadline: Option<Instant>,
    /// When the sender cut us off, until it has us again.
    cut_at: Option<Instant>,
    is_done: bool,
}

impl Desk {
    fn take_all(&mut self, receiver: &mut Receiver, interrupt: &Interrupt) -> Result<()> {
        while !self.is_done {
            match receiver.try_next() {
                Ok(Some(event)) => {
                    self.handle(event)?;
                    continue;
                }
                Ok(None) => {}
                Err(reason) => return Err(ended(&reason)),
            }
            // Whoever reads the output should not wait for more to come.
            self.output.flush()?;
            self.meter.show(self.totals.bytes);
            if interrupt.came() {
                return Ok(());
            }
            match receiver.next_timeout(TICK) {
                Ok(Some(event)) => self.handle(event)?,
                Ok(None) => self.look(receiver)?,
                Err(reason) => return Err(ended(&reason)),
            }
        }
        Ok(())
    }

    fn handle(&mut self, event: Event<'_>) -> Result<()> {
        match event {
            Event::Message(message) => {
                self.output.put(&message)?;
                self.totals.add(message.len());
                self.is_done = self.count == Some(self.totals.messages);
            }
            Event::Lagged { from, messages } => {
                self.tally.lost += messages;
                self.voice.lagged(from, messages);
            }
            Event::Joined(peer) => {
                (self.deadline, self.cut_at) = (None, None);
                self.voice.joined(Kind::Sender, peer);
            }
            Event::Left(peer, reason) => self.leave(peer, &reason)?,
            Event::Refused(refusal) => {
                let error = fault(exit::code_of_refusal(refusal), format!("a sender refused: {refusal}"));
                if !self.follow {
                    return Err(error);
                }
                exit::tell_error(&error);
            }
            _ => {}
        }
        Ok(())
    }

    fn leave(&mut self, peer: Peer, reason: &CloseReason) -> Result<()> {
        if *reason == CloseReason::TooSlow {
            self.tally.cuts += 1;
            self.cut_at = Some(Instant::now());
        }
        if self.follow || *reason == CloseReason::TooSlow {
            self.voice.left(Kind::Sender, peer, reason);
            return Ok(());
        }
        match reason {
            CloseReason::PeerClosed => {
                self.voice.left(Kind::Sender, peer, reason);
                self.is_done = true;
                Ok(())
            }
            CloseReason::PeerDied { pid } => {
                Err(fault(Code::PeerGone, format!("the sender (process {pid}) died; {}", self.so_far())))
            }
            reason => Err(fault(exit::code_of_close(reason), format!("{reason}; {}", self.so_far()))),
        }
    }

    /// Nothing has come for a while.
    fn look(&self, receiver: &mut Receiver) -> Result<()> {
        let is_alone = receiver.sender_count() == 0;
        if is_alone && self.deadline.is_some_and(|at| Instant::now() >= at) {
            let path = receiver.path();
            return Err(fault(Code::TimedOut, format!("no sender came in time ({})", path.display())));
        }
        if is_alone && !self.follow && self.cut_at.is_some_and(|at| at.elapsed() > CUT_GRACE) {
            let text = format!("the sender cut us off as too slow, and has ended; {}", self.so_far());
            return Err(fault(Code::PeerGone, text));
        }
        Ok(())
    }

    fn so_far(&self) -> String {
        let Totals { messages, bytes } = self.totals;
        format!("{bytes} bytes in {messages} messages came before and were written")
    }

    fn summarize(self) {
        let Tally { lost, cuts } = self.tally;
        self.meter.summarize_more("received", self.totals, &[("lost", lost), ("cut_off", cuts)], &[]);
    }
}

/// Makes the error for a receiver that cannot go on.
fn ended(reason: &CloseReason) -> anyhow::Error {
    let text = format!("cannot receive: {reason}");
    match exit::code_of_close(reason) {
        Code::Failure => anyhow!(text),
        code => fault(code, text),
    }
}

/// How long a sender that cut us off may take until it has us again, before it counts as gone.
const CUT_GRACE: Duration = Duration::from_secs(2);
