//! A pool: many client processes served by several threads.
#![allow(clippy::unwrap_used, reason = "what fails in a test may panic")]

mod common;
#[path = "pool/crowd.rs"]
mod crowd;
#[path = "pool/ending.rs"]
mod ending;
#[path = "pool/flow.rs"]
mod flow;

use common::{Peer, Scratch, hang_guard, scratch_dir};
use ringway::{Config, Event, Handler, Member, Members, Pool, WorkerContext};
use std::sync::mpsc::{self, Receiver, Sender};
use std::time::Instant;

#[test]
fn peer_process() {
    common::run_role(&[
        ("ask", crowd::role_ask),
        ("thousand", crowd::role_thousand),
        ("hold", flow::role_hold),
        ("endless", ending::role_endless),
    ]);
}

/// A pool in a directory of its own.
struct Site {
    _scratch: Scratch,
    socket: String,
    pool: Pool,
}

/// Serves with `workers` threads.
fn site<H: Handler + 'static>(
    config: &Config,
    workers: usize,
    make: impl Fn(WorkerContext) -> H + Send + Sync + 'static,
) -> Site {
    let scratch = scratch_dir();
    let socket = scratch.socket("test");
    let pool = Pool::builder(config.bind(&socket).unwrap()).workers(workers).serve(make).unwrap();
    Site { _scratch: scratch, socket, pool }
}

/// What a test does on the thread of a worker.
type Order = Box<dyn FnOnce(&mut Desk, &mut Members<'_>) + Send>;

/// A handler that writes down what happens, and does what the test tells it.
struct Desk {
    orders: Receiver<Order>,
    told: Sender<Entry>,
    /// Answers each message with itself.
    echoes: bool,
    /// When it wants to be woken.
    wakes_at: Option<Instant>,
}

/// One event, as it was written down.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Entry {
    number: u64,
    pid: u32,
    what: What,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum What {
    Joined,
    Message(Vec<u8>),
    Room,
    Left(ringway::CloseReason),
    Turned,
}

impl Handler for Desk {
    fn on_event(&mut self, member: &mut Member, event: Event<'_>) {
        let what = match event {
            Event::Joined => What::Joined,
            Event::Message(b"panic") => panic!("as the test wants it"),
            Event::Message(bytes) => {
                if self.echoes {
                    member.sender().try_send(bytes).unwrap();
                }
                What::Message(bytes.to_vec())
            }
            Event::Room => What::Room,
            Event::Left(reason) => What::Left(reason),
        };
        let _ = self.told.send(Entry { number: member.id().number(), pid: member.peer_cred().pid, what });
    }

    fn on_turn(&mut self, members: &mut Members<'_>, now: Instant) {
        while let Ok(order) = self.orders.try_recv() {
            order(self, members);
        }
        if self.wakes_at.is_some_and(|wakes_at| now >= wakes_at) {
            self.wakes_at = None;
            let _ = self.told.send(Entry { number: 0, pid: 0, what: What::Turned });
        }
    }

    fn wakes_at(&self) -> Option<Instant> {
        self.wakes_at
    }
}

/// A pool with one worker whose handler is a [`Desk`], and the test's end of it.
struct Office {
    site: Site,
    orders: Sender<Order>,
    told: Receiver<Entry>,
}

/// Opens an office.
fn office(config: &Config, echoes: bool) -> Office {
    let (orders, desk_orders) = mpsc::channel();
    let (desk_tells, told) = mpsc::channel();
    let parts = std::sync::Mutex::new(Some((desk_orders, desk_tells)));
    let make = move |_| {
        let (orders, told) = parts.lock().unwrap().take().unwrap();
        Desk { orders, told, echoes, wakes_at: None }
    };
    Office { site: site(config, 1, make), orders, told }
}

impl Office {
    /// Has something done by the worker.
    fn order(&self, work: impl FnOnce(&mut Desk, &mut Members<'_>) + Send + 'static) {
        self.orders.send(Box::new(work)).unwrap();
        self.site.pool.bell(0).ring();
    }

    /// Has something done by the worker and waits until it was.
    fn ask<T: Send + 'static>(&self, work: impl FnOnce(&mut Members<'_>) -> T + Send + 'static) -> T {
        let (answer, answered) = mpsc::channel();
        self.order(move |_, members| answer.send(work(members)).unwrap());
        answered.recv_timeout(common::DEADLINE).unwrap()
    }

    /// Waits for the next entry.
    #[track_caller]
    fn next(&self) -> Entry {
        self.told.recv_timeout(common::DEADLINE).unwrap()
    }

    /// Waits for the next entry, which must be this.
    #[track_caller]
    fn expect(&self, what: What) -> Entry {
        let entry = self.next();
        assert_eq!(entry.what, what);
        entry
    }

    /// Starts a client that does what it is told, and waits until it has joined.
    fn client(&self) -> (Peer, u64) {
        let peer = Peer::spawn("hold", &[("SOCKET", &self.site.socket)]);
        let entry = self.expect(What::Joined);
        assert_eq!(entry.pid, peer.pid());
        (peer, entry.number)
    }
}

#[test]
fn a_handler_that_cannot_be_made_is_an_error_and_the_name_is_free_again() {
    let _guard = hang_guard();
    struct Never;
    impl Handler for Never {
        fn on_event(&mut self, _: &mut Member, _: Event<'_>) {}
    }
    let scratch = scratch_dir();
    let builder = || Pool::builder(Config::new().bind(&scratch.socket("test")).unwrap());
    let make =
        |context: WorkerContext| if context.index() == 1 { panic!("as the test wants it") } else { Never };
    assert!(builder().workers(3).serve(make).is_err());
    for workers in [0, 65] {
        assert!(builder().workers(workers).serve(|_| Never).is_err(), "{workers} workers");
    }
    assert!(builder().workers(1).pin_to([usize::MAX]).serve(|_| Never).is_err(), "no such processor");
    assert_eq!(scratch.entries(), [""; 0]);
    let pool = builder().pin(true).serve(|_| Never).unwrap();
    assert!(pool.workers() >= 1 && pool.path().ends_with("test.sock"));
}
