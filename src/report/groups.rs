//! How the groups stand, in the words of `status` and `describe`.

use serde_json::Value;

use super::Collection;
use crate::config::DoctorConfig;
use crate::error::Result;
use crate::offsets::{Lines, Offsets, Selection, StatusOptions};

/// How many groups are described one by one; all of them are in the tables.
const DESCRIBED: usize = 50;

/// Returns the groups that the report is about; none: all.
pub(super) async fn add(collection: &mut Collection, config: &DoctorConfig, asked: &[String]) -> Vec<String> {
    let mut offsets = match Offsets::connect(&config.operator).await {
        Ok(offsets) => offsets,
        Err(error) => {
            collection.text("status.json", "", Err(error.report()));
            collection.text("describe.json", "", Err(error.report()));
            return asked.to_vec();
        }
    };
    let groups = match asked {
        [] => offsets.lasting_groups().await,
        asked => Ok(asked.to_vec()),
    };
    let groups = groups.unwrap_or_default();
    let (mut stand, mut described) = (Vec::new(), Vec::new());
    for group in groups.iter().take(DESCRIBED) {
        stand.push(said(group, offsets.status(group, &StatusOptions::default()).await));
        described.push(said(group, offsets.describe(group, &Selection::AllTopics, Lines::All).await));
    }
    collection.json("status.json", "what `highwater status` says", Ok(Value::Array(stand)));
    collection.json("describe.json", "what `highwater offsets describe` says", Ok(Value::Array(described)));
    groups
}

fn said(group: &str, answer: Result<impl serde::Serialize>) -> Value {
    let value = match answer {
        Ok(found) => serde_json::to_value(found).map_err(|error| error.to_string()),
        Err(error) => Err(error.report()),
    };
    value.unwrap_or_else(|why| serde_json::json!({ "group": group, "unread": why }))
}
