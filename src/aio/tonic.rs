//! gRPC between processes of one machine: what tonic needs to serve and to connect.
//!
//! # Examples
//! ```no_run
//! # use tonic::transport::{Endpoint, Server};
//! # async fn serve(routes: tonic::service::Routes) -> Result<(), Box<dyn std::error::Error>> {
//! let listener = ringway::tokio::ByteListener::bind("greeter")?;
//! Server::builder().add_routes(routes).serve_with_incoming(ringway::tonic::incoming(listener)).await?;
//! # Ok(())
//! # }
//! # async fn connect() -> Result<(), Box<dyn std::error::Error>> {
//! let channel = Endpoint::from_static("http://ringway")
//!     .connect_with_connector(ringway::tonic::connector("greeter"))
//!     .await?;
//! # Ok(())
//! # }
//! ```

use super::bytes::{ByteListener, ByteStream};
use super::connection::Connection;
use crate::config::Config;
use crate::connection::PeerCred;
use futures_core::Stream;
use hyper_util::rt::TokioIo;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use tonic::transport::Uri;
use tonic::transport::server::Connected;
use tower_service::Service;

/// Returns the clients of a listener, for `serve_with_incoming`.
///
/// Handlers find a [`PeerCred`] in the extensions of a request: who the client is, as the kernel said.
pub fn incoming(listener: ByteListener) -> impl Stream<Item = io::Result<ByteStream>> + Send + Unpin {
    listener
}

/// Makes a connector to the listener of this name, for `connect_with_connector`. The address of the endpoint is not looked
/// at; tonic connects anew by itself when the server was restarted.
pub fn connector(name: &str) -> Connector {
    Connector::new(&Config::new(), name)
}

/// Connects a channel to a listener; see [`connector`].
#[derive(Debug, Clone)]
#[must_use]
pub struct Connector {
    target: Arc<(Config, String)>,
}

impl Connector {
    /// Makes a connector with settings.
    pub fn new(config: &Config, name: &str) -> Self {
        Self { target: Arc::new((config.clone(), name.to_owned())) }
    }
}

impl Service<Uri> for Connector {
    type Response = TokioIo<ByteStream>;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Self::Response>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Uri) -> Self::Future {
        let target = Arc::clone(&self.target);
        Box::pin(async move {
            let (config, name) = &*target;
            let connection = Connection::connect_with(config, name).await?;
            Ok(TokioIo::new(connection.into()))
        })
    }
}

impl Connected for ByteStream {
    type ConnectInfo = PeerCred;

    fn connect_info(&self) -> PeerCred {
        self.peer_cred()
    }
}
