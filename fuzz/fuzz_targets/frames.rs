//! Task frames, results, hellos, names and ids: never a panic, and what was read is written back as it was.
#![no_main]

use libfuzzer_sys::fuzz_target;
use wire::features::Hello;
use wire::result::TaskResult;
use wire::task::Task;
use wire::{SessionId, TaskId, WireName, openai};

fuzz_target!(|text: &str| {
    let _ = Task::parse(text);
    let _ = Hello::parse(text).features();
    let _ = WireName::parse(text);
    let _ = openai::usage(text);
    let _ = openai::error_message(text);
    let _ = openai::completion_as_chunk(text);
    if let Ok(result) = TaskResult::parse(text) {
        let again = TaskResult::parse(&result.to_json()).expect("our own words");
        assert_eq!(again.to_json(), result.to_json());
    }
    if let Ok(request) = openai::backend_request(text, Some("m"), true) {
        let value: Result<serde_json::Value, _> = serde_json::from_str(&request);
        if let Ok(value) = value {
            assert_eq!(value["model"], "m");
            assert_eq!(value["stream"], true);
        }
    }
    for id in [SessionId::parse(text).map(String::from), TaskId::parse(text).map(String::from)]
        .into_iter()
        .flatten()
    {
        assert!(!id.contains(['\r', '\n', ' ', '\0']));
    }
});
