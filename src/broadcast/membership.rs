//! Being there for others under a name, and finding them.

use super::control::{Answer, Command, Control, ReaderPart, WriterPart};
use super::settings::Settings;
use crate::config::Config;
use crate::connection::doorway::Doorway;
use crate::connection::endpoint::Endpoint;
use crate::connection::name::{Place, Role};
use crate::connection::reception::Reception;
use crate::connection::talk::{Talk, Trouble};
use crate::error::broadcast::JoinError;
use crate::error::{BindError, Refusal};
use crate::metrics::Slot;
use crate::proto::handshake::{Knock, Message, Purpose};
use crate::sys;
use std::io;
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// A name under which one or two handles of this process are there for others. It is held while one of them is.
pub(super) struct Membership {
    settings: Settings,
    name: String,
    role: Role,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    open: Option<Arc<Open>>,
    has_sender: bool,
    has_receiver: bool,
    last_path: PathBuf,
}

/// A name that is held.
pub(super) struct Open {
    control: &'static Control,
    post: u64,
    doorway: Arc<Doorway>,
    /// Our own line in the tables; each of the two handles writes its own words of it.
    pub(super) slot: Arc<Slot>,
}

impl Membership {
    pub(super) fn new(settings: &Settings, name: &str, role: Role) -> Arc<Self> {
        let name = match name.rsplit_once('/') {
            Some((directory, stem)) => format!("{directory}/{}{stem}", settings.prefix),
            None => format!("{}{name}", settings.prefix),
        };
        Arc::new(Self { settings: settings.clone(), name, role, state: Mutex::default() })
    }

    pub(super) fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Says whether there may be several senders.
    pub(super) fn is_channel(&self) -> bool {
        self.role == Role::ChannelMember
    }

    /// Returns the path of the socket, or where it was last.
    pub(super) fn path(&self) -> PathBuf {
        self.state().last_path.clone()
    }

    /// Lets readers in from now on. The name is taken if it is not held.
    pub(super) fn attach_sender(
        &self,
        part: impl FnOnce(&Open) -> Result<WriterPart, JoinError>,
    ) -> Result<Arc<Open>, JoinError> {
        let mut state = self.state();
        let open = self.open(&mut state)?;
        let part = part(&open).inspect_err(|_| close_if_idle(&mut state))?;
        open.control.ask(Command::Write { post: open.post, part: Box::new(part) });
        state.has_sender = true;
        Ok(open)
    }

    /// Subscribes to whoever knocks from now on. The name is taken if it is not held.
    pub(super) fn attach_receiver(
        &self,
        part: impl FnOnce(&Open) -> Result<ReaderPart, JoinError>,
    ) -> Result<Arc<Open>, JoinError> {
        let mut state = self.state();
        let open = self.open(&mut state)?;
        let part = part(&open).inspect_err(|_| close_if_idle(&mut state))?;
        open.control.ask(Command::Read { post: open.post, part });
        state.has_receiver = true;
        Ok(open)
    }

    /// Lets nobody in any more.
    pub(super) fn detach_sender(&self) {
        let mut state = self.state();
        if let Some(open) = &state.open {
            open.control.ask(Command::StopWriting { post: open.post });
        }
        state.has_sender = false;
        close_if_idle(&mut state);
    }

    /// Subscribes to nobody any more.
    ///
    /// Waits until the control thread has said so to those that are letting us in: the process may end right after this,
    /// and should not look as if it had died.
    pub(super) fn detach_receiver(&self) {
        let mut state = self.state();
        let told = state.open.as_ref().map(|open| {
            let (done, told) = sync_channel(1);
            open.control.ask(Command::StopReading { post: open.post, done });
            told
        });
        state.has_receiver = false;
        close_if_idle(&mut state);
        drop(state);
        let _ = told.map(|told| told.recv_timeout(LEAVE_PATIENCE));
    }

    /// Subscribes once more to a sender that has cut us off.
    pub(super) fn renew(&self, place: Place, number: u64) {
        if let Some(open) = &self.state().open {
            open.control.ask(Command::Renew { post: open.post, place, number });
        }
    }

    fn open(&self, state: &mut State) -> Result<Arc<Open>, JoinError> {
        if let Some(open) = &state.open {
            return Ok(Arc::clone(open));
        }
        let config = &self.settings.config;
        config.check().map_err(|error| JoinError::Bind(BindError::Config(error)))?;
        let place = Place::resolve_as(&self.name, self.role)
            .map_err(|error| JoinError::Bind(BindError::Name(error)))?;
        let control = Control::get().map_err(|source| os("start the control thread", source))?;
        // For others, and for ourselves.
        let slots = if self.role == Role::RouteReceiver { 1 } else { config.peers_max()? + 1 };
        let tables =
            Arc::new(Endpoint::new(slots).map_err(|source| os("create the endpoint segment", source))?);
        let own_slot = tables.own_slot().map_err(|source| os("make a statistics slot", source))?;
        let Some(slot) = own_slot else { unreachable!("invariant: there is one more slot than peers") };
        let doorway = Arc::new(Doorway::open(config, place).map_err(|error| match error {
            BindError::InUse { path } => JoinError::SenderExists { path },
            error => JoinError::Bind(error),
        })?);
        let reception = Reception::new(Arc::clone(&doorway), config.handshake_timeout)
            .map_err(|source| os("watch the socket", source))?;
        let post = control.fresh_post();
        let settings = Box::new(self.settings.clone());
        control.ask(Command::Open { post, reception: Box::new(reception), settings, tables });
        state.last_path = doorway.path();
        let open = Arc::new(Open { control, post, doorway, slot: Arc::new(slot) });
        state.open = Some(Arc::clone(&open));
        Ok(open)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Gives the name up if no handle needs it.
fn close_if_idle(state: &mut State) {
    if !state.has_sender
        && !state.has_receiver
        && let Some(open) = state.open.take()
    {
        // Here and not on the control thread: who comes next under this name finds it free.
        open.doorway.unbind();
        open.control.ask(Command::Close { post: open.post });
    }
}

impl Open {
    /// Knocks at all who may want to hear us, and waits until they have subscribed, at most until `deadline`.
    pub(super) fn knock(&self, instance: u64, deadline: Instant) -> io::Result<()> {
        let own = self.doorway.place();
        let (role, purpose) = match own.role() {
            Role::ChannelMember => (Role::ChannelMember, Purpose::Channel),
            _ => (Role::RouteReceiver, Purpose::Route),
        };
        let message = Message::Knock(Knock { purpose, instance, name: own.token() });
        let (mut knocked, mut dead) = (Vec::new(), Vec::new());
        let mut places = self.doorway.others(role)?;
        while let Some(place) = places.pop() {
            match connect(&place, deadline) {
                Ok(socket) => {
                    let talk = Talk::new(socket, deadline);
                    if talk.send(&message, &[]).is_ok() {
                        knocked.push(talk);
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => dead.push(place),
                Err(error) if sys::is_out_of_descriptors(&error) => {
                    if knocked.is_empty() {
                        return Err(error);
                    }
                    // Those who have subscribed give their descriptors back.
                    await_hang_up(std::mem::take(&mut knocked), deadline)?;
                    places.push(place);
                }
                // It has left meanwhile, or is stopped with thousands before us in its queue.
                Err(_) => {}
            }
        }
        if !dead.is_empty() {
            self.doorway.remove_dead(&dead);
        }
        await_hang_up(knocked, deadline)
    }

    /// Subscribes to all senders that are there, and waits until they have let us in, at most until `deadline`. Returns the
    /// refusals.
    pub(super) fn subscribe(&self, hears_itself: bool, deadline: Instant) -> io::Result<Vec<Refusal>> {
        let own = self.doorway.place();
        let mut places = match own.role() {
            Role::ChannelMember => self.doorway.others(Role::ChannelMember)?,
            _ => vec![own.beside(Role::RouteSender, "")],
        };
        if hears_itself {
            places.push(own.clone());
        }
        let answers: Vec<Receiver<Answer>> = places.into_iter().map(|place| self.call(place)).collect();
        let left = || deadline.saturating_duration_since(Instant::now());
        let heard = answers.into_iter().filter_map(|answer| answer.recv_timeout(left()).ok());
        Ok(heard.filter_map(Result::err).collect())
    }

    /// Subscribes to our own sender.
    pub(super) fn subscribe_to_itself(&self) {
        drop(self.call(self.doorway.place().clone()));
    }

    fn call(&self, place: Place) -> Receiver<Answer> {
        let (answer, heard) = sync_channel(1);
        self.control.ask(Command::Subscribe { post: self.post, place, answer: Some(answer) });
        heard
    }
}

/// Opens a socket, again and again while its queue is full.
fn connect(place: &Place, deadline: Instant) -> io::Result<std::os::fd::OwnedFd> {
    loop {
        match sys::connect_stream(&place.path()) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock && Instant::now() < deadline => {
                sys::poll(&mut [], Some(QUEUE_RETRY))?;
            }
            outcome => return outcome,
        }
    }
}

/// Waits until all of them have hung up.
fn await_hang_up(mut talks: Vec<Talk>, deadline: Instant) -> io::Result<()> {
    while !talks.is_empty() {
        let left = deadline.saturating_duration_since(Instant::now());
        let mut items: Vec<sys::PollItem<'_>> =
            talks.iter().map(|talk| sys::PollItem::hangup_only(talk.socket())).collect();
        if sys::poll(&mut items, Some(left))? == 0 {
            // A signal, perhaps.
            if Instant::now() >= deadline {
                return Ok(());
            }
        }
        let gone: Vec<bool> = items.iter().map(sys::PollItem::is_hung_up).collect();
        let mut gone = gone.into_iter();
        talks.retain(|_| !gone.next().unwrap_or(true));
    }
    Ok(())
}

impl Config {
    /// Returns how many receivers a sender may have, or how many others a member: as many as were asked for, else 4,096 or
    /// what the descriptors of the process suffice for.
    fn peers_max(&self) -> Result<usize, JoinError> {
        let (soft, hard) = sys::descriptor_limit();
        // Who may not raise it has to do with the soft limit.
        let limit = sys::raise_descriptor_limit().map_or(soft, |(soft, _)| soft);
        let fitting = (limit.saturating_sub(DESCRIPTORS_FIXED) / DESCRIPTORS_PER_PEER) as usize;
        match self.connections_max {
            Some(wanted) if wanted > fitting => Err(JoinError::Bind(BindError::Descriptors {
                connections_max: wanted,
                needed: DESCRIPTORS_FIXED + DESCRIPTORS_PER_PEER * wanted as u64,
                limit: limit.min(hard),
            })),
            Some(wanted) => Ok(wanted),
            None => Ok(fitting.clamp(1, PEERS_MAX_DEFAULT)),
        }
    }
}

pub(super) fn os(action: &'static str, source: io::Error) -> JoinError {
    JoinError::Os { action, source }
}

pub(super) fn join_error(trouble: Trouble) -> JoinError {
    match trouble {
        Trouble::Os(action, source) => JoinError::Os { action, source },
        Trouble::Unacceptable(refusal) | Trouble::Refused(refusal) => JoinError::Refused(refusal),
        Trouble::HungUp => JoinError::Refused(Refusal::Resources),
    }
}

/// The socket and the peer's process.
const DESCRIPTORS_PER_PEER: u64 = 2;
/// For the control thread, subscriptions under way, and what else the process has open.
const DESCRIPTORS_FIXED: u64 = 256;
pub(super) const PEERS_MAX_DEFAULT: usize = 4096;
/// How long leaving waits for the control thread, which answers within microseconds once it runs.
const LEAVE_PATIENCE: Duration = Duration::from_millis(100);
/// A full queue empties within microseconds once its owner runs.
const QUEUE_RETRY: Duration = Duration::from_millis(1);
