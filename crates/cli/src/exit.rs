//! Exit codes: what scripts learn from the program, and how errors become such codes and one line of text.
//!
//! A [`Fault`] says its code itself. Any other error is judged by the first cause in its chain that is an error of
//! ringway or of the operating system; what is left is a plain failure.

use crate::demo::{describe, tell};
use anyhow::Result;
use ringway::broadcast::{self, JoinError, WaitError};
use ringway::rpc::{CallError, Failure};
use ringway::{
    AcceptError, BindError, CloseReason, ConnectError, RecvError, RecvTimeoutError, Refusal, SendError,
    SendTimeoutError, TryRecvError, TrySendError,
};
use serde::Serialize;
use std::error::Error;
use std::fmt;
use std::io::{self, Write};
use std::process::ExitCode;

/// What `--help` and the manual pages say of exit codes.
pub const HELP: &str = "Exit codes:
  0  done; also when whoever reads the output has closed it
  1  failure: what could not be done is said on stderr
  2  the arguments make no sense
  3  the time was up
  4  the other side ended, or stopped, before everything was confirmed
  5  no permission: a directory or a peer belongs to somebody else
  6  the other side does not speak the protocol
  7  the call was answered with a failure: its code and text are said on stderr";

/// How the program ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Code {
    /// Something could not be done.
    Failure = 1,
    /// The arguments make no sense.
    Usage = 2,
    /// The time was up.
    TimedOut = 3,
    /// The other side ended before everything was confirmed.
    PeerGone = 4,
    /// A directory, a socket or a peer belongs to somebody else.
    Permission = 5,
    /// The other side does not speak the protocol.
    Violation = 6,
    /// A call was answered with a failure.
    CallFailed = 7,
}

/// An error that knows its exit code.
#[derive(Debug)]
pub struct Fault {
    code: Code,
    text: String,
}

/// Makes an error with a code of its own.
pub fn fault(code: Code, text: impl Into<String>) -> anyhow::Error {
    Fault { code, text: text.into() }.into()
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Error for Fault {}

/// Whoever reads our output has closed it: no failure, and nothing to say.
#[derive(Debug)]
pub struct OutputClosed;

impl fmt::Display for OutputClosed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the output was closed by its reader")
    }
}

impl Error for OutputClosed {}

/// Returns the code for an error.
pub fn code_of(error: &anyhow::Error) -> Code {
    error.chain().find_map(code_of_cause).unwrap_or(Code::Failure)
}

/// Ends the program because of an error: says what happened, unless it is that nobody listens any more.
pub fn report(error: &anyhow::Error) -> ExitCode {
    if error.is::<OutputClosed>() {
        return ExitCode::SUCCESS;
    }
    if let Some(usage) = error.downcast_ref::<clap::Error>() {
        return report_usage(usage);
    }
    tell_error(error);
    ExitCode::from(code_of(error) as u8)
}

/// Says what went wrong, on stderr, without ending.
pub fn tell_error(error: &anyhow::Error) {
    let failure = error.chain().find_map(|cause| cause.downcast_ref::<CallError>()?.failure());
    say(code_of(error), &describe(error), failure);
}

/// Says on stderr why the arguments were not understood; prints what was asked for instead, help for example.
pub fn report_usage(error: &clap::Error) -> ExitCode {
    if error.use_stderr() && wants_json() {
        say(Code::Usage, error.to_string().trim_end(), None);
    } else {
        // Whoever does not read it need not know.
        let _ = error.print();
    }
    if error.use_stderr() { ExitCode::from(Code::Usage as u8) } else { ExitCode::SUCCESS }
}

/// Writes to stdout and flushes.
///
/// # Errors
/// [`OutputClosed`], or what the operating system says.
pub fn print(bytes: impl AsRef<[u8]>) -> Result<()> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(bytes.as_ref()).and_then(|()| stdout.flush()).map_err(output_error)
}

/// Turns an error of writing to stdout into what the program makes of it.
pub fn output_error(error: io::Error) -> anyhow::Error {
    match error.kind() {
        io::ErrorKind::BrokenPipe => OutputClosed.into(),
        _ => anyhow::Error::new(error).context("cannot write to the standard output"),
    }
}

fn say(code: Code, text: &str, failure: Option<&Failure>) {
    #[derive(Serialize)]
    struct Line<'a> {
        error: &'a str,
        code: u8,
        /// What the server answered.
        #[serde(skip_serializing_if = "Option::is_none")]
        failure: Option<u32>,
    }
    let line = if wants_json() {
        serde_json::to_string(&Line {
            error: text,
            code: code as u8,
            failure: failure.map(|failure| failure.code().0),
        })
        .unwrap_or_default()
    } else {
        format!("ringway: {text}")
    };
    tell(&line);
}

/// Says whether errors are wanted as JSON: also when the arguments cannot be understood.
fn wants_json() -> bool {
    std::env::args_os().skip(1).take_while(|argument| argument != "--").any(|argument| argument == "--json")
}

fn code_of_cause(cause: &(dyn Error + 'static)) -> Option<Code> {
    let code = if let Some(fault) = cause.downcast_ref::<Fault>() {
        fault.code
    } else if let Some(error) = cause.downcast_ref::<ConnectError>() {
        code_of_connect(error)
    } else if let Some(error) = cause.downcast_ref::<BindError>() {
        code_of_bind(error)
    } else if let Some(error) = cause.downcast_ref::<AcceptError>() {
        match error {
            AcceptError::Timeout => Code::TimedOut,
            AcceptError::Os { source, .. } => code_of_io(source),
            _ => Code::Failure,
        }
    } else if let Some(error) = cause.downcast_ref::<CallError>() {
        code_of_call(error)
    } else if let Some(error) = cause.downcast_ref::<JoinError>() {
        code_of_join(error)
    } else if let Some(error) = cause.downcast_ref::<io::Error>() {
        code_of_io(error)
    } else {
        return code_of_transfer(cause);
    };
    Some(code)
}

/// Judges the errors of sending and receiving.
fn code_of_transfer(cause: &(dyn Error + 'static)) -> Option<Code> {
    if let Some(error) = cause.downcast_ref::<SendError>() {
        return Some(match error {
            SendError::Closed(reason) => code_of_close(reason),
            _ => Code::Failure,
        });
    }
    if let Some(error) = cause.downcast_ref::<TrySendError>() {
        return Some(match error {
            TrySendError::Closed(reason) => code_of_close(reason),
            _ => Code::Failure,
        });
    }
    if let Some(error) = cause.downcast_ref::<SendTimeoutError>() {
        return Some(match error {
            SendTimeoutError::Timeout => Code::TimedOut,
            SendTimeoutError::Closed(reason) => code_of_close(reason),
            _ => Code::Failure,
        });
    }
    if let Some(error) = cause.downcast_ref::<RecvError>() {
        return Some(code_of_close(error.reason()));
    }
    if let Some(error) = cause.downcast_ref::<RecvTimeoutError>() {
        return Some(match error {
            RecvTimeoutError::Timeout => Code::TimedOut,
            RecvTimeoutError::Closed(reason) => code_of_close(reason),
        });
    }
    if let Some(TryRecvError::Closed(reason)) = cause.downcast_ref::<TryRecvError>() {
        return Some(code_of_close(reason));
    }
    code_of_broadcast(cause)
}

/// Judges the errors of sending to many.
fn code_of_broadcast(cause: &(dyn Error + 'static)) -> Option<Code> {
    if let Some(error) = cause.downcast_ref::<broadcast::SendError>() {
        return Some(match error {
            broadcast::SendError::Closed(reason) => code_of_close(reason),
            _ => Code::Failure,
        });
    }
    match cause.downcast_ref::<WaitError>()? {
        WaitError::Timeout { .. } => Some(Code::TimedOut),
        WaitError::Closed(reason) => Some(code_of_close(reason)),
    }
}

/// Returns the code for the end of a connection that came too early.
pub fn code_of_close(reason: &CloseReason) -> Code {
    match reason {
        CloseReason::PeerClosed | CloseReason::PeerDied { .. } => Code::PeerGone,
        CloseReason::Violation(_) => Code::Violation,
        _ => Code::Failure,
    }
}

fn code_of_connect(error: &ConnectError) -> Code {
    match error {
        ConnectError::Name(_) | ConnectError::Config(_) => Code::Usage,
        ConnectError::Permission { .. } => Code::Permission,
        ConnectError::Refused(refusal) | ConnectError::Untrusted(refusal) => code_of_refusal(*refusal),
        ConnectError::Timeout => Code::TimedOut,
        ConnectError::Dropped => Code::PeerGone,
        ConnectError::Os { source, .. } => code_of_io(source),
        _ => Code::Failure,
    }
}

fn code_of_join(error: &JoinError) -> Code {
    match error {
        JoinError::Bind(error) => code_of_bind(error),
        JoinError::Refused(refusal) => code_of_refusal(*refusal),
        JoinError::Os { source, .. } => code_of_io(source),
        _ => Code::Failure,
    }
}

/// Returns the code for a side that does not want the other.
pub fn code_of_refusal(refusal: Refusal) -> Code {
    match refusal {
        Refusal::NotAllowed => Code::Permission,
        Refusal::Limit | Refusal::Resources => Code::Failure,
        _ => Code::Violation,
    }
}

fn code_of_call(error: &CallError) -> Code {
    match error {
        CallError::Failed(_) => Code::CallFailed,
        CallError::Timeout { .. } => Code::TimedOut,
        CallError::Lost { reason, .. } => code_of_close(reason),
        CallError::Unreachable(error) => code_of_connect(error),
        CallError::Protocol(_) => Code::Violation,
        _ => Code::Failure,
    }
}

fn code_of_bind(error: &BindError) -> Code {
    match error {
        BindError::Name(_) | BindError::Config(_) => Code::Usage,
        BindError::Permission { .. } => Code::Permission,
        BindError::Os { source, .. } => code_of_io(source),
        _ => Code::Failure,
    }
}

fn code_of_io(error: &io::Error) -> Code {
    match error.kind() {
        io::ErrorKind::PermissionDenied => Code::Permission,
        io::ErrorKind::TimedOut => Code::TimedOut,
        _ => Code::Failure,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use anyhow::Context;
    use ringway::NameError;
    use ringway::rpc;

    fn code(error: impl Error + Send + Sync + 'static) -> Code {
        code_of(&anyhow::Error::new(error).context("while doing something").context("and more"))
    }

    #[test]
    fn a_fault_keeps_its_code_under_any_context() {
        let error = fault(Code::TimedOut, "too late").context("cannot connect");
        assert_eq!(
            (code_of(&error), describe(&error).as_str()),
            (Code::TimedOut, "cannot connect: too late")
        );
    }

    #[test]
    fn names_and_settings_are_usage() {
        let name = || NameError::Invalid { name: "a b".into() };
        assert_eq!(code(ConnectError::Name(name())), Code::Usage);
        assert_eq!(code(BindError::Name(name())), Code::Usage);
    }

    #[test]
    fn the_end_of_a_peer_is_told_from_a_violation() {
        assert_eq!(code(SendError::Closed(CloseReason::PeerClosed)), Code::PeerGone);
        assert_eq!(code(RecvTimeoutError::Closed(CloseReason::PeerDied { pid: 1 })), Code::PeerGone);
        let violation = || CloseReason::Violation(ringway::Violation::Padding);
        assert_eq!(code(TrySendError::Closed(violation())), Code::Violation);
        assert_eq!(code(TryRecvError::Closed(violation())), Code::Violation);
        assert_eq!(code(SendTimeoutError::Closed(CloseReason::Os { errno: 5 })), Code::Failure);
        assert_eq!(code(ConnectError::Dropped), Code::PeerGone);
    }

    #[test]
    fn who_cannot_join_fails_as_who_cannot_bind() {
        let name = || NameError::Invalid { name: "a b".into() };
        assert_eq!(code(JoinError::Bind(BindError::Name(name()))), Code::Usage);
        assert_eq!(code(JoinError::SenderExists { path: "/x".into() }), Code::Failure);
        assert_eq!(code(JoinError::Refused(Refusal::NotAllowed)), Code::Permission);
        assert_eq!(code(WaitError::Timeout { present: 1 }), Code::TimedOut);
        assert_eq!(code(broadcast::SendError::Closed(CloseReason::Disconnected)), Code::Failure);
    }

    #[test]
    fn refusals_are_judged_by_their_reason() {
        assert_eq!(code(ConnectError::Refused(Refusal::NotAllowed)), Code::Permission);
        assert_eq!(code(ConnectError::Untrusted(Refusal::NotAllowed)), Code::Permission);
        assert_eq!(code(ConnectError::Refused(Refusal::Version)), Code::Violation);
        assert_eq!(code(ConnectError::Untrusted(Refusal::Malformed)), Code::Violation);
        assert_eq!(code(ConnectError::Refused(Refusal::Limit)), Code::Failure);
    }

    #[test]
    fn time_outs_and_permissions_have_codes_of_their_own() {
        assert_eq!(code(ConnectError::Timeout), Code::TimedOut);
        assert_eq!(code(AcceptError::Timeout), Code::TimedOut);
        assert_eq!(code(SendTimeoutError::Timeout), Code::TimedOut);
        assert_eq!(code(ConnectError::Permission { path: "/x".into() }), Code::Permission);
        assert_eq!(code(BindError::Permission { path: "/x".into(), what: "mode".into() }), Code::Permission);
        assert_eq!(code(io::Error::from(io::ErrorKind::PermissionDenied)), Code::Permission);
        assert_eq!(code(BindError::InUse { path: "/x".into() }), Code::Failure);
    }

    #[test]
    fn calls_without_an_answer_are_told_from_failures() {
        let failed = |code| CallError::Failed(rpc::Failure::new(code, "text"));
        assert_eq!(code(failed(rpc::Code::NOT_FOUND)), Code::CallFailed);
        assert_eq!(code(CallError::Timeout { sent: true }), Code::TimedOut);
        let lost = |reason| CallError::Lost { may_have_run: true, reason };
        assert_eq!(code(lost(CloseReason::PeerDied { pid: 1 })), Code::PeerGone);
        assert_eq!(code(CallError::Unreachable(ConnectError::Timeout)), Code::TimedOut);
        assert_eq!(code(CallError::Protocol(rpc::FrameError::Short { bytes: 1 })), Code::Violation);
        assert_eq!(code(CallError::TooLarge { len: 2, max: 1 }), Code::Failure);
    }

    #[test]
    fn what_nobody_knows_is_a_failure() {
        assert_eq!(code_of(&anyhow::anyhow!("hm")), Code::Failure);
        let inner: Result<()> = Err(io::Error::from(io::ErrorKind::NotFound).into());
        assert_eq!(code_of(&inner.context("cannot read").unwrap_err()), Code::Failure);
    }

    #[test]
    fn a_closed_output_is_recognised() {
        assert!(output_error(io::Error::from(io::ErrorKind::BrokenPipe)).is::<OutputClosed>());
        assert!(!output_error(io::Error::from(io::ErrorKind::StorageFull)).is::<OutputClosed>());
    }
}
