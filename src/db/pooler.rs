//! Poolers that give every transaction another backend (PgBouncer's transaction mode).
//!
//! Behind one, what a worker says to its session does not stay true: `synchronous_commit`, the time-outs, prepared
//! statements, and the `application_name` by which a successor finds the backend of a frozen process. Nothing would
//! fail at once and everything sometimes, so it is refused before anything is read.

use deadpool_postgres::Object;
use tokio_postgres::SimpleQueryMessage;

use super::Db;
use crate::db::DbError;
use crate::error::Error;

/// In simple queries, for these work behind any pooler. A pass may be misled by what others do in the same moment.
const PASSES: usize = 3;

impl Db {
    /// Whether connections of ours share backends: then something between deals them out per transaction.
    ///
    /// Whichever order the pooler keeps: the latest backend to fall idle goes to `b`, the oldest to `c`, and a new
    /// one to `a`. Connections of their own always see their own.
    pub(crate) async fn shares_backends(&self) -> Result<bool, DbError> {
        let (a, b, c) = (self.control().await?, self.control().await?, self.control().await?);
        let mut shared = false;
        for _ in 0..PASSES {
            let first = backend(&a, "").await?;
            let others = [backend(&b, "BEGIN;").await?, backend(&c, "BEGIN;").await?];
            let again = backend(&a, "").await?;
            b.batch_execute("ROLLBACK").await?;
            c.batch_execute("ROLLBACK").await?;
            shared |= others.contains(&first) || others[0] == others[1] || again != first;
        }
        if shared {
            // Others will be given these backends: they shall not inherit our settings.
            for connection in [a, b, c] {
                connection.batch_execute("RESET ALL").await?;
            }
        }
        Ok(shared)
    }
}

/// The error for such a pooler.
pub(crate) fn refused() -> Error {
    Error::configuration(
        "postgres_url leads to a connection pooler in transaction mode, behind which neither the fence's session \
         settings nor prepared statements hold: use its session mode, or connect to the server itself",
    )
}

async fn backend(client: &Object, before: &str) -> Result<Option<String>, DbError> {
    let answer = client.simple_query(&format!("{before}SELECT pg_catalog.pg_backend_pid()")).await?;
    Ok(answer.iter().find_map(|message| match message {
        SimpleQueryMessage::Row(row) => row.get(0).map(str::to_owned),
        _ => None,
    }))
}
