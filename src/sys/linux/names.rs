//! Socket names inside the run-time directory: probing, binding and sweeping.
//!
//! A name that several may want changes under the lock of the directory; one that ends in a random token needs none.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;

use rustix::fs::{AtFlags, FileType, FlockOperation, Mode, RenameFlags, Stat};
use rustix::io::{Errno, retry_on_intr};
use rustix::net::{AddressFamily, SocketFlags, SocketType};

use super::directory::Directory;
use super::{process, socket};

/// What a name stands for now.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum NameState {
    /// No such name.
    Free,
    /// A process holds the socket.
    Alive,
    /// Our own user's socket, left by a process that ended.
    Dead,
    /// Something that is not ours to replace.
    Foreign { kind: &'static str },
}

/// A listening socket under its name, and the identity of the file, for [`Directory::unbind`].
#[derive(Debug)]
pub(crate) struct BoundSocket {
    pub(crate) socket: OwnedFd,
    device: u64,
    inode: u64,
}

/// The right to change names in a [`Directory`]; released on drop.
#[derive(Debug)]
pub(crate) struct DirectoryLock<'a> {
    directory: &'a Directory,
    /// Opened for this lock alone: `flock` belongs to the open file, so two locks over one
    /// descriptor would both succeed.
    handle: OwnedFd,
}

impl<'a> DirectoryLock<'a> {
    /// Takes over a descriptor of the directory that is already locked.
    pub(super) fn new(directory: &'a Directory, handle: OwnedFd) -> DirectoryLock<'a> {
        DirectoryLock { directory, handle }
    }

    /// Binds a listening socket and puts it at `file_name`, replacing what is there.
    ///
    /// The caller has probed the name under this lock. Nobody ever meets a socket that does not
    /// listen yet, or one with other permissions than `socket_mode`.
    ///
    /// # Errors
    /// ENAMETOOLONG, EADDRINUSE when the temporary name is taken, EISDIR over a directory, else
    /// the OS error. Nothing is left behind.
    pub(crate) fn bind(&self, file_name: &str, socket_mode: u32, backlog: i32) -> io::Result<BoundSocket> {
        let temporary = self.directory.temporary_name(file_name)?;
        self.remove_if_dead(&temporary)?;
        let target = Target { file_name, socket_mode, backlog, rename: RenameFlags::empty() };
        self.directory.bind_through(&temporary, &target)
    }

    /// Removes `file_name` if a dead process of our user left it; says whether it did.
    pub(crate) fn remove_if_dead(&self, file_name: &str) -> io::Result<bool> {
        let is_dead = self.directory.probe(file_name)? == NameState::Dead;
        if is_dead {
            self.directory.remove(file_name)?;
        }
        Ok(is_dead)
    }

    /// Removes the names that dead processes of our user left; returns how many.
    ///
    /// Looks at `names_max` of them at most, from a random place on, so that many visitors who
    /// look at few each get through all; touches nothing live, foreign or of another kind.
    pub(crate) fn sweep(&self, names_max: usize) -> usize {
        let names = self.directory.names().unwrap_or_default();
        let start = (process::random_u64() % names.len().max(1) as u64) as usize;
        let (before, after) = names.split_at(start);
        let visited = after.iter().chain(before).take(names_max);
        visited.filter(|name| self.remove_if_dead(name).unwrap_or(false)).count()
    }
}

/// A name to be bound, and how.
struct Target<'a> {
    file_name: &'a str,
    socket_mode: u32,
    backlog: i32,
    rename: RenameFlags,
}

impl Directory {
    /// Finds out what `file_name` stands for, without disturbing a listener.
    ///
    /// # Errors
    /// EINVAL for a name with a slash, ENAMETOOLONG past the socket limit, else the OS error.
    pub(crate) fn probe(&self, file_name: &str) -> io::Result<NameState> {
        let path = self.path_of(file_name)?;
        let Some(stat) = self.stat(file_name)? else {
            return Ok(NameState::Free);
        };
        if let Some(kind) = foreign_kind(&stat) {
            return Ok(NameState::Foreign { kind });
        }
        let address = socket::address_of(&path)?;
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let visitor = rustix::net::socket_with(AddressFamily::UNIX, SocketType::DGRAM, flags, None)?;
        // A datagram socket is refused by a live stream socket for its type, before the listener
        // could notice anything.
        match retry_on_intr(|| rustix::net::connect(&visitor, &address)) {
            Err(Errno::PROTOTYPE) => Ok(NameState::Alive),
            Err(Errno::CONNREFUSED) => Ok(NameState::Dead),
            Err(Errno::NOENT) => Ok(NameState::Free),
            Ok(()) => Ok(NameState::Foreign { kind: "a datagram socket" }),
            Err(errno) => Err(errno.into()),
        }
    }

    /// Binds a listening socket under a name that ends in a fresh [token](fresh_token).
    ///
    /// Needs no lock: nobody else wants this name, and what is there, against all odds, is not replaced.
    ///
    /// # Errors
    /// EEXIST, ENAMETOOLONG, else the OS error. Nothing is left behind.
    pub(crate) fn bind_fresh(
        &self,
        file_name: &str,
        socket_mode: u32,
        backlog: i32,
    ) -> io::Result<BoundSocket> {
        // The end of the name tells apart those who bind at the same time, so it must not be cut off.
        let token = &file_name[file_name.len().saturating_sub(TOKEN_BYTES)..];
        let temporary = self.temporary_name(token)?;
        let mut target = Target { file_name, socket_mode, backlog, rename: RenameFlags::NOREPLACE };
        for _ in 0..BIND_ATTEMPTS {
            match self.bind_through(&temporary, &target) {
                // For an instant a name that is being bound looks like one of the dead, and somebody swept it away.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                // This file system cannot refuse to replace.
                Err(error) if error.raw_os_error() == Some(Errno::INVAL.raw_os_error()) => {
                    target.rename = RenameFlags::empty();
                }
                outcome => return outcome,
            }
        }
        self.bind_through(&temporary, &target)
    }

    /// Removes `file_name` if it is still this socket.
    ///
    /// A name that others may want needs the lock meanwhile: it could be taken over between the look and the removal.
    pub(crate) fn unbind(&self, file_name: &str, bound: &BoundSocket) -> io::Result<()> {
        match self.stat(file_name)? {
            Some(stat) if stat.st_dev == bound.device && stat.st_ino == bound.inode => self.remove(file_name),
            _ => Ok(()),
        }
    }

    /// Lists the names of sockets that ringway makes, dead ones too; at most 65,536 entries are looked at.
    pub(crate) fn names(&self) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in rustix::fs::Dir::read_from(self.descriptor())?.take(ENTRIES_MAX) {
            let entry = entry?;
            // Some file systems do not tell.
            if !matches!(entry.file_type(), FileType::Socket | FileType::Unknown) {
                continue;
            }
            names.extend(
                entry.file_name().to_str().ok().filter(|name| is_ringway_name(name)).map(str::to_owned),
            );
        }
        Ok(names)
    }

    /// Lists the names that are `prefix` and a token, except `own`.
    pub(crate) fn matching(&self, prefix: &str, own: &str) -> io::Result<Vec<String>> {
        let mut names = self.names()?;
        names.retain(|name| name != own && name.strip_prefix(prefix).is_some_and(is_token));
        Ok(names)
    }

    fn bind_through(&self, temporary: &str, target: &Target<'_>) -> io::Result<BoundSocket> {
        self.path_of(target.file_name)?;
        let socket = socket::bind_stream(&self.path_of(temporary)?)?;
        let published = self.publish(&socket, temporary, target);
        if published.is_err() {
            // The first error is the one to report; a name left here is swept as dead later.
            let _ = self.remove(temporary);
        }
        let stat = published?;
        Ok(BoundSocket { socket, device: stat.st_dev, inode: stat.st_ino })
    }

    fn publish(&self, socket: &OwnedFd, temporary: &str, target: &Target<'_>) -> io::Result<Stat> {
        let handle = self.descriptor();
        // `bind` went by path, this goes by descriptor: it fails if the directory was replaced.
        rustix::fs::chmodat(handle, temporary, Mode::from_raw_mode(target.socket_mode), AtFlags::empty())?;
        socket::listen(socket.as_fd(), target.backlog)?;
        let stat = rustix::fs::statat(handle, temporary, AtFlags::SYMLINK_NOFOLLOW)?;
        rustix::fs::renameat_with(handle, temporary, handle, target.file_name, target.rename)?;
        Ok(stat)
    }

    /// `.STEM.PID.tmp`, with STEM cut so that the path fits a socket address.
    fn temporary_name(&self, stem: &str) -> io::Result<String> {
        let suffix = format!(".{}.tmp", process::pid());
        let directory_bytes = self.path().as_os_str().len();
        let room = socket::path_bytes_max().checked_sub(directory_bytes + 2 + suffix.len());
        let room = room.ok_or(Errno::NAMETOOLONG)?;
        let stem = &stem[..stem.floor_char_boundary(room)];
        Ok(format!(".{stem}{suffix}"))
    }

    fn path_of(&self, file_name: &str) -> io::Result<PathBuf> {
        if matches!(file_name, "" | "." | "..") || file_name.contains(['/', '\0']) {
            return Err(Errno::INVAL.into());
        }
        let path = self.path().join(file_name);
        if path.as_os_str().len() > socket::path_bytes_max() {
            return Err(Errno::NAMETOOLONG.into());
        }
        Ok(path)
    }

    fn stat(&self, file_name: &str) -> io::Result<Option<Stat>> {
        match rustix::fs::statat(self.descriptor(), file_name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => Ok(Some(stat)),
            Err(Errno::NOENT) => Ok(None),
            Err(errno) => Err(errno.into()),
        }
    }

    fn remove(&self, file_name: &str) -> io::Result<()> {
        match rustix::fs::unlinkat(self.descriptor(), file_name, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(errno) => Err(errno.into()),
        }
    }
}

impl Drop for DirectoryLock<'_> {
    fn drop(&mut self) {
        // Unlocks explicitly: a child forked meanwhile holds the same open file, and closing our
        // descriptor alone would leave the lock with it.
        let _ = rustix::fs::flock(&self.handle, FlockOperation::Unlock);
    }
}

fn foreign_kind(stat: &Stat) -> Option<&'static str> {
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::Socket if stat.st_uid != process::uid() => Some("a socket of another user"),
        FileType::Socket => None,
        FileType::RegularFile => Some("a file"),
        FileType::Symlink => Some("a symbolic link"),
        FileType::Directory => Some("a directory"),
        _ => Some("a pipe or device"),
    }
}

/// Makes the end of a name that nobody else has: 8 characters of `a-z2-7`.
pub(crate) fn fresh_token() -> String {
    let bits = process::random_u64();
    (0..TOKEN_BYTES).map(|index| char::from(TOKEN_ALPHABET[(bits >> (5 * index)) as usize % 32])).collect()
}

/// Says whether this is what [`fresh_token`] makes.
pub(crate) fn is_token(text: &str) -> bool {
    text.len() == TOKEN_BYTES && text.bytes().all(|byte| TOKEN_ALPHABET.contains(&byte))
}

/// Names that ringway makes: `NAME.sock`, `NAME.route`, `NAME.route.TOKEN`, `NAME.channel.TOKEN` and `.NAME.PID.tmp`.
fn is_ringway_name(name: &str) -> bool {
    let is_member = || {
        let parts = name.rsplit_once('.').filter(|(_, token)| is_token(token));
        parts.is_some_and(|(stem, _)| stem.ends_with(".route") || stem.ends_with(".channel"))
    };
    let is_temporary = || name.starts_with('.') && name.ends_with(".tmp");
    name.ends_with(".sock") || name.ends_with(".route") || is_temporary() || is_member()
}

const TOKEN_BYTES: usize = 8;
const TOKEN_ALPHABET: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";
const ENTRIES_MAX: usize = 65_536;
/// How often a name may be swept away while it is being bound. Once is rare: with somebody who looked all the time it
/// happened to 1 of 1,000 binds at most.
const BIND_ATTEMPTS: usize = 4;
