//! The dead letters that wait, of all groups. To count a million of them takes seconds: they are counted at a pace of their
//! own, and told meanwhile as they were.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use tokio_postgres::Client;

use super::group::{DeadLetters, WaitingKind};
use super::ms;
use crate::dead_letter::WAITS;
use crate::error::Error;
use crate::schema::SchemaName;

/// Dead letters that are counted. There may be more.
const LETTERS: usize = 1_000_000;
/// How many of their kinds are told apart in each group.
const KINDS: usize = 20;
/// After a count follow so many times what it took without another, so that it takes a fortieth of anybody's time.
const PAUSES: u32 = 40;
/// The longest time without.
const LONGEST: Duration = Duration::from_secs(5 * 60);
/// How long a count may take: what it says is worth less than the rest of a reading.
const LIMIT: Duration = Duration::from_secs(8);

/// What waits in a group.
#[derive(Debug, Clone, Default)]
pub(super) struct Letters {
    pub(super) of_topics: Vec<DeadLetters>,
    pub(super) of_kinds: Vec<WaitingKind>,
}

/// What waits, as it was counted last.
#[derive(Debug, Default)]
pub(super) struct Waiting {
    /// None: they were never counted.
    groups: Option<HashMap<String, Letters>>,
    /// When the last count ended, or one that did not end began; and how long it took, or could have taken.
    last: Option<(Instant, Duration)>,
    /// Why the last count has failed, if it has.
    failure: Option<String>,
}

impl Waiting {
    /// None while nobody knows.
    pub(super) fn of(&self, group: &str) -> Option<Letters> {
        Some(self.groups.as_ref()?.get(group).cloned().unwrap_or_default())
    }

    /// What is to be said of a count that has failed.
    pub(super) fn note(&self) -> Option<String> {
        let what = if self.groups.is_some() { "told as they were before" } else { "not known" };
        self.failure.as_ref().map(|why| format!("dead letters could not be counted, and are {what}: {why}"))
    }

    fn is_due(&self, now: Instant) -> bool {
        self.last.is_none_or(|(ended, took)| now.duration_since(ended) >= (took * PAUSES).min(LONGEST))
    }

    /// By topic and state, and by kind, in one look at them; if that is due. By itself: should it fail, nothing else does.
    pub(super) async fn count(&mut self, client: &mut Client, schema: &SchemaName) {
        let began = Instant::now();
        if !self.is_due(began) {
            return;
        }
        // Now, for who waits for this may give up.
        self.last = Some((began, LIMIT));
        self.failure = Some("there was no answer in time".to_owned());
        match counted(client, schema).await {
            Ok(found) => {
                (self.groups, self.failure) = (Some(found), None);
                self.last = Some((Instant::now(), began.elapsed()));
            }
            Err(error) => {
                let why = Error::postgres("count the dead letters", error).report();
                tracing::warn!(why, "dead letters could not be counted");
                self.failure = Some(why);
            }
        }
    }
}

async fn counted(
    client: &mut Client,
    schema: &SchemaName,
) -> Result<HashMap<String, Letters>, tokio_postgres::Error> {
    let alone = client.build_transaction().read_only(true).start().await?;
    alone.batch_execute(&format!("SET LOCAL statement_timeout = {}", LIMIT.as_millis())).await?;
    let mut found: HashMap<String, Letters> = HashMap::new();
    for row in alone.query(&sql(schema), &[]).await? {
        let of_group = found.entry(row.get(0)).or_default();
        match row.get::<_, Option<String>>(3) {
            Some(kind) => of_group.of_kinds.push(WaitingKind { kind, count: row.get(4) }),
            None => of_group.of_topics.push(DeadLetters {
                topic: row.get(1),
                state: row.get(2),
                count: row.get(4),
                since_ms: row.get(5),
            }),
        }
    }
    alone.commit().await?;
    Ok(found)
}

/// What a handler's words make of one trouble may be many kinds: beyond some they are one.
fn sql(schema: &SchemaName) -> String {
    format!(
        "WITH w AS (SELECT group_id, topic, state, fingerprint, state_changed_at FROM {letters} WHERE {WAITS} LIMIT {LETTERS}), \
         counted AS ( \
           SELECT group_id, topic, state, fingerprint, count(*) AS n, {since} AS since, \
             row_number() OVER (PARTITION BY group_id, topic IS NULL ORDER BY count(*) DESC, fingerprint) AS rank \
           FROM w GROUP BY GROUPING SETS ((group_id, topic, state), (group_id, fingerprint))) \
         SELECT group_id, topic, state, NULL, n, since, 0 FROM counted WHERE topic IS NOT NULL \
         UNION ALL \
         SELECT group_id, NULL, NULL, CASE WHEN rank <= {KINDS} THEN fingerprint ELSE 'other' END, sum(n)::int8, NULL, min(rank) \
         FROM counted WHERE topic IS NULL GROUP BY 1, 4 ORDER BY 1, 7, 2, 3",
        letters = schema.qualified("dead_letter"),
        since = ms("min(state_changed_at)"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_could_not_be_counted_is_told_as_before_and_never_as_none() {
        let never = Waiting { failure: Some("why".to_owned()), ..Waiting::default() };
        assert!(never.of("g").is_none() && never.note().is_some_and(|note| note.contains("not known: why")));
        let before = HashMap::from([("g".to_owned(), Letters::default())]);
        let later = Waiting { groups: Some(before), failure: Some("why".to_owned()), last: None };
        assert!(later.of("g").is_some() && later.note().is_some_and(|note| note.contains("as they were")));
        assert_eq!(Waiting { failure: None, ..later }.note(), None);
    }

    #[test]
    fn what_took_long_to_count_is_not_counted_again_soon() {
        let now = Instant::now();
        let is_due = |took_ms, after_ms| {
            let last = Some((now, Duration::from_millis(took_ms)));
            Waiting { last, ..Waiting::default() }.is_due(now + Duration::from_millis(after_ms))
        };
        assert!(Waiting::default().is_due(now));
        for (took_ms, after_ms, expected) in [
            (2, 100, true),
            (2_000, 10_000, false),
            (2_000, 80_000, true),
            (60_000, 299_000, false),
            (60_000, 300_000, true),
        ] {
            assert_eq!(is_due(took_ms, after_ms), expected, "{took_ms} {after_ms}");
        }
    }
}
