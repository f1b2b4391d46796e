//! `highwater offsets plan` and `plans`; and how a plan is asked for and shown.

use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use clap::Args;
use highwater::Result;
use highwater::offsets::{Clamp, Offsets, Plan, PlanState, Request, Selection, Target};

use super::undo::undone;
use crate::cli::instant::{duration, instant};
use crate::cli::operator::{
    GroupArguments, OperatorArguments, SelectionArguments, WhyArguments, json, or_dash, usage,
};
use crate::cli::table::Table;

/// What is to be moved where, and why: the same for a plan and for a reset.
#[derive(Debug, Args)]
pub(super) struct RequestArguments {
    #[command(flatten)]
    groups: GroupArguments,

    #[command(flatten)]
    selection: SelectionArguments,

    #[command(flatten)]
    target: TargetArguments,

    #[command(flatten)]
    why: WhyArguments,

    /// Delete the rows at or past the new offsets with the move
    ///
    /// From every table that the group's programs have registered. What is read again is then there once, also in tables
    /// that are only appended to. Workers leave the partitions alone meanwhile; each transaction deletes a portion from the
    /// top and moves the offset down to it, so that it may be interrupted at any time, and `offsets apply` goes on.
    #[arg(long)]
    undo_rows: bool,
}

/// Where to.
#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
struct TargetArguments {
    /// To the first record that Kafka holds
    #[arg(long)]
    to_earliest: bool,

    /// To the end of the log
    #[arg(long)]
    to_latest: bool,

    /// To where the group stands: moves nothing
    #[arg(long)]
    to_current: bool,

    /// To this offset, in each partition
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    to_offset: Option<i64>,

    /// So many offsets further; -100 goes back by 100
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    shift_by: Option<i64>,

    /// To the first record that is not older: YYYY-MM-DDTHH:mm:SS.sss, which is UTC, or with a zone
    #[arg(long, value_name = "TIME", value_parser = instant)]
    to_datetime: Option<SystemTime>,

    /// As --to-datetime, so long ago: PnDTnHnMnS
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    by_duration: Option<Duration>,

    /// To the offsets in this file: topic,partition,offset, or group,topic,partition,offset
    #[arg(long, value_name = "FILE")]
    from_file: Option<PathBuf>,
}

impl TargetArguments {
    /// `None`: by file.
    fn target(&self) -> Option<Target> {
        let flags = [
            (self.to_earliest, Target::Earliest),
            (self.to_latest, Target::Latest),
            (self.to_current, Target::Current),
        ];
        let flag = flags.into_iter().find_map(|(given, target)| given.then_some(target));
        flag.or(self.to_offset.map(Target::Offset))
            .or(self.shift_by.map(Target::ShiftBy))
            .or(self.to_datetime.map(Target::Timestamp))
            .or(self.by_duration.map(Target::Duration))
    }
}

impl RequestArguments {
    pub(super) async fn actor(&self, offsets: &mut Offsets) -> Result<String> {
        self.why.actor(offsets).await
    }

    /// One request per group.
    pub(super) async fn requests(
        &self,
        operator: &OperatorArguments,
        offsets: &mut Offsets,
    ) -> Result<Vec<Request>> {
        let target = self.target.target();
        let selection = match &target {
            Some(_) => self.selection.named()?,
            None if self.selection.is_given() => {
                return Err(usage("the file names the partitions: leave out --topic and --all-topics"));
            }
            None => Selection::AllTopics,
        };
        let groups = self.groups.groups(operator, offsets).await?;
        let positions = match &self.target.from_file {
            Some(path) => crate::cli::csv::read_file(path, &groups)?,
            None => Vec::new(),
        };
        let actor = self.actor(offsets).await?;
        let request = |group: &String| {
            let of_group = || positions.iter().filter(|position| position.group == *group).cloned().collect();
            let target = target.clone().unwrap_or_else(|| Target::Positions(of_group()));
            Request::new(group, selection.clone(), target)
                .actor(&actor)
                .reason(self.why.reason())
                .undo_rows(self.undo_rows)
        };
        Ok(groups.iter().map(request).collect())
    }
}

/// Decide a reset and store it under an id, without moving anything
///
/// The plan has absolute offsets. `highwater offsets apply ID` moves them later, once, whoever applies it, if the group
/// stands where the plan saw it.
#[derive(Debug, Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    operator: OperatorArguments,

    #[command(flatten)]
    request: RequestArguments,
}

/// List the newest plans, and what became of them
#[derive(Debug, Args)]
pub(super) struct ListArguments {
    #[command(flatten)]
    operator: OperatorArguments,

    /// Of this group alone
    #[arg(long, value_name = "NAME")]
    group: Option<String>,

    /// How many
    #[arg(long, value_name = "N", default_value_t = 20)]
    limit: i64,
}

pub(super) async fn run(arguments: &Arguments) -> Result<String> {
    let mut offsets = arguments.operator.connect().await?;
    let mut plans = Vec::new();
    for request in arguments.request.requests(&arguments.operator, &mut offsets).await? {
        let plan = offsets.preview(&request).await?;
        if plan.undo_rows {
            // What cannot be undone is not planned.
            offsets.undo(&plan).await?;
        }
        plans.push(offsets.store_preview(plan, true).await?);
    }
    warn(&plans);
    if arguments.operator.json {
        return json(&plans);
    }
    let mut text = undone(&mut offsets, &plans).await?.text;
    for plan in &plans {
        let id = plan.id.unwrap_or_default();
        text += &format!("plan {id}: {} of group {}\n", plan.target, plan.group);
        text += &table(std::slice::from_ref(plan));
        text += &format!("nothing was moved; to move it: highwater offsets apply {id}\n");
    }
    Ok(text)
}

pub(super) async fn list(arguments: &ListArguments) -> Result<String> {
    let mut offsets = arguments.operator.connect().await?;
    let plans = offsets.plans(arguments.group.as_deref(), arguments.limit).await?;
    if arguments.operator.json {
        return json(&plans);
    }
    let header =
        ["PLAN", "GROUP", "TARGET", "PARTITIONS", "CREATED", "BY", "REASON", "APPLIED", "APPLIED-BY"];
    let mut table = Table::new(&header);
    for plan in plans {
        table.row(vec![
            or_dash(plan.id),
            plan.group,
            plan.target,
            plan.steps.len().to_string(),
            or_dash(plan.created_at),
            plan.actor,
            plan.reason,
            or_dash(plan.applied_at),
            or_dash(plan.applied_by),
        ]);
    }
    Ok(table.to_string())
}

/// What plans do, partition by partition.
pub(super) fn table(plans: &[Plan]) -> String {
    let mut table = Table::new(&["GROUP", "TOPIC", "PARTITION", "FROM", "NEW-OFFSET", "MOVES-BY"]);
    for plan in plans {
        for step in &plan.steps {
            let from = step.applied_from.filter(|_| plan.state == PlanState::Applied).unwrap_or(step.from);
            table.row(vec![
                plan.group.clone(),
                step.topic.clone(),
                step.partition.to_string(),
                from.to_string(),
                step.to.to_string(),
                format!("{:+}", step.to - from),
            ]);
        }
    }
    table.to_string()
}

/// Says at which instant was looked, and what lay outside of the log, in the words of Kafka's tool.
pub(super) fn warn(plans: &[Plan]) {
    if let Some(plan) = plans.first().filter(|plan| plan.target.contains("--to-datetime")) {
        eprintln!("{}", plan.target);
    }
    for step in plans.iter().flat_map(|plan| &plan.steps) {
        let (name, end) = match step.clamped {
            Some(Clamp::Latest) => ("higher", "latest"),
            Some(Clamp::Earliest) => ("lower", "earliest"),
            None => continue,
        };
        eprintln!(
            "warning: new offset ({}) is {name} than {end} offset for topic partition {}-{}. Value will be set to {}.",
            step.wanted, step.topic, step.partition, step.to
        );
    }
}
