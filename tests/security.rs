//! Who may come in, what must come along, what a stranger is given, and what lies in the way. Threats 1, 10 to 13, 17, 19
//! and 22 of `docs/threat-model.md`.
//!
//! Where a hello is bent, the listener is a process of its own and this one is the attacker.
#![allow(clippy::unwrap_used, reason = "tests")]

#[path = "security/admission.rs"]
mod admission;
mod common;
#[path = "security/names.rs"]
mod names;
#[path = "security/segments.rs"]
mod segments;
#[path = "security/skew.rs"]
mod skew;
#[path = "hostile_peer/support.rs"]
mod support;

use common::{Peer, Scratch, scratch_dir};

#[test]
fn peer_process() {
    common::run_role(&[
        ("serve", support::serve),
        ("honest", support::honest),
        ("caller", admission::caller),
        ("tamper", segments::tamper),
        ("binder", names::binder),
    ]);
}

/// Starts a listener of the library in a process of its own.
fn server(more: &[(&str, &str)]) -> (Scratch, Peer, String) {
    let scratch = scratch_dir();
    let socket = scratch.socket("a");
    let variables: Vec<(&str, &str)> =
        [("SOCKET", socket.as_str())].into_iter().chain(more.iter().copied()).collect();
    let mut server = Peer::spawn("serve", &variables);
    server.expect_line("ready");
    (scratch, server, socket)
}

/// Sends messages there and back: the server still works.
fn check_that_it_serves(socket: &str) {
    let mut honest = Peer::spawn("honest", &[("SOCKET", socket), ("COUNT", "50")]);
    honest.expect_line("served");
    honest.finish();
}
