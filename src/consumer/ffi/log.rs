//! The client's log: its lines are events on the queue on which errors come, so whoever takes those must pass them on.

use std::ffi::CStr;
use std::ptr;

use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka_sys as rdsys;

/// Hands `event` to the log of `context` if it is a line of it. A null pointer is none.
///
/// # Safety
/// `event` is valid or null.
pub(super) unsafe fn pass_on<C: ClientContext>(event: *mut rdsys::rd_kafka_event_t, context: &C) {
    let (mut facility, mut message, mut level) = (ptr::null(), ptr::null(), 0);
    // SAFETY: the event is valid (a null pointer counts as of type NONE); the texts are set where 0 is returned, and live
    // as long as the event.
    unsafe {
        if rdsys::rd_kafka_event_type(event) == rdsys::RD_KAFKA_EVENT_LOG
            && rdsys::rd_kafka_event_log(event, &raw mut facility, &raw mut message, &raw mut level) == 0
        {
            let [facility, message] = [facility, message].map(|text| CStr::from_ptr(text).to_string_lossy());
            context.log(level_of(level), facility.trim(), message.trim());
        }
    }
}

/// As syslog has them (`rdkafka.h`, `rd_kafka_set_log_level`).
fn level_of(level: i32) -> RDKafkaLogLevel {
    match level {
        ..=0 => RDKafkaLogLevel::Emerg,
        1 => RDKafkaLogLevel::Alert,
        2 => RDKafkaLogLevel::Critical,
        3 => RDKafkaLogLevel::Error,
        4 => RDKafkaLogLevel::Warning,
        5 => RDKafkaLogLevel::Notice,
        6 => RDKafkaLogLevel::Info,
        7.. => RDKafkaLogLevel::Debug,
    }
}
