//! A stream of bytes over the two rings: what a socket is, for code that was written for one.
//!
//! What is written goes as records of up to 32 KiB; where one ends means nothing to the reader.

use super::listener::Listener;
use super::receiver::{Place, Receiver};
use super::sender::Sender;
use super::{Connection, PeerCred, client};
use crate::config::Config;
#[cfg(feature = "tokio")]
use crate::error::TrySendError;
use crate::error::{CloseReason, SendError};
use std::io::{self, IoSlice, Read, Write};

/// A stream of bytes to another process, read and written like a [`UnixStream`](std::os::unix::net::UnixStream).
///
/// A write is visible to the peer when it returns; nothing is buffered on this side, so `flush` has nothing to do. The
/// end of the stream is told from a death: reading returns 0 bytes when the peer closed, and
/// [`ConnectionReset`](io::ErrorKind::ConnectionReset) when it died or broke the protocol.
///
/// # Examples
/// ```
/// use std::io::{Read, Write};
/// let (here, there) = ringway::pair(&ringway::Config::new())?;
/// let (mut here, mut there) = (ringway::ByteStream::from(here), ringway::ByteStream::from(there));
/// here.write_all(b"hello")?;
/// here.shutdown_write();
/// let mut text = String::new();
/// there.read_to_string(&mut text)?;
/// assert_eq!(text, "hello");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[must_use]
pub struct ByteStream {
    reader: ByteReader,
    writer: ByteWriter,
}

/// The reading half of a [`ByteStream`].
#[must_use]
pub struct ByteReader {
    receiver: Receiver,
    rest: Rest,
}

/// The writing half of a [`ByteStream`]; dropping it ends the stream for the peer.
#[must_use]
pub struct ByteWriter {
    sender: Option<Sender>,
    peer: PeerCred,
}

/// What is left of the record that was taken last.
#[derive(Clone, Copy)]
pub(crate) struct Rest {
    place: Place,
    from: usize,
}

impl ByteStream {
    /// Connects to the listener of this name with default settings; see [`connect`](crate::connect).
    ///
    /// # Errors
    /// A [`ConnectError`](crate::ConnectError) within: nobody listens there, not allowed, no answer.
    pub fn connect(name: &str) -> io::Result<Self> {
        Ok(client::connect(name)?.into())
    }

    /// Splits into the two halves, which may go to different threads.
    pub fn into_split(self) -> (ByteReader, ByteWriter) {
        (self.reader, self.writer)
    }

    /// Says that no more will come: the peer reads to the end and then gets 0 bytes. Reading goes on.
    pub fn shutdown_write(&mut self) {
        self.writer.shutdown();
    }

    /// Returns who is at the other end, as the kernel said at the handshake.
    pub fn peer_cred(&self) -> PeerCred {
        self.writer.peer
    }
}

impl From<Connection> for ByteStream {
    fn from(connection: Connection) -> Self {
        let (sender, receiver) = connection.split();
        let peer = sender.peer_cred();
        Self {
            reader: ByteReader { receiver, rest: Rest::NOTHING },
            writer: ByteWriter { sender: Some(sender), peer },
        }
    }
}

impl ByteWriter {
    /// Says that no more will come; the same as dropping it.
    pub fn shutdown(&mut self) {
        self.sender = None;
    }
}

impl Rest {
    /// Nothing is left.
    pub(crate) const NOTHING: Self = Self { place: Place::Copied, from: usize::MAX };

    /// All of a record is left.
    pub(crate) fn all_of(place: Place) -> Self {
        Self { place, from: 0 }
    }

    /// Shows what is left.
    pub(crate) fn bytes(self, receiver: &Receiver) -> &[u8] {
        receiver.message(self.place).bytes().get(self.from..).unwrap_or_default()
    }

    /// Passes on by `len` bytes.
    pub(crate) fn consume(&mut self, len: usize) {
        self.from += len;
    }
}

impl Read for ByteReader {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        if out.is_empty() {
            return Ok(0);
        }
        // An empty record is no end.
        while self.rest.bytes(&self.receiver).is_empty() {
            self.rest = match self.receiver.take() {
                Ok(place) => Rest::all_of(place),
                Err(error) if *error.reason() == CloseReason::PeerClosed => return Ok(0),
                Err(error) => return Err(error.into()),
            };
        }
        let rest = self.rest.bytes(&self.receiver);
        let len = rest.len().min(out.len());
        out[..len].copy_from_slice(&rest[..len]);
        self.rest.consume(len);
        Ok(len)
    }
}

impl Write for ByteWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.write_vectored(&[IoSlice::new(bytes)])
    }

    fn write_vectored(&mut self, parts: &[IoSlice<'_>]) -> io::Result<usize> {
        let Some(sender) = &mut self.sender else { return Err(io::ErrorKind::BrokenPipe.into()) };
        let len = sender.gathered_len(parts);
        if len == 0 {
            return Ok(0);
        }
        sender.check_reader().map_err(SendError::Closed)?;
        let mut claim = sender.claim(len)?;
        gather(&mut claim, parts);
        claim.commit();
        Ok(len)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Read for ByteStream {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        self.reader.read(out)
    }
}

impl Write for ByteStream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.writer.write(bytes)
    }

    fn write_vectored(&mut self, parts: &[IoSlice<'_>]) -> io::Result<usize> {
        self.writer.write_vectored(parts)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Sender {
    /// Sends the beginning of `parts`, as far as one record of a byte stream holds it, if there is room now; returns how
    /// many bytes that was.
    #[cfg(feature = "tokio")]
    pub(crate) fn try_send_gathered(&mut self, parts: &[IoSlice<'_>]) -> Result<usize, TrySendError> {
        let len = self.gathered_len(parts);
        if len > 0 {
            self.check_reader().map_err(TrySendError::Closed)?;
            let mut claim = self.try_claim(len)?;
            gather(&mut claim, parts);
            claim.commit();
        }
        Ok(len)
    }

    /// Returns how many bytes of `parts` go into the next record of a byte stream.
    pub(crate) fn gathered_len(&self, parts: &[IoSlice<'_>]) -> usize {
        let len = parts.iter().fold(0_usize, |len, part| len.saturating_add(part.len()));
        len.min(RECORD_BYTES_MAX).min(self.record_bytes_max())
    }
}

/// Fills `room` from the beginning of `parts`, which have enough.
fn gather(mut room: &mut [u8], parts: &[IoSlice<'_>]) {
    for part in parts {
        let len = part.len().min(room.len());
        let (now, later) = room.split_at_mut(len);
        now.copy_from_slice(&part[..len]);
        room = later;
    }
}

/// A listener whose clients are byte streams.
///
/// # Examples
/// ```no_run
/// let mut listener = ringway::ByteListener::bind("echo")?;
/// loop {
///     let (stream, _peer) = listener.accept()?;
///     std::thread::spawn(move || {
///         let (mut reader, mut writer) = stream.into_split();
///         std::io::copy(&mut reader, &mut writer)
///     });
/// }
/// # #[allow(unreachable_code)]
/// # Ok::<(), std::io::Error>(())
/// ```
#[must_use]
pub struct ByteListener {
    listener: Listener,
}

impl ByteListener {
    /// Listens under a name with default settings; see [`Config::bind`].
    ///
    /// # Errors
    /// A [`BindError`](crate::BindError) within: the name is in use or not allowed.
    pub fn bind(name: &str) -> io::Result<Self> {
        Ok(Config::new().bind(name)?.into())
    }

    /// Waits for the next client whose handshake succeeds; see [`Listener::accept`].
    ///
    /// # Errors
    /// The listener itself failed. Clients that fail are not reported here.
    pub fn accept(&mut self) -> io::Result<(ByteStream, PeerCred)> {
        let stream = ByteStream::from(self.listener.accept()?);
        let peer = stream.peer_cred();
        Ok((stream, peer))
    }
}

impl From<Listener> for ByteListener {
    fn from(listener: Listener) -> Self {
        Self { listener }
    }
}

/// Longest record of a byte stream: as much as a first-level cache holds, and a frame of HTTP/2 with its header.
const RECORD_BYTES_MAX: usize = 32 << 10;
