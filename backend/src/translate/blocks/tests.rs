use std::time::Duration;

use super::*;

fn call(index: Option<u64>, id: &str, name: &str, text: &str) -> Chunk {
    let kind = BlockKind::Call { index, id: id.to_owned(), name: name.to_owned() };
    let deltas = vec![Delta { kind, text: text.to_owned() }];
    Chunk { deltas, finish_reason: None, stop_sequence: None, usage: None, logprobs: Vec::new() }
}

fn texts(answer: &AnswerBuilder) -> Vec<&str> {
    answer.blocks.iter().map(|block| block.text.as_str()).collect()
}

#[test]
fn a_delta_does_not_read_earlier_arguments_again() {
    // A string that stays open, and what looks complete at each bracket and is no object.
    for begin in [r#"{\"a\":\""#, "{x}"] {
        let mut answer = AnswerBuilder::default();
        answer.push(call(None, "", "f", &format!("{begin}{}", "}".repeat(4 << 20)))).unwrap();
        let began = testkit::procfs::thread_time();
        for _ in 0..300 {
            answer.push(call(None, "", "f", "}")).unwrap();
        }
        let used = testkit::procfs::thread_time().saturating_sub(began);
        assert_eq!(answer.blocks.len(), 1);
        assert!(used < Duration::from_secs(5), "{begin}: {used:?}");
    }
}

#[test]
fn calls_without_text_count() {
    let mut answer = AnswerBuilder::default();
    let pushed = (0..MAX_TEXT).take_while(|_| answer.push(call(Some(0), "", "", "")).is_ok()).count();
    assert_eq!(pushed, MAX_TEXT / CALL_DELTA);
}

#[test]
fn a_delta_belongs_to_the_last_call_of_its_index_or_id() {
    let mut answer = AnswerBuilder::default();
    for (index, id, name, text) in [
        (Some(0), "a", "f", "1"),
        (Some(1), "", "g", "2"),
        (Some(0), "", "", "3"),
        // The id comes later than the call.
        (Some(1), "b", "", "4"),
        (None, "b", "", "5"),
        (None, "a", "", "6"),
        // Another call of a server that gives all calls one index.
        (Some(0), "c", "h", "7"),
        (Some(0), "", "", "8"),
        (None, "", "", "9"),
    ] {
        answer.push(call(index, id, name, text)).unwrap();
    }
    assert_eq!(texts(&answer), ["136", "245", "789"]);
}

#[test]
fn a_name_behind_complete_arguments_begins_a_call_without_index_and_id() {
    let mut answer = AnswerBuilder::default();
    for (name, text) in [("f", r#"{\"a\":"#), ("f", "1}"), ("f", "{"), ("g", "}"), ("g", "{}")] {
        answer.push(call(None, "", name, text)).unwrap();
    }
    assert_eq!(texts(&answer), [r#"{\"a\":1}"#, "{}", "{}"]);
}
