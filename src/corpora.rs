//! Runs each input of the fuzzers' corpora once.

#[allow(unreachable_pub, reason = "the fuzzers, a crate of their own, use it too")]
#[path = "../fuzz/src/properties.rs"]
mod properties;

use std::panic::catch_unwind;
use std::path::Path;

/// P7: the properties hold for all inputs of the corpora.
#[test]
fn the_properties_hold_for_the_corpora() {
    let corpora = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus");
    for (name, property) in properties::ALL {
        let inputs = std::fs::read_dir(corpora.join(name)).unwrap();
        let mut count = 0;
        for input in inputs.map(|file| file.unwrap().path()) {
            let bytes = std::fs::read(&input).unwrap();
            assert!(catch_unwind(|| property(&bytes)).is_ok(), "{}", input.display());
            count += 1;
        }
        assert!(count > 10, "{name} has no corpus");
    }
}
