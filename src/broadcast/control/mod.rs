//! The control thread: one per process, begun when the first route or channel is joined. It lets in who comes, subscribes
//! to who knocks, and sees who goes, while the application computes; what it finds it puts on the desks of the handles.
//!
//! Nothing is polled and nothing is watched in the file system: whoever comes has published its own socket before it looks
//! who is there, so of two that come at the same time at least one finds the other, and a sender that finds a receiver
//! knocks at its socket. All subscriptions to a sender are begun by the receiving side, on this thread, so there is one.

mod admit;
mod call;
mod post;
mod watch;

pub(super) use post::{ReaderPart, WriterPart};

use super::desk::Desk;
use super::settings::Settings;
use crate::connection::endpoint::Endpoint;
use crate::connection::name::Place;
use crate::connection::reception::Reception;
use crate::error::Refusal;
use crate::sys;
use call::Call;
use post::Post;
use std::collections::HashMap;
use std::io;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::SyncSender;
use std::time::Instant;
use watch::Watched;

/// Token of a desk's alarm in the sets that handles and the control thread wait for.
pub(super) const DESK: u64 = 0;

/// What the handles of a process ask of its control thread.
pub(super) struct Control {
    desk: Desk<Command>,
    is_running: AtomicBool,
    posts: AtomicU64,
}

/// How a subscription went: whether there was anybody to subscribe to.
pub(super) type Answer = Result<bool, Refusal>;

/// What the control thread is asked for; done in order.
pub(super) enum Command {
    /// Be there for others under a name.
    Open {
        post: u64,
        reception: Box<Reception>,
        settings: Box<Settings>,
        tables: Arc<Endpoint>,
    },
    /// Be there no longer.
    Close {
        post: u64,
    },
    /// Let readers in.
    Write {
        post: u64,
        part: Box<WriterPart>,
    },
    StopWriting {
        post: u64,
    },
    /// Subscribe to senders.
    Read {
        post: u64,
        part: ReaderPart,
    },
    StopReading {
        post: u64,
        /// Is told when everybody was told.
        done: SyncSender<()>,
    },
    /// Subscribe to this sender if it is there, and say how that went.
    Subscribe {
        post: u64,
        place: Place,
        answer: Option<SyncSender<Answer>>,
    },
    /// Subscribe once more to the sender at this place, which has cut us off as the source with this number.
    Renew {
        post: u64,
        place: Place,
        number: u64,
    },
}

impl Control {
    /// Returns that of this process, running.
    ///
    /// # Errors
    /// No thread can be started, or no descriptor is left.
    pub(super) fn get() -> io::Result<&'static Self> {
        let control = CONTROL.get_or_make(|| {
            Ok(Self { desk: Desk::new()?, is_running: AtomicBool::new(false), posts: AtomicU64::new(0) })
        })?;
        control.run()?;
        Ok(control)
    }

    /// Asks for something.
    pub(super) fn ask(&self, command: Command) {
        self.desk.put(command);
    }

    /// Returns a number for a post that nobody has.
    pub(super) fn fresh_post(&self) -> u64 {
        // Relaxed: only uniqueness counts.
        self.posts.fetch_add(1, Ordering::Relaxed)
    }

    fn run(&'static self) -> io::Result<()> {
        // Relaxed: one word decides who starts the thread; the spawn orders the rest.
        if self.is_running.swap(true, Ordering::Relaxed) {
            return Ok(());
        }
        let started = Thread::new(&self.desk).and_then(|thread| {
            std::thread::Builder::new().name("ringway-control".into()).spawn(move || thread.run())
        });
        if let Err(error) = started {
            self.is_running.store(false, Ordering::Relaxed);
            return Err(error);
        }
        Ok(())
    }
}

/// What the control thread works with.
struct Thread {
    desk: &'static Desk<Command>,
    epoll: sys::Epoll,
    posts: HashMap<u64, Post>,
    /// What each token in the set stands for.
    items: HashMap<u64, Item>,
    next_token: u64,
    /// Calls that are to be dialled again at a time.
    redials: Vec<(Instant, u64)>,
}

/// What a token stands for.
enum Item {
    /// Where others come in to a post.
    Door(u64),
    /// A subscription under way.
    Call(Box<Call>),
    /// A subscription that stands.
    Link(Watched),
    /// The process at the other end of the link with this token.
    Process(u64),
}

impl Thread {
    fn new(desk: &'static Desk<Command>) -> io::Result<Self> {
        let epoll = sys::Epoll::new()?;
        epoll.watch(desk.alarm(), DESK)?;
        let (posts, items) = (HashMap::new(), HashMap::new());
        Ok(Self { desk, epoll, posts, items, next_token: DESK + 1, redials: Vec::new() })
    }

    fn run(mut self) {
        loop {
            self.obey_all();
            let until = self.next_deadline();
            if !self.desk.doze() {
                continue;
            }
            let left = until.map(|until| until.saturating_duration_since(Instant::now()));
            let found = self.epoll.wait(left);
            self.desk.wake();
            // Nothing but a set that is no set fails; trying again is all that could be done.
            let Ok(batch) = found else { continue };
            for found in batch.iter() {
                self.hear(found.token, found.hung_up);
            }
            self.see_to_deadlines();
        }
    }

    /// Does what the handles have asked for so far.
    fn obey_all(&mut self) {
        while let Some(command) = self.desk.take() {
            self.obey(command);
        }
    }

    fn obey(&mut self, command: Command) {
        match command {
            Command::Open { post, reception, settings, tables } => {
                self.open(post, *reception, *settings, tables);
            }
            Command::Close { post } => self.close(post),
            Command::Write { post, part } => {
                if let Some(post) = self.posts.get_mut(&post) {
                    post.writer = Some(*part);
                }
            }
            Command::StopWriting { post } => self.stop_writing(post),
            Command::Read { post, part } => {
                if let Some(post) = self.posts.get_mut(&post) {
                    post.reader = Some(part);
                }
            }
            Command::StopReading { post, done } => {
                self.stop_reading(post);
                let _ = done.try_send(());
            }
            Command::Subscribe { post, place, answer } => {
                self.subscribe(post, place, None, answer);
            }
            Command::Renew { post, place, number } => self.renew(post, place, number),
        }
    }

    fn open(&mut self, number: u64, reception: Reception, settings: Settings, tables: Arc<Endpoint>) {
        let token = self.fresh_token();
        // Without a watch nobody is heard, as if we were stopped.
        let _ = self.epoll.watch(reception.set().as_fd(), token);
        self.items.insert(token, Item::Door(number));
        self.posts.insert(number, Post::new(token, reception, settings, tables));
    }

    fn close(&mut self, number: u64) {
        self.stop_reading(number);
        if let Some(post) = self.posts.remove(&number) {
            self.items.remove(&post.token);
            self.epoll.unwatch(post.reception.set().as_fd());
        }
    }

    /// Something happened at a descriptor.
    fn hear(&mut self, token: u64, hung_up: bool) {
        match self.items.get(&token) {
            None if token == DESK => self.desk.silence(),
            None => {}
            Some(Item::Door(post)) => self.receive_visits(*post),
            Some(Item::Call(_)) => self.go_on(token),
            Some(Item::Link(_)) if hung_up => self.lose(token),
            Some(Item::Link(_)) => {}
            Some(Item::Process(link)) => self.lose(*link),
        }
    }

    fn next_deadline(&self) -> Option<Instant> {
        let doors = self.posts.values().filter_map(|post| post.reception.next_deadline());
        doors.chain(self.redials.iter().map(|(when, _)| *when)).min()
    }

    fn see_to_deadlines(&mut self) {
        let now = Instant::now();
        let due: Vec<u64> = self
            .posts
            .iter()
            .filter(|(_, post)| post.reception.next_deadline().is_some_and(|when| when <= now))
            .map(|(number, _)| *number)
            .collect();
        due.into_iter().for_each(|post| self.receive_visits(post));
        let (due, later) = self.redials.drain(..).partition(|(when, _)| *when <= now);
        self.redials = later;
        let due: Vec<(Instant, u64)> = due;
        due.into_iter().for_each(|(_, token)| self.dial(token));
    }

    fn fresh_token(&mut self) -> u64 {
        self.next_token += 1;
        self.next_token
    }
}

/// One for each process; a child made by fork begins its own.
static CONTROL: sys::PerProcess<Control> = sys::PerProcess::new();
