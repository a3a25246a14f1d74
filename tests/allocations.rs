//! No heap allocation on the path of a message, on either side, on rings that really carry data.
//!
//! Each process counts the allocations of the thread that sends or receives, from the moment when the largest message
//! was seen until the last of a hundred thousand, and says its count.
#![allow(clippy::unwrap_used, reason = "what fails in a test may panic")]

mod common;
mod counting;

use common::{check, fill, hang_guard, mixed_len, say, variable};
use ringway::{Config, Connection, Receiver, Sender, TryRecvError, TrySendError, Wait};
use std::thread;

#[test]
fn peer_process() {
    common::run_role(&[("stream", role_stream), ("answer", role_answer)]);
}

#[test]
fn the_counter_counts() {
    let count = counted(|| drop(std::hint::black_box(vec![1, 2, 3])));
    assert_eq!(count, 1);
}

#[test]
fn the_waiting_verbs_allocate_nothing() {
    stream("wait", &config());
}

#[test]
fn the_verbs_that_never_wait_allocate_nothing() {
    stream("try", &config());
}

#[test]
fn batches_allocate_nothing() {
    stream("batch", &config());
}

#[test]
fn claims_allocate_nothing() {
    stream("claim", &config());
}

#[test]
fn borrowed_messages_allocate_nothing() {
    // SAFETY: the peer is this test program, which never writes to a message after sending it.
    stream("borrow", &unsafe { config().trust_peer() });
}

#[test]
fn falling_asleep_and_being_woken_allocate_nothing() {
    let _guard = hang_guard();
    let config = config().wait(Wait::Sleep);
    let (mut peer, mut connection) = common::connected("answer", &[], &config);
    let mut buffer = vec![0; LEN_MAX];
    let mut ask = |connection: &mut Connection, number| {
        let len = mixed_len(number, LEN_MAX);
        fill(&mut buffer[..len], number);
        connection.send(&buffer[..len]).unwrap();
        check(&connection.recv().unwrap(), number, len);
    };
    for number in 0..WARM_UP {
        ask(&mut connection, number);
    }
    let before = connection.stats();
    let count = counted(|| {
        for number in WARM_UP..WARM_UP + ANSWERS {
            ask(&mut connection, number);
        }
    });
    assert_eq!(count, 0, "allocations of the asking side");
    assert_eq!(peer.next_number(), 0, "allocations of the answering side");
    let slept = connection.stats().data_sleeps - before.data_sleeps;
    assert!(slept > ANSWERS / 100, "slept {slept} times in {ANSWERS} waits");
    drop(connection);
    peer.finish();
}

/// Receives a stream that the other process sends with the same verb, and checks both counts.
fn stream(verb: &str, config: &Config) {
    let _guard = hang_guard();
    let (mut peer, mut connection) = common::connected("stream", &[("VERB", verb)], config);
    let receiver = connection.receiver();
    let mut number = 0;
    while number < WARM_UP {
        number += receive(receiver, verb, number);
    }
    let count = counted(|| {
        while number < WARM_UP + MESSAGES {
            number += receive(receiver, verb, number);
        }
    });
    assert_eq!(count, 0, "allocations of the receiving side");
    assert_eq!(peer.next_number(), 0, "allocations of the sending side");
    let (messages, bytes) = (connection.stats().received_messages, connection.stats().received_bytes);
    assert_eq!(messages, WARM_UP + MESSAGES);
    assert_eq!(bytes, (0..messages).map(|number| mixed_len(number, LEN_MAX) as u64).sum::<u64>());
    peer.finish();
}

/// Receives and checks what is next, and returns how many messages that were.
fn receive(receiver: &mut Receiver, verb: &str, number: u64) -> u64 {
    match verb {
        "batch" => {
            let mut next = number;
            let count = receiver.try_recv_batch(16, |bytes| {
                check(bytes, next, mixed_len(next, LEN_MAX));
                next += 1;
            });
            match count {
                Ok(count) => count as u64,
                Err(TryRecvError::Empty) => give_way(),
                Err(error) => panic!("message {number}: {error}"),
            }
        }
        "try" => match receiver.try_recv() {
            Ok(message) => {
                check(&message, number, mixed_len(number, LEN_MAX));
                1
            }
            Err(TryRecvError::Empty) => give_way(),
            Err(error) => panic!("message {number}: {error}"),
        },
        _ => {
            let message = receiver.recv().unwrap();
            assert_eq!(message.is_borrowed(), verb == "borrow");
            check(&message, number, mixed_len(number, LEN_MAX));
            1
        }
    }
}

fn give_way() -> u64 {
    thread::yield_now();
    0
}

fn role_stream() {
    let (mut sender, _receiver) = common::join(&config()).split();
    let verb = variable("VERB");
    let mut buffer = [[0; LEN_MAX]; 16];
    let mut number = 0;
    while number < WARM_UP {
        number += send(&mut sender, &verb, number, WARM_UP, &mut buffer);
    }
    let end = WARM_UP + MESSAGES;
    let count = counted(|| {
        while number < end {
            number += send(&mut sender, &verb, number, end, &mut buffer);
        }
    });
    say(&count.to_string());
}

/// Sends what is next and returns how many messages that were.
fn send(sender: &mut Sender, verb: &str, number: u64, end: u64, buffers: &mut [[u8; LEN_MAX]; 16]) -> u64 {
    let len = mixed_len(number, LEN_MAX);
    let sent = match verb {
        "batch" => {
            let count = (end - number).min(16) as usize;
            let mut lens = [0; 16];
            for index in 0..count {
                lens[index] = mixed_len(number + index as u64, LEN_MAX);
                fill(&mut buffers[index][..lens[index]], number + index as u64);
            }
            let batch: [&[u8]; 16] = std::array::from_fn(|index| &buffers[index][..lens[index]]);
            sender.try_send_batch(&batch[..count]).map(|count| count as u64)
        }
        "claim" => sender.try_claim(LEN_MAX).map(|mut claim| {
            fill(&mut claim[..len], number);
            claim.commit_len(len);
            1
        }),
        "try" => {
            fill(&mut buffers[0][..len], number);
            sender.try_send(&buffers[0][..len]).map(|()| 1)
        }
        _ => {
            fill(&mut buffers[0][..len], number);
            sender.send(&buffers[0][..len]).unwrap();
            Ok(1)
        }
    };
    match sent {
        Ok(count) => count,
        Err(TrySendError::Full) => give_way(),
        Err(error) => panic!("message {number}: {error}"),
    }
}

fn role_answer() {
    let mut connection = common::join(&config().wait(Wait::Sleep));
    let (sender, receiver) = connection.halves();
    let mut answer = |number| {
        let message = receiver.recv().unwrap();
        check(&message, number, mixed_len(number, LEN_MAX));
        sender.send(&message).unwrap();
    };
    (0..WARM_UP).for_each(&mut answer);
    let count = counted(|| (WARM_UP..WARM_UP + ANSWERS).for_each(&mut answer));
    say(&count.to_string());
    // The other side must not find a closed peer before it has its last answer.
    common::wait_until("the other side ends", || receiver.recv().is_err());
}

/// Returns how many allocations of this thread `work` makes.
fn counted(work: impl FnOnce()) -> u64 {
    counting::begin();
    work();
    counting::end()
}

fn config() -> Config {
    Config::new().ring_bytes(16 << 10)
}

/// The first two messages are the shortest and the longest.
const WARM_UP: u64 = 100;
const MESSAGES: u64 = 100_000;
const ANSWERS: u64 = 20_000;
const LEN_MAX: usize = 1000;
