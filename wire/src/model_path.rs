//! A backend's `model` that is a path is cut to its file name (SPEC.md section 6): where files lie is nobody's business.
//!
//! llama.cpp puts the path into every chunk, so this is a search and not a parse.

use std::borrow::Cow;
use std::sync::LazyLock;

use memchr::memchr2;
use memchr::memmem::Finder;

static MODEL: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(b"\"model\""));

/// `json` with the value of every `model` member that is a path cut to its last part.
///
/// In valid JSON the seven bytes `"model"` are a whole string wherever no backslash stands before them, and one that a
/// colon follows is a key.
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

/// `model` cut to its last part where it is a path: whose home it lies in is nobody's business.
pub fn cut_model_path(model: &str) -> &str {
    file_name(model).unwrap_or(model)
}

/// Where the string begins and ends, without its quotes, that follows a colon at `at`.
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

/// The last part of a path, as it stands in JSON. `None`: not a path. `org/model` is a name, not a path.
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
    fn a_model_that_is_a_path_is_cut_to_its_file_name_at_any_depth() {
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
    fn a_path_in_a_configuration_is_cut_as_well() {
        assert_eq!(cut_model_path("/home/alice/m.gguf"), "m.gguf");
        assert_eq!(cut_model_path("Qwen/Qwen2.5-7B"), "Qwen/Qwen2.5-7B");
    }

    #[test]
    fn a_name_and_a_text_about_models_stay_as_they_are() {
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
