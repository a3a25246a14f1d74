//! The parts over calls: a server with handlers, and clients that call it.
//!
//! The server checks each request in itself; whose it is and whether it comes in its turn is checked with the answer,
//! which is the request again, by the client that made it. A request that is damaged is answered with a failure.

use super::link;
use super::parts::{self, Ask, damage, is_over};
use super::{Keep, Outcome, Role, Stage};
use crate::case::{Case, Length, Work};
use crate::content;
use crate::tally::Tally;
use crate::timing::{Stopwatch, shared_nanos};
use anyhow::{Context, Result, anyhow, bail};
use ringway::ConnectError;
use ringway::rpc::{CallError, Client, Code, Failure, Reply, Server};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, mpsc};
use std::thread;
use std::time::Instant;

/// Plays a part over calls.
pub fn play(stage: &Stage) -> Result<(Outcome, Keep)> {
    if stage.job.role == Role::Server {
        return serve(stage);
    }
    let numbers = stage.job.case.clients_of(stage.job.number);
    let clients = numbers.map(|number| Ok((number, connect(stage)?))).collect::<Result<Vec<_>>>()?;
    let outcome = match (stage.job.case.work, clients.first()) {
        (Work::Rtt, Some((_, client))) => parts::call(stage, Caller::new(client)),
        (Work::Echo, Some(_)) => call_from_threads(stage, &clients),
        (Work::Reconnect, Some((number, client))) => {
            return Ok((outlive(stage, *number, client)?, Box::new(clients)));
        }
        _ => bail!("no such work over calls"),
    }?;
    for (_, client) in &clients {
        client.call(LEAVE, &[][..]).context("cannot take leave")?;
    }
    Ok((outcome, Box::new(clients)))
}

fn serve(stage: &Stage) -> Result<(Outcome, Keep)> {
    let Case { work, bytes, clients, workers, checksum, .. } = stage.job.case;
    let (leave, left) = mpsc::channel();
    let leave = Mutex::new(leave);
    let since = Arc::new(OnceLock::new());
    let listening = Arc::clone(&since);
    let server = Server::builder()
        .config(stage.job.case.config())
        .workers(workers.unwrap_or(1) as usize)
        .without_checksum(!checksum)
        .handle(ECHO, move |request, reply| echo(bytes, request.body(), reply))
        .handle(ECHO_SINCE, move |request, reply| {
            reply.write(&u64::to_le_bytes(*listening.wait()));
            echo(bytes, request.body(), reply)
        })
        .handle(LEAVE, move |_, _| {
            // The main thread is gone only if the whole process ends.
            let _ = leave.lock().unwrap_or_else(PoisonError::into_inner).send(());
            Ok(())
        })
        .bind(&link::name(stage)?)
        .context("cannot listen")?;
    since.get_or_init(shared_nanos);
    stage.listening()?;
    let before = stage.ready()?;
    if work != Work::Reconnect {
        for _ in 0..clients {
            left.recv().context("the server is gone")?;
        }
    }
    Ok((Outcome::default().since(before), Box::new(server)))
}

/// Answers with the request, and says whether it was whole.
fn echo(bytes: usize, request: &[u8], reply: &mut Reply<'_>) -> Result<(), Failure> {
    reply.write(request);
    let fault = content::sender_of(request).and_then(|client| content::check(request, client, bytes));
    fault.map(drop).map_err(|fault| Failure::new(Code::DATA_LOSS, fault.to_string()))
}

/// Connects. When very many do so at once, the listener turns some of them away, and asks them to try again.
fn connect(stage: &Stage) -> Result<Client> {
    let Case { checksum, .. } = stage.job.case;
    let (config, name) = (stage.job.case.config(), link::name(stage)?);
    let until = Instant::now() + link::CONNECT_LIMIT;
    loop {
        match Client::builder().config(config.clone()).without_checksum(!checksum).connect(&name) {
            Err(ConnectError::Dropped) if Instant::now() < until => thread::yield_now(),
            result => return result.context("cannot connect"),
        }
    }
}

/// Makes calls, one at a time.
struct Caller<'a> {
    client: &'a Client,
    answer: Vec<u8>,
}

impl<'a> Caller<'a> {
    fn new(client: &'a Client) -> Self {
        Self { client, answer: Vec::new() }
    }
}

impl Ask for Caller<'_> {
    #[inline]
    fn ask(&mut self, request: &[u8]) -> Result<&[u8]> {
        self.client.call_into(ECHO, request, &mut self.answer).context("a call failed")?;
        Ok(&self.answer)
    }
}

/// Keeps as many calls of each client under way as the case says, each from a thread of its own: that is how programs
/// that block do it.
fn call_from_threads(stage: &Stage, clients: &[(u32, Client)]) -> Result<Outcome> {
    let case = &stage.job.case;
    let depth = case.depth;
    let before = stage.ready()?;
    let began = shared_nanos();
    let outcomes = thread::scope(|scope| {
        let mut threads = Vec::new();
        for (number, client) in clients {
            for lane in 0..depth {
                let number = number * depth + lane;
                threads.push(scope.spawn(move || call_until(case, number, Caller::new(client), began)));
            }
        }
        let join = |thread: thread::ScopedJoinHandle<'_, Result<Outcome>>| {
            thread.join().map_err(|_| anyhow!("a thread that calls panicked"))?
        };
        threads.into_iter().map(join).collect::<Result<Vec<Outcome>>>()
    })?;
    Ok(outcomes.into_iter().fold(Outcome::default(), Outcome::and).since(before))
}

/// Calls until the time is up, or the share of one thread of the count is done.
fn call_until(case: &Case, number: u32, mut server: Caller<'_>, began: u64) -> Result<Outcome> {
    let Case { bytes, length, depth, .. } = *case;
    let length = match length {
        Length::Count(count) => Length::Count(count.div_ceil(u64::from(depth))),
        time => time,
    };
    let mut tally = Tally::new(number);
    let mut request = vec![0; bytes];
    let mut sent = 0;
    while !is_over(length, sent, shared_nanos() - began) {
        content::fill(&mut request, number, sent);
        tally.note(server.ask(&request)?, bytes);
        sent += 1;
    }
    let span = Some((began, shared_nanos()));
    let (delivered, corrupt) = (tally.delivered, damage(&tally));
    Ok(Outcome { sent, delivered, corrupt, span, timed: delivered, ..Outcome::default() })
}

/// Calls, whatever happens to the server, until as many servers as the case says have come after the first. The time
/// that counts is from when a server listens, which its answers tell, to the first of them.
///
/// A call that fails is made again with the same content.
fn outlive(stage: &Stage, number: u32, client: &Client) -> Result<Outcome> {
    let Case { bytes, length, .. } = stage.job.case;
    let Length::Count(restarts) = length else { bail!("restarts are counted") };
    let mut watch = Stopwatch::new()?;
    let mut tally = Tally::new(number);
    let (mut request, mut answer) = (vec![0; bytes], Vec::new());
    let before = stage.ready()?;
    let began = shared_nanos();
    let (mut sent, mut failed, mut servers, mut last) = (0, 0, 0, None);
    while servers <= restarts {
        content::fill(&mut request, number, sent - failed);
        sent += 1;
        match client.call_into(ECHO_SINCE, request.as_slice(), &mut answer) {
            Ok(()) => {}
            Err(CallError::Lost { .. } | CallError::Unreachable(_)) => {
                failed += 1;
                continue;
            }
            Err(error) => return Err(error).context("a call failed"),
        }
        let now = shared_nanos();
        let Some((since, echo)) = answer.split_first_chunk() else { bail!("an answer has no beginning") };
        tally.note(echo, bytes);
        let since = u64::from_le_bytes(*since);
        if last.is_none_or(|last| last != since) {
            // The first server was there before us.
            if last.is_some() {
                watch.record(now.saturating_sub(since));
            }
            last = Some(since);
            servers += 1;
            stage.answered()?;
        }
    }
    let outcome = Outcome {
        sent,
        delivered: tally.delivered,
        corrupt: damage(&tally),
        failed,
        span: Some((began, shared_nanos())),
        timed: watch.count(),
        latencies: watch.steps(),
        ..Outcome::default()
    };
    Ok(outcome.since(before))
}

/// Message types of the server: answers with the request.
const ECHO: u16 = 1;
/// The same, behind the time since which this server listens.
const ECHO_SINCE: u16 = 2;
/// A client has made its last call.
const LEAVE: u16 = 3;
