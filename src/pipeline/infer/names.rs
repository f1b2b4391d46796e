//! Names of columns and tables, out of those of fields and topics.

/// What SQL keeps for itself as a name of columns and tables: it stands in quotes ("SQL Key Words" in PostgreSQL's manual).
const RESERVED: &str = " all analyse analyze and any array as asc asymmetric authorization binary both case cast check \
    collate collation column concurrently constraint create cross current_catalog current_date current_role \
    current_schema current_time current_timestamp current_user default deferrable desc distinct do else end except false \
    fetch for foreign freeze from full grant group having ilike in initially inner intersect into is isnull join lateral \
    leading left like limit localtime localtimestamp natural not notnull null offset on only or order outer overlaps \
    placing primary references returning right select session_user similar some symmetric system_user table tablesample \
    then to trailing true union unique user using variadic verbose when where window with ";
/// Columns that every table has.
const SYSTEM: [&str; 6] = ["ctid", "xmin", "xmax", "cmin", "cmax", "tableoid"];
/// Bytes of a name.
const LONGEST: usize = 60;

/// `createdAt` becomes `created_at`, `HTTPStatus` `http_status`, `a name` `a_name`.
pub(super) fn snake_case(name: &str) -> String {
    let chars: Vec<char> = name.chars().collect();
    let mut text = String::new();
    for (at, &char) in chars.iter().enumerate() {
        if !char.is_ascii_alphanumeric() {
            if !text.ends_with('_') {
                text.push('_');
            }
            continue;
        }
        let before = at.checked_sub(1).map(|at| chars[at]);
        let after = chars.get(at + 1);
        let begins = char.is_ascii_uppercase()
            && before.is_some_and(|before| {
                before.is_ascii_lowercase()
                    || before.is_ascii_digit()
                    || (before.is_ascii_uppercase() && after.is_some_and(char::is_ascii_lowercase))
            });
        if begins {
            text.push('_');
        }
        text.push(char.to_ascii_lowercase());
    }
    text.truncate(LONGEST);
    let text = text.trim_matches('_');
    match text.chars().next() {
        None => "field".to_owned(),
        Some(first) if first.is_ascii_digit() => format!("n{text}"),
        Some(_) if SYSTEM.contains(&text) => format!("{text}_field"),
        Some(_) => text.to_owned(),
    }
}

/// The same, or one that is not taken yet.
pub(super) fn unique(name: &str, taken: &mut Vec<String>) -> String {
    let mut candidates =
        std::iter::once(name.to_owned()).chain((2..).map(|number| format!("{name}_{number}")));
    let free = candidates.find(|candidate| !taken.contains(candidate)).unwrap_or_default();
    taken.push(free.clone());
    free
}

/// Of the last part of a topic's name.
pub(super) fn table(topic: &str) -> String {
    let last = topic.rsplit('.').find(|part| part.chars().any(|c| c.is_ascii_alphanumeric()));
    quoted(&snake_case(last.unwrap_or("records")))
}

/// As SQL reads it.
pub(super) fn quoted(name: &str) -> String {
    if RESERVED.contains(&format!(" {name} ")) { format!("\"{name}\"") } else { name.to_owned() }
}
