//! The hub as one caller sees it now, and what changed since the last look.
//!
//! A view holds each thing as the JSON text that the caller gets, so that a change is a difference of texts: nothing
//! has to announce itself, and nothing can be forgotten.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde::Serialize;
use wire::json::quote;

use crate::core::Hub;
use crate::model::Caller;
use crate::registry::LiveLlm;
use crate::store::ListCursor;

/// Most tasks in a view, those that run first: more than anybody reads. The totals count all.
const TASKS: usize = 100;

/// Things by key, each as JSON.
type Section = BTreeMap<String, String>;

/// What a caller sees. The empty view is that of somebody who has seen nothing yet.
#[derive(Debug, Default, PartialEq)]
pub struct View {
    sections: BTreeMap<&'static str, Section>,
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

impl Hub {
    /// What `caller` sees now. All of it comes through the one visibility rule: rows and publishers from the registry's
    /// own views, tasks from the list that asks the same question.
    pub fn view(&self, caller: &Caller) -> View {
        let (llms, publishers) = {
            let registry = self.registry.lock();
            (registry.live_llms(caller).collect::<Vec<_>>(), registry.sessions(caller))
        };
        let llms = llms.into_iter().map(|live| {
            let name = live.row.name.clone();
            let waking = self.wakes.lock().is_waking(&name);
            let tokens_per_second = self.watch.tokens_per_second(&name);
            (name, Llm { live, waking, tokens_per_second })
        });
        let publishers = publishers.iter().map(|publisher| (publisher.id.clone(), publisher));
        let mut tasks = self.queue.list(caller, &ListCursor::end(), TASKS);
        tasks.extend(self.watch.live_tasks(caller, TASKS));
        // What runs or waits is seen first; what ended follows, newest first.
        tasks.sort_by_key(|task| (task.status.is_terminal(), std::cmp::Reverse(task.created_at)));
        let totals = self.queue.counts(caller).plus(self.watch.counts(caller));
        let tasks = tasks.iter().take(TASKS).map(|task| (task.id.clone(), task));
        let mut view = View::default();
        view.put("llms", llms);
        view.put("publishers", publishers);
        view.put("tasks", tasks);
        view.put("totals", [("tasks".to_owned(), totals)].into_iter());
        view
    }
}

impl View {
    fn put<T: Serialize>(&mut self, section: &'static str, things: impl Iterator<Item = (String, T)>) {
        let texts = things.filter_map(|(key, thing)| Some((key, serde_json::to_string(&thing).ok()?)));
        self.sections.insert(section, texts.collect());
    }

    /// What has to be told to somebody who knows `before`: `{"section": {"key": thing}}`, `null` for a thing that is
    /// gone. Nothing if nothing changed.
    pub fn since(&self, before: &Self) -> Option<String> {
        let none = Section::new();
        let mut out = String::from("{");
        for (name, now) in &self.sections {
            let then = before.sections.get(name).unwrap_or(&none);
            let gone = then.keys().filter(|key| !now.contains_key(*key)).map(|key| (key, "null"));
            let new = now.iter().filter(|(key, text)| then.get(*key) != Some(text));
            let changed = gone.chain(new.map(|(key, text)| (key, text.as_str())));
            let mut first = true;
            for (key, text) in changed {
                // Writing to a String does not fail.
                let _ = match (first, out.len()) {
                    (true, 1) => write!(out, "{}:{{{}:{text}", quote(name), quote(key)),
                    (true, _) => write!(out, ",{}:{{{}:{text}", quote(name), quote(key)),
                    (false, _) => write!(out, ",{}:{text}", quote(key)),
                };
                first = false;
            }
            if !first {
                out.push('}');
            }
        }
        out.push('}');
        (out.len() > 2).then_some(out)
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
        assert_eq!(first.since(&View::default()).unwrap(), r#"{"llms":{"a":"1","b":"2"}}"#);
        assert_eq!(first.since(&first), None);
        let second = view(&[("b", "3"), ("c", "4")]);
        assert_eq!(second.since(&first).unwrap(), r#"{"llms":{"a":null,"b":"3","c":"4"}}"#);
    }

    #[test]
    fn a_name_with_quotes_cannot_break_out_of_its_key() {
        let told = view(&[("a\":1,\"b", "x")]).since(&View::default()).unwrap();
        let told: serde_json::Value = serde_json::from_str(&told).unwrap();
        assert_eq!(told["llms"]["a\":1,\"b"], "x");
    }
}
