//! Offsets moved under a fleet that runs: what is in flight rolls back, and workers go on from the new place.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use highwater::testing::Result;

use crate::support::{Process, Sink, TestResult, World};

/// How soon workers must have obeyed; and what a busy machine may add to it.
const OBEYED: Duration = Duration::from_secs(2);
const BUSY: Duration = Duration::from_secs(2);
const LAST_ORDER: &str = "SELECT coalesce(max(control_id), 0) FROM highwater.partition_control";

impl World<'_> {
    /// The orders that were obeyed, and how many milliseconds after they were given; the quickest first.
    async fn orders(&self) -> TestResult<Vec<(i64, i64)>> {
        let sql = "SELECT control_id, (extract(epoch FROM obeyed_at - requested_at) * 1000)::int8 \
                   FROM highwater.partition_control WHERE obeyed_at IS NOT NULL ORDER BY 2";
        Ok(self.database.query(sql, &[]).await?.iter().map(|row| (row.get(0), row.get(1))).collect())
    }

    /// How many milliseconds passed from each order to its being obeyed.
    async fn obedience(&self) -> TestResult<Vec<i64>> {
        Ok(self.orders().await?.into_iter().map(|(_, ms)| ms).collect())
    }

    /// Under which ids this process has held partitions.
    async fn owner_of_process(&self, process: u32) -> Result<Vec<String>> {
        let sql = "SELECT owner::text FROM highwater.worker_status WHERE process_id = $1";
        let process = i32::try_from(process).expect("the id of a process");
        Ok(self.database.query(sql, &[&process]).await?.iter().map(|row| row.get(0)).collect())
    }

    /// How many milliseconds passed from the last order of each partition to the claim under which it goes on.
    async fn resumption(&self) -> TestResult<Vec<i64>> {
        let sql = "SELECT DISTINCT ON (c.topic, c.partition) (extract(epoch FROM o.claimed_at - c.requested_at) * 1000)::int8 \
                   FROM highwater.partition_control c JOIN highwater.consumer_offset o USING (group_id, topic, partition) \
                   ORDER BY c.topic, c.partition, c.control_id DESC";
        Ok(self.database.query(sql, &[]).await?.iter().filter_map(|row| row.get(0)).collect())
    }
}

#[tokio::test]
async fn an_idle_fleet_goes_on_from_the_new_place_within_two_seconds() -> TestResult {
    let world = World::new("live-idle", 3).await?;
    world.produce(100).await?;
    let worker = world.worker(Sink::<()>::default());
    world.verify().await?;
    for shift in ["-40", "-100000", "-1"] {
        let began = Instant::now();
        let arguments = ["--all-topics", "--shift-by", shift, "--live", "--reason", "a test", "--execute"];
        world.offsets("reset", &arguments).await?.ended(0);
        assert!(began.elapsed() < 2 * (OBEYED + BUSY), "{:?}", began.elapsed());
        world.verify_with_moves().await?;
        let resumption = world.resumption().await?;
        println!("ms until claimed anew, idle: {resumption:?}");
        let limit = i64::try_from((OBEYED + BUSY).as_millis())?;
        assert!(resumption.len() == 3 && resumption.iter().all(|ms| *ms < limit), "{resumption:?}");
    }
    let obedience = world.obedience().await?;
    println!("ms until obeyed, idle: {obedience:?}");
    assert_eq!(obedience.len(), 9, "each was obeyed");
    assert!(
        obedience.iter().all(|ms| *ms < i64::try_from((OBEYED + BUSY).as_millis()).unwrap_or(0)),
        "{obedience:?}"
    );
    assert_eq!(worker.status().counters.fenced, 0, "an operator's reset is no zombie");
    worker.stop().await?;
    Ok(())
}

/// Under load, forwards and backwards, with three processes of which some are killed meanwhile.
#[tokio::test]
async fn moves_under_load_are_exactly_those_on_record() -> TestResult {
    moves_under_load("live-load", 4).await
}

/// As often as the issue asks for.
#[tokio::test]
#[ignore = "takes minutes: cargo test --test it operator::live::twenty -- --ignored"]
async fn twenty_moves_under_load() -> TestResult {
    moves_under_load("live-twenty", 20).await
}

async fn moves_under_load(hint: &str, moves: usize) -> TestResult {
    let world = World::new(hint, 6).await?;
    let mut fleet = Vec::new();
    for name in ["a", "b", "c"] {
        fleet.push(Process::start(&world, name, "plain")?);
    }
    // Owners that were killed, and orders to partitions that nobody living held when they were given.
    let (mut dead, mut orphans) = (BTreeSet::new(), BTreeSet::new());
    let work = async {
        world.held_by(3).await?;
        world.progress(200).await?;
        for round in 0..moves {
            let form: &[&str] = match round % 4 {
                0 => &["--shift-by", "-150"],
                1 => &["--to-latest"],
                2 => &["--to-offset", "100"],
                _ => &["--to-earliest"],
            };
            let some = format!("{}:{},{}", world.topic, round % 6, (round + 3) % 6);
            let arguments = [form, &["--topic", &some, "--live", "--execute", "--reason", hint]].concat();
            if round % 2 == 1 {
                let killed = fleet.remove(0);
                dead.extend(world.owner_of_process(killed.child.pid()).await?);
                killed.child.kill()?;
                fleet.push(Process::start(&world, &format!("after-{round}"), "plain")?);
            }
            let owners = world.owners().await?;
            let given = world.number(LAST_ORDER).await?;
            let said = world.offsets("reset", &arguments).await?;
            assert_eq!(said.code, 0, "{form:?}: {}{}", said.stdout, said.stderr);
            let orders =
                "SELECT control_id, partition FROM highwater.partition_control WHERE control_id > $1";
            for row in world.database.query(orders, &[&given]).await? {
                let (owner, _) = &owners[&row.get::<_, i32>(1)];
                if owner.as_ref().is_none_or(|owner| dead.contains(owner)) {
                    orphans.insert(row.get::<_, i64>(0));
                }
            }
            world.progress(50).await?;
        }
        world.held_by(3).await?;
        Ok(())
    };
    world.under_load(work).await?;
    world.verify_with_moves().await?;
    let (orphaned, held): (Vec<_>, Vec<_>) =
        world.orders().await?.into_iter().partition(|(order, _)| orphans.contains(order));
    let times = |orders: Vec<(i64, i64)>| orders.into_iter().map(|(_, ms)| ms).collect::<Vec<_>>();
    println!("ms until obeyed, under load, with kills: {:?}", times(held));
    println!("of partitions whose owner was dead: {:?}", times(orphaned));
    for process in fleet {
        process.stop().await?;
    }
    Ok(())
}

/// What was not moved goes on meanwhile.
#[tokio::test]
async fn partitions_that_are_not_moved_keep_their_claims() -> TestResult {
    let world = World::new("live-others", 4).await?;
    world.produce(50).await?;
    let worker = world.worker(Sink::<()>::default());
    world.verify().await?;
    let before = world.owners().await?;
    let one = format!("{}:2", world.topic);
    world.offsets("reset", &["--topic", &one, "--to-earliest", "--live", "--execute"]).await?.ended(0);
    world.verify_with_moves().await?;
    let after = world.owners().await?;
    for partition in 0..4 {
        let epochs = (before[&partition].1, after[&partition].1);
        assert_eq!(epochs.1 - epochs.0, if partition == 2 { 2 } else { 0 }, "partition {partition}");
    }
    worker.stop().await?;
    Ok(())
}

/// The plan was made when its target lay ahead; by now it is behind.
#[tokio::test]
async fn a_target_that_was_passed_is_no_way_back() -> TestResult {
    let world = World::new("live-passed", 1).await?;
    world.produce(10).await?;
    let worker = world.worker(Sink::<()>::default());
    world.verify().await?;
    let plan = world.offsets("plan", &["--all-topics", "--to-latest", "--json"]).await?.ended(0).json();
    let id = plan[0]["id"].to_string();
    world.produce(10).await?;
    world.verify().await?;
    let applied = world.highwater(&["offsets", "apply", &id, "--live", "--json"]).await?.ended(0).json();
    assert_eq!(applied["plan"]["steps"][0]["applied_from"], 20);
    assert_eq!(world.next_offset(0).await?, Some(20));
    world.verify().await?;
    worker.stop().await?;
    Ok(())
}

/// A batch that is inside its transaction, before its compare-and-set, when the offsets are moved.
#[tokio::test]
async fn what_is_in_flight_rolls_back() -> TestResult {
    let world = World::new("live-flight", 1).await?;
    world.produce(20).await?;
    let slow = [("HIGHWATER_TEST_SLOW_MS", "3000")];
    let worker = Process::start_with(&world, "slow", "slow", &slow)?;
    world.slow_batch_in_flight().await?;
    world.offsets("reset", &["--all-topics", "--to-offset", "15", "--live", "--execute"]).await?.ended(0);
    world.verify_with_moves().await?;
    worker.stop().await?;
    Ok(())
}

/// Many partitions in one move.
#[tokio::test]
#[ignore = "a topic of 512 partitions: cargo test --test it operator::live::five -- --ignored --nocapture"]
async fn five_hundred_partitions_at_once() -> TestResult {
    let world = World::new("live-many", 512).await?;
    world.produce(20).await?;
    let worker = world.worker(Sink::<()>::default());
    world.verify().await?;
    for shift in ["-10", "-20"] {
        let began = Instant::now();
        let arguments = ["--all-topics", "--shift-by", shift, "--live", "--execute"];
        world.offsets("reset", &arguments).await?.ended(0);
        println!("{:?} for the command", began.elapsed());
        world.caught_up().await?;
        println!("ms until claimed anew: {:?}", world.resumption().await?.iter().max());
    }
    world.verify_with_moves().await?;
    println!("ms until obeyed: {:?}", world.obedience().await?.last());
    worker.stop().await?;
    Ok(())
}
