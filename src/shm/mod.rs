//! Segments: memory that one process writes and others map read-only, and the only code that touches it raw.
//!
//! [`Segment`] is what we created ourselves and write; [`PeerSegment`] is what somebody else wrote, verified
//! before it was mapped. [`SharedWord`] and [`SharedBytes`] are typed views into either; their parameter,
//! [`Own`] or [`Peer`], decides at compile time whether there is anything to write with.

#[cfg(not(loom))]
mod bytes;
#[cfg(loom)]
#[path = "modelled.rs"]
mod bytes;
#[cfg(not(loom))]
mod copy;
pub(crate) mod layout;
#[cfg(not(loom))]
mod segment;

pub(crate) use bytes::{SharedBytes, SharedWord};
#[cfg(not(loom))]
pub(crate) use segment::{PeerSegment, Segment};

#[cfg(loom)]
pub(crate) use bytes::{loom_ring, loom_word};

/// Marks a view into a segment that this process created and writes.
pub(crate) enum Own {}
/// Marks a view into a segment that a peer writes and we only read.
pub(crate) enum Peer {}
