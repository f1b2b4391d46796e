//! What may be told of a value that is not the JSON that was wanted: where, and of which kind the misfit is. serde's own
//! words quote what it found there.

use serde_json::error::Category;

/// Line, column and kind; with what was expected, which is a name of the code's.
pub(crate) fn describe(error: &serde_json::Error) -> String {
    let (line, column) = (error.line(), error.column());
    let text = error.to_string();
    let what = text.strip_suffix(&format!(" at line {line} column {column}")).unwrap_or(&text);
    let what = match error.classify() {
        // Fixed words of the parser's.
        Category::Syntax | Category::Eof | Category::Io => what.to_owned(),
        Category::Data => misfit(what),
    };
    format!("invalid JSON: {what}, at line {line}, column {column}")
}

/// Of serde's own sentences what does not come from the data; of a type's own nothing.
fn misfit(what: &str) -> String {
    for kind in ["missing field", "duplicate field"] {
        let name = what.strip_prefix(kind).and_then(|rest| rest.strip_prefix(" `")?.strip_suffix('`'));
        if name.is_some_and(|name| {
            name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-.".contains(&byte))
        }) {
            return what.to_owned();
        }
    }
    let kinds =
        ["invalid type: ", "invalid value: ", "invalid length ", "unknown variant `", "unknown field `"];
    match kinds.iter().find(|kind| what.starts_with(**kind)) {
        Some(kind) => {
            let kind = kind.trim_end_matches([' ', ':', '`']);
            match what.rsplit_once(", expected ") {
                Some((_, expected)) => format!("{kind}, expected {expected}"),
                None => kind.to_owned(),
            }
        }
        None => "a value that its type does not take".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use serde::Deserialize;
    use serde::de::{DeserializeOwned, Error as _};

    use super::*;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    #[expect(dead_code)]
    struct Payment {
        amount: i64,
        kind: Option<Kind>,
        #[serde(default)]
        iban: Iban,
    }

    #[derive(Debug, Deserialize)]
    #[serde(rename_all = "lowercase")]
    enum Kind {
        Debit,
        Credit,
    }

    #[derive(Debug, Default)]
    struct Iban;

    impl<'de> Deserialize<'de> for Iban {
        fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            let text = String::deserialize(deserializer)?;
            Err(D::Error::custom(format!("{text}, expected {text}")))
        }
    }

    fn said<T: DeserializeOwned + std::fmt::Debug>(text: &str) -> String {
        describe(&serde_json::from_str::<T>(text).expect_err(text))
    }

    #[test]
    fn a_misfit_is_told_by_place_and_kind() {
        for (text, expected, line) in [
            (r#"{"amount":"s3cret"}"#, "invalid type, expected i64", 1),
            (r#"{"amount":"s3cret, expected s3cret"}"#, "invalid type, expected i64", 1),
            (r#"{"amount":1.5}"#, "invalid type, expected i64", 1),
            (r#"{"amount":1,"kind":"s3cret"}"#, "unknown variant, expected `debit` or `credit`", 1),
            (r#"{"s3cret":1}"#, "unknown field, expected one of `amount`, `kind`, `iban`", 1),
            (r#"{"amount":1,"iban":"s3cret"}"#, "a value that its type does not take", 1),
            (r#"{"amount":1,"amount":2}"#, "duplicate field `amount`", 1),
            (r#""s3cret""#, "invalid type, expected struct Payment", 1),
            ("{}", "missing field `amount`", 1),
            ("{\n \"amount\":1,\n s3cret}", "key must be a string", 3),
            (r#"{"amount":1} s3cret"#, "trailing characters", 1),
            (r#"{"amount":1"#, "EOF while parsing an object", 1),
        ] {
            let said = said::<Payment>(text);
            let place = said.strip_prefix(&format!("invalid JSON: {expected}, at line {line}, column "));
            assert!(place.is_some_and(|column| column.parse::<u32>().is_ok()), "{text}: {said}");
        }
        let said = said::<HashMap<u8, u8>>(r#"{"s3cret":1}"#);
        assert!(!said.contains("s3cret"), "{said}");
    }
}
