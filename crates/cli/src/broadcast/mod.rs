//! `pub` and `sub`: the standard streams over routes and channels.

mod publish;
mod subscribe;
mod voice;

pub use publish::{PubArgs, publish};
pub use subscribe::{SubArgs, subscribe};

use crate::Wait;
use crate::stream::CommonArgs;
use clap::Args;
use ringway::Config;
use voice::Voice;

/// What both have.
#[derive(Args)]
struct SharedArgs {
    /// Be a member of a channel, which has many senders, instead of a route, which has one
    #[arg(long)]
    channel: bool,
    /// Put this before the name: a name space of one's own
    #[arg(long, value_name = "TEXT", default_value = "")]
    prefix: String,
    /// How to wait while nothing comes, or nobody reads
    #[arg(long, value_enum, default_value_t = Wait::Auto)]
    wait: Wait,
    /// Say on stderr who comes and who goes
    #[arg(long, short)]
    verbose: bool,
    #[command(flatten)]
    common: CommonArgs,
}

impl SharedArgs {
    fn config(&self) -> Config {
        self.common.config().wait(self.wait.into())
    }

    fn voice(&self) -> Voice {
        Voice::new(&self.common, self.verbose)
    }
}
