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

    /// Returns the next message if it is here already, as far as one can tell without asking the kernel.
    fn try_receive(&mut self) -> Result<Option<&[u8]>>;
}

/// Who makes requests and gets answers, one at a time.
pub trait Ask {
    /// Makes a request and waits for the answer.
    fn ask(&mut self, request: &[u8]) -> Result<&[u8]>;
}

/// The two ends of a transport.
impl<S: Send, R: Receive> Ask for (S, R) {
    #[inline]
    fn ask(&mut self, request: &[u8]) -> Result<&[u8]> {
        self.0.send(request)?;
        let Some(answer) = self.1.receive()? else { bail!("the server closed before it answered") };
        Ok(answer)
    }
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
pub fn call(stage: &Stage, mut server: impl Ask) -> Result<Outcome> {
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
        let answer = server.ask(&request)?;
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

/// Sends as fast as it can, some messages of each client in turn; the receiver counts.
pub fn pour(stage: &Stage, clients: Vec<(u32, impl Send)>) -> Result<Outcome> {
    let Case { bytes, length, batch, .. } = stage.job.case;
    let turn = stage.job.case.look_every().max(batch as u64);
    let before = stage.ready()?;
    let begin = Instant::now();
    let mut messages = vec![vec![0; bytes]; batch];
    let mut jets: Vec<_> = clients.into_iter().map(|(number, to)| Jet { number, to, sent: 0 }).collect();
    'all: loop {
        for jet in &mut jets {
            jet.pour(&mut messages, turn.min(left(length, jet.sent)))?;
            if let Length::Nanos(nanos) = length
                && begin.elapsed() >= Duration::from_nanos(nanos)
            {
                break 'all;
            }
        }
        if jets.iter().all(|jet| left(length, jet.sent) == 0) {
            break;
        }
    }
    let mut sent = 0;
    for mut jet in jets {
        jet.to.flush()?;
        sent += jet.sent;
    }
    Ok(Outcome { sent, ..Outcome::default() }.since(before))
}

/// A client that sends one way.
struct Jet<S> {
    number: u32,
    to: S,
    sent: u64,
}

impl<S: Send> Jet<S> {
    /// Sends so many, as many at once as there are buffers.
    fn pour(&mut self, messages: &mut [Vec<u8>], count: u64) -> Result<()> {
        let end = self.sent + count;
        while self.sent < end {
            if let [message] = messages {
                content::fill(message, self.number, self.sent);
                self.to.send(message)?;
                self.sent += 1;
                continue;
            }
            let count = messages.len().min(usize::try_from(end - self.sent)?);
            for message in &mut messages[..count] {
                content::fill(message, self.number, self.sent);
                self.sent += 1;
            }
            self.to.send_batch(&messages[..count])?;
        }
        Ok(())
    }
}

/// A client that has several requests under way at once.
pub struct Line<S, R> {
    to: S,
    from: R,
    tally: Tally,
    sent: u64,
    open: u64,
}

impl<S: Send, R: Receive> Line<S, R> {
    /// Makes one that has asked nothing.
    pub fn new(number: u32, to: S, from: R) -> Self {
        Self { to, from, tally: Tally::new(number), sent: 0, open: 0 }
    }

    /// Takes the answers that are here and makes up to `requests` new requests; says whether there was anything to do.
    fn turn(&mut self, request: &mut [u8], requests: impl Fn(&Self) -> u64) -> Result<bool> {
        let mut moved = false;
        while self.open > 0
            && let Some(answer) = self.from.try_receive()?
        {
            self.tally.note(answer, request.len());
            self.open -= 1;
            moved = true;
        }
        for _ in 0..requests(self) {
            content::fill(request, self.tally.client, self.sent);
            self.to.send(request)?;
            self.sent += 1;
            self.open += 1;
            moved = true;
        }
        self.to.flush()?;
        Ok(moved)
    }

    /// Waits for an answer.
    fn wait(&mut self, bytes: usize) -> Result<()> {
        let Some(answer) = self.from.receive()? else { bail!("the server closed before it answered") };
        self.tally.note(answer, bytes);
        self.open -= 1;
        Ok(())
    }
}

/// Keeps `depth` requests of each client under way. When no answer is here and no request due, one client after the
/// other waits: all have asked, so all are answered.
pub fn pipeline<S: Send, R: Receive>(stage: &Stage, mut lines: Vec<Line<S, R>>) -> Result<Outcome> {
    let Case { bytes, length, depth, .. } = stage.job.case;
    let mut request = vec![0; bytes];
    let before = stage.ready()?;
    let began = shared_nanos();
    let mut waiting = 0;
    loop {
        let over = matches!(length, Length::Nanos(nanos) if shared_nanos() - began >= nanos);
        let due = |line: &Line<S, R>| {
            if over { 0 } else { (u64::from(depth) - line.open).min(left(length, line.sent)) }
        };
        let mut moved = false;
        for line in &mut lines {
            moved |= line.turn(&mut request, due)?;
        }
        if moved {
            continue;
        }
        let count = lines.len();
        let Some(next) = (1..=count).map(|step| (waiting + step) % count).find(|at| lines[*at].open > 0)
        else {
            break;
        };
        waiting = next;
        lines[next].wait(bytes)?;
    }
    let tallies = lines.iter().map(|line| (line.tally.clone(), Some((began, shared_nanos()))));
    let outcome = Outcome { sent: lines.iter().map(|line| line.sent).sum(), ..sum(tallies) };
    Ok(outcome.since(before))
}

/// Sends back what one client sends until it closes; what is gathered goes out before it waits.
pub fn answer(number: u32, bytes: usize, mut to: impl Send, mut from: impl Receive) -> Result<Tally> {
    let mut tally = Tally::new(number);
    loop {
        while let Some(message) = from.try_receive()? {
            to.send(message)?;
            tally.note(message, bytes);
        }
        to.flush()?;
        let Some(message) = from.receive()? else { return Ok(tally) };
        to.send(message)?;
        tally.note(message, bytes);
    }
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

/// How many messages a client may still send.
fn left(length: Length, sent: u64) -> u64 {
    match length {
        Length::Nanos(_) => u64::MAX,
        Length::Count(count) => count.saturating_sub(sent),
    }
}

const WARM_UP_NANOS_MAX: u64 = 50_000_000;
