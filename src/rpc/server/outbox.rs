//! Frames that wait until the client has read.

use crate::connection::Sender;
use crate::error::TrySendError;
use crate::proto::call::Frame;
use crate::proto::frame::{Codec, HEADER_BYTES};
use std::collections::VecDeque;

/// What is on its way to one client.
#[derive(Default)]
pub(super) struct Outbox {
    frames: VecDeque<Vec<u8>>,
    bytes: usize,
    /// How far the first is sent.
    sent: usize,
}

/// Why a frame cannot be sent, now or later.
#[derive(Debug)]
pub(super) enum Undeliverable {
    /// It is longer than the client accepts.
    TooLarge { len: usize, max: usize },
    /// No memory for the ring.
    NoMemory,
    /// The connection has ended, which is an event of its own.
    Closed,
}

impl Outbox {
    /// Sends a frame, or keeps it until there is room.
    #[inline]
    pub(super) fn say(
        &mut self,
        sender: &mut Sender,
        codec: Codec,
        frame: &Frame<'_>,
    ) -> Result<(), Undeliverable> {
        let (head, body) = frame.head();
        let len = HEADER_BYTES + head.prelude().len() + body.len();
        if self.frames.is_empty() {
            match sender.try_claim(len) {
                Ok(mut claim) => {
                    codec.write(&mut claim, &head.header, head.prelude(), body);
                    claim.commit();
                    return Ok(());
                }
                Err(TrySendError::Full | TrySendError::TooLarge { .. }) => {}
                Err(TrySendError::NoMemory { .. }) => return Err(Undeliverable::NoMemory),
                Err(TrySendError::Closed(_)) => return Err(Undeliverable::Closed),
            }
        }
        self.keep(sender, codec, frame, len)
    }

    #[cold]
    fn keep(
        &mut self,
        sender: &mut Sender,
        codec: Codec,
        frame: &Frame<'_>,
        len: usize,
    ) -> Result<(), Undeliverable> {
        let max = sender.message_bytes_max();
        if len > max {
            return Err(Undeliverable::TooLarge { len, max });
        }
        let (head, body) = frame.head();
        let mut bytes = vec![0; len];
        codec.write(&mut bytes, &head.header, head.prelude(), body);
        self.bytes += len;
        self.frames.push_back(bytes);
        self.pump(sender)
    }

    /// Sends what there is room for.
    pub(super) fn pump(&mut self, sender: &mut Sender) -> Result<(), Undeliverable> {
        while let Some(frame) = self.frames.front() {
            match sender.try_send_part(frame, self.sent) {
                Ok(bytes) if self.sent + bytes < frame.len() => self.sent += bytes,
                Ok(_) => {
                    self.bytes -= frame.len();
                    self.sent = 0;
                    self.frames.pop_front();
                }
                Err(TrySendError::Full) => return Ok(()),
                Err(TrySendError::NoMemory { .. }) => return Err(Undeliverable::NoMemory),
                Err(TrySendError::TooLarge { len, max }) => return Err(Undeliverable::TooLarge { len, max }),
                Err(TrySendError::Closed(_)) => return Err(Undeliverable::Closed),
            }
        }
        Ok(())
    }

    /// Says whether all was sent.
    #[inline]
    pub(super) fn is_empty(&self) -> bool {
        self.frames.is_empty()
    }

    /// Says whether the client must read before more is made for it.
    pub(super) fn is_clogged(&self) -> bool {
        self.bytes > OUTBOX_BYTES
    }
}

/// What may wait for a client that does not read before nothing more is taken from it.
const OUTBOX_BYTES: usize = 1 << 20;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;
    use crate::connection::pair;
    use crate::error::TryRecvError;

    #[test]
    fn frames_arrive_in_order_whatever_their_length_and_whenever_there_is_room() {
        let config = Config::new().ring_bytes(16 << 10);
        let (mut here, mut there) = pair(&config).unwrap();
        let mut outbox = Outbox::default();
        let codec = Codec::new();
        let lens = [0, 100, 5_000, 40_000, 3, 4_000, 4_000, 4_000, 4_000, 70_000, 1];
        for (id, len) in lens.into_iter().enumerate() {
            let body = vec![id as u8; len];
            outbox
                .say(here.sender(), codec, &Frame::Response { id: id as u64, last: true, body: &body })
                .unwrap();
        }
        assert!(!outbox.is_empty());
        let mut next = 0;
        while next < lens.len() {
            match there.try_recv() {
                Ok(message) => {
                    let (header, payload) = codec.read(&message).unwrap();
                    assert_eq!((header.id, payload.len()), (next as u64, lens[next]));
                    assert!(payload.iter().all(|byte| *byte == next as u8));
                    next += 1;
                }
                Err(TryRecvError::Empty) => outbox.pump(here.sender()).unwrap(),
                Err(TryRecvError::Closed(reason)) => panic!("{reason}"),
            }
        }
        assert!(outbox.is_empty() && outbox.bytes == 0);
    }

    #[test]
    fn a_frame_longer_than_the_client_accepts_is_refused_with_the_numbers() {
        let (mut here, _there) = pair(&Config::new().message_bytes_max(1_000)).unwrap();
        let body = [0; 2_000];
        let frame = Frame::Response { id: 1, last: true, body: &body };
        let refused = Outbox::default().say(here.sender(), Codec::new(), &frame);
        assert!(matches!(refused, Err(Undeliverable::TooLarge { len: 2_024, max: 1_000 })));
    }
}
