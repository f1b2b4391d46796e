//! The thread that polls for a [`Reader`](super::Reader): it alone touches its client, and closes it.

use std::sync::mpsc::Receiver;
use std::time::{Duration, Instant};

use rdkafka::consumer::Consumer as _;
use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};
use rdkafka::{Offset, TopicPartitionList};
use tokio::sync::mpsc;

use super::{Read, ReadRecord};
use crate::batch::PartitionKey;
use crate::consumer::ffi::{EventKind, EventQueue, Message, Place, access};
use crate::verdict::{Act, Place as Blamed, kafka};

/// Longest wait for an event, and so for the word that nobody listens any more.
const POLL: Duration = Duration::from_millis(100);
/// Records of a portion at most; a thousand offsets are a few tens of kilobytes.
const PORTION_RECORDS: usize = 4_096;
/// Bytes of keys, values and headers that close a portion.
const PORTION_BYTES: usize = 256 * 1024;

/// What is to be read.
pub(super) struct Request {
    pub(super) spans: Vec<Span>,
    /// With keys, values and headers.
    pub(super) whole: bool,
    /// How long nothing may come of a span that has an end.
    pub(super) silence: Duration,
    /// Bounded: whoever reads slowly keeps this thread waiting, and the client its queue full.
    pub(super) portions: mpsc::Sender<Result<Vec<Read>, Failure>>,
}

/// A range of offsets of a partition.
#[derive(Debug, Clone)]
pub(crate) struct Span {
    pub(crate) key: PartitionKey,
    pub(crate) from: i64,
    /// Exclusive; none: for as long as somebody listens.
    pub(crate) to: Option<i64>,
}

/// Why reading has ended early.
#[derive(Debug)]
pub(super) enum Failure {
    /// Kafka does not hold what comes next there.
    Gone { key: PartitionKey, at: i64 },
    /// It holds it, and it cannot be read.
    Unreadable { key: PartitionKey, at: i64, code: Code, words: &'static str },
    /// This client may not.
    Denied { key: Option<PartitionKey>, code: Code },
    /// Nothing has come for too long.
    Silent { key: PartitionKey, at: i64, last_error: Option<String> },
    /// The client is at its end.
    Client(String),
}

/// Serves requests until there can be none any more; then closes the client.
pub(super) fn run(queue: &EventQueue, requests: &Receiver<Request>) {
    while let Ok(request) = requests.recv() {
        let portions = request.portions.clone();
        if let Err(failure) = Session::new(request).read(queue) {
            // Nobody may listen any more.
            let _ = portions.blocking_send(Err(failure));
        }
        if let Err(error) = queue.client().unassign() {
            tracing::debug!(%error, "the client refused to let go of what was read");
        }
    }
}

struct Session {
    open: Vec<Span>,
    whole: bool,
    silence: Duration,
    out: mpsc::Sender<Result<Vec<Read>, Failure>>,
    portion: Vec<Read>,
    bytes: usize,
    /// When something came.
    heard: Instant,
    last_error: Option<String>,
}

impl Session {
    fn new(request: Request) -> Self {
        let Request { spans, whole, silence, portions } = request;
        let (portion, heard) = (Vec::new(), Instant::now());
        Self { open: spans, whole, silence, out: portions, portion, bytes: 0, heard, last_error: None }
    }

    fn read(mut self, queue: &EventQueue) -> Result<(), Failure> {
        self.assign(queue).map_err(|error| Failure::Client(error.to_string()))?;
        while !self.open.is_empty() && !self.out.is_closed() {
            let timeout = if self.portion.is_empty() { POLL } else { Duration::ZERO };
            match queue.poll(timeout) {
                Some(event) => self.on_event(event.kind())?,
                None if self.portion.is_empty() => self.look_at_clock()?,
                None => self.flush(),
            }
            if self.portion.len() >= PORTION_RECORDS || self.bytes >= PORTION_BYTES {
                self.flush();
            }
        }
        self.flush();
        Ok(())
    }

    fn assign(&self, queue: &EventQueue) -> Result<(), KafkaError> {
        let mut list = TopicPartitionList::with_capacity(self.open.len());
        for span in &self.open {
            list.add_partition_offset(&span.key.topic, span.key.partition, Offset::Offset(span.from))?;
        }
        queue.client().assign(&list)
    }

    /// Of a span that has an end something must come: a record, or the end of the log.
    fn look_at_clock(&self) -> Result<(), Failure> {
        match self.open.iter().find(|span| span.to.is_some()) {
            Some(span) if self.heard.elapsed() > self.silence => Err(Failure::Silent {
                key: span.key.clone(),
                at: span.from,
                last_error: self.last_error.clone(),
            }),
            _ => Ok(()),
        }
    }

    fn flush(&mut self) {
        if !self.portion.is_empty() {
            let portion = std::mem::take(&mut self.portion);
            self.bytes = 0;
            // Nobody listens any more: the loop sees it.
            let _ = self.out.blocking_send(Ok(portion));
        }
        self.heard = Instant::now();
    }

    fn on_event(&mut self, event: EventKind<'_>) -> Result<(), Failure> {
        match event {
            EventKind::Record(message) => self.on_record(&message),
            EventKind::Error { place: Some(place), code, text, .. } if place.partition >= 0 => {
                return self.on_partition_error(&place, code, text);
            }
            EventKind::Error { code, fatal, text, .. } => {
                let judged = kafka::judge(Blamed::Join, code, fatal, Duration::ZERO);
                match judged.act {
                    Act::Exit(crate::ErrorKind::Authentication) if !access::is_cut_short(&text) => {
                        return Err(Failure::Denied { key: None, code });
                    }
                    _ if fatal => return Err(Failure::Client(text)),
                    // Of the group, which is nobody's; or of a connection, which the client makes anew.
                    _ => self.last_error = Some(text),
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn on_record(&mut self, message: &Message<'_>) {
        let partition = message.partition();
        let Some(index) = self.find(message.topic(), partition) else { return };
        let raw = message.raw();
        let span = &mut self.open[index];
        // What was assigned before may still be on its way.
        if raw.offset < span.from {
            return;
        }
        self.heard = Instant::now();
        if span.to.is_none_or(|to| raw.offset < to) {
            span.from = raw.offset + 1;
            let mut record = ReadRecord::without_content(&span.key, &raw, message.timestamp_type());
            if self.whole {
                record.key = raw.key.map(<[u8]>::to_vec);
                record.value = raw.value.map(<[u8]>::to_vec);
                let headers = message.headers();
                record.headers =
                    headers.map(|(name, value)| (name.to_vec(), value.map(<[u8]>::to_vec))).collect();
                self.bytes += record.content_bytes();
            }
            self.portion.push(Read::Record(record));
        }
        if self.open[index].to.is_some_and(|to| raw.offset + 1 >= to) {
            self.close(index);
        }
    }

    fn close(&mut self, index: usize) {
        let span = self.open.swap_remove(index);
        self.portion.push(Read::End { key: span.key });
    }

    /// Nothing but markers, aborted records and gaps lies between the last record and the end of the log.
    fn on_end(&mut self, place: &Place) {
        let Some(index) = self.find(&place.topic, place.partition) else { return };
        let span = &mut self.open[index];
        if place.offset < span.from {
            return;
        }
        self.heard = Instant::now();
        span.from = place.offset;
        match span.to {
            Some(to) if place.offset >= to => self.close(index),
            Some(_) => {}
            None => self.portion.push(Read::End { key: span.key.clone() }),
        }
    }

    fn on_partition_error(&mut self, place: &Place, code: Code, text: String) -> Result<(), Failure> {
        if code == Code::PartitionEOF {
            self.on_end(place);
            return Ok(());
        }
        let Some(index) = self.find(&place.topic, place.partition) else { return Ok(()) };
        let (key, at) = (self.open[index].key.clone(), self.open[index].from);
        let judged = kafka::judge(Blamed::Fetch, code, false, Duration::ZERO);
        match code {
            Code::AutoOffsetReset | Code::OffsetOutOfRange => Err(Failure::Gone { key, at }),
            Code::TopicAuthorizationFailed => Err(Failure::Denied { key: Some(key), code }),
            _ if judged.act == Act::Halt => Err(Failure::Unreadable { key, at, code, words: judged.words }),
            // The client tries again; if it lasts, the clock says so.
            _ => {
                self.last_error = Some(text);
                Ok(())
            }
        }
    }

    fn find(&self, topic: &str, partition: i32) -> Option<usize> {
        self.open.iter().position(|span| span.key.partition == partition && &*span.key.topic == topic)
    }
}
