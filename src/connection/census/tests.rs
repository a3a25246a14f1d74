use super::*;
use crate::config::Config;
use crate::connection::doorway::Doorway;
use crate::connection::endpoint::{Endpoint, Quota};
use std::sync::Arc;

/// A directory of its own for one test, removed on drop.
struct Scratch(PathBuf);

impl Scratch {
    fn new(test: &str) -> Self {
        let path = std::env::temp_dir().join(format!("rw-{}-census-{test}", std::process::id()));
        let _ = std::fs::remove_dir_all(&path);
        Self(path)
    }

    fn open(&self, role: Role) -> Doorway {
        let name = self.0.join("news");
        Doorway::open(&Config::new(), Place::resolve_as(name.to_str().unwrap(), role).unwrap()).unwrap()
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// More than any honest one takes, on a busy machine too.
const LONG: Duration = Duration::from_secs(60);

/// Answers one monitor at each; `None` hangs up instead.
fn answer(doorways: &[Doorway], tables: Option<&Endpoint>) {
    let mut left: Vec<&Doorway> = doorways.iter().collect();
    while !left.is_empty() {
        left.retain(|doorway| {
            let Some(socket) = sys::accept(doorway.socket()).unwrap() else { return true };
            let mut talk = Talk::new(socket, Instant::now() + LONG);
            while talk.receive().unwrap().is_none() {}
            if let Some(tables) = tables {
                tables.show(talk, &Config::new()).unwrap();
            }
            false
        });
        sys::yield_now();
    }
}

#[test]
fn a_directory_that_is_not_there_has_nobody_in_it_and_one_that_others_write_is_refused() {
    let scratch = Scratch::new("none");
    assert!(census(Some(&scratch.0)).unwrap().is_empty());
    drop(scratch.open(Role::RouteSender));
    assert!(census(Some(&scratch.0)).unwrap().is_empty());
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(&scratch.0, std::fs::Permissions::from_mode(0o777)).unwrap();
    assert_eq!(census(Some(&scratch.0)).unwrap_err().kind(), io::ErrorKind::PermissionDenied);
}

#[test]
fn a_sender_tells_how_far_behind_its_readers_are() {
    let scratch = Scratch::new("sender");
    let doorways = [scratch.open(Role::RouteSender)];
    let tables = Arc::new(Endpoint::new(4).unwrap());
    let own = tables.own_slot().unwrap().unwrap();
    let mut sent = own.send_counters();
    sent.messages.add(3);
    sent.position.set(1000);
    let quota = Quota { connections_per_uid_max: 9, bytes_max: u64::MAX, bytes_per_uid_max: u64::MAX };
    let tickets = [71, 72, 73].map(|uid| tables.admit(uid, 1, quota).unwrap());
    assert_eq!(tables.connections(), 3, "its own slot is no connection");
    let slots = tickets.each_ref().map(|ticket| ticket.slot(7).unwrap());
    for (slot, consumed) in slots[..2].iter().zip([400, 1000]) {
        slot.set_kind(SlotKind::Reader);
        slot.reader_counters().consumed.set(consumed);
    }
    slots[2].set_kind(SlotKind::Source);
    slots[2].receive_counters().messages.add(5);
    let entries = std::thread::scope(|scope| {
        scope.spawn(|| answer(&doorways, Some(&tables)));
        count(&scratch.0, LONG).unwrap()
    });
    let [entry] = &entries[..] else { panic!("{entries:?}") };
    assert_eq!((entry.role, entry.state, entry.name.as_str()), (Role::RouteSender, State::Answers, "news"));
    assert_eq!(entry.owner.unwrap().pid, sys::pid());
    assert_eq!((entry.stats.sent_messages, entry.stats.position), (3, 1000));
    let links: Vec<_> =
        entry.links.iter().map(|link| (link.number, link.kind, link.uid, link.behind_bytes)).collect();
    let expected = [
        (2, LinkKind::Receiver, 71, Some(600)),
        (3, LinkKind::Receiver, 72, Some(0)),
        (4, LinkKind::Sender, 73, None),
    ];
    assert_eq!(links, expected);
    assert_eq!(entry.links[2].stats.received_messages, 5);
    assert!(entry.links.iter().all(|link| link.pid == 7));
}

#[test]
fn who_hangs_up_is_silent_and_whoever_bound_the_socket_is_named() {
    let scratch = Scratch::new("hangup");
    let doorways = [Role::ChannelMember, Role::RouteReceiver].map(|role| scratch.open(role));
    let entries = std::thread::scope(|scope| {
        scope.spawn(|| answer(&doorways, None));
        count(&scratch.0, LONG).unwrap()
    });
    let seen: Vec<_> = entries.iter().map(|entry| (entry.role, entry.state)).collect();
    assert_eq!(seen, [(Role::RouteReceiver, State::Silent), (Role::ChannelMember, State::Silent)]);
    assert!(entries.iter().all(|entry| entry.owner.unwrap().pid == sys::pid()));
    assert!(entries.iter().all(|entry| doorways.iter().any(|doorway| doorway.path() == entry.path)));
}

#[test]
fn more_names_than_are_asked_at_once_are_all_asked() {
    let scratch = Scratch::new("many");
    let names = ASKED_AT_ONCE + 44;
    sys::raise_descriptor_limit().unwrap();
    let doorways: Vec<_> = (0..names).map(|_| scratch.open(Role::RouteReceiver)).collect();
    let tables = Endpoint::new(1).unwrap();
    let entries = std::thread::scope(|scope| {
        scope.spawn(|| answer(&doorways, Some(&tables)));
        count(&scratch.0, LONG).unwrap()
    });
    assert_eq!(entries.len(), names);
    assert!(entries.iter().all(|entry| entry.state == State::Answers));
}
