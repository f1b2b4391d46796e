//! Partitions that were assigned by hand.

use super::{Start, Wanted};
use crate::error::{Error, ErrorKind};

impl Start {
    /// The error for a partition that is not there, among those of the topics found.
    pub(super) fn missing_partition(&self, found: &[(String, i32)]) -> Option<Error> {
        self.assigned.iter().find_map(|wanted| {
            let (topic, count) = found.iter().find(|(topic, _)| *topic == wanted.topic)?;
            (wanted.partition >= *count).then(|| {
                Error::new(
                    ErrorKind::UnknownTopic,
                    format!(
                        "partition {wanted} does not exist: topic {topic} has {count} partitions, 0 to {}; correct the \
                         assign setting",
                        count - 1
                    ),
                )
            })
        })
    }

    /// The error of policy `Fail` for a run without a group: no mistyped name, so no near misses.
    pub(super) fn one_off_refusal(&self, wanted: Wanted<'_>) -> Error {
        Error::new(
            ErrorKind::StartPolicy,
            format!(
                "no group was named, so group {} of this run alone has never read {wanted}, and the start policy is `fail`; \
                 say where to begin with HIGHWATER_START=earliest or HIGHWATER_START=latest, or name the group whose \
                 positions are meant with HIGHWATER_GROUP",
                self.db.identity.group
            ),
        )
    }
}
