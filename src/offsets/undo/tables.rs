//! The tables that a group's programs have registered, and whether rows can be taken out of them.

use std::collections::BTreeSet;

use tokio_postgres::Row;

use super::super::Offsets;
use super::super::leading::leading_index;
use super::super::plan::{Plan, Step};
use crate::error::{Error, ErrorKind, Result};
use crate::schema::quote_identifier;

/// A registered table whose rows say which record they are of.
#[derive(Debug, Clone)]
pub(super) struct SinkTable {
    schema: String,
    table: String,
    oid: u32,
    pub(super) mode: String,
    /// `None`: of any topic.
    topics: Option<Vec<String>>,
    topic: Option<String>,
    partition: String,
    offset: String,
    /// Some of these columns may be NULL.
    is_nullable: bool,
}

/// What stands in the way of undoing rows.
struct Refusal {
    text: String,
    of_rights: bool,
}

impl SinkTable {
    pub(super) fn name(&self) -> String {
        format!("{}.{}", shown(&self.schema), shown(&self.table))
    }

    /// Whether records of the topic make rows here.
    pub(super) fn holds(&self, topic: &str) -> bool {
        self.topics.as_ref().is_none_or(|topics| topics.iter().any(|name| name == topic))
    }

    fn qualified(&self) -> String {
        format!("{}.{}", quote_identifier(&self.schema), quote_identifier(&self.table))
    }

    /// The column of offsets, quoted.
    fn offset(&self) -> String {
        quote_identifier(&self.offset)
    }

    /// The rows of a partition from an offset on.
    fn from(&self, step: &Step, offset: i64) -> String {
        let topic = self.topic.as_ref().map_or_else(String::new, |column| {
            format!("{} = '{}' AND ", quote_identifier(column), step.topic.replace('\'', "''"))
        });
        format!(
            "{topic}{} = {} AND {} >= {offset}",
            quote_identifier(&self.partition),
            step.partition,
            self.offset()
        )
    }

    pub(super) fn count_from(&self, step: &Step) -> String {
        format!("SELECT count(*) FROM {} WHERE {}", self.qualified(), self.from(step, step.to))
    }

    /// How many of the topmost `portion` rows there are from the step's target on, and the lowest offset among them.
    pub(super) fn top(&self, step: &Step, portion: i64) -> String {
        let (table, offset, rows) = (self.qualified(), self.offset(), self.from(step, step.to));
        format!(
            "SELECT count(*), min(o)::int8 FROM (SELECT {offset} AS o FROM {table} WHERE {rows} ORDER BY {offset} DESC LIMIT \
             {portion}) t"
        )
    }

    pub(super) fn delete_from(&self, step: &Step, offset: i64) -> String {
        format!("DELETE FROM {} WHERE {}", self.qualified(), self.from(step, offset))
    }

    /// Whether something has kept rows there: a trigger, or a rule.
    pub(super) fn any_from(&self, step: &Step, offset: i64) -> String {
        format!("SELECT EXISTS (SELECT FROM {} WHERE {})", self.qualified(), self.from(step, offset))
    }

    /// Whether there are rows of which it is not known of which record they are.
    fn of_nobody(&self) -> String {
        let columns = self.topic.iter().chain([&self.partition, &self.offset]);
        let is_null: Vec<String> =
            columns.map(|column| format!("{} IS NULL", quote_identifier(column))).collect();
        format!("SELECT EXISTS (SELECT FROM {} WHERE {})", self.qualified(), is_null.join(" OR "))
    }

    pub(super) fn create_index(&self) -> String {
        let columns: Vec<String> =
            self.topic.iter().chain([&self.partition, &self.offset]).map(|column| shown(column)).collect();
        format!("CREATE INDEX CONCURRENTLY ON {} ({})", self.name(), columns.join(", "))
    }
}

impl Offsets {
    /// The tables that hold rows of a plan's topics.
    ///
    /// # Errors
    /// If there is none, or one of them cannot be undone.
    pub(super) async fn sink_tables(&self, plan: &Plan) -> Result<Vec<SinkTable>> {
        let sql = format!(
            "SELECT t.table_schema, t.table_name, c.oid, t.mode, t.topics, t.topic_column, t.partition_column, \
               t.offset_column, pg_catalog.has_table_privilege(c.oid, 'SELECT') \
                 AND pg_catalog.has_table_privilege(c.oid, 'DELETE'), pg_catalog.row_security_active(c.oid), \
               (SELECT count(*) FROM ( \
                  SELECT o.topic FROM {offsets} o JOIN {tables} x ON x.group_id = $1 \
                    AND (x.table_schema, x.table_name) = (t.table_schema, t.table_name) \
                    AND (x.topics IS NULL OR o.topic = ANY(x.topics)) WHERE o.group_id = $1 \
                  UNION SELECT unnest(x.topics) FROM {tables} x WHERE x.group_id = $1 \
                    AND (x.table_schema, x.table_name) = (t.table_schema, t.table_name)) u), \
               ARRAY(SELECT a.attname::text FROM pg_catalog.pg_attribute a WHERE a.attrelid = c.oid AND a.attnum > 0 \
                  AND NOT a.attisdropped AND a.attname ~* '(topic|partition|offset)' ORDER BY a.attnum), \
               ARRAY(SELECT DISTINCT r.group_id FROM {tables} r WHERE r.group_id <> $1 \
                  AND (r.table_schema, r.table_name) = (t.table_schema, t.table_name) \
                  AND (t.topic_column IS NULL OR coalesce(r.topics && $2::text[], true)) ORDER BY 1), \
               EXISTS (SELECT FROM pg_catalog.pg_attribute a WHERE a.attrelid = c.oid AND NOT a.attnotnull \
                  AND a.attname IN (t.topic_column, t.partition_column, t.offset_column)) \
             FROM {tables} t LEFT JOIN pg_catalog.pg_class c \
               ON c.oid = pg_catalog.to_regclass(pg_catalog.format('%I.%I', t.table_schema, t.table_name)) \
             WHERE t.group_id = $1 AND (t.topics IS NULL OR t.topics && $2::text[]) ORDER BY 1, 2, 4",
            offsets = self.schema().qualified("consumer_offset"),
            tables = self.schema().qualified("sink_table"),
        );
        let topics: BTreeSet<&str> = plan.steps.iter().map(|step| step.topic.as_str()).collect();
        let topics: Vec<&str> = topics.into_iter().collect();
        let rows = self.client.query(&sql, &[&plan.group, &topics]).await;
        let rows = rows.map_err(|source| {
            Error::postgres(format!("read which tables group `{}` writes", plan.group), source)
        })?;
        if rows.is_empty() {
            return Err(Error::configuration(format!(
                "no program of group `{}` has registered a table that holds records of {}: a TableSink does so within seconds \
                 of a worker's start (within 30 s of its tables', where they come later), another handler by \
                 `Handler::writes`; if one has just started, try again; else undo the rows by hand, see \"Move an \
                 offset\" in docs/operations.md",
                plan.group,
                topics.join(", ")
            )));
        }
        let (mut tables, mut refused) = (Vec::new(), Vec::new());
        for row in &rows {
            match judge(row) {
                Ok(table) => tables.push(table),
                Err(refusal) => refused.push(refusal),
            }
        }
        for table in tables.iter().filter(|table| table.is_nullable) {
            if self.has_rows_of_nobody(table).await? {
                refused.push(Refusal {
                    text: format!(
                        "some rows of {} do not say which record they are of: they were written before its columns were, and \
                         would be left behind",
                        table.name()
                    ),
                    of_rights: false,
                });
            }
        }
        if refused.is_empty() {
            return Ok(tables);
        }
        let of_rights = refused.iter().all(|refusal| refusal.of_rights);
        let kind = if of_rights { ErrorKind::Privilege } else { ErrorKind::Configuration };
        let texts: Vec<&str> = refused.iter().map(|refusal| refusal.text.as_str()).collect();
        Err(Error::new(
            kind,
            format!(
                "rows of group `{}` cannot be undone, and nothing was moved: {}",
                plan.group,
                texts.join("; ")
            ),
        ))
    }

    async fn has_rows_of_nobody(&self, table: &SinkTable) -> Result<bool> {
        let row = self.client.query_one(&table.of_nobody(), &[]).await;
        row.map(|row| row.get(0)).map_err(|source| {
            Error::postgres(format!("look for rows of no record in {}", table.name()), source)
        })
    }

    /// The index that leads to a partition's rows by offset.
    pub(super) async fn index_of(&self, table: &SinkTable) -> Result<Option<String>> {
        let sql = format!("SELECT {}", leading_index("$1", "$4::text", "$2::text", "$3::text"));
        let row = self
            .client
            .query_one(&sql, &[&table.oid, &table.partition, &table.offset, &table.topic])
            .await
            .map_err(|source| Error::postgres(format!("read the indexes of {}", table.name()), source))?;
        Ok(row.get(0))
    }
}

fn judge(row: &Row) -> Result<SinkTable, Refusal> {
    let (schema, table, mode): (String, String, String) = (row.get(0), row.get(1), row.get(3));
    let name = format!("{}.{}", shown(&schema), shown(&table));
    let refuse = |text: String| Refusal { text, of_rights: false };
    let Some(oid) = row.get::<_, Option<u32>>(2) else {
        return Err(refuse(format!(
            "{name} was registered and is not there any more: where its rows have gone is not known. If it was dropped, \
             delete its row of sink_table"
        )));
    };
    let others: Vec<String> = row.get(12);
    if !others.is_empty() {
        return Err(refuse(format!(
            "{name} has rows of group {} as well, and they do not say whose they are",
            others.join(", ")
        )));
    }
    if mode == "upsert" {
        return Err(refuse(format!(
            "{name} is written by upserts: what a row was before is not known any more (without --undo-rows, what is read \
             again is upserted again)"
        )));
    }
    let columns: Vec<String> = row.get(11);
    let would_do = if columns.is_empty() {
        "it has no columns of such a name: add some, fill them by `Table::source_topic`, `source_partition` and \
         `source_offset`"
            .to_owned()
    } else {
        format!(
            "columns that would do: {}; name them by `Table::source_partition` and `source_offset`",
            columns.join(", ")
        )
    };
    let (Some(partition), Some(offset)) = (row.get::<_, Option<String>>(6), row.get::<_, Option<String>>(7))
    else {
        return Err(refuse(format!("rows of {name} do not say which record they are of ({would_do})")));
    };
    let topic: Option<String> = row.get(5);
    if topic.is_none() && row.get::<_, i64>(10) > 1 {
        return Err(refuse(format!(
            "rows of {name} do not say of which topic they are, and the group reads several: name a text column by \
             `Table::source_topic` (in a pipeline: provenance = {{ topic = \"…\" }})"
        )));
    }
    if row.get(9) {
        return Err(refuse(format!(
            "row-level security hides rows of {name} from this role: run it as one that sees them all"
        )));
    }
    if !row.get::<_, bool>(8) {
        let text =
            format!("this role may not read and delete in {name}: GRANT SELECT, DELETE ON {name} TO it");
        return Err(Refusal { text, of_rights: true });
    }
    let (topics, is_nullable) = (row.get(4), row.get(13));
    Ok(SinkTable { schema, table, oid, mode, topics, topic, partition, offset, is_nullable })
}

/// A name as a person writes it.
fn shown(name: &str) -> String {
    let is_plain = name.starts_with(|c: char| c.is_ascii_lowercase() || c == '_')
        && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_');
    if is_plain { name.to_owned() } else { quote_identifier(name) }
}
