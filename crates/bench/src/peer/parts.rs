//! The parts that are the same over every transport: what is sent, when clocks are read, what is counted.
//!
//! A message is filled before the stamp that starts a round trip and checked after the one that ends it; the echo is on
//! its way before the server checks the request.

use super::{Outcome, Stage};
use crate::case::{Case, Length};
use crate::content;
use crate::tally::Tally;
use crate::timing::{Stopwatch, shared_nanos};
use anyhow::{Result, bail};
use std::time::{Duration, Instant};

/// The sending end of a transport.
pub trait Send {
    /// Sends a message, waiting for room.
    fn send(&mut self, message: &[u8]) -> Result<()>;

    /// Sends several messages, published at once where the transport can do that.
    fn send_batch(&mut self, messages: &[Vec<u8>]) -> Result<()> {
        messages.iter().try_for_each(|message| self.send(message))
    }

    /// Sends what was kept back.
    fn flush(&mut self) -> Result<()> {
        Ok(())
    }
}

/// The receiving end of a transport.
pub trait Receive {
    /// Waits for the next message; nothing when the sender has closed.
    fn receive(&mut self) -> Result<Option<&[u8]>>;
}

/// Receives and sends back until the client closes.
pub fn echo(stage: &Stage, mut to: impl Send, mut from: impl Receive) -> Result<Outcome> {
    let bytes = stage.job.case.bytes;
    let before = stage.ready()?;
    let mut tally = Tally::new(stage.job.number);
    while let Some(message) = from.receive()? {
        to.send(message)?;
        tally.note(message, bytes);
    }
    Ok(Outcome { corrupt: damage(&tally), ..Outcome::default() }.since(before))
}

/// Sends requests, each after the answer to the one before.
pub fn call(stage: &Stage, mut to: impl Send, mut from: impl Receive) -> Result<Outcome> {
    let Case { bytes, length, .. } = stage.job.case;
    let mut watch = Stopwatch::new()?;
    let mut tally = Tally::new(stage.job.number);
    let mut request = vec![0; bytes];
    let mut sent = 0;
    let before = stage.ready()?;
    let mut began = shared_nanos();
    let begin = watch.stamp();
    let warm_up = warm_up(length);
    let mut warm = warm_up == 0;
    loop {
        content::fill(&mut request, stage.job.number, sent);
        let start = watch.stamp();
        to.send(&request)?;
        let Some(answer) = from.receive()? else { bail!("the server closed before it answered") };
        let end = watch.stamp();
        sent += 1;
        tally.note(answer, bytes);
        watch.record(watch.nanos(start, end));
        let elapsed = watch.nanos(begin, end);
        if !warm && elapsed >= warm_up {
            warm = true;
            watch.clear();
            began = shared_nanos();
        }
        if is_over(length, sent, elapsed) {
            break;
        }
    }
    let span = Some((began, shared_nanos()));
    let outcome = Outcome {
        sent,
        delivered: tally.delivered,
        corrupt: damage(&tally),
        span,
        timed: watch.count(),
        latencies: watch.steps(),
        ..Outcome::default()
    };
    Ok(outcome.since(before))
}

/// Sends as fast as it can; the receiver counts.
pub fn pour(stage: &Stage, mut to: impl Send) -> Result<Outcome> {
    let Case { bytes, length, batch, .. } = stage.job.case;
    let look_every = stage.job.case.look_every();
    let number = stage.job.number;
    let before = stage.ready()?;
    let begin = Instant::now();
    let mut messages = vec![vec![0; bytes]; batch];
    let (mut sent, mut look_at) = (0, look_every);
    loop {
        if let [message] = messages.as_mut_slice() {
            content::fill(message, number, sent);
            to.send(message)?;
            sent += 1;
        } else {
            let count = batch.min(left(length, sent));
            for message in &mut messages[..count] {
                content::fill(message, number, sent);
                sent += 1;
            }
            to.send_batch(&messages[..count])?;
        }
        match length {
            Length::Count(count) if sent < count => {}
            Length::Count(_) => break,
            Length::Nanos(_) if sent < look_at => {}
            Length::Nanos(nanos) if begin.elapsed() >= Duration::from_nanos(nanos) => break,
            Length::Nanos(_) => look_at = sent + look_every,
        }
    }
    to.flush()?;
    drop(to);
    Ok(Outcome { sent, ..Outcome::default() }.since(before))
}

/// What one receiver saw of one sender: the tally, and the span from the first message to the end of the stream.
pub type Catch = (Tally, Option<(u64, u64)>);

/// Receives and checks until the sender closes.
pub fn catch(number: u32, bytes: usize, from: &mut impl Receive) -> Result<Catch> {
    let mut tally = Tally::new(number);
    let Some(message) = from.receive()? else { return Ok((tally, None)) };
    let first = shared_nanos();
    tally.note(message, bytes);
    while let Some(message) = from.receive()? {
        tally.note(message, bytes);
    }
    Ok((tally, Some((first, shared_nanos()))))
}

/// Receives and checks until the sender closes, and makes a report of it.
pub fn drain(stage: &Stage, mut from: impl Receive) -> Result<Outcome> {
    let before = stage.ready()?;
    let caught = catch(stage.job.number, stage.job.case.bytes, &mut from)?;
    Ok(sum([caught]).since(before))
}

/// Adds up what came from several senders.
pub fn sum(caught: impl IntoIterator<Item = Catch>) -> Outcome {
    let mut outcome = Outcome::default();
    for (tally, span) in caught {
        outcome.delivered += tally.delivered;
        outcome.corrupt += damage(&tally);
        outcome.span = join(outcome.span, span);
    }
    outcome.timed = outcome.delivered;
    outcome
}

/// Returns the span from the earlier beginning to the later end.
pub fn join(one: Option<(u64, u64)>, other: Option<(u64, u64)>) -> Option<(u64, u64)> {
    match (one, other) {
        (Some(one), Some(other)) => Some((one.0.min(other.0), one.1.max(other.1))),
        (one, other) => one.or(other),
    }
}

/// Messages that came but were damaged, late, or came twice.
pub fn damage(tally: &Tally) -> u64 {
    tally.corrupt + tally.late
}

/// Says whether a client has done its part.
pub fn is_over(length: Length, sent: u64, elapsed_nanos: u64) -> bool {
    match length {
        Length::Nanos(nanos) => elapsed_nanos >= nanos,
        Length::Count(count) => sent >= count,
    }
}

/// Returns for how many nanoseconds round trips are not recorded, while pages are touched for the first time.
fn warm_up(length: Length) -> u64 {
    match length {
        Length::Nanos(nanos) => (nanos / 10).min(WARM_UP_NANOS_MAX),
        Length::Count(_) => 0,
    }
}

fn left(length: Length, sent: u64) -> usize {
    match length {
        Length::Nanos(_) => usize::MAX,
        Length::Count(count) => usize::try_from(count - sent).unwrap_or(usize::MAX),
    }
}

const WARM_UP_NANOS_MAX: u64 = 50_000_000;
