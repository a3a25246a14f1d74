//! A received message and who sent it.

use super::peer::Peer;
use std::fmt;
use std::ops::Deref;

/// A received message: bytes in private memory, or, where the sender never overtakes its receivers and is trusted, in place
/// in its ring.
///
/// It borrows the receiver, so it is gone before the next is taken; [`to_vec`](slice::to_vec) keeps the bytes.
#[derive(Clone, Copy)]
pub struct Message<'a> {
    bytes: &'a [u8],
    from: &'a Peer,
    borrowed: bool,
}

impl<'a> Message<'a> {
    pub(super) fn new(bytes: &'a [u8], from: &'a Peer, borrowed: bool) -> Self {
        Self { bytes, from, borrowed }
    }

    /// Returns the bytes, for as long as the receiver is borrowed.
    pub fn bytes(self) -> &'a [u8] {
        self.bytes
    }

    /// Returns who sent it.
    pub fn from(&self) -> Peer {
        *self.from
    }

    /// Says whether the bytes lie in the sender's ring: nothing was copied.
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
        write!(f, "Message({} bytes of {})", self.len(), self.from)
    }
}
