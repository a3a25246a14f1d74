//! The `ringway` program.
#![forbid(unsafe_code)]

mod demo;

use clap::error::ErrorKind;
use clap::{Args, CommandFactory, Parser, Subcommand, ValueEnum};
use std::path::PathBuf;
use std::process::ExitCode;

/// Shared-memory messaging between processes: shows on this machine what ringway does.
#[derive(Parser)]
#[command(name = "ringway", version, arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Sends messages from several processes to one, over ringway and over Unix sockets, and compares
    ///
    /// Starts a server process and several client processes. First each client sends messages as fast as it can, then
    /// each sends requests and waits for the answers; both over ringway and, with the same checks, over Unix stream
    /// sockets. Every message is checked: a sequence number and a word per 64 bytes in each, every byte in 1 of 64.
    ///
    /// A client may be killed while it runs (the process numbers are printed): the others go on. The exit code is 0 if
    /// nothing was lost or corrupt, 1 if something was or the demo failed, 2 if the arguments make no sense.
    Demo(DemoArgs),
    /// Measures round trips, streams and what they cost, every message checked, next to what the system itself offers
    ///
    /// Each figure is taken between processes of their own and is the median of several runs. A run counts only if a raw
    /// ping-pong of a cache line right before and right after it was as fast as usual. The exit code is 0 if every
    /// message arrived whole, 1 if not or if something failed, 2 if the arguments make no sense.
    Bench(BenchCommand),
    /// A process of a benchmark
    #[command(hide = true)]
    BenchPeer(ringway_bench::PeerArgs),
    /// The server process of a demo
    #[command(hide = true)]
    DemoServer(FamilyArgs),
    /// A client process of a demo
    #[command(hide = true)]
    DemoClient {
        #[command(flatten)]
        family: FamilyArgs,
        /// Number of the client, from 1
        #[arg(long)]
        number: u32,
    },
}

#[derive(Args)]
struct DemoArgs {
    /// Client processes; may be many more than the machine has cores
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u32).range(1..=CLIENTS_MAX))]
    clients: u32,
    /// Bytes of a message, 16 to 67108864 (64 MiB); more than a quarter of the ring travels in fragments
    #[arg(long, default_value_t = 1024, value_parser = clap::value_parser!(u64).range(BYTES_MIN..=BYTES_MAX))]
    bytes: u64,
    /// Seconds for each transport, half for the stream and half for requests and answers
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..=SECS_MAX))]
    secs: u64,
    /// Print one JSON object for each row, and nothing else, on stdout
    #[arg(long)]
    json: bool,
    /// Settings of the ringway connections
    #[arg(long, value_enum, default_value_t = Profile::Latency)]
    profile: Profile,
}

#[derive(Args)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
struct BenchCommand {
    #[command(flatten)]
    measure: Option<ringway_bench::BenchArgs>,
    #[command(subcommand)]
    look: Option<BenchLook>,
}

#[derive(Subcommand)]
enum BenchLook {
    /// Turns results into tables for a document, and into plots
    Report(ringway_bench::report::ReportArgs),
    /// Says which of the figures that ringway is held to were reached
    Bars(ringway_bench::bars::BarsArgs),
}

#[derive(Args)]
struct FamilyArgs {
    /// Directory of the demo
    #[arg(long)]
    dir: PathBuf,
}

#[derive(Clone, Copy, ValueEnum)]
enum Profile {
    /// 1 MiB a direction: small messages with a low tail
    Latency,
    /// 4 MiB a direction: fast streams
    Bulk,
}

fn main() -> ExitCode {
    let result = match Cli::parse().command {
        Command::Demo(args) => demo::run(demo::Options {
            clients: args.clients,
            bytes: args.bytes as usize,
            secs: args.secs,
            bulk: matches!(args.profile, Profile::Bulk),
            json: args.json,
        }),
        Command::Bench(BenchCommand { look: Some(BenchLook::Report(args)), .. }) => {
            ringway_bench::report::run(args)
        }
        Command::Bench(BenchCommand { look: Some(BenchLook::Bars(args)), .. }) => {
            ringway_bench::bars::run(args)
        }
        Command::Bench(BenchCommand { measure: Some(args), .. }) => return ringway_bench::run(&args),
        Command::Bench(_) => {
            Cli::command().error(ErrorKind::MissingRequiredArgument, "say what to measure; see --help").exit()
        }
        Command::BenchPeer(args) => return ringway_bench::run_peer(&args),
        Command::DemoServer(FamilyArgs { dir }) => demo::run_server(dir).map(|()| true),
        Command::DemoClient { family, number } => demo::run_client(family.dir, number).map(|()| true),
    };
    match result {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            demo::tell(&format!("ringway: {}", demo::describe(&error)));
            ExitCode::FAILURE
        }
    }
}

const CLIENTS_MAX: i64 = 1000;
const BYTES_MIN: u64 = demo::MESSAGE_BYTES_MIN as u64;
const BYTES_MAX: u64 = 64 << 20;
const SECS_MAX: u64 = 24 * 3600;
