//! The `ringway` program.
#![forbid(unsafe_code)]

mod broadcast;
mod calls;
mod demo;
mod doctor;
mod exit;
mod figures;
mod list;
mod pages;
mod stream;

use clap::error::ErrorKind;
use clap::{Args, CommandFactory, Parser, Subcommand, ValueEnum};
use std::path::PathBuf;
use std::process::ExitCode;

/// Shared-memory messaging between processes: from the shell, and shown on this machine
#[derive(Parser)]
#[command(name = "ringway", version, arg_required_else_help = true, after_help = exit::HELP)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Writes what one sender sends to the standard output
    ///
    /// Waits for `ringway send` under a name and writes what it reads to the standard output, byte for byte; ends when
    /// the sender has sent everything and knows that it was written. Both may be started in either order:
    ///
    ///   ringway listen box | tar x
    ///   tar c dir | ringway send box
    ///
    /// If the sender dies, what it had sent is written and the exit code is 4. If the reader of the output closes it,
    /// this ends quietly with exit code 0, and the sender is told.
    #[command(after_help = exit::HELP, verbatim_doc_comment)]
    Listen(stream::ListenArgs),
    /// Sends the standard input to a listener, and waits until it has written it
    ///
    /// Ends with exit code 0 when the listener has confirmed that everything was written and flushed, and with 4 if it
    /// ended before. A line or frame that the listener does not take, or a frame that is cut short, is exit code 1.
    /// Waits for a listener that is not there yet, and for its turn if that serves another sender.
    #[command(after_help = exit::HELP)]
    Send(stream::SendArgs),
    /// Sends the standard input to all receivers of a route, or to all members of a channel
    ///
    /// A route has one sender and as many receivers as come; each gets every message from the moment at which it came.
    /// Sender and receivers may be started in any order:
    ///
    ///   ringway sub news --lines
    ///   ringway pub news --lines --wait-for 1
    ///
    /// A message is a line (--lines), a frame (--frames), or what one read brings. Nobody confirms anything: this ends
    /// with exit code 0 when the input has ended, and what was sent can still be read. What happens to who reads too
    /// slowly is up to --policy; what was dropped, and who was cut off, is said on stderr. If the input fails, or this
    /// is killed, receivers see that their sender died.
    #[command(after_help = exit::HELP, verbatim_doc_comment)]
    Pub(broadcast::PubArgs),
    /// Writes what the sender of a route, or the members of a channel, send to the standard output
    ///
    /// Waits for a sender if none is there. Of a route it ends with exit code 0 when the sender has ended, and with 4 if
    /// that died; what came before is written. With --follow it waits for the next sender instead, and so it does in a
    /// channel, until it is interrupted. Ctrl-C or SIGTERM: says what came, exit code 0.
    ///
    /// Messages that were lost because this, or who reads its output, is too slow are said on stderr.
    #[command(after_help = exit::HELP)]
    Sub(broadcast::SubArgs),
    /// Answers each message with the same message, to many clients, until interrupted
    ///
    /// For trying out clients of the library, and for `ringway send --answers`. A client that does not read its answers
    /// for 5 s while there is no room for them gets no more.
    #[command(after_help = exit::HELP)]
    Echo(stream::EchoArgs),
    /// Answers calls, with a few handlers to try them out, until interrupted
    ///
    /// For `ringway call` and for clients of the library. What each type of request takes and answers:
    ///
    ///   echo   (1)  anything; the same
    ///   sink   (2)  anything, one-way too; how many came to the sink so far
    ///   source (3)  `PARTS BYTES` or `PARTS BYTES SECONDS`; so many parts, with a pause between them
    ///   sleep  (4)  `SECONDS`; the same, after that time
    ///   fail   (5)  `CODE TEXT`; a failure with this code and text
    ///   upper  (6)  text; the same in capital letters (A-Z)
    ///   sum    (7)  numbers; their sum
    ///
    /// Ctrl-C or SIGTERM: takes no new calls, answers those in flight, and says what was done. The exit code is 3 if
    /// some could not be answered in the time for that.
    #[command(after_help = exit::HELP, verbatim_doc_comment)]
    Serve(calls::ServeArgs),
    /// Makes a call and writes the answer to the standard output, or makes many and writes how long they took
    ///
    /// The answer is written as it is, byte for byte:
    ///
    ///   ringway serve box &
    ///   ringway call box --type upper --data hello
    ///   ringway call box --type source --data "3 10" --stream --lines
    ///   ringway call box --type echo --data hello --repeat 100000 --concurrency 4
    ///
    /// A failure that the server answers is exit code 7, and its code and text are written to stderr.
    #[command(after_help = exit::HELP, verbatim_doc_comment)]
    Call(calls::CallArgs),
    /// Lists who is there: listeners, senders and receivers of routes, members of channels, and who is connected to whom
    ///
    /// For each its process and user, how many messages it has sent and received, and for each receiver how many bytes
    /// it has not read yet. One that is stopped is listed as silent, and the names of dead processes are listed too; nothing
    /// is changed.
    #[command(after_help = exit::HELP)]
    Ls(list::LsArgs),
    /// Looks whether everything is here that ringway needs, and tries it out
    ///
    /// Says which features of the kernel were found and what is used instead of those that were not, which limits hold,
    /// where names are, and how fast two threads of this machine talk. The exit code is 0 if everything required is
    /// here, and 1 if not.
    #[command(after_help = exit::HELP)]
    Doctor(doctor::DoctorArgs),
    /// Prints completions for a shell
    ///
    /// For example: ringway completions bash > ~/.local/share/bash-completion/completions/ringway
    #[command(after_help = exit::HELP)]
    Completions(pages::CompletionsArgs),
    /// Prints the manual pages, or writes them to a directory
    ///
    /// For example: ringway man | man -l -
    #[command(after_help = exit::HELP)]
    Man(pages::ManArgs),
    /// Sends messages from several processes to one, over ringway and over Unix sockets, and compares
    ///
    /// Starts a server process and several client processes. First each client sends messages as fast as it can, then
    /// each sends requests and waits for the answers, then calls are answered in parts, then each client has many calls
    /// in flight, and at last the server sends to all clients at once; all of it over ringway and, with the same checks,
    /// over Unix stream sockets. In between all clients send to each other over a channel. Every message is
    /// checked: a sequence number and a word per 64 bytes in each, every byte in 1 of 64.
    ///
    /// A client may be killed while it runs (the process numbers are printed): the others go on. In the last two rounds
    /// the demo kills one itself, and stops another for a while: that one is cut off, told so, and joins again. The exit
    /// code is 0 if nothing was lost untold or corrupt, 1 if something was or the demo failed, 2 if the arguments make
    /// no sense.
    #[command(after_help = exit::HELP)]
    Demo(DemoArgs),
    /// Measures round trips, streams and what they cost, every message checked, next to what the system itself offers
    ///
    /// Each figure is taken between processes of their own and is the median of several runs. A run counts only if a raw
    /// ping-pong of a cache line right before and right after it was as fast as usual. The program
    /// fails if a message was lost or damaged.
    #[command(after_help = exit::HELP)]
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
    /// Seconds for each transport, shared out among the kinds of work
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
    /// 2 MiB a direction: fast streams
    Bulk,
}

impl From<Profile> for ringway::Profile {
    fn from(profile: Profile) -> Self {
        match profile {
            Profile::Latency => Self::Latency,
            Profile::Bulk => Self::Bulk,
        }
    }
}

#[derive(Clone, Copy, ValueEnum)]
enum Wait {
    /// Spins for about as long as waking takes, then sleeps
    Auto,
    /// Never sleeps
    Spin,
    /// Sleeps at once
    Sleep,
}

impl From<Wait> for ringway::Wait {
    fn from(wait: Wait) -> Self {
        match wait {
            Wait::Auto => Self::Auto,
            Wait::Spin => Self::Spin,
            Wait::Sleep => Self::Sleep,
        }
    }
}

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return exit::report_usage(&error),
    };
    match run(cli.command) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => exit::report(&error),
    }
}

/// Runs a command; says whether all was well.
fn run(command: Command) -> anyhow::Result<bool> {
    match command {
        Command::Listen(args) => stream::listen(args).map(|()| true),
        Command::Send(args) => stream::send(args).map(|()| true),
        Command::Pub(args) => broadcast::publish(args).map(|()| true),
        Command::Sub(args) => broadcast::subscribe(args).map(|()| true),
        Command::Echo(args) => stream::echo(args).map(|()| true),
        Command::Serve(args) => calls::serve(args).map(|()| true),
        Command::Call(args) => calls::call(args).map(|()| true),
        Command::Ls(args) => list::list(&args).map(|()| true),
        Command::Doctor(args) => doctor::run(&args),
        Command::Completions(args) => pages::completions(&args, Cli::command()).map(|()| true),
        Command::Man(args) => pages::man(&args, Cli::command()).map(|()| true),
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
        Command::Bench(BenchCommand { measure: Some(args), .. }) => ringway_bench::run(&args),
        Command::Bench(_) => {
            let missing = ErrorKind::MissingRequiredArgument;
            Err(Cli::command().error(missing, "say what to measure; see `ringway bench --help`").into())
        }
        Command::BenchPeer(args) => ringway_bench::run_peer(&args),
        Command::DemoServer(FamilyArgs { dir }) => demo::run_server(dir).map(|()| true),
        Command::DemoClient { family, number } => demo::run_client(family.dir, number).map(|()| true),
    }
}

const CLIENTS_MAX: i64 = 1000;
const BYTES_MIN: u64 = demo::MESSAGE_BYTES_MIN as u64;
const BYTES_MAX: u64 = 64 << 20;
const SECS_MAX: u64 = 24 * 3600;
