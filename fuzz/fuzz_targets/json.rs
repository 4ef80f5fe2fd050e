//! Our one-pass checker takes exactly what `serde_json` takes, one line out, the value unchanged.
#![no_main]

use libfuzzer_sys::fuzz_target;
use serde_json::value::RawValue;
use wire::json::{JsonError, Object, compact};

fuzz_target!(|text: &str| {
    let theirs = serde_json::from_str::<&RawValue>(text);
    match compact(text) {
        Ok(line) => {
            assert!(theirs.is_ok());
            assert!(!line.contains(['\r', '\n']));
            assert_eq!(compact(&line).as_deref(), Ok(line.as_str()));
            if let (Ok(before), Ok(after)) = (
                serde_json::from_str::<serde_json::Value>(text),
                serde_json::from_str::<serde_json::Value>(&line),
            ) {
                assert_eq!(before, after);
            }
        }
        Err(JsonError::TooDeep) => (),
        Err(_) => assert!(theirs.is_err(), "{text:?}"),
    }
    let _ = Object::parse(text).map(|object| object.to_string());
});
