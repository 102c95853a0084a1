//! What the first judgement of all blocks says of each: its neighbours' scores, those of the elements around it, of the
//! blocks that look like it, and where it stands in what would be kept. The second judgement reads these beside the
//! features themselves, so that a block is judged with the page in view.

use std::collections::HashMap;

use super::features::{Parts, look};
use super::row::Row;

/// A page's words, what is expected of them to be main text, and what would be kept.
#[derive(Clone, Copy, Default)]
struct Sum {
    words: f32,
    wanted: f32,
}

impl Sum {
    fn add(&mut self, words: f32, score: f32) {
        self.words += words;
        self.wanted += words * score;
    }

    fn mean(&self) -> u8 {
        if self.words > 0.0 { (self.wanted / self.words * 255.0) as u8 } else { 0 }
    }
}

/// The features that follow from `scores`, one a block, 255 for certainly main text. One row after the other.
pub fn rows(parts: &Parts, scores: &[u8], names: Option<&mut Vec<String>>) -> (Vec<u8>, usize) {
    let (blocks, boxes) = (&parts.blocks.blocks, &parts.boxes);
    let score: Vec<f32> = scores.iter().map(|score| f32::from(*score) / 255.0).collect();
    let words: Vec<f32> = blocks.iter().map(|block| block.count() as f32).collect();
    let mut of_box = vec![Sum::default(); boxes.boxes.len()];
    let mut of_look: HashMap<u32, Sum> = HashMap::new();
    let looks: Vec<u32> = (0..blocks.len()).map(|at| look(boxes, at)).collect();
    for at in 0..blocks.len() {
        of_box[boxes.of_block[at] as usize].add(words[at], score[at]);
        of_look.entry(looks[at]).or_default().add(words[at], score[at]);
    }
    for at in (1..of_box.len()).rev() {
        let sum = of_box[at];
        let parent = &mut of_box[boxes.boxes[at].parent as usize];
        parent.words += sum.words;
        parent.wanted += sum.wanted;
    }
    // Sums up to each block, so that a window's is a difference.
    let mut upto = Vec::with_capacity(blocks.len() + 1);
    let mut sum = Sum::default();
    upto.push(sum);
    for at in 0..blocks.len() {
        sum.add(words[at], score[at]);
        upto.push(sum);
    }
    let window = |from: usize, to: usize| Sum {
        words: upto[to].words - upto[from].words,
        wanted: upto[to].wanted - upto[from].wanted,
    };
    let (limit, _) = threshold(&score, &words);
    let kept: Vec<bool> = score.iter().map(|score| *score >= limit).collect();
    let (first, last) = (kept.iter().position(|kept| *kept), kept.iter().rposition(|kept| *kept));
    let main = main_box(parts, &of_box);
    let mut row = Row { names: names.is_some().then(Vec::new), ..Row::default() };
    let mut rows = Vec::new();
    let mut last_kept = None;
    let next_kept = {
        let mut next = vec![usize::MAX; blocks.len()];
        let mut seen = usize::MAX;
        for at in (0..blocks.len()).rev() {
            next[at] = seen;
            if kept[at] {
                seen = at;
            }
        }
        next
    };
    let best_score = scores.iter().copied().max().unwrap_or(0);
    for at in 0..blocks.len() {
        row.byte("score", scores[at]);
        for step in [-3isize, -2, -1, 1, 2, 3] {
            let other = at.checked_add_signed(step).and_then(|other| scores.get(other));
            row.byte("neighbour score", other.copied().unwrap_or(0));
        }
        for reach in [2, 5, 15] {
            let (from, to) = (at.saturating_sub(reach), (at + reach + 1).min(blocks.len()));
            row.byte("near score", window(from, to).mean());
        }
        row.byte("before score", window(at.saturating_sub(8), at).mean());
        row.byte("after score", window(at + 1, (at + 9).min(blocks.len())).mean());
        let mut up = boxes.of_block[at];
        let mut held = -1.0;
        for _ in 0..6 {
            while up != 0 && of_box[up as usize].words == held {
                up = boxes.boxes[up as usize].parent;
            }
            let sum = of_box[up as usize];
            held = sum.words;
            row.byte("up score", sum.mean());
            row.share("up part", sum.wanted as u32, upto[blocks.len()].wanted as u32);
            up = boxes.boxes[up as usize].parent;
        }
        row.byte("look score", of_look.get(&looks[at]).map_or(0, Sum::mean));
        let total = upto[blocks.len()];
        row.byte("page score", total.mean());
        row.size("page wanted", total.wanted as u32);
        row.byte("page best score", best_score);
        row.byte("limit", (limit * 255.0) as u8);
        row.byte("over limit", (128.0 + (score[at] - limit) * 127.0) as u8);
        row.share("wanted before", upto[at].wanted as u32, total.wanted as u32);
        row.byte(
            "place",
            match (first, last) {
                (Some(first), Some(last)) if at >= first && at <= last => 1,
                (Some(first), _) if at < first => 0,
                _ => 2,
            },
        );
        row.size("since kept", last_kept.map_or(u32::MAX, |kept: usize| (at - kept) as u32));
        row.size("words since kept", last_kept.map_or(u32::MAX, |kept| window(kept + 1, at).words as u32));
        let next = next_kept[at];
        row.size("until kept", if next == usize::MAX { u32::MAX } else { (next - at) as u32 });
        row.size("words until kept", if next == usize::MAX { u32::MAX } else { window(at + 1, next).words as u32 });
        let common = boxes.common(boxes.of_block[at], main);
        let depth = |one: u32| boxes.boxes[one as usize].depth;
        row.count("to main", depth(main) - depth(common));
        row.count("from main", depth(boxes.of_block[at]) - depth(common));
        row.byte("main score", of_box[main as usize].mean());
        if kept[at] {
            last_kept = Some(at);
        }
        rows.append(&mut row.values);
    }
    let width = rows.len() / blocks.len().max(1);
    if let (Some(into), Some(all)) = (names, row.names) {
        *into = all.into_iter().take(width).collect();
    }
    (rows, width)
}

/// The innermost box with nine tenths of what is expected to be main text.
fn main_box(parts: &Parts, of_box: &[Sum]) -> u32 {
    let most = of_box[0].wanted * 0.9;
    // Children come after their parents, so the last one that holds enough is the innermost.
    let enough = of_box.iter().rposition(|sum| sum.wanted >= most && most > 0.0);
    enough.unwrap_or(0).min(parts.boxes.boxes.len() - 1) as u32
}

/// The score from which on blocks are kept: that which makes the expected F1 of words best, counting each word of a block
/// as wanted with the probability that is its score; and that F1. It is low on a page where nothing is certain, and half
/// where all is.
pub fn threshold(score: &[f32], words: &[f32]) -> (f32, f32) {
    let mut order: Vec<usize> = (0..score.len()).collect();
    order.sort_by(|a, b| score[*b].total_cmp(&score[*a]));
    let wanted: f32 = score.iter().zip(words).map(|(score, words)| score * words).sum();
    let (mut hit, mut kept) = (0.0, 0.0);
    let (mut best, mut limit) = (0.0, 1.0);
    for at in order {
        hit += score[at] * words[at];
        kept += words[at];
        let f1 = 2.0 * hit / (kept + wanted);
        if f1 > best {
            (best, limit) = (f1, score[at]);
        }
    }
    (limit, best)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_threshold_follows_what_is_certain() {
        assert_eq!(threshold(&[1.0, 0.9, 0.3], &[100.0, 10.0, 10.0]).0, 0.9);
        assert_eq!(threshold(&[0.4, 0.3, 0.25, 0.01], &[10.0; 4]).0, 0.25);
        assert_eq!(threshold(&[], &[]), (1.0, 0.0));
    }
}
