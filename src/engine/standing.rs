//! How a runner stands, for whoever measures it: a copy, a few times a second at most, so that nobody asks the runner and
//! no record costs anything for it.

use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

use super::offset_map::Map;
use super::window::Window;
use crate::transport::TopicPartition;

/// Shortest time between two copies.
const EVERY: Duration = Duration::from_millis(500);

/// One partition that is owned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Standing {
    pub at: TopicPartition,
    /// Lowest offset that is not done.
    pub base: i64,
    /// What is done beyond base.
    pub done: Map,
    /// Since when this base stands although something beyond it is done.
    pub gap_since: Option<Instant>,
    /// Nothing more is admitted until base moves: the window has no room for the next record.
    pub full: bool,
}

/// How much of its limits a runner used, as a sum over time: the difference of two sums over the time between them is the
/// mean.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Use {
    sum: f64,
    /// Share of the limit in use since `at`.
    share: f64,
    at: Instant,
}

impl Use {
    fn note(&mut self, share: f64, now: Instant) {
        *self = Use { sum: self.until(now), share, at: now };
    }

    /// Seconds of full use until a time.
    pub fn until(&self, now: Instant) -> f64 {
        self.sum + self.share * now.saturating_duration_since(self.at).as_secs_f64()
    }
}

/// All of it at one time.
#[derive(Debug, Clone, PartialEq)]
pub struct Standings {
    pub partitions: Vec<Standing>,
    pub used: Use,
}

/// The runner's end.
#[derive(Debug)]
pub(super) struct Publisher {
    sender: watch::Sender<Standings>,
    used: Use,
    /// By slot: base, and since when it stands with a gap.
    gaps: Vec<Option<(i64, Instant)>>,
    /// Something happened since the last copy.
    stale: bool,
    next: Instant,
}

/// Nobody stands anywhere yet.
pub(super) fn channel() -> watch::Sender<Standings> {
    let used = Use { sum: 0.0, share: 0.0, at: Instant::now() };
    watch::Sender::new(Standings { partitions: vec![], used })
}

impl Publisher {
    pub fn new(sender: watch::Sender<Standings>) -> Publisher {
        let now = Instant::now();
        Publisher { sender, used: Use { sum: 0.0, share: 0.0, at: now }, gaps: vec![], stale: false, next: now }
    }

    /// Something happened: there is something new to tell.
    pub fn touch(&mut self) {
        self.stale = true;
    }

    /// When to look here again, if there is something to tell and somebody to hear it.
    pub fn alarm(&self) -> Option<Instant> {
        (self.stale && !self.sender.is_closed()).then_some(self.next)
    }

    /// Takes note of the share of the limits in use from now on, and whether a copy is due.
    pub fn due(&mut self, share: f64) -> bool {
        if self.sender.is_closed() {
            return false;
        }
        let now = Instant::now();
        self.used.note(share, now);
        self.stale && now >= self.next
    }

    /// Tells how the partitions stand: slot, place, window, whether it is full.
    pub fn publish<'a>(&mut self, partitions: impl Iterator<Item = (usize, &'a TopicPartition, &'a Window, bool)>) {
        let now = Instant::now();
        let before = std::mem::take(&mut self.gaps);
        let standing = |(slot, at, window, full): (usize, &TopicPartition, &Window, bool)| {
            let (base, done) = window.done();
            let gap_since = (done.high > base).then(|| match before.get(slot) {
                Some(Some((same, since))) if *same == base => *since,
                _ => now,
            });
            if self.gaps.len() <= slot {
                self.gaps.resize(slot + 1, None);
            }
            self.gaps[slot] = gap_since.map(|since| (base, since));
            Standing { at: at.clone(), base, done, gap_since, full }
        };
        let partitions = partitions.map(standing).collect();
        self.sender.send_replace(Standings { partitions, used: self.used });
        self.stale = false;
        self.next = now + EVERY;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::window::Admit;

    fn heard(publisher: &mut Publisher, window: &Window) -> Standing {
        let at = TopicPartition::new("t", 0);
        publisher.publish([(3, &at, window, false)].into_iter());
        publisher.sender.borrow().partitions[0].clone()
    }

    #[tokio::test(start_paused = true)]
    async fn a_gap_is_as_old_as_its_base_stands() {
        let mut p = Publisher::new(channel());
        let (mut w, _) = Window::restore(10, "");
        for offset in 10..14 {
            assert_eq!(w.admit(offset), Admit::Fresh);
        }
        assert_eq!(heard(&mut p, &w).gap_since, None, "nothing beyond base is done");
        tokio::time::advance(Duration::from_secs(60)).await;
        w.complete(12);
        let opened = Instant::now();
        let s = heard(&mut p, &w);
        assert_eq!((s.base, s.done.high, s.gap_since), (10, 12, Some(opened)));
        tokio::time::advance(Duration::from_secs(5)).await;
        w.complete(13);
        assert_eq!(heard(&mut p, &w).gap_since, Some(opened), "base still stands");
        w.complete(10);
        let s = heard(&mut p, &w);
        assert_eq!((s.base, s.gap_since), (11, Some(Instant::now())), "another base, another age");
        w.complete(11);
        let s = heard(&mut p, &w);
        assert_eq!((s.base, s.done.high, s.gap_since), (14, 13, None));
    }

    #[tokio::test(start_paused = true)]
    async fn use_is_a_mean_over_time_and_copies_keep_their_distance() {
        let mut p = Publisher::new(channel());
        assert!(!p.due(1.0), "nobody listens");
        assert_eq!(p.alarm(), None);
        let ear = p.sender.subscribe();
        let start = Instant::now();
        p.touch();
        assert!(p.due(0.5));
        p.publish(std::iter::empty());
        assert_eq!(p.alarm(), None, "there is nothing to tell");
        p.touch();
        assert!(!p.due(0.5));
        assert_eq!(p.alarm(), Some(start + EVERY));
        tokio::time::advance(Duration::from_secs(2)).await;
        assert!(p.due(1.0));
        p.publish(std::iter::empty());
        tokio::time::advance(Duration::from_secs(2)).await;
        let used = ear.borrow().used.until(Instant::now());
        assert!((used - 3.0).abs() < 1e-9, "{used}");
    }
}
