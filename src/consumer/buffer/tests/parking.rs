use super::*;

fn push_keyed(buffer: &PartitionBuffer, offset: i64, key: Option<&[u8]>) {
    let record = RawRecord { offset, key, value: Some(b"v"), ..RawRecord::default() };
    assert_eq!(buffer.push(&record, std::iter::empty(), Instant::now()), Pushed::Kept);
}

fn parked(part: &Part) -> Vec<i64> {
    part.parked().map(|(record, _)| record.offset()).collect()
}

#[test]
fn nothing_is_handed_out_before_the_keys_are_known() {
    let budget = budget();
    let buffer = buffer(0, &budget).parking(true, false);
    push_keyed(&buffer, 0, Some(b"a"));
    assert!(buffer.lacks_keys() && buffer.take(10, 1 << 20).is_none());
    buffer.know_keys(WaitingKeys::default());
    assert_eq!(offsets(&buffer.take(10, 1 << 20).unwrap()), [0]);
    buffer.forget_keys();
    push_keyed(&buffer, 1, Some(b"a"));
    assert!(buffer.take(10, 1 << 20).is_none());

    let other = super::buffer(0, &budget).parking(false, false);
    other.forget_keys();
    assert!(!other.lacks_keys(), "where nothing is parked nothing need be known");
}

#[test]
fn records_of_a_key_that_waits_are_no_handlers() {
    let budget = budget();
    let buffer = buffer(0, &budget).parking(true, false);
    let keys: [Option<&[u8]>; 6] = [Some(b"a"), Some(b"b"), None, Some(b"a"), Some(b"c"), Some(b"")];
    for (offset, key) in (0..).zip(keys) {
        push_keyed(&buffer, offset, key);
    }
    buffer.know_keys(WaitingKeys::of(&[b"a", b"c"], -1));
    let part = buffer.take(5, 1 << 20).unwrap();
    assert_eq!((offsets(&part), parked(&part)), (vec![1, 2], vec![0, 3, 4]));
    assert_eq!((part.len(), part.all(), part.from.get(), part.to.get()), (2, 5, 0, 5));
    assert_eq!(part.every().map(|record| record.offset()).collect::<Vec<_>>(), [0, 1, 2, 3, 4]);

    // Taken anew, by what is known then.
    buffer.put_back(part);
    buffer.know_keys(WaitingKeys::of(&[b"b"], -1));
    let part = buffer.take(10, 1 << 20).unwrap();
    assert_eq!((offsets(&part), parked(&part)), (vec![0, 2, 3, 4, 5], vec![1]));
    buffer.applied(&part);
    drop(part);
    assert_eq!(budget.used(), 0);
}

#[test]
fn a_rejected_record_ends_its_part_whatever_is_parked_before_it() {
    let budget = budget();
    let buffer = buffer(0, &budget).parking(true, false);
    for offset in 0..6 {
        push_keyed(&buffer, offset, Some(if offset % 2 == 0 { b"even" } else { b"odd" }));
    }
    buffer.know_keys(WaitingKeys::of(&[b"even"], -1));
    let why = Rejection { reason: "bad".to_owned(), sqlstate: None, fingerprint: "kind".to_owned() };
    buffer.set_aside(3, why);
    let part = buffer.take(10, 1 << 20).unwrap();
    assert_eq!((offsets(&part), parked(&part)), (vec![1], vec![0, 2]));
    assert_eq!(part.rejected().map(|(record, _)| record.offset()), Some(3));
    assert_eq!((part.to.get(), part.all()), (4, 4));
}

#[test]
fn a_letter_that_lies_ahead_holds_up_nothing() {
    let budget = budget();
    let buffer = buffer(0, &budget).parking(true, false);
    for offset in 0..4 {
        push_keyed(&buffer, offset, Some(b"a"));
    }
    buffer.know_keys(WaitingKeys::of(&[b"a"], 2));
    let part = buffer.take(10, 1 << 20).unwrap();
    assert_eq!((offsets(&part), parked(&part)), (vec![0, 1, 2], vec![3]));
}

/// Under an earlier claim something was parked, and is not any more: that is noted before anything is handed out.
#[test]
fn that_nothing_is_parked_any_more_is_noted_first() {
    let budget = budget();
    let buffer = buffer(0, &budget).parking(false, true);
    push_keyed(&buffer, 0, Some(b"a"));
    assert!(buffer.lacks_keys() && buffer.unbegun() == Some(false) && buffer.take(10, 1 << 20).is_none());
    buffer.begun();
    assert!(!buffer.lacks_keys() && buffer.take(10, 1 << 20).is_some());
    let parks = super::buffer(0, &budget).parking(true, true);
    assert_eq!(parks.unbegun(), Some(true));
    parks.begun();
    assert!(parks.lacks_keys() && parks.unbegun().is_none(), "they are still to be read");
}
