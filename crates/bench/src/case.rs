//! One thing to measure: what is done, over what, with which settings.

use crate::content::Lengths;
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
    /// One way from several clients to one server process.
    Fanin,
    /// One process sends to several, and each gets everything.
    Route,
    /// Several processes send to several, and each gets everything.
    Channel,
    /// The messages of routes and channels from one process to one other.
    Bare,
    /// Several requests of each client under way at once, answered by one server process.
    Echo,
    /// One client makes requests, one at a time, while the others are connected and do nothing.
    Probe,
    /// Many clients are connected and do nothing; their server is watched.
    Crowd,
    /// The server is killed and started again while its clients make requests.
    Reconnect,
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
    /// Checksums of private memory are made.
    Checksum,
}

/// What carries the messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Transport {
    /// The library.
    Ringway,
    /// Calls over the library: frames with checksums, handlers, answers by number.
    Rpc,
    /// gRPC over the library.
    #[cfg(feature = "grpc")]
    Tonic,
    /// gRPC over a Unix stream socket.
    #[cfg(feature = "grpc")]
    TonicUds,
    /// Two words in shared memory: nothing can be faster.
    CacheLine,
    /// Copies of private memory.
    Memcpy,
    /// The checksum that frames have.
    Crc32,
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
            Self::Rpc => "rpc",
            #[cfg(feature = "grpc")]
            Self::Tonic => "tonic",
            #[cfg(feature = "grpc")]
            Self::TonicUds => "tonic-uds",
            Self::CacheLine => "cacheline",
            Self::Memcpy => "memcpy",
            Self::Crc32 => "crc32",
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

/// What the sender of a route or channel does when a receiver is too slow for its ring.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ValueEnum)]
pub enum Policy {
    /// Waits; a receiver that makes no progress for 5 s is disconnected
    Block,
    /// Drops the new message
    DropNewest,
    /// Overwrites old messages
    Overwrite,
    /// Disconnects the receiver
    Disconnect,
}

impl From<Policy> for ringway::broadcast::Policy {
    fn from(policy: Policy) -> Self {
        match policy {
            Policy::Block => Self::default(),
            Policy::DropNewest => Self::DropNewest,
            Policy::Overwrite => Self::Overwrite,
            Policy::Disconnect => Self::Disconnect,
        }
    }
}

/// When a run is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Length {
    /// After so many nanoseconds.
    Nanos(u64),
    /// After so many messages of each client; of a route or channel: of all senders together.
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
    /// Bytes of a message, of the longest if lengths vary.
    pub bytes: usize,
    /// Bytes of the shortest message if lengths vary.
    pub bytes_min: Option<usize>,
    /// Sending processes of a route or channel.
    pub senders: u32,
    /// Clients, each with a connection, or pairs; of a route or channel: receiving processes.
    pub clients: u32,
    /// What senders of a route or channel do about slow receivers.
    pub policy: Policy,
    /// Processes that share the clients; one for each if there is no number.
    pub processes: Option<u32>,
    /// Requests that a client has under way at once.
    pub depth: u32,
    /// Threads of a pool that serve the clients. Without a number a group on one thread serves.
    pub workers: Option<u32>,
    /// Calls have checksums.
    pub checksum: bool,
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
            bytes_min: None,
            senders: 1,
            clients: 1,
            policy: Policy::Block,
            processes: None,
            depth: 1,
            workers: None,
            checksum: true,
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
            Work::Rtt | Work::Stream | Work::Idle | Work::Bare => self.clients,
            Work::Route | Work::Channel => self.senders,
            Work::Fanin
            | Work::Echo
            | Work::Probe
            | Work::Crowd
            | Work::Reconnect
            | Work::Connect
            | Work::Memory => 1,
            Work::SameThread | Work::Copy | Work::Checksum => 0,
        }
    }

    /// Returns how many client processes there are.
    pub fn processes(&self) -> u32 {
        self.processes.map_or(self.clients, |processes| processes.min(self.clients))
    }

    /// Returns the numbers of the clients that live in a process. The client that probes has one to itself.
    pub fn clients_of(&self, process: u32) -> impl ExactSizeIterator<Item = u32> + use<> {
        let processes = self.processes();
        let (first, end, step) = match (self.work, process) {
            (Work::Probe, 0) => (0, 1, 1),
            (Work::Probe, _) => (process, self.clients, processes - 1),
            _ => (process, self.clients, processes),
        };
        (first..end).step_by(step as usize)
    }

    /// Says whether its figures depend on how far the processors are from each other.
    pub fn needs_canary(&self) -> bool {
        let travels = !matches!(self.work, Work::Memory | Work::Idle | Work::Crowd | Work::Reconnect);
        // Two sides that spin on one processor measure its scheduler.
        travels && self.servers() > 0 && self.pin.is_none_or(|(server, client)| server != client)
    }

    /// Says whether its server spins from the moment at which it listens, so that no canary can sing beside it.
    pub fn spins_ahead(&self) -> bool {
        let served = self.transport == Transport::Rpc || self.workers.is_some();
        served && self.wait == Wait::Spin
    }

    /// Says whether the two differ in nothing but how the messages travel: their runs take turns, so that neither has
    /// the better moments of the machine.
    pub fn is_rival_of(&self, other: &Self) -> bool {
        let work = |case: &Self| if case.work == Work::Bare { Work::Route } else { case.work };
        let shape = |case: &Self| (case.bytes, case.clients, case.depth, case.batch, case.rate, case.senders);
        work(self) == work(other) && shape(self) == shape(other)
    }

    /// Says whether receivers get what all senders send: the work of routes and channels.
    pub fn is_broadcast(&self) -> bool {
        matches!(self.work, Work::Route | Work::Channel)
    }

    /// Returns how long messages are that vary in length.
    ///
    /// # Panics
    /// If they cannot vary as the case says.
    pub fn lengths(&self) -> Lengths {
        Lengths::new(self.bytes_min.unwrap_or(self.bytes), self.bytes)
    }

    /// Returns how many of the messages of a route or channel this sender sends: `count` shared out among all.
    pub fn share_of(&self, sender: u32, count: u64) -> u64 {
        let senders = u64::from(self.senders);
        count / senders + u64::from(u64::from(sender) < count % senders)
    }

    /// Says whether ringway carries the messages.
    pub fn is_ours(&self) -> bool {
        #[cfg(feature = "grpc")]
        if self.transport == Transport::Tonic {
            return true;
        }
        matches!(self.transport, Transport::Ringway | Transport::Rpc)
    }

    /// Says whether messages with content are sent.
    pub fn has_messages(&self) -> bool {
        !matches!(
            self.transport,
            Transport::CacheLine
                | Transport::Memcpy
                | Transport::Crc32
                | Transport::Futex
                | Transport::Socket
        ) && !matches!(self.work, Work::Memory | Work::Idle | Work::Crowd)
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
        // Some laps are all there is: the memory of the first is no part of them.
        let config = if matches!(self.work, Work::Route | Work::Channel | Work::Bare) {
            config.prefault(true)
        } else {
            config
        };
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
            let shortest = self.bytes_min.map_or_else(String::new, |bytes| format!("{bytes}-"));
            write!(f, ", {shortest}{} B", self.bytes)?;
        }
        if self.is_broadcast() {
            write!(f, ", {} to {}", self.senders, self.clients)?;
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

#[cfg(test)]
mod tests {
    use super::*;

    fn case(work: Work, clients: u32, processes: Option<u32>) -> Case {
        let case = Case::new("scale", work, Transport::Ringway, Length::Count(1));
        Case { clients, processes, ..case }
    }

    #[test]
    fn each_client_lives_in_one_process() {
        for (work, clients, processes) in [
            (Work::Fanin, 8, None),
            (Work::Fanin, 10, Some(3)),
            (Work::Echo, 2, Some(8)),
            (Work::Probe, 1000, Some(8)),
            (Work::Probe, 2, Some(2)),
        ] {
            let case = case(work, clients, processes);
            let mut numbers: Vec<u32> =
                (0..case.processes()).flat_map(|process| case.clients_of(process)).collect();
            numbers.sort_unstable();
            assert_eq!(numbers, (0..clients).collect::<Vec<_>>(), "{case:?}");
        }
    }

    #[test]
    fn who_probes_has_a_process_to_itself() {
        assert_eq!(case(Work::Probe, 1000, Some(4)).clients_of(0).collect::<Vec<_>>(), [0]);
    }

    #[test]
    fn rivals_do_the_same_work_another_way() {
        let ours = case(Work::Echo, 8, None);
        let theirs = Case { transport: Transport::UdsBuffered, wait: Wait::Sleep, ..ours.clone() };
        assert!(ours.is_rival_of(&theirs));
        assert!(!ours.is_rival_of(&Case { depth: 2, ..theirs.clone() }));
        assert!(!ours.is_rival_of(&Case { bytes: 65, ..theirs }));
        let [route, bare] = [Work::Route, Work::Bare].map(|work| case(work, 1, None));
        assert!(route.is_rival_of(&bare) && !case(Work::Route, 2, None).is_rival_of(&bare));
    }

    #[test]
    fn the_messages_of_a_channel_are_shared_out_among_its_senders() {
        for (senders, count) in [(1, 10), (3, 10), (8, 100_000), (7, 3)] {
            let case = Case { senders, ..case(Work::Channel, 2, None) };
            let shares: Vec<u64> = (0..senders).map(|sender| case.share_of(sender, count)).collect();
            assert_eq!(shares.iter().sum::<u64>(), count, "{shares:?}");
            assert!(shares.iter().max().zip(shares.iter().min()).is_some_and(|(max, min)| max - min <= 1));
        }
    }
}
