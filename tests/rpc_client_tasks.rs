//! The client in tasks of tokio, beside threads, against a server in another process.
#![cfg(all(feature = "rpc", feature = "tokio"))]
#![allow(clippy::unwrap_used, reason = "what fails in a test may panic")]

mod common;
#[path = "rpc_client/stand_in.rs"]
mod stand_in;

use common::{DEADLINE, HangGuard, Peer, Scratch, check, hang_guard, message, mixed_len, scratch_dir};
use ringway::rpc::{CallError, Client};
use ringway::{CloseReason, Config, Wait};
use stand_in::{Seen, kind};
use std::future::Future;
use std::task::{Context, Poll, Waker};
use std::thread;
use std::time::Duration;
use tokio::runtime::{Builder, Runtime};

#[test]
fn peer_process() {
    common::run_role(&[("server", stand_in::role)]);
}

struct Fixture {
    _guard: HangGuard,
    _scratch: Scratch,
    socket: String,
    server: Peer,
}

fn fixture() -> Fixture {
    let _guard = hang_guard();
    let _scratch = scratch_dir();
    let socket = _scratch.socket("test");
    let server = start(&socket);
    Fixture { _guard, _scratch, socket, server }
}

fn start(socket: &str) -> Peer {
    let mut server = Peer::spawn("server", &[("SOCKET", socket), ("CALLS_MAX", "16"), ("WAIT", "auto")]);
    server.expect_line("ready");
    server
}

fn client(fixture: &Fixture, wait: Wait) -> Client {
    let config = Config::new().wait(wait).ring_bytes(16 << 10);
    Client::builder().config(config).connect(&fixture.socket).unwrap()
}

fn runtimes() -> [Runtime; 2] {
    [
        Builder::new_current_thread().enable_all().build().unwrap(),
        Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap(),
    ]
}

fn plan(parts: u32, bytes: u32) -> [u8; 8] {
    let mut plan = [0; 8];
    plan[..4].copy_from_slice(&parts.to_le_bytes());
    plan[4..].copy_from_slice(&bytes.to_le_bytes());
    plan
}

async fn echo(client: &Client, number: u64, len: usize) {
    check(&client.call_async(kind::ECHO, &message(number, len)).await.unwrap(), number, len);
}

/// More tasks than the server accepts calls, with bodies of up to six times the ring.
async fn many_tasks(client: &Client, rounds: u64) {
    let tasks: Vec<_> = (0..32_u64)
        .map(|caller| {
            let client = client.clone();
            tokio::spawn(async move {
                for round in 0..rounds {
                    let number = caller << 32 | round;
                    let len = mixed_len(number, if round % 20 == 0 { 100_000 } else { 500 });
                    echo(&client, number, len).await;
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
}

#[test]
fn many_tasks_get_their_own_answers() {
    for wait in [Wait::Auto, Wait::Sleep] {
        for runtime in runtimes() {
            let fixture = fixture();
            let client = client(&fixture, wait);
            runtime.block_on(many_tasks(&client, 100));
            assert_eq!(Seen::ask(&client).of(kind::ECHO), 3_200);
        }
    }
}

#[test]
fn threads_and_tasks_share_a_client() {
    for runtime in runtimes() {
        let fixture = fixture();
        let client = client(&fixture, Wait::Auto);
        thread::scope(|scope| {
            for caller in 0..4_u64 {
                let client = &client;
                scope.spawn(move || {
                    for round in 0..500 {
                        let number = (caller + 100) << 32 | round;
                        check(&client.call(kind::ECHO, &message(number, 200)).unwrap(), number, 200);
                    }
                });
            }
            runtime.block_on(many_tasks(&client, 50));
        });
        assert_eq!(Seen::ask(&client).of(kind::ECHO), 2_000 + 1_600);
    }
}

#[test]
fn streams_come_in_parts_and_are_held_back() {
    for runtime in runtimes() {
        let fixture = fixture();
        let client = client(&fixture, Wait::Auto);
        runtime.block_on(async {
            let request = client.request(kind::STREAM).window(10_000);
            let mut slow = request.stream_async(&plan(300, 1_000)).await.unwrap();
            for number in 0..50 {
                echo(&client, number, 300).await;
            }
            for number in 0..300 {
                check(&slow.next().await.unwrap().unwrap(), number, 1_000);
            }
            assert!(slow.next().await.is_none() && slow.next().await.is_none());
            let bytes = client.call_async(kind::STREAMED, &()).await.unwrap();
            assert!(u64::from_le_bytes((*bytes).try_into().unwrap()) <= 11_000);
            drop(client.call_async(kind::ECHO, &()).await.unwrap());
        });
    }
}

#[test]
fn a_call_that_is_dropped_at_any_point_is_cancelled_and_leaves_nothing_behind() {
    for runtime in runtimes() {
        let fixture = fixture();
        let client = client(&fixture, Wait::Auto);
        runtime.block_on(async {
            for (kind, len) in [(kind::ECHO, 10), (kind::ECHO, 60_000), (kind::NEVER, 10)] {
                for polls in 0..200 {
                    let body = message(polls, len);
                    let mut call = Box::pin(client.call_async(kind, &body));
                    for _ in 0..polls {
                        let polled = call.as_mut().poll(&mut Context::from_waker(Waker::noop()));
                        if let Poll::Ready(response) = polled {
                            check(&response.unwrap(), polls, len);
                            break;
                        }
                        tokio::task::yield_now().await;
                    }
                    // The next call finds everything in order.
                    drop(call);
                    if polls % 10 == 0 {
                        echo(&client, polls, 100).await;
                    }
                }
            }
            // All places at the server are free again.
            many_tasks(&client, 5).await;
        });
        let seen = Seen::ask(&client);
        assert!(seen.cancels() >= seen.of(kind::NEVER), "{} of {}", seen.cancels(), seen.of(kind::NEVER));
        assert!(seen.of(kind::NEVER) > 100);
    }
}

#[test]
fn calls_of_tasks_end_with_their_time() {
    for runtime in runtimes() {
        let fixture = fixture();
        let client = client(&fixture, Wait::Auto);
        runtime.block_on(async {
            let call = client.request(kind::NEVER).timeout(Duration::from_millis(20));
            let error = call.call_async(&()).await.unwrap_err();
            assert!(matches!(error, CallError::Timeout { sent: true }), "{error:?}");
            echo(&client, 1, 100).await;
        });
        assert_eq!(Seen::ask(&client).cancels(), 1);
    }
}

#[test]
fn tasks_are_told_of_a_death_and_go_on_with_the_next_server() {
    for runtime in runtimes() {
        let mut fixture = fixture();
        let client = client(&fixture, Wait::Auto);
        runtime.block_on(async {
            let pending: Vec<_> = (0..4)
                .map(|_| {
                    let client = client.clone();
                    tokio::spawn(async move { client.call_async(kind::NEVER, &()).await.unwrap_err() })
                })
                .collect();
            while Seen::ask_async(&client).await.of(kind::NEVER) < 4 {}
            fixture.server.kill9();
            for call in pending {
                match call.await.unwrap() {
                    CallError::Lost { may_have_run: true, reason: CloseReason::PeerDied { .. } } => {}
                    other => panic!("{other:?}"),
                }
            }
            fixture.server = start(&fixture.socket);
            echo(&client, 1, 100).await;
        });
    }
}

#[test]
fn a_runtime_that_ends_leaves_the_client_to_the_next() {
    let fixture = fixture();
    let client = client(&fixture, Wait::Sleep);
    for runtime in runtimes() {
        runtime.spawn({
            let client = client.clone();
            async move { client.call_async(kind::NEVER, &()).await }
        });
        runtime.block_on(many_tasks(&client, 5));
        drop(runtime);
        check(&client.call_timeout(kind::ECHO, &message(3, 30), DEADLINE).unwrap(), 3, 30);
    }
}

#[test]
fn a_stopped_server_is_found_by_the_heartbeat_of_tasks() {
    for runtime in runtimes() {
        let fixture = fixture();
        let client = Client::builder().heartbeat(Duration::from_millis(20)).connect(&fixture.socket).unwrap();
        runtime.block_on(async {
            echo(&client, 1, 10).await;
            fixture.server.stop();
            match client.call_async(kind::ECHO, &()).await.unwrap_err() {
                CallError::Lost { may_have_run: true, reason: CloseReason::PeerSilent } => {}
                other => panic!("{other:?}"),
            }
            fixture.server.go_on();
        });
    }
}

/// Makes a call again as long as the server says that it is not to be found.
#[cfg(feature = "tower")]
#[derive(Clone)]
struct Again(u32);

#[cfg(feature = "tower")]
impl tower::retry::Policy<String, String, CallError> for Again {
    type Future = std::future::Ready<()>;

    fn retry(
        &mut self,
        request: &mut String,
        result: &mut Result<String, CallError>,
    ) -> Option<Self::Future> {
        let again = result.is_err() && self.0 > 0;
        *request = "at last".to_owned();
        self.0 = self.0.saturating_sub(1);
        again.then(|| std::future::ready(()))
    }

    fn clone_request(&mut self, request: &String) -> Option<String> {
        Some(request.clone())
    }
}

#[cfg(feature = "tower")]
#[test]
fn the_layers_of_tower_fit_around_a_client() {
    use tower::{ServiceBuilder, ServiceExt};
    for runtime in runtimes() {
        let fixture = fixture();
        let client = client(&fixture, Wait::Auto);
        runtime.block_on(async {
            let limited = ServiceBuilder::new()
                .timeout(DEADLINE)
                .concurrency_limit(2)
                .service(client.service::<String, String>(kind::ECHO));
            let calls: Vec<_> = (0..50)
                .map(|number: u32| tokio::spawn(limited.clone().oneshot(number.to_string())))
                .collect();
            for (number, call) in calls.into_iter().enumerate() {
                assert_eq!(call.await.unwrap().unwrap(), number.to_string());
            }
            let slow = ServiceBuilder::new()
                .timeout(Duration::from_millis(20))
                .service(client.service::<String, String>(kind::NEVER));
            let error = slow.oneshot(String::new()).await.unwrap_err();
            assert!(error.is::<tower::timeout::error::Elapsed>(), "{error}");
            let retried =
                ServiceBuilder::new().retry(Again(3)).service(client.service::<String, String>(kind::FAIL));
            let error = retried.oneshot("first".to_owned()).await.unwrap_err();
            assert_eq!(error.failure().unwrap().text(), "at last");
        });
        let seen = Seen::ask(&client);
        assert_eq!((seen.of(kind::ECHO), seen.of(kind::NEVER), seen.of(kind::FAIL)), (50, 1, 4));
        assert_eq!(seen.cancels(), 1, "what tower timed out was cancelled");
    }
}

#[test]
fn a_stopped_server_is_found_by_the_heartbeat_while_a_task_waits_for_room() {
    for runtime in runtimes() {
        let fixture = fixture();
        let config = Config::new().ring_bytes(16 << 10);
        let builder = Client::builder().config(config).heartbeat(Duration::from_millis(20));
        let client = builder.reconnect_never().connect(&fixture.socket).unwrap();
        runtime.block_on(async {
            echo(&client, 1, 10).await;
            fixture.server.stop();
            let call = client.request(kind::ECHO).timeout(DEADLINE / 4);
            match call.call_async(&vec![7; 300_000]).await.unwrap_err() {
                CallError::Lost { may_have_run: false, reason: CloseReason::PeerSilent } => {}
                other => panic!("{other:?}"),
            }
            fixture.server.go_on();
        });
    }
}
