//! The thread that drives the handshakes and deals the connections out.

use super::shared::Shared;
use crate::connection::listener::Listener;
use std::io;
use std::sync::Arc;
use std::thread::{Builder, JoinHandle};

/// Starts it. It ends, and the name is removed, when the door is closed.
pub(super) fn spawn(listener: Listener, shared: Arc<Shared>) -> io::Result<JoinHandle<()>> {
    listener.watch_outside(shared.closing())?;
    Builder::new().name("ringway-accept".into()).spawn(move || accept(listener, &shared))
}

fn accept(mut listener: Listener, shared: &Shared) {
    while !shared.is_door_closed() {
        match listener.drive() {
            Ok(Some(connection)) => shared.deal(connection),
            Ok(None) => {
                shared.set_refused(listener.refused());
                // What cannot be waited for now is looked at again at once.
                let _ = listener.wait(None);
            }
            // The listener stays usable: the next clients may have more luck.
            Err(_) => listener.back_off(),
        }
    }
    shared.set_refused(listener.refused());
}
