//! The standard input, message by message, for who has other things to do while it says nothing.

use super::framing::{Framing, SplitError, Splitter};
use super::read;
use anyhow::{Context, Result};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::time::Duration;

/// The standard input.
pub struct Input {
    file: File,
    splitter: Splitter,
    /// Bytes of one read.
    bytes_max: usize,
    is_over: bool,
}

impl Input {
    /// Opens the standard input. A stream of bytes is cut as it comes, into messages that fit into a record.
    ///
    /// # Errors
    /// No descriptor is left.
    pub fn stdin(framing: Framing, message_bytes_max: usize, record_bytes_max: usize) -> Result<Self> {
        let file = io::stdin().as_fd().try_clone_to_owned().context("cannot use the standard input")?;
        let file = File::from(file);
        super::widen(&file);
        let bytes_max = if framing == Framing::Raw { record_bytes_max } else { usize::MAX };
        Ok(Self { file, splitter: Splitter::new(framing, message_bytes_max), bytes_max, is_over: false })
    }

    /// Waits until there is something to read, or the end; says whether there is.
    ///
    /// # Errors
    /// The input cannot be waited for.
    pub fn wait(&self, timeout: Duration) -> Result<bool> {
        let timeout = Timespec { tv_sec: timeout.as_secs() as i64, tv_nsec: timeout.subsec_nanos().into() };
        match poll(&mut [PollFd::new(&self.file, PollFlags::IN)], Some(&timeout)) {
            Ok(ready) => Ok(ready > 0),
            Err(Errno::INTR) => Ok(false),
            Err(error) => Err(error).context("cannot wait for the standard input"),
        }
    }

    /// Reads what there is; says whether more may come. Messages from before are void.
    ///
    /// # Errors
    /// The input cannot be read.
    pub fn read(&mut self) -> Result<bool> {
        let space = self.splitter.space();
        let bytes = space.len().min(self.bytes_max);
        let bytes = read(&mut self.file, &mut space[..bytes])?;
        self.splitter.filled(bytes);
        self.is_over = bytes == 0;
        Ok(!self.is_over)
    }

    /// Returns the next message of those that were read.
    ///
    /// # Errors
    /// [`SplitError`]: what is no message.
    pub fn next(&mut self) -> Result<Option<&[u8]>, SplitError> {
        let place = if self.is_over { self.splitter.finish() } else { self.splitter.next() };
        Ok(place?.map(|place| self.splitter.bytes(place)))
    }
}
