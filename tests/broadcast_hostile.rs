//! Readers, senders and visitors of routes and channels that do what they want: their memory holds anything and changes
//! at any time, their hellos and knocks are of every malformed kind. Each costs only the liar; all others go on, and what
//! they get is checked. Threats 3 to 11 of `docs/threat-model.md`.
//!
//! The attackers are made by hand, from the numbers of the protocol.
#![allow(clippy::unwrap_used, reason = "tests")]

mod broadcast;
mod common;
#[path = "broadcast_hostile/knocks.rs"]
mod knocks;
#[path = "broadcast_hostile/raw.rs"]
mod raw;
#[path = "broadcast_hostile/readers.rs"]
mod readers;
#[path = "broadcast_hostile/senders.rs"]
mod senders;
#[path = "hostile_peer/support.rs"]
mod support;

#[test]
fn peer_process() {
    common::run_role(&[("actor", broadcast::actor::play)]);
}
