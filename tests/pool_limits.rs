//! How much the clients of a pool may have, and what happens when the process may not have as much.
#![allow(clippy::unwrap_used, reason = "what fails in a test may panic")]

mod common;

use common::{DEADLINE, Peer, check, descriptors, hang_guard, hear, message, say, scratch_dir, wait_until};
use ringway::{
    BindError, Config, ConfigError, ConnectError, Connection, Event, Handler, Member, Pool, Refusal, Shutdown,
};

#[test]
fn peer_process() {
    common::run_role(&[
        ("as_user", role_as_user),
        ("few_descriptors", role_few_descriptors),
        ("promised", role_promised),
        ("warm", role_warm),
        ("crowd", role_crowd),
    ]);
}

/// Sends back what comes.
struct Echo;

impl Handler for Echo {
    fn on_event(&mut self, member: &mut Member, event: Event<'_>) {
        if let Event::Message(bytes) = event {
            member.sender().try_send(bytes).unwrap();
        }
    }
}

fn serve(config: &Config, socket: &str) -> Pool {
    Pool::builder(config.bind(socket).unwrap()).workers(2).serve(|_| Echo).unwrap()
}

/// The rings of a connection have 64 KiB at this side and 16 KiB at the other.
const BOTH_RINGS: u64 = 80 << 10;

fn config() -> Config {
    Config::new().ring_bytes(64 << 10)
}

fn connect(socket: &str) -> Result<Connection, ConnectError> {
    Config::new().ring_bytes(16 << 10).connect(socket)
}

#[track_caller]
fn must_talk(connection: &mut Connection) {
    connection.send(&message(7, 100)).unwrap();
    check(&connection.recv_timeout(DEADLINE).unwrap(), 7, 100);
}

#[track_caller]
fn must_be_refused(outcome: Result<Connection, ConnectError>) {
    let error = outcome.map(drop).unwrap_err();
    assert!(matches!(error, ConnectError::Refused(Refusal::Limit)), "{error:?}");
}

#[test]
fn connections_beyond_a_limit_are_refused_and_come_in_when_others_leave() {
    let _guard = hang_guard();
    for config in [
        config().connections_max(2),
        config().connections_per_uid_max(2),
        config().memory_bytes_max(2 * BOTH_RINGS),
        config().memory_bytes_max(3 * BOTH_RINGS - 1),
        config().memory_bytes_per_uid_max(2 * BOTH_RINGS),
    ] {
        let scratch = scratch_dir();
        let socket = scratch.socket("test");
        let pool = serve(&config, &socket);
        let first = connect(&socket).unwrap();
        let mut second = connect(&socket).unwrap();
        must_be_refused(connect(&socket));
        wait_until("it was counted", || pool.stats().refused == 1);
        must_talk(&mut second);
        drop(first);
        wait_until("the first has left", || pool.connections() == 1);
        must_talk(&mut connect(&socket).unwrap());
    }
}

#[test]
fn a_larger_ring_of_the_peer_counts_too() {
    let _guard = hang_guard();
    let scratch = scratch_dir();
    let socket = scratch.socket("test");
    let pool = serve(&config().memory_bytes_max(2 * BOTH_RINGS), &socket);
    must_be_refused(Config::new().ring_bytes(128 << 10).connect(&socket));
    must_talk(&mut connect(&socket).unwrap());
    assert_eq!(pool.stats().accepted, 1);
}

#[test]
fn the_limit_of_one_user_does_not_keep_another_out() {
    let _guard = hang_guard();
    // SAFETY: no preconditions.
    if unsafe { libc::geteuid() } != 0 {
        return println!("skipped, since only root can become another user");
    }
    for limited in [config().memory_bytes_per_uid_max(BOTH_RINGS), config().connections_per_uid_max(1)]
        .map(|c| c.allow_uid(1))
    {
        let scratch = scratch_dir();
        let socket = scratch.socket("test");
        let pool = serve(&limited, &socket);
        let mut own = connect(&socket).unwrap();
        must_be_refused(connect(&socket));
        let mut other = Peer::spawn("as_user", &[("SOCKET", &socket)]);
        other.expect_line("welcome");
        other.expect_line("Refused(Limit)");
        must_talk(&mut own);
        assert_eq!(pool.connections(), 2);
        other.send_line("end");
    }
}

/// Connects twice as user 1.
fn role_as_user() {
    // SAFETY: numbers only.
    unsafe { assert_eq!((libc::setresgid(1, 1, 1), libc::setresuid(1, 1, 1)), (0, 0)) };
    let config = Config::new().ring_bytes(16 << 10).allow_uid(0);
    let mut kept = Vec::new();
    for _ in 0..2 {
        match config.connect(&common::variable("SOCKET")) {
            Ok(mut connection) => {
                must_talk(&mut connection);
                kept.push(connection);
                say("welcome");
            }
            Err(error) => say(&format!("{error:?}")),
        }
    }
    hear();
}

fn limit_descriptors(soft: u64, hard: u64) {
    let limit = libc::rlimit { rlim_cur: soft, rlim_max: hard };
    // SAFETY: the limit outlives the call.
    assert_eq!(unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &limit) }, 0);
}

#[test]
fn descriptors_that_do_not_suffice_are_an_error_for_what_was_asked_for_alone() {
    let _guard = hang_guard();
    Peer::spawn("few_descriptors", &[]).finish();
}

fn role_few_descriptors() {
    let scratch = scratch_dir();
    let socket = scratch.socket("test");
    limit_descriptors(300, 700);
    let error = config().connections_max(1000).bind(&socket).map(drop).unwrap_err();
    let BindError::Descriptors { connections_max: 1000, needed: 4257, limit: 700 } = error else {
        panic!("{error:?}")
    };
    let text = error.to_string();
    assert!(["1000", "4257", "700", "ulimit"].iter().all(|word| text.contains(word)), "{text}");
    // The default is as much as there is.
    must_talk(&mut {
        let pool = serve(&config(), &socket);
        let connection = connect(&socket).unwrap();
        assert_eq!(ringway::raise_descriptor_limit().unwrap(), (700, 700), "raised already");
        std::mem::forget(pool);
        connection
    });
    let error = config().memory_bytes_max(64 << 10).bind(&scratch.socket("other")).map(drop).unwrap_err();
    assert!(matches!(error, BindError::Config(ConfigError::MemoryBytes { .. })), "{error:?}");
}

#[test]
fn a_process_with_few_descriptors_serves_as_many_connections_as_it_promised() {
    let _guard = hang_guard();
    Peer::spawn("promised", &[]).finish();
}

fn role_promised() {
    let scratch = scratch_dir();
    let socket = scratch.socket("test");
    limit_descriptors(400, 400);
    let promised = (400 - 257) / 4;
    let pool = serve(&config(), &socket);
    let before = descriptors();
    let mut crowd = Peer::spawn("crowd", &[("SOCKET", &socket)]);
    assert_eq!(crowd.next_number(), promised, "then comes a refusal");
    // Two are the pipes of the process that plays the crowd.
    let each = (descriptors() - before - 2) as u64 / promised;
    assert!(each <= 4, "{each} descriptors for each connection");
    assert_eq!(pool.connections() as u64, promised);
    crowd.send_line("end");
    crowd.finish();
    wait_until("all have left", || pool.connections() == 0);
    assert_eq!(pool.shutdown(DEADLINE), Shutdown::Complete);
}

/// Connects until it is refused, and says how often that went well.
fn role_crowd() {
    let mut connections = Vec::new();
    let error = loop {
        match connect(&common::variable("SOCKET")) {
            Ok(mut connection) => {
                must_talk(&mut connection);
                connections.push(connection);
            }
            Err(error) => break error,
        }
    };
    must_be_refused(Err(error));
    say(&connections.len().to_string());
    hear();
}

#[test]
fn segments_are_made_ahead_while_nobody_comes_and_not_more_than_asked_for() {
    let _guard = hang_guard();
    Peer::spawn("warm", &[]).finish();
}

/// Returns how much shared memory this process has touched.
fn own_shared_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("RssShmem:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

fn role_warm() {
    let scratch = scratch_dir();
    let base = {
        let none = serve(&config().warm_segments(0), &scratch.socket("none"));
        must_talk(&mut connect(&scratch.socket("none")).unwrap());
        wait_until("it has left", || none.connections() == 0);
        descriptors()
    };
    let socket = scratch.socket("test");
    let warm = config().ring_bytes(4 << 20).warm_segments(8).prefault(true);
    let pool = serve(&warm, &socket);
    // Eight files: each is one descriptor; no more than that while nobody comes.
    wait_until("they are made", || descriptors() >= base + 8);
    wait_until("their memory is there", || own_shared_kib() >= 8 * 4096);
    let mut connections: Vec<_> = (0..20).map(|_| connect(&socket).unwrap()).collect();
    connections.iter_mut().for_each(must_talk);
    drop(connections);
    wait_until("all have left", || pool.connections() == 0);
    wait_until("they are made again", || descriptors() == base + 8);
}
