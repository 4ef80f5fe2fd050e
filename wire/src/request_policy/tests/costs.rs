//! What members cost: a request can have many thousands of them.

use std::time::{Duration, Instant};

use crate::json::inspect_request;

const MEMBERS: usize = 20_000;

/// The shortest time of several inspections.
#[expect(clippy::disallowed_methods, reason = "real time is measured, and there is no runtime here")]
fn cost(text: &str) -> Duration {
    let inspect = |_| {
        let mut text = text.as_bytes().to_vec();
        let start = Instant::now();
        inspect_request(&mut text, ["model", "stream", "stream_options"]).unwrap();
        start.elapsed()
    };
    (0..15).map(inspect).min().unwrap()
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
        let ratio = cost(&request(&members)).as_secs_f64() / cost(&messages(&members)).as_secs_f64();
        assert!(ratio < most, "{member}: {ratio:.2} times the cost of a member of a message");
    }
}
