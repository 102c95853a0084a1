//! The elements that blocks lie in, and what each holds: how many words, of them in links, in sentences; how many
//! siblings look like it; what its name speaks of; how well it would do as the container of the main text.

use std::collections::HashMap;

use super::blocks::Blocks;
use super::lexicon;
use crate::extract::elements::Tag;
use crate::extract::tree::{Id, Tree, tags};

/// An element with text in it.
#[derive(Debug, Clone)]
pub struct Box {
    /// Its node.
    pub id: Id,
    /// The box that it is in; of the root box itself 0.
    pub parent: u32,
    /// Which element.
    pub tag: Tag,
    /// What its name speaks of: [`lexicon::of_name`].
    pub name: u64,
    /// Equal for elements with the same tag and class.
    pub look: u32,
    /// Boxes around it.
    pub depth: u32,
    /// Its first block, and one past its last.
    pub blocks: (u32, u32),
    /// Words inside.
    pub words: u32,
    /// Words in links.
    pub link_words: u32,
    /// Words in blocks that read like running text.
    pub prose_words: u32,
    /// Blocks that are headings.
    pub headings: u32,
    /// Readability's score: what the prose right below it is worth.
    pub score: f32,
    /// Siblings that look like it, itself included, and their words.
    pub alike: (u32, u32),
}

/// All boxes of a page, a parent before its children; the first is the root.
pub struct Boxes {
    /// The boxes.
    pub boxes: Vec<Box>,
    /// For each block the box that holds it.
    pub of_block: Vec<u32>,
    /// The box with the best score.
    pub best: u32,
}

impl Boxes {
    /// The boxes of `blocks`, which are those of `tree`.
    pub fn of(tree: &Tree, blocks: &Blocks) -> Self {
        let mut this = Self { boxes: vec![Box::of(tree, 0, 0, 0)], of_block: Vec::new(), best: 0 };
        let mut known: HashMap<Id, u32> = HashMap::from([(0, 0)]);
        let mut path = Vec::new();
        for (at, block) in blocks.blocks.iter().enumerate() {
            let mut id = block.holder;
            while !known.contains_key(&id) {
                path.push(id);
                id = tree.parent(id);
            }
            let mut parent = known[&id];
            while let Some(id) = path.pop() {
                let depth = this.boxes[parent as usize].depth + 1;
                let new = this.boxes.len() as u32;
                let mut made = Box::of(tree, id, parent, depth);
                made.blocks = (at as u32, at as u32);
                this.boxes.push(made);
                known.insert(id, new);
                parent = new;
            }
            this.of_block.push(parent);
            let (words, link_words) = (block.count(), block.link_words.min(block.count()));
            let prose = is_prose(words, link_words, block.running, block.sentences);
            let holder = &mut this.boxes[parent as usize];
            holder.words += words;
            holder.link_words += link_words;
            holder.prose_words += if prose { words } else { 0 };
            holder.headings += u32::from(is_heading(holder.tag));
            holder.blocks.1 = at as u32 + 1;
            if words >= 8 {
                let worth = 1.0 + block.commas as f32 + (words as f32 / 17.0).min(3.0);
                let worth = worth * (1.0 - link_words as f32 / words as f32);
                let mut at = this.boxes[parent as usize].parent;
                for share in [1.0, 0.5, 0.33, 0.25] {
                    this.boxes[at as usize].score += worth * share;
                    at = this.boxes[at as usize].parent;
                }
            }
        }
        this.sum_up();
        this
    }

    fn sum_up(&mut self) {
        for at in (1..self.boxes.len()).rev() {
            let Box { parent, words, link_words, prose_words, headings, blocks, .. } = self.boxes[at];
            let parent = &mut self.boxes[parent as usize];
            parent.words += words;
            parent.link_words += link_words;
            parent.prose_words += prose_words;
            parent.headings += headings;
            parent.blocks.1 = parent.blocks.1.max(blocks.1);
        }
        let mut alike: HashMap<(u32, u32), (u32, u32)> = HashMap::new();
        for one in &self.boxes {
            let sum = alike.entry((one.parent, one.look)).or_default();
            *sum = (sum.0 + 1, sum.1 + one.words);
        }
        let mut best = 0.0;
        for (at, one) in self.boxes.iter_mut().enumerate() {
            one.alike = alike[&(one.parent, one.look)];
            one.score *= 1.0 - one.link_words as f32 / one.words.max(1) as f32;
            if one.score > best {
                (best, self.best) = (one.score, at as u32);
            }
        }
    }

    /// The innermost box that holds both.
    pub fn common(&self, a: u32, b: u32) -> u32 {
        let (mut a, mut b) = (a, b);
        while a != b {
            // A parent has the smaller number.
            if a > b { a = self.boxes[a as usize].parent } else { b = self.boxes[b as usize].parent }
        }
        a
    }
}

impl Box {
    fn of(tree: &Tree, id: Id, parent: u32, depth: u32) -> Self {
        let tag = tree.tag(id);
        let (mut name, mut look) = (0, lexicon::step(lexicon::START, tag.index() as u32));
        if id != 0 {
            for (key, value) in tree.attributes(id).take(64) {
                let key = key.as_bytes();
                match key {
                    b"class" | b"id" | b"role" | b"itemprop" | b"aria-label" | b"data-testid" | b"data-component" => {
                        name |= lexicon::of_name(value);
                        if key == b"class" {
                            look = value.bytes().take(64).fold(look, |look, b| lexicon::step(look, u32::from(b)));
                        }
                    }
                    b"hidden" => name |= lexicon::HIDDEN,
                    b"aria-hidden" if value.eq_ignore_ascii_case("true") => name |= lexicon::HIDDEN,
                    b"style" if value.contains("display:none") || value.contains("display: none") => {
                        name |= lexicon::HIDDEN;
                    }
                    _ => {}
                }
            }
            if tag == Tag::OTHER {
                name |= lexicon::of_name(tree.name(id));
            }
        }
        Self {
            id,
            parent,
            tag,
            name,
            look,
            depth,
            blocks: (0, 0),
            words: 0,
            link_words: 0,
            prose_words: 0,
            headings: 0,
            score: 0.0,
            alike: (0, 0),
        }
    }
}

/// `h1` to `h6`?
pub fn is_heading(tag: Tag) -> bool {
    use tags::*;
    matches!(tag, H1 | H2 | H3 | H4 | H5 | H6)
}

/// Does it read like running text?
pub fn is_prose(words: u32, link_words: u32, running: u32, sentences: u32) -> bool {
    words >= 10 && link_words * 3 < words && (running * 5 >= words || sentences > 0)
}
