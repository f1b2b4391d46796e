//! What stands in a record for a value that has not changed, and so is not said: Debezium's `unavailable.value.placeholder`,
//! for large values that Postgres keeps beside the row.

use std::sync::LazyLock;

use base64::Engine as _;
use base64::prelude::{BASE64_STANDARD_NO_PAD, BASE64_URL_SAFE_NO_PAD};
use memchr::memmem::Finder;

use super::extract::Raw;

/// Debezium's own.
pub(crate) const DEBEZIUM: &str = "__debezium_unavailable_value";
/// The same, looked for before anybody knows the sink.
pub(crate) static UNAVAILABLE: LazyLock<Unchanged> =
    LazyLock::new(|| Unchanged::new(DEBEZIUM).expect("a placeholder"));
/// A shorter one could be anything.
const SHORTEST: usize = 8;

/// A placeholder, in the forms that a column's type gives it.
#[derive(Debug)]
pub(crate) struct Unchanged {
    /// As a whole value: text, base64, hexadecimal.
    whole: [String; 4],
    /// In the middle of something; also as the numbers of its bytes.
    within: [Finder<'static>; 6],
}

impl Unchanged {
    /// # Errors
    /// If data could be taken for it.
    pub(crate) fn new(text: &str) -> Result<Self, String> {
        if text.len() < SHORTEST {
            return Err(format!(
                "`unchanged` has at least {SHORTEST} letters, so that no data is taken for it"
            ));
        }
        let quoted = serde_json::Value::from(text).to_string();
        let escaped = quoted[1..quoted.len() - 1].to_owned();
        let numbers = |between: &str| {
            let each: String = text.bytes().map(|byte| format!("{byte}{between}")).collect();
            each.trim_end_matches(' ').trim_end_matches(',').to_owned()
        };
        let hex: String = text.bytes().map(|byte| format!("{byte:02x}")).collect();
        let [standard, url] = [BASE64_STANDARD_NO_PAD.encode(text), BASE64_URL_SAFE_NO_PAD.encode(text)];
        let finder = |form: &str| Finder::new(form).into_owned();
        Ok(Self {
            within: [
                finder(&escaped),
                finder(&standard),
                finder(&url),
                finder(&hex),
                finder(&numbers(",")),
                finder(&numbers(", ")),
            ],
            whole: [escaped, standard, url, hex],
        })
    }

    /// Whether it stands for the value.
    pub(crate) fn is(&self, raw: Raw<'_>) -> bool {
        let inner = raw.get().strip_prefix('"').and_then(|rest| rest.strip_suffix('"'));
        inner.is_some_and(|inner| {
            let [text, others @ ..] = &self.whole;
            // Bytes may stand as Postgres writes them.
            let encoded = inner.strip_prefix(r"\\x").unwrap_or(inner).trim_end_matches('=');
            inner == text || others.iter().any(|form| encoded == form)
        })
    }

    /// Whether it is in the value, which is more: an array of such values, an object.
    pub(crate) fn is_in(&self, raw: Raw<'_>) -> bool {
        let text = raw.get().as_bytes();
        text.len() > self.whole[0].len() && self.within.iter().any(|form| form.find(text).is_some())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_placeholder_is_known_in_each_of_its_forms() {
        let unchanged = Unchanged::new(DEBEZIUM).unwrap();
        for (json, is, is_in) in [
            (r#""__debezium_unavailable_value""#, true, true),
            (r#""X19kZWJleml1bV91bmF2YWlsYWJsZV92YWx1ZQ==""#, true, true),
            (r#""X19kZWJleml1bV91bmF2YWlsYWJsZV92YWx1ZQ""#, true, true),
            (r#""5f5f646562657a69756d5f756e617661696c61626c655f76616c7565""#, true, true),
            (r#""\\x5f5f646562657a69756d5f756e617661696c61626c655f76616c7565""#, true, true),
            (r#"["__debezium_unavailable_value"]"#, false, true),
            (r#"{"a":"__debezium_unavailable_value"}"#, false, true),
            (r#""a __debezium_unavailable_value""#, false, true),
            (
                "[95,95,100,101,98,101,122,105,117,109,95,117,110,97,118,97,105,108,97,98,108,101,95,118,97,108,117,101]",
                false,
                true,
            ),
            (
                "[95, 95, 100, 101, 98, 101, 122, 105, 117, 109, 95, 117, 110, 97, 118, 97, 105, 108, 97, 98, 108, 101, \
                 95, 118, 97, 108, 117, 101]",
                false,
                true,
            ),
            (r#""debezium""#, false, false),
            ("null", false, false),
            ("17", false, false),
        ] {
            let raw = Raw::of(json);
            assert_eq!((unchanged.is(raw), unchanged.is_in(raw)), (is, is_in), "{json}");
        }
        let quoted = Unchanged::new("not \"said\"").unwrap();
        assert!(quoted.is(Raw::of(r#""not \"said\"""#)));
        assert!(Unchanged::new("short").unwrap_err().contains("at least 8"));
    }
}
