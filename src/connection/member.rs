//! A client of a group or a pool, as its handler sees it.

use super::link::PeerCred;
use super::sender::Sender;
use crate::error::CloseReason;
use crate::metrics::Stats;

/// Names a member of a group or a pool: counted from 1, never used twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct MemberId {
    number: u64,
    seat: u32,
}

impl MemberId {
    pub(super) fn new(number: u64, seat: u32) -> Self {
        Self { number, seat }
    }

    /// Returns the number.
    pub fn number(self) -> u64 {
        self.number
    }

    pub(super) fn seat(self) -> u32 {
        self.seat
    }
}

/// A client of a group or a pool.
pub struct Member {
    id: MemberId,
    pub(super) sender: Sender,
    pub(super) wishes: Wishes,
}

/// What the handler asked for a member. It is granted as soon as the handler has returned.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Wishes {
    pub(super) leave: bool,
    pub(super) pause: bool,
    pub(super) room: bool,
}

/// What happened to a member.
#[derive(Debug)]
pub enum Event<'a> {
    /// It is new.
    Joined,
    /// It sent this.
    Message(&'a [u8]),
    /// There is room in its ring again, for the message that was refused last, or it reads no more and sending says so.
    /// Comes once after each [`Member::want_room`].
    Room,
    /// It is gone, after all that it had committed was handed out, unless we ended it. The last event of this member.
    Left(CloseReason),
}

impl Member {
    pub(super) fn new(id: MemberId, sender: Sender) -> Self {
        Self { id, sender, wishes: Wishes::default() }
    }

    /// Returns the name of this member.
    pub fn id(&self) -> MemberId {
        self.id
    }

    /// Returns its seat: a small number that no other member of the same worker has at the same time, for tables.
    ///
    /// A seat is given to another member after this one has left.
    pub fn seat(&self) -> usize {
        self.id.seat as usize
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

    /// Ends the connection: nothing more of this member is handed out but [`Event::Left`], with
    /// [`CloseReason::Disconnected`]. What was sent to it before is still delivered.
    pub fn disconnect(&mut self) {
        self.wishes.leave = true;
    }

    /// Leaves its messages in its ring from the next one on, until [`resume`](Self::resume). Meanwhile it wakes nobody.
    ///
    /// Its death is still noticed and ends the pause: what it had committed is handed out, then it leaves.
    pub fn pause(&mut self) {
        self.wishes.pause = true;
    }

    /// Hands its messages out again.
    pub fn resume(&mut self) {
        self.wishes.pause = false;
    }

    /// Says whether its messages are left in its ring.
    pub fn is_paused(&self) -> bool {
        self.wishes.pause
    }

    /// Asks for one [`Event::Room`] when there is room for the message that [`try_send`](Sender::try_send) refused last
    /// as [`Full`](crate::TrySendError::Full), or takes that back.
    ///
    /// A member that never reads costs nothing while the worker sleeps.
    pub fn want_room(&mut self, want: bool) {
        self.wishes.room = want;
    }
}
