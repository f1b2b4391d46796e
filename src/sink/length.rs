//! What a type or its modifier allows. `varchar(n)` and `char(n)`: what the server cuts is cut here, and what it refuses is refused
//! with the column's name, so that equal values have equal bytes. Of `numeric(p,s)` only what is too large.

use bytes::{BufMut, BytesMut};
use tokio_postgres::types::Type;

use super::digits::Digits;
use super::plan::TypeId;
use super::target::Defect;

const TOO_LONG: Defect = Defect::Invalid("longer than its type allows");
/// What a modifier counts beside the characters.
const HEADER: i32 = 4;
/// `NAMEDATALEN` but the byte that ends it, as servers are built by default.
const NAME_BYTES: usize = 63;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Length {
    /// How long a text may be; whether blanks at its end mean nothing: `char(n)`.
    Text { characters: usize, pads: bool },
    /// So many bytes at most: `name`.
    Bytes(usize),
    /// The server rounds what fits.
    Number(Digits),
}

impl Length {
    /// `None` for other types, and for domains: their checks see what was sent.
    pub(crate) fn of(ty: &Type, id: TypeId) -> Option<Self> {
        let characters = || usize::try_from(id.modifier.checked_sub(HEADER)?).ok();
        let length = match *ty {
            Type::BPCHAR => Self::Text { characters: characters()?, pads: true },
            Type::VARCHAR => Self::Text { characters: characters()?, pads: false },
            Type::NAME => Self::Bytes(NAME_BYTES),
            Type::NUMERIC => Self::Number(Digits::of(id.modifier)?),
            _ => return None,
        };
        (ty.oid() == id.oid).then_some(length)
    }

    /// Whether what fits is kept as it was sent.
    pub(crate) fn keeps_all(self) -> bool {
        matches!(self, Self::Text { .. } | Self::Bytes(_))
    }

    /// Looks at the field that begins at `at` with its length, and cuts blanks that do not count.
    ///
    /// # Errors
    /// If it is too long even so.
    pub(crate) fn fit(self, at: usize, out: &mut BytesMut) -> Result<(), Defect> {
        let start = at + 4;
        let Some(text) = out.get(start..) else { return Ok(()) };
        let (characters, pads) = match self {
            Self::Text { characters, pads } => (characters, pads),
            Self::Bytes(most) => return if text.len() > most { Err(TOO_LONG) } else { Ok(()) },
            Self::Number(digits) => return digits.fit(text),
        };
        if !pads && text.len() <= characters {
            return Ok(());
        }
        let trimmed = text.len() - text.iter().rev().take_while(|byte| **byte == b' ').count();
        let kept = if pads {
            if count(&text[..trimmed]) > characters {
                return Err(TOO_LONG);
            }
            trimmed
        } else {
            let most = end_of(text, characters);
            if most < trimmed {
                return Err(TOO_LONG);
            }
            most
        };
        if kept < text.len() {
            out.truncate(start + kept);
            let length = i32::try_from(kept).map_err(|_| TOO_LONG)?;
            (&mut out[at..start]).put_i32(length);
        }
        Ok(())
    }
}

/// Characters of UTF-8.
fn count(text: &[u8]) -> usize {
    text.iter().filter(|byte| **byte & 0xC0 != 0x80).count()
}

/// Where the first `characters` of it end.
fn end_of(text: &[u8], characters: usize) -> usize {
    let starts = text.iter().enumerate().filter(|(_, byte)| **byte & 0xC0 != 0x80);
    starts.map(|(at, _)| at).nth(characters).unwrap_or(text.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fitted(length: Length, text: &str) -> Option<String> {
        let mut out = BytesMut::new();
        out.put_slice(b"before");
        out.put_i32(i32::try_from(text.len()).unwrap());
        out.put_slice(text.as_bytes());
        length.fit(6, &mut out).ok()?;
        let length = i32::from_be_bytes(out[6..10].try_into().unwrap());
        assert_eq!(usize::try_from(length).unwrap(), out.len() - 10);
        Some(String::from_utf8(out[10..].to_vec()).unwrap())
    }

    #[test]
    fn blanks_are_cut_where_the_server_cuts_them() {
        let varchar = Length::Text { characters: 3, pads: false };
        assert_eq!(fitted(varchar, "ab ").as_deref(), Some("ab "));
        assert_eq!(fitted(varchar, "ab    ").as_deref(), Some("ab "));
        assert_eq!(fitted(varchar, "äöü").as_deref(), Some("äöü"));
        assert_eq!(fitted(varchar, "äöü  ").as_deref(), Some("äöü"));
        assert_eq!(fitted(varchar, "abcd"), None);
        assert_eq!(fitted(varchar, "ab  d"), None);
        let char = Length::Text { characters: 3, pads: true };
        assert_eq!(fitted(char, "a  ").as_deref(), Some("a"));
        assert_eq!(fitted(char, "").as_deref(), Some(""));
        assert_eq!(fitted(char, "abc     ").as_deref(), Some("abc"));
        assert_eq!(fitted(char, "abcd"), None);
    }
}
