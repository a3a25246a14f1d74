//! What a server counts.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// What a server has done so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ServerStats {
    /// Clients that connected.
    pub clients: u64,
    /// Requests that came, whatever became of them.
    pub calls: u64,
    /// One-way messages that came.
    pub one_way: u64,
    /// Calls that were answered with a failure, for whatever reason.
    pub failed: u64,
    /// Handlers that panicked.
    pub panics: u64,
    /// Requests and one-way messages of a type without a handler.
    pub unknown: u64,
    /// Clients that were disconnected because they broke the protocol.
    pub violations: u64,
    /// Calls that their clients cancelled.
    pub cancelled: u64,
    /// Calls that were ended because their time was up.
    pub expired: u64,
}

/// Reads what a server counts: from any thread, and also when the server has ended; see
/// [`Server::monitor`](super::Server::monitor).
#[derive(Clone, Default)]
pub struct ServerMonitor {
    workers: Arc<Mutex<Vec<Arc<Counters>>>>,
}

/// The counters of one worker: written by its thread alone, read by anybody.
#[derive(Default)]
#[repr(align(128))]
pub(super) struct Counters {
    pub(super) clients: Counter,
    pub(super) calls: Counter,
    pub(super) one_way: Counter,
    pub(super) failed: Counter,
    pub(super) panics: Counter,
    pub(super) unknown: Counter,
    pub(super) violations: Counter,
    pub(super) cancelled: Counter,
    pub(super) expired: Counter,
}

/// A counter with one writer.
#[derive(Default)]
pub(super) struct Counter(AtomicU64);

impl ServerMonitor {
    /// Returns what the server has done so far, all workers together.
    ///
    /// # Cost
    /// Reads a line or two of each worker, which is not disturbed.
    pub fn stats(&self) -> ServerStats {
        ServerStats::sum(self.workers().iter().map(|counters| &**counters))
    }

    /// Returns counters for one more worker.
    pub(super) fn add_worker(&self) -> Arc<Counters> {
        let counters = Arc::default();
        self.workers().push(Arc::clone(&counters));
        counters
    }

    fn workers(&self) -> MutexGuard<'_, Vec<Arc<Counters>>> {
        self.workers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Counter {
    /// Adds to it: a load and a store of the worker's own line.
    #[inline]
    pub(super) fn add(&self, more: u64) {
        // Relaxed: a number for people; nothing is read because of it.
        self.0.store(self.get().wrapping_add(more), Ordering::Relaxed);
    }

    fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

impl ServerStats {
    /// Adds up what the workers counted.
    fn sum<'a>(workers: impl Iterator<Item = &'a Counters>) -> Self {
        workers.fold(Self::default(), |sum, worker| Self {
            clients: sum.clients + worker.clients.get(),
            calls: sum.calls + worker.calls.get(),
            one_way: sum.one_way + worker.one_way.get(),
            failed: sum.failed + worker.failed.get(),
            panics: sum.panics + worker.panics.get(),
            unknown: sum.unknown + worker.unknown.get(),
            violations: sum.violations + worker.violations.get(),
            cancelled: sum.cancelled + worker.cancelled.get(),
            expired: sum.expired + worker.expired.get(),
        })
    }
}
