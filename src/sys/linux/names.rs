//! Socket names inside the run-time directory: probing, binding and sweeping, under its lock.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;

use rustix::fs::{AtFlags, FileType, FlockOperation, Mode, Stat};
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

/// A listening socket under its name, and the identity of the file, for [`DirectoryLock::unbind`].
#[derive(Debug)]
pub(crate) struct BoundSocket {
    pub(crate) socket: OwnedFd,
    pub(crate) device: u64,
    pub(crate) inode: u64,
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

    /// Binds a listening socket and puts it at `file_name`, replacing what is there.
    ///
    /// The caller has probed the name under this lock. Nobody ever meets a socket that does not
    /// listen yet, or one with other permissions than `socket_mode`.
    ///
    /// # Errors
    /// ENAMETOOLONG, EADDRINUSE when the temporary name is taken, EISDIR over a directory, else
    /// the OS error. Nothing is left behind.
    pub(crate) fn bind(&self, file_name: &str, socket_mode: u32, backlog: i32) -> io::Result<BoundSocket> {
        self.path_of(file_name)?;
        let temporary = self.temporary_name(file_name)?;
        if self.probe(&temporary)? == NameState::Dead {
            self.remove(&temporary)?;
        }
        let socket = socket::bind_stream(&self.path_of(&temporary)?)?;
        let published = self.publish(&socket, &temporary, file_name, socket_mode, backlog);
        if published.is_err() {
            // The first error is the one to report; a name left here is swept as dead later.
            let _ = self.remove(&temporary);
        }
        let stat = published?;
        Ok(BoundSocket { socket, device: stat.st_dev, inode: stat.st_ino })
    }

    /// Removes `file_name` if it is still the socket that [`DirectoryLock::bind`] made.
    pub(crate) fn unbind(&self, file_name: &str, device: u64, inode: u64) -> io::Result<()> {
        match self.stat(file_name)? {
            Some(stat) if stat.st_dev == device && stat.st_ino == inode => self.remove(file_name),
            _ => Ok(()),
        }
    }

    /// Removes the names that dead processes of our user left; returns how many.
    ///
    /// Looks at 4096 entries at most and touches nothing live, foreign or of another kind.
    pub(crate) fn sweep(&self) -> usize {
        let Ok(entries) = rustix::fs::Dir::read_from(&self.handle) else {
            return 0;
        };
        let is_dead = |name: &&str| is_ringway_name(name) && matches!(self.probe(name), Ok(NameState::Dead));
        entries
            .take(SWEEP_ENTRIES_MAX)
            .map_while(Result::ok)
            .filter(|entry| {
                let name = entry.file_name().to_str().ok().filter(is_dead);
                name.is_some_and(|name| self.remove(name).is_ok())
            })
            .count()
    }

    fn publish(
        &self,
        socket: &OwnedFd,
        temporary: &str,
        file_name: &str,
        socket_mode: u32,
        backlog: i32,
    ) -> io::Result<Stat> {
        // `bind` went by path, this goes by descriptor: it fails if the directory was replaced.
        rustix::fs::chmodat(&self.handle, temporary, Mode::from_raw_mode(socket_mode), AtFlags::empty())?;
        socket::listen(socket.as_fd(), backlog)?;
        let stat = rustix::fs::statat(&self.handle, temporary, AtFlags::SYMLINK_NOFOLLOW)?;
        rustix::fs::renameat(&self.handle, temporary, &self.handle, file_name)?;
        Ok(stat)
    }

    /// `.NAME.PID.tmp`, with NAME cut so that the path fits a socket address.
    fn temporary_name(&self, file_name: &str) -> io::Result<String> {
        let suffix = format!(".{}.tmp", process::pid());
        let directory_bytes = self.directory.path().as_os_str().len();
        let room = socket::path_bytes_max().checked_sub(directory_bytes + 2 + suffix.len());
        let room = room.ok_or(Errno::NAMETOOLONG)?;
        let stem = &file_name[..file_name.floor_char_boundary(room)];
        Ok(format!(".{stem}{suffix}"))
    }

    fn path_of(&self, file_name: &str) -> io::Result<PathBuf> {
        if matches!(file_name, "" | "." | "..") || file_name.contains(['/', '\0']) {
            return Err(Errno::INVAL.into());
        }
        let path = self.directory.path().join(file_name);
        if path.as_os_str().len() > socket::path_bytes_max() {
            return Err(Errno::NAMETOOLONG.into());
        }
        Ok(path)
    }

    fn stat(&self, file_name: &str) -> io::Result<Option<Stat>> {
        match rustix::fs::statat(&self.handle, file_name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => Ok(Some(stat)),
            Err(Errno::NOENT) => Ok(None),
            Err(errno) => Err(errno.into()),
        }
    }

    fn remove(&self, file_name: &str) -> io::Result<()> {
        match rustix::fs::unlinkat(&self.handle, file_name, AtFlags::empty()) {
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

/// Names that this module makes: `NAME.sock` and `.NAME.PID.tmp`.
fn is_ringway_name(name: &str) -> bool {
    name.ends_with(".sock") || (name.starts_with('.') && name.ends_with(".tmp"))
}

const SWEEP_ENTRIES_MAX: usize = 4096;
