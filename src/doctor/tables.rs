//! What somebody has done to the tables, and whether rows of the sinks can be found by their records.

use tokio_postgres::Transaction;

use super::{Checked, Finding, Patient, listed};
use crate::offsets::leading_index;

/// Triggers, rules, row security and further indexes on Highwater's own tables.
pub(super) async fn damage(patient: &Patient<'_>, client: &Transaction<'_>) -> Checked {
    const CHECK: &str = "tables";
    let schema = patient.schema().as_str();
    let sql = "SELECT c.relname::text, 'trigger ' || t.tgname FROM pg_catalog.pg_trigger t \
                 JOIN pg_catalog.pg_class c ON c.oid = t.tgrelid JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
                 WHERE n.nspname = $1 AND NOT t.tgisinternal AND t.tgenabled <> 'D' \
               UNION ALL SELECT c.relname::text, 'rule ' || r.rulename FROM pg_catalog.pg_rewrite r \
                 JOIN pg_catalog.pg_class c ON c.oid = r.ev_class JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
                 WHERE n.nspname = $1 AND r.rulename <> '_RETURN' \
               UNION ALL SELECT c.relname::text, 'row-level security' FROM pg_catalog.pg_class c \
                 JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = $1 AND c.relrowsecurity \
               ORDER BY 1, 2";
    let mut findings = Vec::new();
    for row in client.query(sql, &[&schema]).await? {
        let (table, what): (String, String) = (row.get(0), row.get(1));
        findings.push(
            Finding::warn(CHECK, format!("it has a {what} that is not Highwater's")).of(table).cure(
                "take it away, unless you know that it keeps no update from its row: the fence counts rows",
            ),
        );
    }
    let sql = "SELECT i.indexrelid::regclass::text FROM pg_catalog.pg_index i \
               JOIN pg_catalog.pg_class c ON c.oid = i.indrelid JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
               WHERE n.nspname = $1 AND c.relname = 'consumer_offset' AND NOT i.indisprimary ORDER BY 1";
    let indexes: Vec<String> = client.query(sql, &[&schema]).await?.iter().map(|row| row.get(0)).collect();
    if !indexes.is_empty() {
        findings.push(
            Finding::warn(CHECK, format!("it has an index that is not Highwater's: {}", listed(&indexes)))
                .of("consumer_offset")
                .cure("drop it, or index a copy: it makes every commit write the index, too"),
        );
    }
    if findings.is_empty() {
        findings.push(Finding::ok(CHECK, "nobody has added triggers, rules, policies or indexes to them"));
    }
    Ok(findings)
}

/// Whether rows can be undone from an offset on without reading the whole table.
pub(super) async fn undo_indexes(patient: &Patient<'_>, client: &Transaction<'_>) -> Checked {
    const CHECK: &str = "undo-index";
    let groups: Vec<&String> = patient.subjects.groups.iter().collect();
    let sql = format!(
        "SELECT DISTINCT format('%I.%I', t.table_schema, t.table_name), t.mode, t.partition_column, t.offset_column, \
           c.oid IS NULL, {index}, \
           concat_ws(', ', quote_ident(t.topic_column), quote_ident(t.partition_column), quote_ident(t.offset_column)), \
           (SELECT min(format('%I.%I', u.table_schema, u.table_name)) FROM {registered} u WHERE u.group_id = t.group_id \
              AND u.mode = 'upsert' AND coalesce(u.topics && t.topics, true)) \
         FROM {registered} t LEFT JOIN pg_catalog.pg_class c \
           ON c.oid = pg_catalog.to_regclass(format('%I.%I', t.table_schema, t.table_name)) \
         WHERE t.group_id = ANY($1) ORDER BY 1, 2",
        index = leading_index("c.oid", "t.topic_column", "t.partition_column", "t.offset_column"),
        registered = patient.schema().qualified("sink_table"),
    );
    let mut findings = unregistered(patient, client).await?;
    for row in client.query(&sql, &[&groups]).await? {
        let (table, mode): (String, String) = (row.get(0), row.get(1));
        let (partition, offset): (Option<String>, Option<String>) = (row.get(2), row.get(3));
        let (missing, index, upserted): (bool, Option<String>, Option<String>) =
            (row.get(4), row.get(5), row.get(7));
        findings.push(match (missing, upserted, partition.and(offset), index) {
            (true, ..) => Finding::warn(CHECK, "a program has registered it, and it is not there").of(&table).cure(
                "correct the search_path or the table's name; what is gone for good: DELETE FROM highwater.sink_table …",
            ),
            (_, Some(_), ..) if mode == "upsert" => Finding::ok(
                CHECK,
                "upserts cannot be undone, so that --undo-rows is refused for its topics; a move back without it writes them \
                 again",
            )
            .of(&table),
            (_, Some(upserted), ..) => Finding::ok(
                CHECK,
                format!("records of its topics are upserted into {upserted} as well, so that --undo-rows is refused for them"),
            )
            .of(&table),
            (_, _, None, _) => Finding::warn(CHECK, "its rows do not say which record they are of: --undo-rows is refused")
                .of(&table)
                .cure("add columns for partition and offset, and name them by `Table::source_partition` and `source_offset`"),
            (_, _, _, None) => Finding::warn(CHECK, "no index leads to a partition's rows by offset: an undo reads all of it")
                .of(&table)
                .cure(format!("CREATE INDEX CONCURRENTLY ON {table} ({})", row.get::<_, &str>(6))),
            (_, _, _, Some(index)) => Finding::ok(CHECK, format!("{index} leads to rows by offset")).of(&table),
        });
    }
    if findings.is_empty() {
        findings.push(Finding::ok(CHECK, "no group has applied anything yet"));
    }
    Ok(findings)
}

/// Groups that have applied records, and of which nobody has said where to: what they write is neither undone nor
/// compared, nor are the rights to it looked at.
async fn unregistered(patient: &Patient<'_>, client: &Transaction<'_>) -> Checked {
    let groups: Vec<&String> = patient.subjects.groups.iter().collect();
    let sql = format!(
        "SELECT DISTINCT o.group_id FROM {offsets} o WHERE o.group_id = ANY($1) AND o.committed_at IS NOT NULL \
           AND NOT EXISTS (SELECT FROM {registered} t WHERE t.group_id = o.group_id) ORDER BY 1",
        offsets = patient.schema().qualified("consumer_offset"),
        registered = patient.schema().qualified("sink_table"),
    );
    let found = client.query(&sql, &[&groups]).await?;
    Ok(found
        .iter()
        .map(|row| {
            let text = "its program has registered no table: what it writes cannot be undone by --undo-rows nor counted by \
                        reconcile, and rights to it are not looked at here";
            Finding::warn("undo-index", text).of(row.get::<_, &str>(0)).cure(
                "name the tables in `Handler::writes` (docs/handlers.md), or use a TableSink, which does it by itself; if \
                 it writes none, leave it",
            )
        })
        .collect())
}
