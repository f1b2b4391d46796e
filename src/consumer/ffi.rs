//! The only unsafe module, with its submodules: a thin event loop over librdkafka's consumer queue.
//!
//! The crate's own `poll` gives end-of-partition and error events without topic, partition or offset, and
//! answers rebalances from a callback. Here every event is returned whole, and the caller answers.
//!
//! Sources: `rdkafka.h` (events API, queues), `rdkafka_event.c` of librdkafka 2.12.1.
#![allow(unsafe_code, clippy::cast_possible_truncation)]

pub(crate) mod access;
pub(crate) mod groups;
mod log;
pub(crate) mod rights;
mod seek;
pub(crate) mod topics;

use std::ffi::{CStr, c_char, c_void};
use std::marker::PhantomData;
use std::ptr::{self, NonNull};
use std::slice;
use std::sync::Arc;
use std::time::Duration;

use rdkafka::TopicPartitionList;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::RDKafkaErrorCode;
use rdkafka_sys as rdsys;

use super::context::Context;
use crate::record::chunk::RawRecord;

/// The client whose queue is polled. Whoever drops the last reference closes it, which may take seconds and
/// serves rebalance events: only the poll thread may do that (PITFALLS 12).
pub(crate) type Client = BaseConsumer<Context>;

/// The consumer's queue: records, errors, rebalances and commit results, in order.
pub(crate) struct EventQueue {
    queue: NonNull<rdsys::rd_kafka_queue_t>,
    // Keeps the client alive for as long as its queue is; declared after `queue` on purpose.
    client: Arc<Client>,
}

// SAFETY: librdkafka's queues are internally locked; `rdkafka.h` allows their use from any thread.
unsafe impl Send for EventQueue {}
// SAFETY: as above; `poll` hands out events that are owned by the caller alone.
unsafe impl Sync for EventQueue {}

impl EventQueue {
    /// The queue of `client`; `None` if it has none (no `group.id`).
    pub(crate) fn of(client: Arc<Client>) -> Option<Self> {
        // SAFETY: the pointer is valid while `client` lives; the returned reference is released in `drop`.
        let queue = unsafe { rdsys::rd_kafka_queue_get_consumer(client.client().native_ptr()) };
        NonNull::new(queue).map(|queue| Self { queue, client })
    }

    /// Waits up to `timeout` for the next event.
    pub(crate) fn poll(&self, timeout: Duration) -> Option<Event<'_>> {
        let timeout_ms = i32::try_from(timeout.as_millis()).unwrap_or(i32::MAX);
        // SAFETY: `queue` is valid; the event is destroyed in `Event::drop`.
        let event = unsafe { rdsys::rd_kafka_queue_poll(self.queue.as_ptr(), timeout_ms) };
        NonNull::new(event).map(|event| Event { event, queue: self })
    }

    /// Makes a running or the next [`poll`](Self::poll) return early.
    pub(crate) fn wake(&self) {
        // SAFETY: `queue` is valid; documented as callable from another thread.
        unsafe { rdsys::rd_kafka_queue_yield(self.queue.as_ptr()) }
    }

    /// Commits to Kafka in the background; the answer arrives on this queue as [`EventKind::Committed`] (the plain
    /// asynchronous commit gives none).
    pub(crate) fn commit(&self, list: &TopicPartitionList) -> Result<(), RDKafkaErrorCode> {
        // SAFETY: client, list and queue are valid; the list is copied; without a callback, `opaque` is unused.
        let error = unsafe {
            rdsys::rd_kafka_commit_queue(
                self.client.client().native_ptr(),
                list.ptr(),
                self.queue.as_ptr(),
                None,
                ptr::null_mut(),
            )
        };
        error_code(error).map_or(Ok(()), Err)
    }

    pub(crate) fn client(&self) -> &Arc<Client> {
        &self.client
    }

    /// Whether the client knows that it is a member of its group: in the classic protocol it has an id then, under KIP-848
    /// an epoch. Not to be asked of a client that is closed.
    pub(crate) fn is_member(&self, classic: bool) -> bool {
        // SAFETY: the client is valid; what it answers is ours to destroy, once; the id lives as long as that.
        unsafe {
            let member = rdsys::rd_kafka_consumer_group_metadata(self.client.client().native_ptr());
            if member.is_null() {
                return false;
            }
            let is_member = if classic {
                let id = rdsys::rd_kafka_consumer_group_metadata_member_id(member);
                !id.is_null() && *id != 0
            } else {
                rdsys::rd_kafka_consumer_group_metadata_generation_id(member) > 0
            };
            rdsys::rd_kafka_consumer_group_metadata_destroy(member);
            is_member
        }
    }

    /// What ended the client for good; `None` while it is well.
    fn fatal_code(&self) -> Option<RDKafkaErrorCode> {
        // SAFETY: the client is valid; no text is asked for.
        error_code(unsafe {
            rdsys::rd_kafka_fatal_error(self.client.client().native_ptr(), ptr::null_mut(), 0)
        })
    }
}

impl Drop for EventQueue {
    fn drop(&mut self) {
        // SAFETY: releases the reference taken in `of`, once.
        unsafe { rdsys::rd_kafka_queue_destroy(self.queue.as_ptr()) }
    }
}

impl std::fmt::Debug for EventQueue {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("EventQueue").finish_non_exhaustive()
    }
}

/// Topic, partition and offset of an event. Logical offsets are passed on as they are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) topic: String,
    pub(crate) partition: i32,
    pub(crate) offset: i64,
    pub(crate) error: Option<RDKafkaErrorCode>,
}

/// What an event is.
#[derive(Debug)]
pub(crate) enum EventKind<'e> {
    Record(Message<'e>),
    /// An error; `place` is there when it concerns one partition.
    Error {
        place: Option<Place>,
        code: RDKafkaErrorCode,
        fatal: bool,
        text: String,
    },
    /// To be answered by the caller, exactly once (PITFALLS 1). The list is a delta under cooperative.
    Assign(Vec<Place>),
    /// To be answered by the caller, exactly once.
    Revoke(Vec<Place>),
    /// The result of a commit; `code` is set when it failed as a whole.
    Committed {
        code: Option<RDKafkaErrorCode>,
        places: Vec<Place>,
    },
    /// What the client says of itself: a document in JSON.
    Statistics(&'e [u8]),
    /// A line of the log, and whatever a later release adds.
    Other,
}

/// An event, owned until dropped.
pub(crate) struct Event<'q> {
    event: NonNull<rdsys::rd_kafka_event_t>,
    queue: &'q EventQueue,
}

impl Event<'_> {
    /// Takes the event apart, once. A record's offset counts as consumed by the client from here on; a line of the
    /// client's log is passed on.
    pub(crate) fn kind(&self) -> EventKind<'_> {
        let event = self.event.as_ptr();
        // SAFETY: `event` is valid until `drop`; the accessors below are the ones its type allows, and what
        // they return lives as long as the event.
        unsafe {
            match rdsys::rd_kafka_event_type(event) {
                rdsys::RD_KAFKA_EVENT_FETCH => {
                    match NonNull::new(rdsys::rd_kafka_event_message_next(event).cast_mut()) {
                        Some(message) => Message { message, event: PhantomData }.into_kind(),
                        None => EventKind::Other,
                    }
                }
                rdsys::RD_KAFKA_EVENT_ERROR => {
                    let code = rdsys::rd_kafka_event_error(event).into();
                    // `rd_kafka_event_error_is_fatal` reads a flag that 2.12.1 sets nowhere. The event has the fatal
                    // error's own code, or `_FATAL`; the client knows which one it was.
                    let cause = self.queue.fatal_code();
                    let fatal = cause.is_some() && (cause == Some(code) || code == RDKafkaErrorCode::Fatal);
                    EventKind::Error {
                        place: error_place(event),
                        code: cause.filter(|_| fatal).unwrap_or(code),
                        fatal,
                        text: text(rdsys::rd_kafka_event_error_string(event)),
                    }
                }
                rdsys::RD_KAFKA_EVENT_REBALANCE => {
                    let list = places(rdsys::rd_kafka_event_topic_partition_list(event));
                    match rdsys::rd_kafka_event_error(event) {
                        rdsys::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS => {
                            EventKind::Assign(list)
                        }
                        // Anything else takes partitions away: the safe reading of an unknown code.
                        _ => EventKind::Revoke(list),
                    }
                }
                rdsys::RD_KAFKA_EVENT_OFFSET_COMMIT => EventKind::Committed {
                    code: error_code(rdsys::rd_kafka_event_error(event)),
                    places: places(rdsys::rd_kafka_event_topic_partition_list(event)),
                },
                rdsys::RD_KAFKA_EVENT_STATS => {
                    let document = rdsys::rd_kafka_event_stats(event);
                    if document.is_null() {
                        EventKind::Other
                    } else {
                        EventKind::Statistics(CStr::from_ptr(document).to_bytes())
                    }
                }
                rdsys::RD_KAFKA_EVENT_LOG => {
                    log::pass_on(event, self.queue.client.context().as_ref());
                    EventKind::Other
                }
                _ => EventKind::Other,
            }
        }
    }
}

impl Drop for Event<'_> {
    fn drop(&mut self) {
        // SAFETY: owned since `poll`; destroyed once.
        unsafe { rdsys::rd_kafka_event_destroy(self.event.as_ptr()) }
    }
}

/// A record in the client's memory.
pub(crate) struct Message<'e> {
    message: NonNull<rdsys::rd_kafka_message_t>,
    event: PhantomData<&'e ()>,
}

impl std::fmt::Debug for Message<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Message({}[{}]@{})", self.topic(), self.partition(), self.raw().offset)
    }
}

impl<'e> Message<'e> {
    fn message(&self) -> &'e rdsys::rd_kafka_message_t {
        // SAFETY: valid while the event lives, which `'e` stands for; nobody mutates it.
        unsafe { self.message.as_ref() }
    }

    /// A message may carry an error instead of a record.
    fn into_kind(self) -> EventKind<'e> {
        match error_code(self.message().err) {
            None => EventKind::Record(self),
            Some(code) => EventKind::Error {
                place: Some(Place {
                    topic: self.topic().to_owned(),
                    partition: self.partition(),
                    offset: self.message().offset,
                    error: Some(code),
                }),
                code,
                fatal: false,
                text: code.to_string(),
            },
        }
    }

    /// The topic's name; Kafka's are ASCII.
    pub(crate) fn topic(&self) -> &'e str {
        std::str::from_utf8(self.topic_bytes()).unwrap_or("")
    }

    /// The topic's name, unchecked, for comparing it a million times a second.
    pub(crate) fn topic_bytes(&self) -> &'e [u8] {
        // SAFETY: `rkt` is valid while the message is; the name is a C string that lives with it.
        unsafe { CStr::from_ptr(rdsys::rd_kafka_topic_name(self.message().rkt)) }.to_bytes()
    }

    pub(crate) fn partition(&self) -> i32 {
        self.message().partition
    }

    /// The record without its headers.
    pub(crate) fn raw(&self) -> RawRecord<'e> {
        let message = self.message();
        let mut kind = rdsys::rd_kafka_timestamp_type_t::RD_KAFKA_TIMESTAMP_NOT_AVAILABLE;
        // SAFETY: the message is valid; `kind` is a plain out-parameter.
        let (timestamp_ms, leader_epoch) = unsafe {
            (
                rdsys::rd_kafka_message_timestamp(self.message.as_ptr(), &raw mut kind),
                rdsys::rd_kafka_message_leader_epoch(self.message.as_ptr()),
            )
        };
        RawRecord {
            offset: message.offset,
            timestamp_ms,
            timestamp_type: timestamp_type(kind),
            leader_epoch,
            // SAFETY: librdkafka gives NULL for null, else a pointer to `len` bytes that live with the event.
            key: unsafe { bytes(message.key, message.key_len) },
            // SAFETY: as above.
            value: unsafe { bytes(message.payload, message.len) },
        }
    }

    /// Whose clock the timestamp is from; `None` where there is no timestamp.
    pub(crate) fn timestamp_type(&self) -> Option<TimestampType> {
        let mut kind = rdsys::rd_kafka_timestamp_type_t::RD_KAFKA_TIMESTAMP_NOT_AVAILABLE;
        // SAFETY: the message is valid; `kind` is a plain out-parameter.
        unsafe { rdsys::rd_kafka_message_timestamp(self.message.as_ptr(), &raw mut kind) };
        timestamp_type(kind)
    }

    /// The headers, in order.
    pub(crate) fn headers(&self) -> Headers<'e> {
        let mut headers: *mut rdsys::rd_kafka_headers_t = ptr::null_mut();
        // SAFETY: the message is valid; on success `headers` belongs to it.
        let found = unsafe { rdsys::rd_kafka_message_headers(self.message.as_ptr(), &raw mut headers) };
        let headers = if found == rdsys::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR {
            headers
        } else {
            ptr::null_mut()
        };
        Headers { headers, index: 0, event: PhantomData }
    }
}

/// Whose clock a record's timestamp is from. The numbers are those of Kafka's record batches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TimestampType {
    /// The producer's.
    CreateTime = 0,
    /// The broker's.
    LogAppendTime = 1,
}

fn timestamp_type(kind: rdsys::rd_kafka_timestamp_type_t) -> Option<TimestampType> {
    use rdsys::rd_kafka_timestamp_type_t as Kind;
    match kind {
        Kind::RD_KAFKA_TIMESTAMP_CREATE_TIME => Some(TimestampType::CreateTime),
        Kind::RD_KAFKA_TIMESTAMP_LOG_APPEND_TIME => Some(TimestampType::LogAppendTime),
        _ => None,
    }
}

/// Iterates over a record's headers.
pub(crate) struct Headers<'e> {
    headers: *mut rdsys::rd_kafka_headers_t,
    index: usize,
    event: PhantomData<&'e ()>,
}

impl<'e> Iterator for Headers<'e> {
    type Item = (&'e [u8], Option<&'e [u8]>);

    fn next(&mut self) -> Option<Self::Item> {
        if self.headers.is_null() {
            return None;
        }
        let (mut name, mut value, mut size): (*const c_char, *const c_void, usize) =
            (ptr::null(), ptr::null(), 0);
        // SAFETY: `headers` belongs to a live message; the out-parameters point into it.
        let found = unsafe {
            rdsys::rd_kafka_header_get_all(
                self.headers,
                self.index,
                &raw mut name,
                &raw mut value,
                (&raw mut size).cast(),
            )
        };
        if found != rdsys::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR {
            return None;
        }
        self.index += 1;
        // SAFETY: as above; a header's name is a C string, its value NULL or `size` bytes.
        unsafe { Some((CStr::from_ptr(name).to_bytes(), bytes(value, size))) }
    }
}

/// # Safety
/// `data` is NULL or points to `len` bytes that live for `'a`.
unsafe fn bytes<'a>(data: *const c_void, len: usize) -> Option<&'a [u8]> {
    if data.is_null() {
        return None;
    }
    // SAFETY: by the contract above.
    Some(unsafe { slice::from_raw_parts(data.cast::<u8>(), len) })
}

/// # Safety
/// `event` is a valid error event.
unsafe fn error_place(event: *mut rdsys::rd_kafka_event_t) -> Option<Place> {
    // SAFETY: by the contract above; the element is ours to destroy.
    unsafe {
        let element = NonNull::new(rdsys::rd_kafka_event_topic_partition(event))?;
        let place = place(element.as_ref());
        rdsys::rd_kafka_topic_partition_destroy(element.as_ptr());
        Some(place)
    }
}

/// # Safety
/// `list` is NULL or a valid list.
unsafe fn places(list: *mut rdsys::rd_kafka_topic_partition_list_t) -> Vec<Place> {
    let Some(list) = NonNull::new(list) else { return Vec::new() };
    // SAFETY: by the contract above: `elems` points to `cnt` elements.
    unsafe {
        let list = list.as_ref();
        let count = usize::try_from(list.cnt).unwrap_or(0);
        if count == 0 {
            return Vec::new();
        }
        slice::from_raw_parts(list.elems, count).iter().map(|element| place(element)).collect()
    }
}

/// # Safety
/// `element`'s topic is a valid C string.
unsafe fn place(element: &rdsys::rd_kafka_topic_partition_t) -> Place {
    Place {
        // SAFETY: by the contract above.
        topic: unsafe { text(element.topic) },
        partition: element.partition,
        offset: element.offset,
        error: error_code(element.err),
    }
}

/// # Safety
/// `text` is NULL or a valid C string.
unsafe fn text(text: *const c_char) -> String {
    if text.is_null() {
        return String::new();
    }
    // SAFETY: by the contract above.
    unsafe { CStr::from_ptr(text) }.to_string_lossy().into_owned()
}

fn error_code(code: rdsys::rd_kafka_resp_err_t) -> Option<RDKafkaErrorCode> {
    (code != rdsys::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR).then(|| code.into())
}

/// Every code that this release of the client knows.
#[cfg(test)]
pub(crate) fn all_codes() -> Vec<RDKafkaErrorCode> {
    let mut count = 0;
    let mut descriptions = ptr::null();
    // SAFETY: the out-parameters are valid; the table is static. Where it has a gap, the code is zero.
    let all = unsafe {
        rdsys::rd_kafka_get_err_descs(&raw mut descriptions, &raw mut count);
        slice::from_raw_parts(descriptions, count)
    };
    all.iter().filter(|one| !one.name.is_null()).filter_map(|one| error_code(one.code)).collect()
}

#[cfg(test)]
mod tests {
    use rdkafka::ClientConfig;
    use rdkafka::config::FromClientConfigAndContext;

    use super::*;

    #[test]
    fn a_fatal_error_says_that_it_is_and_what_happened() {
        let mut config = ClientConfig::new();
        // With an instance id, as real ones come: without, 2.12.1 does not look for a fatal error when it closes.
        config.set("bootstrap.servers", "127.0.0.1:1").set("group.id", "g").set("group.instance.id", "i");
        let client = Arc::new(Client::from_config_and_context(&config, Context).unwrap());
        let queue = EventQueue::of(Arc::clone(&client)).unwrap();
        let fenced = rdsys::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_FENCED_INSTANCE_ID;
        // SAFETY: the client is valid, the reason a C string.
        unsafe { rdsys::rd_kafka_test_fatal_error(client.client().native_ptr(), fenced, c"test".as_ptr()) };
        for _ in 0..100 {
            let Some(event) = queue.poll(Duration::from_millis(100)) else { continue };
            if let EventKind::Error { place: None, code, fatal: true, .. } = event.kind() {
                assert_eq!(code, RDKafkaErrorCode::FencedInstanceId);
                return;
            }
        }
        panic!("no fatal error was seen");
    }
}
