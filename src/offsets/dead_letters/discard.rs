//! Deciding that dead letters will not be applied.

use super::super::Offsets;
use super::{DeadLetterFilter, DeadLetterState, filter};
use crate::error::{Error, Result};

/// How many a transaction decides about.
const PORTION: i64 = 5_000;

/// Who discards, and why.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub struct Discard<'a> {
    /// Who.
    pub actor: &'a str,
    /// Why.
    pub reason: &'a str,
    /// Also what is parked behind others of its key, and was not rejected itself.
    pub parked: bool,
}

impl<'a> Discard<'a> {
    /// By somebody, for a reason.
    #[must_use]
    pub fn by(actor: &'a str, reason: &'a str) -> Self {
        Self { actor, reason, parked: false }
    }

    /// Also those that fit and are parked behind others of their keys: they were not rejected themselves.
    #[must_use]
    pub fn with_parked(self, parked: bool) -> Self {
        Self { parked, ..self }
    }

    /// Which states it is about.
    #[must_use]
    pub fn states(&self) -> Vec<DeadLetterState> {
        let parked = self.parked.then_some(DeadLetterState::Parked);
        [DeadLetterState::Open].into_iter().chain(parked).collect()
    }
}

impl Offsets {
    /// Discards those that fit and are open (and [parked](Discard::with_parked)): nothing waits for them any more, and they are pruned with the rest of the
    /// history. Who did it and why is kept with each. Says how many; whatever breaks it off, what was done so far stays, and
    /// the rest is as it was.
    ///
    /// # Errors
    ///
    /// If it cannot be done, or nobody has heard of the group.
    pub async fn discard_dead_letters(&mut self, filter: &DeadLetterFilter, why: Discard<'_>) -> Result<u64> {
        self.reconnect().await?;
        let filter = filter.clone().states(Some(why.states()));
        let sql = format!(
            "WITH these AS ( \
               SELECT d.dead_letter_id FROM {letters} d WHERE {which} ORDER BY d.dead_letter_id LIMIT {PORTION} FOR UPDATE), \
             gone AS ( \
               UPDATE {letters} d SET state = 'discarded', state_changed_at = clock_timestamp() \
               FROM these WHERE d.dead_letter_id = these.dead_letter_id AND d.state IN ('open', 'parked') \
               RETURNING d.dead_letter_id) \
             INSERT INTO {attempts} (dead_letter_id, kind, error) SELECT dead_letter_id, 'discard', ${} FROM gone",
            filter::VALUES + 1,
            letters = self.schema().qualified("dead_letter"),
            attempts = self.schema().qualified("dead_letter_attempt"),
            which = filter::WHICH,
        );
        let said = format!("discarded by {}: {}", why.actor, why.reason);
        let values = filter.values();
        let mut discarded = 0;
        loop {
            let mut parameters = values.parameters();
            parameters.push(&said);
            let count = self.client.execute(&sql, &parameters).await;
            let count = count.map_err(|source| {
                let text = format!("discard dead letters of group `{}` ({discarded} are)", filter.group);
                Error::postgres(text, source)
            })?;
            discarded += count;
            if count == 0 {
                break;
            }
        }
        if discarded == 0 {
            self.check_names(&filter).await?;
        }
        Ok(discarded)
    }
}
