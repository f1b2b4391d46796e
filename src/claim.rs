//! Claims: the row in `consumer_offset` that says who may commit a partition, and from where (EO-3, EO-4).

pub(crate) mod guard;
mod holder;
mod lost;
mod lost_answer;
pub(crate) mod mark;
mod obtain;
pub(crate) mod start;
mod waiting;

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tokio_postgres::Row;
use tokio_postgres::types::ToSql;
use tracing::Instrument as _;
use uuid::Uuid;

use crate::NextOffset;
use crate::batch::{ClaimId, EpochMark, PartitionKey};
use crate::consumer::buffer::Seen;
use crate::consumer::catalog::TopicIdentity;
use crate::db::{Db, DbError, Lease, blockers};
use crate::trace;
pub(crate) use guard::Guard;
pub(crate) use obtain::{ClaimOutcome, Obtain};
pub(crate) use waiting::{On, Waiting};

/// A row as it stands.
#[derive(Debug, Clone)]
pub(crate) struct OffsetRow {
    pub(crate) key: PartitionKey,
    pub(crate) claim: ClaimId,
    pub(crate) next_offset: NextOffset,
    pub(crate) owner: Option<Uuid>,
    /// By the database's clock: see [`live`](crate::db::live).
    pub(crate) owner_live: bool,
    pub(crate) paused_reason: Option<String>,
    /// Paused as an error is: see [`ErrorKind::Operator`](crate::ErrorKind::Operator).
    pub(crate) halted: bool,
    /// The owner, another live process, asks for time to finish a batch.
    pub(crate) draining: bool,
}

/// A claim that was granted.
#[derive(Debug, Clone)]
pub(crate) struct Claimed {
    pub(crate) key: PartitionKey,
    pub(crate) claim: ClaimId,
    pub(crate) next_offset: NextOffset,
    /// The last record that was applied before it.
    pub(crate) mark: Option<EpochMark>,
    /// Which topic the guard found behind the name; unknown before it has passed.
    pub(crate) identity: TopicIdentity,
    /// Records were parked behind others of their key before, as far as is noted.
    pub(crate) parking: bool,
    /// What Kafka has told the guard of how far it goes.
    pub(crate) seen: Seen,
}

/// Who decides which of several live processes a partition belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Arbiter {
    /// The group: a claim takes the row from whoever holds it.
    Kafka,
    /// Nobody, so first come, first served: a claim never takes a row from another live process. Two that did would
    /// fence each other for ever.
    Nobody,
}

/// Tables of version 1 have no such column, and this release runs on them, too.
const HALTED: &str = "(coalesce((to_jsonb(o) ->> 'halted')::boolean, false) AND o.paused_reason IS NOT NULL)";

/// The statements of a claim's life.
#[derive(Debug)]
pub(crate) struct Claims {
    db: Arc<Db>,
    arbiter: Arbiter,
    holder: String,
    claim_free: String,
    claim_waiting: String,
    release: String,
    release_lost: String,
    mark_draining: String,
    rows: String,
    unlocked: String,
    step_over_lost: String,
    /// Which cluster it is, once the guard has heard of it: for traces.
    cluster: OnceLock<String>,
}

impl Claims {
    pub(crate) fn new(db: Arc<Db>, arbiter: Arbiter) -> Self {
        let offsets = db.schema.qualified("consumer_offset");
        let history = db.schema.qualified("claim_history");
        let live = |owner: &str| crate::db::live(&db.schema, owner);
        // A successor under the same instance id does not wait for its predecessor.
        let draining = format!(
            "(coalesce(o.drain_until > clock_timestamp(), false) AND o.owner IS DISTINCT FROM $4 \
              AND o.instance_id IS DISTINCT FROM coalesce($5::text, '') AND {})",
            live("o.owner")
        );
        let held = match arbiter {
            Arbiter::Kafka => "false".to_owned(),
            Arbiter::Nobody => format!("(o.owner IS DISTINCT FROM $4 AND {})", live("o.owner")),
        };
        // One statement: a client that freezes between two would hold the locks of the first.
        // Key order everywhere, or two workers deadlock (PITFALLS 22). The history is written from the locked
        // rows, so that a commit which slipped in before the lock is in it.
        let claim = |locking: &str| {
            format!(
                "WITH old AS ( \
                   SELECT o.*, w.new_token FROM {offsets} o \
                   JOIN unnest($2::text[], $3::int4[], $7::uuid[]) AS w(topic, partition, new_token) USING (topic, partition) \
                   WHERE o.group_id = $1 AND o.paused_reason IS NULL AND NOT {draining} AND NOT {held} \
                     AND o.claim_token = coalesce($6, o.claim_token) \
                   ORDER BY o.topic, o.partition FOR UPDATE OF o{locking}), \
                 history AS ( \
                   INSERT INTO {history} (group_id, topic, partition, epoch, claim_token, owner, instance_id, claimed_offset, \
                     end_offset, applied_records, applied_batches, claimed_at, committed_at) \
                   SELECT group_id, topic, partition, epoch, claim_token, claimed_by, instance_id, claimed_offset, next_offset, \
                     applied_records, applied_batches, claimed_at, committed_at \
                   FROM old WHERE claimed_at IS NOT NULL) \
                 UPDATE {offsets} o SET epoch = old.epoch + 1, claim_token = old.new_token, owner = $4, claimed_by = $4, instance_id = $5, \
                   drain_until = NULL, claimed_offset = old.next_offset, claimed_at = clock_timestamp(), \
                   applied_records = 0, applied_batches = 0 \
                 FROM old WHERE o.group_id = old.group_id AND o.topic = old.topic AND o.partition = old.partition \
                 RETURNING o.topic, o.partition, o.epoch, o.claim_token, o.next_offset, o.leader_epoch, o.leader_epoch_offset, \
                   to_jsonb(o) ->> 'parking_from' IS NOT NULL AS parking"
            )
        };
        Self {
            claim_free: claim(" SKIP LOCKED"),
            claim_waiting: claim(""),
            // By token, which alone says all: nobody else has ever had it.
            release_lost: format!(
                "UPDATE {offsets} SET owner = NULL, drain_until = NULL \
                 WHERE group_id = $1 AND topic = $2 AND partition = $3 AND claim_token = $4 AND owner = $5"
            ),
            // By token: a late release matches nothing once somebody else has claimed.
            release: format!(
                "UPDATE {offsets} SET owner = NULL, drain_until = NULL \
                 WHERE group_id = $1 AND topic = $2 AND partition = $3 AND epoch = $4 AND claim_token = $5 AND owner = $6"
            ),
            // SKIP LOCKED: if a commit holds the row, the claimers wait for that commit anyway.
            mark_draining: format!(
                "UPDATE {offsets} o SET drain_until = clock_timestamp() + $6::int8 * interval '1 millisecond' \
                 FROM (SELECT group_id, topic, partition FROM {offsets} \
                       WHERE group_id = $1 AND topic = $2 AND partition = $3 AND epoch = $4 AND claim_token = $5 AND owner IS NOT NULL \
                       FOR UPDATE SKIP LOCKED) mine \
                 WHERE o.group_id = mine.group_id AND o.topic = mine.topic AND o.partition = mine.partition"
            ),
            rows: format!(
                "SELECT o.topic, o.partition, o.epoch, o.claim_token, o.next_offset, o.owner, {} AS owner_live, \
                   o.paused_reason, {HALTED} AS halted, {draining} AS draining \
                 FROM {offsets} o JOIN unnest($2::text[], $3::int4[]) AS w(topic, partition) USING (topic, partition) \
                 WHERE o.group_id = $1",
                live("o.owner")
            ),
            unlocked: format!(
                "SELECT o.topic, o.partition FROM {offsets} o JOIN unnest($2::text[], $3::int4[]) AS w(topic, partition) \
                 USING (topic, partition) WHERE o.group_id = $1 FOR UPDATE OF o SKIP LOCKED"
            ),
            step_over_lost: lost::sql(&db.schema),
            holder: holder::sql(&db.schema),
            arbiter,
            db,
            cluster: OnceLock::new(),
        }
    }

    fn heard_of(&self, identity: &TopicIdentity) {
        if let Some(cluster) = &identity.cluster_id {
            self.cluster.get_or_init(|| cluster.clone());
        }
    }

    pub(crate) fn cluster(&self) -> Option<&str> {
        self.cluster.get().map(String::as_str)
    }

    pub(crate) fn db(&self) -> &Arc<Db> {
        &self.db
    }

    /// Claims those of `keys` whose rows are free, in one statement. `tokens`, one per key: random and never used before,
    /// made here so that a claim whose answer is lost can still be given back.
    pub(crate) async fn claim_free(
        &self,
        keys: &[PartitionKey],
        tokens: &[Uuid],
    ) -> Result<Vec<Claimed>, DbError> {
        let client = self.db.control().await?;
        self.claim(&client, &self.claim_free, keys, tokens, None).await
    }

    /// Claims one row, waiting for its lock up to `lock_timeout`; after [`blockers::PATIENCE`] it looks for dead
    /// blockers. `None` if the row is missing, paused or draining, or, where nobody arbitrates, no longer as it was
    /// `seen`: whoever has claimed it during the wait is live, though the statement's snapshot does not know it.
    pub(crate) async fn claim_waiting(
        &self,
        seen: &OffsetRow,
        token: Uuid,
    ) -> Result<Option<Claimed>, DbError> {
        let client = self.db.control().await?;
        let pid = backend_pid(&client).await?;
        let keys = std::slice::from_ref(&seen.key);
        let expected = (self.arbiter == Arbiter::Nobody).then_some(seen.claim.token);
        let claim = self.claim(&client, &self.claim_waiting, keys, std::slice::from_ref(&token), expected);
        let claimed = watch(&self.db, pid, claim).await;
        let claimed = claimed.map_err(|error| self.db.blockers.explain(error, pid))?;
        Ok(claimed.into_iter().next())
    }

    async fn claim(
        &self,
        client: &Lease,
        sql: &str,
        keys: &[PartitionKey],
        tokens: &[Uuid],
        expected: Option<Uuid>,
    ) -> Result<Vec<Claimed>, DbError> {
        let (topics, partitions) = columns(keys);
        let identity = &self.db.identity;
        debug_assert_eq!(keys.len(), tokens.len(), "each claim has a token of its own");
        let span = trace::claim(keys, identity);
        let claimed = async {
            let statement = client.prepare_cached(sql).await?;
            client
                .query(
                    &statement,
                    &[
                        &&*identity.group,
                        &topics,
                        &partitions,
                        &identity.owner,
                        &identity.instance_id.as_deref(),
                        &expected,
                        &tokens,
                    ],
                )
                .await
        };
        let rows = claimed.instrument(span.clone()).await;
        trace::claimed(&span, rows.as_deref().map(<[_]>::len));
        Ok(rows?
            .iter()
            .map(|row| Claimed {
                key: key(row),
                claim: claim_id(row),
                next_offset: next_offset(row),
                mark: mark(row),
                identity: TopicIdentity::default(),
                parking: row.get("parking"),
                seen: Seen::default(),
            })
            .collect())
    }

    /// Gives a row back; `false` if it is no longer under this claim: somebody else has taken it.
    pub(crate) async fn release(&self, key: &PartitionKey, claim: ClaimId) -> Result<bool, DbError> {
        let client = self.db.control().await?;
        let identity = &self.db.identity;
        let statement = client.prepare_cached(&self.release).await?;
        let released = client
            .execute(
                &statement,
                &[
                    &&*identity.group,
                    &&*key.topic,
                    &key.partition,
                    &claim.epoch,
                    &claim.token,
                    &identity.owner,
                ],
            )
            .await?;
        Ok(released == 1)
    }

    /// Gives a row back that a claim may have taken whose answer was lost; `false` if it has not, or not yet.
    pub(crate) async fn release_lost(&self, key: &PartitionKey, token: Uuid) -> Result<bool, DbError> {
        let client = self.db.control().await?;
        let identity = &self.db.identity;
        let parameters: [&(dyn ToSql + Sync); 5] =
            [&&*identity.group, &&*key.topic, &key.partition, &token, &identity.owner];
        Ok(client.execute(&self.release_lost, &parameters).await? == 1)
    }

    /// Asks successors to wait up to `limit` for a batch that is under way.
    pub(crate) async fn mark_draining(
        &self,
        key: &PartitionKey,
        claim: ClaimId,
        limit: Duration,
    ) -> Result<(), DbError> {
        let client = self.db.control().await?;
        let limit_ms = i64::try_from(limit.as_millis()).unwrap_or(i64::MAX);
        let statement = client.prepare_cached(&self.mark_draining).await?;
        client
            .execute(
                &statement,
                &[
                    &&*self.db.identity.group,
                    &&*key.topic,
                    &key.partition,
                    &claim.epoch,
                    &claim.token,
                    &limit_ms,
                ],
            )
            .await?;
        Ok(())
    }

    /// The rows of `keys` as they stand; a missing row is not in the answer.
    pub(crate) async fn rows(&self, keys: &[PartitionKey]) -> Result<Vec<OffsetRow>, DbError> {
        let client = self.db.control().await?;
        let (topics, partitions) = columns(keys);
        let identity = &self.db.identity;
        let statement = client.prepare_cached(&self.rows).await?;
        let rows = client
            .query(
                &statement,
                &[&&*identity.group, &topics, &partitions, &identity.owner, &identity.instance_id.as_deref()],
            )
            .await?;
        Ok(rows
            .iter()
            .map(|row| OffsetRow {
                key: key(row),
                claim: claim_id(row),
                next_offset: next_offset(row),
                owner: row.get("owner"),
                owner_live: row.get("owner_live"),
                paused_reason: row.get("paused_reason"),
                halted: row.get("halted"),
                draining: row.get("draining"),
            })
            .collect())
    }

    /// Those of `keys` whose rows nobody has locked.
    pub(crate) async fn unlocked(&self, keys: &[PartitionKey]) -> Result<Vec<PartitionKey>, DbError> {
        let client = self.db.control().await?;
        let (topics, partitions) = columns(keys);
        let rows = client.query(&self.unlocked, &[&&*self.db.identity.group, &topics, &partitions]).await?;
        Ok(rows.iter().map(key).collect())
    }
}

/// Runs `waiting`, which waits for locks on backend `pid`; when it takes long, ends dead blockers meanwhile.
pub(crate) async fn watch<T>(db: &Arc<Db>, pid: i32, waiting: impl Future<Output = T>) -> T {
    tokio::pin!(waiting);
    loop {
        match tokio::time::timeout(blockers::PATIENCE, &mut waiting).await {
            Ok(done) => return done,
            Err(_) => {
                // In a task of its own: the lock is free, and `waiting` done, before the answer is read that a
                // backend was ended, and that must not go unsaid.
                let look = tokio::spawn(look(Arc::clone(db), pid));
                // Whatever comes first: a free lock must not wait for this look-up.
                tokio::select! {
                    done = &mut waiting => return done,
                    _ = look => {}
                }
            }
        }
    }
}

async fn look(db: Arc<Db>, pid: i32) {
    let looked = async {
        let client = db.control().await?;
        db.blockers.end_dead(&client, pid).await.map_err(DbError::from)
    };
    if let Err(error) = looked.await {
        tracing::debug!(%error, "could not look for dead blockers");
    }
}

async fn backend_pid(client: &Lease) -> Result<i32, tokio_postgres::Error> {
    let statement = client.prepare_cached("SELECT pg_backend_pid()").await?;
    Ok(client.query_one(&statement, &[]).await?.get(0))
}

pub(crate) fn columns(keys: &[PartitionKey]) -> (Vec<&str>, Vec<i32>) {
    keys.iter().map(|key| (&*key.topic, key.partition)).unzip()
}

fn key(row: &Row) -> PartitionKey {
    PartitionKey { topic: row.get::<_, &str>("topic").into(), partition: row.get("partition") }
}

fn claim_id(row: &Row) -> ClaimId {
    ClaimId { epoch: row.get("epoch"), token: row.get("claim_token") }
}

fn next_offset(row: &Row) -> NextOffset {
    NextOffset::new(row.get("next_offset")).expect("the table's check constraint forbids negative offsets")
}

/// A position that an operator has moved back lies before the last record: then the epoch is checked there.
fn mark(row: &Row) -> Option<EpochMark> {
    let leader_epoch: i32 = row.get::<_, Option<i32>>("leader_epoch")?;
    let at = NextOffset::new(row.get::<_, Option<i64>>("leader_epoch_offset")?)?;
    Some(EpochMark { at: at.min(next_offset(row)), leader_epoch })
}
