//! What became of a URL: every event of every task that touched it.

use std::collections::HashSet;

use url::Url;

use super::Tail;
use crate::record::{StatusEvent, codec};
use crate::topology::{Names, STATUS};
use crate::transport::{Result, Transport};

/// Events of all tasks that touched the URL (also as a redirect's target), oldest first. Reads the topic twice, so that
/// only the events asked for are held.
pub async fn explain(transport: &dyn Transport, names: &Names, url: &str) -> Result<Vec<StatusEvent>> {
    let wanted = spelled(url);
    let topic = names.full(STATUS);
    let mut tasks = HashSet::new();
    each(transport, &topic, |e| {
        if spelled(&e.url) == wanted {
            tasks.insert(e.task);
        }
    })
    .await?;
    let mut events = vec![];
    if !tasks.is_empty() {
        each(transport, &topic, |e| {
            if tasks.contains(&e.task) {
                events.push(e);
            }
        })
        .await?;
    }
    events.sort_by(|a, b| (&a.task, a.at).cmp(&(&b.task, b.at)));
    Ok(events)
}

/// Calls `f` for each status event there is.
pub async fn each(transport: &dyn Transport, topic: &str, mut f: impl FnMut(StatusEvent)) -> Result<()> {
    let mut tail = Tail::from_start(transport, topic).await?;
    loop {
        let records = tail.poll(transport).await?;
        if records.is_empty() {
            return Ok(());
        }
        records.iter().filter_map(|r| codec::decode::<StatusEvent>(&r.value).ok()).for_each(&mut f);
    }
}

/// One spelling for URLs that are the same.
fn spelled(url: &str) -> String {
    let text = url.trim();
    Url::parse(text).or_else(|_| Url::parse(&format!("http://{text}"))).map_or_else(
        |_| text.to_owned(),
        |mut u| {
            u.set_fragment(None);
            u.to_string()
        },
    )
}
