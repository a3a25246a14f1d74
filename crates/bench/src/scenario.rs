//! The scenarios of servers: which cases each consists of.

use crate::case::{Case, Length, Transport, Wait, Work};

/// Several requests of each client under way at once: over a bare pool, as calls, and over a Unix socket.
pub fn echo(length: Length) -> Vec<Case> {
    let over = |transport, workers| Case {
        clients: CLIENTS,
        depth: DEPTH,
        workers,
        ..Case::new("echo", Work::Echo, transport, length)
    };
    vec![
        over(Transport::Ringway, Some(WORKERS)),
        over(Transport::Rpc, Some(WORKERS)),
        over(Transport::UdsBuffered, None),
    ]
}

/// Round trips of single calls, with and without checksums, next to those of a bare connection.
pub fn call(length: Length) -> Vec<Case> {
    CALL_BYTES.into_iter().flat_map(|bytes| call_of(bytes, length)).collect()
}

/// The same for one length of messages.
pub fn call_of(bytes: usize, length: Length) -> Vec<Case> {
    [bare(bytes, length)].into_iter().chain(calls(bytes, length)).collect()
}

/// The calls alone, of one length.
pub fn calls(bytes: usize, length: Length) -> [Case; 2] {
    [true, false].map(|checksum| Case {
        transport: Transport::Rpc,
        workers: Some(WORKERS),
        checksum,
        ..bare(bytes, length)
    })
}

fn bare(bytes: usize, length: Length) -> Case {
    Case { bytes, wait: Wait::Spin, ..Case::new("call", Work::Rtt, Transport::Ringway, length) }
}

/// Many clients of one server: one way, answered by a bare pool, and answered as calls.
pub fn scale(length: Length) -> Vec<Case> {
    SCALE_CLIENTS.into_iter().flat_map(|clients| scale_to(clients, length)).collect()
}

/// The same for so many clients.
pub fn scale_to(clients: u32, length: Length) -> [Case; 3] {
    let works =
        [(Work::Fanin, Transport::Ringway), (Work::Echo, Transport::Ringway), (Work::Echo, Transport::Rpc)];
    works.map(|(work, transport)| Case {
        clients,
        processes: Some(PROCESSES),
        workers: Some(WORKERS),
        ..Case::new("scale", work, transport, length)
    })
}

/// A thousand connections: round trips on one of them while the others are idle, and what their server does while all are.
pub fn idle_probe(length: Length) -> Vec<Case> {
    let case = |work| Case {
        clients: CONNECTED,
        processes: Some(PROCESSES),
        workers: Some(WORKERS),
        ..Case::new("idle-probe", work, Transport::Ringway, length)
    };
    vec![case(Work::Probe), case(Work::Crowd)]
}

/// The server is killed under load and started again; the length is the number of times.
pub fn reconnect(restarts: u64) -> Case {
    let case = Case::new("reconnect", Work::Reconnect, Transport::Rpc, Length::Count(restarts));
    Case { clients: CLIENTS, workers: Some(WORKERS), ..case }
}

/// One sender to so many receivers: over a route, and over a Unix socket for each; to one beside a bare connection.
pub fn route_to(receivers: u32, count: u64) -> Vec<Case> {
    let over = |work, transport| Case { clients: receivers, ..varied("route", work, transport, count) };
    let mut cases = vec![over(Work::Route, Transport::Ringway)];
    if receivers == 1 {
        cases.push(over(Work::Bare, Transport::Ringway));
    }
    cases.push(over(Work::Route, Transport::UdsBuffered));
    cases
}

/// The same for one to eight receivers.
pub fn route(count: u64) -> Vec<Case> {
    AUDIENCES.into_iter().flat_map(|receivers| route_to(receivers, count)).collect()
}

/// So many senders to so many receivers over a channel, all of them processes of their own.
///
/// What the figures say that others publish for "N-1" and "N-N": N members that only send, beside one or N others that
/// only receive, and each of those gets the messages of all senders.
pub fn channel_of(senders: u32, receivers: u32, count: u64) -> Case {
    let case = varied("channel", Work::Channel, Transport::Ringway, count);
    Case { senders, clients: receivers, ..case }
}

/// The same for several numbers of them.
pub fn channel(count: u64) -> Vec<Case> {
    CHANNELS.into_iter().map(|(senders, receivers)| channel_of(senders, receivers, count)).collect()
}

fn varied(scenario: &str, work: Work, transport: Transport, count: u64) -> Case {
    let (bytes_min, bytes) = BROADCAST_BYTES;
    let case = Case::new(scenario, work, transport, Length::Count(count));
    Case { bytes, bytes_min: Some(bytes_min), ..case }
}

/// One gRPC service over ringway and over a Unix socket: round trips, and a streamed response.
#[cfg(feature = "grpc")]
pub fn grpc(length: Length) -> Vec<Case> {
    let over = |transport, work, bytes| Case { bytes, ..Case::new("grpc", work, transport, length) };
    [(Work::Rtt, 64), (Work::Stream, 1024)]
        .into_iter()
        .flat_map(|(work, bytes)| {
            [Transport::Tonic, Transport::TonicUds].map(|transport| over(transport, work, bytes))
        })
        .collect()
}

/// Client processes, where each client has one.
const CLIENTS: u32 = 8;
/// Client processes, where many clients share one.
const PROCESSES: u32 = 8;
const DEPTH: u32 = 32;
/// Threads of the server: as few as serve one of two cores.
const WORKERS: u32 = 1;
const CONNECTED: u32 = 1000;
/// Lengths of messages whose calls are measured.
pub const CALL_BYTES: [usize; 3] = [16, 64, 1024];
const SCALE_CLIENTS: [u32; 4] = [32, 128, 512, 1000];
/// Messages of a run of a route or channel, all senders together, and the shortest and the longest of them.
pub const BROADCAST_COUNT: u64 = 100_000;
pub const BROADCAST_BYTES: (usize, usize) = (2, 256);
/// Receivers of routes.
const AUDIENCES: [u32; 4] = [1, 2, 4, 8];
/// Senders and receivers of channels.
pub const CHANNELS: [(u32, u32); 6] = [(1, 1), (2, 1), (4, 1), (8, 1), (2, 2), (4, 4)];
/// How often the server of a run is killed, unless something else is asked for.
pub const RESTARTS: u64 = 10;
