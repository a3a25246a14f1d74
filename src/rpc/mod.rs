//! Calls: requests and responses with deadlines, streams, cancellation, and a client that reconnects.

pub use crate::error::call::{BodyError, CallError, Code, Failure, FrameError};

mod server;

pub use server::{OwnedRequest, Reply, Request, Server, ServerBuilder, ServerMonitor, ServerStats};
