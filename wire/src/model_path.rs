//! Cuts a backend's `model` that is a file path to its file name, to keep directory names private (SPEC.md section 6).
//!
//! llama.cpp sends the path in every chunk, so this searches the text instead of parsing it.

use std::borrow::Cow;
use std::sync::LazyLock;

use memchr::memchr2;
use memchr::memmem::Finder;

static MODEL: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(b"\"model\""));

/// Cuts the value of every `model` member of `json` that is a path to its last component.
///
/// In valid JSON, `"model"` is a whole string unless a backslash precedes it, and a key if a colon follows.
pub fn cut_model_paths(json: &str) -> Cow<'_, str> {
    let mut out: Option<String> = None;
    let (mut at, mut copied) = (0, 0);
    while let Some(found) = MODEL.find(&json.as_bytes()[at..]) {
        let key = at + found;
        at = key + MODEL.needle().len();
        if json[..key].ends_with('\\') {
            continue;
        }
        let Some(value) = string_after_colon(json, at) else { continue };
        let (start, end) = value;
        at = end;
        if let Some(name) = file_name(&json[start..end]) {
            let out = out.get_or_insert_with(|| String::with_capacity(json.len()));
            out.push_str(&json[copied..start]);
            out.push_str(name);
            copied = end;
        }
    }
    match out {
        Some(mut out) => {
            out.push_str(&json[copied..]);
            Cow::Owned(out)
        }
        None => Cow::Borrowed(json),
    }
}

/// Cuts `model` to its last component if it is a path.
pub fn cut_model_path(model: &str) -> &str {
    file_name(model).unwrap_or(model)
}

/// Returns the range, without quotes, of a string after a colon at `at`.
fn string_after_colon(json: &str, at: usize) -> Option<(usize, usize)> {
    let bytes = json.as_bytes();
    let skip_space =
        |at: usize| at + bytes[at..].iter().take_while(|byte| byte.is_ascii_whitespace()).count();
    let colon = skip_space(at);
    if bytes.get(colon) != Some(&b':') {
        return None;
    }
    let quote = skip_space(colon + 1);
    if bytes.get(quote) != Some(&b'"') {
        return None;
    }
    let start = quote + 1;
    let mut end = start;
    loop {
        end += memchr2(b'"', b'\\', bytes.get(end..)?)?;
        if bytes[end] == b'"' {
            return Some((start, end));
        }
        end += 2;
    }
}

/// Returns the last component of an escaped path; `None` if `raw` is no path. `org/model` is a name.
fn file_name(raw: &str) -> Option<&str> {
    let (first, rest) = (raw.bytes().next()?, raw.get(1..)?);
    let rooted = match first {
        b'/' | b'~' | b'.' => true,
        // An escaped slash, or two backslashes.
        b'\\' => rest.starts_with(['/', '\\']),
        letter => {
            letter.is_ascii_alphabetic() && [":/", ":\\\\", ":\\/"].iter().any(|root| rest.starts_with(root))
        }
    };
    let trimmed = raw.trim_end_matches(['/', '\\']);
    let last = trimmed.rfind(['/', '\\']).map(|at| at + 1)?;
    let name = &trimmed[last..];
    let weights = [".gguf", ".ggml", ".safetensors", ".bin"];
    let is_file = weights.iter().any(|suffix| {
        name.len() >= suffix.len()
            && name.as_bytes()[name.len() - suffix.len()..].eq_ignore_ascii_case(suffix.as_bytes())
    });
    (rooted || is_file || raw.starts_with("file:")).then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_cut_to_its_file_name_at_any_depth() {
        for (model, name) in [
            ("/home/alice/m.gguf", "m.gguf"),
            ("./m.gguf", "m.gguf"),
            ("~/models/m", "m"),
            ("/models/qwen/", "qwen"),
            ("models/m.GGUF", "m.GGUF"),
            (r"C:\\Users\\alice\\m.gguf", "m.gguf"),
            (r"\\\\server\\share\\m", "m"),
            (r"\/home\/alice\/m.gguf", "m.gguf"),
        ] {
            let body =
                |model: &str| format!(r#"{{"a":[{{"model" : "{model}"}}],"model":"{model}","b":"é"}}"#);
            assert_eq!(cut_model_paths(&body(model)), body(name), "{model}");
        }
    }

    #[test]
    fn a_bare_path_is_cut() {
        assert_eq!(cut_model_path("/home/alice/m.gguf"), "m.gguf");
        assert_eq!(cut_model_path("Qwen/Qwen2.5-7B"), "Qwen/Qwen2.5-7B");
    }

    #[test]
    fn names_and_texts_are_not_changed() {
        for json in [
            r#"{"model":"Qwen/Qwen2.5-7B-Instruct-AWQ"}"#,
            r#"{"model":"accounts/fireworks/models/llama"}"#,
            r#"{"model":null,"x":"model","y":["model","/a/b"]}"#,
            r#"{"content":"\"model\":\"/a/b\""}"#,
            r#"{"content":"\"model":"/a/b"}"#,
            r#"{"model":""}"#,
            r#"{"model":"#,
            r#"{"model":"/a\"#,
        ] {
            assert!(matches!(cut_model_paths(json), Cow::Borrowed(_)), "{json}");
        }
    }
}
