//! Settings of routes and channels.

use super::policy::Policy;
use crate::config::{Config, TIMEOUT_MAX};
use std::fmt;
use std::marker::PhantomData;
use std::time::Duration;

/// Settings of a route (`Route::builder()`) or of a channel (`Channel::builder()`).
///
/// # Examples
/// ```
/// use ringway::{Config, Profile, Route, broadcast::Policy};
/// # let directory = std::env::temp_dir().join(format!("ringway-doc-settings-{}", std::process::id()));
/// # let path = directory.join("ticks");
/// # let name = path.to_str().unwrap();
/// let config = Config::new().profile(Profile::Bulk);
/// let route = Route::builder().config(config).policy(Policy::Overwrite).history(16);
/// let mut sender = route.sender(name)?;
/// sender.send(b"before anybody came")?;
/// let mut receiver = Route::receiver(name)?;
/// sender.send(b"now")?;
/// assert_eq!(&*receiver.recv()?, b"before anybody came");
/// assert_eq!(&*receiver.recv()?, b"now");
/// # drop((sender, receiver));
/// # std::fs::remove_dir(directory)?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[must_use]
pub struct Builder<K> {
    settings: Settings,
    kind: PhantomData<fn() -> K>,
}

/// What a [`Builder`] collects.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    pub(crate) config: Config,
    pub(crate) prefix: String,
    pub(crate) policy: Policy,
    /// Messages kept (sender) or wanted (receiver); `None` where nothing was said.
    pub(crate) history: Option<u32>,
    pub(crate) join_timeout: Duration,
    pub(crate) hears_itself: bool,
}

impl<K> Builder<K> {
    pub(crate) fn new() -> Self {
        Self {
            settings: Settings {
                config: Config::new(),
                prefix: String::new(),
                policy: Policy::default(),
                history: None,
                join_timeout: JOIN_TIMEOUT,
                hears_itself: false,
            },
            kind: PhantomData,
        }
    }

    /// Sets what is set for connections too: ring size, waiting, the longest message, who may take part, trust.
    ///
    /// [`Config::connections_max`] bounds the receivers of a sender, and the senders that a receiver hears.
    pub fn config(mut self, config: Config) -> Self {
        self.settings.config = config;
        self
    }

    /// Sets what is put before the name: a name space. It counts as a part of the name.
    pub fn prefix(mut self, prefix: &str) -> Self {
        self.settings.prefix = prefix.to_owned();
        self
    }

    /// Sets what the sender does about slow receivers; [`Policy::default`] waits for them.
    pub fn policy(mut self, policy: Policy) -> Self {
        self.settings.policy = policy;
        self
    }

    /// Sets how many messages a sender keeps for those who come late, as far as its ring still holds them; none by default.
    /// For a receiver: how many of those it takes at most; all by default.
    ///
    /// # Cost
    /// 8 bytes of private memory for each, and one store to it for each message.
    pub fn history(mut self, messages: u32) -> Self {
        self.settings.history = Some(messages);
        self
    }

    /// Sets how long joining waits for members that do not answer (stopped, say) before it goes on without them; 1 s by
    /// default. They are not forgotten: they take part as soon as they answer.
    pub fn join_timeout(mut self, timeout: Duration) -> Self {
        self.settings.join_timeout = timeout.min(TIMEOUT_MAX);
        self
    }

    pub(crate) fn set_hears_itself(mut self, hears: bool) -> Self {
        self.settings.hears_itself = hears;
        self
    }

    pub(crate) fn settings(&self) -> &Settings {
        &self.settings
    }
}

impl<K> Clone for Builder<K> {
    fn clone(&self) -> Self {
        Self { settings: self.settings.clone(), kind: PhantomData }
    }
}

impl<K> fmt::Debug for Builder<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.settings.fmt(f)
    }
}

const JOIN_TIMEOUT: Duration = Duration::from_secs(1);
