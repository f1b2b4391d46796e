//! Says in `sink_table` which tables this worker's program writes: what operators undo and prove.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use crate::control::is_older;
use crate::db::{Db, DbError};
use crate::handler::Written;
use crate::sink::{Mode, Source};

/// How soon it is tried again while a table, or the register, is not there.
const SOON: Duration = Duration::from_secs(30);
/// And how often else: a table may be dropped and made anew elsewhere on the search path.
const LATER: Duration = Duration::from_secs(600);

/// Registers the tables.
pub(super) struct Registrar {
    db: Arc<Db>,
    program: String,
    tables: Vec<Line>,
    pub(super) writes: Writes,
    register: String,
}

/// A row of `sink_table`.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Line {
    table: String,
    mode: &'static str,
    /// `None`: any.
    topics: Option<Vec<String>>,
    sources: [Option<String>; 4],
}

/// What the handler says of its tables: their topics, and whether it only appends.
#[derive(Debug, Clone, Default)]
pub(super) struct Writes(Vec<(Option<Vec<String>>, bool)>);

impl Writes {
    pub(super) fn new(written: &[Written]) -> Self {
        Self(written.iter().map(|one| (one.topics.clone(), one.table.mode == Mode::Append)).collect())
    }

    /// As `partition_status` has it, of a topic's records: `append`, `more`, or `unsaid`. What an earlier program said is in
    /// `sink_table` still.
    pub(super) fn of(&self, topic: &str) -> &'static str {
        let is_its = |topics: &Option<Vec<String>>| {
            topics.as_ref().is_none_or(|topics| topics.iter().any(|its| its == topic))
        };
        let its: Vec<bool> =
            self.0.iter().filter(|(topics, _)| is_its(topics)).map(|(_, appends)| *appends).collect();
        match its.as_slice() {
            [] => "unsaid",
            appends if appends.iter().all(|appends| *appends) => "append",
            _ => "more",
        }
    }
}

impl Registrar {
    pub(super) fn new(db: Arc<Db>, program: &str, written: Vec<Written>) -> Self {
        // A row says which record it is of only if all of them do.
        let of_all = |column: &str| {
            format!(
                "CASE WHEN count(*) = count(r.{column}) AND count(DISTINCT r.{column}) = 1 THEN min(r.{column}) END AS {column}"
            )
        };
        // A name is looked up as the sink's own statements do it. One that differs only in what is written there already
        // is left alone: no row is written anew by every worker that starts.
        let register = format!(
            "WITH named AS ( \
               SELECT n.nspname::text, c.relname::text, r.mode, count(*) AS names, \
                 CASE WHEN count(*) = count(r.topics) THEN string_to_array(string_agg(r.topics, E'\\n'), E'\\n') END AS topics, \
                 {topic}, {partition}, {record_offset}, {record_timestamp} \
               FROM unnest($3::text[], $4::text[], $5::text[], $6::text[], $7::text[], $8::text[], $9::text[]) \
                 AS r(name, mode, topics, topic, partition, record_offset, record_timestamp) \
               JOIN pg_catalog.pg_class c ON c.oid = pg_catalog.to_regclass(r.name) \
               JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace GROUP BY 1, 2, 3), \
             registered AS ( \
               INSERT INTO {tables} AS t (group_id, table_schema, table_name, mode, topics, topic_column, partition_column, \
                 offset_column, timestamp_column, program, registered_by) \
               SELECT $1, nspname, relname, mode, topics, topic, partition, record_offset, record_timestamp, $10, $2 \
               FROM named ORDER BY nspname, relname, mode \
               ON CONFLICT (group_id, table_schema, table_name, mode) DO UPDATE SET topics = {both}, \
                 topic_column = excluded.topic_column, partition_column = excluded.partition_column, \
                 offset_column = excluded.offset_column, timestamp_column = excluded.timestamp_column, \
                 program = excluded.program, registered_by = excluded.registered_by, registered_at = clock_timestamp() \
               WHERE (t.topic_column, t.partition_column, t.offset_column, t.timestamp_column, t.program) \
                 IS DISTINCT FROM (excluded.topic_column, excluded.partition_column, excluded.offset_column, \
                   excluded.timestamp_column, excluded.program) OR t.topics IS DISTINCT FROM {both}) \
             SELECT coalesce(sum(names), 0)::int8 FROM named",
            topic = of_all("topic"),
            partition = of_all("partition"),
            record_offset = of_all("record_offset"),
            record_timestamp = of_all("record_timestamp"),
            // What the table has held it goes on holding: a person may shorten the list.
            both = "CASE WHEN t.topics IS NOT NULL AND excluded.topics IS NOT NULL \
                      THEN ARRAY(SELECT DISTINCT u FROM unnest(t.topics || excluded.topics) u ORDER BY u) END",
            tables = db.schema.qualified("sink_table"),
        );
        let writes = Writes::new(&written);
        Self { db, program: program.to_owned(), tables: lines(written), writes, register }
    }

    /// Until aborted.
    pub(super) async fn run(self) {
        if self.tables.is_empty() {
            std::future::pending::<()>().await;
        }
        loop {
            let wait = match self.register().await {
                Ok(found) if found < self.tables.len() => SOON,
                Ok(_) => LATER,
                // The tables of version 1, or a role that was granted what they need.
                Err(DbError::Postgres(error)) if is_older(&error) => {
                    tracing::debug!(%error, "the tables that this program writes cannot be registered");
                    LATER
                }
                Err(error) => {
                    self.db.heed(&error);
                    tracing::debug!(%error, "the tables that this program writes were not registered");
                    SOON
                }
            };
            tokio::time::sleep(wait).await;
        }
    }

    /// How many of them are there.
    async fn register(&self) -> Result<usize, DbError> {
        let client = self.db.status().await?;
        let each = |of: fn(&Line) -> Option<&str>| self.tables.iter().map(of).collect::<Vec<_>>();
        let topics: Vec<Option<String>> =
            self.tables.iter().map(|line| line.topics.as_ref().map(|topics| topics.join("\n"))).collect();
        let identity = &self.db.identity;
        let row = client
            .query_one(
                &self.register,
                &[
                    &&*identity.group,
                    &identity.owner,
                    &each(|line| Some(&line.table)),
                    &each(|line| Some(line.mode)),
                    &topics,
                    &each(|line| line.sources[0].as_deref()),
                    &each(|line| line.sources[1].as_deref()),
                    &each(|line| line.sources[2].as_deref()),
                    &each(|line| line.sources[3].as_deref()),
                    &self.program,
                ],
            )
            .await?;
        Ok(usize::try_from(row.get::<_, i64>(0)).unwrap_or_default())
    }
}

/// One line per table and mode, however many routes write it.
fn lines(written: Vec<Written>) -> Vec<Line> {
    let mut lines: BTreeMap<(String, &str), Line> = BTreeMap::new();
    for Written { table, topics } in written {
        let mode = match table.mode {
            Mode::Append => "append",
            Mode::InsertIgnore => "insert_ignore",
            // To a move back they are the same: what they have changed cannot be taken back.
            Mode::Upsert | Mode::Update => "upsert",
        };
        let source = |wanted: Source| {
            table.sources.iter().find(|(source, _)| *source == wanted).map(|(_, column)| column.clone())
        };
        let sources = [Source::Topic, Source::Partition, Source::Offset, Source::Timestamp].map(source);
        let key = (table.name.clone(), mode);
        let line = Line { table: table.name.clone(), mode, topics, sources };
        match lines.get_mut(&key) {
            Some(known) => {
                known.topics = match (known.topics.take(), line.topics) {
                    (Some(before), Some(more)) => {
                        let mut topics = [before, more].concat();
                        topics.sort_unstable();
                        topics.dedup();
                        Some(topics)
                    }
                    _ => None,
                };
                // A row says which record it is of only if all of them do.
                for (known, other) in known.sources.iter_mut().zip(line.sources) {
                    if *known != other {
                        *known = None;
                    }
                }
            }
            None => {
                lines.insert(key, line);
            }
        }
    }
    lines.into_values().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Table;

    fn of(topic: Option<&str>, table: Table) -> Written {
        Written { table, topics: topic.map(|topic| vec![topic.to_owned()]) }
    }

    #[test]
    fn routes_to_one_table_make_one_line() {
        let table = || Table::append("t", ["a"]).source_partition("p").source_offset("o");
        let found = lines(vec![
            of(Some("b"), table()),
            of(Some("a"), table().source_topic("topic")),
            of(None, Table::upsert("t", ["a"])),
        ]);
        assert_eq!(found.len(), 2, "{found:?}");
        let append = &found[0];
        assert_eq!((append.mode, &append.topics), ("append", &Some(vec!["a".to_owned(), "b".to_owned()])));
        let sources = [None, Some("p".to_owned()), Some("o".to_owned()), None];
        assert_eq!(append.sources, sources, "rows of topic b do not say their topic");
        assert_eq!((found[1].mode, &found[1].topics), ("upsert", &None));
        let said = Writes(vec![(Some(vec!["a".to_owned()]), true), (Some(vec!["b".to_owned()]), false)]);
        assert_eq!(["a", "b", "c"].map(|topic| said.of(topic)), ["append", "more", "unsaid"]);
        assert_eq!(Writes(vec![(None, true), (Some(vec!["b".to_owned()]), false)]).of("b"), "more");
        assert_eq!(Writes::default().of("a"), "unsaid");
        assert_eq!(lines(vec![of(Some("a"), table()), of(None, table())])[0].topics, None);
    }
}
