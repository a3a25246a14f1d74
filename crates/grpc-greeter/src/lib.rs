//! A gRPC service with one method of each kind, for tests and benchmarks of ringway.

/// What the compiler of the service made.
#[allow(missing_docs, reason = "generated")]
mod generated {
    tonic::include_proto!("ringway.greeter");
}

pub use generated::greeter_client::GreeterClient;
pub use generated::greeter_server::GreeterServer;
pub use generated::{Greeting, Hello};

use generated::greeter_server::Greeter;
use std::pin::Pin;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tokio_stream::{Stream, StreamExt};
use tonic::{Request, Response, Status, Streaming};

/// The service: says hello, and gives the payload back.
#[derive(Debug, Default)]
pub struct PoliteGreeter;

type Greetings = Pin<Box<dyn Stream<Item = Result<Greeting, Status>> + Send>>;

#[tonic::async_trait]
impl Greeter for PoliteGreeter {
    async fn greet(&self, request: Request<Hello>) -> Result<Response<Greeting>, Status> {
        let hello = request.into_inner();
        if hello.name.is_empty() {
            return Err(Status::invalid_argument("who is there?"));
        }
        Ok(Response::new(greeting(hello, 0)))
    }

    async fn greet_all(&self, request: Request<Streaming<Hello>>) -> Result<Response<Greeting>, Status> {
        let mut hellos = request.into_inner();
        let (mut names, mut payload) = (Vec::new(), Vec::new());
        while let Some(hello) = hellos.message().await? {
            names.push(hello.name);
            payload.extend_from_slice(&hello.payload);
        }
        let number = names.len() as u64;
        Ok(Response::new(Greeting { text: format!("hello, {}", names.join(" and ")), number, payload }))
    }

    type GreetAgainStream = Greetings;

    async fn greet_again(&self, request: Request<Hello>) -> Result<Response<Greetings>, Status> {
        let hello = request.into_inner();
        let (tell, greetings) = mpsc::channel(16);
        tokio::spawn(async move {
            for number in 0..hello.times {
                if tell.send(Ok(greeting(hello.clone(), number))).await.is_err() {
                    break;
                }
            }
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(greetings))))
    }

    type GreetEachStream = Greetings;

    async fn greet_each(&self, request: Request<Streaming<Hello>>) -> Result<Response<Greetings>, Status> {
        let mut number = 0;
        let greetings = request.into_inner().map(move |hello| {
            number += 1;
            Ok(greeting(hello?, number - 1))
        });
        Ok(Response::new(Box::pin(greetings)))
    }
}

fn greeting(hello: Hello, number: u64) -> Greeting {
    Greeting { text: format!("hello, {}", hello.name), number, payload: hello.payload }
}
