//! Whether a group is at work: by the claims and heartbeats in the database, and by Kafka's view of the group.

use std::fmt;

use serde::Serialize;

use super::Offsets;
use crate::db::live;
use crate::error::{Error, ErrorKind, Result};

/// How many workers and members a refusal names.
const NAMED: usize = 5;

/// Who is at work in a group.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
#[non_exhaustive]
pub struct Activity {
    /// Highwater's processes whose heartbeat is fresh.
    pub workers: Vec<LiveWorker>,
    /// The members that Kafka knows, Highwater's and others.
    pub members: Vec<GroupMember>,
}

/// A process whose heartbeat is fresh.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct LiveWorker {
    /// Its random id.
    pub owner: String,
    /// Its instance id, if it is a static member.
    pub instance_id: Option<String>,
    /// What it runs.
    pub program: String,
    /// Where it runs.
    pub host: String,
    /// Its process id there.
    pub process_id: i32,
    /// How many of the group's rows it holds.
    pub partitions: i64,
}

/// A member of a group, as Kafka knows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct GroupMember {
    /// Kafka's name for it.
    pub id: String,
    /// The client's own.
    pub client_id: String,
    /// Where it connects from.
    pub host: String,
    /// It is no worker of Highwater's.
    pub foreign: bool,
}

impl Activity {
    /// Nobody is at work.
    #[must_use]
    pub fn is_at_rest(&self) -> bool {
        self.workers.is_empty() && self.members.is_empty()
    }
}

impl fmt::Display for LiveWorker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { owner, program, host, process_id, partitions, .. } = self;
        write!(
            f,
            "worker {owner} ({program}, host {host}, process {process_id}) holds {partitions} partitions"
        )
    }
}

impl fmt::Display for GroupMember {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let whose = if self.foreign { ", not Highwater's" } else { "" };
        write!(f, "member {} (client.id {}, host {}{whose})", self.id, self.client_id, self.host)
    }
}

impl Offsets {
    /// Who is at work in `group`; without brokers, as far as the database knows.
    ///
    /// # Errors
    ///
    /// If Postgres or Kafka does not say.
    pub async fn activity(&mut self, group: &str) -> Result<Activity> {
        self.reconnect().await?;
        Ok(Activity { workers: self.live_workers(group).await?, members: self.members(group).await? })
    }

    /// The processes of `group` whose heartbeat is fresh.
    ///
    /// # Errors
    ///
    /// If Postgres does not say.
    pub async fn live_workers(&self, group: &str) -> Result<Vec<LiveWorker>> {
        let sql = format!(
            "SELECT s.owner::text, s.instance_id, s.program, s.host, s.process_id, \
               (SELECT count(*) FROM {offsets} o WHERE o.group_id = s.group_id AND o.owner = s.owner) \
             FROM {status} s WHERE s.group_id = $1 AND {live} ORDER BY s.host, s.process_id",
            offsets = self.schema().qualified("consumer_offset"),
            status = self.schema().qualified("worker_status"),
            live = live(self.schema(), "s.owner"),
        );
        let rows = self.client.query(&sql, &[&group]).await;
        let rows =
            rows.map_err(|source| Error::postgres(format!("read who works in group `{group}`"), source))?;
        Ok(rows
            .iter()
            .map(|row| LiveWorker {
                owner: row.get(0),
                instance_id: row.get(1),
                program: row.get(2),
                host: row.get(3),
                process_id: row.get(4),
                partitions: row.get(5),
            })
            .collect())
    }

    pub(super) async fn members(&self, group: &str) -> Result<Vec<GroupMember>> {
        let Some(catalog) = &self.catalog else { return Ok(Vec::new()) };
        let members = catalog.group_members(group).await.map_err(|source| {
            Error::new(ErrorKind::Kafka, format!("Kafka does not say who is in group `{group}`"))
                .with_source(source)
        })?;
        Ok(members
            .into_iter()
            .map(|member| GroupMember {
                foreign: member.is_foreign(),
                host: member.host.trim_start_matches('/').to_owned(),
                id: member.id,
                client_id: member.client_id,
            })
            .collect())
    }

    /// Kafka's own tool refuses just so; it has no other way.
    pub(super) async fn refuse_active(&mut self, group: &str) -> Result<()> {
        self.kafka()?;
        let activity = self.activity(group).await?;
        if activity.is_at_rest() {
            return Ok(());
        }
        let workers = activity.workers.iter().map(ToString::to_string);
        let mut who: Vec<String> = workers.chain(activity.members.iter().map(ToString::to_string)).collect();
        if who.len() > NAMED {
            let more = who.len() - NAMED;
            who.truncate(NAMED);
            who.push(format!("{more} more"));
        }
        Err(Error::new(
            ErrorKind::GroupActive,
            format!(
                "group `{group}` is at work, and nothing was moved: {}; stop them (a member that was killed stays for its \
                 session time-out), or move the offsets under them with --live",
                who.join("; ")
            ),
        ))
    }
}
