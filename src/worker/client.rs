//! The Kafka client's own failures: which end the worker, and which only the client (DESIGN 3.11).

use std::time::{Duration, Instant};

use rdkafka::error::RDKafkaErrorCode;

use super::control::Control;
use super::launch;
use crate::backoff::Backoff;
use crate::config::Config;
use crate::consumer::ffi::access;
use crate::consumer::poll::Command;
use crate::error::{Error, ErrorKind, Result};
use crate::verdict::kafka::judge;
use crate::verdict::{Act, Place};

/// Longest wait for the session of a predecessor under the same instance id to end: its partitions stand still
/// meanwhile.
const UNRELEASED_WAIT: Duration = Duration::from_secs(1);

/// Between two words about tries to join that fail alike.
const FIRST_PAUSE: Duration = Duration::from_secs(2);
const LONGEST_PAUSE: Duration = Duration::from_secs(300);

/// A client that is refused tries again, and is told so again, every second or so: what was not repeated for so long is over.
const EXPLAINS_FOR: Duration = Duration::from_secs(20);

/// When to build the next client.
pub(super) struct Rebuild {
    backoff: Backoff,
    longest: Duration,
    /// When the present client was built.
    since: Instant,
    /// While there is none: when to build the next.
    due: Instant,
}

impl Rebuild {
    pub(super) fn new(config: &Config) -> Self {
        let now = Instant::now();
        Self {
            backoff: Backoff::new(config.retry_backoff_min, config.retry_backoff_max),
            longest: config.retry_backoff_max,
            since: now,
            due: now,
        }
    }

    /// A client was built.
    pub(super) fn started(&mut self, now: Instant) {
        self.since = now;
    }

    pub(super) fn due(&self) -> Instant {
        self.due
    }

    /// How long to wait after the client has failed. One that had worked for longer than the longest wait was well: its
    /// failure is a first one.
    fn wait(&mut self, code: RDKafkaErrorCode, now: Instant) -> Duration {
        if now.duration_since(self.since) > self.longest {
            self.backoff.reset();
        }
        let wait = self.backoff.next();
        if code == RDKafkaErrorCode::UnreleasedInstanceId { wait.min(UNRELEASED_WAIT) } else { wait }
    }
}

impl Control {
    pub(super) fn on_client_error(&mut self, code: RDKafkaErrorCode, fatal: bool, text: &str) -> Result<()> {
        if let Some(code) = access::refused(code, text).filter(|_| !fatal) {
            return self.on_refused_credentials(code, text);
        }
        if access::is_cut_short(text) && !fatal {
            tracing::debug!(
                ?code,
                text,
                "a connection to a broker was lost in its handshake; the client connects again"
            );
            return Ok(());
        }
        let judged = judge(Place::Join, code, fatal, Duration::ZERO);
        match judged.act {
            Act::Exit(kind) => Err(ends_the_worker(&self.config, kind, text, judged.words)),
            Act::NewClient => {
                let wait = self.rebuild.wait(code, Instant::now());
                let (group, instance, words) = (&self.config.group, &self.config.instance_id, judged.words);
                tracing::warn!(
                    group, instance, ?code, text, retry_in = ?wait,
                    "{words}; building a new Kafka client"
                );
                self.join_trouble = Some(JoinTrouble::new(code, text));
                self.replace_client(wait);
                Ok(())
            }
            _ if !judged.is_told => {
                tracing::debug!(?code, text, "the Kafka client reports an error; {}", judged.words);
                Ok(())
            }
            _ => {
                if self.join_words.are_due(code, Instant::now()) {
                    let group = &self.config.group;
                    tracing::warn!(group, ?code, text, "{}; trying again", judged.words);
                }
                self.join_trouble = Some(JoinTrouble::new(code, text));
                Ok(())
            }
        }
    }

    /// A member of the group: whatever kept it from joining is over.
    pub(super) fn has_joined(&mut self) {
        self.joined = true;
        self.join_trouble = None;
        self.join_words = Words::default();
        self.credentials.taken();
    }

    /// Builds the client that is due.
    ///
    /// # Errors
    /// If there can be none. While certificates are exchanged that may pass: it is tried again if there was one before.
    pub(super) fn build_client(&mut self) -> Result<()> {
        match self.start_client() {
            Err(error) if self.credentials.were_taken && error.is_configuration() => {
                tracing::warn!(error = error.report(), "cannot build a Kafka client; trying again");
                self.rebuild.due = Instant::now() + UNRELEASED_WAIT;
                Ok(())
            }
            built => built,
        }
    }

    /// Closes the client, and builds a new one after `wait`.
    pub(super) fn replace_client(&mut self, wait: Duration) {
        self.revoke_all();
        self.joined = false;
        if let Some(poller) = self.poller.take() {
            poller.send(Command::Stop { mirror: Vec::new(), mirror_limit: Duration::ZERO });
            // Closing may take long, and the loop has other things to do: a stop, the batches that are out, releases.
            self.closing.spawn(poller.join(launch::CLOSE_LIMIT));
        }
        self.deafen();
        // The loop goes on meanwhile: batches end, claims are given back, a stop is heard.
        self.rebuild.due = Instant::now() + wait;
    }
}

/// Why the last try to join has failed.
#[derive(Debug)]
pub(super) struct JoinTrouble {
    pub(super) code: RDKafkaErrorCode,
    pub(super) text: String,
    heard: Instant,
}

impl JoinTrouble {
    fn new(code: RDKafkaErrorCode, text: &str) -> Self {
        Self { code, text: text.to_owned(), heard: Instant::now() }
    }

    /// Whether it says why this worker is no member *now*. What was heard once, of a poll that came too late for instance,
    /// and not again, is no explanation of what lasts: the client may have forgotten every broker since.
    pub(super) fn explains(&self, now: Instant) -> bool {
        now.duration_since(self.heard) < EXPLAINS_FOR
    }
}

/// When the next word about tries that fail alike is due: at once, then ever more seldom.
#[derive(Debug, Default)]
pub(super) struct Words {
    said: Option<(RDKafkaErrorCode, Instant, Duration)>,
}

impl Words {
    pub(super) fn are_due(&mut self, code: RDKafkaErrorCode, now: Instant) -> bool {
        let pause = match self.said {
            Some((before, due, _)) if before == code && now < due => return false,
            Some((before, _, pause)) if before == code => (pause * 2).min(LONGEST_PAUSE),
            _ => FIRST_PAUSE,
        };
        self.said = Some((code, now + pause, pause));
        true
    }
}

/// What no new client could mend.
fn ends_the_worker(config: &Config, kind: ErrorKind, text: &str, words: &str) -> Error {
    let settings = match kind {
        ErrorKind::InstanceFenced => format!(", instance {}", config.instance_id.as_deref().unwrap_or("")),
        ErrorKind::Configuration => format!(
            " (`session_timeout` {:?}, `group_protocol` {}, `assignor` {})",
            config.effective_session_timeout(),
            config.group_protocol.as_str(),
            config.effective_assignor().map_or("of the broker", |assignor| assignor.as_str())
        ),
        _ => String::new(),
    };
    Error::new(kind, format!("group {}{settings}: {words} ({text})", config.group))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rebuild() -> (Rebuild, Instant) {
        let (rebuild, now) = (Rebuild::new(&Config::default()), Instant::now());
        (Rebuild { since: now, ..rebuild }, now)
    }

    #[test]
    fn a_client_that_fails_at_once_is_built_ever_more_slowly() {
        let (mut rebuild, now) = rebuild();
        let waits = std::iter::repeat_with(|| rebuild.wait(RDKafkaErrorCode::Fatal, now));
        let longest = waits.take(20).max().unwrap();
        assert!(longest > Duration::from_secs(5) && longest <= Duration::from_secs(10), "{longest:?}");
    }

    #[test]
    fn a_client_that_has_worked_for_a_while_is_built_anew_at_once() {
        let (mut rebuild, mut now) = rebuild();
        for _ in 0..20 {
            rebuild.wait(RDKafkaErrorCode::Fatal, now);
        }
        now += Duration::from_secs(11);
        assert!(rebuild.wait(RDKafkaErrorCode::Fatal, now) <= Duration::from_millis(100));
        rebuild.started(now);
        assert!(rebuild.wait(RDKafkaErrorCode::Fatal, now) > Duration::from_millis(50), "it doubles again");
    }

    /// A process that was stopped and goes on is told that it polled too late. If the broker fails in the same minute, so
    /// that the client forgets it, that word must not stand for a reason: the group would wait for its partitions.
    #[test]
    fn what_was_heard_once_explains_nothing_for_long() {
        let trouble =
            JoinTrouble::new(RDKafkaErrorCode::PollExceeded, "Application maximum poll interval exceeded");
        assert!(trouble.explains(trouble.heard + Duration::from_secs(19)));
        assert!(!trouble.explains(trouble.heard + EXPLAINS_FOR));
    }

    #[test]
    fn a_predecessors_session_is_looked_at_every_second() {
        let (mut rebuild, now) = rebuild();
        for _ in 0..20 {
            assert!(rebuild.wait(RDKafkaErrorCode::UnreleasedInstanceId, now) <= UNRELEASED_WAIT);
        }
    }

    #[test]
    fn what_ends_the_worker_says_what_to_mend() {
        use RDKafkaErrorCode as Code;
        let mut config = Config::default();
        (config.group, config.instance_id) = ("g-1".to_owned(), Some("pod-7".to_owned()));
        for (code, kind, part) in [
            (Code::Authentication, ErrorKind::Authentication, "credentials"),
            (Code::GroupAuthorizationFailed, ErrorKind::Privilege, "READ"),
            (Code::FencedInstanceId, ErrorKind::InstanceFenced, "pod-7"),
            (Code::InvalidSessionTimeout, ErrorKind::Configuration, "group.min.session.timeout.ms"),
            (Code::UnsupportedAssignor, ErrorKind::Configuration, "group.consumer.assignors"),
            (Code::UnsupportedVersion, ErrorKind::Configuration, "choose classic"),
            (Code::UnsupportedFeature, ErrorKind::Configuration, "choose classic"),
        ] {
            let judged = judge(Place::Join, code, true, Duration::ZERO);
            assert_eq!(judged.act, Act::Exit(kind), "{code:?}");
            let error = ends_the_worker(&config, kind, "the broker's words", judged.words);
            assert!(
                error.to_string().contains(part) && error.to_string().contains("the broker's words"),
                "{error}"
            );
        }
        for code in [Code::UnreleasedInstanceId, Code::Fatal, Code::GroupMaxSizeReached] {
            assert_eq!(judge(Place::Join, code, true, Duration::ZERO).act, Act::NewClient, "{code:?}");
        }
    }

    #[test]
    fn a_refused_join_is_said_at_once_and_then_ever_more_seldom() {
        let (mut words, mut now) = (Words::default(), Instant::now());
        let mut said = Vec::new();
        for second in 0..60 {
            if words.are_due(RDKafkaErrorCode::GroupMaxSizeReached, now) {
                said.push(second);
            }
            now += Duration::from_secs(1);
        }
        assert_eq!(said, [0, 2, 6, 14, 30]);
        assert!(words.are_due(RDKafkaErrorCode::InconsistentGroupProtocol, now), "another one is news");
    }
}
