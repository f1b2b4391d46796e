//! `transforms`: Debezium's unwrapping is taken over, and flattening behind it or alone; each other one is refused with what
//! to write instead.

use super::connector::Source;
use super::findings::Findings;

/// The class's last name, and what to do.
pub(super) const TRANSFORMS: &[(&str, &str)] = &[
    ("ByLogicalTableRouter", "name the table in `table`"),
    ("Cast", "a value takes the type of its column: leave it out"),
    ("Drop", "write the condition as `where`"),
    ("DropHeaders", "only headers that `columns` names are read: leave it out"),
    ("ExtractField", "a path goes into the field: `columns.NAME = \"value.field\"`"),
    ("Filter", "write the condition as `where`"),
    ("Flatten", FLATTEN_BY_HAND),
    ("HeaderFrom", "a path names the field: leave it out"),
    ("HoistField", "`columns.NAME = \"value\"`"),
    ("InsertField", "`provenance` has topic, partition, offset and timestamp; `header.NAME` is a path"),
    ("InsertHeader", "nothing is produced: leave it out"),
    ("MaskField", "leave the field out of `columns`"),
    ("RegexRouter", "name the table in `table`"),
    (
        "ReplaceField",
        "leave fields out of `columns`, or give them another name: `columns.new = \"value.old\"`",
    ),
    ("SetSchemaMetadata", "a schema's own name is not looked at: leave it out"),
    ("TimestampConverter", "`columns.NAME = { from = \"value.field\", unit = \"ms\" }`"),
    ("TimestampRouter", "a table that is named by the time is not supported yet"),
    ("TombstoneHandler", "see `deletes`"),
    ("TopicRegexRouter", "name the table in `table`"),
    ("ValueToKey", "`key` may name columns that are filled from the value"),
];

pub(super) const FLATTEN_BY_HAND: &str = "a path goes inside: `columns.a_b = \"value.a.b\"`";

const FLATTEN: &str = "org.apache.kafka.connect.transforms.Flatten$Value";

const UNWRAP: &str = "io.debezium.transforms.ExtractNewRecordState";

/// What the unwrapping may be told.
const UNWRAP_OPTIONS: &[(&str, Option<&str>)] = &[
    ("type", None),
    // Headers that nobody reads, and deletes, which are the sink's to decide.
    ("add.headers", None),
    ("add.headers.prefix", None),
    ("operation.header", None),
    ("drop.tombstones", None),
    ("delete.handling.mode", Some("drop,none")),
    ("delete.tombstone.handling.mode", Some("drop,tombstone,delete-to-tombstone")),
];

/// What is taken over.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Transforms {
    /// Records are Debezium's change events, of which rows are made.
    pub(super) unwrapped: bool,
    /// What stands between the names of objects and their fields, and the transform's name.
    pub(super) flatten: Option<(String, String)>,
}

/// Refuses each transform that is not taken over.
pub(super) fn read(source: &Source, findings: &mut Findings) -> Transforms {
    let names = source.list("transforms");
    let class = |name: &String| source.get(&format!("transforms.{name}.type")).unwrap_or_default();
    let (unwrap, flatten) = match names.as_slice() {
        [one] if class(one) == UNWRAP => (Some(one), None),
        [one] if class(one) == FLATTEN => (None, Some(one)),
        [one, other] if class(one) == UNWRAP && class(other) == FLATTEN => (Some(one), Some(other)),
        _ => (None, None),
    };
    if unwrap.is_some() || flatten.is_some() {
        if let Some(name) = unwrap {
            unwrapping(source, &format!("transforms.{name}."), findings);
        }
        let flatten = flatten.map(|name| {
            (flattening(source, &format!("transforms.{name}."), findings), format!("transforms.{name}"))
        });
        return Transforms { unwrapped: unwrap.is_some(), flatten };
    }
    for name in names {
        let option = format!("transforms.{name}");
        let class = source.get(&format!("{option}.type")).unwrap_or_default();
        if class == UNWRAP {
            findings.refuse(
                &option,
                "ExtractNewRecordState is taken over where it is the only one, or Flatten comes behind it: see the others",
            );
            continue;
        }
        let last = class.rsplit('.').next().unwrap_or_default();
        let last = last.split('$').next().unwrap_or_default();
        match TRANSFORMS.iter().find(|(known, _)| *known == last) {
            Some((known, instead)) => {
                findings.refuse(&option, format!("{known} is not taken over yet: {instead}"))
            }
            None => findings.refuse(
                &option,
                "transforms are not taken over yet: see whether paths, `where` and `unit` can say the same",
            ),
        }
    }
    Transforms::default()
}

/// The delimiter.
fn flattening(source: &Source, prefix: &str, findings: &mut Findings) -> String {
    for (option, _) in source.iter().filter(|(_, value)| !value.is_empty()) {
        let Some(own) = option.strip_prefix(prefix) else { continue };
        if !matches!(own, "type" | "delimiter") {
            findings
                .refuse(option, "is not taken over yet: leave it out, after you have seen to what it is for");
        }
    }
    source.get(&format!("{prefix}delimiter")).unwrap_or(".").to_owned()
}

fn unwrapping(source: &Source, prefix: &str, findings: &mut Findings) {
    for (option, value) in source.iter().filter(|(_, value)| !value.is_empty()) {
        let Some(own) = option.strip_prefix(prefix) else { continue };
        match UNWRAP_OPTIONS.iter().find(|(known, _)| *known == own) {
            Some((_, None)) => {}
            Some((_, Some(values))) if values.split(',').any(|one| one == value) => {}
            Some(_) => findings.refuse(option, "rows that are only marked as deleted are not supported yet"),
            None if own == "add.fields" || own == "add.fields.prefix" => findings.refuse(
                option,
                "is not taken over yet: leave it out, and write such columns yourself: columns.__op = \"event.op\"",
            ),
            None => findings.refuse(option, "is not taken over yet: leave it out, after you have seen to what it is for"),
        }
    }
}
