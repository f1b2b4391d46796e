//! A test kit: a real Kafka broker, a real Postgres server, and an oracle that compares them.
//!
//! Everything the crate's own integration tests stand on, public so that the tests of a sink can stand on it too
//! (feature `testing`).
//!
//! - [`Kafka`] and [`Postgres`]: one shared server per test process ([`Kafka::shared`]), or one of its own for a test
//!   that stops, kills or freezes it ([`Kafka::start`]). [`Backend`] says where they come from.
//! - [`SchemaRegistry`]: one with Confluent's API, for pipelines whose records name their schemas.
//! - [`Producer`] keeps a [`Ledger`] of what the broker acknowledged; [`Oracle`] compares that ledger with the rows of
//!   a table, as multisets.
//! - [`Connect`] is a worker of Kafka Connect with Debezium's connectors: a source for Postgres, and the JDBC sink.
//! - [`Proxy`] stands before either server, and delays, withholds, closes, or loses a COMMIT or its answer.
//! - [`Rehearsal`] applies records to a handler in batches that the test cuts, without Kafka.
//! - [`Child`] runs a worker as a process of its own: killed, frozen, and waited for by the lines it prints.
//!
//! No server and no worker outlives the test process, not even when that is killed with SIGKILL: each runs under a
//! small shell that holds a pipe from the test process and kills it when that pipe closes.
//!
//! ```no_run
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! use highwater::testing::{Kafka, Message, Oracle, Postgres, unique};
//!
//! let kafka = Kafka::shared().await?;
//! let database = Postgres::shared().await?.fresh_database("orders").await?;
//! let topic = unique("orders");
//! kafka.create_topic(&topic, 3).await?;
//!
//! let producer = kafka.producer()?;
//! for partition in 0..3 {
//!     producer.send(Message::to(&topic).partition(partition).key("k").value("v"))?;
//! }
//! producer.flush().await?;
//!
//! // … run the sink under test against `kafka.bootstrap()` and `database.url()` …
//!
//! let rows = "SELECT source_partition, source_offset FROM orders";
//! Oracle::new(producer.ledger(), &topic).compare(&database.client().await?, rows).await?.assert_exact();
//! # Ok(()) }
//! ```

mod backend;
mod cache;
mod child;
mod container;
mod error;
mod failpoints;
mod guard;
mod kafka;
mod ledger;
#[doc(hidden)]
pub mod model;
mod oracle;
mod ports;
mod postgres;
mod proxy;
pub(crate) mod rehearsal;
mod server;

use std::time::Duration;

pub use self::{
    backend::Backend,
    child::{Child, Line, Stream},
    error::{Error, Result},
    failpoints::{FAILPOINTS, at_failpoint, freeze_this_process},
    kafka::{
        Cluster, Connect, GroupDescription, GroupRow, GroupState, Kafka, Message, Producer, ReadRecord,
        SchemaRegistry, ToolOutput, TransactionalProducer, quiet_client_config,
    },
    ledger::Ledger,
    oracle::{Oracle, Report},
    postgres::{Backup, Database, Postgres, Role},
    proxy::{Cut, Proxy},
    rehearsal::{KeyValue, Outcome, Rehearsal},
};

/// A name that no other test uses: `orders` becomes something like `orders_k3x9q0v2m1`.
///
/// Made of letters, digits and `_` when `hint` is, so that it serves as a topic, a group, a schema or a database.
#[must_use]
pub fn unique(hint: &str) -> String {
    let random: String =
        std::iter::repeat_with(|| fastrand::alphanumeric().to_ascii_lowercase()).take(10).collect();
    format!("{hint}_{random}")
}

/// Polls `condition` every 25 ms until it gives a value.
///
/// For state that has no signal to wait on, such as a row in a database; where there is one (a line that a process
/// prints, the exit of a process), wait for that instead.
///
/// # Errors
/// When `timeout` has passed, or as soon as `condition` fails. The text names `what` was awaited.
pub async fn wait_until<T, F>(what: &str, timeout: Duration, mut condition: F) -> Result<T>
where
    F: AsyncFnMut() -> Result<Option<T>>,
{
    let poll = async {
        loop {
            match condition().await {
                Ok(Some(value)) => return Ok(value),
                Ok(None) => tokio::time::sleep(Duration::from_millis(25)).await,
                Err(error) => return Err(Error::caused(format!("wait until {what}"), error)),
            }
        }
    };
    tokio::time::timeout(timeout, poll)
        .await
        .unwrap_or_else(|_| Err(Error::new(format!("waited {timeout:?} in vain until {what}"))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unique_names_differ_and_stay_plain() {
        let (a, b) = (unique("orders"), unique("orders"));
        assert_ne!(a, b);
        assert!(
            a.bytes().all(|byte| byte == b'_' || byte.is_ascii_lowercase() || byte.is_ascii_digit()),
            "{a}"
        );
    }

    #[tokio::test]
    async fn a_wait_in_vain_names_what_was_awaited() {
        let error = wait_until("the moon is blue", Duration::from_millis(30), async || Ok(None::<()>)).await;
        assert!(error.unwrap_err().to_string().contains("until the moon is blue"));
    }
}
