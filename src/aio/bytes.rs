//! Byte streams that tokio reads and writes.

use super::connection;
use super::listener::Listener;
use super::receiver::Receiver;
use super::sender::Sender;
use crate::config::Config;
use crate::connection::{Connection as Blocking, PeerCred, Rest};
use crate::error::CloseReason;
use futures_core::Stream;
use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncBufRead, AsyncRead, AsyncWrite, ReadBuf};

/// A stream of bytes to another process, in place of a `UnixStream` of tokio; see [`ByteStream`](crate::ByteStream).
///
/// # Examples
/// ```no_run
/// use tokio::io::{AsyncReadExt, AsyncWriteExt};
/// # async fn call() -> std::io::Result<()> {
/// let mut stream = ringway::tokio::ByteStream::connect("echo").await?;
/// stream.write_all(b"hello").await?;
/// let mut answer = [0; 5];
/// stream.read_exact(&mut answer).await?;
/// # Ok(())
/// # }
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
    /// `None`: shut down.
    sender: Option<Sender>,
    peer: PeerCred,
}

impl ByteStream {
    /// Connects to the listener of this name with default settings; with others see
    /// [`Connection::connect_with`](super::Connection::connect_with).
    ///
    /// # Errors
    /// A [`ConnectError`](crate::ConnectError) within: nobody listens there, not allowed, no answer.
    /// # Cancel safety
    /// The connection may still be made when the future is dropped; it is closed then.
    pub async fn connect(name: &str) -> io::Result<Self> {
        Ok(connection::connect(name).await?.into())
    }

    /// Splits into the two halves, which may go to different tasks.
    pub fn into_split(self) -> (ByteReader, ByteWriter) {
        (self.reader, self.writer)
    }

    /// Returns who is at the other end, as the kernel said at the handshake.
    pub fn peer_cred(&self) -> PeerCred {
        self.writer.peer
    }
}

impl From<super::Connection> for ByteStream {
    fn from(connection: super::Connection) -> Self {
        let (sender, receiver) = connection.split();
        let peer = sender.peer_cred();
        Self {
            reader: ByteReader { receiver, rest: Rest::NOTHING },
            writer: ByteWriter { sender: Some(sender), peer },
        }
    }
}

impl From<Blocking> for ByteStream {
    fn from(connection: Blocking) -> Self {
        super::Connection::from(connection).into()
    }
}

impl AsyncBufRead for ByteReader {
    fn poll_fill_buf(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<&[u8]>> {
        let this = self.get_mut();
        // An empty record is no end.
        while this.rest.bytes(this.receiver.half()).is_empty() {
            this.rest = match ready!(this.receiver.poll_take(cx)) {
                Ok(place) => Rest::all_of(place),
                Err(error) if *error.reason() == CloseReason::PeerClosed => return Poll::Ready(Ok(&[])),
                Err(error) => return Poll::Ready(Err(error.into())),
            };
        }
        Poll::Ready(Ok(this.rest.bytes(this.receiver.half())))
    }

    fn consume(mut self: Pin<&mut Self>, len: usize) {
        self.rest.consume(len);
    }
}

impl AsyncRead for ByteReader {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        out: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if out.remaining() == 0 {
            return Poll::Ready(Ok(()));
        }
        let rest = ready!(self.as_mut().poll_fill_buf(cx))?;
        let len = rest.len().min(out.remaining());
        out.put_slice(&rest[..len]);
        self.consume(len);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for ByteWriter {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[IoSlice::new(bytes)])
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let Some(sender) = &mut self.sender else {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        };
        sender.poll_gathered(cx, parts).map_err(Into::into)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        // What was written is visible already.
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.sender = None;
        Poll::Ready(Ok(()))
    }
}

impl AsyncBufRead for ByteStream {
    fn poll_fill_buf(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<&[u8]>> {
        Pin::new(&mut self.get_mut().reader).poll_fill_buf(cx)
    }

    fn consume(mut self: Pin<&mut Self>, len: usize) {
        self.reader.rest.consume(len);
    }
}

impl AsyncRead for ByteStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        out: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.reader).poll_read(cx, out)
    }
}

impl AsyncWrite for ByteStream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.writer).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.writer).poll_write_vectored(cx, parts)
    }

    fn is_write_vectored(&self) -> bool {
        self.writer.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.writer).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.writer).poll_shutdown(cx)
    }
}

/// A listener whose clients are byte streams, in place of a `UnixListener` of tokio.
///
/// As a [`Stream`] it yields them for ever. Clients that fail in their handshake are refused, counted, and not reported.
#[must_use]
pub struct ByteListener {
    listener: Listener,
}

impl ByteListener {
    /// Listens under a name with default settings; see [`Config::bind`]. With others:
    /// `tokio::Listener::from(config.bind(name)?).into()`.
    ///
    /// # Errors
    /// A [`BindError`](crate::BindError) within: the name is in use or not allowed.
    pub fn bind(name: &str) -> io::Result<Self> {
        Ok(Self { listener: Config::new().bind(name)?.into() })
    }

    /// Waits for the next client whose handshake succeeds.
    ///
    /// # Errors
    /// The listener itself failed.
    /// # Cancel safety
    /// A client is accepted when the future completes and not before: dropping it loses nobody.
    pub async fn accept(&mut self) -> io::Result<(ByteStream, PeerCred)> {
        let stream = poll_fn(|cx| self.poll_accept(cx)).await?;
        let peer = stream.peer_cred();
        Ok((stream, peer))
    }

    fn poll_accept(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<ByteStream>> {
        let accepted = ready!(self.listener.poll_accept(cx));
        Poll::Ready(accepted.map(ByteStream::from).map_err(Into::into))
    }
}

impl From<Listener> for ByteListener {
    fn from(listener: Listener) -> Self {
        Self { listener }
    }
}

impl Stream for ByteListener {
    type Item = io::Result<ByteStream>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.poll_accept(cx).map(Some)
    }
}
