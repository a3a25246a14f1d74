//! Processes with a directory of their own and a deadline.

use serde_json::Value;
use std::fs::{self, DirBuilder};
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{self, Receiver};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// Against hanging only.
pub const DEADLINE: Duration = Duration::from_secs(30);

/// A private directory for names; removed in the end.
pub struct Scratch {
    path: PathBuf,
}

pub fn scratch() -> Scratch {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    let path = std::env::temp_dir().join(format!("rw-everyday-{}-{count}", std::process::id()));
    DirBuilder::new().mode(0o700).create(&path).unwrap();
    Scratch { path }
}

impl Scratch {
    pub fn path(&self) -> &Path {
        &self.path
    }

    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_ringway"));
        command.args(args).env("RINGWAY_DIR", &self.path).env_remove("XDG_RUNTIME_DIR");
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    /// Starts a process whose output is collected.
    pub fn start(&self, args: &[&str], input: Option<&[u8]>) -> Running {
        let mut running = self.start_open(args);
        match input {
            None => running.close_input(),
            Some(input) => running.feed(input.to_vec(), true),
        }
        running.collect();
        running
    }

    /// Starts a process whose input is open and whose output nobody reads yet.
    pub fn start_open(&self, args: &[&str]) -> Running {
        let mut child = self.command(args).stdin(Stdio::piped()).spawn().unwrap();
        let (stderr, lines) = collect_lines(child.stderr.take().unwrap());
        Running { child, args: args.join(" "), stdout: None, stderr: Some(stderr), lines }
    }

    pub fn run(&self, args: &[&str], input: &[u8]) -> Outcome {
        self.start(args, Some(input)).wait()
    }

    /// Waits until somebody listens under this name.
    pub fn wait_for_name(&self, name: &str) {
        wait_until(&format!("{name} is bound"), || self.path.join(format!("{name}.sock")).exists());
    }

    /// What lies in the directory.
    pub fn names(&self) -> Vec<String> {
        let entries = fs::read_dir(&self.path).unwrap();
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.path);
    }
}

/// A process; killed if it is still there in the end.
pub struct Running {
    child: Child,
    args: String,
    stdout: Option<JoinHandle<Vec<u8>>>,
    stderr: Option<JoinHandle<Vec<u8>>>,
    lines: Receiver<String>,
}

/// What a process left behind.
pub struct Outcome {
    pub code: Option<i32>,
    pub stdout: Vec<u8>,
    pub stderr: String,
}

impl Outcome {
    /// Fails with what the process said unless it ended with this code.
    #[track_caller]
    pub fn expect(self, code: i32) -> Self {
        assert_eq!(self.code, Some(code), "stderr: {}", self.stderr);
        assert!(!self.stderr.contains("panicked at"), "{}", self.stderr);
        self
    }

    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.stdout).unwrap()
    }
}

impl Running {
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    pub fn close_input(&mut self) {
        drop(self.child.stdin.take());
    }

    /// Writes input from a thread of its own; a process that ends early does not read all.
    pub fn feed(&mut self, input: Vec<u8>, close: bool) {
        let mut stdin = self.child.stdin.take().unwrap();
        if !close {
            stdin.write_all(&input).unwrap();
            self.child.stdin = Some(stdin);
            return;
        }
        thread::spawn(move || drop(stdin.write_all(&input)));
    }

    /// Reads exactly so many bytes of the output.
    pub fn read(&mut self, bytes: usize) -> Vec<u8> {
        let mut stdout = self.child.stdout.take().unwrap();
        let reader = thread::spawn(move || {
            let mut buffer = vec![0; bytes];
            stdout.read_exact(&mut buffer).unwrap();
            (stdout, buffer)
        });
        wait_until("output comes", || reader.is_finished());
        let (stdout, buffer) = reader.join().unwrap();
        self.child.stdout = Some(stdout);
        buffer
    }

    /// Waits for the next line on stderr.
    #[track_caller]
    pub fn read_line_of_stderr(&mut self) -> String {
        self.lines.recv_timeout(DEADLINE).unwrap()
    }

    pub fn close_output(&mut self) {
        drop(self.child.stdout.take());
    }

    /// Reads the rest of the output in a thread of its own.
    pub fn collect(&mut self) {
        self.stdout = self.child.stdout.take().map(collect);
    }

    pub fn signal(&self, name: &str) {
        let status =
            Command::new("kill").args([&format!("-{name}"), &self.id().to_string()]).status().unwrap();
        assert!(status.success());
    }

    pub fn is_running(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    pub fn wait(mut self) -> Outcome {
        let until = Instant::now() + DEADLINE;
        while self.is_running() {
            if Instant::now() > until {
                let _ = self.child.kill();
                let stderr = self.stderr.take().unwrap().join().unwrap();
                panic!("ringway {} hung; it said: {}", self.args, String::from_utf8_lossy(&stderr));
            }
            thread::sleep(Duration::from_millis(2));
        }
        let code = self.child.wait().unwrap().code();
        let stdout = self.stdout.take().map(|thread| thread.join().unwrap()).unwrap_or_default();
        let stderr = String::from_utf8(self.stderr.take().unwrap().join().unwrap()).unwrap();
        Outcome { code, stdout, stderr }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// `ringway serve`, with JSON on stderr.
pub struct Serving {
    running: Running,
}

impl Scratch {
    pub fn serve(&self, name: &str, args: &[&str]) -> Serving {
        let running = self.start(&[&["serve", name, "--json"], args].concat(), None);
        self.wait_for_name(name);
        Serving { running }
    }
}

impl Serving {
    pub fn signal(&self, name: &str) {
        self.running.signal(name);
    }

    pub fn wait(self) -> Outcome {
        self.running.wait()
    }

    /// Ends it gracefully and returns what it said last.
    #[track_caller]
    pub fn stop(self) -> Value {
        self.signal("TERM");
        self.wait().expect(0).last_event()
    }
}

impl Outcome {
    /// The last line on stderr.
    #[track_caller]
    pub fn last_event(&self) -> Value {
        serde_json::from_str(self.stderr.lines().last().unwrap()).unwrap()
    }
}

/// Reads everything, and hands out each line as it comes.
fn collect_lines(from: impl Read + Send + 'static) -> (JoinHandle<Vec<u8>>, Receiver<String>) {
    let (lines, receiver) = mpsc::channel();
    let thread = thread::spawn(move || {
        let (mut from, mut all) = (BufReader::new(from), Vec::new());
        let mut start = 0;
        while from.read_until(b'\n', &mut all).unwrap() > 0 {
            let _ = lines.send(String::from_utf8_lossy(&all[start..]).into_owned());
            start = all.len();
        }
        all
    });
    (thread, receiver)
}

fn collect(mut from: impl Read + Send + 'static) -> JoinHandle<Vec<u8>> {
    thread::spawn(move || {
        let mut all = Vec::new();
        from.read_to_end(&mut all).unwrap();
        all
    })
}

#[track_caller]
pub fn wait_until(what: &str, mut holds: impl FnMut() -> bool) {
    let until = Instant::now() + DEADLINE;
    while !holds() {
        assert!(Instant::now() < until, "waited in vain until {what}");
        thread::sleep(Duration::from_millis(2));
    }
}

/// Bytes that follow from nothing but the seed.
pub fn noise(bytes: usize, seed: u64) -> Vec<u8> {
    let mut state = seed | 1;
    let word = || {
        // xorshift64
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    };
    std::iter::repeat_with(word).take(bytes.div_ceil(8)).flatten().take(bytes).collect()
}

pub fn frames(messages: &[&[u8]]) -> Vec<u8> {
    messages
        .iter()
        .flat_map(|message| [&u32::try_from(message.len()).unwrap().to_le_bytes(), *message].concat())
        .collect()
}
