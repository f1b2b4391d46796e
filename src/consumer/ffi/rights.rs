//! What a client may do, as brokers say it with a description (KIP-430): asked without doing it.

use std::collections::BTreeSet;
use std::slice;

use rdkafka_sys as rdsys;
use rdsys::rd_kafka_AclOperation_t as Operation;

/// An operation on a topic or a group, as Kafka's ACLs name them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Right {
    Read,
    Describe,
    DescribeConfigs,
    /// One that a worker needs not.
    Other,
}

impl Right {
    /// # Safety
    /// `first` is NULL, or points to `count` operations.
    pub(super) unsafe fn read(first: *const Operation, count: usize) -> BTreeSet<Self> {
        if first.is_null() {
            return BTreeSet::new();
        }
        // As numbers: a newer library may know operations that the binding's enum does not have.
        // SAFETY: by the contract above; the enum is C's, of 32 bits.
        let numbers = unsafe { slice::from_raw_parts(first.cast::<u32>(), count) };
        numbers.iter().map(|number| Self::of(*number)).collect()
    }

    fn of(number: u32) -> Self {
        let known = [
            (Operation::RD_KAFKA_ACL_OPERATION_READ, Self::Read),
            (Operation::RD_KAFKA_ACL_OPERATION_DESCRIBE, Self::Describe),
            (Operation::RD_KAFKA_ACL_OPERATION_DESCRIBE_CONFIGS, Self::DescribeConfigs),
        ];
        let found = known.into_iter().find(|(operation, _)| *operation as u32 == number);
        found.map_or(Self::Other, |(_, right)| right)
    }
}

/// Has a description tell what its asker may do.
///
/// # Safety
/// `options` are valid, and those of a description of topics or groups.
pub(super) unsafe fn include_rights(options: *mut rdsys::rd_kafka_AdminOptions_t) {
    // SAFETY: by the contract above; an error, of which there is none for these, is destroyed once.
    unsafe {
        let error = rdsys::rd_kafka_AdminOptions_set_include_authorized_operations(options, 1);
        debug_assert!(error.is_null(), "descriptions tell rights");
        if !error.is_null() {
            rdsys::rd_kafka_error_destroy(error);
        }
    }
}
