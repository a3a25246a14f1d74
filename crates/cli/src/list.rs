//! `ringway ls`: who is there, and who is connected to whom.

use crate::exit;
use crate::figures::{LINES, thousands};
use anyhow::{Context, Result};
use clap::Args;
use comfy_table::{CellAlignment, Table};
use ringway::census::{Entry, Link, LinkKind, Role, State};
use serde::Serialize;
use std::path::Path;

/// Arguments of `ls`.
#[derive(Args)]
pub struct LsArgs {
    /// Only what has this name
    name: Option<String>,
    /// Print one JSON object for each name, and nothing else, on stdout
    #[arg(long)]
    json: bool,
}

/// Lists who is there.
///
/// # Errors
/// The directory cannot be read, or the output fails.
pub fn list(args: &LsArgs) -> Result<()> {
    let directory = ringway::runtime_directory();
    let mut entries =
        ringway::census(None).with_context(|| format!("cannot look into {}", directory.display()))?;
    entries.retain(|entry| args.name.as_ref().is_none_or(|name| entry.name == *name));
    let text = if args.json { json(&entries)? } else { words(&entries, &directory) };
    exit::print(text)
}

/// A name as JSON.
#[derive(Serialize)]
struct Line<'a> {
    name: &'a str,
    role: &'static str,
    path: &'a Path,
    state: &'static str,
    pid: Option<u32>,
    uid: Option<u32>,
    sent_messages: u64,
    sent_bytes: u64,
    dropped_messages: u64,
    cut_receivers: u64,
    received_messages: u64,
    received_bytes: u64,
    lagged_messages: u64,
    links: Vec<LinkLine>,
}

/// One who is connected, as JSON.
#[derive(Serialize)]
struct LinkLine {
    kind: &'static str,
    number: u64,
    pid: u32,
    uid: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    behind_bytes: Option<u64>,
    sent_messages: u64,
    received_messages: u64,
}

impl<'a> Line<'a> {
    fn of(entry: &'a Entry) -> Self {
        let stats = &entry.stats;
        Self {
            name: &entry.name,
            role: role_of(entry.role),
            path: &entry.path,
            state: state_of(entry.state),
            pid: entry.owner.map(|owner| owner.pid),
            uid: entry.owner.map(|owner| owner.uid),
            sent_messages: stats.sent_messages,
            sent_bytes: stats.sent_bytes,
            dropped_messages: stats.dropped_messages,
            cut_receivers: stats.cut_receivers,
            received_messages: stats.received_messages,
            received_bytes: stats.received_bytes,
            lagged_messages: stats.lagged_messages,
            links: entry.links.iter().map(LinkLine::of).collect(),
        }
    }
}

impl LinkLine {
    fn of(link: &Link) -> Self {
        Self {
            kind: kind_of(link.kind),
            number: link.number,
            pid: link.pid,
            uid: link.uid,
            behind_bytes: link.behind_bytes,
            sent_messages: link.stats.sent_messages,
            received_messages: link.stats.received_messages,
        }
    }
}

fn json(entries: &[Entry]) -> Result<String> {
    let mut text = String::new();
    for entry in entries {
        text += &serde_json::to_string(&Line::of(entry))?;
        text.push('\n');
    }
    Ok(text)
}

fn words(entries: &[Entry], directory: &Path) -> String {
    if entries.is_empty() {
        return format!("nobody is there ({})\n", directory.display());
    }
    let mut table = Table::new();
    table.load_preset(LINES).set_header(HEADER);
    for entry in entries {
        let owner = |pick: fn(ringway::PeerCred) -> u32| {
            entry.owner.map_or_else(|| "?".to_owned(), |it| pick(it).to_string())
        };
        let (stats, answers) = (&entry.stats, entry.state == State::Answers);
        table.add_row([
            entry.name.clone(),
            role_of(entry.role).replace('-', " "),
            owner(|it| it.pid),
            owner(|it| it.uid),
            count(stats.sent_messages, answers && entry.role != Role::RouteReceiver),
            count(stats.received_messages, answers && entry.role != Role::RouteSender),
            String::new(),
            remark(entry),
        ]);
        for link in &entry.links {
            table.add_row([
                String::new(),
                format!("- {} {}", kind_of(link.kind), link.number),
                link.pid.to_string(),
                link.uid.to_string(),
                count(link.stats.sent_messages, link.kind == LinkKind::Client),
                count(link.stats.received_messages, link.kind != LinkKind::Receiver),
                link.behind_bytes.map_or_else(String::new, thousands),
                String::new(),
            ]);
        }
    }
    for column in table.column_iter_mut().skip(2).take(5) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    format!("{table}\n{}\n", directory.display())
}

/// Writes a number where it means something.
fn count(number: u64, means_something: bool) -> String {
    if means_something { thousands(number) } else { String::new() }
}

/// What is not as one would wish.
fn remark(entry: &Entry) -> String {
    let state = match entry.state {
        State::Answers => None,
        State::Refuses => Some("lets nobody look"),
        State::Silent => Some("does not answer: stopped or busy"),
        State::Dead => Some("dead: the next that comes removes the name"),
        _ => Some("unknown"),
    };
    let stats = &entry.stats;
    let losses = [
        (stats.dropped_messages, "dropped"),
        (stats.cut_receivers, "cut off"),
        (stats.lagged_messages, "missed"),
    ];
    let losses = losses.into_iter().filter(|(count, _)| *count > 0);
    let parts = losses.map(|(count, what)| format!("{} {what}", thousands(count)));
    state.map(str::to_owned).into_iter().chain(parts).collect::<Vec<_>>().join(", ")
}

fn role_of(role: Role) -> &'static str {
    match role {
        Role::Listener => "listener",
        Role::RouteSender => "route-sender",
        Role::RouteReceiver => "route-receiver",
        Role::ChannelMember => "channel-member",
    }
}

fn state_of(state: State) -> &'static str {
    match state {
        State::Answers => "answers",
        State::Refuses => "refuses",
        State::Silent => "silent",
        State::Dead => "dead",
        _ => "unknown",
    }
}

fn kind_of(kind: LinkKind) -> &'static str {
    match kind {
        LinkKind::Client => "client",
        LinkKind::Receiver => "receiver",
        LinkKind::Sender => "sender",
        _ => "unknown",
    }
}

const HEADER: [&str; 8] = ["name", "what", "pid", "user", "sent", "received", "bytes behind", ""];
