//! Kafka's side: where logs begin and end, what is mirrored, and which topics are compacted.

use std::collections::{BTreeSet, HashMap};

use super::findings::Where;
use super::report::DifferenceKind as Kind;
use super::{ComparedPartition, RangeKind, Run};
use crate::batch::PartitionKey;
use crate::consumer::Catalog;
use crate::consumer::catalog::Survey;
use crate::error::Result;
use crate::offsets::ends::{Silent, logs_of_some, survey_of_some};
use crate::offsets::read::bounds;
use crate::offsets::rows::Standing;

/// What Kafka has said before any snapshot.
pub(super) struct Before {
    pub(super) survey: Survey,
    mirrored: HashMap<(String, i32), i64>,
    compacted: HashMap<String, bool>,
    /// Of which partitions it has not.
    pub(super) silent: Vec<Silent>,
}

impl Before {
    /// Not one partition has said anything.
    pub(super) fn is_without_answer(&self) -> bool {
        self.survey.available.is_empty() && !self.silent.is_empty()
    }
}

impl Run<'_> {
    /// Where the logs end, after all: whatever was applied lies before it. Whether Kafka has said so.
    pub(super) async fn add_ends(
        &mut self,
        standing: &[Standing],
        partitions: &mut [ComparedPartition],
    ) -> Result<bool> {
        let (Some(catalog), Some(before)) = (self.catalog, &self.before) else { return Ok(false) };
        // Who was silent before is not waited for once more.
        let keys = standing.iter().map(|row| &row.key);
        let keys: Vec<PartitionKey> =
            keys.filter(|key| before.survey.available.contains_key(*key)).cloned().collect();
        if keys.is_empty() {
            return Ok(false);
        }
        let after = match logs_of_some(catalog, &keys).await {
            Ok((after, silent)) => {
                self.findings.notes.extend(silent.iter().map(Silent::to_string));
                after
            }
            Err(error) if self.options.deep => return Err(error),
            Err(error) => {
                self.findings.note(format!("Kafka has not said where its logs end: {}", error.report()));
                return Ok(false);
            }
        };
        for partition in partitions {
            let key = PartitionKey { topic: partition.topic.as_str().into(), partition: partition.partition };
            let Some(available) = after.available.get(&key) else { continue };
            let (low, _) = bounds(catalog, &before.survey, &key);
            let (_, stable) = bounds(catalog, &after, &key);
            let (next, end) = (partition.next_offset, available.end.get());
            partition.log_start_offset = Some(low);
            partition.last_stable_offset = Some(stable);
            partition.log_end_offset = Some(end);
            partition.mirrored_offset =
                before.mirrored.get(&(partition.topic.clone(), partition.partition)).copied();
            let place = Where { topic: &partition.topic, partition: partition.partition };
            if next > end {
                let text = format!(
                    "the group stands at {next}, and the log ends at {end}: it was truncated, or made anew"
                );
                self.findings.add(place.differs(Kind::BehindLog, None, (end, Some(next)), text));
            }
            if next < low {
                let text = format!("the group stands at {next}, and Kafka holds nothing before {low}");
                self.findings.add(place.differs(Kind::Gone, None, (next, Some(low)), text));
            }
            let moved_from = partition.ledger.iter().filter(|range| {
                matches!(
                    range.kind,
                    RangeKind::Reset | RangeKind::Undo | RangeKind::Delete | RangeKind::NotKnown
                )
            });
            let explained = moved_from.flat_map(|range| range.from.max(range.to)).max();
            if let Some(mirrored) = partition.mirrored_offset
                && mirrored > next
                && explained.is_none_or(|from| mirrored > from)
            {
                let name = format!("{}[{}]", partition.topic, partition.partition);
                self.findings.note(format!(
                    "{name}: the copy in Kafka ({mirrored}) is ahead of the truth ({next}), and no move back is on record: \
                     somebody has moved it there, or this database has gone back"
                ));
            }
        }
        Ok(true)
    }

    /// What would make it quicker, or surer.
    pub(super) fn hints(&mut self) {
        for table in &self.tables {
            if table.shown.index.is_none() {
                self.findings.notes.push(table.index_hint());
            }
        }
        if let Some(before) = self.before.as_ref().filter(|_| self.options.deep) {
            let topics: BTreeSet<&str> = before.survey.identities.keys().map(|topic| &**topic).collect();
            for topic in topics {
                match before.compacted.get(topic) {
                    Some(true) => self.findings.notes.push(format!(
                        "topic {topic} is compacted: that a row's record is not there proves nothing"
                    )),
                    Some(false) => {}
                    None => self.findings.notes.push(format!(
                        "Kafka does not say whether topic {topic} is compacted (DESCRIBE_CONFIGS): that a row's record is not \
                         there proves nothing"
                    )),
                }
            }
        }
    }

    /// Whether records may be gone from the middle of a topic.
    pub(super) fn is_compacted(&self, topic: &str) -> bool {
        self.before.as_ref().and_then(|before| before.compacted.get(topic)).copied().unwrap_or(true)
    }
}

/// Asked before any snapshot: where logs begin, and what is mirrored, is then no further than what the snapshot says.
pub(super) async fn before(
    catalog: &Catalog,
    group: &str,
    standing: &[Standing],
    topics: &BTreeSet<String>,
) -> Result<Before> {
    let (survey, silent) = survey_of_some(catalog, standing).await?;
    // Whoever does not answer these costs a column, or a note.
    let mirrored = catalog.group_offsets(group, |topic| topics.contains(topic)).await.unwrap_or_default();
    let mirrored =
        mirrored.into_iter().map(|one| ((one.topic.to_string(), one.partition), one.offset)).collect();
    let names: Vec<&str> = topics.iter().map(String::as_str).collect();
    let compacted = catalog.compacted(&names).await.unwrap_or_default();
    Ok(Before { survey, mirrored, compacted, silent })
}
