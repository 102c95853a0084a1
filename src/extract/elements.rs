//! The elements by number, and what the HTML standard says of those that its tree construction treats specially
//! (13.2.4, 13.2.6).

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

/// Sorted by name.
static KNOWN: &[(&str, u16)] = &[
    ("a", FORMATTING),
    ("abbr", 0),
    ("address", PLAIN_BLOCK),
    ("annotation-xml", SCOPE | SPECIAL | INTEGRATION),
    ("applet", SPECIAL | SCOPE | MARKER),
    ("area", VOID | SPECIAL),
    ("article", PLAIN_BLOCK),
    ("aside", PLAIN_BLOCK),
    ("audio", 0),
    ("b", STYLE),
    ("base", VOID | SPECIAL),
    ("basefont", VOID | SPECIAL),
    ("bgsound", VOID | SPECIAL),
    ("big", STYLE),
    ("blockquote", PLAIN_BLOCK | BREAKOUT),
    ("body", ROOT | SPECIAL | BREAKOUT),
    ("br", VOID | SPECIAL | BREAKOUT),
    ("button", SPECIAL),
    ("canvas", 0),
    ("caption", SPECIAL | SCOPE | TABLE | MARKER),
    ("center", PLAIN_BLOCK | BREAKOUT),
    ("cite", 0),
    ("code", STYLE),
    ("col", VOID | SPECIAL | TABLE),
    ("colgroup", SPECIAL | TABLE),
    ("data", 0),
    ("datalist", 0),
    ("dd", PLAIN_BLOCK | BREAKOUT),
    ("del", 0),
    ("desc", SCOPE | SPECIAL | INTEGRATION),
    ("details", PLAIN_BLOCK),
    ("dfn", 0),
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
    ("ins", 0),
    ("kbd", 0),
    ("keygen", VOID | SPECIAL),
    ("label", 0),
    ("legend", 0),
    ("li", PLAIN_BLOCK | BREAKOUT),
    ("link", VOID | SPECIAL),
    ("listing", PLAIN_BLOCK | BREAKOUT),
    ("main", PLAIN_BLOCK),
    ("map", 0),
    ("mark", 0),
    ("marquee", SPECIAL | SCOPE | MARKER),
    ("math", FOREIGN),
    ("menu", PLAIN_BLOCK | BREAKOUT),
    ("meta", VOID | SPECIAL | BREAKOUT),
    ("meter", 0),
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
    ("optgroup", 0),
    ("option", 0),
    ("output", 0),
    ("p", PLAIN_BLOCK | BREAKOUT),
    ("param", VOID | SPECIAL),
    ("picture", 0),
    ("pre", PLAIN_BLOCK | BREAKOUT),
    ("progress", 0),
    ("q", 0),
    ("rp", 0),
    ("rt", 0),
    ("ruby", BREAKOUT),
    ("s", STYLE),
    ("samp", 0),
    ("script", SPECIAL | RAW),
    ("search", PLAIN_BLOCK),
    ("section", PLAIN_BLOCK),
    ("select", SPECIAL),
    ("slot", 0),
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
    ("time", 0),
    ("title", SPECIAL | RAW),
    ("tr", SPECIAL | TABLE),
    ("track", VOID | SPECIAL),
    ("tt", STYLE),
    ("u", STYLE),
    ("ul", PLAIN_BLOCK | BREAKOUT),
    ("var", BREAKOUT),
    ("video", 0),
    ("wbr", VOID | SPECIAL),
    ("xmp", PLAIN_BLOCK | RAW),
];

/// A known element, or [`Tag::OTHER`].
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Tag(u8);

impl Tag {
    /// An element that the standard says nothing special of, such as `x-card`.
    pub const OTHER: Self = Self(u8::MAX);
    /// Character data, in a tree.
    pub const TEXT: Self = Self(u8::MAX - 1);

    /// The element `name`, any case.
    pub fn of(name: &str) -> Self {
        match pack(name.as_bytes()) {
            Some(key) => Self(SLOTS[find(key)].1),
            None => Self::OTHER,
        }
    }

    /// The element `name`, which must be known: for constants, where an unknown one does not compile.
    pub const fn known(name: &str) -> Self {
        let found = match pack(name.as_bytes()) {
            Some(key) => SLOTS[find(key)].1,
            None => u8::MAX,
        };
        assert!(found != u8::MAX, "not a known element");
        Self(found)
    }

    /// Its kinds, an OR of this module's constants; 0 for an ordinary one.
    pub fn flags(self) -> u16 {
        KNOWN.get(usize::from(self.0)).map_or(0, |(_, flags)| *flags)
    }

    /// Its name in lower case; empty for [`Tag::OTHER`] and text.
    pub fn name(self) -> &'static str {
        KNOWN.get(usize::from(self.0)).map_or("", |(name, _)| name)
    }

    /// A number under 256, the same for the same element.
    pub fn index(self) -> usize {
        usize::from(self.0)
    }
}

impl std::fmt::Debug for Tag {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match *self {
            Self::OTHER => "(other)",
            Self::TEXT => "(text)",
            _ => self.name(),
        })
    }
}

/// Names as numbers, hashed with linear probing; the second is the place in [`KNOWN`], 255 where there is none.
static SLOTS: [(u128, u8); 512] = slots();

const fn slots() -> [(u128, u8); 512] {
    let mut slots = [(0, u8::MAX); 512];
    let mut at = 0;
    while at < KNOWN.len() {
        let key = match pack(KNOWN[at].0.as_bytes()) {
            Some(key) => key,
            None => 0,
        };
        assert!(key != 0, "a name of more than 16 bytes");
        let mut slot = hash(key);
        while slots[slot].0 != 0 {
            slot = (slot + 1) % 512;
        }
        slots[slot] = (key, at as u8);
        at += 1;
    }
    slots
}

/// Where `key` is in [`SLOTS`], or the empty slot where it would be.
const fn find(key: u128) -> usize {
    let mut slot = hash(key);
    while SLOTS[slot].0 != key && SLOTS[slot].0 != 0 {
        slot = (slot + 1) % 512;
    }
    slot
}

const fn hash(key: u128) -> usize {
    let folded = (key as u64) ^ ((key >> 64) as u64).rotate_left(29);
    (folded.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 55) as usize
}

/// The name in lower case as a number; None for an empty one and for one of more than 16 bytes.
const fn pack(name: &[u8]) -> Option<u128> {
    if name.is_empty() || name.len() > 16 {
        return None;
    }
    let mut key = 0;
    let mut at = 0;
    while at < name.len() {
        key = key << 8 | name[at].to_ascii_lowercase() as u128;
        at += 1;
    }
    Some(key)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_known_element_is_found() {
        for (at, (name, flags)) in KNOWN.iter().enumerate() {
            let tag = Tag::of(&name.to_ascii_uppercase());
            assert_eq!((tag.index(), tag.name(), tag.flags()), (at, *name, *flags));
        }
        assert!(KNOWN.is_sorted_by(|a, b| a.0 < b.0), "for whoever reads it");
    }

    #[test]
    fn looks_up_without_case() {
        assert_eq!(Tag::of("BR").flags() & VOID, VOID);
        assert_eq!(Tag::of("foreignObject").flags() & INTEGRATION, INTEGRATION);
        assert_eq!(Tag::of("x-card"), Tag::OTHER);
        assert_eq!(Tag::of("a-name-longer-than-any-known"), Tag::OTHER);
        assert_eq!(Tag::of("").flags(), 0);
    }
}
