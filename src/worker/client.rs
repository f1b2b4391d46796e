//! The Kafka client's own failures: which end the worker, and which only the client (DESIGN 3.11).

use std::time::{Duration, Instant};

use rdkafka::error::RDKafkaErrorCode;

use super::control::Control;
use super::launch;
use crate::backoff::Backoff;
use crate::config::Config;
use crate::consumer::poll::Command;
use crate::error::{Error, ErrorKind, Result};

/// Longest wait for the session of a predecessor under the same instance id to end: its partitions stand still
/// meanwhile.
const UNRELEASED_WAIT: Duration = Duration::from_secs(1);

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
        if let Some(error) = ends_the_worker(&self.config, code, fatal, text) {
            return Err(error);
        }
        if !fatal {
            let group = &self.config.group;
            match code {
                RDKafkaErrorCode::InconsistentGroupProtocol => tracing::warn!(
                    group,
                    "the members of the group share its partitions out by another assignor: give all of them the \
                     same, and stop all before changing it; trying again"
                ),
                _ => tracing::debug!(?code, text, "the Kafka client reports an error; it goes on by itself"),
            }
            return Ok(());
        }
        let wait = self.rebuild.wait(code, Instant::now());
        if code == RDKafkaErrorCode::UnreleasedInstanceId {
            let instance = self.config.instance_id.as_deref().unwrap_or("");
            tracing::warn!(
                instance,
                retry_in = ?wait,
                "the group still has a member of this instance id: a process that was killed less than a session ago, or \
                 one that runs; trying again"
            );
        } else {
            tracing::error!(?code, text, retry_in = ?wait, "the Kafka client has failed for good; building a new one");
        }
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
        Ok(())
    }
}

/// What no new client could mend.
fn ends_the_worker(config: &Config, code: RDKafkaErrorCode, fatal: bool, text: &str) -> Option<Error> {
    use RDKafkaErrorCode as Code;
    let group = &config.group;
    Some(match code {
        Code::Authentication | Code::SaslAuthenticationFailed => {
            Error::new(ErrorKind::Authentication, format!("Kafka refused the credentials: {text}"))
        }
        Code::GroupAuthorizationFailed => Error::new(
            ErrorKind::Privilege,
            format!("Kafka does not let this client join group {group}: grant it READ on the group ({text})"),
        ),
        Code::FencedInstanceId => {
            let instance = config.instance_id.as_deref().unwrap_or("");
            Error::new(
                ErrorKind::InstanceFenced,
                format!(
                    "another process joined group {group} as instance {instance}: give every process an instance id of its own"
                ),
            )
        }
        Code::UnsupportedAssignor => {
            let assignor = config.effective_assignor().map_or("", |assignor| assignor.as_str());
            Error::configuration(format!(
                "the brokers do not have the assignor {assignor} for group {group}: change the setting `assignor`, or \
                 add it to group.consumer.assignors ({text})"
            ))
        }
        Code::UnsupportedVersion | Code::UnsupportedFeature if fatal => Error::configuration(format!(
            "the brokers do not speak the protocol of group {group}, `group_protocol` {}: choose classic, or brokers from \
             4.0 ({text})",
            config.group_protocol.as_str()
        )),
        _ => return None,
    })
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
            (Code::UnsupportedAssignor, ErrorKind::Configuration, "group.consumer.assignors"),
            (Code::UnsupportedVersion, ErrorKind::Configuration, "choose classic"),
            (Code::UnsupportedFeature, ErrorKind::Configuration, "choose classic"),
        ] {
            let error = ends_the_worker(&config, code, true, "t").expect("it ends the worker");
            assert_eq!(error.kind(), kind, "{code:?}");
            assert!(error.to_string().contains(part), "{error}");
        }
        for code in [Code::UnreleasedInstanceId, Code::Fatal, Code::GroupMaxSizeReached] {
            assert!(ends_the_worker(&config, code, true, "t").is_none(), "{code:?}");
        }
    }
}
