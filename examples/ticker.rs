//! One process tells prices, any number of others watch them: a route.
//!
//! Start `cargo run --example ticker -- watch` as often as you like and `cargo run --example ticker -- tell` once, in any
//! order. Kill any of them and start it again.

use ringway::Route;
use ringway::broadcast::{Event, Policy};
use std::error::Error;
use std::time::Duration;

/// Tells a price every `pause`, until the process ends.
pub fn tell(name: &str, pause: Duration) -> Result<(), Box<dyn Error>> {
    // Prices wait for nobody: who is too slow misses some, and is told how many. Who comes late gets the last one at once.
    let mut sender = Route::builder().policy(Policy::Overwrite).history(1).sender(name)?;
    for tick in 0_u64.. {
        let cents = 10_000 + tick * tick % 977;
        sender.send(format!("tick {tick}: {}.{:02}", cents / 100, cents % 100).as_bytes())?;
        while let Some(event) = sender.try_event() {
            println!("{event:?}");
        }
        std::thread::sleep(pause);
    }
    Ok(())
}

/// Hands a line for everything that happens to `show`, until that returns `false`.
pub fn watch(name: &str, mut show: impl FnMut(&str) -> bool) -> Result<(), Box<dyn Error>> {
    let mut receiver = Route::receiver(name)?;
    loop {
        let line = match receiver.next()? {
            Event::Message(price) => String::from_utf8_lossy(&price).into_owned(),
            Event::Lagged { messages, .. } => format!("missed {messages} prices"),
            Event::Joined(teller) => format!("process {} tells the prices", teller.pid()),
            Event::Left(teller, reason) => format!("process {} is gone: {reason}", teller.pid()),
            _ => continue,
        };
        if !show(&line) {
            return Ok(());
        }
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    match std::env::args().nth(1).as_deref() {
        Some("tell") => tell("ticker", Duration::from_millis(500)),
        Some("watch") => watch("ticker", |line| {
            println!("{line}");
            true
        }),
        _ => Err("say: tell, or: watch".into()),
    }
}
