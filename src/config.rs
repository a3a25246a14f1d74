//! Settings of a connection or a listener, with checked units.

use crate::error::ConfigError;
use crate::shm::layout;
use crate::wait::Wait;
use std::time::Duration;

/// A ring size and a patience that suit a kind of work.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Profile {
    /// 1 MiB a direction, 1 us of patience: small messages with a low tail. The default.
    #[default]
    Latency,
    /// 2 MiB a direction, 10 us of patience: streams run two to three times faster (about twice the L2 cache, so lines
    /// have left the other core before they are reused), at the price of a higher p99 for single small messages.
    Bulk,
}

/// Settings of a connection or a listener.
///
/// Each side has its own: ring size and limits hold for the direction in which that side sends.
///
/// # Examples
/// ```
/// use ringway::{Config, Profile, Wait};
/// let config = Config::new().profile(Profile::Bulk).wait(Wait::Spin);
/// let (mut here, mut there) = ringway::pair(&config)?;
/// here.send(b"hello")?;
/// assert_eq!(&*there.recv()?, b"hello");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone)]
#[must_use]
pub struct Config {
    pub(crate) ring_bytes: u64,
    pub(crate) message_bytes_max: u64,
    pub(crate) peer_ring_bytes_max: u64,
    pub(crate) patience: u32,
    pub(crate) wait: Wait,
    pub(crate) prefault: bool,
    pub(crate) trust_peer: bool,
    pub(crate) connect_timeout: Duration,
    pub(crate) handshake_timeout: Duration,
    pub(crate) connections_max: Option<usize>,
    pub(crate) connections_per_uid_max: usize,
    pub(crate) memory_bytes_max: u64,
    pub(crate) memory_bytes_per_uid_max: u64,
    pub(crate) warm_segments: usize,
    pub(crate) allowed_uids: Vec<u32>,
    pub(crate) allowed_gids: Vec<u32>,
}

impl Default for Config {
    fn default() -> Self {
        Self::new()
    }
}

impl Config {
    /// Makes the default settings: profile [`Latency`](Profile::Latency), [`Wait::Auto`], same user only.
    pub fn new() -> Self {
        Self {
            ring_bytes: RING_BYTES_LATENCY,
            message_bytes_max: MESSAGE_BYTES_MAX_DEFAULT,
            peer_ring_bytes_max: PEER_RING_BYTES_MAX_DEFAULT,
            patience: PATIENCE_LATENCY,
            wait: Wait::Auto,
            prefault: false,
            trust_peer: false,
            connect_timeout: Duration::from_secs(5),
            handshake_timeout: Duration::from_secs(1),
            connections_max: None,
            connections_per_uid_max: CONNECTIONS_MAX,
            memory_bytes_max: u64::MAX,
            memory_bytes_per_uid_max: u64::MAX,
            warm_segments: WARM_SEGMENTS_DEFAULT,
            allowed_uids: Vec::new(),
            allowed_gids: Vec::new(),
        }
    }

    /// Sets ring size and patience for a kind of work.
    pub fn profile(mut self, profile: Profile) -> Self {
        (self.ring_bytes, self.patience) = match profile {
            Profile::Latency => (RING_BYTES_LATENCY, PATIENCE_LATENCY),
            Profile::Bulk => (RING_BYTES_BULK, PATIENCE_BULK),
        };
        self
    }

    /// Sets the size of the ring in which this side sends: a power of two, 16 KiB to 1 GiB.
    ///
    /// One record holds up to a quarter of it; longer messages are sent in fragments by the waiting verbs.
    pub fn ring_bytes(mut self, ring_bytes: u64) -> Self {
        self.ring_bytes = ring_bytes;
        self
    }

    /// Sets the longest message that this side accepts, in bytes: 1 byte to 1 GiB, 64 MiB by default.
    ///
    /// The memory for it is taken only as bytes arrive.
    pub fn message_bytes_max(mut self, message_bytes_max: u64) -> Self {
        self.message_bytes_max = message_bytes_max;
        self
    }

    /// Sets the largest ring that a peer may bring, in bytes: 64 MiB by default, and never less than our own ring.
    ///
    /// A peer that says that it wrote its whole ring makes us read it, so this bounds what one peer can cost.
    pub fn peer_ring_bytes_max(mut self, peer_ring_bytes_max: u64) -> Self {
        self.peer_ring_bytes_max = peer_ring_bytes_max;
        self
    }

    /// Sets how blocking verbs wait.
    pub fn wait(mut self, wait: Wait) -> Self {
        self.wait = wait;
        self
    }

    /// Sets how long a receiver that finds the ring empty in the middle of a stream leaves it alone, in steps of one
    /// PAUSE instruction (about 25 ns); 0 turns it off.
    ///
    /// Looking again at once steals the cache line that the sender is filling; waiting a little makes streams 2 to 5
    /// times faster. It applies after at least 8 messages without a pause, never to request and answer, and delays the
    /// first message after a burst by that much at most. A [`Group`](crate::Group) waits a quarter of it between two sweeps,
    /// a receiver of a route or channel four times as long.
    pub fn patience(mut self, pauses: u32) -> Self {
        self.patience = pauses.min(PATIENCE_MAX);
        self
    }

    /// Allocates and touches the whole ring when the connection is made, so that no page fault is left for later.
    ///
    /// Costs about 1 ms per MiB, once.
    pub fn prefault(mut self, prefault: bool) -> Self {
        self.prefault = prefault;
        self
    }

    /// Permits borrowed reads: received messages are slices of the peer's ring instead of copies.
    ///
    /// # Safety
    /// - The peer's process does not write to a message between sending it and its release by our dropping it. Every
    ///   peer that runs an unmodified ringway keeps that; a process that was taken over need not. With a peer that
    ///   breaks it, the bytes of a message may change under a `&[u8]`; no access ever leaves the ring.
    #[allow(unsafe_code)]
    pub unsafe fn trust_peer(mut self) -> Self {
        self.trust_peer = true;
        self
    }

    /// Sets how long `connect` waits for a listener that is busy or slow to answer; 5 s by default.
    pub fn connect_timeout(mut self, timeout: Duration) -> Self {
        self.connect_timeout = timeout.min(TIMEOUT_MAX);
        self
    }

    /// Sets how long a listener gives a client for its hello; 1 s by default.
    pub fn handshake_timeout(mut self, timeout: Duration) -> Self {
        self.handshake_timeout = timeout.min(TIMEOUT_MAX);
        self
    }

    /// Sets how many connections of a listener may exist at one time: 1 to 65,536. By default 1024, or as many as the
    /// descriptors of the process suffice for: a connection takes up to 4.
    ///
    /// `bind` raises the soft limit of descriptors to the hard one if need be.
    pub fn connections_max(mut self, connections_max: usize) -> Self {
        self.connections_max = Some(connections_max);
        self
    }

    /// Sets how many of them may belong to one user: 1 to 65,536, all of them by default.
    pub fn connections_per_uid_max(mut self, connections_max: usize) -> Self {
        self.connections_per_uid_max = connections_max;
        self
    }

    /// Sets how many bytes the rings of all connections of a listener may have together, in both directions; no limit by
    /// default.
    ///
    /// What counts is what a ring can grow to, and that is also what a peer can make us map and read.
    pub fn memory_bytes_max(mut self, memory_bytes_max: u64) -> Self {
        self.memory_bytes_max = memory_bytes_max;
        self
    }

    /// Sets how many of those bytes may belong to connections of one user; no limit by default.
    pub fn memory_bytes_per_uid_max(mut self, memory_bytes_max: u64) -> Self {
        self.memory_bytes_per_uid_max = memory_bytes_max;
        self
    }

    /// Sets how many segments a listener makes ahead of its clients, while it has nothing else to do: 1 by default.
    ///
    /// With [`prefault`](Self::prefault) their memory is there and touched before the client comes. A segment is made
    /// for one client: what it held goes with the connection and is never seen by another.
    pub fn warm_segments(mut self, segments: usize) -> Self {
        self.warm_segments = segments;
        self
    }

    /// Lets another user connect (listener), or accepts a listener that runs as another user (connecting side).
    ///
    /// A listener that allows others opens its socket to everybody and decides by the credentials that the kernel
    /// attaches to the hello. 65534, the number of users that the kernel cannot name, never matches.
    pub fn allow_uid(mut self, uid: u32) -> Self {
        self.allowed_uids.push(uid);
        self
    }

    /// Lets the members of a group connect whose primary group it is; see [`allow_uid`](Self::allow_uid).
    pub fn allow_gid(mut self, gid: u32) -> Self {
        self.allowed_gids.push(gid);
        self
    }

    pub(crate) fn check(&self) -> Result<(), ConfigError> {
        if !layout::is_ring_bytes(self.ring_bytes) {
            return Err(ConfigError::RingBytes { ring_bytes: self.ring_bytes });
        }
        if !(1..=MESSAGE_BYTES_MAX).contains(&self.message_bytes_max) {
            return Err(ConfigError::MessageBytesMax { message_bytes_max: self.message_bytes_max });
        }
        for connections_max in self.connections_max.into_iter().chain([self.connections_per_uid_max]) {
            if !(1..=CONNECTIONS_MAX).contains(&connections_max) {
                return Err(ConfigError::Connections { connections_max });
            }
        }
        let needed = self.ring_bytes + layout::RING_BYTES_MIN;
        let memory_bytes_max = self.memory_bytes_max.min(self.memory_bytes_per_uid_max);
        if memory_bytes_max < needed {
            return Err(ConfigError::MemoryBytes { memory_bytes_max, needed });
        }
        if self.warm_segments > CONNECTIONS_MAX {
            return Err(ConfigError::WarmSegments { segments: self.warm_segments });
        }
        Ok(())
    }

    /// Returns how many connections a process may serve whose descriptors go up to `descriptors_max`.
    ///
    /// # Errors
    /// They do not suffice for what was asked for: so many are needed.
    pub(crate) fn connections_within(&self, descriptors_max: u64) -> Result<usize, u64> {
        let fixed = DESCRIPTORS_FIXED + self.warm_segments as u64;
        let needed = |connections: usize| fixed + DESCRIPTORS_PER_CONNECTION * connections as u64;
        let wanted = self.connections_max.unwrap_or(CONNECTIONS_MAX_DEFAULT);
        if needed(wanted) <= descriptors_max {
            return Ok(wanted);
        }
        let fitting = descriptors_max.saturating_sub(fixed) / DESCRIPTORS_PER_CONNECTION;
        if self.connections_max.is_some() { Err(needed(wanted)) } else { Ok((fitting as usize).max(1)) }
    }

    /// Says whether the sleeper should pay for the memory barrier of its waker. Who always sleeps pays too often: under
    /// load that took three times as long for a round trip as a fence for each message.
    pub(crate) fn wants_barrier(&self) -> bool {
        self.wait != Wait::Sleep
    }

    /// Says whether others than our own user may come in.
    pub(crate) fn is_shared(&self) -> bool {
        !self.allowed_uids.is_empty() || !self.allowed_gids.is_empty()
    }

    /// Says whether a peer with these credentials is welcome to a process of user `own_uid`.
    pub(crate) fn allows(&self, own_uid: u32, uid: u32, gid: u32) -> bool {
        uid != UNMAPPED_ID
            && (uid == own_uid
                || self.allowed_uids.contains(&uid)
                || gid != UNMAPPED_ID && self.allowed_gids.contains(&gid))
    }
}

/// Longer is for ever; and no clock overflows.
pub(crate) const TIMEOUT_MAX: Duration = Duration::from_secs(365 * 24 * 3600);
const RING_BYTES_LATENCY: u64 = 1 << 20;
const RING_BYTES_BULK: u64 = 2 << 20;
const PATIENCE_LATENCY: u32 = 40;
const PATIENCE_BULK: u32 = 400;
const PATIENCE_MAX: u32 = 40_000;
const MESSAGE_BYTES_MAX_DEFAULT: u64 = 64 << 20;
const PEER_RING_BYTES_MAX_DEFAULT: u64 = 64 << 20;
const MESSAGE_BYTES_MAX: u64 = 1 << 30;
const CONNECTIONS_MAX_DEFAULT: usize = 1024;
const WARM_SEGMENTS_DEFAULT: usize = 1;
/// The socket, the space doorbell, the peer's pidfd, and during its first lap the segment that we send in.
const DESCRIPTORS_PER_CONNECTION: u64 = 4;
/// For the listener, its workers, handshakes under way, and what else the process has open.
const DESCRIPTORS_FIXED: u64 = 256;
/// Most connections that a listener can be configured for; an endpoint segment has a slot for each.
pub(crate) const CONNECTIONS_MAX: usize = 65_536;
/// What the kernel says of users and groups that have no number in our namespace.
const UNMAPPED_ID: u32 = 65_534;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_out_of_bounds_are_named() {
        let wrong = [
            (Config::new().ring_bytes(20_000), ConfigError::RingBytes { ring_bytes: 20_000 }),
            (Config::new().message_bytes_max(0), ConfigError::MessageBytesMax { message_bytes_max: 0 }),
            (Config::new().connections_max(0), ConfigError::Connections { connections_max: 0 }),
            (
                Config::new().connections_per_uid_max(70_000),
                ConfigError::Connections { connections_max: 70_000 },
            ),
        ];
        for (config, error) in wrong {
            assert_eq!(config.check(), Err(error));
        }
        assert_eq!(Config::new().check(), Ok(()));
    }

    #[test]
    fn memory_for_less_than_one_connection_is_no_limit() {
        let config = Config::new().ring_bytes(1 << 20).memory_bytes_max(1 << 20);
        let needed = (1 << 20) + (16 << 10);
        assert_eq!(config.check(), Err(ConfigError::MemoryBytes { memory_bytes_max: 1 << 20, needed }));
        assert_eq!(config.memory_bytes_max(needed).check(), Ok(()));
    }

    #[test]
    fn descriptors_bound_the_default_and_refuse_what_was_asked_for() {
        let fixed = DESCRIPTORS_FIXED + 1;
        assert_eq!(Config::new().connections_within(u64::MAX), Ok(1024));
        assert_eq!(Config::new().connections_within(fixed + 4 * 1024), Ok(1024));
        assert_eq!(Config::new().connections_within(fixed + 4 * 1024 - 1), Ok(1023));
        assert_eq!(Config::new().connections_within(64), Ok(1), "hardly any: one at least is tried");
        let asked = Config::new().connections_max(1000);
        assert_eq!(asked.connections_within(fixed + 4000), Ok(1000));
        assert_eq!(asked.connections_within(fixed + 3999), Err(fixed + 4000));
    }

    #[test]
    fn only_the_own_user_and_the_allowed_are_welcome() {
        let config = Config::new().allow_uid(1001).allow_gid(2002);
        assert!(config.allows(1000, 1000, 1));
        assert!(config.allows(1000, 1001, 1));
        assert!(config.allows(1000, 7, 2002));
        assert!(!config.allows(1000, 7, 7));
        assert!(!Config::new().allows(1000, 0, 0), "root is no exception");
    }

    #[test]
    fn nobody_never_matches() {
        let config = Config::new().allow_uid(65_534).allow_gid(65_534);
        assert!(!config.allows(65_534, 65_534, 65_534));
        assert!(!config.allows(1000, 7, 65_534));
    }
}
