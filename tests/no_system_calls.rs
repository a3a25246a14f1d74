//! No system call on the path of a message while both sides are awake, the first lap of a ring apart.
//!
//! The thread that sends and receives gives up all system calls but four (`prctl(PR_SET_SECCOMP)`, strict mode): the
//! kernel kills it at the first `sendto`, `poll`, `membarrier`, `fallocate` or `futex`. Both ends of the connection are in
//! that thread, so neither ever has to wait for the other.
#![allow(clippy::unwrap_used, reason = "what fails in a test may panic")]

mod common;

use common::{check, fill, hang_guard, mixed_len};
use ringway::{Config, Connection, Wait};
use std::os::unix::thread::JoinHandleExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

#[test]
fn the_kernel_kills_who_makes_a_call() {
    assert!(!survives(|| drop(std::hint::black_box(std::fs::read("/dev/null")))));
}

#[test]
fn sending_and_receiving_make_no_call() {
    for wait in [Wait::Auto, Wait::Spin, Wait::Sleep] {
        let mut ends = warm(&Config::new().wait(wait));
        assert!(survives(move || exchange(&mut ends, MESSAGES)), "{wait:?}");
    }
}

#[test]
fn the_first_lap_allocates_its_memory() {
    let mut ends = ringway::pair(&Config::new()).unwrap();
    assert!(!survives(move || exchange(&mut ends, 1)));
}

/// Makes a connection whose rings have been all around once.
fn warm(config: &Config) -> (Connection, Connection) {
    let mut ends = ringway::pair(&config.clone().ring_bytes(RING_BYTES)).unwrap();
    exchange(&mut ends, 4 * RING_BYTES / LEN_MAX as u64);
    ends
}

/// Sends messages there and back with every verb, and checks them.
fn exchange((here, there): &mut (Connection, Connection), messages: u64) {
    let mut buffer = [0; LEN_MAX];
    for number in 0..messages {
        let len = mixed_len(number, LEN_MAX);
        let message = &mut buffer[..len];
        fill(message, number);
        match number % 4 {
            0 => here.send(message).unwrap(),
            1 => here.try_send(message).unwrap(),
            2 => assert_eq!(here.sender().try_send_batch(&[&*message]).unwrap(), 1),
            _ => {
                let mut claim = here.sender().try_claim(len).unwrap();
                claim.copy_from_slice(message);
                claim.commit();
            }
        }
        let (sender, receiver) = there.halves();
        let request = receiver.recv().unwrap();
        check(&request, number, len);
        sender.send(&request).unwrap();
        check(&here.try_recv().unwrap(), number, len);
    }
}

/// Runs `work` in a thread that may only read, write, and end; says whether it came to its end.
fn survives(mut work: impl FnMut() + Send + 'static) -> bool {
    let _guard = hang_guard();
    let done = Arc::new(AtomicBool::new(false));
    let set = Arc::clone(&done);
    let worker = thread::spawn(move || {
        // SAFETY: takes plain numbers, and only this thread is affected.
        let strict = unsafe { libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_STRICT) };
        assert_eq!(strict, 0, "{}", std::io::Error::last_os_error());
        // Not consumed: dropping a connection makes calls.
        work();
        set.store(true, Ordering::Release);
        // SAFETY: ends this thread alone, at once; what it owns is leaked.
        unsafe { libc::syscall(libc::SYS_exit, 0) };
    });
    // SAFETY: the thread is joined once. The standard library cannot: it expects a thread to leave a result.
    let joined = unsafe { libc::pthread_join(worker.into_pthread_t(), std::ptr::null_mut()) };
    assert_eq!(joined, 0);
    done.load(Ordering::Acquire)
}

const MESSAGES: u64 = 100_000;
const RING_BYTES: u64 = 64 << 10;
const LEN_MAX: usize = 1024;
