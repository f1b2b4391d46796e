//! Applying a plan: once, whoever does it and how often (EO-1, EO-2, EO-3).

use std::collections::HashMap;
use std::time::{Duration, Instant};

use serde::Serialize;
use tokio_postgres::error::SqlState;
use tokio_postgres::{Row, Transaction};
use uuid::Uuid;

use super::Offsets;
use super::partitions::Verb;
use super::plan::{Plan, PlanState, Step, load};
use super::takeover::{Taken, Why, key, lock, take};
use super::undo::{Undoing, stopped};
use crate::batch::PartitionKey;
use crate::error::{Error, ErrorKind, Result};
use crate::schema::SchemaName;

/// How long it is tried to learn what became of a plan when the answer was lost.
pub(super) const PATIENCE: Duration = Duration::from_secs(60);
/// How long one attempt may take: a connection may fall silent.
pub(super) const ATTEMPT: Duration = Duration::from_secs(30);
/// How many partitions a stale plan names.
const NAMED: usize = 3;
/// Rows undone by one transaction: a fraction of a second.
const PORTION: i64 = 10_000;

/// How a plan is applied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApplyOptions {
    pub(super) live: bool,
    pub(super) actor: String,
    pub(super) portion: i64,
}

impl ApplyOptions {
    /// Applied by `actor`, while the group rests.
    #[must_use]
    pub fn by(actor: impl Into<String>) -> Self {
        Self { live: false, actor: actor.into(), portion: PORTION }
    }

    /// Also while its workers run: what they have in flight rolls back, and they go on from the new place.
    #[must_use]
    pub fn live(mut self, live: bool) -> Self {
        self.live = live;
        self
    }

    /// How many rows of a table one transaction undoes at most, or as many as the record at its lower end has; fewer where
    /// that takes too long. Default: 10,000.
    #[must_use]
    pub fn portion(mut self, rows: i64) -> Self {
        self.portion = rows.max(1);
        self
    }
}

/// A plan that is applied.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Applied {
    /// As it stands in the database.
    pub plan: Plan,
    /// It was applied before, by somebody else or by an earlier call: this one has moved nothing.
    pub before: bool,
}

/// What one attempt came to.
enum Attempt {
    Applied(Box<Plan>),
    /// By the call with this id.
    Before(Box<Plan>, Option<Uuid>),
    Unknown,
    Stale(String),
}

impl Offsets {
    /// Moves what the plan says, all of it or nothing, in one transaction with the plan's state.
    ///
    /// At rest every partition must stand exactly where the plan saw it. Live it may have gone on by commits since, but not
    /// by anybody else's move; a partition that has passed a target ahead of it stays where it is. If the answer is lost, the
    /// plan's state says what happened: it is looked up for a minute, and the caller may do so by
    /// [`look_up`](Self::look_up) for ever, or apply it once more.
    ///
    /// # Errors
    ///
    /// [`GroupActive`](ErrorKind::GroupActive) if workers or members are there and it is not to be done live;
    /// [`Difference`](ErrorKind::Difference) if a partition does not stand where the plan saw it: nothing was moved.
    pub async fn apply(&mut self, plan_id: i64, options: &ApplyOptions) -> Result<Applied> {
        self.apply_watched(plan_id, options, &mut |_| {}).await
    }

    /// As [`apply`](Self::apply); of a plan that undoes rows, `watch` hears after each portion how far it is.
    ///
    /// Such a plan takes its partitions from their workers first, so that these leave them alone, and then walks each of
    /// them back from the top: every transaction deletes rows from some offset on and moves the group to that offset. What
    /// stands in the database is exact after each. One that is interrupted goes on when it is applied again.
    ///
    /// # Errors
    ///
    /// As [`apply`](Self::apply); what [`undo`](Self::undo) refuses; [`Difference`](ErrorKind::Difference) if somebody took a
    /// partition from it meanwhile: that one stands where it was then, its rows undone as far.
    pub async fn apply_watched(
        &mut self,
        plan_id: i64,
        options: &ApplyOptions,
        watch: &mut dyn FnMut(&Undoing),
    ) -> Result<Applied> {
        self.reconnect().await?;
        let planned = self.look_up(plan_id).await?;
        match planned.state {
            PlanState::Applied => return Ok(Applied { plan: planned, before: true }),
            PlanState::Stopped => return Err(stopped(&planned)),
            PlanState::Planned | PlanState::Applying => {}
        }
        if planned.undo_rows {
            return self.apply_undoing(planned, options, watch).await;
        }
        if !options.live {
            self.refuse_active(&planned.group).await?;
        }
        let application = Uuid::new_v4();
        let until = Instant::now() + PATIENCE;
        loop {
            match self.try_apply(plan_id, options, application).await {
                Ok(Attempt::Applied(plan)) => return Ok(Applied { plan: *plan, before: false }),
                Ok(Attempt::Before(plan, by)) => {
                    return Ok(Applied { plan: *plan, before: by != Some(application) });
                }
                Ok(Attempt::Unknown) => return Err(self.no_plan(plan_id).await),
                Ok(Attempt::Stale(why)) => return Err(stale(plan_id, &why)),
                // Whether it was carried out, its state says: by then nobody holds its row any more.
                Err(error)
                    if (self.client.is_closed() || is_unanswered(&error)) && Instant::now() < until =>
                {
                    tracing::warn!(plan = plan_id, error = error.report(), "no answer; looking the plan up");
                    tokio::time::sleep(Duration::from_millis(300)).await;
                    // A server that is away is waited for.
                    let _ = self.reconnect().await;
                }
                Err(error) => return Err(error),
            }
        }
    }

    async fn try_apply(
        &mut self,
        plan_id: i64,
        options: &ApplyOptions,
        application: Uuid,
    ) -> Result<Attempt> {
        let text = format!("apply plan {plan_id} (whether it was applied, `offsets apply {plan_id}` says)");
        let attempted = tokio::time::timeout(ATTEMPT, self.apply_in_one(plan_id, options, application)).await;
        match attempted {
            Ok(attempted) => attempted.map_err(|source| Error::postgres(text, source)),
            Err(_) => {
                self.client = super::open(&self.database).await?;
                Err(Error::new(ErrorKind::Postgres, format!("could not {text}: no answer in {ATTEMPT:?}")))
            }
        }
    }

    async fn apply_in_one(
        &mut self,
        plan_id: i64,
        options: &ApplyOptions,
        application: Uuid,
    ) -> Result<Attempt, tokio_postgres::Error> {
        let schema = self.database.schema.clone();
        let plans = schema.qualified("offset_plan");
        let transaction = self.client.transaction().await?;
        let Some(mut plan) = load(&transaction, &schema, plan_id, "FOR UPDATE").await? else {
            return Ok(Attempt::Unknown);
        };
        if plan.state == PlanState::Applied {
            let sql = format!("SELECT application_id FROM {plans} WHERE plan_id = $1");
            let by = transaction.query_one(&sql, &[&plan_id]).await?.get(0);
            return Ok(Attempt::Before(Box::new(plan), by));
        }
        let taken = match compared(&transaction, &schema, &mut plan, options.live).await? {
            Ok(compared) => {
                compared.into_iter().filter(|to| to.moves()).map(|to| Taken { key: to.key, to: Some(to.to) })
            }
            Err(why) => return Ok(Attempt::Stale(why)),
        };
        let taken: Vec<Taken> = taken.collect();
        let keys: Vec<PartitionKey> = plan.steps.iter().map(step_key).collect();
        let (topics, partitions) = crate::claim::columns(&keys);
        let why = Why {
            verb: Verb::Reset,
            actor: &plan.actor,
            reason: &format!("{} ({})", plan.reason, plan.target),
            plan_id: Some(plan_id),
        };
        take(&transaction, &schema, &plan.group, &taken, why).await?;
        let applied: Vec<Option<i64>> = plan.steps.iter().map(|step| step.applied_from).collect();
        let steps = format!(
            "UPDATE {} s SET applied_from = a.applied_from \
             FROM unnest($2::text[], $3::int4[], $4::int8[]) AS a(topic, partition, applied_from) \
             WHERE s.plan_id = $1 AND s.topic = a.topic AND s.partition = a.partition",
            schema.qualified("offset_plan_step")
        );
        transaction.execute(&steps, &[&plan_id, &topics, &partitions, &applied]).await?;
        let done = format!(
            "UPDATE {plans} SET state = 'applied', live = $2, applied_at = clock_timestamp(), applied_by = $3, \
             application_id = $4 WHERE plan_id = $1"
        );
        transaction.execute(&done, &[&plan_id, &options.live, &options.actor, &application]).await?;
        let plan = load(&transaction, &schema, plan_id, "").await?.unwrap_or(plan);
        transaction.commit().await?;
        Ok(Attempt::Applied(Box::new(plan)))
    }
}

/// A step of a plan that holds: its row is locked.
pub(super) struct Compared {
    pub(super) key: PartitionKey,
    pub(super) stands: i64,
    pub(super) to: i64,
    pub(super) paused_reason: Option<String>,
    pub(super) halted: bool,
}

impl Compared {
    fn moves(&self) -> bool {
        self.to != self.stands
    }
}

/// Locks a plan's partitions and compares them with it; the error says what differs. Sets where they stood.
pub(super) async fn compared(
    transaction: &Transaction<'_>,
    schema: &SchemaName,
    plan: &mut Plan,
    live: bool,
) -> Result<Result<Vec<Compared>, String>, tokio_postgres::Error> {
    let keys: Vec<PartitionKey> = plan.steps.iter().map(step_key).collect();
    let rows = lock(transaction, schema, &plan.group, &keys).await?;
    let stood: HashMap<PartitionKey, &Row> = rows.iter().map(|row| (key(row), row)).collect();
    // Read after the lock: nobody can move them any more.
    let events = format!(
        "SELECT e.topic, e.partition, max(e.event_id) FROM {} e \
         JOIN unnest($2::text[], $3::int4[]) AS w(topic, partition) USING (topic, partition) \
         WHERE e.group_id = $1 GROUP BY 1, 2",
        schema.qualified("offset_event")
    );
    let (topics, partitions) = crate::claim::columns(&keys);
    let events = transaction.query(&events, &[&plan.group, &topics, &partitions]).await?;
    let events: HashMap<PartitionKey, i64> = events.iter().map(|row| (key(row), row.get(2))).collect();
    let (mut compared, mut differences) = (Vec::new(), Vec::new());
    for (step, at) in plan.steps.iter_mut().zip(&keys) {
        let row = stood.get(at);
        let stands: Option<i64> = row.map(|row| row.get(2));
        match (compare(step, stands, events.get(at).copied().unwrap_or(0), live), row) {
            (Ok(to), Some(row)) => {
                step.applied_from = stands;
                compared.push(Compared {
                    key: at.clone(),
                    stands: row.get(2),
                    to,
                    paused_reason: row.get(4),
                    halted: row.get(5),
                });
            }
            (Err(why), _) => differences.push(why),
            (Ok(_), None) => differences.push(format!("{at} has no offset any more")),
        }
    }
    Ok(if differences.is_empty() { Ok(compared) } else { Err(listed(&differences)) })
}

/// Where the partition goes, if it may.
fn compare(step: &Step, stands: Option<i64>, last_event_id: i64, live: bool) -> Result<i64, String> {
    let name = step_key(step);
    let Some(stands) = stands else { return Err(format!("{name} has no offset any more")) };
    if last_event_id > step.last_event_id {
        return Err(format!("{name} was moved by somebody else since, and stands at {stands}"));
    }
    if !live && stands != step.from {
        return Err(format!("{name} stands at {stands}, not at {}", step.from));
    }
    if stands < step.from {
        return Err(format!("{name} has gone back to {stands}, behind {}", step.from));
    }
    // What lay ahead may be passed by now: to move there would be to go back.
    Ok(if step.to >= step.from { step.to.max(stands) } else { step.to })
}

pub(super) fn step_key(step: &Step) -> PartitionKey {
    PartitionKey { topic: step.topic.as_str().into(), partition: step.partition }
}

fn listed(differences: &[String]) -> String {
    let shown = differences.iter().take(NAMED).cloned().collect::<Vec<_>>().join("; ");
    match differences.len().saturating_sub(NAMED) {
        0 => shown,
        more => format!("{shown}; and {more} more"),
    }
}

pub(super) fn stale(plan_id: i64, why: &str) -> Error {
    Error::new(
        ErrorKind::Difference,
        format!("plan {plan_id} is stale, and nothing was moved: {why}; look again, and make a new plan"),
    )
}

/// No answer of the server's, or its farewell; or somebody holds a row, an earlier call of ours whose connection was
/// lost, maybe.
pub(super) fn is_unanswered(error: &Error) -> bool {
    let is_passing = |code: &SqlState| {
        *code == SqlState::LOCK_NOT_AVAILABLE
            || ["57P", "08", "25P03"].iter().any(|class| code.code().starts_with(class))
    };
    error.sqlstate().is_none_or(is_passing)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn step(from: i64, to: i64) -> Step {
        Step {
            topic: "t".to_owned(),
            partition: 0,
            from,
            to,
            wanted: to,
            clamped: None,
            epoch: 1,
            applied_from: None,
            undone_rows: 0,
            outcome: None,
            last_event_id: 7,
        }
    }

    #[test]
    fn at_rest_a_plan_holds_for_one_place_alone() {
        assert_eq!(compare(&step(50, 10), Some(50), 7, false), Ok(10));
        for (stands, event) in [(Some(51), 7), (Some(49), 7), (Some(50), 8), (None, 7)] {
            assert!(compare(&step(50, 10), stands, event, false).is_err(), "{stands:?} {event}");
        }
    }

    #[test]
    fn live_a_plan_holds_while_only_commits_have_moved_it() {
        assert_eq!(compare(&step(50, 10), Some(60), 7, true), Ok(10));
        assert!(compare(&step(50, 10), Some(60), 8, true).is_err(), "somebody else has moved it");
        assert!(compare(&step(50, 10), Some(40), 7, true).is_err(), "the database has gone back");
        assert_eq!(compare(&step(50, 70), Some(60), 7, true), Ok(70));
        assert_eq!(compare(&step(50, 70), Some(90), 7, true), Ok(90), "it has passed its target");
        assert_eq!(compare(&step(50, 50), Some(90), 7, true), Ok(90), "--to-current");
    }
}
