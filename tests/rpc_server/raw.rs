//! A client that writes its frames itself, right or wrong.

use super::common::DEADLINE;
use ringway::{Config, Connection, RecvTimeoutError, Wait};

pub const REQUEST: u8 = 0x10;
pub const RESPONSE: u8 = 0x20;
pub const STREAMING: u8 = 0x04;
pub const CONTROL: u8 = REQUEST | RESPONSE;
pub const SETTINGS: u16 = 1;
pub const CANCEL: u16 = 2;
pub const CREDIT: u16 = 3;
pub const PING: u16 = 4;
pub const PONG: u16 = 5;
pub const GOING_AWAY: u16 = 6;
pub const FAILED: u16 = 0xFFFF;

/// A frame as it came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    pub flags: u8,
    pub kind: u16,
    pub id: u64,
    pub payload: Vec<u8>,
}

/// Returns the bytes of a frame.
pub fn frame(flags: u8, kind: u16, id: u64, payload: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(24 + payload.len());
    bytes.extend_from_slice(b"RWF1");
    bytes.extend_from_slice(&[1, flags]);
    bytes.extend_from_slice(&kind.to_le_bytes());
    bytes.extend_from_slice(&(payload.len() as u32).to_le_bytes());
    bytes.extend_from_slice(&id.to_le_bytes());
    bytes.extend_from_slice(&[0; 4]);
    bytes.extend_from_slice(payload);
    let checksum = crc32fast::hash(&bytes);
    bytes[20..24].copy_from_slice(&checksum.to_le_bytes());
    bytes
}

/// Returns the payload of a request.
pub fn asked(timeout_us: u32, window: u32, body: &[u8]) -> Vec<u8> {
    [&timeout_us.to_le_bytes(), &window.to_le_bytes(), body].concat()
}

/// A connection whose frames are written by hand.
pub struct Raw {
    pub connection: Connection,
    pub calls_max: u32,
}

impl Raw {
    /// Connects and hears the settings of the server.
    pub fn connect(socket: &str) -> Self {
        Self::with(&Config::new().wait(Wait::Sleep), socket)
    }

    pub fn with(config: &Config, socket: &str) -> Self {
        let connection = config.connect(socket).unwrap();
        let mut raw = Self { connection, calls_max: 0 };
        let settings = raw.hear();
        assert_eq!((settings.flags, settings.kind, settings.payload.len()), (CONTROL, SETTINGS, 16));
        raw.calls_max = u32::from_le_bytes(settings.payload[8..12].try_into().unwrap());
        raw
    }

    pub fn say(&mut self, flags: u8, kind: u16, id: u64, payload: &[u8]) {
        self.connection.send(&frame(flags, kind, id, payload)).unwrap();
    }

    pub fn ask(&mut self, kind: u16, id: u64, body: &[u8]) {
        self.say(REQUEST, kind, id, &asked(0, 0, body));
    }

    pub fn ask_for_stream(&mut self, kind: u16, id: u64, window: u32, body: &[u8]) {
        self.say(REQUEST | STREAMING, kind, id, &asked(0, window, body));
    }

    pub fn hear(&mut self) -> Frame {
        let message = self.connection.recv_timeout(DEADLINE).unwrap();
        let (head, payload) = message.split_at(24);
        let mut whole = message.to_vec();
        whole[20..24].fill(0);
        assert_eq!(&head[..4], b"RWF1");
        assert_eq!(crc32fast::hash(&whole).to_le_bytes(), head[20..24], "checksum");
        assert_eq!(u32::from_le_bytes(head[8..12].try_into().unwrap()) as usize, payload.len());
        Frame {
            flags: head[5],
            kind: u16::from_le_bytes([head[6], head[7]]),
            id: u64::from_le_bytes(head[12..20].try_into().unwrap()),
            payload: payload.to_vec(),
        }
    }

    /// Hears the whole response to a call.
    #[track_caller]
    pub fn hear_response(&mut self, id: u64) -> Vec<u8> {
        let frame = self.hear();
        assert_eq!((frame.flags, frame.id, frame.kind == FAILED), (RESPONSE, id, false), "{frame:?}");
        frame.payload
    }

    /// Hears that a call failed; returns code and text.
    #[track_caller]
    pub fn hear_failure(&mut self, id: u64) -> (u32, String) {
        let frame = self.hear();
        assert_eq!((frame.flags, frame.kind, frame.id), (RESPONSE, FAILED, id), "{frame:?}");
        let code = u32::from_le_bytes(frame.payload[..4].try_into().unwrap());
        (code, String::from_utf8(frame.payload[8..].to_vec()).unwrap())
    }

    /// Waits for the end of the connection, whatever comes before.
    #[track_caller]
    pub fn hear_end(&mut self) {
        loop {
            match self.connection.recv_timeout(DEADLINE) {
                Ok(_) => {}
                Err(RecvTimeoutError::Closed(_)) => return,
                Err(RecvTimeoutError::Timeout) => panic!("the server did not end the connection"),
            }
        }
    }
}
