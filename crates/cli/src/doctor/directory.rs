//! Where names are, why there, and what lies there.

use super::report::{Finding, State};
use serde::Serialize;
use std::env;
use std::fs;
use std::io::{self, ErrorKind};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};

/// The directory for names, and those that it was chosen from.
#[derive(Serialize)]
pub struct Directory {
    /// The one that is used.
    used: PathBuf,
    why: String,
    candidates: Vec<Candidate>,
    /// Names of listeners that live.
    alive: Vec<String>,
    /// Names that dead listeners left behind; the next bind removes them.
    stale: Vec<String>,
}

/// One that is looked at in turn.
#[derive(Serialize)]
struct Candidate {
    rule: &'static str,
    path: Option<PathBuf>,
    condition: Condition,
    text: String,
    used: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Condition {
    /// The variable is not set, or the directory is not there and is not made.
    Absent,
    /// It is not there and will be made.
    Creatable,
    Good,
    /// It must not be used.
    Unsafe,
    /// It cannot be looked at.
    Closed,
}

/// Looks at all of them.
pub fn look() -> Directory {
    let used = ringway::runtime_directory();
    let set = |name| env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let own_uid = rustix::process::geteuid().as_raw();
    let rules = [
        ("$RINGWAY_DIR", set("RINGWAY_DIR"), "it is set"),
        (
            "$XDG_RUNTIME_DIR/ringway",
            set("XDG_RUNTIME_DIR").map(|dir| dir.join("ringway")),
            "XDG_RUNTIME_DIR is set",
        ),
        ("/run/ringway", Some(PathBuf::from("/run/ringway")), "it exists"),
        (
            "/tmp/ringway-UID",
            Some(PathBuf::from(format!("/tmp/ringway-{own_uid}"))),
            "nothing before it applies",
        ),
    ];
    let mut why = "the library says so".to_owned();
    let mut is_found = false;
    let mut candidates = Vec::new();
    for (rule, path, reason) in rules {
        let is_used = !is_found && path.as_deref() == Some(used.as_path());
        if is_used {
            is_found = true;
            why = format!("{rule}: {reason}");
        }
        let (condition, text) = match &path {
            None => (Condition::Absent, "the variable is not set".to_owned()),
            Some(path) => examine(path, own_uid, is_used),
        };
        candidates.push(Candidate { rule, path, condition, text, used: is_used });
    }
    let (alive, stale) = names_in(&used);
    Directory { used, why, candidates, alive, stale }
}

/// Says whether a directory may be used, by the rules of the library: a real directory of ours or of root, which
/// nobody else may write.
fn examine(path: &Path, own_uid: u32, is_used: bool) -> (Condition, String) {
    let metadata = match fs::symlink_metadata(path) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == ErrorKind::NotFound && is_used => {
            if !path.parent().is_some_and(Path::is_dir) && !is_in_runtime(path) {
                return (
                    Condition::Closed,
                    "does not exist, nor does the directory that it would be made in".to_owned(),
                );
            }
            return (Condition::Creatable, "does not exist; the first listener makes it".to_owned());
        }
        Err(error) if error.kind() == ErrorKind::NotFound => {
            return (Condition::Absent, "does not exist".to_owned());
        }
        Err(error) => return (Condition::Closed, format!("cannot be looked at: {error}")),
    };
    let (mode, owner) = (metadata.mode() & 0o7777, metadata.uid());
    let facts = format!("mode {mode:04o}, owner {owner}");
    let fault = if metadata.file_type().is_symlink() {
        Some("is a symbolic link, which could be pointed elsewhere")
    } else if !metadata.is_dir() {
        Some("is not a directory")
    } else if owner != own_uid && owner != 0 {
        Some("belongs to another user, who could replace sockets in it")
    } else if mode & 0o022 != 0 {
        Some("can be written by others, who could replace sockets in it")
    } else {
        None
    };
    match fault {
        Some(fault) => (Condition::Unsafe, format!("{facts}: {fault}")),
        None => (Condition::Good, facts),
    }
}

/// Says whether the library would make the directory before it too.
fn is_in_runtime(path: &Path) -> bool {
    env::var_os("XDG_RUNTIME_DIR").is_some_and(|dir| !dir.is_empty() && path.starts_with(dir))
}

/// Returns the names of living and of dead listeners.
fn names_in(directory: &Path) -> (Vec<String>, Vec<String>) {
    let (mut alive, mut stale) = (Vec::new(), Vec::new());
    let Ok(entries) = fs::read_dir(directory) else { return (alive, stale) };
    for entry in entries.flatten().take(ENTRIES_MAX) {
        let name = entry.file_name().to_string_lossy().into_owned();
        let is_ours = name.ends_with(".sock") || name.starts_with('.') && name.ends_with(".tmp");
        let is_socket = entry.file_type().is_ok_and(|kind| kind.is_socket());
        if is_ours && is_socket {
            match is_alive(&entry.path()) {
                Some(true) => alive.push(name),
                Some(false) => stale.push(name),
                None => {}
            }
        }
    }
    alive.sort();
    stale.sort();
    (alive, stale)
}

/// Says whether somebody listens there, without being noticed: a socket of another type is refused before the listener
/// hears of it. Nothing if that cannot be told.
fn is_alive(path: &Path) -> Option<bool> {
    let outcome = UnixDatagram::unbound().and_then(|visitor| visitor.connect(path));
    match outcome.map_err(|error: io::Error| error.kind()) {
        Err(ErrorKind::ConnectionRefused) => Some(false),
        Err(ErrorKind::NotFound | ErrorKind::PermissionDenied) => None,
        // The wrong type of socket, which has no kind of its own.
        _ => Some(true),
    }
}

impl Directory {
    /// Returns what the report says of it.
    pub fn findings(&self) -> Vec<Finding> {
        let mut findings: Vec<_> = self.candidates.iter().map(Candidate::finding).collect();
        findings.push(Finding::new(GROUP, "used", State::Info).found(format!(
            "{} ({})",
            self.used.display(),
            self.why
        )));
        let alive = if self.alive.is_empty() { "none".to_owned() } else { self.alive.join(", ") };
        findings.push(Finding::new(GROUP, "listeners", State::Info).found(alive));
        findings.push(if self.stale.is_empty() {
            Finding::new(GROUP, "names left by dead listeners", State::Ok).found("none")
        } else {
            let found = format!("{} before the self-test: {}", self.stale.len(), self.stale.join(", "));
            Finding::new(GROUP, "names left by dead listeners", State::Info)
                .found(found)
                .fix("nothing: whoever binds a name there removes them, as the self-test did")
        });
        findings
    }
}

impl Candidate {
    fn finding(&self) -> Finding {
        let state = match (self.condition, self.used) {
            (Condition::Good | Condition::Creatable, true) => State::Ok,
            (Condition::Unsafe | Condition::Closed, true) => State::Failed,
            _ => State::Info,
        };
        let path = self.path.as_deref().map(|path| format!("{}: ", path.display())).unwrap_or_default();
        let finding = Finding::new(GROUP, self.rule, state).found(format!("{path}{}", self.text));
        if state != State::Failed {
            return finding;
        }
        let path = self.path.as_deref().unwrap_or(Path::new("")).display().to_string();
        finding.required().fix(format!(
            "chmod 0700 {path} (if it is yours), or: mkdir -m 0700 ~/.ringway; export RINGWAY_DIR=~/.ringway"
        ))
    }
}

const GROUP: &str = "directory for names (first that applies)";
/// As many as the library looks at.
const ENTRIES_MAX: usize = 4096;

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::Permissions;
    use std::os::unix::fs::PermissionsExt;
    use std::os::unix::net::UnixListener;

    #[test]
    fn a_directory_is_judged_by_owner_mode_and_type() {
        let path = env::temp_dir().join(format!("ringway-doctor-{}", std::process::id()));
        fs::create_dir(&path).unwrap();
        let own_uid = rustix::process::geteuid().as_raw();
        for (mode, condition) in
            [(0o700, Condition::Good), (0o755, Condition::Good), (0o770, Condition::Unsafe)]
        {
            fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
            assert_eq!(examine(&path, own_uid, true).0, condition, "{mode:o}");
        }
        assert_eq!(examine(&path.join("none"), own_uid, true).0, Condition::Creatable);
        assert_eq!(examine(&path.join("none"), own_uid, false).0, Condition::Absent);
        assert_eq!(examine(Path::new("/proc/self/exe"), own_uid, true).0, Condition::Unsafe);
        let living = UnixListener::bind(path.join("living.sock")).unwrap();
        drop(UnixListener::bind(path.join("dead.sock")).unwrap());
        fs::write(path.join("file.sock"), "").unwrap();
        assert_eq!(names_in(&path), (vec!["living.sock".to_owned()], vec!["dead.sock".to_owned()]));
        drop(living);
        fs::remove_dir_all(path).unwrap();
    }
}
