//! `ringway echo`: sends back what comes, to many clients at one time.
//!
//! A client of the library gets each of its messages back. `ringway send` is known by its greeting: it gets its data
//! back, and at its end the confirmation that this was all.
//!
//! One thread serves all. A client that sends without reading its answers holds up the others when its ring is full,
//! for [`ANSWER_LIMIT`] and once: then it is disconnected.

use super::CommonArgs;
use super::inlet::TICK;
use super::interrupt::{GRACE, Interrupt};
use super::meter::Meter;
use super::wire::{self, Content, NOTE_BYTES, Note, Role, Totals};
use crate::demo::tell;
use crate::exit;
use anyhow::{Context, Result};
use clap::Args;
use ringway::{CloseReason, Event, Group, Member, SendTimeoutError, TrySendError};
use std::collections::HashMap;
use std::time::{Duration, Instant};

/// Arguments of `echo`.
#[derive(Args)]
pub struct EchoArgs {
    /// Name to listen at, or the path of a socket if it has a slash
    name: String,
    #[command(flatten)]
    common: CommonArgs,
}

/// Runs `echo`.
///
/// # Errors
/// The name cannot be had, or the listener fails.
pub fn echo(args: EchoArgs) -> Result<()> {
    let interrupt = Interrupt::watch(GRACE)?;
    let mut group = Group::new(args.common.config().bind(&args.name)?).context("cannot serve clients")?;
    let meter = Meter::start(args.common.show(false));
    let mut desk = Desk { quiet: args.common.quiet, ..Desk::default() };
    while !interrupt.came() {
        group.turn(Some(Instant::now() + TICK), |member, event| desk.handle(member, event))?;
        meter.show(desk.answered.bytes);
    }
    meter.summarize("answered", desk.answered);
    drop(group);
    interrupt.release();
    Ok(())
}

/// What is known of a client.
enum Client {
    /// It has said nothing.
    New,
    /// It uses the library.
    Plain,
    /// It is `ringway send`.
    Greeted { held: Option<[u8; NOTE_BYTES]>, totals: Totals },
}

#[derive(Default)]
struct Desk {
    clients: HashMap<u64, Client>,
    answered: Totals,
    quiet: bool,
}

impl Desk {
    fn handle(&mut self, member: &mut Member, event: Event<'_>) {
        let number = member.id().number();
        match event {
            Event::Joined => {
                self.clients.insert(number, Client::New);
            }
            Event::Message(message) => {
                let Some(client) = self.clients.get_mut(&number) else { return };
                if !client.take(member, message, &mut self.answered) {
                    self.cut_off(member);
                }
            }
            Event::Room => {}
            Event::Left(reason) => {
                if let Some(client) = self.clients.remove(&number) {
                    client.leave(member, &reason, &mut self.answered);
                }
                if let CloseReason::Violation(violation) = reason {
                    exit::tell_error(&violation.into());
                }
            }
        }
    }

    /// Ends the connection of a client that does not read; what it was sent before is still delivered.
    fn cut_off(&self, member: &mut Member) {
        member.disconnect();
        if !self.quiet {
            let pid = member.peer_cred().pid;
            tell(&format!(
                "ringway: client {} (process {pid}) does not read its answers and is disconnected",
                member.id().number()
            ));
        }
    }
}

impl Client {
    /// Answers a message; says whether that was possible.
    fn take(&mut self, member: &mut Member, message: &[u8], answered: &mut Totals) -> bool {
        if let Self::New = self {
            *self = match Note::decode(message) {
                Ok(Note::Greeting(Role::Send, _)) => Self::Greeted { held: None, totals: Totals::default() },
                _ => Self::Plain,
            };
            if let Self::Greeted { .. } = self {
                let greeting = Note::Greeting(Role::Echo, Content::Any).encode();
                return answer(member, &greeting) && answer(member, &Note::Go.encode());
            }
        }
        match self {
            Self::Greeted { held, totals } => {
                let mut is_well = true;
                if let Some(held) = held.take() {
                    totals.add(held.len());
                    answered.add(held.len());
                    is_well = answer(member, &held);
                }
                if wire::looks_like_a_note(message) {
                    *held = message.first_chunk().copied();
                    return is_well;
                }
                totals.add(message.len());
                answered.add(message.len());
                is_well && answer(member, message)
            }
            Self::New | Self::Plain => {
                answered.add(message.len());
                answer(member, message)
            }
        }
    }

    /// Confirms, if this was an end and not a failure.
    fn leave(self, member: &mut Member, reason: &CloseReason, answered: &mut Totals) {
        let (Self::Greeted { held: Some(held), totals }, CloseReason::PeerClosed) = (self, reason) else {
            return;
        };
        if Note::decode(&held) != Ok(Note::End(totals)) {
            answered.add(held.len());
        }
        // If it was data, the client gave up and nobody waits for either.
        answer(member, &held);
    }
}

/// Sends an answer; says whether the client reads. One that is gone counts as reading: it will leave.
fn answer(member: &mut Member, message: &[u8]) -> bool {
    let sender = member.sender();
    match sender.try_send(message) {
        Err(TrySendError::Full | TrySendError::TooLarge { .. }) => {
            let sent = sender.send_timeout(message, ANSWER_LIMIT);
            !matches!(sent, Err(SendTimeoutError::Timeout | SendTimeoutError::TooLarge { .. }))
        }
        _ => true,
    }
}

/// How long one client may hold up the others.
const ANSWER_LIMIT: Duration = Duration::from_secs(5);
