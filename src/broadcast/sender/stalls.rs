//! How long receivers have stood still while they were waited for.

use std::time::{Duration, Instant};

/// Who is in the way of the message that waits, how far they had read, and since when.
#[derive(Default)]
pub(super) struct Stalls {
    seen: Vec<Stall>,
}

struct Stall {
    number: u64,
    position: u64,
    since: Instant,
}

impl Stalls {
    /// Forgets everybody: there was room.
    #[inline(always)]
    pub(super) fn clear(&mut self) {
        if !self.seen.is_empty() {
            self.seen.clear();
        }
    }

    /// Takes note of who is in the way now, as numbers and positions. Whoever has moved begins anew.
    pub(super) fn note(&mut self, now: Instant, blockers: impl Iterator<Item = (u64, u64)>) {
        let mut count = 0;
        for (number, position) in blockers {
            let known = self.seen[count..].iter().position(|stall| stall.number == number);
            match known {
                Some(index) => {
                    self.seen.swap(count, count + index);
                    let stall = &mut self.seen[count];
                    if stall.position != position {
                        (stall.position, stall.since) = (position, now);
                    }
                }
                None => {
                    self.seen.push(Stall { number, position, since: now });
                    let last = self.seen.len() - 1;
                    self.seen.swap(count, last);
                }
            }
            count += 1;
        }
        self.seen.truncate(count);
    }

    /// Returns the number of somebody who has stood still for so long.
    pub(super) fn overdue(&self, now: Instant, stall_max: Duration) -> Option<u64> {
        let overdue = |stall: &&Stall| now.saturating_duration_since(stall.since) >= stall_max;
        self.seen.iter().find(overdue).map(|stall| stall.number)
    }

    /// Returns when the next of them will have stood still for so long; `None` when nobody is in the way, or never.
    pub(super) fn next(&self, stall_max: Duration) -> Option<Instant> {
        self.seen.iter().filter_map(|stall| stall.since.checked_add(stall_max)).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn who_moves_begins_anew_and_who_stands_still_is_overdue() {
        let start = Instant::now();
        let mut stalls = Stalls::default();
        stalls.note(start, [(1, 80), (2, 80)].into_iter());
        assert_eq!(stalls.next(5 * SECOND), Some(start + 5 * SECOND));
        stalls.note(start + 4 * SECOND, [(2, 88), (1, 80)].into_iter());
        assert_eq!(stalls.overdue(start + 4 * SECOND, 5 * SECOND), None);
        assert_eq!(stalls.overdue(start + 5 * SECOND, 5 * SECOND), Some(1));
        stalls.note(start + 6 * SECOND, [(2, 88)].into_iter());
        assert_eq!(stalls.next(5 * SECOND), Some(start + 9 * SECOND));
    }

    #[test]
    fn nobody_is_overdue_once_there_was_room() {
        let start = Instant::now();
        let mut stalls = Stalls::default();
        stalls.note(start, [(1, 80)].into_iter());
        stalls.clear();
        assert_eq!(stalls.overdue(start + 99 * SECOND, SECOND), None);
        assert_eq!(stalls.next(SECOND), None);
        stalls.note(start + 99 * SECOND, [(1, 80)].into_iter());
        assert_eq!(stalls.overdue(start + 99 * SECOND, SECOND), None, "it was not waited for meanwhile");
    }
}
