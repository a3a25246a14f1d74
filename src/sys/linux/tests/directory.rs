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
    assert_eq!(lock.probe("a.sock").unwrap(), NameState::Free);
    let bound = lock.bind("a.sock", 0o600, 8).unwrap();
    assert_eq!(names_in(&scratch.0), ["a.sock"], "no temporary name is left");
    assert_eq!(mode_of(&scratch.0.join("a.sock")), 0o600);
    assert_eq!(lock.probe("a.sock").unwrap(), NameState::Alive);
    assert!(
        socket::accept(bound.socket.as_fd()).unwrap().is_none(),
        "the probe did not disturb the listener"
    );
    assert!(socket::connect_stream(&scratch.0.join("a.sock")).is_ok());
    drop(bound);
    assert_eq!(lock.probe("a.sock").unwrap(), NameState::Dead);
    let again = lock.bind("a.sock", 0o666, 8).unwrap();
    assert_eq!(mode_of(&scratch.0.join("a.sock")), 0o666);
    assert_eq!(lock.probe("a.sock").unwrap(), NameState::Alive);
    lock.unbind("a.sock", again.device, again.inode).unwrap();
    assert_eq!(lock.probe("a.sock").unwrap(), NameState::Free);
    lock.unbind("a.sock", again.device, again.inode).unwrap();
}

#[test]
fn a_name_that_another_listener_took_over_is_not_unbound() {
    let scratch = Scratch::new("taken");
    let directory = Directory::open(&scratch.0, false, false).unwrap();
    let lock = directory.lock(PATIENCE).unwrap();
    let first = lock.bind("a.sock", 0o600, 8).unwrap();
    let second = lock.bind("a.sock", 0o600, 8).unwrap();
    lock.unbind("a.sock", first.device, first.inode).unwrap();
    assert_eq!(lock.probe("a.sock").unwrap(), NameState::Alive);
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
        assert_eq!(lock.probe(name).unwrap(), NameState::Foreign { kind });
    }
    assert!(lock.bind("dir.sock", 0o600, 8).is_err());
    assert_eq!(lock.sweep(), 0);
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
    assert_eq!(lock.probe("a.sock").unwrap(), NameState::Foreign { kind });
    assert_eq!(lock.sweep(), 0);
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
    assert_eq!(lock.sweep(), 2);
    let mut left = names_in(&scratch.0);
    left.sort();
    assert_eq!(left, [".half.77.tmp", "live.sock", "note.sock", "other.socket"]);
    drop((live, binding));
    assert_eq!(lock.sweep(), 2);
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
        assert_eq!(lock.probe(name).unwrap_err().raw_os_error(), Some(libc::EINVAL), "{name:?}");
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
