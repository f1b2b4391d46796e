use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;
use uuid::Uuid;

use super::*;
use crate::NextOffset;
use crate::batch::{ClaimId, PartitionKey};
use crate::consumer::Budget;
use crate::lane::{Linger, Pace};
use crate::record::chunk::RawRecord;

fn limits() -> Limits {
    Limits {
        target_records: 10,
        max_records: 10,
        max_bytes: 10_000,
        linger: Linger::Fixed(Duration::ZERO),
        single_record_timeouts: 3,
        pace: None,
    }
}

/// A lane with so many partitions; partition `n` holds records of these sizes from offset 0 on.
fn lane(sizes: &[Vec<usize>]) -> (LaneShared, Vec<Arc<PartitionBuffer>>) {
    let (shared, budget) = (LaneShared::default(), Arc::new(Budget::new(1 << 30)));
    let buffers: Vec<_> = (0..)
        .zip(sizes)
        .map(|(partition, sizes)| {
            let key = PartitionKey { topic: "t".into(), partition };
            let claim = ClaimId { epoch: 1, token: Uuid::nil() };
            let buffer = PartitionBuffer::new(key, claim, NextOffset::ZERO, Arc::clone(&budget));
            for (offset, size) in (0..).zip(sizes) {
                let value = vec![0; *size];
                let record = RawRecord { offset, value: Some(&value), ..RawRecord::default() };
                buffer.push(&record, std::iter::empty(), Instant::now());
            }
            Arc::new(buffer)
        })
        .collect();
    buffers.iter().for_each(|buffer| shared.add(Arc::clone(buffer)));
    (shared, buffers)
}

fn batch(fill: Fill) -> Taken {
    match fill {
        Fill::Batch(taken) => taken,
        Fill::Wait(until) => panic!("it waits, until {until:?}"),
    }
}

fn wait(fill: Fill) -> Option<Instant> {
    match fill {
        Fill::Wait(until) => until,
        Fill::Batch(taken) => panic!("it gave {:?}", taken.batch),
    }
}

/// Partition and number of records of each part.
fn shape(taken: &Taken) -> Vec<(i32, usize)> {
    taken.batch.parts.iter().map(|part| (part.key.partition, part.len())).collect()
}

#[test]
fn a_batch_waits_for_its_linger_or_until_it_is_full() {
    let (shared, buffers) = lane(&[vec![1; 3]]);
    let limits = Limits { linger: Linger::Fixed(Duration::from_secs(5)), ..limits() };
    let now = Instant::now();
    let since = buffers[0].peek().waiting_since.unwrap();
    assert_eq!(wait(fill(&shared, &limits, now)), Some(since + Duration::from_secs(5)));
    assert_eq!(shape(&batch(fill(&shared, &limits, since + Duration::from_secs(5)))), [(0, 3)]);

    let (shared, _) = lane(&[vec![1; 4], vec![1; 6]]);
    assert_eq!(shape(&batch(fill(&shared, &limits, now))), [(0, 4), (1, 6)], "it is full");
    let (shared, buffers) = lane(&[vec![1; 4]]);
    buffers[0].set_paused(true);
    assert_eq!(shape(&batch(fill(&shared, &limits, now))), [(0, 4)], "it cannot grow");
}

#[test]
fn a_batch_is_taken_ahead_only_when_waiting_would_not_make_it_larger() {
    let (shared, buffers) = lane(&[vec![1; 25], vec![1; 3]]);
    let ahead = || fill_ahead(&shared, &limits(), Instant::now());
    let present = batch(fill(&shared, &limits(), Instant::now()));
    assert_eq!(shape(&present), [(0, 7), (1, 3)]);
    buffers[1].memory().separate();
    assert!(ahead().is_none(), "after a failure one step at a time");
    buffers[1].memory().relax();
    let behind = ahead().expect("ten more are waiting");
    assert_eq!(shape(&behind), [(0, 10)]);
    assert_eq!(behind.batch.parts[0].from, present.batch.parts[0].to);
    assert!(ahead().is_none(), "one, not more");

    let (shared, buffers) = lane(&[vec![1; 9]]);
    let limits = Limits { target_records: 5, ..limits() };
    assert!(fill_ahead(&shared, &limits, Instant::now()).is_none(), "one more may come");
    buffers[0].set_paused(true);
    assert!(fill_ahead(&shared, &limits, Instant::now()).is_some(), "it cannot grow");
}

#[test]
fn nothing_is_taken_before_it_is_time() {
    let (shared, _) = lane(&[vec![1; 50]]);
    let limits = Limits { pace: Some(Arc::new(Pace::new(100))), ..limits() };
    let later = Instant::now() + Duration::from_secs(1);
    assert_eq!(shape(&batch(fill(&shared, &limits, later))), [(0, 10)]);
    let credit = fill_ahead(&shared, &limits, later).map(|taken| taken.batch.len());
    assert_eq!(credit, Some(10));
    let free_at = wait(fill(&shared, &limits, later)).expect("it will be time");
    assert_eq!(free_at, later + Duration::from_millis(100));
    assert!(fill_ahead(&shared, &limits, later).is_none());
}

#[test]
fn what_one_does_not_use_of_its_share_goes_to_the_others() {
    let (shared, _) = lane(&[vec![1; 50], vec![1; 2], vec![1; 50]]);
    assert_eq!(shape(&batch(fill(&shared, &limits(), Instant::now()))), [(0, 4), (1, 2), (2, 4)]);
}

#[test]
fn a_partition_that_is_held_is_left_out_until_then() {
    let (shared, buffers) = lane(&[vec![1], vec![1]]);
    let now = Instant::now();
    buffers[0].hold_until(now + Duration::from_secs(9));
    let taken = batch(fill(&shared, &limits(), now));
    assert_eq!(shape(&taken), [(1, 1)]);
    assert_eq!(wait(fill(&shared, &limits(), now)), Some(now + Duration::from_secs(9)));
}

#[test]
fn a_suspect_gets_a_batch_of_its_own_of_its_own_size() {
    let (shared, buffers) = lane(&[vec![1; 8], vec![1; 8]]);
    buffers[1].memory().halve(8);
    let now = Instant::now();
    let mut shapes: Vec<_> = (0..2)
        .map(|_| {
            let taken = batch(fill(&shared, &limits(), now));
            taken.batch.parts.iter().zip(&taken.buffers).for_each(|(part, buffer)| buffer.applied(part));
            shape(&taken)
        })
        .collect();
    shapes.sort();
    assert_eq!(shapes, [[(0, 8)], [(1, 4)]]);
}

proptest! {
    /// Whatever waits in whichever partitions: batches keep to their limits, hold every partition's records once and in
    /// order, and give each its turn (EO-5).
    #[test]
    fn batches_keep_to_their_limits_and_starve_nobody(
        sizes in prop::collection::vec(prop::collection::vec(prop_oneof![9 => 0..400_usize, 1 => Just(5_000)], 0..40), 1..6),
        max_records in 1..12_usize,
        max_bytes in 1..4_000_usize,
    ) {
        let (shared, buffers) = lane(&sizes);
        let limits = Limits { max_records, target_records: 1, max_bytes, ..limits() };
        let mut applied = vec![Vec::new(); sizes.len()];
        let mut waited = vec![0; sizes.len()];
        while let Fill::Batch(taken) = fill(&shared, &limits, Instant::now()) {
            let waiting: Vec<usize> = (0..sizes.len()).filter(|n| applied[*n].len() < sizes[*n].len()).collect();
            prop_assert_eq!(taken.batch.parts.len(), waiting.len().min(max_records), "a share for each");
            prop_assert!((1..=max_records).contains(&taken.batch.len()));
            prop_assert!(taken.batch.parts.is_sorted_by(|a, b| a.key < b.key), "PITFALLS 22: key order");
            for n in waiting {
                waited[n] += 1;
            }
            for (part, buffer) in taken.batch.parts.iter().zip(&taken.buffers) {
                prop_assert_eq!(&part.key, &buffer.key);
                prop_assert!(part.len() == 1 || part.weight() <= max_bytes, "an oversized record is alone in its part");
                let n = usize::try_from(part.key.partition).unwrap();
                applied[n].extend(part.records().map(|record| record.offset()));
                waited[n] = 0;
                buffer.applied(part);
            }
            let turns = sizes.len().div_ceil(max_records);
            prop_assert!(waited.iter().all(|waited| *waited < turns), "{:?} of {} turns", waited, turns);
        }
        for (applied, sizes) in applied.iter().zip(&sizes) {
            let all: Vec<i64> = (0..).take(sizes.len()).collect();
            prop_assert_eq!(applied, &all);
        }
        prop_assert!(buffers.iter().all(|buffer| buffer.held_bytes() == 0));
    }
}
