//! A socket on which a handshake goes on: what was said so far, and who says it.

use crate::config::{CONNECTIONS_MAX, Config};
use crate::error::Refusal;
use crate::proto::handshake::{Inbox, Limits, MESSAGE_BYTES, Message};
use crate::shm::layout;
use crate::sys::{self, Suspect};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Instant;

/// What went wrong before there was a connection.
#[derive(Debug)]
pub(crate) enum Trouble {
    /// The other side, or what it sent, is not acceptable to us.
    Unacceptable(Refusal),
    /// The other side said why it does not want us.
    Refused(Refusal),
    /// It hung up.
    HungUp,
    Os(&'static str, io::Error),
}

impl From<Refusal> for Trouble {
    fn from(refusal: Refusal) -> Self {
        Self::Unacceptable(refusal)
    }
}

/// One end of a handshake.
pub(crate) struct Talk {
    socket: Suspect,
    inbox: Inbox<Suspect>,
    sender: Option<sys::Credentials>,
    pidfd: Option<OwnedFd>,
}

impl Talk {
    /// Takes a connected socket; the first message must have come at `deadline`.
    pub(crate) fn new(socket: OwnedFd, deadline: Instant) -> Self {
        Self { socket: Suspect::new(socket), inbox: Inbox::new(deadline), sender: None, pidfd: None }
    }

    /// Begins to wait for one message more, which must come from the same process.
    pub(crate) fn expect_another(&mut self, deadline: Instant) {
        self.inbox = Inbox::new(deadline);
    }

    pub(crate) fn socket(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    pub(crate) fn deadline(&self) -> Instant {
        self.inbox.deadline()
    }

    pub(crate) fn is_expired(&self, now: Instant) -> bool {
        self.inbox.is_expired(now)
    }

    /// Says something; never waits.
    pub(crate) fn send(&self, message: &Message, files: &[BorrowedFd<'_>]) -> Result<(), Trouble> {
        say(self.socket(), message, files)
    }

    /// Reads what is there; `None` while the message is incomplete.
    pub(crate) fn receive(&mut self) -> Result<Option<(Message, Vec<Suspect>)>, Trouble> {
        let mut buffer = [0; MESSAGE_BYTES];
        let missing = self.inbox.missing();
        let received = match sys::receive_with(self.socket.as_fd(), &mut buffer[..missing]) {
            Ok(received) => received,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(None),
            Err(error) if is_hang_up(&error) => return Err(Trouble::HungUp),
            Err(error) => return Err(Trouble::Os("receive the handshake", error)),
        };
        if received.bytes == 0 {
            return Err(Trouble::HungUp);
        }
        if received.truncated {
            return Err(Refusal::Descriptors.into());
        }
        // Every piece must come from the same process: whoever sends the last speaks for all.
        let same = |known: &sys::Credentials| {
            received.credentials.is_some_and(|now| now.pid == known.pid && now.uid == known.uid)
        };
        if !self.sender.as_ref().is_none_or(same) {
            return Err(Refusal::NotAllowed.into());
        }
        self.sender = received.credentials;
        self.pidfd = received.pidfd;
        Ok(self.inbox.feed(&buffer[..received.bytes], received.descriptors, &LIMITS)?)
    }

    /// Returns who spoke to us.
    pub(crate) fn sender(&self) -> Option<sys::Credentials> {
        self.sender
    }

    /// Returns who spoke to us, if the configuration lets that user in.
    pub(crate) fn admitted(&self, config: &Config) -> Result<sys::Credentials, Refusal> {
        self.sender
            .filter(|sender| config.allows(sys::uid(), sender.uid, sender.gid))
            .ok_or(Refusal::NotAllowed)
    }

    /// Returns who answered us, if that user was to be expected. Root may do what it wants to us anyway.
    pub(crate) fn expected(&self, config: &Config) -> Result<sys::Credentials, Refusal> {
        match self.sender {
            Some(sender) if sender.uid == 0 => Ok(sender),
            _ => self.admitted(config),
        }
    }

    /// Hands out the process that spoke, where the kernel can tell.
    pub(crate) fn take_pidfd(&mut self) -> Option<OwnedFd> {
        self.pidfd.take()
    }

    /// Says why not, as far as the other side listens, and hangs up.
    pub(crate) fn refuse(self, refusal: Refusal) {
        let _ = self.send(&Message::Refused(refusal), &[]);
    }

    /// Lets no descriptor into the socket any more and throws away the bytes in it: for when all has been said.
    pub(crate) fn refuse_descriptors(&self) -> Result<u8, Refusal> {
        sys::refuse_descriptors(self.socket()).ok_or(Refusal::Descriptors)
    }

    /// Hands out the socket after [`refuse_descriptors`](Self::refuse_descriptors): closing it does not wait.
    pub(crate) fn into_socket(self) -> OwnedFd {
        self.socket.into_trusted()
    }
}

/// Says something on a socket that is at hand; never waits.
pub(crate) fn say(
    socket: BorrowedFd<'_>,
    message: &Message,
    files: &[BorrowedFd<'_>],
) -> Result<(), Trouble> {
    let bytes = message.encode(layout::LAYOUT_VERSION);
    match sys::send_with(socket, &bytes, files) {
        Ok(MESSAGE_BYTES) => Ok(()),
        // The buffer of a fresh socket holds hundreds of such messages.
        Ok(_) => Err(Trouble::HungUp),
        Err(error) if is_hang_up(&error) => Err(Trouble::HungUp),
        Err(error) => Err(Trouble::Os("send the handshake", error)),
    }
}

/// Takes exactly so many descriptors out of those that came with a message.
pub(crate) fn exactly<const N: usize>(files: Vec<Suspect>) -> Result<[Suspect; N], Refusal> {
    files.try_into().map_err(|_| Refusal::Descriptors)
}

fn is_hang_up(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset)
}

const LIMITS: Limits = Limits {
    layout_version: layout::LAYOUT_VERSION,
    segment_features_known: layout::feature::KNOWN,
    is_ring_bytes: layout::is_ring_bytes,
    endpoint_slots_max: CONNECTIONS_MAX as u32,
};
