use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use wire::row::{Kind, Status, Timestamp, Visibility};

use super::*;

fn agent(prompt: Option<&str>, params: Option<&str>) -> Agent {
    Agent {
        id: "1".into(),
        name: "helper".into(),
        llm_name: "a".into(),
        description: None,
        system_prompt: prompt.map(str::to_owned),
        project: None,
        default_params: params.map(|params| RawValue::from_string(params.into()).unwrap()),
        extras: None,
        kind: Kind::Public,
        status: Status::Active,
        last_heartbeat_at: None,
        inactive_since: None,
        visibility: Visibility::Public,
        owner: "alice".into(),
        session: None,
        registered: true,
        created_at: Timestamp(0),
        updated_at: Timestamp(0),
    }
}

fn chat(agent: &Agent, request: &str) -> String {
    apply(agent, Endpoint::ChatCompletions, request).unwrap()
}

#[test]
fn the_prompt_comes_first_and_missing_parameters_are_added() {
    let agent =
        agent(Some("Be \"brief\"."), Some(r#"{"temperature":0.1,"seed":18446744073709551615,"x":1.10}"#));
    assert_eq!(
        chat(&agent, r#"{"temperature":0.9,"messages":[{"role":"user","content":"hi"}]}"#),
        r#"{"temperature":0.9,"messages":[{"role":"system","content":"Be \"brief\"."},{"role":"user","content":"hi"}],"seed":18446744073709551615,"x":1.10}"#
    );
}

#[test]
fn the_callers_values_take_precedence() {
    let agent = agent(Some("agent"), Some(r#"{"model":"other","stream":true,"messages":[],"top_p":null}"#));
    for role in ["system", "developer", "syst\\u0065m"] {
        let request = format!(r#"{{"messages":[{{"role":"{role}","content":"mine"}}],"top_p":1}}"#);
        assert_eq!(chat(&agent, &request), request);
    }
}

/// A caller's key that is not sent to the backend does not replace the agent's parameter, however it is spelled.
#[actix_rt::test]
async fn keys_of_no_api_do_not_replace_an_agents_parameters() {
    let agent = agent(None, Some(r#"{"guardrails":["pii"],"top_p":0.5}"#));
    let asked = r#"{"messages":[],"guardrails":null,"GuardRails":[],"top_p":1,"x":2}"#;
    for (user, made) in [("bob", r#"{"messages":[],"top_p":1,"x":2,"guardrails":["pii"]}"#), ("alice", asked)]
    {
        let request = RequestBody::parse(asked.into()).unwrap();
        let request =
            apply_to_request(agent.clone(), Endpoint::ChatCompletions, user, request).await.unwrap();
        assert_eq!(request.as_str(), made, "{user}");
    }
}

/// A name overrides a parameter if [`folds`] matches the two, or if they differ only in the case of other letters.
#[test]
fn an_override_is_found_in_every_spelling() {
    let kept = |param: &str, name: &str| {
        let agent = agent(None, Some(&format!(r#"{{"{param}":1}}"#)));
        let asked = RequestBody::parse(format!(r#"{{"{name}":2,"x":3}}"#).into()).unwrap();
        without_overrides(&agent, asked).unwrap().as_str() != r#"{"x":3}"#
    };
    for name in ["stokes", "STOKES", "\u{17f}tokes", "Sto\u{212a}e\u{17f}", r"\u0053tokes"] {
        for param in ["stokes", "Stokes", "sto\u{212a}es", "\u{17f}tokes"] {
            assert!(!kept(param, name), "{param} {name}");
        }
        assert!(kept("stoke", name) && kept("stokess", name), "{name}");
    }
    assert!(!kept("Élan", "élan") && !kept("élan", "Élan") && kept("elan", "élan"));
}

/// A caller's known key is sent unchanged if the agent has the parameter in an odd spelling.
#[actix_rt::test]
async fn a_known_key_of_the_caller_is_kept_beside_an_odd_spelling_of_the_agent() {
    let agent = agent(None, Some(r#"{"Stop":["a"],"topp":0.5}"#));
    let asked = r#"{"messages":[],"stop":["b"],"top_p":1}"#;
    let request = RequestBody::parse(asked.into()).unwrap();
    let made = apply_to_request(agent, Endpoint::ChatCompletions, "bob", request).await.unwrap();
    assert!(made.as_str().starts_with(r#"{"messages":[],"stop":["b"],"top_p":1"#), "{}", made.as_str());
}

#[test]
fn each_api_has_its_own_key_for_the_prompt() {
    let agent = agent(Some("p"), Some(r#"{"n":1}"#));
    let with = |endpoint| apply(&agent, endpoint, r#"{"input":"i"}"#).unwrap();
    assert_eq!(with(Endpoint::Responses), r#"{"input":"i","n":1,"instructions":"p"}"#);
    assert_eq!(with(Endpoint::Messages), r#"{"input":"i","n":1,"system":"p"}"#);
    assert_eq!(with(Endpoint::Completions), r#"{"input":"i","n":1}"#);
    assert_eq!(with(Endpoint::Embeddings), r#"{"input":"i"}"#);
}

#[test]
fn a_request_without_a_list_of_messages_gets_no_prompt() {
    let agent = agent(Some("p"), None);
    for request in ["{}", r#"{"messages":"hi"}"#, r#"{"messages":null}"#] {
        assert_eq!(chat(&agent, request), request);
    }
    assert_eq!(
        chat(&agent, r#"{"messages":[]}"#),
        r#"{"messages":[{"role":"system","content":"p"},]}"#.replace(",]", "]")
    );
}

/// A27: a caller's large request waits only for requests that are being processed, not for another user's waiting ones.
#[actix_rt::test]
async fn callers_take_turns_with_large_requests_to_agents() {
    const MANY: usize = 40;
    let content = "a".repeat(1 << 20);
    let request = format!(r#"{{"model":"helper","messages":[{{"role":"user","content":"{content}"}}]}}"#);
    let request = RequestBody::parse(request.into_bytes()).unwrap();
    let done = Arc::new(AtomicUsize::new(0));
    let prepared = |user: &'static str| {
        let (done, request) = (done.clone(), request.clone());
        async move {
            let made =
                apply_to_request(agent(Some("Be brief."), None), Endpoint::ChatCompletions, user, request)
                    .await;
            assert!(made.unwrap().size() > 1 << 20);
            done.fetch_add(1, Ordering::SeqCst)
        }
    };
    let flood: Vec<_> = (0..MANY).map(|_| actix_rt::spawn(prepared("mallory"))).collect();
    tokio::task::yield_now().await;
    let before = prepared("alice").await;
    assert!(before < MANY / 2, "{before} requests of another user were processed first");
    for one in flood {
        one.await.unwrap();
    }
}
