//! Whether the database takes the rows: the sink itself writes them, in a transaction that is rolled back.

use std::ops::Range;

use uuid::Uuid;

use crate::batch::{ClaimId, Part, PartitionKey, Segment};
use crate::offsets::ReadRecord;
use crate::record::chunk::{Chunk, RawRecord};
use crate::{Batch, Handler as _, HandlerError, HandlerErrorKind, NextOffset, TableSink, Tx};

/// Writes the records' rows, and gives those records that the database does not take: by their place in `records`, and
/// why. They are found by halving, so that few savepoints are set.
///
/// # Errors
/// What no record is to blame for.
pub(super) async fn attempt(
    writer: &TableSink,
    records: &[&ReadRecord],
    tx: &mut Tx,
) -> Result<Vec<(usize, HandlerError)>, HandlerError> {
    let mut refused = Vec::new();
    let mut open = Vec::from([Range { start: 0, end: records.len() }]);
    while let Some(range) = open.pop().filter(|range| !range.is_empty()) {
        let before = tx.set_savepoint().await?;
        let error = match write(writer, &batch(&records[range.clone()]), tx).await {
            Ok(()) => {
                tx.end_savepoint(before).await?;
                continue;
            }
            Err(error) => error,
        };
        tx.return_to(&before).await?;
        tx.end_savepoint(before).await?;
        if error.kind() != HandlerErrorKind::Reject {
            return Err(error);
        }
        if range.len() == 1 {
            refused.push((range.start, error));
            continue;
        }
        let middle = range.start + range.len() / 2;
        // Taken from the end: those before come first.
        open.push(middle..range.end);
        open.push(range.start..middle);
    }
    Ok(refused)
}

async fn write(writer: &TableSink, batch: &Batch, tx: &mut Tx) -> Result<(), HandlerError> {
    writer.handle(batch, tx).await?;
    tx.usable()?;
    // What waits for COMMIT would be looked at there.
    tx.raw().batch_execute("SET CONSTRAINTS ALL IMMEDIATE; SET CONSTRAINTS ALL DEFERRED").await?;
    Ok(())
}

/// Records of some partitions, those of each together and in their order.
pub(in crate::pipeline) fn batch(records: &[&ReadRecord]) -> Batch {
    let same = |a: &&ReadRecord, b: &&ReadRecord| a.topic == b.topic && a.partition == b.partition;
    Batch::new(records.chunk_by(same).filter_map(part).collect())
}

fn part(records: &[&ReadRecord]) -> Option<Part> {
    let (first, last) = (records.first()?, records.last()?);
    let mut chunk = Chunk::default();
    for record in records {
        let raw = RawRecord {
            offset: record.offset,
            timestamp_ms: record.timestamp_ms.unwrap_or(-1),
            timestamp_type: record.timestamp_type,
            leader_epoch: -1,
            key: record.key.as_deref(),
            value: record.value.as_deref(),
        };
        let headers = record.headers.iter();
        chunk.push(&raw, headers.map(|(name, value)| (name.as_slice(), value.as_deref())));
    }
    let range = 0..chunk.len();
    Some(Part {
        key: PartitionKey { topic: first.topic.clone(), partition: first.partition },
        // Of nobody: nothing is committed under it.
        claim: ClaimId { epoch: 0, token: Uuid::nil() },
        from: NextOffset::new(first.offset)?,
        to: NextOffset::after(last.offset)?,
        segments: vec![Segment { chunk: chunk.into(), range }],
        letter: None,
        parked: Vec::new(),
    })
}
