//! What the user sees while it runs: a bar on a terminal, a line for each round elsewhere. All of it on stderr.

use super::control::Round;
use crate::figures::thousands;
use indicatif::{ProgressBar, ProgressStyle};
use std::io::{self, IsTerminal, Write};
use std::time::{Duration, Instant};

/// Shows how far the demo is.
pub struct Progress {
    /// None if stderr is no terminal.
    bar: Option<ProgressBar>,
    round: Option<Round>,
    /// Of the rounds before this one.
    before: Duration,
    went: Option<Instant>,
    messages: u64,
}

impl Progress {
    /// Makes one for rounds that take `length` together.
    pub fn new(length: Duration) -> Self {
        let bar = io::stderr().is_terminal().then(|| {
            let bar = ProgressBar::new(length.as_millis() as u64);
            let style = ProgressStyle::with_template("{bar:24} {elapsed:>4}  {msg}");
            bar.with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
        });
        Self { bar, round: None, before: Duration::ZERO, went: None, messages: 0 }
    }

    /// A round begins: the clients connect.
    pub fn begin(&mut self, round: Round) {
        if let Some(last) = self.round.replace(round) {
            self.before += Duration::from_millis(last.millis);
        }
        (self.went, self.messages) = (None, 0);
        self.tick();
    }

    /// The clients were told to go.
    pub fn go(&mut self) {
        self.went = Some(Instant::now());
        if self.bar.is_none()
            && let Some(round) = self.round
        {
            tell(&format!("{round} ..."));
        }
    }

    /// So many messages were checked in this round.
    pub fn count(&mut self, messages: u64) {
        self.messages = messages;
    }

    /// Draws anew.
    pub fn tick(&self) {
        let (Some(bar), Some(round)) = (&self.bar, self.round) else { return };
        let in_round = self.went.map_or(Duration::ZERO, |went| went.elapsed());
        let done = self.before + in_round.min(Duration::from_millis(round.millis));
        bar.set_position(done.as_millis() as u64);
        bar.set_message(format!("{round}: {} messages checked", thousands(self.messages)));
    }

    /// Writes a line, above the bar.
    pub fn tell(&self, line: &str) {
        match &self.bar {
            Some(bar) => bar.suspend(|| tell(line)),
            None => tell(line),
        }
    }

    /// Takes the bar away.
    pub fn finish(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.finish();
    }
}

/// Writes a line to stderr; if nobody reads it, so be it.
pub fn tell(line: &str) {
    let _ = writeln!(io::stderr(), "{line}");
}
