//! A received message.

use super::receiver::Receiver;
use crate::ring::Record;
use std::fmt;
use std::ops::Deref;

/// A received message: bytes in private memory, or, after `trust_peer`, in place in the peer's ring.
///
/// It borrows the receiver, so it is gone before the next is taken; [`to_vec`](slice::to_vec) keeps the bytes.
pub struct Message<'a>(Bytes<'a>);

enum Bytes<'a> {
    Copied(&'a [u8]),
    /// The record is passed on from when the message is dropped.
    Lent {
        receiver: &'a mut Receiver,
        record: Record,
    },
}

impl<'a> Message<'a> {
    pub(super) fn copied(bytes: &'a [u8]) -> Self {
        Self(Bytes::Copied(bytes))
    }

    pub(super) fn lent(receiver: &'a mut Receiver, record: Record) -> Self {
        Self(Bytes::Lent { receiver, record })
    }

    /// Says whether the bytes lie in the peer's ring: nothing was copied.
    pub fn is_borrowed(&self) -> bool {
        matches!(self.0, Bytes::Lent { .. })
    }
}

impl Deref for Message<'_> {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match &self.0 {
            Bytes::Copied(bytes) => bytes,
            Bytes::Lent { receiver, record } => receiver.lent(record),
        }
    }
}

impl AsRef<[u8]> for Message<'_> {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

impl Drop for Message<'_> {
    fn drop(&mut self) {
        if let Bytes::Lent { receiver, record } = &mut self.0 {
            receiver.give_back(*record);
        }
    }
}

impl fmt::Debug for Message<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Message({} bytes)", self.len())
    }
}
