//! The examples of routes and channels do what they say, between processes.
#![allow(clippy::unwrap_used, reason = "what fails in a test may panic")]

#[allow(dead_code, reason = "its main is for people")]
#[path = "../examples/chat.rs"]
mod chat;
mod common;
#[allow(dead_code, reason = "its main is for people")]
#[path = "../examples/ticker.rs"]
mod ticker;

use common::{DEADLINE, Peer, hang_guard, scratch_dir, variable};
use std::collections::BTreeMap;
use std::time::Duration;

#[test]
fn peer_process() {
    common::run_role(&[("tell", role_tell), ("talk", role_talk)]);
}

#[test]
fn who_watches_sees_every_price_and_that_another_tells_them_after_a_kill() {
    let _guard = hang_guard();
    let scratch = scratch_dir();
    let name = format!("{}/ticker", scratch.path().display());
    let start = || Peer::spawn("tell", &[("NAME", &name)]);
    let mut teller = start();
    let (mut tellers, mut next, mut seen) = (0, None, 0);
    let show = |line: &str| {
        if let Some(rest) = line.strip_prefix("tick ") {
            let tick: u64 = rest.split(':').next().unwrap().parse().unwrap();
            assert!(next.is_none_or(|next| next == tick), "{next:?} is followed by {tick}");
            next = Some(tick + 1);
            seen += 1;
            if seen % 20 == 0 {
                teller.kill9();
            }
        } else if let Some(missed) = line.strip_prefix("missed ") {
            let missed: u64 = missed.split(' ').next().unwrap().parse().unwrap();
            next = next.map(|next| next + missed);
        } else if line.ends_with("tells the prices") {
            assert!(line.contains(&teller.pid().to_string()), "{line}");
            next = None;
            tellers += 1;
        } else {
            assert!(line.contains("died"), "{line}");
            teller = start();
        }
        tellers < 4
    };
    ticker::watch(&name, show).unwrap();
    assert!(seen >= 60);
    teller.kill9();
}

#[test]
fn everybody_hears_all_that_the_others_say() {
    let _guard = hang_guard();
    let scratch = scratch_dir();
    let name = format!("{}/chat", scratch.path().display());
    let talkers = ["anna", "ben"].map(|who| Peer::spawn("talk", &[("NAME", &name), ("WHO", who)]));
    talk_and_listen(&name, "carl");
    talkers.into_iter().for_each(Peer::finish);
}

const LINES: usize = 200;

/// Says so many lines, and hears as many from both others, in order.
fn talk_and_listen(name: &str, who: &str) {
    let (mut sender, receiver) = ringway::Channel::join(name).unwrap().split();
    sender.wait_for_receivers(2, DEADLINE).unwrap();
    let text: String = (0..LINES).map(|number| format!("line {number}\n")).collect();
    let talking = || chat::talk(sender, who, text.as_bytes()).unwrap();
    let mut heard: BTreeMap<String, usize> = BTreeMap::new();
    let show = |line: &str| {
        if let Some((other, said)) = line.split_once(": line ") {
            let count = heard.entry(other.to_owned()).or_default();
            assert_eq!(said, count.to_string(), "said by {other}");
            *count += 1;
        }
        heard.values().sum::<usize>() < 2 * LINES
    };
    std::thread::scope(|scope| {
        scope.spawn(talking);
        chat::listen(receiver, show);
    });
    let others = ["anna", "ben", "carl"].into_iter().filter(|other| *other != who);
    assert!(heard.keys().map(String::as_str).eq(others) && heard.values().all(|count| *count == LINES));
}

fn role_tell() {
    ticker::tell(&variable("NAME"), Duration::from_millis(1)).unwrap();
}

fn role_talk() {
    talk_and_listen(&variable("NAME"), &variable("WHO"));
}
