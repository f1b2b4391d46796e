//! Where Kafka's logs begin and end.

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

/// Asks until all have answered. `check` may refuse what comes before that.
async fn ask(
    catalog: &Catalog,
    keys: &[PartitionKey],
    check: impl Fn(&Survey) -> Result<()>,
) -> Result<Survey> {
    let until = Instant::now() + PATIENCE;
    loop {
        let answer = catalog.survey(keys).await;
        let is_over = Instant::now() > until;
        match answer {
            Ok(survey) => {
                check(&survey)?;
                let unanswered = keys.iter().find(|key| !survey.available.contains_key(key));
                match unanswered {
                    None => return Ok(survey),
                    Some(key) if is_over => return Err(not_told(key, &survey)),
                    Some(_) => {}
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

fn not_told(key: &PartitionKey, survey: &Survey) -> Error {
    let why = if survey.leaderless.contains(key) {
        "it has no leader".to_owned()
    } else if let Some(code) = survey.refused.get(&key.topic) {
        format!("{code}")
    } else {
        "its leader does not answer".to_owned()
    };
    Error::new(ErrorKind::Kafka, format!("Kafka does not say where the log of {key} begins and ends: {why}"))
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
