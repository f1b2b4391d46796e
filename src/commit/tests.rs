//! The back-stop behind the statement guard, against a real server: through [`Tx::raw`] a handler of these tests
//! does what the guard keeps every other from doing.

use uuid::Uuid;

use super::*;
use crate::batch::{ClaimId, PartitionKey};
use crate::consumer::{Budget, PartitionBuffer};
use crate::db::Identity;
use crate::handler::HandlerFuture;
use crate::record::chunk::RawRecord;
use crate::testing::{Database, Postgres};
use crate::{NextOffset, PartialConfig, SchemaName, migrate};

/// Writes one row, then sends a text unguarded.
struct Raw(&'static str);

impl ErasedHandler for Raw {
    fn handle<'a>(&'a self, _: &'a Batch, tx: &'a mut Tx) -> HandlerFuture<'a> {
        Box::pin(async move {
            tx.raw().batch_execute("INSERT INTO t VALUES (1)").await?;
            Ok(tx.raw().batch_execute(self.0).await?)
        })
    }
}

/// What became of a batch `[5, 6)`, how many rows are durable, and `next_offset`.
async fn apply(text: &'static str, claim: ClaimId) -> (Attempt, i64, i64) {
    let database = Postgres::shared().await.unwrap().fresh_database("commit").await.unwrap();
    migrate::migrate(&mut database.client().await.unwrap(), &SchemaName::default()).await.unwrap();
    let held = "CREATE TABLE t (a int); INSERT INTO highwater.consumer_offset \
                (group_id, topic, partition, next_offset, epoch, claim_token) VALUES ('g', 't', 0, 5, 1, ";
    database.execute(&format!("{held} '{}')", TOKEN)).await.unwrap();
    let attempt = attempt(&database, text, claim).await;
    let next = "SELECT next_offset FROM highwater.consumer_offset";
    let next = database.query(next, &[]).await.unwrap()[0].get(0);
    (attempt, database.count("t").await.unwrap(), next)
}

async fn attempt(database: &Database, text: &'static str, claim: ClaimId) -> Attempt {
    let config = PartialConfig::default()
        .brokers(vec!["127.0.0.1:1".to_owned()])
        .postgres_url(database.url())
        .group("g")
        .topics(vec!["t".to_owned()])
        .finish()
        .unwrap();
    let identity = Identity { owner: Uuid::from_u128(1), group: "g".into(), instance_id: None };
    let db = Arc::new(Db::new(&config, identity).unwrap());
    let budget = Arc::new(Budget::new(1 << 20));
    let key = PartitionKey { topic: "t".into(), partition: 0 };
    let buffer = PartitionBuffer::new(key, claim, NextOffset::new(5).unwrap(), budget);
    let record = RawRecord { offset: 5, value: Some(b"v"), ..RawRecord::default() };
    buffer.push(&record, std::iter::empty(), Instant::now());
    let batch = Arc::new(Batch::new(vec![buffer.take(10, 1 << 20).unwrap()]));
    let handler: Arc<dyn ErasedHandler> = Arc::new(Raw(text));
    let commit = Commit::new(db, Duration::from_secs(30), Arc::default());
    let mut thread = commit.handler_thread();
    let limit = std::pin::pin!(std::future::pending());
    commit.apply(&batch, &handler, &mut thread, limit).await
}

const TOKEN: Uuid = Uuid::from_u128(50);
const CLAIM: ClaimId = ClaimId { epoch: 1, token: TOKEN };

#[tokio::test]
async fn a_batch_is_applied_under_its_claim_only() {
    let (attempt, rows, next) = apply("SELECT 1", CLAIM).await;
    assert!(matches!((&attempt, rows, next), (Attempt::Applied, 1, 6)), "{attempt:?} {rows} {next}");
    for stranger in [ClaimId { epoch: 2, ..CLAIM }, ClaimId { token: Uuid::from_u128(51), ..CLAIM }] {
        let (attempt, rows, next) = apply("SELECT 1", stranger).await;
        assert!(matches!((&attempt, rows, next), (Attempt::Missed, 0, 5)), "{attempt:?} {rows} {next}");
    }
}

/// Whatever transaction it leaves behind, or none: the offset does not move, and it is told from a lost claim.
#[tokio::test]
async fn a_smuggled_commit_is_caught_by_the_transactions_id() {
    for (text, durable) in
        [("COMMIT", 1), ("COMMIT; BEGIN", 1), ("COMMIT AND CHAIN", 1), ("ROLLBACK; BEGIN", 0)]
    {
        let (attempt, rows, next) = apply(text, CLAIM).await;
        assert!(matches!(attempt, Attempt::Smuggled), "{text}: {attempt:?}");
        assert_eq!((rows, next), (durable, 5), "{text}");
    }
}

/// Rows that a transaction prepared for a second phase must not become durable by our COMMIT either.
#[tokio::test]
async fn a_smuggled_prepare_is_caught_too() {
    let (attempt, rows, next) = apply("PREPARE TRANSACTION 'a_smuggled_prepare'; BEGIN", CLAIM).await;
    assert!(matches!(attempt, Attempt::Smuggled), "{attempt:?}");
    assert_eq!((rows, next), (0, 5));
}
