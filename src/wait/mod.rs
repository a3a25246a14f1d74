//! Waiting: spin a little, then sleep, and never miss a wake.
//!
//! Two sleep words per side of a connection, one for data and one for space, each on its own line and written by one
//! thread: `generation << 2 | state`. The sleeper stores its word, looks at the ring once more, then sleeps in `poll`
//! on its doorbell and on what tells of death. The waker publishes, then looks at the word; if it says asleep it rings,
//! once per generation. Between store and look each side needs a store-load barrier:
//!
//! - *fence form*: each side runs a SeqCst fence. This is the fallback and what loom explores.
//! - *barrier form*: the sleeper runs a barrier on the processors of both (`membarrier`), only when it really parks; the
//!   waker, who acts on every message, runs none. A store-load fence after each publish costs a stream about a
//!   tenth. Used when both sides said that they take part; a liar delays only its own messages.
//!
//! Within a process, [`Baton`] says which of several waiting threads reads for all.
//!
//! Source: virtio-queue `needs_notification`, tokio `atomic_waker` (the protocol as prose).

#[cfg(any(feature = "rpc", loom))]
mod baton;
mod bell;
#[cfg(not(loom))]
mod park;
mod sleep;
#[cfg(all(feature = "tokio", not(loom)))]
mod slices;
#[cfg(not(loom))]
mod spin;

#[cfg(any(feature = "rpc", loom))]
pub(crate) use baton::Baton;
pub(crate) use bell::BellState;
#[cfg(not(loom))]
pub(crate) use park::{Parked, is_gone, park};
pub(crate) use sleep::{Barrier, Look, Sleeper, Waker, WorkerLines, barrier, before_peeks};
#[cfg(all(feature = "tokio", not(loom)))]
pub(crate) use slices::{Sliced, Slices};
#[cfg(not(loom))]
pub use spin::Wait;
#[cfg(not(loom))]
pub(crate) use spin::{Spinner, Spun, WAKE_COST_GUESS, measure_wake_cost, pause};

#[cfg(all(test, loom))]
mod loom_tests;
