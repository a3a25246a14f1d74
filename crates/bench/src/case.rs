//! One thing to measure: what is done, over what, with which settings.

use crate::raw;
use clap::ValueEnum;
use ringway::Config;
use serde::{Deserialize, Serialize};
use std::fmt;

/// What is done in a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Work {
    /// Request and answer, one at a time; each pair has two processes.
    Rtt,
    /// One way as fast as it goes; each pair has two processes.
    Stream,
    /// One way from several client processes to one server process.
    Fanin,
    /// A connection after the other is made, answers once, and is closed.
    Connect,
    /// Connections that are never used are weighed.
    Memory,
    /// Connected pairs that do nothing.
    Idle,
    /// Both ends in one thread.
    SameThread,
    /// Private memory is copied.
    Copy,
}

/// What carries the messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Transport {
    /// The library.
    Ringway,
    /// Two words in shared memory: nothing can be faster.
    CacheLine,
    /// Copies of private memory.
    Memcpy,
    /// Two words in shared memory and the futex call of the kernel.
    Futex,
    /// One byte through a Unix stream socket.
    Socket,
    /// Unix stream socket, one write for each message.
    Uds,
    /// Unix stream socket, 64 KiB of buffer on both sides.
    UdsBuffered,
    /// Pipe, one write for each message.
    Pipe,
}

impl Transport {
    /// Returns the name in results.
    pub fn name(self) -> &'static str {
        match self {
            Self::Ringway => "ringway",
            Self::CacheLine => "cacheline",
            Self::Memcpy => "memcpy",
            Self::Futex => "futex",
            Self::Socket => "socket",
            Self::Uds => "uds",
            Self::UdsBuffered => "uds-buffered",
            Self::Pipe => "pipe",
        }
    }
}

/// How the sides of a ringway connection wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ValueEnum)]
pub enum Wait {
    /// Never sleep: one core for each side
    Spin,
    /// Spin for about as long as a wake costs, then sleep
    Auto,
    /// Sleep at once
    Sleep,
}

/// Ring size and patience of ringway connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ValueEnum)]
pub enum Profile {
    /// 1 MiB a direction: small messages with a low tail
    Latency,
    /// 2 MiB a direction: fast streams
    Bulk,
}

/// When a run is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Length {
    /// After so many nanoseconds.
    Nanos(u64),
    /// After so many messages of each client.
    Count(u64),
}

/// One thing to measure.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Case {
    /// Name of the scenario in results.
    pub scenario: String,
    /// What is done.
    pub work: Work,
    /// What carries the messages.
    pub transport: Transport,
    /// Bytes of a message.
    pub bytes: usize,
    /// Client processes, or pairs.
    pub clients: u32,
    /// Messages published at once.
    pub batch: usize,
    /// When a run is over.
    pub length: Length,
    /// Settings of ringway connections.
    pub profile: Profile,
    /// Ring size of ringway connections, if it is not that of the profile.
    pub ring_bytes: Option<u64>,
    /// Patience of receivers, if it is not that of the profile.
    pub patience: Option<u32>,
    /// How both sides wait.
    pub wait: Wait,
    /// Requests per second that become due whether or not answers come.
    pub rate: Option<u64>,
    /// Processors of servers and clients.
    pub pin: Option<(usize, usize)>,
    /// Receivers read in place.
    pub trust: bool,
}

impl Case {
    /// Makes a case with default settings.
    pub fn new(scenario: &str, work: Work, transport: Transport, length: Length) -> Self {
        Self {
            scenario: scenario.to_owned(),
            work,
            transport,
            bytes: BYTES_DEFAULT,
            clients: 1,
            batch: 1,
            length,
            profile: Profile::Latency,
            ring_bytes: None,
            patience: None,
            wait: Wait::Auto,
            rate: None,
            pin: None,
            trust: false,
        }
    }

    /// Returns how many server processes there are.
    pub fn servers(&self) -> u32 {
        match self.work {
            Work::Rtt | Work::Stream | Work::Idle => self.clients,
            Work::Fanin | Work::Connect | Work::Memory => 1,
            Work::SameThread | Work::Copy => 0,
        }
    }

    /// Says whether its figures depend on how far the processors are from each other.
    pub fn needs_canary(&self) -> bool {
        let travels = !matches!(self.work, Work::Memory | Work::Idle | Work::SameThread | Work::Copy);
        // Two sides that spin on one processor measure its scheduler.
        travels && self.pin.is_none_or(|(server, client)| server != client)
    }

    /// Says whether messages with content are sent.
    pub fn has_messages(&self) -> bool {
        !matches!(
            self.transport,
            Transport::CacheLine | Transport::Memcpy | Transport::Futex | Transport::Socket
        ) && !matches!(self.work, Work::Memory | Work::Idle)
    }

    /// Returns the settings of both sides of a ringway connection.
    pub fn config(&self) -> Config {
        let config = Config::new()
            .profile(match self.profile {
                Profile::Latency => ringway::Profile::Latency,
                Profile::Bulk => ringway::Profile::Bulk,
            })
            .wait(match self.wait {
                Wait::Spin => ringway::Wait::Spin,
                Wait::Auto => ringway::Wait::Auto,
                Wait::Sleep => ringway::Wait::Sleep,
            })
            .message_bytes_max((self.bytes as u64).max(MESSAGE_BYTES_MAX));
        let config = match self.ring_bytes {
            Some(ring_bytes) => config.ring_bytes(ring_bytes).peer_ring_bytes_max(ring_bytes),
            None => config,
        };
        let config = self.patience.map_or(config.clone(), |pauses| config.patience(pauses));
        if self.trust { raw::trust_own_program(config) } else { config }
    }

    /// Returns the bytes of each ring of a ringway connection.
    pub fn ring_bytes(&self) -> u64 {
        self.ring_bytes.unwrap_or(match self.profile {
            Profile::Latency => 1 << 20,
            Profile::Bulk => 2 << 20,
        })
    }

    /// Returns after how many messages a sender looks at the clock: reading it costs as much as a small message.
    pub fn look_every(&self) -> u64 {
        if self.bytes < LARGE_BYTES { 64 } else { 4 }
    }
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} over {}", self.scenario, self.transport.name())?;
        if self.has_messages() {
            write!(f, ", {} B", self.bytes)?;
        }
        Ok(())
    }
}

/// Returns the name of a value in results.
pub fn name_of(value: impl ValueEnum) -> Option<String> {
    value.to_possible_value().map(|value| value.get_name().to_owned())
}

/// Bytes of a message unless something else is asked for.
pub const BYTES_DEFAULT: usize = 64;
/// Requests per second of the rows that have a rate, unless something else is asked for.
pub const RATE_DEFAULT: u64 = 100_000;
const LARGE_BYTES: usize = 4096;
const MESSAGE_BYTES_MAX: u64 = 64 << 20;
