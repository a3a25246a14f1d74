//! Turns rows of results into a page of Markdown and into plots.

mod canvas;
pub mod group;
pub mod number;
pub mod page;
pub mod plots;
#[cfg(test)]
pub(crate) mod sample;
pub mod table;

use std::io::Write;
use std::path::PathBuf;

use anyhow::{Context, Result};

/// Arguments of the report.
#[derive(Debug, clap::Args)]
pub struct ReportArgs {
    /// Files of results, one JSON row a line; several are repetitions of the same list. None: standard input
    pub files: Vec<PathBuf>,
    /// Also write plots (latency.svg, throughput.svg, peers.svg) into this directory
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
}

/// Prints the results as Markdown and draws the plots; returns whether no message was lost or damaged.
///
/// # Errors
/// A file that cannot be read or holds something else than rows, and output that cannot be written.
pub fn run(args: ReportArgs) -> Result<bool> {
    let results = group::read(&args.files)?;
    let text = page::markdown(&results, args.files.len().max(1));
    std::io::stdout().write_all(text.as_bytes()).context("printing the report")?;
    if let Some(folder) = &args.out {
        plots::write(&results, folder)?;
    }
    Ok(results.groups.iter().all(group::Group::is_sound))
}
