//! `ringway pub`: from the standard input to all receivers of a route, or to all members of a channel.
//!
//! One thread reads and sends. While the input says nothing it looks after receivers that come and go.

use super::SharedArgs;
use super::voice::{Kind, Voice};
use crate::exit::{Code, fault};
use crate::stream::{FramingArgs, Input, Meter, TICK, Totals, parse_seconds};
use anyhow::{Context, Result};
use clap::Args;
use ringway::broadcast::{MemberEvent, Policy, Sender, Sent, WaitError};
use ringway::{Channel, Route};
use std::io::{self, IsTerminal};
use std::mem;
use std::time::{Duration, Instant};

/// Arguments of `pub`.
#[derive(Args)]
pub struct PubArgs {
    /// Name of the route or channel, or its path if it has a slash
    name: String,
    #[command(flatten)]
    framing: FramingArgs,
    /// What to do when the ring is full because somebody reads too slowly: `block` waits, and cuts a receiver off that
    /// made no progress for 5 s (`block=SECS`: for so long, `block=forever`: never); `drop-newest` drops the message
    /// for all; `overwrite` goes on, and who is slow misses the oldest; `disconnect` cuts it off at once
    #[arg(long, default_value = "block", value_parser = parse_policy)]
    policy: Policy,
    /// Keep so many messages for receivers that come later, as far as the ring still has them
    #[arg(long, value_name = "N", default_value_t = 0)]
    history: u32,
    /// Send nothing before so many receivers are there
    #[arg(long, value_name = "N")]
    wait_for: Option<usize>,
    /// Wait this long for them; for ever if not given
    #[arg(long, value_name = "SECS", value_parser = parse_seconds, requires = "wait_for")]
    timeout: Option<Duration>,
    /// Bytes of the ring, a power of two, 16384 to 1073741824 [default: that of the profile]
    #[arg(long, value_name = "BYTES")]
    ring_bytes: Option<u64>,
    #[command(flatten)]
    shared: SharedArgs,
}

/// Runs `pub`.
///
/// # Errors
/// The name cannot be had, receivers do not come in time, or the input fails.
pub fn publish(args: PubArgs) -> Result<()> {
    let mut sender = args.join()?;
    match args.send(&mut sender) {
        Ok(press) => {
            sender.close();
            press.summarize();
            Ok(())
        }
        Err(error) => {
            // Nobody shall take this for the end of the input: receivers see that we died.
            mem::forget(sender);
            Err(error)
        }
    }
}

impl PubArgs {
    fn join(&self) -> Result<Sender> {
        let mut config = self.shared.config();
        if let Some(ring_bytes) = self.ring_bytes {
            config = config.ring_bytes(ring_bytes);
        }
        let prefix = &self.shared.prefix;
        if self.shared.channel {
            let builder = Channel::builder().config(config).prefix(prefix);
            // Nobody reads what others send.
            return Ok(builder.policy(self.policy).history(self.history).join(&self.name)?.split().0);
        }
        let builder = Route::builder().config(config).prefix(prefix);
        Ok(builder.policy(self.policy).history(self.history).sender(&self.name)?)
    }

    /// Sends everything, once the receivers are there.
    fn send(&self, sender: &mut Sender) -> Result<Press> {
        self.wait(sender)?;
        let meter = Meter::start(self.shared.common.show(io::stdin().is_terminal()));
        let voice = self.shared.voice();
        let mut press = Press { voice, meter, totals: Totals::default(), tally: Tally::default() };
        press.send_all(sender, self)?;
        press.look(sender);
        Ok(press)
    }

    /// Waits for the receivers that were asked for.
    fn wait(&self, sender: &mut Sender) -> Result<()> {
        let Some(wanted) = self.wait_for else { return Ok(()) };
        let deadline = self.timeout.and_then(|timeout| Instant::now().checked_add(timeout));
        loop {
            let left = deadline.map_or(WAIT_TICK, |at| at.saturating_duration_since(Instant::now()));
            match sender.wait_for_receivers(wanted, left) {
                Ok(_) => return Ok(()),
                Err(WaitError::Timeout { present }) if deadline.is_some() => {
                    let text = format!("{present} of {wanted} receivers came in time");
                    return Err(fault(Code::TimedOut, text));
                }
                Err(WaitError::Timeout { .. }) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
}

/// What became of the messages beside that they were sent.
#[derive(Default)]
struct Tally {
    /// Dropped because of the policy.
    dropped: u64,
    /// Sent while nobody received.
    unheard: u64,
    /// Receivers that were cut off.
    cut: u64,
}

/// What sends, and keeps the books.
struct Press {
    voice: Voice,
    meter: Meter,
    totals: Totals,
    tally: Tally,
}

impl Press {
    /// Sends the whole input.
    fn send_all(&mut self, sender: &mut Sender, args: &PubArgs) -> Result<()> {
        let framing = args.framing.framing();
        let mut input = Input::stdin(framing, sender.message_bytes_max(), sender.record_bytes_max())?;
        loop {
            while !input.wait(TICK)? {
                self.look(sender);
            }
            self.look(sender);
            let is_over = !input.read()?;
            loop {
                match input.next() {
                    Ok(Some(message)) => self.send(sender, message)?,
                    Ok(None) => break,
                    // Those before it were sent.
                    Err(error) => return Err(error.into()),
                }
            }
            self.meter.show(self.totals.bytes);
            if is_over {
                return Ok(());
            }
        }
    }

    fn send(&mut self, sender: &mut Sender, message: &[u8]) -> Result<()> {
        match sender.send(message).context("cannot send")? {
            Sent::Dropped { .. } => {
                self.tally.dropped += 1;
                return Ok(());
            }
            Sent::NoReceivers => self.tally.unheard += 1,
            Sent::To { .. } => {}
        }
        self.totals.add(message.len());
        Ok(())
    }

    /// Looks who came and who went.
    fn look(&mut self, sender: &mut Sender) {
        while let Some(event) = sender.try_event() {
            match event {
                MemberEvent::Joined(peer) => self.voice.joined(Kind::Receiver, peer),
                MemberEvent::Left(peer, reason) => {
                    self.tally.cut += u64::from(reason == ringway::CloseReason::TooSlow);
                    self.voice.left(Kind::Receiver, peer, &reason);
                }
                _ => {}
            }
        }
    }

    fn summarize(self) {
        let Tally { dropped, unheard, cut } = self.tally;
        let losses = [("dropped", dropped), ("cut_off", cut)];
        self.meter.summarize_more("published", self.totals, &losses, &[("unheard", unheard)]);
    }
}

/// Reads a policy.
///
/// # Errors
/// What is wrong with the text.
fn parse_policy(text: &str) -> Result<Policy, String> {
    match text.split_once('=') {
        None => match text {
            "block" => Ok(Policy::default()),
            "drop-newest" => Ok(Policy::DropNewest),
            "overwrite" => Ok(Policy::Overwrite),
            "disconnect" => Ok(Policy::Disconnect),
            _ => {
                Err("none of block, block=SECS, block=forever, drop-newest, overwrite, disconnect".to_owned())
            }
        },
        Some(("block", "forever")) => Ok(Policy::Block { stall_max: None }),
        Some(("block", seconds)) => Ok(Policy::Block { stall_max: Some(parse_seconds(seconds)?) }),
        Some((policy, _)) => Err(format!("{policy} takes no value")),
    }
}

/// As long as one likes.
const WAIT_TICK: Duration = Duration::from_secs(3600);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_policy_is_what_it_is_called() {
        let stall = |text| match parse_policy(text) {
            Ok(Policy::Block { stall_max }) => stall_max,
            other => panic!("{text}: {other:?}"),
        };
        assert_eq!(stall("block"), Some(Duration::from_secs(5)));
        assert_eq!(stall("block=0.5"), Some(Duration::from_millis(500)));
        assert_eq!(stall("block=forever"), None);
        assert_eq!(parse_policy("overwrite"), Ok(Policy::Overwrite));
        assert_eq!(parse_policy("drop-newest"), Ok(Policy::DropNewest));
        assert_eq!(parse_policy("disconnect"), Ok(Policy::Disconnect));
        for wrong in ["", "blocks", "block=", "block=-1", "overwrite=1", "drop"] {
            assert!(parse_policy(wrong).is_err(), "{wrong}");
        }
    }
}
