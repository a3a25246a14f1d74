//! Where a name lies in the file system.

use crate::error::NameError;
use crate::sys;
use std::env;
use std::path::{Path, PathBuf};

/// What a socket in the run-time directory is for; its file name says so.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Waits for clients: `NAME.sock`.
    Listener,
    /// Sends on a route: `NAME.route`.
    RouteSender,
    /// Receives from a route: `NAME.route.TOKEN`, where the token is 8 random characters of `a-z2-7`.
    RouteReceiver,
    /// Sends and receives on a channel: `NAME.channel.TOKEN`.
    ChannelMember,
}

/// A resolved name: the directory, created by us when it is the default one, and the socket's file name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) directory: PathBuf,
    pub(crate) file_name: String,
    role: Role,
}

impl Role {
    /// Says whether only one process at a time may have the name.
    pub(crate) fn is_exclusive(self) -> bool {
        matches!(self, Self::Listener | Self::RouteSender)
    }

    /// What follows the name; a token comes after it where the role has one.
    fn suffix(self) -> &'static str {
        match self {
            Self::Listener => ".sock",
            Self::RouteSender => ".route",
            Self::RouteReceiver => ".route.",
            Self::ChannelMember => ".channel.",
        }
    }
}

impl Place {
    /// Resolves the name of a listener, or a path if it has a slash.
    pub(crate) fn resolve(name: &str) -> Result<Self, NameError> {
        Self::resolve_as(name, Role::Listener)
    }

    /// Resolves a name for a role: a fresh random place for those of which there are many.
    ///
    /// With a slash it is a path: for a listener that of the socket itself, else directory and name.
    pub(crate) fn resolve_as(name: &str, role: Role) -> Result<Self, NameError> {
        let (directory, stem) = match name.rsplit_once('/') {
            Some(_) if role == Role::Listener => return Self::of_path(name)?.check_length(),
            Some((_, stem)) => (Self::of_path(name)?.directory, stem),
            None => (runtime_directory(), name),
        };
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
        if !(1..=NAME_BYTES_MAX).contains(&stem.len()) || stem.starts_with('.') || !stem.bytes().all(plain) {
            return Err(NameError::Invalid { name: name.to_owned() });
        }
        let token = if role.is_exclusive() { String::new() } else { sys::fresh_token() };
        let file_name = format!("{stem}{}{token}", role.suffix());
        Self { directory, file_name, role }.check_length()
    }

    /// Tells role and name of a file in the run-time directory; `None` for what is neither.
    pub(crate) fn parse(file_name: &str) -> Option<(Role, &str)> {
        let (role, stem) = match file_name.rsplit_once('.')? {
            (stem, "sock") => (Role::Listener, stem),
            (stem, "route") => (Role::RouteSender, stem),
            (start, token) if sys::is_token(token) => {
                let of_route = start.strip_suffix(".route").map(|stem| (Role::RouteReceiver, stem));
                of_route.or_else(|| Some((Role::ChannelMember, start.strip_suffix(".channel")?)))?
            }
            _ => return None,
        };
        (!stem.is_empty() && !stem.starts_with('.')).then_some((role, stem))
    }

    /// Takes what was found in a directory and [parsed](Self::parse).
    pub(super) fn found(directory: &Path, file_name: &str, role: Role) -> Self {
        Self { directory: directory.to_path_buf(), file_name: file_name.to_owned(), role }
    }

    fn of_path(path: &str) -> Result<Self, NameError> {
        let invalid = || NameError::Invalid { name: path.to_owned() };
        let path = Path::new(path);
        let file_name = path.file_name().and_then(|name| name.to_str()).ok_or_else(invalid)?;
        if file_name.starts_with('.') {
            return Err(invalid());
        }
        let directory = path.parent().ok_or_else(invalid)?.to_path_buf();
        Ok(Self { directory, file_name: file_name.to_owned(), role: Role::Listener })
    }

    /// Checks that a socket can have this path, and the temporary one that stands beside it while binding:
    /// `.PID.tmp` and a part of the name.
    fn check_length(self) -> Result<Self, NameError> {
        let max = sys::path_bytes_max() - TEMPORARY_BYTES;
        let path = self.path();
        // Who sends on a route must be sure that it can be received from.
        let more = if self.role == Role::RouteSender { ".abcdefgh".len() } else { 0 };
        if path.as_os_str().len() + more > max {
            return Err(NameError::TooLong { path, max: max - more });
        }
        Ok(self)
    }

    /// Returns the path of the socket.
    pub(crate) fn path(&self) -> PathBuf {
        self.directory.join(&self.file_name)
    }

    /// Returns what the socket is for.
    pub(crate) fn role(&self) -> Role {
        self.role
    }

    /// Returns the name without what the role adds to it.
    pub(crate) fn name(&self) -> &str {
        Self::parse(&self.file_name).map_or(&self.file_name, |(_, name)| name)
    }

    /// Returns the random end of the file name; zeros for a role without one.
    pub(crate) fn token(&self) -> [u8; 8] {
        let token = self.file_name.rsplit_once('.').filter(|_| !self.role.is_exclusive());
        token.and_then(|(_, token)| token.as_bytes().try_into().ok()).unwrap_or([0; 8])
    }

    /// Returns the place of somebody else under the same name: `token` ends it for a role that has one.
    pub(crate) fn beside(&self, role: Role, token: &str) -> Self {
        let file_name = format!("{}{token}", self.prefix(role));
        Self { directory: self.directory.clone(), file_name, role }
    }

    /// Returns what the file names of a role under the same name begin with.
    pub(super) fn prefix(&self, role: Role) -> String {
        format!("{}{}", self.name(), role.suffix())
    }
}

/// Returns the directory in which names are sockets: the first that applies of `$RINGWAY_DIR`,
/// `$XDG_RUNTIME_DIR/ringway`, `/run/ringway` (if it exists), `/tmp/ringway-UID`.
///
/// Both sides follow the same order, so they meet if they have the same environment.
pub fn runtime_directory() -> PathBuf {
    let set = |name: &str| env::var_os(name).filter(|value| !value.is_empty());
    if let Some(directory) = set("RINGWAY_DIR") {
        return directory.into();
    }
    if let Some(directory) = set("XDG_RUNTIME_DIR") {
        return Path::new(&directory).join("ringway");
    }
    let system = Path::new("/run/ringway");
    if system.is_dir() {
        return system.to_path_buf();
    }
    // Not `$TMPDIR`: both sides must find the same place.
    PathBuf::from(format!("/tmp/ringway-{}", sys::uid()))
}

const NAME_BYTES_MAX: usize = 64;
/// Bytes that a temporary name may be longer than the name it stands for.
const TEMPORARY_BYTES: usize = "..4194304.tmp".len() - "x.sock".len();

#[cfg(test)]
mod tests {
    use super::*;

    const ROLES: [Role; 4] = [Role::Listener, Role::RouteSender, Role::RouteReceiver, Role::ChannelMember];

    #[test]
    fn names_have_plain_characters_only() {
        for role in ROLES {
            for name in ["a", "web-1.prod_2", &"x".repeat(64)] {
                assert_eq!(Place::resolve_as(name, role).unwrap().name(), name);
            }
            for name in ["", ".", "..", ".hidden", "a b", "ä", "a\0", &"x".repeat(65)] {
                let refused = Place::resolve_as(name, role);
                assert!(matches!(refused, Err(NameError::Invalid { .. })), "{name}");
            }
        }
    }

    #[test]
    fn a_value_with_a_slash_is_a_path() {
        let place = Place::resolve("/some/where/web.sock").unwrap();
        assert_eq!(place.directory, Path::new("/some/where"));
        assert_eq!(place.file_name, "web.sock");
        for path in ["/", "/some/..", "a/.hidden"] {
            assert!(Place::resolve(path).is_err(), "{path}");
        }
        let place = Place::resolve_as("/some/where/news", Role::RouteSender).unwrap();
        assert_eq!(place.path(), Path::new("/some/where/news.route"));
        for path in ["/", "/some/..", "a/.hidden", "a/b c", "a/"] {
            assert!(Place::resolve_as(path, Role::ChannelMember).is_err(), "{path}");
        }
    }

    #[test]
    fn a_file_name_tells_role_and_name_whatever_the_name_looks_like() {
        for role in ROLES {
            for name in ["a", "a.sock", "a.route", "a.route.abcdefgh", "a.channel", "a.channel.abcdefgh"] {
                let place = Place::resolve_as(name, role).unwrap();
                assert_eq!(Place::parse(&place.file_name), Some((role, name)), "{}", place.file_name);
                assert_eq!((place.role(), place.name()), (role, name));
            }
        }
        for file_name in ["", "a", ".sock", ".route", "a.route.short", "a.channel.ABCDEFGH", "a.b.abcdefgh"] {
            assert_eq!(Place::parse(file_name), None, "{file_name}");
        }
        assert_eq!(Place::parse(".a.77.tmp"), None);
    }

    #[test]
    fn those_of_whom_there_are_many_have_a_fresh_place_each_time() {
        let of = |role| Place::resolve_as("dir/news", role).unwrap();
        for role in [Role::RouteReceiver, Role::ChannelMember] {
            let (one, other) = (of(role), of(role));
            assert_ne!(one, other);
            let token = String::from_utf8(one.token().to_vec()).unwrap();
            assert!(sys::is_token(&token));
            assert_eq!(other.beside(role, &token), one);
        }
        assert_eq!(of(Role::RouteSender), of(Role::RouteSender));
        assert_eq!(of(Role::RouteSender).token(), [0; 8]);
        assert_eq!(of(Role::RouteReceiver).beside(Role::RouteSender, ""), of(Role::RouteSender));
    }

    #[test]
    fn a_path_that_no_socket_can_have_is_refused_with_both_lengths() {
        let long = format!("/{}/x", "d".repeat(200));
        assert!(matches!(Place::resolve(&long), Err(NameError::TooLong { max: 80..=107, .. })));
    }

    #[test]
    fn who_may_send_on_a_route_may_receive_from_it() {
        let fits = |bytes: usize, role| Place::resolve_as(&format!("/{}/x", "d".repeat(bytes)), role).is_ok();
        for bytes in 60..107 {
            assert_eq!(fits(bytes, Role::RouteSender), fits(bytes, Role::RouteReceiver), "{bytes}");
        }
        assert!(fits(60, Role::RouteSender) && !fits(106, Role::RouteSender));
    }
}
