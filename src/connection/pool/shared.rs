//! What the threads of a pool share. Touched when connections come and go, never by a message.

use crate::connection::Connection;
use crate::connection::bell::Bell;
use crate::connection::endpoint::Endpoint;
use crate::metrics::Stats;
use crate::sys;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Instant;

/// What a pool has done so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct PoolStats {
    /// Connections now.
    pub connections: usize,
    /// Connections made so far.
    pub accepted: u64,
    /// Clients that were refused or gave up during their handshake.
    pub refused: u64,
    /// Calls of a handler that panicked.
    pub panics: u64,
    /// Sum over all connections, those that have ended included. One that ends at this moment may be missing, or count twice.
    pub traffic: Stats,
}

pub(super) struct Shared {
    posts: Vec<Post>,
    tables: Arc<Endpoint>,
    /// The acceptor is to end.
    closed: AtomicBool,
    closing: sys::Alarm,
    /// The workers are to end, at the latest then.
    end: OnceLock<Option<Instant>>,
    accepted: AtomicU64,
    refused: AtomicU64,
    panics: AtomicU64,
    departed: Mutex<Stats>,
}

/// Where the acceptor leaves new members for a worker.
pub(super) struct Post {
    bell: Bell,
    /// With the numbers that they will have.
    inbox: Mutex<Vec<(u64, Connection)>>,
    /// Members that it has, those in the inbox included.
    members: AtomicUsize,
}

impl Post {
    pub(super) fn new(bell: Bell) -> Self {
        Self { bell, inbox: Mutex::default(), members: AtomicUsize::new(0) }
    }
}

impl Shared {
    pub(super) fn new(posts: Vec<Post>, tables: Arc<Endpoint>) -> io::Result<Self> {
        Ok(Self {
            posts,
            tables,
            closed: AtomicBool::new(false),
            closing: sys::Alarm::new()?,
            end: OnceLock::new(),
            accepted: AtomicU64::new(0),
            refused: AtomicU64::new(0),
            panics: AtomicU64::new(0),
            departed: Mutex::default(),
        })
    }

    /// Gives a new connection to the worker that has the fewest, among equals the first. Called by one thread.
    pub(super) fn deal(&self, connection: Connection) {
        // Relaxed: a number to compare; one that is late by a moment deals as well.
        let fewest = self.posts.iter().min_by_key(|post| post.members.load(Ordering::Relaxed));
        let Some(post) = fewest else { return };
        post.members.fetch_add(1, Ordering::Relaxed);
        let number = self.accepted.fetch_add(1, Ordering::Relaxed) + 1;
        lock(&post.inbox).push((number, connection));
        post.bell.ring();
    }

    /// Takes what was dealt to a worker.
    pub(super) fn take_dealt(&self, worker: usize) -> Vec<(u64, Connection)> {
        std::mem::take(&mut *lock(&self.posts[worker].inbox))
    }

    /// Takes note that a member of this worker is gone, and of what it had done.
    pub(super) fn note_left(&self, worker: usize, stats: &Stats) {
        // Relaxed: see `deal`.
        self.posts[worker].members.fetch_sub(1, Ordering::Relaxed);
        lock(&self.departed).add(stats);
    }

    pub(super) fn note_panic(&self) {
        // Relaxed: a number to look at.
        self.panics.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn set_refused(&self, refused: u64) {
        // Relaxed: a number to look at.
        self.refused.store(refused, Ordering::Relaxed);
    }

    pub(super) fn connections(&self) -> usize {
        self.tables.connections()
    }

    pub(super) fn stats(&self) -> PoolStats {
        let mut traffic = *lock(&self.departed);
        self.tables.add_to(&mut traffic);
        // Relaxed: numbers to look at.
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        PoolStats {
            connections: self.connections(),
            accepted: read(&self.accepted),
            refused: read(&self.refused),
            panics: read(&self.panics),
            traffic,
        }
    }

    /// Ends the acceptor.
    pub(super) fn close_door(&self) {
        // Relaxed: the alarm makes the acceptor look, and nothing else is read because of it.
        self.closed.store(true, Ordering::Relaxed);
        self.closing.ring();
    }

    pub(super) fn is_door_closed(&self) -> bool {
        // Relaxed: see `close_door`.
        self.closed.load(Ordering::Relaxed)
    }

    /// Returns what is readable when the acceptor is to end.
    pub(super) fn closing(&self) -> BorrowedFd<'_> {
        self.closing.as_fd()
    }

    /// Tells the workers to end, at the latest at `deadline`; `None`: whenever they are done.
    pub(super) fn call_end(&self, deadline: Option<Instant>) {
        let _ = self.end.set(deadline);
        self.posts.iter().for_each(|post| post.bell.ring());
    }

    /// Returns by when the workers are to end, if they are.
    pub(super) fn end(&self) -> Option<Option<Instant>> {
        self.end.get().copied()
    }
}

/// A panic under one of these locks leaves nothing half done.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
