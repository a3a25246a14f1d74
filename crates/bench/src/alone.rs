//! Work within this process: a pair in one thread, copies and checksums of private memory.

use crate::case::{Case, Length};
use crate::content;
use crate::peer::Outcome;
use crate::raw;
use crate::tally::Tally;
use crate::timing::shared_nanos;
use anyhow::{Context, Result};
use std::hint;

/// Sends and receives each message in the same thread.
///
/// # Errors
/// The pair cannot be made or does not carry a message.
pub fn same_thread(case: &Case) -> Result<Outcome> {
    let (mut here, mut there) = ringway::pair(&case.config()).context("cannot make a pair")?;
    let mut tally = Tally::new(0);
    let mut message = vec![0; case.bytes];
    let (before, began) = (raw::usage(), shared_nanos());
    let mut sent = 0;
    while !is_over(case, sent, began) {
        content::fill(&mut message, 0, sent);
        here.send(&message).context("cannot send")?;
        sent += 1;
        tally.note(&there.recv().context("cannot receive")?, case.bytes);
    }
    let ended = shared_nanos();
    let after = raw::usage();
    Ok(Outcome {
        sent,
        delivered: tally.delivered,
        corrupt: tally.corrupt + tally.late,
        span: Some((began, ended)),
        timed: sent,
        cpu_nanos: after.cpu_nanos - before.cpu_nanos,
        sleeps: after.sleeps - before.sleeps,
        ..Outcome::default()
    })
}

/// Copies a buffer of private memory into another.
pub fn copy(case: &Case) -> Outcome {
    let from = vec![1_u8; case.bytes];
    let mut to = vec![0_u8; case.bytes];
    repeat(case, || hint::black_box(&mut to).copy_from_slice(hint::black_box(&from)))
}

/// Makes the checksum of a buffer that holds a message.
pub fn checksum(case: &Case) -> Outcome {
    let mut message = vec![0; case.bytes];
    content::fill(&mut message, 0, 0);
    repeat(case, || {
        hint::black_box(crc32fast::hash(hint::black_box(&message)));
    })
}

fn repeat(case: &Case, mut work: impl FnMut()) -> Outcome {
    let (before, began) = (raw::usage(), shared_nanos());
    let mut done = 0;
    while !is_over(case, done, began) {
        work();
        done += 1;
    }
    let ended = shared_nanos();
    let after = raw::usage();
    Outcome {
        span: Some((began, ended)),
        timed: done,
        cpu_nanos: after.cpu_nanos - before.cpu_nanos,
        sleeps: after.sleeps - before.sleeps,
        ..Outcome::default()
    }
}

/// Says whether so many are enough; looks at the clock now and then only.
fn is_over(case: &Case, done: u64, began: u64) -> bool {
    match case.length {
        Length::Count(count) => done >= count,
        Length::Nanos(nanos) => {
            done > 0 && done.is_multiple_of(case.look_every()) && shared_nanos() - began >= nanos
        }
    }
}
