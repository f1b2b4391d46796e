//! Where a column's value is in a record: `value.amount`, `value.items[0].id`, `key`, `header.trace`.

use std::fmt;
use std::str::FromStr;

/// A part of a record, and the way into it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Path {
    pub(crate) root: Root,
    /// Into JSON; empty: all of it.
    pub(crate) steps: Vec<Step>,
}

/// What of a record a path begins with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Root {
    Value,
    /// What is around the value in an envelope.
    Event,
    Key,
    Header(String),
    Topic,
    Partition,
    Offset,
    Timestamp,
}

/// One step into JSON.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Step {
    Field(String),
    Element(usize),
}

impl Path {
    /// A field of the value's object.
    pub(crate) fn field(name: &str) -> Self {
        Self { root: Root::Value, steps: vec![Step::Field(name.to_owned())] }
    }

    /// The name of the field at its end.
    pub(crate) fn last_field(&self) -> Option<&str> {
        match self.steps.last() {
            Some(Step::Field(name)) => Some(name),
            _ => None,
        }
    }
}

impl FromStr for Path {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = |what: &str| {
            format!(
                "`{text}` is no path: {what}; write value.field, value.a.b[0], value.\"a name\", key, key.field, \
                 event.field, header.name, topic, partition, offset or timestamp"
            )
        };
        let (root, mut rest) = match text.find(['.', '[']) {
            Some(at) => text.split_at(at),
            None => (text, ""),
        };
        if root == "header" {
            let name = rest.strip_prefix('.').filter(|name| !name.is_empty());
            let name = name.ok_or_else(|| wrong("a header has a name"))?;
            return Ok(Self { root: Root::Header(name.to_owned()), steps: Vec::new() });
        }
        let mut steps = Vec::new();
        while !rest.is_empty() {
            let (step, behind) = step(rest).map_err(wrong)?;
            steps.push(step);
            rest = behind;
        }
        if steps.len() > MAX_STEPS {
            return Err("a path of more than 64 steps".to_owned());
        }
        let root = match root {
            "value" => Root::Value,
            "event" => Root::Event,
            "key" => Root::Key,
            "topic" | "partition" | "offset" | "timestamp" if !steps.is_empty() => {
                return Err(wrong("nothing is inside it"));
            }
            "topic" => Root::Topic,
            "partition" => Root::Partition,
            "offset" => Root::Offset,
            "timestamp" => Root::Timestamp,
            _ => return Err(wrong("it begins with no part of a record")),
        };
        Ok(Self { root, steps })
    }
}

/// Each is a call within another.
const MAX_STEPS: usize = 64;

/// What a field's name has only in quotes.
const SPECIAL: [char; 13] = [' ', '\t', '"', '\'', '|', '&', '=', '!', '<', '>', '(', ')', ','];

/// The first step of what is left, and what comes behind it.
fn step(rest: &str) -> Result<(Step, &str), &'static str> {
    if let Some(inside) = rest.strip_prefix('[') {
        let (index, behind) = inside.split_once(']').ok_or("a [ without its ]")?;
        let index = index.parse().map_err(|_| "an element has a number, from 0")?;
        return Ok((Step::Element(index), behind));
    }
    let rest = rest.strip_prefix('.').ok_or("a dot or a [ is missing")?;
    if let Some(quoted) = rest.strip_prefix('"') {
        let (name, behind) = quoted.split_once('"').ok_or("a quote is not closed")?;
        return Ok((Step::Field(name.to_owned()), behind));
    }
    let (name, behind) = rest.split_at(rest.find(['.', '[']).unwrap_or(rest.len()));
    if name.is_empty() {
        return Err("a field without a name");
    }
    if name.contains(SPECIAL) {
        return Err("a name with such signs in it stands in quotes");
    }
    Ok((Step::Field(name.to_owned()), behind))
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.root {
            Root::Value => f.write_str("value")?,
            Root::Event => f.write_str("event")?,
            Root::Key => f.write_str("key")?,
            Root::Header(name) => write!(f, "header.{name}")?,
            Root::Topic => f.write_str("topic")?,
            Root::Partition => f.write_str("partition")?,
            Root::Offset => f.write_str("offset")?,
            Root::Timestamp => f.write_str("timestamp")?,
        }
        for step in &self.steps {
            match step {
                Step::Field(name) if name.contains(['.', '[']) || name.contains(SPECIAL) => {
                    write!(f, ".\"{name}\"")?
                }
                Step::Field(name) => write!(f, ".{name}")?,
                Step::Element(index) => write!(f, "[{index}]")?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_read_as_they_are_written() {
        for text in [
            "value",
            "value.a",
            "value.a.b[0].c",
            "value[2]",
            "value.\"a b\".c",
            "key",
            "key.id",
            "event.source.lsn",
            "header.trace.id",
            "topic",
            "partition",
            "offset",
            "timestamp",
        ] {
            assert_eq!(text.parse::<Path>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn what_is_no_path_is_refused_with_what_is_wrong() {
        for (text, why) in [
            ("amount", "begins with no part of a record"),
            ("value.", "a field without a name"),
            ("value..a", "a field without a name"),
            ("value[x]", "an element has a number"),
            ("value[0", "a [ without its ]"),
            ("value[0]a", "a dot or a [ is missing"),
            ("value.\"a", "a quote is not closed"),
            ("value.a b", "stands in quotes"),
            ("value.a || value", "stands in quotes"),
            ("header", "a header has a name"),
            ("topic.a", "nothing is inside it"),
            ("", "begins with no part"),
        ] {
            let said = text.parse::<Path>().unwrap_err();
            assert!(said.contains(why), "{text}: {said}");
        }
    }
}
