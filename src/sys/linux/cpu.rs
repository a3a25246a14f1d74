//! Processors that this process may use.
#![allow(unsafe_code)]

use std::io;
use std::sync::OnceLock;

use rustix::io::Errno;
use rustix::thread::CpuSet;

/// Number of processors that run, ours or not; at least 1. What a pinned thread waits for may run on another.
/// Read once per process.
pub(crate) fn online_cpu_count() -> usize {
    static COUNT: OnceLock<usize> = OnceLock::new();
    *COUNT.get_or_init(|| {
        let list = std::fs::read_to_string("/sys/devices/system/cpu/online");
        list.ok().and_then(|list| listed(&list)).map_or_else(cpu_count, |cpus| cpus.len())
    })
}

/// Returns the numbers of a list such as `0-3,8`.
pub(super) fn listed(list: &str) -> Option<Vec<usize>> {
    let mut numbers = Vec::new();
    for range in list.trim().split(',') {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        let (first, last): (usize, usize) = (first.parse().ok()?, last.parse().ok()?);
        if first > last || last - first > LIST_MAX {
            return None;
        }
        numbers.extend(first..=last);
    }
    Some(numbers)
}

/// Number of processors the calling thread may run on; at least 1.
pub(crate) fn cpu_count() -> usize {
    match rustix::thread::sched_getaffinity(None) {
        Ok(set) => (set.count() as usize).max(1),
        // EINVAL: the machine has more processors than the fixed set holds.
        Err(_) => std::thread::available_parallelism().map_or(1, usize::from),
    }
}

/// Processors the calling thread may run on, ascending; empty if the kernel does not tell.
pub fn allowed_cpus() -> Vec<usize> {
    let Ok(set) = rustix::thread::sched_getaffinity(None) else {
        return Vec::new();
    };
    (0..CpuSet::MAX_CPU).filter(|&cpu| set.is_set(cpu)).collect()
}

/// Keeps the calling thread on processor `cpu`.
///
/// # Errors
/// EINVAL when there is no such processor or the process may not use it.
pub fn pin_current_thread(cpu: usize) -> io::Result<()> {
    if cpu >= CpuSet::MAX_CPU {
        return Err(Errno::INVAL.into());
    }
    let mut set = CpuSet::new();
    set.set(cpu);
    Ok(rustix::thread::sched_setaffinity(None, &set)?)
}

/// Reads a clock of unknown rate that is faster to read than the others: the processor's own on x86-64, of 1 to 5 GHz,
/// else nanoseconds. Only for saying that a good while has passed.
#[inline]
pub(crate) fn ticks() -> u64 {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: reads a counter that every x86-64 processor has and that Linux lets every process read.
    unsafe {
        core::arch::x86_64::_rdtsc()
    }
    #[cfg(not(target_arch = "x86_64"))]
    {
        let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
        (now.tv_sec as u64).wrapping_mul(1_000_000_000).wrapping_add(now.tv_nsec as u64)
    }
}

/// Lets another runnable thread have the processor.
pub(crate) fn yield_now() {
    std::thread::yield_now();
}

/// No machine has as many processors.
const LIST_MAX: usize = 1 << 16;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pinned_thread_is_allowed_one_cpu() {
        let last = *allowed_cpus().last().unwrap();
        assert_eq!(cpu_count(), allowed_cpus().len());
        // A thread of its own: the affinity of the test thread stays.
        let pinned = std::thread::spawn(move || {
            pin_current_thread(last).unwrap();
            allowed_cpus()
        });
        assert_eq!(pinned.join().unwrap(), [last]);
    }

    #[test]
    fn lists_of_processors_are_read() {
        for (list, numbers) in
            [("0", Some(vec![0])), ("0-1\n", Some(vec![0, 1])), ("0-2,8", Some(vec![0, 1, 2, 8]))]
        {
            assert_eq!(listed(list), numbers, "{list:?}");
        }
        for list in ["", "3-1", "x", "0-99999999"] {
            assert_eq!(listed(list), None, "{list:?}");
        }
        assert!(online_cpu_count() >= 1);
    }

    #[test]
    fn a_cpu_that_cannot_exist_is_refused() {
        assert_eq!(pin_current_thread(usize::MAX).unwrap_err().raw_os_error(), Some(libc::EINVAL));
    }
}
