//! What the HTML standard says of the elements that its tree construction treats specially (13.2.4, 13.2.6).

/// Never has content.
pub const VOID: u16 = 1;
/// "Special": an unrelated end tag cannot close it.
pub const SPECIAL: u16 = 1 << 1;
/// Its start closes an open `p`.
pub const BLOCK: u16 = 1 << 2;
/// A formatting element: the parser opens it again where a block closed it.
pub const FORMATTING: u16 = 1 << 3;
/// Bounds the scope in which an end tag looks for its start.
pub const SCOPE: u16 = 1 << 4;
/// Part of a table.
pub const TABLE: u16 = 1 << 5;
/// Formatting does not reach in or out.
pub const MARKER: u16 = 1 << 6;
/// `h1` to `h6`.
pub const HEADING: u16 = 1 << 7;
/// There is one at most, and the parser makes it itself.
pub const ROOT: u16 = 1 << 8;
/// Starts SVG or MathML, where `/>` closes.
pub const FOREIGN: u16 = 1 << 9;
/// Inside SVG or MathML, starts HTML again.
pub const INTEGRATION: u16 = 1 << 10;
/// As a start tag, ends SVG or MathML.
pub const BREAKOUT: u16 = 1 << 11;
/// Its content is text without markup.
pub const RAW: u16 = 1 << 12;

const PLAIN_BLOCK: u16 = SPECIAL | BLOCK;
const STYLE: u16 = FORMATTING | BREAKOUT;

/// Sorted by name, for binary search.
static KNOWN: &[(&str, u16)] = &[
    ("a", FORMATTING),
    ("address", PLAIN_BLOCK),
    ("annotation-xml", SCOPE | SPECIAL | INTEGRATION),
    ("applet", SPECIAL | SCOPE | MARKER),
    ("area", VOID | SPECIAL),
    ("article", PLAIN_BLOCK),
    ("aside", PLAIN_BLOCK),
    ("b", STYLE),
    ("base", VOID | SPECIAL),
    ("basefont", VOID | SPECIAL),
    ("bgsound", VOID | SPECIAL),
    ("big", STYLE),
    ("blockquote", PLAIN_BLOCK | BREAKOUT),
    ("body", ROOT | SPECIAL | BREAKOUT),
    ("br", VOID | SPECIAL | BREAKOUT),
    ("button", SPECIAL),
    ("caption", SPECIAL | SCOPE | TABLE | MARKER),
    ("center", PLAIN_BLOCK | BREAKOUT),
    ("code", STYLE),
    ("col", VOID | SPECIAL | TABLE),
    ("colgroup", SPECIAL | TABLE),
    ("dd", PLAIN_BLOCK | BREAKOUT),
    ("desc", SCOPE | SPECIAL | INTEGRATION),
    ("details", PLAIN_BLOCK),
    ("dialog", PLAIN_BLOCK),
    ("dir", PLAIN_BLOCK),
    ("div", PLAIN_BLOCK | BREAKOUT),
    ("dl", PLAIN_BLOCK | BREAKOUT),
    ("dt", PLAIN_BLOCK | BREAKOUT),
    ("em", STYLE),
    ("embed", VOID | SPECIAL | BREAKOUT),
    ("fieldset", PLAIN_BLOCK),
    ("figcaption", PLAIN_BLOCK),
    ("figure", PLAIN_BLOCK),
    ("font", STYLE),
    ("footer", PLAIN_BLOCK),
    ("foreignobject", SCOPE | SPECIAL | INTEGRATION),
    ("form", PLAIN_BLOCK),
    ("frame", VOID | SPECIAL),
    ("frameset", ROOT | SPECIAL),
    ("h1", PLAIN_BLOCK | HEADING | BREAKOUT),
    ("h2", PLAIN_BLOCK | HEADING | BREAKOUT),
    ("h3", PLAIN_BLOCK | HEADING | BREAKOUT),
    ("h4", PLAIN_BLOCK | HEADING | BREAKOUT),
    ("h5", PLAIN_BLOCK | HEADING | BREAKOUT),
    ("h6", PLAIN_BLOCK | HEADING | BREAKOUT),
    ("head", ROOT | SPECIAL | BREAKOUT),
    ("header", PLAIN_BLOCK),
    ("hgroup", PLAIN_BLOCK),
    ("hr", VOID | PLAIN_BLOCK | BREAKOUT),
    ("html", ROOT | SPECIAL),
    ("i", STYLE),
    ("iframe", SPECIAL | RAW),
    ("image", VOID | SPECIAL),
    ("img", VOID | SPECIAL | BREAKOUT),
    ("input", VOID | SPECIAL),
    ("keygen", VOID | SPECIAL),
    ("li", PLAIN_BLOCK | BREAKOUT),
    ("link", VOID | SPECIAL),
    ("listing", PLAIN_BLOCK | BREAKOUT),
    ("main", PLAIN_BLOCK),
    ("marquee", SPECIAL | SCOPE | MARKER),
    ("math", FOREIGN),
    ("menu", PLAIN_BLOCK | BREAKOUT),
    ("meta", VOID | SPECIAL | BREAKOUT),
    ("mi", SCOPE | SPECIAL | INTEGRATION),
    ("mn", SCOPE | SPECIAL | INTEGRATION),
    ("mo", SCOPE | SPECIAL | INTEGRATION),
    ("ms", SCOPE | SPECIAL | INTEGRATION),
    ("mtext", SCOPE | SPECIAL | INTEGRATION),
    ("nav", PLAIN_BLOCK),
    ("nobr", STYLE),
    ("noembed", SPECIAL | RAW),
    ("noframes", SPECIAL | RAW),
    ("noscript", SPECIAL),
    ("object", SPECIAL | SCOPE | MARKER),
    ("ol", PLAIN_BLOCK | BREAKOUT),
    ("p", PLAIN_BLOCK | BREAKOUT),
    ("param", VOID | SPECIAL),
    ("pre", PLAIN_BLOCK | BREAKOUT),
    ("ruby", BREAKOUT),
    ("s", STYLE),
    ("script", SPECIAL | RAW),
    ("search", PLAIN_BLOCK),
    ("section", PLAIN_BLOCK),
    ("select", SPECIAL),
    ("small", STYLE),
    ("source", VOID | SPECIAL),
    ("span", BREAKOUT),
    ("strike", STYLE),
    ("strong", STYLE),
    ("style", SPECIAL | RAW),
    ("sub", BREAKOUT),
    ("summary", PLAIN_BLOCK),
    ("sup", BREAKOUT),
    ("svg", FOREIGN),
    ("table", SPECIAL | BLOCK | SCOPE | TABLE | BREAKOUT),
    ("tbody", SPECIAL | TABLE),
    ("td", SPECIAL | SCOPE | TABLE | MARKER),
    ("template", SPECIAL | SCOPE | MARKER),
    ("textarea", SPECIAL | RAW),
    ("tfoot", SPECIAL | TABLE),
    ("th", SPECIAL | SCOPE | TABLE | MARKER),
    ("thead", SPECIAL | TABLE),
    ("title", SPECIAL | RAW),
    ("tr", SPECIAL | TABLE),
    ("track", VOID | SPECIAL),
    ("tt", STYLE),
    ("u", STYLE),
    ("ul", PLAIN_BLOCK | BREAKOUT),
    ("var", BREAKOUT),
    ("wbr", VOID | SPECIAL),
    ("xmp", PLAIN_BLOCK | RAW),
];

/// What kind of element `name` (any case) is; 0 for an ordinary one.
pub fn flags(name: &str) -> u16 {
    let mut buffer = [0u8; 16];
    let Some(lower) = buffer.get_mut(..name.len()) else { return 0 };
    lower.copy_from_slice(name.as_bytes());
    lower.make_ascii_lowercase();
    KNOWN.binary_search_by(|(known, _)| known.as_bytes().cmp(lower)).map_or(0, |found| KNOWN[found].1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_sorted() {
        assert!(KNOWN.is_sorted_by(|a, b| a.0 < b.0));
    }

    #[test]
    fn looks_up_without_case() {
        assert_eq!(flags("BR") & VOID, VOID);
        assert_eq!(flags("foreignObject") & INTEGRATION, INTEGRATION);
        assert_eq!(flags("x-card"), 0);
        assert_eq!(flags("a-name-longer-than-any-known"), 0);
    }
}
