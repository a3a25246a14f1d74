//! Many clients, several threads: one accepts, the others serve, each its own share of the connections.

mod acceptor;
mod handler;
mod shared;
mod worker;

pub use handler::{Handler, Members, WorkerContext};
pub use shared::PoolStats;

use super::bell::Bell;
use super::listener::Listener;
use super::roster::Roster;
use crate::sys;
use shared::{Post, Shared};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc;
use std::thread::{Builder, JoinHandle};
use std::time::{Duration, Instant};
use worker::{Desk, Worker};

/// Serves all clients of a listener from several threads.
///
/// One thread drives the handshakes; each of the others serves its own members with its own [`Handler`], so no handler is
/// ever called from two threads. A new member goes to the worker that has the fewest, among equals to the first, and stays
/// there. Dropping the pool is a [`shutdown`](Self::shutdown) without patience.
///
/// A handler that panics loses the member whose event it was, which is disconnected; the worker and its other members go
/// on, and [`PoolStats::panics`] counts it. (Not where panics abort the process.)
///
/// # Examples
/// ```no_run
/// use ringway::{Event, Handler, Listener, Member, Pool};
///
/// struct Echo;
/// impl Handler for Echo {
///     fn on_event(&mut self, member: &mut Member, event: Event<'_>) {
///         if let Event::Message(bytes) = event {
///             let _ = member.sender().try_send(bytes);
///         }
///     }
/// }
///
/// let pool = Pool::builder(Listener::bind("echo")?).workers(4).serve(|_| Echo)?;
/// // ...
/// let _ = pool.shutdown(std::time::Duration::from_secs(1));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Pool {
    shared: Arc<Shared>,
    bells: Vec<Bell>,
    path: PathBuf,
    acceptor: Option<JoinHandle<()>>,
    workers: Vec<JoinHandle<bool>>,
    owner: sys::ForkToken,
}

/// Tells how a pool ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum Shutdown {
    /// Every handler said that nothing was in flight.
    Complete,
    /// The time was up, or a handler failed, while some still had something in flight.
    Cut {
        /// Number of those workers.
        workers: usize,
    },
    /// The pool was made before a `fork` and this is the child, where it has no threads.
    Forked,
}

/// Settings of a [`Pool`].
#[must_use]
pub struct PoolBuilder {
    listener: Listener,
    workers: Option<usize>,
    pin: Pin,
}

/// Where workers may run.
enum Pin {
    Anywhere,
    Spread,
    To(Vec<usize>),
}

impl PoolBuilder {
    /// Sets the number of threads that serve: 1 to 64, by default one for each processor that this process may use.
    pub fn workers(mut self, workers: usize) -> Self {
        self.workers = Some(workers);
        self
    }

    /// Keeps each worker on a processor of its own, as long as there are enough; off by default.
    ///
    /// Where the machine has several memory nodes, the workers take turns on them.
    pub fn pin(mut self, pin: bool) -> Self {
        self.pin = if pin { Pin::Spread } else { Pin::Anywhere };
        self
    }

    /// Keeps the workers on these processors, in this order, and from the beginning if there are more workers.
    pub fn pin_to(mut self, cpus: impl Into<Vec<usize>>) -> Self {
        self.pin = Pin::To(cpus.into());
        self
    }

    /// Starts the threads; each worker makes its handler with `make`, on its own thread, before anybody is let in.
    ///
    /// # Errors
    /// More workers than the listener has lines for (64), or none; no descriptors or threads left; a processor that this
    /// process may not use; `make` panicked.
    pub fn serve<H, F>(mut self, make: F) -> io::Result<Pool>
    where
        H: Handler + 'static,
        F: Fn(WorkerContext) -> H + Send + Sync + 'static,
    {
        let count = self.workers.unwrap_or_else(|| sys::cpu_count().min(WORKERS_MAX));
        if count == 0 {
            return Err(io::Error::other("a pool needs at least 1 worker"));
        }
        let cpus = match self.pin {
            Pin::Anywhere => Vec::new(),
            Pin::Spread => sys::cpus_across_nodes(),
            Pin::To(cpus) => cpus,
        };
        // Memory comes from the node of who touches it first.
        let prefaults = !cpus.is_empty() && sys::node_count() > 1 && self.listener.leave_prefault();
        let rosters = (0..count).map(|_| Roster::new(&self.listener)).collect::<io::Result<Vec<_>>>()?;
        let bells: Vec<Bell> = rosters.iter().map(|roster| roster.bell().clone()).collect();
        let posts = bells.iter().map(|bell| Post::new(bell.clone())).collect();
        let mut pool = Pool {
            shared: Arc::new(Shared::new(posts, self.listener.tables())?),
            bells,
            path: self.listener.path(),
            acceptor: None,
            workers: Vec::with_capacity(count),
            owner: sys::ForkToken::current()?,
        };
        let (make, (ready, readiness)) = (Arc::new(make), mpsc::channel());
        for (index, roster) in rosters.into_iter().enumerate() {
            let (shared, make, ready) = (Arc::clone(&pool.shared), Arc::clone(&make), ready.clone());
            let cpu = (!cpus.is_empty()).then(|| cpus[index % cpus.len()]);
            let desk = Desk { index, cpu, prefaults };
            let run = move || Worker::run(roster, shared, desk, &*make, ready);
            pool.workers.push(Builder::new().name(format!("ringway-{index}")).spawn(run)?);
        }
        drop(ready);
        for _ in 0..count {
            readiness
                .recv()
                .map_err(|_| io::Error::other("the handler of a worker could not be made: panic"))??;
        }
        pool.acceptor = Some(acceptor::spawn(self.listener, Arc::clone(&pool.shared))?);
        Ok(pool)
    }
}

impl Pool {
    /// Begins to make a pool out of the clients that this listener will have.
    pub fn builder(listener: Listener) -> PoolBuilder {
        PoolBuilder { listener, workers: None, pin: Pin::Anywhere }
    }

    /// Returns the path of the socket.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Returns the number of workers.
    pub fn workers(&self) -> usize {
        self.bells.len()
    }

    /// Returns how many connections there are now; 0 in a child made by fork.
    pub fn connections(&self) -> usize {
        if self.owner.is_current() { self.shared.connections() } else { 0 }
    }

    /// Returns what the pool has done so far; nothing in a child made by fork.
    ///
    /// # Cost
    /// Reads the counters of every connection; those who serve are not disturbed.
    pub fn stats(&self) -> PoolStats {
        if self.owner.is_current() { self.shared.stats() } else { PoolStats::default() }
    }

    /// Returns the bell of a worker.
    ///
    /// # Panics
    /// If there is no worker of this number.
    pub fn bell(&self, worker: usize) -> Bell {
        self.bells[worker].clone()
    }

    /// Removes the name, lets every handler finish what is in flight, for at most `timeout`, then closes all connections
    /// and ends the threads. What was sent is still delivered.
    pub fn shutdown(mut self, timeout: Duration) -> Shutdown {
        self.end(Instant::now().checked_add(timeout))
    }

    fn end(&mut self, deadline: Option<Instant>) -> Shutdown {
        let (acceptor, workers) = (self.acceptor.take(), std::mem::take(&mut self.workers));
        if !self.owner.is_current() {
            // Those threads are the parent's.
            std::mem::forget((acceptor, workers));
            return Shutdown::Forked;
        }
        self.shared.close_door();
        // A thread that panicked has ended as well.
        acceptor.map(JoinHandle::join);
        self.shared.call_end(deadline);
        let cut = workers.into_iter().filter_map(|worker| worker.join().ok()).filter(|idle| !idle).count();
        if cut == 0 { Shutdown::Complete } else { Shutdown::Cut { workers: cut } }
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        if !self.workers.is_empty() || self.acceptor.is_some() {
            let _ = self.end(Some(Instant::now()));
        }
    }
}

/// Lines for sleeping workers in the endpoint segment.
const WORKERS_MAX: usize = 64;
