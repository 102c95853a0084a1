//! The page as a flat tree: one parse, which the main text, the metadata, the links and the structured data all read.
//!
//! ```text
//! <div><p>a<b>c</b></p></div><i>d</i>      a node each, in document order; `end` is one past the last node inside
//!   at   0     1    2    3    4    5    6
//!   tag  div   p    text b    text i    text
//!   end  5     5    3    5    5    7    7
//! ```
//! What is inside a node is therefore the range after it: [`Tree::inside`] walks it without recursion, its first child is
//! the next number, its next sibling is its `end`. Nothing is decoded and no attribute is split until somebody asks:
//! names, attributes and text are slices of the page.
//!
//! **How to read it.** `for id in tree.all()` is one pass in document order; [`Tree::tag`] compares with constants such
//! as [`tags::A`]; [`Tree::attribute`] gives an undecoded value, [`decode`] decodes it; [`Tree::text_of`] gives the words
//! inside an element, tidied. What is in `script`, `style`, `title`, `textarea` and the like is one text node, in which
//! markup means nothing; comments are no nodes.
//!
//! **What of the HTML standard it follows**: the rules of tree construction that decide which text lies in which element
//! (13.2.6): ends that are implied (`p`, `li`, `dd`, `dt`, `option`, headings, table parts, `a`, `button`, `select`), the
//! scopes that an end tag does not cross, raw text, foreign content and what breaks out of it. It does not add elements
//! that the page does not write (`html`, `body`, `tbody`), does not open formatting again after a block closed it, and
//! leaves text where it stands instead of moving it out of a table.
//!
//! **Bounds**: [`Limits`] caps the bytes, the depth, and the elements; past a cap the markup is dropped and its text kept.
//! Time is linear in the page's length times the depth.

use std::borrow::Cow;
use std::ops::Range;

use super::elements::*;
use super::limits::Limits;
use super::scan::{Attributes, Scanner, Token};

/// Elements by name, to compare [`Tree::tag`] with.
#[rustfmt::skip]
pub mod tags {
    use super::Tag;
    macro_rules! tags { ($($name:ident $text:literal)*) => { $(#[doc = $text] pub const $name: Tag = Tag::known($text);)* } }
    tags! {
        A "a" ARTICLE "article" ASIDE "aside" B "b" BASE "base" BLOCKQUOTE "blockquote" BODY "body" BR "br"
        BUTTON "button" CAPTION "caption" CODE "code" DD "dd" DEL "del" DETAILS "details" DIALOG "dialog" DIV "div" DL "dl" DT "dt"
        EM "em" FIGCAPTION "figcaption" FIGURE "figure" FOOTER "footer" FORM "form" H1 "h1" H2 "h2" H3 "h3" H4 "h4" H5 "h5"
        H6 "h6" HEAD "head" HEADER "header" HR "hr" HTML "html" I "i" IFRAME "iframe" IMG "img" INPUT "input" KBD "kbd"
        LABEL "label" LI "li" LINK "link" MAIN "main" META "meta" NAV "nav" NOSCRIPT "noscript" OL "ol" OPTION "option"
        OPTGROUP "optgroup" P "p" PRE "pre" Q "q" S "s" SAMP "samp" SCRIPT "script" SECTION "section" SELECT "select"
        SPAN "span" STRONG "strong" STYLE "style" SUMMARY "summary" SVG "svg" TABLE "table" TBODY "tbody" TD "td"
        TEMPLATE "template" TEXTAREA "textarea" TFOOT "tfoot" TH "th" THEAD "thead" TIME "time" TITLE "title" TR "tr"
        UL "ul"
    }
}

/// A node's number: its place in document order. The root, which is no element, is 0.
pub type Id = u32;

#[derive(Debug, Clone, Copy)]
struct Node {
    /// Of an element where its name starts, of text where it starts.
    from: u32,
    /// Of an element where its name ends.
    name_end: u32,
    /// Of an element where its start tag's `>` is, of text where it ends.
    to: u32,
    parent: Id,
    /// One past the last node inside it.
    end: Id,
    tag: Tag,
    /// A dropped tag parts this text from the one before it.
    gap: bool,
}

/// A parsed page.
#[derive(Debug)]
pub struct Tree<'a> {
    html: &'a str,
    nodes: Vec<Node>,
}

impl<'a> Tree<'a> {
    /// Parses `html` within `limits`. Every string is a page: there are no errors.
    pub fn parse(html: &'a str, limits: &Limits) -> Self {
        let html = &html[..html.floor_char_boundary(limits.max_bytes.min(u32::MAX as usize))];
        let mut builder = Builder::new(html, limits);
        for (token, range) in Scanner::new(html) {
            match token {
                Token::Start(tag) => {
                    builder.start(Tag::of(tag.name), tag.name.len(), range, tag.self_closing);
                }
                Token::End(name) => builder.end(Tag::of(name), name, range.start),
                Token::Text { text, .. } => builder.text(text, range),
                Token::Other => {}
            }
        }
        builder.finish()
    }

    /// The page as it came, cut at `max_bytes`.
    pub fn html(&self) -> &'a str {
        self.html
    }

    /// How many nodes, the root included.
    pub fn len(&self) -> usize {
        self.nodes.len()
    }

    /// Has it nothing but the root?
    pub fn is_empty(&self) -> bool {
        self.nodes.len() < 2
    }

    /// All nodes but the root, in document order.
    pub fn all(&self) -> Range<Id> {
        1..self.nodes.len() as Id
    }

    /// Everything inside `id`, in document order.
    pub fn inside(&self, id: Id) -> Range<Id> {
        id + 1..self.node(id).end
    }

    /// The children of `id` in order.
    pub fn children(&self, id: Id) -> impl Iterator<Item = Id> + '_ {
        let end = self.node(id).end;
        let mut next = id + 1;
        std::iter::from_fn(move || {
            let child = next;
            (child < end).then(|| next = self.node(child).end)?;
            Some(child)
        })
    }

    /// The elements that `id` is in, innermost first, and the root at last.
    pub fn ancestors(&self, id: Id) -> impl Iterator<Item = Id> + '_ {
        let mut at = id;
        std::iter::from_fn(move || {
            let parent = self.node(at).parent;
            (at != 0).then(|| at = parent)?;
            Some(parent)
        })
    }

    /// What `id` is in; of the root itself 0.
    pub fn parent(&self, id: Id) -> Id {
        self.node(id).parent
    }

    /// One past the last node inside `id`.
    pub fn end(&self, id: Id) -> Id {
        self.node(id).end
    }

    /// Which element, [`Tag::TEXT`] for text; the root is [`Tag::OTHER`].
    pub fn tag(&self, id: Id) -> Tag {
        self.node(id).tag
    }

    /// Is it text?
    pub fn is_text(&self, id: Id) -> bool {
        self.tag(id) == Tag::TEXT
    }

    /// An element's name as written; empty for text.
    pub fn name(&self, id: Id) -> &'a str {
        let node = self.node(id);
        if node.tag == Tag::TEXT { "" } else { self.slice(node.from, node.name_end) }
    }

    /// An element's attributes, names as written, values not decoded; none for text.
    pub fn attributes(&self, id: Id) -> Attributes<'a> {
        let node = self.node(id);
        Attributes::of(if node.tag == Tag::TEXT { "" } else { self.slice(node.name_end, node.to) })
    }

    /// The value, not decoded, of the first attribute `name` (lower case).
    pub fn attribute(&self, id: Id, name: &str) -> Option<&'a str> {
        self.attributes(id).get(name)
    }

    /// Text as it is in the page, not decoded; of an element nothing.
    pub fn raw_text(&self, id: Id) -> &'a str {
        let node = self.node(id);
        if node.tag == Tag::TEXT { self.slice(node.from, node.to) } else { "" }
    }

    /// Did a dropped tag part this text from the one before it? Then they are different words.
    pub fn after_gap(&self, id: Id) -> bool {
        self.node(id).gap
    }

    /// The words inside `id`, decoded, parted by single spaces, those of different blocks too; at most `most` bytes.
    /// Scripts, styles and templates have none.
    pub fn text_of(&self, id: Id, most: usize) -> String {
        let mut out = String::new();
        let mut at = if self.is_text(id) { id } else { id + 1 };
        while at < self.node(id).end.max(id + 1) && out.len() < most {
            match self.tag(at) {
                Tag::TEXT => {
                    if self.after_gap(at) {
                        part(&mut out);
                    }
                    let raw = self.raw_text(at);
                    push_words(&mut out, &decode(&raw[..raw.floor_char_boundary(4 * most)]));
                }
                tags::SCRIPT | tags::STYLE | tags::TEMPLATE => {
                    at = self.node(at).end;
                    continue;
                }
                tag if tag.flags() & SPECIAL != 0 => part(&mut out),
                _ => {}
            }
            at += 1;
        }
        out.truncate(out.floor_char_boundary(most));
        out.truncate(out.trim_end().len());
        out
    }

    fn node(&self, id: Id) -> &Node {
        &self.nodes[id as usize]
    }

    fn slice(&self, from: u32, to: u32) -> &'a str {
        &self.html[from as usize..to as usize]
    }
}

/// Character references decoded; borrows where there are none.
pub fn decode(raw: &str) -> Cow<'_, str> {
    if memchr::memchr(b'&', raw.as_bytes()).is_none() {
        return Cow::Borrowed(raw);
    }
    html_escape::decode_html_entities(raw)
}

/// Appends `text` with every run of white space as one space; NUL, which the standard drops from text, counts as none.
pub fn push_words(out: &mut String, text: &str) {
    let mut rest = text;
    while let Some(at) = rest.find(|c: char| c.is_whitespace() || c == '\0') {
        out.push_str(&rest[..at]);
        part(out);
        rest = rest[at..].trim_start_matches(|c: char| c.is_whitespace() || c == '\0');
    }
    out.push_str(rest);
}

/// Ends a word.
fn part(out: &mut String) {
    if !out.is_empty() && !out.ends_with(' ') {
        out.push(' ');
    }
}

/// An open element.
struct Open {
    id: Id,
    tag: Tag,
    flags: u16,
    /// Its end tag came while blocks inside it were open: it ends with them.
    ended: bool,
}

struct Builder<'a, 'l> {
    html: &'a str,
    limits: &'l Limits,
    nodes: Vec<Node>,
    open: Vec<Open>,
    elements: usize,
    /// Start tags dropped for their depth, whose end tags are to be dropped too.
    dropped: Vec<(Tag, u32)>,
    gap: bool,
    has_html: bool,
    has_body: bool,
}

impl<'a, 'l> Builder<'a, 'l> {
    fn new(html: &'a str, limits: &'l Limits) -> Self {
        let root = Node { from: 0, name_end: 0, to: 0, parent: 0, end: 0, tag: Tag::OTHER, gap: false };
        let mut nodes = Vec::with_capacity(html.len() / 32 + 16);
        nodes.push(root);
        let (open, dropped) = (Vec::with_capacity(64), Vec::new());
        Self { html, limits, nodes, open, elements: 0, dropped, gap: false, has_html: false, has_body: false }
    }

    fn finish(mut self) -> Tree<'a> {
        self.close(0);
        self.nodes[0].end = self.nodes.len() as Id;
        Tree { html: self.html, nodes: self.nodes }
    }

    fn push(&mut self, tag: Tag, from: usize, name_end: usize, to: usize) -> Id {
        let id = self.nodes.len() as Id;
        let parent = self.open.last().map_or(0, |open| open.id);
        // Within max_bytes, which fits.
        let (from, name_end, to) = (from as u32, name_end as u32, to as u32);
        self.nodes.push(Node { from, name_end, to, parent, end: id + 1, tag, gap: std::mem::take(&mut self.gap) });
        id
    }

    fn text(&mut self, text: &str, range: Range<usize>) {
        if self.top_is(tags::HEAD) && !text.trim_ascii().is_empty() {
            self.pop_to(self.open.len() - 1);
        }
        self.push(Tag::TEXT, range.start, range.start, range.end);
    }

    fn start(&mut self, tag: Tag, name_len: usize, range: Range<usize>, self_closing: bool) {
        let flags = tag.flags();
        if self.elements >= self.limits.max_tags || self.is_ignored(tag, flags) {
            self.gap = true;
            return;
        }
        self.close_before(tag, flags);
        let leaf = flags & VOID != 0 || self_closing && self.in_foreign();
        if !leaf && flags & RAW == 0 && self.open.len() >= self.limits.max_depth {
            match self.dropped.iter_mut().find(|(dropped, _)| *dropped == tag) {
                Some((_, count)) => *count += 1,
                None => self.dropped.push((tag, 1)),
            }
            self.gap = true;
            return;
        }
        self.elements += 1;
        let name = range.start + 1;
        let id = self.push(tag, name, name + name_len, range.end - 1);
        if !leaf {
            self.open.push(Open { id, tag, flags, ended: false });
        }
    }

    /// Tags that the standard passes over where they stand.
    fn is_ignored(&mut self, tag: Tag, flags: u16) -> bool {
        match tag {
            tags::HTML => std::mem::replace(&mut self.has_html, true),
            tags::BODY => std::mem::replace(&mut self.has_body, true),
            tags::HEAD => self.has_body,
            _ => {
                let part_of_table = flags & TABLE != 0 && tag != tags::TABLE;
                part_of_table
                    && self.find(bounds_table, |_| false).is_none_or(|at| self.open[at].tag != tags::TABLE)
                    && !self.open.iter().any(|open| open.tag == tags::TEMPLATE)
            }
        }
    }

    fn end(&mut self, tag: Tag, name: &str, at: usize) {
        let flags = tag.flags();
        if !self.dropped.is_empty()
            && let Some(found) = self.dropped.iter().position(|(dropped, _)| *dropped == tag)
        {
            self.gap = true;
            self.dropped[found].1 -= 1;
            if self.dropped[found].1 == 0 {
                self.dropped.swap_remove(found);
            }
            return;
        }
        if tag == tags::BODY || tag == tags::HTML {
            return;
        }
        let same = |open: &Open| open.tag == tag;
        let in_scope = |open: &Open| open.flags & SCOPE != 0;
        let found = match tag {
            // Compared as written: two unknown elements are not the same.
            Tag::OTHER => self.find(
                |open| open.tag == tag && self.name(open.id).eq_ignore_ascii_case(name),
                |open| open.flags & SPECIAL != 0,
            ),
            tags::P => self.find(same, |open| in_scope(open) || open.tag == tags::BUTTON),
            tags::LI => self.find(same, |open| in_scope(open) || is_list(open)),
            _ if flags & HEADING != 0 => self.find(|open| open.flags & HEADING != 0, in_scope),
            _ if flags & TABLE != 0 => self.find(same, bounds_table),
            _ if flags & (SPECIAL | FORMATTING) != 0 => self.find(same, in_scope),
            _ => self.find(same, |open| open.flags & SPECIAL != 0),
        };
        match found {
            Some(found)
                if flags & FORMATTING != 0 && self.open[found + 1..].iter().any(|open| open.flags & SPECIAL != 0) =>
            {
                // Misnested: what is open inside it stays open.
                self.open[found].ended = true;
            }
            Some(found) => self.close(found),
            // These two make an element of their own.
            None if matches!(tag, tags::P | tags::BR) && self.elements < self.limits.max_tags => {
                self.elements += 1;
                self.push(tag, at + 2, at + 2 + name.len(), at + 2 + name.len());
            }
            None => {}
        }
    }

    /// What the start of `tag` closes by itself.
    fn close_before(&mut self, tag: Tag, flags: u16) {
        if flags & BREAKOUT != 0
            && self.in_foreign()
            && let Some(found) = self.find(|open| open.flags & FOREIGN != 0, |_| false)
        {
            self.close(found);
        }
        if self.top_is(tags::HEAD) && !is_of_head(tag) {
            self.pop_to(self.open.len() - 1);
        }
        let in_scope = |open: &Open| open.flags & SCOPE != 0;
        let top = || self.open.len().checked_sub(1);
        let found = match tag {
            tags::LI => self.find(|open| open.tag == tags::LI, ends_item_search),
            tags::DD | tags::DT => self.find(|open| matches!(open.tag, tags::DD | tags::DT), ends_item_search),
            tags::OPTION | tags::OPTGROUP => top().filter(|top| self.open[*top].tag == tags::OPTION),
            tags::A => self.find(|open| open.tag == tags::A, |open| open.flags & MARKER != 0),
            tags::BUTTON => self.find(|open| open.tag == tags::BUTTON, in_scope),
            tags::SELECT | tags::INPUT | tags::TEXTAREA => self.find(|open| open.tag == tags::SELECT, in_scope),
            _ if flags & TABLE != 0 && tag != tags::TABLE => self.table_part(tag),
            _ if flags & HEADING != 0 => top().filter(|top| self.open[*top].flags & HEADING != 0),
            _ => None,
        };
        if let Some(found) = found {
            let misnested = self.open[found + 1..].iter().any(|open| open.flags & SPECIAL != 0);
            // A second link ends the first, not the blocks that were opened in it.
            if tag == tags::A && misnested { self.open[found].ended = true } else { self.close(found) }
        }
        if flags & BLOCK != 0 {
            let p = self.find(|open| open.tag == tags::P, |open| in_scope(open) || open.tag == tags::BUTTON);
            if let Some(found) = p {
                self.close(found);
            }
        }
    }

    /// The outermost part of the present table that a new part closes.
    fn table_part(&self, tag: Tag) -> Option<usize> {
        let rank = |tag: Tag| match tag {
            tags::TD | tags::TH => Some(2),
            tags::TR => Some(1),
            _ => (tag.flags() & TABLE != 0 && tag != tags::TABLE).then_some(0),
        };
        let new = rank(tag)?;
        let table = self.find(bounds_table, |_| false)?;
        (table + 1..self.open.len()).find(|at| rank(self.open[*at].tag).is_some_and(|open| open >= new))
    }

    /// The innermost open element that is `wanted`, unless one that `stops` the search comes first.
    fn find(&self, wanted: impl Fn(&Open) -> bool, stops: impl Fn(&Open) -> bool) -> Option<usize> {
        for (at, open) in self.open.iter().enumerate().rev() {
            if wanted(open) && !open.ended {
                return Some(at);
            }
            if stops(open) {
                return None;
            }
        }
        None
    }

    /// Closes the element at `from`, all inside it, and what had ended but for them.
    fn close(&mut self, mut from: usize) {
        while from > 0 && self.open[from - 1].ended {
            from -= 1;
        }
        self.pop_to(from);
    }

    fn pop_to(&mut self, from: usize) {
        let end = self.nodes.len() as Id;
        for open in self.open.drain(from..) {
            self.nodes[open.id as usize].end = end;
        }
    }

    fn top_is(&self, tag: Tag) -> bool {
        self.open.last().is_some_and(|open| open.tag == tag)
    }

    fn name(&self, id: Id) -> &'a str {
        let node = &self.nodes[id as usize];
        &self.html[node.from as usize..node.name_end as usize]
    }

    fn in_foreign(&self) -> bool {
        let nearest = self.open.iter().rev().find(|open| open.flags & (FOREIGN | INTEGRATION) != 0);
        nearest.is_some_and(|open| open.flags & FOREIGN != 0)
    }
}

fn is_of_head(tag: Tag) -> bool {
    use tags::*;
    matches!(tag, BASE | LINK | META | TITLE | STYLE | SCRIPT | NOSCRIPT | TEMPLATE)
}

fn bounds_table(open: &Open) -> bool {
    matches!(open.tag, tags::TABLE | tags::TEMPLATE)
}

fn is_list(open: &Open) -> bool {
    matches!(open.tag, tags::UL | tags::OL)
}

fn ends_item_search(open: &Open) -> bool {
    let passed = open.tag == tags::DIV || open.tag == tags::P || open.tag.name() == "address";
    open.flags & SPECIAL != 0 && !passed
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The tree as it would be written out: every element closed.
    fn shape(html: &str, limits: &Limits) -> String {
        let tree = Tree::parse(html, limits);
        let mut out = String::new();
        let mut open: Vec<Id> = Vec::new();
        for id in tree.all() {
            while let Some(last) = open.pop_if(|last| tree.end(*last) <= id) {
                out += &format!("</{}>", tree.name(last));
            }
            if tree.is_text(id) {
                out += if tree.after_gap(id) { " " } else { "" };
                out += tree.raw_text(id);
            } else {
                out += &format!("<{}>", tree.name(id));
                open.push(id);
            }
        }
        out + &open.iter().rev().map(|id| format!("</{}>", tree.name(*id))).collect::<String>()
    }

    fn plain(html: &str) -> String {
        shape(html, &Limits::default())
    }

    #[test]
    fn implied_ends() {
        assert_eq!(plain("<p>a<p>b<div>c</div>"), "<p>a</p><p>b</p><div>c</div>");
        assert_eq!(
            plain("<ul><li>a<li>b<ul><li>c</ul><li>d</ul>"),
            "<ul><li>a</li><li>b<ul><li>c</li></ul></li><li>d</li></ul>"
        );
        assert_eq!(plain("<dl><dt>a<dd>b<dt>c</dl>"), "<dl><dt>a</dt><dd>b</dd><dt>c</dt></dl>");
        assert_eq!(
            plain("<table><tr><td>a<td>b<tr><th>c</table>d"),
            "<table><tr><td>a</td><td>b</td></tr><tr><th>c</th></tr></table>d"
        );
        assert_eq!(plain("<h1>a<h2>b</h1>c"), "<h1>a</h1><h2>b</h2>c");
        assert_eq!(plain("<head><title>a</title><div>b"), "<head><title>a</title></head><div>b</div>");
        assert_eq!(
            plain("<select><option>a<option>b<input>c"),
            "<select><option>a</option><option>b</option></select><input></input>c"
        );
    }

    #[test]
    fn an_end_tag_stays_within_its_scope() {
        assert_eq!(plain("<div><table><tr><td>a</div>b"), "<div><table><tr><td>ab</td></tr></table></div>");
        assert_eq!(plain("<span><div>a</span>b</div>c"), "<span><div>ab</div>c</span>");
        assert_eq!(plain("<b><p>a</b>b</p>c<i>d"), "<b><p>ab</p></b>c<i>d</i>");
        assert_eq!(plain("<x-a><x-b>a</x-a>b"), "<x-a><x-b>a</x-b></x-a>b");
        assert_eq!(plain("a</p>b"), "a<p></p>b");
        assert_eq!(plain("<td>a</td>b"), " ab");
    }

    #[test]
    fn links_do_not_nest() {
        assert_eq!(plain("<a>x<a>y</a>z"), "<a>x</a><a>y</a>z");
        assert_eq!(plain("<a><div>x<a>y</a></div>z"), "<a><div>x<a>y</a></div></a>z");
    }

    #[test]
    fn foreign_content() {
        assert_eq!(plain("<svg><path/><g>a</g></svg>b"), "<svg><path></path><g>a</g></svg>b");
        assert_eq!(plain("<svg><g>a<p>b"), "<svg><g>a</g></svg><p>b</p>");
    }

    #[test]
    fn past_a_cap_the_text_stays() {
        let limits = Limits { max_depth: 2, ..Limits::default() };
        assert_eq!(shape("<div><div><div>a</div></div></div><p>b", &limits), "<div><div> a</div></div><p>b</p>");
        let limits = Limits { max_tags: 2, ..Limits::default() };
        assert_eq!(shape("x<br>x<br>x<br>y", &limits), "x<br></br>x<br></br>x y");
        let limits = Limits { max_bytes: 4, ..Limits::default() };
        assert_eq!(shape("abcé", &limits), "abc");
    }

    #[test]
    fn text_and_attributes() {
        let tree = Tree::parse("<div CLASS='a b'>x &amp; <b>y</b>z<p>w\0<script>no</script>", &Limits::default());
        assert_eq!(tree.attribute(1, "class"), Some("a b"));
        assert_eq!(tree.text_of(1, 100), "x & yz w");
        assert_eq!(tree.text_of(2, 100), "x &");
        assert_eq!(tree.text_of(1, 4), "x &");
        assert_eq!(tree.children(1).map(|id| tree.name(id)).collect::<Vec<_>>(), ["", "b", "", "p"]);
        assert_eq!(tree.ancestors(4).collect::<Vec<_>>(), [3, 1, 0]);
    }

    proptest! {
        #[test]
        fn ranges_nest_and_no_text_is_lost(
            html in "(<div>|</div>|<b>|</b>|<a>|</a>|<p>|</p>|<table>|<td>|</td>|</table>|<svg>|<x/>|</x>|<br>|<li>|<select>|<head>|t|<ul>|</ul>|<script>|</script>){0,60}",
            depth in 1usize..9, most in 0usize..40,
        ) {
            let limits = Limits { max_depth: depth, max_tags: most, ..Limits::default() };
            let tree = Tree::parse(&html, &limits);
            let mut texts = String::new();
            for id in tree.all() {
                let parent = tree.parent(id);
                prop_assert!(parent < id && tree.end(id) > id && tree.end(id) <= tree.end(parent));
                prop_assert!(tree.ancestors(id).count() <= depth + 2);
                texts.push_str(tree.raw_text(id));
            }
            let scanned: String = Scanner::new(&html)
                .filter_map(|(token, _)| if let Token::Text { text, .. } = token { Some(text) } else { None })
                .collect();
            prop_assert_eq!(texts, scanned);
        }
    }
}
