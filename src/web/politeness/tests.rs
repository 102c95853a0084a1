use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};

use futures::FutureExt;
use proptest::prelude::*;
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};

use super::*;

/// 2026-01-01: times in headers are real ones.
const T0: u64 = 1_767_225_600_000;
const HOST: &str = "example.com";

fn config(delay_ms: u64) -> PolitenessConfig {
    PolitenessConfig { delay: Duration::from_millis(delay_ms), ..PolitenessConfig::default() }
}

fn parked(admission: Admission) -> u64 {
    match admission {
        Admission::Park { until } => until,
        other => panic!("not parked: {other:?}"),
    }
}

fn goes(admission: Admission) -> Permit {
    match admission {
        Admission::Go(permit) => permit,
        other => panic!("does not go: {other:?}"),
    }
}

/// One host, many records, a clock that jumps from event to event.
struct World {
    politeness: Politeness,
    /// Each request lasts this long.
    service: u64,
    /// Records come back from a park up to this much late.
    lateness: u64,
    /// (at, what): the host answers 429 then.
    penalties: Vec<u64>,
    seed: u64,
}

#[derive(Default)]
struct Course {
    starts: Vec<u64>,
    /// Per record.
    parks: Vec<u32>,
    most_running: usize,
}

enum Event {
    Arrive {
        record: usize,
        reserved: Option<u64>,
    },
    Due(Held, usize),
    /// Of the queue.
    Tired(usize),
    End(Permit),
    Penalise,
}

impl World {
    fn new(config: PolitenessConfig) -> Self {
        Self { politeness: Politeness::new(config), service: 0, lateness: 0, penalties: Vec::new(), seed: 1 }
    }

    fn run(self, arrivals: &[u64]) -> Course {
        let mut rng = SmallRng::seed_from_u64(self.seed);
        let mut course = Course { parks: vec![0; arrivals.len()], ..Course::default() };
        let mut events: Vec<Option<Event>> = Vec::new();
        let mut queue = BinaryHeap::new();
        let push = |queue: &mut BinaryHeap<_>, events: &mut Vec<_>, at: u64, event| {
            queue.push(Reverse((at, events.len())));
            events.push(Some(event));
        };
        for (record, at) in arrivals.iter().enumerate() {
            let reserved = None;
            push(&mut queue, &mut events, T0 + at, Event::Arrive { record, reserved });
        }
        for at in &self.penalties {
            push(&mut queue, &mut events, T0 + at, Event::Penalise);
        }
        let mut running = 0;
        let (mut queued, mut ticket) = (BTreeMap::<usize, (Queued, usize)>::new(), 0);
        while let Some(Reverse((now, event))) = queue.pop() {
            let event = events[event].take().unwrap();
            let mut decided = Vec::new();
            match event {
                Event::Penalise => self.politeness.penalise(HOST, now, None),
                Event::End(permit) => {
                    drop(permit);
                    running -= 1;
                    let placed =
                        |(ticket, (q, _)): (&usize, &mut (Queued, usize))| q.place().now_or_never().map(|()| *ticket);
                    for ticket in queued.iter_mut().filter_map(placed).collect::<Vec<_>>() {
                        let (q, record) = queued.remove(&ticket).unwrap();
                        decided.push((q.admit(now), record));
                    }
                }
                Event::Tired(ticket) => {
                    decided.extend(queued.remove(&ticket).map(|(q, record)| (q.admit(now), record)));
                }
                Event::Due(held, record) => {
                    let started = held.start(now);
                    decided.push((started.map_or_else(|until| Admission::Park { until }, Admission::Go), record));
                }
                Event::Arrive { record, reserved } => {
                    decided.push((self.politeness.admit(HOST, now, reserved), record));
                }
            }
            for (admission, record) in decided {
                match admission {
                    Admission::Go(permit) => {
                        course.starts.push(now);
                        running += 1;
                        course.most_running = course.most_running.max(running);
                        push(&mut queue, &mut events, now + self.service, Event::End(permit));
                    }
                    Admission::Wait(wait, held) => {
                        let at = now + wait.as_millis() as u64;
                        push(&mut queue, &mut events, at, Event::Due(held, record));
                    }
                    Admission::Queue(q) => {
                        let at = now + q.longest().as_millis() as u64;
                        queued.insert(ticket, (q, record));
                        push(&mut queue, &mut events, at, Event::Tired(ticket));
                        ticket += 1;
                    }
                    Admission::Park { until } => {
                        assert!(until > now);
                        course.parks[record] += 1;
                        assert!(course.parks[record] < 200, "a record starves");
                        let late = rng.random_range(0..=self.lateness);
                        let reserved = Some(until);
                        push(&mut queue, &mut events, until + late, Event::Arrive { record, reserved });
                    }
                }
            }
        }
        course
    }
}

impl Course {
    fn least_gap(&self) -> u64 {
        self.starts.windows(2).map(|w| w[1] - w[0]).min().unwrap_or(u64::MAX)
    }

    fn mean_parks(&self) -> f64 {
        f64::from(self.parks.iter().sum::<u32>()) / self.parks.len() as f64
    }

    fn most_parks(&self) -> u32 {
        self.parks.iter().copied().max().unwrap_or(0)
    }
}

#[test]
fn ten_thousand_records_of_one_host_park_once_each() {
    let course = World::new(config(1_000)).run(&[0; 10_000]);
    assert_eq!(course.starts.len(), 10_000);
    assert_eq!(course.most_parks(), 1);
    assert_eq!(course.starts.last(), Some(&(T0 + 9_999_000)), "no slot is wasted");
    assert_eq!(course.least_gap(), 1_000);
}

#[test]
fn late_records_park_a_few_times() {
    let mut world = World::new(config(1_000));
    world.lateness = 3_000;
    let course = world.run(&[0; 5_000]);
    assert_eq!(course.starts.len(), 5_000);
    assert!(course.least_gap() >= 1_000);
    assert!(course.mean_parks() < 3.0, "{}", course.mean_parks());
    assert!(course.most_parks() < 20, "{}", course.most_parks());
}

#[test]
fn a_hold_as_long_as_the_lateness_loses_few_turns() {
    let mut world = World::new(PolitenessConfig { hold: Duration::from_secs(10), held_per_host: 20, ..config(1_000) });
    world.lateness = 10_000;
    let course = world.run(&[0; 5_000]);
    assert!(course.mean_parks() < 1.5, "{}", course.mean_parks());
    let end = course.starts.last().unwrap() - T0;
    assert!(end < 5_000 * 1_500, "{end}");
}

#[test]
fn a_slow_host_is_paced_by_what_it_can_take() {
    let mut world = World::new(PolitenessConfig { concurrency_per_host: 2, ..config(1_000) });
    world.service = 10_000;
    let course = world.run(&[0; 3_000]);
    assert_eq!(course.starts.len(), 3_000);
    assert!(course.most_running <= 2);
    assert!(course.mean_parks() < 5.0, "{}", course.mean_parks());
    let end = course.starts.last().unwrap() - T0;
    assert!(end < 2 * 3_000 * 5_000, "twice the ideal time: {end}");
}

#[test]
fn first_goes_second_waits_third_parks() {
    let politeness = Politeness::new(config(1_000));
    let _permit = goes(politeness.admit(HOST, T0, None));
    let Admission::Wait(wait, held) = politeness.admit(HOST, T0, None) else {
        panic!("the second waits");
    };
    assert_eq!(wait, Duration::from_secs(1));
    let until = parked(politeness.admit(HOST, T0, None));
    assert_eq!(until, T0 + 2_000);
    assert!(held.start(T0 + 1_000).is_ok());
    let _ = goes(politeness.admit(HOST, until, Some(until)));
    let _ = goes(politeness.admit("other.example", T0, None));
}

#[test]
fn an_early_record_keeps_its_slot() {
    let politeness = Politeness::new(PolitenessConfig { hold: Duration::ZERO, ..config(1_000) });
    let _ = goes(politeness.admit(HOST, T0, None));
    let until = parked(politeness.admit(HOST, T0, None));
    for early in [T0 + 1, T0 + 500, T0 + 999] {
        assert_eq!(parked(politeness.admit(HOST, early, Some(until))), until);
    }
    let _ = goes(politeness.admit(HOST, until, Some(until)));
    let _ = goes(politeness.admit(HOST, until + 1_000, None));
}

#[test]
fn a_record_back_long_after_its_slot_delays_nobody_and_keeps_its_distance() {
    let politeness = Politeness::new(PolitenessConfig { hold: Duration::ZERO, ..config(1_000) });
    // After a crash: an old slot, and nothing known of the host.
    let _ = goes(politeness.admit(HOST, T0, Some(T0 - 3_600_000)));
    let again = parked(politeness.admit(HOST, T0 + 1, Some(T0 - 3_599_000)));
    assert_eq!(again, T0 + 1_000);
    assert_eq!(parked(politeness.admit(HOST, T0 + 2, None)), T0 + 2_000);
    // A late one in a quiet moment goes, and the slots after it stand.
    let _ = goes(politeness.admit(HOST, again, Some(again)));
    assert_eq!(parked(politeness.admit(HOST, T0 + 1_003, None)), T0 + 3_000);
    let _ = goes(politeness.admit(HOST, T0 + 2_000, Some(T0 + 2_000)));
}

#[test]
fn a_penalty_moves_what_falls_into_it_only() {
    let politeness = Politeness::new(PolitenessConfig { hold: Duration::from_secs(1), ..config(1_000) });
    let _ = goes(politeness.admit(HOST, T0, None));
    let Admission::Wait(_, held) = politeness.admit(HOST, T0, None) else {
        panic!("the second waits");
    };
    let slots: Vec<u64> = (0..5).map(|_| parked(politeness.admit(HOST, T0, None))).collect();
    politeness.penalise(HOST, T0 + 500, Some(T0 + 4_500));
    let moved = held.start(T0 + 1_000).unwrap_err();
    assert!(moved > slots[4], "behind the others");
    assert!(parked(politeness.admit(HOST, slots[0], Some(slots[0]))) > moved);
    assert!(parked(politeness.admit(HOST, slots[1], Some(slots[1]))) > moved);
    let _ = goes(politeness.admit(HOST, slots[3], Some(slots[3])));
}

#[test]
fn a_held_record_that_a_penalty_stops_gets_a_slot_that_holds() {
    let politeness = Politeness::new(config(1_000));
    // Slots from before a crash: nothing is promised here.
    let _ = goes(politeness.admit(HOST, T0, Some(T0 - 60_000)));
    let Admission::Wait(_, held) = politeness.admit(HOST, T0, Some(T0 - 59_000)) else {
        panic!("the second waits");
    };
    politeness.penalise(HOST, T0 + 500, Some(T0 + 1_100));
    let until = held.start(T0 + 1_000).unwrap_err();
    let _ = goes(politeness.admit(HOST, until, Some(until)));
}

#[test]
fn a_wait_that_took_longer_moves_the_next_start() {
    let politeness = Politeness::new(config(1_000));
    let _ = goes(politeness.admit(HOST, T0, None));
    let Admission::Wait(_, held) = politeness.admit(HOST, T0, None) else {
        panic!("the second waits");
    };
    assert!(held.start(T0 + 1_700).is_ok());
    let Admission::Wait(wait, _) = politeness.admit(HOST, T0 + 2_000, None) else {
        panic!("the third waits");
    };
    assert_eq!(wait, Duration::from_millis(700));
}

#[test]
fn penalties_double_the_interval_and_it_eases_back() {
    let politeness =
        Politeness::new(PolitenessConfig { hold: Duration::ZERO, max_delay: Duration::from_secs(10), ..config(1_000) });
    let mut now = T0;
    let mut gap = || {
        let _ = goes(politeness.admit(HOST, now, None));
        let next = parked(politeness.admit(HOST, now + 1, None));
        let gap = next - now;
        let _ = goes(politeness.admit(HOST, next, Some(next)));
        now = next + 100_000;
        (gap, now)
    };
    let (plain, mut at) = gap();
    assert_eq!(plain, 1_000);
    for _ in 0..10 {
        politeness.penalise(HOST, at - 50_000, None);
        at += 1;
    }
    let (doubled, _) = gap();
    assert_eq!(doubled, 2_000, "answers within one penalty count once");
    let eased: Vec<u64> = (0..20).map(|_| gap().0).collect();
    assert!(eased.is_sorted_by(|a, b| a >= b), "{eased:?}");
    assert_eq!(eased.last(), Some(&1_000));
    let (_, mut at) = gap();
    for _ in 0..10 {
        at += 1;
        politeness.penalise(HOST, at - 60_000, Some(at - 60_000));
    }
    assert_eq!(gap().0, 10_000, "no longer than max_delay");
}

#[test]
fn a_host_may_ask_for_more_within_bounds() {
    let politeness = Politeness::new(PolitenessConfig { hold: Duration::ZERO, ..config(1_000) });
    for (asked, expected) in [(5, 5_000), (0, 1_000), (86_400, 60_000)] {
        let host = asked.to_string();
        politeness.set_delay(&host, T0, Duration::from_secs(asked));
        let _ = goes(politeness.admit(&host, T0, None));
        assert_eq!(parked(politeness.admit(&host, T0, None)), T0 + expected);
    }
    // Learnt after the first start, it counts from that start.
    let _ = goes(politeness.admit(HOST, T0, None));
    politeness.set_delay(HOST, T0 + 10, Duration::from_secs(7));
    let until = parked(politeness.admit(HOST, T0 + 1_000, None));
    assert_eq!(until, T0 + 7_000);
}

#[test]
fn a_host_may_have_limits_of_its_own() {
    let own = |host: &str| {
        let (delay, concurrency) = (Duration::from_secs(90), 1);
        (host == "slow.example").then_some(HostLimits { delay, concurrency })
    };
    let politeness = Politeness::with_own(config(1_000), own);
    for (host, expected) in [("slow.example", 90_000), (HOST, 1_000)] {
        drop(goes(politeness.admit(host, T0, None)));
        let Admission::Wait(..) = politeness.admit(host, T0 + expected - 1_000, None) else { panic!("{host}") };
    }
}

#[test]
fn what_is_parked_for_the_hosts_sake_gets_slots_of_its_own() {
    let politeness = Politeness::new(config(1_000));
    let until = T0 + 300_000;
    let slots: Vec<u64> = (0..3).map(|_| politeness.park(HOST, T0, None, until)).collect();
    assert_eq!(slots, [until, until + 1_000, until + 2_000]);
    assert_eq!(politeness.park(HOST, T0, Some(until + 1_000), until), until + 1_000, "late enough already");
    assert_eq!(parked(politeness.admit(HOST, T0 + 1, None)), until + 3_000, "nobody goes before");
}

#[test]
fn a_burst_goes_at_once_and_is_paid_back() {
    let politeness = Politeness::new(PolitenessConfig { burst: 3, hold: Duration::ZERO, ..config(1_000) });
    for _ in 0..3 {
        let _ = goes(politeness.admit(HOST, T0, None));
    }
    assert_eq!(parked(politeness.admit(HOST, T0, None)), T0 + 1_000);
    assert_eq!(parked(politeness.admit(HOST, T0, None)), T0 + 2_000);
}

#[test]
fn who_is_postponed_keeps_nobody_from_starting() {
    let politeness = Politeness::new(config(100));
    let _first = goes(politeness.admit(HOST, T0, None));
    let Admission::Wait(wait, held) = politeness.admit(HOST, T0, None) else { panic!("the second waits") };
    let at = T0 + wait.as_millis() as u64;
    let slots = [0; 3].map(|_| politeness.postpone(HOST, T0 + 50, None, T0 + 1_000));
    assert_eq!(slots, [T0 + 1_000, T0 + 1_100, T0 + 1_200]);
    assert_eq!(politeness.postpone(HOST, T0 + 50, Some(T0 + 1_500), T0 + 1_000), T0 + 1_500);
    assert!(held.start(at).is_ok());
    let Admission::Wait(_, held) = politeness.admit(HOST, at, Some(at)) else { panic!("the third waits") };
    politeness.park(HOST, at, None, at + 1_000);
    assert!(held.start(at + 100).is_err(), "and parking does");
}

#[test]
fn places_come_back_when_permits_are_dropped() {
    let politeness = Politeness::new(PolitenessConfig { concurrency_per_host: 1, held_per_host: 1, ..config(0) });
    let permit = goes(politeness.admit(HOST, T0, None));
    let Admission::Queue(mut queued) = politeness.admit(HOST, T0, None) else { panic!("the second waits for a place") };
    let until = parked(politeness.admit(HOST, T0, None));
    assert!(until >= T0 + 1_000);
    assert!(queued.place().now_or_never().is_none());
    drop(permit);
    queued.place().now_or_never().unwrap();
    drop(goes(queued.admit(T0 + 10)));
    drop(goes(politeness.admit(HOST, until, Some(until))));
    let _running = goes(politeness.admit(HOST, T0 + 60_000, None));
    let Admission::Queue(tired) = politeness.admit(HOST, T0 + 60_000, None) else { panic!("it waits") };
    assert!(parked(tired.admit(T0 + 61_000)) >= T0 + 62_000);
}

#[test]
fn a_host_with_few_places_is_kept_busy_and_records_park_little() {
    let (n, service) = (10_000, 50);
    let places = PolitenessConfig { concurrency_per_host: 4, held_per_host: 32, ..config(0) };
    let mut world = World::new(places);
    (world.service, world.lateness) = (service, 100);
    let course = world.run(&vec![0; n]);
    assert_eq!(course.most_running, 4);
    let (end, ideal) = (course.starts.last().unwrap() - T0, n as u64 * service / 4);
    assert!(end < ideal * 5 / 4, "{end} ms instead of {ideal}");
    assert!(course.mean_parks() < 3.0, "{}", course.mean_parks());
}

#[test]
fn a_slow_host_is_asked_no_more_often_than_it_answers() {
    let politeness = Politeness::new(PolitenessConfig { hold: Duration::ZERO, ..config(1_000) });
    for n in 0..20 {
        politeness.answered(HOST, T0 + n, Duration::from_secs(8));
    }
    assert!(politeness.interval(HOST) > Duration::from_secs(7));
    for n in 0..20 {
        politeness.answered(HOST, T0 + n, Duration::from_millis(300));
    }
    assert_eq!(politeness.interval(HOST), Duration::from_secs(1));
    let unlimited = Politeness::new(config(0));
    unlimited.answered(HOST, T0, Duration::from_secs(8));
    assert_eq!(unlimited.interval(HOST), Duration::ZERO);
}

#[test]
fn memory_is_bounded_and_the_busy_are_kept() {
    let politeness = Politeness::new(PolitenessConfig { max_hosts: 100, ..config(1_000) });
    let running = goes(politeness.admit("running", T0, None));
    // Idle hosts go without a loss.
    for i in 0..1_000_u64 {
        let _ = politeness.admit(&i.to_string(), T0 + i * 2_000, None);
        assert!(politeness.known_hosts() <= 100);
    }
    // Busy ones as well when there are too many; a host under penalty stays longest.
    let now = T0 + 10_000_000;
    politeness.penalise("limited", now, Some(now + 3_600_000));
    for i in 0..1_000 {
        let _ = politeness.admit(&i.to_string(), now, None);
        assert!(politeness.known_hosts() <= 100);
    }
    assert!(parked(politeness.admit("limited", now, None)) >= now + 3_600_000);
    drop(running);
}

#[test]
fn times_at_the_edge_are_answered() {
    let politeness = Politeness::new(config(1_000));
    for (now, reserved) in [(0, Some(u64::MAX)), (u64::MAX, None), (u64::MAX, Some(0)), (0, None)] {
        let _ = politeness.admit(HOST, now, reserved);
        politeness.penalise(HOST, now, Some(u64::MAX));
        politeness.set_delay(HOST, now, Duration::MAX);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn starts_keep_their_distance_and_nobody_starves(
        arrivals in proptest::collection::vec(0u64..60_000, 1..80),
        delay in prop_oneof![Just(0), 1u64..3_000],
        hold in 0u64..3_000,
        held_per_host in 0usize..6,
        concurrency_per_host in 0usize..3,
        service in 0u64..5_000,
        lateness in 0u64..5_000,
        penalties in proptest::collection::vec(0u64..60_000, 0..4),
        seed: u64,
    ) {
        let mut world = World::new(PolitenessConfig {
            hold: Duration::from_millis(hold),
            held_per_host,
            concurrency_per_host,
            ..config(delay)
        });
        (world.service, world.lateness) = (service, lateness);
        (world.penalties, world.seed) = (penalties, seed);
        let course = world.run(&arrivals);
        prop_assert_eq!(course.starts.len(), arrivals.len());
        prop_assert!(course.least_gap() >= delay);
        if concurrency_per_host > 0 {
            prop_assert!(course.most_running <= concurrency_per_host);
        }
        prop_assert!(course.mean_parks() < 15.0, "{}", course.mean_parks());
    }

    #[test]
    fn on_time_records_park_at_most_once(
        arrivals in proptest::collection::vec(0u64..60_000, 1..80),
        delay in 0u64..3_000,
        hold in 0u64..3_000,
        held_per_host in 0usize..6,
    ) {
        let world = World::new(PolitenessConfig {
            hold: Duration::from_millis(hold),
            held_per_host,
            ..config(delay)
        });
        let course = world.run(&arrivals);
        prop_assert!(course.most_parks() <= 1);
        prop_assert!(course.least_gap() >= delay);
    }

    #[test]
    fn nothing_starts_within_a_penalty(
        admissions in proptest::collection::vec((0u64..20_000, proptest::option::of(0u64..30_000)), 1..60),
        from in 0u64..10_000,
        length in 0u64..10_000,
    ) {
        let politeness = Politeness::new(config(100));
        let mut admissions = admissions;
        admissions.sort_unstable();
        let mut penalised = false;
        let mut held = Vec::new();
        for (at, reserved) in admissions {
            if at >= from && !penalised {
                politeness.penalise(HOST, T0 + from, Some(T0 + from + length));
                penalised = true;
            }
            let inside = penalised && at < from + length;
            match politeness.admit(HOST, T0 + at, reserved.map(|r| T0 + r)) {
                Admission::Go(_) => prop_assert!(!inside),
                Admission::Wait(wait, permit) => {
                    let due = T0 + at + wait.as_millis() as u64;
                    prop_assert!(!penalised || due >= T0 + from + length || due < T0 + from);
                    held.push((due, permit));
                }
                Admission::Queue(_) => prop_assert!(false, "its places are not limited"),
                Admission::Park { until } => prop_assert!(until > T0 + at),
            }
        }
        for (due, permit) in held {
            // The penalty is known by now, so it also bars those due before it began.
            let barred = penalised && due < T0 + from + length;
            prop_assert_eq!(permit.start(due).is_err(), barred);
        }
    }
}
