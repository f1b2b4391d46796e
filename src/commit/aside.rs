//! What a batch sets aside: the records that were rejected before, and those that its handler has rejected now.

use std::collections::BTreeMap;

use crate::batch::Part;
use crate::dead_letter::{Counted, Policies, Rejection};
use crate::record::RecordId;
use crate::verdict::Class;
use crate::{Batch, HandlerError, Record};

/// A record that is to be stored, and why.
pub(super) type Set<'a> = (Record<'a>, &'a Rejection);

/// See the module.
pub(super) struct Aside<'a> {
    /// In the order of the batch's records.
    pub(super) letters: Vec<Set<'a>>,
    /// `None`: no record can be set aside at all.
    pub(super) counted: Option<Counted>,
    /// How many of them the handler has rejected.
    pub(super) by_handler: usize,
}

impl<'a> Aside<'a> {
    /// # Errors
    /// A rejection of the first record that would be one too many, or a handler's rejection of a record that it was not
    /// given.
    pub(super) fn new(
        policies: &Policies,
        batch: &'a Batch,
        by_handler: &'a BTreeMap<RecordId, Rejection>,
    ) -> Result<Self, HandlerError> {
        if !policies.is_any() {
            return Ok(Self { letters: Vec::new(), counted: None, by_handler: 0 });
        }
        let letters: Vec<Set<'_>> = batch.parts.iter().flat_map(|part| of_part(part, by_handler)).collect();
        let before = batch.parts.iter().filter(|part| part.letter.is_some()).count();
        if letters.len() != by_handler.len() + before {
            let is_known = |id: &&RecordId| letters.iter().any(|(record, _)| record.id() == **id);
            let stray = by_handler.keys().find(|id| !is_known(id));
            return Err(HandlerError::fatal(format!(
                "the handler has rejected a record that its batch does not hold ({}): reject records of the batch at hand",
                stray.map(ToString::to_string).unwrap_or_default()
            )));
        }
        let ids: Vec<RecordId> = by_handler.keys().cloned().collect();
        let counted = policies.admit(batch, &ids).map_err(|refused| {
            let why = letters.iter().find(|(record, _)| record.id() == refused.record);
            let reason = why.map(|(_, why)| why.reason.clone()).unwrap_or_default();
            HandlerError::reject_at(refused.record, reason).beyond(refused.limit)
        })?;
        Ok(Self { letters, counted: Some(counted), by_handler: by_handler.len() })
    }

    /// What it means that they cannot be stored: no record is to blame for that.
    pub(super) fn not_stored(&self, error: tokio_postgres::Error) -> HandlerError {
        let error = HandlerError::from(error);
        if !matches!(error.cause().class, Class::Reject | Class::Bug | Class::Privilege) {
            return error;
        }
        let (record, why) = self
            .letters
            .first()
            .map_or_else(Default::default, |(record, why)| (record.id().to_string(), why.reason.clone()));
        let reason = format!(
            "record {record} was rejected ({why}), and its dead letter cannot be stored: {}; see to the tables of Highwater's \
             schema and the worker's rights to them (highwater doctor)",
            error.reason()
        );
        HandlerError::fatal(reason).with_source(error)
    }
}

fn of_part<'a>(part: &'a Part, by_handler: &'a BTreeMap<RecordId, Rejection>) -> Vec<Set<'a>> {
    let id = |offset| RecordId { topic: part.key.topic.clone(), partition: part.key.partition, offset };
    let now = by_handler.range(id(part.from.get())..id(part.to.get()));
    let mut records = part.records();
    let mut letters: Vec<Set<'_>> = now
        .filter_map(|(id, why)| Some((records.by_ref().find(|record| record.offset() == id.offset)?, why)))
        .collect();
    letters.extend(part.rejected());
    letters
}
