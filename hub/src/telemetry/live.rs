//! The changes of what a caller may see, for `/api/v1/events`.
//!
//! Rows and publishers come from the registry's list of changes, a page at a time. Tasks and totals are few: the JSON texts
//! that the caller got are kept and compared.

use std::collections::{BTreeMap, HashMap};
use std::fmt::Write as _;
use std::sync::Arc;

use serde::Serialize;
use wire::json::quote;

use crate::hub::Hub;
use crate::model::Caller;
use crate::registry::{FeedCursor, LiveLlm};
use crate::store::ListCursor;

/// Most tasks that a watcher gets, running ones first. The totals count all.
const MAX_TASKS: usize = 100;
/// Rows and publishers in one update: a third of a millisecond's work.
const PAGE: usize = 128;

/// Objects by key, each as JSON; `null` for a removed one.
type Section = BTreeMap<String, String>;

#[derive(Debug, Default, PartialEq)]
struct Sections(BTreeMap<&'static str, Section>);

/// The state of one caller's stream of events: what the caller got so far.
#[derive(Debug)]
pub(crate) struct Watcher {
    caller: Caller,
    seen: FeedCursor,
    /// Tasks and totals, and the versions of the tables that they come from.
    tasks: Sections,
    versions: Option<(u64, u64)>,
    /// Tokens a second of rows with a rate above zero.
    rates: Arc<HashMap<String, f64>>,
}

/// The changes since the last poll.
#[derive(Debug)]
pub(crate) struct WatcherUpdate {
    /// `{"section": {"key": object}}`, `null` for a removed object; `None` if nothing changed.
    pub(crate) text: Option<String>,
    /// Whether the text replaces all that was sent before.
    pub(crate) is_snapshot: bool,
    /// Whether a further page can be polled now.
    pub(crate) more: bool,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Llm {
    #[serde(flatten)]
    live: LiveLlm,
    /// Whether a wake task of the row is under way.
    waking: bool,
    tokens_per_second: f64,
}

impl Watcher {
    pub(crate) fn new(caller: Caller) -> Self {
        Self {
            caller,
            seen: FeedCursor::default(),
            tasks: Sections::default(),
            versions: None,
            rates: Arc::default(),
        }
    }
}

impl Hub {
    /// Returns what changed for `watcher` since its last poll. The registry and the lists of tasks return only what its caller
    /// may see.
    pub(crate) fn poll_changes(&self, watcher: &mut Watcher) -> WatcherUpdate {
        let caller = &watcher.caller;
        let rates = self.watch.rates();
        let news = {
            let registry = self.registry.lock();
            let mut news = registry.feed_page(caller, &mut watcher.seen, PAGE);
            let now = rates.keys().filter(|name| watcher.rates.get(*name) != rates.get(*name));
            let gone = watcher.rates.keys().filter(|name| !rates.contains_key(*name));
            let changed: Vec<String> = now.chain(gone).take(PAGE + 1).cloned().collect();
            for name in changed.iter().take(PAGE) {
                if let Some(live) = registry.live_llm(caller, name) {
                    news.llms.insert(name.clone(), Some(live));
                }
            }
            if changed.len() <= PAGE {
                watcher.rates = rates.clone();
            } else {
                // The next poll has the others.
                let known = Arc::make_mut(&mut watcher.rates);
                for name in changed.into_iter().take(PAGE) {
                    match rates.get(&name) {
                        Some(rate) => drop(known.insert(name, *rate)),
                        None => drop(known.remove(&name)),
                    }
                }
            }
            news
        };
        let text = |object: Option<String>| object.unwrap_or_else(|| "null".to_owned());
        let llms = news.llms.into_iter().map(|(name, live)| {
            let llm = live.map(|live| Llm {
                waking: self.wakes.lock().is_waking(&name, live.row.provider_session_id.as_deref()),
                live,
                tokens_per_second: rates.get(&name).copied().unwrap_or(0.0),
            });
            (name, text(llm.and_then(|llm| serde_json::to_string(&llm).ok())))
        });
        let publishers = news.sessions.into_iter().map(|(id, session)| {
            (id, text(session.and_then(|session| serde_json::to_string(&session).ok())))
        });
        let mut changes = vec![("llms", llms.collect::<Section>()), ("publishers", publishers.collect())];
        if news.reset {
            watcher.tasks = Sections::default();
            watcher.versions = None;
        }
        let anew = news.reset;
        let versions = Some((self.tasks.version(), self.watch.version(&watcher.caller)));
        if (anew || !news.more) && watcher.versions != versions {
            watcher.versions = versions;
            let tasks = self.task_sections(&watcher.caller);
            changes.extend(tasks.diff(&watcher.tasks));
            watcher.tasks = tasks;
        }
        let text = to_json(&changes);
        WatcherUpdate { is_snapshot: anew && text.is_some(), text, more: news.more }
    }

    /// The newest tasks that `caller` may see, and the totals of all of them.
    fn task_sections(&self, caller: &Caller) -> Sections {
        let mut tasks = self.tasks.list(caller, &ListCursor::end(), MAX_TASKS);
        tasks.extend(self.watch.live_tasks(caller, MAX_TASKS));
        // Running and waiting tasks first, then ended ones; newest first.
        tasks.sort_by_key(|task| (task.status.is_terminal(), std::cmp::Reverse(task.created_at)));
        let totals = self.tasks.counts(caller).plus(self.watch.counts(caller));
        let tasks = tasks.iter().take(MAX_TASKS).map(|task| (task.id.clone(), task));
        let mut sections = Sections::default();
        sections.put("tasks", tasks);
        sections.put("totals", [("tasks".to_owned(), totals)].into_iter());
        sections
    }
}

/// The non-empty sections as one JSON object; `None` if there is none.
fn to_json(sections: &[(&'static str, Section)]) -> Option<String> {
    let mut out = String::new();
    for (name, objects) in sections.iter().filter(|(_, objects)| !objects.is_empty()) {
        let _ = write!(out, "{}{}:", if out.is_empty() { '{' } else { ',' }, quote(name));
        for (index, (key, text)) in objects.iter().enumerate() {
            // Writing to a String does not fail.
            let _ = write!(out, "{}{}:{text}", if index == 0 { '{' } else { ',' }, quote(key));
        }
        out.push('}');
    }
    (!out.is_empty()).then(|| out + "}")
}

impl Sections {
    fn put<T: Serialize>(&mut self, section: &'static str, objects: impl Iterator<Item = (String, T)>) {
        let texts = objects.filter_map(|(key, object)| Some((key, serde_json::to_string(&object).ok()?)));
        self.0.insert(section, texts.collect());
    }

    /// The changes from `before` to `self`, by section.
    fn diff(&self, before: &Self) -> Vec<(&'static str, Section)> {
        let none = Section::new();
        let mut changes = Vec::new();
        for (name, now) in &self.0 {
            let then = before.0.get(name).unwrap_or(&none);
            let gone = then.keys().filter(|key| !now.contains_key(*key));
            let new = now.iter().filter(|(key, text)| then.get(*key) != Some(text));
            let removed = gone.map(|key| (key.clone(), "null".to_owned()));
            changes
                .push((*name, removed.chain(new.map(|(key, text)| (key.clone(), text.clone()))).collect()));
        }
        changes
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::model::Role;
    use crate::tests::support::{ADMIN, hub};

    fn sections(llms: &[(&str, &str)]) -> Sections {
        let mut sections = Sections::default();
        sections.put("llms", llms.iter().map(|(key, value)| ((*key).to_owned(), *value)));
        sections.put("tasks", std::iter::empty::<(String, ())>());
        sections
    }

    #[test]
    fn the_first_poll_returns_everything_and_a_later_one_only_changes() {
        let first = sections(&[("a", "1"), ("b", "2")]);
        assert_eq!(to_json(&first.diff(&Sections::default())).unwrap(), r#"{"llms":{"a":"1","b":"2"}}"#);
        assert_eq!(to_json(&first.diff(&first)), None);
        let second = sections(&[("b", "3"), ("c", "4")]);
        assert_eq!(to_json(&second.diff(&first)).unwrap(), r#"{"llms":{"a":null,"b":"3","c":"4"}}"#);
    }

    /// A27: the tasks are read for a watcher only after one of them has changed.
    #[actix_rt::test]
    async fn unchanged_tasks_are_not_read_again() {
        let hub = hub().await;
        let provider = json!({ "name": "a", "type": "openai", "model": "m" });
        assert_eq!(hub.register(ADMIN, &json!({ "providers": [provider] })).await.0, 201);
        let caller = Caller {
            user: "admin".into(),
            role: Role::Admin,
            token_id: "t".into(),
            models: crate::model::AllowedModels::default(),
            secret: None,
        };
        let mut watcher = Watcher::new(caller);
        while hub.core().poll_changes(&mut watcher).more {}
        // Against none before, tasks and totals that are read again are changes.
        watcher.tasks = Sections::default();
        assert_eq!(hub.core().poll_changes(&mut watcher).text, None);
        let task = hub.enqueue(ADMIN, "a", false).await;
        let text = hub.core().poll_changes(&mut watcher).text.unwrap();
        assert!(text.contains(&task), "{text}");
        hub.stop().await;
    }

    #[test]
    fn quotes_in_a_name_are_escaped() {
        let json = to_json(&sections(&[("a\":1,\"b", "x")]).diff(&Sections::default())).unwrap();
        let value: serde_json::Value = serde_json::from_str(&json).unwrap();
        assert_eq!(value["llms"]["a\":1,\"b"], "x");
    }
}
