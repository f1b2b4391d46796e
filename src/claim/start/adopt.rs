//! Taking over from another consumer: the committed offsets of Kafka's group of the same name (policy `AdoptKafka`).
//!
//! Kafka's offset is the next record to read, as ours is. What the other consumer has done with the records before
//! it is its own affair; that nobody goes on doing so is what the members are looked at for.

use super::{Start, StartError};
use crate::consumer::catalog::Watermarks;
use crate::consumer::groups::{Committed, Member};
use crate::error::{Error, ErrorKind};

/// How many members are named in an error.
const NAMED: usize = 3;

impl Start {
    /// The committed offsets, if nobody but Highwater could have moved them since they were read.
    ///
    /// The group is looked at twice, and its offsets before and after that: a consumer that is in it is seen, and one
    /// that came and went has committed something, or it does not matter.
    pub(super) async fn adopted(&self, topic: &str, partition_count: i32) -> Result<Vec<i64>, StartError> {
        let committed = self.stable(topic, partition_count).await?;
        self.refuse_forgotten(&committed).await?;
        self.refuse_foreign(topic).await?;
        let available = self.watermarks(topic, partition_count).await?;
        self.refuse_foreign(topic).await?;
        if self.stable(topic, partition_count).await? != committed {
            return Err(StartError::Moved);
        }
        adopt(&available, &committed).map_err(|missing| {
            let message = self.nothing_to_adopt(topic, &missing);
            StartError::Refused(Error::new(ErrorKind::StartPolicy, message))
        })
    }

    /// The offsets to begin at: unlike a mark, one that is about to be replaced is worth waiting for.
    async fn stable(&self, topic: &str, partition_count: i32) -> Result<Vec<Committed>, StartError> {
        let group = &self.db.identity.group;
        let committed = self.catalog.stable_offsets(group, topic, partition_count).await;
        committed.map_err(|error| self.unanswered(error))
    }

    async fn refuse_foreign(&self, topic: &str) -> Result<(), StartError> {
        let group = &self.db.identity.group;
        let members = self.catalog.group_members(group).await.map_err(|error| self.unanswered(error))?;
        let foreign: Vec<&Member> = members.iter().filter(|member| member.is_foreign()).collect();
        if foreign.is_empty() {
            return Ok(());
        }
        let message = format!(
            "cannot adopt the offsets of group {group} on topic {topic} while {} in it: stop every consumer that is not \
             Highwater's, wait until `{} --describe --members --group {group}` shows none (one that was killed, or has \
             an instance id, leaves when its session ends), then start again",
            named(&foreign),
            self.tool(),
        );
        Err(StartError::Refused(Error::new(ErrorKind::ForeignMember, message)))
    }

    fn nothing_to_adopt(&self, topic: &str, missing: &[usize]) -> String {
        let group = &self.db.identity.group;
        let (noun, list) = (
            if missing.len() == 1 { "partition" } else { "partitions" },
            missing.iter().map(ToString::to_string).collect::<Vec<_>>().join(","),
        );
        format!(
            "cannot adopt the offsets of group {group} on topic {topic}: it has committed none for {noun} {list}, which \
             hold or held records; is the group id right? If so, commit where to begin there, with \
             --to-earliest (all that Kafka holds) or --to-latest (only what comes): {} --group {group} --topic \
             {topic}:{list} --reset-offsets --to-earliest --execute",
            self.tool(),
        )
    }
}

/// `2 members are`, with the first few by name.
pub(crate) fn named(members: &[&Member]) -> String {
    let names: Vec<String> = members.iter().take(NAMED).map(ToString::to_string).collect();
    let more = members.len().saturating_sub(NAMED);
    match (members.len(), more) {
        (1, _) => format!("{} is", names[0]),
        (_, 0) => format!("{} are", names.join(" and ")),
        (_, more) => format!("{} and {more} more are", names.join(", ")),
    }
}

/// Positions by partition, or the partitions for which there is none. One that never had a record begins at 0.
fn adopt(available: &[Watermarks], committed: &[Committed]) -> Result<Vec<i64>, Vec<usize>> {
    let position = |partition: usize| {
        let found = committed.iter().find(|committed| usize::try_from(committed.partition) == Ok(partition));
        let virgin = available[partition].low.get() == 0 && available[partition].high.get() == 0;
        found.map(|committed| committed.offset).or(virgin.then_some(0))
    };
    let positions: Vec<Option<i64>> = (0..available.len()).map(position).collect();
    let missing = |(partition, position): (usize, &Option<i64>)| position.is_none().then_some(partition);
    let missing: Vec<usize> = positions.iter().enumerate().filter_map(missing).collect();
    if missing.is_empty() { Ok(positions.into_iter().flatten().collect()) } else { Err(missing) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::NextOffset;

    fn available(low: i64, high: i64) -> Watermarks {
        Watermarks { low: NextOffset::new(low).unwrap(), high: NextOffset::new(high).unwrap() }
    }

    fn committed(partition: i32, offset: i64) -> Committed {
        Committed { topic: "t".to_owned(), partition, offset, metadata: String::new() }
    }

    fn member(id: &str) -> Member {
        Member {
            id: id.to_owned(),
            client_id: "app".to_owned(),
            host: "/10.0.0.7".to_owned(),
            instance_id: None,
        }
    }

    #[test]
    fn committed_offsets_are_positions_and_only_a_virgin_partition_needs_none() {
        let logs = [available(0, 9), available(0, 0), available(3, 9)];
        assert_eq!(adopt(&logs, &[committed(2, 5), committed(0, 7)]), Ok(vec![7, 0, 5]));
        // Out of range is the guard's to say.
        assert_eq!(adopt(&logs, &[committed(2, 1), committed(0, 99)]), Ok(vec![99, 0, 1]));
        assert_eq!(adopt(&logs, &[committed(0, 7)]), Err(vec![2]));
        // All its records are gone, but it had some: what became of them?
        assert_eq!(adopt(&[available(9, 9)], &[]), Err(vec![0]));
    }

    #[test]
    fn members_are_named_and_counted() {
        let all = ["a", "b", "c", "d", "e"].map(member);
        let some: Vec<&Member> = all.iter().collect();
        assert_eq!(named(&some[..1]), "member a (client.id app, host 10.0.0.7) is");
        assert!(named(&some[..2]).ends_with("and member b (client.id app, host 10.0.0.7) are"));
        assert!(named(&some).ends_with("and 2 more are"), "{}", named(&some));
    }
}
