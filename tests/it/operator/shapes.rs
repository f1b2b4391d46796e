//! The shapes of JSON in docs/command.md, read and compared with what the command prints.
//!
//! `[S]` is an array, `{ a, b?: S }` an object with these fields and no others, of which `b` may be null; `{ * }` one whose
//! names are data. What has no shape is a string, a number, a boolean, or null.

use serde_json::Value;

#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Shape {
    Scalar,
    Array(Box<Shape>),
    Map,
    Object(Vec<(String, bool, Shape)>),
}

/// What the page says of a verb.
pub(crate) fn documented(verb: &str) -> Shape {
    let page = include_str!("../../../docs/command.md");
    let block = page.split("<!-- shapes: begin -->").nth(1).expect("the shapes");
    let block = block.split("```text\n").nth(1).expect("a fence").split("```").next().expect("its end");
    let start = format!("{verb}: ");
    let mut lines = block.lines().skip_while(|line| !line.starts_with(&start));
    let first = lines.next().unwrap_or_else(|| panic!("docs/command.md has no shape of `{verb}`"));
    let mut text = first[start.len()..].to_owned();
    for line in lines.take_while(|line| line.starts_with(' ')) {
        text += line;
    }
    let (shape, rest) = read(text.trim());
    assert_eq!(rest.trim(), "", "{verb}");
    shape
}

fn read(text: &str) -> (Shape, &str) {
    let text = text.trim_start();
    if let Some(rest) = text.strip_prefix('[') {
        let (item, rest) = read(rest);
        let rest = rest.trim_start().strip_prefix(']').unwrap_or_else(|| panic!("a ] at {rest:?}"));
        return (Shape::Array(Box::new(item)), rest);
    }
    let Some(mut rest) = text.strip_prefix('{') else { return (Shape::Scalar, text) };
    if let Some(rest) = rest.trim_start().strip_prefix('*') {
        return (Shape::Map, rest.trim_start().strip_prefix('}').expect("a } after *"));
    }
    let mut fields = Vec::new();
    loop {
        rest = rest.trim_start();
        let end = rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').expect("an end");
        let name = rest[..end].to_owned();
        rest = &rest[end..];
        let optional = rest.starts_with('?');
        rest = rest.trim_start_matches('?').trim_start();
        let mut shape = Shape::Scalar;
        if let Some(after) = rest.strip_prefix(':') {
            (shape, rest) = read(after);
        }
        fields.push((name, optional, shape));
        rest = rest.trim_start();
        match rest.strip_prefix(',') {
            Some(after) => rest = after,
            None => {
                return (
                    Shape::Object(fields),
                    rest.strip_prefix('}').unwrap_or_else(|| panic!("a }} at {rest:?}")),
                );
            }
        }
    }
}

/// Compares; `where_` is told where they differ. Every array has to have something in it, or nothing was compared.
#[track_caller]
pub(crate) fn check(value: &Value, shape: &Shape, where_: &str) {
    match (shape, value) {
        (Shape::Scalar, Value::Array(_) | Value::Object(_)) => panic!("{where_} is {value}, and no scalar"),
        (Shape::Scalar, _) | (Shape::Map, Value::Object(_)) => {}
        (Shape::Array(item), Value::Array(items)) => {
            for (value, at) in items.iter().zip(0..) {
                check(value, item, &format!("{where_}[{at}]"));
            }
        }
        (Shape::Object(fields), Value::Object(found)) => {
            let known: Vec<&str> = fields.iter().map(|(name, ..)| name.as_str()).collect();
            let more: Vec<&String> = found.keys().filter(|name| !known.contains(&name.as_str())).collect();
            assert!(more.is_empty(), "{where_} has {more:?}, of which the page says nothing");
            for (name, optional, shape) in fields {
                match found.get(name) {
                    Some(Value::Null) if *optional || *shape == Shape::Scalar => {}
                    None if *optional => {}
                    Some(value) => check(value, shape, &format!("{where_}.{name}")),
                    None => panic!("{where_} has no {name}, and the page says that it has"),
                }
            }
        }
        (shape, value) => panic!("{where_} is {value}, and not {shape:?}"),
    }
}

/// As it is printed, in the page's notation: to write the page by.
pub(crate) fn shown(value: &Value) -> String {
    match value {
        Value::Array(items) => format!("[{}]", items.first().map(shown).unwrap_or_default()),
        Value::Object(fields) => {
            let fields = fields.iter().map(|(name, value)| match value {
                Value::Array(_) | Value::Object(_) => format!("{name}: {}", shown(value)),
                _ => name.clone(),
            });
            format!("{{ {} }}", fields.collect::<Vec<_>>().join(", "))
        }
        _ => String::new(),
    }
}

#[test]
fn shapes_are_read_as_they_are_written() {
    let (shape, _) = read("[{ a, b: [{ c? }], d?: { * } }]");
    let value: Value =
        serde_json::json!([{ "a": 1, "b": [{ "c": null }], "d": { "x": 1 } }, { "a": "", "b": [] }]);
    check(&value, &shape, "it");
    for wrong in [
        serde_json::json!({ "a": 1 }),
        serde_json::json!([{ "a": 1 }]),
        serde_json::json!([{ "a": 1, "b": [], "e": 1 }]),
        serde_json::json!([{ "a": [], "b": [] }]),
        serde_json::json!([{ "a": 1, "b": [{ "d": 1 }] }]),
    ] {
        assert!(std::panic::catch_unwind(|| check(&wrong, &shape, "it")).is_err(), "{wrong}");
    }
}
