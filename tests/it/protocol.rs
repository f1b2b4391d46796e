//! The same fleet under every group protocol and membership (EO-3, EO-4, EO-5).
//!
//! Each test asks Kafka's own tool what the group really is: a protocol that silently fell back to another would
//! otherwise pass for itself.

mod joining;
mod matrix;
mod members;
mod rollout;
mod stalls;
mod whole_list;

use highwater::testing::{Result, wait_until};

use crate::support::fleet::Owners;
use crate::support::{PATIENCE, Process, World};

/// Many small batches: most moves then hit one that is under way.
const SMALL_BATCHES: [(&str, &str); 2] =
    [("HIGHWATER_BATCH_TARGET_RECORDS", "20"), ("HIGHWATER_BATCH_MAX_RECORDS", "50")];

/// A protocol as a worker is told to speak it, and as Kafka's tool names it.
#[derive(Debug, Clone, Copy)]
struct Protocol {
    settings: &'static [(&'static str, &'static str)],
    group_type: &'static str,
    assignor: &'static str,
    /// Whether a rebalance takes everything away.
    eager: bool,
}

const COOPERATIVE: Protocol =
    Protocol { settings: &[], group_type: "Classic", assignor: "cooperative-sticky", eager: false };
const EAGER: Protocol = Protocol {
    settings: &[("HIGHWATER_ASSIGNOR", "range")],
    group_type: "Classic",
    assignor: "range",
    eager: true,
};
const ROUND_ROBIN: Protocol = Protocol {
    settings: &[("HIGHWATER_ASSIGNOR", "roundrobin")],
    group_type: "Classic",
    assignor: "roundrobin",
    eager: true,
};
const CONSUMER: Protocol = Protocol {
    settings: &[("HIGHWATER_GROUP_PROTOCOL", "consumer")],
    group_type: "Consumer",
    assignor: "uniform",
    eager: false,
};

/// Sets properties of a group in the broker, by Kafka's own tool.
async fn configure_group(world: &World<'_>, config: &str) -> Result<()> {
    let arguments =
        ["--alter", "--entity-type", "groups", "--entity-name", &world.group, "--add-config", config];
    let output = world.kafka.tool("kafka.admin.ConfigCommand", &arguments).await?;
    assert_eq!(output.status, Some(0), "{output:?}");
    Ok(())
}

/// Who is a member, and for how long when silent.
#[derive(Debug, Clone, Copy)]
struct Membership {
    /// Every process has an instance id: its name.
    fixed: bool,
    /// Under the classic protocol; the test broker's own is 6 s.
    session_timeout: &'static str,
}

/// Processes of one group under one protocol.
struct Fleet<'a, 'k> {
    world: &'a World<'k>,
    protocol: Protocol,
    membership: Membership,
    /// What the handlers do beside their work.
    role: &'static str,
    members: Vec<Member>,
    /// Every rebalance of whoever has left in good order.
    answers: Vec<std::time::Duration>,
}

struct Member {
    name: String,
    process: Process,
}

impl<'a, 'k> Fleet<'a, 'k> {
    fn new(world: &'a World<'k>, protocol: Protocol, membership: Membership) -> Self {
        Self { world, protocol, membership, role: "plain", members: Vec::new(), answers: Vec::new() }
    }

    fn spawn(&self, name: &str) -> Result<Process> {
        let mut settings = [&SMALL_BATCHES[..], self.protocol.settings].concat();
        if self.membership.fixed {
            settings.push(("HIGHWATER_INSTANCE_ID", name));
        }
        if self.protocol.group_type == "Classic" {
            settings.push(("HIGHWATER_SESSION_TIMEOUT", self.membership.session_timeout));
        }
        Process::start_with(self.world, name, self.role, &settings)
    }

    fn add(&mut self, name: &str) -> Result<()> {
        let process = self.spawn(name)?;
        self.members.push(Member { name: name.to_owned(), process });
        Ok(())
    }

    /// Takes a member out of the list.
    fn take(&mut self, name: &str) -> Process {
        let index =
            self.members.iter().position(|member| member.name == name).expect("a member of that name");
        self.members.remove(index).process
    }

    fn process(&self, name: &str) -> &Process {
        &self.members.iter().find(|member| member.name == name).expect("a member of that name").process
    }

    /// Stops a member in good order.
    async fn stop(&mut self, name: &str) -> Result<()> {
        let process = self.take(name);
        process.stop().await?;
        self.answers.extend(process.answers());
        Ok(())
    }

    async fn stop_all(&mut self) -> Result<()> {
        while let Some(name) = self.members.last().map(|member| member.name.clone()) {
            self.stop(&name).await?;
        }
        Ok(())
    }

    /// Waits until the members hold all partitions, each at least one; returns who holds what. After a rebalance of an
    /// eager group, all claims are newer than `before`.
    async fn settled(&self, before: Option<&Owners>) -> Result<Owners> {
        let what = format!("{} members have settled", self.members.len());
        wait_until(&what, PATIENCE, async || {
            let owners = self.world.held_by(self.members.len()).await?;
            let renewed = match before {
                Some(before) if self.protocol.eager => {
                    owners.iter().all(|(partition, (_, epoch))| *epoch > before[partition].1)
                }
                _ => true,
            };
            Ok(renewed.then_some(owners))
        })
        .await
    }

    /// What Kafka's own tool says of the group is what was asked for, and every member is in it.
    async fn assert_is_what_it_says(&self) -> Result<()> {
        let state = wait_until("Kafka says that the group is stable", PATIENCE, async || {
            let state = self.world.kafka.group_state(&self.world.group).await?;
            Ok((state.state == "Stable").then_some(state))
        })
        .await?;
        assert_eq!(
            (&*state.group_type, &*state.assignor, state.members),
            (self.protocol.group_type, self.protocol.assignor, self.members.len()),
        );
        Ok(())
    }

    /// Each rebalance was answered before anything that could have taken long.
    fn assert_answered_at_once(&self) {
        let mut answers = self.answers.clone();
        answers.sort();
        let (Some(median), Some(most)) = (answers.get(answers.len() / 2), answers.last()) else {
            panic!("no rebalance was answered");
        };
        eprintln!("{:?}: {} answers, median {median:?}, longest {most:?}", self.protocol, answers.len());
        assert!(median.as_millis() < 10 && most.as_millis() < 500, "{answers:?}");
    }
}
