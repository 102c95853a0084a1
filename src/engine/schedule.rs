//! Which input is admitted next, and when a waiting record is due. Pure.

use std::time::Duration;

/// Smooth weighted round-robin (as nginx has it): of the inputs that have work, each is picked in proportion to its
/// weight, spread evenly.
#[derive(Debug, Clone)]
pub struct Lanes {
    weights: Vec<i64>,
    current: Vec<i64>,
}

impl Lanes {
    /// One lane an input, in order.
    pub fn new(weights: impl IntoIterator<Item = u32>) -> Lanes {
        let weights: Vec<i64> = weights.into_iter().map(|w| i64::from(w.max(1))).collect();
        Lanes { current: vec![0; weights.len()], weights }
    }

    /// The lane to take from, among those that have work.
    pub fn pick(&mut self, has_work: impl Fn(usize) -> bool) -> Option<usize> {
        let mut total = 0;
        let mut best: Option<usize> = None;
        for lane in (0..self.weights.len()).filter(|l| has_work(*l)) {
            total += self.weights[lane];
            self.current[lane] += self.weights[lane];
            if best.is_none_or(|b| self.current[lane] > self.current[b]) {
                best = Some(lane);
            }
        }
        if let Some(b) = best {
            self.current[b] -= total;
        }
        best
    }
}

/// When the head of a topic may be handled (Unix ms; 0: at once). A record in a retry topic waits that tier's delay from
/// when it was written, but never past its own due time; one anywhere else waits for nothing: an input lane is no place
/// to sleep.
pub fn wake(tier_delay: Option<Duration>, written: i64, not_before: i64) -> i64 {
    match tier_delay {
        Some(delay) => not_before.min(written.saturating_add(ms(delay))),
        None => 0,
    }
}

/// The tier for a record that is due in `remaining`: the longest delay that does not overshoot, else the shortest one
/// (whose sleep [`wake`] cuts short).
pub fn tier_for(delays: &[Duration], remaining: Duration) -> usize {
    delays.iter().rposition(|d| *d <= remaining).unwrap_or(0)
}

/// Whole milliseconds.
pub fn ms(d: Duration) -> i64 {
    i64::try_from(d.as_millis()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn lanes_are_admitted_in_proportion_while_all_have_work() {
        let mut lanes = Lanes::new([8, 4, 1]);
        let mut counts = [0; 3];
        for _ in 0..1300 {
            counts[lanes.pick(|_| true).unwrap()] += 1;
        }
        assert_eq!(counts, [800, 400, 100]);
    }

    #[test]
    fn a_lane_without_work_leaves_its_share_to_the_others() {
        let mut lanes = Lanes::new([8, 4, 1]);
        assert_eq!((0..10).map(|_| lanes.pick(|l| l == 2).unwrap()).collect::<Vec<_>>(), vec![2; 10]);
        assert_eq!(lanes.pick(|_| false), None);
    }

    /// What [`a_parked_record_wakes_when_due`] proves of each, on average over a host's 10,000 URLs, one a second.
    #[test]
    fn the_last_of_ten_thousand_moves_a_few_times() {
        use crate::topology::Ladder;
        for ladder in [Ladder::Quick, Ladder::Standard, Ladder::Patient] {
            let tiers = ladder.tiers();
            let moves = |due: i64| {
                let (mut now, mut moves) = (0, 0);
                while now < due {
                    now = wake(Some(tiers[tier_for(&tiers, Duration::from_millis((due - now) as u64))]), now, due);
                    moves += 1;
                }
                moves
            };
            let mean = (1..=10_000).map(|n| moves(n * 1_000)).sum::<i64>() / 10_000;
            assert!(mean <= 17, "{ladder:?}: {mean}");
        }
    }

    proptest! {
        /// Hopping from tier to tier, a record is due exactly at its time, after few hops.
        #[test]
        fn a_parked_record_wakes_when_due(remaining in 0i64..100_000_000, ladder in 0usize..3) {
            use crate::topology::Ladder;
            let delays = &[Ladder::Quick, Ladder::Standard, Ladder::Patient][ladder].tiers();
            let due = 1_000 + remaining;
            let longest = ms(*delays.last().unwrap());
            let (mut now, mut hops) = (1_000, 0);
            loop {
                let tier = tier_for(delays, Duration::from_millis((due - now) as u64));
                now = wake(Some(delays[tier]), now, due);
                hops += 1;
                prop_assert!(now <= due);
                if now == due { break }
            }
            prop_assert!(hops <= remaining / longest + 25, "{} hops", hops);
        }
    }
}
