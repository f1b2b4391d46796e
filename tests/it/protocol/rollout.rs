//! What a deployment costs: the table of `docs/kubernetes.md`. Real processes, replaced as Kubernetes replaces pods, each
//! step waiting for readiness.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use highwater::testing::{Result, wait_until};

use super::stalls::now;
use super::{CONSUMER, COOPERATIVE, EAGER, Fleet, Membership, Protocol};
use crate::support::fleet::Owners;
use crate::support::{PATIENCE, Process, TestResult, World};

const PARTITIONS: i32 = 64;
const PODS: usize = 10;
/// 64 partitions, 5 records every 100 ms: 3,200 records/s.
const RECORDS: usize = 5;
const ROUND: Duration = Duration::from_millis(100);
/// How long a pod's image takes to start, beside the program.
const AN_IMAGE_THAT_CRASHES: Duration = Duration::from_secs(2);

/// How late records were applied in one step: the worst of the partitions that kept their owner, and of the others.
#[derive(Debug, Default, Clone, Copy)]
struct Late {
    untouched_ms: i64,
    moved_ms: i64,
    /// Partitions that kept their owner, and were claimed anew nevertheless.
    disturbed: usize,
    moved: usize,
}

impl Late {
    fn worst(self, other: Self) -> Self {
        Self {
            untouched_ms: self.untouched_ms.max(other.untouched_ms),
            moved_ms: self.moved_ms.max(other.moved_ms),
            disturbed: self.disturbed + other.disturbed,
            moved: self.moved + other.moved,
        }
    }
}

fn pod(ordinal: usize) -> String {
    format!("fraud-{ordinal}")
}

impl World<'_> {
    async fn at_the_pace_of_a_deployment(&self, work: impl Future<Output = Result<()>>) -> Result<()> {
        let load = async {
            let mut rounds = tokio::time::interval(ROUND);
            loop {
                rounds.tick().await;
                self.produce(RECORDS).await?;
            }
        };
        tokio::select! {
            done = work => done,
            failed = load => failed,
        }
    }

    /// The readiness gate.
    async fn ready(&self, process: &Process) -> Result<()> {
        let owner = process.owner().await?;
        wait_until(&format!("{owner} is ready"), PATIENCE, async || {
            let sql = "SELECT ready FROM highwater.worker_status WHERE owner::text = $1";
            let rows = self.database.query(sql, &[&owner]).await?;
            Ok(rows.first().is_some_and(|row| row.get(0)).then_some(()))
        })
        .await
    }

    /// The longest time from a record's being produced to its being committed, per partition, since then.
    async fn lateness(&self, since: f64) -> Result<BTreeMap<i32, i64>> {
        let sql = "SELECT partition, max(late_ms)::int8 FROM commits WHERE at > to_timestamp($1) GROUP BY 1";
        let rows = self.database.query(sql, &[&since]).await?;
        Ok(rows.iter().map(|row| (row.get(0), row.get(1))).collect())
    }
}

/// One step of a deployment, and how late records were until the fleet had settled again and caught up.
async fn step(
    fleet: &mut Fleet<'_, '_>,
    before: &Owners,
    what: impl AsyncFnOnce(&mut Fleet<'_, '_>) -> Result<()>,
) -> Result<(Late, Owners)> {
    let world = fleet.world;
    let since = now(world).await?;
    what(fleet).await?;
    let after = fleet.settled(None).await?;
    caught_up_with(world).await?;
    let mut late = Late::default();
    for (partition, ms) in world.lateness(since).await? {
        let ((old, old_epoch), (new, new_epoch)) = (&before[&partition], &after[&partition]);
        if old == new {
            late.untouched_ms = late.untouched_ms.max(ms);
            late.disturbed += usize::from(old_epoch != new_epoch);
        } else {
            late.moved_ms = late.moved_ms.max(ms);
            late.moved += 1;
        }
    }
    Ok((late, after))
}

/// Waits until every partition has committed a record that was produced since.
async fn caught_up_with(world: &World<'_>) -> Result<()> {
    let since = now(world).await?;
    wait_until("every partition has caught up", PATIENCE, async || {
        let sql = "SELECT count(DISTINCT partition) FROM commits \
                   WHERE at - late_ms * interval '1 millisecond' > to_timestamp($1)";
        let count: i64 = world.database.query(sql, &[&since]).await?[0].get(0);
        Ok((count == i64::from(PARTITIONS)).then_some(()))
    })
    .await
}

async fn deployments(protocol: Protocol, fixed: bool) -> Result<Vec<(&'static str, Late)>> {
    let world = World::new("rollout", PARTITIONS).await?;
    world.database.execute("CREATE TABLE commits (partition int, at timestamptz, late_ms int)").await?;
    world.database.execute(&format!("GRANT INSERT ON commits TO {}", world.role.name)).await?;
    if protocol.group_type == "Consumer" {
        let session = if fixed { 60_000 } else { 10_000 };
        let config = format!("consumer.session.timeout.ms={session},consumer.heartbeat.interval.ms=500");
        super::configure_group(&world, &config).await?;
    }
    let session_timeout = if fixed { "60s" } else { "10s" };
    let mut fleet = Fleet::new(&world, protocol, Membership { fixed, session_timeout });
    fleet.role = "late";
    let mut found = Vec::new();
    let work = async {
        for ordinal in 0..PODS {
            fleet.add(&pod(ordinal))?;
        }
        let mut owners = fleet.settled(None).await?;
        caught_up_with(&world).await?;
        let quiet = async |_: &mut Fleet<'_, '_>| {
            tokio::time::sleep(Duration::from_secs(10)).await;
            Ok(())
        };
        found.push(("nothing happens for 10 s", step(&mut fleet, &owners, quiet).await?.0));
        let (late, after) = match fixed {
            true => stateful_set(&mut fleet, owners).await?,
            false => deployment(&mut fleet, owners).await?,
        };
        found.push(("rolling restart", late));
        owners = after;
        if !fixed {
            let (late, after) = step(&mut fleet, &owners, scaled_in).await?;
            found.push(("10 to 3", late));
            let (late, after) = step(&mut fleet, &after, scaled_out).await?;
            found.push(("3 to 10", late));
            owners = after;
        }
        let (late, after) = step(&mut fleet, &owners, a_node_is_lost).await?;
        found.push(("a node with three pods is lost", late));
        let (late, _) = step(&mut fleet, &after, an_image_that_crashes).await?;
        found.push(("an image that crashes, rolled back", late));
        Ok(())
    };
    world.at_the_pace_of_a_deployment(work).await?;
    world.verify().await?;
    fleet.stop_all().await?;
    Ok(found)
}

/// From the last pod to the first: gone, started again under its name, ready.
async fn stateful_set(fleet: &mut Fleet<'_, '_>, mut owners: Owners) -> Result<(Late, Owners)> {
    let mut worst = Late::default();
    for ordinal in (0..PODS).rev() {
        let restart = async |fleet: &mut Fleet<'_, '_>| {
            fleet.stop(&pod(ordinal)).await?;
            fleet.add(&pod(ordinal))?;
            fleet.world.ready(fleet.process(&pod(ordinal))).await
        };
        let (late, after) = step(fleet, &owners, restart).await?;
        (worst, owners) = (worst.worst(late), after);
    }
    Ok((worst, owners))
}

/// One more than there are; when it is ready, an old one goes.
async fn deployment(fleet: &mut Fleet<'_, '_>, mut owners: Owners) -> Result<(Late, Owners)> {
    let mut worst = Late::default();
    for ordinal in 0..PODS {
        let replace = async |fleet: &mut Fleet<'_, '_>| {
            let new = format!("new-{ordinal}");
            fleet.add(&new)?;
            fleet.world.ready(fleet.process(&new)).await?;
            fleet.stop(&pod(ordinal)).await
        };
        let (late, after) = step(fleet, &owners, replace).await?;
        (worst, owners) = (worst.worst(late), after);
    }
    Ok((worst, owners))
}

async fn scaled_in(fleet: &mut Fleet<'_, '_>) -> Result<()> {
    let leaving: Vec<Process> = fleet.members.split_off(3).into_iter().map(|member| member.process).collect();
    for process in &leaving {
        process.child.term()?;
    }
    for process in leaving {
        assert_eq!(process.child.wait(PATIENCE).await?, 0, "a soft stop ends with 0");
    }
    Ok(())
}

async fn scaled_out(fleet: &mut Fleet<'_, '_>) -> Result<()> {
    for ordinal in 3..PODS {
        fleet.add(&format!("more-{ordinal}"))?;
    }
    for member in &fleet.members[3..] {
        fleet.world.ready(&member.process).await?;
    }
    Ok(())
}

/// SIGKILL of three at once; others start elsewhere, a stateful set's under the same names.
async fn a_node_is_lost(fleet: &mut Fleet<'_, '_>) -> Result<()> {
    let names: Vec<String> = fleet.members[..3].iter().map(|member| member.name.clone()).collect();
    let mut dead = BTreeSet::new();
    for name in &names {
        let process = fleet.take(name);
        dead.insert(process.owner().await?);
        process.child.kill()?;
    }
    for name in &names {
        fleet.add(name)?;
    }
    wait_until("the dead hold nothing", PATIENCE, async || {
        let owners = fleet.world.owners().await?;
        let held = owners.values().any(|(owner, _)| owner.as_ref().is_some_and(|owner| dead.contains(owner)));
        Ok((!held).then_some(()))
    })
    .await
}

/// The last pod of a stateful set is replaced by an image that crashes, twice, before somebody rolls it back. Of a
/// deployment, the pod that was to join crashes, and none has left.
async fn an_image_that_crashes(fleet: &mut Fleet<'_, '_>) -> Result<()> {
    let name = fleet.members.last().map(|member| member.name.clone()).expect("there are members");
    if fleet.membership.fixed {
        fleet.stop(&name).await?;
    }
    for _ in 0..2 {
        let process = Process::start_with(fleet.world, "crashes", "plain", &[("HIGHWATER_TOPICS", "")])?;
        assert_ne!(process.child.wait(PATIENCE).await?, 0);
        tokio::time::sleep(AN_IMAGE_THAT_CRASHES).await;
    }
    if fleet.membership.fixed {
        fleet.add(&name)?;
        fleet.world.ready(fleet.process(&name)).await?;
    }
    Ok(())
}

async fn print(title: &str, protocol: Protocol) -> TestResult {
    #[expect(clippy::cast_precision_loss, reason = "at most minutes")]
    let seconds = |ms: i64| format!("{:.2} s", ms as f64 / 1000.0);
    for (preset, fixed) in [("static", true), ("elastic", false)] {
        for (what, late) in deployments(protocol, fixed).await? {
            println!(
                "| {title} | {preset} | {what} | {} | {} | {} | {} |",
                seconds(late.untouched_ms),
                late.disturbed,
                if late.moved == 0 { "–".to_owned() } else { seconds(late.moved_ms) },
                late.moved,
            );
        }
    }
    Ok(())
}

#[tokio::test]
#[ignore = "measures for minutes: cargo test --release --test it protocol::rollout -- --ignored --nocapture --test-threads=1"]
async fn of_cooperative_members() -> TestResult {
    print("classic, cooperative-sticky", COOPERATIVE).await
}

#[tokio::test]
#[ignore = "measures for minutes: cargo test --release --test it protocol::rollout -- --ignored --nocapture --test-threads=1"]
async fn of_eager_members() -> TestResult {
    print("classic, range", EAGER).await
}

#[tokio::test]
#[ignore = "measures for minutes: cargo test --release --test it protocol::rollout -- --ignored --nocapture --test-threads=1"]
async fn of_members_under_kip_848() -> TestResult {
    print("consumer", CONSUMER).await
}
