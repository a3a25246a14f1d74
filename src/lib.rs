//! Shared-memory messaging between processes on one machine.
//!
//! Two processes that are connected share two pieces of memory: each writes its own and maps the other's read-only. A
//! message is written into a ring in the sender's memory and read from there, in about the time that a cache line takes
//! from one core to the other; no lock, no shared counter, no system call. A Unix socket beside it authenticates the
//! peer, tells of its death, and wakes it when it sleeps.
//!
//! - [`Listener::bind`] and [`connect`] make connections; [`pair`] makes one within a process.
//! - [`Connection`] sends and receives; [`Connection::split`] gives the two halves to two threads.
//! - [`Group`] serves many clients from one thread, [`Pool`] from several.
//! - [`Route`] is one sender and any number of receivers, [`Channel`] any number of members that all hear each other;
//!   [`broadcast`] has what they are made of.
//! - [`ByteStream`] is what a socket is, for code that was written for one.
//! - [`Receiver::readiness`] waits in a reactor of your own.
//! - [`census()`](census()) lists who is there.
//! - [`Config`] has the settings: ring size, waiting, limits, who may connect.
//!
//! # Examples
//! ```
//! let (mut here, mut there) = ringway::pair(&ringway::Config::new())?;
//! here.send(b"hello")?;
//! assert_eq!(&*there.recv()?, b"hello");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
#![deny(unsafe_code)]
#![cfg_attr(loom, allow(dead_code, unused_imports))]

#[cfg(not(loom))]
pub mod broadcast;
#[cfg(not(loom))]
mod channel;
#[cfg(not(loom))]
mod config;
#[cfg(not(loom))]
mod connection;
mod crash;
mod error;
#[cfg(not(loom))]
mod metrics;
mod primitive;
#[cfg(not(loom))]
mod proto;
mod ring;
#[cfg(not(loom))]
mod route;
#[cfg(all(feature = "rpc", not(loom)))]
pub mod rpc;
mod shm;
#[cfg(not(loom))]
mod sys;
#[cfg(all(feature = "tokio", not(loom)))]
#[path = "aio/mod.rs"]
pub mod tokio;
mod wait;

#[cfg(all(feature = "tonic", not(loom)))]
pub use self::tokio::tonic;
#[cfg(not(loom))]
pub use channel::Channel;
#[cfg(not(loom))]
pub use config::{Config, Profile};
#[cfg(not(loom))]
pub use connection::{
    Armed, Bell, ByteListener, ByteReader, ByteStream, ByteWriter, Claim, Connection, Event, Group, Handler,
    Incoming, Listener, Member, MemberId, Members, Message, Messages, PeerCred, Pool, PoolBuilder, PoolStats,
    Readiness, Receiver, Sender, Shutdown, WorkerContext, census, connect, pair, runtime_directory,
};
#[cfg(feature = "crash-points")]
pub use crash::{BROADCAST_POINTS as BROADCAST_CRASH_POINTS, POINTS as CRASH_POINTS};
pub use error::*;
#[cfg(not(loom))]
pub use metrics::Stats;
#[cfg(not(loom))]
pub use route::Route;
#[cfg(not(loom))]
pub use sys::{Platform, allowed_cpus, pin_current_thread, platform, raise_descriptor_limit};
#[cfg(not(loom))]
pub use wait::Wait;

/// The examples of the README compile.
#[cfg(all(doctest, not(loom)))]
#[doc = include_str!("../README.md")]
struct Readme;

/// The examples of the pages about routes and channels compile.
#[cfg(all(doctest, not(loom)))]
#[doc = include_str!("../docs/routes-and-channels.md")]
#[doc = include_str!("../docs/from-cpp-ipc.md")]
struct Pages;
