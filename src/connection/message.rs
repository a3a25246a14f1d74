//! A received message.

use std::fmt;
use std::ops::Deref;

/// A received message: bytes in private memory, or, after `trust_peer`, in place in the peer's ring.
///
/// It borrows the receiver, so it is gone before the next is taken, which is also when its room in the peer's ring is
/// given back; [`to_vec`](slice::to_vec) keeps the bytes.
#[derive(Clone, Copy)]
pub struct Message<'a> {
    bytes: &'a [u8],
    borrowed: bool,
}

impl<'a> Message<'a> {
    pub(super) fn copied(bytes: &'a [u8]) -> Self {
        Self { bytes, borrowed: false }
    }

    pub(super) fn lent(bytes: &'a [u8]) -> Self {
        Self { bytes, borrowed: true }
    }

    /// Returns the bytes, for as long as the receiver is borrowed.
    pub fn bytes(self) -> &'a [u8] {
        self.bytes
    }

    /// Says whether the bytes lie in the peer's ring: nothing was copied.
    pub fn is_borrowed(&self) -> bool {
        self.borrowed
    }
}

impl Deref for Message<'_> {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.bytes
    }
}

impl AsRef<[u8]> for Message<'_> {
    fn as_ref(&self) -> &[u8] {
        self.bytes
    }
}

impl fmt::Debug for Message<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Message({} bytes)", self.len())
    }
}
