//! Visibility, reach, names and pools in any sequence of events, compared with a model (SPEC.md section 5).
//!
//! `RULE_SEQUENCES=100000 cargo test --release -p virtual-llm-hub rule` tries more sequences.

mod model;
mod ops;
mod trial;
mod waits;

use proptest::prelude::*;

use super::lifecycle::check_counts;
use super::*;
use model::Model;
use ops::{Op, Want, has_unique_names, op};
use trial::{REPORTED_CAPACITY, Trial, beat, llm_spec};

/// The last user is an admin.
const USERS: [&str; 4] = ["alice", "bob", "carol", "root"];
const NAMES: [&str; 4] = ["a", "b", "default", "p"];
/// Aliases. Some have names of rows too, and `p*` matches one.
const ALIASES: [&str; 5] = ["x", "b", "default", "p*", "*"];
/// Names that calls have, and a call without one.
const CALLS: [Option<&str>; 7] =
    [Some("x"), Some("b"), Some("default"), Some("p"), Some("p1"), Some("y"), None];

fn visibility(public: bool) -> Visibility {
    if public { Visibility::Public } else { Visibility::Private }
}

fn caller(user: usize) -> Caller {
    let role = if user == USERS.len() - 1 { Role::Admin } else { Role::Member };
    Caller {
        user: USERS[user].into(),
        role,
        token_id: "t".into(),
        models: crate::model::AllowedModels::default(),
        secret: None,
    }
}

fn sequences() -> u32 {
    std::env::var("RULE_SEQUENCES").ok().and_then(|number| number.parse().ok()).unwrap_or(8000)
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(sequences()) })]

    /// A34, A37: after any sequence of events, a call reaches exactly the rows of [`Model::reached`], also if it waited,
    /// unless its name was taken over; rows have their admitted capacities; and each user sees exactly what the model says.
    #[test]
    fn callers_reach_and_see_exactly_what_the_model_says(
        policy in prop_oneof![4 => Just(PoolPolicy::Ask), 1 => Just(PoolPolicy::Members), 1 => Just(PoolPolicy::Owner)],
        settled in any::<bool>(),
        ops in prop::collection::vec(op(), 1..20)
    ) {
        let mut trial = Trial::new(policy);
        if settled && policy != PoolPolicy::Owner {
            trial.create_pool_row_and_agent();
        }
        for (number, op) in ops.iter().enumerate() {
            if let Op::Register { rows, agents, .. } = op
                && !(has_unique_names(rows) && has_unique_names(agents))
            {
                continue;
            }
            let op = &trial.made_likely(op);
            let allowed = trial.step(op);
            let expected = trial.model.step(op, trial.hours);
            prop_assert_eq!(allowed, expected, "{:?}", op);
            trial.check_chosen()?;
            check_counts(&trial.registry);
            trial.check(number % USERS.len(), number / USERS.len() % NAMES.len())?;
            trial.check_aliases(number % USERS.len())?;
        }
        for user in 0..USERS.len() {
            trial.check_aliases(user)?;
            for name in 0..NAMES.len() {
                trial.check(user, name)?;
            }
        }
    }
}
