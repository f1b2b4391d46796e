//! A few of the Kafka client's own statistics. It tells them as one document, every ten seconds; of its hundreds of
//! figures these say what no other place does: how far it is from the brokers, and what it holds beside the budget.

use std::collections::HashMap;
use std::time::Duration;

use serde::Deserialize;

/// What the Kafka client says of itself. Its counters begin anew with each client.
#[derive(Debug, Clone, PartialEq, Default)]
#[non_exhaustive]
pub struct ClientMetrics {
    /// Bytes received from brokers, compressed as they came.
    pub received_bytes: u64,
    /// Records that wait in the client's own queues.
    pub queue_records: u64,
    /// Their bytes.
    pub queue_bytes: u64,
    /// Brokers to which there is a connection that works.
    pub brokers_up: u64,
    /// The longest mean round trip to a broker, over the last interval; a fetch waits at the broker for records, and this
    /// with it.
    pub round_trip: Duration,
    /// The longest mean time for which a broker has throttled this client, over the last interval.
    pub throttle: Duration,
    /// Requests that failed, were answered with garbage, or ran out of time.
    pub request_errors: u64,
    /// Connections to brokers that ended.
    pub disconnects: u64,
}

#[derive(Deserialize)]
struct Document {
    #[serde(default)]
    rx_bytes: u64,
    #[serde(default)]
    brokers: HashMap<String, Broker>,
    #[serde(default)]
    topics: HashMap<String, Topic>,
}

#[derive(Deserialize)]
struct Broker {
    /// `logical`: a second name of one that is listed, such as the group's coordinator.
    #[serde(default)]
    source: String,
    #[serde(default)]
    state: String,
    #[serde(default)]
    rxerrs: u64,
    #[serde(default)]
    txerrs: u64,
    #[serde(default)]
    req_timeouts: u64,
    #[serde(default)]
    disconnects: u64,
    /// In microseconds.
    #[serde(default)]
    rtt: Window,
    /// In milliseconds.
    #[serde(default)]
    throttle: Window,
}

#[derive(Deserialize, Default)]
struct Window {
    #[serde(default)]
    avg: i64,
}

#[derive(Deserialize)]
struct Topic {
    #[serde(default)]
    partitions: HashMap<String, Partition>,
}

#[derive(Deserialize)]
struct Partition {
    #[serde(default)]
    fetchq_cnt: u64,
    #[serde(default)]
    fetchq_size: u64,
}

impl ClientMetrics {
    /// Reads the document; `None` if it is none.
    pub(crate) fn read(json: &[u8]) -> Option<Self> {
        let document: Document = serde_json::from_slice(json).ok()?;
        let brokers = || document.brokers.values();
        let partitions = || document.topics.values().flat_map(|topic| topic.partitions.values());
        let longest = |window: fn(&Broker) -> &Window| {
            u64::try_from(brokers().map(|broker| window(broker).avg).max().unwrap_or(0)).unwrap_or(0)
        };
        let up = brokers().filter(|broker| broker.state == "UP" && broker.source != "logical").count();
        Some(Self {
            received_bytes: document.rx_bytes,
            queue_records: partitions().map(|partition| partition.fetchq_cnt).sum(),
            queue_bytes: partitions().map(|partition| partition.fetchq_size).sum(),
            brokers_up: u64::try_from(up).unwrap_or(u64::MAX),
            round_trip: Duration::from_micros(longest(|broker| &broker.rtt)),
            throttle: Duration::from_millis(longest(|broker| &broker.throttle)),
            request_errors: brokers().map(|broker| broker.rxerrs + broker.txerrs + broker.req_timeouts).sum(),
            disconnects: brokers().map(|broker| broker.disconnects).sum(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_document_is_read_and_what_is_not_there_is_nothing() {
        let json = br#"{"name":"x","rx_bytes":77,"brokers":{
            "a:1/1":{"state":"UP","rxerrs":1,"txerrs":2,"req_timeouts":3,"disconnects":4,"rtt":{"avg":1500,"p99":9},
                     "throttle":{"avg":20},"source":"learned"},
            "GroupCoordinator":{"state":"UP","source":"logical","rtt":{"avg":300}},
            "b:1/2":{"state":"CONNECT"}},
          "topics":{"t":{"partitions":{"0":{"fetchq_cnt":5,"fetchq_size":500},"-1":{"fetchq_cnt":0,"fetchq_size":0}}}}}"#;
        let expected = ClientMetrics {
            received_bytes: 77,
            queue_records: 5,
            queue_bytes: 500,
            brokers_up: 1,
            round_trip: Duration::from_micros(1_500),
            throttle: Duration::from_millis(20),
            request_errors: 6,
            disconnects: 4,
        };
        assert_eq!(ClientMetrics::read(json), Some(expected));
        assert_eq!(ClientMetrics::read(b"{}"), Some(ClientMetrics::default()));
        assert_eq!(ClientMetrics::read(b"not json"), None);
    }
}
