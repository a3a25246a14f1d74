//! HTTP between processes of one machine: axum serves, hyper calls, ringway carries.
//!
//! `cargo run --features tokio --example axum_http -- serve NAME`, and in another terminal `-- get NAME /hello/you`.

use axum::Router;
use axum::extract::Path;
use axum::routing::{get, post};
use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use ringway::PeerCred;
use ringway::tokio::{ByteListener, ByteStream};
use std::error::Error;
use std::io;

/// What axum wants of a listener.
struct Clients(ByteListener);

impl axum::serve::Listener for Clients {
    type Io = ByteStream;
    type Addr = Option<PeerCred>;

    async fn accept(&mut self) -> (ByteStream, Option<PeerCred>) {
        loop {
            match self.0.accept().await {
                Ok((stream, cred)) => return (stream, Some(cred)),
                Err(error) => eprintln!("cannot accept: {error}"),
            }
            // Out of memory, say: others of this runtime go first.
            tokio::task::yield_now().await;
        }
    }

    fn local_addr(&self) -> io::Result<Option<PeerCred>> {
        Ok(None)
    }
}

/// Serves greetings, and gives bodies back.
pub async fn serve(name: &str) -> io::Result<()> {
    let routes = Router::new()
        .route("/hello/{name}", get(|Path(name): Path<String>| async move { format!("hello, {name}") }))
        .route("/echo", post(|body: axum::body::Bytes| async move { body }));
    axum::serve(Clients(ByteListener::bind(name)?), routes).await
}

/// Makes a request for each of `requests` on one connection: a path, and a body to be posted if there is one.
pub async fn call(
    name: &str,
    requests: &[(&str, Option<Bytes>)],
) -> Result<Vec<(StatusCode, Bytes)>, Box<dyn Error>> {
    let stream = TokioIo::new(ByteStream::connect(name).await?);
    let (mut sender, connection) = hyper::client::conn::http1::handshake(stream).await?;
    tokio::spawn(connection);
    let mut answers = Vec::new();
    for (path, body) in requests {
        let method = if body.is_some() { "POST" } else { "GET" };
        let body = Full::new(body.clone().unwrap_or_default());
        let request = Request::builder().method(method).uri(*path).header("host", "ringway").body(body)?;
        let answer = sender.send_request(request).await?;
        let status = answer.status();
        answers.push((status, answer.into_body().collect().await?.to_bytes()));
    }
    Ok(answers)
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["serve", name] => serve(name).await?,
        ["get", name, path] => {
            for (status, body) in call(name, &[(path, None)]).await? {
                println!("{status}\n{}", String::from_utf8_lossy(&body));
            }
        }
        _ => return Err("say: serve NAME, or: get NAME PATH".into()),
    }
    Ok(())
}
