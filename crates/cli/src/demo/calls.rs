//! Calls: several in flight at a time, and answers in parts.
//!
//! A client asks without waiting for the answer before, as far as [`Round::depth`] goes, and takes the answers in the order in
//! which it asked. An answer has [`Round::parts`] parts. Requests and parts are messages with checked content, as everywhere
//! in the demo.

use super::client::{ANSWER_LIMIT, Answer};
use super::control::{ClientResult, Round, ServerResult, Work};
use super::server::{Board, DRAIN_LIMIT, Span};
use crate::figures;
use anyhow::{Context, Result, bail};
use futures_lite::stream;
use ringway::rpc::{CallError, Client, Failure, PendingCall, ResponseStream, Server};
use ringway::{Config, Shutdown};
use ringway_bench::content;
use ringway_bench::tally::Tally;
use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

/// The client's end: a connection on which calls need not wait for one another.
pub trait Line {
    /// A call whose answer was not taken yet.
    type Asked;

    /// Asks for an answer of so many parts.
    ///
    /// # Errors
    /// The server is gone.
    fn ask(&mut self, request: &[u8], parts: u64) -> Result<Self::Asked>;

    /// Takes the answer to the earliest call, part by part.
    ///
    /// # Errors
    /// The server is gone.
    fn take(&mut self, asked: Self::Asked, parts: u64, check: impl FnMut(&[u8]) -> bool) -> Result<Answer>;
}

/// Makes calls until the time is up. Parts of answers are what is counted.
///
/// # Errors
/// The server is gone.
pub fn work<L: Line>(mut line: L, number: u32, round: Round, until: Instant) -> Result<ClientResult> {
    let parts = round.parts();
    let mut request = vec![0; round.bytes];
    let mut round_trips = figures::histogram()?;
    let mut result = ClientResult::default();
    let mut in_flight = VecDeque::with_capacity(round.depth());
    let mut calls = 0_u64;
    loop {
        while in_flight.len() < round.depth() && Instant::now() < until {
            content::fill(&mut request, number, calls);
            in_flight.push_back((calls, Instant::now(), line.ask(&request, parts)?));
            calls += 1;
            result.sent += parts;
        }
        let Some((call, start, asked)) = in_flight.pop_front() else { break };
        let mut next = call * parts;
        let answer = line.take(asked, parts, |part| {
            let is_right = content::check(part, number, round.bytes) == Ok(next);
            next += 1;
            is_right
        })?;
        match answer {
            Answer::Right if next == (call + 1) * parts => result.answered += parts,
            Answer::Right | Answer::Wrong => result.corrupt += parts,
            Answer::Missing => break,
        }
        round_trips.saturating_record(start.elapsed().as_nanos().try_into().unwrap_or(u64::MAX));
    }
    result.latencies =
        round_trips.iter_recorded().map(|step| (step.value_iterated_to(), step.count_at_value())).collect();
    Ok(result)
}

/// Returns part `part` of the answer to a request: the request itself if it is the only one.
pub fn fill_part(buffer: &mut Vec<u8>, request: &[u8], parts: u64, part: u64) {
    buffer.clear();
    buffer.extend_from_slice(request);
    if let (Some(seq), Some(client)) = (request.first_chunk(), request[8..].first_chunk())
        && parts > 1
    {
        let seq = u64::from_le_bytes(*seq).wrapping_mul(parts).wrapping_add(part);
        content::fill(buffer, u32::from_le_bytes(*client), seq);
    }
}

/// A call in flight.
pub enum Asked {
    Whole(PendingCall),
    Parts(ResponseStream),
}

impl Line for Client {
    type Asked = Asked;

    fn ask(&mut self, request: &[u8], parts: u64) -> Result<Asked> {
        let call = self.request(MESSAGE_TYPE).timeout(ANSWER_LIMIT);
        let asked = if parts > 1 {
            call.stream(request).map(Asked::Parts)
        } else {
            call.start(request).map(Asked::Whole)
        };
        asked.context("cannot ask")
    }

    fn take(&mut self, asked: Asked, _: u64, mut check: impl FnMut(&[u8]) -> bool) -> Result<Answer> {
        let mut is_right = true;
        let outcome = match asked {
            Asked::Whole(call) => call.wait().map(|answer| is_right &= check(&answer)),
            Asked::Parts(mut parts) => parts.try_for_each(|part| part.map(|part| is_right &= check(&part))),
        };
        match outcome {
            Ok(()) => Ok(Answer::of(is_right)),
            Err(CallError::Timeout { .. }) => Ok(Answer::Missing),
            Err(error) => Err(error).context("no answer"),
        }
    }
}

/// What a server has seen.
#[derive(Default)]
struct Books {
    tallies: BTreeMap<u32, Tally>,
    span: Span,
    messages: u64,
}

struct Desk {
    round: Round,
    board: Arc<Board>,
    books: Mutex<Books>,
}

impl Desk {
    /// Checks a request and counts it.
    fn note(&self, request: &[u8]) -> Result<(), Failure> {
        let Some(client) = request.get(8..).and_then(<[u8]>::first_chunk) else {
            return Err(Failure::new(ringway::rpc::Code::INVALID_ARGUMENT, "not a message of the demo"));
        };
        let client = u32::from_le_bytes(*client);
        let mut books = self.books();
        books.tallies.entry(client).or_insert_with(|| Tally::new(client)).note(request, self.round.bytes);
        books.span.extend(Instant::now());
        books.messages += 1;
        if books.messages.is_multiple_of(NOTE_EVERY) {
            self.board.add(NOTE_EVERY);
        }
        Ok(())
    }

    fn books(&self) -> MutexGuard<'_, Books> {
        self.books.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A server for one round.
pub struct CallServer {
    server: Server,
    desk: Arc<Desk>,
}

impl CallServer {
    /// Binds the name.
    ///
    /// # Errors
    /// The name cannot be had.
    pub fn bind(name: &str, config: Config, round: Round, board: &Arc<Board>) -> Result<Self> {
        let desk = Arc::new(Desk { round, board: Arc::clone(board), books: Mutex::default() });
        // One, as the other server over ringway has: the clients need the processors too.
        let builder = Server::with_state(Arc::clone(&desk)).config(config).workers(1);
        let builder = if round.work == Work::Parts {
            builder.handle_stream(MESSAGE_TYPE, move |request| {
                let noted = request.state().note(request.body());
                let parts = if noted.is_ok() { round.parts() } else { 0 };
                let body = request.into_body();
                let fill = move |part| {
                    let mut buffer = Vec::with_capacity(body.len());
                    fill_part(&mut buffer, &body, parts, part);
                    Ok(buffer)
                };
                stream::iter((0..parts).map(fill).chain(noted.err().map(Err)))
            })
        } else {
            builder.handle(MESSAGE_TYPE, |request, reply| {
                request.state().note(request.body())?;
                reply.write(request.body());
                Ok(())
            })
        };
        Ok(Self { server: builder.bind(name)?, desk })
    }

    /// Serves until the board says that it is over and the last client has left.
    ///
    /// # Errors
    /// Clients are still there long after the end.
    pub fn serve(self) -> Result<ServerResult> {
        let mut drained_by = None;
        while !self.desk.board.is_ended() || self.server.connections() > 0 {
            if self.desk.board.is_ended()
                && Instant::now() > *drained_by.get_or_insert_with(|| Instant::now() + DRAIN_LIMIT)
            {
                bail!("{} clients have ended, but the server was not told", self.server.connections());
            }
            thread::sleep(LOOK_EVERY);
        }
        if self.server.shutdown(DRAIN_LIMIT) != Shutdown::Complete {
            bail!("calls are in flight that nobody waits for");
        }
        let mut books = self.desk.books();
        let tallies = std::mem::take(&mut books.tallies).into_values().collect();
        Ok(ServerResult { tallies, nanos: books.span.nanos(), sent: 0 })
    }
}

const MESSAGE_TYPE: u16 = 1;
/// How many messages are counted before the others are told.
const NOTE_EVERY: u64 = 64;
/// How often the server looks whether it is over.
const LOOK_EVERY: Duration = Duration::from_millis(10);
