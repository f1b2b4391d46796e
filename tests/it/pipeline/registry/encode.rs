//! Records as Confluent's serializers write them, of JSON that says what is in them.

use apache_avro::Schema;
use apache_avro::schema::Name;
use apache_avro::types::Value as Avro;
use apache_avro::writer::datum::GenericDatumWriter;
use prost_reflect::prost::Message as _;
use prost_reflect::{DescriptorPool, DynamicMessage, Kind, MessageDescriptor, Value as Protobuf};
use protox::file::{ChainFileResolver, File, FileResolver, GoogleFileResolver};
use serde_json::Value;

/// A byte 0, the id, and what follows.
pub(super) fn framed(id: u32, payload: &[u8]) -> Vec<u8> {
    [&[0][..], &id.to_be_bytes(), payload].concat()
}

/// An Avro datum. `references`: schemas that it uses, each before those that use it.
pub(super) fn avro(schema: &str, references: &[&str], of: &Value) -> Vec<u8> {
    let (schema, used) = Schema::parse_str_with_list(schema, references).expect("a schema");
    let value = avro_value(&schema, &used, of);
    let mut known: Vec<&Schema> = used.iter().collect();
    known.push(&schema);
    let writer = GenericDatumWriter::builder(&schema).schemata(known).expect("their names").build();
    writer.expect("a writer").write_value_to_vec(value).expect("a value of the schema")
}

fn avro_value(schema: &Schema, used: &[Schema], of: &Value) -> Avro {
    let text = || of.as_str().expect("text").to_owned();
    match schema {
        Schema::Int => Avro::Int(of.as_i64().and_then(|n| i32::try_from(n).ok()).expect("an int")),
        Schema::Long => Avro::Long(of.as_i64().expect("a long")),
        Schema::String => Avro::String(text()),
        Schema::Decimal(decimal) => {
            let number = of.to_string();
            let (whole, rest) = number.split_once('.').unwrap_or((&number, ""));
            let digits: i64 = format!("{whole}{rest:0<0$}", decimal.scale).parse().expect("digits");
            Avro::Decimal(digits.to_be_bytes().to_vec().into())
        }
        Schema::TimestampMicros => {
            Avro::TimestampMicros(text().parse::<jiff::Timestamp>().expect("an instant").as_microsecond())
        }
        Schema::Union(union) if of.is_null() => {
            let null = union.variants().iter().position(|branch| *branch == Schema::Null);
            Avro::Union(u32::try_from(null.expect("null")).expect("few"), Box::new(Avro::Null))
        }
        Schema::Union(union) => {
            let branch =
                union.variants().iter().position(|branch| *branch != Schema::Null).expect("a branch");
            let value = avro_value(&union.variants()[branch], used, of);
            Avro::Union(u32::try_from(branch).expect("few"), Box::new(value))
        }
        Schema::Record(record) => Avro::Record(
            record
                .fields
                .iter()
                .map(|field| (field.name.clone(), avro_value(&field.schema, used, &of[&field.name])))
                .collect(),
        ),
        Schema::Ref { name } => {
            let is_it = |schema: &&Schema| schema.name().is_some_and(|found: &Name| found == name);
            avro_value(used.iter().find(is_it).expect("a schema of this name"), used, of)
        }
        other => panic!("{other:?} is not written here"),
    }
}

/// A Protobuf message with the numbers in front that say which of its file it is.
pub(super) fn protobuf(file: &str, imports: &[(&str, &str)], message: &str, of: &Value) -> Vec<u8> {
    let pool = pool(file, imports);
    let descriptor = pool.get_message_by_name(message).expect("a message of the file");
    let mut bytes = indexes(&descriptor);
    bytes.extend(protobuf_message(&descriptor, of).encode_to_vec());
    bytes
}

fn pool(file: &str, imports: &[(&str, &str)]) -> DescriptorPool {
    struct Texts(Vec<(String, String)>);

    impl FileResolver for Texts {
        fn open_file(&self, name: &str) -> Result<File, protox::Error> {
            match self.0.iter().find(|(found, _)| found == name) {
                Some((_, text)) => File::from_source(name, text),
                None => Err(protox::Error::file_not_found(name)),
            }
        }
    }

    let own = |(name, text): &(&str, &str)| ((*name).to_owned(), (*text).to_owned());
    let texts = imports.iter().chain(&[("main.proto", file)]).map(own).collect();
    let mut resolver = ChainFileResolver::new();
    resolver.add(Texts(texts));
    resolver.add(GoogleFileResolver::new());
    let mut compiler = protox::Compiler::with_file_resolver(resolver);
    compiler.include_imports(true).open_file("main.proto").expect("a file");
    compiler.descriptor_pool()
}

/// Zigzag: how many, and they; the first message is 0 alone. As Confluent's Java serializer counts: without the entries of
/// maps, which are messages, too, for a compiler.
fn indexes(message: &MessageDescriptor) -> Vec<u8> {
    let mut path = Vec::new();
    let mut at = message.clone();
    while let Some(parent) = at.parent_message() {
        path.push(
            parent
                .child_messages()
                .filter(|child| !child.is_map_entry())
                .position(|child| child == at)
                .expect("a child"),
        );
        at = parent;
    }
    path.push(at.parent_file().messages().position(|child| child == at).expect("of the file"));
    path.reverse();
    if path == [0] {
        return vec![0];
    }
    let zigzag = |n: usize| u8::try_from(n * 2).expect("few");
    std::iter::once(zigzag(path.len())).chain(path.iter().map(|index| zigzag(*index))).collect()
}

fn protobuf_message(descriptor: &MessageDescriptor, of: &Value) -> DynamicMessage {
    let mut message = DynamicMessage::new(descriptor.clone());
    for field in descriptor.fields() {
        let Some(of) = of.get(field.name()).filter(|of| !of.is_null()) else { continue };
        let value = match field.kind() {
            Kind::Int32 => Protobuf::I32(of.as_i64().and_then(|n| i32::try_from(n).ok()).expect("an int32")),
            Kind::Int64 => Protobuf::I64(of.as_i64().expect("an int64")),
            Kind::String => Protobuf::String(of.as_str().expect("text").to_owned()),
            Kind::Message(instant) if instant.full_name() == "google.protobuf.Timestamp" => {
                let at: jiff::Timestamp = of.as_str().expect("text").parse().expect("an instant");
                let mut message = DynamicMessage::new(instant);
                message.set_field_by_name("seconds", Protobuf::I64(at.as_second()));
                message.set_field_by_name("nanos", Protobuf::I32(at.subsec_nanosecond()));
                Protobuf::Message(message)
            }
            Kind::Message(inner) => Protobuf::Message(protobuf_message(&inner, of)),
            other => panic!("{other:?} is not written here"),
        };
        message.set_field(&field, value);
    }
    message
}
