//! A raw ping-pong of a few milliseconds that says how far the two processors are from each other at the moment.
//!
//! On virtual machines the host moves processors, and a cache line then takes several times as long for seconds. A
//! sample counts only if the canary was fast before and after it.

use crate::raw::{self, Hold};
use crate::timing::Stopwatch;
use anyhow::{Result, anyhow};
use std::sync::atomic::AtomicU32;
use std::thread;

#[derive(Default)]
#[repr(align(128))]
struct Line(AtomicU32);

/// Returns the median round trip of a cache line in nanoseconds, between threads placed like the sample's processes.
///
/// # Errors
/// A thread cannot be pinned.
pub fn sing(pin: Option<(usize, usize)>, watch: &mut Stopwatch) -> Result<f64> {
    let (ours, theirs) = (Line::default(), Line::default());
    watch.clear();
    thread::scope(|scope| {
        let pong = scope.spawn(|| {
            let pinned = pin.map_or(Ok(()), |(server, _)| ringway::pin_current_thread(server));
            raw::pong(&theirs.0, &ours.0, Hold::Look);
            pinned
        });
        let ping = scope.spawn(|| {
            let pinned = pin.map_or(Ok(()), |(_, client)| ringway::pin_current_thread(client));
            raw::ping(&ours.0, &theirs.0, Hold::Look, CANARY_NANOS, watch);
            pinned
        });
        for thread in [pong, ping] {
            thread.join().map_err(|_| anyhow!("a thread of the canary panicked"))??;
        }
        anyhow::Ok(())
    })?;
    Ok(watch.quantile(0.5) as f64)
}

const CANARY_NANOS: u64 = 5_000_000;
