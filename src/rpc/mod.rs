//! Calls: requests and responses with deadlines, streams, cancellation, and a client that reconnects.

mod body;
pub(crate) mod client;
mod server;

pub use crate::error::call::{BodyError, CallError, Code, Failure, FrameError};
#[cfg(feature = "serde")]
pub use body::Postcard;
#[cfg(feature = "rkyv")]
pub use body::Rkyv;
#[cfg(feature = "zerocopy")]
pub use body::Zerocopy;
pub use body::{Decode, Encode};
pub use client::{Backoff, CallBuilder, Client, ClientBuilder, Response, ResponseStream, Typed};
pub use server::{OwnedRequest, Reply, Request, Server, ServerBuilder, ServerMonitor, ServerStats};
