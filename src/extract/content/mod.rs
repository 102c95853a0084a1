//! The main text of a page: which of its blocks belong to it.
//!
//! ```text
//! tree ─► blocks ─► boxes (the elements around them) ─► features ─► first forest: a score a block
//!            │                                             └─► with all scores in view: second forest ─► threshold
//!            └─► those kept, in order: text and Markdown                                    that makes F1 best ─► kept
//! ```
//! Both forests were trained by `benches/extract/train.py` on pages whose main text people marked; their features are
//! computed by this code in training too. `docs/extraction.md` tells how well it does.

pub mod blocks;
pub mod boxes;
pub mod features;
mod forest;
mod kind;
mod lexicon;
mod markdown;
mod page;
mod row;
pub mod second;

use std::sync::LazyLock;

pub use kind::PageKind;

use super::tree::{Tree, tags};
use blocks::Block;
use features::Parts;
use forest::{Forest, probability};

/// What the page is about.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Content {
    /// The main text: paragraphs parted by an empty line, entries of lists and rows by a line break. All visible text when no main part stands out.
    pub text: String,
    /// The same with its structure, as Markdown.
    pub markdown: String,
    /// What kind of page it is.
    pub kind: PageKind,
    /// The F1 of words that is to be expected of the text, 0 to 1, by the model's own scores.
    pub confidence: f32,
    /// What speaks for it, by name: `kept` the share of the page's words that were kept, `sureness` the mean of how far the
    /// scores of words are from undecided (0 to 1), `kind` the probability of that kind, `elsewhere` 1 when the text is
    /// JSON-LD's or all that is visible.
    pub parts: [(&'static str, f32); 4],
}

/// Words under which the text is taken from elsewhere, if the page has it.
const SHORT: u32 = 50;

/// The forests: kind of page, first judgement, second judgement.
struct Model {
    kind: Forest,
    first: Forest,
    second: Forest,
}

static MODEL: LazyLock<Option<Model>> = LazyLock::new(|| {
    let mut forests = Forest::read_all(include_bytes!("model.bin"))?.into_iter();
    Some(Model { kind: forests.next()?, first: forests.next()?, second: forests.next()? })
});

/// Finds the main text of `tree`, which came from `url`; `absolute` resolves the addresses of links in the Markdown.
pub fn find(tree: &Tree, url: Option<&str>, absolute: &dyn Fn(&str) -> Option<String>) -> Content {
    let parts = Parts::of(tree, url);
    let all = &parts.blocks.blocks;
    let Some(model) = &*MODEL else { return Content::default() };
    let kinds = shares(&model.kind.sums(&parts.page_row()));
    let kind = PageKind::most_likely(&kinds);
    let judged = judge(model, &parts, &kinds.map(byte));
    let words: Vec<f32> = all.iter().map(|block| block.count() as f32).collect();
    let judged: Vec<f32> = judged.iter().map(|score| score.powf(strictness(&kinds))).collect();
    let (limit, confidence) = second::threshold(&judged, &words);
    let mut kept: Vec<&Block> = all.iter().zip(&judged).filter(|(_, score)| **score >= limit).map(|(b, _)| b).collect();
    let count: u32 = kept.iter().map(|block| block.count()).sum();
    let article = parts.page.article_text.trim();
    if count < SHORT && article.split_ascii_whitespace().count() as u32 > 2 * SHORT.max(count) {
        let parts = explain(&judged, &words, 0, &kinds, true);
        return Content { text: article.to_owned(), markdown: article.to_owned(), kind, confidence: 0.5, parts };
    }
    if count == 0 {
        kept = all.iter().collect();
    }
    let mut text = String::new();
    let mut before = false;
    for block in &kept {
        let entry = is_entry(tree, block);
        if !text.is_empty() {
            text.push_str(if entry && before { "\n" } else { "\n\n" });
        }
        text.push_str(parts.blocks.text_of(block));
        before = entry;
    }
    let markdown = markdown::write(tree, &parts.blocks, &kept, absolute);
    let parts = explain(&judged, &words, count, &kinds, count == 0);
    Content { text, markdown, kind, confidence, parts }
}

fn explain(scores: &[f32], words: &[f32], kept: u32, kinds: &[f32], elsewhere: bool) -> [(&'static str, f32); 4] {
    let all = words.iter().sum::<f32>().max(1.0);
    let sure: f32 = scores.iter().zip(words).map(|(score, words)| (2.0 * score - 1.0).abs() * words).sum();
    let kind = kinds.iter().copied().fold(0.0, f32::max);
    [("kept", kept as f32 / all), ("sureness", sure / all), ("kind", kind), ("elsewhere", f32::from(elsewhere))]
}

/// Is it an item of a list or a row of a table?
fn is_entry(tree: &Tree, block: &Block) -> bool {
    let mut around = std::iter::once(block.holder).chain(tree.ancestors(block.holder)).take(3);
    block.row || around.any(|id| matches!(tree.tag(id), tags::LI | tags::DT | tags::DD | tags::TD | tags::TH))
}

/// The power of a score that counts. An article is of one piece, so doubt speaks against a block; on other pages what
/// belongs to the main text is less clear, and leaving out costs more than taking in.
fn strictness(kinds: &[f32]) -> f32 {
    let article = PageKind::ALL.iter().position(|kind| *kind == PageKind::Article);
    0.7 + 0.8 * article.and_then(|article| kinds.get(article)).copied().unwrap_or(0.0)
}

/// The probability of each block that it belongs to the main text: the mean of both judgements.
fn judge(model: &Model, parts: &Parts, kind: &[u8]) -> Vec<f32> {
    let (rows, width) = parts.rows(kind, None);
    if width != model.first.width {
        return Vec::new();
    }
    let first: Vec<f32> = rows.chunks_exact(width).map(|row| probability(model.first.sum(row))).collect();
    let scores: Vec<u8> = first.iter().copied().map(byte).collect();
    let (more, more_width) = second::rows(parts, &scores, None);
    let mut row = vec![0; model.second.width.max(width + more_width)];
    let both = rows.chunks_exact(width).zip(more.chunks_exact(more_width));
    first
        .iter()
        .zip(both)
        .map(|(score, (own, others))| {
            row[..width].copy_from_slice(own);
            row[width..width + more_width].copy_from_slice(others);
            (score + probability(model.second.sum(&row))) / 2.0
        })
        .collect()
}

/// Log-odds of several kinds as probabilities that add up to one.
fn shares(sums: &[f32]) -> [f32; PageKind::ALL.len()] {
    let mut shares = [0.0; PageKind::ALL.len()];
    let most = sums.iter().copied().fold(f32::MIN, f32::max);
    for (share, sum) in shares.iter_mut().zip(sums) {
        *share = (sum - most).exp();
    }
    let total: f32 = shares.iter().sum();
    shares.map(|share| share / total.max(1.0))
}

/// A probability as a feature.
fn byte(probability: f32) -> u8 {
    (probability * 255.0) as u8
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::extract::Limits;

    #[test]
    fn the_model_fits_the_features() {
        let tree = Tree::parse("<p>some words</p><p>and more", &Limits::default());
        let parts = Parts::of(&tree, None);
        let Some(model) = &*MODEL else { panic!("model.bin cannot be read") };
        assert_eq!(model.kind.width, parts.page_row().len());
        assert_eq!(model.kind.sums(&parts.page_row()).len(), PageKind::ALL.len());
        let (_, width) = parts.rows(&[0; PageKind::ALL.len()], None);
        let (_, more) = second::rows(&parts, &[0, 255], None);
        assert_eq!((model.first.width, model.second.width), (width, width + more), "train it again: benches/extract");
        assert_eq!(judge(model, &parts, &[0; PageKind::ALL.len()]).len(), 2);
    }

    #[test]
    fn the_kinds_are_shares() {
        let shares = shares(&[1.0, 1.0, -50.0, -50.0, -50.0, -50.0, -50.0]);
        assert!((shares[0] - 0.5).abs() < 0.01 && shares[2] < 0.01);
    }
}
