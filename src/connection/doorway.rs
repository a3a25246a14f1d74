//! A socket with a name, where others come in: bound so that nobody meets it half done, unbound when it is dropped.

use super::name::{Place, Role};
use crate::config::Config;
use crate::error::BindError;
use crate::sys;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// A listening socket under a name.
pub(crate) struct Doorway {
    bound: sys::BoundSocket,
    directory: sys::Directory,
    place: Place,
    owner: sys::ForkToken,
    is_unbound: AtomicBool,
}

impl Doorway {
    /// Binds a place. The name of a listener or of a route's sender is taken over from a dead process, never from a
    /// living one; other roles have a name of their own. Dead names in the directory are removed on the way.
    pub(crate) fn open(config: &Config, place: Place) -> Result<Self, BindError> {
        let directory = open_directory(config, &place)?;
        let owner =
            sys::ForkToken::current().map_err(|error| os("set up the fork check for", &place, error))?;
        let mode = if config.is_shared() { SOCKET_MODE_SHARED } else { SOCKET_MODE_PRIVATE };
        let bound = if place.role().is_exclusive() {
            bind_exclusively(&directory, &place, mode)?
        } else {
            bind_afresh(&directory, &place, mode)?
        };
        Ok(Self { bound, directory, place, owner, is_unbound: AtomicBool::new(false) })
    }

    /// Lends the socket on which others come in.
    pub(crate) fn socket(&self) -> BorrowedFd<'_> {
        self.bound.socket.as_fd()
    }

    pub(crate) fn place(&self) -> &Place {
        &self.place
    }

    pub(crate) fn path(&self) -> PathBuf {
        self.place.path()
    }

    /// Says whether this process bound it; a child made by fork did not.
    pub(crate) fn is_ours(&self) -> bool {
        self.owner.is_current()
    }

    /// Lists the others of a role under the same name, those too that are dead.
    pub(crate) fn others(&self, role: Role) -> io::Result<Vec<Place>> {
        let prefix = self.place.prefix(role);
        let names = self.directory.matching(&prefix, &self.place.file_name)?;
        Ok(names.iter().map(|name| self.place.beside(role, &name[prefix.len()..])).collect())
    }

    /// Removes those of these names whose process is dead; returns how many. Does nothing while somebody else changes
    /// names, since whoever comes next can do it as well.
    pub(crate) fn remove_dead(&self, places: &[Place]) -> usize {
        let Ok(lock) = self.directory.lock(Duration::ZERO) else { return 0 };
        places.iter().filter(|place| lock.remove_if_dead(&place.file_name).unwrap_or(false)).count()
    }
}

impl Drop for Doorway {
    fn drop(&mut self) {
        self.unbind();
    }
}

impl Doorway {
    /// Gives the name up; nobody finds us from now on. Does nothing the second time.
    pub(crate) fn unbind(&self) {
        // A child made by fork only closes; the name is the parent's.
        // Relaxed: only who comes first counts.
        if !self.is_ours() || self.is_unbound.swap(true, Ordering::Relaxed) {
            return;
        }
        let lock = self.place.role().is_exclusive().then(|| self.directory.lock(LOCK_PATIENCE));
        if lock.as_ref().is_none_or(Result::is_ok) {
            // A name that could not be removed is dead and goes with the next visitor.
            let _ = self.directory.unbind(&self.place.file_name, &self.bound);
        }
    }
}

fn open_directory(config: &Config, place: &Place) -> Result<sys::Directory, BindError> {
    sys::Directory::open(&place.directory, true, config.is_shared()).map_err(|fault| {
        let (path, what) = (place.directory.clone(), fault.to_string());
        if fault.is_permission() {
            BindError::Permission { path, what }
        } else {
            BindError::Occupied { path, what }
        }
    })
}

fn bind_exclusively(
    directory: &sys::Directory,
    place: &Place,
    mode: u32,
) -> Result<sys::BoundSocket, BindError> {
    let path = place.path();
    let lock = directory.lock(LOCK_PATIENCE).map_err(|error| os("lock the directory of", place, error))?;
    match directory.probe(&place.file_name).map_err(|error| os("look at", place, error))? {
        sys::NameState::Alive => return Err(BindError::InUse { path }),
        sys::NameState::Foreign { kind } => {
            let what = format!("{kind} is in the place of the socket; remove it or choose another name");
            return Err(BindError::Occupied { path, what });
        }
        sys::NameState::Free | sys::NameState::Dead => {}
    }
    lock.sweep(usize::MAX);
    lock.bind(&place.file_name, mode, BACKLOG).map_err(|error| os("bind", place, error))
}

/// Binds a name that nobody else wants. A thousand may do so at a time, so none waits for another, and who holds the
/// lock already cleans up for all.
fn bind_afresh(directory: &sys::Directory, place: &Place, mode: u32) -> Result<sys::BoundSocket, BindError> {
    if let Ok(lock) = directory.lock(Duration::ZERO) {
        lock.sweep(if place.role() == Role::RouteReceiver { SWEEP_OF_MANY } else { usize::MAX });
    }
    directory.bind_fresh(&place.file_name, mode, BACKLOG).map_err(|error| os("bind", place, error))
}

fn os(action: &'static str, place: &Place, source: io::Error) -> BindError {
    BindError::Os { action, path: place.path(), source }
}

const SOCKET_MODE_PRIVATE: u32 = 0o600;
const SOCKET_MODE_SHARED: u32 = 0o666;
/// As many as the kernel lets wait by default.
const BACKLOG: i32 = 4096;
/// How long another process may take to change names in the directory.
const LOCK_PATIENCE: Duration = Duration::from_secs(2);
/// Names that each of a thousand receivers looks at; together they look at all.
const SWEEP_OF_MANY: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::{Path, PathBuf};

    /// A directory of its own for one test, removed on drop.
    struct Scratch(PathBuf);

    impl Scratch {
        fn new(test: &str) -> Self {
            let path = std::env::temp_dir().join(format!("rw-{}-door-{test}", std::process::id()));
            let _ = std::fs::remove_dir_all(&path);
            Self(path)
        }

        fn open(&self, name: &str, role: Role) -> Result<Doorway, BindError> {
            let path = self.0.join(name);
            Doorway::open(&Config::new(), Place::resolve_as(path.to_str().unwrap(), role).unwrap())
        }
    }

    impl Drop for Scratch {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }

    fn entries(path: &Path) -> usize {
        std::fs::read_dir(path).unwrap().count()
    }

    #[test]
    fn a_second_sender_of_a_route_is_refused_while_the_first_lives() {
        let scratch = Scratch::new("second");
        let first = scratch.open("news", Role::RouteSender).unwrap();
        let error = scratch.open("news", Role::RouteSender).err().unwrap();
        assert!(matches!(error, BindError::InUse { .. }), "{error:?}");
        drop(first);
        assert_eq!(entries(&scratch.0), 0);
        scratch.open("news", Role::RouteSender).unwrap();
    }

    #[test]
    fn the_members_of_a_name_find_each_other_and_leave_nothing_behind() {
        let scratch = Scratch::new("others");
        let members: Vec<_> = (0..3).map(|_| scratch.open("chat", Role::ChannelMember).unwrap()).collect();
        let receiver = scratch.open("chat", Role::RouteReceiver).unwrap();
        for member in &members {
            let others = member.others(Role::ChannelMember).unwrap();
            assert_eq!(others.len(), 2);
            assert!(others.iter().all(|place| members.iter().any(|other| other.place() == place)));
            assert!(!others.contains(member.place()));
            assert_eq!(member.others(Role::RouteReceiver).unwrap(), [receiver.place().clone()]);
        }
        drop((members, receiver));
        assert_eq!(entries(&scratch.0), 0);
    }

    #[test]
    fn dead_names_are_removed_and_living_ones_left() {
        let scratch = Scratch::new("dead");
        let sender = scratch.open("news", Role::RouteSender).unwrap();
        let living = scratch.open("news", Role::RouteReceiver).unwrap();
        let dead = living.place().beside(Role::RouteReceiver, "aaaaaaaa");
        drop(sys::bind_stream(&dead.path()).unwrap());
        let others = sender.others(Role::RouteReceiver).unwrap();
        assert_eq!(others.len(), 2);
        assert_eq!(sender.remove_dead(&others), 1);
        assert_eq!(sender.others(Role::RouteReceiver).unwrap(), [living.place().clone()]);
    }
}
