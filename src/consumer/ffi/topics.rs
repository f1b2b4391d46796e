//! Questions that the crate cannot ask: a topic's id, the cluster's id as *this* answer says it, and offsets under an
//! isolation level of one's own (PITFALLS 16).
//!
//! Each is an admin request with a queue of its own; sent at once, answered on [`Question::answer`], so that several
//! are under way together. Sources: `rdkafka.h`, `rdkafka_admin.c` of librdkafka 2.12.1.

use std::collections::BTreeSet;
use std::ffi::CString;
use std::ptr::{self, NonNull};
use std::slice;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rdkafka::consumer::Consumer;
use rdkafka::error::RDKafkaErrorCode;
use rdkafka_sys as rdsys;

use super::rights::{Right, include_rights};
use super::{Client, error_code, place, text};
use crate::batch::PartitionKey;

/// Which offset of a partition is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum OffsetSpec {
    /// The first that is still there.
    Earliest,
    /// The end as a reader sees it that does not wait for transactions: the high watermark.
    UncommittedEnd,
    /// The last stable offset: the end, or where the first open transaction begins.
    StableEnd,
    /// The record with the newest timestamp.
    Newest,
}

/// How much later than its time limit the client may say that a request has failed.
const GRACE: Duration = Duration::from_secs(2);

/// A request that is under way. It is waited for in any case, be it in `drop`: librdkafka 2.12.1 aborts the process
/// (`rko_result`) when the answer to a question about topics reaches a client that is being closed.
pub(crate) struct Question<'c> {
    queue: NonNull<rdsys::rd_kafka_queue_t>,
    /// When the client gives it up.
    until: Instant,
    answered: bool,
    /// The client must outlive its queue.
    _client: &'c Client,
}

impl<'c> Question<'c> {
    fn new(client: &'c Client, until: Instant) -> Self {
        // SAFETY: the client is valid; the queue is destroyed in `drop`, before the client, which is borrowed.
        let queue = unsafe { rdsys::rd_kafka_queue_new(client.client().native_ptr()) };
        Self {
            queue: NonNull::new(queue).expect("librdkafka aborts when it is out of memory"),
            until,
            answered: false,
            _client: client,
        }
    }

    /// Asks for the ids of topics.
    pub(crate) fn topics(client: &'c Client, topics: &[&str], until: Instant) -> Self {
        Self::describe(client, topics, until, false)
    }

    /// … and what this client may do with them.
    pub(crate) fn rights(client: &'c Client, topics: &[&str], until: Instant) -> Self {
        Self::describe(client, topics, until, true)
    }

    fn describe(client: &'c Client, topics: &[&str], until: Instant, with_rights: bool) -> Self {
        let question = Self::new(client, until);
        let options =
            Options::new(client, rdsys::rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_DESCRIBETOPICS, until);
        if with_rights {
            // SAFETY: the options are valid.
            unsafe { include_rights(options.0.as_ptr()) };
        }
        // A topic with a zero byte in its name was refused by the configuration; here it would be skipped.
        let names: Vec<CString> = topics.iter().filter_map(|topic| CString::new(*topic).ok()).collect();
        let mut pointers: Vec<_> = names.iter().map(|name| name.as_ptr()).collect();
        // SAFETY: the pointers are valid for the call, which copies the names; client, options and queue are valid,
        // and the request copies what it needs of the collection, which is destroyed once.
        unsafe {
            let collection =
                rdsys::rd_kafka_TopicCollection_of_topic_names(pointers.as_mut_ptr(), pointers.len());
            rdsys::rd_kafka_DescribeTopics(
                client.client().native_ptr(),
                collection,
                options.0.as_ptr(),
                question.queue.as_ptr(),
            );
            rdsys::rd_kafka_TopicCollection_destroy(collection);
        }
        question
    }

    /// Asks for an offset of each partition; each may be named once. A leader has until `leader`, counted from when it
    /// is known; the whole is waited for until `until`.
    pub(crate) fn offsets(
        client: &'c Client,
        keys: &[PartitionKey],
        spec: OffsetSpec,
        leader: Instant,
        until: Instant,
    ) -> Self {
        let question = Self::new(client, until);
        let options = Options::new(client, rdsys::rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_LISTOFFSETS, leader);
        let offset = match spec {
            OffsetSpec::Earliest => rdsys::rd_kafka_OffsetSpec_t::RD_KAFKA_OFFSET_SPEC_EARLIEST,
            OffsetSpec::UncommittedEnd | OffsetSpec::StableEnd => {
                rdsys::rd_kafka_OffsetSpec_t::RD_KAFKA_OFFSET_SPEC_LATEST
            }
            OffsetSpec::Newest => rdsys::rd_kafka_OffsetSpec_t::RD_KAFKA_OFFSET_SPEC_MAX_TIMESTAMP,
        };
        if spec == OffsetSpec::StableEnd {
            options.read_committed();
        }
        // SAFETY: the list is ours until it is destroyed; `add` copies the name and returns an element of the list,
        // valid until the next `add`. Client, options and queue are valid, and the request copies the list.
        unsafe {
            let list = rdsys::rd_kafka_topic_partition_list_new(i32::try_from(keys.len()).unwrap_or(0));
            for key in keys {
                let Ok(topic) = CString::new(&*key.topic) else { continue };
                let element = rdsys::rd_kafka_topic_partition_list_add(list, topic.as_ptr(), key.partition);
                (*element).offset = offset as i64;
            }
            rdsys::rd_kafka_ListOffsets(
                client.client().native_ptr(),
                list,
                options.0.as_ptr(),
                question.queue.as_ptr(),
            );
            rdsys::rd_kafka_topic_partition_list_destroy(list);
        }
        question
    }

    /// Waits for the answer. Blocks.
    ///
    /// # Errors
    /// When none came in time, or the request failed as a whole.
    pub(crate) fn answer(mut self) -> Result<Answer, RDKafkaErrorCode> {
        let answer = self.wait().ok_or(RDKafkaErrorCode::OperationTimedOut)?;
        // SAFETY: the event is valid.
        match error_code(unsafe { rdsys::rd_kafka_event_error(answer.0.as_ptr()) }) {
            None => Ok(answer),
            Some(code) => Err(code),
        }
    }
}

impl Question<'_> {
    fn wait(&mut self) -> Option<Answer> {
        let left = (self.until + GRACE).saturating_duration_since(Instant::now());
        let timeout_ms = i32::try_from(left.as_millis()).unwrap_or(i32::MAX);
        // SAFETY: the queue is valid; the event is destroyed in `Answer::drop`.
        let event = unsafe { rdsys::rd_kafka_queue_poll(self.queue.as_ptr(), timeout_ms) };
        self.answered = true;
        NonNull::new(event).map(Answer)
    }
}

impl Drop for Question<'_> {
    fn drop(&mut self) {
        if !self.answered {
            drop(self.wait());
        }
        // SAFETY: made in `new`, destroyed once. What is still under way answers into nothing.
        unsafe { rdsys::rd_kafka_queue_destroy(self.queue.as_ptr()) }
    }
}

/// What came back, owned until dropped. An accessor that does not fit the question finds nothing.
pub(crate) struct Answer(NonNull<rdsys::rd_kafka_event_t>);

/// The cluster's id, as the last answer of any broker about topics said it; `None` if it did not. Blocks for nothing.
///
/// There is a request for it (`DescribeCluster`), which names no topic, and librdkafka 2.12.1 aborts the process
/// (`rko_result`) if a broker then knows of no broker either, not even of itself: one that was frozen, or has just come
/// back, and is alone.
pub(crate) fn cluster_id(client: &Client) -> Option<String> {
    let client = client.client().native_ptr();
    // SAFETY: the client is valid; the text is NULL, or a C string that is ours and is freed once.
    unsafe {
        let id = NonNull::new(rdsys::rd_kafka_clusterid(client, 0))?;
        let owned = text(id.as_ptr());
        rdsys::rd_kafka_mem_free(client, id.as_ptr().cast());
        Some(owned).filter(|id| !id.is_empty())
    }
}

/// A topic, and its id as Kafka's tools print it; `None` from a broker that has no ids (before 2.8).
pub(crate) type TopicId = (String, Result<Option<String>, RDKafkaErrorCode>);

impl Answer {
    pub(crate) fn topic_ids(&self) -> Vec<TopicId> {
        let mut count = 0;
        // SAFETY: the event is valid; the accessor gives NULL for another type of event; what it returns lives as
        // long as the event and has `count` elements.
        unsafe {
            let result = rdsys::rd_kafka_event_DescribeTopics_result(self.0.as_ptr());
            if result.is_null() {
                return Vec::new();
            }
            let topics = rdsys::rd_kafka_DescribeTopics_result_topics(result, &raw mut count);
            array(topics.cast_const(), count)
                .iter()
                .filter(|topic| !topic.is_null())
                .map(|topic| topic_id(*topic))
                .collect()
        }
    }

    /// The partitions that the topics have, and whether each has a leader.
    pub(crate) fn leaders(&self) -> Vec<(PartitionKey, bool)> {
        let mut count = 0;
        // SAFETY: as in `topic_ids`; a description's name and partitions live as long as it.
        unsafe {
            let result = rdsys::rd_kafka_event_DescribeTopics_result(self.0.as_ptr());
            if result.is_null() {
                return Vec::new();
            }
            let topics = rdsys::rd_kafka_DescribeTopics_result_topics(result, &raw mut count);
            let topics = array(topics.cast_const(), count).iter().filter(|topic| !topic.is_null());
            topics.flat_map(|topic| leaders(*topic)).collect()
        }
    }

    /// What this client may do with each topic, if that was asked for.
    pub(crate) fn rights(&self) -> Vec<(String, Result<BTreeSet<Right>, RDKafkaErrorCode>)> {
        let mut count = 0;
        // SAFETY: as in `topic_ids`.
        unsafe {
            let result = rdsys::rd_kafka_event_DescribeTopics_result(self.0.as_ptr());
            if result.is_null() {
                return Vec::new();
            }
            let topics = rdsys::rd_kafka_DescribeTopics_result_topics(result, &raw mut count);
            let topics = array(topics.cast_const(), count).iter().filter(|topic| !topic.is_null());
            topics
                .map(|topic| {
                    let (name, id) = topic_id(*topic);
                    let mut count = 0;
                    let rights =
                        rdsys::rd_kafka_TopicDescription_authorized_operations(*topic, &raw mut count);
                    (name, id.map(|_| Right::read(rights, count)))
                })
                .collect()
        }
    }

    /// The timestamps, in ms since 1970, of the records that were asked for; a partition without any has none.
    pub(crate) fn timestamps(&self) -> Vec<(PartitionKey, i64)> {
        let mut count = 0;
        // SAFETY: as in `offsets`.
        unsafe {
            let result = rdsys::rd_kafka_event_ListOffsets_result(self.0.as_ptr());
            if result.is_null() {
                return Vec::new();
            }
            let infos = rdsys::rd_kafka_ListOffsets_result_infos(result, &raw mut count);
            let of_info = |info: &*const rdsys::rd_kafka_ListOffsetsResultInfo_t| {
                let place = place(&*rdsys::rd_kafka_ListOffsetsResultInfo_topic_partition(*info));
                let timestamp = rdsys::rd_kafka_ListOffsetsResultInfo_timestamp(*info);
                let key = PartitionKey { topic: place.topic.as_str().into(), partition: place.partition };
                (place.error.is_none() && timestamp >= 0).then_some((key, timestamp))
            };
            array(infos.cast_const(), count).iter().filter_map(of_info).collect()
        }
    }

    /// A partition whose leader did not answer has an error, or a negative offset.
    pub(crate) fn offsets(&self) -> Vec<(PartitionKey, Result<i64, RDKafkaErrorCode>)> {
        let mut count = 0;
        // SAFETY: as in `topic_ids`; every element has a topic partition that lives as long as it.
        unsafe {
            let result = rdsys::rd_kafka_event_ListOffsets_result(self.0.as_ptr());
            if result.is_null() {
                return Vec::new();
            }
            let infos = rdsys::rd_kafka_ListOffsets_result_infos(result, &raw mut count);
            array(infos.cast_const(), count)
                .iter()
                .map(|info| {
                    let place = place(&*rdsys::rd_kafka_ListOffsetsResultInfo_topic_partition(*info));
                    let key = PartitionKey { topic: place.topic.as_str().into(), partition: place.partition };
                    (key, place.error.map_or(Ok(place.offset), Err))
                })
                .collect()
        }
    }
}

impl Drop for Answer {
    fn drop(&mut self) {
        // SAFETY: owned since `answer`; destroyed once.
        unsafe { rdsys::rd_kafka_event_destroy(self.0.as_ptr()) }
    }
}

/// Options of an admin request: its time limit.
struct Options(NonNull<rdsys::rd_kafka_AdminOptions_t>);

impl Options {
    fn new(client: &Client, operation: rdsys::rd_kafka_admin_op_t, until: Instant) -> Self {
        let left = until.saturating_duration_since(Instant::now());
        let timeout_ms = i32::try_from(left.as_millis()).unwrap_or(i32::MAX).max(1);
        // SAFETY: the client is valid; the options are destroyed in `drop`. Without a buffer for its text, a refused
        // time-out (there is none: it is positive and in range) leaves the default.
        unsafe {
            let options = rdsys::rd_kafka_AdminOptions_new(client.client().native_ptr(), operation);
            let options = NonNull::new(options).expect("the operation is one that librdkafka knows");
            rdsys::rd_kafka_AdminOptions_set_request_timeout(
                options.as_ptr(),
                timeout_ms,
                ptr::null_mut(),
                0,
            );
            Self(options)
        }
    }

    /// For questions about offsets only.
    fn read_committed(&self) {
        // SAFETY: the options are valid; an error, which there is none for this kind of question, is destroyed once.
        unsafe {
            let error = rdsys::rd_kafka_AdminOptions_set_isolation_level(
                self.0.as_ptr(),
                rdsys::rd_kafka_IsolationLevel_t::RD_KAFKA_ISOLATION_LEVEL_READ_COMMITTED,
            );
            debug_assert!(error.is_null(), "offsets are asked under a level of one's own");
            if !error.is_null() {
                rdsys::rd_kafka_error_destroy(error);
            }
        }
    }
}

impl Drop for Options {
    fn drop(&mut self) {
        // SAFETY: made in `new`, destroyed once.
        unsafe { rdsys::rd_kafka_AdminOptions_destroy(self.0.as_ptr()) }
    }
}

/// # Safety
/// `elements` is NULL or points to `count` elements that live for `'a`.
unsafe fn array<'a, T>(elements: *const T, count: usize) -> &'a [T] {
    if elements.is_null() || count == 0 {
        return &[];
    }
    // SAFETY: by the contract above.
    unsafe { slice::from_raw_parts(elements, count) }
}

/// # Safety
/// `topic` is a valid description.
unsafe fn leaders(topic: *const rdsys::rd_kafka_TopicDescription_t) -> Vec<(PartitionKey, bool)> {
    let mut count = 0;
    // SAFETY: by the contract above; a partition's leader is NULL, or lives with it.
    unsafe {
        let name = Arc::from(text(rdsys::rd_kafka_TopicDescription_name(topic)));
        let partitions = rdsys::rd_kafka_TopicDescription_partitions(topic, &raw mut count);
        let leader = |partition: &*const rdsys::rd_kafka_TopicPartitionInfo_t| {
            let leader = rdsys::rd_kafka_TopicPartitionInfo_leader(*partition);
            let is_led = !leader.is_null() && rdsys::rd_kafka_Node_id(leader) >= 0;
            let partition = rdsys::rd_kafka_TopicPartitionInfo_partition(*partition);
            (PartitionKey { topic: Arc::clone(&name), partition }, is_led)
        };
        array(partitions.cast_const(), count).iter().map(leader).collect()
    }
}

/// # Safety
/// `topic` is a valid description.
unsafe fn topic_id(topic: *const rdsys::rd_kafka_TopicDescription_t) -> TopicId {
    // SAFETY: by the contract above; error and id are NULL or live as long as the description.
    unsafe {
        let name = text(rdsys::rd_kafka_TopicDescription_name(topic));
        let error = rdsys::rd_kafka_TopicDescription_error(topic);
        if let Some(code) =
            (!error.is_null()).then(|| error_code(rdsys::rd_kafka_error_code(error))).flatten()
        {
            return (name, Err(code));
        }
        let id = rdsys::rd_kafka_TopicDescription_topic_id(topic);
        let is_zero = id.is_null()
            || (rdsys::rd_kafka_Uuid_most_significant_bits(id) == 0
                && rdsys::rd_kafka_Uuid_least_significant_bits(id) == 0);
        // Kafka's tools print the URL-safe alphabet, librdkafka the plain one.
        let id =
            (!is_zero).then(|| text(rdsys::rd_kafka_Uuid_base64str(id)).replace('+', "-").replace('/', "_"));
        (name, Ok(id))
    }
}
