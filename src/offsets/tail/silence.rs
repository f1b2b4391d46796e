//! Where nothing comes: whether there is nothing, or nothing any more.

use std::time::Duration;

use rdkafka::error::RDKafkaErrorCode as Code;

use crate::batch::PartitionKey;
use crate::consumer::Catalog;
use crate::consumer::catalog::Survey;
use crate::error::{Error, ErrorKind, Result};
use crate::offsets::ends::same_topics;
use crate::offsets::rows::Standing;

/// How long nothing may come before Kafka is asked.
pub(super) const SILENCE: Duration = Duration::from_secs(5);
/// A broker that has just started may not know a topic yet.
const MISSING: u32 = 2;

/// Looks after a topic that is followed while nothing comes of it.
pub(super) struct Silence {
    standing: Vec<Standing>,
    keys: Vec<PartitionKey>,
    missing: u32,
    /// What was said last.
    said: String,
}

impl Silence {
    pub(super) fn new(standing: Vec<Standing>) -> Self {
        let keys = standing.iter().map(|row| row.key.clone()).collect();
        Self { standing, keys, missing: 0, said: String::new() }
    }

    /// Asks whether the topic is there; says, once, what it waits for.
    ///
    /// # Errors
    /// If it was deleted, or is another one of the same name.
    pub(super) async fn look(&mut self, catalog: &Catalog) -> Result<()> {
        let why = match catalog.survey(&self.keys).await {
            Err(error) => format!("Kafka does not answer ({error})"),
            Ok(survey) => {
                same_topics(&self.standing, &survey)?;
                self.missing = if is_missing(&survey) { self.missing + 1 } else { 0 };
                if let (Some(row), true) = (self.standing.first(), self.missing >= MISSING) {
                    return Err(Error::new(
                        ErrorKind::Guard,
                        format!(
                            "topic {} was deleted while it was followed: nothing more comes of it",
                            row.key.topic
                        ),
                    ));
                }
                waited_for(&survey)
            }
        };
        if why != self.said && !why.is_empty() {
            tracing::warn!("{why}; waiting");
        }
        self.said = why;
        Ok(())
    }
}

fn is_missing(survey: &Survey) -> bool {
    let is_unknown = |code: &Code| matches!(code, Code::UnknownTopicOrPartition | Code::UnknownTopic);
    survey.identities.is_empty() && (survey.refused.is_empty() || survey.refused.values().any(is_unknown))
}

/// Empty: for nothing but records.
fn waited_for(survey: &Survey) -> String {
    let mut without: Vec<String> = survey.leaderless.iter().map(ToString::to_string).collect();
    without.sort();
    if !without.is_empty() {
        return format!("no leader: {}", without.join(", "));
    }
    let refused = survey.refused.iter().map(|(topic, code)| format!("Kafka says of topic {topic}: {code}"));
    refused.collect::<Vec<_>>().join(", ")
}
