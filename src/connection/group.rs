//! A loop for many clients: sweeps their rings while there is work, sleeps in one `poll` over all when there is none.

use super::link::PeerCred;
use super::listener::Listener;
use super::receiver::Receiver;
use super::sender::Sender;
use crate::error::{AcceptError, CloseReason, TryRecvError};
use crate::metrics::Stats;
use crate::sys;
use crate::wait::{Barrier, Sleeper, Spinner, Spun, Wait, pause};
use std::io;
use std::time::{Duration, Instant};

/// Serves all clients of a listener from one thread.
///
/// While messages come it sweeps the rings, a bounded number of messages from each; an idle ring costs one load. When
/// nothing comes it announces its sleep once, in its line of the endpoint segment, and sleeps in one `poll` over all.
///
/// # Examples
/// ```no_run
/// use ringway::{Event, Group, Listener};
/// let mut group = Group::new(Listener::bind("echo")?)?;
/// loop {
///     group.turn(None, |member, event| {
///         if let Event::Message(bytes) = event {
///             let _ = member.sender().try_send(bytes);
///         }
///     })?;
/// }
/// # #[allow(unreachable_code)]
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Group {
    listener: Listener,
    members: Vec<Seat>,
    sleeper: Sleeper,
    worker: u64,
    spinner: Spinner,
    patience: Patience,
    next_id: u64,
    /// When the listener's queue was looked at last: not on every sweep, since that is a system call.
    looked_for_clients: Instant,
    /// The last sleep ended because of a client, or may have.
    clients_waiting: bool,
}

/// Names a member of a group: counted from 1, never used twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct MemberId(u64);

impl MemberId {
    /// Returns the number.
    pub fn number(self) -> u64 {
        self.0
    }
}

/// A client of a group.
pub struct Member {
    id: MemberId,
    sender: Sender,
}

struct Seat {
    member: Member,
    receiver: Receiver,
    left: bool,
}

/// What happened to a member of a group.
#[derive(Debug)]
pub enum Event<'a> {
    /// It is new.
    Joined,
    /// It sent this.
    Message(&'a [u8]),
    /// It is gone, after all that it had committed was handed out. The last event of this member.
    Left(CloseReason),
}

impl Member {
    /// Returns the name of this member within its group.
    pub fn id(&self) -> MemberId {
        self.id
    }

    /// Lends the sending half of its connection. Use the try-verbs: waiting for one member holds up all.
    pub fn sender(&mut self) -> &mut Sender {
        &mut self.sender
    }

    /// Returns who it is, as the kernel said at the handshake.
    pub fn peer_cred(&self) -> PeerCred {
        self.sender.peer_cred()
    }

    /// Returns what our side of its connection has done so far.
    pub fn stats(&self) -> Stats {
        self.sender.stats()
    }
}

impl Group {
    /// Makes a group out of the clients that this listener will have.
    ///
    /// # Errors
    /// When the listener's 64 worker lines are all taken.
    pub fn new(listener: Listener) -> io::Result<Self> {
        let Some((worker, line)) = listener.worker_line() else {
            return Err(io::Error::other("all 64 worker lines of this listener are taken; use fewer groups"));
        };
        // The barrier contains a fence, so it is right for clients that fence for themselves too; all do if we sleep.
        let config = listener.config();
        let expedited = config.wants_barrier() && sys::is_barrier_known();
        let barrier = if expedited { Barrier::Expedited } else { Barrier::Fence };
        let spinner = Spinner::new(listener.config().wait, listener.wake_cost());
        let patience = Patience::new(listener.config().patience / PATIENCE_SHARE);
        Ok(Self {
            sleeper: Sleeper::new(line, barrier),
            worker,
            spinner,
            patience,
            listener,
            members: Vec::new(),
            next_id: 1,
            looked_for_clients: Instant::now(),
            clients_waiting: true,
        })
    }

    /// Returns how many members there are now.
    pub fn len(&self) -> usize {
        self.members.len()
    }

    /// Says whether there is no member.
    pub fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    /// Returns the listener, for what it counts.
    pub fn listener(&self) -> &Listener {
        &self.listener
    }

    /// Lends each member in turn, for sending to all.
    pub fn members(&mut self) -> impl Iterator<Item = &mut Member> {
        self.members.iter_mut().map(|seat| &mut seat.member)
    }

    /// Sweeps once over all members and hands out what came; waits for something to come, at most until `deadline`.
    ///
    /// Returns the number of events; 0 when the deadline has passed.
    ///
    /// # Errors
    /// [`AcceptError`]: the listener failed. A member that fails leaves, and that is an event.
    pub fn turn(
        &mut self,
        deadline: Option<Instant>,
        mut handle: impl FnMut(&mut Member, Event<'_>),
    ) -> Result<usize, AcceptError> {
        self.listener.check_owner()?;
        pause(self.patience.due());
        loop {
            let mut events = self.sweep(&mut handle);
            if self.clients_waiting || self.looked_for_clients.elapsed() >= CLIENT_INTERVAL {
                events += self.let_join(&mut handle)?;
            }
            if events > 0 {
                return Ok(events);
            }
            if deadline.is_some_and(|deadline| Instant::now() >= deadline) {
                return Ok(0);
            }
            self.rest(deadline)?;
        }
    }

    fn sweep(&mut self, handle: &mut impl FnMut(&mut Member, Event<'_>)) -> usize {
        let mut events = 0;
        for seat in &mut self.members {
            let sent = seat.member.sender.sent_messages();
            let served = seat.serve(handle);
            if served > 0 {
                events += served;
                self.patience.note(served, seat.member.sender.sent_messages() != sent);
            }
        }
        if self.members.iter().any(|seat| seat.left) {
            self.members.retain(|seat| !seat.left);
        }
        events
    }

    fn let_join(&mut self, handle: &mut impl FnMut(&mut Member, Event<'_>)) -> Result<usize, AcceptError> {
        let mut joined = 0;
        while let Some(connection) = self.listener.drive()? {
            let (sender, mut receiver) = connection.split();
            receiver.delegate(self.worker);
            let mut member = Member { id: MemberId(self.next_id), sender };
            self.next_id += 1;
            handle(&mut member, Event::Joined);
            self.members.push(Seat { member, receiver, left: false });
            joined += 1;
        }
        self.looked_for_clients = Instant::now();
        self.clients_waiting = false;
        Ok(joined)
    }

    /// Nothing came in a whole sweep: spins a little, then sleeps.
    fn rest(&mut self, deadline: Option<Instant>) -> Result<(), AcceptError> {
        let stream = self.patience.rest();
        let Self { members, spinner, .. } = self;
        let ready = || members.iter().any(|seat| seat.receiver.is_ready());
        match spinner.spin(deadline, stream, ready) {
            Spun::Ready | Spun::TimedOut => return Ok(()),
            Spun::Exhausted if spinner.wait() == Wait::Spin => {
                members.iter().for_each(|seat| seat.receiver.link().look_after_peer());
                return Ok(());
            }
            Spun::Exhausted => {}
        }
        self.listener.prepare();
        let Self { members, sleeper, .. } = self;
        let ready = || members.iter().any(|seat| seat.receiver.is_ready());
        sleeper.arm();
        let slept = if ready() { Ok(()) } else { self.sleep(deadline) };
        self.sleeper.disarm();
        slept.map_err(|source| AcceptError::Os { action: "wait for members", source })
    }

    fn sleep(&mut self, deadline: Option<Instant>) -> io::Result<()> {
        let until = self.listener.next_deadline().into_iter().chain(deadline).min();
        let timeout = until.map(|until| until.saturating_duration_since(Instant::now()));
        let links = || self.members.iter().map(|seat| seat.receiver.link());
        let mut items = Vec::with_capacity(2 * self.members.len() + 1);
        items.extend(links().map(|link| sys::PollItem::readable(link.socket())));
        // One for each, so that the places match: a link without a pidfd is watched twice.
        items.extend(links().map(|link| match link.pidfd() {
            Some(pidfd) => sys::PollItem::readable(pidfd),
            None => sys::PollItem::hangup_only(link.socket()),
        }));
        self.listener.watch(&mut items);
        if sys::poll(&mut items, timeout)? == 0 {
            drop(items);
            // Perhaps somebody's time for a hello is up.
            self.clients_waiting = true;
            return Ok(());
        }
        let count = self.members.len();
        self.clients_waiting = items[2 * count..].iter().any(|item| item.is_readable() || item.is_hung_up());
        let found: Vec<(bool, bool)> = (0..count)
            .map(|index| {
                let (socket, process) = (&items[index], &items[count + index]);
                (socket.is_readable(), socket.is_hung_up() || process.is_readable() || process.is_hung_up())
            })
            .collect();
        for (seat, (rung, gone)) in self.members.iter_mut().zip(found) {
            if rung && let sys::Drained::Bytes(bytes) = sys::drain_doorbell(seat.receiver.link().socket()) {
                seat.receiver.count_doorbell(bytes);
            }
            if gone {
                seat.receiver.link().note_hung_up();
            }
        }
        Ok(())
    }
}

impl Seat {
    /// Takes a bounded number of messages, so that one member cannot hold up the others.
    fn serve(&mut self, handle: &mut impl FnMut(&mut Member, Event<'_>)) -> usize {
        let mut bytes = 0;
        for count in 0..MESSAGES_PER_SWEEP {
            if bytes >= BYTES_PER_SWEEP {
                return count;
            }
            match self.receiver.try_recv() {
                Ok(message) => {
                    bytes += message.len();
                    handle(&mut self.member, Event::Message(&message));
                }
                Err(TryRecvError::Empty) => return count,
                Err(TryRecvError::Closed(reason)) => {
                    self.left = true;
                    handle(&mut self.member, Event::Left(reason));
                    return count + 1;
                }
            }
        }
        MESSAGES_PER_SWEEP
    }
}

/// How long to leave the rings alone between two sweeps.
///
/// Whoever looks at once at a ring that is being filled steals the line that its writer needs. So while messages only come
/// in, and a sweep brings few of them, the next sweep waits a little and finds more. Not while members are answered:
/// somebody waits for those.
struct Patience {
    pauses: u32,
    /// Messages of the last sweep, and since the rings were last found empty.
    swept: usize,
    streak: usize,
    /// Somebody was sent something: in this sweep, and in the last one that brought messages.
    answers: bool,
    answered: bool,
}

impl Patience {
    fn new(pauses: u32) -> Self {
        Self { pauses, swept: 0, streak: 0, answers: false, answered: false }
    }

    /// Takes note of what one member brought in a sweep, and whether it was sent something meanwhile.
    fn note(&mut self, messages: usize, answered: bool) {
        self.swept += messages;
        self.streak += messages;
        self.answers |= answered;
    }

    /// Takes note that nothing came in a whole sweep; says whether that was in the middle of a stream.
    fn rest(&mut self) -> bool {
        let stream = self.streams();
        self.streak = 0;
        stream
    }

    fn streams(&self) -> bool {
        self.streak >= STREAM_MESSAGES && !self.answered
    }

    /// Says how long to wait before the next sweep begins.
    fn due(&mut self) -> u32 {
        if self.swept > 0 {
            self.answered = self.answers;
        }
        let due = if self.streams() && self.swept < SWEEP_MESSAGES_FEW { self.pauses } else { 0 };
        (self.swept, self.answers) = (0, false);
        due
    }
}

/// A sweep goes over many rings, so each is left alone for long enough by a part of the pause that one ring needs.
const PATIENCE_SHARE: u32 = 4;
/// This many messages since the rings were last found empty are a stream.
const STREAM_MESSAGES: usize = 8;
/// A sweep that brought less comes too early.
const SWEEP_MESSAGES_FEW: usize = 512;
/// Messages that one member may have handled before it is the next one's turn.
const MESSAGES_PER_SWEEP: usize = 256;
const BYTES_PER_SWEEP: usize = 1 << 20;
/// While there is work, look for new clients this often.
const CLIENT_INTERVAL: Duration = Duration::from_millis(1);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rings_that_bring_few_messages_one_way_are_left_alone() {
        let mut patience = Patience::new(40);
        assert_eq!(patience.due(), 0, "nothing came yet");
        patience.note(3, false);
        assert_eq!(patience.due(), 0, "three messages are no stream");
        patience.note(5, false);
        assert_eq!(patience.due(), 40);
        patience.note(SWEEP_MESSAGES_FEW, false);
        assert_eq!(patience.due(), 0, "a sweep that brought enough");
        assert!(patience.rest());
        patience.note(1, false);
        assert_eq!(patience.due(), 0, "the stream had ended");
    }

    #[test]
    fn nobody_who_is_answered_waits() {
        let mut patience = Patience::new(40);
        for _ in 0..100 {
            patience.note(8, true);
            patience.note(8, false);
            assert_eq!(patience.due(), 0);
        }
        assert!(!patience.rest(), "nor is it a stream");
        patience.note(8, false);
        assert_eq!(patience.due(), 40, "only as long as there are answers");
    }
}
