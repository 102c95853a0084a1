//! Microdata (HTML standard, 5): things, things in things, and properties that stand elsewhere (`itemref`).

use std::collections::HashMap;

use url::Url;

use super::items::{Item, Items, MAX_ITEMS, MAX_PROPERTIES, Values, Worth, words};
use crate::extract::tree::{Id, Tree, decode};

/// References followed, and properties looked at for them.
const MAX_REFERENCES: (usize, usize) = (1_000, 50_000);

/// An element with `itemprop`.
struct Property {
    id: Id,
    /// The element of the thing around it; 0 for none.
    within: Id,
    names: Vec<String>,
    worth: Worth,
}

/// The things of `tree`. Time is linear in its size, references bounded.
pub fn read(tree: &Tree, base: Option<&Url>) -> Items {
    let mut found = Items::default();
    let mut properties: Vec<Property> = Vec::new();
    let mut references: Vec<(usize, Id, Vec<String>)> = Vec::new();
    let mut values = Values::new(tree, base);
    // Things that are open: where they end, their element, their number.
    let mut open: Vec<(Id, Id, usize)> = Vec::new();
    for id in tree.all().filter(|id| !tree.is_text(*id)) {
        while open.pop_if(|(end, ..)| *end <= id).is_some() {}
        let is_item = tree.attribute(id, "itemscope").is_some() && found.items.len() < MAX_ITEMS;
        let names = tree.attribute(id, "itemprop").map(|raw| words(Some(raw))).unwrap_or_default();
        if !is_item && names.is_empty() {
            continue;
        }
        let around = open.last().copied();
        let mut worth = None;
        if is_item {
            let number = found.items.len();
            let types = words(tree.attribute(id, "itemtype"));
            let address = values.address(id, "itemid");
            let address = (!address.is_empty()).then_some(address);
            found.items.push(Item { types, id: address, properties: Vec::new() });
            references.extend(tree.attribute(id, "itemref").map(|raw| (number, id, words(Some(raw)))));
            open.push((tree.end(id), id, number));
            worth = Some(Worth::Item(number));
            if names.is_empty() {
                found.roots.push(number);
            }
        }
        if names.is_empty() || properties.len() >= MAX_PROPERTIES {
            continue;
        }
        let worth = worth.unwrap_or_else(|| Worth::Text(values.of(id)));
        if let Some((.., owner)) = around {
            add(&mut found.items[owner], &names, &worth);
        }
        properties.push(Property { id, within: around.map_or(0, |(_, element, _)| element), names, worth });
    }
    refer(tree, &mut found, &properties, references);
    found
}

/// Gives things the properties that stand in the elements they refer to.
fn refer(tree: &Tree, found: &mut Items, properties: &[Property], references: Vec<(usize, Id, Vec<String>)>) {
    if references.is_empty() {
        return;
    }
    let mut wanted: HashMap<&str, Option<Id>> = HashMap::new();
    for (.., ids) in references.iter().take(MAX_REFERENCES.0) {
        wanted.extend(ids.iter().map(|id| (id.as_str(), None)));
    }
    for id in tree.all() {
        let Some(name) = tree.attribute(id, "id") else { continue };
        if let Some(place) = wanted.get_mut(decode(name).trim_ascii()) {
            place.get_or_insert(id);
        }
    }
    let mut left = MAX_REFERENCES.1;
    for (number, own, ids) in references.iter().take(MAX_REFERENCES.0) {
        for at in ids.iter().filter_map(|id| *wanted.get(id.as_str())?) {
            // What is inside it is its already.
            if tree.inside(*own).contains(&at) || at == *own {
                continue;
            }
            let first = properties.partition_point(|property| property.id < at);
            for property in properties[first..].iter().take_while(|property| property.id < tree.end(at)) {
                if left == 0 {
                    return;
                }
                left -= 1;
                // Not those of a thing inside the element.
                if property.id == at || property.within < at {
                    add(&mut found.items[*number], &property.names, &property.worth);
                }
            }
        }
    }
}

fn add(item: &mut Item, names: &[String], worth: &Worth) {
    item.properties.extend(names.iter().map(|name| (name.clone(), worth.clone())));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::extract::Limits;
    use serde_json::{Value, json};

    fn of(html: &str) -> Vec<Value> {
        let tree = Tree::parse(html, &Limits::default());
        read(&tree, Url::parse("https://a.example/x/").ok().as_ref()).json()
    }

    #[test]
    fn things_in_things() {
        let html = "<div itemscope itemtype='https://schema.org/Product https://b.example/T' itemid=/p/1>\
            <h1 itemprop='name title'>A  <b>B</b></h1><div itemprop=offers itemscope itemtype=https://schema.org/Offer>\
            <meta itemprop=price content=12.50><link itemprop=availability href=https://schema.org/InStock></div>\
            <span itemprop=name>C</span></div><p itemprop=lost>x</p>";
        let expected = json!([{
            "type": ["https://schema.org/Product", "https://b.example/T"], "id": "https://a.example/p/1",
            "properties": {
                "name": ["A B", "C"], "title": ["A B"],
                "offers": [{"type": ["https://schema.org/Offer"],
                    "properties": {"price": ["12.50"], "availability": ["https://schema.org/InStock"]}}],
            }
        }]);
        assert_eq!(Value::Array(of(html)), expected);
    }

    #[test]
    fn values_by_the_kind_of_element() {
        let html = "<div itemscope><img itemprop=a src=i.png><a itemprop=b href='?q=1#f'>t</a><time itemprop=c datetime=2020-01-02>x\
            </time><time itemprop=d>3 May</time><data itemprop=e value=7>seven</data><object itemprop=f data=/o></object>\
            <meter itemprop=g value=.5>half</meter><a itemprop=h>no address</a><textarea itemprop=i>t &amp; u</textarea></div>";
        let expected = json!({
            "a": ["https://a.example/x/i.png"], "b": ["https://a.example/x/?q=1#f"], "c": ["2020-01-02"], "d": ["3 May"],
            "e": ["7"], "f": ["https://a.example/o"], "g": [".5"], "h": [""], "i": ["t & u"],
        });
        assert_eq!(of(html)[0]["properties"], expected);
    }

    #[test]
    fn properties_that_stand_elsewhere() {
        let html = "<p id=n itemprop=name>A</p><div itemscope itemref='n m none'></div>\
            <div id=m><i itemprop=b>1</i><div itemscope itemprop=in><i itemprop=c>2</i></div></div>";
        let expected = json!({"name": ["A"], "b": ["1"], "in": [{"properties": {"c": ["2"]}}]});
        assert_eq!(of(html), [json!({"properties": expected})]);
    }

    #[test]
    fn a_thing_in_itself_ends() {
        let html = "<div itemscope itemref=b></div><div id=b itemprop=x itemscope itemref=c></div>\
            <div id=c itemprop=y itemscope itemref=b></div>";
        let found = of(html);
        assert_eq!(found, [json!({"properties": {"x": [{"properties": {"y": [{"properties": {}}]}}]}})]);
    }

    #[test]
    fn references_do_not_multiply_without_bound() {
        let links: String = (0..60)
            .map(|i| format!("<div id=a{i} itemprop=p itemscope itemref='a{} b{0}'></div><div id=b{i} itemprop=q itemscope itemref=a{0}></div>", i + 1))
            .collect();
        let found = of(&format!("<div itemscope itemref=a0></div>{links}"));
        assert!(Value::Array(found).to_string().len() < 2_000_000);
    }
}
