//! The driver: the task that reads for all tasks that wait for answers on one connection.

use super::bell::Bell;
use super::call::{Reader, os};
use crate::rpc::client::core::{Held, Line};
use crate::rpc::client::reading::MESSAGES_PER_LOOK;
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
    drop(tokio::spawn(Driver { line, seat, bell: Bell::default(), sleep: None }));
    seat
}

/// Ends with its connection, or with its runtime: then the next call of a task starts another.
struct Driver {
    line: Weak<Line>,
    seat: usize,
    bell: Bell,
    /// When something is due by the clock.
    sleep: Option<Pin<Box<Sleep>>>,
}

impl Future for Driver {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let Some(line) = self.line.upgrade() else { return Poll::Ready(()) };
        let wake = Wake::Task(cx.waker().clone());
        let mut core = line.hold();
        // What it replaces is our own, so dropping it drops no task.
        core.seats.set_waker(self.seat, wake);
        core.retire_driver();
        if core.is_over() {
            return Poll::Ready(());
        }
        if core.tasks.waiting == 0 {
            core.tasks.driver_idles = true;
            return Poll::Pending;
        }
        let Some((mut reader, goes_on)) = core.drive() else {
            self.watch_clock(&mut core, cx);
            return Poll::Pending;
        };
        drop(core);
        if !goes_on {
            // Others have read since, so nothing is known of its sleep.
            self.bell.rest_is_over(&mut *reader);
        }
        let outcome = self.read(&line, &mut reader, cx);
        let mut core = line.hold();
        if let Err(error) = outcome {
            core.close(os(&error));
        }
        if core.is_over() {
            core.bring_receiver(reader);
            return Poll::Ready(());
        }
        core.rest(reader);
        Poll::Pending
    }
}

impl Driver {
    /// Hands out what is there; returns when it has us woken.
    fn read(&mut self, line: &Line, reader: &mut Reader, cx: &mut Context<'_>) -> std::io::Result<()> {
        loop {
            let asleep = self.bell.poll_asleep(cx, &mut **reader)?;
            let mut core = line.hold();
            let heard = (0..MESSAGES_PER_LOOK).take_while(|_| core.hear_next(reader)).count();
            if core.is_over() {
                return Ok(());
            }
            self.watch_clock(&mut core, cx);
            drop(core);
            if heard > 0 {
                self.bell.rest_is_over(&mut **reader);
                // Others want to run too, those that were answered first of all.
                cx.waker().wake_by_ref();
                return Ok(());
            }
            if asleep {
                return Ok(());
            }
            match self.bell.poll_rest(cx, &mut **reader) {
                Poll::Pending => return Ok(()),
                Poll::Ready(rested) => rested?,
            }
        }
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
}

impl Drop for Driver {
    fn drop(&mut self) {
        let Some(line) = self.line.upgrade().filter(|line| line.is_ours()) else { return };
        let mut core = line.hold();
        if core.tasks.driver_reads
            && let Some(reader) = core.receiver.take()
        {
            core.bring_receiver(reader);
        }
        core.leave(self.seat);
        (core.tasks.driver, core.tasks.driver_idles) = (None, false);
        // Whoever waits starts another, in a runtime that lives.
        core.notify_all();
    }
}
