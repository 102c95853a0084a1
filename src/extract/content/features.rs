//! What is known of a block: of its text, of the elements around it, of its neighbours, of the page.

use std::collections::HashMap;

use super::blocks::{Block, Blocks};
use super::boxes::{Box, Boxes, is_heading, is_prose};
use super::lexicon;
use super::page::{Page, threes};
use super::row::{Row, share};
use crate::extract::elements::Tag;
use crate::extract::tree::{Tree, tags};

/// A page taken apart.
pub struct Parts<'t, 'a> {
    /// Its tree.
    pub tree: &'t Tree<'a>,
    /// Its blocks.
    pub blocks: Blocks,
    /// The elements around them.
    pub boxes: Boxes,
    /// The page as a whole.
    pub page: Page,
}

/// Elements around a block whose names are looked at.
const MAX_UP: usize = 30;

impl<'t, 'a> Parts<'t, 'a> {
    /// Takes `tree` apart, which came from `url`.
    pub fn of(tree: &'t Tree<'a>, url: Option<&str>) -> Self {
        let blocks = Blocks::of(tree);
        let boxes = Boxes::of(tree, &blocks);
        Self { tree, blocks, boxes, page: Page::of(tree, url) }
    }

    /// The features of the page as a whole, from which its kind is told.
    pub fn page_row(&self) -> Vec<u8> {
        let row = &mut Row::default();
        let Self { blocks, boxes, page, .. } = self;
        let root = &boxes.boxes[0];
        let sum = |of: fn(&Block) -> u32| blocks.blocks.iter().map(of).sum::<u32>();
        let tagged = |tag: Tag| boxes.boxes.iter().filter(|one| one.tag == tag).count() as u32;
        row.size("page words", root.words);
        row.size("page blocks", blocks.blocks.len() as u32);
        row.share("page link share", root.link_words, root.words);
        row.share("page prose share", root.prose_words, root.words);
        row.size("page prose", root.prose_words);
        row.size("page headings", root.headings);
        row.size("page p", tagged(tags::P));
        row.size("page li", tagged(tags::LI));
        row.size("page tr", tagged(tags::TR));
        row.size("page pre", tagged(tags::PRE));
        row.size("page article", tagged(tags::ARTICLE));
        row.size("page main", tagged(tags::MAIN));
        row.size("page section", tagged(tags::SECTION));
        row.size("page dd", tagged(tags::DD));
        row.size("page images", sum(|b| b.images));
        row.size("page money", sum(|b| b.money));
        row.size("page code", sum(|b| b.code_words));
        row.share("page running", sum(|b| b.running), root.words);
        row.size("page sentences", sum(|b| b.sentences));
        row.byte("page og type", page.og_type);
        row.byte("page generator", page.generator);
        row.flag("page dated", page.dated);
        for bit in 0..14 {
            row.flag("page thing", page.things >> bit & 1 == 1);
        }
        for bit in 0..8 {
            row.flag("page address", page.address >> bit & 1 == 1);
        }
        row.count("page path parts", page.path_parts);
        row.count("page hyphens", page.hyphens);
        row.count("page path digits", page.path_digits);
        let article = page.article_text.split_ascii_whitespace().count() as u32;
        row.size("page article text", article);
        row.share("page article share", article, root.words);
        let best = &boxes.boxes[boxes.best as usize];
        row.share("page best share", best.words, root.words);
        row.share("page best links", best.link_words, best.words);
        row.share("page best prose", best.prose_words, best.words);
        // What the elements' names speak of, by words in them.
        for bit in [0, 12, 18, 21, 22, 23, 24, 25, 26, 27, 33, 34, 44, 51] {
            let named = boxes.boxes.iter().filter(|one| one.name >> bit & 1 == 1).count() as u32;
            row.size("page names", named);
        }
        for bit in [18, 23, 27, 34, 51, 19, 16] {
            row.flag("page body name", page.body_name >> bit & 1 == 1);
        }
        std::mem::take(&mut row.values)
    }

    /// The features of all blocks, one row after the other, `kind` (the page's) at the end of each; and the length of a
    /// row. `names` are filled when asked for.
    pub fn rows(&self, kind: &[u8], names: Option<&mut Vec<String>>) -> (Vec<u8>, usize) {
        let mut row = Row { names: names.is_some().then(Vec::new), ..Row::default() };
        let seen = Seen::of(self);
        let mut heading = Heading::default();
        let mut words_before = 0;
        let mut width = 0;
        for at in 0..self.blocks.blocks.len() {
            self.block_row(at, &seen, &heading, words_before, &mut row);
            kind.iter().for_each(|kind| row.byte("kind", *kind));
            if at == 0 {
                width = row.values.len();
                row.values.reserve(width * self.blocks.blocks.len());
            }
            words_before += self.blocks.blocks[at].count();
            heading.pass(self, at);
        }
        if let (Some(into), Some(mut all)) = (names, row.names) {
            all.truncate(width);
            *into = all;
        }
        (row.values, width)
    }

    fn block_row(&self, at: usize, seen: &Seen, heading: &Heading, words_before: u32, row: &mut Row) {
        let (blocks, boxes) = (&self.blocks, &self.boxes);
        let block = &blocks.blocks[at];
        let holder = &boxes.boxes[boxes.of_block[at] as usize];
        let text = blocks.text_of(block);
        let words = block.count();
        let chars = text.len() as u32;
        row.size("words", words);
        row.size("bytes", chars);
        row.share("word length", chars.min(words * 16), words * 16);
        row.share("link share", block.link_words, words);
        row.count("links", block.links);
        row.share("strong share", block.strong_words, words);
        row.share("code share", block.code_words, words);
        row.share("running", block.running, words);
        row.count("commas", block.commas);
        row.count("sentences", block.sentences);
        row.share("words a sentence", block.sentences * 8, words);
        row.share("digits", block.digits, chars);
        row.share("upper", block.upper * 4, chars);
        row.share("symbols", block.symbols * 4, chars);
        row.count("breaks", block.breaks);
        row.count("images", block.images);
        row.count("bars", block.bars);
        row.count("money", block.money);
        row.flag("pre", block.pre);
        row.flag("in button", block.in_button);
        row.flag("row", block.row);
        let last = text.chars().next_back().unwrap_or(' ');
        row.byte(
            "ends",
            match last {
                '.' | '!' | '?' | '…' | '"' | '”' | '。' => 3,
                ':' => 2,
                ',' | ';' | '-' | '—' => 1,
                _ => 0,
            },
        );
        let first = text.chars().next().unwrap_or(' ');
        row.byte(
            "begins",
            match first {
                c if c.is_uppercase() => 3,
                c if c.is_lowercase() => 2,
                c if c.is_numeric() => 1,
                _ => 0,
            },
        );
        for speaks in block.speaks {
            row.share("speaks", u32::from(speaks), words);
        }
        let hashes = blocks.words_of(block);
        let among =
            |set: &std::collections::HashSet<u32>| hashes.iter().take(200).filter(|w| set.contains(w)).count() as u32;
        let title = among(&self.page.title);
        row.share("in title", title, words.min(200));
        row.share("title in it", title, self.page.title.len() as u32);
        let described = among(&self.page.description);
        row.share("in description", described, words.min(200));
        row.share("description in it", described, self.page.description.len() as u32);
        if self.page.article_body.is_empty() {
            row.byte("in article text", 128);
        } else {
            let (mut all, mut hit) = (0, 0);
            for three in threes(hashes).take(1_000) {
                all += 1;
                hit += u32::from(self.page.article_body.contains(&three));
            }
            row.share("in article text", hit, all);
        }
        let (copies, first) = seen.copies(hashes);
        row.count("copies", copies);
        row.flag("first copy", first == at);
        let (before, elsewhere) = seen.threes(hashes, at);
        let threes = (hashes.len().min(MAX_THREES).saturating_sub(2)) as u32;
        row.share("said before", before, threes);
        row.share("said elsewhere", elsewhere, threes);
        let (of_look, of_look_words, of_look_links) = seen.look(boxes, at);
        row.size("look count", of_look);
        row.share("look words", of_look_words, boxes.boxes[0].words);
        row.share("look links", of_look_links, of_look_words);
        row.size("look mean", of_look_words / of_look.max(1));
        self.around(at, row);
        self.up(at, row);
        let total = boxes.boxes[0].words;
        row.share("at", at as u32, blocks.blocks.len() as u32);
        row.share("at words", words_before, total);
        row.size("blocks before", at as u32);
        row.size("blocks after", (blocks.blocks.len() - 1 - at) as u32);
        row.size("words before", words_before);
        row.size("words after", total.saturating_sub(words_before + words));
        heading.row(at, row);
        let best = boxes.best;
        let common = boxes.common(boxes.of_block[at], best);
        let best_box = &boxes.boxes[best as usize];
        row.count("to best", best_box.depth - boxes.boxes[common as usize].depth);
        row.count("from best", holder.depth - boxes.boxes[common as usize].depth);
        row.byte(
            "beside best",
            match at as u32 {
                at if at < best_box.blocks.0 => 0,
                at if at >= best_box.blocks.1 => 2,
                _ => 1,
            },
        );
        row.size("before best", best_box.blocks.0.saturating_sub(at as u32));
        row.size("after best", (at as u32).saturating_sub(best_box.blocks.1));
    }

    /// The blocks before and after.
    fn around(&self, at: usize, row: &mut Row) {
        let (blocks, boxes) = (&self.blocks.blocks, &self.boxes);
        for step in [-3isize, -2, -1, 1, 2, 3] {
            let other = at.checked_add_signed(step).and_then(|other| Some((other, blocks.get(other)?)));
            let Some((other, block)) = other else {
                for _ in 0..5 {
                    row.byte("neighbour", 255);
                }
                if step.abs() == 1 {
                    row.byte("neighbour", 255);
                    row.byte("neighbour", 255);
                }
                continue;
            };
            row.size("neighbour words", block.count());
            row.share("neighbour links", block.link_words, block.count());
            row.share("neighbour running", block.running, block.count());
            row.count("neighbour sentences", block.sentences);
            let (mine, others) = (boxes.of_block[at], boxes.of_block[other]);
            row.byte("neighbour tag", kind(&boxes.boxes[others as usize]));
            if step.abs() == 1 {
                let common = boxes.boxes[boxes.common(mine, others) as usize].depth;
                row.count("neighbour up", boxes.boxes[mine as usize].depth - common);
                row.count("neighbour down", boxes.boxes[others as usize].depth - common);
            }
        }
        for reach in [4usize, 12] {
            let near = &blocks[at.saturating_sub(reach)..(at + reach + 1).min(blocks.len())];
            let words: u32 = near.iter().map(Block::count).sum();
            let prose = |b: &Block| is_prose(b.count(), b.link_words, b.running, b.sentences);
            row.size("near words", words);
            row.share("near links", near.iter().map(|b| b.link_words).sum(), words);
            row.share("near prose", near.iter().filter(|b| prose(b)).map(Block::count).sum(), words);
        }
    }

    /// The elements around it, innermost first.
    fn up(&self, at: usize, row: &mut Row) {
        let boxes = &self.boxes.boxes;
        let total = boxes[0].words;
        let first = self.boxes.of_block[at];
        let holder = &boxes[first as usize];
        row.byte("tag", kind(holder));
        row.byte("parent tag", kind(&boxes[holder.parent as usize]));
        row.count("depth", holder.depth);
        let mut nearest = [0u8; lexicon::NAME_BITS];
        let mut tags_at = [0u8; UP_TAGS.len()];
        let mut names = 0u64;
        let mut up = first;
        let mut steps = 0;
        while up != 0 && steps < MAX_UP {
            let one = &boxes[up as usize];
            if matches!(one.tag, tags::BODY | tags::HTML) {
                break;
            }
            let level = 255 - (steps as u8).min(30) * 8;
            let mut new = one.name & !names;
            names |= one.name;
            while new != 0 {
                nearest[new.trailing_zeros() as usize] = level;
                new &= new - 1;
            }
            if let Some(which) = UP_TAGS.iter().position(|tag| *tag == one.tag)
                && tags_at[which] == 0
            {
                tags_at[which] = level;
            }
            up = one.parent;
            steps += 1;
        }
        for level in nearest {
            row.byte("name", level);
        }
        for level in tags_at {
            row.byte("in tag", level);
        }
        // Levels that hold more than the one before, for a wrapper says nothing new.
        let mut level = first;
        let mut words = u32::MAX;
        for _ in 0..5 {
            while level != 0 && boxes[level as usize].words == words {
                level = boxes[level as usize].parent;
            }
            let one = &boxes[level as usize];
            words = one.words;
            row.size("up words", one.words);
            row.share("up share", one.words, total);
            row.share("up links", one.link_words, one.words);
            row.share("up prose", one.prose_words, one.words);
            row.size("up blocks", one.blocks.1 - one.blocks.0);
            row.size("up mean", one.words / (one.blocks.1 - one.blocks.0).max(1));
            row.share("up headings", one.headings * 4, one.blocks.1 - one.blocks.0);
            row.size("up density", one.words * 8 / (self.tree.end(one.id) - one.id).max(1));
            row.count("up alike", one.alike.0);
            row.size("up alike words", one.alike.1 / one.alike.0.max(1));
            row.share("up score", (one.score * 8.0) as u32, (boxes[self.boxes.best as usize].score * 8.0) as u32);
            row.share("up place", (at as u32).saturating_sub(one.blocks.0), one.blocks.1 - one.blocks.0);
            level = one.parent;
        }
        // The innermost element that is one of several alike, and larger than the block: an entry of a list, a message,
        // a teaser.
        let mut entry = first;
        let own = boxes[first as usize].words;
        while entry != 0 && (boxes[entry as usize].alike.0 < 3 || boxes[entry as usize].words <= own) {
            entry = boxes[entry as usize].parent;
        }
        let one = &boxes[entry as usize];
        let many = one.alike.0.max(1);
        let found = entry != 0;
        row.count("entry up", if found { holder.depth - one.depth } else { 255 });
        row.count("entry alike", if found { many } else { 0 });
        row.size("entry words", if found { one.alike.1 / many } else { 0 });
        row.share("entry links", one.link_words, one.words);
        row.share("entry prose", one.prose_words, one.words);
        row.share("entry part", if found { one.alike.1 } else { 0 }, total);
        row.count("entry blocks", if found { one.blocks.1 - one.blocks.0 } else { 0 });
        row.count("entry headings", if found { one.headings } else { 0 });
        row.size("entry most", if found { one.words * 16 / (one.alike.1 / many).max(1) } else { 0 });
        let list = &boxes[one.parent as usize];
        row.share("entry list part", if found { list.words } else { 0 }, total);
        row.count("entry list kind", u32::from(kind(list)));
    }
}

/// Words of a block whose repetition is looked at.
const MAX_THREES: usize = 400;

/// Elements whose nearness counts.
const UP_TAGS: [Tag; 20] = {
    use tags::*;
    [
        ARTICLE, MAIN, ASIDE, NAV, HEADER, FOOTER, SECTION, FORM, TABLE, UL, OL, DL, BLOCKQUOTE, FIGURE, FIGCAPTION, A,
        DETAILS, DIALOG, NOSCRIPT, BUTTON,
    ]
};

/// A small number for the element right around the text.
fn kind(one: &Box) -> u8 {
    use tags::*;
    match one.tag {
        P => 40,
        BLOCKQUOTE => 38,
        PRE | CODE => 36,
        DD => 33,
        DT => 32,
        H1 => 31,
        H2 => 30,
        H3 => 29,
        H4 => 28,
        H5 | H6 => 27,
        LI => 24,
        TD | TH | TR | TABLE | TBODY | CAPTION => 22,
        FIGCAPTION | FIGURE => 20,
        B | STRONG | EM | I => 18,
        DIV => 15,
        SECTION | ARTICLE | MAIN => 14,
        SPAN => 12,
        TIME => 10,
        LABEL => 8,
        BUTTON => 6,
        A => 4,
        _ => 0,
    }
}

/// The heading that a block comes after.
#[derive(Default)]
struct Heading {
    at: Option<usize>,
    level: u8,
    speaks: [u8; lexicon::WORD_BITS],
    words: u32,
    passed: u32,
}

impl Heading {
    fn pass(&mut self, parts: &Parts, at: usize) {
        let block = &parts.blocks.blocks[at];
        let boxes = &parts.boxes.boxes;
        let mut holder = &boxes[parts.boxes.of_block[at] as usize];
        for _ in 0..3 {
            if is_heading(holder.tag) {
                *self = Self {
                    at: Some(at),
                    level: kind(holder),
                    speaks: block.speaks.map(|count| share(u32::from(count), block.count())),
                    words: block.count(),
                    passed: 0,
                };
                return;
            }
            holder = &boxes[holder.parent as usize];
        }
        self.passed += block.count();
    }

    fn row(&self, at: usize, row: &mut Row) {
        row.byte("under", self.level);
        row.count("under blocks", self.at.map_or(255, |heading| (at - heading) as u32));
        row.size("under words", self.passed);
        row.size("under heading words", self.words);
        for speaks in self.speaks {
            row.byte("under speaks", speaks);
        }
    }
}

/// What is on the page more than once.
struct Seen {
    copies: HashMap<u32, (u32, usize)>,
    looks: HashMap<u32, (u32, u32, u32)>,
    /// The first block, and the last, that has these three words in a row.
    threes: HashMap<u32, (u32, u32)>,
}

impl Seen {
    fn of(parts: &Parts) -> Self {
        let mut seen = Self { copies: HashMap::new(), looks: HashMap::new(), threes: HashMap::new() };
        for (at, block) in parts.blocks.blocks.iter().enumerate() {
            seen.copies.entry(whole(parts.blocks.words_of(block))).or_insert((0, at)).0 += 1;
            let words = parts.blocks.words_of(block);
            for three in threes(&words[..words.len().min(MAX_THREES)]) {
                seen.threes.entry(three).or_insert((at as u32, at as u32)).1 = at as u32;
            }
            let look = seen.looks.entry(look(&parts.boxes, at)).or_default();
            *look = (look.0 + 1, look.1 + block.count(), look.2 + block.link_words);
        }
        seen
    }

    fn copies(&self, words: &[u32]) -> (u32, usize) {
        self.copies.get(&whole(words)).copied().unwrap_or((1, 0))
    }

    /// How many of its three words in a row were in a block before, and how many are in any other.
    fn threes(&self, words: &[u32], at: usize) -> (u32, u32) {
        let (mut before, mut elsewhere) = (0, 0);
        if words.len() >= 3 {
            for three in threes(&words[..words.len().min(MAX_THREES)]) {
                let (first, last) = self.threes.get(&three).copied().unwrap_or_default();
                before += u32::from(first < at as u32);
                elsewhere += u32::from(first != at as u32 || last != at as u32);
            }
        }
        (before, elsewhere)
    }

    fn look(&self, boxes: &Boxes, at: usize) -> (u32, u32, u32) {
        self.looks.get(&look(boxes, at)).copied().unwrap_or_default()
    }
}

fn whole(words: &[u32]) -> u32 {
    words.iter().fold(lexicon::START, |hash, word| lexicon::step(hash.rotate_left(5), *word))
}

/// Equal for blocks whose four innermost elements look alike.
pub fn look(boxes: &Boxes, at: usize) -> u32 {
    let mut up = boxes.of_block[at];
    let mut hash = lexicon::START;
    for _ in 0..4 {
        hash = lexicon::step(hash.rotate_left(7), boxes.boxes[up as usize].look);
        up = boxes.boxes[up as usize].parent;
    }
    hash
}
