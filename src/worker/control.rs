//! The one loop that owns the partitions: it feeds their state machines and carries out what they say.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rdkafka::error::RDKafkaErrorCode;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_util::task::AbortOnDropHandle;

use super::client::{JoinTrouble, Rebuild, Words};
use super::credentials::Credentials;
use super::halted::all_halted;
use super::heartbeat::{Heartbeat, HeldClaims, TakenClaim};
use super::members::{Members, Roll};
use super::orders::{Order, Orders};
use super::progress::{Limits, Progress};
use super::prune::Pruner;
use super::pulse::Pulse;
use super::redriver::Redriver;
use super::registrar::Registrar;
use super::report::Reporter;
use super::sampling::Sampler;
use super::standing::Standing;
use super::status::{PartitionState, PartitionStatus, StatusBoard};
use super::surveying::Surveying;
use super::unassigned::Unassigned;
use super::vigil::Vigil;
use super::{Phase, launch};
use crate::NextOffset;
use crate::backoff::Backoff;
use crate::batch::{Assigned, AssignmentId, PartitionKey};
use crate::claim::{ClaimOutcome, Claimed, Claims, Obtain, On};
use crate::config::Config;
use crate::consumer::poll::{Command, MirrorEntry, Notice, Poller};
use crate::consumer::{Access, Budget, PartitionBuffer, Waker};
use crate::dead_letter::Policies;
use crate::due::Trouble;
use crate::error::Result;
use crate::health::Class;
use crate::lag::Retention;
use crate::lane::{Lanes, Report};
use crate::partition::{After, Halt, Input, Partition, State};
use crate::verdict::Memory;

/// How often the status is refreshed when nothing happens.
const STATUS_INTERVAL: Duration = Duration::from_millis(250);
/// First and longest wait of a fenced partition before it claims again while its owner is live.
const FENCE_BACKOFF: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30));

/// What the loop listens to.
pub(super) struct Inboxes {
    pub(super) outcomes: mpsc::UnboundedReceiver<ClaimOutcome>,
    pub(super) reports: mpsc::UnboundedReceiver<Report>,
    pub(super) taken: mpsc::UnboundedReceiver<TakenClaim>,
    /// First mirror commits, whose acknowledgement claims wait for.
    pub(super) marks: mpsc::UnboundedReceiver<MirrorEntry>,
    /// Who is in the group.
    pub(super) rolls: mpsc::UnboundedReceiver<Roll>,
    /// What people have ordered.
    pub(super) orders: mpsc::UnboundedReceiver<Vec<Order>>,
}

/// The lanes, and the tasks that run them; these end with their handles.
pub(super) struct RunningLanes {
    pub(super) shared: Arc<Lanes>,
    pub(super) tasks: Vec<AbortOnDropHandle<()>>,
    /// What they make of records that are rejected.
    pub(super) policies: Arc<Policies>,
}

/// A partition and what belongs to its present claim.
pub(super) struct Entry {
    pub(super) machine: Partition,
    /// What the last claim found, beside the position that the machine knows.
    pub(super) claimed: Option<Claimed>,
    pub(super) buffer: Option<Arc<PartitionBuffer>>,
    /// Of its failures, for as long as it is assigned and does not halt.
    pub(super) memory: Arc<Mutex<Memory>>,
    pub(super) fence_backoff: Backoff,
    /// Of the last claim that was granted.
    pub(super) epoch: Option<i64>,
    /// Since when which assignment waits for its first claim.
    pub(super) waits: Option<(AssignmentId, Instant)>,
    /// The last order for which it was claimed anew after a halt.
    pub(super) woken_by: i64,
    /// Sent to Kafka, and acknowledged by it.
    pub(super) mirror_sent: i64,
    pub(super) mirrored: Option<i64>,
}

/// What ends in the background.
pub(super) enum Chore {
    Released {
        key: PartitionKey,
        buffer: Option<Arc<PartitionBuffer>>,
        taken_by_another: bool,
    },
    FenceOver {
        key: PartitionKey,
        assignment: AssignmentId,
    },
    /// Of these topics Kafka tells again.
    TopicsAnswered(Vec<Arc<str>>),
    Nothing,
}

/// What the loop works with, made by the launch.
pub(super) struct Parts {
    pub(super) config: Config,
    pub(super) board: Arc<StatusBoard>,
    pub(super) obtain: Obtain,
    pub(super) claims: Arc<Claims>,
    pub(super) held: Arc<HeldClaims>,
    pub(super) budget: Arc<Budget>,
    pub(super) waker: Arc<Waker>,
    pub(super) lanes: RunningLanes,
    pub(super) access: Arc<Access>,
}

/// What runs beside the loop.
pub(super) struct Tasks {
    pub(super) heartbeat: Heartbeat,
    pub(super) members: Members,
    pub(super) vigil: Vigil,
    pub(super) orders: Orders,
    pub(super) registrar: Registrar,
    pub(super) redriver: Redriver,
}

pub(super) struct Control {
    pub(super) config: Config,
    pub(super) board: Arc<StatusBoard>,
    pub(super) obtain: Obtain,
    pub(super) claims: Arc<Claims>,
    pub(super) held: Arc<HeldClaims>,
    pub(super) budget: Arc<Budget>,
    pub(super) waker: Arc<Waker>,
    pub(super) lanes: RunningLanes,
    pub(super) access: Arc<Access>,
    pub(super) credentials: Credentials,
    notices: mpsc::UnboundedSender<Notice>,
    /// What the present client has to say.
    pub(super) heard: mpsc::UnboundedReceiver<Notice>,
    pub(super) inboxes: Inboxes,
    pub(super) poller: Option<Poller>,
    pub(super) entries: BTreeMap<PartitionKey, Entry>,
    pub(super) chores: JoinSet<Chore>,
    pub(super) rebuild: Rebuild,
    /// A client that has failed, and is being closed: the next one must not be in the group beside it.
    pub(super) closing: JoinSet<bool>,
    pub(super) pulse: Pulse,
    /// A member of the group: something was assigned, be it nothing, or the coordinator lists us.
    pub(super) joined: bool,
    /// When something was last assigned to the present client.
    pub(super) assigned_at: Option<Instant>,
    /// Whether the coordinator lists us; `None` while it has told nobody who is in the group.
    pub(super) listed: Option<bool>,
    /// Why the last try to join has failed.
    pub(super) join_trouble: Option<JoinTrouble>,
    /// What was said of such tries, and when the next word is due.
    pub(super) join_words: Words,
    /// Which topics Kafka refuses, and how.
    pub(super) topics: BTreeMap<Arc<str>, (RDKafkaErrorCode, String)>,
    pub(super) asking_about_topics: bool,
    pub(super) progress: Progress,
    pub(super) standing: Standing,
    /// Of what is subscribed to, what nobody was given.
    pub(super) unassigned: Arc<Unassigned>,
    /// Set while a consumer that is not Highwater's is in the group.
    pub(super) foreign: Option<Halt>,
    /// Nothing but halted partitions is left: since when, and when that was last said.
    pub(super) all_halted: Option<Trouble>,
    /// A partition's state changed since the status was last published.
    pub(super) changed: bool,
}

impl Control {
    pub(super) fn new(parts: Parts, inboxes: Inboxes) -> Result<Self> {
        let rebuild = Rebuild::new(&parts.config);
        let limits = Limits::new(parts.config.effective_session_timeout(), parts.config.stuck_after);
        let Parts { config, board, obtain, claims, held, budget, waker, lanes, access } = parts;
        let credentials = Credentials::new(Instant::now(), access.due_in());
        let (notices, heard) = mpsc::unbounded_channel();
        let mut this = Self {
            config,
            board,
            obtain,
            claims,
            held,
            budget,
            waker,
            lanes,
            access,
            credentials,
            notices,
            heard,
            inboxes,
            poller: None,
            entries: BTreeMap::new(),
            chores: JoinSet::new(),
            rebuild,
            closing: JoinSet::new(),
            pulse: Pulse::new(Instant::now()),
            joined: false,
            assigned_at: None,
            listed: None,
            join_trouble: None,
            join_words: Words::default(),
            topics: BTreeMap::new(),
            asking_about_topics: false,
            progress: Progress::new(limits, Instant::now()),
            standing: Standing::default(),
            unassigned: Arc::default(),
            foreign: None,
            all_halted: None,
            changed: true,
        };
        this.start_client()?;
        Ok(this)
    }

    pub(super) fn start_client(&mut self) -> Result<()> {
        self.deafen();
        let notices = self.notices.clone();
        let poller = launch::start_poller(&self.config, &self.access, &self.board, &self.budget, notices)?;
        poller.register(&self.waker);
        self.poller = Some(poller);
        self.board.activity.clients.fetch_add(1, Ordering::Relaxed);
        self.assigned_at = None;
        self.rebuild.started(Instant::now());
        Ok(())
    }

    /// Hears no more of the client before: what it still had to say is about assignments that are gone. Acted upon
    /// while there is no client, one would be claimed and never fetched.
    pub(super) fn deafen(&mut self) {
        (self.notices, self.heard) = mpsc::unbounded_channel();
    }

    /// Runs until `shutdown` or a fatal error, then gives everything back.
    pub(super) async fn run(
        mut self,
        shutdown: impl Future<Output = ()>,
        Tasks { heartbeat, members, vigil, orders, registrar, redriver }: Tasks,
    ) -> Result<()> {
        let heart = AbortOnDropHandle::new(tokio::spawn(heartbeat.run()));
        let vigil = AbortOnDropHandle::new(tokio::spawn(vigil.run()));
        let members = AbortOnDropHandle::new(tokio::spawn(members.run()));
        let policies = Arc::clone(&self.lanes.policies);
        let (db, board) = (Arc::clone(self.claims.db()), Arc::clone(&self.board));
        let reporter = Reporter::new(db, board, policies, registrar.writes.clone(), self.config.isolation);
        let reporter = AbortOnDropHandle::new(tokio::spawn(reporter.run()));
        let orders = AbortOnDropHandle::new(tokio::spawn(orders.run()));
        let registrar = AbortOnDropHandle::new(tokio::spawn(registrar.run()));
        let redriver = AbortOnDropHandle::new(tokio::spawn(redriver.run()));
        let pruner = Pruner::new(Arc::clone(self.claims.db()), &self.config);
        let pruner = AbortOnDropHandle::new(tokio::spawn(pruner.run()));
        let retention = Arc::new(Retention::default());
        let sampler = Sampler::new(Arc::clone(&self.board), &self.config, Arc::clone(&retention));
        let sampler = AbortOnDropHandle::new(tokio::spawn(sampler.run()));
        let surveying = Surveying::new(
            Arc::clone(self.claims.db()),
            self.obtain.guard.catalog().clone(),
            retention,
            &self.config,
            Arc::clone(&self.unassigned),
        );
        let surveying = AbortOnDropHandle::new(tokio::spawn(surveying.run()));
        self.board.set_phase(Phase::Running, None);
        let tasks = [
            ("the heartbeat", &heart),
            ("the vigil", &vigil),
            ("the look at the members", &members),
            ("the reports", &reporter),
            ("the look for orders", &orders),
            ("the register of tables", &registrar),
            ("the redrive of dead letters", &redriver),
            ("the pruning", &pruner),
            ("the samples", &sampler),
            ("the survey", &surveying),
        ];
        let ended = self.serve(shutdown, &tasks).await;
        self.board.set_phase(Phase::Stopping, None);
        if let Err(error) = &ended {
            tracing::error!(error = error.report(), "stopping");
        }
        self.stop().await;
        heart.abort();
        let last = Heartbeat::new(
            Arc::clone(self.claims.db()),
            Arc::clone(&self.board),
            Arc::clone(&self.held),
            mpsc::unbounded_channel().0,
            &self.config,
        );
        last.say_farewell().await;
        self.claims.db().close();
        ended
    }

    async fn serve(
        &mut self,
        shutdown: impl Future<Output = ()>,
        tasks: &[(&str, &AbortOnDropHandle<()>)],
    ) -> Result<()> {
        tokio::pin!(shutdown);
        let mirror_on = self.config.mirror_interval.is_some();
        let mut mirror = tokio::time::interval(self.config.mirror_interval.unwrap_or(STATUS_INTERVAL));
        let mut status = tokio::time::interval(STATUS_INTERVAL);
        loop {
            tokio::select! {
                biased;
                () = &mut shutdown => return Ok(()),
                Some(notice) = self.heard.recv() => self.on_notice(notice)?,
                Some(outcome) = self.inboxes.outcomes.recv() => self.on_outcome(outcome),
                Some(report) = self.inboxes.reports.recv() => self.on_report(report),
                Some(taken) = self.inboxes.taken.recv() => self.on_taken(taken),
                Some(entry) = self.inboxes.marks.recv() => self.send_mirror(vec![entry]),
                Some(roll) = self.inboxes.rolls.recv() => self.on_roll(roll),
                Some(orders) = self.inboxes.orders.recv() => self.on_orders(orders),
                Some(done) = self.chores.join_next(), if !self.chores.is_empty() => {
                    self.on_chore(done.unwrap_or(Chore::Nothing));
                }
                Some(read) = self.credentials.inbox.recv() => self.on_credentials(read)?,
                Some(closed) = self.closing.join_next(), if !self.closing.is_empty() => {
                    if !matches!(closed, Ok(true)) {
                        tracing::warn!("a Kafka client does not close: the next one begins beside it, and has other claims");
                    }
                }
                () = tokio::time::sleep_until(self.rebuild.due().into()),
                    if self.poller.is_none() && self.closing.is_empty() =>
                {
                    self.build_client()?;
                }
                _ = mirror.tick(), if mirror_on => self.mirror(),
                _ = status.tick() => {
                    self.claims.db().check_access(self.config.access_denied_after)?;
                    self.check_parts(tasks)?;
                    self.look_at_progress()?;
                    self.ask_about_topics();
                    self.look_at_credentials();
                    self.board.beat();
                    self.look_at_halts();
                    self.changed = true;
                }
            }
            if std::mem::take(&mut self.changed) {
                self.publish();
            }
        }
    }

    fn on_notice(&mut self, notice: Notice) -> Result<()> {
        match notice {
            Notice::Assigned(assigned) => {
                self.has_joined();
                let now = Instant::now();
                self.assigned_at = Some(now);
                for assigned in &assigned {
                    self.topics.remove(&assigned.key.topic);
                    self.obtain.still.set(&assigned.key, Some(assigned.id));
                }
                let inputs =
                    assigned.iter().map(|assigned| (assigned.key.clone(), Input::Assigned(assigned.id)));
                self.feed(inputs.collect());
                for Assigned { key, id } in assigned {
                    if let Some(entry) = self.entries.get_mut(&key) {
                        entry.waits = Some((id, now));
                    }
                }
            }
            Notice::Revoked(keys) => {
                for key in &keys {
                    self.obtain.still.set(key, None);
                }
                self.feed(keys.into_iter().map(|key| (key, Input::Revoked)).collect());
            }
            Notice::Mirrored(mirrored) => {
                if let Some(error) = mirrored.error {
                    tracing::debug!(?error, "Kafka refused a mirror commit; it is sent again");
                    self.entries.values_mut().for_each(|entry| entry.mirror_sent = -1);
                    self.obtain.marks.refused(error);
                }
                for (topic, partition, offset) in mirrored.acknowledged {
                    self.obtain.marks.acknowledged(&topic);
                    if let Some(entry) =
                        self.entries.get_mut(&PartitionKey { topic: topic.into(), partition })
                    {
                        entry.mirrored = Some(offset);
                    }
                }
            }
            Notice::TopicError { topic, code, text } => self.on_topic_error(&topic, code, text),
            Notice::ClientError { code, fatal, text } => self.on_client_error(code, fatal, &text)?,
        }
        Ok(())
    }

    /// What Kafka would say if it took everything away.
    pub(super) fn revoke_all(&mut self) {
        let keys: Vec<_> = self.entries.keys().cloned().collect();
        for key in &keys {
            self.obtain.still.set(key, None);
        }
        self.feed(keys.into_iter().map(|key| (key, Input::Revoked)).collect());
    }

    pub(super) fn on_outcome(&mut self, ClaimOutcome { assigned, result }: ClaimOutcome) {
        let assignment = assigned.id;
        let claimed = match &result {
            Ok(claimed) => Some(claimed),
            Err((claimed, _)) => claimed.as_ref(),
        };
        if let (Some(claimed), Some(entry)) = (claimed, self.entries.get_mut(&assigned.key)) {
            entry.epoch = Some(claimed.claim.epoch);
        }
        let input = match result {
            Ok(claimed) if let Some(why) = &self.foreign => {
                Input::Refused { assignment, claim: Some(claimed.claim), why: why.clone() }
            }
            Ok(claimed) => {
                let granted = Input::Granted { assignment, claim: claimed.claim, from: claimed.next_offset };
                if let Some(entry) = self.entries.get_mut(&claimed.key) {
                    let waits = entry.waits.take_if(|(id, _)| *id == assignment);
                    self.board.activity.claimed(waits.map(|(_, since)| since.elapsed()));
                    entry.claimed = Some(claimed);
                }
                granted
            }
            Err((claimed, why)) => {
                Input::Refused { assignment, claim: claimed.map(|claimed| claimed.claim), why }
            }
        };
        self.feed(vec![(assigned.key, input)]);
    }

    pub(super) fn on_report(&mut self, report: Report) {
        let (key, input) = match report {
            Report::Restart { key, claim } => return self.restart(&key, claim),
            Report::Ended { key, claim, after } => (key, Input::Ended { claim, after }),
            Report::Idle { key, claim } => (key, Input::Idle { claim }),
        };
        self.feed(vec![(key, input)]);
    }

    /// The heartbeat's answer: an idle worker learns within a second that it was fenced.
    fn on_taken(&mut self, taken: TakenClaim) {
        let Some(entry) = self.entries.get(&taken.key) else { return };
        if entry.machine.claim() != Some(taken.claim) {
            return;
        }
        if let Some(buffer) = &entry.buffer
            && taken.by_other
            && buffer.first_fencing()
        {
            self.board.lanes.fenced.fetch_add(1, Ordering::Relaxed);
            tracing::warn!(partition = %taken.key, epoch = taken.claim.epoch, "fenced: another process has claimed this partition");
        }
        let after = if taken.by_live_other { After::Fence } else { After::Claim };
        self.feed(vec![(taken.key, Input::Ended { claim: taken.claim, after })]);
    }

    pub(super) fn on_chore(&mut self, chore: Chore) {
        match chore {
            Chore::Released { key, buffer, taken_by_another: true } => {
                // Somebody took it while it was draining.
                if buffer.is_some_and(|buffer| buffer.first_fencing()) {
                    self.board.lanes.fenced.fetch_add(1, Ordering::Relaxed);
                    tracing::warn!(partition = %key, "fenced: another process claimed this partition while it drained");
                }
            }
            Chore::FenceOver { key, assignment } => {
                if self.entries.get(&key).is_some_and(|entry| entry.machine.assignment() == Some(assignment))
                {
                    self.feed(vec![(key, Input::FenceOver)]);
                }
            }
            Chore::TopicsAnswered(topics) => {
                self.asking_about_topics = false;
                self.topics.retain(|topic, _| !topics.contains(topic));
            }
            Chore::Released { .. } | Chore::Nothing => {}
        }
    }

    /// Copies to Kafka what is durable in Postgres and not copied yet (EO-8).
    fn mirror(&mut self) {
        let entries = self.mirror_entries();
        self.send_mirror(entries);
    }

    fn send_mirror(&self, entries: Vec<MirrorEntry>) {
        if let (Some(poller), false) = (&self.poller, entries.is_empty()) {
            poller.send(Command::Mirror(entries));
        }
    }

    fn mirror_entries(&mut self) -> Vec<MirrorEntry> {
        let mark = Arc::clone(self.obtain.marks.mark());
        self.entries
            .values_mut()
            .filter_map(|entry| {
                let mirrored = mirror_entry(&mark, entry.buffer.as_ref()?)?;
                let unsent = mirrored.offset.get() != entry.mirror_sent;
                entry.mirror_sent = mirrored.offset.get();
                unsent.then_some(mirrored)
            })
            .collect()
    }

    pub(super) fn mirror_entry(&self, buffer: &PartitionBuffer) -> Option<MirrorEntry> {
        mirror_entry(self.obtain.marks.mark(), buffer)
    }

    fn publish(&self) {
        self.note_activity();
        let now = Instant::now();
        let judged = self.board.judged().clone();
        let partitions: Vec<PartitionStatus> = self
            .entries
            .iter()
            .filter_map(|(key, entry)| {
                let (state, detail) = match entry.machine.state() {
                    State::Unassigned => return None,
                    State::Claiming => {
                        (PartitionState::Claiming, self.waiting(key).map(|waiting| waiting.text))
                    }
                    State::Running { .. } => {
                        let troubles = [entry.trouble(), self.standing.of_partition(key)];
                        let troubles: Vec<String> = troubles.into_iter().flatten().collect();
                        (PartitionState::Running, (!troubles.is_empty()).then(|| troubles.join("; ")))
                    }
                    State::Draining { .. } => (PartitionState::Draining, None),
                    State::Fenced => (PartitionState::Fenced, None),
                    State::Halted { why } => (PartitionState::Halted, Some(why.to_string())),
                };
                let seen = entry.buffer.as_ref().map(|buffer| buffer.seen().known(now));
                let seen = seen.unwrap_or_default();
                let judged = judged.get(key).cloned().unwrap_or_default();
                let is_paused = || self.waiting(key).is_some_and(|waiting| waiting.on == On::Operator);
                let (class, reason) = match state {
                    PartitionState::Halted => (Class::Halted, detail.clone()),
                    PartitionState::Fenced => (Class::Fenced, None),
                    PartitionState::Claiming if is_paused() => (Class::Paused, detail.clone()),
                    _ => (
                        judged.class,
                        judged.reason_at(entry.buffer.as_ref().map(|buffer| buffer.committed())),
                    ),
                };
                Some(PartitionStatus {
                    topic: key.topic.to_string(),
                    partition: key.partition,
                    state,
                    next_offset: entry.buffer.as_ref().map(|buffer| buffer.committed()),
                    mirrored_offset: entry.mirrored,
                    held_bytes: entry.buffer.as_ref().map_or(0, |buffer| buffer.held_bytes()),
                    detail,
                    epoch: entry.machine.claim().map(|claim| claim.epoch),
                    log_end_offset: seen.ends.map(|ends| ends.log.get()),
                    last_stable_offset: seen.ends.map(|ends| ends.stable.get()),
                    next_record_timestamp_ms: entry
                        .buffer
                        .as_ref()
                        .and_then(|buffer| buffer.next_timestamp_ms()),
                    log_start_offset: seen.start.map(NextOffset::get),
                    class,
                    reason,
                    applied_per_second: judged.applied_per_second,
                    produced_per_second: judged.produced_per_second,
                    drain_seconds: judged.drain_seconds,
                    uncommitted_since_ms: judged.uncommitted_since_ms,
                    loss_at_ms: judged.loss_at_ms,
                })
            })
            .collect();
        let unready = self.why_not_ready(&partitions);
        let first = unready.clone().or_else(|| all_halted(&partitions));
        let detail = match first {
            Some(first) => Some([vec![first], self.standing.unassigned()].concat().join("; ")),
            None => self.standing.of_the_whole(),
        };
        self.board.publish(unready.is_none(), detail, partitions);
    }
}

fn mirror_entry(mark: &Arc<str>, buffer: &PartitionBuffer) -> Option<MirrorEntry> {
    let offset = NextOffset::new(buffer.committed())?;
    Some(MirrorEntry { key: buffer.key.clone(), offset, metadata: Arc::clone(mark) })
}

impl Entry {
    pub(super) fn new(memory: Memory) -> Self {
        Self {
            machine: Partition::new(),
            claimed: None,
            buffer: None,
            memory: Arc::new(Mutex::new(memory)),
            fence_backoff: Backoff::new(FENCE_BACKOFF.0, FENCE_BACKOFF.1),
            epoch: None,
            waits: None,
            woken_by: 0,
            mirror_sent: -1,
            mirrored: None,
        }
    }
}

/// A worker that is dropped stops hard: lanes and heart end with their handles, and nothing is claimed any more.
impl Drop for Control {
    fn drop(&mut self) {
        self.obtain.still.clear();
    }
}
