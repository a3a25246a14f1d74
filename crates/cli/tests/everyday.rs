//! The everyday commands as real processes: what they print, their exit codes, and what happens when one is killed.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

#[path = "everyday/broadcast.rs"]
mod broadcast;
#[path = "everyday/broadcast_faults.rs"]
mod broadcast_faults;
#[path = "everyday/call_faults.rs"]
mod call_faults;
#[path = "everyday/calls.rs"]
mod calls;
#[path = "everyday/faults.rs"]
mod faults;
#[path = "everyday/list.rs"]
mod list;
#[path = "everyday/pages.rs"]
mod pages;
#[path = "everyday/support.rs"]
mod support;
#[path = "everyday/transfer.rs"]
mod transfer;
