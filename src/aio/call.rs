//! Calls by tasks.
//!
//! A task that waits for an answer cannot read for all as a thread does: it may be dropped, or not be polled for long. So
//! each connection has one task more, the driver, started with the first call and asleep while no task waits. It takes the
//! baton like a thread, unless a thread has it; it loses it when no task waits any more, and to any thread that waits, since
//! a runtime may not be run for long. Threads and tasks share a client freely.

use super::bell::{Bell, Room, poll_until};
use super::drive;
use crate::connection::Receiver;
use crate::error::call::CallError;
use crate::error::{CloseReason, TrySendError};
use crate::rpc::client::ask::Ask;
use crate::rpc::client::blocking::{Ticket, Unsent, refusal};
use crate::rpc::client::core::{Core, Held, Line, Outlet};
use crate::rpc::client::hub::Hub;
use crate::rpc::client::seats::Wake;
use crate::rpc::{CallBuilder, Client, Encode, Response};
use futures_core::Stream;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Instant;

impl Client {
    /// Makes a call and waits for the response, in a task.
    ///
    /// # Errors
    /// As [`call`](Self::call).
    /// # Panics
    /// As [`call`](Self::call); outside of a tokio runtime; if the call has a time-out and the runtime no clock.
    /// # Cancel safety
    /// Dropping the future cancels the call; whether it runs is not known then.
    /// # Examples
    /// ```no_run
    /// # async fn greet() -> Result<(), Box<dyn std::error::Error>> {
    /// let client = ringway::rpc::Client::connect("greeter")?;
    /// let (one, two) = tokio::join!(client.call_async(1, "one"), client.call_async(1, "two"));
    /// assert_ne!(one?, two?);
    /// # Ok(())
    /// # }
    /// ```
    pub async fn call_async<B: Encode + ?Sized>(
        &self,
        message_type: u16,
        body: &B,
    ) -> Result<Response, CallError> {
        self.request(message_type).call_async(body).await
    }
}

impl CallBuilder<'_> {
    /// Makes the call in a task; see [`Client::call_async`].
    ///
    /// # Errors
    /// As [`Client::call`].
    /// # Cancel safety
    /// As [`Client::call_async`].
    pub async fn call_async<B: Encode + ?Sized>(self, body: &B) -> Result<Response, CallError> {
        let (hub, ask) = (Arc::clone(self.hub()), self.ask());
        let mut buffer = Vec::new();
        let bytes = body.encode(&mut buffer).map_err(CallError::Body)?;
        let mut attempts = 1;
        loop {
            let (mut waiting, sent) = sent(&hub, &ask, bytes).await?;
            let outcome = match sent {
                Ok(()) => waiting.answer(ask.deadline).await,
                Err(error) => Err(error),
            };
            match outcome {
                Err(error) if hub.may_repeat(&waiting.line, &ask, &error, &mut attempts) => {}
                outcome => return outcome.map(Response::new),
            }
        }
    }

    /// Makes a call whose response comes in parts, in a task.
    ///
    /// # Errors
    /// As [`stream`](Self::stream).
    /// # Cancel safety
    /// As [`Client::call_async`].
    pub async fn stream_async<B: Encode + ?Sized>(self, body: &B) -> Result<ResponseStream, CallError> {
        let (hub, ask) = (Arc::clone(self.hub()), self.streaming().ask());
        let mut buffer = Vec::new();
        let bytes = body.encode(&mut buffer).map_err(CallError::Body)?;
        let (waiting, sent) = sent(&hub, &ask, bytes).await?;
        sent?;
        let sleep = ask.deadline.map(|deadline| Box::pin(tokio::time::sleep_until(deadline.into())));
        Ok(ResponseStream { waiting, sleep, over: false })
    }

    /// Sends a message that is not answered, in a task.
    ///
    /// # Errors
    /// As [`notify`](Self::notify).
    /// # Cancel safety
    /// Dropping the future leaves the message sent or not sent, never in part.
    pub async fn notify_async<B: Encode + ?Sized>(self, body: &B) -> Result<(), CallError> {
        let (hub, ask) = (Arc::clone(self.hub()), self.one_way().ask());
        let mut buffer = Vec::new();
        let bytes = body.encode(&mut buffer).map_err(CallError::Body)?;
        sent(&hub, &ask, bytes).await?.1
    }
}

/// Sends on this connection or, if it has ended, on the next; what went wrong for good comes second.
async fn sent(
    hub: &Arc<Hub>,
    ask: &Ask,
    bytes: &[u8],
) -> Result<(Waiting, Result<(), CallError>), CallError> {
    let mut turned_away = 0;
    loop {
        let line = line(hub, ask.deadline).await?;
        let mut waiting = Waiting::new(line);
        let sending = waiting.send(ask, bytes);
        match in_time(ask.deadline, sending).await {
            Some(Ok(())) => return Ok((waiting, Ok(()))),
            Some(Err(Unsent::Error(error))) => return Ok((waiting, Err(error))),
            Some(Err(Unsent::Elsewhere(reason))) => {
                hub.leave(&waiting.line, ask, reason, &mut turned_away)?;
            }
            None => return Ok((waiting, Err(CallError::Timeout { sent: false }))),
        }
    }
}

/// Returns the connection. Making one is left to a thread that may block.
async fn line(hub: &Arc<Hub>, deadline: Option<Instant>) -> Result<Arc<Line>, CallError> {
    if let Some(line) = hub.line_now()? {
        return Ok(line);
    }
    let hub = Arc::clone(hub);
    let connecting = tokio::task::spawn_blocking(move || hub.line_soon(deadline));
    // Only a runtime that shuts down gives it up.
    connecting.await.unwrap_or(Err(CallError::Closed))
}

/// Waits for this until the deadline.
async fn in_time<F: Future>(deadline: Option<Instant>, future: F) -> Option<F::Output> {
    match deadline {
        None => Some(future.await),
        Some(deadline) => tokio::time::timeout_at(deadline.into(), future).await.ok(),
    }
}

/// A task that waits in a seat. Dropping it gives up what it waits for.
struct Waiting {
    line: Arc<Line>,
    seat: usize,
    state: State,
}

enum State {
    /// At the gate, or not even there.
    Unsent,
    /// Has the outlet and sends.
    Sending {
        outlet: Option<Box<Outlet>>,
        sent: usize,
        id: u64,
    },
    /// Waits for the answer.
    Sent {
        id: u64,
    },
    Over,
}

impl Waiting {
    fn new(line: Arc<Line>) -> Self {
        let mut core = line.hold();
        let seat = core.seats.take();
        core.tasks.waiting += 1;
        drop(core);
        Self { line, seat, state: State::Unsent }
    }

    /// Has the driver started if there is none, and woken if it was idle.
    fn call_driver(line: &Arc<Line>, core: &mut Held<'_>) {
        let idles = std::mem::take(&mut core.tasks.driver_idles);
        match core.tasks.driver {
            None => core.tasks.driver = Some(drive::start(line, core)),
            Some(driver) if idles => core.notify(driver),
            Some(_) => {}
        }
    }

    async fn send(&mut self, ask: &Ask, body: &[u8]) -> Result<(), Unsent> {
        let len = ask.frame_bytes(body);
        let full = poll_fn(|cx| self.poll_gate(cx, ask, body, len)).await?;
        if full {
            self.send_by_turn().await?;
        }
        Ok(())
    }

    /// Passes the gate and sends; `true`: there was no room, but the outlet is ours.
    fn poll_gate(
        &mut self,
        cx: &mut Context<'_>,
        ask: &Ask,
        body: &[u8],
        len: usize,
    ) -> Poll<Result<bool, Unsent>> {
        let waker = cx.waker().clone();
        let mut core = self.line.hold();
        let max = core.message_bytes_max();
        if len > max {
            return Poll::Ready(Err(Unsent::Error(CallError::TooLarge { len, max })));
        }
        if !core.is_queued(self.seat) {
            core.look_after_peer();
            if !core.may_enter(ask) {
                core.queue(self.seat, ask);
            }
        }
        if core.is_queued(self.seat) {
            if !core.is_through(self.seat) {
                let old = core.seats.set_waker(self.seat, Wake::Task(waker));
                Self::call_driver(&self.line, &mut core);
                // Foreign code, so not under the lock.
                drop(core);
                drop(old);
                return Poll::Pending;
            }
            core.unqueue(self.seat);
        }
        if !core.is_open() {
            return Poll::Ready(Err(Unsent::Elsewhere(core.why_shut())));
        }
        match core.post(ask, self.seat, body, len) {
            Ok(id) => self.state = State::Sent { id },
            Err(TrySendError::Full | TrySendError::TooLarge { .. }) => {
                let (outlet, id) = core.take_outlet(ask, self.seat, body, len);
                self.state = State::Sending { outlet: Some(outlet), sent: 0, id };
                Self::call_driver(&self.line, &mut core);
                return Poll::Ready(Ok(true));
            }
            Err(error) => return Poll::Ready(Err(refusal(&mut core, error))),
        }
        core.call_next();
        Poll::Ready(Ok(false))
    }

    /// Sends the frame in the outlet, waiting for room.
    async fn send_by_turn(&mut self) -> Result<(), Unsent> {
        let mut bell = Bell::default();
        let line = Arc::clone(&self.line);
        let State::Sending { outlet, sent, id } = &mut self.state else { return Ok(()) };
        let id = *id;
        let Some(Outlet { sender, frame }) = outlet.as_deref_mut() else { return Ok(()) };
        let part_bytes = sender.record_bytes_max().min(frame.len());
        let (seat, mut seen) = (self.seat, 0);
        let outcome = poll_fn(|cx| {
            // Whoever ends the connection must wake us: the doorbell will not. What was there is dropped without the lock.
            let old = line.hold().seats.set_waker(seat, Wake::Task(cx.waker().clone()));
            drop(old);
            poll_until(&mut bell, cx, &mut Room(sender, part_bytes), |room| {
                while *sent < frame.len() {
                    match room.0.try_send_part(frame, *sent) {
                        Ok(bytes) => *sent += bytes,
                        Err(TrySendError::Full) => {
                            let mut core = line.hold();
                            let moved = *sent > std::mem::replace(&mut seen, *sent);
                            core.session.wait_for_room(Instant::now(), moved);
                            return core.is_over().then(|| Err(TrySendError::Closed(core.why_shut())));
                        }
                        Err(error) => return Some(Err(error)),
                    }
                }
                Some(Ok(()))
            })
        });
        let outcome = match outcome.await {
            Ok(outcome) => outcome,
            Err(error) => Err(TrySendError::Closed(os(&error))),
        };
        match outcome {
            Ok(()) => {
                self.bring_outlet_home(State::Sent { id });
                Ok(())
            }
            Err(error) => {
                self.bring_outlet_home(State::Unsent);
                Err(refusal(&mut self.line.hold(), error))
            }
        }
    }

    /// Brings the outlet home if it is here; what was not sent completely is given up.
    fn bring_outlet_home(&mut self, next: State) {
        if !matches!(self.state, State::Sending { .. }) {
            return;
        }
        if let State::Sending { outlet: Some(mut outlet), sent, id } =
            std::mem::replace(&mut self.state, next)
        {
            let whole = sent == outlet.frame.len();
            let Outlet { sender, frame } = &mut *outlet;
            sender.give_up(frame, sent);
            let mut core = self.line.hold();
            if !whole {
                core.session.withdraw(id);
            }
            core.come_home(outlet);
        }
    }

    /// Waits for the answer.
    async fn answer(&mut self, deadline: Option<Instant>) -> Result<Vec<u8>, CallError> {
        let seat = self.seat;
        let answer = poll_fn(|cx| {
            let mut core = ready!(self.poll_so(cx, |core, seat| core.seats.is_done(seat)));
            let mut out = Vec::new();
            Poll::Ready(core.seats.collect(seat, &mut out).map(|()| out))
        });
        match in_time(deadline, answer).await {
            Some(outcome) => {
                self.state = State::Over;
                outcome
            }
            None => Err(CallError::Timeout { sent: true }),
        }
    }

    /// Waits until something is so that whoever reads brings about.
    fn poll_so(&mut self, cx: &mut Context<'_>, is_so: impl Fn(&Core, usize) -> bool) -> Poll<Held<'_>> {
        let waker = cx.waker().clone();
        let mut core = self.line.hold();
        if is_so(&core, self.seat) {
            return Poll::Ready(core);
        }
        let old = core.seats.set_waker(self.seat, Wake::Task(waker));
        Self::call_driver(&self.line, &mut core);
        // Foreign code, so not under the lock.
        drop(core);
        drop(old);
        Poll::Pending
    }

    fn ticket(&self) -> Option<Ticket> {
        if let State::Sent { id } = self.state { Some(Ticket { seat: self.seat, id }) } else { None }
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        if !self.line.is_ours() {
            return;
        }
        self.bring_outlet_home(State::Unsent);
        let mut core = self.line.hold();
        if let Some(ticket) = self.ticket() {
            core.give_up(ticket.id);
        }
        core.unqueue(self.seat);
        let waker = core.seats.take_waker(self.seat);
        core.leave(self.seat);
        core.tasks.waiting -= 1;
        core.call_next();
        core.retire_driver();
        // Foreign code, so not under the lock.
        drop(core);
        drop(waker);
    }
}

/// A streamed response, for a task; see [`CallBuilder::stream_async`].
///
/// It ends after the last part, or with an error. Dropping it before its end cancels the call.
#[must_use = "dropping it cancels the call"]
pub struct ResponseStream {
    waiting: Waiting,
    sleep: Option<Pin<Box<tokio::time::Sleep>>>,
    over: bool,
}

impl ResponseStream {
    /// Takes the next part, waiting for it; `None`: that was the last.
    ///
    /// # Errors
    /// [`CallError`], once; then it ends.
    /// # Cancel safety
    /// A part is taken when the future completes and not before: dropping it loses nothing.
    pub async fn next(&mut self) -> Option<Result<Vec<u8>, CallError>> {
        poll_fn(|cx| Pin::new(&mut *self).poll_next(cx)).await
    }
}

impl Stream for ResponseStream {
    type Item = Result<Vec<u8>, CallError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let Some(ticket) = self.waiting.ticket().filter(|_| !self.over) else { return Poll::Ready(None) };
        let polled = self.waiting.poll_so(cx, |core, seat| core.seats.has_part(seat));
        let item = match polled.map(|mut core| core.take_part(ticket)) {
            Poll::Ready(item) => item,
            Poll::Pending => {
                let Some(sleep) = &mut self.sleep else { return Poll::Pending };
                ready!(sleep.as_mut().poll(cx));
                self.waiting.line.hold().give_up(ticket.id);
                Some(Err(CallError::Timeout { sent: true }))
            }
        };
        self.over = !matches!(item, Some(Ok(_)));
        Poll::Ready(item)
    }
}

/// The reason of an end that the reactor brought about.
pub(super) fn os(error: &std::io::Error) -> CloseReason {
    CloseReason::Os { errno: super::bell::errno_of(error) }
}

/// What the driver reads with.
pub(super) type Reader = Box<Receiver>;
