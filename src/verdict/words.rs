//! What the server said, as far as it holds no data: its messages quote values between quotation marks, and those that a
//! function raises are the user's own.

use tokio_postgres::error::DbError;

/// Marks between which servers of any language quote.
const MARKS: [char; 8] = ['"', '\'', '«', '»', '„', '“', '”', '`'];

/// What an error says, in words that hold no data of a record: names, its code, and the server's message where that
/// quotes nothing but names which it gives apart.
pub(crate) fn describe(error: &DbError) -> String {
    let mut text = format!("postgres answered SQLSTATE {}", error.code().code());
    for (noun, name) in [
        ("constraint", error.constraint()),
        ("table", error.table()),
        ("column", error.column()),
        ("type", error.datatype()),
    ] {
        if let Some(name) = name {
            text.push_str(&format!(", {noun} {name}"));
        }
    }
    if let Some(column) = column_of_copy(error) {
        text.push_str(&format!(", column {column}"));
    }
    if let Some(place) = function(error) {
        text.push_str(&format!(", in {place}"));
    } else if let Some(words) = plain_words(error) {
        text.push_str(&format!(": {words}"));
    }
    text
}

/// The server's message, if it holds no data.
fn plain_words(error: &DbError) -> Option<String> {
    if error.routine() == Some("exec_stmt_raise") {
        return None; // a function's own words
    }
    let message = error.message();
    // Errors in a statement's text (42…) quote names of that text, which holds no data: values are parameters.
    if error.code().code().starts_with("42") {
        return Some(message.to_owned());
    }
    let mut rest = message.to_owned();
    let names = [error.constraint(), error.table(), error.column(), error.datatype(), error.schema()];
    for name in names.into_iter().flatten() {
        for quoted in [format!("\"{name}\""), format!("«{name}»"), format!("„{name}“"), format!("“{name}”")]
        {
            rest = rest.replace(&quoted, "");
        }
    }
    let quotes = rest.contains(MARKS);
    // Numbers are data, too, but for a type's own: `character varying(10)`.
    let number = rest.split(['(', ')']).step_by(2).any(|part| part.contains(|c: char| c.is_ascii_digit()));
    (!quotes && !number && rest.chars().count() <= 200).then(|| message.to_owned())
}

/// The function in which an error arose, and the line there. What it did there (dynamic SQL) may be made of data.
fn function(error: &DbError) -> Option<String> {
    let first = error.where_()?.lines().find(|line| line.starts_with("PL/"))?;
    // `PL/pgSQL function f(text) line 3 at EXECUTE`, in the server's language.
    let at = first.find('(')?;
    let name = first[..at].rsplit(' ').next()?;
    let line = first.split(')').nth(1)?.split_whitespace().find(|word| word.parse::<u32>().is_ok());
    Some(match line {
        Some(line) => format!("function {name}, line {line}"),
        None => format!("function {name}"),
    })
}

/// `COPY t, line 5, column id: "…"`: the name before the value.
fn column_of_copy(error: &DbError) -> Option<String> {
    if error.column().is_some() {
        return None;
    }
    let context = error.where_()?.lines().next()?;
    let place = context.strip_prefix("COPY ")?;
    let column = place.split(", ").nth(2)?;
    let name = column.split(':').next()?.split_once(' ')?.1;
    (!name.is_empty() && !name.contains(MARKS)).then(|| name.to_owned())
}
