//! The real program: what it prints, its exit codes, and what happens when its processes are killed.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use serde_json::Value;
use std::io::{BufRead, BufReader, Read};
use std::process::{Child, ChildStderr, Command, Output, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

/// Against hanging only.
const DEADLINE: Duration = Duration::from_secs(120);

fn ringway(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ringway"));
    command.args(args).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// Kills the process unless it is told in time that it has ended.
struct Watchdog {
    done: mpsc::Sender<()>,
}

impl Watchdog {
    fn over(child: &Child) -> Self {
        let pid = child.id();
        let (done, wait) = mpsc::channel();
        thread::spawn(move || {
            if wait.recv_timeout(DEADLINE) == Err(mpsc::RecvTimeoutError::Timeout) {
                kill(pid);
            }
        });
        Self { done }
    }

    fn output(self, child: Child) -> Output {
        let output = child.wait_with_output().unwrap();
        drop(self.done);
        assert!(output.status.code().is_some(), "hung, and was killed");
        output
    }
}

fn kill(pid: u32) {
    let status = Command::new("kill").args(["-9", &pid.to_string()]).status().unwrap();
    assert!(status.success(), "kill -9 {pid}");
}

fn run(args: &[&str]) -> Output {
    let child = ringway(args).spawn().unwrap();
    Watchdog::over(&child).output(child)
}

fn rows(stdout: &[u8]) -> Vec<Value> {
    let text = String::from_utf8(stdout.to_vec()).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn number(row: &Value, field: &str) -> u64 {
    row[field].as_u64().unwrap_or_else(|| panic!("{field} of {row}"))
}

/// In the last two rounds, if there is more than one, a client is killed on purpose, and then started again.
fn killed_by_the_demo(row: &Value, clients: u64) -> u64 {
    let is_last = row["work"] == "pipeline" || row["work"] == "route";
    u64::from(clients > 1 && row["transport"] == "ringway" && is_last)
}

fn check_whole(output: &Output, clients: u64, bytes: u64) {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let rows = rows(&output.stdout);
    let names: Vec<_> =
        rows.iter().map(|row| (row["transport"].as_str().unwrap(), row["work"].as_str().unwrap())).collect();
    let works = ["stream", "call", "pipeline", "parts", "route"];
    let mut expected = works.map(|work| [("ringway", work), ("uds", work)]).concat();
    expected.extend((clients > 1).then_some(("ringway", "channel")));
    assert_eq!(names, expected);
    for row in &rows {
        assert_eq!(number(row, "killed"), killed_by_the_demo(row, clients), "{row}");
        assert_eq!((number(row, "clients"), number(row, "bytes")), (clients, bytes));
        assert!(number(row, "sent") > 0, "{row}");
        assert_eq!(number(row, "delivered"), number(row, "sent"), "{row}");
        for field in ["lost", "corrupt", "out_of_order"] {
            assert_eq!(number(row, field), 0, "{row}");
        }
        let one_way = ["stream", "route", "channel"].contains(&row["work"].as_str().unwrap());
        assert_eq!(row["ns"].is_object(), !one_way, "{row}");
        let spreads = ["route", "channel"].contains(&row["work"].as_str().unwrap());
        assert_eq!(row["missed"].is_u64(), spreads, "{row}");
        assert!(row["msgs_per_s"].as_f64().unwrap() > 0.0, "{row}");
        assert!(row["kernel"].is_string() && row["cpu"].is_string() && row["cores"].is_u64(), "{row}");
    }
}

#[test]
fn everything_that_was_sent_is_delivered() {
    check_whole(&run(&["demo", "--clients", "3", "--bytes", "64", "--secs", "1", "--json"]), 3, 64);
}

#[test]
fn messages_that_travel_in_fragments_are_delivered_whole() {
    check_whole(&run(&["demo", "--clients", "2", "--bytes", "400000", "--secs", "1", "--json"]), 2, 400_000);
}

#[test]
fn the_bulk_profile_and_the_shortest_message_work() {
    let args = ["demo", "--clients", "1", "--bytes", "16", "--secs", "1", "--json", "--profile", "bulk"];
    check_whole(&run(&args), 1, 16);
}

/// Starts a demo and waits until the clients of round `round` were told to go; returns the pids, the server's first.
fn start(args: &[&str], round: &str) -> (Child, Watchdog, Vec<u32>, BufReader<ChildStderr>) {
    let mut child = ringway(args).spawn().unwrap();
    let watchdog = Watchdog::over(&child);
    let mut stderr = BufReader::new(child.stderr.take().unwrap());
    let mut line = String::new();
    stderr.read_line(&mut line).unwrap();
    let pids = pids_in(&line);
    while line.trim_end() != format!("{round} ...") {
        line.clear();
        assert!(stderr.read_line(&mut line).unwrap() > 0, "the demo ended before {round}");
    }
    (child, watchdog, pids, stderr)
}

/// Returns the pids in the first line that a demo writes to stderr, the server's first.
fn pids_in(line: &str) -> Vec<u32> {
    assert!(line.starts_with("server: pid "), "{line}");
    line.split(|c: char| !c.is_ascii_digit()).filter_map(|word| word.parse().ok()).collect()
}

/// The rows of results, in the order in which their rounds are played.
const PLAYED: [usize; 11] = [0, 1, 2, 3, 6, 7, 5, 9, 10, 4, 8];

fn check_client_death(round: &str, row: usize) {
    let args = ["demo", "--clients", "3", "--bytes", "256", "--secs", "3", "--json"];
    let (child, watchdog, pids, mut stderr) = start(&args, round);
    assert_eq!(pids.len(), 4);
    kill(pids[2]);
    let output = watchdog.output(child);
    let mut told = String::new();
    stderr.read_to_string(&mut told).unwrap();
    assert_eq!(output.status.code(), Some(0), "{told}");
    assert!(told.contains(&format!("client 2 (pid {}) died during the {round}; ", pids[2])), "{told}");
    assert!(told.contains("the other 2 went on"), "{told}");
    assert!(told.contains("died during the ringway pipelined calls; "), "{told}");
    let when = |row: usize| PLAYED.iter().position(|played| *played == row).unwrap();
    for (index, result) in rows(&output.stdout).iter().enumerate() {
        let clients = if when(index) > when(row) { 2 } else { 3 };
        assert_eq!(number(result, "clients"), clients, "{result}");
        let killed = u64::from(index == row) + killed_by_the_demo(result, clients);
        assert_eq!(number(result, "killed"), killed, "{result}");
        assert_eq!((number(result, "lost"), number(result, "corrupt")), (0, 0), "{result}");
        assert!(number(result, "delivered") > 0, "{result}");
    }
}

#[test]
fn a_killed_client_of_ringway_is_reported_and_the_others_go_on() {
    check_client_death("ringway stream", 0);
}

#[test]
fn a_killed_client_of_the_unix_socket_is_reported_and_the_others_go_on() {
    check_client_death("Unix socket stream", 1);
}

#[test]
fn a_client_killed_between_request_and_answer_is_reported_and_the_others_go_on() {
    check_client_death("ringway request/answer", 2);
}

#[test]
fn a_killed_receiver_of_a_route_is_reported_and_the_others_go_on() {
    check_client_death("Unix socket one to many", 9);
}

#[test]
fn a_killed_member_of_a_channel_is_reported_and_the_others_go_on() {
    check_client_death("ringway many to many", 10);
}

#[test]
fn a_receiver_that_is_stopped_holds_nobody_up_and_is_told_what_it_missed() {
    let args = ["demo", "--clients", "3", "--bytes", "64", "--secs", "6", "--json"];
    let output = run(&args);
    let told = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{told}");
    assert!(told.contains("(kill -STOP ") && told.contains("(kill -CONT "), "{told}");
    assert!(
        told.contains(" was stopped; it held the others up for 125 ms, was cut off and told so"),
        "{told}"
    );
    let rows = rows(&output.stdout);
    let route = rows.iter().find(|row| row["transport"] == "ringway" && row["work"] == "route").unwrap();
    assert!(number(route, "missed") > 0, "{route}");
    assert_eq!((number(route, "lost"), number(route, "killed")), (0, 1), "{route}");
}

#[test]
fn a_killed_server_is_an_error_and_no_hang() {
    for round in [
        "ringway stream",
        "Unix socket stream",
        "ringway request/answer",
        "ringway answers in parts",
        "Unix socket one to many",
        "ringway one to many",
    ] {
        let args = ["demo", "--clients", "2", "--secs", "3", "--json"];
        let (child, watchdog, pids, mut stderr) = start(&args, round);
        kill(pids[0]);
        let output = watchdog.output(child);
        let mut told = String::new();
        stderr.read_to_string(&mut told).unwrap();
        assert_eq!(output.status.code(), Some(1), "{told}");
        assert!(told.contains(&format!("the server (pid {}) died during the {round}", pids[0])), "{told}");
        assert_eq!(output.stdout, b"");
    }
}

/// Says whether a process exists that has not ended. A zombie has ended: who reaps it is not our business.
fn is_running(pid: u32) -> bool {
    let output = Command::new("ps").args(["-o", "stat=", "-p", &pid.to_string()]).output().unwrap();
    let state = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    !state.is_empty() && !state.starts_with('Z')
}

#[test]
fn nothing_is_left_behind_whoever_is_killed() {
    let own = std::env::temp_dir().join(format!("ringway-cli-test-{}", std::process::id()));
    std::fs::create_dir(&own).unwrap();
    let mut child = ringway(&["demo", "--clients", "2", "--secs", "20"]).env("TMPDIR", &own).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(child.stderr.take().unwrap()).read_line(&mut line).unwrap();
    let pids = pids_in(&line);
    assert_eq!(pids.len(), 3, "{line}");
    assert_eq!(std::fs::read_dir(&own).unwrap().count(), 1);
    // The orchestrator cannot clear up; its children do.
    child.kill().unwrap();
    child.wait().unwrap();
    let until = std::time::Instant::now() + DEADLINE;
    while pids.iter().any(|pid| is_running(*pid)) || std::fs::read_dir(&own).unwrap().count() > 0 {
        assert!(
            std::time::Instant::now() < until,
            "{:?}",
            std::fs::read_dir(&own).unwrap().collect::<Vec<_>>()
        );
        thread::yield_now();
    }
    std::fs::remove_dir(&own).unwrap();
}

#[test]
fn arguments_that_make_no_sense_are_refused() {
    let wrong: [&[&str]; 6] = [
        &["demo", "--bytes", "15"],
        &["demo", "--bytes", "67108865"],
        &["demo", "--clients", "0"],
        &["demo", "--secs", "0"],
        &["demo", "--nonsense"],
        &["dance"],
    ];
    for args in wrong {
        let output = run(args);
        assert_eq!(output.status.code(), Some(2), "{args:?}");
        assert!(!output.stderr.is_empty(), "{args:?}");
    }
    let output = run(&["--version"]);
    assert!(output.status.success());
    assert!(String::from_utf8_lossy(&output.stdout).starts_with("ringway "));
}

#[test]
fn a_reader_that_stops_reading_is_no_reason_to_panic() {
    for json in [&["--json"][..], &[]] {
        let args = [&["demo", "--clients", "1", "--secs", "1"][..], json].concat();
        let mut child = ringway(&args).spawn().unwrap();
        let watchdog = Watchdog::over(&child);
        drop(child.stdout.take());
        let output = watchdog.output(child);
        let told = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(0), "{told}");
        assert!(!told.contains("panicked"), "{told}");
    }
}
