//! What is said on the socket before any memory is shared, and what calls say over the rings, without doing I/O: bytes
//! and the present time go in, messages and events come out.

#[cfg(feature = "rpc")]
pub(crate) mod call;
#[cfg(feature = "rpc")]
pub(crate) mod frame;
pub(crate) mod handshake;
