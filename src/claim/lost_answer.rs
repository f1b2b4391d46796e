//! Claims whose answer was lost, and whose partition was revoked before the next one: the row may say that this process
//! holds it, which it does not know, and so would never release. A successor that was fenced by such a claim would sit
//! out its whole backoff, for the owner is live.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use deadpool_postgres::PoolError;
use uuid::Uuid;

use super::Claims;
use crate::batch::PartitionKey;
use crate::db::DbError;
use crate::verdict::postgres::classify;

/// How often a row is looked at that a lost claim may still take: its statement may wait for a lock.
const LOOK: Duration = Duration::from_millis(500);
/// For how long, from when the database answers again: a server that was frozen carries out then what had reached it.
/// The network may deliver a statement for as long as it takes a dead peer for alive (10 s), and the server ends that of a
/// client that is gone, and in any case one that lasts longer (`lock_timeout` and some seconds, by default ten). What is
/// left then is released by this process's end.
const LOOK_LIMIT: Duration = Duration::from_secs(25);

/// The tokens of claims that may have been carried out.
#[derive(Debug, Default)]
pub(super) struct LostAnswers(HashMap<PartitionKey, Vec<Uuid>>);

impl LostAnswers {
    /// Notes the tokens of a claim that failed, if that is not certain.
    pub(super) fn note(&mut self, error: &DbError, keys: &[PartitionKey], tokens: &[Uuid]) {
        if let DbError::Postgres(error) = error
            && !classify(error).definite
        {
            for (key, token) in keys.iter().zip(tokens) {
                self.0.entry(key.clone()).or_default().push(*token);
            }
        }
    }

    /// Those of one partition.
    pub(super) fn of(&mut self, key: &PartitionKey) -> Self {
        Self(self.0.remove_entry(key).into_iter().collect())
    }

    /// Releases, in the background, what such a claim has taken or will take: the partition is not ours any more. Never
    /// a later claim of this process, which has another token.
    pub(super) fn give_back(&mut self, claims: &Arc<Claims>, key: &PartitionKey) {
        let Some(tokens) = self.0.remove(key) else { return };
        let (claims, key) = (Arc::clone(claims), key.clone());
        tokio::spawn(async move {
            let mut until = Instant::now() + LOOK_LIMIT;
            loop {
                for token in &tokens {
                    match claims.release_lost(&key, *token).await {
                        Ok(true) => {
                            tracing::info!(partition = %key, "released a claim whose answer was lost");
                            return;
                        }
                        Ok(false) => {}
                        // This worker has ended.
                        Err(DbError::Pool(PoolError::Closed)) => return,
                        Err(error) => {
                            until = Instant::now() + LOOK_LIMIT;
                            claims.db().heed(&error);
                            tracing::debug!(partition = %key, %error, "could not look for a lost claim");
                        }
                    }
                }
                if Instant::now() > until {
                    return;
                }
                tokio::time::sleep(LOOK).await;
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::claim::Arbiter;
    use crate::db::{Db, Identity};
    use crate::testing::{Database, Postgres, Proxy, wait_until};
    use crate::{PartialConfig, SchemaName, migrate};

    const PATIENCE: Duration = Duration::from_secs(30);

    fn key() -> PartitionKey {
        PartitionKey { topic: "t".into(), partition: 0 }
    }

    async fn database() -> Database {
        let database = Postgres::shared().await.unwrap().fresh_database("lost_answer").await.unwrap();
        migrate::migrate(&mut database.client().await.unwrap(), &SchemaName::default()).await.unwrap();
        let row = "INSERT INTO highwater.consumer_offset (group_id, topic, partition, next_offset, epoch, claim_token) \
                   VALUES ('g', 't', 0, 5, 1, gen_random_uuid())";
        database.execute(row).await.unwrap();
        database
    }

    fn claims(url: &str) -> Arc<Claims> {
        let config = PartialConfig::default()
            .brokers(vec!["127.0.0.1:1".to_owned()])
            .postgres_url(url)
            .group("g")
            .topics(vec!["t".to_owned()])
            .finish()
            .unwrap();
        let identity = Identity { owner: Uuid::new_v4(), group: "g".into(), instance_id: None };
        Arc::new(Claims::new(Arc::new(Db::new(&config, identity).unwrap()), Arbiter::Kafka))
    }

    async fn owner(database: &Database) -> Option<Uuid> {
        database.query("SELECT owner FROM highwater.consumer_offset", &[]).await.unwrap()[0].get(0)
    }

    /// The claim waits for a lock when its connection goes half-open, is carried out after that, and nobody hears of it.
    #[tokio::test]
    async fn a_claim_that_is_carried_out_unheard_is_given_back() {
        let database = database().await;
        let proxy = Proxy::before_postgres(database.url()).await.unwrap();
        let claims = claims(&proxy.url(database.url()).unwrap());
        let row = claims.rows(&[key()]).await.unwrap().remove(0);
        let mut other = database.client().await.unwrap();
        let lock = other.transaction().await.unwrap();
        lock.execute("SELECT FROM highwater.consumer_offset FOR UPDATE", &[]).await.unwrap();
        let token = Uuid::new_v4();
        let claim = claims.claim_waiting(&row, token);
        let unheard = async {
            let waits = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() \
                         AND wait_event_type = 'Lock'";
            wait_until("the claim waits", PATIENCE, async || {
                let waiting: i64 = database.query(waits, &[]).await?[0].get(0);
                Ok((waiting > 0).then_some(()))
            })
            .await
            .unwrap();
            proxy.stall();
            lock.commit().await.unwrap();
            wait_until("it is carried out", PATIENCE, async || Ok(owner(&database).await.map(drop)))
                .await
                .unwrap();
            proxy.close();
        };
        let (claimed, ()) = tokio::join!(claim, unheard);
        let error = claimed.expect_err("its answer is lost");
        proxy.resume();
        let mut lost = LostAnswers::default();
        lost.note(&error, &[key()], &[token]);
        lost.give_back(&claims, &key());
        wait_until("it is given back", PATIENCE, async || Ok(owner(&database).await.is_none().then_some(())))
            .await
            .unwrap();
    }

    /// Assigned again meanwhile: that claim has a token of its own.
    #[tokio::test]
    async fn a_later_claim_of_the_same_process_stays() {
        let database = database().await;
        let claims = claims(database.url());
        let (lost, later) = (Uuid::new_v4(), Uuid::new_v4());
        assert_eq!(claims.claim_free(&[key()], &[lost]).await.unwrap().len(), 1);
        let claimed = claims.claim_free(&[key()], &[later]).await.unwrap().remove(0);
        assert_eq!(claimed.claim.token, later);
        assert!(!claims.release_lost(&key(), lost).await.unwrap());
        assert_eq!(owner(&database).await, Some(claims.db().identity.owner));
        assert!(claims.release_lost(&key(), later).await.unwrap());
        assert_eq!(owner(&database).await, None);
    }
}
