//! Who is live: the one rule by which processes judge each other.

use crate::schema::SchemaName;

/// How old a heartbeat of a live process may be, by the database's clock: three of them.
///
/// And how far it may lie in the future. Nobody writes such a heartbeat; it is left over from before the database's
/// clock went back, and proves nothing. A process that is alive has written another within a second.
pub(crate) const LIVE_SECONDS: u8 = 3;

/// Whether the process `owner` (an expression of SQL) is live, as a condition.
pub(crate) fn live(schema: &SchemaName, owner: &str) -> String {
    live_at(schema, owner, "clock_timestamp()")
}

/// The same in a snapshot (`REPEATABLE READ`) that was taken as its transaction began, for who only looks: however long it
/// takes to read it, nobody in it is dead who was not.
pub(crate) fn live_in_snapshot(schema: &SchemaName, owner: &str) -> String {
    live_at(schema, owner, "now()")
}

fn live_at(schema: &SchemaName, owner: &str, now: &str) -> String {
    format!(
        "EXISTS (SELECT FROM {} w WHERE w.owner = {owner} AND w.stopped_at IS NULL \
         AND w.heartbeat_at BETWEEN {now} - interval '{LIVE_SECONDS} seconds' AND {now} + interval '{LIVE_SECONDS} seconds')",
        schema.qualified("worker_status"),
    )
}

/// Whose report counts, of `partition_status s` and `consumer_offset o`: the present claim's, or the last words of one that
/// has halted, until somebody claims.
pub(crate) const REPORT_COUNTS: &str = "(s.epoch = o.epoch OR s.state = 'halted' AND o.owner IS NULL)";

/// Whether a heartbeat was written before the database's clock went back.
pub(crate) fn from_the_future(heartbeat_at: &str) -> String {
    format!("{heartbeat_at} > clock_timestamp() + interval '{LIVE_SECONDS} seconds'")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The views say in SQL what is said here.
    #[test]
    fn the_views_have_the_same_rules() {
        let views = include_str!("../../migrations/0002_operator.sql");
        let between = format!(
            "BETWEEN .now - interval '{LIVE_SECONDS} seconds' AND .now + interval '{LIVE_SECONDS} seconds'"
        );
        let plain = views.replace("r.now", ".now").replace("t.now", ".now");
        assert_eq!(plain.matches(&between).count(), 3, "{between}");
        assert!(views.contains(REPORT_COUNTS), "{REPORT_COUNTS}");
    }
}
