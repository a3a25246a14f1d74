//! The ring: one writer, any number of readers, records committed in band.
//!
//! A record is an 8-byte header and a payload, padded to 8. The consumer polls the header word at its own position:
//! one cache line brings both "there is a record" and the record. The producer writes payload, zeroes the *next*
//! header, then stores its own header with Release; zero means "nothing here yet" and is never a legal header.
//! There is no shared tail on the path of a message, and no read-modify-write anywhere.
//!
//! A record never passes the end of the ring: it goes to the beginning and a padding record fills the rest. Headers
//! that follow the first of a batch, or a padding record, are stored without order before the first is released,
//! so a batch appears at once. `docs/layout.md` has the bits, `docs/ordering.md` the pairs of stores and loads.
//!
//! What becomes of readers that do not keep up is the ring's [`Mode`]. A writer that may go on without one announces what
//! it is about to overwrite, and readers look at that after each copy.
//!
//! Tried and dropped: a shared tail index. It has two modes, and falls into the slow one at random (64 B: 3.6-17
//! million messages/s against 14-15 in band).
//!
//! Sources: claim and commit, Agrona `OneToOneRingBuffer`; cached peer position, rtrb; overrun detection, the
//! seqlock of Boehm, "Can seqlocks get along with programming language memory models?" (2012).

mod assembly;
mod consumer;
mod mode;
mod producer;
mod record;

pub(crate) use assembly::{Assembly, Step};
pub(crate) use consumer::{Consumer, ConsumerParts, Lag, Polled, Record};
pub(crate) use mode::Mode;
#[cfg(test)]
pub(crate) use producer::ReaderAt;
pub(crate) use producer::{NoRoom, Producer, ProducerParts, Reservation};
pub(crate) use record::Kind;

#[cfg(all(test, loom))]
mod loom_tests;
#[cfg(all(test, not(loom)))]
mod tests;
