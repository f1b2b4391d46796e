//! What is asked for: which partitions, where to.

use std::collections::BTreeSet;
use std::str::FromStr;

use serde::Serialize;

use super::target::Target;

/// The partitions of a group that are meant.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Selection {
    /// All that the group has.
    #[default]
    AllTopics,
    /// These.
    Topics(Vec<TopicSelection>),
}

/// A topic, or some of its partitions: `payments` or `payments:0,1`.
///
/// ```
/// use highwater::offsets::TopicSelection;
///
/// let some: TopicSelection = "payments:0,3".parse()?;
/// assert_eq!((&*some.topic, some.partitions), ("payments", Some([0, 3].into())));
/// # Ok::<(), String>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicSelection {
    /// The topic's name.
    pub topic: String,
    /// All of its partitions, or these.
    pub partitions: Option<BTreeSet<i32>>,
}

impl Selection {
    /// All partitions of a topic that the group has.
    #[must_use]
    pub fn topic(topic: impl Into<String>) -> Self {
        Self::Topics(vec![TopicSelection { topic: topic.into(), partitions: None }])
    }

    pub(super) fn covers(&self, topic: &str, partition: i32) -> bool {
        match self {
            Self::AllTopics => true,
            Self::Topics(topics) => topics.iter().any(|selected| {
                selected.topic == topic
                    && selected.partitions.as_ref().is_none_or(|partitions| partitions.contains(&partition))
            }),
        }
    }
}

impl FromStr for TopicSelection {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong =
            || format!("`{text}` is neither a topic nor topic:partition,partition, such as payments:0,1");
        let (topic, partitions) = match text.split_once(':') {
            None => (text, None),
            Some((topic, partitions)) => {
                let numbers = partitions.split(',').map(|number| number.trim().parse::<i32>());
                let numbers: Result<BTreeSet<i32>, _> = numbers.collect();
                (topic, Some(numbers.map_err(|_| wrong())?))
            }
        };
        if topic.is_empty() || partitions.iter().flatten().any(|partition| *partition < 0) {
            return Err(wrong());
        }
        Ok(Self { topic: topic.to_owned(), partitions })
    }
}

/// Where a group stands, or is to stand, in a partition.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Position {
    /// The group.
    pub group: String,
    /// The topic.
    pub topic: String,
    /// The partition.
    pub partition: i32,
    /// The next offset, as Kafka counts: 4204 when 4203 is done.
    pub offset: i64,
}

/// A reset, as it is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    pub(super) group: String,
    pub(super) selection: Selection,
    pub(super) target: Target,
    pub(super) actor: String,
    pub(super) reason: String,
    pub(super) undo_rows: bool,
}

impl Request {
    /// Moves what `selection` names of `group` to `target`.
    #[must_use]
    pub fn new(group: impl Into<String>, selection: Selection, target: Target) -> Self {
        let (actor, reason) = ("unknown".to_owned(), "none given".to_owned());
        Self { group: group.into(), selection, target, actor, reason, undo_rows: false }
    }

    /// Who asks: recorded with the plan and with every move.
    #[must_use]
    pub fn actor(mut self, actor: impl Into<String>) -> Self {
        self.actor = actor.into();
        self
    }

    /// Why: recorded with the plan and with every move.
    #[must_use]
    pub fn reason(mut self, reason: impl Into<String>) -> Self {
        self.reason = reason.into();
        self
    }

    /// Deletes the rows at or past the targets with the move, from every table that the group's programs have registered:
    /// what is read again is then there once. A partition that has not come as far as its target stays where it is.
    #[must_use]
    pub fn undo_rows(mut self, undo_rows: bool) -> Self {
        self.undo_rows = undo_rows;
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn topics_are_selected_as_kafkas_tool_does() {
        let parsed = |text: &str| text.parse::<TopicSelection>();
        assert_eq!(parsed("t").unwrap().partitions, None);
        assert_eq!(parsed("t:1,0").unwrap().partitions, Some([0, 1].into()));
        for wrong in ["", ":1", "t:", "t:a", "t:-1", "t:1,"] {
            assert!(parsed(wrong).is_err(), "{wrong}");
        }
        let some = Selection::Topics(vec![parsed("a").unwrap(), parsed("b:2").unwrap()]);
        assert!(some.covers("a", 7) && some.covers("b", 2) && !some.covers("b", 1) && !some.covers("c", 0));
        assert!(Selection::AllTopics.covers("c", 0));
    }
}
