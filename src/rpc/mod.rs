//! Calls: requests and responses with deadlines, streams, cancellation, and a client that reconnects.

mod body;
pub(crate) mod client;
mod server;

pub use crate::error::call::{BodyError, CallError, Code, Failure, FrameError};
pub use body::{Decode, Encode};
pub use client::{Backoff, CallBuilder, Client, ClientBuilder, Response, ResponseStream, Typed};
pub use server::{OwnedRequest, Reply, Request, Server, ServerBuilder, ServerMonitor, ServerStats};
