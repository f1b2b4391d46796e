//! By which schema a key or a value is written: Confluent's framing, in front of the bytes or in a header.
//!
//! <https://docs.confluent.io/platform/current/schema-registry/fundamentals/serdes-develop/index.html>, "Wire format";
//! headers as `HeaderSchemaIdSerializer` writes them.

use std::fmt;

/// How a schema is asked for.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum SchemaId {
    Number(u32),
    Guid([u8; 16]),
    /// A version of a subject, or its latest: as the file says for records that name none.
    Version(String, Option<u32>),
}

impl fmt::Display for SchemaId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number(id) => write!(f, "schema {id}"),
            Self::Guid(guid) => write!(f, "schema {}", uuid::Uuid::from_bytes(*guid)),
            Self::Version(subject, Some(version)) => {
                write!(f, "version {version} of subject {subject}")
            }
            Self::Version(subject, None) => write!(f, "the latest version of subject {subject}"),
        }
    }
}

/// Which way a record's parts name their schemas in headers.
pub(crate) const KEY_HEADER: &str = "__key_schema_id";
pub(crate) const VALUE_HEADER: &str = "__value_schema_id";

/// What a key or a value is of, and what it holds.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Framed<'a> {
    pub(crate) id: SchemaId,
    /// Which message of a Protobuf file: its number, then that of a message in it, and so on; empty: the first.
    pub(crate) message: Vec<usize>,
    pub(crate) payload: &'a [u8],
}

/// Takes the frame off. `header`: the one in which the schema may be named, if the record has it. `indexed`: Protobuf's
/// numbers of messages follow.
///
/// # Errors
/// If there is no frame, in words that complete "value: ".
pub(crate) fn unframed<'a>(
    bytes: &'a [u8],
    header: Option<&'a [u8]>,
    indexed: bool,
) -> Result<Framed<'a>, String> {
    let (id, rest) = id(header.unwrap_or(bytes)).ok_or_else(|| match header {
        Some(_) => "the header that should name its schema does not".to_owned(),
        None => "it names no schema of a registry (its first byte is neither 0 nor 1, or it is too short)"
            .to_owned(),
    })?;
    let (message, rest) = if indexed { indexes(rest)? } else { (Vec::new(), rest) };
    let payload = if header.is_some() { bytes } else { rest };
    Ok(Framed { id, message, payload })
}

/// The same without looking any further: which schema must be there.
pub(crate) fn id(bytes: &[u8]) -> Option<(SchemaId, &[u8])> {
    match bytes.split_first()? {
        (0, rest) => {
            let (id, rest) = rest.split_first_chunk()?;
            Some((SchemaId::Number(u32::from_be_bytes(*id)), rest))
        }
        (1, rest) => {
            let (guid, rest) = rest.split_first_chunk()?;
            Some((SchemaId::Guid(*guid), rest))
        }
        _ => None,
    }
}

/// How deep a message may lie in others.
const DEEPEST: i64 = 64;

/// How many numbers, then the numbers; one that is 0 is written as 0 alone. All zigzag.
fn indexes(bytes: &[u8]) -> Result<(Vec<usize>, &[u8]), String> {
    let wrong = || "its frame does not say which message of the Protobuf file it is".to_owned();
    let (count, mut rest) = varint(bytes).ok_or_else(wrong)?;
    if !(0..=DEEPEST).contains(&count) {
        return Err(wrong());
    }
    let mut message = Vec::new();
    for _ in 0..count {
        let (index, after) = varint(rest).ok_or_else(wrong)?;
        message.push(usize::try_from(index).map_err(|_| wrong())?);
        rest = after;
    }
    Ok((message, rest))
}

/// A number of variable length, zigzag: as Avro's `int` and `long`, and Protobuf's `sint64`.
pub(crate) fn varint(bytes: &[u8]) -> Option<(i64, &[u8])> {
    let mut number = 0_u64;
    for (at, byte) in bytes.iter().enumerate().take(10) {
        let bits = u64::from(byte & 0x7f);
        // Of the tenth byte there is room for one bit.
        if at == 9 && bits > 1 {
            return None;
        }
        number |= bits << (7 * at);
        if byte & 0x80 == 0 {
            let value = (number >> 1).cast_signed() ^ -(number & 1).cast_signed();
            return Some((value, &bytes[at + 1..]));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_taken_off() {
        let framed = |bytes, header, indexed| unframed(bytes, header, indexed).unwrap();
        let is = |framed: Framed<'_>, id: SchemaId, message: &[usize], payload: &[u8]| {
            assert_eq!(framed, Framed { id, message: message.to_vec(), payload });
        };
        is(framed(b"\0\0\0\x01\x02abc", None, false), SchemaId::Number(258), &[], b"abc");
        // The first message is one byte; [0] and [1, 0] are written in full.
        is(framed(b"\0\0\0\0\x07\0abc", None, true), SchemaId::Number(7), &[], b"abc");
        is(framed(b"\0\0\0\0\x07\x02\0abc", None, true), SchemaId::Number(7), &[0], b"abc");
        is(framed(b"\0\0\0\0\x07\x04\x02\0abc", None, true), SchemaId::Number(7), &[1, 0], b"abc");
        let guid = *b"0123456789abcdef";
        is(framed(b"\x010123456789abcdefx", None, false), SchemaId::Guid(guid), &[], b"x");
        let header: &[u8] = b"\x010123456789abcdef\x02\x06";
        is(framed(b"\0abc", Some(header), true), SchemaId::Guid(guid), &[3], b"\0abc");
    }

    #[test]
    fn what_is_no_frame_is_refused() {
        for bytes in [&b""[..], b"\0", b"\0\0\0\x01", b"{\"id\": 1}", b"\x02\0\0\0\x01a", b"\x01short"] {
            assert!(unframed(bytes, None, false).unwrap_err().contains("names no schema"), "{bytes:?}");
            assert!(
                unframed(b"\0\0\0\0\x01a", Some(bytes), false).unwrap_err().contains("header"),
                "{bytes:?}"
            );
        }
        let indexes: [&[u8]; 5] =
            [b"", b"\x02", b"\x01", b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\x7f", b"\x02\x01"];
        for indexes in indexes {
            let bytes = [b"\0\0\0\0\x01", indexes].concat();
            assert!(unframed(&bytes, None, true).unwrap_err().contains("which message"), "{bytes:?}");
        }
    }

    #[test]
    fn numbers_of_variable_length() {
        for (bytes, value) in [
            (&b"\0"[..], 0),
            (b"\x01", -1),
            (b"\x02", 1),
            (b"\x80\x01", 64),
            (b"\xfe\xff\xff\xff\xff\xff\xff\xff\xff\x01", i64::MAX),
            (b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", i64::MIN),
        ] {
            assert_eq!(varint(bytes), Some((value, &b""[..])), "{bytes:?}");
        }
        assert_eq!(varint(b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\x02"), None);
        assert_eq!(varint(b"\x80"), None);
    }
}
