//! The page's text in blocks: what stands between two borders of block elements, in document order.
//!
//! A block is the unit that is kept or left out. Two line breaks in a row part blocks too, for pages without paragraphs;
//! a row of a table whose cells hold no blocks is one block. What no reader sees (scripts, styles, templates, form
//! choices, the head) has no blocks; what a reader without scripts would see has.

use std::ops::Range;

use super::lexicon;
use crate::extract::elements::{BLOCK, TABLE, Tag};
use crate::extract::tree::{Id, Tree, decode, tags};

/// Blocks of one page; text of further ones joins the last.
pub const MAX_BLOCKS: usize = 20_000;

/// A run of text and what was counted in it.
#[derive(Debug, Clone, Default)]
pub struct Block {
    /// From its first node to one past its last.
    pub nodes: Range<Id>,
    /// The innermost element that holds all of it.
    pub holder: Id,
    /// Its bytes in [`Blocks::text`].
    pub text: Range<usize>,
    /// Its words in [`Blocks::words`].
    pub words: Range<usize>,
    /// Words inside links.
    pub link_words: u32,
    /// Links.
    pub links: u32,
    /// Words in bold or emphasis.
    pub strong_words: u32,
    /// Words in `code` and the like.
    pub code_words: u32,
    /// Words among the commonest of a language.
    pub running: u32,
    /// Words by what they speak of: see [`lexicon::of_word`].
    pub speaks: [u8; lexicon::WORD_BITS],
    /// Commas.
    pub commas: u32,
    /// Sentence ends: full stop, question or exclamation mark before white space or the end.
    pub sentences: u32,
    /// Digits.
    pub digits: u32,
    /// Upper-case letters.
    pub upper: u32,
    /// Line breaks.
    pub breaks: u32,
    /// Pictures.
    pub images: u32,
    /// Signs of a list in one line: `|`, `»`, `•`, `·`, `>`.
    pub bars: u32,
    /// Signs of money.
    pub money: u32,
    /// Signs such as braces that running text has not.
    pub symbols: u32,
    /// White space means something in it.
    pub pre: bool,
    /// Some of it lies in a link, a button, a table cell.
    pub in_button: bool,
    /// It is the row of a table.
    pub row: bool,
}

impl Block {
    /// How many words; a run of Chinese or Japanese counts half its characters.
    pub fn count(&self) -> u32 {
        (self.words.end - self.words.start) as u32
    }
}

/// All blocks of a page.
#[derive(Debug, Default)]
pub struct Blocks {
    /// In document order.
    pub blocks: Vec<Block>,
    /// Their text, white space tidied (not in `pre`), one after the other.
    pub text: String,
    /// Hashes of their words in lower case ([`lexicon::step`]), one after the other.
    pub words: Vec<u32>,
}

/// What an open element means for the text in it.
#[derive(Clone, Copy)]
struct Within {
    end: Id,
    /// Its text is a block of its own.
    border: bool,
    link: bool,
    strong: bool,
    code: bool,
    pre: bool,
    button: bool,
}

impl Blocks {
    /// The blocks of `tree`.
    pub fn of(tree: &Tree) -> Self {
        let holds_blocks = holds_blocks(tree);
        let mut builder = Builder {
            blocks: Self { text: String::with_capacity(tree.html().len() / 4), ..Self::default() },
            ..Builder::new()
        };
        let outside =
            Within { end: Id::MAX, border: true, link: false, strong: false, code: false, pre: false, button: false };
        let mut open: Vec<Within> = vec![outside];
        let mut at: Id = 1;
        let all = tree.all().end;
        while at < all {
            while open.len() > 1 && open[open.len() - 1].end <= at {
                let left = open.pop();
                if left.is_some_and(|left| left.border) {
                    builder.flush(tree);
                }
            }
            let within = open[open.len() - 1];
            let tag = tree.tag(at);
            if tag == Tag::TEXT {
                builder.text(tree, at, &within);
                at += 1;
                continue;
            }
            if is_unseen(tag) {
                at = tree.end(at);
                continue;
            }
            let cell = matches!(tag, tags::TD | tags::TH) && tree.tag(tree.parent(at)) == tags::TR;
            let border = match tag {
                _ if cell => holds_blocks[at as usize],
                tags::BUTTON | tags::BODY | tags::HTML | tags::NOSCRIPT => true,
                Tag::OTHER => tree.name(at).contains('-'),
                _ => tag.flags() & (BLOCK | TABLE) != 0 || matches!(tag, tags::TD | tags::TH),
            };
            if border {
                builder.flush(tree);
            } else if cell {
                builder.cell();
            }
            match tag {
                tags::BR => builder.line_break(tree),
                tags::IMG => builder.now.images += 1,
                tags::A => {
                    builder.now.links += 1;
                    if builder.after_link {
                        builder.space();
                    }
                }
                _ => {}
            }
            let mut inside = Within { end: tree.end(at), border, ..within };
            match tag {
                tags::A => inside.link = true,
                tags::B | tags::STRONG | tags::EM | tags::I => inside.strong = true,
                tags::CODE | tags::KBD | tags::SAMP => inside.code = true,
                tags::PRE => inside.pre = true,
                tags::BUTTON => inside.button = true,
                _ => {}
            }
            if inside.end > at + 1 {
                open.push(inside);
            } else if border {
                builder.flush(tree);
            }
            at += 1;
        }
        builder.flush(tree);
        builder.blocks
    }

    /// The text of a block, without white space at its ends.
    pub fn text_of(&self, block: &Block) -> &str {
        let text = &self.text[block.text.clone()];
        if block.pre { text.trim_matches('\n').trim_end() } else { text.trim() }
    }

    /// The word hashes of a block.
    pub fn words_of(&self, block: &Block) -> &[u32] {
        &self.words[block.words.clone()]
    }
}

/// For each node: is there an element inside whose text is a block of its own?
fn holds_blocks(tree: &Tree) -> Vec<bool> {
    let mut holds = vec![false; tree.len()];
    for id in tree.all().rev() {
        let block = tree.tag(id).flags() & (BLOCK | TABLE) != 0;
        if block || holds[id as usize] {
            holds[tree.parent(id) as usize] = true;
        }
    }
    holds
}

fn is_unseen(tag: Tag) -> bool {
    use tags::*;
    matches!(tag, SCRIPT | STYLE | TEMPLATE | SVG | IFRAME | TEXTAREA | SELECT | HEAD | TITLE)
        || matches!(tag.name(), "object" | "audio" | "video" | "canvas" | "datalist" | "noframes" | "noembed" | "math")
}

struct Builder {
    blocks: Blocks,
    now: Block,
    /// Was anything but white space seen in this block?
    begun: bool,
    /// The hash and length of the word that is being read.
    word: u32,
    letters: u32,
    /// The last character that was no white space.
    last: char,
    /// A line break came, and nothing since.
    broken: bool,
    after_link: bool,
    last_node: Id,
}

impl Builder {
    fn new() -> Self {
        Self {
            blocks: Blocks::default(),
            now: Block::default(),
            begun: false,
            word: lexicon::START,
            letters: 0,
            last: ' ',
            broken: false,
            after_link: false,
            last_node: 0,
        }
    }

    fn text(&mut self, tree: &Tree, id: Id, within: &Within) {
        let raw = tree.raw_text(id);
        if !self.begun && raw.trim_ascii().is_empty() {
            return;
        }
        if tree.after_gap(id) {
            self.space();
        }
        let words_before = self.blocks.words.len();
        let decoded = decode(raw);
        if within.pre {
            self.now.pre = true;
        }
        for c in decoded.chars() {
            self.push(c, within.pre);
        }
        // A word may go on in the next node: it is counted where it ends, which is near enough.
        let words = (self.blocks.words.len() - words_before) as u32 + u32::from(self.letters > 0);
        if self.begun {
            if self.now.nodes.end == 0 {
                self.now.nodes = id..id + 1;
            }
            self.now.nodes.end = id + 1;
        }
        if within.link {
            self.now.link_words += words;
        }
        if within.strong {
            self.now.strong_words += words;
        }
        if within.code {
            self.now.code_words += words;
        }
        self.now.in_button |= within.button;
        self.after_link = within.link;
        self.last_node = id;
    }

    fn push(&mut self, c: char, pre: bool) {
        if c.is_ascii_lowercase() {
            self.word = lexicon::step(self.word, c as u32);
            self.letters += 1;
        } else if c.is_alphanumeric() || c == '_' {
            let code = c as u32;
            // Scripts without spaces: two characters are a word.
            let spaceless = (0x2e80..0xac00).contains(&code) || (0x0e00..0x0e80).contains(&code);
            if c.is_ascii_digit() {
                self.now.digits += 1;
            } else if c.is_uppercase() {
                self.now.upper += 1;
            }
            let lower = if c.is_ascii() { c.to_ascii_lowercase() } else { c.to_lowercase().next().unwrap_or(c) };
            self.word = lexicon::step(self.word, lower as u32);
            self.letters += 1;
            if spaceless && self.letters >= 2 {
                self.end_word();
            }
        } else {
            self.end_word();
            if c.is_whitespace() || c == '\0' {
                self.sentence_end();
                if pre && c != '\r' {
                    if self.begun {
                        self.blocks.text.push(if c == '\n' { '\n' } else { ' ' });
                    }
                } else {
                    self.space();
                }
                return;
            }
            match c {
                ',' | '،' | '、' | '，' => self.now.commas += 1,
                '。' | '！' | '？' => self.now.sentences += 1,
                '|' | '»' | '•' | '·' | '>' | '/' => self.now.bars += 1,
                '$' | '€' | '£' | '¥' | '₹' => self.now.money += 1,
                '{' | '}' | ';' | '=' | '[' | ']' | '<' | '(' | ')' => self.now.symbols += 1,
                // They have no width.
                '\u{200b}' | '\u{feff}' | '\u{ad}' => return,
                _ => {}
            }
        }
        if !self.begun {
            self.begin();
        }
        self.broken = false;
        self.last = c;
        self.blocks.text.push(c);
    }

    fn begin(&mut self) {
        self.begun = true;
        self.now.text.start = self.blocks.text.len();
        self.now.words.start = self.blocks.words.len();
    }

    fn sentence_end(&mut self) {
        if matches!(self.last, '.' | '!' | '?' | '…') {
            self.now.sentences += 1;
            self.last = ' ';
        }
    }

    fn end_word(&mut self) {
        if self.letters == 0 {
            return;
        }
        self.blocks.words.push(self.word);
        if lexicon::is_running(self.word) {
            self.now.running += 1;
        }
        let mut bits = lexicon::of_word(self.word);
        while bits != 0 {
            let speaks = &mut self.now.speaks[bits.trailing_zeros() as usize];
            *speaks = speaks.saturating_add(1);
            bits &= bits - 1;
        }
        (self.word, self.letters) = (lexicon::START, 0);
    }

    fn space(&mut self) {
        self.end_word();
        if self.begun && !self.blocks.text.ends_with([' ', '\n']) {
            self.blocks.text.push(' ');
        }
    }

    fn cell(&mut self) {
        self.now.row = true;
        self.space();
    }

    fn line_break(&mut self, tree: &Tree) {
        self.end_word();
        self.sentence_end();
        if self.broken && !self.now.pre {
            self.flush(tree);
        } else if self.begun {
            self.blocks.text.push('\n');
            self.broken = true;
            self.now.breaks += 1;
        }
    }

    fn flush(&mut self, tree: &Tree) {
        self.end_word();
        self.sentence_end();
        self.broken = false;
        self.after_link = false;
        if !self.begun {
            // Pictures and links without words are counted with what comes next to them.
            let (images, row) = (self.now.images, false);
            self.now = Block { images, row, ..Block::default() };
            return;
        }
        let mut block = std::mem::take(&mut self.now);
        self.begun = false;
        block.text.end = self.blocks.text.len();
        block.words.end = self.blocks.words.len();
        if self.blocks.blocks.len() >= MAX_BLOCKS
            && let Some(last) = self.blocks.blocks.last_mut()
        {
            last.text.end = block.text.end;
            last.words.end = block.words.end;
            last.nodes.end = block.nodes.end;
            self.blocks.text.push('\n');
            return;
        }
        let mut holder = tree.parent(block.nodes.start);
        while tree.end(holder) < block.nodes.end {
            holder = tree.parent(holder);
        }
        block.holder = holder;
        self.blocks.blocks.push(block);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::extract::Limits;

    fn texts(html: &str) -> Vec<String> {
        let blocks = Blocks::of(&Tree::parse(html, &Limits::default()));
        blocks.blocks.iter().map(|block| blocks.text_of(block).to_owned()).collect()
    }

    #[test]
    fn blocks_lie_between_borders() {
        assert_eq!(texts("<div>a <b>b</b><p>c</p>d<ul><li>e<li>f</ul></div>g"), ["a b", "c", "d", "e", "f", "g"]);
        assert_eq!(texts("a<br>b<br> <br>c"), ["a\nb", "c"]);
        assert_eq!(texts("<script>x</script><style>y</style><select><option>z</select>w<head><title>t</title>"), ["w"]);
        assert_eq!(texts("<a>x</a><a>y</a>"), ["x y"]);
        assert_eq!(texts("Hel<!-- -->lo <span>w</span>orld"), ["Hello world"]);
        assert_eq!(texts("<pre>a\n  b\n</pre>"), ["a\n  b"]);
    }

    #[test]
    fn a_row_is_a_block_unless_its_cells_hold_blocks() {
        assert_eq!(texts("<table><tr><td>a<td>b<tr><td><p>c</p><p>d</p><td>e</table>"), ["a b", "c", "d", "e"]);
    }

    #[test]
    fn counts() {
        let tree = Tree::parse("<p>The <a href=/>big River</a>, 12 m. <b>Yes</b>!</p>", &Limits::default());
        let blocks = Blocks::of(&tree);
        let block = &blocks.blocks[0];
        assert_eq!((block.count(), block.link_words, block.links, block.strong_words), (6, 2, 1, 1));
        assert_eq!((block.commas, block.sentences, block.digits, block.upper, block.running), (1, 2, 2, 3, 1));
        assert_eq!(tree.name(block.holder), "p");
    }
}
