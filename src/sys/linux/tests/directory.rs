use std::fs;
use std::os::fd::AsFd;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;
use std::time::Duration;

use super::super::directory::*;
use super::super::{process, socket};
use super::{Scratch, holds_in_child, is_alone, no_forks};

const PATIENCE: Duration = Duration::from_secs(10);

fn mode_of(path: &Path) -> u32 {
    fs::symlink_metadata(path).unwrap().mode() & 0o7777
}

fn names_in(path: &Path) -> Vec<String> {
    let entries = fs::read_dir(path).unwrap();
    entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

/// Leaves a socket file behind as a killed process does.
fn leave_dead_socket(path: &Path) {
    drop(socket::bind_stream(path).unwrap());
}

#[test]
fn a_missing_directory_is_made_private_and_opened_up_only_when_shared() {
    let scratch = Scratch::new("make");
    let path = scratch.0.join("ringway");
    assert!(matches!(Directory::open(&path, false, false), Err(DirectoryFault::Os { .. })));
    Directory::open(&path, true, false).unwrap();
    assert_eq!(mode_of(&path), 0o700);
    Directory::open(&path, true, true).unwrap();
    assert_eq!(mode_of(&path), 0o711);
    Directory::open(&path, true, false).unwrap();
    let deep = scratch.0.join("a/b");
    let fault = Directory::open(&deep, true, false).unwrap_err();
    assert!(fault.to_string().contains("parent"), "{fault}");
}

#[test]
fn links_files_and_foreign_write_bits_are_refused() {
    let scratch = Scratch::new("refuse");
    let real = scratch.0.join("real");
    fs::create_dir(&real).unwrap();
    let link = scratch.0.join("link");
    symlink(&real, &link).unwrap();
    for path in [link.clone(), link.join(""), link.join(".")] {
        let fault = Directory::open(&path, true, false).unwrap_err();
        assert!(matches!(fault, DirectoryFault::Symlink { .. }), "{fault:?}");
    }
    let file = scratch.0.join("file");
    fs::write(&file, "").unwrap();
    let fault = Directory::open(&file, true, false).unwrap_err();
    assert!(matches!(fault, DirectoryFault::NotDirectory { .. }), "{fault:?}");
    for mode in [0o770, 0o702, 0o1777] {
        fs::set_permissions(&real, fs::Permissions::from_mode(mode)).unwrap();
        let fault = Directory::open(&real, true, true).unwrap_err();
        assert!(matches!(fault, DirectoryFault::Mode { mode: seen, .. } if seen == mode));
        assert!(fault.to_string().contains(&format!("{mode:04o}")), "{fault}");
    }
}

#[test]
fn a_directory_of_another_user_is_refused() {
    if process::uid() != 0 {
        eprintln!("skipped: needs root for chown");
        return;
    }
    let scratch = Scratch::new("owner");
    std::os::unix::fs::chown(&scratch.0, Some(4242), None).unwrap();
    let fault = Directory::open(&scratch.0, true, false).unwrap_err();
    assert!(matches!(fault, DirectoryFault::Owner { owner_uid: 4242, own_uid: 0, .. }));
}

#[test]
fn a_bound_name_is_alive_until_its_socket_closes() {
    let _quiet = no_forks();
    let scratch = Scratch::new("life");
    let directory = Directory::open(&scratch.0, false, false).unwrap();
    let lock = directory.lock(PATIENCE).unwrap();
    assert_eq!(directory.probe("a.sock").unwrap(), NameState::Free);
    let bound = lock.bind("a.sock", 0o600, 8).unwrap();
    assert_eq!(names_in(&scratch.0), ["a.sock"], "no temporary name is left");
    assert_eq!(mode_of(&scratch.0.join("a.sock")), 0o600);
    assert_eq!(directory.probe("a.sock").unwrap(), NameState::Alive);
    assert!(
        socket::accept(bound.socket.as_fd()).unwrap().is_none(),
        "the probe did not disturb the listener"
    );
    assert!(socket::connect_stream(&scratch.0.join("a.sock")).is_ok());
    drop(bound);
    assert_eq!(directory.probe("a.sock").unwrap(), NameState::Dead);
    let again = lock.bind("a.sock", 0o666, 8).unwrap();
    assert_eq!(mode_of(&scratch.0.join("a.sock")), 0o666);
    assert_eq!(directory.probe("a.sock").unwrap(), NameState::Alive);
    directory.unbind("a.sock", &again).unwrap();
    assert_eq!(directory.probe("a.sock").unwrap(), NameState::Free);
    directory.unbind("a.sock", &again).unwrap();
}

#[test]
fn a_name_that_another_listener_took_over_is_not_unbound() {
    let scratch = Scratch::new("taken");
    let directory = Directory::open(&scratch.0, false, false).unwrap();
    let lock = directory.lock(PATIENCE).unwrap();
    let first = lock.bind("a.sock", 0o600, 8).unwrap();
    let second = lock.bind("a.sock", 0o600, 8).unwrap();
    directory.unbind("a.sock", &first).unwrap();
    assert_eq!(directory.probe("a.sock").unwrap(), NameState::Alive);
    drop(second);
}

#[test]
fn squatters_are_named_and_left_alone() {
    let scratch = Scratch::new("squat");
    let directory = Directory::open(&scratch.0, false, false).unwrap();
    let lock = directory.lock(PATIENCE).unwrap();
    let at = |name: &str| scratch.0.join(name);
    fs::write(at("file.sock"), "").unwrap();
    symlink("/nowhere", at("link.sock")).unwrap();
    fs::create_dir(at("dir.sock")).unwrap();
    let _datagram = std::os::unix::net::UnixDatagram::bind(at("dgram.sock")).unwrap();
    let expected = [
        ("file.sock", "a file"),
        ("link.sock", "a symbolic link"),
        ("dir.sock", "a directory"),
        ("dgram.sock", "a datagram socket"),
    ];
    for (name, kind) in expected {
        assert_eq!(directory.probe(name).unwrap(), NameState::Foreign { kind });
    }
    assert!(lock.bind("dir.sock", 0o600, 8).is_err());
    assert_eq!(lock.sweep(usize::MAX), 0);
    assert_eq!(names_in(&scratch.0).len(), 4, "and no temporary name after the failed bind");
}

#[test]
fn a_socket_of_another_user_is_foreign() {
    if process::uid() != 0 {
        eprintln!("skipped: needs root for chown");
        return;
    }
    let scratch = Scratch::new("foreign");
    let directory = Directory::open(&scratch.0, false, false).unwrap();
    let lock = directory.lock(PATIENCE).unwrap();
    leave_dead_socket(&scratch.0.join("a.sock"));
    std::os::unix::fs::chown(scratch.0.join("a.sock"), Some(4242), None).unwrap();
    let kind = "a socket of another user";
    assert_eq!(directory.probe("a.sock").unwrap(), NameState::Foreign { kind });
    assert_eq!(lock.sweep(usize::MAX), 0);
}

#[test]
fn a_sweep_removes_the_dead_only() {
    let _quiet = no_forks();
    let scratch = Scratch::new("sweep");
    let directory = Directory::open(&scratch.0, false, false).unwrap();
    let lock = directory.lock(PATIENCE).unwrap();
    let live = lock.bind("live.sock", 0o600, 8).unwrap();
    let binding = socket::bind_stream(&scratch.0.join(".half.77.tmp")).unwrap();
    for name in ["dead.sock", ".dead.99.tmp", "other.socket"] {
        leave_dead_socket(&scratch.0.join(name));
    }
    fs::write(scratch.0.join("note.sock"), "").unwrap();
    assert_eq!(lock.sweep(usize::MAX), 2);
    let mut left = names_in(&scratch.0);
    left.sort();
    assert_eq!(left, [".half.77.tmp", "live.sock", "note.sock", "other.socket"]);
    drop((live, binding));
    assert_eq!(lock.sweep(usize::MAX), 2);
}

#[test]
fn every_shape_of_name_is_swept_and_only_those() {
    let _quiet = no_forks();
    let scratch = Scratch::new("shapes");
    let directory = Directory::open(&scratch.0, false, false).unwrap();
    let ours = ["a.sock", "a.route", "a.route.abcdefgh", "a.channel.234567zz", ".a.1.tmp"];
    let theirs = ["a.channel", "a.route.abcdefg", "a.route.ABCDEFGH", "a.route.abcdefg1", "a.other.abcdefgh"];
    for name in ours.iter().chain(&theirs) {
        leave_dead_socket(&scratch.0.join(name));
    }
    assert_eq!(directory.names().unwrap().len(), ours.len());
    assert_eq!(directory.lock(PATIENCE).unwrap().sweep(usize::MAX), ours.len());
    let mut left = names_in(&scratch.0);
    left.sort();
    let mut expected = theirs;
    expected.sort_unstable();
    assert_eq!(left, expected);
}

#[test]
fn visitors_who_look_at_few_names_get_through_all_in_the_end() {
    let _quiet = no_forks();
    let scratch = Scratch::new("few");
    let directory = Directory::open(&scratch.0, false, false).unwrap();
    for _ in 0..40 {
        leave_dead_socket(&scratch.0.join(format!("a.route.{}", fresh_token())));
    }
    let lock = directory.lock(PATIENCE).unwrap();
    let visits = [lock.sweep(16), lock.sweep(16), lock.sweep(16)];
    assert_eq!(visits, [16, 16, 8]);
    assert_eq!(names_in(&scratch.0).len(), 0);
}

#[test]
fn a_fresh_name_is_bound_without_the_lock_and_replaces_nothing() {
    let _quiet = no_forks();
    let scratch = Scratch::new("fresh");
    let directory = Directory::open(&scratch.0, false, false).unwrap();
    let lock = directory.lock(PATIENCE).unwrap();
    let bound = directory.bind_fresh("a.route.abcdefgh", 0o600, 8).unwrap();
    assert_eq!(names_in(&scratch.0), ["a.route.abcdefgh"], "no temporary name is left");
    assert_eq!(mode_of(&scratch.0.join("a.route.abcdefgh")), 0o600);
    let taken = directory.bind_fresh("a.route.abcdefgh", 0o600, 8).unwrap_err();
    assert_eq!(taken.raw_os_error(), Some(libc::EEXIST));
    assert_eq!(names_in(&scratch.0), ["a.route.abcdefgh"]);
    assert!(!lock.remove_if_dead("a.route.abcdefgh").unwrap());
    directory.unbind("a.route.abcdefgh", &bound).unwrap();
    assert_eq!(names_in(&scratch.0).len(), 0);
    drop(bound);
    leave_dead_socket(&scratch.0.join("a.route.abcdefgh"));
    assert!(lock.remove_if_dead("a.route.abcdefgh").unwrap());
    assert!(!lock.remove_if_dead("a.route.abcdefgh").unwrap());
}

#[test]
fn fresh_names_bound_side_by_side_under_sweeps_all_stand() {
    let _quiet = no_forks();
    let scratch = Scratch::new("side");
    let directory = Directory::open(&scratch.0, false, false).unwrap();
    let bound: Vec<_> = std::thread::scope(|scope| {
        let bind = || {
            let one = || directory.bind_fresh(&format!("a.channel.{}", fresh_token()), 0o600, 8).unwrap();
            (0..50).map(|_| one()).collect::<Vec<_>>()
        };
        let binders: Vec<_> = (0..4).map(|_| scope.spawn(bind)).collect();
        while !binders.iter().all(|binder| binder.is_finished()) {
            // What is swept here is bound again by its owner.
            directory.lock(PATIENCE).unwrap().sweep(usize::MAX);
        }
        binders.into_iter().flat_map(|binder| binder.join().unwrap()).collect()
    });
    assert_eq!(bound.len(), 200);
    assert_eq!(directory.matching("a.channel.", "").unwrap().len(), 200);
}

#[test]
fn the_members_of_one_name_are_listed_without_oneself() {
    let scratch = Scratch::new("match");
    let directory = Directory::open(&scratch.0, false, false).unwrap();
    let names =
        ["a.route", "a.route.abcdefgh", "a.route.bcdefghi", "ba.route.cdefghij", "a.channel.defghijk"];
    let more = ["a.route.b.route.efghijkl", "a.sock"];
    let bound: Vec<_> =
        names.iter().chain(&more).map(|name| socket::bind_stream(&scratch.0.join(name))).collect();
    let mut found = directory.matching("a.route.", "").unwrap();
    found.sort();
    assert_eq!(found, ["a.route.abcdefgh", "a.route.bcdefghi"]);
    assert_eq!(directory.matching("a.route.", "a.route.abcdefgh").unwrap(), ["a.route.bcdefghi"]);
    assert_eq!(directory.matching("a.route.b.route.", "").unwrap(), ["a.route.b.route.efghijkl"]);
    assert_eq!(directory.names().unwrap().len(), 7);
    drop(bound);
}

#[test]
fn a_token_is_eight_characters_that_nobody_else_has() {
    let mut tokens: Vec<String> = (0..1000).map(|_| fresh_token()).collect();
    assert!(tokens.iter().all(|token| is_token(token)));
    tokens.sort();
    tokens.dedup();
    assert_eq!(tokens.len(), 1000);
    for text in ["", "abcdefg", "abcdefghi", "abcdefg1", "abcdefg8", "Abcdefgh", "abcdefg."] {
        assert!(!is_token(text), "{text}");
    }
}

#[test]
fn a_dead_temporary_name_of_the_same_process_is_replaced() {
    let _quiet = no_forks();
    let scratch = Scratch::new("temp");
    let directory = Directory::open(&scratch.0, false, false).unwrap();
    let lock = directory.lock(PATIENCE).unwrap();
    let temporary = scratch.0.join(format!(".a.sock.{}.tmp", process::pid()));
    leave_dead_socket(&temporary);
    lock.bind("a.sock", 0o600, 8).unwrap();
    assert_eq!(names_in(&scratch.0), ["a.sock"]);
}

#[test]
fn names_that_leave_the_directory_or_the_address_are_refused() {
    let scratch = Scratch::new("long");
    let directory = Directory::open(&scratch.0, false, false).unwrap();
    let lock = directory.lock(PATIENCE).unwrap();
    for name in ["", ".", "..", "a/b", "a\0b"] {
        assert_eq!(directory.probe(name).unwrap_err().raw_os_error(), Some(libc::EINVAL), "{name:?}");
    }
    let room = socket::path_bytes_max() - scratch.0.as_os_str().len() - 1;
    let longest = format!("{}.sock", "n".repeat(room - 5));
    let bound = lock.bind(&longest, 0o600, 8).unwrap();
    assert_eq!(names_in(&scratch.0), std::slice::from_ref(&longest));
    drop(bound);
    let too_long = format!("n{longest}");
    let refused = lock.bind(&too_long, 0o600, 8).unwrap_err();
    assert_eq!(refused.raw_os_error(), Some(libc::ENAMETOOLONG));
}

#[test]
fn a_lock_excludes_threads_and_processes_until_it_is_dropped() {
    if !is_alone("sys::platform::tests::directory::a_lock_excludes_threads_and_processes_until_it_is_dropped")
    {
        return;
    }
    let scratch = Scratch::new("lock");
    let directory = Directory::open(&scratch.0, false, false).unwrap();
    let lock = directory.lock(PATIENCE).unwrap();
    let is_locked = || {
        let second = directory.lock(Duration::from_millis(5));
        second.is_err_and(|error| error.kind() == std::io::ErrorKind::TimedOut)
    };
    assert!(is_locked(), "over the same Directory");
    assert!(holds_in_child(is_locked), "in another process");
    drop(lock);
    assert!(!is_locked());
    assert!(holds_in_child(|| !is_locked()));
}
