//! What a handler is given, and where an immediate one puts its response.

use crate::connection::PeerCred;
use crate::error::call::BodyError;
use crate::rpc::body::Encode;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// What a client asks, for a handler that answers at once. Nothing of it was allocated.
///
/// `S` is the state that the handlers of a server share.
pub struct Request<'a, S = ()> {
    pub(super) message_type: u16,
    pub(super) body: &'a [u8],
    pub(super) priority: bool,
    pub(super) timeout: Option<Duration>,
    pub(super) peer: PeerCred,
    pub(super) state: &'a Arc<S>,
}

/// What a client asks, for a handler that takes its time.
///
/// `S` is the state that the handlers of a server share.
pub struct OwnedRequest<S = ()> {
    message_type: u16,
    body: Vec<u8>,
    priority: bool,
    deadline: Option<Instant>,
    peer: PeerCred,
    cancelled: Arc<AtomicBool>,
    state: Arc<S>,
}

impl<S> Request<'_, S> {
    /// Returns the message type that the client asked for.
    pub fn message_type(&self) -> u16 {
        self.message_type
    }

    /// Returns the body: private memory, which the client cannot change any more.
    pub fn body(&self) -> &[u8] {
        self.body
    }

    /// Returns the time that the client gave for the answer, counted from when it asked.
    pub fn timeout(&self) -> Option<Duration> {
        self.timeout
    }

    /// Says whether the client asked with priority.
    pub fn is_priority(&self) -> bool {
        self.priority
    }

    /// Returns who asks, as the kernel said at the handshake.
    pub fn peer_cred(&self) -> PeerCred {
        self.peer
    }

    /// Returns what the handlers share.
    pub fn state(&self) -> &Arc<S> {
        self.state
    }

    /// Makes it one's own, at the price of a copy of the body.
    pub(super) fn to_owned(&self, deadline: Option<Instant>, cancelled: &Arc<AtomicBool>) -> OwnedRequest<S> {
        OwnedRequest {
            message_type: self.message_type,
            body: self.body.to_vec(),
            priority: self.priority,
            deadline,
            peer: self.peer,
            cancelled: Arc::clone(cancelled),
            state: Arc::clone(self.state),
        }
    }
}

impl<S> OwnedRequest<S> {
    /// Returns the message type that the client asked for.
    pub fn message_type(&self) -> u16 {
        self.message_type
    }

    /// Returns the body.
    pub fn body(&self) -> &[u8] {
        &self.body
    }

    /// Takes the body out.
    pub fn into_body(self) -> Vec<u8> {
        self.body
    }

    /// Returns when the answer is of no use any more: the client's time-out, counted from when the request arrived here.
    ///
    /// A call beyond it is ended: its future or stream is dropped, and the client is told.
    pub fn deadline(&self) -> Option<Instant> {
        self.deadline
    }

    /// Says whether nobody waits for the answer any more: it was cancelled, its time is up, or the client is gone.
    ///
    /// Futures and streams are dropped then; a handler that blocks is not interrupted and may look here.
    pub fn is_cancelled(&self) -> bool {
        // Relaxed: the fact alone matters, nothing is read because of it.
        self.cancelled.load(Ordering::Relaxed)
    }

    /// Says whether the client asked with priority.
    pub fn is_priority(&self) -> bool {
        self.priority
    }

    /// Returns who asks, as the kernel said at the handshake.
    pub fn peer_cred(&self) -> PeerCred {
        self.peer
    }

    /// Returns what the handlers share.
    pub fn state(&self) -> &Arc<S> {
        &self.state
    }
}

/// Where a handler that answers at once puts its response: memory of the worker, used again and again.
pub struct Reply<'a> {
    buffer: &'a mut Vec<u8>,
    /// Where values are encoded that have no bytes of their own.
    scratch: &'a mut Vec<u8>,
}

impl<'a> Reply<'a> {
    pub(super) fn new(buffer: &'a mut Vec<u8>, scratch: &'a mut Vec<u8>) -> Self {
        buffer.clear();
        Self { buffer, scratch }
    }

    /// Appends to the response.
    pub fn write(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// Appends a value.
    ///
    /// # Errors
    /// [`BodyError`]: the value has no form in bytes.
    pub fn encode<B: Encode + ?Sized>(&mut self, value: &B) -> Result<(), BodyError> {
        self.buffer.extend_from_slice(value.encode(self.scratch)?);
        Ok(())
    }

    /// Lends the buffer, empty at first, for encoders that append to a vector.
    pub fn buffer(&mut self) -> &mut Vec<u8> {
        self.buffer
    }
}

impl io::Write for Reply<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.buffer.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
