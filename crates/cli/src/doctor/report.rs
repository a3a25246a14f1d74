//! What was found: as text for people and as JSON for programs.

use super::directory::Directory;
use super::self_test::SelfTest;
use serde::Serialize;
use std::fmt;

/// How a thing is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// As it should be.
    Ok,
    /// A fact, neither good nor bad.
    Info,
    /// Not here; something else is used, or it is narrow.
    Missing,
    /// It does not work.
    Failed,
    /// It could not be looked at.
    Unknown,
}

/// One thing that was looked at.
#[derive(Debug, Clone, Serialize)]
pub struct Finding {
    group: &'static str,
    name: &'static str,
    state: State,
    /// Without it ringway does not work.
    required: bool,
    found: String,
    /// What is used instead.
    instead: Option<String>,
    /// What to do about it.
    fix: Option<String>,
}

impl Finding {
    /// Makes one that is not required.
    pub fn new(group: &'static str, name: &'static str, state: State) -> Self {
        Self { group, name, state, required: false, found: String::new(), instead: None, fix: None }
    }

    /// Says that ringway does not work without it.
    pub fn required(mut self) -> Self {
        self.required = true;
        self
    }

    /// Says what was found.
    pub fn found(mut self, found: impl Into<String>) -> Self {
        self.found = found.into();
        self
    }

    /// Says what is used instead.
    pub fn instead(mut self, instead: impl Into<String>) -> Self {
        self.instead = Some(instead.into());
        self
    }

    /// Says what to do about it.
    pub fn fix(mut self, fix: impl Into<String>) -> Self {
        self.fix = Some(fix.into());
        self
    }

    /// Says whether ringway does not work because of it.
    fn is_fatal(&self) -> bool {
        self.required && matches!(self.state, State::Missing | State::Failed)
    }
}

/// All of it.
#[derive(Serialize)]
pub struct Report {
    /// Everything required is here.
    pub ok: bool,
    version: &'static str,
    kernel: String,
    directory: Directory,
    self_test: SelfTest,
    findings: Vec<Finding>,
    /// What this cannot know.
    unchecked: Vec<&'static str>,
}

impl Report {
    /// Puts it together.
    pub fn new(kernel: &str, directory: Directory, self_test: SelfTest, findings: Vec<Finding>) -> Self {
        Self {
            ok: !findings.iter().any(Finding::is_fatal),
            version: env!("CARGO_PKG_VERSION"),
            kernel: kernel.to_owned(),
            directory,
            self_test,
            findings,
            unchecked: UNCHECKED.to_vec(),
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "ringway {}", self.version)?;
        let mut group = "";
        for finding in &self.findings {
            if finding.group != group {
                group = finding.group;
                writeln!(f, "\n{group}")?;
            }
            let mark = match finding.state {
                State::Ok => "ok",
                State::Info => "",
                State::Missing if finding.required => "FAILED",
                State::Missing => "note",
                State::Failed => "FAILED",
                State::Unknown => "?",
            };
            writeln!(f, "  {mark:<7}{:<36}{}", finding.name, finding.found)?;
            for (label, text) in [("instead", &finding.instead), ("to do", &finding.fix)] {
                if let Some(text) = text {
                    writeln!(f, "         {label}: {text}")?;
                }
            }
        }
        writeln!(f, "\nnot checked")?;
        for unchecked in &self.unchecked {
            writeln!(f, "         {unchecked}")?;
        }
        let verdict =
            if self.ok { "everything required is here" } else { "ringway does not work here, see FAILED" };
        writeln!(f, "\n{verdict}")
    }
}

const UNCHECKED: [&str; 4] = [
    "connections between users: needs a process of another user, and Config::allow_uid on both sides",
    "other environments: both sides must have the same RINGWAY_DIR and XDG_RUNTIME_DIR",
    "containers: both sides must see the same directory, and need a common kernel",
    "limits of other processes: those above are of this one",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_required_is_fatal() {
        for (state, fatal) in
            [(State::Ok, false), (State::Unknown, false), (State::Missing, true), (State::Failed, true)]
        {
            assert_eq!(Finding::new("kernel", "x", state).required().is_fatal(), fatal);
            assert!(!Finding::new("kernel", "x", state).is_fatal());
        }
    }
}
