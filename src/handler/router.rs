//! Several handlers in one worker: each gets the records of its topics, all within the batch's one transaction.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use super::{ErasedHandler, Handler, HandlerError, HandlerFuture, Written};
use crate::batch::Part;
use crate::config::{TopicPattern, is_pattern};
use crate::{Batch, Tx};

/// Hands records on by their topic. To lanes and commits it is one handler: what it wrote stands or falls together.
#[derive(Default)]
pub(crate) struct Router {
    routes: Vec<Route>,
}

/// A batch's records, by route.
type Split = Vec<(usize, Batch)>;

struct Route {
    /// A name, or a `^pattern`.
    topic: String,
    /// `None` for a name; also for a pattern that is ill-formed, which the check of `topics` reports.
    pattern: Option<TopicPattern>,
    handler: Arc<dyn ErasedHandler>,
}

impl Router {
    pub(crate) fn add(&mut self, topic: String, handler: impl Handler) {
        let pattern = Some(&topic).filter(|topic| is_pattern(topic));
        let pattern = pattern.and_then(|text| TopicPattern::new(text).ok());
        self.routes.push(Route { topic, pattern, handler: Arc::new(handler) });
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.routes.is_empty()
    }

    /// What is to be subscribed to.
    pub(crate) fn topics(&self) -> Vec<String> {
        self.routes.iter().map(|route| route.topic.clone()).collect()
    }

    /// The route of a topic: that of its name, else the first pattern that matches.
    fn find(&self, topic: &str) -> Option<usize> {
        let by_name = self.routes.iter().position(|route| route.topic == topic);
        by_name.or_else(|| {
            let fits = |route: &Route| route.pattern.as_ref().is_some_and(|pattern| pattern.matches(topic));
            self.routes.iter().position(fits)
        })
    }

    /// The records of each route.
    fn split(&self, batch: &Batch) -> Result<Split, HandlerError> {
        let mut by_route: BTreeMap<usize, Vec<Part>> = BTreeMap::new();
        for part in batch.parts.iter().filter(|part| part.len() > 0) {
            let route = self.find(&part.key.topic).ok_or_else(|| {
                // Kafka matched what our reading of the patterns does not: a dialect's difference, and a bug.
                HandlerError::fatal(format!(
                    "no handler was given for topic {}: add a route for it to the program",
                    part.key.topic
                ))
            })?;
            // Parts are cheap to clone: the records stay where they are.
            by_route.entry(route).or_default().push(part.clone());
        }
        let of = |parts| Batch::new(parts).under(batch.policies().cloned());
        Ok(by_route.into_iter().map(|(route, parts)| (route, of(parts))).collect())
    }
}

impl ErasedHandler for Router {
    /// One handler after the other, in the order of their routes; the first error ends the batch.
    fn handle<'a>(&'a self, batch: &'a Batch, tx: &'a mut Tx) -> HandlerFuture<'a> {
        Box::pin(async move {
            let split = match batch.take_kept::<Split>() {
                Some(split) => split,
                None => self.split(batch)?,
            };
            for (route, batch) in &split {
                let handled = self.routes[*route].handler.handle(batch, tx).await;
                // Whose handler failed is known: the partitions of the others are not to blame.
                let topics = || batch.parts.iter().map(|part| Arc::clone(&part.key.topic));
                handled.map_err(|error| error.of_topics(topics()))?;
            }
            Ok(())
        })
    }

    fn prepare(&self, batch: &Batch) {
        let Ok(split) = self.split(batch) else { return };
        for (route, batch) in &split {
            self.routes[*route].handler.prepare(batch);
        }
        batch.keep(split);
    }

    fn writes(&self) -> Vec<Written> {
        let of_route = |route: &Route| {
            // Which topics a pattern comes to match is not known yet.
            let topics = route.pattern.is_none().then(|| vec![route.topic.clone()]);
            let tables = route.handler.writes().into_iter();
            tables.map(move |written| Written {
                topics: written.topics.or_else(|| topics.clone()),
                table: written.table,
            })
        };
        self.routes.iter().flat_map(of_route).collect()
    }
}

impl fmt::Debug for Router {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.routes.iter().map(|route| &route.topic)).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::batch::{ClaimId, PartitionKey, Segment};
    use crate::record::chunk::{Chunk, RawRecord};
    use crate::{HandlerErrorKind, NextOffset, handler_fn};

    fn router() -> Router {
        let mut router = Router::default();
        for topic in ["^pay.*", "payments", "^pay.*ds$"] {
            router.add(topic.to_owned(), handler_fn(|_, _| Box::pin(async { Ok(()) })));
        }
        router
    }

    #[test]
    fn a_name_goes_before_patterns_and_these_in_their_order() {
        let router = router();
        assert_eq!(router.find("payments"), Some(1));
        assert_eq!(router.find("pay.refunds"), Some(0));
        assert_eq!(router.find("orders"), None);
        assert_eq!(router.topics(), ["^pay.*", "payments", "^pay.*ds$"]);
    }

    fn part(topic: &str, partition: i32, records: usize) -> Part {
        let mut chunk = Chunk::default();
        for offset in (0..).take(records) {
            chunk.push(&RawRecord { offset, ..RawRecord::default() }, std::iter::empty());
        }
        Part {
            key: PartitionKey { topic: topic.into(), partition },
            claim: ClaimId { epoch: 1, token: uuid::Uuid::nil() },
            from: NextOffset::ZERO,
            to: NextOffset::ZERO,
            segments: vec![Segment { chunk: Arc::new(chunk), range: 0..records }],
            letter: None,
            parked: Vec::new(),
        }
    }

    #[test]
    fn each_route_gets_its_records_once_and_nothing_else() {
        let batch =
            vec![part("pay.a", 0, 2), part("pay.b", 3, 1), part("payments", 0, 5), part("payments", 1, 0)];
        let split = router().split(&Batch::new(batch)).unwrap();
        let split: Vec<(usize, Vec<(String, usize)>)> = split
            .into_iter()
            .map(|(route, batch)| {
                (route, batch.parts.iter().map(|part| (part.key.to_string(), part.len())).collect())
            })
            .collect();
        let expected =
            |parts: &[(&str, usize)]| parts.iter().map(|(key, len)| ((*key).to_owned(), *len)).collect();
        assert_eq!(
            split,
            [(0, expected(&[("pay.a[0]", 2), ("pay.b[3]", 1)])), (1, expected(&[("payments[0]", 5)]))]
        );
    }

    #[test]
    fn a_topic_without_a_route_halts_and_is_named() {
        let error = router().split(&Batch::new(vec![part("orders", 0, 1)])).expect_err("it has no route");
        assert_eq!(error.kind(), HandlerErrorKind::Fatal);
        assert!(error.to_string().contains("topic orders"), "{error}");
        assert!(
            router().split(&Batch::new(vec![part("orders", 0, 0)])).unwrap().is_empty(),
            "it has no record"
        );
    }
}
