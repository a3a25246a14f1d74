//! The same work over Unix stream sockets: a length and the message, 64 KiB of buffer on both sides, a thread of the
//! server for each client. What one would write with the standard library, and the bar that ringway has to clear.

use super::broadcast;
use super::calls::{self, Line};
use super::client::{ANSWER_LIMIT, Answer, Wire};
use super::control::{ClientResult, Round, ServerResult, Work};
use super::family::SERVER;
use super::server::{Board, Span};
use anyhow::{Context, Result, anyhow};
use ringway_bench::tally::Tally;
use std::io::{self, BufRead, BufReader, BufWriter, Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::thread;
use std::time::Instant;

/// Listens at a path.
///
/// # Errors
/// The operating system refuses.
pub fn bind(path: &Path) -> Result<UnixListener> {
    // A round before this one may have left its socket.
    let _ = std::fs::remove_file(path);
    UnixListener::bind(path).with_context(|| format!("cannot listen at {}", path.display()))
}

/// Makes a server that waits for clients look at the board.
pub fn wake(path: &Path) {
    // If nobody listens there, nobody waits.
    let _ = UnixStream::connect(path);
}

/// Serves clients until the board says that it is over and the last has left.
///
/// # Errors
/// No client can be accepted, or a thread panicked.
pub fn serve(listener: UnixListener, round: Round, board: &Board) -> Result<ServerResult> {
    let mut result = ServerResult::default();
    let mut span = Span::default();
    thread::scope(|scope| {
        let mut threads = Vec::new();
        for stream in listener.incoming() {
            let stream = stream.context("cannot accept a client")?;
            if board.is_ended() {
                break;
            }
            threads.push(scope.spawn(move || serve_client(stream, round, board)));
        }
        for thread in threads {
            // A client that broke off within a message has left nothing to check.
            let served = thread.join().map_err(|_| anyhow!("a thread that serves a client panicked"))?;
            if let Ok((tally, of_client)) = served {
                result.tallies.push(tally);
                span.merge(of_client);
            }
        }
        Ok::<(), anyhow::Error>(())
    })?;
    result.nanos = span.nanos();
    Ok(result)
}

/// Takes clients until the board says that it is time to send, and then sends each message to all of them.
///
/// # Errors
/// No client can be accepted, or one does not take what it is sent.
pub fn send_to_all(listener: UnixListener, round: Round, board: &Board) -> Result<ServerResult> {
    let mut writers = Vec::new();
    for stream in listener.incoming() {
        let mut stream = stream.context("cannot accept a client")?;
        if board.is_begun() {
            break;
        }
        stream.read_exact(&mut [0; 4]).context("a client did not say who it is")?;
        stream.write_all(&[WELCOME])?;
        writers.push(BufWriter::with_capacity(BUFFER_BYTES, stream));
    }
    let sent = broadcast::pour(SERVER, round, board, |message| {
        // One that was killed takes nothing more; the others go on.
        writers.retain_mut(|writer| write_message(writer, message).is_ok());
        Ok(())
    })?;
    writers.iter_mut().for_each(|writer| drop(writer.flush()));
    Ok(ServerResult { sent, ..ServerResult::default() })
}

/// Serves one client until it leaves, however it does that.
fn serve_client(mut stream: UnixStream, round: Round, board: &Board) -> io::Result<(Tally, Span)> {
    let mut number = [0; 4];
    stream.read_exact(&mut number)?;
    stream.write_all(&[WELCOME])?;
    let mut reader = BufReader::with_capacity(BUFFER_BYTES, stream.try_clone()?);
    let mut writer = BufWriter::with_capacity(BUFFER_BYTES, stream);
    let mut tally = Tally::new(u32::from_le_bytes(number));
    let mut span = Span::default();
    let (mut message, mut part) = (Vec::new(), Vec::new());
    let mut messages = 0;
    while read_message(&mut reader, &mut message, round.bytes).is_ok() {
        if messages == 0 {
            span.extend(Instant::now());
        }
        tally.note(&message, round.bytes);
        messages += 1;
        if messages % NOTE_EVERY == 0 {
            board.add(NOTE_EVERY);
        }
        if round.work == Work::Stream {
            continue;
        }
        let answered = (0..round.parts()).try_for_each(|number| {
            calls::fill_part(&mut part, &message, round.parts(), number);
            write_message(&mut writer, &part)
        });
        // What more has come is answered together with this.
        let is_last = reader.buffer().is_empty();
        if answered.and_then(|()| if is_last { writer.flush() } else { Ok(()) }).is_err() {
            break;
        }
    }
    if messages > 0 {
        span.extend(Instant::now());
    }
    Ok((tally, span))
}

fn write_message(to: &mut impl Write, message: &[u8]) -> io::Result<()> {
    let bytes = u32::try_from(message.len()).map_err(io::Error::other)?;
    to.write_all(&bytes.to_le_bytes())?;
    to.write_all(message)
}

/// Reads a message. One that claims to be longer than agreed is cut, and fails the check.
fn read_message(from: &mut impl Read, message: &mut Vec<u8>, bytes_max: usize) -> io::Result<()> {
    let mut length = [0; 4];
    from.read_exact(&mut length)?;
    message.resize((u32::from_le_bytes(length) as usize).min(bytes_max + 1), 0);
    from.read_exact(message)
}

/// The client's end.
pub struct UdsWire {
    reader: BufReader<UnixStream>,
    writer: BufWriter<UnixStream>,
    answer: Vec<u8>,
}

impl UdsWire {
    /// Connects, says who it is, and waits until a thread of the server is there for it.
    ///
    /// # Errors
    /// The server does not listen or does not answer.
    pub fn connect(path: &Path, client: u32) -> Result<Self> {
        let mut stream =
            UnixStream::connect(path).with_context(|| format!("cannot connect to {}", path.display()))?;
        stream.write_all(&client.to_le_bytes())?;
        stream.read_exact(&mut [0]).context("the server did not welcome us")?;
        stream.set_read_timeout(Some(ANSWER_LIMIT))?;
        Ok(Self {
            reader: BufReader::with_capacity(BUFFER_BYTES, stream.try_clone()?),
            writer: BufWriter::with_capacity(BUFFER_BYTES, stream),
            answer: Vec::new(),
        })
    }
}

impl UdsWire {
    /// Receives and checks until the server closes.
    ///
    /// # Errors
    /// A message is cut short, or does not come.
    pub fn receive_all(mut self, round: Round) -> Result<ClientResult> {
        let mut tally = Tally::new(SERVER);
        let mut span = Span::default();
        while !self.reader.fill_buf().context("no message")?.is_empty() {
            read_message(&mut self.reader, &mut self.answer, round.bytes).context("no message")?;
            if tally.delivered == 0 {
                span.extend(Instant::now());
            }
            tally.note(&self.answer, round.bytes);
        }
        span.extend(Instant::now());
        Ok(ClientResult { tallies: vec![tally], nanos: span.nanos(), ..ClientResult::default() })
    }
}

impl Wire for UdsWire {
    fn send(&mut self, message: &[u8]) -> Result<()> {
        write_message(&mut self.writer, message).context("cannot send")
    }

    fn finish(mut self) -> Result<()> {
        self.writer.flush().context("cannot send")
    }

    fn call(&mut self, request: &[u8], check: impl FnOnce(&[u8]) -> bool) -> Result<Answer> {
        write_message(&mut self.writer, request)
            .and_then(|()| self.writer.flush())
            .context("cannot send a request")?;
        match read_message(&mut self.reader, &mut self.answer, request.len()) {
            Ok(()) => Ok(Answer::of(check(&self.answer))),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(Answer::Missing),
            Err(error) => Err(error).context("no answer"),
        }
    }
}

impl Line for UdsWire {
    type Asked = ();

    fn ask(&mut self, request: &[u8], _: u64) -> Result<()> {
        write_message(&mut self.writer, request).context("cannot ask")
    }

    fn take(&mut self, (): (), parts: u64, mut check: impl FnMut(&[u8]) -> bool) -> Result<Answer> {
        let mut is_right = true;
        for _ in 0..parts {
            // Before it waits: others may be in flight.
            if self.reader.buffer().is_empty() {
                self.writer.flush().context("cannot ask")?;
            }
            match read_message(&mut self.reader, &mut self.answer, MESSAGE_BYTES_MAX) {
                Ok(()) => is_right &= check(&self.answer),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(Answer::Missing),
                Err(error) => return Err(error).context("no answer"),
            }
        }
        Ok(Answer::of(is_right))
    }
}

/// As long as a message of the demo can be.
const MESSAGE_BYTES_MAX: usize = 64 << 20;
/// What is kept back before it is written, and what is read ahead.
const BUFFER_BYTES: usize = 64 << 10;
const WELCOME: u8 = 1;
/// How many messages a thread counts before it tells the others.
const NOTE_EVERY: u64 = 64;
