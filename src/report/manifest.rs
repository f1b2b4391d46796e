//! What is in a report, and what is not.

use std::fmt::Write as _;
use std::time::SystemTime;

use super::{Collection, Part, ReportOptions};
use crate::config::show_instant;

pub(super) fn of(collection: &Collection, options: &ReportOptions) -> Part {
    let mut text = format!(
        "A report of highwater {}, made at {}.\n\n",
        env!("CARGO_PKG_VERSION"),
        show_instant(SystemTime::now())
    );
    let groups = if options.groups.is_empty() { "all".to_owned() } else { options.groups.join(", ") };
    // Writing to a string can't fail, here and below.
    let _ = writeln!(text, "Groups: {groups}");
    text += "\
        Not in it: passwords and other secrets, keys, values and headers of records, claim tokens, texts of statements.\n\
        In it: names of hosts, roles, groups, topics, tables and people, addresses, offsets, times.\n";
    text += if collection.words.all() {
        "As was asked for, also what people and handlers have written, which may quote records: read it before you send it.\n"
    } else {
        "What people and handlers have written is left out, for it may quote records: --with-texts takes it in.\n"
    };
    text += "\n";
    let width = collection.parts.iter().map(|part| part.name.len()).max().unwrap_or_default();
    for part in &collection.parts {
        let _ = writeln!(text, "{:<width$}  {:>9} bytes  {}", part.name, part.content.len(), part.about);
    }
    Part { name: "MANIFEST".to_owned(), about: "what is in here".to_owned(), unread: false, content: text }
}
