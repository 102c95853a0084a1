//! One pass over the tree that notes every statement a page makes of itself.

use super::marks::{Marks, has_word, speaks_of, tidy, value_of};
use super::said::{MAX_STATEMENTS, Meta, Statements};
use super::source::{Found, Source};
use crate::extract::elements::{RAW, SPECIAL};
use crate::extract::links::{Anchor, MAX_LINKS, Other};
use crate::extract::tree::{Id, Tree, tags};

/// Characters kept of a link's text.
const MAX_LINK_TEXT: usize = 200;
/// Bytes kept of any other text.
const MAX_TEXT: usize = 1_000;
/// Bytes of JSON-LD read, all blocks together.
const MAX_JSON_LD: usize = 1 << 20;
/// Texts after the first heading among which a date is looked for, and bytes of one that may be a date and no more.
const BARE: (usize, std::ops::Range<usize>) = (40, 8..60);
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sort {
    Title,
    Heading,
    MarkedAuthor,
    Byline,
    User,
    MarkedDate,
    Created,
    Changed,
    Date,
    License,
    Link,
}

/// An element whose text is being noted.
struct Capture<'a> {
    sort: Sort,
    source: Source,
    end: Id,
    text: String,
    /// Of a link: what it is, and whether its class speaks of a member's name.
    link: Option<(Anchor<'a>, bool)>,
    /// Of a link noted already: its place, where the text is missing.
    place: Option<usize>,
}

impl<'a> Statements<'a> {
    /// Reads `tree` once. Time and memory are linear in its size.
    pub fn collect(tree: &Tree<'a>) -> Self {
        let mut said = Self::default();
        let mut captures: Vec<Capture> = Vec::new();
        // Where blocks inside the captures end: words on both sides do not run together.
        let mut blocks: Vec<Id> = Vec::new();
        let mut json_left = MAX_JSON_LD;
        for id in tree.all() {
            if !captures.is_empty() {
                while blocks.pop_if(|end| *end <= id).is_some() {
                    captures.iter_mut().for_each(|capture| part(&mut capture.text));
                }
                while let Some(done) = captures.iter().rposition(|capture| capture.end <= id) {
                    said.note(captures.remove(done));
                }
            }
            if tree.is_text(id) {
                let raw = tree.tag(tree.parent(id)).flags() & RAW != 0;
                for capture in captures.iter_mut().filter(|capture| !raw || capture.sort == Sort::Title) {
                    if tree.after_gap(id) {
                        part(&mut capture.text);
                    }
                    push(&mut capture.text, tree.raw_text(id));
                }
                if !raw && said.has_heading {
                    said.bare(tree.raw_text(id));
                }
                continue;
            }
            if captures.is_empty() {
                blocks.clear();
            } else if tree.tag(id).flags() & SPECIAL != 0 {
                captures.iter_mut().for_each(|capture| part(&mut capture.text));
                blocks.push(tree.end(id));
            }
            match tree.tag(id) {
                tags::A => {
                    if let Some(open) = captures.iter().position(|capture| capture.sort == Sort::Link) {
                        said.note(captures.remove(open));
                    }
                }
                tags::SCRIPT => said.script(tree, id, &mut json_left),
                tags::TABLE => said.has_tables = true,
                tags::H1 => said.has_heading = true,
                _ => {}
            }
            if let Some(capture) = said.statement(tree, id)
                && !captures.iter().any(|open| open.sort == capture.sort)
            {
                captures.push(capture);
            }
        }
        while let Some(capture) = captures.pop() {
            said.note(capture);
        }
        said
    }

    /// A text after the first heading.
    fn bare(&mut self, raw: &str) {
        let text = raw.trim_ascii();
        if self.after_heading < BARE.0 && !text.is_empty() {
            self.after_heading += 1;
            if BARE.1.contains(&text.len()) && text.bytes().any(|b| b.is_ascii_digit()) {
                self.bare.push(tidy(text));
            }
        }
    }

    fn script(&mut self, tree: &Tree<'a>, id: Id, left: &mut usize) {
        let of_type = |kind: &str| kind.trim().to_ascii_lowercase().starts_with("application/ld+json");
        if tree.end(id) > id + 1 && tree.attribute(id, "type").is_some_and(of_type) {
            let text = tree.raw_text(id + 1);
            if text.len() <= *left && self.json_ld.len() < MAX_STATEMENTS {
                *left -= text.len();
                self.json_ld.push(text);
            }
        }
    }

    /// Notes what the tag itself says; returns a capture when its text is wanted too.
    fn statement(&mut self, tree: &Tree<'a>, id: Id) -> Option<Capture<'a>> {
        let marks = Marks::of(tree.attributes(id));
        let capture = |sort, source| {
            Some(Capture { sort, source, end: tree.end(id), text: String::new(), link: None, place: None })
        };
        self.has_items |= marks.is_item;
        self.has_rdfa |= marks.is_typed;
        match tree.tag(id) {
            tags::SCRIPT | tags::STYLE => return None,
            tags::HTML => {
                let attributes = tree.attributes(id);
                let declared = || value_of(attributes.get("lang")).or_else(|| value_of(attributes.get("xml:lang")));
                self.language = self.language.take().or_else(declared);
                return None;
            }
            tags::LINK => {
                self.link(&marks);
                return None;
            }
            tags::META => {
                self.meta_tag(&marks);
                return None;
            }
            tags::TITLE if self.title.is_none() => return capture(Sort::Title, Source::Page),
            tags::H1 if self.headings.len() < MAX_STATEMENTS => return capture(Sort::Heading, Source::Page),
            tags::A if self.links.len() < 2 * MAX_LINKS => return self.anchor(&marks, capture),
            tags::IMG => self.image(&marks),
            tags::TIME => return self.time(&marks, capture),
            tag if tag.name() == "area" && self.links.len() < 2 * MAX_LINKS => {
                let alt = || value_of(tree.attribute(id, "alt")).unwrap_or_default();
                let anchor = Anchor::of(&marks);
                self.links.extend(anchor.map(|anchor| Anchor { text: alt(), ..anchor }));
                return None;
            }
            _ => {}
        }
        if let Some(source) = marks.is_property("author") {
            return capture(Sort::MarkedAuthor, source);
        }
        if let Some(source) = marks.is_property("datepublished") {
            return self.date(&marks, Sort::MarkedDate, source, capture);
        }
        if let Some(source) = marks.is_property("datecreated") {
            return self.date(&marks, Sort::Created, source, capture);
        }
        if let Some(source) = marks.is_property("datemodified") {
            return self.date(&marks, Sort::Changed, source, capture);
        }
        if let Some(source) = marks.is_property("license") {
            return capture(Sort::License, source);
        }
        let class = marks.class?;
        if self.bylines.len() < MAX_STATEMENTS && speaks_of(class, &["byline", "author"]) {
            return capture(Sort::Byline, Source::Page);
        }
        if self.users.len() < MAX_STATEMENTS && speaks_of(class, &USER) {
            return capture(Sort::User, Source::Page);
        }
        if self.dates.len() < MAX_STATEMENTS && speaks_of(class, &["date", "published", "pubdate", "timestamp"]) {
            return capture(Sort::Date, Source::Page);
        }
        None
    }

    fn anchor(
        &mut self,
        marks: &Marks<'a>,
        capture: impl Fn(Sort, Source) -> Option<Capture<'a>>,
    ) -> Option<Capture<'a>> {
        let marked = marks.is_property("author").or(has_word(marks.rel, "author").then_some(Source::Page));
        let anchor = Anchor::of(marks);
        if let Some(source) = marks.is_property("license").or(has_word(marks.rel, "license").then_some(Source::Page))
            && let Some(anchor) = &anchor
            && self.licenses.len() < MAX_STATEMENTS
        {
            self.licenses.push(Found::new(anchor.href.clone(), source));
        }
        if let Some(source) = marked {
            let place = anchor.is_some().then_some(self.links.len());
            self.links.extend(anchor);
            return Some(Capture { place, ..capture(Sort::MarkedAuthor, source)? });
        }
        let user = marks.class.is_some_and(|class| speaks_of(class, &USER));
        let mut link = capture(Sort::Link, Source::Page)?;
        link.link = Some((anchor?, user));
        Some(link)
    }

    fn time(
        &mut self,
        marks: &Marks<'a>,
        capture: impl Fn(Sort, Source) -> Option<Capture<'a>>,
    ) -> Option<Capture<'a>> {
        if let Some(source) = marks.is_property("datepublished") {
            return self.date(marks, Sort::MarkedDate, source, capture);
        }
        for (name, list) in [("datemodified", &mut self.changed), ("datecreated", &mut self.created)] {
            if let Some(source) = marks.is_property(name)
                && let Some(date) = value_of(marks.datetime).or_else(|| value_of(marks.content))
                && list.len() < MAX_STATEMENTS
            {
                list.push(Found::new(date, source));
            }
        }
        let sort = if marks.pubdate { Sort::MarkedDate } else { Sort::Date };
        self.date(marks, sort, Source::Page, capture)
    }

    /// A date in an attribute is noted at once; otherwise the element's text is wanted.
    fn date(
        &mut self,
        marks: &Marks<'a>,
        sort: Sort,
        source: Source,
        capture: impl Fn(Sort, Source) -> Option<Capture<'a>>,
    ) -> Option<Capture<'a>> {
        let Some(date) = value_of(marks.datetime).or_else(|| value_of(marks.content)) else {
            return capture(sort, source);
        };
        if let Some(list) = self.marked(sort) {
            if list.len() < MAX_STATEMENTS {
                list.push(Found::new(date, source));
            }
        } else if self.dates.len() < MAX_STATEMENTS {
            self.dates.push(date);
        }
        None
    }

    /// The statements of this sort, if they are of those that have a source.
    fn marked(&mut self, sort: Sort) -> Option<&mut Vec<Found<String>>> {
        match sort {
            Sort::MarkedAuthor => Some(&mut self.marked_authors),
            Sort::MarkedDate => Some(&mut self.marked_dates),
            Sort::Created => Some(&mut self.created),
            Sort::Changed => Some(&mut self.changed),
            Sort::License => Some(&mut self.licenses),
            _ => None,
        }
    }

    /// A `link` of the head.
    fn link(&mut self, marks: &Marks<'a>) {
        let Some(href) = value_of(marks.href) else { return };
        if self.canonical.is_none() && has_word(marks.rel, "canonical") {
            self.canonical = Some(href);
        } else if has_word(marks.rel, "alternate") {
            if !has_word(marks.rel, "stylesheet") && self.alternates.len() < MAX_STATEMENTS {
                self.alternates.push(Other { href, hreflang: marks.hreflang, media_type: marks.kind });
            }
        } else if has_word(marks.rel, "license") && self.licenses.len() < MAX_STATEMENTS {
            self.licenses.push(Found::new(href, Source::Meta));
        } else if has_word(marks.rel, "image_src") && self.images.len() < MAX_STATEMENTS {
            self.images.push(Found::new(href, Source::Meta));
        } else if let Some(source) = marks.is_property("image")
            && self.images.len() < MAX_STATEMENTS
        {
            self.images.push(Found::new(href, source));
        }
    }

    fn image(&mut self, marks: &Marks<'a>) {
        if let Some(source) = marks.is_property("image")
            && let Some(src) = value_of(marks.src)
            && self.images.len() < MAX_STATEMENTS
        {
            self.images.push(Found::new(src, source));
        }
    }

    fn meta_tag(&mut self, marks: &Marks<'a>) {
        let Some(content) = value_of(marks.content) else { return };
        for (key, item) in
            [(marks.property, false), (marks.name, false), (marks.itemprop, true), (marks.http_equiv, false)]
        {
            if let Some(name) = value_of(key)
                && self.metas.len() < MAX_STATEMENTS
            {
                let name = name.to_ascii_lowercase();
                let source = if item { Source::Microdata } else { Source::of_meta(&name) };
                self.metas.push(Meta { name, content: content.clone(), source });
            }
        }
    }

    fn note(&mut self, capture: Capture<'a>) {
        let text = tidy(&capture.text);
        if let Some(link) = capture.place.and_then(|place| self.links.get_mut(place)) {
            link.text = text.chars().take(MAX_LINK_TEXT).collect();
        }
        if let Some(list) = self.marked(capture.sort) {
            if !text.is_empty() && list.len() < MAX_STATEMENTS {
                list.push(Found::new(text, capture.source));
            }
            return;
        }
        let list = match capture.sort {
            Sort::Title => {
                self.title = Some(text).filter(|text| !text.is_empty());
                return;
            }
            Sort::Heading => &mut self.headings,
            Sort::Byline => &mut self.bylines,
            Sort::User => &mut self.users,
            Sort::Date => &mut self.dates,
            _ => {
                if let Some((anchor, user)) = capture.link {
                    self.note_link(anchor, user, &text);
                }
                return;
            }
        };
        if !text.is_empty() && list.len() < MAX_STATEMENTS {
            list.push(text);
        }
    }

    fn note_link(&mut self, anchor: Anchor<'a>, user: bool, text: &str) {
        let text: String = text.chars().take(MAX_LINK_TEXT).collect();
        let path = anchor.href.to_ascii_lowercase();
        let author = ["/author/", "/authors/"].iter().any(|part| path.contains(part));
        let tag = has_word(anchor.rel, "tag");
        for (is, list) in [(author, &mut self.author_links), (user, &mut self.users), (tag, &mut self.tags)] {
            if is && !text.is_empty() && list.len() < MAX_STATEMENTS {
                list.push(text.clone());
            }
        }
        self.links.push(Anchor { text: text.trim_end().to_owned(), ..anchor });
    }
}

/// Parts of class names that forums give to a member's name.
const USER: [&str; 5] = ["username", "poster", "nickname", "postauthor", "creator"];

/// Appends up to [`MAX_TEXT`] bytes.
fn push(text: &mut String, more: &str) {
    let room = MAX_TEXT.saturating_sub(text.len());
    text.push_str(&more[..more.floor_char_boundary(room)]);
}

/// Words in neighbouring blocks do not run together; words of which a letter is set in bold stay whole.
fn part(text: &mut String) {
    if !text.ends_with(' ') {
        push(text, " ");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::extract::Limits;
    use crate::extract::links;

    #[test]
    fn notes_what_a_page_says() {
        let tree = Tree::parse(
            "<title>A &amp; B</title><meta property='og:title' content='C'><h1>D<br>d</h1>\
             <span class='post-author'>By <a href=/e>E F</a></span><time datetime=2020-01-02>x</time>\
             <div itemprop=datePublished>3 May 2021</div><script type=application/ld+json>{}</script>\
             <i property='schema:dateModified' content=2022-03-04></i><a rel=license href=/l>L</a>",
            &Limits::default(),
        );
        let said = Statements::collect(&tree);
        assert_eq!(said.title.as_deref(), Some("A & B"));
        assert_eq!(said.meta(&["none", "og:title"]), Some(Found::new("C".into(), Source::OpenGraph)));
        assert_eq!(said.headings, ["D d"]);
        assert_eq!(said.bylines, ["By E F"]);
        assert_eq!(said.dates, ["2020-01-02"]);
        assert_eq!(said.marked_dates, [Found::new("3 May 2021".into(), Source::Microdata)]);
        assert_eq!(said.changed, [Found::new("2022-03-04".into(), Source::Rdfa)]);
        assert_eq!(said.licenses, [Found::new("/l".into(), Source::Page)]);
        assert_eq!(said.json_ld, ["{}"]);
        assert_eq!((said.links[0].href.as_str(), said.links[0].text.as_str()), ("/e", "E F"));
    }

    #[test]
    fn words_of_different_blocks_stay_apart_and_marked_letters_do_not() {
        let tree = Tree::parse("<h1>a<p>b</p>c<b>d</b><br>e<script>no</script></h1>", &Limits::default());
        assert_eq!(Statements::collect(&tree).headings, ["a b cd e"]);
    }

    #[test]
    fn long_and_unclosed_text_is_bounded() {
        let html = format!("<h1>{}", "é".repeat(100_000));
        let tree = Tree::parse(&html, &Limits::default());
        assert!(Statements::collect(&tree).headings[0].len() <= MAX_TEXT);
        let many: String =
            (0..5_000).map(|i| format!("<a href=http://a.example/{i}>{}</a>", "x".repeat(300))).collect();
        let tree = Tree::parse(&many, &Limits::default());
        let links = links::resolve(Statements::collect(&tree).links, None, false);
        assert_eq!(links.len(), MAX_LINKS);
        assert_eq!(links[0].text.len(), MAX_LINK_TEXT);
    }
}
