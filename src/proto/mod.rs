//! What is said on the socket before any memory is shared, without doing I/O: bytes and the present time go in,
//! messages come out.

pub(crate) mod handshake;
