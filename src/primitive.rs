//! Atomics, chosen once: the standard library's, or loom's under `--cfg loom`.
//!
//! Every shared word of the ring and of the sleep/wake protocol goes through these names, so that the code
//! which loom explores is the code that ships.

#[cfg(not(loom))]
pub(crate) use std::sync::atomic::{AtomicU64, Ordering, fence};

#[cfg(loom)]
pub(crate) use loom::sync::atomic::{AtomicU64, Ordering, fence};
