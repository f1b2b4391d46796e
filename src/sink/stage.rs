//! The way through a staging table: a temporary one per session, made when it is first needed, emptied by each commit.
//!
//! Its name says what is in it, so a changed table gets another stage. Whether a session has it is only believed once
//! the transaction that made it was committed; if the belief is wrong all the same (somebody dropped it), the `COPY`
//! fails, the connection goes, and the next one makes its own.

use std::sync::{Arc, Mutex, PoisonError, Weak};

use deadpool_postgres::StatementCache;
use sha2::{Digest, Sha256};

use super::care::Order;
use super::plan::{Column, TablePlan, quote, quoted};
use super::table::Mode;
use super::tail::{DEED, Deed, PLACE};
use crate::{HandlerError, Tx};

/// The texts for one table.
#[derive(Debug)]
pub(crate) struct Stage {
    create: String,
    empty: String,
    pub(crate) copy: String,
    delete: String,
    insert: String,
}

/// `INSERT INTO … (…)`, and what follows where the key is there.
pub(crate) struct Texts {
    pub(crate) into: String,
    pub(crate) on_conflict: String,
}

impl Texts {
    pub(crate) fn new(plan: &TablePlan) -> Self {
        let into = format!("INSERT INTO {} AS t ({}) OVERRIDING SYSTEM VALUE", plan.sql_name, all(plan));
        let on_conflict = match plan.mode {
            Mode::Append | Mode::Update => String::new(),
            Mode::InsertIgnore => " ON CONFLICT DO NOTHING".to_owned(),
            Mode::Upsert => {
                let set: Vec<String> = (0..plan.columns.len())
                    .filter(|&at| plan.is_set(at))
                    .map(|at| format!("{0} = excluded.{0}", quote(&plan.columns[at].name)))
                    .collect();
                let action = if set.is_empty() {
                    "NOTHING".to_owned()
                } else {
                    let newer = plan.version.map(|at| {
                        let name = quote(&plan.columns[at].name);
                        format!(" WHERE {}", newer(plan, at, &format!("excluded.{name}")))
                    });
                    format!("UPDATE SET {}{}", set.join(", "), newer.unwrap_or_default())
                };
                let key = keys(plan).map(|column| format!("{}{}", quote(&column.name), collate(column)));
                format!(" ON CONFLICT ({}) DO {action}", key.collect::<Vec<_>>().join(", "))
            }
        };
        Self { into, on_conflict }
    }
}

fn all(plan: &TablePlan) -> String {
    quoted(plan.columns.iter().map(|column| column.name.as_str()))
}

pub(crate) fn keys(plan: &TablePlan) -> impl Iterator<Item = &Column> {
    plan.key.iter().map(|&position| &plan.columns[position])
}

/// Whether the table's row, `t`, gives way to one of this version.
pub(crate) fn newer(plan: &TablePlan, at: usize, version: &str) -> String {
    let column = &plan.columns[at];
    let (name, collate) = (quote(&column.name), collate(column));
    format!("(t.{name} IS NULL OR t.{name}{collate} <= {version}{collate})")
}

pub(crate) fn collate(column: &Column) -> String {
    column.collation.as_ref().map(|name| format!(" COLLATE {name}")).unwrap_or_default()
}

/// A value as it was sent, as the column's.
pub(crate) fn value(column: &Column, sent: &str) -> String {
    // Not with its modifiers, nor to a domain, which has its own: a cast to varbit(3) cuts, an assignment refuses.
    if column.is_read_by_the_server() { format!("{sent}::{}", column.bare_type) } else { sent.to_owned() }
}

/// A column's definition in a stage.
fn definition(column: &Column) -> String {
    let collation = collate(column);
    let sql_type = if column.is_read_by_the_server() { "text" } else { &column.sql_type };
    format!("{} {sql_type}{collation}", quote(&column.name))
}

/// The types by identity: one name may mean one enum today and another tomorrow.
pub(crate) fn identities(plan: &TablePlan) -> String {
    let ids = plan.columns.iter().map(|column| column.type_id);
    ids.map(|id| format!("{} {} {}", id.oid, id.modifier, id.collation)).collect::<Vec<_>>().join(", ")
}

impl Stage {
    /// `writer`: who uses it. Two writers to one table would find each other's rows in one stage.
    pub(crate) fn new(plan: &TablePlan, writer: &str) -> Self {
        let mut columns: Vec<String> = plan.columns.iter().map(definition).collect();
        let mut copied: Vec<&str> = plan.columns.iter().map(|column| column.name.as_str()).collect();
        for (name, sql_type) in plan.tail.columns() {
            columns.push(format!("{name} {sql_type}"));
            copied.push(name);
        }
        let columns = columns.join(", ");
        let made_of = format!("{writer}\n{}\n{columns}\n{}", plan.sql_name, identities(plan));
        let digest = Sha256::digest(made_of.as_bytes());
        let digest: String = digest[..8].iter().map(|byte| format!("{byte:02x}")).collect();
        let stage = format!("pg_temp.highwater_stage_{digest}");

        let Texts { into, on_conflict } = Texts::new(plan);
        let values: Vec<String> =
            plan.columns.iter().map(|column| value(column, &quote(&column.name))).collect();
        let values = values.join(", ");
        let key = quoted(keys(plan).map(|column| column.name.as_str()));
        let same = keys(plan).map(|column| {
            let (name, collate) = (quote(&column.name), collate(column));
            format!("t.{name}{collate} = {}{collate}", value(column, &format!("s.{name}")))
        });
        let same = same.collect::<Vec<_>>().join(" AND ");
        let last = || {
            let keys = keys(plan).map(|column| value(column, &quote(&column.name)));
            let keys = keys.collect::<Vec<_>>().join(", ");
            let version = plan.version.map(|at| format!("{} DESC, ", quote(&plan.columns[at].name)));
            let version = version.unwrap_or_default();
            (
                format!(
                    "(SELECT DISTINCT ON ({keys}) * FROM {stage} ORDER BY {keys}, {version}{PLACE} DESC)"
                ),
                keys,
            )
        };
        let (write, deletion) = (Deed::Write.literal(), Deed::Delete.literal());
        // A scan does not give rows in the order of their coming: a small one may have found room on an earlier page.
        let insert = match plan.mode {
            Mode::Upsert if plan.reduced_here => {
                let order = if plan.care.order == Order::Records {
                    format!(" ORDER BY {PLACE}")
                } else {
                    String::new()
                };
                format!("{into} SELECT {values} FROM {stage} WHERE {DEED} <> {deletion}{order}{on_conflict}")
            }
            Mode::Upsert => {
                let (last, keys) = last();
                let order = if plan.care.order == Order::Records { PLACE } else { &keys };
                format!(
                    "{into} SELECT {values} FROM {last} AS last WHERE {DEED} <> {deletion} ORDER BY {order}{on_conflict}"
                )
            }
            Mode::Update => {
                let from = if plan.reduced_here { stage.clone() } else { last().0 };
                let set = plan.columns.iter().enumerate().filter(|(at, _)| plan.is_set(*at));
                let set = set.map(|(_, column)| {
                    let name = quote(&column.name);
                    format!("{name} = {}", value(column, &format!("s.{name}")))
                });
                let set = set.collect::<Vec<_>>().join(", ");
                let newer = plan.version.map(|at| {
                    let name = quote(&plan.columns[at].name);
                    format!(" AND {}", newer(plan, at, &value(&plan.columns[at], &format!("s.{name}"))))
                });
                let newer = newer.unwrap_or_default();
                format!(
                    "UPDATE {} AS t SET {set} FROM {from} AS s WHERE s.{DEED} <> {deletion} AND {same}{newer}",
                    plan.sql_name
                )
            }
            Mode::Append | Mode::InsertIgnore => {
                format!("{into} SELECT {values} FROM {stage} ORDER BY {PLACE}{on_conflict}")
            }
        };
        Self {
            empty: format!("DELETE FROM {stage}"),
            create: format!("CREATE TEMPORARY TABLE IF NOT EXISTS {stage} ({columns}) ON COMMIT DELETE ROWS"),
            copy: format!("COPY {stage} ({}) FROM STDIN (FORMAT binary)", quoted(copied)),
            // Also what is written again: its other columns begin anew.
            delete: format!(
                "DELETE FROM {} AS t USING (SELECT DISTINCT {key} FROM {stage} WHERE {DEED} <> {write}) AS s WHERE {same}",
                plan.sql_name
            ),
            insert,
        }
    }

    /// Deletes what the staged rows say is to be deleted.
    pub(crate) async fn delete(&self, tx: &Tx) -> Result<(), HandlerError> {
        tx.execute(&self.delete, &[]).await.map(drop)
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
