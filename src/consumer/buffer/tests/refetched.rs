use std::collections::VecDeque;

use proptest::prelude::*;

use super::*;

#[derive(Debug, Clone, Copy)]
enum Step {
    /// The client delivers so many records from where it stands.
    Fetch(usize),
    /// It stands at the log's end and says so.
    EndOfPartition,
    /// It is made to fetch anew, from the end of the buffer or from so many offsets before it.
    Refetch(i64),
    Take(usize, usize),
    Apply,
    PutBack,
    /// The outcome is unknown: what is behind goes back, the part is given up and the buffer closed.
    Abandon,
    Close,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let one = prop_oneof![
        6 => (1..6_usize).prop_map(Step::Fetch),
        2 => Just(Step::EndOfPartition),
        2 => prop_oneof![Just(0_i64), 0..12_i64].prop_map(Step::Refetch),
        5 => (1..8_usize, 1..3_000_usize).prop_map(|(records, bytes)| Step::Take(records, bytes)),
        5 => Just(Step::Apply),
        2 => Just(Step::PutBack),
        1 => Just(Step::Abandon),
        1 => Just(Step::Close),
    ];
    prop::collection::vec(one, 1..80)
}

/// A compacted log: record offsets with gaps, the size of each, and an end past the last one (markers).
fn log() -> impl Strategy<Value = (Vec<(i64, usize)>, i64)> {
    (prop::collection::vec((1..4_i64, 0..1_000_usize), 0..40), 0..4_i64).prop_map(|(gaps, tail)| {
        let mut end = 5;
        let records = gaps.into_iter().map(|(gap, size)| {
            end += gap;
            (end - 1, size)
        });
        let records: Vec<_> = records.collect();
        (records, end + tail)
    })
}

proptest! {
    /// However often the client fetches again, from wherever, and whenever the buffer closes: what was applied is each
    /// record of the log below the durable position, once and in order; parts tile the coverage (EO-1, EO-2, EO-5).
    #[test]
    fn fetched_again_and_closed_at_any_time((log, end) in log(), steps in steps()) {
        let budget = Arc::new(Budget::new(1 << 30));
        let buffer = buffer(5, &budget);
        let (mut cursor, mut applied, mut out, mut position) = (5, Vec::new(), VecDeque::<Part>::new(), 5);
        for step in steps {
            match step {
                Step::Fetch(count) => {
                    for (offset, size) in log.iter().filter(|(offset, _)| *offset >= cursor).take(count) {
                        let is_new = !buffer.is_closed() && *offset >= buffer.covered_to().get();
                        let pushed = push(&buffer, *offset, &vec![1; *size]);
                        prop_assert_eq!(pushed, if is_new { Pushed::Kept } else { Pushed::Dropped });
                    }
                    let last = log.iter().filter(|(offset, _)| *offset >= cursor).take(count).last();
                    cursor = last.map_or(cursor, |(offset, _)| offset + 1);
                }
                Step::EndOfPartition => {
                    if log.iter().all(|(offset, _)| *offset < cursor) {
                        cursor = end;
                        buffer.end_of_partition(NextOffset::new(end).unwrap());
                    }
                }
                Step::Refetch(back) => cursor = (buffer.covered_to().get() - back).max(5),
                Step::Take(records, bytes) => {
                    let part = buffer.take(records, bytes);
                    let from = out.back().map_or(position, |part| part.to.get());
                    if out.len() == 2 || buffer.is_closed() {
                        prop_assert!(part.is_none(), "EO-5");
                    } else if let Some(part) = part {
                        prop_assert_eq!(part.from.get(), from, "neither a gap nor an overlap");
                        out.push_back(part);
                    } else {
                        prop_assert_eq!(buffer.covered_to().get(), from, "there was something to take");
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
                Step::Abandon => {
                    if let Some(behind) = out.pop_back() {
                        match out.pop_back() {
                            Some(part) => {
                                buffer.put_back(behind);
                                buffer.abandoned(&part);
                            }
                            None => buffer.abandoned(&behind),
                        }
                        buffer.close(Instant::now());
                    }
                }
                Step::Close => buffer.close(Instant::now()),
            }
            prop_assert_eq!(buffer.committed(), position);
            prop_assert_eq!(buffer.held_bytes(), budget.used());
            let below: Vec<_> = log.iter().map(|(offset, _)| *offset).filter(|offset| *offset < position).collect();
            prop_assert_eq!(&applied, &below, "lost, repeated, or out of order");
        }
        out.drain(..).for_each(|part| buffer.abandoned(&part));
        buffer.close(Instant::now());
        prop_assert_eq!(budget.used(), 0);
    }
}
