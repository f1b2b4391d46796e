//! The walk back: a plan takes its partitions, undoes their rows from the top in portions, and gives them back.
//!
//! Every transaction leaves the promise whole (EO-1): what lies below `next_offset` has its rows, what lies at or past it
//! has none, and whoever held the partition before is fenced off (EO-3).

use std::time::{Duration, Instant};

use tokio_postgres::Error as PostgresError;
use tokio_postgres::error::SqlState;
use uuid::Uuid;

use super::super::Offsets;
use super::super::apply::{
    ATTEMPT, Applied, ApplyOptions, PATIENCE, compared, is_unanswered, stale, step_key,
};
use super::super::partitions::Verb;
use super::super::plan::{Plan, PlanState, Step, load};
use super::super::takeover::{Taken, Why, take};
use super::tables::SinkTable;
use super::{Undoing, stopped};
use crate::batch::PartitionKey;
use crate::error::{Error, ErrorKind, Result};

/// No portion is smaller.
const LEAST: i64 = 100;
/// Before the next attempt.
const PAUSE: Duration = Duration::from_millis(300);

/// How the plan begins.
enum Begun {
    Mine,
    Before(Box<Plan>),
    Unknown,
    Stale(String),
}

/// What one transaction came to.
enum Portion {
    /// It stands there now, so many rows are gone, and maybe nothing is left to do.
    Reached {
        reached: i64,
        undone: i64,
        is_last: bool,
    },
    Done,
    /// Somebody has ended the plan's claim.
    Taken,
    /// In this database the plan was not begun: it has gone back.
    NotBegun,
    /// A table has kept rows that were to be deleted.
    Kept(String),
}

impl Offsets {
    pub(in super::super) async fn apply_undoing(
        &mut self,
        plan: Plan,
        options: &ApplyOptions,
        watch: &mut dyn FnMut(&Undoing),
    ) -> Result<Applied> {
        let id = plan.id.unwrap_or_default();
        let tables = match self.undoable(&plan).await {
            Err(error) if plan.state == PlanState::Applying => return Err(held(id, &error)),
            tables => tables?,
        };
        if plan.state == PlanState::Planned && !options.live {
            self.refuse_active(&plan.group).await?;
        }
        let application = Uuid::new_v4();
        let text = format!("begin plan {id} (whether it was begun, `offsets plans` says)");
        let until = Instant::now() + PATIENCE;
        let begun = loop {
            match within(self.begin(id, options, application)).await {
                Ok(begun) => break begun,
                Err(source) => self.again(&text, source, until).await?,
            }
        };
        match begun {
            Begun::Mine => {}
            Begun::Before(plan) if plan.state == PlanState::Stopped => return Err(stopped(&plan)),
            Begun::Before(plan) => return Ok(Applied { plan: *plan, before: true }),
            Begun::Unknown => return Err(self.no_plan(id).await),
            Begun::Stale(why) => return Err(stale(id, &why)),
        }
        // With the places from which it was taken.
        let plan = self.look_up(id).await?;
        for step in plan.steps.iter().filter(|step| step.outcome.is_none()) {
            let of_topic: Vec<&SinkTable> = tables.iter().filter(|table| table.holds(&step.topic)).collect();
            self.walk(&plan, step, &of_topic, options, watch).await?;
        }
        // What was overruled is not waited for.
        let transaction =
            self.client.transaction().await.map_err(|source| Error::postgres("end a plan", source))?;
        let schema = self.database.schema.clone();
        let ended = finish(&transaction, &schema, id).await;
        ended.map_err(|source| Error::postgres("end a plan", source))?;
        transaction.commit().await.map_err(|source| Error::postgres("end a plan", source))?;
        let plan = self.look_up(id).await?;
        if plan.state == PlanState::Stopped {
            return Err(stopped(&plan));
        }
        Ok(Applied { plan, before: false })
    }

    async fn walk(
        &mut self,
        plan: &Plan,
        step: &Step,
        tables: &[&SinkTable],
        options: &ApplyOptions,
        watch: &mut dyn FnMut(&Undoing),
    ) -> Result<()> {
        let (id, key) = (plan.id.unwrap_or_default(), step_key(step));
        let text = format!("undo rows of {key} (plan {id} is half done: `offsets apply {id}` goes on)");
        let from = step.applied_from.unwrap_or(step.from);
        let mut rows = options.portion;
        let mut until = Instant::now() + PATIENCE;
        loop {
            match within(self.portion(plan, step, &key, tables, rows)).await {
                Ok(Portion::Reached { reached, undone, is_last }) => {
                    until = Instant::now() + PATIENCE;
                    let (topic, partition) = (step.topic.clone(), step.partition);
                    watch(&Undoing { topic, partition, from, reached, to: step.to, rows: undone });
                    if is_last {
                        return Ok(());
                    }
                }
                Ok(Portion::Done | Portion::Taken) => return Ok(()),
                Ok(Portion::NotBegun) => {
                    return Err(Error::new(
                        ErrorKind::Difference,
                        format!(
                            "the database has gone back to before plan {id} was begun: look where it stands, and apply it anew"
                        ),
                    ));
                }
                Ok(Portion::Kept(table)) => {
                    return Err(Error::configuration(format!(
                        "could not {text}: {table} keeps rows that were deleted; look for a trigger or a rule there"
                    )));
                }
                Err(source) if is_slow(source.as_ref()) && rows > LEAST => {
                    tracing::warn!(plan = id, rows, "a portion takes too long; less at a time");
                    rows = (rows / 4).max(LEAST);
                    self.client = super::super::open(&self.database).await?;
                }
                Err(source) => self.again(&text, source, until).await?,
            }
        }
    }

    /// What passes is waited for.
    async fn again(&mut self, text: &str, source: Option<PostgresError>, until: Instant) -> Result<()> {
        let error = match source {
            Some(source) => Error::postgres(text.to_owned(), source),
            None => {
                self.client = super::super::open(&self.database).await?;
                Error::new(ErrorKind::Postgres, format!("could not {text}: no answer in {ATTEMPT:?}"))
            }
        };
        // A batch that is about to be refused may hold what a trigger or a foreign key wants.
        let in_the_way = error.sqlstate().is_some_and(|code| *code == SqlState::T_R_DEADLOCK_DETECTED);
        let passes = self.client.is_closed() || is_unanswered(&error) || in_the_way;
        if !passes || Instant::now() >= until {
            return Err(error);
        }
        tracing::warn!(error = error.report(), "no answer; trying again");
        tokio::time::sleep(PAUSE).await;
        // A server that is away is waited for.
        let _ = self.reconnect().await;
        Ok(())
    }

    /// Takes the partitions: their workers leave them alone from now on.
    async fn begin(
        &mut self,
        plan_id: i64,
        options: &ApplyOptions,
        application: Uuid,
    ) -> Result<Begun, PostgresError> {
        let schema = self.database.schema.clone();
        let transaction = self.client.transaction().await?;
        let Some(mut plan) = load(&transaction, &schema, plan_id, "FOR UPDATE").await? else {
            return Ok(Begun::Unknown);
        };
        match plan.state {
            PlanState::Planned => {}
            PlanState::Applying => return Ok(Begun::Mine),
            PlanState::Applied | PlanState::Stopped => return Ok(Begun::Before(Box::new(plan))),
        }
        let compared = match compared(&transaction, &schema, &mut plan, options.live).await? {
            Ok(compared) => compared,
            Err(why) => return Ok(Begun::Stale(why)),
        };
        let (mut walked, mut done) = (Vec::new(), Vec::new());
        for (step, to) in plan.steps.iter().zip(&compared) {
            // What has gone on from the very place where it was to stay: its rows are wanted.
            let walks = step.to < step.from || to.stands == step.to;
            done.push((!walks).then_some("done"));
            if walks {
                walked.push(Taken { key: to.key.clone(), to: None });
            }
        }
        let held = format!("plan {plan_id} undoes its rows: {}", plan.reason);
        let why = Why { verb: Verb::Pause, actor: &plan.actor, reason: &held, plan_id: Some(plan_id) };
        take(&transaction, &schema, &plan.group, &walked, why).await?;
        let steps = format!(
            "UPDATE {} s SET applied_from = c.stands, paused_reason = c.paused_reason, halted = c.halted, \
               claim_token = o.claim_token, outcome = c.outcome \
             FROM unnest($3::text[], $4::int4[], $5::int8[], $6::text[], $7::bool[], $8::text[]) \
               AS c(topic, partition, stands, paused_reason, halted, outcome) \
             JOIN {} o ON o.group_id = $2 AND o.topic = c.topic AND o.partition = c.partition \
             WHERE s.plan_id = $1 AND s.topic = c.topic AND s.partition = c.partition",
            schema.qualified("offset_plan_step"),
            schema.qualified("consumer_offset"),
        );
        let keys: Vec<PartitionKey> = compared.iter().map(|to| to.key.clone()).collect();
        let (topics, partitions) = crate::claim::columns(&keys);
        let stands: Vec<i64> = compared.iter().map(|to| to.stands).collect();
        let paused: Vec<Option<&str>> = compared.iter().map(|to| to.paused_reason.as_deref()).collect();
        let halted: Vec<bool> = compared.iter().map(|to| to.halted).collect();
        transaction
            .execute(&steps, &[&plan_id, &plan.group, &topics, &partitions, &stands, &paused, &halted, &done])
            .await?;
        let begun = format!(
            "UPDATE {} SET state = 'applying', live = $2, applied_by = $3, application_id = $4 WHERE plan_id = $1",
            schema.qualified("offset_plan"),
        );
        transaction.execute(&begun, &[&plan_id, &options.live, &options.actor, &application]).await?;
        finish(&transaction, &schema, plan_id).await?;
        transaction.commit().await?;
        Ok(Begun::Mine)
    }

    /// One transaction of the walk: rows from some offset on go, and the group stands at that offset.
    async fn portion(
        &mut self,
        plan: &Plan,
        step: &Step,
        key: &PartitionKey,
        tables: &[&SinkTable],
        rows: i64,
    ) -> Result<Portion, PostgresError> {
        let schema = self.database.schema.clone();
        let plan_id = plan.id.unwrap_or_default();
        let (offsets, steps) = (schema.qualified("consumer_offset"), schema.qualified("offset_plan_step"));
        let transaction = self.client.transaction().await?;
        // The row first, as everybody: a commit under an older claim that waits for it is refused afterwards.
        let lock = format!(
            "SELECT o.next_offset, o.claim_token FROM {offsets} o \
             WHERE o.group_id = $1 AND o.topic = $2 AND o.partition = $3 FOR UPDATE"
        );
        let at: &[&(dyn tokio_postgres::types::ToSql + Sync)] = &[&plan.group, &step.topic, &step.partition];
        let row = transaction.query_opt(&lock, at).await?;
        let known = format!(
            "SELECT claim_token, outcome, undone_rows FROM {steps} \
             WHERE plan_id = $1 AND topic = $2 AND partition = $3 FOR UPDATE"
        );
        let known = transaction.query_one(&known, &[&plan_id, &step.topic, &step.partition]).await?;
        if known.get::<_, Option<&str>>(1).is_some() {
            return Ok(Portion::Done);
        }
        let mine: Option<Uuid> = known.get(0);
        if mine.is_none() {
            return Ok(Portion::NotBegun);
        }
        let stands = match row {
            Some(row) if mine == row.get(1) => row.get::<_, i64>(0),
            _ => {
                let taken = format!(
                    "UPDATE {steps} SET outcome = 'taken' WHERE plan_id = $1 AND topic = $2 AND partition = $3"
                );
                transaction.execute(&taken, &[&plan_id, &step.topic, &step.partition]).await?;
                finish(&transaction, &schema, plan_id).await?;
                transaction.commit().await?;
                return Ok(Portion::Taken);
            }
        };
        let mut bottom = step.to;
        for table in tables {
            let top = transaction.query_one(&table.top(step, rows), &[]).await?;
            if top.get::<_, i64>(0) >= rows {
                bottom = bottom.max(top.get(1));
            }
        }
        let mut gone = 0;
        for table in tables {
            gone += transaction.execute(&table.delete_from(step, bottom), &[]).await?;
            if transaction.query_one(&table.any_from(step, bottom), &[]).await?.get(0) {
                return Ok(Portion::Kept(table.name()));
            }
        }
        let reached = stands.min(bottom);
        let is_last = bottom == step.to;
        let undone = known.get::<_, i64>(2) + i64::try_from(gone).unwrap_or(i64::MAX);
        let moved = format!(
            "WITH event AS ( \
               INSERT INTO {events} (group_id, topic, partition, kind, from_offset, to_offset, actor, reason, plan_id) \
               SELECT $1, $2, $3, 'undo', $4::int8, $5::int8, $6, $7, $8 WHERE $4::int8 <> $5::int8 OR $11), \
             superseded AS ( \
               UPDATE {dead_letters} SET state = 'superseded', state_changed_at = clock_timestamp() \
               WHERE group_id = $1 AND topic = $2 AND partition = $3 AND record_offset >= $5 \
                 AND state IN ('open', 'parked', 'queued', 'redriven', 'discarded')), \
             step AS ( \
               UPDATE {steps} SET undone_rows = $9, outcome = CASE WHEN $10 THEN 'done' END \
               WHERE plan_id = $8 AND topic = $2 AND partition = $3) \
             UPDATE {offsets} SET next_offset = $5, \
               leader_epoch = CASE WHEN $4::int8 = $5 THEN leader_epoch END, \
               leader_epoch_offset = CASE WHEN $4::int8 = $5 THEN leader_epoch_offset END \
             WHERE group_id = $1 AND topic = $2 AND partition = $3",
            events = schema.qualified("offset_event"),
            dead_letters = schema.qualified("dead_letter"),
        );
        let reason = format!("{} ({})", plan.reason, plan.target);
        transaction
            .execute(
                &moved,
                &[
                    &plan.group,
                    &step.topic,
                    &step.partition,
                    &stands,
                    &reached,
                    &plan.actor,
                    &reason,
                    &plan_id,
                    &undone,
                    &is_last,
                    // Also where only rows go that an earlier move has left.
                    &(gone > 0),
                ],
            )
            .await?;
        if is_last {
            let why = Why { verb: Verb::Reset, actor: &plan.actor, reason: &reason, plan_id: Some(plan_id) };
            take(&transaction, &schema, &plan.group, &[Taken { key: key.clone(), to: None }], why).await?;
            // As it was before the plan held it.
            let back = format!(
                "UPDATE {offsets} o SET paused_reason = s.paused_reason, halted = coalesce(s.halted, false) \
                 FROM {steps} s WHERE s.plan_id = $4 AND s.topic = $2 AND s.partition = $3 \
                   AND o.group_id = $1 AND o.topic = $2 AND o.partition = $3"
            );
            transaction.execute(&back, &[&plan.group, &step.topic, &step.partition, &plan_id]).await?;
            finish(&transaction, &schema, plan_id).await?;
        }
        transaction.commit().await?;
        Ok(Portion::Reached { reached, undone, is_last })
    }
}

/// A plan that was begun, and cannot go on as things are.
fn held(id: i64, error: &Error) -> Error {
    Error::new(
        error.kind(),
        format!(
            "plan {id} is half done and cannot go on; its partitions are held where they stand, exactly, until it can, or \
             `highwater partitions resume` gives them back: {}",
            error.report()
        ),
    )
}

/// The plan's state, once nothing of it is open.
async fn finish(
    transaction: &tokio_postgres::Transaction<'_>,
    schema: &crate::SchemaName,
    plan_id: i64,
) -> Result<(), PostgresError> {
    let (plans, steps) = (schema.qualified("offset_plan"), schema.qualified("offset_plan_step"));
    // Two of them may be at work: whoever comes second sees what the first has done.
    transaction.execute(&format!("SELECT FROM {plans} WHERE plan_id = $1 FOR UPDATE"), &[&plan_id]).await?;
    let sql = format!(
        "UPDATE {plans} p SET applied_at = clock_timestamp(), \
           state = CASE WHEN EXISTS (SELECT FROM {steps} s WHERE s.plan_id = $1 AND s.outcome = 'taken') THEN 'stopped' \
             ELSE 'applied' END \
         WHERE p.plan_id = $1 AND NOT EXISTS (SELECT FROM {steps} s WHERE s.plan_id = $1 AND s.outcome IS NULL)"
    );
    transaction.execute(&sql, &[&plan_id]).await?;
    Ok(())
}

/// `None`: no answer in time.
async fn within<T>(
    attempt: impl Future<Output = Result<T, PostgresError>>,
) -> Result<T, Option<PostgresError>> {
    match tokio::time::timeout(ATTEMPT, attempt).await {
        Ok(attempt) => attempt.map_err(Some),
        Err(_) => Err(None),
    }
}

fn is_slow(error: Option<&PostgresError>) -> bool {
    error.is_none_or(|error| error.code() == Some(&SqlState::QUERY_CANCELED))
}
