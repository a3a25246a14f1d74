//! The handshake: messages of 128 bytes, descriptors beside them by kind.
//!
//! The connecting side says what it wants and offers its segment; the listening side answers with its own, or says why
//! not. Who joins a route or a channel is told where its reading starts by one message more; and a sender that is new
//! there knocks at those who wait for one. Everything is bounded here, before anything is mapped or allocated; `docs/layout.md` has the byte map. Unknown
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
    /// Reading the ring of a route's sender.
    Route = 2,
    /// Reading the ring of one member of a channel.
    Channel = 3,
    /// Reading statistics.
    Monitor = 4,
}

/// What a descriptor beside a message is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum DescriptorKind {
    /// Segment of the sender of the message: with a ring, or of a reader.
    Segment = 1,
    /// The listening side's end of the socket pair on which "there is space" is rung.
    SpaceDoorbell = 2,
    /// Endpoint segment of the listening process.
    Endpoint = 3,
}

/// What a side says of itself. What has no meaning for a purpose is zero.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Terms {
    pub(crate) purpose: Purpose,
    /// Feature bits of the sender's segment, as in its header.
    pub(crate) segment_features: u64,
    /// Bytes of the ring in the sender's segment; 0 where it has none.
    pub(crate) ring_bytes: u64,
    /// Longest message that the sender of these terms accepts; in the welcome of a route or channel, that it sends.
    pub(crate) message_bytes_max: u64,
    /// It is registered for barriers run by others, or about to be, and runs them itself when it sleeps.
    pub(crate) barrier: bool,
    /// Slots of the endpoint segment; 0 without one.
    pub(crate) endpoint_slots: u32,
    /// What a wake costs on this machine, in ns; 0 if unknown.
    pub(crate) wake_cost_ns: u32,
    /// Hello to a route or channel: how many messages of the past it wants at most.
    pub(crate) history: u32,
    /// Welcome of a route or channel: a random number that names this sender.
    pub(crate) instance: u64,
    /// Welcome of a route or channel: what the sender does about slow readers, for information.
    pub(crate) policy: u32,
}

/// "A sender is here: come and subscribe."
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Knock {
    /// Route or channel.
    pub(crate) purpose: Purpose,
    /// The number that names this sender, as in its welcome.
    pub(crate) instance: u64,
    /// The last 8 characters of a channel member's socket; zero for a route, whose sender has a known name.
    pub(crate) name: [u8; NAME_BYTES],
}

/// Where a reader starts. Until it has come the reader touches nothing of the ring.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Joined {
    /// Position of a record boundary.
    pub(crate) start: u64,
    /// Messages published before it.
    pub(crate) messages: u64,
}

/// A handshake message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Message {
    Hello(Terms),
    Welcome(Terms),
    Refused(Refusal),
    Knock(Knock),
    Joined(Joined),
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
const KNOCK: u16 = 4;
const JOINED: u16 = 5;
const FLAG_BARRIER: u32 = 1;
/// Policies that have a number: 0 block, 1 drop the newest, 2 overwrite, 3 disconnect.
const POLICIES: u32 = 4;
/// Characters of a name in a knock.
const NAME_BYTES: usize = 8;
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
    /// Hello: history. Welcome: policy.
    pub(super) const HISTORY: usize = 92;
    pub(super) const POLICY: usize = 92;
    /// Welcome and knock: instance. Joined: start.
    pub(super) const INSTANCE: usize = 96;
    pub(super) const START: usize = 96;
    /// Knock: name. Joined: messages.
    pub(super) const NAME: usize = 104;
    pub(super) const MESSAGES: usize = 104;
    pub(super) const RESERVED: usize = 112;
}

impl Purpose {
    fn of(number: u32) -> Option<Self> {
        Some(match number {
            1 => Self::Connection,
            2 => Self::Route,
            3 => Self::Channel,
            4 => Self::Monitor,
            _ => return None,
        })
    }

    /// Says whether one side reads the ring of the other, and not each that of the other.
    pub(crate) fn is_broadcast(self) -> bool {
        matches!(self, Self::Route | Self::Channel)
    }
}

impl Message {
    /// Lists the descriptors that travel with this message, in order.
    pub(crate) fn descriptors(&self) -> &'static [DescriptorKind] {
        use DescriptorKind::{Endpoint, Segment, SpaceDoorbell};
        match self {
            Self::Hello(terms) => match terms.purpose {
                Purpose::Connection => &[Segment, SpaceDoorbell],
                Purpose::Route | Purpose::Channel => &[Segment],
                Purpose::Monitor => &[],
            },
            Self::Welcome(terms) => match terms.purpose {
                Purpose::Connection => &[Segment, Endpoint],
                Purpose::Route | Purpose::Channel => &[Segment],
                Purpose::Monitor => &[Endpoint],
            },
            Self::Refused(_) | Self::Knock(_) | Self::Joined(_) => &[],
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
        let message_type = match self {
            Self::Hello(terms) => {
                terms.encode(&mut out);
                put(&mut out, at::HISTORY, terms.history.to_le_bytes());
                HELLO
            }
            Self::Welcome(terms) => {
                terms.encode(&mut out);
                put(&mut out, at::POLICY, terms.policy.to_le_bytes());
                put(&mut out, at::INSTANCE, terms.instance.to_le_bytes());
                WELCOME
            }
            Self::Refused(refusal) => {
                put(&mut out, at::REFUSAL, refusal_code(*refusal).to_le_bytes());
                REFUSED
            }
            Self::Knock(knock) => {
                put(&mut out, at::PURPOSE, (knock.purpose as u32).to_le_bytes());
                put(&mut out, at::INSTANCE, knock.instance.to_le_bytes());
                put(&mut out, at::NAME, knock.name);
                KNOCK
            }
            Self::Joined(joined) => {
                put(&mut out, at::START, joined.start.to_le_bytes());
                put(&mut out, at::MESSAGES, joined.messages.to_le_bytes());
                JOINED
            }
        };
        put(&mut out, at::TYPE, message_type.to_le_bytes());
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
        if get_u32(bytes, at::BYTES) != MESSAGE_BYTES as u32 || !is_clear(bytes, at::RESERVED, MESSAGE_BYTES)
        {
            return Err(Refusal::Malformed);
        }
        if get_u64(bytes, at::REQUIRED) & !feature::KNOWN != 0 {
            return Err(Refusal::Features);
        }
        let message = match get_u16(bytes, at::TYPE) {
            HELLO => Self::Hello(Terms::decode(bytes, true, limits)?),
            WELCOME => Self::Welcome(Terms::decode(bytes, false, limits)?),
            REFUSED => Self::Refused(refusal_of(get_u32(bytes, at::REFUSAL)).ok_or(Refusal::Malformed)?),
            KNOCK => Self::Knock(Knock::decode(bytes)?),
            JOINED => Self::Joined(Joined::decode(bytes)?),
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
    /// Makes terms that say nothing yet.
    pub(crate) fn new(purpose: Purpose) -> Self {
        Self {
            purpose,
            segment_features: 0,
            ring_bytes: 0,
            message_bytes_max: 0,
            barrier: false,
            endpoint_slots: 0,
            wake_cost_ns: 0,
            history: 0,
            instance: 0,
            policy: 0,
        }
    }

    /// Writes what stands in a hello and in a welcome.
    fn encode(&self, out: &mut [u8; MESSAGE_BYTES]) {
        put(out, at::PURPOSE, (self.purpose as u32).to_le_bytes());
        put(out, at::OFFERED, feature::KNOWN.to_le_bytes());
        put(out, at::SEGMENT_FEATURES, self.segment_features.to_le_bytes());
        put(out, at::RING_BYTES, self.ring_bytes.to_le_bytes());
        put(out, at::MESSAGE_BYTES_MAX, self.message_bytes_max.to_le_bytes());
        put(out, at::FLAGS, (if self.barrier { FLAG_BARRIER } else { 0 }).to_le_bytes());
        put(out, at::ENDPOINT_SLOTS, self.endpoint_slots.to_le_bytes());
        put(out, at::WAKE_COST, self.wake_cost_ns.to_le_bytes());
    }

    fn decode(bytes: &[u8; MESSAGE_BYTES], is_hello: bool, limits: &Limits) -> Result<Self, Refusal> {
        let purpose = Purpose::of(get_u32(bytes, at::PURPOSE)).ok_or(Refusal::Purpose)?;
        let flags = get_u32(bytes, at::FLAGS);
        let mut terms = Self {
            segment_features: get_u64(bytes, at::SEGMENT_FEATURES),
            ring_bytes: get_u64(bytes, at::RING_BYTES),
            message_bytes_max: get_u64(bytes, at::MESSAGE_BYTES_MAX),
            barrier: flags & FLAG_BARRIER != 0,
            endpoint_slots: get_u32(bytes, at::ENDPOINT_SLOTS),
            wake_cost_ns: get_u32(bytes, at::WAKE_COST),
            ..Self::new(purpose)
        };
        let is_broadcast = purpose.is_broadcast();
        let known_until = match (is_hello, is_broadcast) {
            (true, true) => {
                terms.history = get_u32(bytes, at::HISTORY);
                at::INSTANCE
            }
            (false, true) => {
                terms.policy = get_u32(bytes, at::POLICY);
                terms.instance = get_u64(bytes, at::INSTANCE);
                at::NAME
            }
            (_, false) => at::HISTORY,
        };
        if terms.segment_features & !limits.segment_features_known != 0 {
            return Err(Refusal::Features);
        }
        let in_bounds = flags & !FLAG_BARRIER == 0
            && get_u32(bytes, at::REFUSAL) == 0
            && is_clear(bytes, known_until, at::RESERVED)
            && terms.has_sizes_of_its_purpose(is_hello, limits)
            && terms.policy < POLICIES
            && terms.endpoint_slots <= limits.endpoint_slots_max;
        if in_bounds { Ok(terms) } else { Err(Refusal::Malformed) }
    }

    /// Says whether there is a ring where one belongs, and none elsewhere; who sends or accepts nothing has no maximum.
    fn has_sizes_of_its_purpose(&self, is_hello: bool, limits: &Limits) -> bool {
        let has_ring = match self.purpose {
            Purpose::Connection => true,
            Purpose::Route | Purpose::Channel => !is_hello,
            Purpose::Monitor => false,
        };
        let ring_fits = if has_ring { (limits.is_ring_bytes)(self.ring_bytes) } else { self.ring_bytes == 0 };
        let features_fit = has_ring || self.segment_features == 0;
        ring_fits && features_fit && (self.message_bytes_max > 0) == (self.purpose != Purpose::Monitor)
    }
}

impl Knock {
    fn decode(bytes: &[u8; MESSAGE_BYTES]) -> Result<Self, Refusal> {
        let purpose = Purpose::of(get_u32(bytes, at::PURPOSE)).ok_or(Refusal::Purpose)?;
        let knock = Self { purpose, instance: get_u64(bytes, at::INSTANCE), name: get(bytes, at::NAME) };
        let is_name = match purpose {
            Purpose::Route => knock.name == [0; NAME_BYTES],
            // It becomes a part of a path.
            Purpose::Channel => knock.name.iter().all(|byte| matches!(byte, b'a'..=b'z' | b'2'..=b'7')),
            Purpose::Connection | Purpose::Monitor => return Err(Refusal::Purpose),
        };
        let rest_is_clear =
            is_clear(bytes, at::OFFERED, at::DESCRIPTOR_COUNT) && get_u32(bytes, at::HISTORY) == 0;
        if is_name && rest_is_clear { Ok(knock) } else { Err(Refusal::Malformed) }
    }
}

impl Joined {
    fn decode(bytes: &[u8; MESSAGE_BYTES]) -> Result<Self, Refusal> {
        let joined = Self { start: get_u64(bytes, at::START), messages: get_u64(bytes, at::MESSAGES) };
        let rest_is_clear = get_u32(bytes, at::PURPOSE) == 0
            && is_clear(bytes, at::OFFERED, at::DESCRIPTOR_COUNT)
            && get_u32(bytes, at::HISTORY) == 0;
        // Records begin at multiples of 8.
        if rest_is_clear && joined.start.is_multiple_of(8) { Ok(joined) } else { Err(Refusal::Malformed) }
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
        Refusal::MessageBytes => 9,
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
        9 => Refusal::MessageBytes,
        _ => return None,
    })
}

/// Says whether the bytes from `from` to before `to` are zero.
fn is_clear(bytes: &[u8; MESSAGE_BYTES], from: usize, to: usize) -> bool {
    bytes[from..to].iter().all(|byte| *byte == 0)
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
mod tests;
