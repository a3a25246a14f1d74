//! Linux 5.1 or newer: memfd with seals, Unix sockets, pidfd, membarrier.

pub(crate) mod barrier;
mod cpu;
pub(crate) mod directory;
pub(crate) mod epoll;
pub(crate) mod fork;
pub(crate) mod memory;
pub(crate) mod names;
mod numa;
pub(crate) mod poll;
mod probe;
mod process;
#[cfg(feature = "tokio")]
mod reactor;
pub(crate) mod socket;
pub(crate) mod suspect;

pub(crate) use barrier::*;
pub use cpu::*;
pub(crate) use directory::*;
pub(crate) use epoll::*;
pub(crate) use fork::*;
pub(crate) use memory::*;
pub(crate) use numa::*;
pub(crate) use poll::*;
pub use probe::*;
pub use process::*;
#[cfg(feature = "tokio")]
pub(crate) use reactor::*;
pub(crate) use socket::*;
pub(crate) use suspect::*;

#[cfg(test)]
mod tests;
