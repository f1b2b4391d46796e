//! `where`: which records are meant. Paths compared with literals, joined by `&&`.

use super::path::Path;

/// All of these hold.
#[derive(Debug, Default)]
pub(crate) struct Condition(pub(crate) Vec<Comparison>);

#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Comparison {
    pub(crate) path: Path,
    pub(crate) equal: bool,
    pub(crate) literal: Literal,
}

#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Literal {
    /// Also where a value is absent.
    Null,
    Text(String),
    /// An integer, `true` or `false`, as JSON has it.
    Plain(String),
}

impl Condition {
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        split(text).into_iter().map(|one| comparison(one.trim())).collect::<Result<_, _>>().map(Self)
    }
}

/// At `&&`, but not inside quotes.
fn split(text: &str) -> Vec<&str> {
    let (mut parts, mut from, mut quoted) = (Vec::new(), 0, false);
    for (at, byte) in text.bytes().enumerate() {
        quoted ^= byte == b'\'';
        if !quoted && at >= from && text.as_bytes()[at..].starts_with(b"&&") {
            parts.push(&text[from..at]);
            from = at + 2;
        }
    }
    parts.push(&text[from..]);
    parts
}

fn comparison(text: &str) -> Result<Comparison, String> {
    let wrong = |what: &str| {
        format!(
            "`{text}` is no condition: {what}; write value.path == 'text', != 5, == true or != null, and && between them"
        )
    };
    let at = ["==", "!="].iter().filter_map(|sign| text.find(sign)).min();
    let at = at.ok_or_else(|| wrong("it has neither == nor !="))?;
    let (path, literal) = (text[..at].trim(), text[at + 2..].trim());
    let path = path.parse::<Path>().map_err(|error| wrong(&error))?;
    let literal = match literal {
        "null" => Literal::Null,
        "true" | "false" => Literal::Plain(literal.to_owned()),
        quoted if quoted.len() >= 2 && quoted.starts_with('\'') && quoted.ends_with('\'') => {
            let text = &quoted[1..quoted.len() - 1];
            if text.contains('\'') {
                return Err(wrong("more than one literal stands behind the comparison"));
            }
            Literal::Text(text.to_owned())
        }
        // Fractions have many spellings.
        number => match number.parse::<i64>() {
            Ok(number) => Literal::Plain(number.to_string()),
            Err(_) => {
                return Err(wrong(
                    "behind the comparison stands neither 'text', an integer, true, false nor null",
                ));
            }
        },
    };
    Ok(Comparison { path, equal: text[at..].starts_with("=="), literal })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn conditions_are_read() {
        let Condition(read) = Condition::parse(
            "value.status != 'a && b' && key.id == +05&&header.h == null && value.b == true",
        )
        .unwrap();
        let comparison =
            |path: &str, equal, literal| Comparison { path: path.parse().unwrap(), equal, literal };
        assert_eq!(
            read,
            [
                comparison("value.status", false, Literal::Text("a && b".to_owned())),
                comparison("key.id", true, Literal::Plain("5".to_owned())),
                comparison("header.h", true, Literal::Null),
                comparison("value.b", true, Literal::Plain("true".to_owned())),
            ]
        );
    }

    #[test]
    fn what_is_no_condition_is_refused() {
        for text in [
            "",
            "value.a",
            "value.a = 1",
            "value.a == 1.5",
            "value.a == b",
            "a == 1",
            "value.a == 'x",
            "value.a == 1 &&",
            "value.a == 'x' || value.b == 'y'",
            "value.a == 'x' or value.b == 'y'",
            "value.a || value.b == true",
            "value.a == 1 || value.b == 2",
            "value.a >= 5",
            "value.a === 5",
            "value.a == 'it's'",
        ] {
            assert!(Condition::parse(text).unwrap_err().contains("is no condition"), "{text}");
        }
    }
}
