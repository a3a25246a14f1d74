//! A process that is a sender, a receiver or a member, and does what it is told line by line.
//!
//! | told | does | says |
//! |---|---|---|
//! | `sender`, `receiver`, `member`; NAME, options | joins | `joined`, or `refused` and why |
//! | `speaker` N | speaks as this one; else as its process number | |
//! | `await` N | waits for so many receivers | `receivers N` |
//! | `hearing` N | waits for so many senders | `senders N` |
//! | `send` COUNT MAX | sends messages of up to MAX bytes | `sent` and the number of the next |
//! | `flow` MAX | sends messages until it is told anything; who also receives does so until it is told once more | `flowing`, then as `send`, then as `receive` |
//! | `receive` COUNT | receives so many | `received`, how many in all, their checksum |
//! | `end` | receives until a sender is gone | `end`, why, how many in all, their checksum |
//! | `lag` | receives until a sender is gone, messages may be lost | `end`, why, how many in all, how many lost |
//! | `slow` US COUNT | as `end`, but waits so long after each of the first COUNT | as `end` |
//! | `survive` | receives until the sender closes, whatever it does meanwhile | `survived`, how many in all, how often it was cut off |
//! | `next`, `look` | waits for an event, or looks for one | see `describe`; `nothing` |
//! | `event` | waits until a receiver comes or goes | see `describe_member` |
//! | `count` | | receivers and senders |
//! | `leave` | drops its handles | `left` |
//! | `away`, `back` | disconnects and reconnects what it has | `away`, `back` |
//! | `quit` | ends | |

use super::{Book, Options, Speech, describe, describe_member, member_event};
use crate::common::{self, DEADLINE, Peer, hear, say};
use ringway::CloseReason;
use ringway::broadcast::{Event, JoinError, Receiver, Sender};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

/// Starts a process and lets it join.
#[track_caller]
pub fn start(role: &str, name: &str, options: &str) -> Peer {
    start_with(role, name, options, &[])
}

/// As [`start`], with these variables in its environment.
#[track_caller]
pub fn start_with(role: &str, name: &str, options: &str, variables: &[(&str, &str)]) -> Peer {
    let mut peer = Peer::spawn("actor", variables);
    peer.send_line(&format!("{role} {name} {options}"));
    peer.expect_line("joined");
    peer
}

/// Asks and returns the answer.
#[track_caller]
pub fn ask(peer: &mut Peer, line: &str) -> String {
    peer.send_line(line);
    peer.next_line()
}

/// Asks and checks the answer.
#[track_caller]
pub fn ask_for(peer: &mut Peer, line: &str, answer: &str) {
    peer.send_line(line);
    peer.expect_line(answer);
}

/// Lets it end by itself.
#[track_caller]
pub fn quit(mut peer: Peer) {
    peer.send_line("quit");
    peer.finish();
}

/// Role: obeys.
pub fn play() {
    let mut actor = Actor {
        sender: None,
        receiver: None,
        speech: Speech::new(std::process::id(), super::HEAD_BYTES),
        book: Book::default(),
        lost: 0,
    };
    loop {
        let line = hear();
        let words: Vec<&str> = line.split_whitespace().collect();
        if words[0] == "quit" {
            return;
        }
        actor.obey(words[0], &words[1..]);
    }
}

struct Actor {
    sender: Option<Sender>,
    receiver: Option<Receiver>,
    speech: Speech,
    book: Book,
    lost: u64,
}

impl Actor {
    fn obey(&mut self, verb: &str, words: &[&str]) {
        let number = |index: usize| words[index].parse::<u64>().unwrap();
        match verb {
            "sender" | "receiver" | "member" => {
                let joined = self.join(verb, words[0], &Options::new(&words[1..].join(" ")));
                say(&joined.map_or_else(|error| refused(&error), |()| "joined".to_owned()));
            }
            "speaker" => self.speech.speaker = number(0) as u32,
            "await" => {
                let count = self.sender().wait_for_receivers(number(0) as usize, DEADLINE).unwrap();
                say(&format!("receivers {count}"));
            }
            "hearing" => {
                let count = self.receiver().wait_for_senders(number(0) as usize, DEADLINE).unwrap();
                say(&format!("senders {count}"));
            }
            "send" => {
                self.speech.len_max = number(1) as usize;
                self.speech.send(self.sender.as_mut().unwrap(), number(0));
                say(&format!("sent {}", self.speech.next));
            }
            "flow" => self.flow(number(0) as usize),
            "receive" => {
                self.book.receive(self.receiver.as_mut().unwrap(), number(0));
                say(&format!("received {}", self.book.report()));
            }
            "end" => {
                let reason = self.book.receive_to_end(self.receiver.as_mut().unwrap());
                say(&format!("end {reason:?} {}", self.book.report()));
            }
            "lag" => {
                let reason = self.lag();
                assert_eq!(self.receiver().stats().lagged_messages, self.lost, "counted");
                say(&format!("end {reason} {} {}", self.book.count(), self.lost));
            }
            "slow" => {
                self.slow(Duration::from_micros(number(0)), number(1));
                let reason = self.book.receive_to_end(self.receiver.as_mut().unwrap());
                say(&format!("end {reason:?} {}", self.book.report()));
            }
            "survive" => self.survive(),
            "next" => {
                let event = self.receiver().next().unwrap();
                say(&describe(&event));
            }
            "look" => {
                let event = self.receiver().try_next().unwrap();
                say(&event.map_or("nothing".to_owned(), |event| describe(&event)));
            }
            "event" => say(&describe_member(&member_event(self.sender()))),
            "count" => {
                let receivers = self.sender.as_mut().map_or(0, Sender::receiver_count);
                let senders = self.receiver.as_mut().map_or(0, Receiver::sender_count);
                say(&format!("{receivers} {senders}"));
            }
            "leave" => {
                (self.sender, self.receiver) = (None, None);
                say("left");
            }
            "away" | "back" => self.move_away_or_back(verb),
            _ => panic!("cannot obey {verb}"),
        }
    }

    fn join(&mut self, role: &str, name: &str, options: &Options) -> Result<(), JoinError> {
        match role {
            "sender" => self.sender = Some(options.route().sender(name)?),
            "receiver" => self.receiver = Some(options.route().receiver(name)?),
            _ => {
                let (sender, receiver) = options.channel().join(name)?.split();
                (self.sender, self.receiver) = (Some(sender), Some(receiver));
            }
        }
        Ok(())
    }

    fn sender(&mut self) -> &mut Sender {
        self.sender.as_mut().unwrap()
    }

    fn receiver(&mut self) -> &mut Receiver {
        self.receiver.as_mut().unwrap()
    }

    /// Sends until a line comes. Who also receives does so meanwhile, until another line comes.
    fn flow(&mut self, len_max: usize) {
        let lines = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&lines);
        let receives = self.receiver.is_some();
        let hearing = thread::spawn(move || {
            for _ in 0..1 + usize::from(receives) {
                hear();
                count.fetch_add(1, Ordering::Relaxed);
            }
        });
        say("flowing");
        self.speech.len_max = len_max;
        let Self { sender, receiver, speech, book, .. } = self;
        thread::scope(|scope| {
            if let Some(receiver) = receiver {
                scope.spawn(|| {
                    while lines.load(Ordering::Relaxed) < 2 {
                        if let Some(Event::Message(message)) = receiver.next_timeout(MOMENT).unwrap() {
                            book.hear(&message);
                        }
                    }
                    say(&format!("received {}", book.report()));
                });
            }
            while lines.load(Ordering::Relaxed) == 0 {
                speech.send(sender.as_mut().unwrap(), 1);
            }
            say(&format!("sent {}", speech.next));
        });
        hearing.join().unwrap();
    }

    /// Receives until a sender is gone. What is said to be lost must be exactly what is missing.
    fn lag(&mut self) -> String {
        let mut speaker = None;
        loop {
            match self.receiver.as_mut().unwrap().next_timeout(DEADLINE).unwrap() {
                Some(Event::Message(message)) => speaker = Some(self.book.hear(&message).0),
                Some(Event::Joined(_)) => {}
                Some(Event::Lagged { from, messages }) => {
                    // All tests let processes speak under their number unless they are told otherwise.
                    self.book.lose(speaker.unwrap_or(from.pid()), messages);
                    self.lost += messages;
                }
                Some(Event::Left(_, reason)) => return format!("{reason:?}"),
                Some(event) => panic!("{}", describe(&event)),
                None => panic!("nothing came"),
            }
        }
    }

    fn slow(&mut self, pause: Duration, count: u64) {
        for _ in 0..count {
            self.book.receive(self.receiver.as_mut().unwrap(), 1);
            thread::sleep(pause);
        }
    }

    fn survive(&mut self) {
        let mut cuts = 0;
        loop {
            match self.book.receive_to_end(self.receiver.as_mut().unwrap()) {
                CloseReason::TooSlow => cuts += 1,
                CloseReason::PeerClosed => return say(&format!("survived {} {cuts}", self.book.count())),
                reason => panic!("{reason:?}"),
            }
        }
    }

    fn move_away_or_back(&mut self, verb: &str) {
        if let Some(sender) = &mut self.sender {
            if verb == "away" { sender.disconnect() } else { sender.reconnect().unwrap() }
        }
        if let Some(receiver) = &mut self.receiver {
            if verb == "away" { receiver.disconnect() } else { receiver.reconnect().unwrap() }
        }
        say(verb);
    }
}

/// Says why joining failed, in a word or two.
pub fn refused(error: &JoinError) -> String {
    match error {
        JoinError::SenderExists { .. } => "refused SenderExists".to_owned(),
        JoinError::Forked => "refused Forked".to_owned(),
        error => format!("refused {error}"),
    }
}

/// Says why a process failed to join.
#[track_caller]
pub fn join_again(peer: &mut Peer, role: &str, name: &str, options: &str) -> String {
    ask(peer, &format!("{role} {name} {options}"))
}

/// Waits until a process has come to sleep in all its threads but those that wait for its orders.
pub fn wait_until_stopped(peer: &Peer) {
    common::wait_until("it has stopped", || common::process_state(peer.pid()) == 'T');
}

const MOMENT: Duration = Duration::from_millis(10);
