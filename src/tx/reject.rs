//! Records that a handler rejects without failing its batch.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::Tx;
use crate::dead_letter::{Policies, Rejection};
use crate::record::RecordId;
use crate::{HandlerError, Record};

/// What was rejected in this transaction.
#[derive(Debug, Default)]
pub(crate) struct Rejections {
    /// `None`: a record that is rejected halts its partition.
    policies: Option<Arc<Policies>>,
    rejected: BTreeMap<RecordId, Rejection>,
    /// The first one that the policy did not allow, and why it was rejected.
    refused: Option<(RecordId, String)>,
}

impl Tx {
    /// Rejects one record and goes on with the others: it becomes a dead letter, whole, in this very transaction (EO-9).
    /// Write nothing for it, or undo that with a [savepoint](Self::savepoint).
    ///
    /// A rejection stands, also when a savepoint that was set before it is returned to; if the batch fails, it is gone with
    /// the batch. The first reason counts. It is stored and shown: put no data into it.
    ///
    /// ```
    /// use highwater::{Batch, HandlerError, Tx};
    ///
    /// # #[expect(dead_code)]
    /// async fn handle(batch: &Batch, tx: &mut Tx) -> Result<(), HandlerError> {
    ///     let (mut offsets, mut values) = (Vec::new(), Vec::new());
    ///     for record in batch {
    ///         match record.value().map(std::str::from_utf8) {
    ///             Some(Ok(value)) => {
    ///                 offsets.push(record.offset());
    ///                 values.push(value);
    ///             }
    ///             _ => tx.reject(&record, "the value is not text")?,
    ///         }
    ///     }
    ///     let insert = "INSERT INTO seen SELECT * FROM unnest($1::bigint[], $2::text[])";
    ///     tx.execute(insert, &[&offsets, &values]).await?;
    ///     Ok(())
    /// }
    /// ```
    ///
    /// # Errors
    /// A [rejection](HandlerError::reject) of this record where the policy of its route is `halt`, which is the default:
    /// pass it on with `?`, and the partition halts there. If it is kept back, the batch fails with it all the same.
    pub fn reject(&mut self, record: &Record<'_>, reason: impl Into<String>) -> Result<(), HandlerError> {
        self.set_aside(HandlerError::reject(record, reason))
    }

    /// Whether this record was rejected in this transaction: for a handler that writes more of the records that it has given
    /// to a [`TableSink`](crate::TableSink), which rejects those that do not fit its columns.
    #[must_use]
    pub fn has_rejected(&self, record: &Record<'_>) -> bool {
        let rejected = &self.rejections.rejected;
        !rejected.is_empty() && rejected.contains_key(&record.id())
    }

    /// As [`reject`](Self::reject), for an error that rejects a record by name.
    pub(crate) fn set_aside(&mut self, error: HandlerError) -> Result<(), HandlerError> {
        let Some(record) = error.record().cloned() else { return Err(error) };
        let this = &mut self.rejections;
        match this.policies.as_ref().filter(|policies| policies.sets_aside(&record.topic)) {
            Some(policies) => {
                let why = || Rejection::of(policies.handler(&record.topic), &error);
                this.rejected.entry(record.clone()).or_insert_with(why);
                Ok(())
            }
            None => {
                this.refused.get_or_insert_with(|| (record, error.reason().to_owned()));
                Err(error)
            }
        }
    }

    /// What becomes of rejected records from now on.
    pub(crate) fn under(&mut self, policies: &Arc<Policies>) {
        self.rejections.policies = Some(Arc::clone(policies));
    }

    /// The first rejection that was refused, whether the handler has passed it on or not.
    pub(crate) fn refused(&self) -> Option<HandlerError> {
        let (record, reason) = self.rejections.refused.as_ref()?;
        Some(HandlerError::reject_at(record.clone(), reason.clone()))
    }

    /// What was rejected, in the order of topic, partition and offset.
    pub(crate) fn take_rejected(&mut self) -> BTreeMap<RecordId, Rejection> {
        std::mem::take(&mut self.rejections.rejected)
    }
}
