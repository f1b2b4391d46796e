//! The sink against a real server, without Kafka: batches are made by hand.

mod doors;
mod floats;
mod input;
mod literals;
mod mark;
mod modes;
mod objects;
mod review;
mod straight;
mod types;
mod ways;

use deadpool_postgres::{Manager, Object, Pool};
use tokio_postgres::NoTls;
use uuid::Uuid;

use super::{Row, Table, TableSink};
use crate::testing::{Database, KeyValue, Postgres, rehearsal};
use crate::{Batch, Handler, HandlerError, Tx};

/// A database with tables, and a pool of two connections to it.
struct Place {
    database: Database,
    pool: Pool,
}

impl Place {
    async fn new(tables: &str) -> Self {
        let postgres = Postgres::shared().await.expect("a server");
        let database = postgres.fresh_database("sink").await.expect("a database");
        database.execute(tables).await.expect("the tables are made");
        let manager = Manager::new(database.url().parse().expect("the URL is one"), NoTls);
        let pool = Pool::builder(manager).max_size(2).build().expect("the pool is built");
        Self { database, pool }
    }

    async fn connection(&self) -> Object {
        self.pool.get().await.expect("the server answers")
    }

    /// Applies a batch as a worker does, and commits it.
    async fn apply(&self, sink: &TableSink, batch: &Batch) -> Result<(), HandlerError> {
        rehearsal::commit(self.connection().await, sink, batch).await
    }

    /// The only column of a query, as text.
    async fn texts(&self, sql: &str) -> Vec<Option<String>> {
        let rows = self.database.query(sql, &[]).await.expect("the query is right");
        rows.iter().map(|row| row.get(0)).collect()
    }
}

/// A batch of partition 3 of topic `t`, from offset 100 on; timestamps rise from 1,700,000,000,000 ms.
fn batch(records: &[KeyValue<'_>]) -> Batch {
    rehearsal::batch(("t", 3), (100, 1_700_000_000_000), records)
}

/// A sink that pushes the same rows for every record.
fn constant<R: Row + Clone + Send + Sync + 'static>(table: Table, rows_of_it: Vec<R>) -> TableSink {
    TableSink::new(table, move |_, rows| rows_of_it.iter().try_for_each(|row| rows.push(row)))
}

fn one_record() -> Batch {
    batch(&[(None, Some("1"))])
}
