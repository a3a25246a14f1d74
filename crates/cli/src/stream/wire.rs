//! What `send`, `listen` and `echo` say to each other around the data: bytes in, notes out, no input or output.
//!
//! ```text
//! send                              listen / echo
//!   greeting (role, content)  --->
//!                             <---  greeting (role)       both at once, or refused: a note that says why
//!                             <---  go                    when it is this sender's turn
//!   data, data, ...           --->
//!                             <---  answers               echo only, while data comes
//!   end (messages, bytes)     --->
//!   closes its sending half
//!                             <---  end (messages, bytes) what was written and flushed; or stopped: why not
//!                                   closes
//! ```
//!
//! A note is one message of 32 bytes, little-endian:
//!
//! ```text
//!  0 magic (8) | 8 version (2) | 10 kind (1) | 11 detail (1) | 12 content (1) | 13 zero (3) | 16 messages (8) | 24 bytes (8)
//! ```
//!
//! Data is sent as it is, without a header, so a message of data may look like a note. What makes a note out of it is
//! its place: the first messages on either side, and the *last* one before the close. So a receiver holds back a
//! message that looks like a note until it knows what comes next.
//!
//! A sender that gives up before the end of its input closes without an end, and is not mistaken for one that is done.

use std::fmt;

/// Bytes of a note.
pub const NOTE_BYTES: usize = 32;

/// Messages and bytes of data, notes not counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Totals {
    /// Messages of data.
    pub messages: u64,
    /// Bytes in them.
    pub bytes: u64,
}

impl Totals {
    /// Counts one message.
    pub fn add(&mut self, bytes: usize) {
        self.messages += 1;
        self.bytes += bytes as u64;
    }
}

/// Which command speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// `ringway send`
    Send,
    /// `ringway listen`
    Listen,
    /// `ringway echo`
    Echo,
}

/// What the data is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Content {
    /// A stream of bytes; where a message ends means nothing.
    Bytes,
    /// Messages: lines or frames.
    Messages,
    /// Whatever comes.
    Any,
}

/// Why a listener does not want a sender, or stopped in the middle.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// One side has a stream of bytes, the other messages.
    Content,
    /// Whoever reads the listener's output has closed it.
    OutputClosed,
    /// The listener cannot write its output.
    OutputFailed,
    /// What came did not follow the protocol.
    Protocol,
}

/// A message around the data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Note {
    /// The first message of each side.
    Greeting(Role, Content),
    /// It is this sender's turn.
    Go,
    /// The last message of a listener that will not (or not any more) take data.
    Stopped(Reason),
    /// The last message of each side when all went well.
    End(Totals),
}

/// Why a message is no note.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NotANote {
    /// It has another length or begins otherwise: the other side is another program.
    Foreign,
    /// It is a note of another version.
    Version(u16),
    /// It is a note that nobody sends.
    Malformed,
}

impl fmt::Display for NotANote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Foreign => f.write_str("what it said is nothing that this program says"),
            Self::Version(theirs) => {
                write!(
                    f,
                    "it speaks version {theirs} and this program {VERSION}; use the same release for both"
                )
            }
            Self::Malformed => f.write_str("what it said makes no sense"),
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Content => {
                "one side sends bytes and the other takes messages; use --lines or --frames on both or on neither"
            }
            Self::OutputClosed => "the program that reads the listener's output has closed it",
            Self::OutputFailed => "the listener cannot write its output; it says why",
            Self::Protocol => "the listener found a mistake in what it got; it says which",
        })
    }
}

impl Note {
    /// Makes the message.
    pub fn encode(self) -> [u8; NOTE_BYTES] {
        let (kind, detail, content, totals) = match self {
            Self::Greeting(role, content) => {
                (KIND_GREETING, role as u8 + 1, content as u8 + 1, Totals::default())
            }
            Self::Go => (KIND_GO, 0, 0, Totals::default()),
            Self::Stopped(reason) => (KIND_STOPPED, reason as u8 + 1, 0, Totals::default()),
            Self::End(totals) => (KIND_END, 0, 0, totals),
        };
        let mut bytes = [0; NOTE_BYTES];
        bytes[0..8].copy_from_slice(&MAGIC);
        bytes[8..10].copy_from_slice(&VERSION.to_le_bytes());
        bytes[10..13].copy_from_slice(&[kind, detail, content]);
        bytes[16..24].copy_from_slice(&totals.messages.to_le_bytes());
        bytes[24..32].copy_from_slice(&totals.bytes.to_le_bytes());
        bytes
    }

    /// Reads a message.
    ///
    /// # Errors
    /// [`NotANote`]: what it is instead.
    pub fn decode(message: &[u8]) -> Result<Self, NotANote> {
        if !looks_like_a_note(message) {
            return Err(NotANote::Foreign);
        }
        let number = |at: usize| message[at..].first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes));
        let version = u16::from_le_bytes([message[8], message[9]]);
        if version != VERSION {
            return Err(NotANote::Version(version));
        }
        let totals = Totals { messages: number(16), bytes: number(24) };
        let note = match (message[10], message[11], message[12]) {
            (KIND_GREETING, role, content) => Self::Greeting(role_of(role)?, content_of(content)?),
            (KIND_GO, ..) => Self::Go,
            (KIND_STOPPED, reason, _) => Self::Stopped(reason_of(reason)?),
            (KIND_END, ..) => Self::End(totals),
            _ => return Err(NotANote::Malformed),
        };
        // Nothing but what a note of its kind has, so that each has one form.
        if note.encode() == message { Ok(note) } else { Err(NotANote::Malformed) }
    }
}

/// Says whether a message has the length and the beginning of a note.
pub fn looks_like_a_note(message: &[u8]) -> bool {
    message.len() == NOTE_BYTES && message.starts_with(&MAGIC)
}

impl Content {
    /// Says whether one side may send what the other takes.
    pub fn suits(self, other: Self) -> bool {
        self == other || self == Self::Any || other == Self::Any
    }
}

fn role_of(byte: u8) -> Result<Role, NotANote> {
    [Role::Send, Role::Listen, Role::Echo]
        .into_iter()
        .find(|role| *role as u8 + 1 == byte)
        .ok_or(NotANote::Malformed)
}

fn content_of(byte: u8) -> Result<Content, NotANote> {
    let all = [Content::Bytes, Content::Messages, Content::Any];
    all.into_iter().find(|content| *content as u8 + 1 == byte).ok_or(NotANote::Malformed)
}

fn reason_of(byte: u8) -> Result<Reason, NotANote> {
    let all = [Reason::Content, Reason::OutputClosed, Reason::OutputFailed, Reason::Protocol];
    all.into_iter().find(|reason| *reason as u8 + 1 == byte).ok_or(NotANote::Malformed)
}

/// No text begins with it, and a text mode that changes line ends breaks it.
const MAGIC: [u8; 8] = *b"\x89ringw\r\n";
const VERSION: u16 = 1;
const KIND_GREETING: u8 = 1;
const KIND_GO: u8 = 2;
const KIND_STOPPED: u8 = 3;
const KIND_END: u8 = 4;

#[cfg(test)]
mod tests {
    use super::*;

    fn all() -> Vec<Note> {
        let mut notes = vec![Note::Go, Note::End(Totals { messages: 3, bytes: u64::MAX })];
        for role in [Role::Send, Role::Listen, Role::Echo] {
            for content in [Content::Bytes, Content::Messages, Content::Any] {
                notes.push(Note::Greeting(role, content));
            }
        }
        for reason in [Reason::Content, Reason::OutputClosed, Reason::OutputFailed, Reason::Protocol] {
            notes.push(Note::Stopped(reason));
        }
        notes
    }

    #[test]
    fn every_note_comes_out_as_it_went_in() {
        for note in all() {
            assert_eq!(Note::decode(&note.encode()), Ok(note));
            assert!(looks_like_a_note(&note.encode()));
        }
    }

    #[test]
    fn the_bytes_of_an_end_are_these() {
        let end = Note::End(Totals { messages: 0x0102, bytes: 0x0304 }).encode();
        let expected = b"\x89ringw\r\n\x01\0\x04\0\0\0\0\0\x02\x01\0\0\0\0\0\0\x04\x03\0\0\0\0\0\0";
        assert_eq!(&end, expected);
    }

    #[test]
    fn what_another_program_says_is_foreign() {
        let cut = Note::Go.encode();
        for message in
            [b"".as_slice(), b"hello", &[0; NOTE_BYTES], &cut[..31], &[cut.as_slice(), &[0]].concat()]
        {
            assert_eq!(Note::decode(message), Err(NotANote::Foreign));
        }
    }

    #[test]
    fn another_version_is_named() {
        let mut bytes = Note::Go.encode();
        bytes[8] = 7;
        assert_eq!(Note::decode(&bytes), Err(NotANote::Version(7)));
    }

    #[test]
    fn no_byte_of_a_note_can_change_unnoticed() {
        for note in all() {
            for at in 0..NOTE_BYTES {
                let mut bytes = note.encode();
                bytes[at] ^= 0x40;
                assert_ne!(Note::decode(&bytes), Ok(note), "byte {at}");
            }
        }
    }

    #[test]
    fn bytes_and_messages_do_not_mix() {
        assert!(Content::Bytes.suits(Content::Bytes) && Content::Messages.suits(Content::Any));
        assert!(!Content::Bytes.suits(Content::Messages) && !Content::Messages.suits(Content::Bytes));
    }
}
