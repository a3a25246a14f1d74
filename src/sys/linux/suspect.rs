//! Descriptors that a peer sent: closing one may take as long as the peer likes.
//!
//! A TCP socket with `SO_LINGER` and unsent bytes, a file of a file system in user space, or a Unix socket in whose
//! queue such a descriptor lies: the last close of each waits. So what a peer sent is closed by a thread that nobody
//! waits for, until it was looked at and found harmless.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::mpsc::{Sender, channel};
use std::thread;

use super::fork::PerProcess;
use super::socket::{forget_linger, receive_with, set_pass_rights};

/// A descriptor that came from a peer, or a socket that may hold some in its queue.
#[derive(Debug)]
pub(crate) struct Suspect(Option<OwnedFd>);

impl Suspect {
    /// Takes a descriptor of which nothing is known.
    pub(crate) fn new(descriptor: OwnedFd) -> Self {
        Self(Some(descriptor))
    }

    /// Hands it out: it was looked at, and closing it does not wait.
    pub(crate) fn into_trusted(mut self) -> OwnedFd {
        self.0.take().expect("invariant: only drop and this take it, and both end it")
    }
}

impl AsFd for Suspect {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_ref().expect("invariant: only drop and `into_trusted` take it, and both end it").as_fd()
    }
}

impl Drop for Suspect {
    fn drop(&mut self) {
        if let Some(descriptor) = self.0.take() {
            reap(descriptor);
        }
    }
}

/// Lets no descriptor into the queue of a socket any more; `None` if one was there, or the queue does not end.
///
/// Bytes in the queue are thrown away: call it where they can only be doorbells. The last of them is returned, 0 if there
/// was none. Kernels before 6.16 cannot refuse
/// descriptors; there only what is queued now is found.
pub(crate) fn refuse_descriptors(socket: BorrowedFd<'_>) -> Option<u8> {
    // Without the option there is nothing to set.
    let _ = set_pass_rights(socket, false);
    let (mut buffer, mut last) = ([0; 256], 0);
    for _ in 0..QUEUE_READS_MAX {
        match receive_with(socket, &mut buffer) {
            Ok(received) if !received.descriptors.is_empty() || received.truncated => return None,
            Ok(received) if received.bytes > 0 => last = buffer[received.bytes - 1],
            // Empty, hung up or failed: whoever waits on it next finds out.
            _ => return Some(last),
        }
    }
    None
}

fn reap(descriptor: OwnedFd) {
    // The other end need not wait for the thread, nor for a forked child that holds a copy.
    super::socket::shut_down(descriptor.as_fd());
    // Without a thread the close happens here, as it always would without this module.
    let Ok(queue) = REAPER.get_or_make(start_reaper) else { return };
    // The thread ends with the process only, so the queue is never closed.
    let _ = queue.send(descriptor);
}

fn start_reaper() -> io::Result<Sender<OwnedFd>> {
    let (queue, descriptors) = channel::<OwnedFd>();
    let closing = move || {
        for descriptor in descriptors {
            forget_linger(descriptor.as_fd());
            drop(descriptor);
        }
    };
    thread::Builder::new().name("ringway-reaper".into()).spawn(closing)?;
    Ok(queue)
}

/// The queue of the thread that closes.
static REAPER: PerProcess<Sender<OwnedFd>> = PerProcess::new();
/// More reads than this of an honest queue are not needed: a doorbell is one byte, a read takes 256.
const QUEUE_READS_MAX: usize = 16;
