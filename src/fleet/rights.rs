//! What the role may read.

use tokio_postgres::Client;

use crate::error::{Error, Result};
use crate::schema::SchemaName;

/// What this role may do beside what it must.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rights {
    pub(super) claims: bool,
    pub(super) events: bool,
    pub(super) control: bool,
    pub(super) letters: bool,
    /// … and what other roles' sessions are at.
    pub(super) sessions: bool,
    /// … and write what Kafka says of partitions that nobody holds.
    pub(super) survey: bool,
}

impl Rights {
    pub(super) async fn read(client: &Client, schema: &SchemaName) -> Result<Self> {
        let names = ["claim_history", "offset_event", "partition_control", "dead_letter"];
        let tables: Vec<String> = names.iter().map(|name| schema.qualified(name)).collect();
        // Of dead letters a monitor has some columns, and those are all that is read here.
        let sql = "SELECT has_any_column_privilege(t, 'SELECT') FROM unnest($1::text[]) WITH ORDINALITY AS r(t, n) ORDER BY n";
        let rows = client.query(sql, &[&tables]).await;
        let rows = rows.map_err(|source| Error::postgres("ask what this role may read", source))?;
        let may = |index: usize| rows.get(index).is_some_and(|row| row.get(0));
        let sql = "SELECT pg_has_role('pg_read_all_stats', 'USAGE')";
        let sessions = client.query_one(sql, &[]).await;
        let sessions =
            sessions.map_err(|source| Error::postgres("ask what this role may see", source))?.get(0);
        let survey = Self::may_survey(client, schema).await?;
        Ok(Self { claims: may(0), events: may(1), control: may(2), letters: may(3), sessions, survey })
    }

    /// Whether it may write what Kafka says.
    pub(super) async fn may_survey(client: &Client, schema: &SchemaName) -> Result<bool> {
        let sql =
            "SELECT has_table_privilege($1::text, 'INSERT') AND has_table_privilege($1::text, 'UPDATE')";
        let survey = client.query_one(sql, &[&schema.qualified("partition_survey")]).await;
        Ok(survey.map_err(|source| Error::postgres("ask what this role may write", source))?.get(0))
    }

    pub(super) fn missing(&self) -> Vec<&'static str> {
        let all = [
            (self.claims, "claim_history"),
            (self.events, "offset_event"),
            (self.control, "partition_control"),
            (self.letters, "dead_letter"),
            (self.survey, "partition_survey"),
        ];
        all.iter().filter(|(may, _)| !may).map(|(_, name)| *name).collect()
    }
}
