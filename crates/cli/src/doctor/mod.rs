//! `ringway doctor`: what this machine has of what ringway uses, tried out.

mod directory;
mod limits;
mod report;
mod self_test;
mod server;

use crate::exit;
use anyhow::Result;
use clap::Args;
use report::{Finding, Report, State};
use ringway::Platform;

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
pub fn run(args: &DoctorArgs) -> Result<bool> {
    let platform = ringway::platform();
    let mut findings = kernel(&platform);
    findings.extend(limits::limits(&platform));
    findings.extend(server::findings(&platform));
    // Before the self-test, which makes the directory if it is missing and sweeps it.
    let directory = directory::look();
    findings.extend(directory.findings());
    let self_test = self_test::run();
    findings.extend(self_test.findings());
    let report = Report::new(&platform.kernel, directory, self_test, findings);
    let text = if args.json { serde_json::to_string(&report)? + "\n" } else { report.to_string() };
    exit::print(text)?;
    Ok(report.ok)
}

/// What the kernel has, and what is used instead.
fn kernel(platform: &Platform) -> Vec<Finding> {
    let feature = |name, since: &str, is_here: bool, instead: &str| {
        let finding = Finding::new("kernel", name, if is_here { State::Ok } else { State::Missing });
        let finding =
            finding.found(if is_here { "works".into() } else { format!("missing; Linux {since} has it") });
        if is_here { finding } else { finding.instead(instead).fix(format!("use Linux {since} or newer")) }
    };
    let mut sealing =
        feature("seal against other writers", "5.1", platform.future_write_seal, "nothing: required");
    if !platform.future_write_seal {
        sealing = sealing.required();
    }
    vec![
        Finding::new("kernel", "release", State::Info).found(platform.kernel.clone()),
        sealing,
        feature(
            "seal against execution",
            "6.3",
            platform.memfd_noexec_seal,
            "nothing; processes that hold a segment could make it executable",
        ),
        feature(
            "process descriptors",
            "5.3",
            platform.pidfd,
            "the closing socket tells of death, late if a forked child holds it",
        ),
        feature(
            "process descriptor with the hello",
            "6.5",
            platform.pass_pidfd,
            "the closing socket tells of death, late if a forked child holds it",
        ),
        feature(
            "refusing descriptors",
            "6.16",
            platform.refuse_descriptors,
            "nothing; an admitted peer can make closing its connection take long",
        ),
        feature(
            "memory barrier paid by the sleeper",
            "4.16",
            platform.membarrier_global_expedited,
            "a fence for each message, which costs streams of small messages about a tenth",
        ),
        feature(
            "populating memory by one call",
            "5.14",
            platform.populate_write,
            "touching page by page, only when a ring is prefaulted",
        ),
    ]
}
