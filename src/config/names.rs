//! Names at the hub.

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

/// The first of `name`, `name-2`, `name-3`, … that is not taken.
pub(crate) fn free(name: &str, is_taken: impl Fn(&str) -> bool) -> String {
    let mut candidate = name.to_owned();
    let mut number = 2_u32;
    while is_taken(&candidate) {
        let tail = format!("-{number}");
        let length = wire::names::MAX_NAME - tail.len();
        let stem = name.get(..length).unwrap_or(name).trim_end_matches(['-', '.', '_']);
        candidate = format!("{stem}{tail}");
        number += 1;
    }
    candidate
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
        let taken = ["qwen", "qwen-2"];
        assert_eq!(free("qwen", |name| taken.contains(&name)), "qwen-3");
        assert_eq!(free("smol", |name| taken.contains(&name)), "smol");
        let long = "y".repeat(100);
        assert_eq!(free(&long, |name| name == long).len(), 100);
    }
}
