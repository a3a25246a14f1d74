//! One line of results: what was measured, how, and on what.

use serde::{Deserialize, Serialize};

/// A result, as it is written to a line of JSON. Fields that do not apply are left out.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Row {
    /// Scenario, for example `rtt`.
    pub scenario: String,
    /// What carried the messages: `ringway`, `rpc` (calls over it), `tonic` (gRPC over it), `tonic-uds`, `cacheline`, `memcpy`, `crc32`, `futex`, `socket`, `uds`, `uds-buffered`, `pipe`.
    pub transport: String,
    /// The work, where it does not have the name of the scenario: `rtt`, `stream`, `fanin`, `bare`, `echo`, `probe`, `crowd`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub work: Option<String>,
    /// Profile of the connections: `latency` or `bulk`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub profile: Option<String>,
    /// Payload bytes of a message, of the longest if their lengths vary.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bytes: Option<u64>,
    /// Payload bytes of the shortest message if lengths vary: each from here to `bytes` equally often.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bytes_min: Option<u64>,
    /// Sending processes of a `route` or `channel`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub senders: Option<u64>,
    /// Receiving processes of a `route` or `channel`; each gets what all senders send.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub receivers: Option<u64>,
    /// What senders did about slow receivers: `block`, `drop-newest`, `overwrite` or `disconnect`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub policy: Option<String>,
    /// Clients, each with a connection and, unless `processes` says otherwise, a process; for `rtt` and `stream` pairs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub clients: Option<u64>,
    /// Client processes, where several clients share one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub processes: Option<u64>,
    /// Connections of a client process, at most, where several clients share one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub connections_each: Option<u64>,
    /// Requests that each client had under way at once, where that was more than one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub depth: Option<u64>,
    /// Threads of the server's pool.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub workers: Option<u64>,
    /// Whether calls had checksums.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub checksum: Option<bool>,
    /// Messages that were published at once.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub batch: Option<u64>,
    /// How the sides waited: `spin`, `auto` or `sleep`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub wait: Option<String>,
    /// Whether the receivers read messages in place.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trust: Option<bool>,
    /// Processors of the sides, for example `0,1`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pin: Option<String>,
    /// Bytes of a ring.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ring_bytes: Option<u64>,
    /// Patience of the receivers in PAUSE instructions, where it is not that of the profile.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub patience: Option<u32>,
    /// Messages per second that were asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rate: Option<u64>,
    /// Messages sent, all runs together.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sent: Option<u64>,
    /// Messages that arrived and were checked; of a `route` or `channel`: at each receiver.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub delivered: Option<u64>,
    /// Messages that the policy of their sender dropped for all; they do not count as sent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dropped: Option<u64>,
    /// Messages that receivers were told to have missed: overwritten, or sent while they were disconnected.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub missed: Option<u64>,
    /// How often a receiver was disconnected as too slow.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cuts: Option<u64>,
    /// Messages that did not arrive; of a `route` or `channel`: at each receiver.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lost: Option<u64>,
    /// Requests whose sender was told that they may have been lost, because the server was killed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failed: Option<u64>,
    /// Messages that arrived damaged, twice, or out of order.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub corrupt: Option<u64>,
    /// Seconds of one run, median; of a `route` or `channel`: until the last receiver has checked everything.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub secs: Option<f64>,
    /// Seconds until the last sender had sent everything, median.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sender_secs: Option<f64>,
    /// Messages (round trips, connects) per second, median of the runs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub msgs_per_s: Option<f64>,
    /// Payload bytes per second, median of the runs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bytes_per_s: Option<f64>,
    /// Latencies in nanoseconds, each the median of the runs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ns: Option<Percentiles>,
    /// The same latencies as a histogram of all counted runs: upper bound of a step in nanoseconds, count.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub histogram: Vec<(u64, u64)>,
    /// Processor seconds that all processes of one run used, median; of a `crowd` the threads of the server's pool.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu_s: Option<f64>,
    /// Allocated and resident bytes of a listening process without clients.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub server_bytes: Option<u64>,
    /// Allocated and resident bytes of a never used connection, for each side.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub connection_bytes: Option<u64>,
    /// Voluntary context switches in the same processes or threads, median: how often somebody slept, and woke up.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sleeps: Option<u64>,
    /// Runs that counted.
    pub runs: u64,
    /// Runs that did not count because the processors had moved apart.
    pub runs_dropped: u64,
    /// (largest - smallest) / median of the main figure over the runs: `ns.p50` where there are latencies, else rate.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub spread: Option<f64>,
    /// Raw cache-line ping-pong right before the runs, nanoseconds per round trip: the worst of those that count.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub canary_ns_before: Option<f64>,
    /// The same right after the runs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub canary_ns_after: Option<f64>,
    /// Commit of the program, with `+` if there were changes.
    pub commit: String,
    /// Version of the compiler.
    pub rustc: String,
    /// Name of the processor.
    pub cpu: String,
    /// Processors this process may use.
    pub cores: u64,
    /// Release of the kernel.
    pub kernel: String,
}

/// Percentiles of latencies, in nanoseconds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Percentiles {
    /// Half of all are at most this.
    pub p50: u64,
    /// 90 %.
    pub p90: u64,
    /// 99 %.
    pub p99: u64,
    /// 99.9 %.
    pub p999: u64,
    /// The worst.
    pub max: u64,
}

impl Row {
    /// Says whether every message that was sent arrived whole.
    pub fn is_sound(&self) -> bool {
        self.lost.unwrap_or(0) == 0 && self.corrupt.unwrap_or(0) == 0
    }

    /// Says whether the processors stood as near to each other as usual during all runs.
    pub fn is_calm(&self) -> bool {
        let calm = |canary: Option<f64>| canary.is_none_or(|ns| ns < CANARY_NS_MAX);
        self.runs > 0 && calm(self.canary_ns_before) && calm(self.canary_ns_after)
    }
}

/// A figure counts when the raw ping-pong before and after it takes less than this.
pub const CANARY_NS_MAX: f64 = 160.0;
