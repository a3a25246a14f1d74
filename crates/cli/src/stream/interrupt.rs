//! Ctrl-C: whoever holds a name gets a moment to give it back.

use anyhow::{Context, Result};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use signal_hook::low_level;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};
use std::thread;
use std::time::Duration;

/// Whether somebody asked the program to end.
#[derive(Clone)]
pub struct Interrupt {
    shared: Arc<Shared>,
}

struct Shared {
    /// The signal that came; 0 for none.
    signal: AtomicI32,
    /// Nobody holds a name any more.
    released: AtomicBool,
}

impl Interrupt {
    /// From here on a signal to end is noted; the program has [`GRACE`] to end by itself, and then ends by the signal.
    ///
    /// # Errors
    /// The operating system refuses.
    pub fn watch() -> Result<Self> {
        // Not the hang-up of a terminal, which `nohup` has the program ignore.
        let mut signals = Signals::new([SIGINT, SIGTERM]).context("cannot watch for signals")?;
        let shared = Arc::new(Shared { signal: AtomicI32::new(0), released: AtomicBool::new(false) });
        let interrupt = Self { shared: Arc::clone(&shared) };
        thread::spawn(move || {
            for signal in signals.forever() {
                // Relaxed, here and below: single words, looked at again and again.
                shared.signal.store(signal, Ordering::Relaxed);
                if !shared.released.load(Ordering::Relaxed) {
                    thread::sleep(GRACE);
                }
                // It does not come back from this.
                let _ = low_level::emulate_default_handler(signal);
            }
        });
        Ok(interrupt)
    }

    /// Says whether a signal came.
    pub fn came(&self) -> bool {
        // Relaxed: see `watch`.
        self.shared.signal.load(Ordering::Relaxed) != 0
    }

    /// The name was given back: a signal ends the program at once from here on.
    pub fn release(&self) {
        // Relaxed: see `watch`.
        self.shared.released.store(true, Ordering::Relaxed);
    }

    /// Ends the program as the signal would have, after everything was given back.
    pub fn end(&self) {
        // Relaxed: see `watch`.
        let _ = low_level::emulate_default_handler(self.shared.signal.load(Ordering::Relaxed));
    }
}

/// Ample for removing a name.
const GRACE: Duration = Duration::from_secs(1);
