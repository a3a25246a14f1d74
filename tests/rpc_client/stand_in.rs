//! A server that does what the message type says, good or bad, and counts what it did.

use super::common::{self, say};
use ringway::{Config, Connection, Listener, Sender, Wait};
use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;

/// What the message types mean to the stand-in.
#[allow(dead_code, reason = "every test file uses a part of it")]
pub mod kind {
    /// Answers with the body.
    pub const ECHO: u16 = 1;
    /// Answers nothing, ever.
    pub const NEVER: u16 = 2;
    /// Kills the server before the answer.
    pub const DIE: u16 = 3;
    /// Streams: the body says how many parts of how many bytes (two u32).
    pub const STREAM: u16 = 4;
    /// Sends bytes that are no frame.
    pub const GARBAGE: u16 = 5;
    /// Answers a call that nobody made.
    pub const WRONG_ID: u16 = 6;
    /// Answers twice.
    pub const TWICE: u16 = 7;
    /// Streams as `STREAM`, whatever the window says.
    pub const OVERDRAW: u16 = 8;
    /// Answers when it is cancelled, so too late.
    pub const LATE: u16 = 9;
    /// Fails with code 5 and the body as text.
    pub const FAIL: u16 = 10;
    /// Answers with eight numbers: how many of each of the first eight kinds came, then cancels, then notes.
    pub const COUNTS: u16 = 11;
    /// Is not answered.
    pub const NOTE: u16 = 12;
    /// Says that the server goes away, then answers; later requests are turned away.
    pub const GO_AWAY: u16 = 13;
    /// Answers with the time left as the request told it.
    pub const TIME_LEFT: u16 = 14;
    /// Closes the connection without an answer.
    pub const HANG_UP: u16 = 15;
    /// Answers when all calls of this kind that the server accepts are there.
    pub const GATHER: u16 = 16;
    /// Streams one part for a call that expects none.
    pub const PART: u16 = 17;
    /// Kills the server when the first of this kind comes, unless the file named in the body exists; makes it first.
    pub const DIE_ONCE: u16 = 18;
    /// Answers with how many streamed bytes are under way or wait, at most, so far.
    pub const STREAMED: u16 = 19;
}

const MAGIC: [u8; 4] = *b"RWF1";
const REQUEST: u8 = 0x10;
const RESPONSE: u8 = 0x20;
const STREAMING: u8 = 0x04;
const CONTROL: u8 = REQUEST | RESPONSE;

/// Makes a frame.
pub fn frame(flags: u8, message_type: u16, id: u64, payload: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(24 + payload.len());
    out.extend_from_slice(&MAGIC);
    out.extend_from_slice(&[1, flags]);
    out.extend_from_slice(&message_type.to_le_bytes());
    out.extend_from_slice(&(payload.len() as u32).to_le_bytes());
    out.extend_from_slice(&id.to_le_bytes());
    out.extend_from_slice(&[0; 4]);
    out.extend_from_slice(payload);
    let checksum = crc32fast::hash(&out);
    out[20..24].copy_from_slice(&checksum.to_le_bytes());
    out
}

struct Asked<'a> {
    flags: u8,
    kind: u16,
    id: u64,
    payload: &'a [u8],
}

fn parse(message: &[u8]) -> Asked<'_> {
    let mut bare = message.to_vec();
    bare[20..24].fill(0);
    let checksum = u32::from_le_bytes(message[20..24].try_into().unwrap());
    assert_eq!(crc32fast::hash(&bare), checksum, "a broken frame");
    assert_eq!((&message[..4], message[4]), (&MAGIC[..], 1));
    Asked {
        flags: message[5],
        kind: u16::from_le_bytes([message[6], message[7]]),
        id: u64::from_le_bytes(message[12..20].try_into().unwrap()),
        payload: &message[24..],
    }
}

fn word(bytes: &[u8], index: usize) -> u32 {
    u32::from_le_bytes(bytes[4 * index..4 * index + 4].try_into().unwrap())
}

#[derive(Default)]
struct Counts {
    kinds: [AtomicU64; 32],
    cancels: AtomicU64,
}

struct Stream {
    next: u32,
    parts: u32,
    bytes: usize,
    window: i64,
    ignores_window: bool,
}

/// Plays the server until it is killed. `SOCKET`: where; `CALLS_MAX`: what it accepts; `WAIT`: `sleep` to sleep at once.
pub fn role() {
    let calls_max = common::number_variable("CALLS_MAX") as u32;
    let wait = if common::variable("WAIT") == "sleep" { Wait::Sleep } else { Wait::Auto };
    let config = Config::new().wait(wait).ring_bytes(RING_BYTES);
    let mut listener: Listener = config.bind(&common::variable("SOCKET")).unwrap();
    say("ready");
    let counts = Arc::new(Counts::default());
    loop {
        let connection = listener.accept().unwrap();
        let counts = Arc::clone(&counts);
        thread::spawn(move || Serving::new(connection, counts, calls_max).run(calls_max));
    }
}

/// Small, so that it is full sometimes.
pub const RING_BYTES: u64 = 64 << 10;

struct Serving {
    sender: Sender,
    receiver: Option<ringway::Receiver>,
    counts: Arc<Counts>,
    streams: HashMap<u64, Stream>,
    late: Vec<u64>,
    gathered: Vec<u64>,
    going_away: bool,
    streamed_max: Arc<Mutex<u64>>,
    streamed: i64,
}

impl Serving {
    fn new(connection: Connection, counts: Arc<Counts>, calls_max: u32) -> Self {
        let (mut sender, receiver) = connection.split();
        let mut settings = [0; 16];
        settings[0] = 1;
        settings[8..12].copy_from_slice(&calls_max.to_le_bytes());
        sender.send(&frame(CONTROL, 1, 0, &settings)).unwrap();
        Self {
            sender,
            receiver: Some(receiver),
            counts,
            streams: HashMap::new(),
            late: Vec::new(),
            gathered: Vec::new(),
            going_away: false,
            streamed_max: Arc::default(),
            streamed: 0,
        }
    }

    fn run(mut self, calls_max: u32) {
        let mut receiver = self.receiver.take().unwrap();
        while let Ok(message) = receiver.recv() {
            let asked = parse(&message);
            match asked.flags & CONTROL {
                0 => drop(self.counts.kinds[asked.kind as usize].fetch_add(1, Ordering::Relaxed)),
                REQUEST => {
                    self.counts.kinds[asked.kind as usize].fetch_add(1, Ordering::Relaxed);
                    if asked.kind == kind::HANG_UP {
                        return;
                    }
                    self.answer(&asked, calls_max);
                }
                CONTROL => self.control(&asked),
                _ => panic!("a client answers"),
            }
            self.pump();
        }
    }

    fn control(&mut self, asked: &Asked<'_>) {
        match asked.kind {
            1 => assert_eq!(asked.payload.len(), 16),
            2 => {
                self.counts.cancels.fetch_add(1, Ordering::Relaxed);
                self.streams.remove(&asked.id);
                if let Some(at) = self.late.iter().position(|id| *id == asked.id) {
                    self.late.remove(at);
                    self.say(RESPONSE, 0, asked.id, b"too late");
                }
            }
            3 => {
                let bytes = word(asked.payload, 0);
                self.streamed -= i64::from(bytes);
                if let Some(stream) = self.streams.get_mut(&asked.id) {
                    stream.window += i64::from(bytes);
                }
            }
            4 => self.say(CONTROL, 5, asked.id, &[]),
            kind => panic!("control {kind} from a client"),
        }
    }

    fn say(&mut self, flags: u8, message_type: u16, id: u64, payload: &[u8]) {
        // A client that is gone is noticed when reading.
        let _ = self.sender.send(&frame(flags, message_type, id, payload));
    }

    fn fail(&mut self, id: u64, code: u32, text: &[u8]) {
        let mut payload = u64::from(code).to_le_bytes().to_vec();
        payload.extend_from_slice(text);
        self.say(RESPONSE, 0xFFFF, id, &payload);
    }

    fn answer(&mut self, asked: &Asked<'_>, calls_max: u32) {
        let (id, body) = (asked.id, &asked.payload[8..]);
        if self.going_away {
            return self.fail(id, 14, b"stopping");
        }
        match asked.kind {
            kind::ECHO => self.say(RESPONSE, 0, id, body),
            kind::NEVER => {}
            kind::DIE => std::process::abort(),
            kind::DIE_ONCE => {
                let path = String::from_utf8(body.to_vec()).unwrap();
                if std::fs::File::create_new(path).is_ok() {
                    std::process::abort();
                }
                self.say(RESPONSE, 0, id, b"lived");
            }
            kind::STREAM | kind::OVERDRAW => {
                assert!(asked.flags & STREAMING != 0);
                let stream = Stream {
                    next: 0,
                    parts: word(body, 0),
                    bytes: word(body, 1) as usize,
                    window: word(asked.payload, 1).into(),
                    ignores_window: asked.kind == kind::OVERDRAW,
                };
                self.streams.insert(id, stream);
            }
            kind::GARBAGE => self.sender.send(b"this is not a frame at all, is it?").unwrap(),
            kind::WRONG_ID => self.say(RESPONSE, 0, id + 1_000, b""),
            kind::TWICE => {
                self.say(RESPONSE, 0, id, b"once");
                self.say(RESPONSE, 0, id, b"twice");
            }
            kind::LATE => self.late.push(id),
            kind::FAIL => self.fail(id, 5, body),
            kind::COUNTS => {
                let load = |count: &AtomicU64| count.load(Ordering::Relaxed).to_le_bytes();
                let mut numbers: Vec<u8> = self.counts.kinds.iter().flat_map(load).collect();
                numbers.extend(load(&self.counts.cancels));
                self.say(RESPONSE, 0, id, &numbers);
            }
            kind::GO_AWAY => {
                self.going_away = true;
                self.say(CONTROL, 6, 0, &[]);
                self.say(RESPONSE, 0, id, b"good-bye");
            }
            kind::TIME_LEFT => self.say(RESPONSE, 0, id, &asked.payload[..4]),
            kind::GATHER => {
                self.gathered.push(id);
                if self.gathered.len() == calls_max as usize {
                    for id in std::mem::take(&mut self.gathered) {
                        self.say(RESPONSE, 0, id, b"all here");
                    }
                }
            }
            kind::PART => self.say(RESPONSE | STREAMING, 0, id, b"part"),
            kind::STREAMED => {
                let most = *self.streamed_max.lock().unwrap();
                self.say(RESPONSE, 0, id, &most.to_le_bytes());
            }
            kind => panic!("this server knows no kind {kind}"),
        }
    }

    /// Sends of each stream what its window permits.
    fn pump(&mut self) {
        let ids: Vec<u64> = self.streams.keys().copied().collect();
        for id in ids {
            loop {
                let stream = self.streams.get_mut(&id).unwrap();
                if stream.next == stream.parts {
                    self.streams.remove(&id);
                    self.say(RESPONSE, 0, id, &[]);
                    break;
                }
                if stream.window <= 0 && !stream.ignores_window {
                    break;
                }
                let part = common::message(stream.next.into(), stream.bytes);
                stream.next += 1;
                stream.window -= stream.bytes.max(64) as i64;
                self.streamed += stream.bytes.max(64) as i64;
                let mut most = self.streamed_max.lock().unwrap();
                *most = (*most).max(self.streamed as u64);
                drop(most);
                self.say(RESPONSE | STREAMING, 0, id, &part);
            }
        }
    }
}

/// The counts of a server; see [`kind::COUNTS`].
pub struct Seen(Vec<u64>);

impl Seen {
    /// Asks the server.
    pub fn ask(client: &ringway::rpc::Client) -> Self {
        Self::new(&client.call(kind::COUNTS, &()).unwrap())
    }

    /// Asks the server from a task.
    #[cfg(feature = "tokio")]
    #[allow(dead_code, reason = "every test file uses a part of it")]
    pub async fn ask_async(client: &ringway::rpc::Client) -> Self {
        Self::new(&client.call_async(kind::COUNTS, &()).await.unwrap())
    }

    fn new(numbers: &[u8]) -> Self {
        Self(numbers.chunks(8).map(|bytes| u64::from_le_bytes(bytes.try_into().unwrap())).collect())
    }

    /// Returns how many of a kind came.
    pub fn of(&self, kind: u16) -> u64 {
        self.0[kind as usize]
    }

    /// Returns how many calls were cancelled.
    pub fn cancels(&self) -> u64 {
        self.0[32]
    }
}
