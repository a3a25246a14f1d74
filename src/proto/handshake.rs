//! The handshake: one message each way, 128 bytes, descriptors beside them by kind.
//!
//! The connecting side says what it wants and offers its segment; the listening side answers with its own, or says why
//! not. Everything is bounded here, before anything is mapped or allocated; `docs/layout.md` has the byte map. Unknown
//! required features, unknown kinds of descriptors and reserved bytes that are not zero are refused: a later version
//! that needs them says so by a feature bit, and falls back on its own.

use crate::error::Refusal;
use std::time::Instant;

/// Bytes of every handshake message.
pub(crate) const MESSAGE_BYTES: usize = 128;
const MAGIC: u64 = u64::from_le_bytes(*b"RINGWAYH");
const PROTOCOL_VERSION: u16 = 1;

/// Optional parts of the protocol that both sides must know to use.
pub(crate) mod feature {
    /// Every bit this version knows; version 1 has no optional part yet.
    pub(crate) const KNOWN: u64 = 0;
}

/// What a connection is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// Two rings, one each way.
    Connection = 1,
    /// Joining a route as a reader.
    Route = 2,
    /// Joining a channel as a member.
    Channel = 3,
    /// Reading statistics.
    Monitor = 4,
}

/// What a descriptor beside a message is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum DescriptorKind {
    /// Connection segment of the sender of the message.
    Segment = 1,
    /// The listening side's end of the socket pair on which "there is space" is rung.
    SpaceDoorbell = 2,
    /// Endpoint segment of the listening process.
    Endpoint = 3,
}

/// What a side says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Terms {
    pub(crate) purpose: Purpose,
    /// Feature bits of the sender's segment, as in its header.
    pub(crate) segment_features: u64,
    pub(crate) ring_bytes: u64,
    /// Longest message that the sender of these terms accepts.
    pub(crate) message_bytes_max: u64,
    /// It is registered for barriers run by others, or about to be, and runs them itself when it sleeps.
    pub(crate) barrier: bool,
    /// Slots of the endpoint segment; 0 without one.
    pub(crate) endpoint_slots: u32,
    /// What a wake costs on this machine, in ns; 0 if unknown.
    pub(crate) wake_cost_ns: u32,
}

/// A handshake message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Message {
    Hello(Terms),
    Welcome(Terms),
    Refused(Refusal),
}

/// Bounds that a side puts on the terms of the other.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    pub(crate) layout_version: u32,
    pub(crate) segment_features_known: u64,
    pub(crate) is_ring_bytes: fn(u64) -> bool,
    pub(crate) endpoint_slots_max: u32,
}

const HELLO: u16 = 1;
const WELCOME: u16 = 2;
const REFUSED: u16 = 3;
const FLAG_BARRIER: u32 = 1;
const DESCRIPTORS_MAX: usize = 8;

/// Byte offsets within a message.
mod at {
    pub(super) const MAGIC: usize = 0;
    pub(super) const VERSION: usize = 8;
    pub(super) const TYPE: usize = 10;
    pub(super) const LAYOUT: usize = 12;
    pub(super) const BYTES: usize = 16;
    pub(super) const PURPOSE: usize = 20;
    pub(super) const REQUIRED: usize = 24;
    pub(super) const OFFERED: usize = 32;
    pub(super) const SEGMENT_FEATURES: usize = 40;
    pub(super) const RING_BYTES: usize = 48;
    pub(super) const MESSAGE_BYTES_MAX: usize = 56;
    pub(super) const FLAGS: usize = 64;
    pub(super) const REFUSAL: usize = 68;
    pub(super) const ENDPOINT_SLOTS: usize = 72;
    pub(super) const WAKE_COST: usize = 76;
    pub(super) const DESCRIPTOR_COUNT: usize = 80;
    pub(super) const DESCRIPTOR_KINDS: usize = 84;
    pub(super) const RESERVED: usize = 92;
}

impl Message {
    /// Lists the descriptors that travel with this message, in order.
    pub(crate) fn descriptors(&self) -> &'static [DescriptorKind] {
        match self {
            Self::Hello(_) => &[DescriptorKind::Segment, DescriptorKind::SpaceDoorbell],
            Self::Welcome(_) => &[DescriptorKind::Segment, DescriptorKind::Endpoint],
            Self::Refused(_) => &[],
        }
    }

    /// Writes the message.
    pub(crate) fn encode(&self, layout_version: u32) -> [u8; MESSAGE_BYTES] {
        let mut out = [0; MESSAGE_BYTES];
        put(&mut out, at::MAGIC, MAGIC.to_le_bytes());
        put(&mut out, at::VERSION, PROTOCOL_VERSION.to_le_bytes());
        put(&mut out, at::LAYOUT, layout_version.to_le_bytes());
        put(&mut out, at::BYTES, (MESSAGE_BYTES as u32).to_le_bytes());
        let kinds = self.descriptors();
        put(&mut out, at::DESCRIPTOR_COUNT, (kinds.len() as u32).to_le_bytes());
        for (index, kind) in kinds.iter().enumerate() {
            out[at::DESCRIPTOR_KINDS + index] = *kind as u8;
        }
        let (message_type, terms) = match self {
            Self::Hello(terms) => (HELLO, terms),
            Self::Welcome(terms) => (WELCOME, terms),
            Self::Refused(refusal) => {
                put(&mut out, at::TYPE, REFUSED.to_le_bytes());
                put(&mut out, at::REFUSAL, refusal_code(*refusal).to_le_bytes());
                return out;
            }
        };
        put(&mut out, at::TYPE, message_type.to_le_bytes());
        put(&mut out, at::PURPOSE, (terms.purpose as u32).to_le_bytes());
        put(&mut out, at::OFFERED, feature::KNOWN.to_le_bytes());
        put(&mut out, at::SEGMENT_FEATURES, terms.segment_features.to_le_bytes());
        put(&mut out, at::RING_BYTES, terms.ring_bytes.to_le_bytes());
        put(&mut out, at::MESSAGE_BYTES_MAX, terms.message_bytes_max.to_le_bytes());
        put(&mut out, at::FLAGS, (if terms.barrier { FLAG_BARRIER } else { 0 }).to_le_bytes());
        put(&mut out, at::ENDPOINT_SLOTS, terms.endpoint_slots.to_le_bytes());
        put(&mut out, at::WAKE_COST, terms.wake_cost_ns.to_le_bytes());
        out
    }

    /// Reads a message and bounds everything it says.
    pub(crate) fn decode(bytes: &[u8; MESSAGE_BYTES], limits: &Limits) -> Result<Self, Refusal> {
        if get_u64(bytes, at::MAGIC) != MAGIC {
            return Err(Refusal::Malformed);
        }
        // Version before everything else: other fields may mean something else in another one.
        if get_u16(bytes, at::VERSION) != PROTOCOL_VERSION
            || get_u32(bytes, at::LAYOUT) != limits.layout_version
        {
            return Err(Refusal::Version);
        }
        let reserved_clear = bytes[at::RESERVED..].iter().all(|byte| *byte == 0);
        if get_u32(bytes, at::BYTES) != MESSAGE_BYTES as u32 || !reserved_clear {
            return Err(Refusal::Malformed);
        }
        if get_u64(bytes, at::REQUIRED) & !feature::KNOWN != 0 {
            return Err(Refusal::Features);
        }
        let message = match get_u16(bytes, at::TYPE) {
            HELLO => Self::Hello(Terms::decode(bytes, limits)?),
            WELCOME => Self::Welcome(Terms::decode(bytes, limits)?),
            REFUSED => Self::Refused(refusal_of(get_u32(bytes, at::REFUSAL)).ok_or(Refusal::Malformed)?),
            _ => return Err(Refusal::Malformed),
        };
        message.check_descriptors(bytes)?;
        Ok(message)
    }

    fn check_descriptors(&self, bytes: &[u8; MESSAGE_BYTES]) -> Result<(), Refusal> {
        let kinds = self.descriptors();
        let listed = &bytes[at::DESCRIPTOR_KINDS..at::DESCRIPTOR_KINDS + DESCRIPTORS_MAX];
        let expected = kinds.iter().map(|kind| *kind as u8).chain(std::iter::repeat(0));
        let same = listed.iter().copied().eq(expected.take(DESCRIPTORS_MAX));
        if !same || get_u32(bytes, at::DESCRIPTOR_COUNT) != kinds.len() as u32 {
            return Err(Refusal::Descriptors);
        }
        Ok(())
    }
}

impl Terms {
    fn decode(bytes: &[u8; MESSAGE_BYTES], limits: &Limits) -> Result<Self, Refusal> {
        let purpose = match get_u32(bytes, at::PURPOSE) {
            1 => Purpose::Connection,
            2 => Purpose::Route,
            3 => Purpose::Channel,
            4 => Purpose::Monitor,
            _ => return Err(Refusal::Purpose),
        };
        let flags = get_u32(bytes, at::FLAGS);
        let terms = Self {
            purpose,
            segment_features: get_u64(bytes, at::SEGMENT_FEATURES),
            ring_bytes: get_u64(bytes, at::RING_BYTES),
            message_bytes_max: get_u64(bytes, at::MESSAGE_BYTES_MAX),
            barrier: flags & FLAG_BARRIER != 0,
            endpoint_slots: get_u32(bytes, at::ENDPOINT_SLOTS),
            wake_cost_ns: get_u32(bytes, at::WAKE_COST),
        };
        if terms.segment_features & !limits.segment_features_known != 0 {
            return Err(Refusal::Features);
        }
        let in_bounds = flags & !FLAG_BARRIER == 0
            && get_u32(bytes, at::REFUSAL) == 0
            && (limits.is_ring_bytes)(terms.ring_bytes)
            && terms.message_bytes_max > 0
            && terms.endpoint_slots <= limits.endpoint_slots_max;
        if in_bounds { Ok(terms) } else { Err(Refusal::Malformed) }
    }
}

/// Collects one message and its descriptors from however many pieces they come in.
///
/// `D` is a descriptor; dropping it closes it, so nothing leaks however the handshake ends.
#[derive(Debug)]
pub(crate) struct Inbox<D> {
    bytes: [u8; MESSAGE_BYTES],
    filled: usize,
    descriptors: Vec<D>,
    deadline: Instant,
}

impl<D> Inbox<D> {
    /// Makes an empty inbox; the message must be complete at `deadline`.
    pub(crate) fn new(deadline: Instant) -> Self {
        Self { bytes: [0; MESSAGE_BYTES], filled: 0, descriptors: Vec::new(), deadline }
    }

    /// Returns the time at which patience ends.
    pub(crate) fn deadline(&self) -> Instant {
        self.deadline
    }

    /// Says whether it is too late.
    pub(crate) fn is_expired(&self, now: Instant) -> bool {
        now >= self.deadline
    }

    /// Returns how many bytes are still missing: read no more than that, what follows is not ours.
    pub(crate) fn missing(&self) -> usize {
        MESSAGE_BYTES - self.filled
    }

    /// Takes what was read; returns the message once it is complete.
    pub(crate) fn feed(
        &mut self,
        bytes: &[u8],
        descriptors: Vec<D>,
        limits: &Limits,
    ) -> Result<Option<(Message, Vec<D>)>, Refusal> {
        let end = self.filled + bytes.len();
        let Some(room) = self.bytes.get_mut(self.filled..end) else { return Err(Refusal::Malformed) };
        room.copy_from_slice(bytes);
        self.filled = end;
        self.descriptors.extend(descriptors);
        if self.descriptors.len() > DESCRIPTORS_MAX {
            return Err(Refusal::Descriptors);
        }
        if self.filled < MESSAGE_BYTES {
            return Ok(None);
        }
        let message = Message::decode(&self.bytes, limits)?;
        if self.descriptors.len() != message.descriptors().len() {
            return Err(Refusal::Descriptors);
        }
        Ok(Some((message, std::mem::take(&mut self.descriptors))))
    }
}

fn refusal_code(refusal: Refusal) -> u32 {
    match refusal {
        Refusal::Version => 1,
        Refusal::Features => 2,
        Refusal::NotAllowed => 3,
        Refusal::Limit => 4,
        Refusal::Descriptors => 5,
        Refusal::Malformed => 6,
        Refusal::Purpose => 7,
        Refusal::Resources => 8,
    }
}

fn refusal_of(code: u32) -> Option<Refusal> {
    Some(match code {
        1 => Refusal::Version,
        2 => Refusal::Features,
        3 => Refusal::NotAllowed,
        4 => Refusal::Limit,
        5 => Refusal::Descriptors,
        6 => Refusal::Malformed,
        7 => Refusal::Purpose,
        8 => Refusal::Resources,
        _ => return None,
    })
}

fn put<const N: usize>(out: &mut [u8; MESSAGE_BYTES], at: usize, bytes: [u8; N]) {
    out[at..at + N].copy_from_slice(&bytes);
}

fn get<const N: usize>(bytes: &[u8; MESSAGE_BYTES], at: usize) -> [u8; N] {
    let mut out = [0; N];
    out.copy_from_slice(&bytes[at..at + N]);
    out
}

fn get_u16(bytes: &[u8; MESSAGE_BYTES], at: usize) -> u16 {
    u16::from_le_bytes(get(bytes, at))
}

fn get_u32(bytes: &[u8; MESSAGE_BYTES], at: usize) -> u32 {
    u32::from_le_bytes(get(bytes, at))
}

fn get_u64(bytes: &[u8; MESSAGE_BYTES], at: usize) -> u64 {
    u64::from_le_bytes(get(bytes, at))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::time::Duration;

    const LIMITS: Limits = Limits {
        layout_version: 1,
        segment_features_known: 1,
        is_ring_bytes: |bytes| bytes.is_power_of_two() && (16384..=1 << 30).contains(&bytes),
        endpoint_slots_max: 65536,
    };

    fn terms() -> Terms {
        Terms {
            purpose: Purpose::Connection,
            segment_features: 0,
            ring_bytes: 1 << 20,
            message_bytes_max: 64 << 20,
            barrier: true,
            endpoint_slots: 1024,
            wake_cost_ns: 20_000,
        }
    }

    fn inbox() -> Inbox<u32> {
        Inbox::new(Instant::now() + Duration::from_secs(60))
    }

    #[test]
    fn messages_survive_encoding() {
        for message in
            [Message::Hello(terms()), Message::Welcome(terms()), Message::Refused(Refusal::NotAllowed)]
        {
            assert_eq!(Message::decode(&message.encode(1), &LIMITS), Ok(message));
        }
        for code in 1..=8 {
            assert_eq!(refusal_of(code).map(refusal_code), Some(code));
        }
        assert_eq!(refusal_of(0), None);
    }

    #[test]
    fn a_hello_has_these_bytes() {
        let bytes = Message::Hello(terms()).encode(1);
        let mut golden = Vec::new();
        golden.extend_from_slice(b"RINGWAYH\x01\x00\x01\x00\x01\x00\x00\x00\x80\x00\x00\x00\x01\x00\x00\x00");
        golden.extend_from_slice(&[0; 24]);
        golden.extend_from_slice(&(1_u64 << 20).to_le_bytes());
        golden.extend_from_slice(&(64_u64 << 20).to_le_bytes());
        golden.extend_from_slice(b"\x01\x00\x00\x00\x00\x00\x00\x00\x00\x04\x00\x00\x20\x4e\x00\x00");
        golden.extend_from_slice(b"\x02\x00\x00\x00\x01\x02\x00\x00\x00\x00\x00\x00");
        golden.resize(MESSAGE_BYTES, 0);
        assert_eq!(bytes.as_slice(), golden);
    }

    #[test]
    fn every_skew_is_refused_by_its_name() {
        let skews: [(usize, u8, Refusal); 12] = [
            (at::MAGIC, 0, Refusal::Malformed),
            (at::VERSION, 2, Refusal::Version),
            (at::LAYOUT, 2, Refusal::Version),
            (at::TYPE, 9, Refusal::Malformed),
            (at::BYTES, 1, Refusal::Malformed),
            (at::PURPOSE, 99, Refusal::Purpose),
            (at::REQUIRED, 1, Refusal::Features),
            (at::SEGMENT_FEATURES, 2, Refusal::Features),
            (at::RING_BYTES, 1, Refusal::Malformed),
            (at::FLAGS, 2, Refusal::Malformed),
            (at::DESCRIPTOR_COUNT, 3, Refusal::Descriptors),
            (MESSAGE_BYTES - 1, 1, Refusal::Malformed),
        ];
        for (offset, value, refusal) in skews {
            let mut bytes = Message::Hello(terms()).encode(1);
            bytes[offset] = value;
            assert_eq!(Message::decode(&bytes, &LIMITS), Err(refusal), "byte {offset} = {value}");
        }
    }

    #[test]
    fn an_optional_feature_of_a_later_version_is_no_obstacle() {
        let mut bytes = Message::Hello(terms()).encode(1);
        bytes[at::OFFERED] = 0xff;
        assert!(Message::decode(&bytes, &LIMITS).is_ok());
    }

    #[test]
    fn a_message_may_come_byte_by_byte() {
        let bytes = Message::Hello(terms()).encode(1);
        let mut inbox = inbox();
        for byte in &bytes[..MESSAGE_BYTES - 1] {
            assert_eq!(inbox.feed(&[*byte], Vec::new(), &LIMITS), Ok(None));
        }
        assert_eq!(inbox.missing(), 1);
        let last = inbox.feed(&bytes[MESSAGE_BYTES - 1..], vec![7, 8], &LIMITS);
        assert_eq!(last, Ok(Some((Message::Hello(terms()), vec![7, 8]))));
    }

    #[test]
    fn a_wrong_number_of_descriptors_is_refused() {
        let bytes = Message::Hello(terms()).encode(1);
        for count in [0, 1, 3, 8, 9, 200] {
            let descriptors = (0..count).collect();
            assert_eq!(inbox().feed(&bytes, descriptors, &LIMITS), Err(Refusal::Descriptors), "{count}");
        }
        assert_eq!(inbox().feed(&[0; 129], Vec::new(), &LIMITS), Err(Refusal::Malformed));
    }

    #[test]
    fn patience_ends_at_the_deadline() {
        let now = Instant::now();
        let inbox: Inbox<u32> = Inbox::new(now + Duration::from_secs(1));
        assert!(!inbox.is_expired(now));
        assert!(inbox.is_expired(now + Duration::from_secs(1)));
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in prop::array::uniform32(any::<[u8; 4]>()), keep in 0_usize..MESSAGE_BYTES) {
            let mut message = Message::Hello(terms()).encode(1);
            let noise: Vec<u8> = bytes.concat();
            message[keep..].copy_from_slice(&noise[keep..]);
            if let Ok(Message::Hello(terms)) = Message::decode(&message, &LIMITS) {
                prop_assert!((LIMITS.is_ring_bytes)(terms.ring_bytes) && terms.message_bytes_max > 0);
            }
        }
    }
}
