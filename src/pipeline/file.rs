//! The pipeline file as it is written: `[[sink]]` and `[[test]]`; everything else at its top are settings.

use std::collections::BTreeMap;
use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, Error as _, MapAccess, SeqAccess, Visitor, value::MapAccessDeserializer};

/// The keys that are not settings.
pub(crate) const KEYS: [&str; 3] = ["sink", "test", "registry"];

#[derive(Debug, Deserialize)]
pub(crate) struct File {
    #[serde(default)]
    pub(crate) sink: Vec<toml::Spanned<SinkEntry>>,
    #[serde(default)]
    pub(crate) test: Vec<TestEntry>,
    pub(crate) registry: Option<toml::Spanned<RegistryEntry>>,
}

/// Where the schemas are that records name.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RegistryEntry {
    pub(crate) url: Names,
    pub(crate) user: Option<String>,
    pub(crate) password: Option<SecretEntry>,
    pub(crate) token: Option<SecretEntry>,
    pub(crate) ca: Option<String>,
    pub(crate) schema_wait: Option<String>,
}

/// Where a secret is. Not in the file itself.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct SecretTable {
    file: Option<String>,
    env: Option<String>,
    command: Option<String>,
}

/// As [`SecretTable`]; the error for a secret that stands there itself does not repeat it.
#[derive(Debug)]
pub(crate) struct SecretEntry {
    pub(crate) file: Option<String>,
    pub(crate) env: Option<String>,
    pub(crate) command: Option<String>,
}

/// The schema of records that do not name theirs: of a file, or of a registry.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct SchemaEntry {
    pub(crate) file: Option<String>,
    pub(crate) message: Option<String>,
    pub(crate) subject: Option<String>,
    pub(crate) version: Option<u32>,
}

/// Topics into a table.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct SinkEntry {
    pub(crate) topic: Names,
    pub(crate) table: String,
    /// None: the fields of the values' schema.
    #[serde(default)]
    pub(crate) columns: Columns,
    /// Of these: what is between the names of objects and their fields, which become columns, too.
    pub(crate) flatten: Option<String>,
    #[serde(default)]
    pub(crate) key_format: KeyFormat,
    #[serde(default)]
    pub(crate) value: Format,
    pub(crate) schema: Option<SchemaEntry>,
    pub(crate) key_schema: Option<SchemaEntry>,
    #[serde(default)]
    pub(crate) envelope: Envelope,
    #[serde(default)]
    pub(crate) mode: Mode,
    pub(crate) key: Option<Vec<String>>,
    pub(crate) version: Option<String>,
    pub(crate) rest: Option<String>,
    pub(crate) missing: Option<Missing>,
    #[serde(default)]
    pub(crate) extra: Extra,
    /// What stands for a value that is not said because it has not changed.
    pub(crate) unchanged: Option<String>,
    pub(crate) deletes: Option<Deletes>,
    pub(crate) r#where: Option<String>,
    #[serde(default)]
    pub(crate) nul: Nul,
    pub(crate) bytea: Option<Bytea>,
    #[serde(default)]
    pub(crate) provenance: Provenance,
    pub(crate) on_bad_record: Option<OnBadRecord>,
    #[serde(default)]
    pub(crate) evolve: Evolve,
}

/// One, or several.
#[derive(Debug, Clone)]
pub(crate) struct Names(pub(crate) Vec<String>);

/// Where each column's value is.
#[derive(Debug, Clone, Default)]
pub(crate) struct Columns(pub(crate) Vec<(String, ColumnEntry)>);

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ColumnEntry {
    pub(crate) from: String,
    pub(crate) unit: Option<Unit>,
    /// Of the table's column, where it may be made.
    pub(crate) r#type: Option<String>,
}

/// Since 1970-01-01T00:00:00Z.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub(crate) enum Unit {
    #[serde(rename = "d")]
    Days,
    #[serde(rename = "s")]
    Seconds,
    #[serde(rename = "ms")]
    Milliseconds,
    #[serde(rename = "us")]
    Microseconds,
    #[serde(rename = "ns")]
    Nanoseconds,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum KeyFormat {
    #[default]
    None,
    String,
    Json,
    Bytes,
    Avro,
    Protobuf,
    JsonSchema,
}

impl KeyFormat {
    /// What it is once its schema has made JSON of it.
    pub(crate) fn read(self) -> Self {
        match self {
            Self::Avro | Self::Protobuf | Self::JsonSchema => Self::Json,
            other => other,
        }
    }

    /// What a value of the same format would be.
    pub(crate) fn as_value(self) -> Format {
        match self {
            Self::None | Self::Bytes => Format::Bytes,
            Self::String => Format::String,
            Self::Json => Format::Json,
            Self::Avro => Format::Avro,
            Self::Protobuf => Format::Protobuf,
            Self::JsonSchema => Format::JsonSchema,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Format {
    String,
    #[default]
    Json,
    Bytes,
    Avro,
    Protobuf,
    JsonSchema,
}

impl Format {
    /// What it is once its schema has made JSON of it.
    pub(crate) fn read(self) -> Self {
        match self {
            Self::Avro | Self::Protobuf | Self::JsonSchema => Self::Json,
            other => other,
        }
    }
}

/// What is around the row in a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Envelope {
    #[default]
    None,
    ConnectJson,
    Debezium,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Mode {
    #[default]
    Append,
    InsertIgnore,
    Upsert,
    Update,
}

impl Mode {
    /// Rows are known by their key.
    pub(crate) fn is_keyed(self) -> bool {
        matches!(self, Self::Upsert | Self::Update)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Missing {
    Null,
    Reject,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Extra {
    #[default]
    Ignore,
    Reject,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Deletes {
    Apply,
    Ignore,
    Reject,
    /// Marks the row in this column.
    Soft(String),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Nul {
    #[default]
    Reject,
    Strip,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Bytea {
    Hex,
    Base64,
    Utf8,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum OnBadRecord {
    Halt,
    DeadLetter,
    ParkKey,
}

/// What is done about a table that is not what the sink writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Evolve {
    /// It is not looked at before the first record.
    #[default]
    None,
    Validate,
    Print,
    Create,
    AddColumns,
}

impl Deletes {
    /// They do something to the row of a key.
    pub(crate) fn are_applied(&self) -> bool {
        matches!(self, Self::Apply | Self::Soft(_))
    }
}

/// As the file has it.
impl fmt::Display for Deletes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Apply => f.write_str("\"apply\""),
            Self::Ignore => f.write_str("\"ignore\""),
            Self::Reject => f.write_str("\"reject\""),
            Self::Soft(column) => write!(f, "{{ soft = \"{column}\" }}"),
        }
    }
}

/// Columns for where a record has come from.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Provenance {
    pub(crate) topic: Option<String>,
    pub(crate) partition: Option<String>,
    pub(crate) offset: Option<String>,
    pub(crate) timestamp: Option<String>,
}

/// A record, and what is to become of it.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct TestEntry {
    pub(crate) name: String,
    pub(crate) topic: Option<String>,
    pub(crate) key: Option<String>,
    pub(crate) value: Option<String>,
    #[serde(default)]
    pub(crate) headers: BTreeMap<String, String>,
    /// By table.
    #[serde(default)]
    pub(crate) rows: BTreeMap<String, Vec<Expected>>,
    #[serde(default)]
    pub(crate) deletes: BTreeMap<String, Vec<Expected>>,
    /// Words of the reason.
    pub(crate) rejects: Option<String>,
    /// Nothing comes of it.
    #[serde(default)]
    pub(crate) nothing: bool,
}

/// A row's columns; those that are left out are NULL.
pub(crate) type Expected = BTreeMap<String, toml::Value>;

impl<'de> Deserialize<'de> for Names {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct OneOrMore;

        impl<'de> Visitor<'de> for OneOrMore {
            type Value = Names;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("one text, or a list of them")
            }

            fn visit_str<E>(self, topic: &str) -> Result<Names, E> {
                Ok(Names(vec![topic.to_owned()]))
            }

            fn visit_seq<S: SeqAccess<'de>>(self, mut list: S) -> Result<Names, S::Error> {
                let mut topics = Vec::new();
                while let Some(topic) = list.next_element()? {
                    topics.push(topic);
                }
                Ok(Names(topics))
            }
        }

        deserializer.deserialize_any(OneOrMore)
    }
}

impl<'de> Deserialize<'de> for SecretEntry {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reference;

        impl<'de> Visitor<'de> for Reference {
            type Value = SecretEntry;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("{ file = \"…\" }, { env = \"…\" } or { command = \"…\" }")
            }

            fn visit_str<E: serde::de::Error>(self, _: &str) -> Result<SecretEntry, E> {
                Err(E::custom(
                    "a secret does not stand in the file: { file = \"…\" }, { env = \"…\" } or { command = \"…\" }",
                ))
            }

            fn visit_map<M: MapAccess<'de>>(self, map: M) -> Result<SecretEntry, M::Error> {
                let SecretTable { file, env, command } =
                    SecretTable::deserialize(MapAccessDeserializer::new(map))?;
                Ok(SecretEntry { file, env, command })
            }
        }

        deserializer.deserialize_any(Reference)
    }
}

impl<'de> Deserialize<'de> for Columns {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ListOrTable;

        impl<'de> Visitor<'de> for ListOrTable {
            type Value = Columns;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(
                    "a list of columns that have their fields' names, or a table: column = \"value.path\"",
                )
            }

            fn visit_seq<S: SeqAccess<'de>>(self, mut list: S) -> Result<Columns, S::Error> {
                let mut columns = Vec::new();
                while let Some(name) = list.next_element::<String>()? {
                    if name.contains('"') {
                        return Err(S::Error::custom("a column with a quote in its name needs a path"));
                    }
                    let from = super::path::Path::field(&name).to_string();
                    columns.push((name, ColumnEntry { from, unit: None, r#type: None }));
                }
                Ok(Columns(columns))
            }

            fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<Columns, M::Error> {
                let mut columns = Vec::new();
                while let Some(name) = map.next_key::<String>()? {
                    let PathOrTable(column) = map.next_value()?;
                    columns.push((name, column));
                }
                Ok(Columns(columns))
            }
        }

        deserializer.deserialize_any(ListOrTable)
    }
}

struct PathOrTable(ColumnEntry);

impl<'de> Deserialize<'de> for PathOrTable {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either;

        impl<'de> Visitor<'de> for Either {
            type Value = PathOrTable;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a path such as \"value.amount\", or { from = \"value.amount\", unit = \"ms\" }")
            }

            fn visit_str<E>(self, from: &str) -> Result<PathOrTable, E> {
                Ok(PathOrTable(ColumnEntry { from: from.to_owned(), unit: None, r#type: None }))
            }

            fn visit_map<M: MapAccess<'de>>(self, map: M) -> Result<PathOrTable, M::Error> {
                ColumnEntry::deserialize(MapAccessDeserializer::new(map)).map(PathOrTable)
            }
        }

        deserializer.deserialize_any(Either)
    }
}
