//! Names at the hub.

use std::collections::{HashMap, HashSet};

/// Normalizes a suffix: lower case, each run of characters outside `[a-z0-9-]` as one dash, no dash at the ends.
pub(crate) fn suffix(text: &str) -> String {
    dashed(text, |c| c == '-')
}

/// A name for a model: the last part of its path without `.gguf`, each run of invalid characters as one dash.
pub(crate) fn of_model(model: &str) -> String {
    let last = model.trim_end_matches(['/', '\\']).rsplit(['/', '\\']).next().unwrap_or(model);
    let lower = last.to_lowercase();
    let stem = lower.strip_suffix(".gguf").unwrap_or(&lower);
    let mut name = dashed(stem, |c| matches!(c, '-' | '.' | '_'));
    name.truncate(wire::names::MAX_NAME);
    let name = name.trim_matches(['-', '.', '_']);
    if name.is_empty() { "model".to_owned() } else { name.to_owned() }
}

/// Names that are taken, by which free ones are found. A free name costs the same however many models have one name.
#[derive(Debug, Default)]
pub(crate) struct TakenNames {
    taken: HashSet<String>,
    /// Next number to try for each name that was taken when it was asked for.
    numbers: HashMap<String, u32>,
}

impl TakenNames {
    /// Takes the first of `name`, `name-2`, `name-3`, … that is free.
    pub(crate) fn take_free(&mut self, name: &str) -> String {
        if self.taken.insert(name.to_owned()) {
            return name.to_owned();
        }
        let number = self.numbers.entry(name.to_owned()).or_insert(2);
        loop {
            let tail = format!("-{number}");
            let length = wire::names::MAX_NAME - tail.len();
            let stem = name.get(..length).unwrap_or(name).trim_end_matches(['-', '.', '_']);
            *number += 1;
            let candidate = format!("{stem}{tail}");
            if self.taken.insert(candidate.clone()) {
                return candidate;
            }
        }
    }
}

impl<S: Into<String>> FromIterator<S> for TakenNames {
    fn from_iter<I: IntoIterator<Item = S>>(names: I) -> Self {
        Self { taken: names.into_iter().map(Into::into).collect(), numbers: HashMap::new() }
    }
}

fn dashed(text: &str, is_kept: impl Fn(char) -> bool) -> String {
    let mut name = String::with_capacity(text.len());
    for c in text.to_lowercase().chars() {
        if c.is_ascii_lowercase() || c.is_ascii_digit() || is_kept(c) {
            name.push(c);
        } else {
            name.push('\0');
        }
    }
    name.split('\0')
        .filter(|part| !part.is_empty())
        .collect::<Vec<_>>()
        .join("-")
        .trim_matches('-')
        .to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_suffix_is_lower_case_and_dashed() {
        for (text, expected) in [
            ("Alice's MacBook Pro", "alice-s-macbook-pro"),
            ("host.example.com", "host-example-com"),
            ("--x--", "x"),
            ("ÄÖ", ""),
            ("a__b", "a-b"),
        ] {
            assert_eq!(suffix(text), expected);
        }
    }

    #[test]
    fn a_model_is_named_by_the_last_part_of_its_path() {
        for (model, expected) in [
            ("Qwen/Qwen2.5-7B-Instruct-AWQ", "qwen2.5-7b-instruct-awq"),
            ("/models/SmolLM2-135M-Instruct.Q4_1.gguf", "smollm2-135m-instruct.q4_1"),
            ("llama3.2:3b", "llama3.2-3b"),
            ("C:\\models\\a b.GGUF", "a-b"),
            ("///", "model"),
        ] {
            assert_eq!(of_model(model), expected);
        }
        assert_eq!(of_model(&"x".repeat(300)).len(), 100);
    }

    #[test]
    fn a_taken_name_gets_a_number() {
        let long = "y".repeat(100);
        let mut names: TakenNames = ["qwen", "qwen-2", &long].into_iter().collect();
        assert_eq!(names.take_free("qwen"), "qwen-3");
        assert_eq!(names.take_free("qwen"), "qwen-4");
        assert_eq!(names.take_free("smol"), "smol");
        assert_eq!(names.take_free("smol-2"), "smol-2");
        assert_eq!(names.take_free("smol"), "smol-3");
        assert_eq!(names.take_free(&long).len(), 100);
    }

    /// The limit is for a slow machine: a search from the first number on takes minutes.
    #[test]
    fn one_name_of_many_models_takes_linear_time() {
        let start = tokio::time::Instant::now();
        let mut names = TakenNames::default();
        let last = (0..50_000).map(|_| names.take_free("m")).last();
        assert_eq!(last.as_deref(), Some("m-50000"));
        assert!(start.elapsed().as_secs() < 20, "{:?}", start.elapsed());
    }
}
