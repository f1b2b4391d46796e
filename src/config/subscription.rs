//! What a worker reads, where it follows from more than one setting.

use std::collections::BTreeSet;

use super::settings::PartialConfig;
use super::table::{Given, Origin};
use crate::error::Result;

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
