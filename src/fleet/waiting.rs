//! The dead letters that wait, of all groups. To count a million of them takes seconds: they are counted at a pace of their
//! own, and told meanwhile as they were.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use tokio_postgres::Transaction;

use super::group::{DeadLetters, WaitingKind};
use super::ms;
use crate::dead_letter::WAITS;
use crate::schema::SchemaName;

/// Dead letters that are counted. There may be more.
const LETTERS: usize = 1_000_000;
/// How many of their kinds are told apart in each group.
const KINDS: usize = 20;
/// After a count follow so many times what it took without another, so that it takes a fortieth of anybody's time.
const PAUSES: u32 = 40;
/// The longest time without.
const LONGEST: Duration = Duration::from_secs(5 * 60);

/// What waits in a group.
#[derive(Debug, Clone, Default)]
pub(super) struct Letters {
    pub(super) of_topics: Vec<DeadLetters>,
    pub(super) of_kinds: Vec<WaitingKind>,
}

/// What waits, as it was counted last.
#[derive(Debug, Default)]
pub(super) struct Waiting {
    groups: HashMap<String, Letters>,
    /// When the last count ended, and how long it took.
    last: Option<(Instant, Duration)>,
}

impl Waiting {
    pub(super) fn of(&self, group: &str) -> Letters {
        self.groups.get(group).cloned().unwrap_or_default()
    }

    fn is_due(&self, now: Instant) -> bool {
        self.last.is_none_or(|(ended, took)| now.duration_since(ended) >= (took * PAUSES).min(LONGEST))
    }

    /// By topic and state, and by kind, in one look at them; if that is due.
    pub(super) async fn count(
        &mut self,
        snapshot: &Transaction<'_>,
        schema: &SchemaName,
    ) -> Result<(), tokio_postgres::Error> {
        let began = Instant::now();
        if !self.is_due(began) {
            return Ok(());
        }
        let mut found: HashMap<String, Letters> = HashMap::new();
        for row in snapshot.query(&sql(schema), &[]).await? {
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
        (self.groups, self.last) = (found, Some((Instant::now(), began.elapsed())));
        Ok(())
    }
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
