//! The arguments of `ringway bench`, and the cases that they ask for.

use crate::case::{Case, Length, Policy, Profile, RATE_DEFAULT, Transport, Wait, Work};
use crate::content::{MESSAGE_BYTES_MIN, VARIED_BYTES_MIN};
use crate::scenario;
use clap::error::ErrorKind;
use clap::{Args, ValueEnum};

/// What to measure, and how.
#[derive(Debug, Clone, Args)]
pub struct BenchArgs {
    /// What to measure
    #[arg(value_enum)]
    pub scenario: Scenario,
    /// Bytes of a message; of route and channel also the shortest and the longest, as in 2..256 [default: 64, route and
    /// channel 2..256]
    #[arg(long, value_parser = bytes)]
    pub bytes: Option<Bytes>,
    /// Sending processes [default: channel 1 to 8]
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=CLIENTS_MAX))]
    pub senders: Option<u32>,
    /// Receiving processes, each of which gets the messages of all senders [default: route 1 to 8, channel 1 to 4]
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=CLIENTS_MAX))]
    pub receivers: Option<u32>,
    /// What senders do about a receiver that is too slow for the ring [default: block]
    #[arg(long, value_enum)]
    pub policy: Option<Policy>,
    /// Clients, each with a connection; of rtt, stream and idle: pairs of processes [default: 1, fanin, echo and
    /// reconnect 8, scale 32 to 1000, idle-probe 1000]
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=CLIENTS_MAX))]
    pub clients: Option<u32>,
    /// Client processes, which share the clients among them [default: one for each client, scale and idle-probe 8]
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=CLIENTS_MAX))]
    pub processes: Option<u32>,
    /// Requests that each client has under way at once [default: echo 32, scale 1]
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=DEPTH_MAX))]
    pub depth: Option<u32>,
    /// Threads of the server's pool [default: 1; fanin is served by a group, without a pool]
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=WORKERS_MAX))]
    pub workers: Option<u32>,
    /// Seconds of a run, fractions allowed [default: 1, all 0.4]
    #[arg(long, value_parser = seconds, conflicts_with = "count")]
    pub secs: Option<f64>,
    /// Messages of each client in a run, instead of a time; of route and channel: of all senders together [default:
    /// 100000]; of reconnect: restarts of the server [default: 10]
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..))]
    pub count: Option<u64>,
    /// Messages published at once
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..=BATCH_MAX))]
    pub batch: Option<u64>,
    /// Bytes of a ring: a power of two, 16384 to 1073741824
    #[arg(long, conflicts_with = "profile", value_parser = ring_bytes)]
    pub ring_bytes: Option<u64>,
    /// How long receivers leave a ring alone that they emptied in a stream, in PAUSE instructions of about 25 ns
    /// [default: that of the profile]
    #[arg(long, value_parser = clap::value_parser!(u32).range(0..=PATIENCE_MAX))]
    pub patience: Option<u32>,
    /// Ring size and patience [default: latency]
    #[arg(long, value_enum)]
    pub profile: Option<Profile>,
    /// How both sides wait [default: auto]
    #[arg(long, value_enum)]
    pub wait: Option<Wait>,
    /// Requests a second; latency then counts from when each was due [default of limit's one such row: 100000]
    #[arg(long, value_name = "MSGS_PER_S", value_parser = clap::value_parser!(u64).range(1..=RATE_MAX))]
    pub rate: Option<u64>,
    /// Processors of the server and the clients
    #[arg(long, value_name = "A,B", value_parser = pin)]
    pub pin: Option<(usize, usize)>,
    /// Let receivers read in place
    #[arg(long)]
    pub trust: bool,
    /// Runs that must count; the row has their medians
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=100))]
    pub runs: u32,
    /// What to do over Unix sockets or pipes [default: rtt]
    #[arg(long, value_enum)]
    pub work: Option<SocketWork>,
    /// Print one JSON object for each row, and nothing else, on stdout
    #[arg(long)]
    pub json: bool,
}

/// Bytes of messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bytes {
    /// Of the shortest, if lengths vary.
    pub min: Option<usize>,
    /// Of the longest, or of all.
    pub max: usize,
}

/// The job of a child process.
#[derive(Debug, Clone, Args)]
pub struct PeerArgs {
    /// What to do, as JSON
    #[arg(long)]
    pub job: String,
}

/// What can be measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Scenario {
    /// What hardware and kernel can do: cache line, copy, checksum, futex and socket
    Limit,
    /// Round trip of a request and its answer
    Rtt,
    /// One way, as fast as it goes
    Stream,
    /// Several client processes to one server process
    Fanin,
    /// Send and receive in one thread
    SameThread,
    /// Time until connected, and until the first answer
    Connect,
    /// Bytes of a server, and of a connection that is never used
    Memory,
    /// The same work over Unix stream sockets
    Uds,
    /// The same work over pipes
    Pipe,
    /// What connections cost that do nothing
    Idle,
    /// Several requests of each client under way at once: a bare pool, calls, and a Unix socket
    Echo,
    /// Round trip of a single call, with and without checksum, next to a bare connection
    Call,
    /// 32 to 1000 clients of one server: one way, and answered
    Scale,
    /// Round trips on one of 1000 connections, and what their server does while all are idle
    IdleProbe,
    /// From the restart of a killed server to the first answer at its clients
    Reconnect,
    /// One sender to several receivers, until the last has checked everything; next to a bare connection and Unix sockets
    Route,
    /// Several senders to several receivers, until the last receiver has checked everything
    Channel,
    /// One gRPC service over ringway and over a Unix socket: unary calls, and a streamed response
    #[cfg(feature = "grpc")]
    Grpc,
    /// A fixed list of all of these, in under three minutes
    All,
}

/// What to do over Unix sockets or pipes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum SocketWork {
    /// Round trip of a request and its answer
    Rtt,
    /// One way, as fast as it goes
    Stream,
    /// Several client processes to one server process; Unix sockets only
    Fanin,
}

impl BenchArgs {
    /// Returns the cases that were asked for.
    ///
    /// # Errors
    /// The arguments contradict each other; the error says how.
    pub fn cases(&self) -> Result<Vec<Case>, clap::Error> {
        self.check()?;
        let length = self.length();
        let mut cases = match self.scenario {
            Scenario::All => crate::suite::cases(length),
            Scenario::Limit => limits(length, self.rate.unwrap_or(RATE_DEFAULT)),
            Scenario::Uds | Scenario::Pipe => self.over_sockets(length),
            Scenario::Echo => scenario::echo(length),
            Scenario::Call => match self.bytes {
                Some(bytes) => scenario::call_of(bytes.max, length),
                None => scenario::call(length),
            },
            Scenario::Scale => match self.clients {
                Some(clients) => scenario::scale_to(clients, length).into(),
                None => scenario::scale(length),
            },
            Scenario::IdleProbe => scenario::idle_probe(length),
            #[cfg(feature = "grpc")]
            Scenario::Grpc => scenario::grpc(length),
            Scenario::Reconnect => vec![scenario::reconnect(self.count.unwrap_or(scenario::RESTARTS))],
            Scenario::Route | Scenario::Channel => self.broadcast(),
            scenario => {
                let (name, work) = match scenario {
                    Scenario::Stream => ("stream", Work::Stream),
                    Scenario::Fanin => ("fanin", Work::Fanin),
                    Scenario::SameThread => ("same-thread", Work::SameThread),
                    Scenario::Connect => ("connect", Work::Connect),
                    Scenario::Memory => ("memory", Work::Memory),
                    Scenario::Idle => ("idle", Work::Idle),
                    _ => ("rtt", Work::Rtt),
                };
                let clients = if work == Work::Fanin { FANIN_CLIENTS } else { 1 };
                vec![Case { clients, ..Case::new(name, work, Transport::Ringway, length) }]
            }
        };
        for case in &mut cases {
            case.pin = self.pin;
            if self.scenario != Scenario::All {
                self.set(case);
            }
        }
        Ok(cases)
    }

    /// Sets what was asked for; the rest stays as the scenario has it.
    fn set(&self, case: &mut Case) {
        fn put<T>(wanted: Option<T>, field: &mut T) {
            if let Some(wanted) = wanted {
                *field = wanted;
            }
        }
        if !matches!(case.work, Work::Copy | Work::Checksum) {
            put(self.bytes.map(|bytes| bytes.max), &mut case.bytes);
            put(self.bytes.map(|bytes| bytes.min), &mut case.bytes_min);
        }
        // Sockets wait, whatever is asked for.
        if case.is_ours() {
            put(self.policy, &mut case.policy);
        }
        put(self.clients, &mut case.clients);
        put(self.processes.map(Some), &mut case.processes);
        put(self.depth, &mut case.depth);
        // Sockets are served as they always are: by a thread for each client.
        if case.is_ours() {
            put(self.workers.map(Some), &mut case.workers);
        }
        put(self.batch.map(|batch| batch as usize), &mut case.batch);
        put(self.profile, &mut case.profile);
        put(self.wait, &mut case.wait);
        // Of the limits one has the rate already.
        if self.scenario != Scenario::Limit {
            case.rate = self.rate;
        }
        case.ring_bytes = self.ring_bytes;
        case.patience = self.patience;
        case.trust = self.trust;
    }

    fn length(&self) -> Length {
        let secs = if self.scenario == Scenario::All { SECS_ALL } else { SECS };
        match self.count {
            Some(count) => Length::Count(count),
            None => Length::Nanos((self.secs.unwrap_or(secs) * 1e9) as u64),
        }
    }

    fn broadcast(&self) -> Vec<Case> {
        let count = self.count.unwrap_or(scenario::BROADCAST_COUNT);
        match (self.scenario, self.senders, self.receivers) {
            (Scenario::Route, _, Some(receivers)) => scenario::route_to(receivers, count),
            (Scenario::Route, ..) => scenario::route(count),
            (_, None, None) => scenario::channel(count),
            (_, senders, receivers) => {
                vec![scenario::channel_of(senders.unwrap_or(1), receivers.unwrap_or(1), count)]
            }
        }
    }

    fn over_sockets(&self, length: Length) -> Vec<Case> {
        let (work, one_way) = match self.work.unwrap_or(SocketWork::Rtt) {
            SocketWork::Rtt => (Work::Rtt, false),
            SocketWork::Stream => (Work::Stream, true),
            SocketWork::Fanin => (Work::Fanin, true),
        };
        let clients = if work == Work::Fanin { FANIN_CLIENTS } else { 1 };
        let over = |name, transport| Case { clients, ..Case::new(name, work, transport, length) };
        match self.scenario {
            Scenario::Pipe => vec![over("pipe", Transport::Pipe)],
            _ if one_way => vec![over("uds", Transport::Uds), over("uds", Transport::UdsBuffered)],
            _ => vec![over("uds", Transport::Uds)],
        }
    }

    /// Each option has scenarios in which it makes sense.
    fn check(&self) -> Result<(), clap::Error> {
        use Scenario::{
            Call, Channel, Connect, Echo, Fanin, Idle, IdleProbe, Limit, Memory, Pipe, Reconnect, Route, Rtt,
            SameThread, Scale, Stream, Uds,
        };
        let ours = [Rtt, Stream, Fanin, SameThread, Connect, Echo, Call, Scale, Reconnect, Route, Channel];
        let ringway = [ours.as_slice(), &[Memory, Idle, IdleProbe]].concat();
        let messages = [ours.as_slice(), &[Uds, Pipe, IdleProbe]].concat();
        let many = [Rtt, Stream, Fanin, Uds, Pipe, Idle, Echo, Scale, IdleProbe, Reconnect];
        let counted = [ours.as_slice(), &[Uds, Pipe]].concat();
        let ranged = self.bytes.is_some_and(|bytes| bytes.min.is_some());
        let rules: [(&str, bool, &[Scenario]); 18] = [
            ("--bytes", self.bytes.is_some(), &messages),
            ("--bytes with a shortest and a longest", ranged, &[Route, Channel]),
            ("--senders", self.senders.is_some(), &[Channel]),
            ("--receivers", self.receivers.is_some(), &[Route, Channel]),
            ("--policy", self.policy.is_some(), &[Route, Channel]),
            ("--clients", self.clients.is_some(), &many),
            ("--processes", self.processes.is_some(), &[Scale, IdleProbe]),
            ("--depth", self.depth.is_some(), &[Echo, Scale]),
            ("--workers", self.workers.is_some(), &[Fanin, Echo, Call, Scale, IdleProbe, Reconnect]),
            ("--count", self.count.is_some(), &counted),
            ("--batch", self.batch.is_some(), &[Stream, Fanin]),
            ("--ring-bytes", self.ring_bytes.is_some(), &ringway),
            ("--patience", self.patience.is_some(), &ringway),
            ("--profile", self.profile.is_some(), &ringway),
            ("--wait", self.wait.is_some(), &ringway),
            ("--rate", self.rate.is_some(), &[Rtt, Limit, IdleProbe]),
            ("--trust", self.trust, &[Rtt, Stream, Fanin, SameThread, Route, Channel]),
            ("--work", self.work.is_some(), &[Uds, Pipe]),
        ];
        for (option, is_given, scenarios) in rules {
            if is_given && !scenarios.contains(&self.scenario) {
                let names: Vec<String> =
                    scenarios.iter().filter_map(|scenario| crate::case::name_of(*scenario)).collect();
                return Err(usage(format!("{option} goes with {} only", names.join(", "))));
            }
        }
        if self.scenario == Pipe && self.work == Some(SocketWork::Fanin) {
            return Err(usage("--work fanin goes with uds only: a pipe has one writer".to_owned()));
        }
        if self.secs.is_some() && [Reconnect, Route, Channel].contains(&self.scenario) {
            let what = "is as long as its restarts or messages take; see --count";
            let name = crate::case::name_of(self.scenario).unwrap_or_default();
            return Err(usage(format!("--secs: {name} {what}")));
        }
        if self.scenario == IdleProbe && (self.processes == Some(1) || self.clients == Some(1)) {
            return Err(usage(
                "idle-probe needs two clients and two processes: one probes, one is idle".to_owned(),
            ));
        }
        let bytes = self.bytes.map_or(0, |bytes| bytes.max as u64);
        let open_bytes = u64::from(self.depth.unwrap_or(1)) * (bytes + RECORD_HEADER_BYTES);
        if self.depth.is_some() && open_bytes > OPEN_BYTES_MAX {
            let what = "--depth: the requests that one client has under way";
            return Err(usage(format!("{what} have {open_bytes} bytes, more than {OPEN_BYTES_MAX}")));
        }
        if self.pin.is_some() && self.scenario == SameThread {
            return Err(usage("--pin names two processors, but same-thread has one thread".to_owned()));
        }
        let allowed = ringway::allowed_cpus();
        if let Some((server, client)) = self.pin
            && let Some(cpu) = [server, client].into_iter().find(|cpu| !allowed.contains(cpu))
        {
            return Err(usage(format!("--pin: processor {cpu} is none of those we may use, {allowed:?}")));
        }
        Ok(())
    }
}

/// Returns the cases of `limit`; the raw ping-pong is played at `rate` too: the floor of round trips at that rate.
pub fn limits(length: Length, rate: u64) -> Vec<Case> {
    let mut copy = Case::new("limit", Work::Copy, Transport::Memcpy, length);
    copy.bytes = COPY_BYTES;
    let limit = |transport| Case::new("limit", Work::Rtt, transport, length);
    let at_rate = Case { rate: Some(rate), ..limit(Transport::CacheLine) };
    let sum = |bytes| Case { bytes, ..Case::new("limit", Work::Checksum, Transport::Crc32, length) };
    let [small, large] = CHECKSUM_BYTES.map(sum);
    vec![
        limit(Transport::CacheLine),
        at_rate,
        copy,
        small,
        large,
        limit(Transport::Futex),
        limit(Transport::Socket),
    ]
}

fn usage(message: String) -> clap::Error {
    clap::Error::raw(ErrorKind::ArgumentConflict, message + "\n")
}

fn bytes(text: &str) -> Result<Bytes, String> {
    let number = |text: &str, min: usize| match text.trim().parse() {
        Ok(bytes) if (min..=BYTES_MAX).contains(&bytes) => Ok(bytes),
        _ => Err(format!("{text} is not in {min}..={BYTES_MAX}")),
    };
    let Some((min, max)) = text.split_once("..") else {
        return Ok(Bytes { min: None, max: number(text, MESSAGE_BYTES_MIN)? });
    };
    let (min, max) = (number(min, VARIED_BYTES_MIN)?, number(max, MESSAGE_BYTES_MIN)?);
    if min > max {
        Err("the shortest is longer than the longest".to_owned())
    } else {
        Ok(Bytes { min: Some(min), max })
    }
}

fn seconds(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(secs) if (SECS_MIN..=SECS_MAX).contains(&secs) => Ok(secs),
        _ => Err(format!("not a number of seconds from {SECS_MIN} to {SECS_MAX}")),
    }
}

fn ring_bytes(text: &str) -> Result<u64, String> {
    match text.parse::<u64>() {
        Ok(bytes) if bytes.is_power_of_two() && (16 << 10..=1 << 30).contains(&bytes) => Ok(bytes),
        _ => Err("not a power of two from 16384 to 1073741824".to_owned()),
    }
}

fn pin(text: &str) -> Result<(usize, usize), String> {
    let numbers = text
        .split_once(',')
        .and_then(|(server, client)| Some((server.trim().parse().ok()?, client.trim().parse().ok()?)));
    numbers.ok_or_else(|| "not two processors, as in 0,1".to_owned())
}

const BYTES_MAX: usize = 64 << 20;
const CLIENTS_MAX: i64 = 1000;
const BATCH_MAX: u64 = 4096;
const DEPTH_MAX: i64 = 1024;
const WORKERS_MAX: i64 = 64;
const RECORD_HEADER_BYTES: u64 = 8;
/// What one client may have under way: less than a ring or a socket holds, so that nobody waits for room to answer.
const OPEN_BYTES_MAX: u64 = 64 << 10;
const PATIENCE_MAX: i64 = 40_000;
const RATE_MAX: u64 = 10_000_000;
const FANIN_CLIENTS: u32 = 8;
const COPY_BYTES: usize = 64 << 10;
const CHECKSUM_BYTES: [usize; 2] = [64, 1024];
const SECS: f64 = 1.0;
const SECS_ALL: f64 = 0.4;
const SECS_MIN: f64 = 0.001;
const SECS_MAX: f64 = 86_400.0;

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Program {
        #[command(flatten)]
        args: BenchArgs,
    }

    fn cases(line: &str) -> Result<Vec<Case>, clap::Error> {
        Program::try_parse_from(["bench"].into_iter().chain(line.split_whitespace()))?.args.cases()
    }

    fn complaint(line: &str) -> String {
        let error = cases(line).unwrap_err();
        assert_eq!(error.exit_code(), 2, "{line}");
        error.to_string()
    }

    #[test]
    fn what_was_asked_for_is_what_is_measured() {
        let cases =
            cases("stream --bytes 256 --clients 2 --count 9 --batch 16 --profile bulk --trust").unwrap();
        let [case] = cases.as_slice() else { panic!("{cases:?}") };
        assert_eq!((case.bytes, case.clients, case.batch, case.length), (256, 2, 16, Length::Count(9)));
        assert_eq!((case.profile, case.wait, case.trust), (Profile::Bulk, Wait::Auto, true));
    }

    #[test]
    fn a_fraction_of_a_second_is_a_length() {
        assert_eq!(cases("rtt --secs 0.05").unwrap()[0].length, Length::Nanos(50_000_000));
    }

    #[test]
    fn sockets_are_measured_with_and_without_buffers_where_that_differs() {
        let names =
            |line| -> Vec<&str> { cases(line).unwrap().iter().map(|case| case.transport.name()).collect() };
        assert_eq!(names("uds"), ["uds"]);
        assert_eq!(names("uds --work stream"), ["uds", "uds-buffered"]);
        assert_eq!(names("uds --work fanin"), ["uds", "uds-buffered"]);
        assert_eq!(names("pipe --work stream"), ["pipe"]);
        assert_eq!(names("limit"), ["cacheline", "cacheline", "memcpy", "crc32", "crc32", "futex", "socket"]);
    }

    #[test]
    fn one_limit_has_a_rate() {
        let rates =
            |line| -> Vec<Option<u64>> { cases(line).unwrap().iter().map(|case| case.rate).collect() };
        assert_eq!(rates("limit"), [None, Some(100_000), None, None, None, None, None]);
        assert_eq!(rates("limit --rate 7"), [None, Some(7), None, None, None, None, None]);
        assert_eq!(rates("rtt --rate 7"), [Some(7)]);
        assert_eq!(rates("rtt"), [None]);
    }

    #[test]
    fn servers_are_measured_next_to_what_they_are_held_against() {
        let names = |line| -> Vec<(usize, u32, &str)> {
            cases(line)
                .unwrap()
                .iter()
                .map(|case| (case.bytes, case.clients, case.transport.name()))
                .collect()
        };
        assert_eq!(names("echo --clients 2"), [(64, 2, "ringway"), (64, 2, "rpc"), (64, 2, "uds-buffered")]);
        assert_eq!(names("call --bytes 32"), [(32, 1, "ringway"), (32, 1, "rpc"), (32, 1, "rpc")]);
        assert_eq!(names("call").len(), 9);
        assert_eq!(names("scale").len(), 12);
        assert_eq!(names("scale --clients 20").len(), 3);
        assert_eq!(cases("echo --workers 2").unwrap().iter().filter_map(|case| case.workers).sum::<u32>(), 4);
        assert_eq!(cases("reconnect --count 3").unwrap()[0].length, Length::Count(3));
        assert_eq!(cases("fanin").unwrap()[0].workers, None);
        assert_eq!(cases("fanin --workers 1").unwrap()[0].workers, Some(1));
    }

    #[test]
    fn a_message_of_a_route_has_any_length_in_a_range() {
        let shapes = |line| -> Vec<(Option<usize>, usize, u32, u32, Length)> {
            let shape = |case: &Case| (case.bytes_min, case.bytes, case.senders, case.clients, case.length);
            cases(line).unwrap().iter().map(shape).collect()
        };
        let count = Length::Count(100_000);
        assert_eq!(shapes("route --receivers 2"), [(Some(2), 256, 1, 2, count); 2]);
        assert_eq!(shapes("route --receivers 1").len(), 3, "a bare connection beside");
        assert_eq!(shapes("route").len(), 9);
        assert_eq!(shapes("channel").len(), 6);
        let asked = "channel --senders 3 --receivers 2 --bytes 16..40 --count 7";
        assert_eq!(shapes(asked), [(Some(16), 40, 3, 2, Length::Count(7))]);
        assert_eq!(shapes("channel --senders 3 --bytes 64"), [(None, 64, 3, 1, count)]);
        let policies: Vec<_> =
            cases("route --receivers 2 --policy overwrite").unwrap().iter().map(|case| case.policy).collect();
        assert_eq!(policies, [Policy::Overwrite, Policy::Block], "a socket waits");
    }

    #[test]
    fn options_that_make_no_sense_together_are_named() {
        for (line, words) in [
            ("rtt --batch 16", "--batch goes with stream"),
            ("stream --rate 10", "--rate goes with rtt, limit, idle-probe only"),
            ("uds --wait spin", "--wait goes with"),
            ("limit --bytes 64", "--bytes goes with"),
            ("all --trust", "--trust goes with"),
            ("rtt --work stream", "--work goes with uds, pipe only"),
            ("pipe --work fanin", "a pipe has one writer"),
            ("same-thread --pin 0,0", "one thread"),
            ("rtt --pin 0,99999", "processor 99999"),
            ("rtt --secs 1 --count 5", "cannot be used with"),
            ("rtt --ring-bytes 65536 --profile bulk", "cannot be used with"),
            ("rtt --ring-bytes 65537", "not a power of two"),
            ("rtt --bytes 15", "15 is not in"),
            ("rtt --secs nan", "not a number of seconds"),
            ("rtt --pin 0", "not two processors"),
            ("rtt --depth 4", "--depth goes with echo, scale only"),
            ("echo --depth 1024 --bytes 64", "more than 65536"),
            ("fanin --processes 2", "--processes goes with scale, idle-probe only"),
            ("idle-probe --processes 1", "one probes"),
            ("reconnect --secs 1", "see --count"),
            ("route --secs 1", "see --count"),
            ("route --senders 2", "--senders goes with channel only"),
            ("stream --policy overwrite", "--policy goes with route, channel only"),
            ("stream --bytes 2..256", "a longest goes with route, channel only"),
            ("route --bytes 1..256", "1 is not in 2"),
            ("route --bytes 2..15", "15 is not in 16"),
            ("route --bytes 300..256", "the shortest is longer"),
        ] {
            assert!(complaint(line).contains(words), "{line}: {}", complaint(line));
        }
    }
}
