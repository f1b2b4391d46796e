//! Plans: moves as they were decided, with absolute positions, from and to.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::SystemTime;

use serde::Serialize;
use tokio_postgres::{GenericClient, Row};

use super::ends::survey;
use super::request::{Position, Request, Selection};
use super::rows::Standing;
use super::target::{Clamp, Known, Resolved, Target};
use super::{Offsets, utc};
use crate::batch::PartitionKey;
use crate::error::{Error, ErrorKind, Result};

/// What became of a plan.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum PlanState {
    /// Decided; nothing was moved.
    Planned,
    /// Its rows are being undone, or were when whoever did it stopped: [`apply`](Offsets::apply) goes on.
    Applying,
    /// Moved, all of it.
    Applied,
    /// Somebody has taken partitions from it while it undid their rows; the others were moved.
    Stopped,
}

impl PlanState {
    fn parse(text: &str) -> Self {
        match text {
            "applying" => Self::Applying,
            "applied" => Self::Applied,
            "stopped" => Self::Stopped,
            _ => Self::Planned,
        }
    }
}

/// A reset of some partitions, decided: it says the same whoever applies it, and when.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Plan {
    /// Under which it is stored; none for a look ahead.
    pub id: Option<i64>,
    /// The group.
    pub group: String,
    /// What was asked for, as the command's flags.
    pub target: String,
    /// Who asked.
    pub actor: String,
    /// And why.
    pub reason: String,
    /// Rows at or past the targets are deleted with the move, from the tables that the group's programs have registered.
    pub undo_rows: bool,
    /// What became of it.
    pub state: PlanState,
    /// When it was stored, in UTC.
    pub created_at: Option<String>,
    /// When it was applied, in UTC.
    pub applied_at: Option<String>,
    /// By whom.
    pub applied_by: Option<String>,
    /// One per partition, by topic and number.
    pub steps: Vec<Step>,
}

/// What a plan does to a partition.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Step {
    /// The topic.
    pub topic: String,
    /// The partition.
    pub partition: i32,
    /// Where the group stood when it was planned.
    pub from: i64,
    /// Where it is to stand.
    pub to: i64,
    /// What was asked for, before it was brought to an end of the log.
    pub wanted: i64,
    /// To which end, if it was.
    pub clamped: Option<Clamp>,
    /// The claim's epoch that was seen.
    pub epoch: i64,
    /// Where the group stood when it was applied: a live fleet goes on after the planning.
    pub applied_from: Option<i64>,
    /// How many rows were undone.
    pub undone_rows: i64,
    /// `done`, or `taken`: somebody ended the plan's claim. None while it is open, and for plans that undo nothing.
    pub outcome: Option<String>,
    #[serde(skip)]
    pub(super) last_event_id: i64,
}

impl Plan {
    /// Where the group stands afterwards.
    #[must_use]
    pub fn positions(&self) -> Vec<Position> {
        let group = &self.group;
        let position = |step: &Step| Position {
            group: group.clone(),
            topic: step.topic.clone(),
            partition: step.partition,
            offset: step.to,
        };
        self.steps.iter().map(position).collect()
    }
}

impl Offsets {
    /// What a plan would say, without storing one.
    ///
    /// # Errors
    ///
    /// If the group, a topic or a partition is unknown, if Kafka does not say where its logs begin and end, and if the
    /// topic is not the one that the group has read so far.
    pub async fn preview(&mut self, request: &Request) -> Result<Plan> {
        self.reconnect().await?;
        let target = request.target.pinned(SystemTime::now());
        let selection = match &target {
            Target::Positions(positions) => named_by(positions),
            _ => request.selection.clone(),
        };
        let standing = self.standing(&request.group, &selection).await?;
        let resolved = self.resolve(&target, &standing).await?;
        let steps = standing.iter().zip(resolved).map(|(row, (wanted, to, clamped))| Step {
            topic: row.key.topic.to_string(),
            partition: row.key.partition,
            from: row.next_offset,
            // To undo is to go back: what has not come so far yet skips nothing.
            to: if request.undo_rows { to.min(row.next_offset) } else { to },
            wanted,
            clamped: clamped.filter(|_| !request.undo_rows || to <= row.next_offset),
            epoch: row.epoch,
            applied_from: None,
            undone_rows: 0,
            outcome: None,
            last_event_id: row.last_event_id,
        });
        let asked = match (&request.target, &target) {
            (Target::Duration(_), at) => format!("{} ({at})", request.target),
            _ => target.to_string(),
        };
        Ok(Plan {
            id: None,
            group: request.group.clone(),
            target: asked,
            actor: request.actor.clone(),
            reason: request.reason.clone(),
            undo_rows: request.undo_rows,
            state: PlanState::Planned,
            created_at: None,
            applied_at: None,
            applied_by: None,
            steps: steps.collect(),
        })
    }

    /// Decides and stores a plan; nothing is moved before it is [applied](Self::apply).
    ///
    /// # Errors
    ///
    /// As [`preview`](Self::preview), and if it cannot be stored.
    pub async fn plan(&mut self, request: &Request) -> Result<Plan> {
        let plan = self.preview(request).await?;
        self.store(plan).await
    }

    /// Stores what was [looked at](Self::preview), so that it can be applied: what a person has said yes to is what is
    /// moved, or nothing.
    ///
    /// # Errors
    ///
    /// If it is stored already; [`GroupActive`](ErrorKind::GroupActive) unless it is to be applied live, so that no plan is
    /// left behind which could not be applied.
    pub async fn store_preview(&mut self, plan: Plan, live: bool) -> Result<Plan> {
        if let Some(id) = plan.id {
            return Err(Error::new(ErrorKind::Configuration, format!("plan {id} is stored already")));
        }
        if !live {
            self.refuse_active(&plan.group).await?;
        }
        self.store(plan).await
    }

    async fn store(&mut self, plan: Plan) -> Result<Plan> {
        let (plans, steps) =
            (self.schema().qualified("offset_plan"), self.schema().qualified("offset_plan_step"));
        let insert = format!(
            "WITH plan AS ( \
               INSERT INTO {plans} (group_id, target, actor, reason, undo_rows) VALUES ($1, $2, $3, $4, $13) RETURNING plan_id), \
             steps AS ( \
               INSERT INTO {steps} (plan_id, topic, partition, from_offset, to_offset, wanted_offset, clamped_to, epoch, \
                 last_event_id) \
               SELECT plan_id, s.* FROM plan, unnest($5::text[], $6::int4[], $7::int8[], $8::int8[], $9::int8[], \
                 $10::text[], $11::int8[], $12::int8[]) s) \
             SELECT plan_id FROM plan"
        );
        let all = || plan.steps.iter();
        let topics: Vec<&str> = all().map(|step| step.topic.as_str()).collect();
        let partitions: Vec<i32> = all().map(|step| step.partition).collect();
        let from: Vec<i64> = all().map(|step| step.from).collect();
        let to: Vec<i64> = all().map(|step| step.to).collect();
        let wanted: Vec<i64> = all().map(|step| step.wanted).collect();
        let clamped: Vec<Option<&str>> = all().map(|step| step.clamped.map(Clamp::as_str)).collect();
        let epochs: Vec<i64> = all().map(|step| step.epoch).collect();
        let events: Vec<i64> = all().map(|step| step.last_event_id).collect();
        let stored = self
            .client
            .query_one(
                &insert,
                &[
                    &plan.group,
                    &plan.target,
                    &plan.actor,
                    &plan.reason,
                    &topics,
                    &partitions,
                    &from,
                    &to,
                    &wanted,
                    &clamped,
                    &epochs,
                    &events,
                    &plan.undo_rows,
                ],
            )
            .await
            .map_err(|source| Error::postgres("store a plan; nothing was moved", source))?;
        self.look_up(stored.get(0)).await
    }

    /// A plan by its id.
    ///
    /// # Errors
    ///
    /// [`Configuration`](ErrorKind::Configuration) if there is none.
    pub async fn look_up(&mut self, id: i64) -> Result<Plan> {
        self.reconnect().await?;
        let plan = load(&self.client, self.schema(), id, "").await;
        let plan = plan.map_err(|source| Error::postgres(format!("read plan {id}"), source))?;
        match plan {
            Some(plan) => Ok(plan),
            None => Err(self.no_plan(id).await),
        }
    }

    /// The newest plans of a group, or of all groups.
    ///
    /// # Errors
    ///
    /// If they cannot be read.
    pub async fn plans(&mut self, group: Option<&str>, limit: i64) -> Result<Vec<Plan>> {
        self.reconnect().await?;
        let sql = format!(
            "SELECT plan_id FROM {} WHERE group_id = coalesce($1, group_id) ORDER BY plan_id DESC LIMIT $2",
            self.schema().qualified("offset_plan")
        );
        let failed = |source| Error::postgres("read the plans", source);
        let ids = self.client.query(&sql, &[&group, &limit]).await.map_err(failed)?;
        if let (Some(group), true) = (group, ids.is_empty())
            && !self.group_ids().await?.iter().any(|known| known == group)
        {
            return Err(self.unknown_group(group).await);
        }
        let mut plans = Vec::with_capacity(ids.len());
        for row in ids {
            plans.extend(load(&self.client, self.schema(), row.get(0), "").await.map_err(failed)?);
        }
        Ok(plans)
    }

    pub(super) async fn no_plan(&mut self, id: i64) -> Error {
        let newest = self.plans(None, 5).await.unwrap_or_default();
        let newest: Vec<String> = newest
            .iter()
            .filter_map(|plan| Some(format!("{} ({}, {})", plan.id?, plan.group, plan.target)))
            .collect();
        let hint = if newest.is_empty() {
            "there is none yet: `highwater offsets plan` makes one".to_owned()
        } else {
            format!("the newest are {}", newest.join(", "))
        };
        Error::new(ErrorKind::Configuration, format!("there is no plan {id}; {hint}"))
    }

    async fn resolve(&self, target: &Target, standing: &[Standing]) -> Result<Vec<Resolved>> {
        if *target == Target::Current {
            return Ok(standing.iter().map(|row| (row.next_offset, row.next_offset, None)).collect());
        }
        let catalog = self.kafka()?;
        // The ends come first: what is produced after them lies at or after them, also where it is newer than the instant.
        let survey = survey(catalog, standing).await?;
        let mut at = HashMap::new();
        if let Some(instant) = target.instant_ms() {
            let mut counts: BTreeMap<Arc<str>, i32> = BTreeMap::new();
            for row in standing {
                let count = counts.entry(Arc::clone(&row.key.topic)).or_default();
                *count = (*count).max(row.key.partition + 1);
            }
            for (topic, count) in counts {
                let found = catalog.offsets_at(&topic, count, instant).await.map_err(|source| {
                    Error::new(ErrorKind::Kafka, format!("could not look an instant up in topic {topic}"))
                        .with_source(source)
                })?;
                at.extend((0..).zip(found).map(|(partition, offset)| {
                    (PartitionKey { topic: Arc::clone(&topic), partition }, offset)
                }));
            }
        }
        let positions: HashMap<(&str, i32), i64> = match target {
            Target::Positions(positions) => positions
                .iter()
                .map(|position| ((&*position.topic, position.partition), position.offset))
                .collect(),
            _ => HashMap::new(),
        };
        Ok(standing
            .iter()
            .map(|row| {
                let ends = survey.available[&row.key];
                target.resolve(Known {
                    current: row.next_offset,
                    earliest: ends.low.get(),
                    latest: ends.end.get(),
                    at: at.get(&row.key).copied().flatten(),
                    position: positions
                        .get(&(&*row.key.topic, row.key.partition))
                        .copied()
                        .unwrap_or_default(),
                })
            })
            .collect())
    }
}

fn named_by(positions: &[Position]) -> Selection {
    let mut topics: BTreeMap<&str, std::collections::BTreeSet<i32>> = BTreeMap::new();
    for position in positions {
        topics.entry(&position.topic).or_default().insert(position.partition);
    }
    let selected = topics.into_iter().map(|(topic, partitions)| super::TopicSelection {
        topic: topic.to_owned(),
        partitions: Some(partitions),
    });
    Selection::Topics(selected.collect())
}

/// A stored plan; `locking`: what follows its SELECT.
pub(super) async fn load(
    client: &impl GenericClient,
    schema: &crate::SchemaName,
    id: i64,
    locking: &str,
) -> Result<Option<Plan>, tokio_postgres::Error> {
    let head = format!(
        "SELECT group_id, target, actor, reason, state, {}, {}, applied_by, undo_rows FROM {} WHERE plan_id = $1 {locking}",
        utc("created_at"),
        utc("applied_at"),
        schema.qualified("offset_plan"),
    );
    let Some(head) = client.query_opt(&head, &[&id]).await? else { return Ok(None) };
    let steps = format!(
        "SELECT topic, partition, from_offset, to_offset, wanted_offset, clamped_to, epoch, applied_from, last_event_id, \
           undone_rows, outcome FROM {} WHERE plan_id = $1 ORDER BY topic, partition",
        schema.qualified("offset_plan_step"),
    );
    let steps = client.query(&steps, &[&id]).await?.iter().map(step).collect();
    Ok(Some(Plan {
        id: Some(id),
        group: head.get(0),
        target: head.get(1),
        actor: head.get(2),
        reason: head.get(3),
        undo_rows: head.get(8),
        state: PlanState::parse(head.get(4)),
        created_at: head.get(5),
        applied_at: head.get(6),
        applied_by: head.get(7),
        steps,
    }))
}

fn step(row: &Row) -> Step {
    Step {
        topic: row.get(0),
        partition: row.get(1),
        from: row.get(2),
        to: row.get(3),
        wanted: row.get(4),
        clamped: row.get::<_, Option<&str>>(5).map(Clamp::parse),
        epoch: row.get(6),
        applied_from: row.get(7),
        last_event_id: row.get(8),
        undone_rows: row.get(9),
        outcome: row.get(10),
    }
}
