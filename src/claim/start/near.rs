//! What a mistyped name might have meant: refusals that name the neighbours and the commands to mend it.

use super::pattern::Wanted;
use super::{Start, StartError};
use crate::db::DbError;
use crate::error::{Error, ErrorKind};

/// How different (Jaro-Winkler) a name may be to be named as a near miss.
const NEAR_MISS: f64 = 0.85;
/// How many are named.
const NAMED: usize = 3;

impl Start {
    /// The error of policy `Fail`, with the group ids that look like this one. Kafka is asked once and need not answer.
    pub(super) async fn refusal(&self, wanted: Wanted<'_>) -> Result<Error, StartError> {
        if self.one_off {
            return Ok(self.one_off_refusal(wanted));
        }
        let group = &*self.db.identity.group;
        let (committed, in_kafka) = tokio::join!(self.committed(wanted), self.catalog.group_ids());
        let (committed, in_kafka) = (committed.unwrap_or_default(), in_kafka.unwrap_or_default());
        // With a mark the group is no stranger: it is the database that does not know it.
        self.refuse_forgotten(&committed).await?;
        let in_database = self.groups().await?;
        let its_topics = self.topics_of_the_group().await?;
        let text = Refusal {
            group,
            wanted,
            in_database: near(group, &in_database),
            in_kafka: near(group, &in_kafka),
            its_topics: &its_topics,
            committed: !committed.is_empty(),
        };
        Ok(Error::new(ErrorKind::StartPolicy, text.to_string()))
    }

    /// The group ids that this database knows.
    async fn groups(&self) -> Result<Vec<String>, DbError> {
        let client = self.db.control().await?;
        let topics = self.db.schema.qualified("group_topic");
        let sql = format!("SELECT DISTINCT group_id FROM {topics} ORDER BY group_id");
        Ok(client.query(&sql, &[]).await?.iter().map(|row| row.get(0)).collect())
    }

    /// The topics that the group has read: none if it is new.
    async fn topics_of_the_group(&self) -> Result<Vec<String>, DbError> {
        let client = self.db.control().await?;
        let topics = self.db.schema.qualified("group_topic");
        let sql = format!("SELECT topic FROM {topics} WHERE group_id = $1 ORDER BY topic");
        let rows = client.query(&sql, &[&&*self.db.identity.group]).await?;
        Ok(rows.iter().map(|row| row.get(0)).collect())
    }

    /// The error of a topic that is not there, with the names that look like it.
    pub(super) async fn unknown(&self, wanted: Wanted<'_>) -> Error {
        let waited = self.unknown_topic_timeout;
        let message = match wanted {
            Wanted::Topic(topic) => {
                let others = self.catalog.topics().await.unwrap_or_default();
                let others: Vec<String> = others.into_iter().map(|(name, _)| name).collect();
                format!(
                    "topic {topic} does not exist, or this client may not describe it (waited {waited:?}){}: create it, or \
                     correct the topics setting",
                    did_you_mean(&near(topic, &others)),
                )
            }
            Wanted::Pattern(pattern) => format!(
                "no topic matches {pattern}, or this client may not describe any that does (waited {waited:?}): create one, \
                 or correct the topics setting"
            ),
        };
        Error::new(ErrorKind::UnknownTopic, message)
    }
}

/// What policy `Fail` says.
struct Refusal<'a> {
    group: &'a str,
    wanted: Wanted<'a>,
    in_database: Vec<&'a str>,
    in_kafka: Vec<&'a str>,
    /// What the group reads: then it is the topic that is new to it, or mistyped.
    its_topics: &'a [String],
    /// Some other consumer has committed offsets under this group id.
    committed: bool,
}

impl std::fmt::Display for Refusal<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { group, wanted, in_database, in_kafka, its_topics, committed } = self;
        write!(f, "group {group} has never read {wanted}, and the start policy is `fail`")?;
        let is_known = !its_topics.is_empty();
        match wanted {
            Wanted::Topic(topic) if is_known => match near(topic, its_topics).as_slice() {
                [] => write!(f, "; it reads {}", listed(its_topics))?,
                found => write!(f, "{} (HIGHWATER_TOPICS={})", did_you_mean(found), found[0])?,
            },
            _ => {
                f.write_str(&did_you_mean(in_database))?;
                if let Some(name) = in_database.first() {
                    write!(f, " (HIGHWATER_GROUP={name})")?;
                }
            }
        }
        let only_in_kafka: Vec<&str> =
            in_kafka.iter().filter(|name| !in_database.contains(name)).copied().collect();
        if !only_in_kafka.is_empty() {
            write!(f, "; Kafka knows {}, which this database does not", only_in_kafka.join(" and "))?;
        }
        if *committed {
            f.write_str(
                "; another consumer has committed offsets in Kafka under this group id: HIGHWATER_START=adopt-kafka takes \
                 them over",
            )?;
        }
        let new = if is_known { "this is new to the group" } else { "the group is new" };
        write!(
            f,
            "; if {new}, start it once with HIGHWATER_START=earliest (all records that Kafka holds), \
             HIGHWATER_START=latest (only what comes from now on) or HIGHWATER_START=timestamp:2026-04-25T03:00:00Z (what \
             is not older)",
        )
    }
}

/// The first few.
fn listed(names: &[String]) -> String {
    let more = names.len().saturating_sub(NAMED);
    let first = names.iter().take(NAMED).map(String::as_str).collect::<Vec<_>>().join(", ");
    if more > 0 { format!("{first} and {more} more") } else { first }
}

pub(crate) fn did_you_mean(near: &[&str]) -> String {
    if near.is_empty() { String::new() } else { format!("; did you mean {}?", near.join(" or ")) }
}

/// The names that are nearest, and near enough to be meant.
pub(crate) fn near<'a>(name: &str, others: &'a [String]) -> Vec<&'a str> {
    let mut near: Vec<(f64, &str)> = others
        .iter()
        .map(|other| (strsim::jaro_winkler(&name.to_lowercase(), &other.to_lowercase()), other.as_str()))
        .filter(|(likeness, other)| *likeness >= NEAR_MISS && *other != name)
        .collect();
    near.sort_by(|a, b| b.0.total_cmp(&a.0));
    near.into_iter().take(NAMED).map(|(_, other)| other).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mistyped_group_id_names_the_one_that_was_meant() {
        let group = "fraud-rules-V2";
        let database = ["fraud-rules-v2", "analytics-warehouse"].map(str::to_owned);
        let kafka = ["fraud-rules-v2", "fraud-rules-v3", "console-consumer-1"].map(str::to_owned);
        let text = Refusal {
            group,
            wanted: Wanted::Topic("payments.tx_events"),
            in_database: near(group, &database),
            in_kafka: near(group, &kafka),
            its_topics: &[],
            committed: true,
        };
        let text = text.to_string();
        assert!(text.contains("did you mean fraud-rules-v2? (HIGHWATER_GROUP=fraud-rules-v2)"), "{text}");
        assert!(text.contains("Kafka knows fraud-rules-v3, which"), "{text}");
        assert!(!text.contains("analytics") && !text.contains("console"), "{text}");
        assert!(text.contains("HIGHWATER_START=earliest") && text.contains("adopt-kafka"), "{text}");
    }

    #[test]
    fn a_mistyped_topic_of_a_known_group_names_the_one_that_was_meant() {
        let its_topics = ["payments.tx_events", "refunds"].map(str::to_owned);
        let refusal = |topic| Refusal {
            group: "fraud-rules-v2",
            wanted: Wanted::Topic(topic),
            in_database: vec!["fraud-rules-v3"],
            in_kafka: Vec::new(),
            its_topics: &its_topics,
            committed: false,
        };
        let text = refusal("payments.tx_evnts").to_string();
        assert!(
            text.contains("; did you mean payments.tx_events? (HIGHWATER_TOPICS=payments.tx_events)"),
            "{text}"
        );
        assert!(
            text.contains("if this is new to the group, start it") && !text.contains("rules-v3"),
            "{text}"
        );
        let text = refusal("orders").to_string();
        assert!(text.contains("; it reads payments.tx_events, refunds;"), "{text}");
    }
}
