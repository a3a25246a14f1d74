//! Waiting in a task until enough others are there.

use super::super::bell::{Awaited, Bell, poll_until};
use super::receiver::failed;
use crate::broadcast::{Receiver, Sender, WaitError};
use crate::connection::{Armed, Readiness};
use crate::error::CloseReason;
use crate::wait::{Sliced, Slices};
use std::future::poll_fn;
use std::io;
use std::time::Duration;

/// A handle that is told who comes and goes.
pub(super) trait Informed {
    fn wait_for(&mut self, count: usize, timeout: Duration) -> Result<usize, WaitError>;
    fn readiness(&self) -> io::Result<Readiness>;
    fn arm_for_news(&mut self) -> Armed;
    fn disarm(&mut self);
}

/// Waits until at least `count` others are there; returns how many are.
pub(super) async fn wait_for<H: Informed>(
    half: &mut H,
    bell: &mut Bell,
    count: usize,
) -> Result<usize, CloseReason> {
    let mut waiting = Waiting { news: News(half), bell };
    poll_fn(|cx| {
        let Waiting { news, bell } = &mut waiting;
        let polled = poll_until(bell, cx, news, |news| match news.0.wait_for(count, Duration::ZERO) {
            Ok(present) => Some(Ok(present)),
            Err(WaitError::Timeout { .. }) => None,
            Err(WaitError::Closed(reason)) => Some(Err(reason)),
        });
        polled.map(|polled| polled.unwrap_or_else(|error| Err(failed(&error))))
    })
    .await
}

/// A wait; dropping it takes back what it announced, since whatever is waited for next is something else.
struct Waiting<'a, H: Informed> {
    news: News<'a, H>,
    bell: &'a mut Bell,
}

impl<H: Informed> Drop for Waiting<'_, H> {
    fn drop(&mut self) {
        self.bell.rest_is_over(&mut self.news);
    }
}

struct News<'a, H>(&'a mut H);

impl<H: Informed> Awaited for News<'_, H> {
    fn readiness(&self) -> io::Result<Readiness> {
        self.0.readiness()
    }

    fn arm(&mut self) -> Armed {
        self.0.arm_for_news()
    }

    fn disarm(&mut self) {
        self.0.disarm();
    }

    fn spin_slice(&mut self, _: &mut Slices) -> Sliced {
        // Who joins takes longer than any spinning is worth.
        Sliced::Exhausted
    }
}

impl Informed for Sender {
    fn wait_for(&mut self, count: usize, timeout: Duration) -> Result<usize, WaitError> {
        self.wait_for_receivers(count, timeout)
    }

    fn readiness(&self) -> io::Result<Readiness> {
        Self::readiness(self)
    }

    fn arm_for_news(&mut self) -> Armed {
        Self::arm_for_news(self)
    }

    fn disarm(&mut self) {
        Self::disarm(self);
    }
}

impl Informed for Receiver {
    fn wait_for(&mut self, count: usize, timeout: Duration) -> Result<usize, WaitError> {
        self.wait_for_senders(count, timeout)
    }

    fn readiness(&self) -> io::Result<Readiness> {
        Self::readiness(self)
    }

    fn arm_for_news(&mut self) -> Armed {
        Self::arm_for_news(self)
    }

    fn disarm(&mut self) {
        Self::disarm(self);
    }
}
