//! Points at which the crash tests kill the process they run in.
//!
//! With the feature `crash-points`, a process whose environment says `RINGWAY_CRASH_AT=NAME` or `NAME:N` kills itself
//! (SIGKILL) when it passes that point for the first or the N-th time. Without the feature the calls are empty.

/// Every point of a connection, in the order in which a message passes them.
#[cfg(feature = "crash-points")]
pub const POINTS: &[&str] = &[
    "handshake.hello_sent",
    "handshake.hello_received",
    "handshake.segment_created",
    "handshake.welcome_sent",
    "handshake.welcome_received",
    "producer.reserved",
    "producer.payload_written",
    "producer.staged",
    "producer.zeroed",
    "producer.published",
    "producer.rung",
    "consumer.header_seen",
    "consumer.payload_copied",
    "consumer.advanced",
    "consumer.released",
    "sleeper.armed",
    "sleeper.parked",
    "sleeper.woken",
    "fragments.between",
    "close.word_stored",
];

/// The points of routes and channels, in the order in which joining and sending pass them; beside those of the ring.
#[cfg(feature = "crash-points")]
pub const BROADCAST_POINTS: &[&str] = &[
    "broadcast.hello_sent",
    "broadcast.hello_received",
    "broadcast.welcome_sent",
    "broadcast.welcome_received",
    "broadcast.newcomer_seen",
    "broadcast.newcomer_told",
    "broadcast.joined",
    "broadcast.published",
    "broadcast.rung",
];

/// Kills this process if it was told to die here.
#[cfg(feature = "crash-points")]
pub(crate) fn point(name: &'static str) {
    use std::sync::OnceLock;
    use std::sync::atomic::{AtomicU64, Ordering};
    static TARGET: OnceLock<Option<(String, u64)>> = OnceLock::new();
    static PASSED: AtomicU64 = AtomicU64::new(0);

    let known = POINTS.contains(&name) || BROADCAST_POINTS.contains(&name);
    debug_assert!(known, "crash point {name} is not in the list");
    let target = TARGET.get_or_init(|| {
        let value = std::env::var("RINGWAY_CRASH_AT").ok()?;
        match value.rsplit_once(':') {
            Some((name, count)) => Some((name.to_owned(), count.parse().ok()?)),
            None => Some((value, 1)),
        }
    });
    let Some((wanted, count)) = target else { return };
    if wanted == name && PASSED.fetch_add(1, Ordering::Relaxed) + 1 == *count {
        crate::sys::kill_self();
    }
}

/// Does nothing: the feature `crash-points` is off.
#[cfg(not(feature = "crash-points"))]
#[inline(always)]
pub(crate) fn point(_name: &'static str) {}
