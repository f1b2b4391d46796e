//! How the bytes of a key or a value become JSON, or are what they are.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use super::file::{Format, SchemaEntry};
use super::schemas::Schemas;
use super::shape::Field;
use super::wire::{SchemaId, id, unframed};
use super::{avro, protobuf, shape};

/// Of the bytes of a key or a value.
#[derive(Debug, Clone)]
pub(crate) enum Codec {
    /// As they are: JSON, text, bytes.
    Plain,
    /// By the schema that each names, of a registry.
    Named(Kind, Arc<Schemas>),
    /// By one version of a subject in a registry, without a frame.
    Version(Kind, Arc<Schemas>, SchemaId),
    /// By the schema of a file, without a frame.
    File(Arc<Decoder>),
}

/// What schemas there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Avro,
    Protobuf,
    JsonSchema,
}

impl Kind {
    /// As registries call it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Avro => "AVRO",
            Self::Protobuf => "PROTOBUF",
            Self::JsonSchema => "JSON",
        }
    }
}

/// A schema, compiled.
#[derive(Debug)]
pub(crate) enum Decoder {
    Avro(avro::Plan),
    Protobuf(protobuf::Schema),
    /// A file of which one message is meant.
    Message(protobuf::Message),
    /// What is checked by it is the producer's.
    Json,
}

/// Why bytes have not become JSON.
#[derive(Debug)]
pub(crate) enum Undecoded {
    /// The schema is not here yet.
    Without(SchemaId),
    /// In words that complete "value: ".
    Bad(String),
}

impl Decoder {
    /// Compiles a schema. `references`: those that it refers to, by name.
    ///
    /// # Errors
    /// What is wrong with it, in words that complete "the schema ".
    pub(crate) fn new(kind: Kind, text: &str, references: Vec<(String, String)>) -> Result<Self, String> {
        Ok(match kind {
            Kind::Avro => {
                let references: Vec<String> = references.into_iter().map(|(_, text)| text).collect();
                Self::Avro(avro::Plan::new(text, &references)?)
            }
            Kind::Protobuf => Self::Protobuf(protobuf::Schema::new(text, references.into_iter().collect())?),
            Kind::JsonSchema => Self::Json,
        })
    }

    /// The columns that its fields would be; `is_event`: of the row that a change event writes; with a `separator`, those of
    /// objects in it in their place. `None`: it has none.
    pub(crate) fn shape(&self, is_event: bool, separator: Option<&str>) -> Option<Vec<Field>> {
        match self {
            Self::Avro(plan) => plan.shape(is_event, separator),
            Self::Protobuf(schema) if !is_event => {
                schema.only().map(|message| shape::of_message(message, separator))
            }
            Self::Message(message) if !is_event => Some(shape::of_message(&message.descriptor, separator)),
            Self::Protobuf(_) | Self::Message(_) | Self::Json => None,
        }
    }

    fn read(&self, message: &[usize], payload: &[u8], out: &mut Vec<u8>) -> Result<(), Undecoded> {
        // With names and quotes; of most values that is enough.
        out.reserve(2 * payload.len() + 64);
        match self {
            Self::Avro(plan) => plan.read(payload, out),
            Self::Protobuf(schema) => schema.read(message, payload, out),
            Self::Message(message) => message.read(payload, out),
            Self::Json => {
                out.extend_from_slice(payload);
                Ok(())
            }
        }
        .map_err(Undecoded::Bad)
    }
}

impl Codec {
    /// As a sink says. `folder`: of the pipeline's file, where those of schemas are.
    ///
    /// # Errors
    /// What does not go together, or is wrong with a file.
    pub(crate) fn new(
        format: Format,
        entry: Option<&SchemaEntry>,
        registry: Option<&Arc<Schemas>>,
        folder: &Path,
    ) -> Result<Self, String> {
        let kind = match format {
            Format::String | Format::Json | Format::Bytes => {
                return match entry {
                    Some(_) => Err("a schema is for \"avro\" and \"protobuf\"".to_owned()),
                    None => Ok(Self::Plain),
                };
            }
            Format::Avro => Kind::Avro,
            Format::Protobuf => Kind::Protobuf,
            Format::JsonSchema => Kind::JsonSchema,
        };
        let registry = || {
            registry.cloned().ok_or_else(|| {
                "its schemas are in a registry: registry = { url = \"https://…\" } at the top of the file; or name one, \
                 schema = { file = \"…\" }"
                    .to_owned()
            })
        };
        match entry {
            None => Ok(Self::Named(kind, registry()?)),
            Some(_) if kind == Kind::JsonSchema => {
                Err("JSON that names no schema is \"json\"".to_owned())
            }
            Some(SchemaEntry { file: Some(file), message, subject: None, version: None }) => {
                from_file(kind, &folder.join(file), message.as_deref()).map(|decoder| Self::File(Arc::new(decoder)))
            }
            Some(SchemaEntry { file: None, message: None, subject: Some(subject), version }) => {
                Ok(Self::Version(kind, registry()?, SchemaId::Version(subject.clone(), *version)))
            }
            Some(_) => Err(
                "a schema is { file = \"…\" }, for Protobuf with message = \"…\" if it is not the first one; or { subject = \"…\", \
                 version = 1 }, of the registry"
                    .to_owned(),
            ),
        }
    }

    /// Which schema of which registry these bytes need, if any.
    pub(crate) fn needs(
        &self,
        bytes: &[u8],
        header: Option<&[u8]>,
    ) -> Option<(&Arc<Schemas>, SchemaId, Kind)> {
        match self {
            Self::Named(kind, schemas) => id(header.unwrap_or(bytes)).map(|(id, _)| (schemas, id, *kind)),
            Self::Version(kind, schemas, id) => Some((schemas, id.clone(), *kind)),
            Self::Plain | Self::File(_) => None,
        }
    }

    pub(crate) fn is_plain(&self) -> bool {
        matches!(self, Self::Plain)
    }

    /// Whether what it makes is canonical JSON, in which text is a time because its schema says so.
    pub(crate) fn is_canonical(&self) -> bool {
        match self {
            Self::Plain => false,
            Self::Named(kind, _) | Self::Version(kind, ..) => *kind != Kind::JsonSchema,
            Self::File(_) => true,
        }
    }

    /// Appends what the bytes say as JSON.
    ///
    /// # Errors
    /// See [`Undecoded`].
    pub(crate) fn decode(
        &self,
        bytes: &[u8],
        header: Option<&[u8]>,
        out: &mut Vec<u8>,
    ) -> Result<(), Undecoded> {
        match self {
            Self::Plain => {
                out.extend_from_slice(bytes);
                Ok(())
            }
            Self::File(decoder) => decoder.read(&[], bytes, out),
            Self::Version(kind, schemas, id) => schemas.of(*kind, id)?.read(&[], bytes, out),
            Self::Named(kind, schemas) => {
                let framed = unframed(bytes, header, *kind == Kind::Protobuf).map_err(Undecoded::Bad)?;
                schemas.of(*kind, &framed.id)?.read(&framed.message, framed.payload, out)
            }
        }
    }
}

fn from_file(kind: Kind, path: &Path, message: Option<&str>) -> Result<Decoder, String> {
    let of = |what: String| format!("the schema {} {what}", path.display());
    let read = |path: &Path| std::fs::read_to_string(path);
    let text = read(path).map_err(|error| of(format!("cannot be read: {error}")))?;
    match (kind, message) {
        (Kind::Protobuf, message) => {
            // What it imports is beside it.
            let mut imports = HashMap::new();
            let mut names: Vec<String> = imported(&text);
            while let Some(name) = names.pop() {
                let beside = path.parent().unwrap_or(Path::new("")).join(&name);
                if let (false, Ok(text)) = (imports.contains_key(&name), read(&beside)) {
                    names.extend(imported(&text));
                    imports.insert(name, text);
                }
            }
            let schema = protobuf::Schema::new(&text, imports).map_err(of)?;
            match message {
                Some(message) => {
                    let message = schema.message(message).map_err(of)?;
                    Ok(Decoder::Message(protobuf::Message::new(message)))
                }
                None => Ok(Decoder::Protobuf(schema)),
            }
        }
        (_, Some(_)) => Err("`message` is about Protobuf's files".to_owned()),
        (kind, None) => Decoder::new(kind, &text, Vec::new()).map_err(of),
    }
}

/// The names in a file's `import` lines; of what stands in comments, at worst a file is read in vain.
fn imported(text: &str) -> Vec<String> {
    let names =
        text.lines().filter_map(|line| line.trim_start().strip_prefix("import")?.split(['"', '\'']).nth(1));
    names.map(str::to_owned).collect()
}
