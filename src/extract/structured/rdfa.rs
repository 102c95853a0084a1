//! RDFa Lite (W3C, second edition): `vocab`, `typeof`, `property`, `resource`, `prefix`.
//!
//! Names of properties are kept as they are written, without a prefix that is not declared; types are made addresses by the
//! vocabulary or the prefix. Properties of the page itself in `meta` are no part of this: they are OpenGraph's or plain
//! metadata.

use std::rc::Rc;

use url::Url;

use super::items::{Item, Items, MAX_ITEMS, MAX_PROPERTIES, Values, Worth, words};
use crate::extract::tree::{Id, Tree, tags};

/// Prefixes that need no declaration (RDFa's initial context), as far as pages use them.
const KNOWN: [(&str, &str); 8] = [
    ("schema", "http://schema.org/"),
    ("og", "http://ogp.me/ns#"),
    ("dc", "http://purl.org/dc/terms/"),
    ("dcterms", "http://purl.org/dc/terms/"),
    ("foaf", "http://xmlns.com/foaf/0.1/"),
    ("cc", "http://creativecommons.org/ns#"),
    ("sioc", "http://rdfs.org/sioc/ns#"),
    ("v", "http://rdf.data-vocabulary.org/#"),
];
/// Prefixes of one page.
const MAX_PREFIXES: usize = 64;

/// What holds inside an element.
#[derive(Clone)]
struct Scope {
    end: Id,
    vocabulary: Option<Rc<str>>,
    /// The thing that properties are of; None for the page.
    subject: Option<usize>,
}

struct Reader<'t, 'a> {
    tree: &'t Tree<'a>,
    values: Values<'t, 'a>,
    found: Items,
    open: Vec<Scope>,
    prefixes: Vec<(String, String)>,
    properties: usize,
    page: Option<usize>,
}

/// The things of `tree`. Time is linear in its size.
pub fn read(tree: &Tree, base: Option<&Url>) -> Items {
    let values = Values::new(tree, base);
    let (found, open, prefixes) = (Items::default(), Vec::new(), Vec::new());
    let mut reader = Reader { tree, values, found, open, prefixes, properties: 0, page: None };
    for id in tree.all().filter(|id| !tree.is_text(*id)) {
        while reader.open.pop_if(|scope| scope.end <= id).is_some() {}
        reader.element(id);
    }
    // What only has a type says nothing.
    let Items { items, roots } = &mut reader.found;
    roots.retain(|root| !items[*root].properties.is_empty());
    reader.found
}

impl Reader<'_, '_> {
    fn element(&mut self, id: Id) {
        let (mut vocab, mut types, mut property, mut resource, mut prefix, mut rel) =
            (None, None, None, None, None, None);
        for (name, value) in self.tree.attributes(id).take(crate::extract::scan::MANY) {
            let slot = match name.len() {
                3 if name.eq_ignore_ascii_case("rel") => &mut rel,
                5 if name.eq_ignore_ascii_case("vocab") => &mut vocab,
                6 if name.eq_ignore_ascii_case("typeof") => &mut types,
                6 if name.eq_ignore_ascii_case("prefix") => &mut prefix,
                8 if name.eq_ignore_ascii_case("property") => &mut property,
                8 if name.eq_ignore_ascii_case("resource") => &mut resource,
                _ => continue,
            };
            slot.get_or_insert(value);
        }
        if let Some(prefix) = prefix {
            self.declare(prefix);
        }
        if vocab.is_none() && types.is_none() && property.is_none() && resource.is_none() {
            return;
        }
        let outer = self.open.last();
        let subject = outer.and_then(|scope| scope.subject);
        let mut vocabulary = outer.and_then(|scope| scope.vocabulary.clone());
        if let Some(vocab) = vocab {
            vocabulary = words(Some(vocab)).pop().map(Rc::from);
        }
        let mut inner = subject;
        if types.is_some() || resource.is_some() && property.is_none() {
            inner = self.thing(types, resource, vocabulary.as_deref(), property.is_none());
        }
        // What a head's `meta` says of the page is read as metadata.
        let says = property.filter(|_| subject.is_some() || self.tree.tag(id) != tags::META);
        if let Some(property) = says {
            let names: Vec<String> =
                words(Some(property)).iter().filter_map(|name| self.name(name, vocabulary.is_some())).collect();
            // Beside a `rel` of RDFa's, which is what the address is for, the property is of the text.
            let pointed = rel.is_none_or(|rel| !rel.contains(':'));
            self.say(id, subject, &names, inner.filter(|_| types.is_some()), resource.filter(|_| pointed), pointed);
        }
        let scope = Scope { end: self.tree.end(id), vocabulary, subject: inner };
        self.open.push(scope);
    }

    /// A new thing.
    fn thing(&mut self, types: Option<&str>, resource: Option<&str>, vocab: Option<&str>, root: bool) -> Option<usize> {
        if self.found.items.len() >= MAX_ITEMS {
            return None;
        }
        let types = words(types).iter().map(|name| self.whole(name, vocab)).collect();
        let address = resource.map(|r| self.values.resolve(&crate::extract::tree::decode(r))).filter(|r| !r.is_empty());
        self.found.items.push(Item { types, id: address, properties: Vec::new() });
        let number = self.found.items.len() - 1;
        if root {
            self.found.roots.push(number);
        }
        Some(number)
    }

    /// Notes what `id` says of `subject`: a thing, an address or its text.
    fn say(
        &mut self,
        id: Id,
        subject: Option<usize>,
        names: &[String],
        thing: Option<usize>,
        resource: Option<&str>,
        pointed: bool,
    ) {
        if names.is_empty() {
            self.found.roots.extend(thing);
            return;
        }
        if self.properties >= MAX_PROPERTIES {
            return;
        }
        self.properties += 1;
        let Some(owner) = subject.or_else(|| self.of_page()) else { return };
        let worth = match (thing, resource) {
            (Some(thing), _) => Worth::Item(thing),
            (None, _) if self.tree.attribute(id, "content").is_some() => {
                let content = self.values.attribute(id, "content").unwrap_or_default();
                Worth::Text(self.values.bounded(content))
            }
            (None, Some(resource)) => {
                let address = self.values.resolve(&crate::extract::tree::decode(resource));
                Worth::Text(self.values.bounded(address))
            }
            (None, None) => {
                let address = ["href", "src"].into_iter().find(|name| self.tree.attribute(id, name).is_some());
                let value = match address {
                    Some(name) if pointed => self.values.address(id, name),
                    Some(_) => self.values.text(id),
                    None => self.values.of(id),
                };
                Worth::Text(self.values.bounded(value))
            }
        };
        let properties = &mut self.found.items[owner].properties;
        properties.extend(names.iter().map(|name| (name.clone(), worth.clone())));
    }

    /// The thing that is the page itself.
    fn of_page(&mut self) -> Option<usize> {
        if self.page.is_none() {
            self.page = self.thing(None, None, None, true);
        }
        self.page
    }

    fn declare(&mut self, prefix: &str) {
        let words = words(Some(prefix));
        for pair in words.chunks_exact(2).filter(|pair| pair[0].ends_with(':')) {
            let name = pair[0].trim_end_matches(':').to_ascii_lowercase();
            if self.prefixes.len() < MAX_PREFIXES && !self.prefixes.iter().any(|(known, _)| *known == name) {
                self.prefixes.push((name, pair[1].clone()));
            }
        }
    }

    fn declared(&self, prefix: &str) -> Option<&str> {
        let prefix = prefix.to_ascii_lowercase();
        let own = self.prefixes.iter().find(|(name, _)| *name == prefix).map(|(_, address)| address.as_str());
        own.or_else(|| KNOWN.iter().find(|(name, _)| *name == prefix).map(|(_, address)| *address))
    }

    /// A property's name; None for a plain word without a vocabulary, which means nothing.
    fn name(&self, name: &str, in_vocabulary: bool) -> Option<String> {
        (in_vocabulary || name.contains(':')).then(|| name.to_owned())
    }

    /// A type as an address.
    fn whole(&self, name: &str, vocabulary: Option<&str>) -> String {
        match name.split_once(':') {
            Some((prefix, rest)) if !rest.starts_with("//") => {
                self.declared(prefix).map_or_else(|| name.to_owned(), |address| format!("{address}{rest}"))
            }
            Some(_) => name.to_owned(),
            None => format!("{}{name}", vocabulary.unwrap_or_default()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::extract::Limits;
    use serde_json::{Value, json};

    fn of(html: &str) -> Value {
        let tree = Tree::parse(html, &Limits::default());
        Value::Array(read(&tree, Url::parse("https://a.example/x/").ok().as_ref()).json())
    }

    #[test]
    fn things_of_a_vocabulary() {
        let html = "<div vocab=https://schema.org/ typeof=Article resource=#a><h1 property='name headline'>A <b>B</b></h1>\
            <div property=author typeof=Person><a property=url href=/ana>x</a><i property=name>Ana</i></div>\
            <time property=datePublished datetime=2020-01-02>y</time><b property=about resource=/t></b>\
            <span property=x content='1 &amp; 2'>z</span></div>";
        let expected = json!([{
            "type": ["https://schema.org/Article"], "id": "https://a.example/x/#a",
            "properties": {
                "name": ["A B"], "headline": ["A B"], "datePublished": ["2020-01-02"], "about": ["https://a.example/t"],
                "x": ["1 & 2"],
                "author": [{"type": ["https://schema.org/Person"],
                    "properties": {"url": ["https://a.example/ana"], "name": ["Ana"]}}],
            }
        }]);
        assert_eq!(of(html), expected);
    }

    #[test]
    fn prefixes_and_the_page_itself() {
        let html = "<div prefix='ex: https://e.example/ns#' typeof='ex:T foaf:Person no:X'><i property=ex:n>1</i></div>\
            <p property=dc:title>T</p><p property=alone>lost</p><meta property=og:title content=O>";
        let expected = json!([
            {"type": ["https://e.example/ns#T", "http://xmlns.com/foaf/0.1/Person", "no:X"], "properties": {"ex:n": ["1"]}},
            {"properties": {"dc:title": ["T"]}},
        ]);
        assert_eq!(of(html), expected);
    }

    #[test]
    fn beside_a_rel_the_text_counts() {
        let html = "<p typeof=v:Breadcrumb><a href=/a rel=v:url property=v:title>A</a><a href=/b rel=nofollow property=v:b>B</a>";
        let expected = json!({"v:title": ["A"], "v:b": ["https://a.example/b"]});
        assert_eq!(of(html)[0]["properties"], expected);
    }

    #[test]
    fn things_side_by_side_and_after_one_another() {
        let html = "<body vocab=http://schema.org/><div typeof=A></div><div typeof=B><i property=p>1</i></div><i property=q>2</i>";
        let expected = json!([
            {"type": ["http://schema.org/B"], "properties": {"p": ["1"]}},
            {"properties": {"q": ["2"]}},
        ]);
        assert_eq!(of(html), expected);
    }
}
