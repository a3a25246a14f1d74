//! The parts over gRPC: the same service and the same runtime (of one thread, on each side) over ringway and over a Unix
//! socket.

use super::link;
use super::parts::{self, Ask, is_over};
use super::{Keep, Outcome, Role, Stage};
use crate::case::{Case, Transport, Work};
use crate::content;
use crate::timing::shared_nanos;
use anyhow::{Context, Result, anyhow, bail};
use grpc_greeter::{GreeterClient, GreeterServer, Hello, PoliteGreeter};
use ringway::tokio::{ByteListener, Listener};
use std::sync::mpsc::{self, Sender};
use std::thread;
use tokio::net::UnixListener;
use tokio::runtime::{Builder, Runtime};
use tokio_stream::wrappers::UnixListenerStream;
use tonic::Request;
use tonic::metadata::MetadataValue;
use tonic::transport::{Channel, Endpoint, Server};

/// Plays a part over gRPC.
pub fn play(stage: &Stage) -> Result<(Outcome, Keep)> {
    if stage.job.role == Role::Server {
        return serve(stage);
    }
    let runtime = runtime()?;
    let channel = runtime.block_on(connect(stage))?;
    let mut client = Client { runtime, greeter: GreeterClient::new(channel), answer: Vec::new() };
    let outcome = match stage.job.case.work {
        Work::Rtt => parts::call(stage, &mut client),
        Work::Stream => client.drain(stage),
        _ => bail!("no such work over gRPC"),
    }?;
    let mut last = Request::new(Hello { name: "nobody".to_owned(), ..Hello::default() });
    last.metadata_mut().insert(LEAVE, MetadataValue::from_static("now"));
    client.runtime.block_on(client.greeter.greet(last)).context("cannot take leave")?;
    Ok((outcome, Box::new(client.runtime)))
}

fn serve(stage: &Stage) -> Result<(Outcome, Keep)> {
    let transport = stage.job.case.transport;
    let (config, name) = (stage.job.case.config(), link::name(stage)?);
    let (leave, left) = mpsc::channel();
    let (bound, is_bound) = mpsc::channel();
    // Clients are served from when they connect; what they do before they begin is not counted.
    let server = thread::spawn(move || -> Result<()> {
        let server = Server::builder().add_service(GreeterServer::with_interceptor(
            PoliteGreeter,
            move |request: Request<()>| {
                note_leave(&request, &leave);
                Ok(request)
            },
        ));
        runtime()?.block_on(async {
            if transport == Transport::Tonic {
                let listener = Listener::from(config.bind(&name).context("cannot listen")?);
                let _ = bound.send(());
                server.serve_with_incoming(ringway::tonic::incoming(ByteListener::from(listener))).await?;
            } else {
                let listener = UnixListener::bind(&name).context("cannot listen")?;
                let _ = bound.send(());
                server.serve_with_incoming(UnixListenerStream::new(listener)).await?;
            }
            Ok(())
        })
    });
    if is_bound.recv().is_err() {
        return Err(ended(server));
    }
    stage.listening()?;
    let before = stage.ready()?;
    match left.recv() {
        Ok(()) => Ok((Outcome::default().since(before), Box::new(server))),
        Err(_) => Err(ended(server)),
    }
}

fn note_leave(request: &Request<()>, leave: &Sender<()>) {
    if request.metadata().contains_key(LEAVE) {
        // The main thread is gone only if the whole process ends.
        let _ = leave.send(());
    }
}

/// Says why a server is not there any more.
fn ended(server: thread::JoinHandle<Result<()>>) -> anyhow::Error {
    match server.join() {
        Ok(Err(error)) => error,
        Ok(Ok(())) => anyhow!("the server has ended"),
        Err(_) => anyhow!("the server panicked"),
    }
}

async fn connect(stage: &Stage) -> Result<Channel> {
    let name = link::name(stage)?;
    let channel = if stage.job.case.transport == Transport::Tonic {
        let connector = ringway::tonic::Connector::new(&stage.job.case.config(), &name);
        Endpoint::from_static("http://ringway").connect_with_connector(connector).await
    } else {
        Endpoint::from_shared(format!("unix://{name}"))?.connect().await
    };
    channel.context("cannot connect")
}

struct Client {
    runtime: Runtime,
    greeter: GreeterClient<Channel>,
    answer: Vec<u8>,
}

impl Ask for &mut Client {
    fn ask(&mut self, request: &[u8]) -> Result<&[u8]> {
        let hello = Hello { name: NAME.to_owned(), payload: request.to_vec(), ..Hello::default() };
        let greeting = self.runtime.block_on(self.greeter.greet(hello)).context("a call failed")?;
        self.answer = greeting.into_inner().payload;
        Ok(&self.answer)
    }
}

impl Client {
    /// Asks for one streamed response after the other; each message has its number, and all of a response the same payload.
    fn drain(&mut self, stage: &Stage) -> Result<Outcome> {
        let Case { bytes, length, .. } = stage.job.case;
        let number = stage.job.number;
        let before = stage.ready()?;
        let began = shared_nanos();
        let mut outcome = Outcome::default();
        let mut payload = vec![0; bytes];
        let mut responses = 0;
        while !is_over(length, outcome.sent, shared_nanos() - began) {
            content::fill(&mut payload, number, responses);
            let hello = Hello { name: NAME.to_owned(), times: PARTS, payload: payload.clone() };
            outcome.sent += PARTS;
            self.runtime.block_on(async {
                let mut parts = self.greeter.greet_again(hello).await.context("a call failed")?.into_inner();
                let mut next = 0;
                while let Some(part) = parts.message().await.context("a stream failed")? {
                    let whole = content::check(&part.payload, number, bytes) == Ok(responses);
                    if whole && part.number == next {
                        outcome.delivered += 1;
                    } else {
                        outcome.corrupt += 1;
                    }
                    next += 1;
                }
                anyhow::Ok(())
            })?;
            responses += 1;
        }
        outcome.span = Some((began, shared_nanos()));
        outcome.timed = outcome.delivered;
        Ok(outcome.since(before))
    }
}

fn runtime() -> Result<Runtime> {
    Builder::new_current_thread().enable_all().build().context("cannot make a runtime")
}

const NAME: &str = "bench";
/// Messages of a streamed response.
const PARTS: u64 = 1024;
/// What the metadata of a client's last call has.
const LEAVE: &str = "leave";
