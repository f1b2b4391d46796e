//! The poll thread. It alone touches the assignment, so that every assign, unassign, pause and resume has one
//! order (PITFALLS 3), and it waits for nothing but the client: a rebalance is answered within milliseconds.

mod assignment;
mod clock;
mod command;
mod flow;
mod leave;
mod validate;

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, TryRecvError, channel};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::thread;
use std::time::{Duration, Instant};

use rdkafka::error::RDKafkaErrorCode;
use tokio::sync::{mpsc, oneshot};

pub(crate) use command::{Command, MirrorEntry, Mirrored, StartFetch};
pub(crate) use leave::Membership;

use super::ffi::{Client, EventKind, EventQueue, Message, Place};
use super::{Budget, PartitionBuffer, buffer::Pushed};
use crate::NextOffset;
use crate::batch::{Assigned, PartitionKey};
use crate::metrics::ClientMetrics;
use crate::partition::Halt;
use crate::verdict::{Act, Place as Blamed, kafka};
use assignment::Assignment;
use clock::Clock;
use validate::Unvalidated;

/// Longest wait for an event; commands wake the thread, so this only bounds how late a lost wake-up is noticed.
const POLL_TIMEOUT: Duration = Duration::from_millis(100);
/// A thread that was away for so long on top of a wait cannot tell a pause in the records from its own.
const STALL: Duration = Duration::from_millis(50);
/// Records taken off the client's queue before lanes are notified and commands are served.
const RECORDS_PER_TURN: usize = 1_000;

/// What the poll thread tells the worker. The channel is unbounded, because this thread must never wait; its
/// length is bounded by the client: a notice follows a rebalance, a client error or a partition's failure.
#[derive(Debug)]
pub(crate) enum Notice {
    /// Kafka assigned these; nothing is fetched before a [`Command::Start`] with the same id.
    Assigned(Vec<Assigned>),
    /// Kafka took these away; already unassigned, their buffers closed to new records.
    Revoked(Vec<PartitionKey>),
    /// The client reported an error that concerns no single partition.
    ClientError { code: RDKafkaErrorCode, fatal: bool, text: String },
    /// The topic's partition count or existence is in doubt.
    TopicError { topic: String, code: RDKafkaErrorCode, text: String },
    /// What Kafka acknowledged of the mirror.
    Mirrored(Mirrored),
}

/// Figures that the thread keeps; read by the status.
#[derive(Debug, Default)]
pub(crate) struct PollCounters {
    /// Records of an old assignment or below the coverage.
    pub(crate) dropped_records: AtomicU64,
    pub(crate) fetched_records: AtomicU64,
    pub(crate) rebalances: AtomicU64,
    /// Those that gave partitions, took them, or found them lost.
    pub(crate) assigned: AtomicU64,
    pub(crate) revoked: AtomicU64,
    pub(crate) lost: AtomicU64,
    /// Turns of the loop, ten a second at least.
    pub(crate) turns: AtomicU64,
    /// What the client has last said of itself.
    pub(crate) client: Mutex<Option<ClientMetrics>>,
}

/// Makes the present poll thread look at the budget again. Weak: the client must not be closed by whoever wakes it.
#[derive(Debug, Default)]
pub(crate) struct Waker(Mutex<Weak<EventQueue>>);

impl Waker {
    pub(crate) fn wake(&self) {
        if let Some(queue) = self.0.lock().unwrap_or_else(PoisonError::into_inner).upgrade() {
            queue.wake();
        }
    }
}

/// The handle to a running poll thread.
pub(crate) struct Poller {
    commands: Sender<Command>,
    queue: Arc<EventQueue>,
    thread: thread::JoinHandle<()>,
}

impl Poller {
    /// Starts the thread over a subscribed client, which it will close when told to stop. Where no group is joined,
    /// `by_hand` is what counts as assigned.
    pub(crate) fn start(
        queue: EventQueue,
        membership: Membership,
        by_hand: Vec<PartitionKey>,
        budget: Arc<Budget>,
        counters: Arc<PollCounters>,
        notices: mpsc::UnboundedSender<Notice>,
    ) -> std::io::Result<Self> {
        let (commands, received) = channel();
        let queue = Arc::new(queue);
        let thread_queue = Arc::clone(&queue);
        let thread = thread::Builder::new().name("highwater-poll".into()).spawn(move || {
            let mut loop_ = PollLoop {
                membership,
                assignment: Assignment::new(Arc::clone(thread_queue.client()), membership.cooperative),
                commands: received,
                notices,
                budget,
                counters,
                buffers: HashMap::new(),
                last: None,
                touched: Vec::new(),
                unvalidated: Vec::new(),
                clock: Clock::new(),
                awake_at: Instant::now(),
            };
            if !by_hand.is_empty() {
                loop_.assign_by_hand(by_hand);
            }
            loop_.run(&thread_queue);
        })?;
        Ok(Self { commands, queue, thread })
    }

    /// Queues a command and wakes the thread. A thread that has ended needs none.
    pub(crate) fn send(&self, command: Command) {
        let _ = self.commands.send(command);
        self.queue.wake();
    }

    /// Whether the thread is gone: without a [`Command::Stop`] it ends only by a panic.
    pub(crate) fn has_ended(&self) -> bool {
        self.thread.is_finished()
    }

    /// The client, to be shown other credentials.
    pub(crate) fn client(&self) -> &Client {
        self.queue.client()
    }

    /// Lets `waker` wake this thread from now on.
    pub(crate) fn register(&self, waker: &Waker) {
        *waker.0.lock().unwrap_or_else(PoisonError::into_inner) = Arc::downgrade(&self.queue);
    }

    /// Waits until the thread has let go of the client, then closes it off the runtime; `false` if `limit`
    /// passed first and the thread was left to itself (PITFALLS 12). Send [`Command::Stop`] before.
    pub(crate) async fn join(self, limit: Duration) -> bool {
        let Self { commands, queue, thread } = self;
        drop(commands);
        let (closed, closing) = oneshot::channel();
        // A thread of its own: the runtime would wait for a blocking task of its pool before it ends.
        let closer = thread::Builder::new().name("highwater-close".into()).spawn(move || {
            let _ = thread.join();
            // The last reference: closes the client and leaves the group.
            drop(queue);
            let _ = closed.send(());
        });
        closer.is_ok() && tokio::time::timeout(limit, closing).await.is_ok()
    }
}

impl std::fmt::Debug for Poller {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Poller").finish_non_exhaustive()
    }
}

struct PollLoop {
    membership: Membership,
    assignment: Assignment,
    commands: Receiver<Command>,
    notices: mpsc::UnboundedSender<Notice>,
    budget: Arc<Budget>,
    counters: Arc<PollCounters>,
    /// Where a fetched record goes, by topic and partition; only what is really being fetched is in here.
    buffers: HashMap<Box<str>, HashMap<i32, Fetching>>,
    /// The buffer of the record before: records come in runs.
    last: Option<Fetching>,
    touched: Vec<Arc<PartitionBuffer>>,
    unvalidated: Vec<Unvalidated>,
    /// When this thread last looked for an event, and so when the last event came.
    awake_at: Instant,
    clock: Clock,
}

/// A partition that is being fetched.
#[derive(Clone)]
struct Fetching {
    buffer: Arc<PartitionBuffer>,
    /// Nothing is kept before the position was validated.
    validated: bool,
}

impl PollLoop {
    fn run(mut self, queue: &EventQueue) {
        loop {
            self.counters.turns.fetch_add(1, Ordering::Relaxed);
            loop {
                match self.commands.try_recv() {
                    Ok(Command::Stop { mirror, mirror_limit }) => {
                        return self.stop(queue, &mirror, mirror_limit);
                    }
                    Ok(command) => self.on_command(queue, command),
                    Err(TryRecvError::Empty) => break,
                    // The worker is gone without a word (it panicked): close as if told to.
                    Err(TryRecvError::Disconnected) => return self.stop(queue, &[], Duration::ZERO),
                }
            }
            self.settle();
            self.validate(queue);
            let mut timeout = if self.unvalidated.is_empty() { POLL_TIMEOUT } else { validate::RETRY };
            for _ in 0..RECORDS_PER_TURN {
                let event = queue.poll(timeout);
                self.notice_a_stall(timeout);
                let Some(event) = event else { break };
                self.on_event(event.kind());
                timeout = Duration::ZERO;
            }
            // The next record looks its lane up anew, and so notifies it again.
            self.last = None;
            // The lane that each is in by now: it may have moved since its record came.
            for buffer in self.touched.drain(..) {
                buffer.home().data.notify_one();
            }
            self.regulate();
        }
    }

    /// What has come meanwhile may have waited in the client's queue, and the pauses in it cannot be seen any more.
    fn notice_a_stall(&mut self, waited: Duration) {
        // Whoever waited asks exactly: how long a record waits for others counts from here.
        let now = if waited.is_zero() { self.clock.about() } else { self.clock.exact() };
        if now.duration_since(self.awake_at) > waited + STALL {
            for fetching in self.buffers.values().flat_map(HashMap::values) {
                fetching.buffer.doubt_next();
            }
        }
        self.awake_at = now;
    }

    fn on_event(&mut self, event: EventKind<'_>) {
        match event {
            EventKind::Record(message) => self.on_record(&message),
            EventKind::Error { place: Some(place), code, text, .. } if place.partition >= 0 => {
                self.on_partition_error(&place, code, &text);
            }
            EventKind::Error { place: Some(place), code, text, .. } => {
                self.notify(Notice::TopicError { topic: place.topic, code, text });
            }
            EventKind::Error { place: None, code, fatal, text } => {
                self.notify(Notice::ClientError { code, fatal, text });
            }
            EventKind::Assign(places) => self.on_assign(&places),
            EventKind::Revoke(places) => self.on_revoke(&places),
            EventKind::Committed { code, places } => {
                self.notify(Notice::Mirrored(Mirrored::new(code, &places)));
            }
            EventKind::Statistics(document) => {
                *self.counters.client.lock().unwrap_or_else(PoisonError::into_inner) =
                    ClientMetrics::read(document);
            }
            EventKind::Other => {}
        }
    }

    fn on_record(&mut self, message: &Message<'_>) {
        let (topic, partition) = (message.topic_bytes(), message.partition());
        let is_its = |key: &PartitionKey| key.partition == partition && key.topic.as_bytes() == topic;
        if !self.last.as_ref().is_some_and(|last| is_its(&last.buffer.key)) {
            let partitions = self.buffers.get(message.topic());
            self.last = partitions.and_then(|partitions| partitions.get(&partition)).cloned();
            if let Some(fetching) = &self.last {
                self.touched.push(Arc::clone(&fetching.buffer));
            }
        }
        let Some(Fetching { buffer, validated: true, .. }) = &self.last else {
            self.counters.dropped_records.fetch_add(1, Ordering::Relaxed);
            return;
        };
        match buffer.push(&message.raw(), message.headers(), self.awake_at) {
            Pushed::Kept => {
                self.counters.fetched_records.fetch_add(1, Ordering::Relaxed);
                if !buffer.is_paused() && self.budget.must_pause(buffer.held_bytes()) {
                    self.pause(&[Arc::clone(buffer)]);
                }
            }
            Pushed::Dropped => {
                self.counters.dropped_records.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    fn on_partition_error(&mut self, place: &Place, code: RDKafkaErrorCode, text: &str) {
        let fetching =
            self.buffers.get(place.topic.as_str()).and_then(|partitions| partitions.get(&place.partition));
        let Some(Fetching { buffer, validated }) = fetching else { return };
        let judged = match code {
            RDKafkaErrorCode::PartitionEOF => {
                if let Some(end) = NextOffset::new(place.offset)
                    && *validated
                {
                    buffer.end_of_partition(end);
                }
                return;
            }
            // The log does not have the position. Why, and what follows, is for the vigil to find out.
            RDKafkaErrorCode::AutoOffsetReset | RDKafkaErrorCode::OffsetOutOfRange => {
                return buffer.suspect(text, false);
            }
            _ => kafka::judge(Blamed::Fetch, code, false, Duration::ZERO),
        };
        match judged.act {
            // Now: the client may have stepped over records, and what follows is not contiguous.
            Act::Halt => {
                buffer.fail(Halt::unreadable(&buffer.key, buffer.covered_to(), code, text, judged.words));
            }
            Act::Wait => tracing::debug!(partition = %buffer.key, ?code, text, "{}", judged.words),
            // It stays where it stands. When it is fetched anew, and what follows if it lasts, is for the watch on
            // progress to say.
            _ => buffer.refused(code, text),
        }
        self.touched.push(Arc::clone(buffer));
    }

    fn notify(&self, notice: Notice) {
        // The worker is gone only when it is about to stop this thread, too.
        let _ = self.notices.send(notice);
    }
}
