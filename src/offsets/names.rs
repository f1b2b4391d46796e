//! The names of groups and topics, for whoever types one.

use super::APPLICATION_NAME;
use crate::config::DatabaseConfig;
use crate::error::{Error, Result};

/// More would not help anybody to choose.
const MOST: i64 = 1_000;

/// The groups of a database; or the topics of one of them, or of all where its name is empty. Connects anew, and asks
/// nothing else.
///
/// # Errors
///
/// If Postgres does not answer, or has no such tables.
pub async fn names(database: &DatabaseConfig, of_group: Option<&str>) -> Result<Vec<String>> {
    let client = database.connect(APPLICATION_NAME).await?;
    let topics = database.schema.qualified("group_topic");
    let rows = match of_group {
        None => {
            let sql = format!("SELECT DISTINCT group_id FROM {topics} ORDER BY 1 LIMIT {MOST}");
            client.query(&sql, &[]).await
        }
        Some(group) => {
            let sql = format!(
                "SELECT DISTINCT topic FROM {topics} WHERE $1 = '' OR group_id = $1 ORDER BY 1 LIMIT {MOST}"
            );
            client.query(&sql, &[&group]).await
        }
    };
    let rows = rows.map_err(|source| Error::postgres("read the names of groups and topics", source))?;
    Ok(rows.iter().map(|row| row.get(0)).collect())
}
