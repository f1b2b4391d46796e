//! Reading rows and dead letters in the order of their records, a portion at a time, out of one snapshot.

use std::collections::{BTreeSet, VecDeque};

use tokio_postgres::types::ToSql;
use tokio_postgres::{Portal, Transaction};

use super::compare::{Dead, DeadState};
use super::tables::Table;
use crate::schema::SchemaName;

/// Rows of an answer that are asked for at a time.
const PORTION: i32 = 10_000;

/// Something at an offset.
#[derive(Debug, Clone, Copy)]
pub(super) struct Found {
    pub(super) partition: i32,
    pub(super) offset: i64,
    /// How many rows; of a dead letter, what it is (see [`dead`](Self::dead)).
    pub(super) count: u64,
}

/// An answer that is read in portions.
pub(super) struct Stream<'t> {
    transaction: &'t Transaction<'t>,
    portal: Portal,
    portion: VecDeque<Found>,
    is_over: bool,
}

impl<'t> Stream<'t> {
    async fn open(
        transaction: &'t Transaction<'t>,
        sql: &str,
        parameters: &[&(dyn ToSql + Sync)],
    ) -> Result<Self, tokio_postgres::Error> {
        let statement = transaction.prepare(sql).await?;
        let portal = transaction.bind(&statement, parameters).await?;
        Ok(Self { transaction, portal, portion: VecDeque::new(), is_over: false })
    }

    /// How many rows there are of each record, in the order of the records.
    pub(super) async fn rows(
        transaction: &'t Transaction<'t>,
        table: &Table,
        topic: &str,
        partition: Option<i32>,
    ) -> Result<Self, tokio_postgres::Error> {
        let (p, o) = (table.partition_column(), table.offset_column());
        let mut parameters: Vec<&(dyn ToSql + Sync)> = Vec::new();
        let mut which = format!("{p} IS NOT NULL AND {o} IS NOT NULL");
        if let Some(column) = table.topic_column() {
            parameters.push(&topic);
            which += &format!(" AND {column} = ${}::text", parameters.len());
        }
        if let Some(partition) = &partition {
            parameters.push(partition);
            which += &format!(" AND {p} = ${}::int4", parameters.len());
        }
        let sql = format!(
            "SELECT {p}::int8, {o}::int8, count(*) FROM {} WHERE {which} GROUP BY {p}, {o} ORDER BY {p}, {o}",
            table.sql
        );
        Self::open(transaction, &sql, &parameters).await
    }

    /// The dead letters, those that a move back has superseded left out.
    pub(super) async fn dead_letters(
        transaction: &'t Transaction<'t>,
        schema: &SchemaName,
        (group, topic, topic_id): (&str, &str, &str),
        partition: Option<i32>,
    ) -> Result<Self, tokio_postgres::Error> {
        let sql = format!(
            "SELECT partition::int8, record_offset, (CASE state WHEN 'redriven' THEN 2 WHEN 'discarded' THEN 1 ELSE 0 END * 2 \
               + (worker IS NOT NULL)::int4)::int8 FROM {} \
             WHERE group_id = $1 AND topic = $2 AND topic_id = $3 AND partition = coalesce($4, partition) \
               AND state <> 'superseded' ORDER BY partition, record_offset",
            schema.qualified("dead_letter")
        );
        Self::open(transaction, &sql, &[&group, &topic, &topic_id, &partition]).await
    }

    /// The next of `partition`. What is of partitions before it, which the group does not have, is passed over.
    pub(super) async fn peek(&mut self, partition: i32) -> Result<Option<Found>, tokio_postgres::Error> {
        loop {
            match self.portion.front() {
                Some(found) if found.partition < partition => drop(self.portion.pop_front()),
                Some(found) => return Ok(Some(*found).filter(|found| found.partition == partition)),
                None if self.is_over => return Ok(None),
                None => self.fetch().await?,
            }
        }
    }

    pub(super) fn pop(&mut self) {
        self.portion.pop_front();
    }

    async fn fetch(&mut self) -> Result<(), tokio_postgres::Error> {
        let rows = self.transaction.query_portal(&self.portal, PORTION).await?;
        self.is_over = rows.len() < usize::try_from(PORTION).unwrap_or(usize::MAX);
        for row in rows {
            let (partition, offset, count): (i64, i64, i64) = (row.get(0), row.get(1), row.get(2));
            // Of no partition that there can be: told apart.
            let Ok(partition) = i32::try_from(partition) else { continue };
            self.portion.push_back(Found {
                partition,
                offset,
                count: u64::try_from(count).unwrap_or_default(),
            });
        }
        Ok(())
    }
}

impl Found {
    pub(super) fn dead(self) -> Dead {
        let state = match self.count / 2 {
            0 => DeadState::Waiting,
            1 => DeadState::Discarded,
            _ => DeadState::Redriven,
        };
        Dead { state, by_worker: self.count % 2 == 1 }
    }
}

/// Rows that are of nothing that the group reads.
#[derive(Debug)]
pub(super) struct Stray {
    /// None: the row names none, nor does its table.
    pub(super) topic: Option<String>,
    pub(super) partition: Option<i64>,
    pub(super) offset: Option<i64>,
    pub(super) rows: i64,
    /// Its topic, its partition or its offset is NULL.
    pub(super) is_of_nothing: bool,
}

/// Rows whose topic or partition the group does not have, or that name none, by topic and partition. What other groups
/// write is theirs. `topics`: of these alone; none: of any.
pub(super) async fn strays(
    transaction: &Transaction<'_>,
    schema: &SchemaName,
    group: &str,
    table: &Table,
    topics: Option<&BTreeSet<String>>,
) -> Result<Vec<Stray>, tokio_postgres::Error> {
    let (p, o) = (table.partition_column(), table.offset_column());
    let offsets = schema.qualified("consumer_offset");
    let (nulls, topic, known, left_out) = match table.topic_column() {
        Some(column) => (
            format!("({p} IS NULL OR {o} IS NULL OR {column} IS NULL)"),
            format!("{column}::text"),
            format!(
                "({column}::text, {p}::int8) IN (SELECT c.topic, c.partition FROM {offsets} c \
                 WHERE c.group_id = $1 AND $2::text IS NOT NULL)"
            ),
            match topics {
                Some(_) => format!("{column}::text <> ALL($3::text[])"),
                None => format!("{column}::text = ANY($3::text[])"),
            },
        ),
        // All of one topic.
        None => (
            format!("({p} IS NULL OR {o} IS NULL)"),
            "$2::text".to_owned(),
            format!(
                "{p}::int8 IN (SELECT c.partition FROM {offsets} c WHERE c.group_id = $1 AND c.topic = $2)"
            ),
            "$3::text[] IS NULL".to_owned(),
        ),
    };
    let sql = format!(
        "SELECT {topic}, {p}::int8, min({o})::int8, count(*), {nulls} FROM {} \
         WHERE {nulls} OR NOT ({known}) AND NOT ({left_out}) GROUP BY 1, 2, 5 ORDER BY 5, 1, 2 LIMIT 1000",
        table.sql
    );
    let only_topic = table.topics.first().map(String::as_str).unwrap_or_default();
    let named: Vec<&String> = topics.unwrap_or(&table.topics_of_others).iter().collect();
    let rows = transaction.query(&sql, &[&group, &only_topic, &named]).await?;
    Ok(rows
        .iter()
        .map(|row| Stray {
            topic: row.get(0),
            partition: row.get(1),
            offset: row.get(2),
            rows: row.get(3),
            is_of_nothing: row.get(4),
        })
        .collect())
}
