//! General words that tell what a part of a page is for: in the names that authors give to elements (class, id, role,
//! itemprop), and in the text itself. Words of one line mean the same; a line is a bit of a mask.

/// What the names of elements speak of; a name ending in `*` matches every word that begins so.
const NAMES: &[&str] = &[
    "comment* disqus reply replies respond livefyre discussion talkback",
    "related* recommend* similar suggest* popular trending latest more readmore outbrain taboola upnext youmaylike mostread",
    "sidebar* aside side rail secondary complementary widget*",
    "share* sharing social* addthis follow facebook twitter pinterest whatsapp linkedin",
    "footer* foot bottom colophon contentinfo siteinfo",
    "header* masthead topbar top banner sitehead",
    "nav navigation* navbar* menu* submenu dropdown megamenu",
    "toc tableofcontents outline contents",
    "caption* figcaption credit credits photocredit",
    "author* byline* bio vcard writer contributor* avatar",
    "date* time timestamp published pubdate updated dateline",
    "meta* info postmeta entrymeta",
    "ad ads advert* adsense dfp sponsor* promo* adslot adv gpt advertorial",
    "cookie* consent gdpr privacy onetrust ccpa",
    "newsletter* subscribe* subscription* signup optin mailchimp mailing paywall",
    "modal* popup* overlay* lightbox dialog tooltip popover drawer offcanvas toast",
    "tag tags category categories topic topics keyword* label labels chip taxonomy",
    "pager pagination* paginate prev previous pagenav older newer next",
    "article* post story blog entry news single newsarticle blogposting",
    "body content text copy articlebody maincontent richtext rte markdown prose wysiwyg entrycontent postcontent",
    "title* headline* heading hed subject",
    "summary lead intro* dek standfirst excerpt* subtitle abstract lede deck description desc subhead",
    "card* teaser* tile* thumb* item items",
    "product* pdp sku merchandise",
    "cart buy price* pricing basket checkout purchase addtocart wishlist quantity shipping delivery stock offer*",
    "review* rating* stars star testimonial* feedback bazaarvoice reviewbody",
    "spec specs specification* feature* attributes details detail",
    "forum* thread* message* posts postbody posting bbcode conversation bbwrapper cooked",
    "quote* blockquote pullquote citation signature sig",
    "code highlight* syntax snippet console codehilite prettyprint",
    "hidden hide invisible sr screenreader visuallyhidden visually collapsed noprint none",
    "login account user users signin member* auth register username userinfo",
    "search* query find",
    "filter* facet* sort sorting refine refinement",
    "list listing listings grid results result collection archive feed",
    "slider* carousel* slideshow gallery swiper slick slide slides",
    "media image* img video* figure photo* picture player embed audio",
    "contact* address location map phone email hours",
    "legal disclaimer terms license copyright rights",
    "toolbar* tools tool action actions button* btn controls print",
    "alert notice warning note notification* announcement admonition tip",
    "reference* footnote* bibliography infobox navbox reflist cite",
    "hero jumbotron cover splash billboard",
    "cta donate download calltoaction upsell",
    "faq faqs accordion* tab tabs tabpanel question* answer* expand*",
    "skip* accessibility a11y",
    "language* lang locale region country currency translation*",
    "edit editsection permalink anchor headerlink",
    "ticker live breaking",
    "calendar event events schedule",
    "count counter stats views likes like vote votes score reaction*",
    "docs documentation doc api guide tutorial manual",
    "page primary center main middle",
    "breadcrumb* crumb crumbs",
    "recipe* ingredient* instruction* directions",
    "step steps howto",
];

/// How many bits [`of_name`] uses.
pub const NAME_BITS: usize = NAMES.len();

/// The bits of names that appear with this meaning in [`NAMES`].
pub const HIDDEN: u64 = 1 << 30;

/// What words of the text speak of.
const WORDS: &[&str] = &[
    "share tweet facebook twitter pinterest whatsapp email linkedin reddit instagram telegram youtube tiktok",
    "subscribe newsletter newsletters sign signup inbox join subscription subscriber unlimited delivered",
    "related recommended popular trending latest more also similar next previous stories posts articles read you",
    "comment comments reply replies leave log login logged required respond discussion kommentare commentaires",
    "copyright rights reserved privacy policy terms cookies cookie consent disclaimer license conditions impressum",
    "advertisement sponsored promoted ad ads affiliate advertise advertising anzeige publicidad",
    "cart add buy price shipping checkout wishlist stock quantity sale delivery returns order orders",
    "by author written editor contributor staff reporter correspondent writer journalist about",
    "january february march april may june july august september october november december jan feb mar apr jun jul aug sep sept oct nov dec published updated posted ago am pm est gmt minutes hours",
    "photo image getty credit caption video watch images courtesy file reuters ap afp photograph photos gallery",
    "home menu search skip close back top page navigation toggle open main content index",
    "joined member members messages thread topic reactions likes quote views user users registered location guest",
    "reviews review rating stars star customers helpful verified rated ratings",
    "download print pdf save bookmark report edit copy link click tap here view see all show load less",
    "contact phone tel address call us support help faq careers jobs team company",
    "tags tag filed under categories category topics labels keywords",
];

/// How many bits [`of_word`] uses.
pub const WORD_BITS: usize = WORDS.len();

/// The commonest words of running text in several languages.
const RUNNING: &str = "the of and to in a is that for it as was with be by on not he his but at are this have from or had \
    an they which one you were all her she there would their we him been has when who will no if out so said what its \
    into than them can only other some could these two may then do any my now such like our over me even most after \
    also did many must before through your where much should well people how because each just those about \
    der die und das den von zu mit sich des auf für ist im dem nicht ein eine als auch es an werden aus er hat dass sie \
    nach wird bei einer um am sind noch wie einem über so zum war haben nur oder aber vor zur bis mehr durch man sein \
    le la les et un une du que qui dans pour est sur pas par plus ne se ce au avec sont ou mais nous vous il elle ont \
    cette aux leur comme être fait son ses été même aussi sans \
    el los las y en un una por con para del al lo su como más pero sus este ya o porque cuando muy sin sobre entre hay \
    todo también fue hasta desde nos donde quien ha \
    di che è per non sono da della nel si dei con alla una più anche delle ma gli nella dal come questo ha ho \
    o e do da em um uma para com não os no na por mais dos como mas foi ao ele das seu sua ou ser quando muito há nos já \
    de het een van en op te dat die in voor met is zijn niet aan er om ook als dan maar bij nog uit naar wordt hij door \
    och att det som på är av för med den till inte en ett om har de jag var så men \
    i w na z się nie to że do jest o jak za po od przez a dla są co tak ale już \
    и в не на я что с по это он как но из у за к так все от о же для вы было мы бы его ну \
    ve bir bu için da ne daha olarak çok gibi ile kadar \
    og i det er en til at på som de med han av ikke den var seg for har om et";

/// The hash under which [`Table`]s look a word up: FNV-1a over its lower-case characters' low bytes.
pub const fn step(hash: u32, c: u32) -> u32 {
    (hash ^ c).wrapping_mul(0x0100_0193)
}

/// What [`step`] starts with.
pub const START: u32 = 0x811c_9dc5;

fn hash(word: &str) -> u32 {
    word.chars().fold(START, |hash, c| step(hash, c as u32))
}

/// A set of hashes with a value each.
struct Table {
    slots: Vec<(u32, u64)>,
}

impl Table {
    fn new(size: usize) -> Self {
        Self { slots: vec![(0, 0); size.next_power_of_two()] }
    }

    fn add(&mut self, hash: u32, bits: u64) {
        let at = self.find(hash);
        self.slots[at] = (hash, self.slots[at].1 | bits);
    }

    fn get(&self, hash: u32) -> u64 {
        self.slots[self.find(hash)].1
    }

    fn find(&self, hash: u32) -> usize {
        let mask = self.slots.len() - 1;
        let mut at = (hash ^ hash >> 15) as usize & mask;
        while self.slots[at].1 != 0 && self.slots[at].0 != hash {
            at = (at + 1) & mask;
        }
        at
    }
}

struct Lexicon {
    names: Table,
    prefixes: Table,
    words: Table,
    running: Table,
}

static LEXICON: std::sync::LazyLock<Lexicon> = std::sync::LazyLock::new(|| {
    let mut lexicon = Lexicon {
        names: Table::new(2_048),
        prefixes: Table::new(512),
        words: Table::new(1_024),
        running: Table::new(2_048),
    };
    for (bit, line) in NAMES.iter().enumerate() {
        for word in line.split_ascii_whitespace() {
            if let Some(stem) = word.strip_suffix('*') {
                lexicon.prefixes.add(hash(stem), 1 << bit);
            }
            lexicon.names.add(hash(word.trim_end_matches('*')), 1 << bit);
        }
    }
    for (bit, line) in WORDS.iter().enumerate() {
        line.split_ascii_whitespace().for_each(|word| lexicon.words.add(hash(word), 1 << bit));
    }
    RUNNING.split_ascii_whitespace().for_each(|word| lexicon.running.add(hash(word), 1));
    lexicon
});

/// The bits of all words in `name`, an attribute's value: parted by anything but letters, and by case as in `navBar`.
pub fn of_name(name: &str) -> u64 {
    let lexicon = &*LEXICON;
    let (mut bits, mut hash, mut len, mut was_lower) = (0, START, 0, false);
    let mut prefix = 0;
    let mut finish = |hash: u32, len: usize, prefix: u64| {
        if len > 1 {
            let exact = lexicon.names.get(hash);
            bits |= if exact != 0 { exact } else { prefix };
        }
    };
    for byte in name.bytes().take(512) {
        if !byte.is_ascii_alphabetic() {
            finish(hash, len, prefix);
            (hash, len, prefix, was_lower) = (START, 0, 0, false);
            continue;
        }
        if byte.is_ascii_uppercase() && was_lower {
            finish(hash, len, prefix);
            (hash, len, prefix) = (START, 0, 0);
        }
        was_lower = byte.is_ascii_lowercase();
        hash = step(hash, u32::from(byte.to_ascii_lowercase()));
        len += 1;
        if (4..12).contains(&len) {
            prefix |= lexicon.prefixes.get(hash);
        }
    }
    finish(hash, len, prefix);
    bits
}

/// The bits of a word of the text, by its hash.
pub fn of_word(hash: u32) -> u16 {
    LEXICON.words.get(hash) as u16
}

/// Is it among the commonest words of a language?
pub fn is_running(hash: u32) -> bool {
    LEXICON.running.get(hash) != 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_parted_and_matched() {
        let bits = |name| (0..NAME_BITS).filter(|bit| of_name(name) >> bit & 1 == 1).collect::<Vec<_>>();
        assert_eq!(bits("post-comments"), [0, 18]);
        assert_eq!(bits("articleBody"), [18, 19]);
        assert_eq!(bits("sidebarRight x1"), [2]);
        assert_eq!(of_name("addition uploaded"), 0, "no word is found inside another");
        assert_eq!(of_name("is-hidden"), HIDDEN);
    }

    #[test]
    fn words_fit_their_masks() {
        const { assert!(NAME_BITS <= 64 && WORD_BITS <= 16) };
        assert!(is_running(hash("the")) && is_running(hash("für")) && !is_running(hash("river")));
        assert_eq!(of_word(hash("copyright")), 1 << 4);
    }
}
