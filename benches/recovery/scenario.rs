//! What happens to the victim, under which protocol.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use highwater::testing::{Child, unique};

use crate::support::load::Load;
use crate::support::member::{Group, stop};
use crate::support::servers::{Servers, connect};
use crate::support::{Result, table};
use crate::watch::Watch;

const PARTITIONS: i32 = 6;
const MEMBERS: [&str; 3] = ["a", "b", "c"];

/// A protocol and a fate.
pub(crate) struct Scenario {
    pub(crate) name: &'static str,
    pub(crate) title: &'static str,
    settings: &'static [(&'static str, &'static str)],
    /// Members have instance ids; the victim is started again at once.
    named: bool,
    kill: bool,
    /// Session and heartbeat in milliseconds, where the broker decides.
    group: Option<(u32, u32)>,
}

/// Seconds without a commit.
pub(crate) struct Stalls {
    /// The longest of the victim's partitions.
    pub(crate) victims: f64,
    /// The longest of those that did not move.
    pub(crate) others: f64,
    /// The longest of all in five seconds before.
    pub(crate) before: f64,
}

const COOPERATIVE: &[(&str, &str)] = &[];
const EAGER: &[(&str, &str)] = &[("ASSIGNOR", "range")];
const CONSUMER: &[(&str, &str)] = &[("GROUP_PROTOCOL", "consumer")];
const STOCK: Option<(u32, u32)> = Some((45_000, 5_000));
const TUNED: Option<(u32, u32)> = Some((10_000, 500));

const fn scenario(
    (name, title): (&'static str, &'static str),
    settings: &'static [(&'static str, &'static str)],
    named: bool,
    kill: bool,
    group: Option<(u32, u32)>,
) -> Scenario {
    Scenario { name, title, settings, named, kill, group }
}

/// All of them, in the order of the table.
pub(crate) const SCENARIOS: [Scenario; 10] = [
    scenario(("cooperative-kill", "cooperative, SIGKILL"), COOPERATIVE, false, true, None),
    scenario(("cooperative-term", "cooperative, SIGTERM"), COOPERATIVE, false, false, None),
    scenario(
        ("static-kill", "cooperative, named member, SIGKILL and restart"),
        COOPERATIVE,
        true,
        true,
        None,
    ),
    scenario(
        ("static-term", "cooperative, named member, SIGTERM and restart"),
        COOPERATIVE,
        true,
        false,
        None,
    ),
    scenario(("eager-kill", "eager, SIGKILL"), EAGER, false, true, None),
    scenario(("eager-term", "eager, SIGTERM"), EAGER, false, false, None),
    scenario(("consumer-kill", "KIP-848 as brokers come, SIGKILL"), CONSUMER, false, true, STOCK),
    scenario(("consumer-term", "KIP-848 as brokers come, SIGTERM"), CONSUMER, false, false, STOCK),
    scenario(("tuned-kill", "KIP-848, 10 s and 0.5 s, SIGKILL"), CONSUMER, false, true, TUNED),
    scenario(("tuned-term", "KIP-848, 10 s and 0.5 s, SIGTERM"), CONSUMER, false, false, TUNED),
];

impl Scenario {
    /// Plays it once, from an empty topic to the oracle.
    pub(crate) async fn play(&self, servers: &Servers, rate: u64) -> Result<Stalls> {
        let topic = unique("payments");
        servers.kafka.create_topic(&topic, PARTITIONS).await?;
        table::fresh(&servers.client, PARTITIONS).await?;
        let group = Group::new(servers, &topic, self.settings);
        if let Some((session, heartbeat)) = self.group {
            configure(servers, &group.id, session, heartbeat).await?;
        }
        let load = Load::start(servers.kafka.bootstrap(), &topic, PARTITIONS, rate)?;
        let watch = Watch::start(connect(servers.database.url()).await?, group.id.clone());
        let mut members = Vec::new();
        for name in MEMBERS {
            members.push(self.start(&group, name)?);
        }
        let stalls = self.happen(&group, &watch, &mut members).await;
        let produced = load.finish().await?;
        let stalls = stalls?;
        group.wait(&members, produced, Duration::from_secs(30)).await?;
        stop(&members).await?;
        let ends = servers.ends(&topic, PARTITIONS).await?;
        table::verify(&servers.client, produced, &ends).await?;
        Ok(stalls)
    }

    fn start(&self, group: &Group<'_>, name: &str) -> Result<Child> {
        let instance = [("INSTANCE_ID", name)];
        group.start(name, "scores", if self.named { &instance } else { &[] })
    }

    async fn happen(&self, group: &Group<'_>, watch: &Watch, members: &mut Vec<Child>) -> Result<Stalls> {
        let before = watch.settled(PARTITIONS, members.len(), Instant::now()).await?;
        let quiet_from = Instant::now();
        tokio::time::sleep(Duration::from_secs(5)).await;
        let happened = Instant::now();
        let quiet = (0..PARTITIONS).map(|partition| watch.longest_gap(partition, quiet_from, happened));
        let quiet = quiet.fold(0.0, f64::max);

        let victim = members.remove(0);
        let owner = owner_of(group, &victim).await?;
        let mut since = Instant::now();
        if self.kill {
            victim.kill()?;
        } else {
            victim.term()?;
        }
        victim.wait(Duration::from_secs(60)).await?;
        if self.named {
            if self.kill {
                since = Instant::now();
            }
            members.insert(0, self.start(group, MEMBERS[0])?);
        }
        let after = watch.settled(PARTITIONS, members.len(), since).await?;
        let until = Instant::now();

        let victims: BTreeSet<i32> =
            before.iter().filter(|(_, holder)| **holder == owner).map(|(partition, _)| *partition).collect();
        if victims.is_empty() {
            return Err("the victim had no partitions".into());
        }
        let mut stalls = Stalls { victims: 0.0, others: 0.0, before: quiet };
        for partition in 0..PARTITIONS {
            let gap = watch.longest_gap(partition, since, until);
            if victims.contains(&partition) {
                let stall = match watch.taken_over(partition, since, &owner) {
                    None => return Err(format!("partition {partition} was not taken over").into()),
                    Some(at) if self.kill => (at - since).as_secs_f64(),
                    Some(_) => gap,
                };
                stalls.victims = stalls.victims.max(stall);
            } else if before.get(&partition) == after.get(&partition) {
                stalls.others = stalls.others.max(gap);
            }
        }
        Ok(stalls)
    }
}

/// The random id of a worker process.
async fn owner_of(group: &Group<'_>, member: &Child) -> Result<String> {
    let sql = "SELECT owner::text FROM highwater.worker_status WHERE process_id = $1 ORDER BY started_at DESC LIMIT 1";
    let pid = i32::try_from(member.pid())?;
    Ok(group.servers().client.query_one(sql, &[&pid]).await?.get(0))
}

async fn configure(servers: &Servers, group: &str, session: u32, heartbeat: u32) -> Result {
    let config = format!("consumer.session.timeout.ms={session},consumer.heartbeat.interval.ms={heartbeat}");
    let arguments = ["--alter", "--entity-type", "groups", "--entity-name", group, "--add-config", &config];
    let output = servers.kafka.tool("kafka.admin.ConfigCommand", &arguments).await?;
    if output.status == Some(0) {
        Ok(())
    } else {
        Err(format!("cannot configure the group: {output:?}").into())
    }
}
