//! The verbs for tasks, and byte streams, with peers that are real processes.
#![allow(clippy::unwrap_used, reason = "what fails in a test may panic")]

mod common;
#[path = "common/tasks.rs"]
mod tasks;

use common::{DEADLINE, Peer, check, hear, message, mixed_len, say, scratch_dir};
use futures_util::{SinkExt, StreamExt};
use ringway::tokio::{ByteListener, ByteStream, Connection, Listener, connect};
use ringway::{CloseReason, Config, TrySendError, Wait};
use std::cell::Cell;
use std::future::poll_fn;
use std::io::{ErrorKind, IoSlice};
use std::os::unix::net::UnixStream;
use std::pin::pin;
use std::time::Duration;
use tasks::{in_each_runtime, poll_at_most};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

#[test]
fn peer_process() {
    common::run_role(&[
        ("echo", role_echo),
        ("count", role_count),
        ("drip", role_drip),
        ("idle", role_idle),
        ("bytes", role_bytes),
        ("client", role_client),
        ("clients", role_clients),
    ]);
}

fn small() -> Config {
    Config::new().ring_bytes(16 << 10)
}

#[test]
fn both_halves_work_in_two_tasks_at_once() {
    for config in [small(), small().wait(Wait::Sleep)] {
        in_each_runtime(|| async {
            const COUNT: u64 = 20_000;
            let (peer, connection) = common::connected("echo", &[], &config);
            let (mut sender, mut receiver) = Connection::from(connection).split();
            let sending = async move {
                for number in 0..COUNT {
                    // Some need fragments.
                    let max = if number % 100 == 0 { 30_000 } else { 900 };
                    sender.send(&message(number, mixed_len(number, max))).await.unwrap();
                }
            };
            let receiving = async move {
                for number in 0..COUNT {
                    let max = if number % 100 == 0 { 30_000 } else { 900 };
                    check(&receiver.recv().await.unwrap(), number, mixed_len(number, max));
                }
                let end = receiver.recv().await.unwrap_err();
                assert_eq!(end.reason(), &CloseReason::PeerClosed);
            };
            tokio::join!(sending, receiving);
            peer.finish();
        });
    }
}

#[test]
fn a_receive_dropped_after_any_number_of_polls_loses_nothing() {
    in_each_runtime(|| async {
        let (peer, connection) = common::connected("drip", &[], &Config::new());
        let mut connection = Connection::from(connection);
        let (mut next, mut attempts, mut dropped) = (0, 0, 0);
        while next < 600 {
            attempts += 1;
            let outcome =
                poll_at_most(attempts % 9, async { connection.recv().await.map(|message| message.to_vec()) });
            match outcome.await {
                Some(message) => {
                    check(&message.unwrap(), next, 64);
                    next += 1;
                }
                None => dropped += 1,
            }
            if attempts % 3 == 0 {
                tokio::task::yield_now().await;
            }
        }
        // Every ninth is not even polled once; how many more are dropped depends on the machine.
        assert!(dropped > 600 / 9, "{dropped} futures were dropped");
        assert_eq!(connection.recv().await.unwrap_err().reason(), &CloseReason::PeerClosed);
        peer.finish();
    });
}

#[test]
fn a_send_dropped_after_any_number_of_polls_sends_nothing_and_may_be_repeated() {
    in_each_runtime(|| async {
        let (mut peer, connection) = common::connected("count", &[], &small());
        let (mut sender, receiver) = Connection::from(connection).split();
        let (mut number, mut attempts, mut dropped) = (0, 0, 0);
        while number < 400 {
            attempts += 1;
            // Three of four are longer than the ring.
            let len = if number % 4 == 0 { 3_000 } else { 40_000 };
            match poll_at_most(attempts % 13, sender.send(&message(number, len))).await {
                Some(sent) => {
                    sent.unwrap();
                    number += 1;
                }
                None => dropped += 1,
            }
        }
        // Every thirteenth is not even polled once; how many more are dropped depends on the machine.
        assert!(dropped > 400 / 13, "{dropped} futures were dropped");
        drop((sender, receiver));
        peer.expect_line("400");
        peer.finish();
    });
}

#[test]
fn accepting_dropped_after_any_number_of_polls_loses_nobody() {
    in_each_runtime(|| async {
        let scratch = scratch_dir();
        let socket = scratch.socket("test");
        let mut listener = Listener::bind(&socket).unwrap();
        let peer = Peer::spawn("clients", &[("SOCKET", &socket)]);
        let mut attempts = 0;
        let mut connections = Vec::new();
        while connections.len() < 20 {
            attempts += 1;
            if let Some(accepted) = poll_at_most(attempts % 4, listener.accept()).await {
                connections.push(accepted.unwrap());
            }
            tokio::task::yield_now().await;
        }
        for connection in &mut connections {
            let message = connection.recv().await.unwrap().to_vec();
            check(&message, 3, 100);
            connection.send(&message).await.unwrap();
        }
        peer.finish();
        assert_eq!(listener.blocking().refused(), 0);
    });
}

#[test]
fn a_client_that_says_nothing_holds_up_nobody() {
    in_each_runtime(|| async {
        let scratch = scratch_dir();
        let socket = scratch.socket("test");
        let config = Config::new().handshake_timeout(Duration::from_millis(50));
        let mut listener = Listener::from(config.bind(&socket).unwrap());
        let silent: Vec<UnixStream> = (0..5).map(|_| UnixStream::connect(&socket).unwrap()).collect();
        let peer = Peer::spawn("client", &[("SOCKET", &socket)]);
        let mut connection = listener.accept().await.unwrap();
        let message = connection.recv().await.unwrap().to_vec();
        connection.send(&message).await.unwrap();
        // Nobody else comes: the deadlines alone must wake it.
        while listener.blocking().refused() < silent.len() as u64 {
            let _ = timeout(Duration::from_millis(5), listener.accept()).await;
        }
        peer.finish();
    });
}

#[test]
fn idle_connections_are_not_polled() {
    in_each_runtime(|| async {
        let polls = std::rc::Rc::new(Cell::new(0_u64));
        let local = tokio::task::LocalSet::new();
        let mut ends = Vec::new();
        for _ in 0..50 {
            let (here, there) = ringway::pair(&small()).unwrap();
            ends.push(here);
            let polls = std::rc::Rc::clone(&polls);
            local.spawn_local(async move {
                let mut connection = Connection::from(there);
                let mut receiving = pin!(connection.recv());
                poll_fn(|cx| {
                    polls.set(polls.get() + 1);
                    receiving.as_mut().poll(cx).map(|received| assert!(received.is_ok()))
                })
                .await;
            });
        }
        let watching = async {
            // They spin for at most 100 us each, then nothing happens any more.
            let mut before = u64::MAX;
            while before != polls.get() {
                before = polls.get();
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
            tokio::time::sleep(Duration::from_millis(300)).await;
            assert_eq!(polls.get(), before, "somebody was polled although nothing happened");
            for end in &mut ends {
                end.send(b"x").unwrap();
            }
        };
        local.run_until(watching).await;
        local.await;
    });
}

#[test]
fn a_killed_peer_ends_both_waits() {
    in_each_runtime(|| async {
        let (mut peer, connection) = common::connected("idle", &[], &small());
        let (mut sender, mut receiver) = Connection::from(connection).split();
        peer.expect_line("ready");
        while !matches!(sender.try_send(&[7; 1000]), Err(TrySendError::Full)) {}
        let died = CloseReason::PeerDied { pid: peer.pid() };
        let killing = async {
            tokio::task::yield_now().await;
            peer.kill9();
        };
        let (sent, received, ()) = tokio::join!(
            sender.send(&[7; 1000]),
            async { receiver.recv().await.map(|_| ()).unwrap_err() },
            killing
        );
        assert_eq!(sent, Err(ringway::SendError::Closed(died.clone())));
        assert_eq!(received.reason(), &died);
    });
}

#[test]
fn sink_and_stream_carry_every_message() {
    in_each_runtime(|| async {
        let (peer, connection) = common::connected("echo", &[], &small());
        let (sender, receiver) = Connection::from(connection).split();
        let mut sink = sender.into_sink::<Vec<u8>>();
        let sending = async move {
            for number in 0..5_000 {
                let max = if number % 100 == 0 { 30_000 } else { 900 };
                sink.feed(message(number, mixed_len(number, max))).await.unwrap();
            }
            sink.close().await.unwrap();
            assert!(sink.send(vec![1]).await.is_err());
        };
        let receiving = receiver.fold(0, |number, received| async move {
            let max = if number % 100 == 0 { 30_000 } else { 900 };
            check(&received.unwrap(), number, mixed_len(number, max));
            number + 1
        });
        let ((), count) = tokio::join!(sending, receiving);
        assert_eq!(count, 5_000);
        peer.finish();
    });
}

#[test]
fn bytes_go_there_and_back_and_each_direction_ends_by_itself() {
    in_each_runtime(|| async {
        const LEN: usize = 2_000_000;
        let (peer, connection) = common::connected("bytes", &[], &small());
        let stream = ByteStream::from(connection);
        assert!(tokio::io::AsyncWrite::is_write_vectored(&stream));
        let (mut reader, mut writer) = stream.into_split();
        let sent = message(5, LEN);
        let writing = async move {
            for piece in sent.chunks(7_777) {
                let (head, tail) = piece.split_at(piece.len() / 2);
                let bytes = writer.write_vectored(&[head, tail].map(IoSlice::new)).await.unwrap();
                writer.write_all(&piece[bytes..]).await.unwrap();
            }
            writer.flush().await.unwrap();
            writer.shutdown().await.unwrap();
            assert_eq!(writer.write(b"x").await.unwrap_err().kind(), ErrorKind::BrokenPipe);
        };
        let reading = async move {
            let mut received = Vec::new();
            reader.read_to_end(&mut received).await.unwrap();
            check(&received, 5, LEN);
        };
        tokio::join!(writing, reading);
        peer.finish();
    });
}

#[test]
fn a_killed_peer_is_a_reset_of_the_stream() {
    in_each_runtime(|| async {
        let (mut peer, connection) = common::connected("idle", &[], &small());
        let mut stream = ByteStream::from(connection);
        peer.expect_line("ready");
        let (read, ()) = tokio::join!(stream.read_u8(), async { peer.kill9() });
        assert_eq!(read.unwrap_err().kind(), ErrorKind::ConnectionReset);
        assert_eq!(stream.write(b"x").await.unwrap_err().kind(), ErrorKind::BrokenPipe);
    });
}

#[test]
fn a_listener_of_byte_streams_serves_clients() {
    in_each_runtime(|| async {
        let scratch = scratch_dir();
        let socket = scratch.socket("test");
        let mut listener = ByteListener::bind(&socket).unwrap();
        let calling = async {
            let mut stream = ByteStream::connect(&socket).await.unwrap();
            stream.write_all(b"hello").await.unwrap();
            stream.shutdown().await.unwrap();
            let mut text = String::new();
            stream.read_to_string(&mut text).await.unwrap();
            text
        };
        let answering = async {
            let (stream, cred) = listener.accept().await.unwrap();
            assert_eq!(cred.pid, std::process::id());
            let (mut reader, mut writer) = stream.into_split();
            tokio::io::copy_buf(&mut reader, &mut writer).await.unwrap();
        };
        let (text, ()) = tokio::join!(calling, answering);
        assert_eq!(text, "hello");
        let nobody = connect("/nowhere/at.all").await.map(|_| ()).unwrap_err();
        assert!(nobody.to_string().contains("/nowhere/at.all"), "{nobody}");
    });
}

#[test]
fn a_listener_lets_in_who_comes_after_many_that_say_nothing() {
    in_each_runtime(|| async {
        let scratch = scratch_dir();
        let socket = scratch.socket("test");
        let config = Config::new().handshake_timeout(4 * DEADLINE);
        let mut listener = Listener::from(config.bind(&socket).unwrap());
        // More than the listener takes out of its queue at once, and fewer than anybody is turned out for.
        let silent: Vec<_> = (0..150).map(|_| UnixStream::connect(&socket).unwrap()).collect();
        let peer = Peer::spawn("client", &[("SOCKET", &socket)]);
        let accepted = timeout(DEADLINE / 4, listener.accept()).await.expect("the client was let in");
        let mut connection = accepted.unwrap();
        check(&connection.recv().await.unwrap(), 3, 100);
        connection.send(&message(3, 100)).await.unwrap();
        peer.finish();
        drop(silent);
    });
}

fn role_echo() {
    let (mut sender, mut receiver) = common::join(&small()).split();
    while let Ok(message) = receiver.recv() {
        sender.send(&message).unwrap();
    }
}

fn role_count() {
    let mut connection = common::join(&small());
    let mut number = 0;
    while let Ok(message) = connection.recv() {
        check(&message, number, if number % 4 == 0 { 3_000 } else { 40_000 });
        number += 1;
    }
    say(&number.to_string());
}

/// Sends with pauses of every length around that of the spinning.
fn role_drip() {
    let mut connection = common::join(&Config::new());
    for number in 0..600 {
        connection.send(&message(number, 64)).unwrap();
        let pause = Duration::from_micros(number % 40 * 10);
        assert_eq!(connection.recv_timeout(pause).map(|_| ()), Err(ringway::RecvTimeoutError::Timeout));
    }
}

fn role_idle() {
    let _connection = common::join(&small());
    say("ready");
    hear();
}

fn role_bytes() {
    let (mut reader, mut writer) = ringway::ByteStream::from(common::join(&small())).into_split();
    std::io::copy(&mut reader, &mut writer).unwrap();
}

fn role_client() {
    let mut connection = common::join(&Config::new());
    connection.send(&message(3, 100)).unwrap();
    check(&connection.recv_timeout(DEADLINE).unwrap(), 3, 100);
}

fn role_clients() {
    let clients: Vec<_> = (0..20).map(|_| std::thread::spawn(role_client)).collect();
    clients.into_iter().for_each(|client| client.join().unwrap());
}
