//! Picture, tags, licence, and what robots are asked.

use url::Url;

use super::jsonld::Subject;
use super::marks::tidy;
use super::said::Statements;
use super::source::{Found, Source};
use crate::extract::links;

/// Tags of a page, and bytes of each.
const MAX_TAGS: (usize, usize) = (50, 100);
/// Bytes of a licence's name.
const MAX_LICENSE: usize = 500;
/// Words for robots, and bytes of each.
const MAX_ROBOTS: (usize, usize) = (20, 60);

/// `meta` of what is shown where a page is shared.
pub(super) const SHARED_IMAGES: [&str; 5] =
    ["og:image", "og:image:url", "og:image:secure_url", "twitter:image", "twitter:image:src"];
/// `meta` of keywords, apart from `article:tag` and Dublin Core's.
pub(super) const KEYWORDS: [&str; 5] =
    ["parsely-tags", "sailthru.tags", "news_keywords", "citation_keywords", "keywords"];
/// `meta` of a licence.
pub(super) const LICENSES: [&str; 5] = ["dcterms.license", "dc.rights.license", "dc.license", "license", "licence"];

/// The picture that stands for the page, as an absolute address.
pub fn image(said: &Statements, subject: &Subject, base: Option<&Url>) -> Option<Found<String>> {
    let of_subject = subject.image.iter().map(|image| Found::new(image.as_str(), Source::JsonLd));
    let marked = said.images.iter().map(|found| Found::new(found.value.as_str(), found.source));
    let metas = |names: &'static [&'static str]| names.iter().flat_map(|name| said.metas_named(name));
    let all = SHARED_IMAGES.iter().flat_map(|name| said.metas_named(name)).chain(of_subject).chain(marked);
    all.chain(metas(&["image", "thumbnail", "parsely-image-url", "sailthru.image.full"]))
        .find_map(|found| Some(Found::new(links::absolute(base, found.value)?, found.source)))
}

/// Keywords, each once: those of the first source that has any.
pub fn tags(said: &Statements, subject: &Subject) -> Option<Found<Vec<String>>> {
    let metas = |name| said.metas_named(name).map(|found| found.value).collect::<Vec<_>>();
    let of = |values: Vec<&str>, source| {
        let tags = split(&values);
        (!tags.is_empty()).then(|| Found::new(tags, source))
    };
    of(subject.keywords.iter().map(String::as_str).collect(), Source::JsonLd)
        .or_else(|| of(metas("article:tag"), Source::OpenGraph))
        .or_else(|| of(said.tags.iter().map(String::as_str).collect(), Source::Page))
        .or_else(|| of(metas("dc.subject"), Source::DublinCore))
        .or_else(|| KEYWORDS.iter().find_map(|name| of(metas(name), Source::Meta)))
}

/// Terms between commas or semicolons; a lone value without any is one term.
pub(super) fn split(values: &[&str]) -> Vec<String> {
    let mut tags: Vec<String> = Vec::new();
    for tag in values.iter().flat_map(|value| value.split([',', ';'])).map(tidy) {
        let known = tags.iter().any(|one| one.eq_ignore_ascii_case(&tag));
        let word = tag.chars().any(char::is_alphanumeric) && tag.len() <= MAX_TAGS.1;
        if word && !known && tags.len() < MAX_TAGS.0 {
            tags.push(tag);
        }
    }
    tags
}

/// The licence: an absolute address, or a name where there is no address.
pub fn license(said: &Statements, subject: &Subject, base: Option<&Url>) -> Option<Found<String>> {
    let of_subject = subject.license.iter().map(|license| Found::new(license.as_str(), Source::JsonLd));
    let marked = said.licenses.iter().map(|found| Found::new(found.value.as_str(), found.source));
    let all = of_subject.chain(marked).chain(LICENSES.iter().flat_map(|name| said.metas_named(name)));
    all.filter(|found| found.value.len() <= MAX_LICENSE).find_map(|found| {
        let address = !found.value.contains(' ') && (found.value.contains('/') || found.source == Source::Meta);
        let value = if address { links::absolute(base, found.value)? } else { found.value.to_owned() };
        Some(Found::new(value, found.source))
    })
}

/// Whether a header `X-Robots-Tag` is for all crawlers, and not for one by name (`googlebot: noindex`).
pub fn is_for_all(header: &str) -> bool {
    header.split_once(':').is_none_or(|(first, _)| {
        let first = first.trim().to_ascii_lowercase();
        first.contains(',') || first.starts_with("max-") || first == "unavailable_after"
    })
}

/// What robots are asked, by `meta` or a header: words between commas, lower case, each once.
pub fn robots<'s>(values: impl Iterator<Item = &'s str>) -> Vec<String> {
    let mut words: Vec<String> = Vec::new();
    for word in values.flat_map(|value| value.split(',')).map(|word| word.trim().to_ascii_lowercase()) {
        let whole = !word.is_empty() && word.len() <= MAX_ROBOTS.1 && !words.contains(&word);
        if whole && words.len() < MAX_ROBOTS.0 {
            words.push(word);
        }
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::extract::Limits;
    use crate::extract::structured::json;
    use crate::extract::tree::Tree;

    fn with<T>(html: &str, decide: impl Fn(&Statements, &Subject, Option<&Url>) -> T) -> T {
        let tree = Tree::parse(html, &Limits::default());
        let said = Statements::collect(&tree);
        let blocks: Vec<_> = said.json_ld.iter().flat_map(|block| json::parse(block)).collect();
        decide(&said, &Subject::read(&blocks), Url::parse("https://a.example/x/").ok().as_ref())
    }

    const ARTICLE: &str = "<script type=application/ld+json>{\"@type\":\"Article\",\"image\":[{\"url\":\"j.png\"}],\
        \"keywords\":[\"a, b\",{\"name\":\"c\"},\"A\"],\"license\":{\"@id\":\"https://l.example/by\"}}</script>";

    #[test]
    fn the_picture() {
        let of = |html: &str| with(html, image).map(|found| (found.value, found.source));
        let at = |path: &str, source| Some((format!("https://a.example/{path}"), source));
        assert_eq!(of(&format!("{ARTICLE}<meta property=og:image content=/o.png>")), at("o.png", Source::OpenGraph));
        assert_eq!(of(ARTICLE), at("x/j.png", Source::JsonLd));
        assert_eq!(of("<img itemprop=image src=m.png>"), at("x/m.png", Source::Microdata));
        assert_eq!(of("<link rel=image_src href=l.png>"), at("x/l.png", Source::Meta));
        assert_eq!(of("<meta property=og:image content='data:image/png;base64,x'>"), None);
    }

    #[test]
    fn keywords_of_the_first_source() {
        let of =
            |html: &str| with(html, |said, subject, _| tags(said, subject)).map(|found| (found.value, found.source));
        let list = |tags: &str| tags.split(' ').map(str::to_owned).collect::<Vec<_>>();
        assert_eq!(of(&format!("{ARTICLE}<meta name=keywords content=z>")), Some((list("a b c"), Source::JsonLd)));
        assert_eq!(of("<a rel=tag href=/t>t</a><meta name=keywords content=z>"), Some((list("t"), Source::Page)));
        assert_eq!(of("<meta name=keywords content='x, y;,-'>"), Some((list("x y"), Source::Meta)));
        assert_eq!(of("<meta name=keywords content=', -'>"), None);
    }

    #[test]
    fn the_licence() {
        let of = |html: &str| with(html, license).map(|found| (found.value, found.source));
        assert_eq!(of(ARTICLE), Some(("https://l.example/by".into(), Source::JsonLd)));
        assert_eq!(of("<a rel=license href=/l>CC</a>"), Some(("https://a.example/l".into(), Source::Page)));
        assert_eq!(of("<i itemprop=license>CC BY 4.0</i>"), Some(("CC BY 4.0".into(), Source::Microdata)));
        assert_eq!(of("<link rel=license href=l.html>"), Some(("https://a.example/x/l.html".into(), Source::Meta)));
    }

    #[test]
    fn words_for_robots() {
        assert_eq!(
            robots(["NoIndex, follow,,noindex", "max-snippet:-1"].into_iter()),
            ["noindex", "follow", "max-snippet:-1"]
        );
    }
}
