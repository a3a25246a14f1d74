//! The driver: the task that reads for all tasks that wait for answers on one connection.

use super::bell::Bell;
use super::call::{Reader, os};
use crate::rpc::client::core::{Held, Line, MESSAGES_PER_LOOK};
use crate::rpc::client::seats::Wake;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Weak};
use std::task::{Context, Poll};
use std::time::Instant;
use tokio::time::Sleep;

/// Starts the driver of a connection, and returns its seat.
pub(super) fn start(line: &Arc<Line>, core: &mut Held<'_>) -> usize {
    let seat = core.seats.take();
    let line = Arc::downgrade(line);
    drop(tokio::spawn(Driver { line, seat, reader: None, bell: Bell::default(), sleep: None }));
    seat
}

/// Ends with its connection, or with its runtime: then the next call of a task starts another.
struct Driver {
    line: Weak<Line>,
    seat: usize,
    reader: Option<Reader>,
    bell: Bell,
    /// When something is due by the clock.
    sleep: Option<Pin<Box<Sleep>>>,
}

impl Future for Driver {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let Some(line) = self.line.upgrade() else { return Poll::Ready(()) };
        loop {
            if self.reader.is_none() && !self.take_reader(&line, cx) {
                return if line.hold().is_over() { Poll::Ready(()) } else { Poll::Pending };
            }
            let asleep = match self.poll_asleep(cx) {
                Ok(asleep) => asleep,
                Err(error) => {
                    line.hold().close(os(&error));
                    false
                }
            };
            match self.read(&line, cx) {
                // Others want to run too, those that were answered first of all.
                Read::Some => {
                    cx.waker().wake_by_ref();
                    return Poll::Pending;
                }
                Read::Left => continue,
                Read::Nothing if asleep => return Poll::Pending,
                Read::Nothing => {}
            }
            match self.poll_rest(cx) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(error)) => line.hold().close(os(&error)),
            }
        }
    }
}

/// What reading came to.
enum Read {
    Some,
    Nothing,
    /// No task waits, or the connection has ended: the receiver is back.
    Left,
}

impl Driver {
    /// Takes the receiver if a task waits and nobody else reads; else we are woken when that changes.
    fn take_reader(&mut self, line: &Line, cx: &mut Context<'_>) -> bool {
        let wake = Wake::Task(cx.waker().clone());
        let mut core = line.hold();
        // What it replaces is our own, so dropping it drops no task.
        core.seats.set_waker(self.seat, wake.clone());
        if core.is_over() || core.tasks.waiting == 0 {
            core.rise(self.seat);
            core.tasks.driver_idles = true;
            return false;
        }
        self.reader = core.take_receiver();
        if self.reader.is_none() {
            core.baton.sit(self.seat, wake);
            self.watch_clock(&mut core, cx);
            return false;
        }
        core.rise(self.seat);
        true
    }

    /// Hands out what is there, and does what is due.
    fn read(&mut self, line: &Line, cx: &mut Context<'_>) -> Read {
        let Some(mut reader) = self.reader.take() else { return Read::Left };
        let wake = Wake::Task(cx.waker().clone());
        let mut core = line.hold();
        let heard = (0..MESSAGES_PER_LOOK).take_while(|_| core.hear_next(&mut reader)).count();
        if core.is_over() || core.tasks.waiting == 0 {
            self.bell.rest_is_over(&mut *reader);
            core.bring_receiver(reader);
            return Read::Left;
        }
        core.seats.set_waker(self.seat, wake);
        self.watch_clock(&mut core, cx);
        drop(core);
        if heard > 0 {
            self.bell.rest_is_over(&mut *reader);
        }
        self.reader = Some(reader);
        if heard > 0 { Read::Some } else { Read::Nothing }
    }

    /// Does what is due by the clock, and has us woken when more is.
    fn watch_clock(&mut self, core: &mut Held<'_>, cx: &mut Context<'_>) {
        while let Some(until) = core.next_look(None) {
            let sleep = match &mut self.sleep {
                Some(sleep) if sleep.deadline() == until.into() => sleep,
                other => other.insert(Box::pin(tokio::time::sleep_until(until.into()))),
            };
            if sleep.as_mut().poll(cx).is_pending() {
                return;
            }
            self.sleep = None;
            core.tick(Instant::now());
            if core.is_over() {
                return;
            }
        }
    }

    fn poll_asleep(&mut self, cx: &mut Context<'_>) -> std::io::Result<bool> {
        let Self { reader: Some(reader), bell, .. } = self else { return Ok(false) };
        bell.poll_asleep(cx, &mut **reader)
    }

    fn poll_rest(&mut self, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        let Self { reader: Some(reader), bell, .. } = self else { return Poll::Ready(Ok(())) };
        bell.poll_rest(cx, &mut **reader)
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        let Some(line) = self.line.upgrade().filter(|line| line.is_ours()) else { return };
        let mut core = line.hold();
        if let Some(reader) = self.reader.take() {
            core.bring_receiver(reader);
        }
        core.leave(self.seat);
        (core.tasks.driver, core.tasks.driver_idles) = (None, false);
        // Whoever waits starts another, in a runtime that lives.
        core.notify_all();
    }
}
