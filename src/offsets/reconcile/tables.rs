//! Which tables are compared: those that the group's programs have registered, or those that are named; by which columns
//! a row says which record it is of, and which index helps.

use std::collections::{BTreeMap, BTreeSet};

use tokio_postgres::Client;

use super::options::TableChoice;
use super::report::ComparedTable;
use crate::error::{Error, Result};
use crate::schema::{SchemaName, quote_identifier};

/// What a row is expected to call its provenance where nobody has said.
const GUESSES: [&str; 3] = ["source_topic", "source_partition", "source_offset"];

/// A table that is compared.
#[derive(Debug, Clone)]
pub(super) struct Table {
    pub(super) shown: ComparedTable,
    /// As a statement names it.
    pub(super) sql: String,
    /// Of whose records it may have rows.
    pub(super) topics: BTreeSet<String>,
    /// Topics whose records other groups write into it.
    pub(super) topics_of_others: BTreeSet<String>,
}

impl Table {
    pub(super) fn topic_column(&self) -> Option<String> {
        self.shown.topic_column.as_deref().map(quote_identifier)
    }

    pub(super) fn partition_column(&self) -> String {
        quote_identifier(&self.shown.partition_column)
    }

    pub(super) fn offset_column(&self) -> String {
        quote_identifier(&self.shown.offset_column)
    }

    pub(super) fn is_append(&self) -> bool {
        self.shown.mode == "append"
    }

    /// What would make it quick.
    pub(super) fn index_hint(&self) -> String {
        let columns = [self.topic_column(), Some(self.partition_column()), Some(self.offset_column())];
        let columns: Vec<String> = columns.into_iter().flatten().collect();
        format!(
            "{}: no index leads with where a row comes from, so that it is sorted as a whole; CREATE INDEX CONCURRENTLY ON \
             {} ({}) makes this quick, and undoing rows, too",
            self.shown.name,
            self.sql,
            columns.join(", ")
        )
    }
}

/// What a program has registered.
#[derive(Debug, Clone, Default)]
struct Registered {
    mode: String,
    /// None: any.
    topics: Option<Vec<String>>,
    columns: [Option<String>; 3],
}

/// Where the group and what it reads are.
pub(super) struct Group<'a> {
    pub(super) client: &'a Client,
    pub(super) schema: &'a SchemaName,
    pub(super) name: &'a str,
    /// All that it reads.
    pub(super) topics: &'a BTreeSet<String>,
    /// What is compared of them.
    pub(super) selected: &'a BTreeSet<String>,
}

impl Group<'_> {
    /// The named tables; all that are registered, where none is named. Those that cannot be compared are left out, and a
    /// note says why; one that was named is refused.
    pub(super) async fn tables(&self, choices: &[TableChoice]) -> Result<(Vec<Table>, Vec<String>)> {
        let registered = self.registered().await?;
        let mut tables = Vec::new();
        let mut notes = Vec::new();
        if !choices.is_empty() {
            for choice in choices {
                let Some((schema, name)) = self.look_up(&choice.name).await? else {
                    return Err(Error::configuration(format!(
                        "there is no table {} that this role may see",
                        choice.name
                    )));
                };
                let known = registered.get(&(schema.clone(), name.clone()));
                let table = self.table(&schema, &name, known, choice).await?;
                tables.push(table.map_err(Error::configuration)?);
            }
            return Ok((tables, notes));
        }
        for ((schema, name), known) in &registered {
            let quoted = format!("{}.{}", quote_identifier(schema), quote_identifier(name));
            let choice = TableChoice::new(quoted.as_str());
            match self.look_up(&quoted).await? {
                None => notes.push(format!("{quoted} is registered, and not there (any more): not compared")),
                Some(_) => match self.table(schema, name, Some(known), &choice).await? {
                    Ok(table) => tables.push(table),
                    Err(why) => notes.push(format!("not compared: {why}")),
                },
            }
        }
        if tables.is_empty() {
            notes.push(
                "no table was compared: no program of the group has registered one whose rows say which record they are of; \
                 name one by --table"
                    .to_owned(),
            );
        }
        Ok((tables, notes))
    }

    async fn registered(&self) -> Result<BTreeMap<(String, String), Registered>> {
        let sql = format!(
            "SELECT table_schema, table_name, mode, topics, topic_column, partition_column, offset_column \
             FROM {} WHERE group_id = $1 ORDER BY mode",
            self.schema.qualified("sink_table")
        );
        let rows = self.client.query(&sql, &[&self.name]).await.map_err(failed)?;
        let mut found: BTreeMap<(String, String), Registered> = BTreeMap::new();
        for row in rows {
            let more = Registered {
                mode: row.get(2),
                topics: row.get(3),
                columns: [row.get(4), row.get(5), row.get(6)],
            };
            found
                .entry((row.get(0), row.get(1)))
                .and_modify(|known| {
                    // Ordered by mode: the last one promises least. What one of them does not fill says nothing.
                    known.mode.clone_from(&more.mode);
                    known.topics = match (known.topics.take(), &more.topics) {
                        (Some(some), Some(more)) => Some([some, more.clone()].concat()),
                        _ => None,
                    };
                    for (known, more) in known.columns.iter_mut().zip(&more.columns) {
                        if known != more {
                            *known = None;
                        }
                    }
                })
                .or_insert(more);
        }
        Ok(found)
    }

    /// Schema and name of a table, as SQL reads the name.
    async fn look_up(&self, name: &str) -> Result<Option<(String, String)>> {
        let sql = "SELECT n.nspname::text, c.relname::text FROM pg_catalog.pg_class c \
                   JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
                   WHERE c.oid = pg_catalog.to_regclass($1::text) AND c.relkind IN ('r', 'p', 'v', 'm', 'f')";
        let row = self.client.query_opt(sql, &[&name]).await.map_err(failed)?;
        Ok(row.map(|row| (row.get(0), row.get(1))))
    }

    /// The inner error says why it cannot be compared.
    async fn table(
        &self,
        schema: &str,
        name: &str,
        known: Option<&Registered>,
        choice: &TableChoice,
    ) -> Result<Result<Table, String>> {
        let sql = format!("{}.{}", quote_identifier(schema), quote_identifier(name));
        let types = self.columns(&sql).await?;
        let shown_name = self.shown_name(&sql).await?;
        let given = [&choice.topic_column, &choice.partition_column, &choice.offset_column];
        let mut columns: [Option<String>; 3] = [None, None, None];
        for (index, column) in columns.iter_mut().enumerate() {
            let guess = Some(GUESSES[index].to_owned())
                .filter(|guess| known.is_none() && types.contains_key(guess.as_str()));
            *column = given[index]
                .clone()
                .or_else(|| known.and_then(|known| known.columns[index].clone()))
                .or(guess);
        }
        let [topic_column, partition_column, offset_column] = columns;
        let (Some(partition_column), Some(offset_column)) = (partition_column, offset_column) else {
            return Ok(Err(format!(
                "the rows of {shown_name} do not say which partition and offset they are of: name the columns by \
                 --partition-column and --offset-column, or have the sink fill them (`Table::source_partition`, \
                 `source_offset`)"
            )));
        };
        for (column, is_number) in [
            (topic_column.as_deref(), false),
            (Some(&*partition_column), true),
            (Some(&*offset_column), true),
        ] {
            let Some(column) = column else { continue };
            match types.get(column) {
                None => return Ok(Err(format!("{shown_name} has no column {}", quote_identifier(column)))),
                Some(kind) if is_number && !matches!(&**kind, "int2" | "int4" | "int8" | "numeric") => {
                    return Ok(Err(format!(
                        "column {} of {shown_name} is of type {kind}: a partition or an offset is a whole number",
                        quote_identifier(column)
                    )));
                }
                Some(_) => {}
            }
        }
        let of_it = known.and_then(|known| known.topics.clone());
        let mut topics: BTreeSet<String> = match &of_it {
            Some(some) => some.iter().filter(|topic| self.topics.contains(*topic)).cloned().collect(),
            None => self.topics.clone(),
        };
        if topic_column.is_none() && topics.len() != 1 {
            topics = topics.intersection(self.selected).cloned().collect();
            if topics.len() != 1 {
                return Ok(Err(format!(
                    "the rows of {shown_name} do not say their topic, and the group reads several: name the column by \
                     --topic-column, or the topic by --topic"
                )));
            }
        }
        let index = self
            .index(&sql, [topic_column.as_deref(), Some(&partition_column), Some(&offset_column)])
            .await?;
        let topics_of_others = self.topics_of_others(schema, name).await?;
        let shown = ComparedTable {
            name: shown_name,
            mode: known.map_or_else(|| "append".to_owned(), |known| known.mode.clone()),
            registered: known.is_some(),
            topic_column,
            partition_column,
            offset_column,
            index,
        };
        Ok(Ok(Table { shown, sql, topics, topics_of_others }))
    }

    /// Type names, by column.
    async fn columns(&self, table: &str) -> Result<BTreeMap<String, String>> {
        let sql = "SELECT a.attname::text, coalesce(b.typname, t.typname)::text FROM pg_catalog.pg_attribute a \
                   JOIN pg_catalog.pg_type t ON t.oid = a.atttypid LEFT JOIN pg_catalog.pg_type b ON b.oid = t.typbasetype \
                   WHERE a.attrelid = pg_catalog.to_regclass($1::text) AND a.attnum > 0 AND NOT a.attisdropped";
        let rows = self.client.query(sql, &[&table]).await.map_err(failed)?;
        Ok(rows.iter().map(|row| (row.get(0), row.get(1))).collect())
    }

    /// As short as the search path allows.
    async fn shown_name(&self, table: &str) -> Result<String> {
        let sql = "SELECT pg_catalog.to_regclass($1::text)::text";
        let row = self.client.query_one(sql, &[&table]).await.map_err(failed)?;
        Ok(row.get(0))
    }

    /// An index that begins with these columns: partition and offset in this order, the topic before them, or not at all.
    async fn index(&self, table: &str, columns: [Option<&str>; 3]) -> Result<Option<String>> {
        let sql = "SELECT c.relname::text, ARRAY(SELECT a.attname::text FROM unnest(i.indkey::int2[]) WITH ORDINALITY k(n, at) \
                     JOIN pg_catalog.pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.n ORDER BY k.at LIMIT 3) \
                   FROM pg_catalog.pg_index i JOIN pg_catalog.pg_class c ON c.oid = i.indexrelid \
                   JOIN pg_catalog.pg_am m ON m.oid = c.relam \
                   WHERE i.indrelid = pg_catalog.to_regclass($1::text) AND i.indisvalid AND i.indpred IS NULL \
                     AND i.indexprs IS NULL AND m.amname = 'btree' ORDER BY 1";
        let rows = self.client.query(sql, &[&table]).await.map_err(failed)?;
        let [topic, partition, offset] = columns;
        let helps = |names: &[String]| {
            let names: Vec<Option<&str>> = names.iter().map(|name| Some(name.as_str())).collect();
            names.starts_with(&[partition, offset])
                || (topic.is_some() && names.starts_with(&[topic, partition, offset]))
        };
        Ok(rows.iter().find(|row| helps(&row.get::<_, Vec<String>>(1))).map(|row| row.get(0)))
    }

    async fn topics_of_others(&self, schema: &str, name: &str) -> Result<BTreeSet<String>> {
        let sql = format!(
            "SELECT DISTINCT unnest(coalesce(s.topics, ARRAY(SELECT g.topic FROM {topics} g WHERE g.group_id = s.group_id))) \
             FROM {tables} s WHERE s.table_schema = $1 AND s.table_name = $2 AND s.group_id <> $3",
            topics = self.schema.qualified("group_topic"),
            tables = self.schema.qualified("sink_table"),
        );
        let rows = self.client.query(&sql, &[&schema, &name, &self.name]).await.map_err(failed)?;
        Ok(rows.iter().map(|row| row.get(0)).collect())
    }
}

fn failed(source: tokio_postgres::Error) -> Error {
    Error::postgres("look up the tables to compare", source)
}
