use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

const KEY: &str = "sk-proj-Ab+/12x34y-sk-proj-Ab+9";

fn stream_redactor(key: &str) -> StreamRedactor {
    StreamRedactor::new(Arc::new(Key::new(key)))
}

fn chunk(choice: usize, said: &str) -> String {
    json!({ "id": "sk-proj-", "choices": [ { "delta": { "content": said }, "index": choice } ] }).to_string()
}

/// What each of two choices reads of the chunks.
fn told(chunks: &[(usize, String)]) -> Vec<String> {
    let mut events = stream_redactor(KEY);
    let mut said = vec![String::new(); 2];
    for (choice, text) in chunks {
        let event: Value = serde_json::from_str(&events.pass(chunk(*choice, text))).unwrap();
        let told = &event["choices"][0];
        assert_eq!((&event["id"], told["index"].as_u64()), (&json!("sk-proj-"), Some(*choice as u64)));
        said[*choice].push_str(told["delta"]["content"].as_str().unwrap());
    }
    said
}

/// What the first choice reads of a text in parts, part by part.
fn passed(text: &str, sizes: &[usize]) -> Vec<String> {
    let mut events = stream_redactor(KEY);
    parts(text, sizes).iter().map(|part| events.pass(chunk(0, part))).collect()
}

fn parts(text: &str, sizes: &[usize]) -> Vec<String> {
    let mut left: Vec<char> = text.chars().collect();
    let mut parts = Vec::new();
    for size in sizes.iter().cycle() {
        if left.is_empty() {
            break;
        }
        parts.push(left.drain(..(*size).clamp(1, left.len())).collect());
    }
    parts
}

fn some_sizes() -> impl Strategy<Value = Vec<usize>> {
    prop::collection::vec(1..7_usize, 1..8)
}

proptest! {
    /// However a text with the key in it is cut into pieces, and whatever comes between them.
    #[test]
    fn a_key_in_any_parts_is_cut_and_nothing_else_is(
        before in prop_oneof!["[a-z \"é\\\\sk-]{0,12}", (0..FIRST).prop_map(|n| KEY[..n].to_owned())],
        after in "[a-z \"é\\\\0-9]{0,12}", sizes in some_sizes(), other in "[a-z\"\\\\ ]{0,30}", mixed in any::<bool>()
    ) {
        let mut chunks = Vec::new();
        let mut others = parts(&other, &sizes).into_iter();
        for part in parts(&format!("{before}{KEY}{after}"), &sizes) {
            chunks.push((0, part));
            if mixed {
                chunks.extend(others.next().map(|part| (1, part)));
            }
        }
        chunks.extend(others.map(|part| (1, part)));
        let said = told(&chunks);
        let left = said[0].strip_prefix(&before).and_then(|said| said.strip_suffix(&format!("{HIDDEN}{after}")));
        prop_assert!(left.is_some_and(|left| left.len() < FIRST && KEY.starts_with(left)), "{said:?}");
        prop_assert_eq!(&said[1], &other);
    }

    /// A text that has less of the key than tells it goes byte for byte, whatever follows.
    #[test]
    fn what_only_begins_like_a_key_goes_as_it_is(
        text in "[a-c sk\\-]{0,40}", sizes in some_sizes(), cut in 0..FIRST, next in "[ -~]?"
    ) {
        prop_assume!(cut + 1 < FIRST || !KEY[cut..].starts_with(&next));
        let text = format!("{text}{}{next}{text}", &KEY[..cut]);
        let sent: Vec<_> = parts(&text, &sizes).iter().map(|part| chunk(0, part)).collect();
        prop_assert_eq!(passed(&text, &sizes), sent);
    }

    /// Who knows the first part learns nothing of the rest by what follows it.
    #[test]
    fn what_follows_the_first_part_of_a_key_makes_no_difference(
        guess in "[!-~]{15}", kept in 0..=REST, after in "[ -~]{0,9}", sizes in some_sizes(),
    ) {
        let guess = format!("{}{}", &KEY[FIRST..FIRST + kept], &guess[kept..]);
        let of = |rest: &str| passed(&format!("x {}{rest} {after}", &KEY[..FIRST]), &sizes);
        prop_assert_eq!(of(&guess), of(&KEY[FIRST..]));
    }
}

const FIRST: usize = 16;
const REST: usize = KEY.len() - FIRST;

#[test]
fn a_key_within_one_event_and_twice_in_one_text_is_cut() {
    let mut events = stream_redactor(KEY);
    let escaped = KEY.replace('/', "\\/").replace('+', "\\u002b");
    let event = events.pass(format!(r#"{{"a":["{escaped} {escaped}"],"{escaped}":1.10}}"#));
    assert_eq!(event, r#"{"a":["*** ***"],"***":1.10}"#);
    assert_eq!(events.pass(chunk(0, &format!("{KEY}{}", &KEY[..20]))), chunk(0, "******"));
    assert_eq!(events.pass(chunk(0, &format!("{} {KEY}", &KEY[20..]))), chunk(0, " ***"));
    // Behind a first part the next one counts, too: nothing of its rest is seen.
    for part in [&KEY[..FIRST], &KEY[..FIRST], &KEY[FIRST..20]] {
        events.pass(chunk(0, part));
    }
    assert_eq!(events.pass(chunk(0, &format!("{}.", &KEY[20..]))), chunk(0, "."));
}

/// A part of a short key may be a word, and a whole one is cut out of a stream as out of a whole answer.
#[test]
fn a_short_key_is_cut_where_it_is_a_whole_token() {
    let mut events = stream_redactor("llama-cpp1");
    let event = chunk(0, "use llama-cpp1-python now, xllama-cpp1x");
    assert_eq!(events.pass(event.clone()), event);
    assert_eq!(events.pass(chunk(0, "it is llama-cpp1.")), chunk(0, "it is ***."));
    for event in ["llama-", "cpp1", " "].map(|part| chunk(0, part)) {
        assert_eq!(events.pass(event.clone()), event);
    }
}

#[test]
fn choices_without_end_are_not_all_remembered() {
    let mut events = stream_redactor(KEY);
    for choice in 0..10 * MAX_TEXTS {
        events.pass(chunk(choice, &KEY[..5]));
    }
    assert_eq!(events.tracked.len(), MAX_TEXTS);
    let last = 10 * MAX_TEXTS - 1;
    assert_eq!(events.pass(chunk(last, &KEY[5..])), chunk(last, HIDDEN));
}

/// Texts of one event that all have it are cut in one pass over the event.
#[test]
fn an_event_of_many_texts_is_cut_at_once() {
    let half = format!(r#"{{"text":"{}"}},"#, &KEY[..20]);
    let event = format!(r#"{{"a":[{}0]}}"#, half.repeat(20_000));
    let begun = tokio::time::Instant::now();
    assert!(!stream_redactor(KEY).pass(event).contains(&KEY[..FIRST]));
    assert!(begun.elapsed() < std::time::Duration::from_secs(5));
}

/// A piece of which some goes tells it nowhere else: not as its tokens, nor as their bytes.
#[test]
fn a_piece_that_is_cut_has_no_log_probabilities() {
    let mut events = stream_redactor(KEY);
    let of = |said: &str| {
        json!({ "choices": [ { "index": 0, "delta": { "content": said }, "logprobs": {
            "content": [ { "token": said, "bytes": said.as_bytes(), "logprob": -0.5 } ] } } ] })
    };
    let mut pass = |said: &str| serde_json::from_str::<Value>(&events.pass(of(said).to_string())).unwrap();
    assert_eq!(pass("before "), of("before "));
    assert_eq!(pass(&KEY[..10]), of(&KEY[..10]), "it may be anything yet");
    for rest in [&KEY[10..20], &KEY[20..], KEY] {
        let event = pass(rest);
        assert_eq!(event["choices"][0]["logprobs"], Value::Null, "{event}");
        assert!(!event.to_string().contains(rest), "{event}");
    }
    assert_eq!(pass(" after"), of(" after"));
}
