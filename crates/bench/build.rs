//! Tells the program of which commit it is and which compiler made it.

use std::process::Command;

fn main() {
    // Sources of other crates end in the program too: whether they were changed is a part of its name.
    for path in ["../../src", "..", "../../Cargo.lock"] {
        println!("cargo::rerun-if-changed={path}");
    }
    for place in ["logs/HEAD", "index"] {
        if let Some(path) = output("git", &["rev-parse", "--path-format=absolute", "--git-path", place]) {
            println!("cargo::rerun-if-changed={path}");
        }
    }
    println!("cargo::rustc-env=RINGWAY_COMMIT={}", commit().unwrap_or_else(|| "unknown".to_owned()));
    let rustc = std::env::var("RUSTC").unwrap_or_else(|_| "rustc".to_owned());
    let version = output(&rustc, &["--version"]).unwrap_or_else(|| "unknown".to_owned());
    println!("cargo::rustc-env=RINGWAY_RUSTC={version}");
}

fn commit() -> Option<String> {
    let commit = output("git", &["rev-parse", "--short=12", "HEAD"])?;
    let changes = output("git", &["status", "--porcelain", "--untracked-files=no"])?;
    Some(if changes.is_empty() { commit } else { format!("{commit}+") })
}

fn output(program: &str, arguments: &[&str]) -> Option<String> {
    let output = Command::new(program).args(arguments).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    output.status.success().then(|| text.trim().to_owned())
}
