//! How long Kafka keeps the records of topics: by which it is told when what is not applied yet may be gone.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::consumer::Catalog;
use crate::consumer::inspect::Properties;

/// After which a topic is asked about again.
const AGAIN: Duration = Duration::from_secs(600);
/// And after which it is forgotten, unless somebody wants to know.
const FORGOTTEN: Duration = Duration::from_secs(1_800);
/// About how many topics is asked at once.
const PORTION: usize = 200;
/// How long Kafka may take for them.
const LIMIT: Duration = Duration::from_secs(10);
/// When they are asked about again, if there was no answer.
const RETRIED: Duration = Duration::from_secs(60);

/// What is known, and what somebody wants to know.
#[derive(Debug, Default)]
pub(crate) struct Retention {
    topics: Mutex<HashMap<Arc<str>, Known>>,
    /// Why there was no answer, the last time that one was asked for.
    silence: Mutex<Option<String>>,
}

#[derive(Debug)]
struct Known {
    /// `None`: Kafka does not tell this client.
    ms: Option<i64>,
    wanted: Instant,
    due: Instant,
}

impl Retention {
    /// For how many ms records of the topic are kept; -1: for ever. `None` where that is not known (yet): it is asked.
    pub(crate) fn of(&self, topic: &Arc<str>) -> Option<i64> {
        let now = Instant::now();
        let mut topics = self.lock();
        let known =
            topics.entry(Arc::clone(topic)).or_insert_with(|| Known { ms: None, wanted: now, due: now });
        known.wanted = now;
        known.ms
    }

    /// Asks Kafka for what is wanted, and was not asked for lately. What it does not tell stays unknown: a worker may lack
    /// the right (DESCRIBE_CONFIGS), which it needs for nothing else.
    pub(crate) async fn refresh(&self, catalog: &Catalog) {
        let now = Instant::now();
        let due: Vec<String> = {
            let mut topics = self.lock();
            topics.retain(|_, known| now.duration_since(known.wanted) < FORGOTTEN);
            let due = topics.iter_mut().filter(|(_, known)| known.due <= now).take(PORTION);
            due.map(|(topic, known)| {
                known.due = now + AGAIN;
                topic.to_string()
            })
            .collect()
        };
        if due.is_empty() {
            return;
        }
        let silence = match tokio::time::timeout(LIMIT, catalog.configs(&due, None)).await {
            Ok(Ok((found, _))) => {
                let mut topics = self.lock();
                for (topic, properties) in found {
                    if let Some(known) = topics.get_mut(topic.as_str()) {
                        known.ms = properties.as_ref().and_then(retention_ms);
                    }
                }
                None
            }
            Ok(Err(error)) => Some(error.to_string()),
            Err(_) => Some(format!("no answer within {} s", LIMIT.as_secs())),
        };
        if silence.is_some() {
            self.retry(&due, now + RETRIED);
        }
        self.take(silence);
    }

    /// Why Kafka has not told, if it has not.
    pub(crate) fn silence(&self) -> Option<String> {
        self.silence.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn retry(&self, topics: &[String], due: Instant) {
        let mut known = self.lock();
        for topic in topics {
            if let Some(known) = known.get_mut(topic.as_str()) {
                known.due = due;
            }
        }
    }

    /// Said once.
    fn take(&self, silence: Option<String>) {
        let mut before = self.silence.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(why) = silence.as_ref().filter(|_| before.is_none()) {
            tracing::warn!(
                why,
                "Kafka does not tell how long it keeps records: when they are lost is not known"
            );
        }
        *before = silence;
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Arc<str>, Known>> {
        self.topics.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Of a topic's properties. Where nothing is deleted, compaction may still remove a record, but never a key's last.
fn retention_ms(properties: &Properties) -> Option<i64> {
    if properties.get("cleanup.policy").is_some_and(|policy| !policy.contains("delete")) {
        return Some(-1);
    }
    properties.get("retention.ms")?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn silence_is_kept_until_there_is_an_answer_and_asked_about_soon() {
        let (retention, topic) = (Retention::default(), Arc::from("t"));
        assert_eq!(retention.of(&topic), None);
        let due = Instant::now() + RETRIED;
        retention.retry(&["t".to_owned(), "forgotten".to_owned()], due);
        assert_eq!(retention.lock()[&topic].due, due);
        retention.take(Some("refused".to_owned()));
        assert_eq!(retention.silence().as_deref(), Some("refused"));
        retention.take(None);
        assert_eq!(retention.silence(), None);
    }

    #[test]
    fn retention_is_read_from_the_properties() {
        let of = |pairs: &[(&str, &str)]| {
            let pairs = pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
            retention_ms(&pairs.collect())
        };
        assert_eq!(of(&[]), None);
        assert_eq!(of(&[("retention.ms", "60000"), ("cleanup.policy", "delete")]), Some(60_000));
        assert_eq!(of(&[("retention.ms", "60000"), ("cleanup.policy", "compact,delete")]), Some(60_000));
        assert_eq!(of(&[("retention.ms", "60000"), ("cleanup.policy", "compact")]), Some(-1));
        assert_eq!(of(&[("retention.ms", "-1")]), Some(-1));
    }
}
