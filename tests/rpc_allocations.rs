//! A call allocates nothing, neither at the client, alone or beside others, nor in the worker that answers it.
#![cfg(feature = "rpc")]
#![allow(clippy::unwrap_used, reason = "what fails in a test may panic")]

mod common;
mod counting;

use common::{Peer, check, fill, hang_guard, hear, mixed_len, say, scratch_dir, variable};
use ringway::rpc::{Client, Server};
use ringway::{Config, Wait};
use std::thread;

#[test]
fn peer_process() {
    common::run_role(&[("server", role_server)]);
}

/// Answers with one worker, whose allocations it counts between two calls.
fn role_server() {
    let server = Server::builder()
        .workers(1)
        .handle(ECHO, |request, reply| {
            reply.write(request.body());
            Ok(())
        })
        .handle(BEGIN, |_, _| {
            counting::begin();
            Ok(())
        })
        .handle(END, |_, reply| {
            let count = counting::end();
            reply.write(&count.to_le_bytes());
            Ok(())
        })
        .bind(&variable("SOCKET"))
        .unwrap();
    say("ready");
    hear();
    drop(server);
}

#[test]
fn calls_allocate_nothing_alone_or_beside_others() {
    let _guard = hang_guard();
    for (wait, callers) in [(Wait::Auto, 1), (Wait::Sleep, 1), (Wait::Auto, 4), (Wait::Sleep, 4)] {
        let scratch = scratch_dir();
        let socket = scratch.socket("test");
        let mut server = Peer::spawn("server", &[("SOCKET", &socket)]);
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
        let served = client.call(END, "").unwrap().into_vec();
        assert_eq!(u64::from_le_bytes(served.try_into().unwrap()), 0, "the worker, {wait:?}");
        server.send_line("enough");
        server.finish();
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
        client.call_into(ECHO, &body[..len], &mut out).unwrap();
        check(&out, number, len);
    };
    (0..WARM_UP).for_each(&mut call);
    if warm.wait().is_leader() {
        client.call(BEGIN, "").unwrap();
    }
    warm.wait();
    // That call took a warm buffer away.
    (0..WARM_UP).for_each(&mut call);
    warm.wait();
    counting::begin();
    (WARM_UP..WARM_UP + CALLS).for_each(&mut call);
    counting::end()
}

const WARM_UP: u64 = 200;
const CALLS: u64 = 5_000;
const LEN_MAX: usize = 1000;
const ECHO: u16 = 1;
const BEGIN: u16 = 2;
const END: u16 = 3;
