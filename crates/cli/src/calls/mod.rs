//! `serve` and `call`: requests and responses from the shell.

mod call;
mod handlers;
mod load;
mod message_type;
mod serve;

pub use call::{CallArgs, call};
pub use serve::{ServeArgs, serve};

use crate::stream::{MESSAGE_BYTES_MAX, MESSAGE_BYTES_RANGE};
use crate::{Profile, Wait};
use clap::Args;
use ringway::Config;

/// What both have.
#[derive(Args)]
struct SettingsArgs {
    /// Longest request or response that is accepted, in bytes, up to 1073741824 (1 GiB)
    #[arg(long, value_name = "BYTES", default_value_t = MESSAGE_BYTES_MAX)]
    #[arg(value_parser = clap::value_parser!(u64).range(MESSAGE_BYTES_RANGE))]
    message_bytes_max: u64,
    /// Settings of connections
    #[arg(long, value_enum, default_value_t = Profile::Latency)]
    profile: Profile,
    /// How to wait while nothing comes
    #[arg(long, value_enum, default_value_t = Wait::Auto)]
    wait: Wait,
    /// Do without checksums towards those who do so too
    #[arg(long)]
    no_checksum: bool,
    /// Say nothing on stderr but errors
    #[arg(long, short)]
    quiet: bool,
    /// Write events, summaries and errors as one JSON object a line
    #[arg(long)]
    json: bool,
}

impl SettingsArgs {
    fn config(&self) -> Config {
        let config = Config::new().profile(self.profile.into()).wait(self.wait.into());
        config.message_bytes_max(self.message_bytes_max)
    }
}
