//! The way through a staging table: a temporary one per session, made when it is first needed, emptied by each commit.
//!
//! Its name says what is in it, so a changed table gets another stage. Whether a session has it is only believed once
//! the transaction that made it was committed; if the belief is wrong all the same (somebody dropped it), the `COPY`
//! fails, the connection goes, and the next one makes its own.

use std::sync::{Arc, Mutex, PoisonError, Weak};

use deadpool_postgres::StatementCache;
use sha2::{Digest, Sha256};

use super::catalog::definition;
use super::plan::{TablePlan, quote, quoted};
use super::table::Mode;
use crate::{HandlerError, Tx};

/// Marks a row that is only there to be deleted.
const DELETE: &str = "highwater_delete";
/// Where a row stands in its batch.
const PLACE: &str = "highwater_place";

/// The texts for one table.
#[derive(Debug)]
pub(crate) struct Stage {
    create: String,
    empty: String,
    pub(crate) copy: String,
    /// Leaves the last write per key, where only the server can tell which keys are equal.
    keep_last: Option<String>,
    delete: String,
    insert: String,
}

impl Stage {
    /// `writer`: who uses it. Two writers to one table would find each other's rows in one stage.
    pub(crate) fn new(plan: &TablePlan, writer: &str) -> Self {
        let mut columns: Vec<String> = plan.columns.iter().map(definition).collect();
        let names: Vec<&str> = plan.columns.iter().map(|column| column.name.as_str()).collect();
        let key: Vec<&str> = plan.key.iter().map(|&position| names[position]).collect();
        let mut copied = names.clone();
        if plan.mode == Mode::Upsert {
            columns.push(format!("{DELETE} boolean"));
            copied.push(DELETE);
        }
        if plan.tells_places() {
            columns.push(format!("{PLACE} bigint"));
            copied.push(PLACE);
        }
        let columns = columns.join(", ");
        let digest = Sha256::digest(format!("{writer}\n{}\n{columns}", plan.sql_name).as_bytes());
        let digest: String = digest[..8].iter().map(|byte| format!("{byte:02x}")).collect();
        let stage = format!("pg_temp.highwater_stage_{digest}");

        let target = &plan.sql_name;
        let all = quoted(names.iter().copied());
        let same = |a: &str, b: &str| {
            let equal = key.iter().map(|column| format!("{a}.{0} = {b}.{0}", quote(column)));
            equal.collect::<Vec<_>>().join(" AND ")
        };
        let insert = match plan.mode {
            Mode::Upsert => {
                let others: Vec<String> = names
                    .iter()
                    .filter(|name| !key.contains(name))
                    .map(|name| format!("{0} = excluded.{0}", quote(name)))
                    .collect();
                let action = match others.as_slice() {
                    [] => "NOTHING".to_owned(),
                    others => format!("UPDATE SET {}", others.join(", ")),
                };
                // The stage is nearly in the key's order already, if our bytes sort as the server does.
                let order = if plan.key_is_exact {
                    String::new()
                } else {
                    format!(" ORDER BY {}", quoted(key.iter().copied()))
                };
                format!(
                    "INSERT INTO {target} ({all}) OVERRIDING SYSTEM VALUE SELECT {all} FROM {stage} \
                     WHERE {DELETE} IS NULL{order} ON CONFLICT ({}) DO {action}",
                    quoted(key.iter().copied())
                )
            }
            // A scan does not give rows in the order of their coming: a small one may have found room on an earlier page.
            Mode::Append | Mode::InsertIgnore => format!(
                "INSERT INTO {target} ({all}) OVERRIDING SYSTEM VALUE SELECT {all} FROM {stage} \
                 ORDER BY {PLACE} ON CONFLICT DO NOTHING"
            ),
        };
        Self {
            empty: format!("DELETE FROM {stage}"),
            create: format!("CREATE TEMPORARY TABLE IF NOT EXISTS {stage} ({columns}) ON COMMIT DELETE ROWS"),
            copy: format!("COPY {stage} ({}) FROM STDIN (FORMAT binary)", quoted(copied)),
            keep_last: (plan.mode == Mode::Upsert && !plan.key_is_exact).then(|| {
                format!(
                    "DELETE FROM {stage} AS a USING {stage} AS b WHERE {} AND a.{PLACE} < b.{PLACE}",
                    same("a", "b")
                )
            }),
            delete: format!(
                "DELETE FROM {target} AS t USING {stage} AS s WHERE s.{DELETE} AND {}",
                same("t", "s")
            ),
            insert,
        }
    }

    /// Deletes what the staged rows say is to be deleted.
    pub(crate) async fn delete(&self, tx: &Tx) -> Result<(), HandlerError> {
        tx.execute(&self.delete, &[]).await.map(drop)
    }

    /// Leaves one staged row per key.
    pub(crate) async fn keep_last(&self, tx: &Tx) -> Result<(), HandlerError> {
        match &self.keep_last {
            Some(sql) => tx.execute(sql, &[]).await.map(drop),
            None => Ok(()),
        }
    }

    /// Brings the staged rows into the table.
    pub(crate) async fn insert(&self, tx: &Tx) -> Result<(), HandlerError> {
        tx.execute(&self.insert, &[]).await.map(drop)
    }
}

/// Which sessions have which stage.
#[derive(Debug, Clone, Default)]
pub(crate) struct Sessions(Arc<Mutex<Vec<Staged>>>);

/// A session, and the statement that made a stage in it.
#[derive(Debug)]
struct Staged {
    session: Weak<StatementCache>,
    create: String,
}

impl Sessions {
    /// Makes the stage, unless this session has it; empties it, if this transaction has used it before.
    pub(crate) async fn ensure(&self, stage: &Stage, tx: &mut Tx) -> Result<(), HandlerError> {
        if tx.has_staged(&stage.create) {
            return Ok(tx.raw().batch_execute(&stage.empty).await?);
        }
        let session = tx.session();
        let known = {
            let mut sessions = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            sessions.retain(|staged| staged.session.strong_count() > 0);
            sessions
                .iter()
                .any(|staged| Weak::ptr_eq(&staged.session, &session) && staged.create == stage.create)
        };
        if known {
            return Ok(());
        }
        tx.raw().batch_execute(&stage.create).await?;
        let (sessions, create) = (Arc::clone(&self.0), stage.create.clone());
        tx.on_commit(move || {
            sessions.lock().unwrap_or_else(PoisonError::into_inner).push(Staged { session, create });
        });
        Ok(())
    }
}
