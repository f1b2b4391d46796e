//! Some records of some partitions, for whoever wants to see what they are like. No group is joined, and nothing is kept.

use std::time::{Duration, Instant};

use super::ends::logs;
use super::read::{Content, Read, ReadRecord, Reader, Span, bounds};
use crate::batch::PartitionKey;
use crate::consumer::Catalog;
use crate::error::Result;

/// Bytes of keys, values and headers, after which nothing more is read.
const MAX_BYTES: usize = 64 * 1024 * 1024;

/// Where a partition's records are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    /// From an offset on.
    At(i64),
    /// From the first that Kafka holds.
    Beginning,
    /// The last ones.
    Recent,
}

/// What was read.
#[derive(Debug, Default)]
pub(crate) struct Sample {
    /// By partition in the order in which these were given, then by offset.
    pub(crate) records: Vec<ReadRecord>,
    /// Of each partition: where reading began.
    pub(crate) from: Vec<i64>,
    /// The time, or the room, was over before all that was wanted was read.
    pub(crate) is_cut: bool,
}

/// Reads up to `wanted` records of each set of partitions, spread over it. A set has places in `partitions`; one may be in
/// several.
///
/// # Errors
/// If Kafka does not say where the logs are, or does not give the records.
pub(crate) async fn sample(
    catalog: &Catalog,
    partitions: &[(PartitionKey, Place)],
    sets: &[Vec<usize>],
    wanted: usize,
    limit: Duration,
) -> Result<Sample> {
    let keys: Vec<PartitionKey> = partitions.iter().map(|(key, _)| key.clone()).collect();
    if keys.is_empty() {
        return Ok(Sample::default());
    }
    let survey = logs(catalog, &keys).await?;
    let logs: Vec<(i64, i64)> = keys.iter().map(|key| bounds(catalog, &survey, key)).collect();
    let from = |at: usize| match (partitions[at].1, logs[at]) {
        (Place::At(offset), (low, end)) => offset.clamp(low, end.max(low)),
        (Place::Beginning | Place::Recent, (low, _)) => low,
    };
    let mut shares = vec![0; keys.len()];
    for set in sets {
        let there: Vec<i64> = set.iter().map(|&at| logs[at].1 - from(at)).collect();
        for (&at, share) in set.iter().zip(spread(&there, i64::try_from(wanted).unwrap_or(i64::MAX))) {
            shares[at] = share.max(shares[at]);
        }
    }
    let mut sample = Sample::default();
    let reader = Reader::new(catalog)?;
    let until = Instant::now() + limit;
    let mut bytes = 0;
    for (at, share) in shares.into_iter().enumerate() {
        let end = logs[at].1;
        let from = match partitions[at].1 {
            Place::Recent => from(at).max(end - share),
            _ => from(at),
        };
        sample.from.push(from);
        let mut left = usize::try_from(share).unwrap_or(0);
        if left == 0 || from >= end {
            continue;
        }
        // One after the other: nothing is read that would be thrown away.
        let mut read =
            reader.follow(vec![Span { key: keys[at].clone(), from, to: Some(end) }], Content::Whole)?;
        'partition: while left > 0 {
            let patience = until.saturating_duration_since(Instant::now());
            if patience.is_zero() || bytes >= MAX_BYTES {
                sample.is_cut = true;
                break;
            }
            for one in read.next(patience).await?.unwrap_or_default() {
                match one {
                    Read::Record(record) if left > 0 => {
                        left -= 1;
                        bytes += record.content_bytes();
                        sample.records.push(record);
                    }
                    Read::Record(_) => {}
                    Read::End { .. } => break 'partition,
                }
            }
        }
    }
    Ok(sample)
}

/// As even as can be, of as many as there are: what one has too little of, the others give.
fn spread(there: &[i64], wanted: i64) -> Vec<i64> {
    let mut poorest: Vec<usize> = (0..there.len()).filter(|&at| there[at] > 0).collect();
    poorest.sort_by_key(|&at| there[at]);
    let mut shares = vec![0; there.len()];
    let (mut left, mut others) = (wanted, i64::try_from(poorest.len()).unwrap_or(i64::MAX));
    for at in poorest {
        shares[at] = there[at].min((left + others - 1) / others);
        left -= shares[at];
        others -= 1;
    }
    shares
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sample_is_spread_over_what_there_is() {
        assert_eq!(spread(&[1_000, 1_000, 1_000], 100), [34, 33, 33]);
        assert_eq!(spread(&[1_000, 0, 3, 1_000], 100), [49, 0, 3, 48]);
        assert_eq!(spread(&[5, 6], 100), [5, 6]);
        assert_eq!(spread(&[9, 9, 9], 2).iter().sum::<i64>(), 2);
        assert_eq!(spread(&[], 2), [0; 0]);
    }
}
