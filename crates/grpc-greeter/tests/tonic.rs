//! gRPC over ringway, with the server in another process.
#![allow(clippy::unwrap_used, reason = "what fails in a test may panic")]

#[path = "../../../tests/common/mod.rs"]
mod common;

use common::{DEADLINE, Peer, check, hang_guard, message, scratch_dir, wait_until};
use grpc_greeter::{GreeterClient, GreeterServer, Hello, PoliteGreeter};
use ringway::tokio::ByteListener;
use std::cell::RefCell;
use std::os::unix::net::UnixStream;
use std::rc::Rc;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Code;
use tonic::transport::{Channel, Endpoint, Server};

#[test]
fn peer_process() {
    common::run_role(&[("serve", role_serve)]);
}

/// Starts a server, and runs `calls` with a client of it.
fn served<F: Future<Output = ()>>(
    calls: impl FnOnce(GreeterClient<Channel>, Rc<RefCell<Peer>>, String) -> F,
) {
    let _guard = hang_guard();
    let scratch = scratch_dir();
    let socket = scratch.socket("greeter");
    let peer = Rc::new(RefCell::new(spawn_server(&socket)));
    block_on(async {
        let channel = endpoint().connect_with_connector(ringway::tonic::connector(&socket)).await.unwrap();
        let client = GreeterClient::new(channel)
            .max_decoding_message_size(64 << 20)
            .max_encoding_message_size(64 << 20);
        calls(client, Rc::clone(&peer), socket).await;
    });
}

fn endpoint() -> Endpoint {
    Endpoint::from_static("http://ringway")
}

fn spawn_server(socket: &str) -> Peer {
    let peer = Peer::spawn("serve", &[("SOCKET", socket)]);
    wait_until("the server listens", || UnixStream::connect(socket).is_ok());
    peer
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap()
        .block_on(future)
}

fn hello(number: u64, len: usize) -> Hello {
    Hello { name: format!("caller {number}"), times: 3, payload: message(number, len) }
}

#[test]
fn unary_calls_bring_the_payload_back() {
    served(|mut client, _, _| async move {
        for number in 0..300 {
            let len = if number % 100 == 99 { 3_000_000 } else { 100 };
            let greeting = client.greet(hello(number, len)).await.unwrap().into_inner();
            assert_eq!(greeting.text, format!("hello, caller {number}"));
            check(&greeting.payload, number, len);
        }
    });
}

#[test]
fn an_error_of_the_service_comes_back_as_one() {
    served(|mut client, _, _| async move {
        let status = client.greet(Hello::default()).await.unwrap_err();
        assert_eq!((status.code(), status.message()), (Code::InvalidArgument, "who is there?"));
        client.greet(hello(1, 10)).await.unwrap();
    });
}

#[test]
fn a_client_streams() {
    served(|mut client, _, _| async move {
        let hellos = tokio_stream::iter((0..200).map(|number| hello(number, 8_000)));
        let greeting = client.greet_all(hellos).await.unwrap().into_inner();
        assert_eq!(greeting.number, 200);
        for (number, payload) in greeting.payload.chunks(8_000).enumerate() {
            check(payload, number as u64, 8_000);
        }
        assert_eq!(greeting.payload.len(), 200 * 8_000);
    });
}

#[test]
fn a_server_streams() {
    served(|mut client, _, _| async move {
        let many = Hello { times: 1_000, ..hello(4, 2_000) };
        let mut greetings = client.greet_again(many).await.unwrap().into_inner();
        for number in 0..1_000 {
            let greeting = greetings.message().await.unwrap().unwrap();
            assert_eq!(greeting.number, number);
            check(&greeting.payload, 4, 2_000);
        }
        assert_eq!(greetings.message().await.unwrap(), None);
    });
}

#[test]
fn both_sides_stream_in_turn() {
    served(|mut client, _, _| async move {
        let (tell, hellos) = mpsc::channel(1);
        tell.send(hello(0, 50)).await.unwrap();
        let mut greetings = client.greet_each(ReceiverStream::new(hellos)).await.unwrap().into_inner();
        for number in 0..500 {
            let greeting = greetings.message().await.unwrap().unwrap();
            assert_eq!(greeting.number, number);
            check(&greeting.payload, number, 50);
            tell.send(hello(number + 1, 50)).await.unwrap();
        }
        drop(tell);
        assert_eq!(greetings.message().await.unwrap().unwrap().number, 500);
        assert_eq!(greetings.message().await.unwrap(), None);
    });
}

#[test]
fn many_calls_at_once_share_a_connection() {
    served(|client, _, _| async move {
        let calls: Vec<_> = (0..100)
            .map(|number| {
                let mut client = client.clone();
                tokio::spawn(async move {
                    let len = 1_000 * number as usize;
                    let greeting = client.greet(hello(number, len)).await.unwrap().into_inner();
                    check(&greeting.payload, number, len);
                })
            })
            .collect();
        for call in calls {
            call.await.unwrap();
        }
    });
}

#[test]
fn a_server_killed_in_the_middle_of_a_stream_is_an_error_and_its_successor_is_found() {
    served(|mut client, peer, socket| async move {
        let endless = Hello { times: u64::MAX, ..hello(4, 1_000) };
        let mut greetings = client.greet_again(endless).await.unwrap().into_inner();
        for _ in 0..10 {
            greetings.message().await.unwrap().unwrap();
        }
        peer.borrow_mut().kill9();
        let end = async {
            loop {
                match greetings.message().await {
                    Ok(Some(_)) => {}
                    outcome => return outcome,
                }
            }
        };
        let status = tokio::time::timeout(DEADLINE, end).await.expect("the stream hangs").unwrap_err();
        assert!(matches!(status.code(), Code::Unknown | Code::Unavailable | Code::Internal), "{status}");
        let unary = tokio::time::timeout(DEADLINE, client.greet(hello(1, 10))).await.expect("the call hangs");
        assert!(unary.is_err());
        let _successor = spawn_server(&socket);
        client.greet(hello(1, 10)).await.unwrap();
    });
}

#[test]
fn clients_that_say_nothing_or_nonsense_do_not_end_the_server() {
    served(|mut client, _, socket| async move {
        use std::io::Write;
        let silent = UnixStream::connect(&socket).unwrap();
        let mut liar = UnixStream::connect(&socket).unwrap();
        liar.write_all(&[7; 4096]).unwrap();
        // A connection, but no HTTP.
        let mut rude = ringway::connect(&socket).unwrap();
        rude.send(&[0xff; 10_000]).unwrap();
        client.greet(hello(1, 10)).await.unwrap();
        let other = endpoint().connect_with_connector(ringway::tonic::connector(&socket)).await.unwrap();
        GreeterClient::new(other).greet(hello(2, 10)).await.unwrap();
        drop((silent, liar, rude));
    });
}

fn role_serve() {
    block_on(async {
        let listener = ByteListener::bind(&common::variable("SOCKET")).unwrap();
        let greeter = GreeterServer::new(PoliteGreeter)
            .max_decoding_message_size(64 << 20)
            .max_encoding_message_size(64 << 20);
        let server = Server::builder().add_service(greeter);
        server.serve_with_incoming(ringway::tonic::incoming(listener)).await.unwrap();
    });
}
