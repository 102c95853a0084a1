//! Dead letters by what they have in common: one pass, which keeps groups and no letters.

use std::borrow::Cow;
use std::collections::HashMap;
use std::mem;
use std::sync::{Arc, Mutex, PoisonError};

use super::scan::Scan;
use super::{Filter, Letter, LetterId};
use crate::topology::{Names, StageName};
use crate::transport::{Result, Transport};

/// Most groups kept.
pub const GROUPS: usize = 10_000;
/// Longest sample message, in characters.
const SAMPLE: usize = 300;

/// What letters of a group have in common.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum By {
    Stage,
    Class,
    Host,
    Fingerprint,
}

impl By {
    /// Lower-case name.
    pub fn as_str(self) -> &'static str {
        match self {
            By::Stage => "stage",
            By::Class => "class",
            By::Host => "host",
            By::Fingerprint => "fingerprint",
        }
    }
}

impl std::str::FromStr for By {
    type Err = String;
    fn from_str(s: &str) -> std::result::Result<By, String> {
        [By::Stage, By::Class, By::Host, By::Fingerprint]
            .into_iter()
            .find(|b| b.as_str() == s)
            .ok_or_else(|| format!("letters are not grouped by {s:?}; write stage, class, host or fingerprint"))
    }
}

/// The fields that are grouped by are set, where letters have them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Key {
    pub stage: Option<StageName>,
    pub class: Option<Cow<'static, str>>,
    pub host: Option<String>,
    pub fingerprint: Option<String>,
}

/// Letters that have all of a key in common.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Group {
    pub key: Key,
    pub letters: u64,
    /// Of these, put back.
    pub replayed: u64,
    /// When the first and the last of them were given up, Unix ms.
    pub first: i64,
    pub last: i64,
    /// The last of them, and what was wrong.
    pub sample: LetterId,
    pub message: String,
}

/// All groups, the largest first.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Stats {
    pub groups: Vec<Group>,
    pub letters: u64,
    /// Letters of further groups, which came when there were [`GROUPS`].
    pub others: u64,
}

impl Key {
    fn of(letter: &Letter, by: &[By]) -> Key {
        let has = |b| by.contains(&b);
        let failure = letter.failure.as_ref();
        Key {
            stage: if has(By::Stage) { letter.stage } else { None },
            class: failure.filter(|_| has(By::Class)).map(|f| f.class.clone()),
            host: if has(By::Host) { letter.host() } else { None },
            fingerprint: if has(By::Fingerprint) { letter.fingerprint() } else { None },
        }
    }
}

/// What a pass has counted.
#[derive(Default)]
struct Count {
    groups: HashMap<Key, Group>,
    letters: u64,
    others: u64,
}

impl Count {
    fn add(&mut self, key: Key, letter: Letter) {
        self.letters += 1;
        let at = letter.at();
        let replayed = u64::from(letter.replayed.is_some());
        let message = letter.failure.map(|f| f.message).unwrap_or_default();
        let Some(group) = self.groups.get_mut(&key) else {
            if self.groups.len() == GROUPS {
                self.others += 1;
                return;
            }
            let sample = letter.id;
            let group = Group { key: key.clone(), letters: 1, replayed, first: at, last: at, sample, message };
            self.groups.insert(key, group);
            return;
        };
        group.letters += 1;
        group.replayed += replayed;
        group.first = group.first.min(at);
        if (at, &letter.id) > (group.last, &group.sample) {
            (group.last, group.message, group.sample) = (at, message, letter.id);
        }
    }
}

/// Groups the letters that a filter lets through.
pub async fn stats(transport: &dyn Transport, names: &Names, filter: &Filter, by: &[By]) -> Result<Stats> {
    let count = Arc::new(Mutex::new(Count::default()));
    let (counting, by) = (Arc::clone(&count), by.to_vec());
    let scan = Scan::start(transport, names, filter).await?;
    scan.visit(move |letter| {
        let key = Key::of(&letter, &by);
        counting.lock().unwrap_or_else(PoisonError::into_inner).add(key, letter);
    })
    .await?;
    let Count { groups, letters, others } = mem::take(&mut *count.lock().unwrap_or_else(PoisonError::into_inner));
    let mut groups: Vec<Group> = groups.into_values().collect();
    for group in &mut groups {
        if let Some((end, _)) = group.message.char_indices().nth(SAMPLE) {
            group.message.truncate(end);
        }
    }
    groups.sort_by(|a, b| (b.letters, b.last, &b.sample).cmp(&(a.letters, a.last, &a.sample)));
    Ok(Stats { groups, letters, others })
}
