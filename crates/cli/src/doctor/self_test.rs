//! Binds, connects and sends for real, and takes the time.

use super::report::{Finding, State};
use anyhow::{Context, Result, anyhow, ensure};
use ringway::{Config, Connection, Wait};
use serde::Serialize;
use std::process;
use std::thread;
use std::time::{Duration, Instant};

/// What came of it.
#[derive(Serialize)]
pub struct SelfTest {
    ok: bool,
    error: Option<String>,
    /// Bind, connect, accept, until both sides have a connection; the first time a wake is measured too.
    connect_us: Option<f64>,
    /// Round trip of 64 bytes while both sides are awake, as the default waits; median.
    round_trip_us: Option<f64>,
    /// Half a round trip when each side sleeps at once; median.
    wake_us: Option<f64>,
}

/// Runs it: with two threads, a name of its own, and a limit for everything.
pub fn run() -> SelfTest {
    let mut test = SelfTest { ok: false, error: None, connect_us: None, round_trip_us: None, wake_us: None };
    match test.try_all() {
        Ok(()) => test.ok = true,
        Err(error) => test.error = Some(format!("{error:#}")),
    }
    test
}

impl SelfTest {
    fn try_all(&mut self) -> Result<()> {
        let start = Instant::now();
        let (here, there) = meet(&Config::new())?;
        self.connect_us = Some(micros(start.elapsed()));
        self.round_trip_us = Some(round_trip(here, there)?);
        let (here, there) = meet(&Config::new().wait(Wait::Sleep))?;
        self.wake_us = Some(round_trip(here, there)? / 2.0);
        Ok(())
    }

    /// Returns what the report says of it.
    pub fn findings(&self) -> Vec<Finding> {
        let verdict = match &self.error {
            None => Finding::new(GROUP, "bind, connect, send, receive", State::Ok).found("works"),
            Some(error) => Finding::new(GROUP, "bind, connect, send, receive", State::Failed)
                .found(error.clone())
                .fix("see what FAILED above; if nothing did, report this with the output of ringway doctor --json"),
        };
        let mut findings = vec![verdict.required()];
        for (name, micros) in [
            ("first bind and connect", self.connect_us),
            ("round trip of 64 bytes, awake", self.round_trip_us),
            ("waking a sleeper", self.wake_us),
        ] {
            if let Some(micros) = micros {
                findings.push(Finding::new(GROUP, name, State::Info).found(format!("{micros:.1} us")));
            }
        }
        findings
    }
}

/// Connects two threads by a name, as two processes would.
fn meet(config: &Config) -> Result<(Connection, Connection)> {
    let name = format!("doctor-{}", process::id());
    let mut listener = config.clone().bind(&name).context("cannot bind a name")?;
    let client = thread::spawn({
        let config = config.clone();
        move || config.connect(&name).context("cannot connect")
    });
    let there = listener.accept_timeout(LIMIT).context("nobody came")?;
    let here = client.join().map_err(|_| anyhow!("the thread that connects panicked"))??;
    Ok((here, there))
}

/// Returns the median in microseconds.
fn round_trip(mut here: Connection, mut there: Connection) -> Result<f64> {
    let answering = thread::spawn(move || {
        while let Ok(message) = there.recv_timeout(LIMIT).map(|message| message.to_vec()) {
            if there.send_timeout(&message, LIMIT).is_err() {
                break;
            }
        }
    });
    let mut times = Vec::with_capacity(ROUND_TRIPS);
    for number in 0..ROUND_TRIPS {
        let request = [number as u8; 64];
        let start = Instant::now();
        here.send_timeout(&request, LIMIT).context("cannot send")?;
        let answer = here.recv_timeout(LIMIT).context("no answer")?;
        times.push(start.elapsed());
        ensure!(*answer == request, "the answer is not what was sent");
    }
    drop(here);
    answering.join().map_err(|_| anyhow!("the thread that answers panicked"))?;
    times.sort();
    Ok(micros(times[ROUND_TRIPS / 2]))
}

fn micros(time: Duration) -> f64 {
    (time.as_secs_f64() * 1e7).round() / 10.0
}

const GROUP: &str = "self-test, two threads of this process";
const ROUND_TRIPS: usize = 1000;
/// Against hanging only.
const LIMIT: Duration = Duration::from_secs(5);
