//! What the schemas say that records name in a registry: each record as the JSON that a sink makes of it, types, nullability.

use std::path::PathBuf;
use std::sync::Arc;

use crate::error::{Error, Result};
use crate::offsets::ReadRecord;
use crate::pipeline::codec::{Codec, Decoder, Kind, Undecoded};
use crate::pipeline::file::{Names, RegistryEntry, SecretEntry};
use crate::pipeline::registry::Registry;
use crate::pipeline::schemas::Schemas;
use crate::pipeline::wire::{self, KEY_HEADER, SchemaId, VALUE_HEADER};
use crate::pipeline::{learn, shape};

/// A schema registry, and what it is shown: as `registry` of a pipeline's file.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct InferRegistry {
    /// Its address.
    pub url: String,
    /// With [`password_file`](Self::password_file).
    pub user: Option<String>,
    /// The file that holds the user's password.
    pub password_file: Option<PathBuf>,
    /// The file that holds a bearer token, in place of both.
    pub token_file: Option<PathBuf>,
    /// The file with the certificates that its own is checked by.
    pub ca: Option<PathBuf>,
}

impl InferRegistry {
    /// As the file is to have it: keys, and values in TOML but for what `text` quotes.
    pub(super) fn written(&self, text: &dyn Fn(&str) -> String) -> String {
        let path = |path: &PathBuf| text(&path.display().to_string());
        let parts = [
            Some(format!("url = {}", text(&self.url))),
            self.user.as_ref().map(|user| format!("user = {}", text(user))),
            self.password_file.as_ref().map(|file| format!("password = {{ file = {} }}", path(file))),
            self.token_file.as_ref().map(|file| format!("token = {{ file = {} }}", path(file))),
            self.ca.as_ref().map(|file| format!("ca = {}", path(file))),
        ];
        format!("registry = {{ {} }}", parts.into_iter().flatten().collect::<Vec<_>>().join(", "))
    }

    fn entry(&self) -> RegistryEntry {
        let secret = |file: &Option<PathBuf>| {
            let file = file.as_ref().map(|file| file.display().to_string());
            file.map(|file| SecretEntry { file: Some(file), env: None, command: None })
        };
        RegistryEntry {
            url: Names(vec![self.url.clone()]),
            user: self.user.clone(),
            password: secret(&self.password_file),
            token: secret(&self.token_file),
            ca: self.ca.as_ref().map(|ca| ca.display().to_string()),
            schema_wait: None,
        }
    }
}

/// What became known of the records' schemas.
#[derive(Debug, Default)]
pub(super) struct Known {
    pub(super) value: Option<Kind>,
    pub(super) key: Option<Kind>,
    /// Of the values, those of the last records first.
    decoders: Vec<Arc<Decoder>>,
}

impl Known {
    /// The row's fields by all schemas; one is never null if none of them lets it be. `None`: they say none.
    pub(super) fn fields(&self, is_event: bool) -> Option<Vec<shape::Field>> {
        let all: Vec<_> =
            self.decoders.iter().map(|decoder| decoder.shape(is_event, None)).collect::<Option<_>>()?;
        let mut fields: Vec<shape::Field> = Vec::new();
        for field in all.iter().flatten() {
            if !fields.iter().any(|known| known.name == field.name) {
                let says = |shape: &Vec<shape::Field>| {
                    shape.iter().any(|other| other.name == field.name && other.not_null)
                };
                fields.push(shape::Field { not_null: all.iter().all(says), ..field.clone() });
            }
        }
        (!fields.is_empty()).then_some(fields)
    }
}

/// As sinks call the format.
pub(super) fn format(kind: Kind) -> &'static str {
    match kind {
        Kind::Avro => "avro",
        Kind::Protobuf => "protobuf",
        Kind::JsonSchema => "json_schema",
    }
}

/// Makes JSON of the values and keys that name a schema of the registry. A key that seems to, and names none that the
/// registry knows, is no such key: a number's bytes may look the same.
///
/// # Errors
/// If the registry does not answer, does not know a value's schema, or a value is not of it.
pub(super) async fn decode(records: &mut [ReadRecord], registry: &InferRegistry) -> Result<Known> {
    let wrong = |what: String| Error::configuration(format!("the schema registry {}: {what}", registry.url));
    let schemas = Arc::new(Schemas::new(Registry::new(&registry.entry()).map_err(wrong)?));
    let (mut known, mut ids, mut keys) = (Known::default(), Vec::<SchemaId>::new(), Vec::new());
    for record in records.iter_mut().rev() {
        let header = |name: &str| {
            let its = record.headers.iter().rev().find(|(its, _)| its == name.as_bytes());
            its.and_then(|(_, value)| value.clone())
        };
        let (of_key, of_value) = (header(KEY_HEADER), header(VALUE_HEADER));
        if record.key.is_some() {
            keys.push(read(record.key.as_deref(), of_key.as_deref(), &schemas).await.ok().flatten());
        }
        let place = format!("the record of partition {} at offset {}", record.partition, record.offset);
        let read = read(record.value.as_deref(), of_value.as_deref(), &schemas).await;
        let Some((id, kind, json)) = read.map_err(|what| wrong(format!("{place}: {what}")))? else {
            continue;
        };
        if known.value.is_some_and(|other| other != kind) {
            return Err(wrong(format!("{place} has a schema of another kind than others have")));
        }
        known.value = Some(kind);
        record.value = Some(json);
        if !ids.contains(&id) {
            known.decoders.extend(schemas.of(kind, &id).ok());
            ids.push(id);
        }
    }
    let first = keys.iter().flatten().next().map(|(_, kind, _)| *kind);
    let is_of_first = |key: &Option<Read>| key.as_ref().is_some_and(|(_, kind, _)| Some(*kind) == first);
    if first.is_some() && keys.iter().all(is_of_first) {
        known.key = first;
        let with_keys = records.iter_mut().rev().filter(|record| record.key.is_some());
        for (record, (_, _, json)) in with_keys.zip(keys.into_iter().flatten()) {
            record.key = Some(json);
        }
    }
    Ok(known)
}

/// Its schema, of which kind that is, and JSON.
type Read = (SchemaId, Kind, Vec<u8>);

/// `None`: there is nothing, or it names no schema.
///
/// # Errors
/// Why it is not known what it says.
async fn read(
    bytes: Option<&[u8]>,
    header: Option<&[u8]>,
    schemas: &Arc<Schemas>,
) -> Result<Option<Read>, String> {
    let Some(bytes) = bytes else { return Ok(None) };
    let Some((id, _)) = wire::id(header.unwrap_or(bytes)) else { return Ok(None) };
    learn::obtain(schemas, &id).await.map_err(|error| error.reason().to_owned())?;
    let missing = || format!("{id} is not here");
    let kind = schemas.kind(&id).ok_or_else(missing)?;
    let mut json = Vec::new();
    match Codec::Named(kind, Arc::clone(schemas)).decode(bytes, header, &mut json) {
        Ok(()) => Ok(Some((id, kind, json))),
        Err(Undecoded::Bad(what)) => Err(what),
        Err(Undecoded::Without(_)) => Err(missing()),
    }
}
