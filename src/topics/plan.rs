//! What there is to do: pure data in and out.

use std::collections::{BTreeMap, BTreeSet};

use super::Found;
use crate::topology::{
    self, CLEANUP_POLICY, Cleanup, MAX_MESSAGE_BYTES, Names, RETENTION_MS, STAGES, StageDef, StageName, Topic,
};
use crate::transport::TopicState;

/// What is wanted beyond the table in `topology`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Wish {
    /// Partitions of what the stages read and of their dead letters, and of each topic that is made; None for the
    /// table's.
    pub partitions: Option<u32>,
    /// Replicas that a topic must have at least; None for any number.
    pub replication: Option<u16>,
    /// Whether records may be deleted sooner than so far.
    pub allow_shorter_retention: bool,
}

/// One topic's change; names are full.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// It is missing.
    Create { topic: Topic },
    /// It has too few partitions.
    Grow { stage: StageName, topic: String, from: u32, to: u32 },
    /// Its settings differ.
    Configure { topic: String, changes: Vec<Change> },
}

/// One setting's change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    pub setting: &'static str,
    /// In force so far; None if the log does not say.
    pub from: Option<String>,
    pub to: String,
}

/// What is not as it should be and is left as it is, because changing it would lose data or break a promise.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// Full names.
    pub topics: Vec<String>,
    /// One clause: what, and what it would do.
    pub why: String,
    /// One clause: what to do.
    pub instead: String,
}

/// What to do, in order; what is refused; what to know before.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Plan {
    pub actions: Vec<Action>,
    pub refused: Vec<Refusal>,
    pub warnings: Vec<String>,
}

impl Action {
    /// Full name.
    pub fn topic(&self) -> &str {
        match self {
            Action::Create { topic } => &topic.name,
            Action::Grow { topic, .. } | Action::Configure { topic, .. } => topic,
        }
    }

    /// Whether both are one step: topics are created together, and what a stage reads grows together, because while its
    /// topics have unequal counts a host may have two owners.
    pub fn goes_with(&self, next: &Action) -> bool {
        match (self, next) {
            (Action::Create { .. }, Action::Create { .. }) => true,
            (Action::Grow { stage: a, to: x, .. }, Action::Grow { stage: b, to: y, .. }) => a == b && x == y,
            _ => false,
        }
    }

    /// Whether both are of one kind.
    pub fn is_like(&self, other: &Action) -> bool {
        std::mem::discriminant(self) == std::mem::discriminant(other)
    }
}

/// What growing means; it cannot be undone.
const GROWING: [&str; 2] = [
    "growing cannot be undone. A key's new records may go to another partition than those that wait, so their order is \
     not kept across the change; a URL that waits is handed to its host's new owner when its turn comes. Until all \
     members have heard of it, some seconds, two of them may fetch from one host, each at its pace",
    "a host that moves to another member starts there after one delay; what that member does not know of it \
     (robots.txt, backing off) it learns anew",
];
/// Why some topics are not grown.
const NOT_GROWN: &str = "status, jobs and replays keep their partitions: they are read by key, and a key's records must \
                         stay in one. No stage reads them, so their number limits nothing";

/// Compares the table with what the log has.
pub fn plan(names: &Names, wish: &Wish, found: &Found) -> Plan {
    let mut plan = Plan::default();
    let table = topology::topics();
    let usual = |name: &str| table.iter().find(|t| t.name == name).map_or(topology::PARTITIONS, |t| t.partitions);
    let mut grown = vec![];
    // Partitions to be, by name without prefix, of the topics that are counted together.
    let mut targets = BTreeMap::new();
    for def in &STAGES {
        let read: Vec<String> = def.subscribed().into_iter().map(|(t, _)| t).collect();
        let count = |bare: &str| found.topics.get(&names.full(bare)).map(|s| s.partitions);
        let wanted = wish.partitions.unwrap_or_else(|| read.iter().map(|t| usual(t)).max().unwrap_or(1));
        // What is there sets the pace: the others grow after it.
        let to = read.iter().filter_map(|t| count(t)).fold(wanted, u32::max);
        refuse_fewer(&mut plan, names, def, wish, &count);
        // A record that fails keeps its partition, so those it moves to grow first.
        for bare in in_growing_order(def) {
            if let Some(from) = count(&bare).filter(|n| *n < to) {
                grown.push(Action::Grow { stage: def.name, topic: names.full(&bare), from, to });
            }
            targets.insert(bare, to);
        }
    }
    let mut set = vec![];
    for topic in &table {
        let name = names.full(&topic.name);
        let Some(state) = found.topics.get(&name) else {
            let partitions = targets.get(&topic.name).copied().or(wish.partitions).unwrap_or(topic.partitions);
            plan.actions.push(Action::Create { topic: Topic { name, partitions, ..topic.clone() } });
            continue;
        };
        let keyless = found.keyless.contains(&name);
        let changes = settings(&mut plan.refused, topic, state, keyless, wish.allow_shorter_retention);
        if !changes.is_empty() {
            set.push(Action::Configure { topic: name, changes });
        }
        replicas(&mut plan.refused, state, wish.replication);
    }
    plan.actions.append(&mut set);
    if !grown.is_empty() {
        plan.warnings.extend(GROWING.map(str::to_owned));
    }
    plan.actions.append(&mut grown);
    let kept = |t: &&Topic| !targets.contains_key(&t.name);
    let count = |t: &Topic| found.topics.get(&names.full(&t.name)).map(|s| s.partitions);
    if wish.partitions.is_some_and(|n| table.iter().filter(kept).filter_map(count).any(|c| c != n)) {
        plan.warnings.push(NOT_GROWN.to_owned());
    }
    plan
}

/// Dead letters, retry tiers, lanes: each before those whose records come to it.
fn in_growing_order(def: &StageDef) -> Vec<String> {
    let mut all = vec![def.dlq()];
    all.extend(def.subscribed().into_iter().rev().map(|(t, _)| t));
    all
}

/// Partitions that were asked for and are fewer than those that are there.
fn refuse_fewer(plan: &mut Plan, names: &Names, def: &StageDef, wish: &Wish, count: &impl Fn(&str) -> Option<u32>) {
    let Some(wanted) = wish.partitions else { return };
    let more = |t: &String| count(t).is_some_and(|n| n > wanted);
    let topics: Vec<String> = in_growing_order(def).into_iter().rev().filter(more).collect();
    if let Some(most) = topics.iter().filter_map(|t| count(t)).max() {
        plan.refused.push(Refusal {
            topics: topics.iter().map(|t| names.full(t)).collect(),
            why: format!(
                "{} has up to {most} partitions, and going down to {wanted} would lose the records and offsets of the rest",
                def.name
            ),
            instead: "leave it, or start anew under another `prefix` and let the old one run dry".into(),
        });
    }
}

/// Whether only the last record of a key stays.
pub fn compacted(state: &TopicState) -> bool {
    policy(state).is_some_and(|p| p.contains("compact"))
}

/// `cleanup.policy` is a list.
fn policy(state: &TopicState) -> Option<BTreeSet<&str>> {
    Some(state.get(CLEANUP_POLICY)?.split(',').map(str::trim).filter(|p| !p.is_empty()).collect())
}

/// Settings to change; what must not change is refused.
fn settings(
    refused: &mut Vec<Refusal>,
    topic: &Topic,
    state: &TopicState,
    keyless: bool,
    allow_shorter: bool,
) -> Vec<Change> {
    let mut changes = vec![];
    let mut refuse = |why: String, instead: &str| {
        refused.push(Refusal { topics: vec![state.name.clone()], why, instead: instead.to_owned() });
    };
    for (setting, to) in topic.settings() {
        let from = state.get(setting);
        if from == Some(&*to) {
            continue;
        }
        let number = from.and_then(|v| v.parse::<i64>().ok());
        let allowed = match setting {
            CLEANUP_POLICY => match (policy(state), topic.cleanup) {
                (Some(p), Cleanup::Delete) if p.contains("compact") => {
                    refuse(
                        format!(
                            "{setting} is {}: of each key only the last record stays, so records get lost; `delete` \
                             would take away by age what has stayed so far",
                            from.unwrap_or_default()
                        ),
                        "let the stages run dry, see that nothing else needs it, then set cleanup.policy=delete by hand",
                    );
                    false
                }
                (Some(_), Cleanup::Compact) if keyless => {
                    refuse(
                        format!(
                            "{setting} is to be compact, and the topic holds records without a key, which would go"
                        ),
                        "find who writes them; delete and create the topic anew if nothing in it is needed",
                    );
                    false
                }
                _ => true,
            },
            RETENTION_MS => {
                let shorter = number.is_some_and(|n| longer(n, topic.retention_ms));
                if shorter && !allow_shorter {
                    refuse(
                        format!(
                            "{setting} is {} and {to} is enough, but shortening it deletes records at once",
                            from.unwrap_or_default()
                        ),
                        "--allow-shorter-retention, if these records may go",
                    );
                }
                !shorter || allow_shorter
            }
            MAX_MESSAGE_BYTES => {
                let lower = number.is_some_and(|n| n > i64::from(topic.max_message_bytes));
                // A larger limit of the brokers themselves is none that somebody chose for this topic.
                if lower && state.settings.contains_key(setting) {
                    refuse(
                        format!(
                            "{setting} is {} and {to} is enough, but what is in the topic may be larger and could then \
                             neither be replayed nor copied",
                            from.unwrap_or_default()
                        ),
                        "leave it, or lower it by hand",
                    );
                }
                !lower
            }
            _ => true,
        };
        if allowed {
            changes.push(Change { setting, from: from.map(str::to_owned), to });
        }
    }
    changes
}

/// Whether a retention keeps longer than another; -1 is for ever.
fn longer(a: i64, b: i64) -> bool {
    match (a < 0, b < 0) {
        (_, true) => false,
        (true, false) => true,
        (false, false) => a > b,
    }
}

fn replicas(refused: &mut Vec<Refusal>, state: &TopicState, wanted: Option<u16>) {
    if let (Some(have), Some(want)) = (state.replication, wanted)
        && have < want
    {
        refused.push(Refusal {
            topics: vec![state.name.clone()],
            why: format!(
                "it has {have} replicas and [kafka] replication = {want}; moving replicas is the cluster's business"
            ),
            instead: "kafka-reassign-partitions, or lower [kafka] replication".into(),
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names() -> Names {
        Names::new("t.")
    }

    /// A log whose topics are all as the table says.
    fn complete() -> Found {
        let state = |t: Topic| {
            let name = names().full(&t.name);
            let settings = t.settings().map(|(k, v)| (k.to_owned(), v)).into();
            let state = TopicState {
                name: name.clone(),
                partitions: t.partitions,
                replication: Some(1),
                settings,
                inherited: BTreeMap::new(),
            };
            (name, state)
        };
        Found { topics: topology::topics().into_iter().map(state).collect(), keyless: BTreeSet::new() }
    }

    fn with(change: impl Fn(&str, &mut TopicState)) -> Found {
        let mut found = complete();
        found.topics.iter_mut().for_each(|(name, s)| change(&name[2..], s));
        found
    }

    fn set(topic: &'static str, setting: &'static str, value: &'static str) -> Found {
        with(|name, s| {
            if name == topic {
                s.settings.insert(setting.into(), value.into());
            }
        })
    }

    fn wish(partitions: u32) -> Wish {
        Wish { partitions: Some(partitions), ..Wish::default() }
    }

    /// `topic from→to` of what grows, and that nothing else is to be done.
    fn growth(plan: &Plan) -> Vec<String> {
        let one = |a: &Action| match a {
            Action::Grow { topic, from, to, .. } => format!("{} {from}→{to}", &topic[2..]),
            other => panic!("{other:?}"),
        };
        plan.actions.iter().map(one).collect()
    }

    const FETCH: [&str; 8] = [
        "fetch.dlq",
        "fetch.retry.4",
        "fetch.retry.3",
        "fetch.retry.2",
        "fetch.retry.1",
        "urls.bulk",
        "urls",
        "urls.high",
    ];

    #[test]
    fn nothing_there_is_all_created_and_then_there_is_nothing_to_do() {
        let p = plan(&names(), &Wish::default(), &Found::default());
        let made: Vec<_> = p
            .actions
            .iter()
            .map(|a| if let Action::Create { topic } = a { topic.clone() } else { panic!("{a:?}") })
            .collect();
        let table: Vec<_> =
            topology::topics().into_iter().map(|t| Topic { name: names().full(&t.name), ..t }).collect();
        assert_eq!((made, p.refused, p.warnings), (table, vec![], vec![]));
        assert!(p.actions.windows(2).all(|w| w[0].goes_with(&w[1])));
        assert_eq!(plan(&names(), &Wish::default(), &complete()), Plan::default());
        assert_eq!(plan(&names(), &wish(topology::PARTITIONS), &complete()), Plan::default());
        let p = plan(&names(), &wish(3), &Found::default());
        assert!(p.actions.iter().all(|a| matches!(a, Action::Create { topic } if topic.partitions == 3)));
    }

    #[test]
    fn one_topic_that_has_grown_takes_its_stage_along_and_no_other() {
        let p = plan(&names(), &Wish::default(), &with(|name, s| s.partitions += 12 * u32::from(name == "urls")));
        let others = FETCH.iter().filter(|t| **t != "urls").map(|t| format!("{t} 12→24"));
        assert_eq!(growth(&p), others.collect::<Vec<_>>());
        assert!(p.actions.windows(2).all(|w| w[0].goes_with(&w[1])));
        assert!(p.refused.is_empty() && p.warnings[0].contains("order is not kept"), "{p:?}");
        // Dead letters may have more: they are written to and replayed from the partition of the record.
        let p = plan(&names(), &Wish::default(), &with(|name, s| s.partitions += 9 * u32::from(name == "fetch.dlq")));
        assert_eq!(p, Plan::default());
        let p = plan(&names(), &Wish::default(), &with(|name, s| s.partitions -= 9 * u32::from(name == "fetch.dlq")));
        assert_eq!(growth(&p), ["fetch.dlq 3→12"]);
    }

    #[test]
    fn unequal_counts_are_mended_by_growing_and_what_is_missing_is_made_to_fit() {
        let mut found = with(|name, s| match name {
            "urls" => s.partitions = 5,
            "urls.bulk" => s.partitions = 16,
            "fetch.retry.2" => s.partitions = 1,
            _ => {}
        });
        found.topics.remove("t.fetch.retry.3");
        let p = plan(&names(), &Wish::default(), &found);
        let Action::Create { topic } = &p.actions[0] else { panic!("{p:?}") };
        assert_eq!((&*topic.name, topic.partitions), ("t.fetch.retry.3", 16));
        let grown = Plan { actions: p.actions[1..].to_vec(), ..Plan::default() };
        assert_eq!(
            growth(&grown),
            [
                "fetch.dlq 12→16",
                "fetch.retry.4 12→16",
                "fetch.retry.2 1→16",
                "fetch.retry.1 12→16",
                "urls 5→16",
                "urls.high 12→16"
            ]
        );
    }

    #[test]
    fn partitions_grow_where_stages_read_and_never_shrink() {
        let p = plan(&names(), &wish(24), &complete());
        let grown: BTreeSet<String> = growth(&p).into_iter().collect();
        let keyed = ["status", "jobs", "replays"];
        let wanted =
            topology::topics().into_iter().filter(|t| !keyed.contains(&&*t.name)).map(|t| format!("{} 12→24", t.name));
        assert_eq!(grown, wanted.collect());
        assert_eq!(p.actions.chunk_by(Action::goes_with).count(), STAGES.len());
        assert!(p.warnings.iter().any(|w| w.contains("status, jobs and replays keep")), "{:?}", p.warnings);

        let p = plan(&names(), &wish(6), &complete());
        assert_eq!((p.actions.len(), p.refused.len()), (0, STAGES.len()));
        assert_eq!(p.refused[0].topics.len(), FETCH.len());
        assert!(p.refused[0].why.contains("up to 12 partitions, and going down to 6 would lose"), "{p:?}");
    }

    #[test]
    fn settings_are_changed_where_nothing_is_lost() {
        let found = with(|name, s| match name {
            "urls" => {
                s.settings.remove(RETENTION_MS);
                s.inherited.insert(RETENTION_MS.into(), "1000".into());
                s.settings.insert("compression.type".into(), "gzip".into());
            }
            "documents" => drop(s.settings.insert(MAX_MESSAGE_BYTES.into(), "1048588".into())),
            // Larger, but nobody's choice for this topic.
            "status" => {
                s.settings.remove(MAX_MESSAGE_BYTES);
                s.inherited.insert(MAX_MESSAGE_BYTES.into(), "1048588".into());
            }
            "jobs" => s
                .settings
                .extend([(CLEANUP_POLICY.to_owned(), "delete".to_owned()), (RETENTION_MS.to_owned(), "1".to_owned())]),
            "replays" => drop(s.settings.insert(CLEANUP_POLICY.into(), "compact,delete".into())),
            _ => {}
        });
        let p = plan(&names(), &Wish::default(), &found);
        let change = |setting, from: &str, to: &str| Change { setting, from: Some(from.into()), to: to.into() };
        let configure = |topic: &str, changes| Action::Configure { topic: names().full(topic), changes };
        assert_eq!(
            p.actions,
            [
                configure("urls", vec![change(RETENTION_MS, "1000", "604800000")]),
                configure("documents", vec![change(MAX_MESSAGE_BYTES, "1048588", "12582912")]),
                configure("jobs", vec![change(CLEANUP_POLICY, "delete", "compact"), change(RETENTION_MS, "1", "-1")]),
                configure("replays", vec![change(CLEANUP_POLICY, "compact,delete", "compact")]),
            ]
        );
        assert_eq!((p.refused, p.warnings), (vec![], vec![]));
    }

    #[test]
    fn what_loses_records_or_breaks_a_promise_is_refused_with_what_to_do_instead() {
        for (found, word, instead) in [
            (set("urls", RETENTION_MS, "-1"), "deletes records", "--allow-shorter-retention"),
            (set("pages", RETENTION_MS, "86400001"), "deletes records", "--allow-shorter-retention"),
            (set("urls", CLEANUP_POLICY, "compact"), "records get lost", "by hand"),
            (set("urls", CLEANUP_POLICY, "delete,compact"), "records get lost", "by hand"),
            (set("urls", MAX_MESSAGE_BYTES, "1048577"), "may be larger", "by hand"),
        ] {
            let p = plan(&names(), &Wish::default(), &found);
            assert_eq!((p.actions.len(), p.refused.len()), (0, 1), "{p:?}");
            assert!(p.refused[0].why.contains(word) && p.refused[0].instead.contains(instead), "{p:?}");
        }
        let keyless = Found { keyless: BTreeSet::from(["t.jobs".to_owned()]), ..set("jobs", CLEANUP_POLICY, "delete") };
        let p = plan(&names(), &Wish::default(), &keyless);
        assert!(p.actions.is_empty() && p.refused[0].why.contains("without a key"), "{p:?}");

        let three = Wish { replication: Some(3), ..Wish::default() };
        let p = plan(&names(), &three, &with(|name, s| s.replication = Some(if name == "urls" { 1 } else { 4 })));
        assert_eq!((p.actions.len(), p.refused.len()), (0, 1), "{p:?}");
        assert!(p.refused[0].instead.contains("kafka-reassign-partitions"));
    }

    #[test]
    fn retention_is_shortened_when_that_is_allowed() {
        let wish = Wish { allow_shorter_retention: true, ..Wish::default() };
        let p = plan(&names(), &wish, &set("urls", RETENTION_MS, "-1"));
        let changes = vec![Change { setting: RETENTION_MS, from: Some("-1".into()), to: "604800000".into() }];
        assert_eq!(p.actions, [Action::Configure { topic: "t.urls".into(), changes }]);
        assert!(p.refused.is_empty());
    }
}
