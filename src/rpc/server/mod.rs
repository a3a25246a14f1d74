//! The answering side: handlers by message type, run by the workers of a pool.
//!
//! A worker understands each frame as it takes it out of a client's ring, and runs the handler of its type at once, on its
//! own thread: the answer is in the client's ring before the next message is looked at, and nothing was allocated.
//! Handlers that take their time are futures and streams; the worker polls them between its sweeps, and handlers that
//! block run on threads of their own.

mod desk;
mod outbox;
mod registry;
mod request;
mod stats;
mod tasks;
mod typed;
mod worker;

pub use request::{OwnedRequest, Reply, Request};
pub use stats::{ServerMonitor, ServerStats};

use crate::config::Config;
use crate::connection::{Listener, PeerCred, Pool, PoolBuilder, Shutdown};
use crate::error::BindError;
use crate::error::call::{Failure, FrameError};
use crate::proto::call::Settings;
use futures_core::Stream;
use registry::{Handler, Registry};
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use worker::{Common, OnViolation, Worker};

/// Answers calls.
///
/// Dropping it stops it at once; [`shutdown`](Self::shutdown) lets it finish what is in flight.
///
/// # Examples
/// ```no_run
/// use ringway::rpc::{Code, Failure, Server};
/// const ECHO: u16 = 1;
/// const LENGTH: u16 = 2;
/// let server = Server::builder()
///     .handle(ECHO, |request, reply| {
///         reply.write(request.body());
///         Ok(())
///     })
///     .handle_async(LENGTH, |request| async move {
///         match request.body() {
///             [] => Err(Failure::new(Code::INVALID_ARGUMENT, "nothing to measure")),
///             body => Ok((body.len() as u64).to_le_bytes().to_vec()),
///         }
///     })
///     .bind("measure")?;
/// # drop(server);
/// # Ok::<(), ringway::BindError>(())
/// ```
#[must_use]
pub struct Server {
    pool: Pool,
    monitor: ServerMonitor,
}

/// Puts a server together. `S` is the state that its handlers share.
#[must_use]
pub struct ServerBuilder<S = ()> {
    registry: Registry<S>,
    state: Arc<S>,
    config: Config,
    workers: Option<usize>,
    pin: bool,
    settings: Settings,
    heartbeat: Option<Duration>,
    on_violation: OnViolation,
    #[cfg(feature = "tokio")]
    runtime: Option<tokio::runtime::Handle>,
}

impl Server {
    /// Begins a server without shared state.
    pub fn builder() -> ServerBuilder {
        Self::with_state(())
    }

    /// Begins a server whose handlers share `state`; each request lends it.
    ///
    /// # Examples
    /// ```no_run
    /// use ringway::rpc::Server;
    /// use std::sync::atomic::{AtomicU64, Ordering};
    /// let server = Server::with_state(AtomicU64::new(0))
    ///     .handle(1, |request, reply| {
    ///         let count = request.state().fetch_add(1, Ordering::Relaxed);
    ///         reply.write(&count.to_le_bytes());
    ///         Ok(())
    ///     })
    ///     .bind("counter")?;
    /// # drop(server);
    /// # Ok::<(), ringway::BindError>(())
    /// ```
    pub fn with_state<S: Send + Sync + 'static>(state: S) -> ServerBuilder<S> {
        ServerBuilder {
            registry: Registry::new(),
            state: Arc::new(state),
            config: Config::new(),
            workers: None,
            pin: false,
            settings: Settings { without_checksum: false, calls_max: CALLS_MAX_DEFAULT },
            heartbeat: None,
            on_violation: Box::new(|_, _| {}),
            #[cfg(feature = "tokio")]
            runtime: tokio::runtime::Handle::try_current().ok(),
        }
    }

    /// Returns the path of the socket.
    pub fn path(&self) -> &Path {
        self.pool.path()
    }

    /// Returns how many clients are connected now.
    pub fn connections(&self) -> usize {
        self.pool.connections()
    }

    /// Returns what the server has done so far, all workers together.
    pub fn stats(&self) -> ServerStats {
        self.monitor.stats()
    }

    /// Returns what reads the same from another place, also when the server has ended.
    ///
    /// # Examples
    /// ```no_run
    /// let server = ringway::rpc::Server::builder().bind("counted")?;
    /// let monitor = server.monitor();
    /// let _ = server.shutdown(std::time::Duration::from_secs(1));
    /// println!("answered {} calls", monitor.stats().calls);
    /// # Ok::<(), ringway::BindError>(())
    /// ```
    pub fn monitor(&self) -> ServerMonitor {
        self.monitor.clone()
    }

    /// Stops: takes no new clients, tells those that are here to make no new calls, finishes what is in flight for at
    /// most `timeout`, and closes.
    ///
    /// Calls that are not finished by then end at their clients as lost, since they may have run.
    pub fn shutdown(self, timeout: Duration) -> Shutdown {
        self.pool.shutdown(timeout)
    }
}

impl<S: Send + Sync + 'static> ServerBuilder<S> {
    /// Registers a handler that answers at once, on the worker's thread.
    ///
    /// The fastest way: no allocation, no other thread. While it runs this worker does nothing else, so it must not
    /// block or compute for long; for that there are the other ways.
    ///
    /// # Panics
    /// If the type is `0xFF00` or more, or has a handler already.
    pub fn handle(
        self,
        message_type: u16,
        handler: impl Fn(&Request<'_, S>, &mut Reply<'_>) -> Result<(), Failure> + Send + Sync + 'static,
    ) -> Self {
        self.add(message_type, Handler::Immediate(Box::new(handler)))
    }

    /// Registers a handler that blocks or computes for long: it runs on a thread for such work.
    ///
    /// # Panics
    /// As [`handle`](Self::handle).
    pub fn handle_blocking(
        self,
        message_type: u16,
        handler: impl Fn(OwnedRequest<S>) -> Result<Vec<u8>, Failure> + Send + Sync + 'static,
    ) -> Self {
        let handler = Arc::new(handler);
        self.handle_async(message_type, move |request| {
            let handler = Arc::clone(&handler);
            blocking::unblock(move || handler(request))
        })
    }

    /// Registers a handler that is a future. The worker polls it between its sweeps, so it must not block.
    ///
    /// It needs no runtime. If the server is built within one of tokio (feature `tokio`), or given one, the future may use
    /// its timers and sockets. It is dropped when the call is cancelled or its time is up.
    ///
    /// # Panics
    /// As [`handle`](Self::handle).
    pub fn handle_async<F>(
        self,
        message_type: u16,
        handler: impl Fn(OwnedRequest<S>) -> F + Send + Sync + 'static,
    ) -> Self
    where
        F: Future<Output = Result<Vec<u8>, Failure>> + Send + 'static,
    {
        self.add(message_type, Handler::Deferred(Box::new(move |request| Box::pin(handler(request)))))
    }

    /// Registers a handler whose answer comes in parts. The worker polls the stream as far as the client's window is
    /// open and its ring has room, so a slow client holds up only its own stream, and nothing piles up.
    ///
    /// It must not block. It is dropped when the call is cancelled or its time is up.
    ///
    /// # Panics
    /// As [`handle`](Self::handle).
    pub fn handle_stream<F>(
        self,
        message_type: u16,
        handler: impl Fn(OwnedRequest<S>) -> F + Send + Sync + 'static,
    ) -> Self
    where
        F: Stream<Item = Result<Vec<u8>, Failure>> + Send + 'static,
    {
        self.add(message_type, Handler::Streamed(Box::new(move |request| Box::pin(handler(request)))))
    }

    /// Registers a handler whose answer comes in parts from an iterator that may block: it runs on a thread for such
    /// work, a few parts ahead of the client.
    ///
    /// # Panics
    /// As [`handle`](Self::handle).
    pub fn handle_iter<I>(
        self,
        message_type: u16,
        handler: impl Fn(OwnedRequest<S>) -> I + Send + Sync + 'static,
    ) -> Self
    where
        I: Iterator<Item = Result<Vec<u8>, Failure>> + Send + 'static,
    {
        self.handle_stream(message_type, move |request| {
            blocking::Unblock::with_capacity(PARTS_AHEAD, handler(request))
        })
    }

    /// Sets ring sizes, waiting, limits and who may connect.
    pub fn config(mut self, config: Config) -> Self {
        self.config = config;
        self
    }

    /// Sets the number of worker threads, at least 1; by default as many as there are processors.
    pub fn workers(mut self, workers: usize) -> Self {
        self.workers = Some(workers);
        self
    }

    /// Keeps each worker on a processor of its own.
    pub fn pin(mut self, pin: bool) -> Self {
        self.pin = pin;
        self
    }

    /// Sets how many calls of one connection may be in flight, 256 by default. Clients are told, and wait at the limit.
    ///
    /// Calls that are answered at once never count, nor do cancelled ones, even if a handler that blocks still runs for them.
    pub fn calls_max(mut self, calls_max: u32) -> Self {
        self.settings.calls_max = calls_max.max(1);
        self
    }

    /// Does without checksums towards clients that agree. They find accidents in memory, which the memory of one machine
    /// hardly has; a call of 64 bytes saves about 90 ns without them.
    pub fn without_checksum(mut self, without: bool) -> Self {
        self.settings.without_checksum = without;
        self
    }

    /// Pings a client that said nothing for `interval`, and disconnects one that said nothing for three: it may be
    /// stopped, which the kernel does not report as it does a death. Off by default; while it is on the server wakes up
    /// once in an interval, and a client must make a call, or wait for one, now and then. At least a millisecond and at
    /// most a day.
    pub fn heartbeat(mut self, interval: Duration) -> Self {
        self.heartbeat = Some(interval.clamp(HEARTBEAT_MIN, HEARTBEAT_MAX));
        self
    }

    /// Sets what is told, for a log, about a client that broke the protocol and is disconnected.
    pub fn on_violation(mut self, told: impl Fn(PeerCred, &FrameError) + Send + Sync + 'static) -> Self {
        self.on_violation = Box::new(told);
        self
    }

    /// Sets the runtime whose timers and sockets futures may use; by default the one that the server is built in.
    #[cfg(feature = "tokio")]
    pub fn runtime(mut self, runtime: tokio::runtime::Handle) -> Self {
        self.runtime = Some(runtime);
        self
    }

    /// Binds a name and begins to serve.
    ///
    /// # Errors
    /// As [`Config::bind`].
    pub fn bind(self, name: &str) -> Result<Server, BindError> {
        let listener = self.config.bind(name)?;
        let path = listener.path();
        self.serve(listener).map_err(|source| BindError::Os { action: "start the workers of", path, source })
    }

    /// Begins to serve the clients of this listener, whose settings hold.
    ///
    /// # Errors
    /// When a thread cannot be started.
    pub fn serve(self, listener: Listener) -> io::Result<Server> {
        let common = Arc::new(Common {
            registry: self.registry,
            state: self.state,
            settings: self.settings,
            heartbeat: self.heartbeat,
            on_violation: self.on_violation,
            #[cfg(feature = "tokio")]
            runtime: self.runtime,
        });
        let mut pool: PoolBuilder = Pool::builder(listener).pin(self.pin);
        if let Some(workers) = self.workers {
            pool = pool.workers(workers);
        }
        let monitor = ServerMonitor::default();
        let watched = monitor.clone();
        let pool = pool.serve(move |context| {
            let bell = context.bell().clone();
            Worker::new(Arc::clone(&common), watched.add_worker(), move || bell.ring())
        })?;
        Ok(Server { pool, monitor })
    }

    fn add(mut self, message_type: u16, handler: Handler<S>) -> Self {
        self.registry.add(message_type, handler);
        self
    }
}

const HEARTBEAT_MIN: Duration = Duration::from_millis(1);
const HEARTBEAT_MAX: Duration = Duration::from_secs(24 * 3600);
/// Calls of one connection in flight, unless told otherwise.
const CALLS_MAX_DEFAULT: u32 = 256;
/// Parts that an iterator on another thread makes ahead.
const PARTS_AHEAD: usize = 16;
