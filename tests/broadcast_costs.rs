//! No heap allocation and no system call on the path of a message, on either side, while everybody is awake.
//!
//! Sender and receivers are processes of their own. For the allocations each counts those of its own thread; for the
//! system calls each thread gives up all but four (`prctl(PR_SET_SECCOMP)`, strict mode), so that the kernel kills it at
//! the first `sendto`, `poll`, `membarrier`, `fallocate` or `futex`.
#![allow(clippy::unwrap_used, reason = "what fails in a test may panic")]

mod broadcast;
mod common;
mod counting;

use broadcast::{Book, Options, Speech, await_receivers, name, receiver, sender};
use common::{DEADLINE, Peer, hang_guard, say, scratch_dir, variable};
use ringway::broadcast::{Receiver, Sender, TryRecvError, TrySendError};
use std::os::unix::thread::JoinHandleExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

#[test]
fn peer_process() {
    common::run_role(&[("hear", role_hear), ("deaf", role_deaf), ("members", role_members)]);
}

#[test]
fn the_waiting_verbs_allocate_nothing() {
    stream("wait", "");
    stream("wait", "wait=sleep");
}

#[test]
fn the_verbs_that_never_wait_allocate_nothing() {
    stream("try", "");
}

#[test]
fn batches_allocate_nothing() {
    stream("batch", "");
}

#[test]
fn claims_allocate_nothing() {
    stream("claim", "");
}

#[test]
fn borrowed_messages_allocate_nothing() {
    stream("wait", "trust policy=block");
}

#[test]
fn being_overtaken_allocates_nothing() {
    stream("wait", "policy=overwrite ring=131072");
}

#[test]
fn a_history_allocates_nothing_once_it_is_full() {
    stream("wait", "history=50");
}

/// Sends a stream to two processes; nobody allocates after the first messages.
fn stream(verb: &str, options: &str) {
    let _guard = hang_guard();
    let scratch = scratch_dir();
    let route = name(&scratch, "news");
    let mut sender = sender(&route, options);
    let variables = [("ROUTE", route.as_str()), ("VERB", verb), ("OPTIONS", options)];
    let mut peers: Vec<Peer> = (0..2).map(|_| Peer::spawn("hear", &variables)).collect();
    await_receivers(&mut sender, 2);
    let mut speech = Speech::new(1, LEN_MAX);
    let mut buffers = Vec::new();
    while speech.next < WARM_UP {
        send(&mut sender, verb, &mut speech, &mut buffers);
    }
    // Who is overtaken would lose the warm-up as well.
    peers.iter_mut().for_each(|peer| peer.expect_line("warm"));
    counting::begin();
    while speech.next < WARM_UP + MESSAGES {
        send(&mut sender, verb, &mut speech, &mut buffers);
    }
    assert_eq!(counting::end(), 0, "allocations of the sending side");
    assert_eq!(sender.stats().sent_messages, speech.next);
    drop(sender);
    for peer in &mut peers {
        peer.expect_line("0");
    }
    peers.into_iter().for_each(Peer::finish);
}

/// Sends what is next.
fn send(sender: &mut Sender, verb: &str, speech: &mut Speech, buffers: &mut Vec<Vec<u8>>) {
    match verb {
        "batch" => {
            buffers.resize_with(8, || Vec::with_capacity(LEN_MAX));
            for buffer in &mut *buffers {
                buffer.clear();
                buffer.extend_from_slice(speech.next());
            }
            let mut sent = 0;
            while sent < buffers.len() {
                match sender.try_send_batch(&buffers[sent..]) {
                    Ok(count) => sent += count,
                    Err(TrySendError::WouldBlock { .. }) => thread::yield_now(),
                    Err(error) => panic!("{error}"),
                }
            }
        }
        "claim" => {
            let message = speech.next();
            let mut claim = sender.claim(LEN_MAX).unwrap();
            claim[..message.len()].copy_from_slice(message);
            assert_eq!(claim.commit_len(message.len()).receivers(), 2);
        }
        "try" => {
            let message = speech.next();
            loop {
                match sender.try_send(message) {
                    Ok(sent) => return assert_eq!(sent.receivers(), 2),
                    Err(TrySendError::WouldBlock { .. }) => thread::yield_now(),
                    Err(error) => panic!("{error}"),
                }
            }
        }
        _ => assert_eq!(sender.send(speech.next()).unwrap().receivers(), 2),
    }
}

/// Role: receives it all, and says how often it has allocated since the first messages.
fn role_hear() {
    let verb = variable("VERB");
    let mut receiver = Options::new(&variable("OPTIONS")).route().receiver(&variable("ROUTE")).unwrap();
    let mut book = Book::default();
    book.receive(&mut receiver, WARM_UP);
    say("warm");
    let mut next = WARM_UP;
    counting::begin();
    while next < WARM_UP + MESSAGES {
        next += hear(&mut receiver, &verb, &mut book);
    }
    say(&counting::end().to_string());
}

/// Takes what is next, and returns how many messages were heard or lost.
fn hear(receiver: &mut Receiver, verb: &str, book: &mut Book) -> u64 {
    let outcome = match verb {
        "wait" => match receiver.recv() {
            Ok(message) => {
                book.hear(&message);
                return 1;
            }
            Err(ringway::broadcast::RecvError::Lagged(messages)) => Err(TryRecvError::Lagged(messages)),
            Err(error) => panic!("{error}"),
        },
        "batch" => receiver.try_recv_batch(16, |message| _ = book.hear(&message)),
        _ => receiver.try_recv().map(|message| {
            book.hear(&message);
            1
        }),
    };
    match outcome {
        Ok(count) => count as u64,
        Err(TryRecvError::Lagged(messages)) => {
            book.lose(1, messages);
            messages
        }
        Err(TryRecvError::Empty) => {
            thread::yield_now();
            0
        }
        Err(error) => panic!("{error}"),
    }
}

#[test]
fn sending_and_receiving_make_no_system_call() {
    let _guard = hang_guard();
    for options in
        ["", "policy=block trust", "policy=overwrite", "policy=drop", "policy=disconnect", "history=9"]
    {
        let scratch = scratch_dir();
        let route = name(&scratch, "news");
        // No room is ever missing: the receivers are waited for by hand, in what they have said so far.
        let mut sender = sender(&route, &format!("ring=65536 {options}"));
        let variables = [("ROUTE", route.as_str()), ("OPTIONS", options)];
        let mut peers: Vec<Peer> = (0..2).map(|_| Peer::spawn("deaf", &variables)).collect();
        await_receivers(&mut sender, 2);
        let mut speech = Speech::new(1, 256);
        // The first lap allocates memory; whoever fell asleep meanwhile wakes up.
        while speech.next < CALM {
            speech.send(&mut sender, 100);
            peers.iter_mut().for_each(|peer| peer.expect_line("heard"));
            peers.iter_mut().for_each(|peer| peer.send_line("go on"));
        }
        peers.iter_mut().for_each(|peer| peer.expect_line("calm"));
        let sent = calmly(move |steps| {
            for _ in 0..BURST {
                // Either process may be without a core: never more than the ring holds is on its way.
                assert_eq!(sender.try_send(speech.next()).map(|sent| sent.receivers()), Ok(2));
                steps.fetch_add(1, Ordering::Relaxed);
            }
        });
        assert_eq!(sent, BURST, "{options:?}: the kernel has killed the sender at a call");
        for peer in &mut peers {
            peer.expect_line(&format!("received {BURST}"));
        }
        peers.into_iter().for_each(Peer::finish);
    }
}

/// Role: receives without ever waiting in the kernel.
fn role_deaf() {
    let options = format!("wait=spin {}", variable("OPTIONS"));
    let mut receiver = receiver(&variable("ROUTE"), &options);
    let mut book = Book::default();
    assert_eq!(receiver.wait_for_senders(1, DEADLINE), Ok(1));
    while book.count() < CALM {
        book.receive(&mut receiver, 100);
        say("heard");
        common::hear();
    }
    say("calm");
    let received = calmly(move |steps| {
        while steps.load(Ordering::Relaxed) < BURST {
            match receiver.try_recv() {
                Ok(message) => {
                    book.hear(&message);
                    steps.fetch_add(1, Ordering::Relaxed);
                }
                Err(TryRecvError::Empty) => std::hint::spin_loop(),
                Err(error) => panic!("{error}"),
            }
        }
    });
    say(&format!("received {received}"));
}

#[test]
fn a_member_that_hears_and_speaks_makes_no_system_call() {
    let _guard = hang_guard();
    Peer::spawn("members", &[]).finish();
}

/// Three members in one thread: nobody ever waits for another.
fn role_members() {
    let scratch = scratch_dir();
    let channel = name(&scratch, "square");
    let mut members = [0, 1, 2].map(|_| broadcast::member(&channel, ""));
    members.iter_mut().for_each(|member| await_receivers(member.sender(), 2));
    for member in &mut members {
        assert_eq!(member.receiver().wait_for_senders(2, DEADLINE), Ok(2));
    }
    let mut speeches = [0, 1, 2].map(|index| Speech::new(index, 200));
    let mut books = [0, 1, 2].map(|_| Book::default());
    let mut round = move || {
        for (member, speech) in members.iter_mut().zip(&mut speeches) {
            assert_eq!(member.try_send(speech.next()).map(|sent| sent.receivers()), Ok(2));
        }
        for (member, book) in members.iter_mut().zip(&mut books) {
            book.hear(&member.try_recv().unwrap());
            book.hear(&member.try_recv().unwrap());
        }
    };
    // Beyond the first lap.
    (0..1000).for_each(|_| round());
    let rounds = calmly(move |steps| {
        for _ in 0..5000 {
            round();
            steps.fetch_add(1, Ordering::Relaxed);
        }
    });
    assert_eq!(rounds, 5000, "the kernel has killed a member at a call");
}

/// Runs `work` in a thread that may only read, write, and end; returns how many steps it has counted when it ended.
fn calmly(mut work: impl FnMut(&AtomicU64) + Send + 'static) -> u64 {
    let steps = Arc::new(AtomicU64::new(0));
    let count = Arc::clone(&steps);
    let worker = thread::spawn(move || {
        // SAFETY: takes plain numbers, and only this thread is affected.
        let strict = unsafe { libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_STRICT) };
        assert_eq!(strict, 0, "{}", std::io::Error::last_os_error());
        // Not consumed: dropping a handle makes calls.
        work(&count);
        // SAFETY: ends this thread alone, at once; what it owns is leaked.
        unsafe { libc::syscall(libc::SYS_exit, 0) };
    });
    // SAFETY: the thread is joined once. The standard library cannot: it expects a thread to leave a result.
    let joined = unsafe { libc::pthread_join(worker.into_pthread_t(), std::ptr::null_mut()) };
    assert_eq!(joined, 0);
    steps.load(Ordering::Relaxed)
}

/// The first two messages are the shortest and the longest.
const WARM_UP: u64 = 100;
const MESSAGES: u64 = 50_000;
const LEN_MAX: usize = 1000;
/// Messages after which the ring has been all around, and everybody is awake.
const CALM: u64 = 1000;
/// Fits into the ring together.
const BURST: u64 = 300;
