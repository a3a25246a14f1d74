//! `listen`, `send` and `echo`: the standard streams over a connection; and the parts that `pub` and `sub` share with them.

mod echo;
mod framing;
mod inlet;
mod input;
mod interrupt;
mod listen;
mod meter;
mod send;
mod wire;

pub use echo::{EchoArgs, echo};
pub use framing::Framing;
pub use inlet::{Output, TICK};
pub use input::Input;
pub use interrupt::{GRACE, Interrupt};
pub use listen::{ListenArgs, listen};
pub use meter::{Meter, Show};
pub use send::{SendArgs, send};
pub use wire::Totals;

use crate::Profile;
use crate::exit::{Code, fault};
use anyhow::{Context, Result};
use clap::Args;
use ringway::{Config, Connection, RecvTimeoutError};
use std::fs::File;
use std::io::{ErrorKind, Read};
use std::time::{Duration, Instant};
use wire::{Content, Note, Role};

/// What a message is.
#[derive(Args)]
pub struct FramingArgs {
    /// A message for each line; the newline is no part of it
    #[arg(long)]
    lines: bool,
    /// A message for each frame: its length in 4 bytes, little-endian, and then so many bytes
    #[arg(long, conflicts_with = "lines")]
    frames: bool,
}

impl FramingArgs {
    /// Returns how messages stand in the stream.
    pub fn framing(&self) -> Framing {
        match (self.lines, self.frames) {
            (true, _) => Framing::Lines,
            (_, true) => Framing::Frames,
            _ => Framing::Raw,
        }
    }
}

/// What all have.
#[derive(Args)]
pub struct CommonArgs {
    /// Longest message that is accepted, in bytes, up to 1073741824 (1 GiB)
    #[arg(long, value_name = "BYTES", default_value_t = MESSAGE_BYTES_MAX)]
    #[arg(value_parser = clap::value_parser!(u64).range(MESSAGE_BYTES_RANGE))]
    message_bytes_max: u64,
    /// Settings of the connection
    #[arg(long, value_enum, default_value_t = Profile::Bulk)]
    profile: Profile,
    /// Say nothing on stderr but errors
    #[arg(long, short)]
    pub quiet: bool,
    /// Write a summary on stderr as one JSON object a line, errors too
    #[arg(long)]
    pub json: bool,
}

impl CommonArgs {
    /// Returns the settings.
    pub fn config(&self) -> Config {
        Config::new().profile(self.profile.into()).message_bytes_max(self.message_bytes_max)
    }

    /// Says what to show: no progress where the data itself is on the terminal.
    pub fn show(&self, data_is_visible: bool) -> Show {
        Show { quiet: self.quiet || data_is_visible, json: self.json }
    }
}

/// Reads a number of seconds.
///
/// # Errors
/// What is wrong with the text.
pub fn parse_seconds(text: &str) -> Result<Duration, String> {
    let seconds: f64 = text.parse().map_err(|_| "not a number of seconds".to_owned())?;
    Duration::try_from_secs_f64(seconds).map_err(|_| "not a time that can be waited".to_owned())
}

/// Returns when a time from now is over; never if it is beyond the clock's range.
fn deadline_of(timeout: Option<Duration>) -> Option<Instant> {
    timeout.and_then(|timeout| Instant::now().checked_add(timeout))
}

/// Reads what there is; nothing at the end.
fn read(input: &mut File, to: &mut [u8]) -> Result<usize> {
    loop {
        match input.read(to) {
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            result => return result.context("cannot read the standard input"),
        }
    }
}

/// Lets a pipe hold as much as an ordinary user may have it hold; anything else stays as it is.
fn widen(file: &File) {
    let _ = rustix::pipe::fcntl_setpipe_size(file, PIPE_BYTES);
}

/// Waits for the greeting of the other side. One that speaks the protocol has sent it already.
fn read_greeting(connection: &mut Connection) -> Result<(Role, Content)> {
    let pid = connection.peer_cred().pid;
    let foreign =
        |what: &str| fault(Code::Violation, format!("process {pid} is no peer for this command: {what}"));
    match connection.recv_timeout(GREETING_LIMIT) {
        Ok(message) => match Note::decode(&message) {
            Ok(Note::Greeting(role, content)) => Ok((role, content)),
            Ok(_) => Err(foreign("it does not begin with a greeting")),
            Err(not_a_note) => Err(foreign(&not_a_note.to_string())),
        },
        Err(RecvTimeoutError::Timeout) => {
            Err(foreign(&format!("it sent no greeting within {} s", GREETING_LIMIT.as_secs())))
        }
        Err(RecvTimeoutError::Closed(ringway::CloseReason::PeerClosed)) => {
            Err(foreign("it closed the connection without a greeting"))
        }
        Err(error) => Err(error).with_context(|| format!("process {pid} sent no greeting")),
    }
}

/// How long a greeting may take that was sent before it is waited for.
const GREETING_LIMIT: Duration = Duration::from_secs(10);
/// Longest message that is accepted unless told otherwise.
pub const MESSAGE_BYTES_MAX: u64 = 64 << 20;
/// A note must fit.
pub const MESSAGE_BYTES_RANGE: std::ops::RangeInclusive<u64> = 64..=1 << 30;
const PIPE_BYTES: usize = 1 << 20;
