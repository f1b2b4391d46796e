//! Text into `bytea`, as the table says.

use base64::Engine as _;
use base64::alphabet::{Alphabet, STANDARD, URL_SAFE};
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use bytes::{BufMut, BytesMut};

use super::target::{Bytea, Defect, Put, Written};

const BAD_HEX: Defect = Defect::Invalid("not bytes in hexadecimal (\\x00ff); see Table::bytea");
const BAD_BASE64: Defect = Defect::Invalid("not bytes in base64");

const fn engine(alphabet: &Alphabet) -> GeneralPurpose {
    let config = GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
    GeneralPurpose::new(alphabet, config)
}

const PLAIN: GeneralPurpose = engine(&STANDARD);
const SAFE: GeneralPurpose = engine(&URL_SAFE);

pub(crate) fn put_text(text: &str, bytea: Bytea, out: &mut BytesMut) -> Put {
    match bytea {
        Bytea::Hex => put_hex(text, out),
        Bytea::Base64 => put_base64(text, out),
        Bytea::Utf8 => {
            out.put_slice(text.as_bytes());
            Ok(Written::Value)
        }
    }
}

fn put_hex(text: &str, out: &mut BytesMut) -> Put {
    let digits = text.strip_prefix("\\x").ok_or(BAD_HEX)?.as_bytes();
    let value = |digit: u8| char::from(digit).to_digit(16).and_then(|value| u8::try_from(value).ok());
    let (pairs, rest) = digits.as_chunks::<2>();
    for [high, low] in pairs {
        out.put_u8(value(*high).ok_or(BAD_HEX)? << 4 | value(*low).ok_or(BAD_HEX)?);
    }
    if rest.is_empty() { Ok(Written::Value) } else { Err(BAD_HEX) }
}

/// Either alphabet; not both in one text.
fn put_base64(text: &str, out: &mut BytesMut) -> Put {
    let engine = if text.contains(['-', '_']) { SAFE } else { PLAIN };
    let start = out.len();
    out.resize(start + base64::decoded_len_estimate(text.len()), 0);
    let length = engine.decode_slice(text, &mut out[start..]).map_err(|_| BAD_BASE64)?;
    out.truncate(start + length);
    Ok(Written::Value)
}

/// A JSON array of numbers, which is what `serde` makes of a `Vec<u8>`.
pub(crate) fn put_json(raw: &str, out: &mut BytesMut) -> Put {
    let bytes: Vec<u8> =
        serde_json::from_str(raw).map_err(|_| Defect::Json("an array of something else than bytes"))?;
    out.put_slice(&bytes);
    Ok(Written::Value)
}
