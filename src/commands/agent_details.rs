//! Agents with all their keys: the hub's list omits those that may be long.

use std::collections::HashMap;

use serde_json::{Map, Value};
use wire::ids::encode_uri_component;

use super::{cells::text, get::collection};
use crate::{cli::GetKind, client::HubClient, exit::Failure};

/// Keys that the list omits.
const OMITTED: [&str; 3] = ["systemPrompt", "defaultParams", "extras"];

/// Cache of the omitted keys, so that an unchanged agent is requested once.
#[derive(Default)]
pub(super) struct AgentDetails {
    /// `updatedAt` and the omitted keys by id.
    cache: HashMap<String, (Value, Map<String, Value>)>,
}

impl AgentDetails {
    /// Adds the omitted keys to a list of agents. Agents that were deleted meanwhile are removed.
    pub(super) async fn add(&mut self, hub: &HubClient, answer: Value) -> Result<Value, Failure> {
        let Value::Array(rows) = answer else { return Ok(answer) };
        let mut complete = Vec::with_capacity(rows.len());
        let mut cache = HashMap::new();
        for mut row in rows {
            // The list of a classic hub omits nothing.
            if row.get(OMITTED[0]).is_some() {
                complete.push(row);
                continue;
            }
            let id = text(&row, "id");
            let details = match self.cache.remove(&id) {
                Some((updated_at, details)) if updated_at == row["updatedAt"] => details,
                _ => match details(hub, &row).await? {
                    Some(details) => details,
                    None => continue,
                },
            };
            if let Value::Object(row) = &mut row {
                row.extend(details.clone());
            }
            cache.insert(id, (row["updatedAt"].clone(), details));
            complete.push(row);
        }
        self.cache = cache;
        Ok(Value::Array(complete))
    }
}

/// Requests the omitted keys of an agent; `None` if it was deleted.
async fn details(hub: &HubClient, row: &Value) -> Result<Option<Map<String, Value>>, Failure> {
    let name = row["name"].as_str().unwrap_or_default();
    let agent = hub.find(&format!("{}/{}", collection(GetKind::Agent), encode_uri_component(name))).await?;
    Ok(agent.map(|agent| OMITTED.iter().map(|key| ((*key).to_owned(), agent[*key].clone())).collect()))
}
