//! The client: calls a server, from many threads and tasks at once, and connects again when it must.

pub(crate) mod ask;
pub(crate) mod blocking;
pub(crate) mod core;
pub(crate) mod hub;
mod options;
mod pending;
pub(crate) mod reading;
mod response;
pub(crate) mod seats;
mod stream;
mod typed;

pub use options::{Backoff, ClientBuilder};
pub use pending::PendingCall;
pub use response::Response;
pub use stream::ResponseStream;
pub use typed::Typed;

use super::body::Encode;
use crate::error::call::CallError;
use crate::error::{CloseReason, ConnectError};
use crate::proto::call::TYPE_RESERVED;
use ask::Ask;
use blocking::Unsent;
use core::Line;
use hub::Hub;
use options::Options;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Calls a server.
///
/// Cheap to clone; all clones share one connection, and any number of threads and tasks may call at once. There is no
/// thread of its own: whoever waits for an answer reads for all that wait.
///
/// When the connection ends, calls in flight fail with [`CallError::Lost`], which says whether they may have run; the next
/// call connects anew. Calls marked [`idempotent`](CallBuilder::idempotent) are made again.
///
/// Message types are the application's, from 0 to `0xFEFF`.
///
/// # Examples
/// ```no_run
/// use ringway::rpc::Client;
/// const GREET: u16 = 1;
/// let client = Client::connect("greeter")?;
/// let response = client.call(GREET, "world")?;
/// println!("{}", String::from_utf8_lossy(&response));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct Client {
    hub: Arc<Hub>,
}

/// A call that is being put together; see [`Client::request`].
#[derive(Clone, Copy)]
#[must_use = "nothing is sent before call, call_into, stream or notify"]
pub struct CallBuilder<'a> {
    client: &'a Client,
    ask: Ask,
    window: u32,
}

impl Client {
    /// Connects to the server of this name with default settings.
    ///
    /// # Errors
    /// As [`connect`](crate::connect).
    pub fn connect(name: &str) -> Result<Self, ConnectError> {
        Self::builder().connect(name)
    }

    /// Begins to make a client with settings of its own.
    pub fn builder() -> ClientBuilder {
        ClientBuilder::new()
    }

    fn open(name: &str, options: Options, now: bool) -> Result<Self, ConnectError> {
        Ok(Self { hub: Arc::new(Hub::new(name, options, now)?) })
    }

    /// Makes a call and waits for the response.
    ///
    /// # Errors
    /// [`CallError`]; [`CallError::may_have_run`] says whether it is safe to make the call again.
    /// # Panics
    /// If the message type is not the application's.
    /// # Cost
    /// Three locks that nobody else holds, one allocation for the response; else what sending and receiving a message cost.
    #[inline]
    pub fn call<B: Encode + ?Sized>(&self, message_type: u16, body: &B) -> Result<Response, CallError> {
        self.request(message_type).call(body)
    }

    /// Makes a call and puts the response into `out`, whose memory is used again.
    ///
    /// # Errors
    /// As [`call`](Self::call); the content of `out` is arbitrary then.
    /// # Panics
    /// As [`call`](Self::call).
    /// # Cost
    /// As [`call`](Self::call), and no allocation once buffers are as long as the longest response.
    #[inline]
    pub fn call_into<B: Encode + ?Sized>(
        &self,
        message_type: u16,
        body: &B,
        out: &mut Vec<u8>,
    ) -> Result<(), CallError> {
        self.request(message_type).call_into(body, out)
    }

    /// Makes a call and waits for the response for at most `timeout`.
    ///
    /// # Errors
    /// As [`call`](Self::call).
    /// # Panics
    /// As [`call`](Self::call).
    pub fn call_timeout<B: Encode + ?Sized>(
        &self,
        message_type: u16,
        body: &B,
        timeout: Duration,
    ) -> Result<Response, CallError> {
        self.request(message_type).timeout(timeout).call(body)
    }

    /// Makes a call whose response comes in parts.
    ///
    /// # Errors
    /// As [`call`](Self::call), if it cannot be sent; else the stream has the error.
    /// # Panics
    /// As [`call`](Self::call).
    pub fn call_stream<B: Encode + ?Sized>(
        &self,
        message_type: u16,
        body: &B,
    ) -> Result<ResponseStream, CallError> {
        self.request(message_type).stream(body)
    }

    /// Sends a message that is not answered. Whether it was received is not known.
    ///
    /// # Errors
    /// As [`call`](Self::call), if it cannot be sent.
    /// # Panics
    /// As [`call`](Self::call).
    pub fn notify<B: Encode + ?Sized>(&self, message_type: u16, body: &B) -> Result<(), CallError> {
        self.request(message_type).notify(body)
    }

    /// Begins to put a call together that differs from the settings of the client.
    ///
    /// # Panics
    /// If the message type is not the application's.
    #[inline]
    pub fn request(&self, message_type: u16) -> CallBuilder<'_> {
        assert!(message_type < TYPE_RESERVED, "message types from {TYPE_RESERVED:#06x} on are reserved");
        let Options { timeout, window, .. } = &self.hub.options;
        let ask = Ask {
            message_type,
            one_way: false,
            priority: false,
            idempotent: false,
            window: None,
            began: None,
            deadline: None,
        };
        let call = CallBuilder { client: self, ask, window: *window };
        match timeout {
            Some(timeout) => call.timeout(*timeout),
            None => call,
        }
    }

    /// Returns a form of this client for one message type, with values instead of bytes.
    pub fn typed<Request: Encode + ?Sized, Answer: super::Decode>(
        &self,
        message_type: u16,
    ) -> Typed<Request, Answer> {
        Typed::new(self.clone(), message_type)
    }

    /// Ends this client and its clones: no new calls, [`CallError::Closed`]. Those in flight are finished.
    pub fn close(&self) {
        self.hub.close();
    }
}

impl<'a> CallBuilder<'a> {
    /// Sets how long the call may take, from [`Client::request`] on. The server is told.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        // A time-out beyond the clock's range is none.
        self.ask.deadline = self.ask.began.get_or_insert_with(Instant::now).checked_add(timeout);
        self
    }

    /// Says that the call may run twice without harm: when the connection ends before the answer, it is made again, up to
    /// three times.
    pub fn idempotent(mut self, idempotent: bool) -> Self {
        self.ask.idempotent = idempotent;
        self
    }

    /// Lets the call overtake those that wait to be sent.
    pub fn priority(mut self, priority: bool) -> Self {
        self.ask.priority = priority;
        self
    }

    /// Sets how many bytes of a streamed response may wait here to be taken, beside one part.
    pub fn window(mut self, bytes: u32) -> Self {
        self.window = bytes.max(1);
        self
    }

    /// Makes the call; see [`Client::call`].
    ///
    /// # Errors
    /// As [`Client::call`].
    #[inline]
    pub fn call<B: Encode + ?Sized>(self, body: &B) -> Result<Response, CallError> {
        let mut out = Vec::new();
        self.call_into(body, &mut out)?;
        Ok(Response::new(out))
    }

    /// Makes the call; see [`Client::call_into`].
    ///
    /// # Errors
    /// As [`Client::call`].
    #[inline]
    pub fn call_into<B: Encode + ?Sized>(self, body: &B, out: &mut Vec<u8>) -> Result<(), CallError> {
        let Self { client: Client { hub }, ask, .. } = self;
        let (mut attempts, mut turned_away) = (1, 0);
        loop {
            let line = hub.line(&ask)?;
            let bytes = body.encode(out).map_err(CallError::Body)?;
            let outcome = match line.send(&ask, bytes) {
                Ok((core, ticket)) => line.collect(core, ticket, ask.deadline, out),
                Err(Unsent::Elsewhere(reason)) => {
                    hub.leave(&line, &ask, reason, &mut turned_away)?;
                    continue;
                }
                Err(Unsent::Error(error)) => Err(error),
            };
            let Err(error) = outcome else { return Ok(()) };
            if !hub.may_repeat(&line, &ask, &error, &mut attempts) {
                return Err(error);
            }
        }
    }

    /// Sends the request and returns without waiting for the response, so that one thread can have many calls in flight.
    ///
    /// At the limit of the server it waits for a place; answers of earlier calls are taken in meanwhile.
    ///
    /// # Errors
    /// As [`Client::call`], if it cannot be sent.
    /// # Examples
    /// ```no_run
    /// # let client = ringway::rpc::Client::connect("greeter")?;
    /// let calls: Vec<_> =
    ///     ["Ada", "Grace"].iter().map(|name| client.request(1).start(*name)).collect::<Result<_, _>>()?;
    /// for call in calls {
    ///     println!("{}", String::from_utf8_lossy(&call.wait()?));
    /// }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn start<B: Encode + ?Sized>(self, body: &B) -> Result<PendingCall, CallError> {
        let mut buffer = Vec::new();
        let bytes = body.encode(&mut buffer).map_err(CallError::Body)?;
        let ask = &self.ask;
        self.client.hub.sent_somewhere(ask, |line| {
            let (core, ticket) = line.send(ask, bytes)?;
            drop(core);
            Ok(PendingCall::new(Arc::clone(line), ticket, ask.deadline))
        })
    }

    /// Makes the call; see [`Client::call_stream`].
    ///
    /// # Errors
    /// As [`Client::call_stream`].
    pub fn stream<B: Encode + ?Sized>(self, body: &B) -> Result<ResponseStream, CallError> {
        let mut buffer = Vec::new();
        let bytes = body.encode(&mut buffer).map_err(CallError::Body)?;
        let ask = &self.streaming().ask;
        self.client.hub.sent_somewhere(ask, |line| {
            let (core, ticket) = line.send(ask, bytes)?;
            drop(core);
            Ok(ResponseStream::new(Arc::clone(line), ticket, ask.deadline))
        })
    }

    /// Sends the body as a message that is not answered; see [`Client::notify`].
    ///
    /// # Errors
    /// As [`Client::notify`].
    pub fn notify<B: Encode + ?Sized>(self, body: &B) -> Result<(), CallError> {
        let mut buffer = Vec::new();
        let bytes = body.encode(&mut buffer).map_err(CallError::Body)?;
        let ask = &self.one_way().ask;
        self.client.hub.sent_somewhere(ask, |line| {
            let (mut core, ticket) = line.send(ask, bytes)?;
            core.leave(ticket.seat);
            Ok(())
        })
    }

    pub(crate) fn streaming(mut self) -> Self {
        self.ask.window = Some(self.window);
        self
    }

    pub(crate) fn one_way(mut self) -> Self {
        self.ask.one_way = true;
        self
    }

    #[cfg(feature = "tokio")]
    pub(crate) fn ask(&self) -> Ask {
        self.ask
    }

    #[cfg(feature = "tokio")]
    pub(crate) fn hub(&self) -> &'a Arc<Hub> {
        &self.client.hub
    }
}

impl Hub {
    /// Sends on this connection or, if it has ended, on the next.
    fn sent_somewhere<R>(
        &self,
        ask: &Ask,
        mut send: impl FnMut(&Arc<Line>) -> Result<R, Unsent>,
    ) -> Result<R, CallError> {
        let mut turned_away = 0;
        loop {
            let line = self.line(ask)?;
            match send(&line) {
                Ok(sent) => return Ok(sent),
                Err(Unsent::Error(error)) => return Err(error),
                Err(Unsent::Elsewhere(reason)) => self.leave(&line, ask, reason, &mut turned_away)?,
            }
        }
    }

    /// Leaves a connection on which nothing can be sent any more.
    #[cold]
    pub(crate) fn leave(
        &self,
        line: &Arc<Line>,
        ask: &Ask,
        reason: CloseReason,
        turned_away: &mut u32,
    ) -> Result<(), CallError> {
        self.discard(line, reason.clone());
        *turned_away += 1;
        if *turned_away > CONNECTIONS_TRIED_MAX {
            return Err(CallError::Lost { may_have_run: false, reason });
        }
        in_time(ask)
    }

    /// Says whether a call that failed like this is made again, on another connection.
    #[cold]
    pub(crate) fn may_repeat(
        &self,
        line: &Arc<Line>,
        ask: &Ask,
        error: &CallError,
        attempts: &mut u32,
    ) -> bool {
        let ended = matches!(error, CallError::Lost { .. } | CallError::Protocol(_));
        let core = line.hold();
        let (open, reason) = (core.is_open(), core.why_shut());
        drop(core);
        if !open {
            self.discard(line, reason);
        }
        if ended && ask.idempotent && *attempts < ATTEMPTS_MAX {
            *attempts += 1;
            return in_time(ask).is_ok();
        }
        false
    }
}

fn in_time(ask: &Ask) -> Result<(), CallError> {
    if blocking::is_over(ask.deadline) { Err(CallError::Timeout { sent: false }) } else { Ok(()) }
}

/// How often a call is made at most. A request that kills its server would kill it again and again.
const ATTEMPTS_MAX: u32 = 4;
/// A server that takes connections and no calls is left alone after so many.
const CONNECTIONS_TRIED_MAX: u32 = 16;
