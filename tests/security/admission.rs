//! Threats 10, 11 and 12: how many, with what descriptors, and as whom.

use super::support::{
    self, DESCRIPTORS, Hello, Memory, NOT_ALLOWED, RING, RING_BYTES, Raw, SEALS, Turned, await_status,
    become_user, status,
};
use super::{check_that_it_serves, server};
use crate::common::{self, Peer, hang_guard};
use ringway::{Config, ConnectError};
use std::fs::{File, Permissions};
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};

/// Says hello with these descriptors, and returns how it was turned down.
fn hello_with(socket: &str, files: &[RawFd]) -> Option<Turned> {
    let stream = support::open(socket);
    support::send_files(stream.as_raw_fd(), &Hello::client(RING_BYTES).0, files).unwrap();
    support::answer_of(&stream).err()
}

#[test]
fn any_other_number_of_descriptors_is_refused_and_none_of_them_stays() {
    let _guard = hang_guard();
    let (_scratch, mut server, socket) = server(&[]);
    let before = status(&mut server);
    let own = Memory::connection(RING_BYTES);
    for count in [0, 1, 3, 7, 8, 9, 10, 64, 253] {
        let turned = hello_with(&socket, &vec![own.file.as_raw_fd(); count]);
        assert_eq!(turned, Some(DESCRIPTORS), "{count} descriptors");
        let after = await_status(&mut server, |now| now.files <= before.files);
        assert_eq!(after.files, before.files, "{count} descriptors");
    }
    check_that_it_serves(&socket);
}

#[test]
fn descriptors_spread_over_the_pieces_of_a_hello_are_counted_together() {
    let _guard = hang_guard();
    let (_scratch, mut server, socket) = server(&[]);
    let before = status(&mut server);
    let own = Memory::connection(RING_BYTES);
    let hello = Hello::client(RING_BYTES).0;
    for (each, pieces) in [(1, 128), (8, 128), (3, 2), (253, 16), (1, 3)] {
        let stream = support::open(&socket);
        let piece_bytes = 128 / pieces;
        for (number, piece) in hello.chunks(piece_bytes).enumerate() {
            let files = vec![own.file.as_raw_fd(); if number < pieces { each } else { 0 }];
            // The listener may have hung up already.
            if support::send_files(stream.as_raw_fd(), piece, &files).is_err() {
                break;
            }
        }
        let turned = support::answer_of(&stream).err();
        assert!(matches!(turned, Some(DESCRIPTORS | Turned::Away)), "{each} x {pieces}: {turned:?}");
        await_status(&mut server, |now| now.files == before.files);
    }
    check_that_it_serves(&socket);
}

#[test]
fn descriptors_of_other_kinds_are_refused_and_closed() {
    let _guard = hang_guard();
    let (scratch, mut server, socket) = server(&[]);
    let before = status(&mut server);
    let bytes = RING + RING_BYTES as usize;
    let own = Memory::connection(RING_BYTES);
    let (space, _kept) = UnixStream::pair().unwrap();
    let unsealed = |seals| Memory::create(bytes, &support::connection_words(RING_BYTES), seals).file_copy();
    let file = File::create_new(scratch.path().join("plain")).unwrap();
    file.set_len(bytes as u64).unwrap();
    let (pipe, _pipe_end) = std::io::pipe().unwrap();
    let (datagram, _) = UnixDatagram::pair().unwrap();
    let waiting = UnixListener::bind(scratch.path().join("waiting")).unwrap();
    let short = Memory::create(bytes - 4096, &support::connection_words(RING_BYTES), SEALS);
    let long = Memory::create(bytes + 4096, &support::connection_words(RING_BYTES), SEALS);
    let path = support::open_path(scratch.text());
    let segments: Vec<(&str, OwnedFd)> = vec![
        ("memory without seals", unsealed(0)),
        ("memory that may shrink", unsealed(0x1 | 0x4 | 0x10)),
        ("memory that may grow", unsealed(0x1 | 0x2 | 0x10)),
        ("memory that others may write", unsealed(0x1 | 0x2 | 0x4)),
        ("memory whose seals may change", unsealed(0x2 | 0x4 | 0x10)),
        ("memory that is too short", short.file_copy()),
        ("memory that is too long", long.file_copy()),
        ("a file", file.into()),
        ("a pipe", pipe.into()),
        ("/dev/zero", File::options().read(true).write(true).open("/dev/zero").unwrap().into()),
        ("a directory", File::open(scratch.path()).unwrap().into()),
        ("a path", path),
        ("a socket", space.try_clone().unwrap().into()),
    ];
    for (name, segment) in &segments {
        assert_eq!(
            hello_with(&socket, &[segment.as_raw_fd(), space.as_raw_fd()]),
            Some(DESCRIPTORS),
            "{name}"
        );
    }
    let bells: [(&str, RawFd); 4] = [
        ("a segment", own.file.as_raw_fd()),
        ("a datagram socket", datagram.as_raw_fd()),
        ("a listening socket", waiting.as_raw_fd()),
        ("/dev/zero", segments[9].1.as_raw_fd()),
    ];
    for (name, bell) in bells {
        assert_eq!(
            hello_with(&socket, &[own.file.as_raw_fd(), bell]),
            Some(DESCRIPTORS),
            "{name} as doorbell"
        );
    }
    assert_eq!(hello_with(&socket, &[space.as_raw_fd(), own.file.as_raw_fd()]), Some(DESCRIPTORS), "swapped");
    let after = await_status(&mut server, |now| now.files == before.files);
    assert_eq!(after.refused - before.refused, segments.len() as u64 + 5);
    check_that_it_serves(&socket);
}

#[test]
fn a_descriptor_that_is_slow_to_close_holds_nobody_up() {
    let _guard = hang_guard();
    let (_scratch, _server, socket) = server(&[]);
    let admitted = Raw::connect(&socket);
    let own = Memory::connection(RING_BYTES);
    for way in ["in a hello", "beside a doorbell", "beside a space doorbell"] {
        let (slow, _idle) = support::slow_to_close().unwrap();
        let stream = support::open(&socket);
        let start = std::time::Instant::now();
        let sent = match way {
            "in a hello" => {
                let files = [own.file.as_raw_fd(), slow.as_raw_fd()];
                support::send_files(stream.as_raw_fd(), &Hello::client(RING_BYTES).0, &files)
            }
            "beside a doorbell" => {
                support::send_files(admitted.socket.as_raw_fd(), b"!", &[slow.as_raw_fd()])
            }
            _ => support::send_files(admitted.space.as_raw_fd(), b"!", &[slow.as_raw_fd()]),
        };
        if sent.is_err() {
            // The kernel did not carry it, so it is we who close it last.
            rustix::net::sockopt::set_socket_linger(&slow, None).unwrap();
        }
        drop(slow);
        check_that_it_serves(&socket);
        assert!(start.elapsed() < support::PATIENCE, "{way}: {:?}", start.elapsed());
    }
}

#[test]
fn a_thousand_half_open_handshakes_keep_nobody_out() {
    let _guard = hang_guard();
    keeps_nobody_out(1000, &[("HANDSHAKE_MS", "1000")]);
}

#[test]
fn ten_thousand_half_open_handshakes_keep_nobody_out_of_a_pool() {
    let _guard = hang_guard();
    let (files, _) = ringway::raise_descriptor_limit().unwrap();
    // As many as this process may have, where that is less.
    let count = files.saturating_sub(500).min(10_000);
    keeps_nobody_out(count, &[("HANDSHAKE_MS", "1000"), ("WORKERS", "2")]);
}

fn keeps_nobody_out(count: u64, how: &[(&str, &str)]) {
    let (_scratch, mut server, socket) = server(how);
    let before = status(&mut server);
    let half_open: Vec<UnixStream> = (0..count)
        .map(|number| {
            let stream = support::open(&socket);
            if number % 2 == 0 {
                support::send_files(stream.as_raw_fd(), b"RINGWAYH", &[]).unwrap();
            }
            stream
        })
        .collect();
    check_that_it_serves(&socket);
    let during = status(&mut server);
    // At most 192 of one user, each with its socket and the descriptor of its process.
    assert!(
        during.files <= before.files + 2 * 192,
        "{} descriptors for strangers",
        during.files - before.files
    );
    assert!(during.most_kib < before.most_kib + 16 * 1024, "{} KiB", during.most_kib - before.most_kib);
    // What strangers sent is closed by another thread, a moment after it was refused.
    let after =
        await_status(&mut server, |now| now.refused == before.refused + count && now.files == before.files);
    assert_eq!(after.members, 0);
    drop(half_open);
}

/// Says whether the tests run as root, who can become somebody else.
fn is_root(test: &str) -> bool {
    // SAFETY: no preconditions.
    let root = unsafe { libc::geteuid() } == 0;
    if !root {
        println!("{test}: skipped, since only root can become another user");
    }
    root
}

/// Role: connects as another user and says how that went.
pub fn caller() {
    become_user(common::number_variable("RUN_AS") as u32);
    let mut config = Config::new().ring_bytes(RING_BYTES);
    if let Ok(uid) = std::env::var("EXPECT") {
        config = config.allow_uid(uid.parse().unwrap());
    }
    let kept;
    common::say(&match config.connect(&common::variable("SOCKET")) {
        Ok(mut connection) => {
            connection.send(b"here I am").unwrap();
            assert_eq!(&*connection.recv_timeout(support::PATIENCE).unwrap(), b"here I am");
            kept = connection;
            format!("welcome by {}", kept.peer_cred().uid)
        }
        Err(error) => format!("{error:?}: {error}"),
    });
    common::hear();
}

/// Connects as `uid` and returns what came of it.
fn connect_as(socket: &str, uid: &str, expect: Option<&str>) -> (String, Peer) {
    let mut variables = vec![("SOCKET", socket), ("RUN_AS", uid)];
    variables.extend(expect.map(|uid| ("EXPECT", uid)));
    let mut caller = Peer::spawn("caller", &variables);
    (caller.next_line(), caller)
}

#[test]
fn another_user_cannot_even_open_the_socket_of_a_private_listener() {
    let _guard = hang_guard();
    if !is_root("another_user_cannot_even_open_the_socket_of_a_private_listener") {
        return;
    }
    let (scratch, mut server, socket) = server(&[]);
    assert_eq!(mode_of(scratch.text()), 0o700);
    assert_eq!(mode_of(&socket), 0o600);
    let (said, _caller) = connect_as(&socket, "1", None);
    assert!(said.starts_with("Permission") && said.contains("allow_uid"), "{said}");
    // Not the directory alone: the socket itself is closed too.
    std::fs::set_permissions(scratch.path(), Permissions::from_mode(0o755)).unwrap();
    let (said, _caller) = connect_as(&socket, "1", None);
    assert!(said.starts_with("Permission"), "{said}");
    // And not the modes alone: the credentials decide.
    std::fs::set_permissions(&socket, Permissions::from_mode(0o666)).unwrap();
    let (said, _caller) = connect_as(&socket, "1", Some("0"));
    assert!(said.starts_with("Refused(NotAllowed)"), "{said}");
    assert_eq!(status(&mut server).members, 0);
}

#[test]
fn only_the_users_and_groups_on_the_list_are_admitted() {
    let _guard = hang_guard();
    if !is_root("only_the_users_and_groups_on_the_list_are_admitted") {
        return;
    }
    // The nameless user never matches, not even when the list has it.
    for (list, uid, welcome) in [
        (("ALLOW_UID", "2"), "1", false),
        (("ALLOW_UID", "1"), "1", true),
        (("ALLOW_GID", "1"), "1", true),
        (("ALLOW_GID", "2"), "1", false),
        (("ALLOW_UID", "65534"), "65534", false),
        (("ALLOW_GID", "65534"), "65534", false),
    ] {
        let (scratch, mut server, socket) = server(&[list]);
        assert_eq!((mode_of(scratch.text()), mode_of(&socket)), (0o711, 0o666), "{list:?}");
        let (said, mut caller) = connect_as(&socket, uid, Some("0"));
        if welcome {
            assert_eq!(said, "welcome by 0", "{list:?}");
            await_status(&mut server, |now| now.members == 1 && now.last_uid == 1);
        } else {
            assert!(said.starts_with("Refused(NotAllowed)"), "{list:?}, {uid}: {said}");
            assert_eq!(status(&mut server).members, 0);
        }
        caller.send_line("end");
    }
}

#[test]
fn a_client_trusts_a_listener_of_another_user_only_if_it_expects_it() {
    let _guard = hang_guard();
    if !is_root("a_client_trusts_a_listener_of_another_user_only_if_it_expects_it") {
        return;
    }
    let scratch = common::scratch_dir();
    std::fs::set_permissions(scratch.path(), Permissions::from_mode(0o711)).unwrap();
    let inner = scratch.path().join("of-1");
    std::fs::create_dir(&inner).unwrap();
    std::os::unix::fs::chown(&inner, Some(1), Some(1)).unwrap();
    let socket = format!("{}/a.sock", inner.display());
    let variables = [("SOCKET", socket.as_str()), ("RUN_AS", "1"), ("ALLOW_UID", "0"), ("ALLOW_GID", "2")];
    let mut server = Peer::spawn("serve", &variables);
    server.expect_line("ready");
    let config = Config::new().ring_bytes(RING_BYTES);
    let error = config.connect(&socket).err();
    assert!(matches!(error, Some(ConnectError::Untrusted(ringway::Refusal::NotAllowed))), "{error:?}");
    let error = config.clone().allow_uid(2).connect(&socket).err();
    assert!(matches!(error, Some(ConnectError::Untrusted(ringway::Refusal::NotAllowed))), "{error:?}");
    let connection = config.clone().allow_uid(1).connect(&socket).unwrap();
    assert_eq!((connection.peer_cred().uid, connection.peer_cred().gid), (1, 1));
    // Root may serve everybody: a client need not expect it.
    let (said, _caller) = connect_as(&socket, "2", Some("1"));
    assert_eq!(said, "welcome by 1");
}

#[test]
fn a_socket_that_another_process_connected_does_not_lend_its_user() {
    let _guard = hang_guard();
    if !is_root("a_socket_that_another_process_connected_does_not_lend_its_user") {
        return;
    }
    // SO_PEERCRED of this socket says root; the hello comes from user 1.
    let (_scratch, mut server, socket) = server(&[("ALLOW_UID", "2")]);
    let own = Memory::connection(RING_BYTES);
    let (_space, their_space) = UnixStream::pair().unwrap();
    let stream = support::open(&socket);
    let files = [own.file.as_raw_fd(), their_space.as_raw_fd()];
    // SAFETY: the child makes system calls only, then ends without running anything of ours.
    let child = unsafe { libc::fork() };
    if child == 0 {
        // SAFETY: plain numbers and calls that may follow a fork.
        unsafe {
            libc::setgid(1);
            libc::setuid(1);
            let sent = support::send_files(stream.as_raw_fd(), &Hello::client(RING_BYTES).0, &files);
            libc::_exit(i32::from(sent.is_err()));
        }
    }
    let mut result = 0;
    // SAFETY: our own child, and a number that outlives the call.
    assert_eq!(unsafe { libc::waitpid(child, &mut result, 0) }, child);
    assert_eq!(result, 0);
    assert_eq!(support::answer_of(&stream).err(), Some(NOT_ALLOWED));
    assert_eq!(status(&mut server).members, 0);
    drop(Raw::connect(&socket));
}

fn mode_of(path: &str) -> u32 {
    std::fs::symlink_metadata(path).unwrap().permissions().mode() & 0o7777
}
