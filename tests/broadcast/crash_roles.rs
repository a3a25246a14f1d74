//! What the processes do that die.

use crate::broadcast::{Book, Speech, await_receivers, member, receiver, sender};
use crate::common::{self, variable};
use std::time::Duration;

/// Sends on a route to two receivers: short messages and long ones.
pub fn speak() {
    let mut sender = sender(&variable("NAME"), "wait=sleep");
    await_receivers(&mut sender, 2);
    let (mut short, mut long) = (Speech::new(2, 2000), Speech::new(3, 40_000));
    for _ in 0..200 {
        short.send(&mut sender, 4);
        long.send(&mut sender, 1);
    }
}

/// Sends on a route to two receivers, who need not read.
pub fn stream() {
    let mut sender = sender(&variable("NAME"), "ring=1048576");
    await_receivers(&mut sender, 2);
    let mut speech = Speech::new(2, 2000);
    speech.send(&mut sender, 300);
    assert_eq!(sender.stats().full, 0);
}

/// Sends on a route to whoever comes, and waits for more.
pub fn host() {
    let mut sender = sender(&variable("NAME"), "policy=block");
    let mut speech = Speech::new(3, 100);
    for count in 1..=3 {
        speech.send(&mut sender, 1);
        let _ = sender.wait_for_receivers(count, common::DEADLINE);
    }
    speech.send(&mut sender, 1);
}

/// Receives from a route.
pub fn listen() {
    let mut receiver = receiver(&variable("NAME"), "wait=sleep");
    let mut book = Book::default();
    loop {
        book.receive(&mut receiver, 1);
    }
}

/// Joins a route and hears the first messages.
pub fn guest() {
    let mut receiver = receiver(&variable("NAME"), "");
    Book::default().receive(&mut receiver, 100);
}

/// Joins a channel, hears and speaks.
pub fn talk() {
    let (mut sender, mut receiver) = member(&variable("NAME"), "policy=block").split();
    let (mut speech, mut book) = (Speech::new(std::process::id(), 300), Book::default());
    for _ in 0..5000 {
        if sender.try_send(speech.next()).is_err() {
            speech.unsaid();
        }
        while receiver.try_recv().map(|message| _ = book.hear(&message)).is_ok() {}
        std::thread::sleep(Duration::from_micros(10));
    }
}
