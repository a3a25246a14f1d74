//! What processes say to each other: one JSON object a line.

use anyhow::{Context, Result};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::io::{self, BufRead, Write};

/// Writes one line.
///
/// # Errors
/// The other side is gone.
pub fn say(mut to: impl Write, what: &impl Serialize) -> io::Result<()> {
    let mut line = serde_json::to_vec(what)?;
    line.push(b'\n');
    to.write_all(&line)?;
    to.flush()
}

/// Reads one line; `None` at the end of the input.
///
/// # Errors
/// The input cannot be read, or is no such line.
pub fn hear<T: DeserializeOwned>(from: &mut impl BufRead) -> Result<Option<T>> {
    let mut line = String::new();
    if from.read_line(&mut line).context("cannot read a control line")? == 0 {
        return Ok(None);
    }
    serde_json::from_str(&line).with_context(|| format!("not a control line: {}", line.trim_end())).map(Some)
}

/// Says what went wrong and why; a cause that is part of what was said already is not repeated.
pub fn describe(error: &anyhow::Error) -> String {
    let mut text = String::new();
    for cause in error.chain().map(ToString::to_string) {
        if text.is_empty() {
            text = cause;
        } else if !text.contains(&cause) {
            text = format!("{text}: {cause}");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_comes_out_as_it_went_in() {
        let mut wire = Vec::new();
        say(&mut wire, &(1, "one")).unwrap();
        say(&mut wire, &(2, "two")).unwrap();
        let mut wire = wire.as_slice();
        assert_eq!(hear(&mut wire).unwrap(), Some((1, "one".to_owned())));
        assert_eq!(hear(&mut wire).unwrap(), Some((2, "two".to_owned())));
        assert_eq!(hear::<(u32, String)>(&mut wire).unwrap(), None);
    }

    #[test]
    fn a_cause_is_told_once() {
        let error = anyhow::anyhow!("no room").context("cannot write: no room").context("cannot go on");
        assert_eq!(describe(&error), "cannot go on: cannot write: no room");
    }

    #[test]
    fn what_is_not_a_line_is_an_error() {
        assert!(hear::<u32>(&mut "nonsense\n".as_bytes()).is_err());
    }
}
