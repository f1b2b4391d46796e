//! What a worker reads, where it follows from more than one setting.

use std::collections::BTreeSet;

use uuid::Uuid;

use super::pattern::{TopicPattern, is_pattern};
use super::settings::{Config, PartialConfig};
use super::table::{Given, Origin};
use crate::error::Result;

/// Begins the name of a group that one run has for itself.
pub(crate) const ONE_OFF_GROUP: &str = "highwater-assign-";

impl Config {
    /// Whether partitions are assigned by hand, so that no group is joined.
    pub(crate) fn is_assigned_by_hand(&self) -> bool {
        !self.assign.is_empty()
    }

    /// Names and patterns that the group must know before anything is read.
    pub(crate) fn subscription(&self) -> (Vec<String>, Vec<TopicPattern>) {
        if self.is_assigned_by_hand() {
            let topics: BTreeSet<&String> = self.assign.iter().map(|partition| &partition.topic).collect();
            return (topics.into_iter().cloned().collect(), Vec::new());
        }
        let names = self.topics.iter().filter(|topic| !is_pattern(topic)).cloned().collect();
        (names, TopicPattern::among(&self.topics))
    }

    /// Gives a run without a group one of its own.
    pub(crate) fn name_group(&mut self, owner: Uuid) {
        if self.group.is_empty() {
            self.group = format!("{ONE_OFF_GROUP}{owner}");
            tracing::info!(
                group = self.group,
                "no group was named: this run is one of its own, whose rows stay afterwards"
            );
        }
    }

    /// Whether the group is (or was) a run's own.
    pub(crate) fn is_one_off(&self) -> bool {
        self.is_assigned_by_hand() && self.group.starts_with(ONE_OFF_GROUP)
    }
}

impl PartialConfig {
    /// Takes `topics` from a program's routes.
    ///
    /// # Errors
    ///
    /// [`Configuration`](crate::ErrorKind::Configuration) when the setting, wherever it was given, says otherwise.
    pub(crate) fn routed(mut self, topics: Vec<String>) -> Result<Self> {
        if let Some(given) = &self.topics {
            let (said, routed) = (BTreeSet::from_iter(&given.value), BTreeSet::from_iter(&topics));
            if said != routed {
                return Err(self.place("topics", "HIGHWATER_TOPICS").error(&format!(
                    "names {}, but the program has handlers for {}: leave the setting out, it follows from the routes",
                    given.value.join(", "),
                    topics.join(", "),
                )));
            }
        }
        self.topics = Some(Given { value: topics, origin: Origin::Builder });
        Ok(self)
    }
}

/// Partitions assigned by hand: what else is said must go with them.
pub(super) fn check_assign(config: &Config) -> Result<(), String> {
    if config.assign.is_empty() {
        return Ok(());
    }
    if config.instance_id.is_some() {
        return Err("joins no group, so `instance_id` has no meaning: leave one of them out".to_owned());
    }
    let patterns = TopicPattern::among(&config.topics);
    let covered = |topic: &String| {
        config.topics.contains(topic) || patterns.iter().any(|pattern| pattern.matches(topic))
    };
    match config.assign.iter().find(|partition| !covered(&partition.topic)) {
        Some(partition) if !config.topics.is_empty() => Err(format!(
            "`{partition}` is not of the topics that this program reads ({}): correct one of them",
            config.topics.join(", ")
        )),
        _ => Ok(()),
    }
}
