use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

const KEY: &str = "sk-proj-Ab+/12x34y-sk-proj-Ab+9";

fn sieve(key: &str) -> Sieve {
    Sieve::new(Rc::new(Key::new(key)))
}

fn chunk(choice: usize, said: &str) -> String {
    json!({ "id": "sk-proj-", "choices": [ { "delta": { "content": said }, "index": choice } ] }).to_string()
}

/// What each of two choices reads of the chunks, and how many events waited at most.
fn told(key: &str, chunks: &[(usize, String)]) -> (Vec<String>, usize) {
    let mut events = sieve(key);
    let (mut said, mut most, mut came) = (vec![String::new(); 2], 0, 0);
    let mut read = |event: String| {
        let event: Value = serde_json::from_str(&event).unwrap();
        let choice = &event["choices"][0];
        let index = usize::try_from(choice["index"].as_u64().unwrap()).unwrap();
        said[index].push_str(choice["delta"]["content"].as_str().unwrap());
    };
    for (choice, text) in chunks {
        events.push(chunk(*choice, text));
        while let Some(event) = events.next() {
            came += 1;
            read(event);
        }
        most = most.max(events.held.len());
    }
    events.finish();
    while let Some(event) = events.next() {
        came += 1;
        read(event);
    }
    assert_eq!(came, chunks.len(), "no event is lost, none is made");
    (said, most)
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

proptest! {
    /// However a text with the key in it is cut into pieces, and whatever comes between them.
    #[test]
    fn a_key_in_any_parts_is_cut_and_nothing_else_is(
        before in "[a-z \"é\\\\sk-]{0,12}", after in "[a-z \"é\\\\0-9]{0,12}",
        sizes in prop::collection::vec(1..7_usize, 1..8), other in "[a-z\"\\\\ ]{0,30}", mixed in any::<bool>()
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
        let (said, _) = told(KEY, &chunks);
        prop_assert!(!said[0].contains(&KEY[..=SEEN]), "{said:?}");
        prop_assert!(said[0].starts_with(&before) && said[0].ends_with(&format!("{HIDDEN}{after}")), "{said:?}");
        let left = &said[0][before.len()..said[0].len() - after.len() - HIDDEN.len()];
        prop_assert!(left.len() < SEEN && KEY.starts_with(left), "{left}");
        prop_assert_eq!(&said[1], &other);
    }

    /// A text that is not the key goes byte for byte, and waits only where it begins like the key.
    #[test]
    fn what_only_begins_like_a_key_goes_as_it_is(
        text in "[a-c sk\\-]{0,40}", sizes in prop::collection::vec(1..5_usize, 1..8), cut in 0..30_usize
    ) {
        let text = format!("{text}{}{text}", &KEY[..cut.min(KEY.len() - 1)]);
        let chunks: Vec<_> = parts(&text, &sizes).into_iter().map(|part| (0, part)).collect();
        let (said, most) = told(KEY, &chunks);
        prop_assert_eq!(&said[0], &text);
        prop_assert!(cut >= SEEN || text.contains(&KEY[..SEEN]) || most == 0);
    }
}

#[test]
fn a_key_within_one_event_and_twice_in_one_text_is_cut() {
    let mut events = sieve(KEY);
    let escaped = KEY.replace('/', "\\/").replace('+', "\\u002b");
    events.push(format!(r#"{{"a":["{escaped} {escaped}"],"{escaped}":1.10}}"#));
    assert_eq!(events.next().as_deref(), Some(r#"{"a":["*** ***"],"***":1.10}"#));
    events.push(chunk(0, &format!("{KEY}{}", &KEY[..20])));
    events.push(chunk(0, &format!("{} {KEY}", &KEY[20..])));
    let said: Vec<_> = std::iter::from_fn(|| events.next()).collect();
    assert_eq!(said, [chunk(0, "***"), chunk(0, "*** ***")]);
}
