//! The vigil: while partitions run, it asks Kafka again and again whether the log is still the one that was claimed
//! (DESIGN 3.4, EO-6).
//!
//! - Every few seconds: cluster, topic ids, first offsets and ends, for all partitions of the worker together.
//! - When records follow a pause: the topic ids alone, one request for all that wait. Until it is answered they are
//!   not handed out. Deletion and creation of a topic cannot happen without such a pause.
//! - When the client has lost its position: why, and what follows.
//!
//! What is not answered is asked again, and never a reason to halt. A leader that does not answer though others do is told
//! to the watch on progress.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::mpsc;

use super::StatusBoard;
use crate::NextOffset;
use crate::batch::PartitionKey;
use crate::claim::Guard;
use crate::claim::guard::{Position, Verdict};
use crate::config::OnOffsetLost;
use crate::consumer::PartitionBuffer;
use crate::consumer::buffer::{Seen, Suspicion};
use crate::consumer::catalog::{Available, Survey};
use crate::lane::{LaneShared, Report};
use crate::partition::After;

/// How often everything is asked.
const ROUNDS: Duration = Duration::from_secs(3);
/// Between two questions, so that many slow partitions cost no more than a few; what comes meanwhile shares the next.
const SPACING: Duration = Duration::from_millis(20);
/// Before a question without an answer is asked again.
const PATIENCE: Duration = Duration::from_millis(250);

pub(super) struct Vigil {
    guard: Guard,
    on_lost: OnOffsetLost,
    lanes: Vec<Arc<LaneShared>>,
    reports: mpsc::UnboundedSender<Report>,
    board: Arc<StatusBoard>,
    /// A topic to ask about while no partition runs.
    probe: Option<String>,
    /// Positions that the last full round found beyond the end: one answer alone may come from a leader of yesterday.
    beyond: BTreeSet<PartitionKey>,
}

impl Vigil {
    pub(super) fn new(
        guard: Guard,
        on_lost: OnOffsetLost,
        lanes: Vec<Arc<LaneShared>>,
        reports: mpsc::UnboundedSender<Report>,
        board: Arc<StatusBoard>,
        probe: Option<String>,
    ) -> Self {
        Self { guard, on_lost, lanes, reports, board, probe, beyond: BTreeSet::new() }
    }

    /// Watches until aborted.
    pub(super) async fn run(mut self) {
        let wake = Arc::clone(&self.guard.wake);
        let mut rounds = tokio::time::interval(ROUNDS);
        rounds.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut answered = true;
        loop {
            let full = tokio::select! {
                _ = rounds.tick() => true,
                () = wake.notified(), if answered => false,
                () = tokio::time::sleep(PATIENCE), if !answered => false,
            };
            answered = if full { self.look_at_all().await } else { self.look_at_doubts().await };
            tokio::time::sleep(SPACING).await;
        }
    }

    fn watched(&self, which: impl Fn(&PartitionBuffer) -> bool) -> Vec<Arc<PartitionBuffer>> {
        let mut watched = Vec::new();
        for lane in &self.lanes {
            let open = lane.buffers().into_iter().filter(|buffer| !buffer.is_closed() && which(buffer));
            watched.extend(open);
        }
        // One that has just moved may be seen in both lanes.
        let mut once = BTreeSet::new();
        watched.retain(|buffer| once.insert(Arc::as_ptr(buffer)));
        watched
    }

    /// `false` if something that waits was not answered.
    async fn look_at_doubts(&mut self) -> bool {
        let suspected = self.watched(|buffer| buffer.suspicion().is_some());
        let explained = suspected.is_empty() || self.look_into(&suspected).await;
        let doubted = self.watched(PartitionBuffer::is_doubted);
        if doubted.is_empty() {
            return explained;
        }
        let topics: BTreeSet<Arc<str>> = doubted.iter().map(|buffer| Arc::clone(&buffer.key.topic)).collect();
        let asked = Instant::now();
        let found = match self.guard.catalog().topic_ids(topics.into_iter().collect()).await {
            Ok(found) => {
                self.board.contact.kafka_answered();
                found
            }
            Err(error) => {
                tracing::debug!(partitions = doubted.len(), %error, "no answer yet which topic records are from");
                return false;
            }
        };
        let mut others = Vec::new();
        let mut answered = explained;
        for buffer in doubted {
            match found.get(&*buffer.key.topic) {
                // Deleted, or not known yet to the broker that answered.
                None => match buffer.failure() {
                    // The client has said so, too. Nobody will ever tell what these records were.
                    Some(after) => self.end(&buffer, after),
                    None => answered = false,
                },
                Some(topic_id) if differ(topic_id.as_ref(), buffer.identity().topic_id.as_ref()) => {
                    others.push(buffer);
                }
                Some(_) => {
                    buffer.verified(asked);
                    buffer.home().data.notify_one();
                    // Something that came while this was asked waits for the next.
                    if buffer.is_doubted() {
                        self.guard.wake.notify_one();
                    }
                }
            }
        }
        // Asked once more, with all that the text of the halt names.
        answered & (others.is_empty() || self.look_into(&others).await)
    }

    async fn look_at_all(&mut self) -> bool {
        let watched = self.watched(|_| true);
        let Some(buffer) = watched.first() else { return self.ask_anything().await };
        self.probe.get_or_insert_with(|| buffer.key.topic.to_string());
        self.look_into(&watched).await
    }

    /// Nothing is read, and yet it must be known whether Kafka answers.
    async fn ask_anything(&self) -> bool {
        let Some(topic) = &self.probe else { return true };
        match self.guard.catalog().partition_count(topic).await {
            Ok(_) => self.board.contact.kafka_answered(),
            Err(error) => tracing::debug!(topic, %error, "Kafka did not answer the vigil"),
        }
        true
    }

    async fn look_into(&mut self, watched: &[Arc<PartitionBuffer>]) -> bool {
        let keys: Vec<PartitionKey> = watched.iter().map(|buffer| buffer.key.clone()).collect();
        let asked = Instant::now();
        let survey = match self.guard.catalog().survey(&keys).await {
            Ok(survey) => {
                self.board.contact.kafka_answered();
                survey
            }
            Err(error) => {
                tracing::debug!(partitions = keys.len(), %error, "Kafka did not answer the vigil");
                watched.iter().for_each(|buffer| buffer.saw_nothing());
                return false;
            }
        };
        let mut answered = true;
        for buffer in watched {
            answered &= self.conclude(buffer, &survey, asked);
        }
        answered
    }

    fn conclude(&mut self, buffer: &PartitionBuffer, survey: &Survey, asked: Instant) -> bool {
        let key = &buffer.key;
        buffer.saw(Seen::of(survey, key, Instant::now()));
        let Some(found) = survey.identities.get(&*key.topic) else { return false };
        let available = survey.available.get(key).copied();
        let verdict = self.position(buffer).judge(buffer.identity(), found, available);
        let suspicion = buffer.suspicion();
        match verdict {
            Verdict::Halted(why) => {
                self.end(buffer, After::Halt(why));
                return true;
            }
            Verdict::Beyond(why) => {
                if suspicion.is_some() || !self.beyond.insert(key.clone()) {
                    self.end(buffer, After::Halt(why));
                }
                return true;
            }
            Verdict::Unanswered => return false,
            Verdict::Lost { .. } | Verdict::Passed { .. } => {}
        }
        self.beyond.remove(key);
        if let (Some(suspicion), Some(available)) = (suspicion, available) {
            self.explain(buffer, &suspicion, available);
        }
        buffer.verified(asked);
        buffer.home().data.notify_one();
        true
    }

    /// Same topic, and the stored position is not past its end: why then did the client lose its own?
    fn explain(&self, buffer: &PartitionBuffer, suspicion: &Suspicion, available: Available) {
        let (to, mark) = buffer.resume_point();
        if to < available.low {
            // What was fetched before is still applied; then the next claim's guard says it all, or steps over it.
            return buffer.finish(match (self.on_lost, self.position_at(buffer, to).lost(available)) {
                (OnOffsetLost::Halt, why) => After::Halt(why),
                _ => After::Claim,
            });
        }
        if mark.is_some_and(|mark| mark.at < available.low) {
            buffer.drop_mark();
        } else if suspicion.confirmed {
            let why = self.position(buffer).truncated(available, &suspicion.text);
            return self.end(buffer, After::Halt(why));
        }
        buffer.set_aside_suspicion();
        tracing::debug!(partition = %buffer.key, sign = suspicion.text, "the log has the position; fetching anew");
        let _ = self.reports.send(Report::Restart { key: buffer.key.clone(), claim: buffer.claim });
    }

    /// What is out may finish: it was handed out before. Nothing else of this claim is.
    fn end(&self, buffer: &PartitionBuffer, after: After) {
        buffer.withdraw();
        let _ = self.reports.send(Report::Ended { key: buffer.key.clone(), claim: buffer.claim, after });
    }

    /// Where the partition stands durably.
    fn position<'a>(&'a self, buffer: &'a PartitionBuffer) -> Position<'a> {
        self.position_at(buffer, NextOffset::new(buffer.committed()).unwrap_or(NextOffset::ZERO))
    }

    fn position_at<'a>(&'a self, buffer: &'a PartitionBuffer, next_offset: NextOffset) -> Position<'a> {
        Position { group: self.guard.group(), key: &buffer.key, next_offset }
    }
}

/// What a broker does not tell cannot differ.
fn differ(a: Option<&String>, b: Option<&String>) -> bool {
    matches!((a, b), (Some(a), Some(b)) if a != b)
}
