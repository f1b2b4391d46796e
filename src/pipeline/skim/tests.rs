//! The fast way and the other one, side by side.

use proptest::prelude::*;

use super::super::extract::{Raw, Rest, Tree};
use super::super::path::Path;

/// A tree of paths, and how many slots it has.
fn tree(paths: &[&str]) -> (Tree, usize) {
    let mut tree = Tree::default();
    for (slot, path) in paths.iter().enumerate() {
        // A condition takes nothing out of the rest.
        tree.add(&path.parse::<Path>().unwrap().steps, slot, !path.ends_with("seen"));
    }
    (tree, paths.len())
}

type Taken<'a> = (Vec<Option<Raw<'a>>>, Option<Rest<'a>>);

fn skimmed<'a>((tree, slots): &(Tree, usize), document: &'a [u8], rest: bool) -> Option<Taken<'a>> {
    let (mut slots, mut rest) = (vec![None; *slots], rest.then(Vec::new));
    let skimmed = tree.skim(document, &mut slots, rest.as_mut());
    if skimmed.is_none() {
        assert!(
            slots.iter().all(Option::is_none) && rest.iter().all(Vec::is_empty),
            "nothing is left behind"
        );
    }
    skimmed.map(|()| (slots, rest))
}

fn walked<'a>((tree, slots): &(Tree, usize), document: &'a [u8], rest: bool) -> Option<Taken<'a>> {
    let (mut slots, mut rest) = (vec![None; *slots], rest.then(Vec::new));
    tree.walk(document, &mut slots, rest.as_mut()).ok().map(|()| (slots, rest))
}

fn trees() -> Vec<(Tree, usize)> {
    let paths: [&[&str]; 6] = [
        &["value.a", "value.b", "value.seen"],
        &["value.a.b", "value.a", "value.a.a", "value.b"],
        &["value.a[1].b", "value.a[0]", "value.b.a.seen"],
        &["value", "value.a"],
        &["value[0]", "value[2].a"],
        &[],
    ];
    let mut trees: Vec<_> = paths.into_iter().map(tree).collect();
    // One of them is also taken whole, and a condition goes into another.
    let mut spread = tree(&["value.a.b", "value.a.a.b", "value.b.a.a", "value.b.a", "value.b.b"]);
    spread.0.spread("_", true);
    spread.0.add(&"value.a.a.seen".parse::<Path>().unwrap().steps, 5, false);
    spread.1 += 1;
    trees.push(spread);
    trees
}

/// What the fast way takes, the other one takes in the same way; gives for how many of the trees it was taken.
fn same(document: &[u8]) -> usize {
    let mut taken = 0;
    for tree in &trees() {
        for rest in [false, true] {
            if let Some(skimmed) = skimmed(tree, document, rest) {
                assert_eq!(Some(skimmed), walked(tree, document, rest), "{tree:?}");
                taken += 1;
            }
        }
    }
    taken
}

crate::fuzz::fuzz!(
    /// Whatever the bytes are.
    any_document_is_taken_as_the_other_way_takes_it,
    &[
        "{", "}", "[", "]", ",", ":", "\"a\":", "\"b\":", "\"seen\":", "\"a\"", "\"\\u0061\":", "\"", "\\", "\\u", "\\ud800",
        "{\"a\":{\"b\":[1,", "null", "true", "false", "nul", "0", "-", "1.5", "e+1", "01", " ", "\n", "é", "{\"a\":[", "]}",
        "\"x\":{\"y\":[{},[]]}", "\u{1}",
    ],
    |bytes| {
        same(bytes);
    }
);

fn value() -> impl Strategy<Value = serde_json::Value> {
    let leaf = prop_oneof![
        Just(serde_json::Value::Null),
        any::<bool>().prop_map(Into::into),
        any::<i64>().prop_map(Into::into),
        any::<f64>().prop_map(Into::into),
        ".{0,20}".prop_map(Into::into),
    ];
    leaf.prop_recursive(4, 24, 5, |inner| {
        let name = prop_oneof!["a", "b", "seen", "[a-z é]{0,9}"];
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(serde_json::Value::from),
            prop::collection::btree_map(name, inner, 0..5)
                .prop_map(|fields| serde_json::Value::Object(fields.into_iter().collect())),
        ]
    })
}

proptest! {
    /// Documents as serializers write them; whatever the paths want, it is found without the other way if it is there.
    #[test]
    fn documents_are_taken_by_the_fast_way(value in value()) {
        for document in [value.to_string(), serde_json::to_string_pretty(&value).unwrap()] {
            let document = document.as_bytes();
            let walked = trees()
                .iter()
                .flat_map(|tree| [false, true].map(|rest| walked(tree, document, rest).is_some()))
                .filter(|taken| *taken)
                .count();
            prop_assert_eq!(same(document), walked);
        }
    }
}

#[test]
fn what_is_unusual_is_left_to_the_other_way() {
    let deep = format!("{{\"x\":{}1{}}}", "[".repeat(65), "]".repeat(65));
    let lone = br#"{"\ud800":1}"#;
    let mut no_text = br#"{"x":"?"}"#.to_vec();
    no_text[6] = 0xff;
    for document in [r#"{"\u0061":1}"#.as_bytes(), lone, deep.as_bytes(), &no_text] {
        assert_eq!(skimmed(&trees()[0], document, false), None);
    }
    // All but one of them are JSON to it, as what is in bytes that nobody asks for is.
    assert!(walked(&trees()[0], deep.as_bytes(), false).is_some());
    assert!(walked(&trees()[0], &no_text, false).is_some());
    assert!(walked(&trees()[0], lone, false).is_none());
    let nested = format!("{{\"x\":{}1{},\"a\":2}}", "[".repeat(64), "]".repeat(64));
    assert_eq!(skimmed(&trees()[0], nested.as_bytes(), false).unwrap().0[0], Some(Raw::of("2")));
}

#[test]
fn what_is_no_json_is_left_to_the_other_way() {
    for document in [
        "",
        " ",
        "{",
        "{}x",
        "{} {}",
        r#"{"a"}"#,
        r#"{"a":}"#,
        r#"{"a":1,}"#,
        r#"{,"a":1}"#,
        r#"{"a":1 "b":2}"#,
        r#"{a:1}"#,
        r#"{"a":[1,]}"#,
        r#"{"a":[1 2]}"#,
        r#"{"a":[}"#,
        r#"{"a":{]}"#,
        r#"{"x":[{"y":1],"a":2}"#,
        r#"{"a":01}"#,
        r#"{"a":-}"#,
        r#"{"a":1.}"#,
        r#"{"a":.5}"#,
        r#"{"a":1e}"#,
        r#"{"a":+1}"#,
        r#"{"a":0x1}"#,
        r#"{"a":nul}"#,
        r#"{"a":nulls}"#,
        r#"{"a":True}"#,
        r#"{"a":"\x"}"#,
        r#"{"a":"\u12g4"}"#,
        r#"{"a":"\u123"#,
        r#"{"a":"\"#,
        r#"{"a":"b"#,
        "{\"a\":\"\t\"}",
        "{\"a\":\"0123456789\u{1f}\"}",
        "\u{feff}{}",
        "{\"a\u{0}\":1}",
        r#"{"a":NaN}"#,
        r#"{"x":"y","x""#,
    ] {
        assert_eq!(same(document.as_bytes()), 0, "{document}");
        assert_eq!(walked(&trees()[0], document.as_bytes(), false), None, "{document}");
    }
    // Every place in a word of eight bytes, and behind the last one.
    for length in 0..24 {
        let text = "x".repeat(length);
        for (end, taken) in
            [("\"", true), ("\\\"\"", true), ("\\n\"", true), ("\u{7f}é\"", true), ("\u{1f}\"", false)]
        {
            let document = format!("{{\"a\":\"{text}{end},\"b\":0}}");
            assert_eq!(skimmed(&trees()[0], document.as_bytes(), false).is_some(), taken, "{document}");
            same(document.as_bytes());
        }
    }
}
