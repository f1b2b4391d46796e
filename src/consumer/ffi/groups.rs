//! What brokers know of consumer groups: members, committed offsets, names. Only the client's admin calls tell this
//! of classic and of KIP-848 groups alike (PITFALLS 16), and the crate does not wrap them.
//!
//! Each call blocks for as long as its time-out and needs a thread that may.

use std::collections::BTreeSet;
use std::ffi::{CString, c_char};
use std::marker::PhantomData;
use std::ptr::{self, NonNull};
use std::slice;
use std::time::Duration;

use rdkafka::TopicPartitionList;
use rdkafka::consumer::Consumer;
use rdkafka::error::RDKafkaErrorCode;
use rdkafka_sys as rdsys;
use rdsys::rd_kafka_admin_op_t as AdminOp;

use super::rights::{Right, include_rights};
use super::{Client, error_code, text};

/// Beyond the request's own time-out, after which the client itself gives the answer.
const GRACE: Duration = Duration::from_secs(1);
/// The longest that a request may take: in effect until its client ends. One to a coordinator must not time out by
/// itself: if the coordinator comes back before the client is gone, librdkafka 2.12.1 frees the request's state twice
/// (`eonce->refcnt > 0`). Ended with its client, it is freed once.
const WITH_ITS_CLIENT: Duration = Duration::from_hours(1);

/// A member of a group, as its coordinator shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Member {
    pub(crate) id: String,
    pub(crate) client_id: String,
    /// With a leading slash, as Kafka's own tools print it.
    pub(crate) host: String,
    /// Of a static member.
    pub(crate) instance_id: Option<String>,
}

/// An offset that a group has committed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Committed {
    pub(crate) topic: String,
    pub(crate) partition: i32,
    pub(crate) offset: i64,
    pub(crate) metadata: String,
}

/// The group's members; none if there is no such group. After an error the client must be dropped.
pub(crate) fn members(
    client: &Client,
    group: &str,
    timeout: Duration,
) -> Result<Vec<Member>, RDKafkaErrorCode> {
    let answer = described(client, group, timeout, false)?;
    // SAFETY: the event is of this call, the only one on its queue; what the accessors return lives as long as it.
    unsafe {
        let result = rdsys::rd_kafka_event_DescribeConsumerGroups_result(answer.event.as_ptr());
        let mut count = 0;
        let groups = rdsys::rd_kafka_DescribeConsumerGroups_result_groups(result, &raw mut count);
        let Some(&group) = array(groups, count).first() else { return Ok(Vec::new()) };
        match error_of(rdsys::rd_kafka_ConsumerGroupDescription_error(group)) {
            // A group that never was: newer brokers say so, older ones show an empty one.
            Some(RDKafkaErrorCode::GroupIdNotFound) => return Ok(Vec::new()),
            Some(code) => return Err(code),
            None => {}
        }
        let members = 0..rdsys::rd_kafka_ConsumerGroupDescription_member_count(group);
        Ok(members
            .map(|index| {
                let member = rdsys::rd_kafka_ConsumerGroupDescription_member(group, index);
                Member {
                    id: text(rdsys::rd_kafka_MemberDescription_consumer_id(member)),
                    client_id: text(rdsys::rd_kafka_MemberDescription_client_id(member)),
                    host: text(rdsys::rd_kafka_MemberDescription_host(member)),
                    instance_id: Some(text(rdsys::rd_kafka_MemberDescription_group_instance_id(member)))
                        .filter(|id| !id.is_empty()),
                }
            })
            .collect())
    }
}

/// What this client may do with the group. After an error the client must be dropped.
pub(crate) fn rights(
    client: &Client,
    group: &str,
    timeout: Duration,
) -> Result<BTreeSet<Right>, RDKafkaErrorCode> {
    let answer = described(client, group, timeout, true)?;
    // SAFETY: as in `members`.
    unsafe {
        let result = rdsys::rd_kafka_event_DescribeConsumerGroups_result(answer.event.as_ptr());
        let mut count = 0;
        let groups = rdsys::rd_kafka_DescribeConsumerGroups_result_groups(result, &raw mut count);
        let Some(&group) = array(groups, count).first() else { return Err(RDKafkaErrorCode::Fail) };
        if let Some(code) = error_of(rdsys::rd_kafka_ConsumerGroupDescription_error(group)) {
            return Err(code);
        }
        let rights = rdsys::rd_kafka_ConsumerGroupDescription_authorized_operations(group, &raw mut count);
        Ok(Right::read(rights, count))
    }
}

fn described(
    client: &Client,
    group: &str,
    timeout: Duration,
    with_rights: bool,
) -> Result<Answer, RDKafkaErrorCode> {
    let group = c_string(group)?;
    let mut groups = [group.as_ptr()];
    let call = Call::new(client, AdminOp::RD_KAFKA_ADMIN_OP_DESCRIBECONSUMERGROUPS, WITH_ITS_CLIENT)?;
    // SAFETY: client, options and queue are valid; the one name is copied.
    unsafe {
        if with_rights {
            include_rights(call.options.as_ptr());
        }
        let client = client.client().native_ptr();
        rdsys::rd_kafka_DescribeConsumerGroups(
            client,
            groups.as_mut_ptr(),
            1,
            call.options.as_ptr(),
            call.queue.as_ptr(),
        );
    }
    call.answer(timeout)
}

/// Which of a group's committed offsets are asked for.
#[derive(Debug, Clone)]
pub(crate) enum Wanted {
    /// All of them, of whatever topic, as they stand: what a producer's open transaction is about to commit is not
    /// waited for.
    All,
    /// Those of one topic's partitions, from 0. One that an open transaction is about to commit is an error
    /// (`UnstableOffsetCommit`): ask again. Asked of no other topic, for one such offset fails the whole answer.
    Stable { topic: String, partition_count: i32 },
}

/// A topic's name, and what is committed of one of its partitions.
pub(crate) type OfTopic = (String, Result<Committed, RDKafkaErrorCode>);

/// What the group has committed. A partition that fails by itself (a topic that this client may not see) comes with its
/// own error. After an error of the whole the client must be dropped.
pub(crate) fn committed(
    client: &Client,
    group: &str,
    wanted: &Wanted,
    timeout: Duration,
) -> Result<Vec<OfTopic>, RDKafkaErrorCode> {
    let group = c_string(group)?;
    let call = Call::new(client, AdminOp::RD_KAFKA_ADMIN_OP_LISTCONSUMERGROUPOFFSETS, WITH_ITS_CLIENT)?;
    let list = match wanted {
        Wanted::All => None,
        Wanted::Stable { topic, partition_count } => {
            let mut list = TopicPartitionList::new();
            (0..*partition_count).for_each(|partition| {
                list.add_partition(topic, partition);
            });
            Some(list)
        }
    };
    // SAFETY: options and client are valid; a NULL list asks for all partitions; list and request are copied, and what
    // is made here is destroyed here, as is the error, if there is one.
    unsafe {
        let stable = i32::from(list.is_some());
        let refused = rdsys::rd_kafka_AdminOptions_set_require_stable_offsets(call.options.as_ptr(), stable);
        if !refused.is_null() {
            let code = rdsys::rd_kafka_error_code(refused);
            rdsys::rd_kafka_error_destroy(refused);
            return Err(code.into());
        }
        let partitions = list.as_ref().map_or(ptr::null(), |list| list.ptr().cast_const());
        let mut request = rdsys::rd_kafka_ListConsumerGroupOffsets_new(group.as_ptr(), partitions);
        let client = client.client().native_ptr();
        rdsys::rd_kafka_ListConsumerGroupOffsets(
            client,
            &raw mut request,
            1,
            call.options.as_ptr(),
            call.queue.as_ptr(),
        );
        rdsys::rd_kafka_ListConsumerGroupOffsets_destroy(request);
    }
    let answer = call.answer(timeout)?;
    // SAFETY: the event is of this call; what the accessors return lives as long as it.
    unsafe {
        let result = rdsys::rd_kafka_event_ListConsumerGroupOffsets_result(answer.event.as_ptr());
        let mut count = 0;
        let groups = rdsys::rd_kafka_ListConsumerGroupOffsets_result_groups(result, &raw mut count);
        let Some(&group) = array(groups, count).first() else { return Ok(Vec::new()) };
        if let Some(code) = error_of(rdsys::rd_kafka_group_result_error(group)) {
            return Err(code);
        }
        let Some(list) = rdsys::rd_kafka_group_result_partitions(group).as_ref() else {
            return Ok(Vec::new());
        };
        Ok(array(list.elems, usize::try_from(list.cnt).unwrap_or(0))
            .iter()
            .filter(|element| element.offset >= 0 || error_code(element.err).is_some())
            .map(|element| (text(element.topic), committed_offset(element)))
            .collect())
    }
}

/// The ids of all groups that the brokers show to this client.
pub(crate) fn group_ids(client: &Client, timeout: Duration) -> Result<Vec<String>, RDKafkaErrorCode> {
    let call = Call::new(client, AdminOp::RD_KAFKA_ADMIN_OP_LISTCONSUMERGROUPS, timeout)?;
    // SAFETY: client, options and queue are valid.
    unsafe {
        let client = client.client().native_ptr();
        rdsys::rd_kafka_ListConsumerGroups(client, call.options.as_ptr(), call.queue.as_ptr());
    }
    let answer = call.answer(timeout + GRACE)?;
    // SAFETY: the event is of this call; what the accessors return lives as long as it.
    unsafe {
        let result = rdsys::rd_kafka_event_ListConsumerGroups_result(answer.event.as_ptr());
        let mut count = 0;
        let groups = rdsys::rd_kafka_ListConsumerGroups_result_valid(result, &raw mut count);
        let groups = array(groups, count).iter();
        Ok(groups.map(|group| text(rdsys::rd_kafka_ConsumerGroupListing_group_id(*group))).collect())
    }
}

/// What one admin call needs: options and a queue of its own, on which nothing but its answer arrives.
struct Call<'c> {
    options: NonNull<rdsys::rd_kafka_AdminOptions_t>,
    queue: NonNull<rdsys::rd_kafka_queue_t>,
    client: PhantomData<&'c Client>,
}

impl<'c> Call<'c> {
    fn new(
        client: &'c Client,
        operation: AdminOp,
        request_timeout: Duration,
    ) -> Result<Self, RDKafkaErrorCode> {
        let client = client.client().native_ptr();
        // SAFETY: the client is valid, and outlives both by `'c`; `drop` releases them.
        let (options, queue) = unsafe {
            (rdsys::rd_kafka_AdminOptions_new(client, operation), rdsys::rd_kafka_queue_new(client))
        };
        let (Some(options), Some(queue)) = (NonNull::new(options), NonNull::new(queue)) else {
            // Neither fails short of an allocation that does, which aborts.
            return Err(RDKafkaErrorCode::Fail);
        };
        let call = Self { options, queue, client: PhantomData };
        let timeout_ms = i32::try_from(request_timeout.as_millis()).unwrap_or(i32::MAX);
        let mut why: [c_char; 1] = [0];
        // SAFETY: the options are valid; at most one byte of the reason is written.
        let refused = unsafe {
            rdsys::rd_kafka_AdminOptions_set_request_timeout(
                options.as_ptr(),
                timeout_ms,
                why.as_mut_ptr(),
                why.len(),
            )
        };
        error_code(refused).map_or(Ok(call), Err)
    }

    /// Waits for the answer, which is an error if the whole call failed.
    fn answer(&self, timeout: Duration) -> Result<Answer, RDKafkaErrorCode> {
        let limit_ms = i32::try_from(timeout.as_millis()).unwrap_or(i32::MAX);
        // SAFETY: the queue is valid; the event is destroyed by `Answer`.
        let event = unsafe { rdsys::rd_kafka_queue_poll(self.queue.as_ptr(), limit_ms) };
        let answer = Answer { event: NonNull::new(event).ok_or(RDKafkaErrorCode::OperationTimedOut)? };
        // SAFETY: the event is valid.
        error_code(unsafe { rdsys::rd_kafka_event_error(answer.event.as_ptr()) }).map_or(Ok(answer), Err)
    }
}

impl Drop for Call<'_> {
    fn drop(&mut self) {
        // SAFETY: both are ours since `new`, and released once. An answer that is still to come is thrown away by
        // the client when it finds the queue gone.
        unsafe {
            rdsys::rd_kafka_queue_destroy(self.queue.as_ptr());
            rdsys::rd_kafka_AdminOptions_destroy(self.options.as_ptr());
        }
    }
}

/// An answer, owned until dropped.
struct Answer {
    event: NonNull<rdsys::rd_kafka_event_t>,
}

impl Drop for Answer {
    fn drop(&mut self) {
        // SAFETY: owned since `Call::answer`; destroyed once.
        unsafe { rdsys::rd_kafka_event_destroy(self.event.as_ptr()) }
    }
}

fn c_string(text: &str) -> Result<CString, RDKafkaErrorCode> {
    CString::new(text).map_err(|_| RDKafkaErrorCode::InvalidArgument)
}

/// # Safety
/// `element` is an element of a valid list.
unsafe fn committed_offset(
    element: &rdsys::rd_kafka_topic_partition_t,
) -> Result<Committed, RDKafkaErrorCode> {
    if let Some(code) = error_code(element.err) {
        return Err(code);
    }
    let metadata = if element.metadata.is_null() {
        &[]
    } else {
        // SAFETY: by the contract above; librdkafka gives NULL or `metadata_size` bytes.
        unsafe { array(element.metadata.cast::<u8>(), element.metadata_size) }
    };
    Ok(Committed {
        // SAFETY: by the contract above.
        topic: unsafe { text(element.topic) },
        partition: element.partition,
        offset: element.offset,
        metadata: String::from_utf8_lossy(metadata).into_owned(),
    })
}

/// # Safety
/// `first` is NULL or points to `count` elements that live for `'a`.
unsafe fn array<'a, T>(first: *const T, count: usize) -> &'a [T] {
    if first.is_null() || count == 0 {
        return &[];
    }
    // SAFETY: by the contract above.
    unsafe { slice::from_raw_parts(first, count) }
}

/// # Safety
/// `error` is NULL or valid.
unsafe fn error_of(error: *const rdsys::rd_kafka_error_t) -> Option<RDKafkaErrorCode> {
    if error.is_null() {
        return None;
    }
    // SAFETY: by the contract above.
    error_code(unsafe { rdsys::rd_kafka_error_code(error) })
}
