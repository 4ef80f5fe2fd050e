//! Agents with all their keys: a hub of ours leaves out of its list what may be long.

use std::collections::HashMap;

use actix_web::http::StatusCode;
use serde_json::{Map, Value};

use super::{get::collection, rows::text};
use crate::{
    cli::GetKind,
    client::{HubClient, encoded},
    exit::Failure,
};

/// What the list leaves out.
const LEFT_OUT: [&str; 3] = ["systemPrompt", "defaultParams", "extras"];

/// What was read of agents so far: one that did not change is not asked for again.
#[derive(Default)]
pub(crate) struct Whole {
    /// By id: when it changed last, and what the list leaves out.
    known: HashMap<String, (Value, Map<String, Value>)>,
}

impl Whole {
    /// The list with whole agents, without those that were deleted meanwhile.
    pub(crate) async fn fill(&mut self, hub: &HubClient, answer: Value) -> Result<Value, Failure> {
        let Value::Array(rows) = answer else { return Ok(answer) };
        let mut whole = Vec::with_capacity(rows.len());
        let mut known = HashMap::new();
        for mut row in rows {
            // A classic hub's list has it.
            if row.get(LEFT_OUT[0]).is_some() {
                whole.push(row);
                continue;
            }
            let id = text(&row, "id");
            let rest = match self.known.remove(&id) {
                Some((changed, rest)) if changed == row["updatedAt"] => rest,
                _ => match self.ask(hub, &row).await? {
                    Some(rest) => rest,
                    None => continue,
                },
            };
            if let Value::Object(row) = &mut row {
                row.extend(rest.clone());
            }
            known.insert(id, (row["updatedAt"].clone(), rest));
            whole.push(row);
        }
        self.known = known;
        Ok(Value::Array(whole))
    }

    async fn ask(&self, hub: &HubClient, row: &Value) -> Result<Option<Map<String, Value>>, Failure> {
        let name = row["name"].as_str().unwrap_or_default();
        match hub.get(&format!("{}/{}", collection(GetKind::Agent), encoded(name))).await {
            Ok(one) => {
                let left_out = LEFT_OUT.iter().map(|key| ((*key).to_owned(), one[*key].clone()));
                Ok(Some(left_out.collect()))
            }
            Err(error) if error.is(StatusCode::NOT_FOUND) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }
}
