//! Where a name lies in the file system.

use crate::error::NameError;
use crate::sys;
use std::env;
use std::path::{Path, PathBuf};

/// A resolved name: the directory, created by us when it is the default one, and the socket's file name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) directory: PathBuf,
    pub(crate) file_name: String,
}

impl Place {
    /// Resolves a name, or a path if it has a slash.
    pub(crate) fn resolve(name: &str) -> Result<Self, NameError> {
        let place = if name.contains('/') { Self::of_path(name)? } else { Self::of_name(name)? };
        let path = place.path();
        // A temporary name, `.PID.tmp` and a part of NAME, stands in the same directory while binding.
        let max = sys::path_bytes_max() - TEMPORARY_BYTES;
        if path.as_os_str().len() > max {
            return Err(NameError::TooLong { path, max });
        }
        Ok(place)
    }

    fn of_name(name: &str) -> Result<Self, NameError> {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
        if !(1..=NAME_BYTES_MAX).contains(&name.len()) || name.starts_with('.') || !name.bytes().all(plain) {
            return Err(NameError::Invalid { name: name.to_owned() });
        }
        Ok(Self { directory: runtime_directory(), file_name: format!("{name}.sock") })
    }

    fn of_path(path: &str) -> Result<Self, NameError> {
        let invalid = || NameError::Invalid { name: path.to_owned() };
        let path = Path::new(path);
        let file_name = path.file_name().and_then(|name| name.to_str()).ok_or_else(invalid)?;
        if file_name.starts_with('.') {
            return Err(invalid());
        }
        let directory = path.parent().ok_or_else(invalid)?.to_path_buf();
        Ok(Self { directory, file_name: file_name.to_owned() })
    }

    /// Returns the path of the socket.
    pub(crate) fn path(&self) -> PathBuf {
        self.directory.join(&self.file_name)
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

    #[test]
    fn names_have_plain_characters_only() {
        for name in ["a", "web-1.prod_2", &"x".repeat(64)] {
            assert!(Place::of_name(name).is_ok(), "{name}");
        }
        for name in ["", ".", "..", ".hidden", "a b", "ä", "a\0", &"x".repeat(65)] {
            assert!(matches!(Place::of_name(name), Err(NameError::Invalid { .. })), "{name}");
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
    }

    #[test]
    fn a_path_that_no_socket_can_have_is_refused_with_both_lengths() {
        let long = format!("/{}/x", "d".repeat(200));
        assert!(matches!(Place::resolve(&long), Err(NameError::TooLong { max: 80..=107, .. })));
    }
}
