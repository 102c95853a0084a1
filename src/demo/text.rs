//! Sentences and articles made from the word lists in `words/`, the same for the same seed on
//! every machine.
//!
//! A word list is a text file of `key: phrase | phrase | …` lines. Templates name their slots by
//! a letter: `{s}` subject, `{v}` verb, `{o}` object, `{p}` place, `{t}` time, `{l}` linking word,
//! `{w}` person, `{n}` number. Phrases carry their own articles and cases, so any phrase fits any
//! slot of its kind. They hold no `<`, `>`, `&` or `"`, and so need no escaping in HTML.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::sync::LazyLock;

/// A language the demo web is written in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Lang {
    /// English.
    En,
    /// Portuguese.
    Pt,
    /// Spanish.
    Es,
    /// German.
    De,
    /// French.
    Fr,
    /// Russian.
    Ru,
    /// Japanese.
    Ja,
}

impl Lang {
    /// Every language, in the order of their declaration.
    pub const ALL: [Lang; 7] = [Lang::En, Lang::Pt, Lang::Es, Lang::De, Lang::Fr, Lang::Ru, Lang::Ja];

    /// The BCP 47 tag, as in `<html lang>`.
    pub fn tag(self) -> &'static str {
        ["en", "pt", "es", "de", "fr", "ru", "ja"][self as usize]
    }

    /// What stands between two sentences.
    pub(super) fn gap(self) -> &'static str {
        if self == Lang::Ja { "" } else { " " }
    }

    /// Words in a text; for Japanese, which writes no spaces, two characters count as one.
    pub(super) fn count(self, text: &str) -> usize {
        if self == Lang::Ja { text.chars().count() / 2 } else { text.split_whitespace().count() }
    }

    /// The phrases of this language under a key of its word list; empty for an unknown key.
    pub(super) fn phrases(self, key: &str) -> &'static [&'static str] {
        WORDS[self as usize].get(key).map_or(&[], Vec::as_slice)
    }

    /// The first phrase under a key: for the labels of a page.
    pub(super) fn label(self, key: &str) -> &'static str {
        self.phrases(key).first().copied().unwrap_or_default()
    }
}

type Words = HashMap<&'static str, Vec<&'static str>>;

static WORDS: [LazyLock<Words>; 7] = [
    LazyLock::new(|| parse(include_str!("words/en.txt"))),
    LazyLock::new(|| parse(include_str!("words/pt.txt"))),
    LazyLock::new(|| parse(include_str!("words/es.txt"))),
    LazyLock::new(|| parse(include_str!("words/de.txt"))),
    LazyLock::new(|| parse(include_str!("words/fr.txt"))),
    LazyLock::new(|| parse(include_str!("words/ru.txt"))),
    LazyLock::new(|| parse(include_str!("words/ja.txt"))),
];

fn parse(list: &'static str) -> Words {
    list.lines()
        .filter(|line| !line.starts_with('#'))
        .filter_map(|line| line.split_once(": "))
        .map(|(key, phrases)| (key, phrases.split(" | ").map(str::trim).collect()))
        .collect()
}

/// A seed for a name: FNV-1a, 64 bits.
pub(super) fn seed(name: &str) -> u64 {
    name.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3))
}

/// A small deterministic generator (SplitMix64); good enough for prose, not for secrets.
pub(super) struct Dice(pub u64);

impl Dice {
    pub(super) fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number from 0 to `n` - 1; 0 when `n` is 0.
    pub(super) fn below(&mut self, n: usize) -> usize {
        self.roll().checked_rem(n as u64).unwrap_or(0) as usize
    }

    /// One of the phrases; empty when there are none.
    pub(super) fn pick(&mut self, phrases: &[&'static str]) -> &'static str {
        phrases.get(self.below(phrases.len())).copied().unwrap_or_default()
    }
}

/// Writes sentences about a small cast of subjects and objects, so that a text keeps to a topic.
pub(super) struct Writer {
    lang: Lang,
    pub(super) dice: Dice,
    subjects: Vec<&'static str>,
    objects: Vec<&'static str>,
}

impl Writer {
    pub(super) fn new(lang: Lang, seed: u64) -> Writer {
        let mut dice = Dice(seed);
        let mut cast = |key, n| (0..n).map(|_| dice.pick(lang.phrases(key))).collect();
        let (subjects, objects) = (cast("subjects", 6), cast("objects", 9));
        Writer { lang, dice, subjects, objects }
    }

    /// One whole sentence.
    pub(super) fn sentence(&mut self) -> String {
        let template = self.dice.pick(self.lang.phrases("templates"));
        self.fill(template)
    }

    /// A headline: a sentence without its full stop.
    pub(super) fn headline(&mut self) -> String {
        self.fill(self.lang.label("headline"))
    }

    /// Sentences until `words` words are reached.
    pub(super) fn sentences(&mut self, words: usize) -> Vec<String> {
        let (mut out, mut count) = (Vec::new(), 0);
        while count < words {
            let sentence = self.sentence();
            count += self.lang.count(&sentence).max(1);
            out.push(sentence);
        }
        out
    }

    pub(super) fn person(&mut self) -> &'static str {
        self.dice.pick(self.lang.phrases("people"))
    }

    /// A day as `2023-04-17`, from 2019 to 2025.
    pub(super) fn date(&mut self) -> String {
        let (year, month) = (2019 + self.dice.below(7), 1 + self.dice.below(12));
        format!("{year}-{month:02}-{:02}", 1 + self.dice.below(28))
    }

    fn fill(&mut self, template: &str) -> String {
        let mut out = String::with_capacity(160);
        let mut pieces = template.split('{');
        out.push_str(pieces.next().unwrap_or_default());
        for piece in pieces {
            let (slot, rest) = piece.split_once('}').unwrap_or((piece, ""));
            self.slot(slot, &mut out);
            out.push_str(rest);
        }
        capitalised(out)
    }

    fn slot(&mut self, slot: &str, out: &mut String) {
        let key = match slot {
            // Three times in four one of the cast, else anyone, so that texts stay apart.
            "s" if self.dice.below(4) > 0 => return out.push_str(self.dice.pick(&self.subjects)),
            "o" if self.dice.below(4) > 0 => return out.push_str(self.dice.pick(&self.objects)),
            "n" => {
                let _ = write!(out, "{}", 3 + self.dice.below(4_000));
                return;
            }
            "s" => "subjects",
            "o" => "objects",
            "v" => "verbs",
            "p" => "places",
            "t" => "times",
            "l" => "links",
            _ => "people",
        };
        out.push_str(self.dice.pick(self.lang.phrases(key)));
    }
}

/// The text with its first letter upper-cased, as a sentence begins.
fn capitalised(text: String) -> String {
    match text.chars().next() {
        Some(first) if first.is_lowercase() => first.to_uppercase().chain(text.chars().skip(1)).collect(),
        _ => text,
    }
}

/// An article without its page: what a perfect extractor would return.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Article {
    pub lang: Lang,
    pub title: String,
    pub author: &'static str,
    /// `2023-04-17`.
    pub date: String,
    /// Paragraphs of sentences.
    pub paragraphs: Vec<Vec<String>>,
}

impl Article {
    /// An article of 150 to 700 words, fixed by the seed.
    pub(super) fn new(lang: Lang, seed: u64) -> Article {
        let mut writer = Writer::new(lang, seed);
        let (title, author, date) = (writer.headline(), writer.person(), writer.date());
        let words = 160 + writer.dice.below(490);
        let mut sentences = writer.sentences(words).into_iter().peekable();
        let mut paragraphs = Vec::new();
        while sentences.peek().is_some() {
            paragraphs.push(sentences.by_ref().take(3 + writer.dice.below(4)).collect());
        }
        Article { lang, title, author, date, paragraphs }
    }

    /// The same article with one sentence, in the middle of it, replaced.
    pub(super) fn nearly(mut self, seed: u64) -> Article {
        let middle = self.paragraphs.len() / 2;
        let sentence = self.paragraphs.get_mut(middle).and_then(|sentences| sentences.first_mut());
        if let Some(sentence) = sentence {
            *sentence = Writer::new(self.lang, seed).sentence();
        }
        self
    }

    /// One paragraph as text.
    pub(super) fn paragraph(&self, n: usize) -> String {
        self.paragraphs.get(n).map(|sentences| sentences.join(self.lang.gap())).unwrap_or_default()
    }

    /// The article's first sentence: its description and its teaser.
    pub(super) fn lead(&self) -> &str {
        self.paragraphs.first().and_then(|p| p.first()).map_or("", String::as_str)
    }
}

/// Sentences in a pool; a power of two.
pub(super) const POOL: usize = 1024;

/// Ready sentences and their word counts, for pages that must cost almost nothing.
pub(super) fn pool(lang: Lang) -> &'static [(String, usize)] {
    static POOLS: [LazyLock<Vec<(String, usize)>>; 7] = [
        LazyLock::new(|| fill_pool(Lang::En)),
        LazyLock::new(|| fill_pool(Lang::Pt)),
        LazyLock::new(|| fill_pool(Lang::Es)),
        LazyLock::new(|| fill_pool(Lang::De)),
        LazyLock::new(|| fill_pool(Lang::Fr)),
        LazyLock::new(|| fill_pool(Lang::Ru)),
        LazyLock::new(|| fill_pool(Lang::Ja)),
    ];
    &POOLS[lang as usize]
}

fn fill_pool(lang: Lang) -> Vec<(String, usize)> {
    (0..POOL as u64)
        .map(|n| Writer::new(lang, seed("pool") ^ n).sentence())
        .map(|sentence| (lang.count(&sentence).max(1), sentence))
        .map(|(count, sentence)| (sentence, count))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn every_language_has_every_list_and_needs_no_escaping() {
        let keys = WORDS[0].keys().copied().collect::<HashSet<_>>();
        assert!(keys.len() > 20);
        for lang in Lang::ALL {
            let words = &WORDS[lang as usize];
            assert_eq!(words.keys().copied().collect::<HashSet<_>>(), keys, "{lang:?}");
            for phrase in words.values().flatten() {
                assert!(!phrase.is_empty() && !phrase.contains(['<', '>', '&', '"', '|']), "{phrase}");
            }
        }
    }

    #[test]
    fn articles_are_fixed_by_their_seed_and_of_the_right_length() {
        for lang in Lang::ALL {
            for n in 0..20 {
                let article = Article::new(lang, n);
                assert_eq!(article, Article::new(lang, n));
                let words: usize = article.paragraphs.iter().flatten().map(|s| lang.count(s)).sum();
                assert!((150..=700).contains(&words), "{lang:?} {n}: {words} words");
                assert!(article.paragraphs.iter().flatten().all(|s| !s.contains(['{', '}'])));
            }
        }
    }

    #[test]
    fn languages_are_told_apart_by_a_detector() {
        use whatlang::Lang as W;
        let expected = [W::Eng, W::Por, W::Spa, W::Deu, W::Fra, W::Rus, W::Jpn];
        for (lang, expected) in Lang::ALL.into_iter().zip(expected) {
            let text = Article::new(lang, 7).paragraphs.concat().join(" ");
            assert_eq!(whatlang::detect_lang(&text), Some(expected), "{text}");
        }
    }

    #[test]
    fn a_near_duplicate_differs_in_one_sentence() {
        let article = Article::new(Lang::Fr, 3);
        let near = article.clone().nearly(4);
        let pairs = article.paragraphs.iter().flatten().zip(near.paragraphs.iter().flatten());
        assert_eq!(pairs.filter(|(a, b)| a != b).count(), 1);
    }
}
