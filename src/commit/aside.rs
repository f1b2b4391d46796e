//! What a batch sets aside: the records that were rejected before, and those that its handler has rejected now.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};

use crate::batch::Part;
use crate::dead_letter::{Behind, Counted, Deed, Policies, Rejection};
use crate::record::RecordId;
use crate::verdict::Class;
use crate::{Batch, HandlerError, Record};

/// A record that is to be stored, and why.
pub(super) struct Set<'a> {
    pub(super) record: Record<'a>,
    pub(super) why: Cow<'a, Rejection>,
    pub(super) deed: Deed,
}

impl<'a> Set<'a> {
    fn rejected((record, why): (Record<'a>, &'a Rejection)) -> Self {
        Self { record, why: Cow::Borrowed(why), deed: Deed::Reject }
    }

    fn parked((record, behind): (Record<'a>, &'a Behind)) -> Self {
        Self { record, why: Cow::Owned(behind.rejection()), deed: Deed::Park }
    }
}

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
        let before = batch.parts.iter().map(|part| part.all() - part.len()).sum::<usize>();
        if letters.len() != by_handler.len() + before {
            let is_known = |id: &&RecordId| letters.iter().any(|set| set.record.id() == **id);
            let stray = by_handler.keys().find(|id| !is_known(id));
            return Err(HandlerError::fatal(format!(
                "the handler has rejected a record that its batch does not hold ({}): reject records of the batch at hand",
                stray.map(ToString::to_string).unwrap_or_default()
            )));
        }
        let ids: Vec<RecordId> = by_handler.keys().cloned().collect();
        let counted = policies.admit(batch, &ids).map_err(|refused| {
            let why = letters.iter().find(|set| set.record.id() == refused.record);
            let reason = why.map(|set| set.why.reason.clone()).unwrap_or_default();
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
            .map_or_else(Default::default, |set| (set.record.id().to_string(), set.why.reason.clone()));
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
    let now = now
        .filter_map(|(id, why)| Some((records.by_ref().find(|record| record.offset() == id.offset)?, why)));
    let mut letters: Vec<Set<'_>> = now.map(Set::rejected).collect();
    if !part.parked.is_empty() {
        letters.extend(part.parked().map(Set::parked));
        letters.sort_by_key(|set| set.record.offset());
    }
    letters.extend(part.rejected().map(Set::rejected));
    letters
}

/// The first record of each part that was rejected now though later ones of its key were handed out with it, which must
/// not be applied before it.
pub(super) fn overtaken(
    policies: &Policies,
    batch: &Batch,
    by_handler: &BTreeMap<RecordId, Rejection>,
) -> Vec<(RecordId, Rejection)> {
    if by_handler.is_empty() {
        return Vec::new();
    }
    let parking = batch.parts.iter().filter(|part| policies.parks(&part.key.topic));
    parking.filter_map(|part| overtaken_in(part, by_handler)).collect()
}

fn overtaken_in(part: &Part, by_handler: &BTreeMap<RecordId, Rejection>) -> Option<(RecordId, Rejection)> {
    let mut rejected: HashMap<&[u8], (RecordId, &Rejection)> = HashMap::new();
    let mut first: Option<(RecordId, &Rejection)> = None;
    for record in part.records() {
        let Some(key) = record.key() else { continue };
        let id = record.id();
        if let Some(why) = by_handler.get(&id) {
            rejected.entry(key).or_insert((id, why));
        } else if let Some(before) = rejected.remove(key)
            && first.as_ref().is_none_or(|(first, _)| before.0.offset < first.offset)
        {
            first = Some(before);
        }
    }
    first.map(|(id, why)| (id, why.clone()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::RejectPolicy;
    use crate::testing::rehearsal::{self, KeyValue};

    fn batch(keys: &[Option<&str>]) -> Batch {
        let records: Vec<KeyValue<'_>> = keys.iter().map(|key| (*key, Some("v"))).collect();
        rehearsal::batch(("t", 3), (100, 0), &records)
    }

    fn rejected(offsets: &[i64]) -> BTreeMap<RecordId, Rejection> {
        let id = |offset| RecordId { topic: "t".into(), partition: 3, offset };
        let why =
            |offset| Rejection { reason: format!("{offset}"), sqlstate: None, fingerprint: "k".to_owned() };
        offsets.iter().map(|offset| (id(*offset), why(*offset))).collect()
    }

    fn first(keys: &[Option<&str>], offsets: &[i64], policy: RejectPolicy) -> Option<i64> {
        let policies = Policies::new(Vec::new(), "program", policy);
        overtaken(&policies, &batch(keys), &rejected(offsets)).first().map(|(id, _)| id.offset)
    }

    #[test]
    fn a_record_is_overtaken_by_a_later_one_of_its_key_alone() {
        let park = RejectPolicy::park_key;
        let (a, b) = (Some("a"), Some("b"));
        assert_eq!(first(&[a, b, a], &[100], park()), Some(100));
        assert_eq!(first(&[a, b, a], &[102], park()), None, "nothing comes after it");
        assert_eq!(first(&[a, b, b], &[100], park()), None);
        assert_eq!(first(&[None, None], &[100], park()), None, "without a key there is no order");
        assert_eq!(first(&[a, a], &[100, 101], park()), None, "neither was applied");
        assert_eq!(first(&[a, a, a], &[100, 101], park()), Some(100), "the first of them");
        assert_eq!(first(&[a, b, b, a], &[100, 101], park()), Some(100));
        assert_eq!(first(&[b, a, a, b], &[100, 101], park()), Some(100));
        assert_eq!(first(&[a, b, a], &[100], RejectPolicy::dead_letter()), None);
    }
}
