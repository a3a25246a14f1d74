//! Operating-system layer: the only place that calls the kernel.
//!
//! One folder per operating system, each with the same few functions. Everything here returns
//! `std::io::Result` with the raw OS error, retries EINTR itself with the correct remaining time,
//! and opens every descriptor close-on-exec.

#[cfg(target_os = "linux")]
#[path = "linux/mod.rs"]
mod platform;

// Callers say `sys::Mapping` or `sys::socket::accept`, whichever reads better.
#[cfg(target_os = "linux")]
pub use platform::*;

#[cfg(not(target_os = "linux"))]
compile_error!(
    "ringway runs on Linux 5.1 or newer only: it needs sealed memfds, and no other system has a port yet"
);
