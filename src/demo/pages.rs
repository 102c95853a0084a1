//! Pages around articles: navigation, cookie banner, sidebar, related links and footer as real
//! sites have them, with metadata told in the ways real sites tell it.

use std::fmt::Write as _;
use std::sync::LazyLock;

use serde_json::json;

use super::hosts::{Host, Kind};
use super::text::{self, Article, Dice, Lang, Writer};

/// Where a page is served.
#[derive(Clone, Copy)]
pub(super) struct Place<'a> {
    pub host: &'a Host,
    /// The name asked for, which for a load host is not that of its entry.
    pub name: &'a str,
    pub port: u16,
    pub path: &'a str,
}

impl Place<'_> {
    fn url(&self) -> String {
        format!("http://{}:{}{}", self.name, self.port, self.path)
    }

    /// The seed of this page, different for each host and path.
    pub(super) fn seed(&self) -> u64 {
        text::seed(self.name) ^ text::seed(self.path).rotate_left(17)
    }
}

/// What a page says of itself besides its article.
#[derive(Clone, Copy)]
pub(super) struct Dress {
    pub kind: Kind,
    /// For `<meta charset>`; `None` leaves it out.
    pub charset: Option<&'static str>,
    /// Title, heading and metadata are there.
    pub titled: bool,
    /// The page names its own address as canonical.
    pub canonical: bool,
}

impl Dress {
    pub(super) const PLAIN: Dress =
        Dress { kind: Kind::Article, charset: Some("utf-8"), titled: true, canonical: true };
}

/// The n-th page of its host: `/<slug>/<n>`.
pub(super) fn numbered(place: Place, article: &Article) -> String {
    page(place, article, Dress { kind: place.host.kind, ..Dress::PLAIN })
}

/// A whole page around an article.
pub(super) fn page(place: Place, article: &Article, dress: Dress) -> String {
    let main = match dress.kind {
        Kind::Article => story(article, dress.titled),
        Kind::Thread => thread(article, place.seed()),
        Kind::Product => product(article, place.seed()),
        Kind::Documentation => documentation(article),
    };
    let head = head(place, article, dress);
    frame(place, article.lang, &head, &main)
}

/// The listing at `/`: a teaser and a link for each page of the host.
pub(super) fn listing(place: Place) -> String {
    let (host, lang) = (place.host, place.host.lang);
    let mut main = format!("<h1>{}</h1>\n<ul class=\"teasers\">\n", host.brand);
    for n in 1..=host.pages {
        let path = format!("/{}/{n}", host.kind.slug());
        let article = Article::new(lang, Place { path: &path, ..place }.seed());
        let (title, lead, date) = (&article.title, article.lead(), &article.date);
        let _ = writeln!(
            main,
            "<li><h2><a href=\"{path}\">{title}</a></h2><time datetime=\"{date}\">{date}</time>\
             <p>{lead}</p></li>"
        );
    }
    main.push_str("</ul>\n");
    let head = format!(
        "<meta charset=\"utf-8\">\n<title>{0}</title>\n<meta property=\"og:type\" content=\"website\">\n\
         <link rel=\"canonical\" href=\"{1}\">\n",
        host.brand,
        place.url()
    );
    frame(place, lang, &head, &main)
}

/// The `<head>` of an article. By its seed a page carries JSON-LD, OpenGraph, both, or (one in
/// five) neither.
fn head(place: Place, article: &Article, dress: Dress) -> String {
    let mut head = String::with_capacity(2048);
    if let Some(charset) = dress.charset {
        let _ = writeln!(head, "<meta charset=\"{charset}\">");
    }
    head.push_str("<meta name=\"viewport\" content=\"width=device-width\">\n");
    if dress.canonical {
        let _ = writeln!(head, "<link rel=\"canonical\" href=\"{}\">", place.url());
    }
    if !dress.titled {
        return head;
    }
    let Article { title, author, date, .. } = article;
    let brand = place.host.brand;
    let _ = writeln!(head, "<title>{title} - {brand}</title>");
    let style = place.seed() % 5;
    if style != 0 {
        let _ = writeln!(head, "<meta name=\"description\" content=\"{}\">", article.lead());
    }
    if matches!(style, 1 | 2) {
        let _ = write!(
            head,
            "<meta property=\"og:type\" content=\"article\">\n\
             <meta property=\"og:title\" content=\"{title}\">\n\
             <meta property=\"og:site_name\" content=\"{brand}\">\n\
             <meta property=\"article:published_time\" content=\"{date}T08:00:00Z\">\n\
             <meta name=\"author\" content=\"{author}\">\n"
        );
    }
    if matches!(style, 2..=4) {
        let kind = match dress.kind {
            Kind::Article => "NewsArticle",
            Kind::Thread => "DiscussionForumPosting",
            Kind::Product => "Product",
            Kind::Documentation => "TechArticle",
        };
        let data = json!({
            "@context": "https://schema.org",
            "@type": kind,
            "headline": title,
            "name": title,
            "author": { "@type": "Person", "name": author },
            "publisher": { "@type": "Organization", "name": brand },
            "datePublished": format!("{date}T08:00:00Z"),
            "inLanguage": article.lang.tag(),
        });
        let _ = writeln!(head, "<script type=\"application/ld+json\">{data}</script>");
    }
    head
}

/// A whole document: everything around what the page is about.
fn frame(place: Place, lang: Lang, head: &str, main: &str) -> String {
    let (brand, tag, label) = (place.host.brand, lang.tag(), |key| lang.label(key));
    let mut out = String::with_capacity(main.len() + head.len() + 4096);
    let _ = write!(
        out,
        "<!DOCTYPE html>\n<html lang=\"{tag}\">\n<head>\n{head}\
         <style>body{{max-width:60em;margin:auto}}aside{{float:right;width:16em}}</style>\n\
         </head>\n<body>\n\
         <div id=\"cookie-banner\" class=\"cookie-consent\" role=\"dialog\"><p>{}</p>\
         <button type=\"button\">{}</button></div>\n\
         <header class=\"site-header\"><a class=\"logo\" href=\"/\">{brand}</a>\n<nav><ul>",
        label("cookie"),
        label("accept"),
    );
    for entry in lang.phrases("nav") {
        let _ = write!(out, "<li><a href=\"/\">{entry}</a></li>");
    }
    let _ = write!(
        out,
        "</ul></nav></header>\n<main>\n{main}</main>\n\
         <aside class=\"sidebar\"><h3>{}</h3><form action=\"/\"><input type=\"email\" name=\"email\">\
         </form></aside>\n<section class=\"related\"><h3>{}</h3><ul>",
        label("aside"),
        label("related"),
    );
    related(place, lang, &mut out);
    let _ = write!(
        out,
        "</ul></section>\n<footer class=\"site-footer\"><p>&copy; {brand}. {}</p></footer>\n\
         </body>\n</html>\n",
        label("footer")
    );
    out
}

/// Links to up to five other pages of the host.
fn related(place: Place, lang: Lang, out: &mut String) {
    let Host { kind, pages, .. } = *place.host;
    let mut dice = Dice(place.seed());
    let first = dice.below(pages);
    for n in (0..pages.min(5)).map(|n| 1 + (first + n) % pages) {
        let path = format!("/{}/{n}", kind.slug());
        if path == place.path {
            continue;
        }
        let title = Writer::new(lang, Place { path: &path, ..place }.seed()).headline();
        let _ = write!(out, "<li><a href=\"{path}\">{title}</a></li>");
    }
}

fn story(article: &Article, titled: bool) -> String {
    let Article { lang, title, author, date, paragraphs } = article;
    let mut out = String::from("<article>\n");
    if titled {
        let by = lang.label("by");
        let _ = writeln!(
            out,
            "<h1>{title}</h1>\n<p class=\"byline\">{by} <span class=\"author\">{author}</span>, \
             <time datetime=\"{date}\">{date}</time></p>"
        );
    }
    for n in 0..paragraphs.len() {
        let _ = writeln!(out, "<p>{}</p>", article.paragraph(n));
    }
    out.push_str("</article>\n");
    out
}

/// A question and its answers, one paragraph each.
fn thread(article: &Article, seed: u64) -> String {
    let Article { lang, title, author, date, paragraphs } = article;
    let (mut writer, reply) = (Writer::new(*lang, seed ^ 1), lang.label("reply"));
    let mut out = format!("<h1>{title}</h1>\n<div class=\"thread\">\n");
    for n in 0..paragraphs.len() {
        let (class, name) = if n == 0 { ("question", *author) } else { ("answer", writer.person()) };
        let _ = writeln!(
            out,
            "<div class=\"post {class}\" id=\"post-{n}\"><div class=\"user\"><b>{name}</b> \
             <time datetime=\"{date}\">{date}</time></div><div class=\"post-body\"><p>{}</p></div>\
             <button>{reply}</button></div>",
            article.paragraph(n)
        );
    }
    out.push_str("</div>\n");
    out
}

fn product(article: &Article, seed: u64) -> String {
    let Article { lang, title, paragraphs, .. } = article;
    let mut dice = Dice(seed ^ 2);
    let mut out = format!(
        "<div class=\"product\">\n<h1>{title}</h1>\n<p class=\"price\">{}: {},{:02} €</p>\n\
         <div class=\"description\">\n",
        lang.label("price"),
        5 + dice.below(500),
        dice.below(100)
    );
    for n in 0..paragraphs.len() {
        let _ = writeln!(out, "<p>{}</p>", article.paragraph(n));
    }
    out.push_str("</div>\n<table class=\"specs\">\n");
    for spec in lang.phrases("specs") {
        let value = dice.pick(lang.phrases("values"));
        let _ = writeln!(out, "<tr><th>{spec}</th><td>{value}</td></tr>");
    }
    out.push_str("</table>\n</div>\n");
    out
}

/// Sections with headings and a contents list; a command before the last one.
fn documentation(article: &Article) -> String {
    let Article { lang, title, paragraphs, .. } = article;
    let mut writer = Writer::new(*lang, text::seed(title));
    let headings = paragraphs.iter().map(|_| writer.headline()).collect::<Vec<_>>();
    let mut out = format!("<article class=\"docs\">\n<h1>{title}</h1>\n<ul class=\"toc\">");
    for (n, heading) in headings.iter().enumerate() {
        let _ = write!(out, "<li><a href=\"#section-{n}\">{heading}</a></li>");
    }
    let _ = writeln!(out, "</ul>\n<p class=\"note\"><strong>{}</strong></p>", lang.label("note"));
    for (n, heading) in headings.iter().enumerate() {
        if n + 1 == headings.len() {
            let _ = writeln!(out, "<pre><code>signal --tower {n} --light on</code></pre>");
        }
        let _ = writeln!(out, "<h2 id=\"section-{n}\">{heading}</h2>");
        let _ = writeln!(out, "<p>{}</p>", article.paragraph(n));
    }
    out.push_str("</article>\n");
    out
}

/// The most words a generated page has.
const GEN_WORDS: usize = 5_000;

/// Page `/gen/<n>` of about `words` words (at most 5,000), put together from ready sentences so
/// that it costs microseconds. No two numbers, hosts or lengths share a body.
pub(super) fn generated(place: Place, n: u64, words: usize) -> String {
    let lang = place.host.lang;
    let words = words.min(GEN_WORDS);
    let (before, after) = &GEN_FRAMES[lang as usize];
    let mut out = String::with_capacity(before.len() + after.len() + 256 + words * 12);
    let title = lang.label("serial").split("{n}");
    let number = format!("{n} ({}, {words})", place.name);
    let title = title.collect::<Vec<_>>().join(&number);
    out.push_str("<!DOCTYPE html>\n<html lang=\"");
    out.push_str(lang.tag());
    out.push_str("\">\n<head>\n<meta charset=\"utf-8\">\n<title>");
    out.push_str(&title);
    out.push_str(before);
    out.push_str(&title);
    out.push_str("</h1>\n<p>");
    out.push_str(&title);
    let (pool, mut dice, mut count) = (text::pool(lang), Dice(place.seed() ^ n), 0);
    while count < words {
        // The pool's length is a power of two, and not zero.
        let (sentence, length) = &pool[dice.roll() as usize & (text::POOL - 1)];
        out.push_str(if count % 90 > 75 { "</p>\n<p>" } else { lang.gap() });
        out.push_str(sentence);
        count += length;
    }
    out.push_str(after);
    out
}

/// What stands before a generated page's heading and after its text, for each language.
static GEN_FRAMES: LazyLock<Vec<(String, String)>> = LazyLock::new(|| {
    let frame = |lang: Lang| {
        let nav = lang.phrases("nav").iter().map(|entry| format!("<a href=\"/\">{entry}</a> "));
        let nav = nav.collect::<String>();
        let before = format!("</title>\n</head>\n<body>\n<nav>{nav}</nav>\n<main><article>\n<h1>");
        let after =
            format!("</p>\n</article></main>\n<footer><p>{}</p></footer>\n</body>\n</html>\n", lang.label("footer"));
        (before, after)
    };
    Lang::ALL.map(frame).into()
});
