//! Many clients, some of them in one process, and a server with a pool of threads.

use super::link;
use super::parts::{self, Catch, Line, damage};
use super::{Keep, Outcome, Role, Stage};
use crate::case::{Case, Length, Work};
use crate::raw;
use crate::tally::Tally;
use crate::timing::shared_nanos;
use anyhow::{Context, Result, bail};
use ringway::{CloseReason, Event, Handler, Member, Pool};
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread;
use std::time::Duration;

/// Plays a part over ringway, where the server is a pool.
pub fn play(stage: &Stage) -> Result<(Outcome, Keep)> {
    let Case { work, .. } = stage.job.case;
    if stage.job.role == Role::Server {
        return serve(stage);
    }
    let clients = stage.job.case.clients_of(stage.job.number);
    let connections: Vec<_> =
        clients.map(|number| Ok((number, link::greet(stage, number)?))).collect::<Result<_>>()?;
    match work {
        Work::Fanin => {
            let split = connections.into_iter().map(|(number, (to, from))| ((number, to), from));
            let (senders, receivers): (Vec<_>, Vec<_>) = split.unzip();
            Ok((parts::pour(stage, senders)?, Box::new(receivers)))
        }
        Work::Echo => {
            let lines = connections.into_iter().map(|(number, (to, from))| Line::new(number, to, from));
            Ok((parts::pipeline(stage, lines.collect())?, Box::new(())))
        }
        Work::Probe if stage.job.number == 0 => {
            let Some((_, (sender, receiver))) = connections.into_iter().next() else {
                bail!("nobody is there to probe");
            };
            Ok((link::call(stage, sender, receiver)?, Box::new(())))
        }
        Work::Probe | Work::Crowd => {
            stage.ready()?;
            Ok((Outcome::default(), Box::new(connections)))
        }
        _ => bail!("no such work over a pool"),
    }
}

fn serve(stage: &Stage) -> Result<(Outcome, Keep)> {
    let Case { bytes, clients, work, workers, .. } = stage.job.case;
    let (notes, heard) = mpsc::channel();
    let listener = link::bind(stage)?;
    let answers = work != Work::Fanin;
    let pool = Pool::builder(listener)
        .workers(workers.unwrap_or(1) as usize)
        .serve(move |_| Desk { bytes, answers, seats: Vec::new(), notes: notes.clone() })
        .context("cannot serve")?;
    stage.listening()?;
    for _ in 0..clients {
        match heard.recv().context("the pool is gone")? {
            Note::Greeted => {}
            Note::Left(_, reason) => bail!("a client left before it began: {reason}"),
        }
    }
    let before = stage.ready()?;
    let outcome = match work {
        Work::Crowd => watch(stage.job.case.length)?,
        // Those that are idle stay.
        Work::Probe => gather(&heard, 1, answers)?.since(before),
        _ => gather(&heard, clients, answers)?.since(before),
    };
    Ok((outcome, Box::new(pool)))
}

/// Adds up what came from so many clients when they have left.
fn gather(heard: &Receiver<Note>, clients: u32, answers: bool) -> Result<Outcome> {
    let mut caught = Vec::new();
    while caught.len() < clients as usize {
        match heard.recv().context("the pool is gone")? {
            Note::Left(catch, CloseReason::PeerClosed) => caught.push(catch),
            Note::Left(_, reason) => bail!("a client left: {reason}"),
            Note::Greeted => bail!("a client came late"),
        }
    }
    if answers {
        // The clients count what came back.
        let corrupt = caught.iter().map(|(tally, _)| damage(tally)).sum();
        return Ok(Outcome { corrupt, ..Outcome::default() });
    }
    Ok(parts::sum(caught))
}

/// Looks at what the threads of the pool do while nothing happens; the thread that looks is not counted.
fn watch(length: Length) -> Result<Outcome> {
    let Length::Nanos(nanos) = length else { bail!("idling is measured by time") };
    let time = Duration::from_nanos(nanos);
    // Until whoever was busy with the last connections has gone to sleep.
    thread::sleep(time.min(SETTLE_MAX));
    let (began, before) = (shared_nanos(), raw::usage_of_others());
    thread::sleep(time);
    let (ended, after) = (shared_nanos(), raw::usage_of_others());
    Ok(Outcome {
        span: Some((began, ended)),
        cpu_nanos: after.cpu_nanos.saturating_sub(before.cpu_nanos),
        sleeps: after.sleeps.saturating_sub(before.sleeps),
        ..Outcome::default()
    })
}

/// What a worker tells the server's main thread.
enum Note {
    /// A client has said who it is.
    Greeted,
    /// A client is gone, and this is what it had sent.
    Left(Catch, CloseReason),
}

/// Checks, and answers, what the clients of one worker send.
struct Desk {
    bytes: usize,
    answers: bool,
    /// What came from the member at each seat, and when first; nothing until its hello.
    seats: Vec<Option<(Tally, Option<u64>)>>,
    notes: Sender<Note>,
}

impl Handler for Desk {
    #[inline]
    fn on_event(&mut self, member: &mut Member, event: Event<'_>) {
        let seat = member.seat();
        match event {
            Event::Message(message) => {
                let Some(Some((tally, first))) = self.seats.get_mut(seat) else {
                    return self.greet(seat, message);
                };
                if self.answers {
                    // A client has less under way than its ring holds: no room is as wrong as a wrong answer.
                    if member.sender().try_send(message).is_err() {
                        tally.corrupt += 1;
                    }
                } else if first.is_none() {
                    *first = Some(shared_nanos());
                }
                tally.note(message, self.bytes);
            }
            Event::Left(reason) => {
                let (tally, first) = self.seats.get_mut(seat).and_then(Option::take).unwrap_or_default();
                let span = first.map(|first| (first, shared_nanos()));
                // The main thread ends first only if the whole process does.
                let _ = self.notes.send(Note::Left((tally, span), reason));
            }
            Event::Joined | Event::Room => {}
        }
    }
}

impl Desk {
    #[cold]
    fn greet(&mut self, seat: usize, hello: &[u8]) {
        let Some(number) = hello.first_chunk() else { return };
        self.seats.resize_with(self.seats.len().max(seat + 1), || None);
        self.seats[seat] = Some((Tally::new(u32::from_le_bytes(*number)), None));
        let _ = self.notes.send(Note::Greeted);
    }
}

/// A connection counts as idle after a second at the latest.
const SETTLE_MAX: Duration = Duration::from_secs(1);
