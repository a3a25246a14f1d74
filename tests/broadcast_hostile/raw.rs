//! Readers, senders and knocks made by hand, written from the numbers of the protocol.

use crate::support::{
    self, ABANDON, DATA, Hello, MAGIC, Memory, PATIENCE, RING, RING_BYTES, SEALS, Turned, answer_of,
};
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

pub const ROUTE: u32 = 2;
pub const CHANNEL: u32 = 3;
/// Bytes of a reader's segment.
pub const READER_BYTES: usize = 4096;

/// The identity of a reader's segment.
pub fn reader_words() -> [(usize, u64); 5] {
    [(0, MAGIC), (8, 1 | 3 << 32), (0x10, 0), (0x18, 0), (0x30, READER_BYTES as u64)]
}

/// Makes a reader's segment as an honest process would.
pub fn reader_memory() -> Memory {
    Memory::create(READER_BYTES, &reader_words(), SEALS)
}

/// "I want to read."
pub fn reader_hello(purpose: u32) -> Hello {
    Hello::client(0)
        .put(20, &purpose.to_le_bytes())
        .put(56, &(1_u64 << 30).to_le_bytes())
        .put(80, &1_u32.to_le_bytes())
        .put(84, &[1, 0])
}

/// "Read here."
pub fn sender_welcome(purpose: u32, features: u64, ring_bytes: u64) -> Hello {
    Hello::server(ring_bytes, 0)
        .put(20, &purpose.to_le_bytes())
        .put(40, &features.to_le_bytes())
        .put(80, &1_u32.to_le_bytes())
        .put(84, &[1, 0])
        .put(96, &INSTANCE.to_le_bytes())
}

/// A message with nothing but its type.
fn bare(kind: u16) -> Hello {
    Hello([0; 128])
        .put(0, b"RINGWAYH")
        .put(8, &1_u16.to_le_bytes())
        .put(10, &kind.to_le_bytes())
        .put(12, &1_u32.to_le_bytes())
        .put(16, &128_u32.to_le_bytes())
}

/// "A sender is here."
pub fn knock(purpose: u32, instance: u64, name: &[u8; 8]) -> Hello {
    bare(4).put(20, &purpose.to_le_bytes()).put(96, &instance.to_le_bytes()).put(104, name)
}

/// "Start there."
pub fn joined(start: u64, messages: u64) -> Hello {
    bare(5).put(96, &start.to_le_bytes()).put(104, &messages.to_le_bytes())
}

/// A random number that names a sender made by hand.
pub const INSTANCE: u64 = 0x1234_5678_9abc_def0;

/// Opens a socket and says this, with these descriptors.
pub fn say(path: &Path, message: &Hello, files: &[RawFd]) -> UnixStream {
    let socket = support::open(path.to_str().unwrap());
    // Whoever has hung up already does not hear it.
    let _ = support::send_files(socket.as_raw_fd(), &message.0, files);
    socket
}

/// Says this and returns how it was turned down; `None` if it was not.
pub fn turned_down(path: &Path, message: &Hello, files: &[RawFd]) -> Option<Turned> {
    answer_of(&say(path, message, files)).err()
}

/// A reader made by hand.
pub struct RawReader {
    pub socket: UnixStream,
    pub own: Memory,
    /// The sender's ring; it may be read as long as it is here.
    _theirs: Memory,
}

impl RawReader {
    /// Subscribes; returns once it is told where to start, for which the sender must do something meanwhile.
    pub fn join(path: &Path, purpose: u32) -> Self {
        let own = reader_memory();
        let socket = say(path, &reader_hello(purpose), &[own.file.as_raw_fd()]);
        let (welcome, mut files) = answer_of(&socket).unwrap();
        assert_eq!((welcome[10], files.len()), (2, 1));
        let theirs = Memory::receive(files.remove(0));
        let (told, files) = support::receive_files(&socket).unwrap();
        assert_eq!((told.len(), files.len()), (128, 0), "not told where to start");
        assert_eq!(told[10], 5);
        let start = u64::from_le_bytes(told[96..104].try_into().unwrap());
        assert!(start.is_multiple_of(8), "no record begins at {start}");
        Self { socket, own, _theirs: theirs }
    }

    /// Rings "there is room".
    pub fn ring(&self) {
        let flags = libc::MSG_NOSIGNAL | libc::MSG_DONTWAIT;
        let _ = support::send_flagged(self.socket.as_raw_fd(), &[1], &[], flags);
    }

    pub fn is_hung_up(&self) -> bool {
        is_hung_up(&self.socket)
    }
}

/// Says whether the other side has hung up.
pub fn is_hung_up(socket: &UnixStream) -> bool {
    let mut item = libc::pollfd { fd: socket.as_raw_fd(), events: libc::POLLRDHUP, revents: 0 };
    // SAFETY: one item, alive during the call.
    unsafe { libc::poll(&mut item, 1, 0) };
    item.revents & (libc::POLLRDHUP | libc::POLLHUP | libc::POLLERR) != 0
}

/// A sender made by hand; its name is gone when it is dropped.
pub struct RawSender {
    listener: UnixListener,
    path: PathBuf,
    purpose: u32,
    pub memory: Memory,
    pub welcome: Hello,
    pub joined: Option<Hello>,
}

impl RawSender {
    /// Binds the name: it is there for those who come from now on.
    pub fn bind(path: &Path, purpose: u32, features: u64) -> Self {
        let mut words = support::connection_words(RING_BYTES);
        words[2].1 = features;
        Self {
            listener: UnixListener::bind(path).unwrap(),
            path: path.to_owned(),
            purpose,
            memory: Memory::create(RING + RING_BYTES as usize, &words, SEALS),
            welcome: sender_welcome(purpose, features, RING_BYTES),
            joined: Some(joined(0, 0)),
        }
    }

    /// Lets in the next that wants to read; those that knock are heard and forgotten. Returns its socket.
    pub fn admit(&self) -> UnixStream {
        loop {
            let (socket, _) = self.listener.accept().unwrap();
            socket.set_read_timeout(Some(PATIENCE)).unwrap();
            let (hello, files) = support::receive_files(&socket).unwrap();
            if hello.len() < 128 || hello[10] != 1 || u32::from(hello[20]) != self.purpose {
                continue;
            }
            assert_eq!(files.len(), 1, "a reader brings its segment");
            let file = self.memory.file.as_raw_fd();
            let _ = support::send_files(socket.as_raw_fd(), &self.welcome.0, &[file]);
            if let Some(joined) = &self.joined {
                let _ = support::send_files(socket.as_raw_fd(), &joined.0, &[]);
            }
            return socket;
        }
    }

    /// Writes header words from the start of the ring on.
    pub fn put_words(&self, words: &[u64]) {
        for (index, word) in words.iter().enumerate().rev() {
            self.memory.set(RING + 8 * index, *word);
        }
    }

    /// Fills the ring with short messages, or with messages that are begun and given up, round and round.
    pub fn fill(&self, abandoned: bool) {
        for at in (0..RING_BYTES as usize).step_by(16) {
            self.memory.set(RING + at, DATA | 8);
        }
        if abandoned {
            let mut at = 0;
            while at + 24 <= RING_BYTES as usize {
                self.memory.set(RING + at + 16, ABANDON);
                self.memory.set(RING + at, support::FIRST | 8);
                at += 24;
            }
            self.memory.set(RING + at, support::PADDING | 8);
        }
    }
}

impl Drop for RawSender {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

/// The socket of a route's sender.
pub fn route_socket(route: &str) -> PathBuf {
    PathBuf::from(format!("{route}.route"))
}

/// The socket of a channel's member.
pub fn member_socket(channel: &str, token: &str) -> PathBuf {
    PathBuf::from(format!("{channel}.channel.{token}"))
}
