//! Whether anything is left that runs. One partition that has halted is a detail; all of them are a worker that is ready,
//! and applies nothing.

use std::time::Instant;

use super::PartitionState;
use super::control::Control;
use super::status::PartitionStatus;
use crate::due::{Trouble, span};

/// What is said where nothing but halted partitions is assigned; `None` where something else is, or nothing.
pub(super) fn all_halted(partitions: &[PartitionStatus]) -> Option<String> {
    let first = partitions.first()?;
    let all = partitions.iter().all(|status| status.state == PartitionState::Halted);
    let why = first.detail.as_deref().unwrap_or("see the log");
    all.then(|| match partitions.len() {
        1 => format!("its only partition is halted, and it applies nothing: {why}"),
        count => format!(
            "all {count} partitions of this worker are halted, and it applies nothing; the first: {why}"
        ),
    })
}

impl Control {
    /// Says it in the log, at growing intervals, and that it is over.
    pub(super) fn look_at_halts(&mut self) {
        let now = Instant::now();
        match (all_halted(&self.board.get().partitions), &mut self.all_halted) {
            (Some(why), said) => {
                if said.get_or_insert_with(|| Trouble::new(now)).is_due(now) {
                    tracing::warn!("{why}");
                }
            }
            (None, said) => {
                if let Some(words) = said.take() {
                    tracing::info!(
                        "not all partitions are halted any more, after {}",
                        span(words.lasted(now))
                    );
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::worker::sampling::tests::status;

    #[test]
    fn only_where_nothing_runs() {
        let running = status(Some(7), 10);
        let halted = PartitionStatus {
            state: PartitionState::Halted,
            detail: Some("why".to_owned()),
            ..running.clone()
        };
        assert_eq!(all_halted(&[]), None);
        assert_eq!(all_halted(&[halted.clone(), running]), None);
        let one = all_halted(std::slice::from_ref(&halted)).unwrap();
        assert_eq!(one, "its only partition is halted, and it applies nothing: why");
        assert!(
            all_halted(&[halted.clone(), halted])
                .unwrap()
                .starts_with("all 2 partitions of this worker are halted")
        );
    }
}
