//! A client that calls into memory that it has allocates nothing, alone or beside others.
#![cfg(feature = "rpc")]
#![allow(clippy::unwrap_used, reason = "what fails in a test may panic")]

mod common;
#[path = "rpc_client/stand_in.rs"]
mod stand_in;

use common::{Peer, check, fill, hang_guard, mixed_len, scratch_dir};
use ringway::rpc::Client;
use ringway::{Config, Wait};
use stand_in::kind;
use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::thread;

/// Counts the allocations of a thread while that thread asks for it.
struct Counting;

thread_local! {
    static COUNT: Cell<Option<u64>> = const { Cell::new(None) };
}

fn note() {
    COUNT.set(COUNT.get().map(|count| count + 1));
}

// SAFETY: every call is passed on unchanged to the allocator of the system.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        note();
        // SAFETY: the duties of our caller are those of the callee.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        note();
        // SAFETY: the duties of our caller are those of the callee.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, memory: *mut u8, layout: Layout, bytes: usize) -> *mut u8 {
        note();
        // SAFETY: the duties of our caller are those of the callee.
        unsafe { System.realloc(memory, layout, bytes) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        // SAFETY: the duties of our caller are those of the callee.
        unsafe { System.dealloc(memory, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

#[test]
fn peer_process() {
    common::run_role(&[("server", stand_in::role)]);
}

#[test]
fn calls_allocate_nothing_alone_or_beside_others() {
    let _guard = hang_guard();
    for (wait, callers) in [(Wait::Auto, 1), (Wait::Sleep, 1), (Wait::Auto, 4), (Wait::Sleep, 4)] {
        let scratch = scratch_dir();
        let socket = scratch.socket("test");
        let mut server = Peer::spawn("server", &[("SOCKET", &socket), ("CALLS_MAX", "64"), ("WAIT", "auto")]);
        server.expect_line("ready");
        let config = Config::new().wait(wait).ring_bytes(16 << 10);
        let client = Client::builder().config(config).connect(&socket).unwrap();
        // Everybody is warm before anybody counts.
        let warm = std::sync::Barrier::new(callers);
        let counts: Vec<u64> = thread::scope(|scope| {
            let threads: Vec<_> = (0..callers as u64)
                .map(|caller| {
                    let (client, warm) = (&client, &warm);
                    scope.spawn(move || call_and_count(client, caller, warm))
                })
                .collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        assert_eq!(counts, vec![0; callers], "{wait:?}");
    }
}

fn call_and_count(client: &Client, caller: u64, warm: &std::sync::Barrier) -> u64 {
    let mut body = [0; LEN_MAX];
    let mut out = Vec::with_capacity(LEN_MAX);
    let mut call = |round: u64| {
        let number = caller << 32 | round;
        // Those of the warm-up are the longest, so that every buffer has seen one.
        let len = if round < WARM_UP { LEN_MAX } else { mixed_len(round, LEN_MAX) };
        fill(&mut body[..len], number);
        client.call_into(kind::ECHO, &body[..len], &mut out).unwrap();
        check(&out, number, len);
    };
    (0..WARM_UP).for_each(&mut call);
    warm.wait();
    COUNT.set(Some(0));
    (WARM_UP..WARM_UP + CALLS).for_each(&mut call);
    COUNT.replace(None).unwrap()
}

const WARM_UP: u64 = 200;
const CALLS: u64 = 5_000;
const LEN_MAX: usize = 1000;
