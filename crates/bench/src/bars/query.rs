//! Finds the row that a bar is about.

use crate::report::group::{Group, Identity, LIMIT, RINGWAY, Results};

/// What a row must have measured.
#[derive(Debug, Clone)]
pub(super) struct Query {
    transport: String,
    work: String,
    bytes: Option<u64>,
    bytes_min: Option<u64>,
    /// Senders and receivers of a route or channel.
    spread: Option<(u64, u64)>,
    clients: u64,
    batch: u64,
    profile: Option<String>,
    wait: Option<String>,
    rate: Option<u64>,
    depth: Option<u64>,
    pool: Option<bool>,
    checksum: Option<bool>,
    best: bool,
}

impl Query {
    /// A row of ringway: one client or pair, every message published at once, not trusted, as fast as it goes.
    pub(super) fn ours(work: &str) -> Query {
        Query { pool: Some(false), ..Query::peer(RINGWAY, work) }
    }

    /// A row of ringway whose server is a pool.
    pub(super) fn pool(work: &str) -> Query {
        Query { pool: Some(true), ..Query::peer(RINGWAY, work) }
    }

    /// A row of another transport at the same work.
    pub(super) fn peer(transport: &str, work: &str) -> Query {
        Query {
            transport: transport.to_owned(),
            work: work.to_owned(),
            bytes: None,
            bytes_min: None,
            spread: None,
            clients: 1,
            batch: 1,
            profile: None,
            wait: None,
            rate: None,
            depth: None,
            pool: None,
            checksum: None,
            best: false,
        }
    }

    /// A row of messages of 2 to 256 bytes from so many senders to so many receivers.
    pub(super) fn spread(work: &str, senders: u64, receivers: u64) -> Query {
        Query { spread: Some((senders, receivers)), ..Query::varied(work) }
    }

    /// A row of messages of 2 to 256 bytes.
    pub(super) fn varied(work: &str) -> Query {
        Query { bytes: Some(256), bytes_min: Some(2), ..Query::ours(work) }
    }

    /// A limit of the machine.
    pub(super) fn limit(transport: &str) -> Query {
        Query::peer(transport, LIMIT)
    }

    pub(super) fn bytes(self, bytes: u64) -> Query {
        Query { bytes: Some(bytes), ..self }
    }

    pub(super) fn clients(self, clients: u64) -> Query {
        Query { clients, ..self }
    }

    pub(super) fn batch(self, batch: u64) -> Query {
        Query { batch, ..self }
    }

    pub(super) fn profile(self, profile: &str) -> Query {
        Query { profile: Some(profile.to_owned()), ..self }
    }

    pub(super) fn wait(self, wait: &str) -> Query {
        Query { wait: Some(wait.to_owned()), ..self }
    }

    pub(super) fn rate(self, rate: u64) -> Query {
        Query { rate: Some(rate), ..self }
    }

    pub(super) fn checksum(self, checksum: bool) -> Query {
        Query { checksum: Some(checksum), ..self }
    }

    /// Of several rows takes the fastest that is calm, not the first.
    pub(super) fn best(self) -> Query {
        Query { best: true, ..self }
    }

    /// The group that fits. Of several: one that has the profile, the processors and the wait of `like`, in this
    /// order, then one of the profile `latency`, then the first.
    pub(super) fn find<'a>(&self, results: &'a Results, like: Option<&Identity>) -> Option<&'a Group> {
        let fits = results.groups.iter().filter(|group| self.fits(&group.identity));
        if self.best {
            let rate = |group: &Group| group.figure(|row| row.msgs_per_s).map_or(0.0, |figure| figure.median);
            return fits.max_by(|a, b| a.is_calm().cmp(&b.is_calm()).then(rate(a).total_cmp(&rate(b))));
        }
        fits.min_by_key(|group| {
            let id = &group.identity;
            let differs =
                like.map(|like| (id.profile != like.profile, id.pin != like.pin, id.wait != like.wait));
            (differs, id.profile.as_deref().is_some_and(|profile| profile != "latency"))
        })
    }

    fn fits(&self, id: &Identity) -> bool {
        let wanted = |wanted: &Option<String>, found: &Option<String>| wanted.is_none() || wanted == found;
        let shape = self.bytes.is_none_or(|bytes| id.bytes == Some(bytes))
            && id.bytes_min == self.bytes_min
            && id.senders.zip(id.receivers) == self.spread
            && id.policy.as_ref().is_none_or(|policy| policy == "block");
        // Limits, connects and the like are as they are; but a limit at a rate is another one than as fast as it goes.
        let fixed = !["rtt", "stream", "fanin", "echo", "probe"].contains(&self.work.as_str());
        let load = id.clients() == self.clients && id.batch() == self.batch && id.depth == self.depth;
        id.transport == self.transport
            && id.work() == self.work
            && shape
            && (fixed || load)
            && id.rate == self.rate
            && self.pool.is_none_or(|pool| pool == id.workers.is_some())
            && self.checksum.is_none_or(|checksum| id.checksum == Some(checksum))
            && wanted(&self.profile, &id.profile)
            && wanted(&self.wait, &id.wait)
            && id.trust != Some(true)
    }
}

impl std::fmt::Display for Query {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let identity = Identity {
            scenario: self.work.clone(),
            transport: self.transport.clone(),
            work: None,
            profile: self.profile.clone(),
            bytes: self.bytes,
            bytes_min: self.bytes_min,
            senders: self.spread.map(|(senders, _)| senders),
            receivers: self.spread.map(|(_, receivers)| receivers),
            policy: None,
            clients: Some(self.clients),
            processes: None,
            depth: self.depth,
            workers: self.pool.filter(|pool| *pool).map(|_| 1),
            checksum: self.checksum,
            batch: Some(self.batch),
            wait: self.wait.clone(),
            trust: None,
            pin: None,
            ring_bytes: None,
            patience: None,
            rate: self.rate,
        };
        identity.fmt(f)
    }
}
