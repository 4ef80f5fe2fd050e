//! What members cost: a request can have many thousands of them.

use std::time::{Duration, Instant};

use crate::json::inspect_request;

const MEMBERS: usize = 20_000;

/// The time of one inspection.
#[expect(clippy::disallowed_methods, reason = "real time is measured, and there is no runtime here")]
fn cost(text: &str) -> Duration {
    let mut text = text.as_bytes().to_vec();
    let start = Instant::now();
    inspect_request(&mut text, ["model", "stream", "stream_options"]).unwrap();
    start.elapsed()
}

/// The ratio of the shortest times of inspections of `one` and of `other`, which alternate: a busy machine slows down both.
fn ratio(one: &str, other: &str) -> f64 {
    let shorter =
        |(one, other): (Duration, Duration), (a, b): (Duration, Duration)| (one.min(a), other.min(b));
    let costs = (0..15).map(|_| (cost(one), cost(other)));
    let (one, other) = costs.reduce(shorter).unwrap();
    one.as_secs_f64() / other.as_secs_f64()
}

/// Members of the request are looked up among the known ones; those of a message are not.
#[test]
fn an_unknown_member_costs_little_more_than_a_members_syntax() {
    let messages = |members: &str| format!(r#"{{"model":"m","messages":[{{{members}}}]}}"#);
    let request = |members: &str| format!(r#"{{"model":"m","messages":[],{members}}}"#);
    for (member, most) in
        [(r#""q":0"#, 1.9), (r#""model_":0"#, 2.5), (r#""temperaturf":0"#, 2.3), (r#""\u0071x":0"#, 3.3)]
    {
        let members = [member].repeat(MEMBERS).join(",");
        let (request, message) = (request(&members), messages(&members));
        // Again if something else had the processor.
        let ratios: Vec<f64> =
            (0..6).map(|_| ratio(&request, &message)).take_while(|ratio| *ratio >= most).collect();
        assert!(ratios.len() < 6, "{member}: {ratios:.2?} times the cost of a member of a message");
    }
}
