//! Calls with values instead of bytes.

use super::{CallBuilder, Client};
use crate::error::call::CallError;
use crate::rpc::body::{Decode, Encode};
use std::marker::PhantomData;

/// A client for one message type, whose requests and responses are values; see [`Client::typed`].
///
/// # Examples
/// ```no_run
/// use ringway::rpc::{Client, Typed};
/// let client = Client::connect("greeter")?;
/// let greet: Typed<str, String> = client.typed(1);
/// let greeting: String = greet.call("world")?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Typed<Request: ?Sized, Answer> {
    client: Client,
    message_type: u16,
    types: PhantomData<fn(&Request) -> Answer>,
}

impl<Request: Encode + ?Sized, Answer: Decode> Typed<Request, Answer> {
    pub(super) fn new(client: Client, message_type: u16) -> Self {
        Self { client, message_type, types: PhantomData }
    }

    /// Makes a call and waits for the response.
    ///
    /// # Errors
    /// As [`Client::call`], and [`CallError::Body`].
    pub fn call(&self, request: &Request) -> Result<Answer, CallError> {
        self.call_with(request, |call| call)
    }

    /// Makes a call with options of its own and waits for the response.
    ///
    /// # Errors
    /// As [`call`](Self::call).
    /// # Examples
    /// ```no_run
    /// # use ringway::rpc::{Client, Typed};
    /// # let greet: Typed<str, String> = Client::connect("greeter")?.typed(1);
    /// let greeting = greet.call_with("world", |call| call.idempotent(true))?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn call_with(
        &self,
        request: &Request,
        options: impl FnOnce(CallBuilder<'_>) -> CallBuilder<'_>,
    ) -> Result<Answer, CallError> {
        options(self.client.request(self.message_type)).call(request)?.decode()
    }
}

impl<Request: ?Sized, Answer> Clone for Typed<Request, Answer> {
    fn clone(&self) -> Self {
        Self { client: self.client.clone(), message_type: self.message_type, types: PhantomData }
    }
}
