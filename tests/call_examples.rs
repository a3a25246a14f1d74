//! The examples of calls do what they say, between two processes.
#![allow(clippy::unwrap_used, reason = "what fails in a test may panic")]

#[allow(dead_code, reason = "its main is for people")]
#[path = "../examples/call_client.rs"]
mod call_client;
#[allow(dead_code, reason = "its main is for people")]
#[path = "../examples/call_server.rs"]
mod call_server;
mod common;

use common::{Peer, hang_guard, hear, say, scratch_dir};

#[test]
fn peer_process() {
    common::run_role(&[("server", role_server)]);
}

#[test]
fn a_client_learns_from_a_server_what_both_examples_say() {
    let _guard = hang_guard();
    let scratch = scratch_dir();
    let socket = scratch.socket("primes");
    let mut peer = Peer::spawn("server", &[("SOCKET", &socket)]);
    peer.expect_line("serving");
    let learned = call_client::ask(&socket).unwrap();
    assert_eq!(
        learned,
        [
            "7 is prime",
            "91 is not prime",
            "out of range (11): that takes long; ask for its factor",
            "91 has the factor 7",
            "one number takes too long",
            "primes from 100 on: [101, 103, 107, 109, 113]",
            "the server was asked for 2 factors",
        ]
    );
    peer.send_line("stop");
    // Nothing is in flight: both long calls were given up.
    peer.expect_line("Complete");
    peer.finish();
}

fn role_server() {
    let server = call_server::serve(&common::variable("SOCKET")).unwrap();
    say("serving");
    assert_eq!(hear(), "stop");
    say(&format!("{:?}", server.shutdown(common::DEADLINE)));
}
