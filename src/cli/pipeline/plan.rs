//! `highwater run --plan`: what would become of the records that come next.

use std::fmt::Write as _;

use highwater::pipeline::{Pipeline, Preview, SinkPreview};
use highwater::{PartialConfig, Result};

use crate::cli::found;
use crate::cli::operator::json;
use crate::cli::progress::Spinner;
use crate::cli::table::Table;

/// So many rejected records are listed; JSON has all.
const LISTED: usize = 20;
/// Longer values are cut; JSON has all of them.
const LONGEST: usize = 200;

pub(super) async fn run(pipeline: &Pipeline, records: usize, as_json: bool) -> Result<String> {
    let preview = {
        let _spinner = Spinner::new("reading");
        pipeline.preview(PartialConfig::from_env()?, records).await?
    };
    let text = if as_json { json(&preview)? } else { text(&preview) };
    if preview.is_well() {
        return Ok(text);
    }
    let what = format!(
        "{} of {} records would be rejected; problems: {}",
        preview.rejected.len(),
        preview.records,
        preview.problems.len()
    );
    Err(found(&text, what))
}

fn text(preview: &Preview) -> String {
    let mut text = String::new();
    // Writing to a string can't fail.
    let _ = writeln!(text, "{} records, as group {} would read them", preview.records, preview.group);
    for one in preview.partitions.iter().filter(|one| one.records > 0) {
        let _ = writeln!(text, "  {}[{}] from {}: {}", one.topic, one.partition, one.from, one.records);
    }
    if preview.records == 0 {
        let _ = writeln!(text, "  there is none: the group has read all, or the topics are empty");
    }
    if preview.is_cut {
        let _ = writeln!(text, "  reading was cut short: it took too long, or the records are too large");
    }
    for sink in &preview.sinks {
        of_sink(sink, &mut text);
    }
    if let Some(ddl) = &preview.ddl {
        let _ = write!(text, "\nwhat the tables lack, as SQL\n{ddl}");
    }
    if !preview.rejected.is_empty() {
        let _ = writeln!(text, "\nrejected");
    }
    for one in preview.rejected.iter().take(LISTED) {
        let _ = writeln!(text, "  {}[{}]@{}: {}", one.topic, one.partition, one.offset, one.reason);
    }
    if let Some(more) = preview.rejected.len().checked_sub(LISTED).filter(|more| *more > 0) {
        let _ = writeln!(text, "  … and {more} more: --json has all");
    }
    if !preview.problems.is_empty() {
        let _ = writeln!(text, "\nproblems");
    }
    for problem in &preview.problems {
        let _ = writeln!(text, "  {problem}");
    }
    text
}

fn of_sink(sink: &SinkPreview, text: &mut String) {
    let SinkPreview { table, rows, deletions, stepped_over, rejected, .. } = sink;
    let _ = writeln!(text, "\n{} into {table}", sink.topics.join(", "));
    let tried = if sink.is_tried { "tried in the table, and rolled back" } else { "not tried in the table" };
    let _ = writeln!(
        text,
        "  {rows} rows, {deletions} deletions, {stepped_over} stepped over, {rejected} rejected ({tried})"
    );
    if !sink.is_there {
        let _ = writeln!(text, "  the table is not there, or this role may not see it");
    }
    let mut columns = Table::new(&["  COLUMN", "TYPE", "FROM"]);
    for column in &sink.columns {
        let mut sql_type = column.sql_type.clone().unwrap_or_else(|| "(missing)".to_owned());
        if column.not_null {
            sql_type.push_str(" NOT NULL");
        }
        columns.row(vec![format!("  {}", column.column), sql_type, column.from.clone()]);
    }
    let _ = write!(text, "{columns}");
    for row in &sink.shown {
        let what = if row.deletes { "deletes " } else { "" };
        let values = row.columns.iter();
        let values = values.map(|(column, value)| format!("{column} = {}", shown(value.as_deref())));
        let values: Vec<String> = values.collect();
        let _ =
            writeln!(text, "  {}[{}]@{}: {what}{}", row.topic, row.partition, row.offset, values.join(", "));
    }
}

/// On one line, and so that it cannot speak to a terminal.
fn shown(value: Option<&str>) -> String {
    let Some(value) = value else { return "NULL".to_owned() };
    let mut text = String::new();
    for (place, char) in value.chars().enumerate() {
        if place == LONGEST {
            text.push('…');
            break;
        }
        if char.is_control() { text.extend(char.escape_default()) } else { text.push(char) }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_shown_on_one_line() {
        assert_eq!(shown(None), "NULL");
        assert_eq!(shown(Some("a\n\u{1b}[2Jü")), "a\\n\\u{1b}[2Jü");
        assert_eq!(shown(Some(&"x".repeat(300))).chars().count(), LONGEST + 1);
    }
}
