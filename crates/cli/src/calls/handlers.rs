//! The handlers of `ringway serve`. What each takes and answers is in the help of the command.

use super::message_type::MessageType;
use async_io::Timer;
use futures_lite::{Stream, StreamExt, stream};
use ringway::rpc::{Code, Failure, OwnedRequest, Reply, Request, ServerBuilder};
use std::io::Write;
use std::str::FromStr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// What the handlers share.
#[derive(Default)]
pub struct Shared {
    /// Messages that went into the sink.
    sunk: AtomicU64,
}

/// Registers all handlers.
pub fn register(server: ServerBuilder<Shared>) -> ServerBuilder<Shared> {
    server
        .handle(MessageType::ECHO.0, echo)
        .handle(MessageType::SINK.0, sink)
        .handle_stream(MessageType::SOURCE.0, source)
        .handle_async(MessageType::SLEEP.0, sleep)
        .handle(MessageType::FAIL.0, fail)
        .handle(MessageType::UPPER.0, upper)
        .handle(MessageType::SUM.0, sum)
        .handle(MessageType::PANIC.0, |_, _| panic!("a request asked for it"))
}

fn echo(request: &Request<'_, Shared>, reply: &mut Reply<'_>) -> Result<(), Failure> {
    reply.write(request.body());
    Ok(())
}

fn sink(request: &Request<'_, Shared>, reply: &mut Reply<'_>) -> Result<(), Failure> {
    // Relaxed: only the count matters, nothing is read because of it.
    let count = request.state().sunk.fetch_add(1, Ordering::Relaxed) + 1;
    answer(reply, count)
}

fn upper(request: &Request<'_, Shared>, reply: &mut Reply<'_>) -> Result<(), Failure> {
    reply.write(request.body());
    reply.buffer().make_ascii_uppercase();
    Ok(())
}

fn sum(request: &Request<'_, Shared>, reply: &mut Reply<'_>) -> Result<(), Failure> {
    let add = |sum: i64, number: Result<i64, Failure>| {
        sum.checked_add(number?)
            .ok_or_else(|| Failure::new(Code::OUT_OF_RANGE, "the sum needs more than 64 bits"))
    };
    let total = text_of(request.body())?.split_whitespace().map(parse).try_fold(0, add)?;
    answer(reply, total)
}

fn fail(request: &Request<'_, Shared>, _reply: &mut Reply<'_>) -> Result<(), Failure> {
    let (code, text) = text_of(request.body())?.split_once(' ').unwrap_or((text_of(request.body())?, ""));
    Err(Failure::new(Code(parse(code)?), text))
}

async fn sleep(request: OwnedRequest<Shared>) -> Result<Vec<u8>, Failure> {
    Timer::after(parse_seconds(text_of(request.body())?)?).await;
    Ok(request.into_body())
}

fn source(request: OwnedRequest<Shared>) -> impl Stream<Item = Result<Vec<u8>, Failure>> {
    let (plan, failure) = match Plan::parse(request.body()) {
        Ok(plan) => (plan, None),
        Err(failure) => (Plan::default(), Some(Err(failure))),
    };
    stream::iter((0..plan.parts).map(Ok).chain(failure)).then(move |number| async move {
        if !plan.pause.is_zero() && number.as_ref().is_ok_and(|number| *number > 0) {
            Timer::after(plan.pause).await;
        }
        number.map(|number| vec![b'0' + (number % 10) as u8; plan.bytes])
    })
}

/// What a source is asked for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Plan {
    parts: u64,
    bytes: usize,
    /// Between two parts.
    pause: Duration,
}

impl Plan {
    fn parse(body: &[u8]) -> Result<Self, Failure> {
        let words: Vec<&str> = text_of(body)?.split_whitespace().collect();
        let (parts, bytes, pause) = match words[..] {
            [parts, bytes] => (parts, bytes, "0"),
            [parts, bytes, pause] => (parts, bytes, pause),
            _ => return Err(invalid("not `PARTS BYTES`, or `PARTS BYTES SECONDS`")),
        };
        let bytes = parse(bytes)?;
        if bytes > PART_BYTES_MAX {
            return Err(invalid(format!("a part of {bytes} bytes, but {PART_BYTES_MAX} are the most")));
        }
        Ok(Self { parts: parse(parts)?, bytes, pause: parse_seconds(pause)? })
    }
}

fn answer(reply: &mut Reply<'_>, number: impl std::fmt::Display) -> Result<(), Failure> {
    write!(reply, "{number}").map_err(|error| Failure::new(Code::INTERNAL, error.to_string()))
}

fn text_of(body: &[u8]) -> Result<&str, Failure> {
    std::str::from_utf8(body).map(str::trim).map_err(|_| invalid("not a text in UTF-8"))
}

fn parse<T: FromStr>(word: &str) -> Result<T, Failure> {
    word.parse().map_err(|_| invalid(format!("not a number that fits: {word:?}")))
}

fn parse_seconds(word: &str) -> Result<Duration, Failure> {
    crate::stream::parse_seconds(word).map_err(|what| invalid(format!("{what}: {word:?}")))
}

fn invalid(what: impl Into<String>) -> Failure {
    Failure::new(Code::INVALID_ARGUMENT, what)
}

/// Longest part of a source.
const PART_BYTES_MAX: usize = 64 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_understands_its_plan() {
        let plan = |parts, bytes, millis| Plan { parts, bytes, pause: Duration::from_millis(millis) };
        assert_eq!(Plan::parse(b"3 10"), Ok(plan(3, 10, 0)));
        assert_eq!(Plan::parse(b" 0  0 0.25\n"), Ok(plan(0, 0, 250)));
        for wrong in ["", "3", "3 -1", "3 67108865", "x 1", "1 1 y", "1 1 -1", "1 1 1 1"] {
            assert_eq!(Plan::parse(wrong.as_bytes()).unwrap_err().code(), Code::INVALID_ARGUMENT, "{wrong}");
        }
        assert_eq!(Plan::parse(b"\xff").unwrap_err().code(), Code::INVALID_ARGUMENT);
    }
}
