//! What the tests of routes and channels share: messages that say who sent them and as which one, a book of what came,
//! and a process that does what it is told, see [`actor`].
#![allow(dead_code, reason = "every test file uses a part of it")]

pub mod actor;

use crate::common::{self, Peer, Scratch};
use ringway::broadcast::{Builder, Event, MemberEvent, Policy, Receiver, Sender, Sent};
use ringway::{Channel, CloseReason, Config, Route, Wait};
use std::collections::BTreeMap;
use std::time::Duration;

/// Returns the name of a route or a channel in a directory of the test's own.
pub fn name(scratch: &Scratch, name: &str) -> String {
    format!("{}/{name}", scratch.path().display())
}

/// Bytes that a message of [`Speech`] has at least: speaker, length, number.
pub const HEAD_BYTES: usize = 16;

/// Messages of one speaker, numbered from 0, of mixed lengths; each says who speaks, its length and its number, and
/// every other byte follows from these.
#[derive(Debug, Clone)]
pub struct Speech {
    pub speaker: u32,
    /// Number of the next message.
    pub next: u64,
    len_max: usize,
    buffer: Vec<u8>,
}

impl Speech {
    pub fn new(speaker: u32, len_max: usize) -> Self {
        assert!(len_max >= HEAD_BYTES);
        Self { speaker, next: 0, len_max, buffer: Vec::new() }
    }

    /// Makes the next message.
    pub fn next(&mut self) -> &[u8] {
        let len = HEAD_BYTES + common::mixed_len(self.next, self.len_max - HEAD_BYTES);
        self.buffer.resize(len, 0);
        self.buffer[..4].copy_from_slice(&self.speaker.to_le_bytes());
        self.buffer[4..8].copy_from_slice(&(len as u32).to_le_bytes());
        self.buffer[8..16].copy_from_slice(&self.next.to_le_bytes());
        common::fill(&mut self.buffer[HEAD_BYTES..], body_number(self.speaker, self.next));
        self.next += 1;
        &self.buffer
    }

    /// Sends so many more, by the waiting verb.
    #[track_caller]
    pub fn send(&mut self, sender: &mut Sender, count: u64) {
        for _ in 0..count {
            sender.send(self.next()).unwrap();
        }
    }

    /// Sends so many more, each of which must go to so many receivers.
    #[track_caller]
    pub fn send_to(&mut self, sender: &mut Sender, receivers: usize, count: u64) {
        for _ in 0..count {
            assert_eq!(sender.send(self.next()), Ok(Sent::To { receivers }));
        }
    }

    /// Takes back the message made last: it was not sent.
    pub fn unsaid(&mut self) {
        self.next -= 1;
    }

    /// Returns what [`Book::report`] says of who heard the messages with these numbers.
    pub fn report(&self, numbers: std::ops::Range<u64>) -> String {
        let mut speech = Self { next: numbers.start, ..self.clone() };
        let count = numbers.end - numbers.start;
        let sum = (0..count).map(|_| checksum(speech.next())).sum::<u64>();
        format!("{count} {sum}")
    }

    /// As [`report`](Self::report) of everything so far.
    pub fn report_all(&self) -> String {
        self.report(0..self.next)
    }
}

fn body_number(speaker: u32, number: u64) -> u64 {
    u64::from(speaker) << 40 ^ number
}

fn checksum(message: &[u8]) -> u64 {
    u64::from(crc32fast::hash(message))
}

/// What one receiver has heard. Messages of a speaker come in order, without a gap that was not announced.
#[derive(Debug, Default)]
pub struct Book {
    lines: BTreeMap<u32, Line>,
    count: u64,
    sum: u64,
}

/// What was heard of one speaker.
#[derive(Debug, Clone, Copy)]
pub struct Line {
    /// Number of the first message.
    pub first: u64,
    /// Number that the next one must have.
    pub next: u64,
    /// The next may have a higher number.
    may_jump: bool,
}

impl Book {
    /// Checks every byte of a message and its turn, and enters it; returns speaker and number.
    #[track_caller]
    pub fn hear(&mut self, message: &[u8]) -> (u32, u64) {
        assert!(message.len() >= HEAD_BYTES, "a message of {} bytes", message.len());
        let word = |at: usize| u32::from_le_bytes(message[at..at + 4].try_into().unwrap());
        let (speaker, len) = (word(0), word(4));
        let number = u64::from_le_bytes(message[8..16].try_into().unwrap());
        assert_eq!(message.len(), len as usize, "length of message {number} of {speaker}");
        let body = &message[HEAD_BYTES..];
        common::check(body, body_number(speaker, number), body.len());
        let fresh = Line { first: number, next: number, may_jump: false };
        let line = self.lines.entry(speaker).or_insert(fresh);
        let in_turn = number == line.next || line.may_jump && number > line.next;
        assert!(in_turn, "message {number} of {speaker} came instead of {}", line.next);
        (line.next, line.may_jump) = (number + 1, false);
        self.count += 1;
        self.sum += checksum(message);
        (speaker, number)
    }

    /// Enters that so many messages of a speaker were lost and said to be. Who was never heard begins behind them.
    pub fn lose(&mut self, speaker: u32, messages: u64) {
        let line = self.lines.entry(speaker).or_insert(Line { first: 0, next: 0, may_jump: false });
        line.next += messages;
    }

    /// Enters that the only speaker was lost sight of for a while.
    pub fn lose_sight(&mut self) {
        self.lines.values_mut().for_each(|line| line.may_jump = true);
    }

    /// Returns what was heard of one speaker.
    pub fn line(&self, speaker: u32) -> Option<Line> {
        self.lines.get(&speaker).copied()
    }

    /// Returns how many messages came.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// Says how many messages came, and their checksum.
    pub fn report(&self) -> String {
        format!("{} {}", self.count, self.sum)
    }

    /// Receives so many messages.
    #[track_caller]
    pub fn receive(&mut self, receiver: &mut Receiver, count: u64) {
        for _ in 0..count {
            self.hear(&receiver.recv_timeout(common::DEADLINE).unwrap());
        }
    }

    /// Receives until a sender is gone, and returns why it is. No message may be lost, but those that came while it had
    /// cut us off.
    #[track_caller]
    pub fn receive_to_end(&mut self, receiver: &mut Receiver) -> CloseReason {
        loop {
            match receiver.next_timeout(common::DEADLINE).unwrap() {
                Some(Event::Message(message)) => _ = self.hear(&message),
                Some(Event::Joined(_)) => {}
                Some(Event::Left(_, reason)) => {
                    if reason == CloseReason::TooSlow {
                        self.lose_sight();
                    }
                    return reason;
                }
                Some(event) => panic!("{}", describe(&event)),
                None => panic!("nothing came"),
            }
        }
    }
}

/// Says in a few words what happened, without a number that differs from run to run but that of a process.
pub fn describe(event: &Event<'_>) -> String {
    match event {
        Event::Message(message) => {
            let (speaker, number) = Book::default().hear(message);
            format!("message {speaker} {number}")
        }
        Event::Lagged { messages, .. } => format!("lagged {messages}"),
        Event::Joined(peer) => format!("joined {}", peer.pid()),
        Event::Left(peer, reason) => format!("left {} {reason:?}", peer.pid()),
        Event::Refused(refusal) => format!("refused {refusal:?}"),
        _ => "something unknown".to_owned(),
    }
}

/// As [`describe`], of what happens to a sender.
pub fn describe_member(event: &MemberEvent) -> String {
    match event {
        MemberEvent::Joined(peer) => format!("joined {}", peer.pid()),
        MemberEvent::Left(peer, reason) => format!("left {} {reason:?}", peer.pid()),
        _ => "something unknown".to_owned(),
    }
}

/// Waits for what happens next to a sender.
#[track_caller]
pub fn member_event(sender: &mut Sender) -> MemberEvent {
    let mut event = None;
    common::wait_until("a receiver comes or goes", || {
        event = sender.try_event();
        event.is_some()
    });
    event.unwrap()
}

/// Nothing has come and nothing has happened.
#[track_caller]
pub fn expect_nothing(receiver: &mut Receiver) {
    if let Some(event) = receiver.try_next().unwrap() {
        panic!("{} came", describe(&event));
    }
}

/// Settings that a process is told in one line of `KEY=VALUE`.
#[derive(Debug, Clone)]
pub struct Options {
    pub config: Config,
    policy: Option<Policy>,
    history: Option<u32>,
    prefix: Option<String>,
    hear_myself: bool,
}

impl Options {
    /// Reads them. The ring is small if they do not say otherwise, so that it is full and at its end all the time.
    pub fn new(text: &str) -> Self {
        let config = Config::new().ring_bytes(16 << 10);
        let mut options = Self { config, policy: None, history: None, prefix: None, hear_myself: false };
        text.split_whitespace().for_each(|word| options.set(word));
        options
    }

    fn set(&mut self, word: &str) {
        let (key, value) = word.split_once('=').unwrap_or((word, ""));
        let config = self.config.clone();
        match key {
            "policy" => self.policy = Some(policy(value)),
            "history" => self.history = Some(value.parse().unwrap()),
            "prefix" => self.prefix = Some(value.to_owned()),
            "hear" => self.hear_myself = true,
            "ring" => self.config = config.ring_bytes(value.parse().unwrap()),
            "many" => self.config = config.connections_max(value.parse().unwrap()),
            "wait" if value == "sleep" => self.config = config.wait(Wait::Sleep),
            "wait" if value == "spin" => self.config = config.wait(Wait::Spin),
            // SAFETY: the peers are this test program, which never writes to a message after sending it.
            "trust" => self.config = unsafe { config.trust_peer() },
            _ => panic!("there is no option {word}"),
        }
    }

    fn apply<K>(&self, builder: Builder<K>) -> Builder<K> {
        let mut builder = builder.config(self.config.clone());
        if let Some(policy) = self.policy {
            builder = builder.policy(policy);
        }
        if let Some(history) = self.history {
            builder = builder.history(history);
        }
        if let Some(prefix) = &self.prefix {
            builder = builder.prefix(prefix);
        }
        builder
    }

    pub fn route(&self) -> Builder<Route> {
        self.apply(Route::builder())
    }

    pub fn channel(&self) -> Builder<Channel> {
        self.apply(Channel::builder()).hear_myself(self.hear_myself)
    }
}

/// Reads a policy: `block`, `block:MS`, `drop`, `overwrite` or `disconnect`.
fn policy(text: &str) -> Policy {
    match text.split_once(':') {
        Some(("block", ms)) => Policy::Block { stall_max: Some(Duration::from_millis(ms.parse().unwrap())) },
        None if text == "block" => Policy::Block { stall_max: None },
        None if text == "drop" => Policy::DropNewest,
        None if text == "overwrite" => Policy::Overwrite,
        None if text == "disconnect" => Policy::Disconnect,
        _ => panic!("there is no policy {text}"),
    }
}

/// Becomes the sender of a route; see [`Options`].
#[track_caller]
pub fn sender(name: &str, options: &str) -> Sender {
    Options::new(options).route().sender(name).unwrap()
}

/// Becomes a receiver of a route; see [`Options`].
#[track_caller]
pub fn receiver(name: &str, options: &str) -> Receiver {
    Options::new(options).route().receiver(name).unwrap()
}

/// Joins a channel; see [`Options`].
#[track_caller]
pub fn member(name: &str, options: &str) -> Channel {
    Options::new(options).channel().join(name).unwrap()
}

/// Starts a process that is the sender of a route when this returns; see [`actor`].
#[track_caller]
pub fn sender_process(name: &str, options: &str) -> Peer {
    actor::start("sender", name, options)
}

/// Starts a process that is a receiver of a route when this returns; see [`actor`].
#[track_caller]
pub fn receiver_process(name: &str, options: &str) -> Peer {
    actor::start("receiver", name, options)
}

/// Starts a process that is a member of a channel when this returns; see [`actor`].
#[track_caller]
pub fn member_process(name: &str, options: &str) -> Peer {
    actor::start("member", name, options)
}

/// Lets the sender know its receivers: as many as it is said to have.
#[track_caller]
pub fn await_receivers(sender: &mut Sender, count: usize) {
    assert_eq!(sender.wait_for_receivers(count, common::DEADLINE), Ok(count));
}
