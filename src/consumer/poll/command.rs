//! What the worker asks of the poll thread.

use std::sync::Arc;
use std::time::{Duration, Instant};

use rdkafka::error::RDKafkaErrorCode;
use rdkafka::{Offset, TopicPartitionList};

use super::{EventKind, EventQueue, Fetching, Notice, Place, PollLoop};
use crate::NextOffset;
use crate::batch::{AssignmentId, PartitionKey};
use crate::consumer::PartitionBuffer;
use crate::failpoint::failpoint;
use crate::partition::Halt;

/// A command to the poll thread.
#[derive(Debug)]
pub(crate) enum Command {
    /// Begin to fetch under a claim.
    Start(StartFetch),
    /// Fetch anew, from where this buffer stands: the client has lost its position.
    Restart(Arc<PartitionBuffer>),
    /// Fetch no more into this buffer; Kafka's assignment stays as it is.
    Halt(Arc<PartitionBuffer>),
    /// Copy positions to Kafka, asynchronously.
    Mirror(Vec<MirrorEntry>),
    /// Copy these positions, waiting at most so long, then let go of the client.
    Stop { mirror: Vec<MirrorEntry>, mirror_limit: Duration },
}

/// Where a claim says that fetching begins.
#[derive(Debug)]
pub(crate) struct StartFetch {
    /// The assignment that the claim was made for; another one by now means that it was revoked meanwhile.
    pub(crate) assignment: AssignmentId,
    /// New: its end is where the claim begins.
    pub(crate) buffer: Arc<PartitionBuffer>,
}

/// A position for Kafka's own table of committed offsets (EO-8: it was durable in Postgres first).
#[derive(Debug, Clone)]
pub(crate) struct MirrorEntry {
    pub(crate) key: PartitionKey,
    pub(crate) offset: NextOffset,
    /// The mark by which a wrong or restored database is noticed.
    pub(crate) metadata: Arc<str>,
}

/// Kafka's answer to a mirror commit.
#[derive(Debug)]
pub(crate) struct Mirrored {
    pub(crate) error: Option<RDKafkaErrorCode>,
    pub(crate) acknowledged: Vec<(String, i32, i64)>,
}

impl Mirrored {
    pub(super) fn new(code: Option<RDKafkaErrorCode>, places: &[Place]) -> Self {
        let acknowledged = places
            .iter()
            .filter(|place| code.is_none() && place.error.is_none())
            .map(|place| (place.topic.clone(), place.partition, place.offset))
            .collect();
        Self { error: code.or_else(|| places.iter().find_map(|place| place.error)), acknowledged }
    }
}

impl PollLoop {
    pub(super) fn on_command(&mut self, queue: &EventQueue, command: Command) {
        match command {
            Command::Start(start) => self.start(start),
            Command::Restart(buffer) => self.restart(&buffer),
            Command::Halt(buffer) => self.halt(&buffer),
            // The client begins no fetch while a commit is under way, which may take as long as its coordinator is
            // away: then the next commits wait.
            Command::Mirror(_) if !self.unvalidated.is_empty() => self.notify(Notice::Mirrored(Mirrored {
                error: Some(RDKafkaErrorCode::InvalidTransactionalState),
                acknowledged: Vec::new(),
            })),
            Command::Mirror(entries) => {
                self.mirror(queue, &entries);
            }
            Command::Stop { .. } => unreachable!("the loop ends before it serves a stop"),
        }
    }

    fn start(&mut self, StartFetch { assignment, buffer }: StartFetch) {
        let key = buffer.key.clone();
        if !self.assignment.is_current(&key, assignment) {
            // Revoked since: the worker has been told, and releases the claim.
            return;
        }
        if let Err(error) = self.assignment.fetch(&buffer) {
            buffer.fail(Halt::client(&key, "start fetching", &error));
            buffer.home().data.notify_one();
            return;
        }
        tracing::debug!(partition = %key, from = %buffer.covered_to(), epoch = buffer.claim.epoch, "fetching");
        let fetching = Fetching { buffer: Arc::clone(&buffer), validated: false };
        self.buffers.entry(Box::from(&*key.topic)).or_default().insert(key.partition, fetching);
        self.begin(&buffer);
    }

    fn restart(&mut self, buffer: &Arc<PartitionBuffer>) {
        if self.fetching(buffer).is_none() {
            return;
        }
        tracing::debug!(partition = %buffer.key, "fetching anew");
        match self.assignment.fetch(buffer) {
            Ok(()) => self.begin(buffer),
            Err(error) => {
                buffer.fail(Halt::client(&buffer.key, "fetch anew", &error));
                buffer.home().data.notify_one();
            }
        }
    }

    /// A fetch begins at the end of a buffer: nothing is kept of it before the last record was validated.
    pub(super) fn begin(&mut self, buffer: &Arc<PartitionBuffer>) {
        self.last = None;
        let mark = buffer.begins();
        let Some(fetching) = self.fetching(buffer) else { return };
        fetching.validated = mark.is_none();
        if let Some(mark) = mark {
            self.validate_first(buffer, mark);
        }
    }

    /// The entry of a buffer that is being fetched into.
    pub(super) fn fetching(&mut self, buffer: &Arc<PartitionBuffer>) -> Option<&mut Fetching> {
        let partitions = self.buffers.get_mut(&*buffer.key.topic)?;
        partitions.get_mut(&buffer.key.partition).filter(|fetching| Arc::ptr_eq(&fetching.buffer, buffer))
    }

    fn halt(&mut self, buffer: &Arc<PartitionBuffer>) {
        if self.forget(&buffer.key, Some(buffer)) {
            self.assignment.stop_fetching(std::slice::from_ref(&buffer.key));
        }
    }

    /// Drops the buffer of a partition (only if it is `which`, when given); `true` if there was one.
    pub(super) fn forget(&mut self, key: &PartitionKey, which: Option<&Arc<PartitionBuffer>>) -> bool {
        self.last = None;
        let Some(partitions) = self.buffers.get_mut(&*key.topic) else { return false };
        let found = partitions
            .get(&key.partition)
            .is_some_and(|fetching| which.is_none_or(|which| Arc::ptr_eq(which, &fetching.buffer)));
        if found {
            partitions.remove(&key.partition);
        }
        found
    }

    /// `true` if an answer is to be expected.
    fn mirror(&self, queue: &EventQueue, entries: &[MirrorEntry]) -> bool {
        let mut list = TopicPartitionList::with_capacity(entries.len());
        for entry in entries {
            // A partition that is no longer ours is its new owner's to mirror.
            if !self.assignment.is_assigned(&entry.key) {
                continue;
            }
            let mut element = list.add_partition(&entry.key.topic, entry.key.partition);
            element.set_metadata(&*entry.metadata);
            if let Err(error) = element.set_offset(Offset::Offset(entry.offset.get())) {
                tracing::debug!(partition = %entry.key, %error, "not mirrored");
            }
        }
        if list.count() == 0 {
            return false;
        }
        failpoint!("before_mirror");
        match queue.commit(&list) {
            Ok(()) => true,
            Err(error) => {
                // Ignored on purpose: nothing ever reads the mirror back as a position (EO-8).
                self.notify(Notice::Mirrored(Mirrored { error: Some(error), acknowledged: Vec::new() }));
                false
            }
        }
    }

    /// Mirrors what is given, unassigns everything and ends; the client is closed by whoever drops it last.
    pub(super) fn stop(mut self, queue: &EventQueue, mirror: &[MirrorEntry], limit: Duration) {
        let deadline = Instant::now() + limit;
        let mut awaited = self.mirror(queue, mirror);
        while awaited {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                tracing::warn!(
                    partitions = mirror.len(),
                    "Kafka did not acknowledge the last mirror in time"
                );
                break;
            }
            match queue.poll(left) {
                None => {}
                Some(event) => match event.kind() {
                    EventKind::Record(_) => {}
                    EventKind::Committed { code, places } => {
                        let answer = Mirrored::new(code, &places);
                        let mut sent = mirror.iter().filter(|entry| self.assignment.is_assigned(&entry.key));
                        awaited = !sent.all(|entry| answer.settles(entry));
                        self.notify(Notice::Mirrored(answer));
                    }
                    other => self.on_event(other),
                },
            }
        }
        self.leave_without_partitions(queue);
        self.assignment.clear();
    }
}

impl Mirrored {
    /// Whether the answer is the one to this entry (an older commit's answer may come first).
    fn settles(&self, entry: &MirrorEntry) -> bool {
        self.error.is_some()
            || self.acknowledged.iter().any(|(topic, partition, offset)| {
                **topic == *entry.key.topic
                    && *partition == entry.key.partition
                    && *offset >= entry.offset.get()
            })
    }
}
