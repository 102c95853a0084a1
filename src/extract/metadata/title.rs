//! Which of a page's titles is the title.

use url::Url;

use super::collect::Statements;
use super::jsonld::Subject;

/// What parts a title from the name of the site, by custom.
const SEPARATORS: [&str; 11] = [" | ", " - ", " – ", " — ", " · ", " • ", " :: ", " » ", " « ", " : ", " / "];

/// The heading when it is the only one and the page's titles confirm it, else the article's headline, `og:title`,
/// the `title` element (both without the site's name), and any heading at last.
pub fn decide(said: &Statements, subject: &Subject, site: Option<&str>, url: Option<&Url>) -> Option<String> {
    let shared = said.meta(&["og:title", "twitter:title", "dc.title"]);
    let confirmed = |heading: &&String| {
        let heading = fold(heading);
        let within = |title: &str| fold(title).contains(&heading);
        heading.len() > 2
            && [said.title.as_deref(), shared.as_deref(), subject.title.as_deref()].into_iter().flatten().any(within)
    };
    let named: Vec<&String> = said.headings.iter().filter(|heading| !is_site(heading, site, url)).collect();
    let heading = named.iter().copied().find(confirmed);
    if let Some(heading) = heading {
        return Some(heading.clone());
    }
    let bare = |title: &String| without_site(title, site, url);
    subject
        .title
        .as_ref()
        .filter(|title| !is_site(title, site, url))
        .map(bare)
        .or_else(|| shared.as_ref().map(bare))
        .or_else(|| said.title.as_ref().map(bare))
        .or_else(|| said.headings.first().cloned())
}

/// `title` without a first or last part that names the site.
fn without_site(title: &str, site: Option<&str>, url: Option<&Url>) -> String {
    for separator in SEPARATORS {
        if let Some((rest, last)) = title.rsplit_once(separator)
            && is_site(last, site, url)
        {
            return rest.trim().to_owned();
        }
        if let Some((first, rest)) = title.split_once(separator)
            && is_site(first, site, url)
        {
            return rest.trim().to_owned();
        }
    }
    title.to_owned()
}

/// Is `name` the site's name or a label of its host?
fn is_site(name: &str, site: Option<&str>, url: Option<&Url>) -> bool {
    let name = fold(name);
    if name.is_empty() {
        return false;
    }
    if site.is_some_and(|site| fold(site) == name) {
        return true;
    }
    let Some(host) = url.and_then(Url::host_str) else { return false };
    let host = host.strip_prefix("www.").unwrap_or(host);
    let host_says = |label: &str| {
        let label = fold(label);
        // "Newegg.com" and "Newegg Business" for newegg.example, "BHF" for bhf.example.
        label.len() > 2 && label == name
            || label.len() > 3 && name.len() > 3 && (name.starts_with(&label) || label.starts_with(&name))
    };
    fold(host) == name || host.split('.').rev().skip(1).any(host_says)
}

/// Letters and digits only, lower case.
fn fold(text: &str) -> String {
    text.chars().filter(|c| c.is_alphanumeric()).flat_map(char::to_lowercase).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decide(html: &str) -> Option<String> {
        let said = Statements::collect(html);
        let url = Url::parse("https://www.the-times.example/x").ok();
        super::decide(&said, &Subject::read(&said.json_ld), said.meta(&["og:site_name"]).as_deref(), url.as_ref())
    }

    #[test]
    fn a_heading_that_the_title_confirms() {
        let title = decide("<title>The Times - Rain falls | News</title><h1>The Times</h1><h1>Rain  falls</h1>");
        assert_eq!(title.as_deref(), Some("Rain falls"));
    }

    #[test]
    fn the_site_name_is_cut() {
        assert_eq!(decide("<title>Rain - or not - The Times</title>").as_deref(), Some("Rain - or not"));
        let named = "<meta property=og:site_name content='My Blog'><title>My blog » Rain</title>";
        assert_eq!(decide(named).as_deref(), Some("Rain"));
        assert_eq!(decide("<title>Rain - Sun</title>").as_deref(), Some("Rain - Sun"));
    }

    #[test]
    fn signs_that_link_or_break_are_no_part_of_it() {
        assert_eq!(
            decide("<title>Assistance</title><h1>Assis&shy;tance<a href=#x>¶</a>").as_deref(),
            Some("Assistance")
        );
    }

    #[test]
    fn a_heading_when_there_is_nothing_else() {
        assert_eq!(decide("<h1>Only</h1>").as_deref(), Some("Only"));
        assert_eq!(decide("<p>none"), None);
    }
}
