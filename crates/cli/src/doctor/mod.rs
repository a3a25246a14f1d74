//! `ringway doctor`.

use anyhow::Result;
use clap::Args;

/// Arguments of `doctor`.
#[derive(Args)]
pub struct DoctorArgs {
    /// Print one JSON object, and nothing else, on stdout
    #[arg(long)]
    json: bool,
}

/// Runs `doctor`; says whether everything required is here.
///
/// # Errors
/// The output fails.
pub fn run(_args: &DoctorArgs) -> Result<bool> {
    Ok(true)
}
