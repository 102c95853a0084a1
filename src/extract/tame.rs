//! The pre-pass: brings hostile markup within [`Limits`] before a tree is built from it.
//!
//! Trees get expensive in four ways: nesting (each level costs stack, and walks from a node to its root make time
//! quadratic), attributes (parsers compare each with all), sheer number, and formatting elements, which the parser
//! opens again in every block (800 `font` tags of 16 bytes make 300 MB). So this walks the tokens once with a model
//! of the parser's stack of open elements, which errs towards "still open", and rewrites only from the
//! first token that passes a bound. An ordinary page is returned as it came.

use std::borrow::Cow;
use std::collections::HashMap;
use std::ops::Range;

use super::elements::*;
use super::limits::Limits;
use super::scan::{Scanner, Tag, Token};

/// Formatting elements that may be active at once; further ones are dropped, for they add nothing to the text.
const MAX_FORMATTING: usize = 8;

/// `html` within `limits`, its text kept.
pub fn tame<'a>(html: &'a str, limits: &Limits) -> Cow<'a, str> {
    let html = &html[..html.floor_char_boundary(limits.max_bytes)];
    if html.contains('\0') {
        // Parsers spend a token and an error on each; the standard drops them from text.
        let clean = html.replace('\0', "");
        let tamed = rewrite(&clean, limits);
        return Cow::Owned(tamed.unwrap_or(clean));
    }
    rewrite(html, limits).map_or(Cow::Borrowed(html), Cow::Owned)
}

/// What becomes of a token.
enum Verdict {
    Keep,
    /// Drop the tag.
    Drop,
    /// Keep the tag with the first `max_attributes` attributes.
    Shorten,
}

/// None when nothing needs to change.
fn rewrite(html: &str, limits: &Limits) -> Option<String> {
    let mut model = Model::default();
    let mut out: Option<String> = None;
    let mut drop_raw = false;
    for (token, range) in Scanner::new(html) {
        let verdict = match token {
            Token::Start(tag) => {
                let verdict = model.start(&tag, limits);
                drop_raw = matches!(verdict, Verdict::Drop);
                verdict
            }
            Token::End(name) => model.end(name, limits),
            Token::Text { raw: true, .. } if drop_raw => Verdict::Drop,
            Token::Text { .. } => Verdict::Keep,
            Token::Other if model.cost > limits.max_tags => Verdict::Drop,
            Token::Other => Verdict::Keep,
        };
        match verdict {
            Verdict::Keep => {
                if let Some(out) = &mut out {
                    out.push_str(&html[range]);
                }
            }
            Verdict::Drop => {
                let out = begin(&mut out, html, &range);
                // Words that a tag parted stay apart, and a flood of tags does not become a flood of spaces.
                if !out.ends_with([' ', '\n', '>']) {
                    out.push(' ');
                }
            }
            Verdict::Shorten => {
                let out = begin(&mut out, html, &range);
                if let Token::Start(tag) = token {
                    let mut attributes = tag.attributes();
                    attributes.by_ref().take(limits.max_attributes).for_each(drop);
                    let kept = tag.attributes.len() - attributes.rest().len();
                    out.extend(["<", tag.name, &tag.attributes[..kept], ">"]);
                }
            }
        }
    }
    out
}

/// The output, which starts with everything before `range` when this is the first change.
fn begin<'o>(out: &'o mut Option<String>, html: &str, range: &Range<usize>) -> &'o mut String {
    out.get_or_insert_with(|| {
        let mut begun = String::with_capacity(html.len());
        begun.push_str(&html[..range.start]);
        begun
    })
}

/// An open element.
struct Open<'a> {
    name: &'a str,
    flags: u16,
    /// How many formatting elements were active when it was opened.
    formatting: usize,
}

/// The parser's stack of open elements, its list of active formatting elements, and what it has cost so far.
#[derive(Default)]
struct Model<'a> {
    open: Vec<Open<'a>>,
    /// Name and attributes.
    formatting: Vec<(&'a str, &'a str)>,
    /// Elements created, repeated formatting included.
    cost: usize,
    /// Start tags dropped for their depth whose end tags are to be dropped too, by lower-case name.
    dropped: HashMap<String, usize>,
}

impl<'a> Model<'a> {
    fn start(&mut self, tag: &Tag<'a>, limits: &Limits) -> Verdict {
        if self.cost > limits.max_tags {
            return Verdict::Drop;
        }
        let kind = flags(tag.name);
        self.close_before(tag, kind);
        let verdict = match tag.attributes().nth(limits.max_attributes) {
            Some(_) => Verdict::Shorten,
            None => Verdict::Keep,
        };
        if kind & FORMATTING != 0 {
            let twin = (tag.name, tag.attributes);
            // The standard keeps three of a kind at most ("Noah's Ark clause").
            let twins = self.formatting.iter().filter(|active| **active == twin).count();
            if twins < 3 {
                if self.formatting.len() >= MAX_FORMATTING {
                    return Verdict::Drop;
                }
                self.formatting.push(twin);
            }
        }
        let leaf = kind & (VOID | ROOT | RAW) != 0 || tag.self_closing && self.in_foreign();
        if !leaf && self.open.len() >= limits.max_depth {
            if kind & FORMATTING != 0 {
                self.formatting.pop();
            }
            *self.dropped.entry(tag.name.to_ascii_lowercase()).or_default() += 1;
            return Verdict::Drop;
        }
        self.cost += 1 + self.formatting.len();
        if !leaf {
            self.open.push(Open { name: tag.name, flags: kind, formatting: self.formatting.len() });
        }
        verdict
    }

    fn end(&mut self, name: &'a str, limits: &Limits) -> Verdict {
        if self.cost > limits.max_tags {
            return Verdict::Drop;
        }
        if !self.dropped.is_empty() {
            let lower = name.to_ascii_lowercase();
            if let Some(count) = self.dropped.get_mut(&lower) {
                *count -= 1;
                if *count == 0 {
                    self.dropped.remove(&lower);
                }
                return Verdict::Drop;
            }
        }
        let kind = flags(name);
        if kind & (ROOT | RAW) != 0 {
            return Verdict::Keep;
        }
        if kind & FORMATTING != 0 {
            self.end_formatting(name);
            return Verdict::Keep;
        }
        let same = |open: &Open| open.name.eq_ignore_ascii_case(name);
        let found = if name.eq_ignore_ascii_case("p") {
            self.find(same, |open| open.flags & SCOPE != 0 || open.name.eq_ignore_ascii_case("button"))
        } else if kind & HEADING != 0 {
            self.find(|open| open.flags & HEADING != 0, |open| open.flags & SCOPE != 0)
        } else if name.eq_ignore_ascii_case("li") {
            self.find(same, |open| open.flags & SCOPE != 0 || is_list(open))
        } else if kind & TABLE != 0 {
            self.find(same, bounds_table)
        } else if kind & SPECIAL != 0 {
            self.find(same, |open| open.flags & SCOPE != 0)
        } else {
            self.find(same, |open| open.flags & SPECIAL != 0)
        };
        // A block that closes makes the formatting open again in what follows; a stray end may even make an element.
        self.cost += self.formatting.len() + usize::from(found.is_none());
        if let Some(found) = found {
            self.close(found);
        }
        Verdict::Keep
    }

    /// What the start of `tag` closes by itself.
    fn close_before(&mut self, tag: &Tag<'a>, kind: u16) {
        if kind & BREAKOUT != 0
            && self.in_foreign()
            && let Some(found) = self.find(|open| open.flags & FOREIGN != 0, |_| false)
        {
            self.close(found);
        }
        let found = if tag.is("li") {
            self.find(|open| open.name.eq_ignore_ascii_case("li"), ends_item_search)
        } else if tag.is("dd") || tag.is("dt") {
            self.find(
                |open| open.name.eq_ignore_ascii_case("dd") || open.name.eq_ignore_ascii_case("dt"),
                ends_item_search,
            )
        } else if kind & TABLE != 0 && !tag.is("table") {
            self.table_part(tag)
        } else if kind & HEADING != 0 {
            let top = self.open.len().checked_sub(1);
            top.filter(|top| self.open[*top].flags & HEADING != 0)
        } else if tag.is("option") || tag.is("optgroup") {
            let top = self.open.len().checked_sub(1);
            top.filter(|top| self.open[*top].name.eq_ignore_ascii_case("option"))
        } else if tag.is("a") {
            // A second link ends the first.
            self.end_formatting("a");
            None
        } else {
            None
        };
        if let Some(found) = found {
            self.close(found);
        }
        if kind & BLOCK != 0 {
            let paragraph = self.find(
                |open| open.name.eq_ignore_ascii_case("p"),
                |open| open.flags & SCOPE != 0 || open.name.eq_ignore_ascii_case("button"),
            );
            if let Some(found) = paragraph {
                self.close(found);
            }
        }
    }

    /// The outermost part of the present table that a new part closes.
    fn table_part(&self, tag: &Tag<'a>) -> Option<usize> {
        let rank = |name: &str| match name.to_ascii_lowercase().as_str() {
            "td" | "th" => Some(2),
            "tr" => Some(1),
            "tbody" | "thead" | "tfoot" | "caption" | "colgroup" | "col" => Some(0),
            _ => None,
        };
        let new = rank(tag.name)?;
        let table = self.find(bounds_table, |_| false)?;
        (table + 1..self.open.len()).find(|at| rank(self.open[*at].name).is_some_and(|open| open >= new))
    }

    /// An end tag of a formatting element takes it out of the list, and out of the stack unless a scope hides it.
    fn end_formatting(&mut self, name: &str) {
        let floor = self.open.iter().rev().find(|open| open.flags & MARKER != 0).map_or(0, |open| open.formatting);
        let Some(active) = self.formatting.iter().rposition(|(active, _)| active.eq_ignore_ascii_case(name)) else {
            return;
        };
        if active < floor {
            return;
        }
        self.formatting.remove(active);
        let found = self.find(|open| open.name.eq_ignore_ascii_case(name), |open| open.flags & SCOPE != 0);
        if let Some(found) = found {
            if found + 1 < self.open.len() {
                // Misnested: the standard's adoption agency makes up to 8 rounds of copies.
                self.cost += 8;
            }
            self.open.remove(found);
        }
    }

    /// The innermost open element that is `wanted`, unless one that `stops` the search comes first.
    fn find(&self, wanted: impl Fn(&Open) -> bool, stops: impl Fn(&Open) -> bool) -> Option<usize> {
        for (at, open) in self.open.iter().enumerate().rev() {
            if wanted(open) {
                return Some(at);
            }
            if stops(open) {
                return None;
            }
        }
        None
    }

    /// Closes the element at `from` and all inside it.
    fn close(&mut self, from: usize) {
        if let Some(marker) = self.open[from..].iter().find(|open| open.flags & MARKER != 0) {
            self.formatting.truncate(marker.formatting);
        }
        self.open.truncate(from);
    }

    fn in_foreign(&self) -> bool {
        let nearest = self.open.iter().rev().find(|open| open.flags & (FOREIGN | INTEGRATION) != 0);
        nearest.is_some_and(|open| open.flags & FOREIGN != 0)
    }
}

fn bounds_table(open: &Open) -> bool {
    open.name.eq_ignore_ascii_case("table") || open.name.eq_ignore_ascii_case("template")
}

fn is_list(open: &Open) -> bool {
    open.name.eq_ignore_ascii_case("ul") || open.name.eq_ignore_ascii_case("ol")
}

fn ends_item_search(open: &Open) -> bool {
    let passed = ["address", "div", "p"].iter().any(|name| open.name.eq_ignore_ascii_case(name));
    open.flags & SPECIAL != 0 && !passed
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn limits() -> Limits {
        Limits { max_depth: 4, max_attributes: 2, max_tags: 1000, ..Limits::default() }
    }

    #[test]
    fn leaves_an_ordinary_page_alone() {
        let page = "<html><body><ul><li>a<li>b<li>c<li>d<li>e</ul><p>x<p>y<p>z<p>w<p>v<br/><br><a href=x>y</a>";
        assert!(matches!(tame(page, &limits()), Cow::Borrowed(same) if same == page));
        let table = "<table><tr><td>a<td>b<tr><td>c<td>d<tr><td>e<tr><td>f</table>".repeat(3);
        assert_eq!(tame(&table, &limits()), table);
    }

    #[test]
    fn drops_deep_markup_and_keeps_its_text() {
        let deep = "<div>".repeat(6) + "in" + &"</div>".repeat(6) + "<p>out</p>";
        let flat = "<div>".repeat(4) + "in " + &"</div>".repeat(4) + "<p>out</p>";
        assert_eq!(tame(&deep, &limits()), flat);
    }

    #[test]
    fn an_end_tag_that_the_parser_ignores_closes_nothing() {
        let sly = "<span><div></span>".repeat(9) + "x";
        assert!(tame(&sly, &limits()).matches('<').count() < sly.matches('<').count());
        let sly = "<div><table><td></div>".repeat(9);
        assert_ne!(tame(&sly, &limits()), sly);
        let sly = "<svg><p>".to_owned() + &"<x/>".repeat(9);
        assert_ne!(tame(&sly, &limits()), sly);
        let fair = "<svg>".to_owned() + &"<path/>".repeat(9);
        assert_eq!(tame(&fair, &limits()), fair);
    }

    #[test]
    fn shortens_a_tag_with_too_many_attributes() {
        assert_eq!(tame("<i a=1 b='2' c=3 d=4>x</i>", &limits()), "<i a=1 b='2'>x</i>");
    }

    #[test]
    fn past_the_number_of_elements_only_text_is_kept() {
        let many = "<br>x".repeat(1100) + "<script>var evil</script><b>end</b>";
        let tamed = tame(&many, &limits());
        assert_eq!(tamed.matches("<br>").count(), 1001);
        assert!(tamed.ends_with("x end "), "{}", &tamed[tamed.len() - 40..]);
    }

    #[test]
    fn formatting_cannot_multiply() {
        let bomb: String = (0..500).map(|i| format!("<font a={i}>")).collect::<String>() + &"<p>x".repeat(500);
        let tamed = tame(&bomb, &limits());
        assert_eq!(tamed.matches("<font").count(), 4, "the depth binds here");
        assert!(tamed.matches("<p>").count() <= 1000);
        assert!(tamed.len() < bomb.len());
    }

    #[test]
    fn cuts_at_a_character_and_drops_nul() {
        let short = Limits { max_bytes: 4, ..Limits::default() };
        assert_eq!(tame("abcé", &short), "abc");
        assert_eq!(tame("a\0b\0", &limits()), "ab");
    }

    proptest! {
        #[test]
        fn never_grows_much_and_is_stable_in_depth(html in "(<div>|</div>|<b>|</b>|<p>|<a b=1 c=2 d=3>|<table>|<td>|</table>|<svg>|<x/>|t){0,60}") {
            let tamed = tame(&html, &limits());
            prop_assert!(tamed.len() <= html.len() + html.matches('<').count());
            let text = |s: &str| Scanner::new(s).filter_map(|(t, _)| match t {
                Token::Text { text, .. } => Some(text.replace(' ', "")), _ => None }).collect::<String>();
            prop_assert_eq!(text(&tamed), text(&html));
        }
    }
}
