//! How large bulk requests are: larger while answers come quickly, smaller when the cluster is busy. Pure.

use std::time::Duration;

use crate::batch::Limits;

/// An answer within this time is quick.
const QUICK: Duration = Duration::from_secs(1);
/// An answer that takes longer says that the request was too large.
const SLOW: Duration = Duration::from_secs(10);
/// What a request may hold however busy the cluster is: many small requests are more work than one.
const LEAST: Limits = Limits { items: 10, bytes: 16 << 10 };

/// The size in force.
#[derive(Debug, Clone, Copy)]
pub struct Pace {
    documents: usize,
    bytes: usize,
    most: Limits,
}

impl Pace {
    /// Starts with so many documents, and never goes beyond `most`.
    pub fn new(documents: usize, most: Limits) -> Pace {
        let most = Limits { items: most.items.max(1), bytes: most.bytes.max(1) };
        Pace { documents: documents.clamp(1, most.items), bytes: most.bytes, most }
    }

    /// What a request may hold now.
    pub fn limits(&self) -> Limits {
        Limits { items: self.documents, bytes: self.bytes }
    }

    /// A request of so many documents and bytes was answered. One that was not full says nothing of larger ones.
    pub fn answered(&mut self, documents: usize, bytes: usize, took: Duration) {
        if took > SLOW {
            self.refused(documents, bytes);
        } else if took < QUICK {
            if documents >= self.documents {
                self.documents = (self.documents + self.documents / 4 + 1).min(self.most.items);
            }
            if bytes >= self.bytes {
                self.bytes = (self.bytes + self.bytes / 4 + 1).min(self.most.bytes);
            }
        }
    }

    /// A request of so many documents and bytes, or some of them, found no room. Several of one size that were on their
    /// way together cut it once; one that was small to begin with says nothing of size.
    pub fn refused(&mut self, documents: usize, bytes: usize) {
        if documents >= self.documents / 2 {
            self.documents = self.documents.min((documents / 2).max(LEAST.items));
        }
        if bytes >= self.bytes / 2 {
            self.bytes = self.bytes.min((bytes / 2).max(LEAST.bytes));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOST: Limits = Limits { items: 1_000, bytes: 1 << 20 };

    fn documents(pace: &Pace) -> usize {
        pace.limits().items
    }

    #[test]
    fn grows_while_full_requests_are_answered_quickly_and_no_further_than_it_may() {
        let mut pace = Pace::new(100, MOST);
        pace.answered(99, 1_000, Duration::from_millis(5));
        assert_eq!(documents(&pace), 100, "it was not full");
        pace.answered(100, 1_000, Duration::from_secs(2));
        assert_eq!(documents(&pace), 100, "it was not quick");
        pace.answered(100, 1_000, Duration::from_millis(5));
        assert_eq!(documents(&pace), 126);
        for _ in 0..50 {
            pace.answered(documents(&pace), 1_000, Duration::from_millis(5));
        }
        assert_eq!((documents(&pace), pace.limits().bytes), (1_000, MOST.bytes));
    }

    #[test]
    fn shrinks_when_refused_and_recovers() {
        let mut pace = Pace::new(100, MOST);
        pace.refused(100, 800_000);
        assert_eq!((documents(&pace), pace.limits().bytes), (50, 400_000));
        // Its sisters, sent before; and one that was small.
        pace.refused(100, 800_000);
        pace.refused(5, 4_000);
        assert_eq!((documents(&pace), pace.limits().bytes), (50, 400_000));
        for _ in 0..20 {
            pace.refused(documents(&pace), pace.limits().bytes);
        }
        assert_eq!((documents(&pace), pace.limits().bytes), (LEAST.items, LEAST.bytes));
        for _ in 0..100 {
            pace.answered(documents(&pace), pace.limits().bytes, Duration::from_millis(5));
        }
        assert_eq!((documents(&pace), pace.limits().bytes), (1_000, MOST.bytes));
        pace.answered(1_000, 600_000, Duration::from_secs(11));
        assert_eq!((documents(&pace), pace.limits().bytes), (500, 300_000));
        // It may start below the least, and stays there.
        let mut few = Pace::new(3, MOST);
        few.refused(3, 100);
        assert_eq!(documents(&few), 3);
    }
}
