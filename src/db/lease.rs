//! A connection for statements of the worker's own: claims, releases, heartbeats, reads.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use deadpool_postgres::Object;
use tokio_postgres::types::ToSql;
use tokio_postgres::{Error, Row, SimpleQueryMessage, Statement, ToStatement};

type Parameters<'a> = &'a [&'a (dyn ToSql + Sync)];

/// A connection on which every statement has a limit of the worker's own: a server that is frozen, or cut off without a
/// word, ends none of them by itself. A statement that the limit strikes may have been carried out.
///
/// It goes back to its pool when it is dropped, unless a statement is still under way on it (the limit has struck, or its
/// future was dropped): whoever got it next would wait behind that.
#[derive(Debug)]
pub(crate) struct Lease {
    connection: Option<Object>,
    limit: Duration,
    under_way: AtomicUsize,
}

impl Lease {
    pub(super) fn new(connection: Object, limit: Duration) -> Self {
        Self { connection: Some(connection), limit, under_way: AtomicUsize::new(0) }
    }

    pub(crate) async fn prepare_cached(&self, sql: &str) -> Result<Statement, Error> {
        self.within(self.raw().prepare_cached(sql)).await?
    }

    pub(crate) async fn query<S>(&self, statement: &S, parameters: Parameters<'_>) -> Result<Vec<Row>, Error>
    where
        S: ?Sized + ToStatement + Sync,
    {
        self.within(self.raw().query(statement, parameters)).await?
    }

    pub(crate) async fn query_one<S>(&self, statement: &S, parameters: Parameters<'_>) -> Result<Row, Error>
    where
        S: ?Sized + ToStatement + Sync,
    {
        self.within(self.raw().query_one(statement, parameters)).await?
    }

    pub(crate) async fn query_opt<S>(
        &self,
        statement: &S,
        parameters: Parameters<'_>,
    ) -> Result<Option<Row>, Error>
    where
        S: ?Sized + ToStatement + Sync,
    {
        self.within(self.raw().query_opt(statement, parameters)).await?
    }

    pub(crate) async fn execute<S>(&self, statement: &S, parameters: Parameters<'_>) -> Result<u64, Error>
    where
        S: ?Sized + ToStatement + Sync,
    {
        self.within(self.raw().execute(statement, parameters)).await?
    }

    pub(crate) async fn simple_query(&self, sql: &str) -> Result<Vec<SimpleQueryMessage>, Error> {
        self.within(self.raw().simple_query(sql)).await?
    }

    pub(crate) async fn batch_execute(&self, sql: &str) -> Result<(), Error> {
        self.within(self.raw().batch_execute(sql)).await?
    }

    /// Begins a transaction, rolled back when it is dropped.
    pub(crate) async fn transaction(&mut self) -> Result<Transaction<'_>, Error> {
        let Self { connection, limit, under_way } = self;
        let connection = connection.as_mut().expect(NOT_GONE);
        let inner = within(under_way, *limit, connection.transaction()).await??;
        Ok(Transaction { inner, limit: *limit, under_way })
    }

    /// Waits for something that uses this connection's [`raw`](Self::raw) side, as long as for a statement.
    pub(crate) async fn within<T>(&self, work: impl Future<Output = T>) -> Result<T, Error> {
        within(&self.under_way, self.limit, work).await
    }

    /// The connection itself, whose statements have no limit.
    pub(crate) fn raw(&self) -> &Object {
        self.connection.as_ref().expect(NOT_GONE)
    }

    pub(super) fn created(&self) -> Instant {
        Object::metrics(self.raw()).created
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if let Some(connection) = self.connection.take()
            && *self.under_way.get_mut() > 0
        {
            drop(Object::take(connection));
        }
    }
}

/// A transaction whose statements have the limit of its connection.
pub(crate) struct Transaction<'a> {
    inner: deadpool_postgres::Transaction<'a>,
    limit: Duration,
    under_way: &'a AtomicUsize,
}

impl Transaction<'_> {
    pub(crate) async fn execute(&self, sql: &str, parameters: Parameters<'_>) -> Result<u64, Error> {
        within(self.under_way, self.limit, self.inner.execute(sql, parameters)).await?
    }

    pub(crate) async fn commit(self) -> Result<(), Error> {
        within(self.under_way, self.limit, self.inner.commit()).await?
    }
}

const NOT_GONE: &str = "the connection leaves only with the lease";

/// Counts what is under way: what is not waited for to its end stays counted.
async fn within<T>(
    under_way: &AtomicUsize,
    limit: Duration,
    work: impl Future<Output = T>,
) -> Result<T, Error> {
    under_way.fetch_add(1, Ordering::Relaxed);
    let done = tokio::time::timeout(limit, work).await.map_err(|_| Error::__private_api_timeout())?;
    under_way.fetch_sub(1, Ordering::Relaxed);
    Ok(done)
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use uuid::Uuid;

    use crate::PartialConfig;
    use crate::db::{Db, Identity};
    use crate::testing::{Postgres, Proxy};
    use crate::verdict::postgres::classify;

    fn db(url: &str) -> Db {
        let config = PartialConfig::default()
            .brokers(vec!["localhost:1".to_owned()])
            .postgres_url(url)
            .group("g")
            .topics(vec!["t".to_owned()])
            .lock_timeout(Duration::from_millis(100))
            .finish()
            .unwrap();
        let identity = Identity { owner: Uuid::new_v4(), group: "g".into(), instance_id: None };
        Db::new(&config, identity).unwrap()
    }

    #[tokio::test]
    async fn what_a_time_out_interrupts_does_not_go_back_to_the_pool() {
        let postgres = Postgres::shared().await.unwrap();
        let db = db(&postgres.admin_url());
        let busy = async {
            let client = db.control().await.unwrap();
            client.batch_execute("SELECT pg_sleep(60)").await.unwrap();
        };
        assert!(tokio::time::timeout(Duration::from_secs(3), busy).await.is_err());
        assert_eq!(db.control.status().size, 0, "it is gone");

        let client = db.control().await.unwrap();
        client.batch_execute("SELECT 1").await.unwrap();
        drop(client);
        assert_eq!(db.control.status().available, 1, "it may be used again");
    }

    /// Nobody says that the connection is dead: neither a statement nor a transaction waits for ever.
    #[tokio::test]
    async fn a_server_that_says_no_more_holds_nobody_for_ever() {
        let postgres = Postgres::shared().await.unwrap();
        let proxy = Proxy::before_postgres(&postgres.admin_url()).await.unwrap();
        let db = db(&proxy.url(&postgres.admin_url()).unwrap());
        let (statement, mut transaction) = (db.control().await.unwrap(), db.control().await.unwrap());
        proxy.stall();
        let began = Instant::now();
        let (asked, begun) = tokio::join!(statement.execute("SELECT 1", &[]), async {
            transaction.transaction().await.map(drop)
        });
        for error in [asked.map(drop).unwrap_err(), begun.unwrap_err()] {
            assert!(!classify(&error).definite, "it may have been carried out: {error}");
        }
        drop((statement, transaction));
        assert_eq!(db.control.status().size, 0, "they are gone");
        // Connecting, too.
        assert!(db.control().await.is_err());
        assert!(began.elapsed() < Duration::from_secs(60), "{:?}", began.elapsed());
        proxy.resume();
        db.control().await.unwrap().execute("SELECT 1", &[]).await.unwrap();
    }
}
