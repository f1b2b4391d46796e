//! Who else is in the group: a consumer that is not Highwater's takes records away from it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use tokio::sync::mpsc;
use uuid::Uuid;

use super::StatusBoard;
use super::control::Control;
use crate::claim::start::named;
use crate::config::{CLIENT_ID_PREFIX, Config, GroupProtocol};
use crate::consumer::Catalog;
use crate::consumer::groups::{Member, code, is_refusal};
use crate::error::ErrorKind;
use crate::partition::{After, Halt, Input, State};

/// How often the coordinator is asked; more seldom in a large group, where every worker asks, so that it has about
/// five questions a second to answer.
const INTERVAL: Duration = Duration::from_secs(3);
const INTERVAL_PER_MEMBER: Duration = Duration::from_millis(200);

/// Looks at the group's members every few seconds.
pub(super) struct Members {
    catalog: Catalog,
    group: String,
    us: Us,
    board: Arc<StatusBoard>,
    rolls: mpsc::UnboundedSender<Roll>,
}

/// By what this process is known among a group's members.
pub(super) struct Us {
    /// Our own `client.id`, which no other process has.
    client_id: String,
    /// Under the classic protocol: the coordinator gives a static member's place to its successor and goes on listing the
    /// `client.id` of the predecessor, until there is a rebalance (Kafka 4.1, `ClassicGroup.replaceStaticMember`).
    instance_id: Option<String>,
}

impl Us {
    pub(super) fn new(config: &Config, owner: Uuid) -> Self {
        let is_classic = config.group_protocol == GroupProtocol::Classic;
        Self {
            client_id: format!("{CLIENT_ID_PREFIX}{owner}"),
            instance_id: config.instance_id.clone().filter(|_| is_classic),
        }
    }

    fn is(&self, member: &Member) -> bool {
        member.client_id == self.client_id
            || (self.instance_id.is_some() && member.instance_id == self.instance_id)
    }
}

/// What the coordinator says of the group's members.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Roll {
    /// Why nothing may be claimed; `None` while there is no foreign member.
    pub(super) foreign: Option<Halt>,
    /// Whether this process is among them.
    pub(super) has_us: bool,
    /// When it was asked: of what came later it says nothing.
    pub(super) asked: Instant,
}

impl Members {
    pub(super) fn new(
        catalog: Catalog,
        group: String,
        us: Us,
        board: Arc<StatusBoard>,
        rolls: mpsc::UnboundedSender<Roll>,
    ) -> Self {
        Self { catalog, group, us, board, rolls }
    }

    /// Looks until aborted. A question that fails changes nothing: what was seen last holds.
    pub(super) async fn run(self) {
        let mut complained = false;
        loop {
            let mut interval = INTERVAL;
            let asked = Instant::now();
            match self.catalog.group_members(&self.group).await {
                Ok(members) => {
                    let count = u32::try_from(members.len()).unwrap_or(u32::MAX);
                    interval = interval.max(INTERVAL_PER_MEMBER.saturating_mul(count));
                    self.board.contact.coordinator_answered();
                    let has_us = members.iter().any(|member| self.us.is(member));
                    // Each time: whether it is news is for the control loop to say, which also hears the client.
                    let _ = self.rolls.send(Roll { foreign: self.judge(&members), has_us, asked });
                }
                Err(error) if for_good(&error) && !complained => {
                    complained = true;
                    tracing::warn!(
                        group = self.group, %error,
                        "Kafka does not tell who is in the group, so a consumer that is not Highwater's would not be \
                         noticed: grant this client DESCRIBE on the group"
                    );
                }
                Err(error) => {
                    tracing::debug!(group = self.group, %error, "Kafka did not say who is in the group; asking again");
                }
            }
            // Not all workers at once.
            tokio::time::sleep(interval.mul_f64(0.75 + 0.5 * fastrand::f64())).await;
        }
    }

    fn judge(&self, members: &[Member]) -> Option<Halt> {
        let foreign: Vec<&Member> = members.iter().filter(|member| member.is_foreign()).collect();
        let group = &self.group;
        (!foreign.is_empty()).then(|| {
            Halt::new(
                ErrorKind::ForeignMember,
                format!(
                    "{} in group {group} and not Highwater's: what Kafka gives to it does not reach this database, and \
                     what it writes may be written twice; stop it, or give it a group id of its own; once it has left, \
                     this worker goes on by itself",
                    named(&foreign)
                ),
            )
        })
    }
}

impl Control {
    /// The coordinator has told who is in the group. Being listed is membership, also where no rebalance ever says so: a
    /// member to whom nothing is assigned under KIP-848.
    pub(super) fn on_roll(&mut self, Roll { foreign, has_us, asked }: Roll) {
        if !self.config.is_assigned_by_hand() {
            self.listed = Some(has_us);
            let is_placed =
                self.assigned_at.is_some() || self.config.group_protocol == GroupProtocol::Consumer;
            if has_us && is_placed && self.poller.is_some() {
                self.has_joined();
            } else if !has_us && self.assigned_at.is_none_or(|at| at < asked) {
                self.joined = false;
            }
        }
        if self.foreign != foreign {
            self.on_foreign(foreign);
        }
    }

    /// Somebody else's consumer is in the group, or has left it. What runs is ended and claimed again; while the
    /// stranger is there, [`feed`](Self::feed) refuses every claim.
    fn on_foreign(&mut self, finding: Option<Halt>) {
        let input = |state: &State| match (state, &finding) {
            (State::Running { claim }, Some(_)) => Some(Input::Ended { claim: *claim, after: After::Claim }),
            (State::Halted { why }, None) if why.kind == ErrorKind::ForeignMember => Some(Input::HaltOver),
            _ => None,
        };
        let inputs = self.entries.iter();
        let inputs = inputs.filter_map(|(key, entry)| Some((key.clone(), input(entry.machine.state())?)));
        let inputs = inputs.collect();
        if finding.is_none() {
            tracing::info!("no consumer but Highwater's is in the group any more: going on");
        }
        self.foreign = finding;
        self.feed(inputs);
    }
}

/// Asking again will not help: not allowed, or this broker has no such question.
fn for_good(error: &KafkaError) -> bool {
    let unsupported = [RDKafkaErrorCode::UnsupportedFeature, RDKafkaErrorCode::UnsupportedVersion];
    is_refusal(error) || code(error).is_some_and(|code| unsupported.contains(&code))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member(client_id: &str, instance_id: Option<&str>) -> Member {
        Member {
            id: "m".to_owned(),
            client_id: client_id.to_owned(),
            host: String::new(),
            instance_id: instance_id.map(str::to_owned),
        }
    }

    #[test]
    fn a_named_member_is_known_by_its_name_where_the_coordinator_keeps_its_predecessors_client_id() {
        let owner = Uuid::from_u128(7);
        let mine = format!("{CLIENT_ID_PREFIX}{owner}");
        let config = |protocol| Config {
            instance_id: Some("pod-0".to_owned()),
            group_protocol: protocol,
            ..Config::default()
        };
        let classic = Us::new(&config(GroupProtocol::Classic), owner);
        assert!(classic.is(&member(&mine, None)) && classic.is(&member("highwater-before", Some("pod-0"))));
        assert!(!classic.is(&member("highwater-before", Some("pod-1"))));
        // Here it names the process that is there: a predecessor's place is not ours yet.
        let consumer = Us::new(&config(GroupProtocol::Consumer), owner);
        assert!(consumer.is(&member(&mine, Some("pod-0"))));
        assert!(!consumer.is(&member("highwater-before", Some("pod-0"))));
        let dynamic = Us::new(&Config::default(), owner);
        assert!(!dynamic.is(&member("highwater-before", None)));
    }
}
