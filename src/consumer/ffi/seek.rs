//! Seeking with a leader epoch, which makes the client ask the broker whether the log still has that position
//! (KIP-320): `rd_kafka_toppar_seek` of librdkafka 2.12.1 does, an assign does not (PITFALLS 8).

use std::ffi::CString;
use std::ptr::NonNull;
use std::slice;
use std::time::Duration;

use rdkafka::consumer::Consumer;
use rdkafka::error::RDKafkaErrorCode;
use rdkafka_sys as rdsys;

use super::{EventQueue, error_code};
use crate::batch::{EpochMark, PartitionKey};

impl EventQueue {
    /// Seeks each partition to its mark; one result each. The client's main thread answers that it has begun to
    /// validate; what comes of it is a record, or an error event.
    pub(crate) fn seek(
        &self,
        marks: &[(PartitionKey, EpochMark)],
        limit: Duration,
    ) -> Vec<Result<(), RDKafkaErrorCode>> {
        let limit_ms = i32::try_from(limit.as_millis()).unwrap_or(i32::MAX).max(1);
        // SAFETY: the list is ours until it is destroyed, and has an element per `add`; `add` copies the name and
        // returns an element of the list, valid until the next `add`. The client is valid; an error is ours to destroy.
        unsafe {
            let list = rdsys::rd_kafka_topic_partition_list_new(i32::try_from(marks.len()).unwrap_or(0));
            for (key, mark) in marks {
                // A topic that the client has assigned has no zero byte in its name.
                let topic = CString::new(&*key.topic).unwrap_or_default();
                let element = rdsys::rd_kafka_topic_partition_list_add(list, topic.as_ptr(), key.partition);
                (*element).offset = mark.at.get();
                rdsys::rd_kafka_topic_partition_set_leader_epoch(element, mark.leader_epoch);
            }
            let failed = rdsys::rd_kafka_seek_partitions(self.client.client().native_ptr(), list, limit_ms);
            let failed = NonNull::new(failed).map(|error| {
                let code = error_code(rdsys::rd_kafka_error_code(error.as_ptr()));
                rdsys::rd_kafka_error_destroy(error.as_ptr());
                code.unwrap_or(RDKafkaErrorCode::Fail)
            });
            let elements = slice::from_raw_parts((*list).elems, marks.len());
            let results = elements
                .iter()
                .map(|element| failed.or(error_code(element.err)).map_or(Ok(()), Err))
                .collect();
            rdsys::rd_kafka_topic_partition_list_destroy(list);
            results
        }
    }
}
