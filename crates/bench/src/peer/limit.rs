//! What the hardware and the kernel can do without any message: the limits that transports are held against.

use super::{Keep, Outcome, Role, Stage};
use crate::case::{Length, Transport};
use crate::raw::{self, Hold, PING_LINE, PONG_LINE, Page};
use crate::timing::{Stopwatch, shared_nanos};
use anyhow::{Context, Result, bail};
use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};

/// Plays ping-pong over a shared page, spinning or with futex calls; at a fixed rate if the case has one.
pub fn play_page(stage: &Stage) -> Result<(Outcome, Keep)> {
    let path = stage.path(".page");
    let hold = if stage.job.case.transport == Transport::Futex { Hold::Sleep } else { Hold::Look };
    let outcome = if stage.job.role == Role::Server {
        Page::create(&path).context("cannot make a page")?;
        let page = Page::open(&path).context("cannot map a page")?;
        stage.listening()?;
        let before = stage.ready()?;
        raw::pong(page.word(PONG_LINE), page.word(PING_LINE), hold);
        Outcome::default().since(before)
    } else {
        let page = Page::open(&path).context("cannot map a page")?;
        let (ours, theirs) = (page.word(PING_LINE), page.word(PONG_LINE));
        let mut watch = Stopwatch::new()?;
        let nanos = nanos(stage)?;
        let before = stage.ready()?;
        let began = shared_nanos();
        match stage.job.case.rate {
            Some(rate) => raw::ping_at_rate(ours, theirs, rate, nanos, &mut watch),
            None => raw::ping(ours, theirs, hold, nanos, &mut watch),
        };
        timed(&watch, began).since(before)
    };
    Ok((outcome, Box::new(())))
}

/// Plays ping-pong with one byte over a blocking Unix stream socket.
pub fn play_socket(stage: &Stage) -> Result<(Outcome, Keep)> {
    let path = stage.path(".sock");
    let mut byte = [0];
    let outcome = if stage.job.role == Role::Server {
        let listener = UnixListener::bind(&path).context("cannot listen")?;
        stage.listening()?;
        let (mut stream, _) = listener.accept().context("cannot accept")?;
        let before = stage.ready()?;
        while stream.read(&mut byte)? == 1 {
            stream.write_all(&byte)?;
        }
        Outcome::default().since(before)
    } else {
        let mut stream = UnixStream::connect(&path).context("cannot connect")?;
        let mut watch = Stopwatch::new()?;
        let nanos = nanos(stage)?;
        let before = stage.ready()?;
        let began = shared_nanos();
        let begin = watch.stamp();
        loop {
            let number = byte[0].wrapping_add(1);
            let start = watch.stamp();
            stream.write_all(&[number])?;
            stream.read_exact(&mut byte)?;
            let end = watch.stamp();
            if byte != [number] {
                bail!("the socket answered {} to {number}", byte[0]);
            }
            watch.record(watch.nanos(start, end));
            if watch.nanos(begin, end) >= nanos {
                break;
            }
        }
        timed(&watch, began).since(before)
    };
    Ok((outcome, Box::new(())))
}

fn timed(watch: &Stopwatch, began: u64) -> Outcome {
    Outcome {
        span: Some((began, shared_nanos())),
        timed: watch.count(),
        latencies: watch.steps(),
        ..Outcome::default()
    }
}

fn nanos(stage: &Stage) -> Result<u64> {
    match stage.job.case.length {
        Length::Nanos(nanos) => Ok(nanos),
        Length::Count(_) => bail!("limits are measured by time"),
    }
}
