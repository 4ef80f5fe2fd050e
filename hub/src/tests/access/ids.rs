//! Randomness of ids and secrets.

use super::*;

/// A04: ids of sessions, streams, rows, agents, tasks, dispatches and tokens have 128 random bits.
#[actix_rt::test]
async fn all_ids_of_a_hub_are_random() {
    let hub = hub_with(|options| options.timings.reattach_grace = Duration::from_millis(1)).await;
    let mut ids = BTreeSet::new();
    for name in ["a", "b", "c"] {
        let mut publisher = Publisher::register(&hub, ADMIN, None, &[provider(name)]).await;
        let hello = publisher.open(&hub, Some("cancel")).await;
        let agent = json!({ "name": format!("agent-{name}"), "llmName": name }).to_string();
        let agent = hub.ask("POST", "/api/v1/agents").body(agent).json().await.1;
        let body = json!({ "llm": name, "request": {} }).to_string();
        let task = hub.ask("POST", "/api/v1/inference-tasks").body(body).json().await.1;
        let dispatch = publisher.task().await;
        let token = hub.ask("POST", "/api/v1/tokens").body(r#"{"user":"x"}"#).json().await.1;
        let secret = token["token"].as_str().unwrap();
        assert_eq!(secret.len(), "vlt_".len() + 64, "256 bits");
        let row = hub.row(name).await;
        for id in
            [&hello["streamId"], &agent["id"], &task["id"], &dispatch["taskId"], &token["id"], &row["id"]]
        {
            ids.insert(id.as_str().unwrap().to_owned());
        }
        ids.insert(publisher.session.clone());
    }
    assert_eq!(ids.len(), 3 * 7, "{ids:?}");
    let bits = |id: &String| u128::from_str_radix(id.rsplit_once('-').unwrap().1, 16).unwrap();
    let all: Vec<u128> = ids.iter().map(bits).collect();
    assert!(ids.iter().all(|id| id.rsplit_once('-').unwrap().1.len() == 32), "{ids:?}");
    // About 64 of 128 random bits differ between two ids; 20 is 7 standard deviations below that.
    for (at, one) in all.iter().enumerate() {
        assert!(all[..at].iter().all(|other| (one ^ other).count_ones() > 20), "{ids:?}");
    }
    hub.stop().await;
}

/// A04: ids have 128 random bits, secrets 256.
#[test]
fn no_id_can_be_guessed_from_another() {
    let ids: BTreeSet<String> = (0..1000).map(|_| crate::random::id("x")).collect();
    assert_eq!(ids.len(), 1000);
    assert!(ids.iter().all(|id| id.len() == 2 + 32));
    // About 64 of 128 random bits differ between two ids; 20 is 7 standard deviations below that.
    let bits = |id: &String| u128::from_str_radix(&id[2..], 16).unwrap();
    let made: Vec<String> = (0..100).map(|_| crate::random::id("x")).collect();
    for pair in made.windows(2) {
        assert!((bits(&pair[0]) ^ bits(&pair[1])).count_ones() > 20);
    }
}
