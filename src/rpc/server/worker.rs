//! One worker of a server: what the pool tells it goes to its desk.

use super::desk::Desk;
use super::registry::Registry;
use super::stats::Counters;
use crate::connection::{self, Event, Member, Members, PeerCred};
use crate::error::call::FrameError;
use crate::proto::call::{Frame, Settings};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Told of clients that broke the protocol.
pub(super) type OnViolation = Box<dyn Fn(PeerCred, &FrameError) + Send + Sync>;

/// What all workers of a server share.
pub(super) struct Common<S> {
    pub(super) registry: Registry<S>,
    pub(super) state: Arc<S>,
    pub(super) settings: Settings,
    pub(super) heartbeat: Option<Duration>,
    pub(super) on_violation: OnViolation,
    #[cfg(feature = "tokio")]
    pub(super) runtime: Option<tokio::runtime::Handle>,
}

impl<S> Common<S> {
    /// Lets futures find the runtime, if there is one, until the guard is dropped.
    #[cfg(feature = "tokio")]
    pub(super) fn enter(&self) -> Option<tokio::runtime::EnterGuard<'_>> {
        self.runtime.as_ref().map(tokio::runtime::Handle::enter)
    }

    #[cfg(not(feature = "tokio"))]
    pub(super) fn enter(&self) -> Option<()> {
        None
    }
}
/// One worker.
pub(super) struct Worker<S> {
    common: Arc<Common<S>>,
    desk: Desk,
}

impl<S> Worker<S> {
    pub(super) fn new(
        common: Arc<Common<S>>,
        counters: Arc<Counters>,
        ring: impl Fn() + Send + Sync + 'static,
    ) -> Self {
        let desk = Desk::new(common.settings, common.heartbeat, counters, ring);
        Self { common, desk }
    }
}
impl<S: Send + Sync + 'static> connection::Handler for Worker<S> {
    fn on_event(&mut self, member: &mut Member, event: Event<'_>) {
        match event {
            Event::Message(message) => self.desk.hear(&self.common, member, message),
            Event::Joined => self.desk.join(member),
            Event::Room => self.desk.resume(member),
            Event::Left(_) => self.desk.leave(member),
        }
    }

    fn on_turn(&mut self, members: &mut Members<'_>, now: Instant) {
        let _context = self.common.enter();
        self.desk.poll_woken(members);
        self.desk.expire(members, now);
        self.desk.beat(members, now);
    }

    fn wakes_at(&self) -> Option<Instant> {
        self.desk.wakes_at()
    }

    fn on_shutdown(&mut self, members: &mut Members<'_>) {
        for member in members.iter_mut() {
            self.desk.say(member, &Frame::GoingAway);
        }
    }

    fn is_idle(&self) -> bool {
        self.desk.is_idle()
    }
}
