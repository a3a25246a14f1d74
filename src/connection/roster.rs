//! The members of one thread: their rings are swept while there is work, and slept for all at once when there is none.
//!
//! Who spoke lately is *hot* and looked at in every sweep. The others are *cold*: a sweep looks at a few of them, more the
//! more it brought, so their share of the work is bounded; before every sleep all of them are looked at. So a message costs
//! the same whether ten or a thousand others are connected and silent.
//!
//! Sleep is announced once, in this worker's line of the endpoint segment, for all members. The descriptors are registered
//! once, when a member joins; a sleep is one system call, and who woke us is all that is looked at afterwards. Ends are
//! learnt from the kernel alone, at the latest a millisecond late while there is work.

use super::Connection;
use super::bell::Bell;
use super::listener::Listener;
use super::member::{Event, Member, MemberId};
use super::patience::Patience;
use super::seat::{Cold, Door, Place, Seat};
use crate::error::CloseReason;
use crate::sys;
use crate::wait::{Barrier, Sleeper, Spinner, Spun, Wait, pause};
use std::io;
use std::os::fd::BorrowedFd;
use std::time::{Duration, Instant};

/// The members of one thread.
pub(super) struct Roster {
    seats: Vec<Option<Seat>>,
    free: Vec<u32>,
    hot: Vec<u32>,
    cold: Vec<Cold>,
    /// Where the next look at the cold ones begins.
    cold_next: usize,
    /// Those whose sender waits for room, and where the next look at them begins.
    stuck: Vec<u32>,
    stuck_next: usize,
    /// Those that were lent to the handler outside of their own events.
    touched: Vec<u32>,
    epoll: sys::Epoll,
    bell: Bell,
    sleeper: Sleeper,
    worker: u64,
    spinner: Spinner,
    patience: Patience,
    owner: sys::ForkToken,
    /// When the kernel was asked last, which is a system call.
    asked: Instant,
    /// What was registered by [`watch_outside`](Self::watch_outside) has something to say.
    outside: bool,
    rung: bool,
}

impl Roster {
    /// Makes an empty roster with a worker line of this listener.
    pub(super) fn new(listener: &Listener) -> io::Result<Self> {
        let Some((worker, line)) = listener.worker_line() else {
            return Err(io::Error::other(
                "all 64 worker lines of this listener are taken; use fewer workers",
            ));
        };
        // The barrier contains a fence, so it is right for clients that fence for themselves too; all do if we sleep.
        let config = listener.config();
        let expedited = config.wants_barrier() && sys::is_barrier_known();
        let barrier = if expedited { Barrier::Expedited } else { Barrier::Fence };
        let (epoll, bell) = (sys::Epoll::new()?, Bell::new()?);
        epoll.watch(bell.alarm(), BELL)?;
        Ok(Self {
            seats: Vec::new(),
            free: Vec::new(),
            hot: Vec::new(),
            cold: Vec::new(),
            cold_next: 0,
            stuck: Vec::new(),
            stuck_next: 0,
            touched: Vec::new(),
            epoll,
            bell,
            sleeper: Sleeper::new(line, barrier),
            worker,
            spinner: Spinner::new(config.wait, listener.wake_cost()),
            patience: Patience::new(config.patience),
            owner: sys::ForkToken::current()?,
            asked: Instant::now(),
            outside: true,
            rung: false,
        })
    }

    /// Ends sleeps, too, when there is something to read here.
    pub(super) fn watch_outside(&self, fd: BorrowedFd<'_>) -> io::Result<()> {
        self.epoll.watch(fd, OUTSIDE)
    }

    /// Says whether there may be something outside, once.
    pub(super) fn take_outside(&mut self) -> bool {
        std::mem::take(&mut self.outside)
    }

    /// Says whether the bell was rung since it was last asked.
    pub(super) fn take_rung(&mut self) -> bool {
        let rung = self.bell.is_rung() && self.bell.answer();
        std::mem::take(&mut self.rung) | rung
    }

    /// Says whether this process made it; a child made by fork did not, and serves nobody.
    pub(super) fn is_ours(&self) -> bool {
        self.owner.is_current()
    }

    pub(super) fn bell(&self) -> &Bell {
        &self.bell
    }

    pub(super) fn len(&self) -> usize {
        self.seats.len() - self.free.len()
    }

    /// Lends a member; its wishes are granted in the next sweep.
    pub(super) fn get(&mut self, id: MemberId) -> Option<&mut Member> {
        let seat = self.seats.get_mut(id.seat() as usize)?.as_mut()?;
        if seat.member.id() != id || seat.has_left {
            return None;
        }
        if !std::mem::replace(&mut seat.is_touched, true) {
            self.touched.push(id.seat());
        }
        Some(&mut seat.member)
    }

    /// Lends each member in turn, in the order of their seats.
    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Member> {
        let touched = &mut self.touched;
        self.seats.iter_mut().flatten().map(|seat| {
            if !std::mem::replace(&mut seat.is_touched, true) {
                touched.push(seat.member.id().seat());
            }
            &mut seat.member
        })
    }

    /// Gives a connection a seat.
    ///
    /// # Errors
    /// It cannot be waited for; the connection is closed.
    pub(super) fn join(
        &mut self,
        connection: Connection,
        number: u64,
        handle: &mut impl FnMut(&mut Member, Event<'_>),
    ) -> io::Result<()> {
        let (sender, receiver) = connection.split();
        let at = self.free.last().copied().unwrap_or(self.seats.len() as u32);
        let mut seat = Seat::new(Member::new(MemberId::new(number, at), sender), receiver);
        seat.watch(&self.epoll, at).inspect_err(|_| seat.unwatch(&self.epoll))?;
        if self.free.pop().is_none() {
            self.seats.push(None);
        }
        let seat = self.seats[at as usize].insert(seat);
        seat.receiver.delegate(self.worker);
        handle(&mut seat.member, Event::Joined);
        self.place_hot(at);
        self.grant(at, handle);
        Ok(())
    }

    /// Waits as long as the stream that comes in needs; call it before a sweep.
    pub(super) fn be_patient(&mut self) {
        pause(self.patience.due());
    }

    /// Looks at everybody in the next sweeps.
    pub(super) fn look_at_all(&mut self) {
        while let Some(cold) = self.cold.last() {
            self.place_hot(cold.seat);
        }
    }

    /// Looks at all who are hot and some who are cold, hands out what came, and returns the number of events.
    pub(super) fn sweep(&mut self, handle: &mut impl FnMut(&mut Member, Event<'_>)) -> usize {
        let mut events = self.grant_touched(handle);
        let mut index = 0;
        while let Some(&at) = self.hot.get(index) {
            events += self.serve(at, handle);
            // Whoever went elsewhere has left its place to the last one.
            index += usize::from(self.hot.get(index) == Some(&at));
        }
        let mut looks = (COLD_LOOKS + events).min(self.cold.len());
        while looks > 0 && self.is_ours() {
            looks -= 1;
            if self.cold_next >= self.cold.len() {
                self.cold_next = 0;
            }
            let Some(cold) = self.cold.get(self.cold_next) else { break };
            if cold.is_ready() {
                let at = cold.seat;
                self.place_hot(at);
                events += self.serve(at, handle);
            } else {
                self.cold_next += 1;
            }
        }
        events + self.look_for_room(handle)
    }

    /// Nothing came in a whole sweep: spins a little, then sleeps, at most until `deadline`, unless `prepare` says that
    /// there is more to prepare.
    pub(super) fn rest(
        &mut self,
        deadline: Option<Instant>,
        prepare: impl FnOnce() -> bool,
    ) -> io::Result<()> {
        if !self.is_ours() {
            return Ok(());
        }
        let stream = self.patience.rest();
        let Self { seats, hot, cold, cold_next, stuck, stuck_next, bell, spinner, .. } = self;
        let few = COLD_LOOKS.min(cold.len());
        // First those of whom something is expected: they decide how soon an answer begins.
        let glance = || {
            hot.iter().any(|at| is_ready(seats, *at))
                || bell.is_rung()
                || (0..few).any(|_| {
                    *cold_next = if *cold_next < cold.len() - 1 { *cold_next + 1 } else { 0 };
                    cold[*cold_next].is_ready()
                })
                || !stuck.is_empty() && has_room(seats, stuck, stuck_next)
        };
        match spinner.spin_over(hot.len() + few, deadline, stream, glance) {
            Spun::Ready | Spun::TimedOut => return Ok(()),
            Spun::Exhausted if spinner.wait() == Wait::Spin => return self.ask_kernel(Some(Duration::ZERO)),
            Spun::Exhausted => {}
        }
        if !prepare() || self.await_room() {
            return Ok(());
        }
        self.sleeper.arm();
        let slept = if !self.bell.doze() || self.is_anything_ready() {
            Ok(())
        } else {
            self.ask_kernel(deadline.map(|until| until.saturating_duration_since(Instant::now())))
        };
        self.sleeper.disarm();
        self.rung |= self.bell.answer();
        slept
    }

    /// Asks the kernel, once a millisecond, who has rung or gone: while there is work nobody sleeps and hears of it.
    pub(super) fn look_around(&mut self, now: Instant) -> io::Result<()> {
        if now.saturating_duration_since(self.asked) < ASK_INTERVAL {
            return Ok(());
        }
        self.ask_kernel(Some(Duration::ZERO))
    }

    fn serve(&mut self, at: u32, handle: &mut impl FnMut(&mut Member, Event<'_>)) -> usize {
        let Some(seat) = &mut self.seats[at as usize] else { return 0 };
        let sent = seat.member.sender.sent_messages();
        let events = seat.serve(handle);
        if events > 0 {
            seat.misses = 0;
            self.patience.note(events, seat.member.sender.sent_messages() != sent);
            if seat.has_left || seat.has_wishes() {
                return events + self.grant(at, handle);
            }
        } else {
            seat.misses += 1;
            if seat.misses >= MISSES_MAX && seat.receiver.link().is_fit() && !seat.receiver.is_ready() {
                self.place_cold(at);
            }
        }
        events
    }

    fn grant_touched(&mut self, handle: &mut impl FnMut(&mut Member, Event<'_>)) -> usize {
        let mut events = 0;
        while let Some(at) = self.touched.pop() {
            if let Some(seat) = &mut self.seats[at as usize] {
                seat.is_touched = false;
                events += self.grant(at, handle);
            }
        }
        events
    }

    /// Does what the handler wishes for a member; returns the number of events, which is 1 if it leaves.
    fn grant(&mut self, at: u32, handle: &mut impl FnMut(&mut Member, Event<'_>)) -> usize {
        let Some(seat) = &mut self.seats[at as usize] else { return 0 };
        let mut events = 0;
        if seat.member.wishes.leave && !seat.has_left {
            seat.leave(CloseReason::Disconnected, handle);
            events = 1;
        }
        if seat.has_left {
            self.vacate(at);
            return events;
        }
        if !self.owner.is_current() {
            return events;
        }
        let wishes = seat.member.wishes;
        if wishes.pause != (seat.place == Place::Paused) {
            if wishes.pause && !seat.receiver.link().is_hung_up() {
                seat.receiver.look_away();
                self.unplace(at);
            } else {
                seat.member.wishes.pause = false;
                seat.receiver.delegate(self.worker);
                self.place_hot(at);
            }
        }
        self.set_stuck(at, wishes.room);
        events
    }

    fn set_stuck(&mut self, at: u32, stuck: bool) {
        let Some(seat) = &mut self.seats[at as usize] else { return };
        if seat.is_stuck == stuck {
            return;
        }
        seat.is_stuck = stuck;
        if stuck {
            self.stuck.push(at);
        } else {
            seat.member.sender.forget_room();
            self.stuck.retain(|other| *other != at);
        }
    }

    /// Looks whether some of those who wait for room have it.
    fn look_for_room(&mut self, handle: &mut impl FnMut(&mut Member, Event<'_>)) -> usize {
        let mut events = 0;
        for _ in 0..COLD_LOOKS.min(self.stuck.len()) {
            if !self.is_ours() {
                break;
            }
            if self.stuck_next >= self.stuck.len() {
                self.stuck_next = 0;
            }
            let Some(&at) = self.stuck.get(self.stuck_next) else { break };
            let Some(seat) = &mut self.seats[at as usize] else { break };
            if !seat.member.sender.has_room() {
                self.stuck_next += 1;
                continue;
            }
            seat.member.wishes.room = false;
            self.set_stuck(at, false);
            if let Some(seat) = &mut self.seats[at as usize] {
                handle(&mut seat.member, Event::Room);
                events += 1 + self.grant(at, handle);
            }
        }
        events
    }

    /// Asks all who are stuck to ring when there is room; says whether there is something to do instead of sleeping.
    fn await_room(&mut self) -> bool {
        let Self { stuck, seats, epoll, touched, .. } = self;
        for (index, &at) in stuck.iter().enumerate() {
            let Some(seat) = &mut seats[at as usize] else { continue };
            if seat.watch_space(epoll, at).is_err() {
                // Who cannot be waited for cannot be served.
                seat.member.disconnect();
                touched.push(at);
                return true;
            }
            if seat.member.sender.await_room() {
                self.stuck_next = index;
                return true;
            }
        }
        false
    }

    fn is_anything_ready(&mut self) -> bool {
        if self.hot.iter().any(|at| is_ready(&self.seats, *at)) {
            return true;
        }
        let found = self.cold.iter().position(Cold::is_ready);
        self.cold_next = found.unwrap_or(self.cold_next);
        found.is_some()
    }

    fn ask_kernel(&mut self, timeout: Option<Duration>) -> io::Result<()> {
        let batch = self.epoll.wait(timeout)?;
        for found in batch.iter() {
            match (found.token, Door::of(found.token)) {
                (BELL, _) => self.bell.clear(),
                (_, Some((door, at))) => self.hear(door, at, found.readable, found.hung_up),
                _ => self.outside = true,
            }
        }
        self.asked = Instant::now();
        Ok(())
    }

    /// A door of a member has something to say.
    fn hear(&mut self, door: Door, at: u32, readable: bool, hung_up: bool) {
        let Some(Some(seat)) = self.seats.get_mut(at as usize) else { return };
        let link = seat.receiver.link();
        let gone = match door {
            Door::Process => true,
            Door::Socket | Door::Space => {
                let bell = if door == Door::Socket { link.socket() } else { link.space() };
                let drained = if readable { sys::drain_doorbell(bell) } else { sys::Drained::Empty };
                if let (Door::Socket, sys::Drained::Bytes(bytes)) = (door, drained) {
                    seat.receiver.count_doorbell(bytes);
                }
                hung_up || drained == sys::Drained::Gone
            }
        };
        if gone {
            seat.receiver.link().note_hung_up();
            seat.unwatch(&self.epoll);
            seat.member.wishes.pause = false;
        } else if door == Door::Space && seat.is_stuck {
            // One ring for each announcement: whoever is still stuck must announce anew.
            seat.member.sender.forget_room();
        }
        if gone || door == Door::Socket && seat.place != Place::Paused {
            self.place_hot(at);
        }
    }

    fn place_hot(&mut self, at: u32) {
        let Some(seat) = &mut self.seats[at as usize] else { return };
        seat.misses = 0;
        // Who is hot keeps its turn: a sweep must not meet it twice.
        if !matches!(seat.place, Place::Hot(_)) {
            self.unplace(at);
            if let Some(seat) = &mut self.seats[at as usize] {
                seat.place = Place::Hot(self.hot.len());
                self.hot.push(at);
            }
        }
    }

    fn place_cold(&mut self, at: u32) {
        self.unplace(at);
        if let Some(seat) = &mut self.seats[at as usize] {
            seat.place = Place::Cold(self.cold.len());
            self.cold.push(seat.cold(at));
        }
    }

    /// Takes a seat out of its list; the last of that list moves up.
    fn unplace(&mut self, at: u32) {
        let Some(seat) = &mut self.seats[at as usize] else { return };
        let place = std::mem::replace(&mut seat.place, Place::Paused);
        let moved = match place {
            Place::Hot(index) => {
                self.hot.swap_remove(index);
                self.hot.get(index).copied()
            }
            Place::Cold(index) => {
                self.cold.swap_remove(index);
                self.cold.get(index).map(|cold| cold.seat)
            }
            Place::Paused => None,
        };
        if let Some(Some(moved)) = moved.map(|moved| &mut self.seats[moved as usize]) {
            moved.place = place;
        }
    }

    /// Frees the seat of a member that has left, which closes its connection.
    fn vacate(&mut self, at: u32) {
        self.unplace(at);
        let Some(mut seat) = self.seats[at as usize].take() else { return };
        if seat.is_stuck {
            self.stuck.retain(|other| *other != at);
        }
        // A child made by fork shares the set of descriptors with its parent.
        if self.is_ours() {
            seat.unwatch(&self.epoll);
        }
        self.free.push(at);
    }
}

/// Says whether a look at a hot ring would bring news.
fn is_ready(seats: &[Option<Seat>], at: u32) -> bool {
    seats[at as usize]
        .as_ref()
        .is_some_and(|seat| seat.receiver.link().is_hung_up() || seat.receiver.is_ready())
}

/// Looks whether the next of those who wait for room has it; if not, it is the turn of the one after it.
fn has_room(seats: &mut [Option<Seat>], stuck: &[u32], next: &mut usize) -> bool {
    let Some(&at) = stuck.get(*next).or(stuck.first()) else { return false };
    let found = seats[at as usize].as_mut().is_some_and(|seat| seat.member.sender.has_room());
    *next = if found { *next } else { *next + 1 };
    *next = if *next < stuck.len() { *next } else { 0 };
    found
}

/// Numbers that are no door of a seat.
const BELL: u64 = 3;
const OUTSIDE: u64 = 7;
/// Cold rings that a sweep looks at, and as many more as it brought events: so the silent ones take a bounded share.
const COLD_LOOKS: usize = 16;
/// Sweeps that find nothing before a ring is cold.
const MISSES_MAX: u32 = 256;
/// While there is work the kernel is asked this often.
const ASK_INTERVAL: Duration = Duration::from_millis(1);
