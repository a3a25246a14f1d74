//! What `pub` and `sub` say on stderr while they run: who comes and goes if that is asked for, and always what was lost.

use crate::demo::tell;
use crate::stream::CommonArgs;
use ringway::CloseReason;
use ringway::broadcast::Peer;
use serde::Serialize;

/// Says what happens.
#[derive(Debug, Clone, Copy)]
pub struct Voice {
    json: bool,
    verbose: bool,
}

/// Who comes and goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Somebody who receives from us.
    Receiver,
    /// Somebody who sends to us.
    Sender,
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Self::Receiver => "receiver",
            Self::Sender => "sender",
        }
    }
}

/// An event as JSON.
#[derive(Default, Serialize)]
struct Line<'a> {
    event: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    kind: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    number: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pid: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    uid: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    messages: Option<u64>,
}

impl Voice {
    /// Makes one that speaks as it was asked to.
    pub fn new(common: &CommonArgs, verbose: bool) -> Self {
        Self { json: common.json, verbose: verbose && !common.quiet }
    }

    /// Somebody came.
    pub fn joined(self, kind: Kind, peer: Peer) {
        if self.verbose {
            self.say(Line { event: "joined", ..Self::of(kind, peer) }, || "joined".to_owned());
        }
    }

    /// Somebody went. Who was cut off, or lied, did not go by itself.
    pub fn left(self, kind: Kind, peer: Peer, reason: &CloseReason) {
        let is_loss = !matches!(reason, CloseReason::PeerClosed | CloseReason::PeerDied { .. });
        if self.verbose || is_loss {
            let line = Line { event: "left", reason: Some(name_of(reason)), ..Self::of(kind, peer) };
            self.say(line, || match (kind, reason) {
                (_, CloseReason::PeerClosed) => "left".to_owned(),
                (_, CloseReason::PeerDied { .. }) => "died".to_owned(),
                (Kind::Receiver, CloseReason::TooSlow) => {
                    "was cut off: it read too slowly; it may come back, but has missed messages".to_owned()
                }
                (Kind::Sender, CloseReason::TooSlow) => {
                    "cut us off: we read too slowly, and what we had not read is lost".to_owned()
                }
                (_, reason) => format!("is gone: {reason}"),
            });
        }
    }

    /// Messages of a sender were overwritten before they were read.
    pub fn lagged(self, peer: Peer, messages: u64) {
        let line = Line { event: "lagged", messages: Some(messages), ..Self::of(Kind::Sender, peer) };
        self.say(line, || format!("sent faster than was read: {messages} messages are lost"));
    }

    fn of<'a>(kind: Kind, peer: Peer) -> Line<'a> {
        let (number, pid, uid) = (Some(peer.number()), Some(peer.pid()), Some(peer.cred().uid));
        Line { kind: Some(kind.name()), number, pid, uid, ..Line::default() }
    }

    fn say(self, line: Line<'_>, text: impl FnOnce() -> String) {
        self.write(&line, || {
            let (kind, number) = (line.kind.unwrap_or_default(), line.number.unwrap_or_default());
            format!("{kind} {number} (process {}) {}", line.pid.unwrap_or_default(), text())
        });
    }

    fn write(self, line: &Line<'_>, text: impl FnOnce() -> String) {
        if self.json {
            tell(&serde_json::to_string(line).unwrap_or_default());
        } else {
            tell(&format!("ringway: {}", text()));
        }
    }
}

/// Returns the name of a reason in results.
fn name_of(reason: &CloseReason) -> &'static str {
    match reason {
        CloseReason::PeerClosed => "closed",
        CloseReason::PeerDied { .. } => "died",
        CloseReason::TooSlow => "too-slow",
        CloseReason::Violation(_) => "violation",
        CloseReason::Disconnected => "disconnected",
        _ => "failed",
    }
}
