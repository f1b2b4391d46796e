//! Protobuf's binary form into JSON text.
//!
//! <https://protobuf.dev/programming-guides/encoding/>. Not Protobuf's own mapping to JSON: names are those of the file,
//! 64-bit integers are numbers, bytes are `\x…`, and the well-known types become what a column takes. A field without
//! presence that is not there has its type's default; one with presence (`optional`, messages, `oneof`) is not there.

mod flat;

use std::collections::HashMap;

use prost_reflect::{
    DescriptorPool, DynamicMessage, FieldDescriptor, Kind, MapKey, MessageDescriptor, ReflectMessage as _,
    Value,
};
use protox::file::{ChainFileResolver, File, FileResolver, GoogleFileResolver};

use self::flat::Flat;
use super::file::Unit;
use super::semantic;

/// A `.proto` file, compiled, with the messages that its records may be.
#[derive(Debug)]
pub(crate) struct Schema {
    pool: DescriptorPool,
    /// The file's first message, which most records are.
    first: Message,
}

/// A message that records may be.
#[derive(Debug)]
pub(crate) struct Message {
    pub(crate) descriptor: MessageDescriptor,
    flat: Option<Flat>,
}

/// The name of a schema that has none.
const MAIN: &str = "schema.proto";
/// Of messages in messages, beyond what the decoder bounds.
const DEEPEST: usize = 64;

impl Schema {
    /// Compiles a file's text. `imports`: texts of the files that it imports, by the names under which it does; Google's
    /// well-known types need not be among them.
    ///
    /// # Errors
    /// What is wrong with it, in words that complete "the schema ".
    pub(crate) fn new(text: &str, imports: HashMap<String, String>) -> Result<Self, String> {
        let mut resolver = ChainFileResolver::new();
        resolver.add(Texts { main: text.to_owned(), imports });
        resolver.add(GoogleFileResolver::new());
        let mut compiler = protox::Compiler::with_file_resolver(resolver);
        compiler.include_imports(true);
        let wrong = |error: protox::Error| format!("cannot be compiled: {error}");
        compiler.open_file(MAIN).map_err(wrong)?;
        let pool = compiler.descriptor_pool();
        let file = pool.get_file_by_name(MAIN).ok_or("cannot be compiled: it is not there")?;
        let first = file.messages().next().ok_or("has no message")?;
        Ok(Self { pool, first: Message::new(first) })
    }

    /// Its message, if it has one outermost one.
    pub(crate) fn only(&self) -> Option<&MessageDescriptor> {
        let first = &self.first.descriptor;
        (first.parent_file().messages().count() == 1).then_some(first)
    }

    /// By its name, with its package; or without, if the file has a package.
    ///
    /// # Errors
    /// If there is none.
    pub(crate) fn message(&self, name: &str) -> Result<MessageDescriptor, String> {
        let package = self.first.descriptor.package_name();
        let found = self.pool.get_message_by_name(name);
        let found = found.or_else(|| self.pool.get_message_by_name(&format!("{package}.{name}")));
        found.ok_or_else(|| format!("has no message {name}"))
    }

    /// By the numbers in a frame: the number of a message in the file, then of one in it, and so on. Maps' entries do not
    /// count, as they do not for Confluent's Java serializer.
    fn numbered(&self, indexes: &[usize]) -> Option<MessageDescriptor> {
        let (&first, inner) = indexes.split_first()?;
        let file = self.pool.get_file_by_name(MAIN)?;
        let mut message = file.messages().nth(first)?;
        for &index in inner {
            let child = message.child_messages().filter(|child| !child.is_map_entry()).nth(index)?;
            message = child;
        }
        Some(message)
    }

    /// Appends a message as JSON; `indexes`: which one it is.
    ///
    /// # Errors
    /// Why it is none, in words that complete "value: "; nothing of it is in them.
    pub(crate) fn read(&self, indexes: &[usize], bytes: &[u8], out: &mut Vec<u8>) -> Result<(), String> {
        if indexes.is_empty() || indexes == [0] {
            return self.first.read(bytes, out);
        }
        let message = self.numbered(indexes);
        let message = message.ok_or("it is of a message that its Protobuf schema does not have")?;
        read(&message, bytes, out)
    }
}

impl Message {
    pub(crate) fn new(descriptor: MessageDescriptor) -> Self {
        let flat = Flat::new(&descriptor);
        Self { descriptor, flat }
    }

    /// Appends one as JSON.
    ///
    /// # Errors
    /// As [`Schema::read`].
    pub(crate) fn read(&self, bytes: &[u8], out: &mut Vec<u8>) -> Result<(), String> {
        let start = out.len();
        if self.flat.as_ref().is_some_and(|flat| flat.write(bytes, out).is_some()) {
            return Ok(());
        }
        out.truncate(start);
        read(&self.descriptor, bytes, out)
    }
}

/// Appends any message as JSON.
fn read(message: &MessageDescriptor, bytes: &[u8], out: &mut Vec<u8>) -> Result<(), String> {
    // The decoder's error may quote a value.
    let message = DynamicMessage::decode(message.clone(), bytes)
        .map_err(|_| "it is not of its Protobuf schema".to_owned())?;
    Writer { out }.message(&message, 0).map_err(|what| format!("of its Protobuf message: {what}"))
}

/// What a schema and its registry know.
struct Texts {
    main: String,
    imports: HashMap<String, String>,
}

impl FileResolver for Texts {
    fn open_file(&self, name: &str) -> Result<File, protox::Error> {
        let text = if name == MAIN { Some(&self.main) } else { self.imports.get(name) };
        match text {
            Some(text) => File::from_source(name, text),
            None => Err(protox::Error::file_not_found(name)),
        }
    }
}

struct Writer<'a> {
    out: &'a mut Vec<u8>,
}

impl Writer<'_> {
    fn message(&mut self, message: &DynamicMessage, depth: usize) -> Result<(), &'static str> {
        if depth > DEEPEST {
            return Err("nested more than 64 deep");
        }
        let descriptor = message.descriptor();
        if descriptor.package_name() == "google.protobuf" && self.well_known(message, depth)? {
            return semantic::within(self.out);
        }
        self.out.push(b'{');
        let mut is_first = true;
        for field in descriptor.fields() {
            if field.supports_presence() && !message.has_field(&field) {
                continue;
            }
            if !is_first {
                self.out.push(b',');
            }
            is_first = false;
            semantic::string(field.name(), self.out);
            self.out.push(b':');
            self.value(&message.get_field(&field), &field, depth)?;
        }
        self.out.push(b'}');
        semantic::within(self.out)
    }

    fn value(&mut self, value: &Value, field: &FieldDescriptor, depth: usize) -> Result<(), &'static str> {
        match value {
            Value::List(items) => {
                self.out.push(b'[');
                for (at, item) in items.iter().enumerate() {
                    if at > 0 {
                        self.out.push(b',');
                    }
                    self.one(item, &field.kind(), depth)?;
                }
                self.out.push(b']');
            }
            Value::Map(entries) => {
                let Kind::Message(entry) = field.kind() else { return Err("a map that is none") };
                let kind = entry.map_entry_value_field().kind();
                self.out.push(b'{');
                // In the order of the keys, so that the same message is the same text.
                let mut entries: Vec<_> = entries.iter().map(|(key, value)| (name(key), value)).collect();
                entries.sort_unstable_by(|one, other| one.0.cmp(&other.0));
                for (at, (key, value)) in entries.into_iter().enumerate() {
                    if at > 0 {
                        self.out.push(b',');
                    }
                    semantic::string(&key, self.out);
                    self.out.push(b':');
                    self.one(value, &kind, depth)?;
                }
                self.out.push(b'}');
            }
            one => self.one(one, &field.kind(), depth)?,
        }
        semantic::within(self.out)
    }

    fn one(&mut self, value: &Value, kind: &Kind, depth: usize) -> Result<(), &'static str> {
        match (value, kind) {
            (Value::Bool(value), _) => {
                self.out.extend_from_slice(if *value { b"true" } else { b"false" });
            }
            (Value::I32(number), _) => semantic::integer((*number).into(), self.out),
            (Value::I64(number), _) => semantic::integer(*number, self.out),
            (Value::U32(number), _) => semantic::integer((*number).into(), self.out),
            (Value::U64(number), _) => self.out.extend_from_slice(number.to_string().as_bytes()),
            (Value::F32(number), _) => semantic::float32(*number, self.out),
            (Value::F64(number), _) => semantic::float(*number, self.out),
            (Value::String(text), _) => semantic::string(text, self.out),
            (Value::Bytes(bytes), _) => semantic::bytes(bytes, self.out),
            (Value::EnumNumber(number), Kind::Enum(kind)) => match kind.get_value(*number) {
                _ if kind.full_name() == "google.protobuf.NullValue" => self.out.extend_from_slice(b"null"),
                Some(known) => semantic::string(known.name(), self.out),
                // Of a schema that is newer than this one.
                None => semantic::integer((*number).into(), self.out),
            },
            (Value::Message(message), _) => self.message(message, depth + 1)?,
            _ => return Err("a value that is not of its field"),
        }
        Ok(())
    }

    /// Whether it was one of those that are more than their fields.
    fn well_known(&mut self, message: &DynamicMessage, depth: usize) -> Result<bool, &'static str> {
        let number = |at: u32| match message.get_field_by_number(at).as_deref() {
            Some(Value::I64(number)) => *number,
            Some(Value::I32(number)) => (*number).into(),
            _ => 0,
        };
        let descriptor = message.descriptor();
        match descriptor.name() {
            "Timestamp" => {
                let (seconds, nanos) = (number(1), number(2));
                if !(0..1_000_000_000).contains(&nanos) {
                    return Err("a timestamp with nanoseconds beyond a second");
                }
                let micros =
                    seconds.checked_mul(1_000_000).and_then(|micros| micros.checked_add(nanos / 1_000));
                let micros = micros.ok_or("a timestamp out of the range of instants")?;
                semantic::timestamp(micros, Unit::Microseconds, true, self.out)?;
            }
            "Duration" => {
                let (seconds, nanos) = (number(1), number(2));
                let micros =
                    seconds.checked_mul(1_000_000).and_then(|micros| micros.checked_add(nanos / 1_000));
                semantic::micro_duration(micros.ok_or("a duration out of range")?, self.out);
            }
            "DoubleValue" | "FloatValue" | "Int64Value" | "UInt64Value" | "Int32Value" | "UInt32Value"
            | "BoolValue" | "StringValue" | "BytesValue" => {
                let Some(field) = descriptor.get_field(1) else { return Ok(false) };
                self.value(&message.get_field(&field), &field, depth)?;
            }
            "Struct" | "ListValue" => {
                let Some(field) = descriptor.get_field(1) else { return Ok(false) };
                self.value(&message.get_field(&field), &field, depth)?;
            }
            "Value" => match descriptor.fields().find(|field| message.has_field(field)) {
                Some(field) => self.value(&message.get_field(&field), &field, depth)?,
                None => self.out.extend_from_slice(b"null"),
            },
            "FieldMask" => {
                let Some(field) = descriptor.get_field(1) else { return Ok(false) };
                self.value(&message.get_field(&field), &field, depth)?;
            }
            // As its fields: what is inside, only its schema knows.
            _ => return Ok(false),
        }
        Ok(true)
    }
}

fn name(key: &MapKey) -> String {
    match key {
        MapKey::Bool(key) => key.to_string(),
        MapKey::I32(key) => key.to_string(),
        MapKey::I64(key) => key.to_string(),
        MapKey::U32(key) => key.to_string(),
        MapKey::U64(key) => key.to_string(),
        MapKey::String(key) => key.clone(),
    }
}

#[cfg(test)]
mod tests;
