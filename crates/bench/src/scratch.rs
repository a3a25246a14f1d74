//! Directories of processes that belong together: whoever notices the end first removes it.

use std::fs;
use std::io::ErrorKind;
use std::path::Path;
use std::thread;

/// Removes a directory with all that is in it, also while another process, or another thread of this one, still makes a
/// file in it, or removes it too.
pub fn remove(dir: &Path) {
    for _ in 0..ATTEMPTS {
        match fs::remove_dir_all(dir) {
            Ok(()) => return,
            Err(error) if error.kind() == ErrorKind::NotFound && !dir.exists() => return,
            Err(_) => thread::yield_now(),
        }
    }
}

/// Who makes files makes few.
const ATTEMPTS: u32 = 100;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_goes_while_somebody_makes_files_in_it() {
        let dir = std::env::temp_dir().join(format!("ringway-scratch-{}", std::process::id()));
        fs::create_dir(&dir).unwrap();
        thread::scope(|scope| {
            scope.spawn(|| (0..100).for_each(|number| drop(fs::write(dir.join(number.to_string()), b"x"))));
            scope.spawn(|| remove(&dir));
            scope.spawn(|| remove(&dir));
        });
        remove(&dir);
        assert!(!dir.exists());
    }
}
