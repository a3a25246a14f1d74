//! What the user sees of a transfer: bytes, rate and time while it runs, and a summary.

use super::wire::Totals;
use crate::demo::tell;
use indicatif::{HumanBytes, ProgressBar, ProgressStyle};
use serde::Serialize;
use std::collections::BTreeMap;
use std::io::{self, IsTerminal};
use std::time::{Duration, Instant};

/// What is shown of a transfer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Show {
    /// Nothing but errors.
    pub quiet: bool,
    /// A summary as JSON, and no progress.
    pub json: bool,
}

/// Progress of a transfer on a terminal.
pub struct Meter {
    /// None unless stderr is a terminal.
    bar: Option<ProgressBar>,
    show: Show,
    start: Instant,
}

#[derive(Serialize)]
struct Summary<'a> {
    event: &'a str,
    messages: u64,
    bytes: u64,
    seconds: f64,
    bytes_per_second: f64,
    #[serde(flatten)]
    more: BTreeMap<&'a str, u64>,
}

impl Meter {
    /// Starts the clock.
    pub fn start(show: Show) -> Self {
        let wanted = !show.quiet && !show.json && io::stderr().is_terminal();
        let bar = wanted.then(|| {
            let style = ProgressStyle::with_template("{bytes:>12}  {bytes_per_sec:>14}  {elapsed}");
            ProgressBar::no_length().with_style(style.unwrap_or_else(|_| ProgressStyle::default_spinner()))
        });
        if let Some(bar) = &bar {
            bar.enable_steady_tick(REDRAW);
        }
        Self { bar, show, start: Instant::now() }
    }

    /// Shows how many bytes there were.
    pub fn show(&self, bytes: u64) {
        if let Some(bar) = &self.bar {
            bar.set_position(bytes);
        }
    }

    /// Says how much it was: `event` is "sent", say.
    pub fn summarize(&self, event: &str, totals: Totals) {
        self.summarize_more(event, totals, &[], &[]);
    }

    /// Says how much it was, what was lost, and what else there is to know. People are told of losses even where they
    /// see no progress.
    pub fn summarize_more(&self, event: &str, totals: Totals, losses: &[(&str, u64)], notes: &[(&str, u64)]) {
        let seconds = self.start.elapsed().as_secs_f64();
        let bytes_per_second = totals.bytes as f64 / seconds.max(f64::EPSILON);
        let counts = || losses.iter().chain(notes).copied();
        if self.show.json {
            let Totals { messages, bytes } = totals;
            let summary =
                Summary { event, messages, bytes, seconds, bytes_per_second, more: counts().collect() };
            tell(&serde_json::to_string(&summary).unwrap_or_default());
            return;
        }
        let more: String = counts()
            .filter(|(_, count)| *count > 0)
            .map(|(what, count)| format!(", {count} {}", what.replace('_', " ")))
            .collect();
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
            let (bytes, rate) = (HumanBytes(totals.bytes), HumanBytes(bytes_per_second as u64));
            tell(&format!("{event} {bytes} in {seconds:.2} s ({rate}/s){more}"));
        } else if losses.iter().any(|(_, count)| *count > 0) {
            tell(&format!("ringway: {event} {} messages{more}", totals.messages));
        }
    }
}

impl Drop for Meter {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

const REDRAW: Duration = Duration::from_millis(200);
