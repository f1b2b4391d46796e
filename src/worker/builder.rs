//! From settings to a worker.

use std::sync::Arc;

use super::{StatusBoard, Worker};
use crate::config::{Config, PartialConfig, TopicPartition, check_own_tokens};
use crate::dead_letter::{Keep, Policies, RejectPolicy};
use crate::error::{Error, Result};
use crate::handler::{ErasedHandler, Handler, Router};
use crate::token::{ErasedTokenSource, TokenSource};

/// Builds a [`Worker`]: what is set here goes before the environment, the environment before the file, the file
/// before the defaults.
#[derive(Default)]
#[must_use]
pub struct WorkerBuilder {
    settings: PartialConfig,
    from_environment: bool,
    router: Router,
    /// Of single topics or patterns.
    policies: Vec<(String, RejectPolicy)>,
    tokens: Option<Arc<dyn ErasedTokenSource>>,
}

impl std::fmt::Debug for WorkerBuilder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("WorkerBuilder").field("settings", &self.settings).finish_non_exhaustive()
    }
}

impl WorkerBuilder {
    pub(super) fn new() -> Self {
        Self { from_environment: true, ..Self::default() }
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

    /// Who gives out tokens for Kafka's SASL/OAUTHBEARER, where it is neither a file nor a command nor a server that takes
    /// client credentials: those are settings. Needs `kafka.sasl.mechanism = "OAUTHBEARER"`.
    pub fn kafka_tokens(mut self, source: impl TokenSource) -> Self {
        self.tokens = Some(Arc::new(source));
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

    /// What becomes of the records of one route (or topic, or `^pattern`, of those that are subscribed to) that are
    /// rejected. Goes before the settings `on_rejected` and `dead_letter_max_…`, which hold for all others.
    ///
    /// ```no_run
    /// # async fn run(payments: impl highwater::Handler, audit: impl highwater::Handler) -> highwater::Result<()> {
    /// use highwater::{RejectPolicy, Worker};
    ///
    /// Worker::builder()
    ///     .group("payments-v1")
    ///     .route("payments.tx_events", payments)
    ///     .on_rejected("payments.tx_events", RejectPolicy::dead_letter().max_in_a_row(Some(10)))
    ///     .route("payments.audit", audit) // a record that is rejected here halts its partition, as ever
    ///     .build_routed()?
    ///     .run()
    ///     .await
    /// # }
    /// ```
    pub fn on_rejected(mut self, topic: impl Into<String>, policy: RejectPolicy) -> Self {
        self.policies.push((topic.into(), policy));
        self
    }

    /// Makes a worker with one handler for all topics. Nothing is connected to yet.
    ///
    /// # Errors
    /// If a setting is missing, unknown or out of range, or there are [routes](Self::route) besides.
    pub fn build<H: Handler>(mut self, handler: H) -> Result<Worker> {
        if !self.router.is_empty() {
            return Err(Error::configuration(
                "a handler for all topics was given besides those for single topics: call build_routed(), or leave the \
                 routes out",
            ));
        }
        let (policies, tokens) = (std::mem::take(&mut self.policies), self.tokens.take());
        let config = self.layered()?.finish()?;
        Self::finish(config, Arc::new(handler), tokens, policies, Vec::new())
    }

    /// Makes a worker with the handlers given by [`route`](Self::route); the `topics` setting follows from them.
    /// Nothing is connected to yet.
    ///
    /// # Errors
    /// If a setting is missing, unknown or out of range, `topics` is set to something else, or there is no route.
    pub fn build_routed(mut self) -> Result<Worker> {
        let router = std::mem::take(&mut self.router);
        let tokens = self.tokens.take();
        if router.is_empty() {
            return Err(Error::configuration(
                "no route was given: call route(topic, handler) for each topic, or build(handler)",
            ));
        }
        let policies = self.policies.clone();
        let config = self.layered()?.routed(router.topics())?.finish()?;
        let routes = router.topics();
        Self::finish(config, Arc::new(router), tokens, policies, routes)
    }

    fn layered(self) -> Result<PartialConfig> {
        if self.from_environment {
            Ok(self.settings.or(PartialConfig::from_env()?))
        } else {
            Ok(self.settings)
        }
    }

    fn finish(
        config: Config,
        handler: Arc<dyn ErasedHandler>,
        tokens: Option<Arc<dyn ErasedTokenSource>>,
        given: Vec<(String, RejectPolicy)>,
        routes: Vec<String>,
    ) -> Result<Worker> {
        for (at, (topic, _)) in given.iter().enumerate() {
            let by_hand = || config.assign.iter().any(|partition| partition.topic == *topic);
            if !config.topics.contains(topic) && !by_hand() {
                return Err(Error::configuration(format!(
                    "on_rejected(\"{topic}\", …) is about no topic of this worker: name one as it stands in `topics`, or a route"
                )));
            }
            if given[..at].iter().any(|(other, _)| other == topic) {
                return Err(Error::configuration(format!("on_rejected(\"{topic}\", …) is given twice")));
            }
        }
        if tokens.is_some() {
            check_own_tokens(&config)?;
        }
        let rest = RejectPolicy::of(&config);
        let mut policies = Vec::new();
        for route in routes {
            let own = given.iter().find(|(topic, _)| *topic == route).map(|(_, policy)| *policy);
            policies.push((route, own.unwrap_or(rest)));
        }
        let others = given.into_iter().filter(|(topic, _)| !policies.iter().any(|(route, _)| route == topic));
        let others: Vec<_> = others.collect();
        policies.extend(others);
        let policies = Policies::new(policies, &config.program, rest).keeping(Keep::of(&config));
        let policies = Arc::new(policies);
        Ok(Worker {
            config,
            handler,
            policies,
            board: Arc::new(StatusBoard::new()),
            tokens,
            before: None,
            mapping: None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::OnRejected;
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
    fn a_source_of_tokens_must_be_the_one_that_is_asked() {
        struct Own;
        impl TokenSource for Own {
            async fn token(&self) -> Result<crate::KafkaToken, crate::TokenError> {
                Ok(crate::KafkaToken::new("t"))
            }
        }
        let built = |settings: PartialConfig| {
            builder().topic("t").settings(settings).kafka_tokens(Own).build(handler()).map(drop)
        };
        let oauth = PartialConfig::default()
            .kafka("security.protocol", "SASL_PLAINTEXT")
            .kafka("sasl.mechanism", "OAUTHBEARER");
        assert!(built(oauth.clone()).is_ok());
        let text = built(PartialConfig::default()).unwrap_err().to_string();
        assert!(text.contains("OAUTHBEARER"), "{text}");
        let text = built(oauth.kafka_token_file(Some("/t".to_owned()))).unwrap_err().to_string();
        assert!(text.contains("`kafka_token_file`"), "{text}");
    }

    #[test]
    fn a_route_has_the_policy_that_it_was_given_and_the_rest_that_of_the_settings() {
        let settings = PartialConfig::default().on_rejected(OnRejected::DeadLetter);
        let built = builder().settings(settings).route("b", handler()).route("^a.*", handler());
        let built = built.on_rejected("b", RejectPolicy::halt()).build_routed().unwrap();
        assert!(!built.policies.sets_aside("b") && built.policies.sets_aside("ab"));
        let halting = builder().topic("t").build(handler()).unwrap();
        assert!(!halting.policies.is_any(), "the default");
        let one =
            builder().topic("t").on_rejected("t", RejectPolicy::dead_letter()).build(handler()).unwrap();
        assert!(one.policies.sets_aside("t"));
        let text = builder()
            .topic("t")
            .on_rejected("u", RejectPolicy::halt())
            .build(handler())
            .unwrap_err()
            .to_string();
        assert!(text.contains("about no topic"), "{text}");
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
