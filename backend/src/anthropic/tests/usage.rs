//! The counts of a message.

use proptest::prelude::*;

proptest! {
    /// A count that is none is absent, and sums stay counts.
    #[test]
    fn no_usage_of_a_message_makes_a_count_above_the_limit(
        members in prop::collection::vec(
            ("(input|output|cache_creation_input|cache_read_input)_tokens", "-?(0|[1-9][0-9]{0,24})([.][0-9]{1,20})?([eE][+-]?[0-9]{1,3})?", any::<bool>()),
            0..5,
        ),
    ) {
        let members: std::collections::BTreeMap<_, _> =
            members.into_iter().map(|(name, number, quoted)| (name, if quoted { format!("\"{number}\"") } else { number })).collect();
        let members: Vec<_> = members.iter().map(|(name, number)| format!("\"{name}\":{number}")).collect();
        let message = format!(r#"{{"type":"message","content":[],"usage":{{{}}}}}"#, members.join(","));
        let completion = super::super::answer::completion(&message, 0).unwrap();
        let usage = wire::openai::usage(&completion).unwrap();
        let is_count = |count: Option<u64>| count.is_some_and(|count| count <= wire::openai::MAX_TOKENS);
        prop_assert!(is_count(usage.input) && is_count(usage.output), "{completion}");
    }
}
