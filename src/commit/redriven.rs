//! Dead letters that are applied once more: their rows and their states in one transaction, under the claim of their
//! partition, whose offset does not move.

use std::collections::BTreeMap;
use std::pin::Pin;

use tokio_postgres::{Error, GenericClient};
use uuid::Uuid;

use super::{Attempt, Commit, Ended, LeftBehind};
use crate::batch::{ClaimId, Part, PartitionKey, Redriven};
use crate::claim::watch;
use crate::db::Db;
use crate::dead_letter::{Rejection, WAITS, follow, of_topic, on_list, same_key};
use crate::failpoint::failpoint;
use crate::record::RecordId;
use crate::tx::protected;
use crate::verdict::Place;
use crate::{Batch, HandlerError, Tx};

/// The statements.
#[derive(Debug)]
pub(crate) struct Redrive {
    fence: String,
    lock: String,
    done: String,
    follow: String,
    failed: String,
    group: String,
    owner: Uuid,
}

/// A dead letter that was rejected once more.
#[derive(Debug)]
pub(crate) struct FailedAgain<'a> {
    pub(crate) request: i64,
    pub(crate) letter: i64,
    /// Who has tried it, under which claim.
    pub(crate) key: &'a PartitionKey,
    pub(crate) claim: ClaimId,
    pub(crate) handler: &'a str,
    pub(crate) why: &'a Rejection,
}

impl Redrive {
    pub(super) fn new(db: &Db) -> Self {
        let [offsets, letters, attempts, requests, items] =
            ["consumer_offset", "dead_letter", "dead_letter_attempt", "redrive_request", "redrive_letter"]
                .map(|table| db.schema.qualified(table));
        // As in the compare-and-set: what the conditions rest on has its schema.
        let claim = "o.group_id OPERATOR(pg_catalog.=) $1 AND o.topic OPERATOR(pg_catalog.=) $2 \
                     AND o.partition OPERATOR(pg_catalog.=) $3 AND o.epoch OPERATOR(pg_catalog.=) $4 \
                     AND o.claim_token OPERATOR(pg_catalog.=) $5";
        let open = "d.state OPERATOR(pg_catalog.=) ANY ('{open,parked}'::pg_catalog.text[])";
        let of_key = same_key("e", "k");
        Self {
            // Only what the group is past: what lies ahead it will read itself.
            fence: format!(
                "SELECT FROM {offsets} o WHERE {claim} AND o.next_offset OPERATOR(pg_catalog.>) $6 \
                   AND pg_catalog.pg_current_xact_id() OPERATOR(pg_catalog.=) $7::pg_catalog.text::pg_catalog.xid8 \
                   AND {} OPERATOR(pg_catalog.=) $8::pg_catalog.text::pg_catalog.text[] FOR UPDATE",
                protected::values()
            ),
            lock: format!(
                "SELECT FROM {letters} d WHERE d.dead_letter_id = ANY($1::int8[]) ORDER BY d.dead_letter_id FOR UPDATE"
            ),
            // One that is not open any more, and one of a redrive that has ended, is missing in the count; all are where
            // another waits before one of its key (and that is of matter).
            // That it goes on is locked, too: whoever cancels it waits for what is about to be committed.
            done: format!(
                "WITH running AS (SELECT r.request_id FROM {requests} r WHERE r.request_id = $1 AND r.state = 'running' FOR SHARE), \
                 keys AS MATERIALIZED ( \
                   SELECT d.group_id, d.topic, d.partition, d.key_hash, max(d.record_offset) AS last FROM {letters} d \
                   WHERE $4::bool AND d.dead_letter_id = ANY($2::int8[]) GROUP BY 1, 2, 3, 4), \
                 overtaken AS MATERIALIZED ( \
                   SELECT FROM keys k JOIN {letters} e ON {of_key} AND e.record_offset < k.last AND e.{WAITS} AND {of_topic} \
                   LEFT JOIN unnest($2::int8[]) AS mine(dead_letter_id) USING (dead_letter_id) \
                   WHERE mine.dead_letter_id IS NULL LIMIT 1), \
                 locked AS ( \
                   SELECT d.dead_letter_id FROM {letters} d WHERE d.dead_letter_id = ANY($2::int8[]) AND {open} \
                     AND NOT ($4::bool AND EXISTS (SELECT FROM overtaken)) \
                   ORDER BY d.dead_letter_id FOR UPDATE), \
                 letter AS ( \
                   UPDATE {letters} d SET state = 'redriven', state_changed_at = clock_timestamp(), request_id = $1 \
                   FROM locked WHERE d.dead_letter_id = locked.dead_letter_id AND {open} \
                   RETURNING d.dead_letter_id), \
                 attempt AS ( \
                   INSERT INTO {attempts} (dead_letter_id, kind, owner) SELECT dead_letter_id, 'redrive', $3::uuid FROM letter) \
                 UPDATE {items} i SET outcome = 'redriven', ended_at = clock_timestamp() FROM letter, running r \
                 WHERE {mine} AND i.dead_letter_id = letter.dead_letter_id",
                of_topic = of_topic(&db.schema, "e"),
                mine = on_list("i", "r.request_id"),
            ),
            follow: follow(&db.schema),
            failed: format!(
                "WITH claim AS (SELECT o.topic FROM {offsets} o WHERE {claim} FOR UPDATE), \
                 locked AS ( \
                   SELECT d.dead_letter_id FROM {letters} d, claim WHERE d.dead_letter_id = $7 AND {open} FOR UPDATE OF d), \
                 item AS ( \
                   UPDATE {items} i SET outcome = 'failed', ended_at = clock_timestamp() FROM locked \
                   WHERE {} AND i.dead_letter_id = locked.dead_letter_id \
                   RETURNING i.dead_letter_id), \
                 attempt AS ( \
                   INSERT INTO {attempts} (dead_letter_id, kind, error, owner) \
                   SELECT dead_letter_id, 'redrive', $10::text, $12::uuid FROM item) \
                 UPDATE {letters} d SET state = 'open', attempts = d.attempts + 1, fingerprint = $8, sqlstate = $9, reason = $10, \
                   handler = $11, last_at = clock_timestamp(), request_id = $6 \
                 FROM item WHERE d.dead_letter_id = item.dead_letter_id",
                on_list("i", "$6"),
            ),
            group: db.identity.group.to_string(),
            owner: db.identity.owner,
        }
    }

    /// Locks the partition's offset until the end of the transaction; `false`: the claim is over, or the group is not past
    /// these records.
    async fn fence(&self, tx: &Tx, part: &Part) -> Result<bool, Error> {
        let client = tx.raw();
        let statement = client.prepare_cached(&self.fence).await?;
        let last = part.to.get() - 1;
        let PartitionKey { topic, partition } = &part.key;
        let ClaimId { epoch, token } = part.claim;
        let found = client
            .query(
                &statement,
                &[&self.group, &&**topic, partition, &epoch, &token, &last, &tx.xact_id(), &tx.protected()],
            )
            .await?;
        Ok(found.len() == 1)
    }

    /// Locks all letters of the batch, in the order of their numbers, as everybody does.
    async fn lock(&self, tx: &Tx, redriven: &Redriven) -> Result<(), Error> {
        let letters: Vec<i64> = redriven.letters.values().copied().collect();
        let client = tx.raw();
        let statement = client.prepare_cached(&self.lock).await?;
        client.query(&statement, &[&letters]).await.map(drop)
    }

    /// How many of them were open, and are redriven now. Anything but all of them must not be committed.
    /// `parks`: nor may one be redriven before an earlier one of its key.
    async fn done(&self, tx: &Tx, request: i64, letters: &[i64], parks: bool) -> Result<u64, Error> {
        let client = tx.raw();
        let statement = client.prepare_cached(&self.done).await?;
        client.execute(&statement, &[&request, &letters, &self.owner, &parks]).await
    }

    /// Lists what is parked behind the last ones of their keys.
    async fn follow(&self, tx: &Tx, request: i64, letters: &[i64]) -> Result<(), Error> {
        let client = tx.raw();
        let statement = client.prepare_cached(&self.follow).await?;
        client.execute(&statement, &[&request, &letters]).await.map(drop)
    }

    /// The letter is open again, with one attempt more; `false`: it is not the caller's to say so any more.
    pub(crate) async fn failed<C: GenericClient + Sync>(
        &self,
        client: &C,
        failed: &FailedAgain<'_>,
    ) -> Result<bool, Error> {
        let PartitionKey { topic, partition } = failed.key;
        let ClaimId { epoch, token } = failed.claim;
        let FailedAgain { request, letter, handler, why, .. } = failed;
        let count = client
            .execute(
                &self.failed,
                &[
                    &self.group,
                    &&**topic,
                    partition,
                    &epoch,
                    &token,
                    request,
                    letter,
                    &why.fingerprint,
                    &why.sqlstate,
                    &why.reason,
                    handler,
                    &self.owner,
                ],
            )
            .await?;
        Ok(count == 1)
    }
}

impl Commit {
    /// As [`settle`](Self::settle), of dead letters. What its handler has rejected with `tx.reject` is open again, in the
    /// same transaction.
    pub(super) async fn settle_letters(
        &self,
        tx: Tx,
        batch: &Batch,
        redriven: &Redriven,
        rejected: &BTreeMap<RecordId, Rejection>,
        mut left_behind: LeftBehind,
        mut limit: Pin<&mut impl Future<Output = Ended>>,
    ) -> Attempt {
        let Some(part) = batch.parts.first() else { return Attempt::Applied };
        let failed = match failed_again(redriven, part, self.policies.handler(&part.key.topic), rejected) {
            Ok(failed) => failed,
            Err(error) => return self.failed(Place::Statement, error, tx, left_behind).await,
        };
        let settled = {
            let settled = watch(&self.db, left_behind.backend.pid, self.change(&tx, part, redriven, &failed));
            tokio::select! {
                settled = settled => settled,
                ended = &mut limit => {
                    self.leave_behind(left_behind);
                    return ended.into();
                }
            }
        };
        match settled {
            Ok(true) => {}
            Ok(false) => return self.missed(tx, left_behind).await,
            Err(error) => return self.not_compared(error, tx, left_behind).await,
        }
        // Read after COMMIT only.
        batch.has_rejected(failed.len());
        failpoint!("letters_redriven");
        left_behind.cancel = None;
        self.commit(tx, left_behind).await
    }

    async fn change(
        &self,
        tx: &Tx,
        part: &Part,
        redriven: &Redriven,
        failed: &[FailedAgain<'_>],
    ) -> Result<bool, Error> {
        if !self.redrive.fence(tx, part).await? {
            return Ok(false);
        }
        self.redrive.lock(tx, redriven).await?;
        let is_done = |letter: &i64| !failed.iter().any(|failed| failed.letter == *letter);
        let done: Vec<i64> = redriven.letters.values().copied().filter(is_done).collect();
        let parks = self.policies.parks(&part.key.topic);
        if self.redrive.done(tx, redriven.request, &done, parks).await? != done.len() as u64 {
            return Ok(false);
        }
        if parks {
            self.redrive.follow(tx, redriven.request, &done).await?;
        }
        for failed in failed {
            if !self.redrive.failed(&**tx.raw(), failed).await? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// By which states change, also of what no transaction could be committed for.
    pub(crate) fn redrive(&self) -> &Redrive {
        &self.redrive
    }
}

/// # Errors
/// If the handler has rejected a record that it was not given.
fn failed_again<'a>(
    redriven: &Redriven,
    part: &'a Part,
    handler: &'a str,
    rejected: &'a BTreeMap<RecordId, Rejection>,
) -> Result<Vec<FailedAgain<'a>>, HandlerError> {
    let again = rejected.iter().map(|(record, why)| {
        let is_its = record.partition == part.key.partition && record.topic == part.key.topic;
        let letter = redriven.letters.get(&record.offset).filter(|_| is_its);
        let letter = *letter.ok_or_else(|| {
            HandlerError::fatal(format!(
                "the handler has rejected a record that its batch does not hold ({record}): reject records of the batch at hand"
            ))
        })?;
        Ok(FailedAgain { request: redriven.request, letter, key: &part.key, claim: part.claim, handler, why })
    });
    again.collect()
}
