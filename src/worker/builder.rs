//! From settings to a worker.

use std::sync::Arc;

use super::{StatusBoard, Worker};
use crate::config::{Config, PartialConfig};
use crate::error::Result;
use crate::handler::{ErasedHandler, Handler};

/// Builds a [`Worker`]: what is set here goes before the environment, the environment before the file, the file
/// before the defaults.
#[derive(Debug, Default)]
#[must_use]
pub struct WorkerBuilder {
    settings: PartialConfig,
    from_environment: bool,
}

impl WorkerBuilder {
    pub(super) fn new() -> Self {
        Self { settings: PartialConfig::default(), from_environment: true }
    }

    /// The consumer group: the name under which positions are kept. Every worker of a group runs the same program.
    pub fn group(mut self, group: impl Into<String>) -> Self {
        self.settings = self.settings.group(group);
        self
    }

    /// Subscribes to one topic; overrides the `topics` setting.
    pub fn topic(mut self, topic: impl Into<String>) -> Self {
        self.settings = self.settings.topics(vec![topic.into()]);
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

    /// Makes the worker. Nothing is connected to yet.
    ///
    /// # Errors
    /// If a setting is missing, unknown or out of range.
    pub fn build<H: Handler>(self, handler: H) -> Result<Worker> {
        let settings =
            if self.from_environment { self.settings.or(PartialConfig::from_env()?) } else { self.settings };
        Ok(Self::finish(settings.finish()?, Arc::new(handler)))
    }

    fn finish(config: Config, handler: Arc<dyn ErasedHandler>) -> Worker {
        Worker { config, handler, board: Arc::new(StatusBoard::new()) }
    }
}
