//! Accepting in a task.

use super::connection::Connection;
use crate::config::Config;
use crate::connection::{Connection as BlockingConnection, Listener as Blocking};
use crate::error::{AcceptError, BindError};
use crate::sys;
use std::future::poll_fn;
use std::io;
use std::task::{Context, Poll, ready};

/// Waits for clients under a name, for a task; see [`Listener`](Blocking).
#[must_use]
pub struct Listener {
    listener: Blocking,
    /// Made for the first sleep, and kept.
    watched: Option<sys::Watched>,
    asleep: bool,
}

impl Listener {
    /// Binds a name with default settings; see [`Config::bind`]. With others: `config.bind(name)?.into()`.
    ///
    /// # Errors
    /// As [`Config::bind`].
    pub fn bind(name: &str) -> Result<Self, BindError> {
        Ok(Config::new().bind(name)?.into())
    }

    /// Waits for the next client whose handshake succeeds; see [`Listener::accept`](Blocking::accept).
    ///
    /// # Errors
    /// [`AcceptError::Os`]: the listener itself failed. Clients that fail are refused, counted, and not reported here.
    /// # Cancel safety
    /// A client is accepted when the future completes and not before: dropping it loses nobody.
    pub async fn accept(&mut self) -> Result<Connection, AcceptError> {
        poll_fn(|cx| self.poll_accept(cx)).await.map(Into::into)
    }

    /// Lends the blocking form, for what it counts.
    pub fn blocking(&self) -> &Blocking {
        &self.listener
    }

    pub(super) fn poll_accept(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Result<BlockingConnection, AcceptError>> {
        loop {
            if self.asleep {
                let watched = self.watched.as_ref().expect("invariant: made before the first sleep");
                ready!(watched.poll_readable(cx)).map_err(os)?;
                self.asleep = false;
            }
            match self.listener.try_accept() {
                Err(AcceptError::Timeout) => self.fall_asleep()?,
                outcome => return Poll::Ready(outcome),
            }
        }
    }

    fn fall_asleep(&mut self) -> Result<(), AcceptError> {
        if self.watched.is_none() {
            let set = self.listener.readiness().map_err(os)?.0;
            self.watched = Some(sys::Watched::new(set).map_err(os)?);
        }
        self.listener.arm()?;
        self.asleep = true;
        Ok(())
    }
}

impl From<Blocking> for Listener {
    fn from(listener: Blocking) -> Self {
        Self { listener, watched: None, asleep: false }
    }
}

fn os(source: io::Error) -> AcceptError {
    AcceptError::Os { action: "wait for clients", source }
}
