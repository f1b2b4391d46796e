//! What stands still, as the control loop sees it; and what it does about it. The limits are in `progress.rs`.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rdkafka::error::RDKafkaErrorCode;

use super::PartitionState;
use super::client::JoinTrouble;
use super::control::{Chore, Control, Entry};
use super::progress::{Finding, Sight, Subject};
use super::status::PartitionStatus;
use crate::batch::PartitionKey;
use crate::claim::{On, Waiting};
use crate::config::Isolation;
use crate::consumer::PartitionBuffer;
use crate::error::{Error, ErrorKind, Result};
use crate::partition::{Halt, State};
use crate::verdict::kafka::{Judgement, judge};
use crate::verdict::{Act, Place};

/// What was found at the last look, for people to read.
#[derive(Debug, Default)]
pub(super) struct Standing {
    /// Of the worker as a whole.
    whole: Vec<Finding>,
    partitions: BTreeMap<PartitionKey, Finding>,
}

impl Standing {
    fn of(&self, subject: &Subject) -> Option<&Finding> {
        self.whole.iter().find(|finding| finding.subject == *subject && finding.is_told)
    }

    /// What the worker as a whole is waiting for, once that is worth telling.
    pub(super) fn of_the_whole(&self) -> Option<String> {
        let told: Vec<String> =
            self.whole.iter().filter(|finding| finding.is_told).map(ToString::to_string).collect();
        (!told.is_empty()).then(|| told.join("; "))
    }

    /// Topics of which nobody in the group was given what there is: whatever else there is to say, one worker alone knows of it.
    pub(super) fn unassigned(&self) -> Vec<String> {
        let is_told =
            |finding: &&Finding| finding.is_told && matches!(finding.subject, Subject::Unassigned(_));
        self.whole.iter().filter(is_told).map(ToString::to_string).collect()
    }

    /// How many partitions stand still so that something is to be done about it.
    pub(super) fn stuck_partitions(&self) -> usize {
        self.partitions.values().filter(|finding| finding.is_told && finding.is_stuck).count()
    }

    /// What is waited for of a partition, once that is worth telling.
    pub(super) fn of_partition(&self, key: &PartitionKey) -> Option<String> {
        self.partitions.get(key).filter(|finding| finding.is_told).map(ToString::to_string)
    }
}

impl Control {
    /// Looks at everything that may stand still, and does what is due.
    pub(super) fn look_at_progress(&mut self) -> Result<()> {
        let sights = self.sights();
        let findings = self.progress.look(Instant::now(), sights);
        for finding in &findings {
            if finding.word {
                tracing::warn!(waited = ?finding.waited, "{}", finding.text);
            }
            // One row that cannot be had is no reason to let go of the others, nor is one leader.
            let is_alone = match finding.subject {
                Subject::Claim(_) => !self.runs_any(),
                Subject::Silent(_) => !self.hears_of_any(),
                _ => true,
            };
            if finding.exit && is_alone {
                return Err(self.given_up(finding));
            }
        }
        for finding in &findings {
            self.act_on(finding)?;
        }
        // Once for all that wait for answers.
        if findings
            .iter()
            .any(|found| found.anew && matches!(found.subject, Subject::Kafka | Subject::Silent(_)))
            && let Err(error) = self.obtain.guard.catalog().renew()
        {
            tracing::warn!(%error, "could not make new clients for questions");
        }
        self.standing = Standing::default();
        for finding in findings {
            match &finding.subject {
                Subject::Fetch(key)
                | Subject::Records(key)
                | Subject::Applied(key)
                | Subject::Claim(key)
                | Subject::Leader(key)
                | Subject::Silent(key)
                | Subject::Transaction(key) => {
                    self.standing.partitions.insert(key.clone(), finding);
                }
                _ => self.standing.whole.push(finding),
            }
        }
        Ok(())
    }

    fn runs_any(&self) -> bool {
        self.entries.values().any(|entry| matches!(entry.machine.state(), State::Running { .. }))
    }

    /// Whether a leader answers of any partition that runs here.
    fn hears_of_any(&self) -> bool {
        let runs = |entry: &Entry| matches!(entry.machine.state(), State::Running { .. });
        let buffers = self.entries.values().filter(|entry| runs(entry));
        buffers.filter_map(|entry| entry.buffer.as_ref()).any(|buffer| buffer.seen().silent.is_none())
    }

    /// Whether a partition runs here of which nothing is to be said that holds it up.
    fn runs_any_undisturbed(&self) -> bool {
        let disturbs = |finding: &Finding| finding.is_told && finding.is_stuck;
        self.entries.iter().any(|(key, entry)| {
            matches!(entry.machine.state(), State::Running { .. })
                && !self.standing.partitions.get(key).is_some_and(disturbs)
        })
    }

    fn given_up(&self, finding: &Finding) -> Error {
        let kind = match finding.subject {
            Subject::Postgres | Subject::Claim(_) => ErrorKind::Postgres,
            _ => ErrorKind::Kafka,
        };
        let limit = self.config.stuck_after.unwrap_or_default();
        Error::new(
            kind,
            format!(
                "{}: that did not change in {limit:?} (`stuck_after`), whatever was begun anew; nothing is lost: ending, so \
                 that a supervisor starts this process again",
                finding.text
            ),
        )
    }

    fn act_on(&mut self, finding: &Finding) -> Result<()> {
        match &finding.subject {
            Subject::Fetch(key) => self.on_refused_fetch(key, finding)?,
            Subject::Topic(topic) => {
                if let Some((code, text)) = self.topics.get(topic) {
                    exit_if_told(judge(Place::Metadata, *code, false, finding.waited), text)?;
                }
            }
            Subject::Join => {
                if let Some(JoinTrouble { code, text, .. }) = &self.join_trouble {
                    exit_if_told(judge(Place::Join, *code, false, finding.waited), text)?;
                }
            }
            Subject::Records(key) if finding.anew => {
                if let Some(State::Running { claim }) =
                    self.entries.get(key).map(|entry| entry.machine.state().clone())
                {
                    self.restart(key, claim);
                }
            }
            Subject::Applied(key) if finding.anew => {
                // Should the lane sleep, though it has work.
                if let Some(buffer) = self.entries.get(key).and_then(|entry| entry.buffer.as_ref()) {
                    buffer.home().data.notify_one();
                }
            }
            _ => {}
        }
        if finding.new_client && self.poller.is_some() {
            tracing::warn!("building a new Kafka client: {}", finding.text);
            self.replace_client(Duration::ZERO);
        }
        Ok(())
    }

    fn on_refused_fetch(&mut self, key: &PartitionKey, finding: &Finding) -> Result<()> {
        let Some(entry) = self.entries.get(key) else { return Ok(()) };
        let (State::Running { claim }, Some(buffer)) = (entry.machine.state().clone(), entry.buffer.clone())
        else {
            return Ok(());
        };
        let Some(refusal) = buffer.refusal() else { return Ok(()) };
        let judged = judge(Place::Fetch, refusal.code, false, finding.waited);
        match judged.act {
            Act::Halt => {
                buffer.fail(Halt::unreadable(
                    key,
                    buffer.covered_to(),
                    refusal.code,
                    &refusal.text,
                    judged.words,
                ));
                buffer.home().data.notify_one();
            }
            _ if finding.anew => self.restart(key, claim),
            _ => {}
        }
        exit_if_told(judged, &format!("{key}: {}", refusal.text))
    }

    fn sights(&self) -> Vec<Sight> {
        let contact = &self.board.contact;
        let mut sights = vec![
            Sight {
                subject: Subject::Kafka,
                mark: contact.kafka_answers(),
                text: self.no_broker_answers(),
                is_stuck: true,
                is_explained: true,
            },
            Sight {
                subject: Subject::Postgres,
                mark: contact.postgres_answers(),
                text: "Postgres does not answer: no heartbeat could be written".to_owned(),
                is_stuck: true,
                is_explained: true,
            },
        ];
        // Whoever does not answer is to blame for what depends on it.
        let kafka_answers = self.standing.of(&Subject::Kafka).is_none();
        let postgres_answers = self.standing.of(&Subject::Postgres).is_none();
        if kafka_answers {
            sights.extend(self.join());
            sights.extend(self.topics.iter().map(|(topic, (code, text))| refused_topic(topic, *code, text)));
        }
        if kafka_answers && postgres_answers && self.joined {
            sights.extend(self.unassigned.found().into_iter().map(|(topic, missing)| Sight {
                mark: i64::from(missing.of - missing.partitions),
                text: missing.words(&self.config.group, &topic),
                subject: Subject::Unassigned(topic),
                is_stuck: true,
                is_explained: false,
            }));
        }
        for (key, entry) in &self.entries {
            if entry.machine.assignment().is_none() {
                continue;
            }
            match (entry.machine.state(), &entry.buffer) {
                (State::Claiming, _) if kafka_answers && postgres_answers => {
                    sights.extend(self.claiming(key))
                }
                (State::Running { .. }, Some(buffer)) if kafka_answers => sights.extend(self.running(buffer)),
                _ => {}
            }
        }
        sights
    }

    /// Of topics that are subscribed to, how many partitions nobody was ever given, once that is worth telling.
    pub(super) fn unassigned_partitions(&self) -> u64 {
        let found = self.unassigned.found().into_iter();
        let told =
            found.filter(|(topic, _)| self.standing.of(&Subject::Unassigned(Arc::clone(topic))).is_some());
        told.map(|(_, missing)| u64::try_from(missing.partitions).unwrap_or_default()).sum()
    }

    fn no_broker_answers(&self) -> String {
        let brokers = self.config.brokers.join(", ");
        match self.obtain.guard.catalog().refusal() {
            None => format!("no broker answers ({brokers})"),
            Some(refusal) => {
                format!("no broker answers ({brokers}): Kafka does not let this worker in: {}", refusal.text)
            }
        }
    }

    /// Not a member, though the coordinator was asked who is one, or has refused us.
    fn join(&self) -> Option<Sight> {
        let now = Instant::now();
        let refusal = self.credentials.refusal(now);
        if self.joined || (self.listed.is_none() && self.join_trouble.is_none() && refusal.is_none()) {
            return None;
        }
        // Listed and without an assignment: a rebalance is under way.
        let is_told_why = self.join_trouble.as_ref().is_some_and(|trouble| trouble.explains(now));
        let is_explained = is_told_why || refusal.is_some() || self.listed == Some(true);
        let text = self.why_not_joined();
        Some(Sight { subject: Subject::Join, mark: 0, text, is_stuck: true, is_explained })
    }

    fn why_not_joined(&self) -> String {
        let group = &self.config.group;
        match &self.join_trouble {
            Some(JoinTrouble { code, text, .. }) => {
                let words = judge(Place::Join, *code, false, Duration::ZERO).words;
                format!("not a member of group {group} yet: {text} ({code:?}); {words}")
            }
            None => match self.credentials.refusal(Instant::now()) {
                Some(text) => {
                    format!("not a member of group {group} yet: Kafka does not let this worker in: {text}")
                }
                None => format!("not a member of group {group} yet"),
            },
        }
    }

    /// What a partition waits for that is assigned and not claimed.
    pub(super) fn waiting(&self, key: &PartitionKey) -> Option<Waiting> {
        let waiting = self.obtain.still.waiting_for(key);
        waiting.or_else(|| self.obtain.marks.waiting(key).map(Waiting::on_answer))
    }

    fn claiming(&self, key: &PartitionKey) -> Option<Sight> {
        let mark = self.entries.get(key)?.machine.assignment().and_then(|id| i64::try_from(id).ok())?;
        let waiting = self.waiting(key);
        let waiting = waiting.unwrap_or_else(|| Waiting::on_answer("waits for its claim".to_owned()));
        let text = if waiting.on == On::Leader { waiting.text } else { format!("{key}: {}", waiting.text) };
        let (subject, is_stuck) = match waiting.on {
            On::Leader => (Subject::Leader(key.clone()), false),
            On::Answer => (Subject::Claim(key.clone()), true),
            On::Operator | On::Process => return None,
        };
        Some(Sight { subject, mark, text, is_stuck, is_explained: true })
    }

    fn running(&self, buffer: &PartitionBuffer) -> Option<Sight> {
        let key = &buffer.key;
        let (seen, at) = (buffer.seen(), buffer.covered_to());
        if let Some(refusal) = buffer.refusal() {
            let words = judge(Place::Fetch, refusal.code, false, Duration::ZERO).words;
            let text = format!(
                "Kafka refuses the records of {key} from offset {at} on: {} ({:?}); {words}; fetching anew",
                refusal.text, refusal.code
            );
            return Some(Sight {
                subject: Subject::Fetch(key.clone()),
                mark: at.get(),
                text,
                is_stuck: true,
                is_explained: true,
            });
        }
        if seen.leaderless {
            let text = Waiting::on_leader(key).text;
            return Some(Sight {
                subject: Subject::Leader(key.clone()),
                mark: at.get(),
                text,
                is_stuck: false,
                is_explained: true,
            });
        }
        if at.get() > buffer.committed() && buffer.is_overdue() && !self.waits_in_its_lane(buffer) {
            return Some(Sight {
                subject: Subject::Applied(key.clone()),
                mark: buffer.committed(),
                text: format!(
                    "records of {key} are here from offset {} on, and none is applied",
                    buffer.committed()
                ),
                is_stuck: true,
                is_explained: true,
            });
        }
        let silent = || {
            seen.silent.map(|code| Sight {
                subject: Subject::Silent(key.clone()),
                // Should it answer fetches, it is not silent.
                mark: at.get(),
                text: Waiting::on_silent_leader(key, code).text,
                is_stuck: true,
                is_explained: true,
            })
        };
        let Some(ends) = seen.ends else { return silent() };
        let read_committed = self.config.isolation == Isolation::ReadCommitted;
        let readable = if read_committed { ends.stable } else { ends.log };
        if at < readable {
            if buffer.is_paused() || !buffer.is_open() {
                return None;
            }
            let leader = if seen.silent.is_some() { ": its leader does not answer" } else { "" };
            let text = format!(
                "Kafka holds records of {key} up to offset {readable}, and none comes after {at}{leader}"
            );
            return Some(Sight {
                subject: Subject::Records(key.clone()),
                mark: at.get(),
                text,
                is_stuck: true,
                is_explained: false,
            });
        }
        if seen.silent.is_some() {
            return silent();
        }
        (read_committed && ends.stable < ends.log).then(|| Sight {
            subject: Subject::Transaction(key.clone()),
            mark: ends.stable.get(),
            text: format!(
                "an open transaction upstream holds the last stable offset of {key} at {}, and the log goes on to {}: what \
                 lies between can be read when its producer has ended it, or its transaction.timeout.ms is over",
                ends.stable, ends.log
            ),
            is_stuck: false,
            is_explained: true,
        })
    }

    /// Whether another partition's batch is out in the lane that this one is in: it is that one's turn, whatever it takes.
    fn waits_in_its_lane(&self, buffer: &PartitionBuffer) -> bool {
        let home = buffer.home();
        let others = self.entries.values().filter_map(|entry| entry.buffer.as_ref());
        others.filter(|other| other.in_flight()).any(|other| Arc::ptr_eq(&other.home(), &home))
    }

    /// Why this worker is not ready; `None` if it is: a member, what is assigned is claimed and read or has a reason of
    /// its own, and Kafka and Postgres answer.
    pub(super) fn why_not_ready(&self, partitions: &[PartitionStatus]) -> Option<String> {
        for subject in [Subject::Kafka, Subject::Postgres] {
            if let Some(silent) = self.standing.of(&subject) {
                return Some(silent.to_string());
            }
        }
        if self.claims.db().is_denied() {
            return Some(
                "Postgres refuses the credentials: correct them, or what the database allows".to_owned(),
            );
        }
        if !self.joined {
            return Some(self.why_not_joined());
        }
        if let Some(text) = self.credentials.refusal(Instant::now()) {
            return Some(format!("Kafka does not let this worker in: {text}"));
        }
        if self.poller.is_none() {
            return Some("a new Kafka client is being built".to_owned());
        }
        // One leader, or one row, is no reason to take a worker away from what flows.
        let of_partitions = (!self.runs_any_undisturbed()).then(|| self.standing.partitions.values());
        let stuck = self.standing.whole.iter().chain(of_partitions.into_iter().flatten());
        // What nobody was given is not this worker's to read: it holds up no rollout.
        let is_ours = |finding: &&Finding| !matches!(finding.subject, Subject::Unassigned(_));
        if let Some(stuck) = stuck.filter(is_ours).find(|finding| finding.is_told && finding.is_stuck) {
            return Some(stuck.to_string());
        }
        let unclaimed = partitions.iter().filter(|status| !self.is_settled(status));
        let mut unclaimed =
            unclaimed.map(|status| (status, status.detail.as_deref().unwrap_or("is being claimed")));
        let (first, why) = unclaimed.next()?;
        let others = match unclaimed.count() {
            0 => String::new(),
            others => format!(" (and {others} more)"),
        };
        Some(format!("{}[{}] is {}: {why}{others}", first.topic, first.partition, first.state.as_str()))
    }

    fn is_settled(&self, status: &PartitionStatus) -> bool {
        match status.state {
            PartitionState::Running | PartitionState::Halted | PartitionState::Fenced => true,
            PartitionState::Claiming => {
                let key = PartitionKey { topic: status.topic.as_str().into(), partition: status.partition };
                self.waiting(&key).is_some_and(|waiting| matches!(waiting.on, On::Operator | On::Leader))
            }
            PartitionState::Draining => false,
        }
    }

    /// Kafka says something of a topic that is subscribed to.
    pub(super) fn on_topic_error(&mut self, topic: &str, code: RDKafkaErrorCode, text: String) {
        self.topics.insert(topic.into(), (code, text));
    }

    /// Asks about the topics that Kafka has refused: the client says that it is over by nothing but an assignment, which
    /// may not come.
    pub(super) fn ask_about_topics(&mut self) {
        if self.asking_about_topics || self.topics.is_empty() {
            return;
        }
        self.asking_about_topics = true;
        let catalog = self.obtain.guard.catalog().clone();
        let topics: Vec<Arc<str>> = self.topics.keys().cloned().collect();
        self.chores.spawn(async move {
            let mut answered = Vec::new();
            for topic in topics {
                if let Ok(Some(_)) = catalog.partition_count(&topic).await {
                    answered.push(topic);
                }
            }
            // The answer is worth no more than one a second.
            tokio::time::sleep(Duration::from_secs(1)).await;
            Chore::TopicsAnswered(answered)
        });
    }
}

fn refused_topic(topic: &Arc<str>, code: RDKafkaErrorCode, text: &str) -> Sight {
    let judged = judge(Place::Metadata, code, false, Duration::ZERO);
    Sight {
        subject: Subject::Topic(Arc::clone(topic)),
        mark: 0,
        text: format!("{text} ({code:?}); {}", judged.words),
        is_stuck: judged.is_limited,
        is_explained: true,
    }
}

fn exit_if_told(judged: Judgement, text: &str) -> Result<()> {
    match judged.act {
        Act::Exit(kind) => Err(Error::new(kind, format!("{text}; {}", judged.words))),
        _ => Ok(()),
    }
}

impl Entry {
    /// Why nothing is applied of it, as its lane says.
    pub(super) fn trouble(&self) -> Option<String> {
        self.buffer.as_ref().and_then(|buffer| buffer.trouble())
    }
}
