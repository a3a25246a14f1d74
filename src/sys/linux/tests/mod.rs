//! Tests that need a second process, planted files or many descriptors.
#![allow(unsafe_code)]

mod directory;
mod fork;
mod memory;
mod socket;

use std::process::{Command, Stdio};
use std::sync::{PoisonError, RwLock, RwLockReadGuard};

/// Runs `check` in a forked child and tells whether it held; a panic there counts as false.
///
/// Only under [`is_alone`]: the child holds copies of every open descriptor, and other tests wait
/// for closed sockets to show. `check` must not wait for other threads.
fn holds_in_child(check: impl FnOnce() -> bool) -> bool {
    // SAFETY: glibc makes its allocator usable in a child of a threaded process; the child runs
    // `check`, which takes no lock that another thread of the parent could hold, and leaves
    // through `_exit`, so no destructor or exit handler runs twice.
    let child = unsafe { libc::fork() };
    assert!(child >= 0, "fork failed");
    if child == 0 {
        let held = std::panic::catch_unwind(std::panic::AssertUnwindSafe(check)).unwrap_or(false);
        // SAFETY: `_exit` takes a number and does not return.
        unsafe { libc::_exit(if held { 0 } else { 1 }) };
    }
    let mut status = 0;
    // SAFETY: `child` is our own child and `status` outlives the call.
    let waited = unsafe { libc::waitpid(child, &mut status, 0) };
    assert_eq!(waited, child);
    status == 0
}

/// Runs the test `name` again, alone in a process of its own. `true` means: this is that process.
///
/// For counts over the whole process, which other tests would disturb.
fn is_alone(name: &str) -> bool {
    const MARK: &str = "RINGWAY_SYS_TEST_ALONE";
    if std::env::var_os(MARK).is_some() {
        return true;
    }
    let mut command = Command::new(std::env::current_exe().unwrap());
    command
        .args(["--exact", name, "--test-threads=1"])
        .env(MARK, "1")
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let spawned = {
        let _exclusive = FORKS.write().unwrap_or_else(PoisonError::into_inner);
        command.spawn()
    };
    let output = spawned.unwrap().wait_with_output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && text.contains("1 passed"), "{text}");
    false
}

/// Keeps other tests from spawning processes, which hold copies of our descriptors until they
/// have called exec; for tests that watch what closing a descriptor does.
pub(super) fn no_forks() -> RwLockReadGuard<'static, ()> {
    FORKS.read().unwrap_or_else(PoisonError::into_inner)
}

/// Held for writing while a process is spawned.
static FORKS: RwLock<()> = RwLock::new(());

fn open_descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}

/// Waits until so many are open: what a peer sent is closed by another thread.
fn settle_at(descriptors: usize) {
    let start = std::time::Instant::now();
    while open_descriptors() != descriptors {
        assert!(
            start.elapsed().as_secs() < 30,
            "{} descriptors instead of {descriptors}",
            open_descriptors()
        );
        std::thread::yield_now();
    }
}

/// A directory of its own for one test, mode 0700, removed on drop.
struct Scratch(std::path::PathBuf);

impl Scratch {
    fn new(test: &str) -> Scratch {
        use std::os::unix::fs::PermissionsExt;
        let path = std::env::temp_dir().join(format!("rw-{}-{test}", std::process::id()));
        let _ = std::fs::remove_dir_all(&path);
        std::fs::create_dir(&path).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o700)).unwrap();
        Scratch(path)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
