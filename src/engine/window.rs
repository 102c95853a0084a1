//! One partition's records in progress. Pure: no clock, no transport.
//!
//! | offset is | [`Window::admit`] says | then |
//! |---|---|---|
//! | next or later, not in the committed map as done | `Fresh` | [`Window::complete`] once its outcome is known |
//! | done according to the committed map | `Done` | nothing: it was handled before |
//! | below `next` | `Stale` | nothing: it was admitted already |

use std::collections::BTreeSet;

use super::offset_map::{self, MAX_INCOMPLETE, MAX_SPAN, Map};

/// What to do with an offset.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Admit {
    /// Handle it.
    Fresh,
    /// Handled before a crash or a rebalance.
    Done,
    /// Already admitted in this assignment.
    Stale,
}

/// One partition's progress in one assignment.
#[derive(Debug, Clone)]
pub struct Window {
    /// Lowest offset not yet seen.
    next: i64,
    /// Highest complete offset seen in this assignment.
    high: i64,
    /// Admitted, outcome not known.
    incomplete: BTreeSet<i64>,
    /// What the committed map said; its incompletes leave as they are admitted again.
    restored: Map,
}

impl Window {
    /// Continues from what was committed. The second value is false when the map could not be read (then nothing beyond
    /// base counts as done).
    pub fn restore(base: i64, map: &str) -> (Window, bool) {
        let read = offset_map::decode(base, map);
        let trusted = read.is_some();
        let restored = read.unwrap_or(Map { high: base - 1, incomplete: BTreeSet::new() });
        (Window { next: base, high: base - 1, incomplete: BTreeSet::new(), restored }, trusted)
    }

    /// Whether another record may be admitted without the map outgrowing its limits.
    pub fn has_room(&self, offset: i64) -> bool {
        // What the committed map already counts does not grow it.
        offset <= self.restored.high
            || self.incomplete.len() + self.restored.incomplete.len() < MAX_INCOMPLETE
                && offset - self.base() < MAX_SPAN
    }

    /// Takes note of an offset that was read.
    pub fn admit(&mut self, offset: i64) -> Admit {
        if offset < self.next {
            return Admit::Stale;
        }
        self.next = offset + 1;
        if offset <= self.restored.high && !self.restored.incomplete.remove(&offset) {
            return Admit::Done;
        }
        // Offsets the log no longer has (compacted, expired) are nobody's work.
        self.restored.incomplete = self.restored.incomplete.split_off(&offset);
        self.incomplete.insert(offset);
        Admit::Fresh
    }

    /// All below `offset` was admitted, or is nobody's work. False when that was known.
    pub fn pass(&mut self, offset: i64) -> bool {
        if offset <= self.next {
            return false;
        }
        self.next = offset;
        self.restored.incomplete = self.restored.incomplete.split_off(&offset);
        true
    }

    /// The outcome of an admitted offset is known. False when it was not in progress.
    pub fn complete(&mut self, offset: i64) -> bool {
        let was = self.incomplete.remove(&offset);
        if was {
            self.high = self.high.max(offset);
        }
        was
    }

    /// Lowest offset that is not complete.
    pub fn base(&self) -> i64 {
        let seen = self.incomplete.first().copied().unwrap_or(self.next);
        seen.min(self.restored.incomplete.first().copied().unwrap_or(seen))
    }

    /// Base, and what is done beyond it.
    pub fn done(&self) -> (i64, Map) {
        let base = self.base();
        // Between `next` and what the committed map reached nothing was read in this assignment, but it is done.
        let high = self.high.max(self.restored.high).max(base - 1);
        let holes = self.incomplete.union(&self.restored.incomplete).copied();
        (base, Map { high, incomplete: holes.filter(|o| *o <= high).collect() })
    }

    /// What to commit: base and the map.
    pub fn progress(&self) -> (i64, String) {
        let (base, map) = self.done();
        (base, offset_map::encode(base, map.high, map.incomplete))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_is_passed_is_nobodys_work() {
        let map = offset_map::encode(5, 9, [5, 8]);
        let (mut w, _) = Window::restore(5, &map);
        assert!(w.pass(7));
        assert_eq!(w.done(), (7, Map { high: 9, incomplete: BTreeSet::from([8]) }), "5 is gone");
        assert!(!w.pass(7));
        assert_eq!(w.admit(6), Admit::Stale);
        assert_eq!(w.admit(8), Admit::Fresh);
        assert!(w.pass(12));
        assert_eq!(w.progress().0, 8, "it is in progress");
        w.complete(8);
        assert_eq!(w.progress(), (12, String::new()));
    }

    proptest! {
        /// A partition of records handled in any order, with crashes at any point where the last commit counts: every
        /// record is completed, and none that a commit knew as done is handled again.
        #[test]
        fn nothing_is_lost_and_nothing_committed_is_repeated(
            start in 0i64..1_000_000,
            total in 1i64..200,
            picks in prop::collection::vec((any::<prop::sample::Index>(), 0u8..20), 1..600),
        ) {
            let (mut base, mut map) = (start, String::new());
            let mut committed = BTreeSet::new();
            let mut picks = picks.into_iter().cycle();
            let mut crashes = 0;
            'alive: loop {
                let (mut w, ok) = Window::restore(base, &map);
                prop_assert!(ok);
                prop_assert_eq!(w.progress(), (base, map.clone()));
                let mut running: Vec<i64> = vec![];
                let mut done = BTreeSet::new();
                for offset in base..start + total {
                    match w.admit(offset) {
                        Admit::Fresh => { prop_assert!(!committed.contains(&offset)); running.push(offset) }
                        Admit::Done => prop_assert!(committed.contains(&offset), "{} is not done", offset),
                        Admit::Stale => prop_assert!(false),
                    }
                    prop_assert_eq!(w.admit(offset), Admit::Stale);
                }
                while !running.is_empty() {
                    let (which, act) = picks.next().unwrap();
                    let offset = running.swap_remove(which.index(running.len()));
                    prop_assert!(w.complete(offset));
                    prop_assert!(!w.complete(offset));
                    done.insert(offset);
                    if act < 8 {
                        (base, map) = w.progress();
                        committed.append(&mut done);
                    } else if act == 19 && crashes < 20 {
                        crashes += 1;
                        continue 'alive;
                    }
                }
                prop_assert_eq!(w.base(), start + total);
                prop_assert_eq!(w.progress(), (start + total, String::new()));
                break;
            }
        }
    }

    #[test]
    fn a_map_that_cannot_be_read_repeats_and_never_skips() {
        let (mut w, trusted) = Window::restore(10, "not a map");
        assert!(!trusted);
        assert_eq!(w.admit(10), Admit::Fresh);
        assert_eq!(w.admit(11), Admit::Fresh);
        assert_eq!(w.base(), 10);
    }

    #[test]
    fn offsets_the_log_no_longer_has_do_not_hold_base_back() {
        let map = offset_map::encode(5, 9, [5, 7]);
        let (mut w, _) = Window::restore(5, &map);
        assert_eq!(w.admit(8), Admit::Done);
        assert_eq!(w.admit(12), Admit::Fresh);
        assert!(w.complete(12));
        assert_eq!(w.progress(), (13, String::new()));
    }

    #[test]
    fn room_ends_at_the_limits() {
        let (mut w, _) = Window::restore(0, "");
        for o in 0..MAX_INCOMPLETE as i64 {
            assert!(w.has_room(o));
            w.admit(o);
        }
        assert!(!w.has_room(MAX_INCOMPLETE as i64));
        w.complete(5);
        assert!(w.has_room(MAX_INCOMPLETE as i64));
        assert!(!w.has_room(MAX_SPAN));
        let (base, map) = w.progress();
        assert!(map.len() <= offset_map::MAX_CHARS);
        assert_eq!(base, 0);
    }
}
