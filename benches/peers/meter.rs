//! Counts rows as they become visible to another connection.

use std::time::{Duration, Instant};

use crate::support::servers::connect;
use crate::support::{Result, stats};

/// How often the first row is looked for.
const LOOK: Duration = Duration::from_millis(5);
/// Counting takes no more than a fifth of a core.
const SHARE: u32 = 4;
const LEAST: Duration = Duration::from_millis(20);
const MOST: Duration = Duration::from_millis(500);

/// What was seen.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Seen {
    /// From the call to the first row.
    pub(crate) startup: Duration,
    /// From the first look that saw rows to the one that saw all.
    pub(crate) elapsed: Duration,
    /// Rows that came between these two looks.
    pub(crate) rows: u64,
}

impl Seen {
    pub(crate) fn rate(&self) -> f64 {
        stats::float(self.rows) / self.elapsed.as_secs_f64()
    }
}

/// Watches `scores` until it has `records` rows.
///
/// # Errors
/// When they have not come after `patience`.
pub(crate) async fn watch(url: &str, records: u64, patience: Duration) -> Result<Seen> {
    let client = connect(url).await?;
    client.batch_execute("SET max_parallel_workers_per_gather = 0").await?;
    let began = Instant::now();
    let in_time = |rows: u64| {
        if began.elapsed() > patience {
            Err(format!("{rows} of {records} rows after {patience:?}"))
        } else {
            Ok(())
        }
    };
    while client.query("SELECT FROM scores LIMIT 1", &[]).await?.is_empty() {
        in_time(0)?;
        tokio::time::sleep(LOOK).await;
    }
    let startup = began.elapsed();
    let mut first = None;
    loop {
        let asked = Instant::now();
        let rows: i64 = client.query_one("SELECT count(*) FROM scores", &[]).await?.get(0);
        let (rows, took) = (u64::try_from(rows)?, asked.elapsed());
        // What a count sees was visible when it was asked for.
        let (since, at_first) = *first.get_or_insert((asked, rows));
        if rows >= records {
            return Ok(Seen { startup, elapsed: asked - since, rows: rows - at_first });
        }
        in_time(rows)?;
        // When the rest may have come, at the present rate.
        let elapsed = asked - since;
        let share = stats::float(records - rows) / stats::float((rows - at_first).max(1));
        let rest = if elapsed.is_zero() {
            MOST
        } else {
            Duration::from_secs_f64((elapsed.as_secs_f64() * share).min(1.0))
        };
        tokio::time::sleep(rest.min(MOST).max(took * SHARE).max(LEAST)).await;
    }
}
