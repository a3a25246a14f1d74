//! What the integration tests share: peers that are real processes, private directories, contents that can be checked,
//! and a guard against hanging.
//!
//! A peer is this test binary once more: [`Peer::spawn`] runs the test `peer_process` of the same file with the name of
//! a role in the environment, and that test calls [`run_role`], which returns at once in an ordinary run.
//!
//! ```ignore
//! #[test]
//! fn peer_process() {
//!     common::run_role(&[("echo", echo)]);
//! }
//! ```
#![allow(dead_code, reason = "every test file uses a part of it")]
#![allow(clippy::unwrap_used, reason = "what fails in a test may panic")]

use std::env;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::DirBuilderExt;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::panic::{self, AssertUnwindSafe};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

/// Nothing in these tests takes nearly as long; what does hangs.
pub const DEADLINE: Duration = Duration::from_secs(60);

/// Marks the lines that are meant for the other process: libtest prints around them.
const MARK: &str = "@ringway@ ";
const ROLE: &str = "RINGWAY_TEST_ROLE";

/// A process that plays a role; killed with all its children when dropped.
pub struct Peer {
    child: Child,
    stdin: Option<ChildStdin>,
    lines: mpsc::Receiver<String>,
    reading: Option<JoinHandle<()>>,
    role: String,
    status: Option<ExitStatus>,
}

impl Peer {
    /// Starts this test binary in a role, with these variables in its environment.
    ///
    /// It dies when the thread that started it ends.
    pub fn spawn(role: &str, variables: &[(&str, &str)]) -> Self {
        let mut command = Command::new(env::current_exe().unwrap());
        command.args(["--exact", "peer_process", "--nocapture", "--test-threads=1"]);
        command.env(ROLE, role).envs(variables.iter().copied());
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).process_group(0);
        let mut child = command.spawn().unwrap_or_else(|error| panic!("cannot start role {role}: {error}"));
        let (stdin, stdout) = (child.stdin.take(), child.stdout.take().unwrap());
        let (tell, lines) = mpsc::channel();
        let reading = thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                if let Some((_, text)) = line.split_once(MARK) {
                    let _ = tell.send(text.to_owned());
                }
            }
        });
        Self { child, stdin, lines, reading: Some(reading), role: role.to_owned(), status: None }
    }

    /// Returns the process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Waits for the next line that the role said.
    pub fn next_line(&mut self) -> String {
        match self.lines.recv_timeout(DEADLINE) {
            Ok(line) => line,
            Err(RecvTimeoutError::Timeout) => panic!("role {} said nothing for {DEADLINE:?}", self.role),
            Err(RecvTimeoutError::Disconnected) => {
                let status = self.wait_within(DEADLINE);
                panic!("role {} ended ({status}) instead of saying something", self.role)
            }
        }
    }

    /// Waits for the next line, which must be this one.
    #[track_caller]
    pub fn expect_line(&mut self, expected: &str) {
        let line = self.next_line();
        assert_eq!(line, expected, "said by role {}", self.role);
    }

    /// Waits for the next line, which must be a number.
    #[track_caller]
    pub fn next_number(&mut self) -> u64 {
        let line = self.next_line();
        line.parse().unwrap_or_else(|_| panic!("role {} said {line:?}, not a number", self.role))
    }

    /// Says a line to the role, which gets it from [`hear`]. A role that is gone does not hear it.
    pub fn send_line(&mut self, line: &str) {
        if let Some(stdin) = &mut self.stdin {
            let _ = stdin.write_all(format!("{line}\n").as_bytes());
        }
    }

    /// Sends the process a signal.
    pub fn signal(&self, signal: i32) {
        if self.status.is_none() {
            // SAFETY: no memory is involved; the child was not waited for, so the number is still its own.
            let sent = unsafe { libc::kill(self.pid() as i32, signal) };
            assert_eq!(sent, 0, "{}", std::io::Error::last_os_error());
        }
    }

    /// Stops the process and returns when it has stopped.
    pub fn stop(&self) {
        self.signal(libc::SIGSTOP);
        let mut status = 0;
        // SAFETY: `status` outlives the call.
        let waited = unsafe { libc::waitpid(self.pid() as i32, &raw mut status, libc::WUNTRACED) };
        assert!(waited == self.pid() as i32 && libc::WIFSTOPPED(status), "role {} did not stop", self.role);
    }

    /// Lets a stopped process go on.
    pub fn go_on(&self) {
        self.signal(libc::SIGCONT);
    }

    /// Kills the process, not its children, and returns when it is dead.
    pub fn kill9(&mut self) {
        self.signal(libc::SIGKILL);
        let status = self.wait_within(DEADLINE);
        assert_eq!(status.signal(), Some(libc::SIGKILL), "role {} ended by itself: {status}", self.role);
    }

    /// Waits for its end.
    pub fn wait_within(&mut self, limit: Duration) -> ExitStatus {
        if let Some(status) = self.status {
            return status;
        }
        let pid = rustix::process::Pid::from_child(&self.child);
        let pidfd = rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty()).unwrap();
        let mut items = [rustix::event::PollFd::new(&pidfd, rustix::event::PollFlags::IN)];
        let limit = rustix::event::Timespec::try_from(limit).unwrap();
        let ended = rustix::io::retry_on_intr(|| rustix::event::poll(&mut items, Some(&limit))).unwrap();
        assert_eq!(ended, 1, "role {} has not ended in {limit:?}", self.role);
        let status = self.child.wait().unwrap();
        self.status = Some(status);
        status
    }

    /// Waits for its end, which must be a success.
    #[track_caller]
    pub fn finish(mut self) {
        let status = self.wait_within(DEADLINE);
        assert!(status.success(), "role {} failed: {status}", self.role);
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        // SAFETY: no memory is involved. The group has the child's number; it is not reused while a member lives, and
        // the child itself is reaped below, or it has ended and only its own children can be hit.
        unsafe { libc::kill(-(self.child.id() as i32), libc::SIGKILL) };
        self.stdin = None;
        let _ = self.child.wait();
        if let Some(reading) = self.reading.take() {
            let _ = reading.join();
        }
    }
}

/// Plays the role that the environment names; returns at once if it names none.
///
/// A role that takes longer than the deadline is ended by SIGALRM.
pub fn run_role(roles: &[(&str, fn())]) {
    let Ok(role) = env::var(ROLE) else { return };
    // SAFETY: no memory is involved.
    unsafe {
        libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
        libc::alarm(DEADLINE.as_secs() as u32);
    }
    let Some((_, play)) = roles.iter().find(|(name, _)| *name == role) else {
        panic!("this file has no role {role}");
    };
    play();
}

/// Returns a variable that the starting process set.
pub fn variable(name: &str) -> String {
    env::var(name).unwrap_or_else(|_| panic!("the variable {name} is not set"))
}

/// Returns a variable that the starting process set, a number.
pub fn number_variable(name: &str) -> u64 {
    variable(name).parse().unwrap()
}

/// Says a line to the process that started this one.
pub fn say(line: &str) {
    let text = format!("{MARK}{line}\n");
    let mut stdout = std::io::stdout().lock();
    stdout.write_all(text.as_bytes()).unwrap();
    stdout.flush().unwrap();
}

/// Waits for a line from the process that started this one.
pub fn hear() -> String {
    let mut line = String::new();
    let bytes = std::io::stdin().lock().read_line(&mut line).unwrap();
    assert!(bytes > 0, "the process that started this one is gone");
    line.trim_end().to_owned()
}

/// A fresh directory with mode 0700 and a short path, removed when dropped.
pub struct Scratch {
    path: PathBuf,
}

/// Makes a fresh private directory.
pub fn scratch_dir() -> Scratch {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let number = COUNT.fetch_add(1, Ordering::Relaxed);
    let path = PathBuf::from(format!("/tmp/rw-{}-{number}", std::process::id()));
    // What a killed run with the same process id left.
    let _ = fs::remove_dir_all(&path);
    fs::DirBuilder::new().mode(0o700).create(&path).unwrap();
    Scratch { path }
}

impl Scratch {
    /// Returns the path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Returns the path as text, for `RINGWAY_DIR`.
    pub fn text(&self) -> &str {
        self.path.to_str().unwrap()
    }

    /// Returns the path of a socket in it, as the text that `bind` and `connect` take.
    pub fn socket(&self, name: &str) -> String {
        format!("{}/{name}.sock", self.path.display())
    }

    /// Returns the sorted names of what is in it.
    pub fn entries(&self) -> Vec<String> {
        let mut names: Vec<String> = fs::read_dir(&self.path)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
            .collect();
        names.sort();
        names
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.path);
    }
}

/// Ends the process with a message if it is not dropped before the deadline.
pub struct HangGuard {
    done: mpsc::Sender<()>,
}

/// Begins to watch over the test that holds the guard.
pub fn hang_guard() -> HangGuard {
    let test = thread::current().name().unwrap_or("a test").to_owned();
    let (done, ended) = mpsc::channel::<()>();
    thread::spawn(move || {
        if ended.recv_timeout(DEADLINE) == Err(RecvTimeoutError::Timeout) {
            eprintln!("{test} hangs: not done after {DEADLINE:?}; aborting");
            std::process::abort();
        }
    });
    HangGuard { done }
}

/// Fills message `number`: every byte follows from the number and its place.
pub fn fill(message: &mut [u8], number: u64) {
    for (index, chunk) in message.chunks_mut(8).enumerate() {
        let word = word_at(number, index).to_le_bytes();
        chunk.copy_from_slice(&word[..chunk.len()]);
    }
}

/// Returns message `number` with `len` bytes.
pub fn message(number: u64, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    fill(&mut bytes, number);
    bytes
}

/// Checks length and every byte of message `number`.
#[track_caller]
pub fn check(bytes: &[u8], number: u64, len: usize) {
    assert_eq!(bytes.len(), len, "length of message {number}");
    for (index, chunk) in bytes.chunks(8).enumerate() {
        let word = word_at(number, index).to_le_bytes();
        assert!(
            chunk == &word[..chunk.len()],
            "message {number} of {len} bytes is wrong near byte {}",
            8 * index
        );
    }
}

/// Returns a length from 0 to `max` that looks random and follows from the number; both ends are among the first.
pub fn mixed_len(number: u64, max: usize) -> usize {
    match number {
        0 => 0,
        1 => max,
        _ => (word_at(number, 1 << 20) >> 11) as usize % (max + 1),
    }
}

fn word_at(number: u64, index: usize) -> u64 {
    let word =
        (number + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ (index as u64).wrapping_mul(0xd6e8_feb8_6659_fd93);
    word ^ word >> 29
}

/// Returns how many descriptors this process has open.
pub fn descriptors() -> usize {
    // One of them is the directory itself.
    fs::read_dir("/proc/self/fd").unwrap().count() - 1
}

/// Returns a figure of `/proc/meminfo` in KiB.
pub fn meminfo_kib(name: &str) -> u64 {
    let text = fs::read_to_string("/proc/meminfo").unwrap();
    let line = text.lines().find(|line| line.split(':').next() == Some(name));
    line.unwrap().split_whitespace().nth(1).unwrap().parse().unwrap()
}

/// Returns the state letter of a process: `S` sleeps, `T` is stopped, `Z` is dead and not reaped.
pub fn process_state(pid: u32) -> char {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let after_name = &stat[stat.rfind(')').unwrap() + 2..];
    after_name.chars().next().unwrap()
}

/// Looks again and again until it is so.
#[track_caller]
pub fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    let begin = std::time::Instant::now();
    while !is_so() {
        assert!(begin.elapsed() < DEADLINE, "waited {DEADLINE:?} for this in vain: {what}");
        thread::yield_now();
    }
}

/// Names the calling thread for [`is_asleep`].
pub fn thread_id() -> u32 {
    rustix::thread::gettid().as_raw_nonzero().get() as u32
}

/// Says whether a thread of any process sleeps in the kernel.
pub fn is_asleep(pid: u32, thread: u32) -> bool {
    let Ok(stat) = fs::read_to_string(format!("/proc/{pid}/task/{thread}/stat")) else { return false };
    stat[stat.rfind(')').unwrap() + 2..].starts_with('S')
}

/// Starts a role that connects to a listener of ours, and returns it with our end.
///
/// The role finds the path of the listener in the variable `SOCKET`; see [`join`].
pub fn connected(
    role: &str,
    variables: &[(&str, &str)],
    config: &ringway::Config,
) -> (Peer, ringway::Connection) {
    let scratch = scratch_dir();
    let socket = scratch.socket("test");
    let mut listener = config.bind(&socket).unwrap();
    let mut all = vec![("SOCKET", socket.as_str())];
    all.extend_from_slice(variables);
    let peer = Peer::spawn(role, &all);
    let connection = listener.accept_timeout(DEADLINE).unwrap();
    (peer, connection)
}

/// Connects to the test that started this role; see [`connected`].
pub fn join(config: &ringway::Config) -> ringway::Connection {
    config.connect(&variable("SOCKET")).unwrap()
}

/// Runs `work` in a child made by fork; its panic, signal or hanging is ours.
///
/// To be called in a process whose other threads hold no lock that the child needs.
pub fn in_a_child(work: impl FnOnce()) {
    // SAFETY: the other threads hold no lock that the child needs (duty of the caller); the child ends in `_exit`.
    let pid = unsafe { libc::fork() };
    assert!(pid >= 0, "{}", std::io::Error::last_os_error());
    if pid == 0 {
        // SAFETY: no memory is involved.
        unsafe { libc::alarm(30) };
        let outcome = panic::catch_unwind(AssertUnwindSafe(work));
        // SAFETY: never returns; destructors of the parent's things must not run here.
        unsafe { libc::_exit(i32::from(outcome.is_err())) };
    }
    let mut status = 0;
    // SAFETY: `status` outlives the call.
    let waited = unsafe { libc::waitpid(pid, &raw mut status, 0) };
    assert_eq!(waited, pid);
    assert!(!libc::WIFSIGNALED(status), "the child was killed by signal {}", libc::WTERMSIG(status));
    assert_eq!(libc::WEXITSTATUS(status), 0, "the child panicked");
}
