//! From settings to a worker.

use std::sync::Arc;

use super::{StatusBoard, Worker};
use crate::config::{Config, PartialConfig, TopicPartition};
use crate::error::{Error, Result};
use crate::handler::{ErasedHandler, Handler, Router};

/// Builds a [`Worker`]: what is set here goes before the environment, the environment before the file, the file
/// before the defaults.
#[derive(Debug, Default)]
#[must_use]
pub struct WorkerBuilder {
    settings: PartialConfig,
    from_environment: bool,
    router: Router,
}

impl WorkerBuilder {
    pub(super) fn new() -> Self {
        Self { settings: PartialConfig::default(), from_environment: true, router: Router::default() }
    }

    /// The consumer group: the name under which positions are kept. Every worker of a group runs the same program.
    pub fn group(mut self, group: impl Into<String>) -> Self {
        self.settings = self.settings.group(group);
        self
    }

    /// Subscribes to one topic, or to those that match a `^pattern`; overrides the `topics` setting.
    pub fn topic(mut self, topic: impl Into<String>) -> Self {
        self.settings = self.settings.topics(vec![topic.into()]);
        self
    }

    /// Reads these partitions without joining the group, for replays and debugging; overrides the `assign` setting.
    ///
    /// With a [group](Self::group), rows of that group are claimed, as ever; what a live process holds is waited for.
    /// Without one, the run is a group of its own, and the `start` setting must say where to begin.
    ///
    /// ```no_run
    /// # async fn run(handler: impl highwater::Handler) -> highwater::Result<()> {
    /// use highwater::Worker;
    ///
    /// Worker::builder().assign([("payments", 3), ("payments", 4)]).build(handler)?.run().await
    /// # }
    /// ```
    pub fn assign<P: Into<TopicPartition>>(mut self, partitions: impl IntoIterator<Item = P>) -> Self {
        let partitions: Vec<TopicPartition> = partitions.into_iter().map(Into::into).collect();
        self.settings = self.settings.assign(partitions);
        self
    }

    /// Settings that go before the environment's and the file's, and before those set on this builder so far.
    pub fn settings(mut self, settings: PartialConfig) -> Self {
        self.settings = settings.or(self.settings);
        self
    }

    /// Ignores the environment and the file: only what is set here, and the defaults.
    pub fn ignore_environment(mut self) -> Self {
        self.from_environment = false;
        self
    }

    /// A handler for one topic, or for the topics that match a `^pattern`; to be completed by
    /// [`build_routed`](Self::build_routed). A topic's own route goes before patterns, these in the order of their
    /// calls.
    ///
    /// All handlers write in the batch's one transaction, one after the other in the order of their routes.
    ///
    /// ```no_run
    /// # async fn run() -> highwater::Result<()> {
    /// use highwater::{Batch, Handler, HandlerError, Tx, Worker};
    ///
    /// struct Payments;
    /// struct Refunds;
    /// # impl Handler for Payments {
    /// #     async fn handle(&self, _: &Batch, _: &mut Tx) -> Result<(), HandlerError> { Ok(()) }
    /// # }
    /// # impl Handler for Refunds {
    /// #     async fn handle(&self, _: &Batch, _: &mut Tx) -> Result<(), HandlerError> { Ok(()) }
    /// # }
    ///
    /// Worker::builder()
    ///     .group("payments-v1")
    ///     .route("payments.tx_events", Payments)
    ///     .route(r"^payments\.refunds\..*", Refunds)
    ///     .build_routed()?
    ///     .run()
    ///     .await
    /// # }
    /// ```
    pub fn route<H: Handler>(mut self, topic: impl Into<String>, handler: H) -> Self {
        self.router.add(topic.into(), handler);
        self
    }

    /// Makes a worker with one handler for all topics. Nothing is connected to yet.
    ///
    /// # Errors
    /// If a setting is missing, unknown or out of range, or there are [routes](Self::route) besides.
    pub fn build<H: Handler>(self, handler: H) -> Result<Worker> {
        if !self.router.is_empty() {
            return Err(Error::configuration(
                "a handler for all topics was given besides those for single topics: call build_routed(), or leave the \
                 routes out",
            ));
        }
        Ok(Self::finish(self.layered()?.finish()?, Arc::new(handler)))
    }

    /// Makes a worker with the handlers given by [`route`](Self::route); the `topics` setting follows from them.
    /// Nothing is connected to yet.
    ///
    /// # Errors
    /// If a setting is missing, unknown or out of range, `topics` is set to something else, or there is no route.
    pub fn build_routed(mut self) -> Result<Worker> {
        let router = std::mem::take(&mut self.router);
        if router.is_empty() {
            return Err(Error::configuration(
                "no route was given: call route(topic, handler) for each topic, or build(handler)",
            ));
        }
        let config = self.layered()?.routed(router.topics())?.finish()?;
        Ok(Self::finish(config, Arc::new(router)))
    }

    fn layered(self) -> Result<PartialConfig> {
        if self.from_environment {
            Ok(self.settings.or(PartialConfig::from_env()?))
        } else {
            Ok(self.settings)
        }
    }

    fn finish(config: Config, handler: Arc<dyn ErasedHandler>) -> Worker {
        Worker { config, handler, board: Arc::new(StatusBoard::new()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::handler_fn;

    fn builder() -> WorkerBuilder {
        let settings = PartialConfig::default()
            .brokers(vec!["a:9092".to_owned()])
            .postgres_url("postgres://db/app")
            .group("g");
        Worker::builder().ignore_environment().settings(settings)
    }

    fn handler() -> impl Handler {
        handler_fn(|_, _| Box::pin(async { Ok(()) }))
    }

    #[test]
    fn topics_follow_from_the_routes() {
        let routed = builder().route("b", handler()).route("^a.*", handler()).build_routed().unwrap();
        assert_eq!(routed.config.topics, ["b", "^a.*"]);
        let same = builder().settings(PartialConfig::default().topics(vec!["a".to_owned()]));
        assert_eq!(same.route("a", handler()).build_routed().unwrap().config.topics, ["a"]);
    }

    #[test]
    fn contradictions_are_errors_that_name_both_sides() {
        let error = builder().topic("c").route("a", handler()).build_routed().unwrap_err();
        assert!(error.is_configuration());
        let text = error.to_string();
        assert!(
            text.contains("names c, but the program has handlers for a") && text.contains("`topics`"),
            "{text}"
        );
        let text = builder().route("a", handler()).build(handler()).unwrap_err().to_string();
        assert!(text.contains("build_routed()"), "{text}");
        let text = builder().topic("a").build_routed().unwrap_err().to_string();
        assert!(text.contains("no route was given"), "{text}");
        let text =
            builder().route("a", handler()).route("a", handler()).build_routed().unwrap_err().to_string();
        assert!(text.contains("named twice"), "{text}");
        let text = builder().route("^a", handler()).build_routed().unwrap_err().to_string();
        assert!(text.contains("end it with"), "{text}");
    }
}
