//! Session settings (PITFALLS 23): a half-open connection must not hold locks for hours, whichever side is gone.

use std::time::Duration;

use tokio_postgres::error::SqlState;
use tokio_postgres::{Client, Error};
use uuid::Uuid;

use crate::config::Config;
use crate::schema::SchemaName;

/// Added to `max_processing_time` for the server's own limits, so that the worker's comes first and the server's
/// only acts when the worker cannot.
const GRACE: Duration = Duration::from_secs(5);
/// A control transaction has a few statements, each of which is limited by itself.
const CONTROL_STATEMENTS: u32 = 6;
/// How long a new session may take to be set up: two round trips.
const PREPARE_LIMIT: Duration = Duration::from_secs(5);
/// Added to the server's limit of a control statement, so that a server that lives says itself that time is up.
const ANSWER: Duration = Duration::from_secs(2);
/// How long a dead peer may stay unnoticed, on either side.
const PEER_TIMEOUT: Duration = Duration::from_secs(10);

/// Settings of the client's side of the connection.
pub(super) fn client_settings(config: &mut tokio_postgres::Config, application_name: &str) {
    config
        .application_name(application_name)
        .keepalives(true)
        .keepalives_idle(Duration::from_secs(5))
        .keepalives_interval(Duration::from_secs(2))
        .keepalives_retries(3)
        .tcp_user_timeout(PEER_TIMEOUT);
}

/// For the connections on which batches are applied.
pub(super) fn lane_settings(config: &Config) -> String {
    let limit = config.max_processing_time + GRACE;
    // The answer to COMMIT may take as long again as the batch.
    format!("{}{}", common(config), limits(limit, limit + config.max_processing_time))
}

/// What each transaction of a batch begins with: the session as it was when it was new, whatever the one before has left.
/// The name and the encoding are what the connection began with, but behind PgBouncer that was another client's.
pub(super) fn lane_renewal(config: &Config, application_name: &str) -> String {
    let settings = lane_settings(config);
    format!("RESET ALL;SET application_name = '{application_name}';SET client_encoding = 'UTF8';{settings}")
}

/// For claims and reads: nothing there takes longer than waiting for one lock.
pub(super) fn control_settings(config: &Config) -> String {
    let limit = config.lock_timeout + GRACE;
    format!("{}{}", common(config), limits(limit, CONTROL_STATEMENTS * limit))
}

/// How long a control statement may take before the worker gives up its connection.
pub(super) fn control_limit(config: &Config) -> Duration {
    config.lock_timeout + GRACE + ANSWER
}

/// `transaction_timeout` is there from Postgres 17 on.
fn limits(statement: Duration, transaction: Duration) -> String {
    let (statement, transaction) = (statement.as_millis(), transaction.as_millis());
    format!(
        "SET idle_in_transaction_session_timeout = {statement};SET statement_timeout = {statement};\
         SELECT set_config('transaction_timeout', '{transaction}', false) \
         WHERE current_setting('server_version_num')::int >= 170000;"
    )
}

fn common(config: &Config) -> String {
    let peer = PEER_TIMEOUT.as_millis();
    format!(
        "SET synchronous_commit = on;SET standard_conforming_strings = on;\
         SET default_transaction_isolation = 'read committed';\
         SET lock_timeout = {lock};\
         SET tcp_keepalives_idle = 5;SET tcp_keepalives_interval = 2;SET tcp_keepalives_count = 3;\
         SET tcp_user_timeout = {peer};\
         SET client_connection_check_interval = {check};",
        lock = config.lock_timeout.as_millis(),
        check = 2_000,
    )
}

/// What a new session is told.
#[derive(Debug, Clone)]
pub(super) struct Opening {
    pub(super) settings: String,
    /// `None`: nobody needs to know.
    pub(super) record: Option<String>,
}

/// Records whose session this is: `application_name` alone is what anybody may write there, and a pooler may give the
/// backend to somebody else later. The table is unlogged, for no session outlives its server: this costs no flush.
pub(super) fn record(schema: &SchemaName, owner: Uuid) -> String {
    format!(
        "INSERT INTO {} (pid, backend_start, owner) \
         SELECT pid, backend_start, '{owner}' FROM pg_catalog.pg_stat_activity WHERE pid = pg_catalog.pg_backend_pid() \
         ON CONFLICT (pid) DO UPDATE SET backend_start = excluded.backend_start, owner = excluded.owner",
        schema.qualified("worker_session"),
    )
}

/// Applies the settings to a new connection, and records whose it is.
pub(super) async fn prepare(client: &Client, opening: &Opening) -> Result<(), Error> {
    let prepared = tokio::time::timeout(PREPARE_LIMIT, async {
        client.batch_execute(&opening.settings).await?;
        let Some(record) = &opening.record else { return Ok(()) };
        match client.batch_execute(record).await {
            // The start checks the tables.
            Err(error) if error.code() == Some(&SqlState::UNDEFINED_TABLE) => Ok(()),
            // Without a record, whoever is blocked by this session waits for longer should this process freeze.
            Err(error) if error.as_db_error().is_some() && !error.is_closed() => {
                tracing::warn!(%error, "could not record whose session this is");
                Ok(())
            }
            recorded => recorded,
        }
    });
    prepared.await.unwrap_or_else(|_| Err(Error::__private_api_timeout()))
}

#[cfg(test)]
mod tests {
    use deadpool_postgres::Object;
    use uuid::Uuid;

    use super::*;
    use crate::PartialConfig;
    use crate::db::{Db, Identity};
    use crate::testing::Postgres;

    async fn show(client: &Object, setting: &str) -> String {
        let row = client.query_one(&format!("SHOW {setting}"), &[]).await.expect(setting);
        row.get(0)
    }

    /// PITFALLS 23, read back from the sessions themselves.
    #[tokio::test]
    async fn sessions_have_their_limits() {
        let postgres = Postgres::shared().await.unwrap();
        let config = PartialConfig::default()
            .brokers(vec!["localhost:1".to_owned()])
            .postgres_url(postgres.admin_url())
            .group("g")
            .topics(vec!["t".to_owned()])
            .max_processing_time(Duration::from_secs(20))
            .lock_timeout(Duration::from_millis(1500))
            .finish()
            .unwrap();
        let identity = Identity { owner: Uuid::new_v4(), group: "g".into(), instance_id: None };
        let name = identity.application_name(&config.schema);
        let db = Db::new(&config, identity).unwrap();
        let (lane, control) = (db.lane().await.unwrap(), db.control().await.unwrap());
        let control = control.raw();
        for client in [&lane, control] {
            for (setting, value) in [
                ("synchronous_commit", "on"),
                ("standard_conforming_strings", "on"),
                ("default_transaction_isolation", "read committed"),
                ("transaction_read_only", "off"),
                ("lock_timeout", "1500ms"),
                ("tcp_keepalives_idle", "5"),
                ("tcp_keepalives_interval", "2"),
                ("tcp_keepalives_count", "3"),
                ("tcp_user_timeout", "10000"),
                ("client_connection_check_interval", "2s"),
                ("application_name", name.as_str()),
            ] {
                assert_eq!(show(client, setting).await, value, "{setting}");
            }
        }
        let version: i32 = show(&lane, "server_version_num").await.parse().unwrap();
        for (client, statement, transaction) in [(&lane, "25s", "45s"), (control, "6500ms", "39s")] {
            assert_eq!(show(client, "statement_timeout").await, statement);
            assert_eq!(show(client, "idle_in_transaction_session_timeout").await, statement);
            if version >= 170_000 {
                assert_eq!(show(client, "transaction_timeout").await, transaction);
            }
        }
    }
}
