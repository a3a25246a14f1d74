//! Everybody hears what the others type: a channel.
//!
//! Start `cargo run --example chat -- YOUR-NAME` in several terminals. Ctrl-D ends it.

use ringway::Channel;
use ringway::broadcast::{Event, Receiver, Sender};
use std::error::Error;
use std::io::{BufRead, stdin};

/// Says each line of the input to all others, until it ends.
pub fn talk(mut sender: Sender, name: &str, input: impl BufRead) -> Result<(), Box<dyn Error>> {
    for line in input.lines() {
        // Built where the others read it.
        let text = format!("{name}: {}", line?);
        let mut claim = sender.claim(text.len())?;
        claim.copy_from_slice(text.as_bytes());
        claim.commit();
    }
    Ok(())
}

/// Hands a line for everything that is said, and for who comes and goes, to `show`, until that returns `false`.
pub fn listen(mut receiver: Receiver, mut show: impl FnMut(&str) -> bool) {
    while let Ok(event) = receiver.next() {
        let line = match event {
            Event::Message(text) => String::from_utf8_lossy(&text).into_owned(),
            Event::Joined(other) => format!("(process {} has come)", other.pid()),
            Event::Left(other, _) => format!("(process {} has left)", other.pid()),
            _ => continue,
        };
        if !show(&line) {
            break;
        }
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let name = std::env::args().nth(1).ok_or("say who you are")?;
    let (sender, receiver) = Channel::join("chat")?.split();
    std::thread::spawn(|| {
        listen(receiver, |line| {
            println!("{line}");
            true
        });
    });
    talk(sender, &name, stdin().lock())
}
