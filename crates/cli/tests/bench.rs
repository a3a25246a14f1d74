//! The real `ringway bench`: every message arrives, rows have their fields, and wrong arguments are refused. No speeds.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use serde_json::Value;
use std::fs;
use std::io::Read;
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

/// Against hanging only; the program itself gives up before.
const DEADLINE: Duration = Duration::from_secs(120);

fn command(line: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ringway"));
    command.arg("bench").args(line.split_whitespace());
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn run(line: &str) -> Output {
    let mut child = command(line).spawn().unwrap();
    let (mut stdout, mut stderr) = (child.stdout.take().unwrap(), child.stderr.take().unwrap());
    let (done, wait) = mpsc::channel();
    thread::spawn(move || {
        let mut texts = (Vec::new(), Vec::new());
        stdout.read_to_end(&mut texts.0).unwrap();
        stderr.read_to_end(&mut texts.1).unwrap();
        let _ = done.send(texts);
    });
    let texts = wait.recv_timeout(DEADLINE);
    if texts.is_err() {
        child.kill().unwrap();
    }
    let (stdout, stderr) = texts.unwrap_or_else(|_| panic!("{line} hangs"));
    Output { status: child.wait().unwrap(), stdout, stderr }
}

/// Runs a short benchmark and returns its rows, which nothing else may stand between.
fn rows(line: &str) -> Vec<Value> {
    let output = run(&format!("{line} --runs 1 --json"));
    assert!(output.status.success(), "{line}: {}", String::from_utf8_lossy(&output.stderr));
    assert!(output.stderr.is_empty(), "{line}: {}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).unwrap();
    let rows: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    for row in &rows {
        for field in ["scenario", "transport", "commit", "rustc", "cpu", "kernel"] {
            assert!(row[field].as_str().is_some_and(|text| !text.is_empty()), "{field} of {row}");
        }
        assert!(row["runs"].as_u64().unwrap() >= 1 && row["cores"].as_u64().unwrap() >= 1, "{row}");
    }
    rows
}

/// Checks that all messages of a row arrived, and that some were sent.
fn check_whole(row: &Value) {
    let number = |field: &str| row[field].as_u64().unwrap_or_else(|| panic!("{field} of {row}"));
    assert!(number("sent") > 0, "{row}");
    assert_eq!(number("delivered"), number("sent"), "{row}");
    assert_eq!((number("lost"), number("corrupt")), (0, 0), "{row}");
    assert!(row["msgs_per_s"].as_f64().unwrap() > 0.0 && row["secs"].as_f64().unwrap() > 0.0, "{row}");
    assert!(row["cpu_s"].is_f64() && row["sleeps"].is_u64(), "{row}");
}

fn check_latencies(row: &Value) {
    let ns = |field: &str| row["ns"][field].as_u64().unwrap_or_else(|| panic!("{field} of {row}"));
    assert!(0 < ns("p50") && ns("p50") <= ns("p99") && ns("p99") <= ns("max"), "{row}");
    assert!(!row["histogram"].as_array().unwrap().is_empty(), "{row}");
    assert!(row["canary_ns_before"].as_f64().unwrap() > 0.0, "{row}");
    assert!(row["canary_ns_after"].as_f64().unwrap() > 0.0, "{row}");
}

fn names(rows: &[Value], field: &str) -> Vec<String> {
    rows.iter().map(|row| row[field].as_str().unwrap().to_owned()).collect()
}

#[test]
fn a_round_trip_has_latencies_and_loses_nothing() {
    for line in ["", "--wait spin --bytes 1024", "--wait sleep --clients 2", "--rate 2000", "--bytes 300000"]
    {
        let rows = rows(&format!("rtt --secs 0.05 {line}"));
        assert_eq!((rows.len(), names(&rows, "scenario")), (1, vec!["rtt".to_owned()]), "{line}");
        check_whole(&rows[0]);
        check_latencies(&rows[0]);
    }
}

#[test]
fn a_stream_arrives_whole_however_it_is_sent() {
    for line in ["", "--batch 16 --profile bulk", "--trust --bytes 65536", "--clients 2 --ring-bytes 16384"] {
        let rows = rows(&format!("stream --secs 0.05 {line}"));
        assert_eq!((rows.len(), rows[0]["ns"].is_null()), (1, true), "{line}");
        check_whole(&rows[0]);
    }
}

#[test]
fn a_count_is_kept_to_the_message() {
    for line in ["stream --count 1000", "stream --batch 16 --count 1000", "rtt --count 1000"] {
        assert_eq!(rows(line)[0]["delivered"].as_u64().unwrap() % 1000, 0, "{line}");
    }
}

#[test]
fn many_clients_reach_one_server() {
    let rows = rows("fanin --clients 3 --secs 0.05 --bytes 1024");
    assert_eq!(rows[0]["clients"], 3);
    check_whole(&rows[0]);
}

#[test]
fn sockets_and_pipes_do_the_same_work() {
    for (line, transports) in [
        ("uds", ["uds"].as_slice()),
        ("uds --work stream", &["uds", "uds-buffered"]),
        ("uds --work fanin --clients 3", &["uds", "uds-buffered"]),
        ("uds --work stream --bytes 100000", &["uds", "uds-buffered"]),
        ("pipe", &["pipe"]),
        ("pipe --work stream --bytes 1024", &["pipe"]),
    ] {
        let rows = rows(&format!("{line} --secs 0.05"));
        assert_eq!(names(&rows, "transport"), transports, "{line}");
        rows.iter().for_each(check_whole);
    }
}

#[test]
fn limits_need_no_messages() {
    let rows = rows("limit --secs 0.05 --rate 2000");
    assert_eq!(
        names(&rows, "transport"),
        ["cacheline", "cacheline", "memcpy", "crc32", "crc32", "futex", "socket"]
    );
    for row in &rows {
        assert!(row["msgs_per_s"].as_f64().unwrap() > 0.0 && row["sent"].is_null(), "{row}");
        assert_eq!(row["ns"].is_null(), row["transport"] == "memcpy" || row["transport"] == "crc32", "{row}");
    }
    assert_eq!((&rows[0]["rate"], &rows[1]["rate"]), (&Value::Null, &Value::from(2000)));
    check_latencies(&rows[1]);
    // No more are sent than are due; how many are is up to the machine.
    assert!(rows[1]["msgs_per_s"].as_f64().unwrap() <= 2000.0, "{}", rows[1]);
}

#[test]
fn connecting_has_a_row_for_the_connection_and_one_for_the_first_answer() {
    let rows = rows("connect --secs 0.05");
    assert_eq!(rows.len(), 2);
    assert_eq!((&rows[0]["work"], &rows[1]["work"]), (&Value::Null, &Value::from("first-answer")));
    rows.iter().for_each(|row| {
        check_whole(row);
        check_latencies(row);
    });
}

#[test]
fn memory_and_idleness_are_weighed() {
    let memory = rows("memory");
    for field in ["server_bytes", "connection_bytes"] {
        assert!(memory[0][field].as_u64().unwrap() > 0, "{}", memory[0]);
    }
    let idle = rows("idle --clients 2 --secs 0.05");
    assert!(idle[0]["cpu_s"].is_f64() && idle[0]["sleeps"].as_u64().is_some(), "{}", idle[0]);
}

#[test]
fn a_server_of_many_clients_answers_all_of_them() {
    let rows = rows("echo --clients 2 --depth 8 --secs 0.05");
    assert_eq!(names(&rows, "transport"), ["ringway", "rpc", "uds-buffered"]);
    for row in &rows {
        check_whole(row);
        assert_eq!((&row["clients"], &row["depth"]), (&Value::from(2), &Value::from(8)), "{row}");
    }
    assert_eq!((&rows[0]["workers"], &rows[2]["workers"]), (&Value::from(1), &Value::Null));
}

#[test]
fn a_call_is_measured_next_to_a_bare_round_trip() {
    let rows = rows("call --bytes 64 --secs 0.05");
    assert_eq!(names(&rows, "transport"), ["ringway", "rpc", "rpc"]);
    assert_eq!([&rows[1]["checksum"], &rows[2]["checksum"]], [&Value::from(true), &Value::from(false)]);
    for row in &rows {
        assert_eq!(row["work"], "rtt", "{row}");
        check_whole(row);
        check_latencies(row);
    }
}

#[test]
fn many_connections_share_a_few_processes() {
    let rows = rows("scale --clients 10 --processes 3 --secs 0.05");
    assert_eq!(names(&rows, "work"), ["fanin", "echo", "echo"]);
    for row in &rows {
        check_whole(row);
        let shape = ["clients", "processes", "connections_each"].map(|field| row[field].as_u64().unwrap());
        assert_eq!(shape, [10, 3, 4], "{row}");
    }
    check_whole(&self::rows("fanin --clients 3 --workers 2 --secs 0.05")[0]);
}

#[test]
fn one_connection_is_probed_while_the_others_are_idle() {
    let rows = rows("idle-probe --clients 12 --processes 3 --secs 0.05");
    assert_eq!(names(&rows, "work"), ["probe", "crowd"]);
    check_whole(&rows[0]);
    check_latencies(&rows[0]);
    assert!(rows[1]["cpu_s"].is_f64() && rows[1]["sleeps"].is_u64(), "{}", rows[1]);
    assert!(rows[1]["sent"].is_null() && rows[1]["clients"] == 12, "{}", rows[1]);
}

#[test]
fn clients_outlive_their_server() {
    let rows = rows("reconnect --clients 2 --count 2");
    let number = |field: &str| rows[0][field].as_u64().unwrap_or_else(|| panic!("{field} of {}", rows[0]));
    assert_eq!((number("lost"), number("corrupt")), (0, 0), "{}", rows[0]);
    assert_eq!(number("delivered") + number("failed"), number("sent"), "{}", rows[0]);
    let answers: u64 =
        rows[0]["histogram"].as_array().unwrap().iter().map(|step| step[1].as_u64().unwrap()).sum();
    assert_eq!(answers, 4, "each of two clients, after each of two restarts: {}", rows[0]);
}

/// Checks a row of a route or channel: every receiver has what all senders sent, or was told that it has not.
fn check_copies(row: &Value, senders: u64, receivers: u64, count: u64) {
    let number = |field: &str| row[field].as_u64().unwrap_or_else(|| panic!("{field} of {row}"));
    assert_eq!((number("senders"), number("receivers")), (senders, receivers), "{row}");
    assert_eq!(number("sent") + number("dropped"), count * number("runs"), "{row}");
    assert_eq!((number("lost"), number("corrupt")), (0, 0), "{row}");
    assert_eq!(number("delivered") + number("missed"), number("sent") * receivers, "{row}");
    let secs = |field: &str| row[field].as_f64().unwrap_or_else(|| panic!("{field} of {row}"));
    assert!(secs("secs") >= secs("sender_secs") && secs("sender_secs") > 0.0, "{row}");
    assert!(row["cpu_s"].is_f64() && secs("msgs_per_s") > 0.0, "{row}");
}

#[test]
fn every_receiver_of_a_route_has_every_message() {
    let one = rows("route --receivers 1 --count 5000");
    assert_eq!(names(&one, "transport"), ["ringway", "ringway", "uds-buffered"]);
    assert_eq!((&one[0]["work"], &one[1]["work"]), (&Value::Null, &Value::from("bare")));
    check_whole(&one[1]);
    check_copies(&one[0], 1, 1, 5000);
    check_copies(&one[2], 1, 1, 5000);
    let three = rows("route --receivers 3 --count 5000 --ring-bytes 16384");
    three.iter().for_each(|row| check_copies(row, 1, 3, 5000));
    assert_eq!((&three[0]["bytes_min"], &three[0]["bytes"]), (&Value::from(2), &Value::from(256)));
}

#[test]
fn every_receiver_of_a_channel_has_the_messages_of_all_senders() {
    for (senders, receivers) in [(1, 1), (3, 1), (2, 2)] {
        let line = format!("channel --senders {senders} --receivers {receivers} --count 5001 --bytes 16..90");
        check_copies(&rows(&line)[0], senders, receivers, 5001);
    }
}

#[test]
fn what_a_policy_costs_is_told_to_the_message() {
    for policy in ["block", "drop-newest", "overwrite", "disconnect"] {
        let line = format!("--count 20000 --ring-bytes 16384 --policy {policy}");
        let route = rows(&format!("route --receivers 2 {line}"));
        assert_eq!(route[0]["policy"], policy);
        check_copies(&route[0], 1, 2, 20_000);
        check_copies(&rows(&format!("channel --senders 2 --receivers 2 {line}"))[0], 2, 2, 20_000);
    }
}

#[cfg(feature = "grpc")]
#[test]
fn a_service_is_called_over_both() {
    let rows = rows("grpc --secs 0.05");
    assert_eq!(names(&rows, "transport"), ["tonic", "tonic-uds", "tonic", "tonic-uds"]);
    assert_eq!(names(&rows, "work"), ["rtt", "rtt", "stream", "stream"]);
    rows.iter().for_each(check_whole);
    rows[..2].iter().for_each(check_latencies);
}

#[test]
fn one_thread_sends_to_itself() {
    check_whole(&rows("same-thread --secs 0.05")[0]);
}

/// Starts a benchmark that takes long, and returns it with the numbers of its server and its client.
fn start_long() -> (Child, Vec<u32>) {
    let child = command("stream --secs 60 --runs 1 --json").spawn().unwrap();
    let list = format!("/proc/{0}/task/{0}/children", child.id());
    let until = Instant::now() + DEADLINE;
    let children = loop {
        let text = fs::read_to_string(&list).unwrap_or_default();
        let children: Vec<u32> = text.split_whitespace().map(|pid| pid.parse().unwrap()).collect();
        if children.len() == 2 {
            break children;
        }
        assert!(Instant::now() < until, "no children of the benchmark");
        thread::yield_now();
    };
    (child, children)
}

fn kill(pid: u32) {
    assert!(Command::new("kill").args(["-9", &pid.to_string()]).status().unwrap().success());
}

/// Waits until a process is gone, or is a zombie that nobody has waited for.
fn wait_until_gone(pid: u32) {
    let until = Instant::now() + DEADLINE;
    let is_there = || {
        fs::read_to_string(format!("/proc/{pid}/stat"))
            .is_ok_and(|stat| !stat.rsplit(')').next().unwrap().starts_with(" Z"))
    };
    while is_there() {
        assert!(Instant::now() < until, "process {pid} is left");
        thread::yield_now();
    }
}

fn directories_of(pid: u32) -> usize {
    let prefix = format!("ringway-bench-{pid}-");
    let of = |parent: &str| {
        fs::read_dir(parent).map_or(0, |entries| {
            let names = entries.flatten().map(|entry| entry.file_name());
            names.filter(|name| name.to_string_lossy().starts_with(&prefix)).count()
        })
    };
    of("/dev/shm") + of("/tmp")
}

#[test]
fn a_process_that_dies_is_an_error_and_leaves_nothing_behind() {
    for which in [0, 1] {
        let (child, children) = start_long();
        let pid = child.id();
        kill(children[which]);
        let output = child.wait_with_output().unwrap();
        let text = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{text}");
        assert!(text.contains("died") || text.contains("failed"), "{text}");
        children.into_iter().for_each(wait_until_gone);
        assert_eq!(directories_of(pid), 0);
    }
}

#[test]
fn nothing_is_left_of_a_benchmark_that_is_killed() {
    let (mut child, children) = start_long();
    let pid = child.id();
    kill(pid);
    child.wait().unwrap();
    children.into_iter().for_each(wait_until_gone);
    assert_eq!(directories_of(pid), 0);
}

#[test]
fn people_get_a_table() {
    let output = run("rtt --count 100 --runs 1");
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success() && text.contains("p50 ns") && text.contains("whole"), "{text}");
}

#[test]
fn arguments_that_contradict_each_other_are_a_usage_error() {
    for line in [
        "stream --rate 10",
        "pipe --work fanin",
        "rtt --pin 0,99999",
        "rtt --secs 1 --count 1",
        "rtt --depth 2",
        "rtt --bytes 2..256",
        "route --policy sometimes",
        "nothing",
    ] {
        let output = run(line);
        assert_eq!(output.status.code(), Some(2), "{line}");
        assert!(output.stdout.is_empty(), "{line}");
        assert!(String::from_utf8_lossy(&output.stderr).starts_with("error: "), "{line}");
    }
}
