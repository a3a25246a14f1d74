//! Routes and channels for tasks, with members that are real processes.
#![allow(clippy::unwrap_used, reason = "what fails in a test may panic")]

mod common;
#[path = "common/tasks.rs"]
mod tasks;

use common::{Peer, Scratch, check, hear, message, mixed_len, number_variable, say, scratch_dir, variable};
use futures_util::StreamExt;
use ringway::broadcast::{Builder, Event, MemberEvent, Policy, RecvError, Sent, TrySendError};
use ringway::tokio::broadcast::{Channel, Receiver, Route, Select, Sender};
use ringway::{CloseReason, Config, Wait};
use std::cell::Cell;
use std::collections::HashMap;
use std::future::poll_fn;
use std::pin::pin;
use std::rc::Rc;
use std::time::Duration;
use tasks::{block_on, in_each_runtime, poll_at_most};

#[test]
fn peer_process() {
    common::run_role(&[
        ("receive", role_receive),
        ("receive_in_a_task", role_receive_in_a_task),
        ("count", role_count),
        ("idle", role_idle),
        ("drip", role_drip),
        ("flood", role_flood),
        ("send", role_send),
        ("member", role_member),
    ]);
}

/// The settings that every process of these tests has: the smallest ring, so that it is often full.
fn small() -> Config {
    Config::new().ring_bytes(16 << 10)
}

fn route() -> Builder<ringway::Route> {
    ringway::Route::builder().config(small())
}

fn channel() -> Builder<ringway::Channel> {
    ringway::Channel::builder().config(small())
}

fn name_in(scratch: &Scratch) -> String {
    format!("{}/test", scratch.path().display())
}

/// Some messages need fragments.
fn len_of(number: u64) -> usize {
    mixed_len(number, if number.is_multiple_of(100) { 30_000 } else { 900 })
}

/// Starts a role that says when it has joined.
fn joined(role: &str, name: &str, count: u64) -> Peer {
    let mut peer = Peer::spawn(role, &[("NAME", name), ("COUNT", &count.to_string())]);
    peer.expect_line("ready");
    peer
}

#[test]
fn every_process_receives_every_message_of_a_task() {
    in_each_runtime(|| async {
        const COUNT: u64 = 5_000;
        let scratch = scratch_dir();
        let name = name_in(&scratch);
        let mut sender = Route::sender_with(&route(), &name).await.unwrap();
        let peers = ["receive", "receive_in_a_task", "receive"].map(|role| joined(role, &name, COUNT));
        for number in 0..COUNT {
            let sent = sender.send(&message(number, len_of(number))).await.unwrap();
            assert_eq!(sent, Sent::To { receivers: peers.len() });
        }
        peers.into_iter().for_each(Peer::finish);
    });
}

#[test]
fn a_message_that_is_built_in_place_reaches_every_process() {
    in_each_runtime(|| async {
        const COUNT: u64 = 3_000;
        let scratch = scratch_dir();
        let name = name_in(&scratch);
        let mut sender = Route::sender_with(&route(), &name).await.unwrap();
        let peers = [0, 1].map(|_| joined("count", &name, 0));
        for number in 0..COUNT {
            let mut claim = sender.claim(3_000).await.unwrap();
            common::fill(&mut claim, number);
            assert_eq!(claim.commit(), Sent::To { receivers: peers.len() });
        }
        drop(sender);
        for mut peer in peers {
            peer.expect_line(&COUNT.to_string());
            peer.finish();
        }
    });
}

#[test]
fn a_receive_dropped_after_any_number_of_polls_loses_nothing() {
    in_each_runtime(|| async {
        let scratch = scratch_dir();
        let name = name_in(&scratch);
        let mut receiver = Route::receiver_with(&route(), &name).await.unwrap();
        let peer = Peer::spawn("drip", &[("NAME", &name)]);
        let (mut next, mut attempts, mut dropped) = (0, 0, 0);
        while next < 600 {
            attempts += 1;
            let outcome =
                poll_at_most(attempts % 9, async { receiver.recv().await.map(|message| message.to_vec()) });
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
        peer.finish();
    });
}

#[test]
fn a_send_dropped_after_any_number_of_polls_sends_nothing_and_may_be_repeated() {
    in_each_runtime(|| async {
        let scratch = scratch_dir();
        let name = name_in(&scratch);
        let mut sender = Route::sender_with(&route(), &name).await.unwrap();
        let peers = [0, 1].map(|_| joined("count", &name, 0));
        let (mut number, mut attempts, mut dropped) = (0, 0, 0);
        while number < 400 {
            attempts += 1;
            // Three of four are longer than the ring.
            let len = if number % 4 == 0 { 3_000 } else { 40_000 };
            match poll_at_most(attempts % 13, sender.send(&message(number, len))).await {
                Some(sent) => {
                    assert_eq!(sent.unwrap(), Sent::To { receivers: peers.len() });
                    number += 1;
                }
                None => dropped += 1,
            }
        }
        // Every thirteenth is not even polled once; how many more are dropped depends on the machine.
        assert!(dropped > 400 / 13, "{dropped} futures were dropped");
        drop(sender);
        for mut peer in peers {
            peer.expect_line("400");
            peer.finish();
        }
    });
}

#[test]
fn a_process_that_reads_nothing_is_cut_off_while_the_task_sleeps() {
    for config in [small(), small().wait(Wait::Sleep)] {
        in_each_runtime(|| async {
            let scratch = scratch_dir();
            let name = name_in(&scratch);
            // Long enough that a busy machine lets the other one read meanwhile.
            let policy = Policy::Block { stall_max: Some(Duration::from_secs(1)) };
            let builder = route().config(config.clone()).policy(policy);
            let mut sender = Route::sender_with(&builder, &name).await.unwrap();
            let (idle, mut awake) = (joined("idle", &name, 0), joined("count", &name, 0));
            idle.stop();
            // Several times what the ring holds, so it is the idle one that all wait for, until it is gone.
            for number in 0..40 {
                let sent = sender.send(&message(number, 3_000)).await.unwrap();
                assert!(sent.receivers() >= 1, "the process that reads stays");
            }
            let left = std::iter::from_fn(|| sender.try_event()).find_map(|event| match event {
                MemberEvent::Left(peer, reason) => Some((peer.pid(), reason)),
                _ => None,
            });
            assert_eq!(left, Some((idle.pid(), CloseReason::TooSlow)));
            assert_eq!(sender.receiver_count(), 1);
            drop(sender);
            idle.go_on();
            awake.expect_line("40");
            awake.finish();
        });
    }
}

#[test]
fn who_joins_in_the_middle_of_a_message_gets_it_only_from_the_history() {
    in_each_runtime(|| async {
        const COUNT: u64 = 50;
        const LONG: usize = 40_000;
        for history in [0, 2] {
            let scratch = scratch_dir();
            let name = name_in(&scratch);
            let mut sender = Route::sender_with(&route().history(history), &name).await.unwrap();
            let mut first = Route::receiver_with(&route(), &name).await.unwrap();
            let long = message(0, LONG);
            let mut late = {
                let mut sending = pin!(sender.send(&long));
                assert_eq!(poll_at_most(1, &mut sending).await, None, "it is longer than the ring");
                let mut late = Route::receiver_with(&route(), &name).await.unwrap();
                let receiving = async { check(&first.recv().await.unwrap(), 0, LONG) };
                let sending = async { assert_eq!(sending.await, Ok(Sent::To { receivers: 2 })) };
                if history == 0 {
                    tokio::select! {
                        // It passes over the rest of a message that began before it came.
                        early = late.recv() => panic!("{early:?}"),
                        _ = async { tokio::join!(sending, receiving) } => {}
                    }
                } else {
                    let receiving_late = async { check(&late.recv().await.unwrap(), 0, LONG) };
                    tokio::join!(sending, receiving, receiving_late);
                }
                late
            };
            for number in 1..COUNT {
                let sent = sender.send(&message(number, 100)).await;
                assert_eq!(sent, Ok(Sent::To { receivers: 2 }));
                check(&first.recv().await.unwrap(), number, 100);
                check(&late.recv().await.unwrap(), number, 100);
            }
        }
    });
}

#[test]
fn a_killed_process_ends_the_wait_for_room() {
    in_each_runtime(|| async {
        let scratch = scratch_dir();
        let name = name_in(&scratch);
        let builder = route().policy(Policy::Block { stall_max: None });
        let mut sender = Route::sender_with(&builder, &name).await.unwrap();
        let mut idle = joined("idle", &name, 0);
        while !matches!(sender.try_send(&[7; 1000]), Err(TrySendError::WouldBlock { .. })) {}
        let killing = async {
            tokio::task::yield_now().await;
            idle.kill9();
        };
        let (sent, ()) = tokio::join!(sender.send(&[7; 1000]), killing);
        assert_eq!(sent, Ok(Sent::NoReceivers));
    });
}

#[test]
fn who_is_heard_comes_before_its_messages_and_its_end_after_them() {
    in_each_runtime(|| async {
        let scratch = scratch_dir();
        let name = name_in(&scratch);
        let mut receiver = Route::receiver_with(&route(), &name).await.unwrap();
        for _ in 0..3 {
            let mut peer = joined("send", &name, 200);
            let Event::Joined(from) = receiver.next().await.unwrap() else { panic!("not first the sender") };
            assert_eq!(from.pid(), peer.pid());
            for number in 0..200 {
                let Event::Message(message) = receiver.next().await.unwrap() else { panic!("no message") };
                check(&message, number, len_of(number));
                assert_eq!(message.from(), from);
            }
            peer.kill9();
            let died = CloseReason::PeerDied { pid: peer.pid() };
            let Event::Left(who, why) = receiver.next().await.unwrap() else { panic!("not its end") };
            assert_eq!((who, why), (from, died));
        }
    });
}

#[test]
fn what_was_overwritten_is_told_to_the_message() {
    in_each_runtime(|| async {
        const COUNT: u64 = 20_000;
        let scratch = scratch_dir();
        let name = name_in(&scratch);
        let mut receiver = Route::receiver_with(&route(), &name).await.unwrap();
        let mut peer = joined("flood", &name, COUNT);
        let (mut next, mut lost) = (0, 0);
        while next < COUNT {
            match receiver.recv().await {
                Ok(message) => {
                    check(&message, next, 100);
                    next += 1;
                }
                Err(RecvError::Lagged(messages)) => {
                    next += messages;
                    lost += messages;
                }
                Err(error) => panic!("{error}"),
            }
        }
        assert!(lost > 0, "the ring holds a fraction of what was sent while nobody looked");
        assert_eq!(receiver.stats().lagged_messages, lost);
        peer.send_line("enough");
        peer.finish();
    });
}

#[test]
fn members_of_a_channel_hear_each_other_in_order_and_not_themselves() {
    in_each_runtime(|| async {
        const COUNT: u64 = 2_000;
        const OTHERS: usize = 3;
        let scratch = scratch_dir();
        let name = name_in(&scratch);
        let members: Vec<Peer> = (0..OTHERS).map(|_| joined("member", &name, COUNT)).collect();
        let (mut sender, mut receiver) = Channel::join_with(&channel(), &name).await.unwrap().split();
        let sending = async {
            for number in 0..COUNT {
                let sent = sender.send(&message(number, len_of(number))).await.unwrap();
                assert_eq!(sent, Sent::To { receivers: OTHERS });
            }
        };
        let receiving = async {
            let mut heard = HashMap::new();
            for _ in 0..COUNT * OTHERS as u64 {
                let message = receiver.recv().await.unwrap();
                let next = heard.entry(message.from().pid()).or_insert(0);
                check(&message, *next, len_of(*next));
                *next += 1;
            }
            assert_eq!(heard.len(), OTHERS);
            assert!(heard.values().all(|&count| count == COUNT) && !heard.contains_key(&std::process::id()));
        };
        tokio::join!(sending, receiving);
        members.into_iter().for_each(Peer::finish);
    });
}

#[test]
fn one_task_waits_for_several_routes_at_once() {
    in_each_runtime(|| async {
        const COUNT: u64 = 2_000;
        let mut select = Select::new().unwrap();
        let mut routes = HashMap::new();
        for _ in 0..3 {
            let scratch = scratch_dir();
            let name = name_in(&scratch);
            let receiver: Receiver = Route::receiver_with(&route(), &name).await.unwrap();
            let id = select.add(receiver).unwrap();
            routes.insert(id, (joined("send", &name, COUNT), 0, scratch));
        }
        let mut left = COUNT * routes.len() as u64;
        while left > 0 {
            let (id, event) = select.next().await.unwrap();
            let Event::Message(message) = event else { continue };
            let (peer, next, _) = routes.get_mut(&id).unwrap();
            assert_eq!(message.from().pid(), peer.pid());
            check(&message, *next, len_of(*next));
            *next += 1;
            left -= 1;
        }
        for (peer, count, _) in routes.values_mut() {
            assert_eq!(*count, COUNT);
            peer.send_line("enough");
        }
        routes.into_values().for_each(|(peer, _, _)| peer.finish());
    });
}

#[test]
fn a_task_waits_for_others_and_its_wait_may_be_dropped_at_any_time() {
    in_each_runtime(|| async {
        const RECEIVERS: usize = 4;
        let scratch = scratch_dir();
        let name = name_in(&scratch);
        let mut receiver = Route::receiver_with(&route(), &name).await.unwrap();
        let mut attempts = 0;
        while attempts < 9 {
            attempts += 1;
            assert_eq!(poll_at_most(attempts % 2, receiver.wait_for_senders(1)).await, None, "nobody sends");
        }
        let mut sender = Route::sender_with(&route(), &name).await.unwrap();
        let both = tokio::join!(sender.wait_for_receivers(1), receiver.wait_for_senders(1));
        assert_eq!(both, (Ok(1), Ok(1)));
        // A dropped wait for others does not stand for a wait for room, or for a message.
        let sending = async {
            for number in 0..200 {
                assert_eq!(poll_at_most(1, sender.wait_for_receivers(RECEIVERS + 1)).await, None);
                assert_eq!(sender.send(&message(number, 1_000)).await, Ok(Sent::To { receivers: 1 }));
            }
        };
        let receiving = async {
            for number in 0..200 {
                assert_eq!(poll_at_most(1, receiver.wait_for_senders(2)).await, None);
                check(&receiver.recv().await.unwrap(), number, 1_000);
            }
        };
        tokio::join!(sending, receiving);
        let peers: Vec<Peer> =
            (0..RECEIVERS).map(|_| Peer::spawn("count", &[("NAME", &name), ("COUNT", "0")])).collect();
        assert_eq!(sender.wait_for_receivers(RECEIVERS + 1).await, Ok(RECEIVERS + 1));
        drop((sender, receiver));
        for mut peer in peers {
            peer.expect_line("ready");
            peer.expect_line("0");
            peer.finish();
        }
    });
}

#[test]
fn a_receiver_is_a_stream_of_messages() {
    in_each_runtime(|| async {
        const COUNT: u64 = 3_000;
        let scratch = scratch_dir();
        let name = name_in(&scratch);
        let receiver = Route::receiver_with(&route(), &name).await.unwrap();
        let mut peer = joined("send", &name, COUNT);
        let messages = receiver.take(COUNT as usize).fold(0, |number, received| async move {
            check(&received.unwrap(), number, len_of(number));
            number + 1
        });
        assert_eq!(messages.await, COUNT);
        peer.send_line("enough");
        peer.finish();
    });
}

#[test]
fn idle_receivers_are_not_polled() {
    in_each_runtime(|| async {
        const RECEIVERS: usize = 20;
        let scratch = scratch_dir();
        let name = name_in(&scratch);
        let polls = Rc::new(Cell::new(0_u64));
        let local = tokio::task::LocalSet::new();
        for _ in 0..RECEIVERS {
            let mut receiver = Route::receiver_with(&route(), &name).await.unwrap();
            let polls = Rc::clone(&polls);
            local.spawn_local(async move {
                let mut receiving = pin!(receiver.recv());
                poll_fn(|cx| {
                    polls.set(polls.get() + 1);
                    receiving.as_mut().poll(cx).map(|received| assert!(received.is_ok()))
                })
                .await;
            });
        }
        let watching = async {
            until_nothing_is_polled(&polls).await;
            let mut sender = Route::sender_with(&route(), &name).await.unwrap();
            assert_eq!(sender.send(b"x").await, Ok(Sent::To { receivers: RECEIVERS }));
            sender
        };
        let _sender = local.run_until(watching).await;
        local.await;
    });
}

#[test]
fn a_claim_that_waits_is_not_polled() {
    in_each_runtime(|| async {
        let scratch = scratch_dir();
        let name = name_in(&scratch);
        let mut sender = Route::sender_with(&route().policy(Policy::DropNewest), &name).await.unwrap();
        let mut receiver = Route::receiver_with(&route(), &name).await.unwrap();
        // The receiver stands still in the middle of a message, which is then given up.
        assert_eq!(poll_at_most(3, sender.send(&message(0, 40_000))).await, None);
        tokio::time::sleep(Duration::from_millis(150)).await;
        let polls = Rc::new(Cell::new(0_u64));
        let counted = Rc::clone(&polls);
        // A task of its own: those that are joined are polled for each other's news.
        let local = tokio::task::LocalSet::new();
        local.spawn_local(async move {
            let mut claiming = pin!(sender.claim(4_088));
            let claim = poll_fn(|cx| {
                counted.set(counted.get() + 1);
                claiming.as_mut().poll(cx)
            });
            let mut claim = claim.await.unwrap();
            common::fill(&mut claim, 1);
            assert_eq!(claim.commit(), Sent::To { receivers: 1 });
        });
        let watching = async {
            until_nothing_is_polled(&polls).await;
            check(&receiver.recv().await.unwrap(), 1, 4_088);
        };
        local.run_until(watching).await;
    });
}

/// Waiting tasks spin for at most 300 us, then nothing happens any more.
async fn until_nothing_is_polled(polls: &Cell<u64>) {
    let mut before = u64::MAX;
    while before != polls.get() {
        before = polls.get();
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(polls.get(), before, "somebody was polled although nothing happened");
}

/// Checks so many messages, then leaves.
fn role_receive() {
    let mut receiver = route().receiver(&variable("NAME")).unwrap();
    say("ready");
    for number in 0..number_variable("COUNT") {
        check(&receiver.recv().unwrap(), number, len_of(number));
    }
}

fn role_receive_in_a_task() {
    block_on(async {
        let mut receiver = Route::receiver_with(&route(), &variable("NAME")).await.unwrap();
        say("ready");
        for number in 0..number_variable("COUNT") {
            check(&receiver.recv().await.unwrap(), number, len_of(number));
        }
    });
}

/// Counts until the sender leaves.
fn role_count() {
    let mut receiver = route().receiver(&variable("NAME")).unwrap();
    say("ready");
    let mut number = 0;
    loop {
        match receiver.next().unwrap() {
            Event::Message(message) => {
                let len = if message.len() == 40_000 { 40_000 } else { 3_000 };
                check(&message, number, len);
                number += 1;
            }
            Event::Left(_, CloseReason::PeerClosed) => break say(&number.to_string()),
            _ => {}
        }
    }
}

fn role_idle() {
    let _receiver = route().receiver(&variable("NAME")).unwrap();
    say("ready");
    hear();
}

/// Sends with pauses of every length around that of the spinning.
fn role_drip() {
    let mut sender = route().sender(&variable("NAME")).unwrap();
    for number in 0..600 {
        assert_eq!(sender.send(&message(number, 64)), Ok(Sent::To { receivers: 1 }));
        let pause = Duration::from_micros(number % 40 * 10);
        let begin = std::time::Instant::now();
        while begin.elapsed() < pause {
            std::thread::yield_now();
        }
    }
}

fn role_flood() {
    let mut sender = route().policy(Policy::Overwrite).sender(&variable("NAME")).unwrap();
    for number in 0..number_variable("COUNT") {
        assert_eq!(sender.send(&message(number, 100)), Ok(Sent::To { receivers: 1 }));
    }
    say("ready");
    hear();
}

/// Sends from a task, and stays.
fn role_send() {
    block_on(async {
        let mut sender: Sender = Route::sender_with(&route(), &variable("NAME")).await.unwrap();
        say("ready");
        for number in 0..number_variable("COUNT") {
            sender.send(&message(number, len_of(number))).await.unwrap();
        }
        hear();
    });
}

/// Sends and receives in two tasks, with three others.
fn role_member() {
    block_on(async {
        let count = number_variable("COUNT");
        let mut member = channel().join(&variable("NAME")).unwrap();
        say("ready");
        member.sender().wait_for_receivers(3, common::DEADLINE).unwrap();
        let (mut sender, mut receiver) = Channel::from(member).split();
        let sending = async {
            for number in 0..count {
                sender.send(&message(number, len_of(number))).await.unwrap();
            }
        };
        let receiving = async {
            let mut heard = HashMap::new();
            for _ in 0..3 * count {
                let message = receiver.recv().await.unwrap();
                let next = heard.entry(message.from().pid()).or_insert(0);
                check(&message, *next, len_of(*next));
                *next += 1;
            }
        };
        tokio::join!(sending, receiving);
    });
}
