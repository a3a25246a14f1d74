//! The parts over ringway.

use super::parts::{self, Receive, Send, damage, is_over};
use super::{Keep, Outcome, Role, Stage};
use crate::case::{Case, Length, Work};
use crate::content;
use crate::footprint::{self, CONNECTIONS};
use crate::tally::Tally;
use crate::timing::{self, Stopwatch, shared_nanos};
use anyhow::{Context, Result, anyhow, bail};
use ringway::{
    CloseReason, ConnectError, Connection, Event, Group, Listener, Receiver, RecvTimeoutError, Sender,
    TryRecvError,
};
use std::thread;
use std::time::{Duration, Instant};

impl Send for Sender {
    #[inline]
    fn send(&mut self, message: &[u8]) -> Result<()> {
        Self::send(self, message).context("cannot send")
    }

    fn send_batch(&mut self, messages: &[Vec<u8>]) -> Result<()> {
        Self::send_batch(self, messages).context("cannot send a batch")
    }
}

impl Receive for Receiver {
    #[inline]
    fn receive(&mut self) -> Result<Option<&[u8]>> {
        match self.recv() {
            Ok(message) => Ok(Some(message.bytes())),
            Err(error) if *error.reason() == CloseReason::PeerClosed => Ok(None),
            Err(error) => Err(anyhow!(error).context("cannot receive")),
        }
    }

    #[inline]
    fn try_receive(&mut self) -> Result<Option<&[u8]>> {
        match self.try_recv() {
            Ok(message) => Ok(Some(message.bytes())),
            Err(TryRecvError::Empty) => Ok(None),
            Err(error) => Err(anyhow!(error).context("cannot receive")),
        }
    }
}

/// Plays a part over ringway.
pub fn play(stage: &Stage) -> Result<(Outcome, Keep)> {
    let work = stage.job.case.work;
    match (work, stage.job.role) {
        (Work::Fanin, Role::Server) => serve_group(stage),
        (Work::Fanin, Role::Client) => {
            let (sender, receiver) = greet(stage, stage.job.number)?;
            Ok((parts::pour(stage, vec![(stage.job.number, sender)])?, Box::new(receiver)))
        }
        (Work::Connect, Role::Server) => serve_connects(stage),
        (Work::Connect, Role::Client) => done(connect_again_and_again(stage)),
        (Work::Memory, Role::Server) => weigh_server(stage),
        (Work::Memory, Role::Client) => weigh_client(stage),
        (Work::Rtt | Work::Stream | Work::Idle, Role::Server) => {
            let (_listener, connection) = accept(stage)?;
            serve_pair(stage, connection)
        }
        (Work::Idle, Role::Client) => idle(stage, connect(stage)?),
        (Work::Rtt, Role::Client) => {
            let (sender, receiver) = connect(stage)?.split();
            done(call(stage, sender, receiver))
        }
        (Work::Stream, Role::Client) => {
            let (sender, receiver) = connect(stage)?.split();
            let outcome = parts::pour(stage, vec![(stage.job.number, sender)])?;
            Ok((outcome, Box::new(receiver)))
        }
        _ => bail!("no such work over a bare connection"),
    }
}

fn done(outcome: Result<Outcome>) -> Result<(Outcome, Keep)> {
    Ok((outcome?, Box::new(())))
}

fn serve_pair(stage: &Stage, connection: Connection) -> Result<(Outcome, Keep)> {
    if stage.job.case.work == Work::Idle {
        return idle(stage, connection);
    }
    let (sender, receiver) = connection.split();
    if stage.job.case.work == Work::Stream {
        return Ok((parts::drain(stage, receiver)?, Box::new(sender)));
    }
    done(parts::echo(stage, sender, receiver))
}

/// Serves all clients from one thread.
fn serve_group(stage: &Stage) -> Result<(Outcome, Keep)> {
    let Case { bytes, clients, .. } = stage.job.case;
    let mut group = Group::new(bind(stage)?)?;
    stage.listening()?;
    // By number of the member, which begins at 1; none until its hello.
    let mut tallies: Vec<Option<Tally>> = vec![None; clients as usize + 1];
    let mut greeted = 0;
    while greeted < clients {
        group.turn(None, |member, event| {
            if let Event::Message(hello) = event
                && let (Some(tally), Some(number)) =
                    (tallies.get_mut(member.id().number() as usize), hello.first_chunk())
            {
                *tally = Some(Tally::new(u32::from_le_bytes(*number)));
                greeted += 1;
            }
        })?;
    }
    let before = stage.ready()?;
    let (mut first, mut failure) = (None, None);
    while !group.is_empty() {
        group.turn(None, |member, event| match event {
            Event::Message(message) => {
                if first.is_none() {
                    first = Some(shared_nanos());
                }
                if let Some(Some(tally)) = tallies.get_mut(member.id().number() as usize) {
                    tally.note(message, bytes);
                }
            }
            Event::Left(CloseReason::PeerClosed) | Event::Joined | Event::Room => {}
            Event::Left(reason) => failure = Some(reason),
        })?;
    }
    let span = first.map(|first| (first, shared_nanos()));
    if let Some(reason) = failure {
        bail!("a client left: {reason}");
    }
    let outcome = parts::sum(tallies.into_iter().flatten().map(|tally| (tally, span)));
    Ok((outcome.since(before), Box::new(group)))
}

/// Sends requests one at a time, at the rate of the case or each after the answer to the one before.
pub fn call(stage: &Stage, sender: Sender, receiver: Receiver) -> Result<Outcome> {
    match stage.job.case.rate {
        Some(rate) => call_at_rate(stage, sender, receiver, rate),
        None => parts::call(stage, (sender, receiver)),
    }
}

/// Sends requests at a fixed rate, whether or not answers have come, and measures from when each was due.
///
/// The first lap of the rings, in which they get their memory, is sent as fast as it goes and not timed. Between two
/// requests the client waits for answers with the blocking verb, so it waits as the case says. A wait that
/// ends late makes requests late, and that counts.
fn call_at_rate(stage: &Stage, mut sender: Sender, mut receiver: Receiver, rate: u64) -> Result<Outcome> {
    let Case { bytes, length, .. } = stage.job.case;
    let mut watch = Stopwatch::new()?;
    let mut tally = Tally::new(stage.job.number);
    let mut request = vec![0; bytes];
    let due = |seq| timing::due(seq, rate);
    let before = stage.ready()?;
    let first_lap = stage.job.case.ring_bytes() / bytes as u64;
    let (mut sent, mut received) = (0, 0);
    while sent < first_lap {
        content::fill(&mut request, stage.job.number, sent);
        Send::send(&mut sender, &request)?;
        tally.note(&receiver.recv().context("no answer")?, bytes);
        (sent, received) = (sent + 1, received + 1);
    }
    let began = shared_nanos();
    let (begin, begin_instant) = (watch.stamp(), Instant::now());
    content::fill(&mut request, stage.job.number, sent);
    loop {
        let now = watch.nanos(begin, watch.stamp());
        let over = is_over(length, sent - first_lap, now);
        if over && received == sent {
            break;
        }
        if !over && now >= due(sent - first_lap) {
            Send::send(&mut sender, &request)?;
            sent += 1;
            content::fill(&mut request, stage.job.number, sent);
            continue;
        }
        let limit = if over { now + ANSWER_LIMIT_NANOS } else { due(sent - first_lap) };
        let answer = match receiver.recv_deadline(begin_instant + Duration::from_nanos(limit)) {
            Ok(answer) => answer,
            Err(RecvTimeoutError::Timeout) if over => break,
            Err(RecvTimeoutError::Timeout) => continue,
            Err(error) => return Err(error).context("no answer"),
        };
        let end = watch.nanos(begin, watch.stamp());
        tally.note(&answer, bytes);
        watch.record(end.saturating_sub(due(received - first_lap)));
        received += 1;
    }
    let outcome = Outcome {
        sent,
        delivered: tally.delivered,
        corrupt: damage(&tally),
        span: Some((began, shared_nanos())),
        timed: watch.count(),
        latencies: watch.steps(),
        ..Outcome::default()
    };
    Ok(outcome.since(before))
}

/// Accepts, answers one request, and closes, until the client says that it was the last.
fn serve_connects(stage: &Stage) -> Result<(Outcome, Keep)> {
    let mut listener = bind(stage)?;
    stage.listening()?;
    let before = stage.ready()?;
    let mut tally = Tally::new(stage.job.number);
    loop {
        let mut connection = listener.accept().context("cannot accept")?;
        let (sender, receiver) = connection.halves();
        let Some(request) = receiver.receive()? else { break };
        sender.send(request).context("cannot answer")?;
        tally.note(request, stage.job.case.bytes);
        // The client closes first.
        while receiver.receive()?.is_some() {}
    }
    Ok((Outcome { corrupt: damage(&tally), ..Outcome::default() }.since(before), Box::new(listener)))
}

fn connect_again_and_again(stage: &Stage) -> Result<Outcome> {
    let Case { bytes, length, .. } = stage.job.case;
    let (config, name) = (stage.job.case.config(), name(stage)?);
    let (mut watch, mut answers) = (Stopwatch::new()?, Stopwatch::new()?);
    let mut tally = Tally::new(stage.job.number);
    let mut request = vec![0; bytes];
    let before = stage.ready()?;
    let (began, begin) = (shared_nanos(), watch.stamp());
    let mut sent = 0;
    loop {
        content::fill(&mut request, stage.job.number, sent);
        let start = watch.stamp();
        let mut connection = config.connect(&name).context("cannot connect")?;
        let connected = watch.stamp();
        connection.send(&request).context("cannot send the first request")?;
        let answer = connection.recv().context("no first answer")?;
        let end = watch.stamp();
        sent += 1;
        tally.note(&answer, bytes);
        watch.record(watch.nanos(start, connected));
        answers.record(watch.nanos(start, end));
        connection.close();
        if is_over(length, sent, watch.nanos(begin, end)) {
            break;
        }
    }
    let span = Some((began, shared_nanos()));
    // A connection without a request tells the server that it is over.
    config.connect(&name).context("cannot connect")?.close();
    let outcome = Outcome {
        sent,
        delivered: tally.delivered,
        corrupt: damage(&tally),
        span,
        timed: watch.count(),
        latencies: watch.steps(),
        answers: answers.steps(),
        ..Outcome::default()
    };
    Ok(outcome.since(before))
}

fn weigh_server(stage: &Stage) -> Result<(Outcome, Keep)> {
    let mut listener = bind(stage)?;
    let empty = footprint::look()?;
    stage.listening()?;
    let accept = |_| listener.accept().context("cannot accept");
    let connections = (0..CONNECTIONS).map(accept).collect::<Result<Vec<_>>>()?;
    let before = stage.ready()?;
    let outcome = Outcome { footprints: Some((empty, footprint::look()?)), ..Outcome::default() };
    Ok((outcome.since(before), Box::new((connections, listener))))
}

fn weigh_client(stage: &Stage) -> Result<(Outcome, Keep)> {
    let empty = footprint::look()?;
    let connections = (0..CONNECTIONS).map(|_| connect(stage)).collect::<Result<Vec<_>>>()?;
    let before = stage.ready()?;
    let outcome = Outcome { footprints: Some((empty, footprint::look()?)), ..Outcome::default() };
    Ok((outcome.since(before), Box::new(connections)))
}

/// Waits for a message that never comes.
fn idle(stage: &Stage, mut connection: Connection) -> Result<(Outcome, Keep)> {
    let Length::Nanos(nanos) = stage.job.case.length else { bail!("idling is measured by time") };
    let before = stage.ready()?;
    let began = shared_nanos();
    match connection.recv_timeout(Duration::from_nanos(nanos)) {
        Err(RecvTimeoutError::Timeout) => {}
        Ok(_) => bail!("a message came that nobody sent"),
        Err(error) => return Err(error).context("the other side left"),
    }
    let outcome = Outcome { span: Some((began, shared_nanos())), ..Outcome::default() };
    Ok((outcome.since(before), Box::new(connection)))
}

pub fn bind(stage: &Stage) -> Result<Listener> {
    stage.job.case.config().bind(&name(stage)?).context("cannot listen")
}

/// Listens and takes the one client that comes.
pub fn accept(stage: &Stage) -> Result<(Listener, Connection)> {
    let mut listener = bind(stage)?;
    stage.listening()?;
    let connection = listener.accept().context("cannot accept")?;
    Ok((listener, connection))
}

/// Connects and says which client this is, for a server that has several.
pub fn greet(stage: &Stage, number: u32) -> Result<(Sender, Receiver)> {
    let mut connection = connect(stage)?;
    connection.send(&number.to_le_bytes()).context("cannot send the hello")?;
    Ok(connection.split())
}

/// Connects. When very many do so at once, the listener turns some of them away, and asks them to try again.
pub fn connect(stage: &Stage) -> Result<Connection> {
    let (config, name) = (stage.job.case.config(), name(stage)?);
    let until = Instant::now() + CONNECT_LIMIT;
    loop {
        match config.connect(&name) {
            Err(ConnectError::Dropped) if Instant::now() < until => thread::yield_now(),
            result => return result.context("cannot connect"),
        }
    }
}

pub fn name(stage: &Stage) -> Result<String> {
    let path = stage.path(".ring");
    path.to_str().map(str::to_owned).context("the temporary directory has a name that is no text")
}

/// How long clients that are turned away try again.
pub const CONNECT_LIMIT: Duration = Duration::from_secs(10);
const ANSWER_LIMIT_NANOS: u64 = 5_000_000_000;
