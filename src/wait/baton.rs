//! Who reads, where several wait and one at a time can read: the baton.
//!
//! Whoever waits takes the baton if it is at home, and reads for all; else it sits down on the bench and sleeps. All of
//! this happens under one lock of the user; what must be woken is returned, to be woken after the lock was released.
//!
//! *Nobody sleeps beside a baton that lies there.* If the baton is at home and somebody sits on the bench, then one of
//! those on the bench is appointed: it was woken since the baton came home and has not looked yet. Proof, by what can
//! change: [`put_back`](Baton::put_back) appoints; [`rise`](Baton::rise) of the appointed appoints the next;
//! [`take`](Baton::take) ends the condition; [`sit`](Baton::sit) happens only while the baton is out. The appointed looks,
//! since a thread that was unparked does not park without having looked, and then takes the baton or rises.

/// The right to read, and those who wait for it or for what is read.
pub(crate) struct Baton<W> {
    at_home: bool,
    appointed: Option<usize>,
    bench: Vec<Option<W>>,
}

impl<W: Clone> Baton<W> {
    /// Makes a baton that lies at home.
    pub(crate) fn new() -> Self {
        Self { at_home: true, appointed: None, bench: Vec::new() }
    }

    /// Takes the baton if it is at home.
    #[inline]
    pub(crate) fn take(&mut self) -> bool {
        self.appointed = None;
        std::mem::replace(&mut self.at_home, false)
    }

    /// Brings the baton home; wake the returned one.
    #[inline]
    #[must_use = "whoever is appointed must be woken"]
    pub(crate) fn put_back(&mut self) -> Option<W> {
        self.at_home = true;
        self.appoint()
    }

    /// Says whether the baton is at home.
    #[inline]
    #[cfg(feature = "tokio")]
    pub(crate) fn is_at_home(&self) -> bool {
        self.at_home
    }

    /// Returns how to wake one who sits on the bench, if there is any.
    #[cfg(feature = "tokio")]
    pub(crate) fn any_seated(&self) -> Option<W> {
        self.bench.iter().flatten().next().cloned()
    }

    /// Sits down on the bench, under a number of one's own, before sleeping; again to be woken in another way.
    ///
    /// # Panics
    /// If the baton is at home: whoever could take it must not sleep.
    pub(crate) fn sit(&mut self, number: usize, wake: W) {
        assert!(!self.at_home, "nobody sleeps beside a baton that lies there");
        if number >= self.bench.len() {
            self.bench.resize(number + 1, None);
        }
        self.bench[number] = Some(wake);
    }

    /// Leaves the bench, if one sits there; wake the returned one.
    #[inline]
    #[must_use = "whoever is appointed must be woken"]
    pub(crate) fn rise(&mut self, number: usize) -> Option<W> {
        self.bench.get_mut(number)?.take()?;
        if self.appointed == Some(number) {
            self.appointed = None;
            if self.at_home && !cfg!(weaken = "baton_kept") {
                return self.appoint();
            }
        }
        None
    }

    /// Returns how to wake the one with this number, if it sits on the bench.
    #[inline]
    pub(crate) fn seated(&self, number: usize) -> Option<W> {
        self.bench.get(number).cloned().flatten()
    }

    fn appoint(&mut self) -> Option<W> {
        if cfg!(weaken = "baton_dropped") {
            return None;
        }
        self.appointed = self.bench.iter().position(Option::is_some);
        self.seated(self.appointed?)
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn the_baton_is_taken_by_one() {
        let mut baton = Baton::<char>::new();
        assert!(baton.take());
        assert!(!baton.take());
        assert_eq!(baton.put_back(), None);
        assert!(baton.take());
    }

    #[test]
    fn a_baton_that_comes_home_finds_one_who_sits() {
        let mut baton = Baton::new();
        assert!(baton.take());
        baton.sit(3, 'c');
        baton.sit(1, 'a');
        assert_eq!(baton.seated(3), Some('c'));
        assert_eq!(baton.put_back(), Some('a'));
        assert_eq!(baton.rise(3), None, "it was not the appointed one");
        assert!(baton.take());
        assert_eq!(baton.rise(1), None, "the baton is taken");
    }

    #[test]
    fn an_appointed_one_that_leaves_appoints_the_next() {
        let mut baton = Baton::new();
        assert!(baton.take());
        baton.sit(1, 'a');
        baton.sit(2, 'b');
        assert_eq!(baton.put_back(), Some('a'));
        assert_eq!(baton.rise(1), Some('b'));
        assert_eq!(baton.rise(2), None);
        assert_eq!(baton.rise(2), None);
    }
}
