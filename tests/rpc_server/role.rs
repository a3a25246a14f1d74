//! The server in a process of its own.

use super::common::{hear, message, number_variable, say, variable};
use futures_core::Stream;
use ringway::rpc::{Code, Failure, Server};
use ringway::{Config, Shutdown, Wait};
use std::path::Path;
use std::pin::Pin;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

/// What the handlers share: how much was begun, ended, and dropped before its end.
#[derive(Default)]
pub struct Ledger {
    one_way: AtomicU64,
    dropped: AtomicU64,
    parts: AtomicU64,
    /// Those who wait until they are let go, in their order; `None`: nobody waits any more.
    waiting: Mutex<Option<Vec<Waker>>>,
}

/// Message types of the server.
pub mod kind {
    pub const ECHO: u16 = 1;
    pub const FAIL: u16 = 2;
    pub const PANIC: u16 = 3;
    pub const PANIC_LATER: u16 = 4;
    pub const NEVER: u16 = 5;
    pub const BLOCK: u16 = 6;
    pub const COUNT: u16 = 7;
    pub const NOTE: u16 = 8;
    pub const PARTS: u16 = 9;
    pub const ITER: u16 = 10;
    pub const DROPPED: u16 = 11;
    pub const MADE: u16 = 12;
    pub const BLOW_UP: u16 = 13;
    pub const NOTE_LATER: u16 = 14;
    pub const YIELD: u16 = 15;
    pub const UPPER: u16 = 16;
    pub const UPPER_LATER: u16 = 17;
    pub const UPPER_BLOCKING: u16 = 18;
    pub const NUMBERS: u16 = 19;
    /// Waits for `LET_GO`; then holds up its worker until the file that the body names is there, and says so in one beside
    /// it.
    pub const WAIT: u16 = 20;
    pub const LET_GO: u16 = 21;
}

/// Counts itself when it is dropped before it was told to be quiet.
struct Witness<'a>(&'a AtomicU64, bool);

impl Drop for Witness<'_> {
    fn drop(&mut self) {
        if !self.1 {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }
}

/// Parts of 1,000 bytes, numbered, counted when they are made.
struct Parts {
    ledger: std::sync::Arc<Ledger>,
    next: u64,
    end: u64,
}

impl Stream for Parts {
    type Item = Result<Vec<u8>, Failure>;

    fn poll_next(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.next == self.end {
            return Poll::Ready(None);
        }
        self.next += 1;
        self.ledger.parts.fetch_add(1, Ordering::SeqCst);
        Poll::Ready(Some(Ok(message(self.next - 1, 1_000))))
    }
}

impl Drop for Parts {
    fn drop(&mut self) {
        if self.next < self.end {
            self.ledger.dropped.fetch_add(1, Ordering::SeqCst);
        }
    }
}

/// The numbers up to an end, as text.
struct Numbers(usize, usize);

impl Stream for Numbers {
    type Item = Result<String, Failure>;

    fn poll_next(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let Self(next, end) = &mut *self;
        *next += 1;
        Poll::Ready((*next <= *end).then(|| Ok(next.to_string())))
    }
}

fn upper(text: String) -> Result<String, Failure> {
    match text.as_str() {
        "" => Err(Failure::new(Code::INVALID_ARGUMENT, "nothing to write large")),
        text => Ok(text.to_uppercase()),
    }
}

fn number(body: &[u8]) -> u64 {
    u64::from_le_bytes(body.try_into().unwrap())
}

fn counted(count: &AtomicU64) -> Vec<u8> {
    count.load(Ordering::SeqCst).to_le_bytes().to_vec()
}

/// Serves until it is told to stop, and says how that went and what it counted.
pub fn serve() {
    let ledger = Ledger { waiting: Mutex::new(Some(Vec::new())), ..Ledger::default() };
    let mut builder = Server::with_state(ledger)
        .config(Config::new().wait(Wait::Sleep).ring_bytes(2 << 20))
        .workers(number_variable("WORKERS") as usize)
        .calls_max(number_variable("CALLS_MAX") as u32)
        .on_violation(|peer, error| say(&format!("violation of {}: {error}", peer.pid)));
    let beat = number_variable("HEARTBEAT_MS");
    if beat > 0 {
        builder = builder.heartbeat(Duration::from_millis(beat));
    }
    let server = immediate(later(builder)).bind(&variable("SOCKET")).unwrap();
    say("ready");
    let timeout = Duration::from_millis(hear().parse().unwrap());
    let stats = server.stats();
    let complete = server.shutdown(timeout) == Shutdown::Complete;
    say(&format!("complete {complete}"));
    say(&format!("{stats:?}"));
}

type Builder = ringway::rpc::ServerBuilder<Ledger>;

fn immediate(builder: Builder) -> Builder {
    builder
        .handle(kind::ECHO, |request, reply| {
            reply.write(request.body());
            Ok(())
        })
        .handle(kind::FAIL, |request, _| {
            Err(Failure::new(Code(1_234), String::from_utf8_lossy(request.body())))
        })
        .handle(kind::PANIC, |_, _| panic!("on purpose"))
        .handle(kind::COUNT, |request, reply| {
            reply.write(&counted(&request.state().one_way));
            Ok(())
        })
        .handle(kind::DROPPED, |request, reply| {
            reply.write(&counted(&request.state().dropped));
            Ok(())
        })
        .handle(kind::MADE, |request, reply| {
            reply.write(&counted(&request.state().parts));
            Ok(())
        })
        .handle(kind::NOTE, |request, _| {
            request.state().one_way.fetch_add(number(request.body()), Ordering::SeqCst);
            Ok(())
        })
        .handle(kind::LET_GO, |request, _| {
            let waiting = request.state().waiting.lock().unwrap().take();
            waiting.into_iter().flatten().for_each(Waker::wake);
            Ok(())
        })
        .handle_typed(kind::UPPER, upper)
        .handle_typed_async(kind::UPPER_LATER, |text: String| std::future::ready(upper(text)))
        .handle_typed_blocking(kind::UPPER_BLOCKING, upper)
        .handle_typed_stream(kind::NUMBERS, |text: String| Numbers(0, text.len()))
        .handle(kind::BLOW_UP, |request, reply| {
            reply.buffer().resize(number(request.body()) as usize, 7);
            Ok(())
        })
}

fn later(builder: Builder) -> Builder {
    builder
        .handle_async(kind::PANIC_LATER, |_| async {
            std::future::ready(()).await;
            panic!("later, on purpose")
        })
        .handle_async(kind::NEVER, |request| async move {
            let _witness = Witness(&request.state().dropped, false);
            std::future::pending().await
        })
        .handle_async(kind::YIELD, |request| async move {
            let mut left = 100;
            std::future::poll_fn(|context| {
                context.waker().wake_by_ref();
                left -= 1;
                if left == 0 { Poll::Ready(()) } else { Poll::Pending }
            })
            .await;
            Ok(request.into_body())
        })
        .handle_async(kind::WAIT, |request| async move {
            let mut queued = false;
            std::future::poll_fn(|context| match &mut *request.state().waiting.lock().unwrap() {
                Some(waiting) => {
                    if !std::mem::replace(&mut queued, true) {
                        waiting.push(context.waker().clone());
                    }
                    Poll::Pending
                }
                None => Poll::Ready(()),
            })
            .await;
            if !request.body().is_empty() {
                let path = Path::new(std::str::from_utf8(request.body()).unwrap());
                std::fs::write(path.with_extension("held"), b"").unwrap();
                while !path.exists() {
                    std::thread::yield_now();
                }
            }
            Ok(Vec::new())
        })
        .handle_async(kind::NOTE_LATER, |request| async move {
            request.state().one_way.fetch_add(number(request.body()), Ordering::SeqCst);
            Ok(Vec::new())
        })
        .handle_blocking(kind::BLOCK, |request| match request.body() {
            [] => panic!("blocking, on purpose"),
            body => Ok(body.iter().rev().copied().collect()),
        })
        .handle_stream(kind::PARTS, |request| Parts {
            ledger: std::sync::Arc::clone(request.state()),
            next: 0,
            end: number(request.body()),
        })
        .handle_iter(kind::ITER, |request| {
            (0..number(request.body())).map(|number| match number {
                13 => Err(Failure::new(Code::OUT_OF_RANGE, "thirteen")),
                _ => Ok(message(number, 100)),
            })
        })
}
