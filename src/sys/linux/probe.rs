//! What this kernel offers, found by trying.

use std::os::fd::AsFd;

use super::{barrier, cpu, memory, numa, process, socket};

/// What the running kernel and its limits offer to ringway.
///
/// Nothing here has to be configured: every feature that is missing has a fallback, named at its
/// field. `ringway doctor` prints it.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Platform {
    /// Kernel release as the kernel names it, for example `6.18.44`; `unknown` without `/proc`.
    pub kernel: String,
    /// Segments can never be made executable (Linux 6.3). Without it they could be, by processes
    /// that hold them; nothing else changes.
    pub memfd_noexec_seal: bool,
    /// Segments can be sealed against every writer but their creator (Linux 5.1). Required: there
    /// is no fallback, because a peer could then write into memory that others read.
    pub future_write_seal: bool,
    /// The end of a process can be watched even while a forked child keeps its socket open
    /// (Linux 5.3). Without it only the closing socket tells of death.
    pub pidfd: bool,
    /// The hello brings the peer's process descriptor along (Linux 6.5). Without it only the
    /// closing socket tells of death: a pid is never used as an identity.
    pub pass_pidfd: bool,
    /// A connection can refuse descriptors once its handshake is over (Linux 6.16). Without it a
    /// peer can put some into the queue of a doorbell socket, where the one that closes it, or
    /// reads past them, may have to wait for their last close.
    pub refuse_descriptors: bool,
    /// A sleeper can pay for the memory barrier of its waker (Linux 4.16). Without it every
    /// message carries a fence, which costs streams of small messages about a tenth.
    pub membarrier_global_expedited: bool,
    /// Segments can be brought in by one call (Linux 5.14). Without it `prefault` touches page by
    /// page, which is slower and otherwise the same.
    pub populate_write: bool,
    /// Processors that the calling thread may use. On a machine that has only one, waiting sleeps instead of spinning.
    pub cpus: usize,
    /// Memory nodes that have processors, at least 1. Where there are more, pinned workers of a server take turns on them.
    pub memory_nodes: usize,
    /// Open descriptors allowed now; `u64::MAX` for no limit. A connection takes several.
    pub descriptors_soft: u64,
    /// Open descriptors allowed after `raise_descriptor_limit`.
    pub descriptors_hard: u64,
}

/// Probes the kernel by trying each feature once.
///
/// # Panics
/// Never. A feature that cannot be tried, for example at the descriptor limit, counts as missing.
///
/// # Cost
/// About ten system calls. No state of the process changes.
///
/// # Examples
/// ```
/// let platform = ringway::platform();
/// println!("Linux {}, pidfd: {}", platform.kernel, platform.pidfd);
/// ```
pub fn platform() -> Platform {
    let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease");
    let (descriptors_soft, descriptors_hard) = process::descriptor_limit();
    Platform {
        kernel: kernel.map_or_else(|_| "unknown".to_owned(), |text| text.trim().to_owned()),
        memfd_noexec_seal: memory::has_noexec_seal(),
        future_write_seal: memory::create_segment_file(0)
            .is_ok_and(|file| memory::seal(file.as_fd()).is_ok()),
        pidfd: process::open_pidfd(process::pid()).is_ok(),
        pass_pidfd: socket::stream_pair().is_ok_and(|(end, _other)| socket::pass_pidfd(end.as_fd()).is_ok()),
        refuse_descriptors: socket::stream_pair()
            .is_ok_and(|(end, _other)| socket::set_pass_rights(end.as_fd(), false).is_ok()),
        membarrier_global_expedited: barrier::is_barrier_known(),
        populate_write: memory::has_populate_write(),
        cpus: cpu::cpu_count(),
        memory_nodes: numa::node_count(),
        descriptors_soft,
        descriptors_hard,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_required_features_are_here() {
        let platform = platform();
        assert!(platform.future_write_seal, "{platform:?}");
        assert!(platform.cpus >= 1 && platform.memory_nodes >= 1);
        assert!(platform.descriptors_soft <= platform.descriptors_hard);
        assert_ne!(platform.kernel, "");
    }
}
