//! History that was pruned, while rows of it are there still.

use super::STRICT;
use crate::support::{TestResult, World};

impl World<'_> {
    /// All that is on record was so many days earlier; then workers prune what is older than a week.
    async fn days_later(&self, days: i32) -> TestResult {
        let earlier = format!(
            "UPDATE highwater.claim_history SET claimed_at = claimed_at - interval '{days} days', \
               replaced_at = replaced_at - interval '{days} days'; \
             UPDATE highwater.consumer_offset SET claimed_at = claimed_at - interval '{days} days'; \
             UPDATE highwater.offset_event SET occurred_at = occurred_at - interval '{days} days'; \
             DELETE FROM highwater.claim_history WHERE replaced_at < clock_timestamp() - interval '7 days'; \
             SELECT highwater.prune_history('{}', 7 * 86400, 5000)",
            self.group
        );
        self.database.execute(&earlier).await?;
        Ok(())
    }
}

/// A claim that is older than the retention of history, because the fleet has run for so long, begins at a place to which
/// somebody has moved back: records have two rows, and the one move that explains it is older still.
#[tokio::test]
async fn rows_that_a_move_back_has_doubled_are_no_alarm_when_it_is_long_ago() -> TestResult {
    let world = World::new("pruned", 1).await?;
    world.produce(100).await?;
    world.apply_all().await?;
    world.offsets("reset", &["--all-topics", "--to-offset", "50", "--execute"]).await?.ended(0);
    world.produce(50).await?;
    world.apply_all().await?;
    world.is_well().await?;
    world.days_later(10).await?;
    world.is_well().await?;
    // What nothing explains is found, also then.
    world.database.execute("INSERT INTO sink SELECT * FROM sink WHERE source_offset = 120").await?;
    assert_eq!(world.found(STRICT).await?, ["doubled_row 0@120"]);
    world
        .database
        .execute("DELETE FROM sink WHERE ctid = (SELECT min(ctid) FROM sink WHERE source_offset = 120)")
        .await?;

    // When no claim on record has gone over these offsets any more, the move goes, too.
    world.apply_all().await?;
    world.produce(10).await?;
    world.apply_all().await?;
    world.days_later(10).await?;
    assert_eq!(world.database.count("highwater.offset_event").await?, 0);
    world.is_well().await?;
    Ok(())
}
