//! A message's plain fields into JSON, straight from its bytes: no tree of its values is made, and nothing copied.
//!
//! Fields that are not plain (messages, lists, maps, one of several) are decoded apart, as all are by the other way. To
//! that one everything is left that is unusual or wrong: it says what.

use prost_reflect::{DynamicMessage, FieldDescriptor, Kind, MessageDescriptor, Value};

use super::{Writer, semantic};

/// A message, compiled.
#[derive(Debug)]
pub(super) struct Flat {
    descriptor: MessageDescriptor,
    fields: Vec<Field>,
}

#[derive(Debug)]
struct Field {
    number: u32,
    /// As JSON, with its colon.
    name: Vec<u8>,
    /// `None`: not plain.
    kind: Option<Kind>,
    descriptor: FieldDescriptor,
    /// As JSON, where it is not there; empty: then nothing is.
    absent: Vec<u8>,
}

/// A value as it stands in a message.
#[derive(Clone, Copy)]
enum Found<'a> {
    Varint(u64),
    Eight([u8; 8]),
    Four([u8; 4]),
    Bytes(&'a [u8]),
}

impl Flat {
    /// `None`: it has too little that is plain.
    pub(super) fn new(descriptor: &MessageDescriptor) -> Option<Self> {
        // What is more than its fields; and fields that are known, but not its own.
        if descriptor.package_name() == "google.protobuf" || descriptor.extension_ranges().len() > 0 {
            return None;
        }
        let fields: Vec<Field> = descriptor.fields().map(Field::new).collect::<Option<_>>()?;
        let descriptor = descriptor.clone();
        fields.iter().any(|field| field.kind.is_some()).then_some(Self { descriptor, fields })
    }

    /// Appends a message as JSON. `None`: it is for the other way; something may be appended then.
    pub(super) fn write(&self, bytes: &[u8], out: &mut Vec<u8>) -> Option<()> {
        let mut found: Vec<Option<Found<'_>>> = vec![None; self.fields.len()];
        let others = self.find(bytes, &mut found)?;
        let others = if self.fields.iter().all(|field| field.kind.is_some()) {
            None
        } else {
            Some(DynamicMessage::decode(self.descriptor.clone(), others.as_slice()).ok()?)
        };
        out.push(b'{');
        let mut between: &[u8] = b"";
        for (field, found) in self.fields.iter().zip(found) {
            let name = |out: &mut Vec<u8>| {
                out.extend_from_slice(between);
                out.extend_from_slice(&field.name);
            };
            match (&field.kind, found, &others) {
                (Some(kind), Some(found), _) => {
                    name(out);
                    write(kind, found, out)?;
                }
                (Some(_), None, _) if field.absent.is_empty() => continue,
                (Some(_), None, _) => {
                    name(out);
                    out.extend_from_slice(&field.absent);
                }
                (None, _, Some(others)) => {
                    if field.descriptor.supports_presence() && !others.has_field(&field.descriptor) {
                        continue;
                    }
                    name(out);
                    let value = others.get_field(&field.descriptor);
                    Writer { out }.value(&value, &field.descriptor, 0).ok()?;
                }
                (None, _, None) => return None,
            }
            between = b",";
        }
        out.push(b'}');
        semantic::within(out).ok()
    }

    /// Finds the plain fields; gives the others as they stand.
    fn find<'a>(&self, bytes: &'a [u8], found: &mut [Option<Found<'a>>]) -> Option<Vec<u8>> {
        let mut others = Vec::new();
        let mut wire = Wire(bytes);
        // Fields mostly come in one order.
        let mut next = 0;
        while !wire.0.is_empty() {
            let before = wire.0;
            let key = u32::try_from(wire.varint()?).ok()?;
            let value = match key & 7 {
                0 => Found::Varint(wire.varint()?),
                1 => Found::Eight(wire.chunk()?),
                2 => Found::Bytes(wire.bytes()?),
                5 => Found::Four(wire.chunk()?),
                _ => return None,
            };
            let number = key >> 3;
            if number == 0 {
                return None;
            }
            let is = |field: &Field| field.number == number;
            let guessed = self.fields.get(next).is_some_and(is);
            let Some(at) = (if guessed { Some(next) } else { self.fields.iter().position(is) }) else {
                continue;
            };
            next = at + 1;
            if self.fields[at].kind.is_some() {
                // The last one of a number counts, if those before it are no less in order.
                if found[at].replace(value).is_some() {
                    return None;
                }
            } else {
                others.extend_from_slice(&before[..before.len() - wire.0.len()]);
            }
        }
        Some(others)
    }
}

impl Field {
    fn new(descriptor: FieldDescriptor) -> Option<Self> {
        let mut name = Vec::new();
        semantic::string(descriptor.name(), &mut name);
        name.push(b':');
        let kind = descriptor.kind();
        // Of several that exclude each other the last one counts, and which that is the others tell.
        let excludes = descriptor.containing_oneof().is_some_and(|oneof| oneof.fields().len() > 1);
        let is_plain =
            !descriptor.is_list() && !descriptor.is_map() && !excludes && !matches!(kind, Kind::Message(_));
        let mut absent = Vec::new();
        if is_plain && !descriptor.supports_presence() {
            Writer { out: &mut absent }.one(&descriptor.default_value(), &kind, 0).ok()?;
        }
        Some(Self { number: descriptor.number(), name, kind: is_plain.then_some(kind), descriptor, absent })
    }
}

/// A value of a plain field, if it is one.
fn write(kind: &Kind, found: Found<'_>, out: &mut Vec<u8>) -> Option<()> {
    let value = match (kind, found) {
        (Kind::String, Found::Bytes(bytes)) => {
            semantic::string(std::str::from_utf8(bytes).ok()?, out);
            return Some(());
        }
        (Kind::Bytes, Found::Bytes(bytes)) => {
            semantic::bytes(bytes, out);
            return Some(());
        }
        (Kind::Bool, Found::Varint(number)) => Value::Bool(number != 0),
        (Kind::Int32, Found::Varint(number)) => Value::I32(low(number).cast_signed()),
        (Kind::Enum(_), Found::Varint(number)) => Value::EnumNumber(low(number).cast_signed()),
        (Kind::Int64, Found::Varint(number)) => Value::I64(number.cast_signed()),
        (Kind::Uint32, Found::Varint(number)) => Value::U32(low(number)),
        (Kind::Uint64, Found::Varint(number)) => Value::U64(number),
        (Kind::Sint32, Found::Varint(number)) => {
            let number = low(number);
            Value::I32((number >> 1 ^ (number & 1).wrapping_neg()).cast_signed())
        }
        (Kind::Sint64, Found::Varint(number)) => {
            Value::I64((number >> 1 ^ (number & 1).wrapping_neg()).cast_signed())
        }
        (Kind::Fixed32, Found::Four(bytes)) => Value::U32(u32::from_le_bytes(bytes)),
        (Kind::Sfixed32, Found::Four(bytes)) => Value::I32(i32::from_le_bytes(bytes)),
        (Kind::Float, Found::Four(bytes)) => Value::F32(f32::from_le_bytes(bytes)),
        (Kind::Fixed64, Found::Eight(bytes)) => Value::U64(u64::from_le_bytes(bytes)),
        (Kind::Sfixed64, Found::Eight(bytes)) => Value::I64(i64::from_le_bytes(bytes)),
        (Kind::Double, Found::Eight(bytes)) => Value::F64(f64::from_le_bytes(bytes)),
        _ => return None,
    };
    Writer { out }.one(&value, kind, 0).ok()
}

/// The lower half.
fn low(number: u64) -> u32 {
    let [a, b, c, d, ..] = number.to_le_bytes();
    u32::from_le_bytes([a, b, c, d])
}

/// What is left of a message.
struct Wire<'a>(&'a [u8]);

impl<'a> Wire<'a> {
    fn varint(&mut self) -> Option<u64> {
        let mut number = 0;
        for (at, byte) in self.0.iter().enumerate().take(10) {
            number |= u64::from(byte & 0x7f) << (7 * at);
            if byte & 0x80 == 0 {
                // Of the last one, one bit has room.
                if at == 9 && *byte > 1 {
                    return None;
                }
                self.0 = &self.0[at + 1..];
                return Some(number);
            }
        }
        None
    }

    fn chunk<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (chunk, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*chunk)
    }

    fn bytes(&mut self) -> Option<&'a [u8]> {
        let length = usize::try_from(self.varint()?).ok()?;
        let (bytes, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(bytes)
    }
}
