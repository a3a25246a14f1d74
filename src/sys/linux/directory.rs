//! The run-time directory in which listeners have their names.
//!
//! Whoever can write this directory can put another socket in a listener's place, so it must
//! belong to us or to root and be writable by nobody else. Changes happen under a `flock` on the
//! directory itself, which leaves no lock file behind and ends with the process that holds it.

use std::ffi::OsStr;
use std::fmt;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::fs::{FileType, FlockOperation, Mode, OFlags};
use rustix::io::{Errno, retry_on_intr};

pub(crate) use super::names::{BoundSocket, DirectoryLock, NameState, fresh_token, is_token};
use super::process;

/// A verified run-time directory, held open; for those who bind, not for those who connect.
#[derive(Debug)]
pub(crate) struct Directory {
    /// Without trailing slashes or dots.
    path: PathBuf,
    descriptor: OwnedFd,
}

/// Why a directory cannot hold listeners.
#[derive(Debug)]
pub(crate) enum DirectoryFault {
    /// The path is a symbolic link, which its owner could point elsewhere later.
    Symlink { path: PathBuf },
    /// The path is something else.
    NotDirectory { path: PathBuf },
    /// The directory belongs to a third party.
    Owner { path: PathBuf, owner_uid: u32, own_uid: u32 },
    /// Others may write to the directory.
    Mode { path: PathBuf, mode: u32 },
    /// The kernel refused.
    Os { path: PathBuf, source: io::Error },
}

impl DirectoryFault {
    /// Names it as `std::io` does.
    pub(crate) fn kind(&self) -> io::ErrorKind {
        match self {
            Self::Os { source, .. } => source.kind(),
            Self::Owner { .. } | Self::Mode { .. } => io::ErrorKind::PermissionDenied,
            Self::Symlink { .. } | Self::NotDirectory { .. } => io::ErrorKind::NotADirectory,
        }
    }

    /// Says whether it is about who owns the directory or who may use it.
    pub(crate) fn is_permission(&self) -> bool {
        self.kind() == io::ErrorKind::PermissionDenied
    }
}

impl fmt::Display for DirectoryFault {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Symlink { path } => write!(
                out,
                "run-time directory {} is a symbolic link, which could be pointed elsewhere; set \
                 RINGWAY_DIR to a real directory",
                path.display()
            ),
            Self::NotDirectory { path } => write!(
                out,
                "run-time directory {} is not a directory; remove it or set RINGWAY_DIR",
                path.display()
            ),
            Self::Owner { path, owner_uid, own_uid } => write!(
                out,
                "run-time directory {} belongs to uid {owner_uid}, who could replace sockets in \
                 it; it must belong to uid {own_uid} or root: set RINGWAY_DIR to such a directory",
                path.display()
            ),
            Self::Mode { path, mode } => write!(
                out,
                "run-time directory {} has mode {mode:04o}, so others could replace sockets in \
                 it; run chmod go-w on it or set RINGWAY_DIR",
                path.display()
            ),
            Self::Os { path, source } => write!(
                out,
                "run-time directory {} cannot be used: {source}; check that its parent exists \
                 and is open to this user, or set RINGWAY_DIR",
                path.display()
            ),
        }
    }
}

impl std::error::Error for DirectoryFault {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Os { source, .. } => Some(source),
            _ => None,
        }
    }
}

impl Directory {
    /// Opens the directory at `path` and verifies its owner and mode.
    ///
    /// `create` makes a missing one with mode 0700; its parent must exist, unless it lies inside
    /// `$XDG_RUNTIME_DIR`. `shared_mode` opens it to other users' connects (0711).
    ///
    /// # Errors
    /// [`DirectoryFault`] names what was found and what to do. A 0711 directory of another user
    /// cannot be opened; to connect there no `Directory` is needed.
    pub(crate) fn open(path: &Path, create: bool, shared_mode: bool) -> Result<Directory, DirectoryFault> {
        // `link/` and `link/.` would follow the link in spite of O_NOFOLLOW.
        let path: PathBuf = path.components().collect();
        let os = |source: io::Error| DirectoryFault::Os { path: path.clone(), source };
        if create {
            let runtime = std::env::var_os("XDG_RUNTIME_DIR");
            create_directory(&path, runtime.as_deref()).map_err(os)?;
        }
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let opened = retry_on_intr(|| rustix::fs::open(&path, flags, Mode::empty()));
        let descriptor = match opened {
            Ok(descriptor) => descriptor,
            Err(Errno::NOTDIR | Errno::LOOP) => return Err(not_a_directory(path)),
            Err(errno) => return Err(os(errno.into())),
        };
        let stat = rustix::fs::fstat(&descriptor).map_err(|errno| os(errno.into()))?;
        let own_uid = process::uid();
        if stat.st_uid != own_uid && stat.st_uid != 0 {
            return Err(DirectoryFault::Owner { path, owner_uid: stat.st_uid, own_uid });
        }
        let mode = stat.st_mode & 0o7777;
        if mode & 0o022 != 0 {
            return Err(DirectoryFault::Mode { path, mode });
        }
        if shared_mode && stat.st_uid == own_uid && mode & 0o777 == 0o700 {
            let opened_up = Mode::from_raw_mode(mode | 0o011);
            rustix::fs::fchmod(&descriptor, opened_up).map_err(|errno| os(errno.into()))?;
        }
        Ok(Directory { path, descriptor })
    }

    /// Waits at most `patience` for the right to change names here.
    ///
    /// # Errors
    /// `TimedOut` when another process kept the lock that long, else the OS error.
    pub(crate) fn lock(&self, patience: Duration) -> io::Result<DirectoryLock<'_>> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let handle = retry_on_intr(|| rustix::fs::openat(&self.descriptor, ".", flags, Mode::empty()))?;
        let start = Instant::now();
        loop {
            match rustix::fs::flock(&handle, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => return Ok(DirectoryLock::new(self, handle)),
                Err(Errno::AGAIN | Errno::INTR) if start.elapsed() < patience => {
                    // The kernel has no flock with a time-out.
                    super::poll::poll(&mut [], Some(LOCK_RETRY.min(patience)))?;
                }
                Err(Errno::AGAIN | Errno::INTR) => return Err(io::ErrorKind::TimedOut.into()),
                Err(errno) => return Err(errno.into()),
            }
        }
    }

    /// The open directory.
    pub(super) fn descriptor(&self) -> BorrowedFd<'_> {
        self.descriptor.as_fd()
    }

    /// Where the directory is.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

/// Makes the last component, and the one before it only inside `runtime`.
fn create_directory(path: &Path, runtime: Option<&OsStr>) -> io::Result<()> {
    let is_inside =
        |parent: &Path| runtime.is_some_and(|runtime| !runtime.is_empty() && parent.starts_with(runtime));
    match make_one(path) {
        Err(Errno::NOENT) => {
            let parent = path.parent().filter(|parent| is_inside(parent)).ok_or(Errno::NOENT)?;
            make_one(parent)?;
            Ok(make_one(path)?)
        }
        other => Ok(other?),
    }
}

fn make_one(path: &Path) -> rustix::io::Result<()> {
    match rustix::fs::mkdir(path, Mode::RWXU) {
        // Whatever is there is examined by `open`.
        Err(Errno::EXIST) => Ok(()),
        other => other,
    }
}

fn not_a_directory(path: PathBuf) -> DirectoryFault {
    match rustix::fs::lstat(&path) {
        Ok(stat) if FileType::from_raw_mode(stat.st_mode) == FileType::Symlink => {
            DirectoryFault::Symlink { path }
        }
        _ => DirectoryFault::NotDirectory { path },
    }
}

/// Binding takes well below a millisecond, so a holder is usually gone after one retry.
const LOCK_RETRY: Duration = Duration::from_millis(1);
