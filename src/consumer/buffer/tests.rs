mod parking;
mod refetched;

use std::collections::VecDeque;
use std::time::Duration;

use proptest::prelude::*;
use uuid::Uuid;

use super::*;
use crate::ErrorKind;
use crate::record::chunk::CHUNK_BYTES;

fn buffer(from: i64, budget: &Arc<Budget>) -> PartitionBuffer {
    let key = PartitionKey { topic: "t".into(), partition: 0 };
    let claim = ClaimId { epoch: 1, token: Uuid::nil() };
    PartitionBuffer::new(key, claim, NextOffset::new(from).unwrap(), Arc::clone(budget))
}

fn push(buffer: &PartitionBuffer, offset: i64, value: &[u8]) -> Pushed {
    let record = RawRecord { offset, value: Some(value), ..RawRecord::default() };
    buffer.push(&record, std::iter::empty(), Instant::now())
}

fn offsets(part: &Part) -> Vec<i64> {
    part.records().map(|record| record.offset()).collect()
}

fn budget() -> Arc<Budget> {
    Arc::new(Budget::new(1 << 20))
}

/// Of a batch that is out, the first record is the next to apply, also where it bears no time.
#[test]
fn the_age_of_what_waits_behind_a_batch_is_not_that_of_the_next_record() {
    let budget = budget();
    let buffer = buffer(0, &budget);
    let dated = |offset, timestamp_ms| {
        let record = RawRecord { offset, timestamp_ms, ..RawRecord::default() };
        buffer.push(&record, std::iter::empty(), Instant::now());
    };
    dated(0, -1);
    let part = buffer.take(usize::MAX, usize::MAX).unwrap();
    dated(1, 7_000);
    assert_eq!(buffer.next_timestamp_ms(), None);
    drop(part);
}

#[test]
fn a_record_below_the_coverage_is_dropped() {
    let budget = budget();
    let buffer = buffer(10, &budget);
    assert_eq!(push(&buffer, 9, b""), Pushed::Dropped);
    assert_eq!(push(&buffer, 12, b""), Pushed::Kept);
    assert_eq!(push(&buffer, 12, b""), Pushed::Dropped);
    buffer.end_of_partition(NextOffset::new(20).unwrap());
    assert_eq!(push(&buffer, 19, b""), Pushed::Dropped, "the log had nothing below 20");
    let part = buffer.take(100, 1 << 20).unwrap();
    assert_eq!((part.from.get(), part.to.get(), offsets(&part)), (10, 20, vec![12]));
}

#[test]
fn markers_alone_are_covered_by_a_part_without_records() {
    let budget = budget();
    let buffer = buffer(10, &budget);
    buffer.end_of_partition(NextOffset::new(13).unwrap());
    assert!(buffer.peek().waiting_since.is_some());
    let part = buffer.take(100, 1).unwrap();
    assert_eq!((part.from.get(), part.to.get(), part.len()), (10, 13, 0));
    buffer.applied(&part);
    assert!(buffer.take(100, 1).is_none());
    assert_eq!(buffer.committed(), 13);
}

#[test]
fn one_record_is_given_whatever_its_size() {
    let budget = budget();
    let buffer = buffer(0, &budget);
    push(&buffer, 0, &vec![0; 3 * CHUNK_BYTES]);
    push(&buffer, 1, b"small");
    let part = buffer.take(100, 10).unwrap();
    assert_eq!(offsets(&part), [0]);
    buffer.applied(&part);
    assert_eq!(offsets(&buffer.take(100, 10).unwrap()), [1]);
}

#[test]
fn one_batch_and_the_one_behind_it_are_out_and_never_more() {
    let budget = budget();
    let buffer = buffer(0, &budget);
    for offset in 0..4 {
        push(&buffer, offset, b"");
    }
    let part = buffer.take(1, 1 << 20).unwrap();
    let behind = buffer.take(1, 1 << 20).unwrap();
    assert_eq!((part.to, offsets(&behind)), (behind.from, vec![1]));
    assert!(buffer.take(1, 1 << 20).is_none(), "EO-5");
    buffer.put_back(behind);
    buffer.put_back(part);
    assert_eq!(offsets(&buffer.take(10, 1 << 20).unwrap()), [0, 1, 2, 3]);
}

#[test]
fn a_rejected_record_ends_the_buffer_only_when_nothing_is_out() {
    let budget = budget();
    let buffer = buffer(0, &budget);
    for offset in 0..3 {
        push(&buffer, offset, b"");
    }
    buffer.stop_at(2, Halt::new(ErrorKind::Handler, "bad"));
    let (part, behind) = (buffer.take(1, 1 << 20).unwrap(), buffer.take(9, 1 << 20).unwrap());
    assert_eq!(offsets(&behind), [1]);
    buffer.applied(&part);
    let peek = buffer.peek();
    assert_eq!(
        (peek.end, peek.waiting_since),
        (None, None),
        "what is behind is still to be applied, and nothing more"
    );
    buffer.applied(&behind);
    assert!(buffer.peek().end.is_some());
}

fn why() -> Rejection {
    Rejection::of("h", &crate::HandlerError::reject_unnamed("no good"))
}

/// It goes with what is before it, and comes back with it; what is behind it is as it was.
#[test]
fn a_record_that_is_set_aside_ends_its_part_and_is_in_no_handlers_hands() {
    let budget = budget();
    let buffer = buffer(0, &budget);
    for offset in 0..5 {
        push(&buffer, offset, b"abc");
    }
    let held = buffer.held_bytes();
    buffer.set_aside(2, why());
    for _ in 0..2 {
        let (part, behind) = (buffer.take(9, 1 << 20).unwrap(), buffer.take(9, 1 << 20).unwrap());
        assert_eq!((part.from.get(), part.to.get(), offsets(&part)), (0, 3, vec![0, 1]));
        let rejected = part.rejected().map(|(record, why)| (record.offset(), why.reason.clone()));
        assert_eq!((rejected, part.len(), part.all()), (Some((2, "no good".to_owned())), 2, 3));
        assert_eq!((part.weight() + behind.weight(), buffer.peek().records), (held, 0));
        assert_eq!((behind.to.get(), offsets(&behind), behind.all()), (5, vec![3, 4], 2));
        buffer.put_back(behind);
        buffer.put_back(part);
        assert_eq!(buffer.peek().records, 5);
    }
    // One record at a time.
    let parts: Vec<(Vec<i64>, bool)> = std::iter::from_fn(|| {
        let part = buffer.take(1, 1 << 20)?;
        buffer.applied(&part);
        Some((offsets(&part), part.letter.is_some()))
    })
    .collect();
    let good = |offset| (vec![offset], false);
    assert_eq!(parts, [good(0), good(1), (vec![], true), good(3), good(4)]);
    assert_eq!((buffer.held_bytes(), buffer.committed()), (0, 5));
    assert_eq!(buffer.peek().end, None);
}

/// The coverage behind the last record goes with it, whatever becomes of that.
#[test]
fn the_last_record_is_set_aside_with_the_markers_behind_it() {
    let budget = budget();
    let buffer = buffer(7, &budget);
    push(&buffer, 7, b"");
    buffer.end_of_partition(NextOffset::new(10).unwrap());
    buffer.set_aside(7, why());
    let part = buffer.take(9, 1 << 20).unwrap();
    assert_eq!((part.from.get(), part.to.get(), part.len(), part.all()), (7, 10, 0, 1));
    buffer.applied(&part);
    assert!(buffer.take(9, 1 << 20).is_none());
}

/// Where there is a stop, there is no record to set aside.
#[test]
fn a_record_that_must_not_be_set_aside_halts_after_all() {
    let budget = budget();
    let buffer = buffer(0, &budget);
    for offset in 0..3 {
        push(&buffer, offset, b"");
    }
    buffer.set_aside(1, why());
    buffer.stop_at(1, Halt::new(ErrorKind::Handler, "one too many"));
    let part = buffer.take(9, 1 << 20).unwrap();
    assert_eq!((offsets(&part), part.letter.is_none()), (vec![0], true));
    buffer.applied(&part);
    assert!(buffer.take(9, 1 << 20).is_none() && buffer.peek().end.is_some());
}

#[test]
fn a_read_error_ends_the_buffer_only_when_nothing_is_out() {
    let budget = budget();
    let buffer = buffer(0, &budget);
    push(&buffer, 0, b"");
    push(&buffer, 1, b"");
    buffer.fail(Halt::new(ErrorKind::Guard, "corrupt"));
    let (part, behind) = (buffer.take(1, 1 << 20).unwrap(), buffer.take(1, 1 << 20).unwrap());
    buffer.applied(&part);
    assert_eq!(buffer.peek().end, None, "what is behind may still be applied");
    buffer.applied(&behind);
    assert!(buffer.peek().end.is_some());
}

#[test]
fn a_rejected_record_stops_the_partition_before_it() {
    let budget = budget();
    let buffer = buffer(0, &budget);
    for offset in 0..4 {
        push(&buffer, offset, b"");
    }
    buffer.stop_at(2, Halt::new(ErrorKind::Handler, "bad"));
    let part = buffer.take(10, 1 << 20).unwrap();
    assert_eq!((offsets(&part), part.to.get()), (vec![0, 1], 2));
    buffer.applied(&part);
    assert!(buffer.take(10, 1 << 20).is_none());
    assert_eq!(buffer.peek().end, Some(After::Halt(Halt::new(ErrorKind::Handler, "bad"))));
}

#[test]
fn what_came_before_a_read_error_is_applied_and_then_it_halts() {
    let budget = budget();
    let buffer = buffer(0, &budget);
    push(&buffer, 0, b"");
    buffer.fail(Halt::new(ErrorKind::Guard, "corrupt"));
    assert_eq!(push(&buffer, 1, b""), Pushed::Dropped, "it may have stepped over records");
    assert_eq!(buffer.peek().end, None, "one record is still to be applied");
    let part = buffer.take(10, 1 << 20).unwrap();
    buffer.applied(&part);
    assert!(buffer.peek().end.is_some());
}

#[test]
fn closing_frees_the_bytes_and_what_is_out_frees_its_own() {
    let budget = budget();
    let buffer = buffer(0, &budget);
    for offset in 0..10 {
        push(&buffer, offset, &[0; 1000]);
    }
    let part = buffer.take(4, 1 << 20).unwrap();
    buffer.close(Instant::now() + Duration::from_secs(1));
    assert_eq!(budget.used(), part.weight());
    assert_eq!(push(&buffer, 10, b""), Pushed::Dropped);
    buffer.put_back(part);
    assert_eq!(budget.used(), 0);
}

#[derive(Debug, Clone)]
enum Step {
    /// A gap, then a record of so many bytes.
    Push(i64, usize),
    EndOfPartition(i64),
    Take(usize, usize),
    Apply,
    PutBack,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let one = prop_oneof![
        4 => (0..4_i64, prop_oneof![0..200_usize, Just(2 * CHUNK_BYTES)]).prop_map(|(gap, size)| Step::Push(gap, size)),
        1 => (0..5_i64).prop_map(Step::EndOfPartition),
        2 => (1..20_usize, 1..100_000_usize).prop_map(|(records, bytes)| Step::Take(records, bytes)),
        2 => Just(Step::Apply),
        1 => Just(Step::PutBack),
    ];
    prop::collection::vec(one, 1..120)
}

proptest! {
    /// EO-1, EO-2, EO-5 as the buffer must keep them: parts follow each other without a gap or an overlap, every
    /// record is in exactly one applied part, in order, and the budget is charged for exactly what is held.
    #[test]
    fn parts_tile_the_coverage(steps in steps()) {
        let budget = Arc::new(Budget::new(1 << 30));
        let buffer = buffer(5, &budget);
        let (mut end, mut pushed, mut applied) = (5, Vec::new(), Vec::new());
        let (mut out, mut position) = (VecDeque::<Part>::new(), 5);
        for step in steps {
            match step {
                Step::Push(gap, size) => {
                    let offset = end + gap;
                    prop_assert_eq!(push(&buffer, offset, &vec![1; size]), Pushed::Kept);
                    pushed.push(offset);
                    end = offset + 1;
                }
                Step::EndOfPartition(gap) => {
                    end += gap;
                    buffer.end_of_partition(NextOffset::new(end).unwrap());
                }
                Step::Take(records, bytes) if out.len() < 2 => {
                    let position = out.back().map_or(position, |part| part.to.get());
                    match buffer.take(records, bytes) {
                        Some(part) => {
                            prop_assert_eq!(part.from.get(), position);
                            prop_assert!(part.to > part.from && part.to.get() <= end);
                            prop_assert!(part.len() <= records);
                            prop_assert!(part.len() <= 1 || part.weight() <= bytes);
                            prop_assert!(part.records().all(|record| (position..part.to.get()).contains(&record.offset())));
                            out.push_back(part);
                        }
                        None => prop_assert_eq!(position, end, "there was something to take"),
                    }
                }
                Step::Apply => {
                    if let Some(part) = out.pop_front() {
                        applied.extend(offsets(&part));
                        position = part.to.get();
                        buffer.applied(&part);
                    }
                }
                Step::PutBack => {
                    if let Some(part) = out.pop_back() {
                        buffer.put_back(part);
                    }
                }
                Step::Take(..) => {}
            }
            prop_assert_eq!(buffer.held_bytes(), budget.used());
        }
        while let Some(part) = out.pop_back() {
            buffer.put_back(part);
        }
        while let Some(part) = buffer.take(7, 5_000) {
            applied.extend(offsets(&part));
            buffer.applied(&part);
        }
        prop_assert_eq!(applied, pushed);
        prop_assert_eq!(budget.used(), 0);
        prop_assert_eq!(buffer.committed(), end);
    }
}

/// After a pause: neither records nor coverage before somebody has asked, later than they came, which topic this is.
#[test]
fn what_follows_a_pause_waits_for_a_look_at_the_topic() {
    let budget = budget();
    let buffer = buffer(0, &budget);
    push(&buffer, 0, b"a");
    let before = Instant::now();
    buffer.doubt_next();
    push(&buffer, 3, b"b");
    push(&buffer, 4, b"c");
    buffer.end_of_partition(NextOffset::new(9).unwrap());
    let part = buffer.take(100, 1 << 20).unwrap();
    assert_eq!((part.to.get(), offsets(&part)), (1, vec![0]), "what came before the pause goes on");
    buffer.applied(&part);
    assert!(buffer.is_doubted() && buffer.peek().waiting_since.is_none() && buffer.take(100, 1).is_none());
    buffer.verified(before);
    assert!(buffer.take(100, 1).is_none(), "asked too early");
    std::thread::sleep(Duration::from_millis(1));
    buffer.verified(Instant::now());
    let part = buffer.take(100, 1 << 20).unwrap();
    assert_eq!((part.from.get(), part.to.get(), offsets(&part)), (1, 9, vec![3, 4]));
}

/// A doubted record in the middle of a chunk: the coverage goes up to the pause, not only to the record before it.
#[test]
fn coverage_ends_where_the_doubt_begins() {
    let budget = budget();
    let buffer = buffer(0, &budget);
    push(&buffer, 0, b"a");
    buffer.end_of_partition(NextOffset::new(5).unwrap());
    buffer.doubt_next();
    push(&buffer, 7, b"b");
    let part = buffer.take(100, 1 << 20).unwrap();
    assert_eq!((part.to.get(), offsets(&part)), (5, vec![0]));
}

#[test]
fn a_record_where_none_was_is_a_sign_and_an_old_one_is_not() {
    let budget = budget();
    let mark = EpochMark { at: NextOffset::new(7).unwrap(), leader_epoch: 3 };
    let buffer = buffer(10, &budget).watched(Watch::default(), Some(mark), true);
    assert_eq!(push(&buffer, 6, b"old"), Pushed::Dropped);
    assert_eq!(buffer.suspicion(), None);
    assert_eq!(push(&buffer, 8, b"new"), Pushed::Dropped);
    assert!(buffer.suspicion().is_some_and(|suspicion| suspicion.confirmed));
}

/// An error may be the echo of a fetch that is over: only one that comes again, with no record between, is believed.
#[test]
fn a_sign_is_confirmed_by_the_next() {
    let budget = budget();
    let buffer = buffer(10, &budget);
    buffer.suspect("lost", false);
    buffer.set_aside_suspicion();
    push(&buffer, 10, b"a");
    buffer.suspect("lost", false);
    assert_eq!(buffer.suspicion().map(|suspicion| suspicion.confirmed), Some(false));
    buffer.suspect("lost", false);
    assert_eq!(buffer.suspicion().map(|suspicion| suspicion.confirmed), Some(true));
}

/// A marker below the coverage may be cut off by a truncation, and a record take its place: a fetch that begins anew
/// must not drop that record as an old one.
#[test]
fn a_record_in_the_place_of_a_marker_is_a_sign() {
    let budget = budget();
    let buffer = buffer(0, &budget).watched(Watch::default(), None, true);
    let record = RawRecord { leader_epoch: 5, value: Some(&b"a"[..]), ..RawRecord::default() };
    assert_eq!(buffer.push(&record, std::iter::empty(), Instant::now()), Pushed::Kept);
    buffer.end_of_partition(NextOffset::new(5).unwrap());
    assert_eq!(buffer.begins().map(|mark| mark.at.get()), Some(1), "the fetch goes on after the last record");
    assert_eq!(push(&buffer, 0, b"a"), Pushed::Dropped);
    assert_eq!(buffer.suspicion(), None, "an old record is no sign");
    assert_eq!(push(&buffer, 3, b"new"), Pushed::Dropped);
    assert!(buffer.suspicion().is_some_and(|suspicion| suspicion.confirmed));
}

#[test]
fn an_end_of_partition_says_that_the_sign_before_was_an_echo() {
    let budget = budget();
    let buffer = buffer(10, &budget);
    buffer.suspect("lost", false);
    buffer.end_of_partition(NextOffset::new(10).unwrap());
    assert!(buffer.suspicion().is_some(), "not one that is still to be looked into");
    buffer.set_aside_suspicion();
    buffer.end_of_partition(NextOffset::new(10).unwrap());
    buffer.suspect("lost", false);
    assert_eq!(buffer.suspicion().map(|suspicion| suspicion.confirmed), Some(false));
}
