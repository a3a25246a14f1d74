//! Threat 13: squatters in the place of a name or of its directory.

use crate::common::{self, Peer, hang_guard, scratch_dir};
use ringway::{BindError, Config, ConnectError, Listener};
use std::fs::{self, Permissions};
use std::os::unix::fs::{FileTypeExt, PermissionsExt, symlink};
use std::os::unix::net::UnixListener;
use std::path::Path;

/// Role: binds and stays.
pub fn binder() {
    let listener = Listener::bind(&common::variable("SOCKET")).unwrap();
    common::say("bound");
    common::hear();
    drop(listener);
}

fn occupied(path: &str) -> String {
    match Listener::bind(path) {
        Err(error @ (BindError::Occupied { .. } | BindError::Permission { .. })) => error.to_string(),
        other => panic!("{path}: {:?}", other.err()),
    }
}

fn mode_of(path: impl AsRef<Path>) -> u32 {
    fs::symlink_metadata(path).unwrap().permissions().mode() & 0o7777
}

#[test]
fn a_squatter_in_the_place_of_a_socket_is_named_and_left_alone() {
    let _guard = hang_guard();
    let scratch = scratch_dir();
    let treasure = scratch.path().join("treasure");
    fs::write(&treasure, "treasure").unwrap();
    let at = |name: &str| (scratch.socket(name), scratch.path().join(format!("{name}.sock")));

    let (socket, path) = at("file");
    fs::write(&path, "mine").unwrap();
    assert!(occupied(&socket).contains("a file"));
    assert_eq!(fs::read(&path).unwrap(), b"mine");

    for (name, target) in [("dangling", "nowhere"), ("pointing", "treasure"), ("outside", "/etc/passwd")] {
        let (socket, path) = at(name);
        symlink(target, &path).unwrap();
        assert!(occupied(&socket).contains("symbolic link"), "{name}");
        assert_eq!(fs::read_link(&path).unwrap(), Path::new(target));
    }
    assert_eq!(fs::read(&treasure).unwrap(), b"treasure");

    let (socket, path) = at("directory");
    fs::create_dir(&path).unwrap();
    assert!(occupied(&socket).contains("a directory"));
    assert!(path.is_dir());
}

#[test]
fn a_link_to_a_dead_or_living_socket_is_not_followed() {
    let _guard = hang_guard();
    let scratch = scratch_dir();
    drop(UnixListener::bind(scratch.path().join("dead")).unwrap());
    let _living = UnixListener::bind(scratch.path().join("living")).unwrap();
    for target in ["dead", "living"] {
        let path = scratch.path().join(format!("to-{target}.sock"));
        symlink(target, &path).unwrap();
        assert!(occupied(path.to_str().unwrap()).contains("symbolic link"));
        assert!(fs::symlink_metadata(&path).unwrap().is_symlink());
        assert!(fs::symlink_metadata(scratch.path().join(target)).unwrap().file_type().is_socket());
    }
}

#[test]
fn a_directory_that_others_could_change_is_refused() {
    let _guard = hang_guard();
    let scratch = scratch_dir();
    let inner = scratch.path().join("real");
    fs::create_dir(&inner).unwrap();
    fs::set_permissions(&inner, Permissions::from_mode(0o700)).unwrap();
    symlink("real", scratch.path().join("link")).unwrap();
    let linked = format!("{}/link/a.sock", scratch.text());
    assert!(occupied(&linked).contains("symbolic link"));
    assert!(fs::read_dir(&inner).unwrap().next().is_none(), "nothing was made behind the link");
    let socket = format!("{}/a.sock", inner.display());
    for mode in [0o770, 0o720, 0o702, 0o777, 0o1777] {
        fs::set_permissions(&inner, Permissions::from_mode(mode)).unwrap();
        let said = occupied(&socket);
        assert!(said.contains("chmod") && said.contains(&format!("{mode:04o}")), "{said}");
        assert_eq!(mode_of(&inner), mode, "it was not changed");
    }
    fs::set_permissions(&inner, Permissions::from_mode(0o700)).unwrap();
    fs::write(scratch.path().join("plain"), "").unwrap();
    assert!(occupied(&format!("{}/plain/a.sock", scratch.text())).contains("not a directory"));
}

#[test]
fn what_belongs_to_another_user_is_left_alone() {
    let _guard = hang_guard();
    // SAFETY: no preconditions.
    if unsafe { libc::geteuid() } != 0 {
        println!("skipped: only root can give things to another user");
        return;
    }
    let scratch = scratch_dir();
    let inner = scratch.path().join("theirs");
    fs::create_dir(&inner).unwrap();
    fs::set_permissions(&inner, Permissions::from_mode(0o700)).unwrap();
    std::os::unix::fs::chown(&inner, Some(1), Some(1)).unwrap();
    let said = occupied(&format!("{}/a.sock", inner.display()));
    assert!(said.contains("belongs to uid 1"), "{said}");
    // A dead socket of another user is not ours to replace, and not ours to sweep.
    for name in ["theirs.sock", "other.sock", ".x.sock.4000000.tmp"] {
        let path = scratch.path().join(name);
        drop(UnixListener::bind(&path).unwrap());
        std::os::unix::fs::chown(&path, Some(1), Some(1)).unwrap();
    }
    assert!(occupied(&scratch.socket("theirs")).contains("another user"));
    let before = scratch.entries();
    drop(Listener::bind(&scratch.socket("mine")).unwrap());
    assert_eq!(scratch.entries(), before);
}

#[test]
fn a_dead_name_is_replaced_and_a_living_one_is_not() {
    let _guard = hang_guard();
    let scratch = scratch_dir();
    let socket = scratch.socket("a");
    let mut first = Peer::spawn("binder", &[("SOCKET", &socket)]);
    first.expect_line("bound");
    let inode = |path: &str| std::os::unix::fs::MetadataExt::ino(&fs::symlink_metadata(path).unwrap());
    let living = inode(&socket);
    assert!(matches!(Listener::bind(&socket), Err(BindError::InUse { .. })));
    assert_eq!(inode(&socket), living);
    // Stopped is not dead.
    first.stop();
    assert!(matches!(Listener::bind(&socket), Err(BindError::InUse { .. })));
    first.go_on();
    first.kill9();
    assert!(fs::symlink_metadata(&socket).is_ok(), "it outlives its process");
    let error = ringway::connect(&socket).err();
    assert!(matches!(error, Some(ConnectError::NoListener { .. })), "{error:?}");
    let second = Listener::bind(&socket).unwrap();
    assert_eq!(second.path(), Path::new(&socket));
    drop(second);
    assert!(scratch.entries().is_empty());
}

#[test]
fn temporary_names_of_dead_binders_are_swept_and_nothing_else_is() {
    let _guard = hang_guard();
    let scratch = scratch_dir();
    let path = |name: &str| scratch.path().join(name);
    drop(UnixListener::bind(path(".old.sock.4000000.tmp")).unwrap());
    drop(UnixListener::bind(path("old.sock")).unwrap());
    drop(UnixListener::bind(path("no-name-of-ours")).unwrap());
    let _living = UnixListener::bind(path(".new.sock.4000001.tmp")).unwrap();
    fs::write(path("notes.sock"), "").unwrap();
    symlink("old.sock", path("link.sock")).unwrap();
    let listener = Listener::bind(&scratch.socket("a")).unwrap();
    let kept = [".new.sock.4000001.tmp", "a.sock", "link.sock", "no-name-of-ours", "notes.sock"];
    assert_eq!(scratch.entries(), kept);
    drop(listener);
    assert_eq!(scratch.entries().len(), kept.len() - 1);
}

#[test]
fn modes_are_private_unless_others_are_allowed() {
    let _guard = hang_guard();
    let scratch = scratch_dir();
    let inner = scratch.path().join("made");
    let socket = format!("{}/a.sock", inner.display());
    let listener = Listener::bind(&socket).unwrap();
    assert_eq!((mode_of(&inner), mode_of(&socket)), (0o700, 0o600));
    drop(listener);
    let listener = Config::new().allow_uid(1).bind(&socket).unwrap();
    assert_eq!((mode_of(&inner), mode_of(&socket)), (0o711, 0o666));
    drop(listener);
}
