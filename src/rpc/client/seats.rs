//! Who waits, and what came for them.

use super::core::KEPT_BYTES;
use crate::error::call::CallError;
use std::collections::VecDeque;
#[cfg(feature = "tokio")]
use std::task::Waker;
use std::thread::Thread;

/// How to wake one who waits.
#[derive(Clone)]
pub(crate) enum Wake {
    Thread(Thread),
    #[cfg(feature = "tokio")]
    Task(Waker),
}

impl Wake {
    fn fire(self) {
        match self {
            Self::Thread(thread) => thread.unpark(),
            #[cfg(feature = "tokio")]
            Self::Task(waker) => waker.wake(),
        }
    }
}

/// Those who must be woken when the lock is released.
#[derive(Default)]
pub(crate) struct Wakes {
    list: [Option<Wake>; WAKES_MAX],
    len: usize,
}

impl Wakes {
    #[inline]
    pub(crate) fn push(&mut self, wake: Option<Wake>) {
        let Some(wake) = wake else { return };
        match self.list.get_mut(self.len) {
            Some(place) => {
                *place = Some(wake);
                self.len += 1;
            }
            // Only at the end of a connection, and when many wait for room.
            None => wake.fire(),
        }
    }

    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.len == 0
    }

    #[inline]
    pub(crate) fn is_full(&self) -> bool {
        // Each message wakes its own caller and one at the gate, and whoever reads appoints another.
        self.len + 3 > WAKES_MAX
    }

    pub(crate) fn fire(self) {
        self.list.into_iter().flatten().for_each(Wake::fire);
    }
}

/// The seats of one connection; each call has one from before it is sent until its answer was collected.
#[derive(Default)]
pub(crate) struct Seats {
    seats: Vec<Seat>,
    free: Vec<usize>,
}

#[derive(Default)]
struct Seat {
    state: State,
    /// The response; the memory is kept for the next call.
    buffer: Vec<u8>,
    /// Parts of a stream that were not taken yet. The window bounds them.
    parts: VecDeque<Vec<u8>>,
    /// How to wake one who does not sit on the bench, since it cannot read.
    waker: Option<Wake>,
}

#[derive(Default)]
enum State {
    #[default]
    Open,
    Answered,
    Failed(CallError),
}

impl Seats {
    /// Takes a free seat.
    #[inline]
    pub(crate) fn take(&mut self) -> usize {
        self.free.pop().unwrap_or_else(|| {
            self.seats.push(Seat::default());
            self.seats.len() - 1
        })
    }

    /// Gives a seat back.
    #[inline]
    pub(crate) fn release(&mut self, number: usize) {
        let seat = &mut self.seats[number];
        seat.state = State::Open;
        seat.parts.clear();
        seat.waker = None;
        if seat.buffer.capacity() > KEPT_BYTES {
            seat.buffer = Vec::new();
        }
        self.free.push(number);
    }

    /// Returns how many seats there are, free ones included.
    pub(crate) fn len(&self) -> usize {
        self.seats.len()
    }

    #[inline]
    pub(crate) fn answer(&mut self, seat: usize, body: &[u8]) {
        let seat = &mut self.seats[seat];
        seat.buffer.clear();
        seat.buffer.extend_from_slice(body);
        seat.state = State::Answered;
    }

    pub(crate) fn part(&mut self, seat: usize, body: &[u8]) {
        self.seats[seat].parts.push_back(body.to_vec());
    }

    pub(crate) fn fail(&mut self, seat: usize, error: CallError) {
        self.seats[seat].state = State::Failed(error);
    }

    /// Says whether the call has ended.
    #[inline]
    pub(crate) fn is_done(&self, seat: usize) -> bool {
        !matches!(self.seats[seat].state, State::Open)
    }

    /// Says whether there is something to take: a part, or the end.
    pub(crate) fn has_part(&self, seat: usize) -> bool {
        !self.seats[seat].parts.is_empty() || self.is_done(seat)
    }

    /// Takes the next part of a stream.
    pub(crate) fn take_part(&mut self, seat: usize) -> Option<Vec<u8>> {
        self.seats[seat].parts.pop_front()
    }

    /// Takes the outcome of a call that has ended; the response goes to `out`, whose memory the seat keeps.
    #[inline]
    pub(crate) fn collect(&mut self, seat: usize, out: &mut Vec<u8>) -> Result<(), CallError> {
        let seat = &mut self.seats[seat];
        match std::mem::take(&mut seat.state) {
            State::Failed(error) => Err(error),
            State::Answered => {
                std::mem::swap(&mut seat.buffer, out);
                Ok(())
            }
            State::Open => unreachable!("invariant: only calls that have ended are collected"),
        }
    }

    /// Notes how to wake one who cannot read, and returns what was noted before, to be dropped without the lock.
    #[cfg(feature = "tokio")]
    pub(crate) fn set_waker(&mut self, seat: usize, waker: Wake) -> Option<Wake> {
        self.seats[seat].waker.replace(waker)
    }

    #[inline]
    pub(crate) fn take_waker(&mut self, seat: usize) -> Option<Wake> {
        self.seats[seat].waker.take()
    }
}

const WAKES_MAX: usize = 16;
