//! How messages stand in a stream of bytes: cut out of what is read, and put into what is written.

use super::wire::Content;
use std::fmt;
use std::ops::Range;

/// How messages stand in a stream of bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    /// They do not: the stream is one.
    Raw,
    /// Each ends with a newline, which is no part of it.
    Lines,
    /// Each has its length before it, in 4 bytes, little-endian.
    Frames,
}

impl Framing {
    /// Returns what is told to the other side.
    pub fn content(self) -> Content {
        match self {
            Self::Raw => Content::Bytes,
            Self::Lines | Self::Frames => Content::Messages,
        }
    }
}

/// Why the input cannot be cut into messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SplitError {
    /// A line or frame is longer than the receiver takes.
    TooLong {
        /// Lines or frames.
        framing: Framing,
        /// Which, from 1.
        number: u64,
        /// Bytes that it may have.
        max: usize,
    },
    /// The input ends within a frame.
    CutShort {
        /// Which, from 1.
        number: u64,
        /// Bytes of it that came, its length included.
        bytes: usize,
    },
}

impl fmt::Display for SplitError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLong { framing, number, max } => {
                let what = if *framing == Framing::Lines { "line" } else { "frame" };
                write!(
                    f,
                    "{what} {number} is longer than {max} bytes, the most that is accepted; start both sides with a higher --message-bytes-max"
                )
            }
            Self::CutShort { number, bytes } => {
                write!(f, "the input ends within frame {number}, after {bytes} bytes of it")
            }
        }
    }
}

impl std::error::Error for SplitError {}

/// Cuts input into lines or frames. Input goes to [`space`](Self::space), messages come from [`next`](Self::next) as
/// places in [`bytes`](Self::bytes).
pub struct Splitter {
    framing: Framing,
    bytes_max: usize,
    buffer: Vec<u8>,
    /// The input that is left lies here.
    left: Range<usize>,
    /// In what is left there is no newline before here.
    searched: usize,
    number: u64,
}

impl Splitter {
    /// Makes one for messages of up to `bytes_max` bytes.
    pub fn new(framing: Framing, bytes_max: usize) -> Self {
        Self { framing, bytes_max, buffer: Vec::new(), left: 0..0, searched: 0, number: 0 }
    }

    /// Returns where the next input goes. Places from before are void.
    pub fn space(&mut self) -> &mut [u8] {
        self.buffer.copy_within(self.left.clone(), 0);
        self.searched -= self.left.start;
        self.left = 0..self.left.len();
        // Twofold, so that a long message is not moved for each part of it.
        let bytes = (2 * self.left.end).max(SPACE_BYTES);
        if self.buffer.len() < bytes {
            self.buffer.resize(bytes, 0);
        }
        &mut self.buffer[self.left.end..]
    }

    /// Says that `bytes` of input were put there.
    pub fn filled(&mut self, bytes: usize) {
        self.left.end += bytes;
    }

    /// Returns the place of the next message; `None` if it has not come in full.
    ///
    /// # Errors
    /// [`SplitError::TooLong`], as soon as that is certain.
    pub fn next(&mut self) -> Result<Option<Range<usize>>, SplitError> {
        match self.framing {
            Framing::Raw => Ok(self.take(0, self.left.len(), 0).filter(|place| !place.is_empty())),
            Framing::Lines => self.next_line(),
            Framing::Frames => self.next_frame(),
        }
    }

    /// The input has ended: returns the last message if it needs no more, such as a line without a newline.
    ///
    /// # Errors
    /// [`SplitError::CutShort`].
    pub fn finish(&mut self) -> Result<Option<Range<usize>>, SplitError> {
        match self.left.len() {
            0 => Ok(None),
            bytes if self.framing == Framing::Frames => {
                Err(SplitError::CutShort { number: self.number + 1, bytes })
            }
            bytes => Ok(self.take(0, bytes, 0)),
        }
    }

    /// Returns the bytes at a place.
    pub fn bytes(&self, place: Range<usize>) -> &[u8] {
        &self.buffer[place]
    }

    fn next_line(&mut self) -> Result<Option<Range<usize>>, SplitError> {
        let found = memchr::memchr(b'\n', &self.buffer[self.searched..self.left.end]);
        let bytes = found.map_or(self.left.end, |at| self.searched + at) - self.left.start;
        if bytes > self.bytes_max {
            return Err(self.too_long());
        }
        if found.is_some() {
            return Ok(self.take(0, bytes, 1));
        }
        self.searched = self.left.end;
        Ok(None)
    }

    fn next_frame(&mut self) -> Result<Option<Range<usize>>, SplitError> {
        let Some(length) = self.buffer[self.left.clone()].first_chunk::<LENGTH_BYTES>() else {
            return Ok(None);
        };
        let bytes = u32::from_le_bytes(*length) as usize;
        if bytes > self.bytes_max {
            return Err(self.too_long());
        }
        let has_come = self.left.len() - LENGTH_BYTES >= bytes;
        Ok(has_come.then(|| self.take(LENGTH_BYTES, bytes, 0)).flatten())
    }

    /// Takes a message with what stands before and behind it.
    fn take(&mut self, before: usize, bytes: usize, behind: usize) -> Option<Range<usize>> {
        let start = self.left.start + before;
        self.left.start = start + bytes + behind;
        self.searched = self.left.start;
        self.number += 1;
        Some(start..start + bytes)
    }

    fn too_long(&self) -> SplitError {
        SplitError::TooLong { framing: self.framing, number: self.number + 1, max: self.bytes_max }
    }
}

/// Bytes of a frame before its message.
pub const LENGTH_BYTES: usize = 4;
/// Fits into the cache of a core together with the part of the ring that it goes to.
const SPACE_BYTES: usize = 256 << 10;

#[cfg(test)]
mod tests {
    use super::*;

    /// Cuts `input`, which comes in steps of `step` bytes.
    fn split(framing: Framing, input: &[u8], step: usize, max: usize) -> (Vec<Vec<u8>>, Option<SplitError>) {
        let mut splitter = Splitter::new(framing, max);
        let mut messages = Vec::new();
        let mut input = input;
        while !input.is_empty() {
            let space = splitter.space();
            let bytes = step.min(space.len()).min(input.len());
            space[..bytes].copy_from_slice(&input[..bytes]);
            input = &input[bytes..];
            splitter.filled(bytes);
            loop {
                match splitter.next() {
                    Ok(Some(place)) => messages.push(splitter.bytes(place).to_vec()),
                    Ok(None) => break,
                    Err(error) => return (messages, Some(error)),
                }
            }
        }
        match splitter.finish() {
            Ok(last) => {
                messages.extend(last.map(|place| splitter.bytes(place).to_vec()));
                (messages, None)
            }
            Err(error) => (messages, Some(error)),
        }
    }

    #[test]
    fn lines_are_the_same_however_they_come() {
        let long = "x".repeat(700_000);
        let input = format!("one\n\n\nfour\n{long}\nlast");
        let expected: Vec<_> = input.split('\n').map(|line| line.as_bytes().to_vec()).collect();
        for step in [1, 2, 3, 64, 100_000, 262_144] {
            assert_eq!(split(Framing::Lines, input.as_bytes(), step, 1 << 20), (expected.clone(), None));
        }
    }

    #[test]
    fn a_newline_at_the_end_makes_no_empty_line() {
        assert_eq!(split(Framing::Lines, b"a\n", 9, 9), (vec![b"a".to_vec()], None));
        assert_eq!(split(Framing::Lines, b"\n", 9, 9), (vec![vec![]], None));
        assert_eq!(split(Framing::Lines, b"", 9, 9), (vec![], None));
    }

    #[test]
    fn a_line_may_have_the_maximum_and_no_byte_more() {
        assert_eq!(split(Framing::Lines, b"\n12345\n", 1, 5), (vec![vec![], b"12345".to_vec()], None));
        let error = SplitError::TooLong { framing: Framing::Lines, number: 2, max: 5 };
        for step in [1, 100] {
            assert_eq!(split(Framing::Lines, b"\n123456\n", step, 5), (vec![vec![]], Some(error)));
            assert_eq!(split(Framing::Lines, b"\n1234567", step, 5), (vec![vec![]], Some(error)));
        }
    }

    #[test]
    fn frames_are_the_same_however_they_come() {
        let messages = [vec![], b"abc".to_vec(), vec![7; 300_000], vec![]];
        let input: Vec<u8> = messages
            .iter()
            .flat_map(|message| [&(message.len() as u32).to_le_bytes(), message.as_slice()].concat())
            .collect();
        for step in [1, 3, 5, 262_144] {
            assert_eq!(split(Framing::Frames, &input, step, 300_000), (messages.to_vec(), None));
        }
    }

    #[test]
    fn a_frame_that_is_cut_short_is_named() {
        for (input, bytes) in [(b"\x01\0\0\0a\x05\0\0\0abc".as_slice(), 7), (b"\x01\0\0\0a\x05\0", 2)] {
            let error = SplitError::CutShort { number: 2, bytes };
            assert_eq!(split(Framing::Frames, input, 2, 99), (vec![b"a".to_vec()], Some(error)));
        }
    }

    #[test]
    fn a_frame_that_claims_too_much_is_refused_at_once() {
        let error = SplitError::TooLong { framing: Framing::Frames, number: 1, max: 99 };
        assert_eq!(split(Framing::Frames, b"\xff\xff\xff\xff", 4, 99), (vec![], Some(error)));
    }
}
