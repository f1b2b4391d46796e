//! Kafka is asked here for what no live worker reports: partitions of groups that nobody works on.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime};

use tokio_postgres::Client;
use uuid::Uuid;

use super::APPLICATION_NAME;
use super::rights::Rights;
use crate::config::{OperatorConfig, epoch_ms};
use crate::consumer::Catalog;
use crate::error::{Error, Result};
use crate::lag::{Retention, Surveyor, Whose};

/// Between two turns.
const INTERVAL: Duration = Duration::from_secs(10);
/// How often Kafka is asked for something, if there is nothing to survey: a credential that is taken away shows before it is
/// needed.
const ASKED_ANYWAY: Duration = Duration::from_secs(30);
/// How long a turn may take.
const LIMIT: Duration = Duration::from_secs(60);

const REFUSED: &str = "this role may not write partition_survey: GRANT INSERT, UPDATE on it";

/// How the survey of what no worker holds gets on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Surveyed {
    /// When it last ended without an error, or first began, by this machine's clock, in milliseconds since 1970.
    pub at_ms: i64,
    /// How often it has failed: Kafka did not answer all of it, or it could not be written.
    pub errors_total: u64,
}

/// A survey at work. Ends when it is dropped.
#[derive(Debug)]
pub(super) struct Survey {
    said: Arc<Said>,
    task: tokio::task::JoinHandle<()>,
}

#[derive(Debug)]
struct Said {
    at_ms: AtomicI64,
    errors: AtomicU64,
}

impl Said {
    /// Counts, and logs what is not what was said before.
    fn take(&self, outcome: Result<(), String>, before: &mut Option<String>) {
        match outcome {
            Ok(()) => {
                self.at_ms.store(epoch_ms(SystemTime::now()), Ordering::Relaxed);
                *before = None;
            }
            Err(why) => {
                self.errors.fetch_add(1, Ordering::Relaxed);
                if before.as_ref() != Some(&why) {
                    tracing::warn!(why, "nobody surveys what no worker holds");
                    *before = Some(why);
                }
            }
        }
    }

    fn now(&self) -> Surveyed {
        let (at_ms, errors_total) = (self.at_ms.load(Ordering::Relaxed), self.errors.load(Ordering::Relaxed));
        Surveyed { at_ms, errors_total }
    }
}

impl Survey {
    pub(super) fn now(&self) -> Surveyed {
        self.said.now()
    }
}

impl Drop for Survey {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Surveys until dropped. Without brokers there is nothing to ask.
///
/// # Errors
///
/// If the Kafka client refuses its properties, or there is no secret or token for it.
pub(super) fn start(config: &OperatorConfig) -> Result<Option<Survey>> {
    if config.brokers.is_empty() {
        return Ok(None);
    }
    let catalog = config.catalog()?;
    let me = Uuid::new_v4();
    let schema = &config.database.schema;
    let surveyor =
        Surveyor::new(schema, catalog.clone(), me, Whose::Watched(None), Arc::new(Retention::default()));
    let said =
        Arc::new(Said { at_ms: AtomicI64::new(epoch_ms(SystemTime::now())), errors: AtomicU64::new(0) });
    let task = tokio::spawn(run(config.clone(), catalog, surveyor, Arc::clone(&said)));
    Ok(Some(Survey { said, task }))
}

async fn run(config: OperatorConfig, catalog: Catalog, mut surveyor: Surveyor, said: Arc<Said>) {
    let mut before = None;
    let mut kept: Option<Client> = None;
    let mut answered: Option<Instant> = None;
    let mut ticks = tokio::time::interval(INTERVAL);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        if let Err(why) = catalog.refresh().await {
            tracing::warn!(why, "Kafka is asked with the credentials before");
        }
        let client = kept.take().filter(|client| !client.is_closed());
        let turn = async {
            let client = match client {
                Some(client) => client,
                None => config.database.connect(APPLICATION_NAME).await?,
            };
            let failed = |source| Error::postgres("survey the partitions that nobody holds", source);
            let count = surveyor.turn(&client).await.map_err(failed)?;
            let may_write = Rights::may_survey(&client, &config.database.schema).await?;
            let silence = match surveyor.silence() {
                Some(why) => Some(why.to_owned()),
                None if count > 0 => {
                    answered = Some(Instant::now());
                    None
                }
                None if answered.is_some_and(|at| at.elapsed() < ASKED_ANYWAY) => None,
                None => match catalog.topics().await {
                    Ok(_) => {
                        answered = Some(Instant::now());
                        None
                    }
                    Err(error) => Some(error.to_string()),
                },
            };
            let refused = (!may_write).then(|| REFUSED.to_owned());
            Ok::<_, Error>((client, silence.or(refused)))
        };
        let ended = tokio::time::timeout(LIMIT, turn).await;
        let outcome = match ended {
            Ok(Ok((client, why))) => {
                kept = Some(client);
                why.map_or(Ok(()), Err)
            }
            Ok(Err(error)) => Err(error.report()),
            Err(_) => Err(format!("it did not end within {} s", LIMIT.as_secs())),
        };
        said.take(outcome, &mut before);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_survey_that_fails_is_counted_and_grows_old() {
        let said = Said { at_ms: AtomicI64::new(5), errors: AtomicU64::new(0) };
        let mut before = None;
        for _ in 0..2 {
            said.take(Err("refused".to_owned()), &mut before);
        }
        assert_eq!(said.now(), Surveyed { at_ms: 5, errors_total: 2 });
        said.take(Ok(()), &mut before);
        assert!(said.now().at_ms > 5 && before.is_none());
    }
}
