//! A handler before a real Postgres, without Kafka: batches made by hand, and failures narrowed as a worker does it.

use deadpool_postgres::{Manager, Object, Pool};
use tokio_postgres::NoTls;
use uuid::Uuid;

use super::error::{Attempted, Error, Result};
use super::postgres::Database;
use crate::backoff::Backoff;
use crate::batch::{ClaimId, Part, PartitionKey, Segment};
use crate::record::chunk::{Chunk, RawRecord};
use crate::verdict::{Act, Memory, Place, Seen, judge};
use crate::{Batch, Handler, HandlerError, NextOffset, Tx};

/// How often one position is tried before the rehearsal gives up on a handler that asks to be tried again.
const TRIES: u32 = 100;

/// The timestamp of the first record; it must not depend on the cut.
const FIRST_MS: i64 = 1_700_000_000_000;

/// Applies records to a handler in batches that the test cuts, in transactions of a real database; no broker, no worker,
/// no offsets.
///
/// What a handler makes of its records must not depend on how they are cut into batches. So apply the same ones with
/// different cuts, to an empty schema each time, and compare:
///
/// ```no_run
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// use highwater::testing::{Postgres, Rehearsal};
/// use highwater::{Table, TableSink};
///
/// let database = Postgres::shared().await?.fresh_database("rehearsal").await?;
/// database.execute("CREATE TABLE payments (id bigint PRIMARY KEY, cents bigint NOT NULL)").await?;
/// let sink = TableSink::json(Table::append("payments", ["id", "cents"]));
/// let records = [(None, Some(r#"{"id":1,"cents":5}"#)), (None, Some(r#"{"id":2}"#))];
/// let outcome = Rehearsal::new(&database).await?.apply(&sink, &records, &[2]).await?;
/// assert_eq!(outcome.applied, 1, "the second lacks its cents: {:?}", outcome.halt);
/// # Ok(()) }
/// ```
#[derive(Debug)]
pub struct Rehearsal {
    pool: Pool,
}

/// How far a rehearsal came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// How many records were applied, from the first on.
    pub applied: usize,
    /// Why it went no further, in the words that a halted partition would show.
    pub halt: Option<String>,
}

/// The key and the value of a record.
pub type KeyValue<'a> = (Option<&'a str>, Option<&'a str>);

impl Rehearsal {
    /// # Errors
    /// When the database's URL is none.
    pub async fn new(database: &Database) -> Result<Self> {
        let config = database.url().parse().attempted(|| "read the database's URL".to_owned())?;
        let pool = Pool::builder(Manager::new(config, NoTls)).max_size(2).build();
        let pool = pool.map_err(|error| Error::new(format!("cannot make a pool: {error}")))?;
        let _first = pool.get().await.map_err(|error| Error::new(format!("cannot connect: {error}")))?;
        Ok(Self { pool })
    }

    /// Applies `records` (of one partition, from offset 0 on) in batches of the sizes in `cuts`; what is left after them
    /// is one batch. A batch that fails is narrowed as a worker does it, until it is known which record halts.
    ///
    /// # Errors
    /// When the database cannot be reached, or the handler asks to be tried again without end.
    pub async fn apply(
        &self,
        handler: &impl Handler,
        records: &[KeyValue<'_>],
        cuts: &[usize],
    ) -> Result<Outcome> {
        let mut at = 0_usize;
        for cut in cuts.iter().copied().chain([usize::MAX]) {
            let end = at.saturating_add(cut).min(records.len());
            if let Some(halt) = self.narrow(handler, records, &mut at, end).await? {
                return Ok(Outcome { applied: at, halt: Some(halt) });
            }
        }
        Ok(Outcome { applied: at, halt: None })
    }

    /// Applies the records from `at` to `end`; gives why it halts at `at`.
    async fn narrow(
        &self,
        handler: &impl Handler,
        records: &[KeyValue<'_>],
        at: &mut usize,
        mut end: usize,
    ) -> Result<Option<String>> {
        let full = end - *at;
        let mut memory =
            Memory::new(full, Backoff::new(std::time::Duration::ZERO, std::time::Duration::ZERO));
        let mut halt = None;
        let mut tries = 0;
        while *at < end {
            let size = memory.alone().unwrap_or(full).clamp(1, end - *at);
            let from = i64::try_from(*at).unwrap_or(i64::MAX);
            let batch = batch(("rehearsal", 0), (from, FIRST_MS + from), &records[*at..*at + size]);
            let Err(error) = self.attempt(handler, &batch).await else {
                *at += size;
                tries = 0;
                memory.relax();
                continue;
            };
            tries += 1;
            if tries > TRIES {
                return Err(Error::new(format!("tried {TRIES} times: {error}")));
            }
            let named = error.record().and_then(|record| usize::try_from(record.offset).ok());
            let mut seen = Seen {
                partitions: 1,
                records: size,
                times: 1,
                singles: 0,
                narrowed: false,
                named: named.is_some(),
                suspected: error.is_suspicion(),
                alone: true,
                limit: 1,
            };
            let class = error.cause().class;
            memory.failed(from, class, &mut seen);
            match judge(Place::Statement, class, &seen).act {
                Act::Halve => memory.halve(size),
                Act::Isolate => memory.isolate(named.map_or(0, |record| record - *at)),
                Act::Name => {
                    end = named.unwrap_or(*at);
                    halt = Some(error.to_string());
                }
                Act::Halt => return Ok(Some(error.to_string())),
                _ => {}
            }
        }
        Ok(halt)
    }

    async fn attempt(&self, handler: &impl Handler, batch: &Batch) -> std::result::Result<(), HandlerError> {
        let connection = self.pool.get().await.map_err(|error| HandlerError::retry(error.to_string()))?;
        handler.prepare(batch);
        commit(connection, handler, batch).await
    }
}

/// Applies a batch in a transaction of its own, as a worker does, but for the offsets.
pub(crate) async fn commit(
    connection: Object,
    handler: &impl Handler,
    batch: &Batch,
) -> std::result::Result<(), HandlerError> {
    let mut tx = Tx::begin(connection, "").await?;
    match handler.handle(batch, &mut tx).await {
        Ok(()) => {
            tx.usable()?;
            if let Some(refused) = tx.refused() {
                return Err(refused);
            }
            tx.raw().batch_execute("COMMIT").await?;
            drop(tx.into_connection());
            Ok(())
        }
        Err(error) => {
            drop(tx.rollback().await);
            Err(error)
        }
    }
}

/// A batch of one partition, from an offset and a timestamp on, which rises by a millisecond a record.
pub(crate) fn batch(
    (topic, partition): (&str, i32),
    (from, first_ms): (i64, i64),
    records: &[KeyValue<'_>],
) -> Batch {
    let mut chunk = Chunk::default();
    for ((key, value), place) in records.iter().zip(0..) {
        let record = RawRecord {
            offset: from + place,
            timestamp_ms: first_ms + place,
            timestamp_type: None,
            leader_epoch: -1,
            key: key.map(str::as_bytes),
            value: value.map(str::as_bytes),
        };
        chunk.push(&record, std::iter::empty());
    }
    let range = 0..chunk.len();
    let at = |offset| NextOffset::new(offset).expect("an offset");
    Batch::new(vec![Part {
        key: PartitionKey { topic: topic.into(), partition },
        claim: ClaimId { epoch: 1, token: Uuid::nil() },
        from: at(from),
        to: at(from + i64::try_from(range.len()).unwrap_or_default()),
        segments: vec![Segment { chunk: chunk.into(), range }],
        letter: None,
        parked: Vec::new(),
    }])
}
