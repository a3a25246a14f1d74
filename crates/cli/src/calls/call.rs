//! `ringway call`: makes calls, and writes what is answered to the standard output.

use super::SettingsArgs;
use super::load::{self, Plan};
use super::message_type::MessageType;
use crate::demo::tell;
use crate::exit::{Code, fault};
use crate::stream::{Framing, Output, parse_seconds};
use anyhow::{Context, Result};
use clap::Args;
use ringway::ConnectError;
use ringway::rpc::{CallBuilder, CallError, Client};
use serde::Serialize;
use std::fs;
use std::io::{self, Read};
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// Arguments of `call`.
#[derive(Args)]
pub struct CallArgs {
    /// Name of the server, or the path of its socket if it has a slash
    name: String,
    /// Type of the request: a number below 65280, or the name of a handler of `ringway serve`
    #[arg(long = "type", short = 't', value_name = "TYPE")]
    message_type: MessageType,
    /// Body of the request; the standard input if neither this nor a file is given
    #[arg(long, short, value_name = "TEXT", allow_hyphen_values = true, conflicts_with = "data_file")]
    data: Option<String>,
    /// File with the body of the request
    #[arg(long, value_name = "FILE")]
    data_file: Option<PathBuf>,
    /// Take a response that comes in parts, and write each part as it comes
    #[arg(long)]
    stream: bool,
    /// Write a newline after the response, or after each part of it
    #[arg(long)]
    lines: bool,
    /// Write the length of the response, or of each part of it, before it: 4 bytes, little-endian
    #[arg(long, conflicts_with = "lines")]
    frames: bool,
    /// Send a message that is not answered
    #[arg(long, conflicts_with_all = ["stream", "idempotent", "lines", "frames", "timeout"])]
    one_way: bool,
    /// The call may run twice without harm: make it again if the server ends before the answer
    #[arg(long, conflicts_with = "stream")]
    idempotent: bool,
    /// Wait this long for the answer, all attempts together; for ever if not given
    #[arg(long, value_name = "SECS", value_parser = parse_seconds)]
    timeout: Option<Duration>,
    /// Wait this long for a server that is not there, or not there any more
    #[arg(long, value_name = "SECS", default_value = "2", value_parser = parse_seconds)]
    connect_timeout: Duration,
    /// Make so many calls, and write how long they took instead of what was answered
    ///
    /// Repeated calls of `echo` have the number of the call in the first bytes of the body, and each answer is checked.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    repeat: Option<u64>,
    /// Calls in flight at one time, each made by a thread of its own, over one connection
    #[arg(long, value_name = "N", default_value_t = 1, requires = "repeat")]
    #[arg(value_parser = clap::value_parser!(u16).range(1..=CONCURRENCY_MAX))]
    concurrency: u16,
    #[command(flatten)]
    settings: SettingsArgs,
}

/// Runs `call`.
///
/// # Errors
/// The input or the output fails, or the call does.
pub fn call(args: CallArgs) -> Result<()> {
    let body = args.body()?;
    let client = Client::builder()
        .config(args.settings.config())
        .without_checksum(args.settings.no_checksum)
        .connect_patience(args.connect_timeout)
        .connect_later(&args.name)?;
    let caller = Caller { client, ask: args.ask() };
    if let Some(calls) = args.repeat {
        let plan = Plan { calls, threads: args.concurrency, checked: args.message_type == MessageType::ECHO };
        let summary = load::run(&caller, &body, plan)?;
        return summary.print(args.settings.json);
    }
    let start = Instant::now();
    let mut output = Output::stdout(args.framing())?;
    let (mut parts, mut bytes) = (0, 0);
    caller.make(&body, &mut Vec::new(), |part| {
        (parts, bytes) = (parts + 1, bytes + part.len());
        output.put(part)?;
        output.flush()
    })?;
    if args.settings.json && !args.settings.quiet {
        let event = if args.one_way { "sent" } else { "answered" };
        let message_type = args.message_type.to_string();
        let seconds = start.elapsed().as_secs_f64();
        tell(&serde_json::to_string(&Summary { event, message_type, parts, bytes, seconds })?);
    }
    Ok(())
}

#[derive(Serialize)]
struct Summary {
    event: &'static str,
    #[serde(rename = "type")]
    message_type: String,
    parts: u64,
    bytes: usize,
    seconds: f64,
}

impl CallArgs {
    fn body(&self) -> Result<Vec<u8>> {
        if let Some(text) = &self.data {
            return Ok(text.clone().into_bytes());
        }
        if let Some(path) = &self.data_file {
            return fs::read(path).with_context(|| format!("cannot read {}", path.display()));
        }
        let mut body = Vec::new();
        io::stdin().lock().read_to_end(&mut body).context("cannot read the standard input")?;
        Ok(body)
    }

    fn ask(&self) -> Ask {
        let form = match (self.one_way, self.stream) {
            (true, _) => Form::OneWay,
            (_, true) => Form::Stream,
            _ => Form::Single,
        };
        Ask { message_type: self.message_type, form, idempotent: self.idempotent, timeout: self.timeout }
    }

    fn framing(&self) -> Framing {
        match (self.lines, self.frames) {
            (true, _) => Framing::Lines,
            (_, true) => Framing::Frames,
            _ => Framing::Raw,
        }
    }
}

/// What is asked, apart from the body.
#[derive(Debug, Clone, Copy)]
pub struct Ask {
    /// Type of the request.
    pub message_type: MessageType,
    /// What is answered.
    pub form: Form,
    idempotent: bool,
    timeout: Option<Duration>,
}

/// What is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// Nothing.
    OneWay,
    /// One response.
    Single,
    /// A response in parts.
    Stream,
}

/// A client and what it is to ask.
pub struct Caller {
    client: Client,
    /// What is asked.
    pub ask: Ask,
}

impl Caller {
    /// Makes a call and hands on what is answered, part by part; `buffer` is memory for that.
    ///
    /// # Errors
    /// The call fails, or `take` does.
    pub fn make(
        &self,
        body: &[u8],
        buffer: &mut Vec<u8>,
        mut take: impl FnMut(&[u8]) -> Result<()>,
    ) -> Result<()> {
        match self.ask.form {
            Form::OneWay => self.request().notify(body).map_err(failed),
            Form::Single => {
                self.request().call_into(body, buffer).map_err(failed)?;
                take(buffer)
            }
            Form::Stream => {
                let mut parts = self.request().stream(body).map_err(failed)?;
                parts.try_for_each(|part| take(&part.map_err(failed)?))
            }
        }
    }

    fn request(&self) -> CallBuilder<'_> {
        let Ask { message_type, idempotent, timeout, .. } = self.ask;
        let request = self.client.request(message_type.0).idempotent(idempotent);
        match timeout {
            Some(timeout) => request.timeout(timeout),
            None => request,
        }
    }
}

/// Says of a server that is not there what was waited for.
fn failed(error: CallError) -> anyhow::Error {
    match error {
        CallError::Unreachable(ConnectError::NoListener { path }) => {
            fault(Code::TimedOut, format!("nobody serves at {}, and the time is up", path.display()))
        }
        error => error.into(),
    }
}

const CONCURRENCY_MAX: i64 = 1024;
