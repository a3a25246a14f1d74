//! Where data comes in and goes on to the standard output.

use super::framing::Framing;
use super::meter::Meter;
use super::wire::{self, NOTE_BYTES, Note, Totals};
use crate::exit;
use anyhow::Result;
use ringway::{CloseReason, Receiver, RecvTimeoutError, TryRecvError};
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::os::fd::AsFd;
use std::time::Duration;

/// The standard output, with a frame around each message.
pub struct Output {
    /// Nothing if all is thrown away.
    writer: Option<BufWriter<File>>,
    framing: Framing,
}

impl Output {
    /// Opens the standard output.
    ///
    /// # Errors
    /// No descriptor is left.
    pub fn stdout(framing: Framing) -> io::Result<Self> {
        let file = File::from(io::stdout().as_fd().try_clone_to_owned()?);
        super::widen(&file);
        // What is longer than the buffer is written from where it lies.
        Ok(Self { writer: Some(BufWriter::with_capacity(BUFFER_BYTES, file)), framing })
    }

    /// Makes one that throws everything away.
    pub fn nowhere() -> Self {
        Self { writer: None, framing: Framing::Raw }
    }

    /// Writes what is buffered.
    ///
    /// # Errors
    /// [`exit::OutputClosed`], or what the operating system says.
    pub fn flush(&mut self) -> Result<()> {
        self.writer.as_mut().map_or(Ok(()), BufWriter::flush).map_err(exit::output_error)
    }

    /// Writes a message, or keeps it in the buffer.
    ///
    /// # Errors
    /// As [`flush`](Self::flush).
    pub fn put(&mut self, message: &[u8]) -> Result<()> {
        let Some(writer) = &mut self.writer else { return Ok(()) };
        let written = match self.framing {
            Framing::Raw => writer.write_all(message),
            Framing::Lines => writer.write_all(message).and_then(|()| writer.write_all(b"\n")),
            Framing::Frames => {
                // No message is longer than 1 GiB.
                let length = (message.len() as u32).to_le_bytes();
                writer.write_all(&length).and_then(|()| writer.write_all(message))
            }
        };
        written.map_err(exit::output_error)
    }
}

/// The data of a connection; see [`wire`] for why a message may be held back.
pub struct Inlet {
    receiver: Receiver,
    held: Option<[u8; NOTE_BYTES]>,
    totals: Totals,
}

/// What came of a look.
enum Step {
    Took,
    Idle,
    Closed(CloseReason),
}

impl Inlet {
    /// Takes over a receiver whose greeting is over.
    pub fn new(receiver: Receiver) -> Self {
        Self { receiver, held: None, totals: Totals::default() }
    }

    /// Returns what was handed on.
    pub fn totals(&self) -> Totals {
        self.totals
    }

    /// Hands everything on until the other side closes; calls `idle` every now and then while nothing comes.
    ///
    /// # Errors
    /// The output fails, or `idle` does.
    pub fn drain(
        &mut self,
        output: &mut Output,
        meter: &Meter,
        mut idle: impl FnMut() -> Result<()>,
    ) -> Result<CloseReason> {
        loop {
            let step = match self.take(Duration::ZERO, output)? {
                Step::Idle => {
                    // Whoever reads the output should not wait for more to come.
                    output.flush()?;
                    self.take(TICK, output)?
                }
                step => step,
            };
            match step {
                Step::Took => meter.show(self.totals.bytes),
                Step::Idle => idle()?,
                Step::Closed(reason) => return Ok(reason),
            }
        }
    }

    /// After the close: returns the note at the end, if `is_the_end` says that it is one; else it was data.
    ///
    /// # Errors
    /// The output fails.
    pub fn finish(
        &mut self,
        output: &mut Output,
        is_the_end: impl FnOnce(Note, Totals) -> bool,
    ) -> Result<Option<Note>> {
        let Some(held) = self.held.take() else {
            output.flush()?;
            return Ok(None);
        };
        let note = Note::decode(&held).ok().filter(|note| is_the_end(*note, self.totals));
        if note.is_none() {
            self.hand_on(&held, output)?;
        }
        output.flush()?;
        Ok(note)
    }

    fn take(&mut self, wait: Duration, output: &mut Output) -> Result<Step> {
        let message = if wait.is_zero() {
            match self.receiver.try_recv() {
                Ok(message) => message,
                Err(TryRecvError::Empty) => return Ok(Step::Idle),
                Err(TryRecvError::Closed(reason)) => return Ok(Step::Closed(reason)),
            }
        } else {
            match self.receiver.recv_timeout(wait) {
                Ok(message) => message,
                Err(RecvTimeoutError::Timeout) => return Ok(Step::Idle),
                Err(RecvTimeoutError::Closed(reason)) => return Ok(Step::Closed(reason)),
            }
        };
        if let Some(held) = self.held.take() {
            self.totals.add(held.len());
            output.put(&held)?;
        }
        if wire::looks_like_a_note(&message) {
            self.held = message.first_chunk().copied();
        } else {
            self.totals.add(message.len());
            output.put(&message)?;
        }
        Ok(Step::Took)
    }

    fn hand_on(&mut self, message: &[u8], output: &mut Output) -> Result<()> {
        self.totals.add(message.len());
        output.put(message)
    }
}

/// How often something else is looked at while nothing comes.
pub const TICK: Duration = Duration::from_millis(100);
const BUFFER_BYTES: usize = 64 << 10;
