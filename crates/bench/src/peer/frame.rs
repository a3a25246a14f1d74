//! Messages over byte streams: a length of four bytes and the message. What one writes by hand over Unix sockets and
//! pipes, and as fast as that goes: the receiver reads 64 KiB at a time and checks each message where it lies.

use super::parts::{self, Receive, Send};
use super::{Job, Keep, Outcome, Role, Stage};
use crate::case::{Case, Transport, Work};
use anyhow::{Context, Result, anyhow, bail};
use rustix::fs::{CWD, FileType, Mode};
use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind, IoSlice, Read, Write};
use std::ops::Range;
use std::os::fd::AsFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::thread;

/// Writes messages, each at once or many together.
pub struct FrameWriter<W> {
    to: W,
    buffer: Vec<u8>,
    keep_bytes: usize,
}

impl<W: Write> FrameWriter<W> {
    /// Makes one that writes each message at once.
    pub fn unbuffered(to: W) -> Self {
        Self { to, buffer: Vec::with_capacity(BUFFER_BYTES), keep_bytes: 0 }
    }

    /// Makes one that writes when 64 KiB are full.
    pub fn buffered(to: W) -> Self {
        Self { to, buffer: Vec::with_capacity(BUFFER_BYTES), keep_bytes: BUFFER_BYTES }
    }

    fn write_out(&mut self) -> io::Result<()> {
        self.to.write_all(&self.buffer)?;
        self.buffer.clear();
        Ok(())
    }

    /// Writes length and message in one call, without a copy.
    fn write_large(&mut self, length: [u8; 4], message: &[u8]) -> io::Result<()> {
        let written = loop {
            match self.to.write_vectored(&[IoSlice::new(&length), IoSlice::new(message)]) {
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                result => break result?,
            }
        };
        self.to.write_all(&length[written.min(LENGTH_BYTES)..])?;
        self.to.write_all(&message[written.saturating_sub(LENGTH_BYTES)..])
    }
}

impl<W: Write> Send for FrameWriter<W> {
    #[inline]
    fn send(&mut self, message: &[u8]) -> Result<()> {
        let length = u32::try_from(message.len())?.to_le_bytes();
        let frame_bytes = LENGTH_BYTES + message.len();
        if self.buffer.len() + frame_bytes > BUFFER_BYTES {
            self.write_out()?;
        }
        if frame_bytes > LARGE_BYTES {
            self.write_out()?;
            return Ok(self.write_large(length, message)?);
        }
        self.buffer.extend_from_slice(&length);
        self.buffer.extend_from_slice(message);
        if self.keep_bytes == 0 {
            self.write_out()?;
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<()> {
        Ok(self.write_out()?)
    }
}

/// Reads messages, as many at a time as there are.
pub struct FrameReader<R> {
    from: R,
    buffer: Vec<u8>,
    start: usize,
    end: usize,
    message_bytes_max: usize,
}

impl<R: Read> FrameReader<R> {
    /// Makes one for messages that are not longer than `message_bytes_max`.
    pub fn new(from: R, message_bytes_max: usize) -> Self {
        let buffer = vec![0; BUFFER_BYTES.max(2 * (LENGTH_BYTES + message_bytes_max))];
        Self { from, buffer, start: 0, end: 0, message_bytes_max }
    }

    /// Returns the length of the next message if it is known and allowed.
    #[inline]
    fn length(&self) -> Result<Option<usize>> {
        let Some(length) = self.buffer[self.start..self.end].first_chunk() else { return Ok(None) };
        let length = u32::from_le_bytes(*length) as usize;
        if length > self.message_bytes_max {
            bail!("a frame claims {length} bytes, but {} were agreed", self.message_bytes_max);
        }
        Ok(Some(length))
    }

    /// Takes the next message out of the buffer, if all of it is there.
    #[inline]
    fn take(&mut self) -> Result<Option<Range<usize>>> {
        let Some(length) = self.length()?.filter(|length| self.end - self.start >= LENGTH_BYTES + length)
        else {
            return Ok(None);
        };
        let start = self.start + LENGTH_BYTES;
        self.start = start + length;
        Ok(Some(start..self.start))
    }

    /// Reads more; says whether anything came.
    fn fill(&mut self) -> Result<bool> {
        if self.start == self.end {
            (self.start, self.end) = (0, 0);
        } else if self.buffer.len() - self.start < LENGTH_BYTES + self.message_bytes_max {
            self.buffer.copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, self.end - self.start);
        }
        loop {
            match self.from.read(&mut self.buffer[self.end..]) {
                Ok(bytes) => {
                    self.end += bytes;
                    return Ok(bytes > 0);
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
}

impl<R: Read> Receive for FrameReader<R> {
    #[inline]
    fn receive(&mut self) -> Result<Option<&[u8]>> {
        loop {
            if let Some(message) = self.take()? {
                return Ok(Some(&self.buffer[message]));
            }
            if !self.fill()? {
                if self.start == self.end {
                    return Ok(None);
                }
                bail!("the stream ended within a message");
            }
        }
    }

    #[inline]
    fn try_receive(&mut self) -> Result<Option<&[u8]>> {
        Ok(self.take()?.map(|message| &self.buffer[message]))
    }
}

/// Plays a part over a Unix stream socket.
pub fn play_uds(stage: &Stage) -> Result<(Outcome, Keep)> {
    let path = stage.path(".sock");
    let stream = if stage.job.role == Role::Server {
        let listener = UnixListener::bind(&path).context("cannot listen")?;
        stage.listening()?;
        listener.accept().context("cannot accept")?.0
    } else {
        UnixStream::connect(&path).context("cannot connect")?
    };
    let reading = stream.try_clone()?;
    let writer = if stage.job.case.transport == Transport::UdsBuffered {
        FrameWriter::buffered(stream)
    } else {
        FrameWriter::unbuffered(stream)
    };
    play_pair(stage, writer, FrameReader::new(reading, stage.job.case.bytes))
}

/// Plays a part over one pipe, or over two where there are answers.
pub fn play_pipe(stage: &Stage) -> Result<(Outcome, Keep)> {
    let (there, back) = (stage.path(".there"), stage.path(".back"));
    let server = stage.job.role == Role::Server;
    if server {
        make_pipe(&there)?;
        make_pipe(&back)?;
        stage.listening()?;
    }
    // Opening waits for the other side, so both open in the same order.
    let (reading, writing) = if server {
        (open_pipe(&there, false)?, open_pipe(&back, true)?)
    } else {
        let writing = open_pipe(&there, true)?;
        (open_pipe(&back, false)?, writing)
    };
    let reader = FrameReader::new(reading, stage.job.case.bytes);
    play_pair(stage, FrameWriter::unbuffered(writing), reader)
}

fn play_pair(
    stage: &Stage,
    writer: FrameWriter<impl Write>,
    reader: FrameReader<impl Read>,
) -> Result<(Outcome, Keep)> {
    let outcome = match (stage.job.case.work, stage.job.role) {
        (Work::Rtt, Role::Server) => parts::echo(stage, writer, reader),
        (Work::Rtt, Role::Client) => parts::call(stage, (writer, reader)),
        (Work::Stream, Role::Server) => parts::drain(stage, reader),
        (Work::Stream, Role::Client) => {
            // The other handle of a socket would keep it open.
            drop(reader);
            parts::pour(stage, vec![(stage.job.number, writer)])
        }
        _ => bail!("no such work over a byte stream"),
    }?;
    Ok((outcome, Box::new(())))
}

/// Several clients, one way or with answers, and one server with a thread for each of them.
pub fn play_crowd(stage: &Stage) -> Result<(Outcome, Keep)> {
    let path = stage.path(".sock");
    let Job { role, number, case, .. } = &stage.job;
    if *role == Role::Server {
        return Ok((serve_crowd(stage, &path)?, Box::new(())));
    }
    let mut stream = UnixStream::connect(&path).context("cannot connect")?;
    stream.write_all(&number.to_le_bytes())?;
    let writer = |stream| match case.transport {
        Transport::UdsBuffered => FrameWriter::buffered(stream),
        _ => FrameWriter::unbuffered(stream),
    };
    let outcome = if case.work == Work::Echo {
        let reader = FrameReader::new(stream.try_clone()?, case.bytes);
        parts::pipeline(stage, vec![parts::Line::new(*number, writer(stream), reader)])
    } else {
        parts::pour(stage, vec![(*number, writer(stream))])
    }?;
    Ok((outcome, Box::new(())))
}

fn serve_crowd(stage: &Stage, path: &Path) -> Result<Outcome> {
    let Case { bytes, clients, work, transport, .. } = stage.job.case;
    let listener = UnixListener::bind(path).context("cannot listen")?;
    stage.listening()?;
    let mut streams = Vec::new();
    for _ in 0..clients {
        let mut stream = listener.accept().context("cannot accept")?.0;
        let mut number = [0; 4];
        stream.read_exact(&mut number)?;
        streams.push((u32::from_le_bytes(number), stream));
    }
    let before = stage.ready()?;
    let serve = |(number, stream): (u32, UnixStream)| -> Result<Outcome> {
        if work == Work::Fanin {
            return Ok(parts::sum([parts::catch(number, bytes, &mut FrameReader::new(stream, bytes))?]));
        }
        let reader = FrameReader::new(stream.try_clone()?, bytes);
        let tally = match transport {
            Transport::UdsBuffered => parts::answer(number, bytes, FrameWriter::buffered(stream), reader),
            _ => parts::answer(number, bytes, FrameWriter::unbuffered(stream), reader),
        }?;
        Ok(Outcome { corrupt: parts::damage(&tally), ..Outcome::default() })
    };
    let outcomes = thread::scope(|scope| {
        let threads: Vec<_> = streams.into_iter().map(|stream| scope.spawn(|| serve(stream))).collect();
        let join = |thread: thread::ScopedJoinHandle<'_, Result<Outcome>>| {
            thread.join().map_err(|_| anyhow!("a thread that serves a client panicked"))?
        };
        threads.into_iter().map(join).collect::<Result<Vec<Outcome>>>()
    })?;
    Ok(outcomes.into_iter().fold(Outcome::default(), Outcome::and).since(before))
}

fn make_pipe(path: &Path) -> Result<()> {
    let mode = Mode::RUSR | Mode::WUSR;
    rustix::fs::mknodat(CWD, path, FileType::Fifo, mode, 0).context("cannot make a pipe")
}

fn open_pipe(path: &Path, write: bool) -> Result<File> {
    let file = OpenOptions::new().read(!write).write(write).open(path).context("cannot open a pipe")?;
    // More than the default of 64 KiB if the kernel lets us: fewer waits of the writer.
    let _ = rustix::pipe::fcntl_setpipe_size(file.as_fd(), PIPE_BYTES);
    Ok(file)
}

const LENGTH_BYTES: usize = 4;
const BUFFER_BYTES: usize = 64 << 10;
/// Longer frames are not copied together.
const LARGE_BYTES: usize = 16 << 10;
const PIPE_BYTES: usize = 1 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    /// Hands out one byte less or more each time, as streams do.
    struct Drip<'a>(&'a [u8], usize);

    impl Read for Drip<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            self.1 = self.1 % 7 + 1;
            let bytes = self.1.min(buffer.len()).min(self.0.len());
            buffer[..bytes].copy_from_slice(&self.0[..bytes]);
            self.0 = &self.0[bytes..];
            Ok(bytes)
        }
    }

    #[test]
    fn frames_come_out_as_they_went_in_however_they_are_cut() {
        let messages: Vec<Vec<u8>> =
            [0, 1, 64, 5000, 20_000, 3].map(|bytes| vec![bytes as u8 ^ 0x5a; bytes]).into();
        for mut to in [FrameWriter::unbuffered(Vec::new()), FrameWriter::buffered(Vec::new())] {
            messages.iter().for_each(|message| to.send(message).unwrap());
            to.flush().unwrap();
            let mut from = FrameReader::new(Drip(&to.to, 0), 20_000);
            for message in &messages {
                assert_eq!(from.receive().unwrap(), Some(message.as_slice()));
            }
            assert_eq!(from.receive().unwrap(), None);
        }
    }

    #[test]
    fn a_stream_that_ends_within_a_message_or_claims_too_much_is_an_error() {
        assert!(FrameReader::new(&[4, 0, 0, 0, 1][..], 16).receive().is_err());
        assert!(FrameReader::new(&[17, 0, 0, 0, 1][..], 16).receive().is_err());
    }
}
