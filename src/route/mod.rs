//! Routes: one sender, any number of receivers.

use crate::broadcast::{Builder, Receiver, Sender, join};
use crate::error::broadcast::JoinError;

/// One sender, any number of receivers in other processes; every receiver gets every message from the moment it joined.
///
/// Whoever comes second as a sender is refused while the first lives, and is welcome the moment that has ended or died.
/// Receivers may come before the sender, and stay when another takes its place.
///
/// # Examples
/// ```
/// use ringway::Route;
/// # let directory = std::env::temp_dir().join(format!("ringway-doc-route-{}", std::process::id()));
/// # let path = directory.join("ticks");
/// # let name = path.to_str().unwrap();
/// let mut sender = Route::sender(name)?;
/// // In other processes, as many as you like:
/// let mut receiver = Route::receiver(name)?;
/// sender.send(b"tick")?;
/// assert_eq!(&*receiver.recv()?, b"tick");
/// # drop((sender, receiver));
/// # std::fs::remove_dir(directory)?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub enum Route {}

impl Route {
    /// Becomes the sender of a route, with default settings; see [`Builder::sender`].
    ///
    /// # Errors
    /// As [`Builder::sender`].
    pub fn sender(name: &str) -> Result<Sender, JoinError> {
        Self::builder().sender(name)
    }

    /// Becomes a receiver of a route, with default settings; see [`Builder::receiver`].
    ///
    /// # Errors
    /// As [`Builder::receiver`].
    pub fn receiver(name: &str) -> Result<Receiver, JoinError> {
        Self::builder().receiver(name)
    }

    /// Returns settings to change.
    pub fn builder() -> Builder<Self> {
        Builder::new()
    }
}

impl Builder<Route> {
    /// Becomes the sender of a route: a name as for [`Config::bind`](crate::Config::bind).
    ///
    /// When it returns, the receivers that were there get everything that is sent from now on.
    ///
    /// # Errors
    /// [`JoinError::SenderExists`]: there is a sender that lives. [`JoinError::Bind`]: the name or the directory cannot be
    /// used, or a setting is out of bounds.
    pub fn sender(&self, name: &str) -> Result<Sender, JoinError> {
        join::route_sender(self.settings(), name)
    }

    /// Becomes a receiver of a route, whether there is a sender or not.
    ///
    /// When it returns, and there was a sender, everything that is sent from now on is received.
    ///
    /// # Errors
    /// [`JoinError::Bind`]; [`JoinError::Refused`]: the sender does not accept us, or we do not accept it.
    pub fn receiver(&self, name: &str) -> Result<Receiver, JoinError> {
        join::route_receiver(self.settings(), name)
    }
}
