//! An event in one walk, beside the same in several.

use std::cell::OnceCell;

use proptest::prelude::*;

use super::super::connect::KnownSchemas;
use super::super::path::Path;
use super::*;

fn tree(paths: &[&str], first: usize) -> Tree {
    let mut tree = Tree::default();
    for (path, slot) in paths.iter().zip(first..) {
        tree.add(&path.parse::<Path>().unwrap().steps, slot, true);
    }
    tree
}

/// What is taken of the row, and of what is around it.
const TAKEN: [(&[&str], &[&str]); 4] = [
    (&["value.id", "value.a.b", "value.x"], &[]),
    (&["value.id", "value"], &["event.source.lsn", "event.ts_ms", "event.after.id"]),
    (&["value[0]"], &["event", "event.before.id"]),
    (&["value.id"], &["event.op", "event.after", "event.payload"]),
];

/// Reads a document in one walk. If that gives an event, it is the one that several walks give, with the same values; gives
/// how often it did.
fn same(document: &str) -> usize {
    let mut seen = 0;
    for (row, event) in TAKEN {
        let (own, events) = (tree(row, 0), tree(event, row.len()));
        let first = row.len() + event.len();
        let parts = Parts::new(Some(&own), &events, first);
        let mut slots = vec![None; parts.slots()];
        let Some(read) = parts.plain(document.as_bytes(), &mut slots) else {
            assert!(slots.iter().all(Option::is_none), "nothing is left behind");
            continue;
        };
        seen += 1;
        let buffer = OnceCell::new();
        let unwrapped = KnownSchemas::default().unwrap_if("value", document.as_bytes(), &buffer).unwrap();
        assert_eq!((unwrapped.document, unwrapped.has_schema), (document.as_bytes(), false));
        let mut found = [None; 3];
        PARTS.walk(document.as_bytes(), &mut found, None).unwrap();
        let (change, is_taken) = match (read, Event::of(found, false)) {
            (Ok(read), Ok(event)) => {
                assert_eq!(read.change, event.change);
                (read.change, read.is_taken)
            }
            (Err(one), Err(other)) => {
                assert_eq!(one, other);
                continue;
            }
            (one, other) => panic!("{one:?}, and {other:?}"),
        };
        assert!(is_taken);
        let mut expected = vec![None; first];
        if let Change::Written(row) = change {
            own.walk(row.get().as_bytes(), &mut expected, None).unwrap();
        } else {
            // Of a row that is not written nobody looks at what was found there.
            own.clear(&mut slots);
        }
        events.walk(document.as_bytes(), &mut expected, None).unwrap();
        assert_eq!(slots[..first], expected);
    }
    seen
}

const AFTER: &str = r#"{"id":5,"a":{"b":"x","c":[1]},"x":null}"#;

#[test]
fn events_as_connectors_write_them_are_read_in_one_walk() {
    let event = |op: &str, before: &str, after: &str| {
        format!(
            r#"{{"before":{before},"after":{after},"source":{{"lsn":7,"snapshot":"false"}},"op":"{op}","ts_ms":1,"transaction":null}}"#
        )
    };
    // One of the four has a path that is not to be gone where there is a row.
    for op in ["c", "r", "u"] {
        assert_eq!(same(&event(op, "null", AFTER)), 3, "{op}");
        assert_eq!(same(&event(op, AFTER, AFTER)), 3, "{op}");
    }
    assert_eq!(same(&event("d", AFTER, "null")), 4);
    for (op, before, after) in
        [("d", "null", "null"), ("t", "null", "null"), ("c", "null", "null"), ("x", AFTER, "null")]
    {
        assert_eq!(same(&event(op, before, after)), 4, "{op}");
    }
    // Deleted, and written.
    same(&event("d", AFTER, AFTER));
    assert_eq!(same(r#"{"op":"m","message":{"content":"eA=="}}"#), 4);
    assert_eq!(same(r#"{"id":5}"#), 4, "no event");
}

#[test]
fn what_may_be_in_an_envelope_is_not() {
    let event = format!(r#"{{"op":"c","after":{AFTER}}}"#);
    for document in [
        format!(r#"{{"schema":null,"payload":{event}}}"#),
        format!(r#"{{"payload":{event}}}"#),
        format!(r#"{{"op":"c","after":{AFTER},"schema":1}}"#),
        format!(r#"{{"op":"c","after":{AFTER},"payload":null}}"#),
    ] {
        assert_eq!(same(&document), 0, "{document}");
    }
    // Inside of one, such fields are a matter of the event's.
    let (own, inner) = (tree(&["value.id"], 0), format!(r#"{{"op":"c","payload":1,"after":{AFTER}}}"#));
    let parts = Parts::new(Some(&own), &Tree::default(), 1);
    let mut slots = vec![None; parts.slots()];
    let event = parts.read(inner.as_bytes(), &mut slots).unwrap();
    assert_eq!((event.is_taken, slots[0]), (true, Some(Raw::of("5"))));
    let spelled = inner.replace("op", "\\u006fp");
    let mut slots = vec![None; parts.slots()];
    let event = parts.read(spelled.as_bytes(), &mut slots).unwrap();
    assert_eq!((event.is_taken, event.change, slots[0]), (false, Change::Written(Raw::of(AFTER)), None));
}

proptest! {
    /// Parts of any kind, in any order, missing or twice.
    #[test]
    fn any_parts_are_the_same_in_one_walk_and_in_several(
        fields in prop::collection::vec((
            prop_oneof!["before", "after", "op", "op", "source", "ts_ms", "schema", "payload", "[a-z]{0,3}"],
            prop_oneof![
                Just(AFTER.to_owned()),
                prop_oneof!["c", "u", "d", "m", "t", "z"].prop_map(|op| format!("\"{op}\"")),
                prop_oneof!["null", "5", "\\[1,\\{\\}\\]", "\\{\\}", "\\{\"lsn\":1\\}", "\\{\"id\":\\{\\},\"id\":6,\"a\":2\\}"],
            ],
        ), 0..8)
    ) {
        let fields: Vec<String> = fields.iter().map(|(name, value)| format!("\"{name}\": {value}")).collect();
        same(&format!("{{{}}}", fields.join(" ,")));
    }
}
