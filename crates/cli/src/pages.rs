//! Completions for shells and manual pages, made from what `--help` is made from.

use crate::exit;
use anyhow::{Context, Result};
use clap::{Args, Command};
use clap_complete::Shell;
use clap_mangen::Man;
use std::fs;
use std::path::PathBuf;

/// Arguments of `completions`.
#[derive(Args)]
pub struct CompletionsArgs {
    /// Shell that reads them
    #[arg(value_enum)]
    shell: Shell,
}

/// Arguments of `man`.
#[derive(Args)]
pub struct ManArgs {
    /// Write each page into a file of its own in this directory, which is made if it is missing
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
}

/// Prints completions.
///
/// # Errors
/// The output fails.
pub fn completions(args: &CompletionsArgs, mut program: Command) -> Result<()> {
    let mut text = Vec::new();
    clap_complete::generate(args.shell, &mut program, NAME, &mut text);
    exit::print(text)
}

/// Prints or writes manual pages.
///
/// # Errors
/// The output or the directory fails.
pub fn man(args: &ManArgs, program: Command) -> Result<()> {
    let pages = pages(program)?;
    let Some(dir) = &args.out else {
        return exit::print(pages.into_iter().flat_map(|(_, text)| text).collect::<Vec<_>>());
    };
    fs::create_dir_all(dir).with_context(|| format!("cannot make {}", dir.display()))?;
    for (name, text) in pages {
        let path = dir.join(format!("{name}.1"));
        fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(())
}

/// Makes the page of the program and of each command that is not hidden.
fn pages(mut program: Command) -> Result<Vec<(String, Vec<u8>)>> {
    program = program.disable_help_subcommand(true);
    program.build();
    let commands: Vec<_> = program
        .get_subcommands()
        .filter(|command| !command.is_hide_set())
        .map(|command| {
            // With a hyphen, as the page is called; without, as it is typed.
            let name = format!("{NAME}-{}", command.get_name());
            command.clone().name(name.clone()).display_name(name).version(env!("CARGO_PKG_VERSION"))
        })
        .collect();
    let all = std::iter::once(program).chain(commands);
    let page = |command: Command| {
        let name = command.get_name().to_owned();
        let mut text = Vec::new();
        Man::new(command).render(&mut text).context("cannot make a manual page")?;
        Ok((name, text))
    };
    all.map(page).collect()
}

const NAME: &str = "ringway";
