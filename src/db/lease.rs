//! A connection for work that may be interrupted.

use std::ops::Deref;

use deadpool_postgres::Object;

/// A connection that leaves the pool when it is dropped, unless it is [given back](Self::give_back) or kept. A future
/// that a time-out drops may leave a statement running on its connection: whoever got that from the pool would wait
/// behind it.
#[derive(Debug)]
pub(crate) struct Lease(Option<Object>);

impl Lease {
    pub(super) fn new(connection: Object) -> Self {
        Self(Some(connection))
    }

    /// Nothing is under way on it any more.
    pub(crate) fn give_back(mut self) {
        drop(self.0.take());
    }
}

impl Deref for Lease {
    type Target = Object;

    fn deref(&self) -> &Object {
        self.0.as_ref().expect("the connection leaves only with the lease")
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if let Some(connection) = self.0.take() {
            drop(Object::take(connection));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use uuid::Uuid;

    use crate::PartialConfig;
    use crate::db::{Db, Identity};
    use crate::testing::Postgres;

    #[tokio::test]
    async fn what_a_time_out_interrupts_does_not_go_back_to_the_pool() {
        let postgres = Postgres::shared().await.unwrap();
        let config = PartialConfig::default()
            .brokers(vec!["localhost:1".to_owned()])
            .postgres_url(postgres.admin_url())
            .group("g")
            .topics(vec!["t".to_owned()])
            .finish()
            .unwrap();
        let identity = Identity { owner: Uuid::new_v4(), group: "g".into(), instance_id: None };
        let db = Db::new(&config, identity).unwrap();
        let busy = async {
            let client = db.lease().await.unwrap();
            client.batch_execute("SELECT pg_sleep(60)").await.unwrap();
            client.give_back();
        };
        assert!(tokio::time::timeout(Duration::from_secs(3), busy).await.is_err());
        assert_eq!(db.control.status().size, 0, "it is gone");

        let client = db.lease().await.unwrap();
        client.batch_execute("SELECT 1").await.unwrap();
        client.give_back();
        assert_eq!(db.control.status().available, 1, "it may be used again");
    }
}
