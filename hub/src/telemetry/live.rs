//! The hub as one caller sees it now, and what changed since the last look.
//!
//! Rows and publishers come from the table's own list of changes, a page at a time. Tasks and totals, of which there are
//! few, are held as the JSON text that the caller got: a change is a difference of texts.

use std::collections::{BTreeMap, HashMap};
use std::fmt::Write as _;
use std::sync::Arc;

use serde::Serialize;
use wire::json::quote;

use crate::hub::Hub;
use crate::model::Caller;
use crate::registry::{FeedCursor, LiveLlm};
use crate::store::ListCursor;

/// Most tasks in a view, those that run first: more than anybody reads. The totals count all.
const TASKS: usize = 100;
/// Rows and publishers that are told at once: a third of a millisecond's work.
const PAGE: usize = 128;

/// Things by key, each as JSON.
type Section = BTreeMap<String, String>;

/// Some of what a caller sees, in sections.
#[derive(Debug, Default, PartialEq)]
struct View {
    sections: BTreeMap<&'static str, Section>,
}

/// What one who watches was told so far.
#[derive(Debug)]
pub struct Watcher {
    caller: Caller,
    seen: FeedCursor,
    /// Tasks and totals, and the versions of what they were made of.
    view: View,
    versions: Option<(u64, u64)>,
    /// Tokens a second of the rows that have some.
    rates: Arc<HashMap<String, f64>>,
}

/// What one who watches is told.
#[derive(Debug)]
pub struct Told {
    /// `{"section": {"key": thing}}`, `null` for a thing that is gone; nothing if nothing changed.
    pub text: Option<String>,
    /// Whether what was told before means nothing any more.
    pub anew: bool,
    /// Whether there is more to tell at once.
    pub more: bool,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Llm {
    #[serde(flatten)]
    live: LiveLlm,
    /// Whether a wake task of its is under way.
    waking: bool,
    tokens_per_second: f64,
}

impl Watcher {
    /// One who was told nothing yet.
    pub fn new(caller: Caller) -> Self {
        Self {
            caller,
            seen: FeedCursor::default(),
            view: View::default(),
            versions: None,
            rates: Arc::default(),
        }
    }
}

impl Hub {
    /// What is new for `watcher`. All of it comes through the one visibility rule: rows and publishers from the registry's
    /// own views, tasks from the list that asks the same question.
    pub(crate) fn look(&self, watcher: &mut Watcher) -> Told {
        let caller = &watcher.caller;
        let rates = self.watch.rates();
        let news = {
            let registry = self.registry.lock();
            let mut news = registry.feed_page(caller, &mut watcher.seen, PAGE);
            let now = rates.iter().filter(|(name, rate)| watcher.rates.get(*name) != Some(rate));
            let gone = watcher.rates.iter().filter(|(name, _)| !rates.contains_key(*name));
            for (name, _) in now.chain(gone) {
                if let Some(live) = registry.live_llm(caller, name) {
                    news.llms.insert(name.clone(), Some(live));
                }
            }
            news
        };
        let text = |thing: Option<String>| thing.unwrap_or_else(|| "null".to_owned());
        let llms = news.llms.into_iter().map(|(name, live)| {
            let llm = live.map(|live| Llm {
                live,
                waking: self.wakes.lock().is_waking(&name),
                tokens_per_second: rates.get(&name).copied().unwrap_or(0.0),
            });
            (name, text(llm.and_then(|llm| serde_json::to_string(&llm).ok())))
        });
        let publishers = news.sessions.into_iter().map(|(id, session)| {
            (id, text(session.and_then(|session| serde_json::to_string(&session).ok())))
        });
        let mut changes = vec![("llms", llms.collect::<Section>()), ("publishers", publishers.collect())];
        if news.reset {
            watcher.view = View::default();
            watcher.versions = None;
        }
        let mut anew = news.reset;
        let versions = Some((self.tasks.version(), self.watch.version(&watcher.caller)));
        if (anew || !news.more) && watcher.versions != versions {
            watcher.versions = versions;
            let view = self.tasks_of(&watcher.caller);
            changes.extend(view.since(&watcher.view));
            watcher.view = view;
        }
        watcher.rates = rates;
        let text = written(&changes);
        anew &= text.is_some();
        Told { text, anew, more: news.more }
    }

    /// The tasks that `caller` sees, and how many there are.
    fn tasks_of(&self, caller: &Caller) -> View {
        let mut tasks = self.tasks.list(caller, &ListCursor::end(), TASKS);
        tasks.extend(self.watch.live_tasks(caller, TASKS));
        // What runs or waits is seen first; what ended follows, newest first.
        tasks.sort_by_key(|task| (task.status.is_terminal(), std::cmp::Reverse(task.created_at)));
        let totals = self.tasks.counts(caller).plus(self.watch.counts(caller));
        let tasks = tasks.iter().take(TASKS).map(|task| (task.id.clone(), task));
        let mut view = View::default();
        view.put("tasks", tasks);
        view.put("totals", [("tasks".to_owned(), totals)].into_iter());
        view
    }
}

/// Sections with something in them as one JSON object; nothing if there is none.
fn written(sections: &[(&'static str, Section)]) -> Option<String> {
    let mut out = String::new();
    for (name, things) in sections.iter().filter(|(_, things)| !things.is_empty()) {
        let _ = write!(out, "{}{}:", if out.is_empty() { '{' } else { ',' }, quote(name));
        for (index, (key, text)) in things.iter().enumerate() {
            // Writing to a String does not fail.
            let _ = write!(out, "{}{}:{text}", if index == 0 { '{' } else { ',' }, quote(key));
        }
        out.push('}');
    }
    (!out.is_empty()).then(|| out + "}")
}

impl View {
    fn put<T: Serialize>(&mut self, section: &'static str, things: impl Iterator<Item = (String, T)>) {
        let texts = things.filter_map(|(key, thing)| Some((key, serde_json::to_string(&thing).ok()?)));
        self.sections.insert(section, texts.collect());
    }

    /// What somebody has to be told who knows `before`, by section.
    fn since(&self, before: &Self) -> Vec<(&'static str, Section)> {
        let none = Section::new();
        let mut changes = Vec::new();
        for (name, now) in &self.sections {
            let then = before.sections.get(name).unwrap_or(&none);
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
    use super::*;

    fn view(things: &[(&str, &str)]) -> View {
        let mut view = View::default();
        view.put("llms", things.iter().map(|(key, value)| ((*key).to_owned(), *value)));
        view.put("tasks", std::iter::empty::<(String, ())>());
        view
    }

    #[test]
    fn the_first_look_tells_everything_and_a_second_one_only_what_changed() {
        let first = view(&[("a", "1"), ("b", "2")]);
        assert_eq!(written(&first.since(&View::default())).unwrap(), r#"{"llms":{"a":"1","b":"2"}}"#);
        assert_eq!(written(&first.since(&first)), None);
        let second = view(&[("b", "3"), ("c", "4")]);
        assert_eq!(written(&second.since(&first)).unwrap(), r#"{"llms":{"a":null,"b":"3","c":"4"}}"#);
    }

    #[test]
    fn a_name_with_quotes_cannot_break_out_of_its_key() {
        let told = written(&view(&[("a\":1,\"b", "x")]).since(&View::default())).unwrap();
        let told: serde_json::Value = serde_json::from_str(&told).unwrap();
        assert_eq!(told["llms"]["a\":1,\"b"], "x");
    }
}
