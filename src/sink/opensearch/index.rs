//! Template, index and alias as they should be against those that are there: look, plan (pure), apply.
//!
//! What others have set on them stays set. What can only be had by indexing everything anew is refused, with the way there.

use serde_json::{Map, Value as Json, json};
use tracing::warn;

use super::client::{Answer, Away, Client, Method};
use super::schema::Schema;

/// Why something of the index cannot be seen or done, in one sentence.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IndexError {
    /// The cluster does not answer, or not now.
    #[error(transparent)]
    Away(#[from] Away),
    /// It says no.
    #[error("{0}")]
    Refused(String),
}

/// What the cluster has.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Found {
    /// Body of the template, if there is one.
    pub template: Option<Json>,
    /// Indices by name, as `GET /<index>` shows them: those behind the alias, or the first one without it.
    pub indices: Map<String, Json>,
}

/// Something to do.
#[derive(Debug, Clone, PartialEq)]
pub enum Action {
    /// Make the template, or change what differs in it.
    PutTemplate { name: String, body: Json, new: bool },
    /// Make the first index, with its alias.
    CreateIndex { name: String, body: Json },
    /// Put the alias on the first index.
    AddAlias { index: String, alias: String },
    /// Make fields known to an index. Documents that are there are found by them when they are written again.
    AddFields { index: String, fields: Map<String, Json> },
}

/// Something that is left as it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// Index or alias.
    pub name: String,
    pub why: String,
    /// What to do instead.
    pub instead: String,
}

/// What is to be done, in this order, and what is not.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Plan {
    pub actions: Vec<Action>,
    pub refused: Vec<Refusal>,
}

impl Action {
    /// What it is done to.
    pub fn name(&self) -> &str {
        match self {
            Action::PutTemplate { name, .. } | Action::CreateIndex { name, .. } => name,
            Action::AddAlias { index, .. } | Action::AddFields { index, .. } => index,
        }
    }
}

/// Asks the cluster.
pub async fn look(client: &Client, schema: &Schema) -> Result<Found, IndexError> {
    let template = get(client, &format!("/_index_template/{}", schema.alias)).await?;
    let template = template.map(|t| t["index_templates"][0]["index_template"].clone());
    let mut indices = get(client, &format!("/{}", schema.alias)).await?;
    if indices.is_none() {
        indices = get(client, &format!("/{}", schema.index)).await?;
    }
    let indices = match indices {
        Some(Json::Object(indices)) => indices,
        _ => Map::new(),
    };
    Ok(Found { template, indices })
}

/// None if it is not there.
pub(super) async fn get(client: &Client, path: &str) -> Result<Option<Json>, IndexError> {
    let answer = client.json(Method::Get, path, None).await?;
    match answer.status {
        404 => Ok(None),
        _ => accepted(&answer, &format!("to show {path}")).map(|()| Some(answer.json())),
    }
}

pub(super) fn accepted(answer: &Answer, what: &str) -> Result<(), IndexError> {
    if answer.is_success() { Ok(()) } else { Err(IndexError::Refused(answer.said(what))) }
}

/// What it takes from `found` to what `schema` says.
pub fn plan(schema: &Schema, found: &Found) -> Plan {
    let mut plan = Plan::default();
    let alias = &schema.alias;
    let wanted = match &found.template {
        None => schema.template(),
        Some(there) => over(there, &schema.template()),
    };
    if found.template.as_ref() != Some(&wanted) {
        let new = found.template.is_none();
        plan.actions.push(Action::PutTemplate { name: alias.clone(), body: wanted, new });
    }
    if found.indices.contains_key(alias) {
        plan.refused.push(Refusal {
            name: alias.clone(),
            why: "it is an index, where an alias should be".into(),
            instead: format!(
                "POST /{alias}/_clone/{}-old, DELETE /{alias}, apply again, and _reindex it",
                schema.alias
            ),
        });
        return plan;
    }
    if found.indices.is_empty() {
        plan.actions.push(Action::CreateIndex { name: schema.index.clone(), body: schema.first_index() });
    }
    for (name, index) in &found.indices {
        if index["aliases"][alias].is_null() {
            plan.actions.push(Action::AddAlias { index: name.clone(), alias: alias.clone() });
        }
        fields(schema, name, index, &mut plan);
    }
    let writes = |index: &&Json| index["aliases"][alias]["is_write_index"].as_bool();
    let told: Vec<_> = found.indices.values().map(|index| writes(&index)).collect();
    if told.len() > 1 && !told.contains(&Some(true)) || told == [Some(false)] {
        plan.refused.push(Refusal {
            name: alias.clone(),
            why: "none of its indices is the one to write to".into(),
            instead: "POST /_aliases with is_write_index: true for one of them".into(),
        });
    }
    plan
}

/// Fields that an index lacks or has otherwise.
fn fields(schema: &Schema, name: &str, index: &Json, plan: &mut Plan) {
    let (there, wanted) = (&index["mappings"], schema.mappings());
    let settings = &index["settings"]["index"];
    let (mut new, mut wrong) = (Map::new(), vec![]);
    let mut compare = |field: &str, wanted: &Json, there: &Json, whole: (&str, Json)| match there {
        // A setting that an index has from its beginning.
        Json::Null if wanted["type"] == "knn_vector" && settings["knn"] != "true" => {
            wrong.push(format!("{field} (index.knn is off)"));
        }
        Json::Null if known(wanted, &settings["analysis"]) => merge(&mut new, whole.0, whole.1),
        Json::Null => wrong.push(format!("{field} (its analyzer is missing)")),
        there if covers(there, wanted) => {}
        there => wrong.push(format!("{field} ({} → {})", kind(there), kind(wanted))),
    };
    if let Json::Object(properties) = &wanted["properties"] {
        for (field, wanted) in properties {
            let there = &there["properties"][field];
            match &wanted["properties"] {
                Json::Object(below) => {
                    for (inner, wanted) in below {
                        let whole = json!({"properties": {inner: wanted}});
                        compare(&format!("{field}.{inner}"), wanted, &there["properties"][inner], (field, whole));
                    }
                }
                _ => compare(field, wanted, there, (field, wanted.clone())),
            }
        }
    }
    if !new.is_empty() {
        plan.actions.push(Action::AddFields { index: name.to_owned(), fields: new });
    }
    if !wrong.is_empty() {
        plan.refused.push(Refusal {
            name: name.to_owned(),
            why: format!("fields that are there cannot be changed: {}", wrong.join(", ")),
            instead: "`tidemill index reindex`, which copies it into a new one and moves the alias".into(),
        });
    }
}

/// Whether an index, as `GET /<index>` shows it, has the fields and the shards that the schema says.
pub(super) fn as_wanted(schema: &Schema, name: &str, index: &Json) -> bool {
    let mut plan = Plan::default();
    fields(schema, name, index, &mut plan);
    let shards = "/settings/index/number_of_shards";
    plan == Plan::default() && index.pointer(shards) == schema.first_index().pointer(shards)
}

/// Puts a field among others; one that has fields below it joins theirs.
fn merge(fields: &mut Map<String, Json>, name: &str, field: Json) {
    let merged = over(fields.get(name).unwrap_or(&Json::Null), &field);
    fields.insert(name.to_owned(), merged);
}

/// Whether the index has the analyzer or normalizer that a field speaks of.
fn known(field: &Json, analysis: &Json) -> bool {
    let there = |name: &str, of: &str| field[name].as_str().is_none_or(|n| !analysis[of][n].is_null());
    let inner = field["fields"].as_object().is_none_or(|fields| fields.values().all(|f| known(f, analysis)));
    inner && there("analyzer", "analyzer") && there("normalizer", "normalizer")
}

/// Whether all of `wanted` is there; more may be.
fn covers(there: &Json, wanted: &Json) -> bool {
    match (there, wanted) {
        (Json::Object(there), Json::Object(wanted)) => {
            wanted.iter().all(|(k, w)| there.get(k).is_some_and(|t| covers(t, w)))
        }
        _ => there == wanted,
    }
}

/// A field in a few words.
fn kind(field: &Json) -> String {
    let words = ["type", "analyzer", "normalizer", "format"].map(|name| field[name].as_str().unwrap_or_default());
    words.iter().filter(|w| !w.is_empty()).copied().collect::<Vec<_>>().join(" ")
}

/// Lays one object over another: objects are merged, anything else is replaced.
fn over(below: &Json, above: &Json) -> Json {
    match (below, above) {
        (Json::Object(below), Json::Object(above)) => {
            let mut merged = below.clone();
            for (key, value) in above {
                let under = below.get(key).unwrap_or(&Json::Null);
                // How many shards and copies a cluster can bear is for those to say who look after it.
                let theirs = matches!(key.as_str(), "number_of_shards" | "auto_expand_replicas" | "priority");
                if !theirs || under.is_null() {
                    merged.insert(key.clone(), over(under, value));
                }
            }
            Json::Object(merged)
        }
        _ => above.clone(),
    }
}

/// Does one thing.
pub async fn apply(client: &Client, action: &Action) -> Result<(), IndexError> {
    let (method, path, body, what) = match action {
        Action::PutTemplate { name, body, .. } => {
            (Method::Put, format!("/_index_template/{name}"), body.clone(), format!("the index template {name}"))
        }
        Action::CreateIndex { name, body } => {
            (Method::Put, format!("/{name}"), body.clone(), format!("the index {name}"))
        }
        Action::AddAlias { index, alias } => (
            Method::Post,
            "/_aliases".to_owned(),
            json!({"actions": [{"add": {"index": index, "alias": alias, "is_write_index": true}}]}),
            format!("the alias {alias}"),
        ),
        Action::AddFields { index, fields } => (
            Method::Put,
            format!("/{index}/_mapping"),
            json!({"properties": fields}),
            format!("more fields of {index}"),
        ),
    };
    let answer = client.json(method, &path, Some(&body)).await?;
    // Another process was first.
    if answer.complaint().kind == "resource_already_exists_exception" {
        return Ok(());
    }
    accepted(&answer, &what)
}

/// Makes what is missing, and changes nothing that is there. Fields too: a tombstone in an index that does not know `gone`
/// would be found as a document.
pub async fn make(client: &Client, schema: &Schema) -> Result<(), IndexError> {
    let found = look(client, schema).await?;
    let Plan { actions, refused } = plan(schema, &found);
    if let Some(alias) = refused.iter().find(|r| r.name == schema.alias) {
        return Err(IndexError::Refused(format!("{}: {}; instead: {}", alias.name, alias.why, alias.instead)));
    }
    let (missing, differs): (Vec<_>, Vec<_>) = actions.into_iter().partition(|a| match a {
        Action::PutTemplate { new, .. } => *new,
        Action::CreateIndex { .. } | Action::AddAlias { .. } | Action::AddFields { .. } => true,
    });
    for action in missing {
        match apply(client, &action).await {
            // Documents have their place without it: an index that is only read takes no field.
            Err(e) if matches!(action, Action::AddFields { .. }) => {
                warn!(index = action.name(), error = %e, "no field added")
            }
            done => done?,
        }
    }
    if !differs.is_empty() || !refused.is_empty() {
        warn!(alias = %schema.alias, "the index is not as it should be; `tidemill index plan` says where");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn schema() -> Schema {
        Schema::new("t.", 1).unwrap()
    }

    /// As the server shows what was made from the schema.
    fn as_made() -> Found {
        let s = schema();
        let mut index = s.first_index();
        index["settings"]["index"]["uuid"] = "x".into();
        Found { template: Some(s.template()), indices: [(s.index, index)].into_iter().collect() }
    }

    #[test]
    fn nothing_is_there_and_all_is_made_once() {
        let plan = plan(&schema(), &Found::default());
        let [Action::PutTemplate { new: true, .. }, Action::CreateIndex { name, .. }] = &plan.actions[..] else {
            panic!("{plan:?}")
        };
        assert_eq!((&**name, plan.refused.len()), ("t.documents-000001", 0));
        assert_eq!(super::plan(&schema(), &as_made()), Plan::default());
    }

    #[test]
    fn what_others_have_set_stays_and_what_differs_is_set() {
        let mut found = as_made();
        let template = found.template.as_mut().unwrap();
        template["priority"] = 7.into();
        template["template"]["settings"]["index"]["number_of_shards"] = "5".into();
        template["template"]["settings"]["index"]["refresh_interval"] = "30s".into();
        template["template"]["mappings"]["properties"]["mine"] = json!({"type": "keyword"});
        assert_eq!(plan(&schema(), &found), Plan::default());
        found.template.as_mut().unwrap()["template"]["mappings"]["properties"]["date"] = json!({"type": "keyword"});
        let plan = plan(&schema(), &found);
        let [Action::PutTemplate { new: false, body, .. }] = &plan.actions[..] else { panic!("{plan:?}") };
        assert_eq!(body["template"]["mappings"]["properties"]["date"]["type"], "date");
        assert_eq!(body["template"]["settings"]["index"]["refresh_interval"], "30s");
        assert_eq!(body["priority"], 7);
    }

    #[test]
    fn fields_are_added_and_never_changed() {
        let mut found = as_made();
        let properties = &mut found.indices["t.documents-000001"]["mappings"]["properties"];
        properties.as_object_mut().unwrap().remove("words");
        properties["stemmed"]["properties"].as_object_mut().unwrap().remove("pt");
        properties["date"] = json!({"type": "keyword"});
        let plan = plan(&schema(), &found);
        let [Action::AddFields { fields, .. }] = &plan.actions[..] else { panic!("{plan:?}") };
        assert_eq!(fields.keys().collect::<Vec<_>>(), ["stemmed", "words"]);
        assert_eq!(fields["stemmed"], json!({"properties": {"pt": {"type": "text", "analyzer": "stemmed_pt"}}}));
        assert!(plan.refused[0].why.contains("date (keyword → date strict_date)"), "{:?}", plan.refused);
    }

    #[test]
    fn an_alias_that_cannot_be_written_to_is_refused() {
        let mut found = as_made();
        let index = found.indices.remove("t.documents-000001").unwrap();
        let alone =
            Found { indices: [("t.documents".to_owned(), index.clone())].into_iter().collect(), ..found.clone() };
        assert!(plan(&schema(), &alone).refused[0].why.contains("where an alias should be"));
        let mut read = index.clone();
        read["aliases"]["t.documents"] = json!({});
        let two = [("t.documents-000001".to_owned(), read.clone()), ("t.documents-000002".to_owned(), read.clone())];
        let two = Found { indices: two.into_iter().collect(), ..found.clone() };
        assert!(plan(&schema(), &two).refused[0].why.contains("write"));
        let one = Found { indices: [("t.documents-000001".to_owned(), read)].into_iter().collect(), ..found.clone() };
        assert_eq!(plan(&schema(), &one), Plan::default());
        let mut bare = index;
        bare["aliases"] = json!({});
        let bare = Found { indices: [("t.documents-000001".to_owned(), bare)].into_iter().collect(), ..found };
        assert!(matches!(&plan(&schema(), &bare).actions[..], [Action::AddAlias { .. }]));
    }
}
