//! What a process costs in memory: its private pages, and what is allocated for segments whether resident or not.
//!
//! `Anonymous` of `/proc/self/smaps_rollup` counts heap, stacks, and pages of the program that were written to; program
//! text and libraries, which all processes share with the page cache, are left out. Segments are files in memory: their
//! allocated pages are counted (as `st_blocks` has them, or by `mincore` where no descriptor is left), each once, in the
//! process that can write to them, for the other side maps the same pages.
//! What the kernel keeps for sockets and page tables is not seen.

use crate::raw;
use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use std::collections::{HashMap, HashSet};
use std::fs;
use std::os::unix::fs::MetadataExt;

/// What a process costs in memory.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Footprint {
    /// Bytes of private resident pages.
    pub private_bytes: u64,
    /// Bytes allocated for segments that this process writes.
    pub segment_bytes: u64,
}

impl Footprint {
    /// Returns the sum.
    pub fn bytes(self) -> u64 {
        self.private_bytes + self.segment_bytes
    }
}

/// Looks at this process.
///
/// # Errors
/// The kernel does not tell.
pub fn look() -> Result<Footprint> {
    let rollup = fs::read_to_string("/proc/self/smaps_rollup").context("cannot see this process's memory")?;
    let private_bytes = field_bytes(&rollup, "Anonymous:").context("no `Anonymous` in smaps_rollup")?;
    Ok(Footprint { private_bytes, segment_bytes: segment_bytes()? })
}

fn field_bytes(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_whitespace().next()?.parse::<u64>().ok().map(|kib| kib << 10)
}

fn segment_bytes() -> Result<u64> {
    let mut segments = mapped_segments()?;
    for entry in fs::read_dir("/proc/self/fd").context("cannot see this process's descriptors")?.flatten() {
        let is_segment =
            fs::read_link(entry.path()).is_ok_and(|file| file.to_string_lossy().starts_with(SEGMENT));
        if !is_segment || !is_writable(&entry.file_name().to_string_lossy()) {
            continue;
        }
        // Follows the link to the segment itself.
        if let Ok(metadata) = fs::metadata(entry.path()) {
            let bytes = segments.entry(metadata.ino()).or_default();
            *bytes = (*bytes).max(metadata.blocks() * BLOCK_BYTES);
        }
    }
    Ok(segments.values().sum())
}

/// Returns the allocated bytes of segments that are mapped for writing, by their number: most are not open any more.
fn mapped_segments() -> Result<HashMap<u64, u64>> {
    let maps = fs::read_to_string("/proc/self/maps").context("cannot see this process's mappings")?;
    let mut pages: HashMap<u64, HashSet<usize>> = HashMap::new();
    for Mapping { start, bytes, offset, inode } in maps.lines().filter_map(Mapping::of_own_segment) {
        // A mapping that another thread has just removed has no pages.
        let allocated = raw::allocated_pages(start, bytes).unwrap_or_default();
        let numbers = (offset / raw::PAGE_BYTES..).zip(allocated).filter(|(_, allocated)| *allocated);
        // The same part may be mapped twice.
        pages.entry(inode).or_default().extend(numbers.map(|(number, _)| number));
    }
    Ok(pages.into_iter().map(|(inode, pages)| (inode, (pages.len() * raw::PAGE_BYTES) as u64)).collect())
}

/// A mapping of a part of a segment.
#[derive(Debug, PartialEq, Eq)]
struct Mapping {
    start: usize,
    bytes: usize,
    offset: usize,
    inode: u64,
}

impl Mapping {
    /// Reads a line of `/proc/self/maps`; nothing if it is not a segment that this process may write to.
    fn of_own_segment(line: &str) -> Option<Self> {
        let mut words = line.split_whitespace();
        let (start, end) = words.next()?.split_once('-')?;
        let rights = words.next()?;
        let hex = |text: &str| usize::from_str_radix(text, 16).ok();
        let offset = hex(words.next()?)?;
        let inode = words.nth(1)?.parse().ok()?;
        let start = hex(start)?;
        let is_own = rights.contains('w') && words.next()?.starts_with(SEGMENT);
        is_own.then_some(Self { start, bytes: hex(end)?.checked_sub(start)?, offset, inode })
    }
}

fn is_writable(descriptor: &str) -> bool {
    let Ok(text) = fs::read_to_string(format!("/proc/self/fdinfo/{descriptor}")) else { return false };
    let flags = text.lines().find_map(|line| line.strip_prefix("flags:"));
    let flags = flags.and_then(|flags| u32::from_str_radix(flags.trim(), 8).ok());
    flags.is_some_and(|flags| flags & ACCESS_MODE != 0)
}

/// Connections that are weighed together.
pub const CONNECTIONS: u64 = 64;
/// How the kernel calls files in memory.
const SEGMENT: &str = "/memfd:";
const BLOCK_BYTES: u64 = 512;
/// The bits of a descriptor's flags that say whether it reads (0), writes, or both.
const ACCESS_MODE: u32 = 3;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_is_seen_as_segments_of_its_sides() {
        let before = look().unwrap();
        let connection = ringway::pair(&ringway::Config::new().prefault(true)).unwrap();
        let after = look().unwrap();
        drop(connection);
        assert!(before.private_bytes > 0);
        // Two prefaulted rings of 1 MiB.
        assert!(after.segment_bytes >= before.segment_bytes + (2 << 20), "{before:?} {after:?}");
    }

    #[test]
    fn only_segments_that_we_write_are_ours() {
        let line = "7f00-8f00 rw-s 1000 00:01 42   /memfd:ringway (deleted)";
        let mapping = Mapping { start: 0x7f00, bytes: 0x1000, offset: 0x1000, inode: 42 };
        assert_eq!(Mapping::of_own_segment(line), Some(mapping));
        assert_eq!(Mapping::of_own_segment(&line.replace("rw-s", "r--s")), None);
        assert_eq!(Mapping::of_own_segment("7f00-8f00 rw-p 0 00:00 0"), None);
        assert_eq!(Mapping::of_own_segment("7f00-8f00 rw-p 0 00:00 0  [heap]"), None);
    }

    #[test]
    fn a_field_is_found_by_name() {
        let text = "Rss:  12 kB\nAnonymous:      8 kB\n";
        assert_eq!(field_bytes(text, "Anonymous:"), Some(8192));
        assert_eq!(field_bytes(text, "Pss:"), None);
    }
}
