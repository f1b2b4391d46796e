//! Where Kafka's logs begin and end.

use std::fmt;
use std::time::{Duration, Instant};

use super::rows::Standing;
use crate::batch::PartitionKey;
use crate::consumer::Catalog;
use crate::consumer::catalog::Survey;
use crate::error::{Error, ErrorKind, Result};

/// How long Kafka is asked.
const PATIENCE: Duration = Duration::from_secs(20);
/// Between two questions.
const PAUSE: Duration = Duration::from_millis(500);

/// Where the logs of all these partitions begin and end, and that they are the group's.
pub(super) async fn survey(catalog: &Catalog, standing: &[Standing]) -> Result<Survey> {
    let keys: Vec<PartitionKey> = standing.iter().map(|row| row.key.clone()).collect();
    ask(catalog, &keys, |survey| same_topics(standing, survey)).await
}

/// Where the logs of all these partitions begin and end, whosever they are.
pub(super) async fn logs(catalog: &Catalog, keys: &[PartitionKey]) -> Result<Survey> {
    ask(catalog, keys, |_| Ok(())).await
}

/// A partition of which Kafka does not tell, and why.
#[derive(Debug, Clone)]
pub(super) struct Silent {
    pub(super) key: PartitionKey,
    pub(super) why: String,
}

/// As [`survey`]; but what does not answer costs nobody else his answer.
pub(super) async fn survey_of_some(
    catalog: &Catalog,
    standing: &[Standing],
) -> Result<(Survey, Vec<Silent>)> {
    let keys: Vec<PartitionKey> = standing.iter().map(|row| row.key.clone()).collect();
    ask_some(catalog, &keys, |survey| same_topics(standing, survey)).await
}

/// As [`logs`]; but what does not answer costs nobody else his answer.
pub(super) async fn logs_of_some(catalog: &Catalog, keys: &[PartitionKey]) -> Result<(Survey, Vec<Silent>)> {
    ask_some(catalog, keys, |_| Ok(())).await
}

async fn ask(
    catalog: &Catalog,
    keys: &[PartitionKey],
    check: impl Fn(&Survey) -> Result<()>,
) -> Result<Survey> {
    let (survey, silent) = ask_some(catalog, keys, check).await?;
    match silent.first() {
        None => Ok(survey),
        Some(silent) => Err(Error::new(ErrorKind::Kafka, silent.to_string())),
    }
}

/// Asks until all have answered, or it has taken long enough. `check` may refuse what comes before that.
async fn ask_some(
    catalog: &Catalog,
    keys: &[PartitionKey],
    check: impl Fn(&Survey) -> Result<()>,
) -> Result<(Survey, Vec<Silent>)> {
    let until = Instant::now() + PATIENCE;
    loop {
        let answer = catalog.survey(keys).await;
        let is_over = Instant::now() > until;
        match answer {
            Ok(survey) => {
                check(&survey)?;
                let unanswered = keys.iter().filter(|key| !survey.available.contains_key(key));
                let silent: Vec<Silent> = unanswered.map(|key| Silent::of(key, &survey)).collect();
                if silent.is_empty() || is_over {
                    return Ok((survey, silent));
                }
            }
            Err(source) if is_over => {
                let text = "Kafka does not say where its logs begin and end";
                return Err(Error::new(ErrorKind::Kafka, text).with_source(source));
            }
            Err(_) => {}
        }
        tokio::time::sleep(PAUSE).await;
    }
}

impl Silent {
    fn of(key: &PartitionKey, survey: &Survey) -> Self {
        let why = if survey.leaderless.contains(key) {
            "it has no leader".to_owned()
        } else if let Some(code) = survey.refused.get(&key.topic) {
            format!("{code}")
        } else {
            "its leader does not answer".to_owned()
        };
        Self { key: key.clone(), why }
    }
}

impl fmt::Display for Silent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Kafka does not say where the log of {} begins and ends: {}", self.key, self.why)
    }
}

/// An offset of a topic that was deleted and created anew means another record.
pub(super) fn same_topics(standing: &[Standing], survey: &Survey) -> Result<()> {
    for row in standing {
        let Some(found) = survey.identities.get(&row.key.topic) else { continue };
        let differ = |known: &Option<String>, found: &Option<String>| {
            known.is_some() && found.is_some() && known != found
        };
        if differ(&row.identity.cluster_id, &found.cluster_id)
            || differ(&row.identity.topic_id, &found.topic_id)
        {
            return Err(Error::new(
                ErrorKind::Guard,
                format!(
                    "topic {} of this cluster is not the one that the group has read so far (topic id {}, recorded {}): see \
                     \"Accept another topic\" in docs/operations.md",
                    row.key.topic,
                    found.topic_id.as_deref().unwrap_or("unknown"),
                    row.identity.topic_id.as_deref().unwrap_or("unknown"),
                ),
            ));
        }
    }
    Ok(())
}
