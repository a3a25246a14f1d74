//! Scenarios that measure ringway and what it competes with, every message checked in the receiving process.
//!
//! [`run`] is `ringway bench`: it turns [`args`] into [`case`]s, takes several samples of each, every one with a
//! `crew` of fresh processes ([`run_peer`] is what they do), and makes a [`row::Row`] out of each case.
#![deny(unsafe_code)]

pub mod args;
pub mod bars;
pub mod case;
pub mod content;
pub mod ledger;
pub mod lines;
pub mod machine;
pub mod report;
pub mod row;
pub mod scratch;
pub mod tally;

mod alone;
mod canary;
mod crew;
mod footprint;
mod peer;
mod print;
mod raw;
mod sample;
mod scenario;
mod suite;
mod summary;
mod timing;

pub use args::{BenchArgs, PeerArgs};
pub use peer::run as run_peer;
pub use suite::run;
