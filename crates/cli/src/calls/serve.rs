//! `ringway serve`: a server with a few handlers, to try calls out.

use super::SettingsArgs;
use super::handlers::{self, Shared};
use crate::demo::tell;
use crate::exit::{Code, fault};
use crate::figures::thousands;
use crate::stream::{Interrupt, parse_seconds};
use anyhow::Result;
use clap::Args;
use ringway::rpc::{FrameError, Server, ServerStats};
use ringway::{PeerCred, Shutdown};
use serde::Serialize;
use std::panic;
use std::path::Path;
use std::process;
use std::time::{Duration, Instant};

/// Arguments of `serve`.
#[derive(Args)]
pub struct ServeArgs {
    /// Name to serve at, or the path of a socket if it has a slash
    name: String,
    /// Threads that serve; as many as there are processors if not given
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=WORKERS_MAX))]
    workers: Option<u16>,
    /// Keep each of them on a processor of its own
    #[arg(long)]
    pin: bool,
    /// Clients that may be connected
    #[arg(long, value_name = "N")]
    connections: Option<u32>,
    /// Clients that one user may have connected
    #[arg(long, value_name = "N")]
    connections_per_user: Option<u32>,
    /// Bytes of rings that all clients together may take; K, M and G multiply by 1024
    #[arg(long, value_name = "BYTES", value_parser = parse_bytes)]
    memory: Option<u64>,
    /// Calls of one client that may be in flight
    #[arg(long, value_name = "N", default_value_t = 256, value_parser = clap::value_parser!(u32).range(1..))]
    calls: u32,
    /// When told to stop, finish what is in flight for this long; a second Ctrl-C stops at once
    #[arg(long, value_name = "SECS", default_value = "10", value_parser = parse_seconds)]
    grace: Duration,
    #[command(flatten)]
    settings: SettingsArgs,
}

/// Runs `serve`.
///
/// # Errors
/// The name cannot be had, or calls had to be cut off in the end.
pub fn serve(args: ServeArgs) -> Result<()> {
    let interrupt = Interrupt::watch(args.grace.saturating_add(CLOSING))?;
    let voice = Voice { json: args.settings.json, quiet: args.settings.quiet };
    panic::set_hook(Box::new(move |panic| voice.panicked(panic)));
    let start = Instant::now();
    let server = args.server(voice).bind(&args.name)?;
    voice.serving(server.path());
    interrupt.wait();
    let monitor = server.monitor();
    let shutdown = server.shutdown(args.grace);
    voice.served(monitor.stats(), start.elapsed());
    interrupt.release();
    if shutdown == Shutdown::Complete {
        return Ok(());
    }
    let seconds = args.grace.as_secs_f64();
    Err(fault(Code::TimedOut, format!("calls were still in flight after {seconds} s; they were cut off")))
}

impl ServeArgs {
    fn server(&self, voice: Voice) -> ringway::rpc::ServerBuilder<Shared> {
        let mut config = self.settings.config();
        if let Some(connections) = self.connections {
            config = config.connections_max(connections as usize);
        }
        if let Some(connections) = self.connections_per_user {
            config = config.connections_per_uid_max(connections as usize);
        }
        if let Some(bytes) = self.memory {
            config = config.memory_bytes_max(bytes);
        }
        let mut server = handlers::register(Server::with_state(Shared::default()))
            .config(config)
            .pin(self.pin)
            .calls_max(self.calls)
            .without_checksum(self.settings.no_checksum)
            .on_violation(move |peer, error| voice.violation(peer, error));
        if let Some(workers) = self.workers {
            server = server.workers(workers.into());
        }
        server
    }
}

/// What is said on stderr, in words or as JSON.
#[derive(Clone, Copy)]
struct Voice {
    json: bool,
    quiet: bool,
}

#[derive(Serialize)]
#[serde(tag = "event", rename_all = "lowercase")]
enum Event<'a> {
    Serving { path: &'a Path, pid: u32 },
    Violation { pid: u32, uid: u32, error: String },
    Panic { message: &'a str, place: String },
    Served(Totals),
}

#[derive(Serialize)]
struct Totals {
    calls: u64,
    one_way: u64,
    failed: u64,
    panics: u64,
    unknown: u64,
    violations: u64,
    cancelled: u64,
    expired: u64,
    clients: u64,
    seconds: f64,
}

impl Voice {
    fn serving(self, path: &Path) {
        self.say(&Event::Serving { path, pid: process::id() }, || {
            format!("serving at {}; stop with Ctrl-C", path.display())
        });
    }

    fn violation(self, peer: PeerCred, error: &FrameError) {
        let PeerCred { pid, uid, .. } = peer;
        self.say(&Event::Violation { pid, uid, error: error.to_string() }, || {
            format!("process {pid} of user {uid} was disconnected: {error}")
        });
    }

    fn panicked(self, panic: &panic::PanicHookInfo<'_>) {
        let message = panic.payload_as_str().unwrap_or("not a text");
        let place = panic.location().map(ToString::to_string).unwrap_or_default();
        let words = format!("panic at {place}: {message}");
        self.say(&Event::Panic { message, place }, || words);
    }

    fn served(self, stats: ServerStats, time: Duration) {
        let totals = Totals {
            calls: stats.calls,
            one_way: stats.one_way,
            failed: stats.failed,
            panics: stats.panics,
            unknown: stats.unknown,
            violations: stats.violations,
            cancelled: stats.cancelled,
            expired: stats.expired,
            clients: stats.clients,
            seconds: time.as_secs_f64(),
        };
        let words = totals.words();
        self.say(&Event::Served(totals), || words);
    }

    fn say(self, event: &Event<'_>, words: impl FnOnce() -> String) {
        let is_error = matches!(event, Event::Violation { .. } | Event::Panic { .. });
        if self.quiet && !is_error {
            return;
        }
        tell(&if self.json {
            serde_json::to_string(event).unwrap_or_default()
        } else {
            format!("ringway: {}", words())
        });
    }
}

impl Totals {
    /// Says what is not zero.
    fn words(&self) -> String {
        let counts = [
            (self.failed, "failed"),
            (self.panics, "panicked"),
            (self.unknown, "of an unknown type"),
            (self.cancelled, "cancelled"),
            (self.expired, "out of time"),
            (self.violations, "violations of the protocol"),
        ];
        let exceptions: Vec<_> = counts
            .iter()
            .filter(|(count, _)| *count > 0)
            .map(|(count, what)| format!("{} {what}", thousands(*count)))
            .collect();
        format!(
            "served {} calls and {} one-way messages of {} clients in {:.1} s; {}",
            thousands(self.calls),
            thousands(self.one_way),
            thousands(self.clients),
            self.seconds,
            if exceptions.is_empty() { "none failed".to_owned() } else { exceptions.join(", ") },
        )
    }
}

/// Reads a number of bytes with a unit.
fn parse_bytes(text: &str) -> Result<u64, String> {
    let (digits, shift) = match text.as_bytes().last() {
        Some(b'K' | b'k') => (&text[..text.len() - 1], 10),
        Some(b'M' | b'm') => (&text[..text.len() - 1], 20),
        Some(b'G' | b'g') => (&text[..text.len() - 1], 30),
        _ => (text, 0),
    };
    let number = digits.parse::<u64>().ok();
    let bytes = number.and_then(|number| number.checked_mul(1 << shift));
    bytes.ok_or_else(|| "not a number of bytes, such as 4096, 64M or 1G".to_owned())
}

/// Ample for closing after the time for calls in flight is up.
const CLOSING: Duration = Duration::from_secs(5);
/// As many as a server can have.
const WORKERS_MAX: i64 = 64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_have_units() {
        assert_eq!(parse_bytes("4096"), Ok(4096));
        assert_eq!(parse_bytes("64M"), Ok(64 << 20));
        assert_eq!((parse_bytes("1k"), parse_bytes("2G")), (Ok(1024), Ok(2 << 30)));
        for wrong in ["", "M", "1T", "-1", "1.5G", "99999999999G"] {
            assert!(parse_bytes(wrong).is_err(), "{wrong}");
        }
    }
}
