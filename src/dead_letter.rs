//! Dead letters: records that were rejected, stored whole in the transaction that steps over them (EO-9).
//!
//! Where today's judge names a record whose own data is at fault, the [policy](Policies) of its route decides: its
//! partition halts there, or the record is stored, within [limits](tally). Nothing else leads here, so an outage, a missing
//! privilege or a bug leaves no dead letter.

mod keys;
mod policy;
mod redrives;
mod rejection;
mod store;
mod tally;

pub(crate) use keys::{Behind, Keys, PARKED, WAITS, WaitingKeys, hash, same_key};
pub use policy::RejectPolicy;
pub(crate) use policy::{Counted, LIMIT_SAID, Policies};
pub(crate) use redrives::{
    Passed, Redrives, Request, Waiting, canaries_go, follow, obstacle, of_partition_sql, of_topic, on_list,
    up_to,
};
pub(crate) use rejection::Rejection;
pub(crate) use store::{Deed, Keep, Letter, Payload, Store, payload_of};
