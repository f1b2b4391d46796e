//! A database that goes back in time: rows and offsets go back together.

use std::sync::Arc;
use std::time::Duration;

use highwater::testing::{Database, wait_until};

use super::Faults;
use crate::Result;
use crate::fleet::PATIENCE;
use crate::servers::Primary;

/// The sum of all positions: what is applied.
pub(super) const APPLIED: &str = "SELECT coalesce(sum(next_offset), 0)::int8 FROM highwater.consumer_offset";

/// Made when a copy is complete, so that only what is newer has it.
const MARK: &str = "CREATE TABLE newer_than_the_copy ()";
const MARKED: &str = "SELECT count(*) FROM pg_class WHERE relname = 'newer_than_the_copy'";

/// Waits until more than `position` is applied; returns how much.
async fn applied_past(database: &Database, position: i64) -> Result<i64> {
    let applied = wait_until("something more is applied", PATIENCE, async || {
        // A server that is just coming up, or has no rows yet, is asked again.
        let rows = database.query(APPLIED, &[]).await.unwrap_or_default();
        let applied = rows.first().map(|row| row.get::<_, i64>(0));
        Ok(applied.filter(|applied| *applied > position))
    });
    Ok(applied.await?)
}

impl Faults<'_> {
    /// Waits until more is applied than is now.
    pub(super) async fn applied_from_now(&self) -> Result<i64> {
        let now = self.servers.number(APPLIED).await?;
        applied_past(&self.servers.database(), now).await
    }

    /// The restore of a backup.
    pub(super) async fn rewind(&self, behind: Duration) -> Result<String> {
        let _alone = self.postgres.lock().await;
        let Primary { postgres, database } = self.servers.primary();
        let backup = postgres.backup().await?;
        let old = self.servers.number(APPLIED).await?;
        database.execute(MARK).await?;
        tokio::time::sleep(behind).await;
        let applied = applied_past(&database, old).await?;
        postgres.restore(&backup).await?;
        if self.servers.number(MARKED).await? != 0 {
            return Err("the database is as it was".into());
        }
        let reached = applied_past(&database, applied).await?;
        Ok(format!("from {applied} applied offsets back to about {old}, and on to {reached} again"))
    }

    /// The primary is lost with commits that its replica never received; the service's address moves to the replica.
    pub(super) async fn fail_over(&self, behind: Duration) -> Result<String> {
        let _alone = self.postgres.lock().await;
        let primary = self.servers.primary();
        let replica = Arc::new(primary.postgres.replica().await?);
        let database = replica.database(primary.database.name());
        let followed = self.servers.number(APPLIED).await?;
        applied_past(&database, followed).await?;
        replica.detach().await?;
        let received = applied_past(&database, followed).await?;
        primary.database.execute(MARK).await?;
        tokio::time::sleep(behind).await;
        let applied = applied_past(&primary.database, received).await?;
        primary.postgres.kill().await?;
        database.execute("SELECT pg_promote()").await?;
        self.servers.fail_over_to(Primary { postgres: replica, database: database.clone() })?;
        if self.servers.number(MARKED).await? != 0 {
            return Err("the replica had received everything".into());
        }
        let reached = applied_past(&database, applied).await?;
        Ok(format!(
            "the replica took over at {received} of {applied} applied offsets, and is at {reached} now"
        ))
    }
}
