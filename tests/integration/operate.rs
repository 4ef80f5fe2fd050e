//! What docs/operate.md and its dashboard say about a hub.

use std::collections::BTreeSet;
use std::path::Path;

use serde_json::Value;
use testkit::team::Team;

const PREFIX: &str = "virtual_llm_";

/// Metrics that only one of several hubs exposes.
pub(super) const OF_SEVERAL: [&str; 3] =
    ["virtual_llm_nats_up", "virtual_llm_database_up", "virtual_llm_other_hubs"];

fn read(file: &str) -> String {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(file)).unwrap()
}

/// The names of metrics in a text.
fn names(text: &str) -> BTreeSet<&str> {
    let is_name = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
    let starts = text.match_indices(PREFIX).map(|(start, _)| &text[start..]);
    starts.map(|rest| rest.split(|c| !is_name(c)).next().unwrap()).collect()
}

/// A panel or an alert on a metric that does not exist is empty for ever, and nobody notices.
#[actix_rt::test]
async fn dashboard_and_alerts_name_metrics_that_a_hub_exposes() {
    let team = Team::start().await;
    for streaming in [false, true] {
        assert_eq!(team.chat(streaming).await.status, 200);
    }
    let metrics = team.http.get("/metrics").await.body;
    // Samples, and the lines `# TYPE`, which have the names of histograms.
    let mut exposed = names(&metrics);
    exposed.extend(OF_SEVERAL);
    for file in ["docs/grafana/virtual-llm.json", "docs/grafana/alerts.yml", "docs/operate.md"] {
        let text = read(file);
        let named = names(&text);
        let unknown: Vec<_> = named.difference(&exposed).collect();
        assert!(!named.is_empty() && unknown.is_empty(), "{file}: {unknown:?}");
    }
}

#[test]
fn every_panel_has_a_title_and_a_query() {
    let dashboard: Value = serde_json::from_str(&read("docs/grafana/virtual-llm.json")).unwrap();
    let panels = dashboard["panels"].as_array().unwrap();
    assert!(panels.len() > 10);
    for panel in panels {
        assert!(panel["title"].is_string(), "{panel}");
        let queries = panel["targets"].as_array().unwrap();
        assert!(!queries.is_empty() && queries.iter().all(|query| query["expr"].is_string()), "{panel}");
    }
}
