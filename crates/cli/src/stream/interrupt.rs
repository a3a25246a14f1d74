//! Ctrl-C: whoever holds a name gets a moment to give it back.

use anyhow::{Context, Result};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use signal_hook::low_level;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

/// Whether somebody asked the program to end.
#[derive(Clone)]
pub struct Interrupt {
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    came: Condvar,
}

#[derive(Default)]
struct State {
    /// The signal that came.
    signal: Option<i32>,
    /// Nobody holds a name any more.
    is_released: bool,
}

impl Interrupt {
    /// From here on a signal to end is noted; the program has `grace` to end by itself, and then ends by the signal. A
    /// second signal ends it at once.
    ///
    /// # Errors
    /// The operating system refuses.
    pub fn watch(grace: Duration) -> Result<Self> {
        // Not the hang-up of a terminal, which `nohup` has the program ignore.
        let mut signals = Signals::new([SIGINT, SIGTERM]).context("cannot watch for signals")?;
        let interrupt = Self { shared: Arc::default() };
        let watched = interrupt.clone();
        thread::spawn(move || {
            for signal in signals.forever() {
                if watched.note(signal) {
                    watched.end();
                }
                let watched = watched.clone();
                thread::spawn(move || {
                    thread::sleep(grace);
                    watched.end();
                });
            }
        });
        Ok(interrupt)
    }

    /// Says whether a signal came.
    pub fn came(&self) -> bool {
        self.state().signal.is_some()
    }

    /// Waits until a signal comes.
    pub fn wait(&self) {
        let state = self.state();
        drop(self.shared.came.wait_while(state, |state| state.signal.is_none()));
    }

    /// The name was given back: a signal ends the program at once from here on.
    pub fn release(&self) {
        self.state().is_released = true;
    }

    /// Ends the program as the signal would have, after everything was given back.
    pub fn end(&self) {
        let signal = self.state().signal;
        if let Some(signal) = signal {
            // It does not come back from this.
            let _ = low_level::emulate_default_handler(signal);
        }
    }

    /// Takes note of a signal; says whether it ends the program at once.
    fn note(&self, signal: i32) -> bool {
        let mut state = self.state();
        let is_second = state.signal.replace(signal).is_some();
        self.shared.came.notify_all();
        is_second || state.is_released
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.shared.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Ample for removing a name.
pub const GRACE: Duration = Duration::from_secs(1);
