//! The environment of a result.

use crate::row::Row;
use serde::Serialize;
use std::fs;

/// What a figure depends on beside the program.
#[derive(Debug, Clone, Serialize)]
pub struct Machine {
    /// Name of the processor.
    pub cpu: String,
    /// Processors this process may use.
    pub cores: usize,
    /// Release of the kernel.
    pub kernel: String,
}

impl Machine {
    /// Looks at this machine.
    pub fn look() -> Self {
        let model = fs::read_to_string("/proc/cpuinfo").ok().and_then(|text| {
            let line = text.lines().find(|line| line.starts_with("model name"))?;
            line.split_once(':').map(|(_, name)| name.trim().to_owned())
        });
        Self {
            cpu: model.unwrap_or_else(|| std::env::consts::ARCH.to_owned()),
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            kernel: ringway::platform().kernel,
        }
    }

    /// Writes into a row what the figure was taken on, and with which program.
    pub fn sign(&self, row: &mut Row) {
        row.commit = env!("RINGWAY_COMMIT").to_owned();
        row.rustc = env!("RINGWAY_RUSTC").to_owned();
        row.cpu.clone_from(&self.cpu);
        row.cores = self.cores as u64;
        row.kernel.clone_from(&self.kernel);
    }
}
