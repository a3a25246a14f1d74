//! Handlers of values instead of bytes.

use super::ServerBuilder;
use crate::error::call::{BodyError, Code, Failure};
use crate::rpc::body::{Decode, Encode};
use futures_core::Stream;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

impl<S: Send + Sync + 'static> ServerBuilder<S> {
    /// Registers a handler of values that answers at once; see [`handle`](Self::handle).
    ///
    /// A request that cannot be decoded fails with [`Code::INVALID_ARGUMENT`] and the handler is not called.
    ///
    /// # Panics
    /// As [`handle`](Self::handle).
    /// # Examples
    /// ```no_run
    /// use ringway::rpc::{Failure, Server};
    /// fn greet(name: String) -> Result<String, Failure> {
    ///     Ok(format!("hello, {name}"))
    /// }
    /// let server = Server::builder().handle_typed(1, greet).bind("greeter")?;
    /// # drop(server);
    /// # Ok::<(), ringway::BindError>(())
    /// ```
    pub fn handle_typed<A: Decode, B: Encode>(
        self,
        message_type: u16,
        handler: impl Fn(A) -> Result<B, Failure> + Send + Sync + 'static,
    ) -> Self {
        self.handle(message_type, move |request, reply| {
            let answer = handler(decode(request.body())?)?;
            reply.encode(&answer).map_err(|error| broken(&error))
        })
    }

    /// Registers a handler of values that blocks or computes for long; see [`handle_blocking`](Self::handle_blocking).
    ///
    /// # Panics
    /// As [`handle`](Self::handle).
    pub fn handle_typed_blocking<A: Decode, B: Encode>(
        self,
        message_type: u16,
        handler: impl Fn(A) -> Result<B, Failure> + Send + Sync + 'static,
    ) -> Self {
        self.handle_blocking(message_type, move |request| encode(&handler(decode(request.body())?)?))
    }

    /// Registers a handler of values that is a future; see [`handle_async`](Self::handle_async).
    ///
    /// # Panics
    /// As [`handle`](Self::handle).
    pub fn handle_typed_async<A, B, F>(
        self,
        message_type: u16,
        handler: impl Fn(A) -> F + Send + Sync + 'static,
    ) -> Self
    where
        A: Decode + Send,
        B: Encode,
        F: Future<Output = Result<B, Failure>> + Send + 'static,
    {
        let handler = Arc::new(handler);
        self.handle_async(message_type, move |request| {
            let answer = decode(request.body()).map(|value| handler(value));
            async move { encode(&answer?.await?) }
        })
    }

    /// Registers a handler of values whose answer comes in parts; see [`handle_stream`](Self::handle_stream).
    ///
    /// # Panics
    /// As [`handle`](Self::handle).
    pub fn handle_typed_stream<A, B, F>(
        self,
        message_type: u16,
        handler: impl Fn(A) -> F + Send + Sync + 'static,
    ) -> Self
    where
        A: Decode,
        B: Encode,
        F: Stream<Item = Result<B, Failure>> + Send + 'static,
    {
        self.handle_stream(message_type, move |request| match decode(request.body()) {
            Ok(value) => Encoded::Parts(Box::pin(handler(value))),
            Err(failure) => Encoded::Failed(Some(failure)),
        })
    }
}

/// A stream of values as bytes; or one failure, if the request was none.
enum Encoded<F> {
    Parts(Pin<Box<F>>),
    Failed(Option<Failure>),
}

impl<B: Encode, F: Stream<Item = Result<B, Failure>>> Stream for Encoded<F> {
    type Item = Result<Vec<u8>, Failure>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        match &mut *self {
            Self::Parts(stream) => {
                let polled = stream.as_mut().poll_next(context);
                polled.map(|part| part.map(|part| encode(&part?)))
            }
            Self::Failed(failure) => Poll::Ready(failure.take().map(Err)),
        }
    }
}

fn decode<A: Decode>(body: &[u8]) -> Result<A, Failure> {
    A::decode(body).map_err(|error| Failure::new(Code::INVALID_ARGUMENT, error.to_string()))
}

fn encode<B: Encode>(answer: &B) -> Result<Vec<u8>, Failure> {
    let mut buffer = Vec::new();
    answer.encode(&mut buffer).map(<[u8]>::to_vec).map_err(|error| broken(&error))
}

fn broken(error: &BodyError) -> Failure {
    Failure::new(Code::INTERNAL, error.to_string())
}
