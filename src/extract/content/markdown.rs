//! Kept blocks as Markdown (CommonMark, tables as GitHub writes them): headings, lists, quotes, code, tables, links and
//! emphasis. What the text itself has of Markdown's signs is escaped.

use std::collections::HashMap;

use super::blocks::{Block, Blocks};
use crate::extract::elements::{BLOCK, TABLE, Tag};
use crate::extract::tree::{Id, Tree, decode, push_words, tags};

/// Levels of lists and quotes that are shown.
const MAX_LEVELS: usize = 8;
/// Bytes of a link's address; longer ones are left out.
const MAX_ADDRESS: usize = 2_000;

/// What stands before a block's lines, and how it is written.
#[derive(Default)]
struct Place {
    /// 1 to 6, 0 for no heading.
    heading: usize,
    /// The list items around it, outermost first.
    items: Vec<Id>,
    quotes: usize,
    /// The row and its table.
    row: Option<(Id, Id)>,
}

/// The Markdown of `kept`; `absolute` resolves addresses, and a link whose address it refuses is written as its text.
pub fn write(tree: &Tree, blocks: &Blocks, kept: &[&Block], absolute: &dyn Fn(&str) -> Option<String>) -> String {
    let mut out = String::new();
    let mut before = Place::default();
    let mut numbers = Numbers::new();
    for block in kept {
        let place = Place::of(tree, block);
        let first_of_item = place.items.last().is_some_and(|item| !before.items.contains(item));
        let mut lead = "> ".repeat(place.quotes);
        let levels = place.items.len().min(MAX_LEVELS);
        let item = levels > 0 && first_of_item;
        lead.push_str(&"  ".repeat(levels.saturating_sub(usize::from(item))));
        let same_table = place.row.is_some_and(|(_, table)| before.row.is_some_and(|(_, other)| other == table));
        let tight = same_table || item && !before.items.is_empty() && before.quotes == place.quotes;
        if !out.is_empty() {
            out.push('\n');
            if !tight {
                out.push('\n');
            }
        }
        let body = if block.pre {
            fence(blocks.text_of(block))
        } else if let Some((row, _)) = place.row {
            table_row(tree, row, absolute, !same_table, &lead)
        } else {
            let text = inline(tree, block, absolute);
            match place.heading {
                0 => text,
                level => format!("{} {}", "#".repeat(level), text.replace('\n', " ")),
            }
        };
        let mark = if item { marker(tree, &place.items, &mut numbers) } else { String::new() };
        for (at, line) in body.split('\n').enumerate() {
            if at > 0 {
                out.push('\n');
                if item {
                    out.push_str("  ");
                }
            }
            out.push_str(&lead);
            if at == 0 {
                out.push_str(&mark);
            }
            out.push_str(line);
        }
        before = place;
    }
    out
}

impl Place {
    fn of(tree: &Tree, block: &Block) -> Self {
        let mut place = Self::default();
        for (up, id) in std::iter::once(block.holder).chain(tree.ancestors(block.holder)).enumerate() {
            let tag = tree.tag(id);
            match tag {
                tags::LI => place.items.push(id),
                tags::BLOCKQUOTE => place.quotes = (place.quotes + 1).min(MAX_LEVELS),
                tags::TR if block.row && place.row.is_none() && is_flat(tree, id) => {
                    let table = tree.ancestors(id).find(|up| tree.tag(*up) == tags::TABLE);
                    place.row = table.map(|table| (id, table));
                }
                _ if up < 4 && place.heading == 0 => place.heading = heading(tag),
                _ => {}
            }
        }
        place.items.reverse();
        place
    }
}

/// Is the row one block?
fn is_flat(tree: &Tree, row: Id) -> bool {
    tree.inside(row)
        .all(|id| matches!(tree.tag(id), tags::TD | tags::TH) || tree.tag(id).flags() & (BLOCK | TABLE) == 0)
}

fn heading(tag: Tag) -> usize {
    use tags::*;
    [H1, H2, H3, H4, H5, H6].iter().position(|level| *level == tag).map_or(0, |at| at + 1)
}

/// For each list its last item that was numbered, and the number.
type Numbers = HashMap<Id, (Id, usize)>;

/// `- ` or the item's number.
fn marker(tree: &Tree, items: &[Id], numbers: &mut Numbers) -> String {
    let Some(item) = items.last() else { return String::new() };
    let list = tree.parent(*item);
    if tree.tag(list) != tags::OL {
        return "- ".to_owned();
    }
    let (mut at, mut number) = numbers.get(&list).copied().unwrap_or((list + 1, 0));
    while at <= *item {
        number += usize::from(tree.tag(at) == tags::LI);
        at = tree.end(at);
    }
    numbers.insert(list, (at, number));
    format!("{number}. ")
}

fn fence(text: &str) -> String {
    let ticks = if text.contains("```") { "~~~~" } else { "```" };
    format!("{ticks}\n{text}\n{ticks}")
}

/// A row; the first of a table is followed by the line that makes it one.
fn table_row(tree: &Tree, row: Id, absolute: &dyn Fn(&str) -> Option<String>, first: bool, lead: &str) -> String {
    let mut line = String::from("|");
    let mut cells = 0;
    for cell in tree.children(row).filter(|id| matches!(tree.tag(*id), tags::TD | tags::TH)).take(200) {
        let text = nodes(tree, cell, tree.inside(cell).end, absolute);
        line.push(' ');
        line.push_str(&text.replace('\n', " ").replace('|', "\\|"));
        line.push_str(" |");
        cells += 1;
    }
    if first {
        line.push('\n');
        line.push_str(lead);
        line.push('|');
        line.push_str(&" --- |".repeat(cells));
    }
    line
}

/// The text of a block with its links and emphasis.
fn inline(tree: &Tree, block: &Block, absolute: &dyn Fn(&str) -> Option<String>) -> String {
    // From the innermost element that is a block itself, so that a link around all of the text is seen.
    let border = |id: &Id| tree.tag(*id).flags() & (BLOCK | TABLE) != 0 || *id == 0;
    let mut within: Vec<Id> = Vec::new();
    if !border(&block.holder) {
        within.push(block.holder);
        within.extend(tree.ancestors(block.holder).take_while(|id| !border(id)).take(8));
    }
    within.reverse();
    let mut line = Line::new(tree, absolute);
    within.iter().for_each(|id| line.open(*id, Id::MAX));
    line.run(block.nodes.start, block.nodes.end);
    line.finish()
}

/// All between two nodes, the first of which is an element whose content is meant.
fn nodes(tree: &Tree, element: Id, end: Id, absolute: &dyn Fn(&str) -> Option<String>) -> String {
    let mut line = Line::new(tree, absolute);
    line.run(element + 1, end);
    line.finish()
}

struct Line<'t, 'a> {
    tree: &'t Tree<'a>,
    absolute: &'t dyn Fn(&str) -> Option<String>,
    out: String,
    /// Open marks: until which node, what closes it, and where it began.
    open: Vec<(Id, String, usize)>,
    /// White space that came and was not written yet.
    space: bool,
}

impl<'t, 'a> Line<'t, 'a> {
    fn new(tree: &'t Tree<'a>, absolute: &'t dyn Fn(&str) -> Option<String>) -> Self {
        Self { tree, absolute, out: String::new(), open: Vec::new(), space: false }
    }

    fn run(&mut self, from: Id, to: Id) {
        // Elements that were opened before the first text and hold it are opened by the caller.
        let mut at = from;
        while at < to {
            while self.open.last().is_some_and(|(end, ..)| *end <= at) {
                self.close();
            }
            match self.tree.tag(at) {
                Tag::TEXT => self.text(at),
                tags::SCRIPT | tags::STYLE | tags::TEMPLATE | tags::SVG | tags::SELECT => {
                    at = self.tree.end(at);
                    continue;
                }
                tags::BR => {
                    self.out.truncate(self.out.trim_end_matches(' ').len());
                    if !self.out.is_empty() {
                        self.out.push('\n');
                    }
                    self.space = false;
                }
                _ => self.open(at, self.tree.end(at)),
            }
            at += 1;
        }
    }

    fn text(&mut self, id: Id) {
        let decoded = decode(self.tree.raw_text(id));
        let begins = decoded.starts_with(|c: char| c.is_whitespace());
        let mut words = String::new();
        push_words(&mut words, &decoded);
        let ends = words.ends_with(' ');
        let words = words.trim();
        if words.is_empty() {
            self.space |= begins;
            return;
        }
        self.part(begins || self.tree.after_gap(id));
        let code = self.open.iter().any(|(_, mark, _)| mark == "`");
        if code {
            self.out.push_str(&words.replace('`', "'"));
        } else {
            escape(&mut self.out, words);
        }
        self.space = ends;
    }

    fn part(&mut self, also: bool) {
        if (self.space || also) && !self.out.is_empty() && !self.out.ends_with([' ', '\n']) {
            let bare = self.open.last().is_some_and(|(_, _, from)| *from == self.out.len());
            if !bare {
                self.out.push(' ');
            }
        }
        self.space = false;
    }

    fn open(&mut self, id: Id, end: Id) {
        let has = |mark: &str, this: &Self| this.open.iter().any(|(_, open, _)| open.starts_with(mark));
        let (mark, close) = match self.tree.tag(id) {
            _ if has("`", self) => return,
            tags::STRONG | tags::B if !has("**", self) => ("**", "**".to_owned()),
            tags::EM | tags::I if !self.open.iter().any(|(_, open, _)| open == "*") => ("*", "*".to_owned()),
            tags::CODE | tags::KBD | tags::SAMP => ("`", "`".to_owned()),
            tags::A if !has("](", self) => {
                let href = self.tree.attribute(id, "href").map(decode);
                let href = href.filter(|href| href.len() <= MAX_ADDRESS && !href.trim_start().starts_with('#'));
                let Some(address) = href.and_then(|href| (self.absolute)(href.trim())) else { return };
                ("[", format!("]({})", address.replace(['(', ')', ' '], "")))
            }
            tag => {
                if tag.flags() & (BLOCK | TABLE) != 0 {
                    self.space = true;
                }
                return;
            }
        };
        self.part(false);
        self.out.push_str(mark);
        self.open.push((end, close, self.out.len()));
    }

    fn close(&mut self) {
        let Some((_, mark, from)) = self.open.pop() else { return };
        let kept = self.out.trim_end_matches([' ', '\n']).len();
        if kept <= from {
            // Nothing inside: the opening mark goes too.
            let opening = if mark.starts_with("](") { 1 } else { mark.len() };
            self.out.truncate(from - opening);
            return;
        }
        self.space |= kept < self.out.len();
        self.out.truncate(kept);
        self.out.push_str(&mark);
    }

    fn finish(mut self) -> String {
        while !self.open.is_empty() {
            self.close();
        }
        let mut text = self.out.trim().to_owned();
        // A line that would read as a heading, a list or a quote.
        let marks = text.len() - text.trim_start_matches(['#', '>', '+', '-', '=']).len();
        let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
        if marks > 0 {
            text.insert(0, '\\');
        } else if digits > 0 && text[digits..].starts_with(". ") {
            text.insert(digits, '\\');
        }
        text
    }
}

fn escape(out: &mut String, words: &str) {
    for c in words.chars() {
        if matches!(c, '\\' | '`' | '*' | '_' | '[' | ']' | '<') {
            out.push('\\');
        }
        out.push(c);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::extract::Limits;

    fn markdown(html: &str) -> String {
        let tree = Tree::parse(html, &Limits::default());
        let blocks = Blocks::of(&tree);
        let kept: Vec<&Block> = blocks.blocks.iter().collect();
        write(&tree, &blocks, &kept, &|href| Some(format!("http://a.example{href}")))
    }

    #[test]
    fn headings_paragraphs_and_inline() {
        assert_eq!(
            markdown("<h2>A <em>b</em></h2><p>c <b>d </b>e<a href='/f'>g *h*</a>.<br>i <code>j_k</code></p>"),
            "## A *b*\n\nc **d** e[g \\*h\\*](http://a.example/f).\ni `j_k`"
        );
        assert_eq!(markdown("<p><a href=/x><strong>all</strong></a></p>"), "[**all**](http://a.example/x)");
        assert_eq!(markdown("<p><b></b>x<p># y<p>1. z"), "x\n\n\\# y\n\n1\\. z");
    }

    #[test]
    fn lists_and_quotes() {
        assert_eq!(
            markdown("<ul><li>a<li>b<ol><li>c<li>d</ol></ul><blockquote><p>e</blockquote>"),
            "- a\n- b\n  1. c\n  2. d\n\n> e"
        );
        assert_eq!(markdown("<ul><li><p>a</p><p>b</p></ul>"), "- a\n\n  b");
    }

    #[test]
    fn code_and_tables() {
        assert_eq!(markdown("<pre>a\n *b*\n</pre>"), "```\na\n *b*\n```");
        assert_eq!(
            markdown("<table><tr><th>a<th>b|c<tr><td>1<td><a href=/2>2</a></table><p>d"),
            "| a | b\\|c |\n| --- | --- |\n| 1 | [2](http://a.example/2) |\n\nd"
        );
    }
}
