//! Calls as a service of tower.

use crate::error::call::CallError;
use crate::rpc::{CallBuilder, Client, Decode, Encode};
use std::future::Future;
use std::marker::PhantomData;
use std::pin::Pin;
use std::task::{Context, Poll};
use tower_service::Service;

/// A client for one message type as a [`Service`], so that the layers of tower fit around it; see [`Client::service`].
///
/// It is always ready: a call that finds as many in flight as the server accepts waits for its turn in its future, and for
/// its deadline. Clones share the connection.
///
/// # Examples
/// ```no_run
/// use ringway::rpc::Client;
/// use tower_service::Service;
/// # async fn greet() -> Result<(), Box<dyn std::error::Error>> {
/// let mut greet = Client::connect("greeter")?.service::<String, String>(1);
/// let greeting: String = greet.call("world".to_owned()).await?;
/// # Ok(())
/// # }
/// ```
pub struct CallService<Request, Answer> {
    client: Client,
    message_type: u16,
    options: fn(CallBuilder<'_>) -> CallBuilder<'_>,
    types: PhantomData<fn(Request) -> Answer>,
}

impl Client {
    /// Returns this client as a service of tower for one message type.
    pub fn service<Request: Encode, Answer: Decode>(
        &self,
        message_type: u16,
    ) -> CallService<Request, Answer> {
        CallService { client: self.clone(), message_type, options: |call| call, types: PhantomData }
    }
}

impl<Request, Answer> CallService<Request, Answer> {
    /// Sets options that every call has.
    ///
    /// # Examples
    /// ```no_run
    /// # use ringway::rpc::Client;
    /// let greet = Client::connect("greeter")?.service::<String, String>(1).with(|call| call.idempotent(true));
    /// # drop(greet);
    /// # Ok::<(), ringway::ConnectError>(())
    /// ```
    #[must_use]
    pub fn with(self, options: fn(CallBuilder<'_>) -> CallBuilder<'_>) -> Self {
        Self { options, ..self }
    }
}

impl<Request, Answer> Clone for CallService<Request, Answer> {
    fn clone(&self) -> Self {
        Self { client: self.client.clone(), ..*self }
    }
}

impl<Request, Answer> Service<Request> for CallService<Request, Answer>
where
    Request: Encode + Send + Sync + 'static,
    Answer: Decode + 'static,
{
    type Response = Answer;
    type Error = CallError;
    type Future = Pin<Box<dyn Future<Output = Result<Answer, CallError>> + Send>>;

    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), CallError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request) -> Self::Future {
        let Self { client, message_type, options, .. } = self.clone();
        Box::pin(async move { options(client.request(message_type)).call_async(&request).await?.decode() })
    }
}
