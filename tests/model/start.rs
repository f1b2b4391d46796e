//! Where a group starts on a topic that it does not know: two workers at once, with different policies, while records
//! are produced and a partition is added (EO-4, `src/claim/start.rs`).

use stateright::{Model, Property};

use super::mutation::Mutation;

pub(crate) const NOTHING_SKIPPED: &str = "EO-4 no record is skipped that came after the group's start";
pub(crate) const ONE_POLICY: &str = "EO-4 one worker's policy holds for all partitions";
pub(crate) const ALL_OR_NONE: &str = "EO-4 the group knows the topic when all rows exist, and not before";
const ENABLED: &str = "until every partition has a row, somebody can go on";

/// Partitions at first; one is added.
const PARTITIONS: usize = 2;

#[derive(Debug, Clone)]
pub(crate) struct StartModel {
    /// Records that are produced meanwhile.
    pub(crate) records: u8,
    pub(crate) crashes: u8,
    pub(crate) mutation: Mutation,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Topic {
    /// Log ends, by partition. All logs begin at 0.
    ends: Vec<u8>,
    /// `group_topic.partition_count`.
    known: Option<usize>,
    /// `next_offset`, by partition.
    rows: Vec<Option<u8>>,
    /// The log ends when the first row was written.
    started: Option<Vec<u8>>,
    /// The worker that wrote each row of the partitions that there were at first.
    resolved_by: Vec<usize>,
    starters: Vec<Starter>,
    records: u8,
    crashes: u8,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Starter {
    New,
    /// Reads the watermarks of so many partitions.
    Reading {
        partitions: Vec<usize>,
        positions: Vec<u8>,
    },
    /// Joined the group.
    Joined,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum StartStep {
    Produce(usize),
    AddPartition,
    /// Looks the topic up in `group_topic`; in the mutation, one partition in `consumer_offset`.
    LookUp(usize),
    /// Asks Kafka for the next partition's watermarks.
    Read(usize),
    /// Writes what was read, in one transaction under the advisory lock.
    Resolve(usize),
    /// A partition past the known count begins at its beginning.
    Add(usize),
    Crash(usize),
}

impl StartModel {
    pub(crate) fn new(mutation: Mutation) -> Self {
        Self { records: 2, crashes: 1, mutation }
    }

    fn per_partition(&self) -> bool {
        self.mutation == Mutation::StartPerPartition
    }

    /// Worker 0 says `earliest`, worker 1 `latest`.
    fn position(&self, starter: usize, end: u8) -> u8 {
        if starter == 0 { 0 } else { end }
    }

    fn look_up(&self, topic: &mut Topic, starter: usize) {
        let missing: Vec<usize> = (0..topic.ends.len()).filter(|p| topic.row(*p).is_none()).collect();
        let to_read = match (self.per_partition(), topic.known) {
            (true, _) => missing.into_iter().take(1).collect(),
            (false, None) => (0..topic.ends.len()).collect(),
            (false, Some(_)) => Vec::new(),
        };
        topic.starters[starter] = if to_read.is_empty() {
            Starter::Joined
        } else {
            Starter::Reading { partitions: to_read, positions: Vec::new() }
        };
    }

    fn resolve(&self, topic: &mut Topic, starter: usize) {
        let read = std::mem::replace(&mut topic.starters[starter], Starter::Joined);
        let Starter::Reading { partitions, positions } = read else { return };
        // The first one has resolved it for everybody: ON CONFLICT DO NOTHING.
        if topic.known.is_some() && !self.per_partition() {
            return;
        }
        let count = if self.per_partition() { topic.ends.len() } else { partitions.len() };
        topic.known = Some(count);
        topic.started.get_or_insert(topic.ends.clone());
        for (partition, position) in partitions.into_iter().zip(positions) {
            topic.write(partition, position, starter);
        }
    }
}

impl Topic {
    fn row(&self, partition: usize) -> Option<u8> {
        self.rows.get(partition).copied().flatten()
    }

    fn write(&mut self, partition: usize, position: u8, by: usize) {
        if self.rows.len() <= partition {
            self.rows.resize(partition + 1, None);
        }
        if self.rows[partition].is_none() {
            self.rows[partition] = Some(position);
            if partition < PARTITIONS {
                self.resolved_by.push(by);
            }
        }
    }

    fn complete(&self) -> bool {
        (0..self.ends.len()).all(|partition| self.row(partition).is_some())
    }
}

impl Model for StartModel {
    type State = Topic;
    type Action = StartStep;

    fn init_states(&self) -> Vec<Topic> {
        vec![Topic {
            ends: vec![0; PARTITIONS],
            known: None,
            rows: Vec::new(),
            started: None,
            resolved_by: Vec::new(),
            starters: vec![Starter::New; 2],
            records: self.records,
            crashes: self.crashes,
        }]
    }

    fn actions(&self, topic: &Topic, actions: &mut Vec<StartStep>) {
        if topic.records > 0 {
            actions.extend((0..topic.ends.len()).map(StartStep::Produce));
        }
        if topic.ends.len() == PARTITIONS {
            actions.push(StartStep::AddPartition);
        }
        for (index, starter) in topic.starters.iter().enumerate() {
            match starter {
                Starter::New => actions.push(StartStep::LookUp(index)),
                Starter::Reading { partitions, positions } if positions.len() < partitions.len() => {
                    actions.push(StartStep::Read(index));
                }
                Starter::Reading { .. } => actions.push(StartStep::Resolve(index)),
                Starter::Joined if self.per_partition() && !topic.complete() => {
                    actions.push(StartStep::LookUp(index));
                }
                Starter::Joined if topic.known.is_some_and(|known| known < topic.ends.len()) => {
                    actions.push(StartStep::Add(index));
                }
                Starter::Joined => {}
            }
            if topic.crashes > 0 && *starter != Starter::New {
                actions.push(StartStep::Crash(index));
            }
        }
    }

    fn next_state(&self, topic: &Topic, step: StartStep) -> Option<Topic> {
        let mut topic = topic.clone();
        match step {
            StartStep::Produce(partition) => {
                topic.records -= 1;
                topic.ends[partition] += 1;
            }
            StartStep::AddPartition => topic.ends.push(0),
            StartStep::LookUp(starter) => self.look_up(&mut topic, starter),
            StartStep::Read(starter) => {
                if let Starter::Reading { partitions, positions } = &mut topic.starters[starter] {
                    positions.push(self.position(starter, topic.ends[partitions[positions.len()]]));
                }
            }
            StartStep::Resolve(starter) => self.resolve(&mut topic, starter),
            StartStep::Add(starter) => {
                let known = topic.known?;
                for partition in known..topic.ends.len() {
                    topic.write(partition, 0, starter);
                }
                topic.known = Some(topic.ends.len());
            }
            StartStep::Crash(starter) => {
                topic.crashes -= 1;
                topic.starters[starter] = Starter::New;
            }
        }
        Some(topic)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always(NOTHING_SKIPPED, |_, topic: &Topic| {
                let Some(started) = &topic.started else { return true };
                let from = |partition: usize| started.get(partition).copied().unwrap_or(0);
                (0..topic.ends.len()).all(|p| topic.row(p).is_none_or(|row| row <= from(p)))
            }),
            Property::always(ONE_POLICY, |_, topic: &Topic| {
                topic.resolved_by.iter().all(|by| *by == topic.resolved_by[0])
            }),
            Property::always(ALL_OR_NONE, |_, topic: &Topic| {
                let known = topic.known.unwrap_or(0);
                (0..topic.ends.len()).all(|p| topic.row(p).is_some() == (p < known))
            }),
            Property::always(ENABLED, |model, topic: &Topic| {
                let mut actions = Vec::new();
                model.actions(topic, &mut actions);
                topic.complete() || !actions.is_empty()
            }),
            Property::sometimes("seen: every partition has a row", |_, topic: &Topic| topic.complete()),
            Property::sometimes("seen: both workers read at once", |_, topic: &Topic| {
                topic.starters.iter().all(|starter| matches!(starter, Starter::Reading { .. }))
            }),
            Property::sometimes("seen: a worker comes too late with what it read", |_, topic: &Topic| {
                topic.known.is_some()
                    && topic.starters.iter().any(|starter| matches!(starter, Starter::Reading { .. }))
            }),
            Property::sometimes("seen: a partition is added after the start", |_, topic: &Topic| {
                topic.known.is_some_and(|known| known < topic.ends.len())
            }),
            Property::sometimes("seen: a crash before anything was resolved", |model, topic: &Topic| {
                topic.crashes < model.crashes && topic.known.is_none()
            }),
        ]
    }
}
