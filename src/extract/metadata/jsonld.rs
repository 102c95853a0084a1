//! The parts of schema.org that describe a page, from its JSON-LD blocks.

use serde_json::Value;

use super::marks::tidy;

/// What the page's main subject is said to be.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Subject {
    /// `headline`, else `name`.
    pub title: Option<String>,
    /// Names of the authors or, failing that, creators.
    pub authors: Vec<String>,
    /// `datePublished`, else `dateCreated` or `uploadDate`, as written.
    pub published: Option<String>,
    /// `dateModified` as written.
    pub modified: Option<String>,
    /// Name of the site or the publisher.
    pub site: Option<String>,
    /// `description`.
    pub description: Option<String>,
    /// `inLanguage` as written.
    pub language: Option<String>,
    /// `image`, else `thumbnailUrl`: the first one's address as written.
    pub image: Option<String>,
    /// `keywords`, a list or one string.
    pub keywords: Vec<String>,
    /// `license`: its address or name as written.
    pub license: Option<String>,
}

/// Objects looked at, and levels of nesting.
const MAX_OBJECTS: usize = 1_000;
const MAX_LEVELS: usize = 16;

impl Subject {
    /// Reads all blocks; the first object of the highest rank is the subject.
    pub fn read(blocks: &[Value]) -> Self {
        let mut subject = Self::default();
        let mut rank_so_far = 0;
        for block in blocks {
            let mut objects = Vec::new();
            gather(block, 0, &mut objects);
            for object in objects {
                let rank = rank(object);
                if rank == 1 {
                    let name = object.get("name").and_then(Value::as_str).map(tidy);
                    subject.site = subject.site.take().or(name);
                } else if rank > rank_so_far {
                    rank_so_far = rank;
                    let site = subject.site.take();
                    subject = Self::of(object);
                    subject.site = site.or(subject.site);
                }
            }
        }
        subject
    }

    fn of(object: &Value) -> Self {
        let text = |key: &str| object.get(key).and_then(Value::as_str).map(tidy).filter(|text| !text.is_empty());
        let mut authors = Vec::new();
        for key in ["author", "creator"] {
            if authors.is_empty() {
                names(object.get(key), &mut authors);
            }
        }
        let mut publishers = Vec::new();
        names(object.get("publisher"), &mut publishers);
        Self {
            title: text("headline").or_else(|| text("name")),
            authors,
            published: text("datePublished").or_else(|| text("dateCreated")).or_else(|| text("uploadDate")),
            modified: text("dateModified"),
            site: publishers.into_iter().next(),
            description: text("description"),
            language: text("inLanguage"),
            image: ["image", "thumbnailUrl"].iter().find_map(|key| address(object.get(*key)?)),
            keywords: keywords(object.get("keywords")),
            license: object.get("license").and_then(address),
        }
    }
}

/// An address: a string, an object with one, or the first of a list of these.
fn address(value: &Value) -> Option<String> {
    let value = value.as_array().map_or(Some(value), |list| list.first())?;
    let text = match value {
        Value::Object(fields) => ["url", "contentUrl", "@id", "name"].iter().find_map(|key| fields.get(*key)?.as_str()),
        value => value.as_str(),
    };
    text.map(tidy).filter(|text| !text.is_empty() && text.len() <= 2_000)
}

/// Words or terms of a list.
fn keywords(value: Option<&Value>) -> Vec<String> {
    let several = match value {
        Some(Value::Array(several)) => several.iter().collect(),
        Some(one) => vec![one],
        None => Vec::new(),
    };
    let named = several.iter().filter_map(|one| one.as_str().or_else(|| one.get("name")?.as_str()));
    named.take(100).map(str::to_owned).collect()
}

fn gather<'v>(value: &'v Value, level: usize, objects: &mut Vec<&'v Value>) {
    if level > MAX_LEVELS || objects.len() >= MAX_OBJECTS {
        return;
    }
    match value {
        Value::Array(items) => items.iter().for_each(|item| gather(item, level + 1, objects)),
        Value::Object(fields) => {
            objects.push(value);
            // The questions that a page answers besides are not what it is about.
            let questions = fields.get("@type").is_some_and(|kind| match kind {
                Value::Array(kinds) => kinds.iter().any(|kind| kind == "FAQPage"),
                kind => kind == "FAQPage",
            });
            for key in ["@graph", "mainEntity", "mainEntityOfPage"] {
                if questions && key == "mainEntity" {
                    continue;
                }
                if let Some(inner) = fields.get(key) {
                    gather(inner, level + 1, objects);
                }
            }
        }
        _ => {}
    }
}

/// 3 a work of its own, 2 a page, 1 the site, 0 anything else (breadcrumbs, images, organisations).
fn rank(object: &Value) -> u8 {
    let one = |kind: &str| match kind.rsplit('/').next().unwrap_or(kind) {
        kind if kind.ends_with("Article") || kind.ends_with("Posting") => 3,
        "Report"
        | "Product"
        | "ProductGroup"
        | "Recipe"
        | "Book"
        | "Event"
        | "Course"
        | "SoftwareApplication"
        | "HowTo"
        | "CreativeWork"
        | "Dataset"
        | "ScholarlyWork"
        | "VideoObject"
        | "Movie"
        | "Question" => 3,
        kind if kind.ends_with("Page") => 2,
        "WebSite" => 1,
        _ => 0,
    };
    match object.get("@type") {
        Some(Value::String(kind)) => one(kind),
        Some(Value::Array(kinds)) => kinds.iter().filter_map(Value::as_str).map(one).max().unwrap_or(0),
        _ => 0,
    }
}

/// Names of persons or organisations: a string, an object with `name`, or a list of these.
fn names(value: Option<&Value>, into: &mut Vec<String>) {
    let mut add = |name: &str| {
        let name = tidy(name);
        if !name.is_empty() && into.len() < 20 && !into.contains(&name) {
            into.push(name);
        }
    };
    match value {
        Some(Value::String(name)) => add(name),
        Some(Value::Object(person)) => match person.get("name") {
            Some(Value::String(name)) => add(name),
            Some(Value::Array(several)) => several.iter().filter_map(Value::as_str).for_each(add),
            _ => {}
        },
        Some(Value::Array(several)) => {
            // One level only: a list in a list is not schema.org.
            several.iter().filter(|one| !one.is_array()).for_each(|one| names(Some(one), into));
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(block: &str) -> Subject {
        Subject::read(&crate::extract::structured::json::parse(block))
    }

    #[test]
    fn the_article_in_a_graph_is_the_subject() {
        let subject = read(
            r#"{"@graph":[{"@type":"WebSite","name":"Site"},{"@type":"WebPage","name":"P - Site"},
            {"@type":["Thing","NewsArticle"],"headline":"H &amp; I","author":[{"name":"A B"},"C"],"datePublished":"2020-01-02"}]}"#,
        );
        assert_eq!(subject.title.as_deref(), Some("H & I"));
        assert_eq!(subject.authors, ["A B", "C"]);
        assert_eq!(subject.published.as_deref(), Some("2020-01-02"));
        assert_eq!(subject.site.as_deref(), Some("Site"));
    }

    #[test]
    fn a_question_of_a_faq_is_not_the_subject() {
        let block = r#"{"@type":"FAQPage","mainEntity":[{"@type":"Question","name":"Why?"}]}"#;
        assert_eq!(read(block).title, None);
        assert_eq!(read(&block.replace("FAQPage", "QAPage")).title.as_deref(), Some("Why?"));
    }

    #[test]
    fn tolerates_comment_marks_and_line_breaks() {
        assert_eq!(read("<!-- {\"@type\":\"Article\",\"headline\":\"a\nb\"} -->").title.as_deref(), Some("a b"));
    }

    #[test]
    fn nonsense_and_nesting_say_nothing() {
        assert_eq!(read(&"[".repeat(100_000)), Subject::default());
        assert_eq!(read("{\"@type\":7,\"headline\":\"x\"}"), Subject::default());
        let deep = "{\"@graph\":".repeat(100) + "1" + &"}".repeat(100);
        assert_eq!(read(&deep), Subject::default());
    }
}
