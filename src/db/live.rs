//! Who is live: the one rule by which processes judge each other.

use crate::schema::SchemaName;

/// How old a heartbeat of a live process may be, by the database's clock: three of them.
///
/// And how far it may lie in the future. Nobody writes such a heartbeat; it is left over from before the database's
/// clock went back, and proves nothing. A process that is alive has written another within a second.
pub(crate) const LIVE_SECONDS: u8 = 3;

/// Whether the process `owner` (an expression of SQL) is live, as a condition.
pub(crate) fn live(schema: &SchemaName, owner: &str) -> String {
    format!(
        "EXISTS (SELECT FROM {} w WHERE w.owner = {owner} AND w.stopped_at IS NULL \
         AND w.heartbeat_at > clock_timestamp() - interval '{LIVE_SECONDS} seconds' AND NOT ({}))",
        schema.qualified("worker_status"),
        from_the_future("w.heartbeat_at"),
    )
}

/// Whether a heartbeat was written before the database's clock went back.
pub(crate) fn from_the_future(heartbeat_at: &str) -> String {
    format!("{heartbeat_at} > clock_timestamp() + interval '{LIVE_SECONDS} seconds'")
}
