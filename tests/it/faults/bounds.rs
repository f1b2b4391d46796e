//! What a worker takes of its machine: memory, threads, tasks, connections. All of it has a bound.

use std::time::Duration;

use highwater::testing::{Result, quiet_client_config, wait_until};
use rdkafka::consumer::{BaseConsumer, Consumer};

use crate::support::{PATIENCE, Process, TestResult, World};

/// A figure of `/proc/PID/status`, in KiB where it is a size.
fn proc_status(process: &Process, name: &str) -> Result<u64> {
    let text = std::fs::read_to_string(format!("/proc/{}/status", process.child.pid()))?;
    let line = text.lines().find_map(|line| line.strip_prefix(&format!("{name}:")));
    let value = line.and_then(|line| line.split_ascii_whitespace().next()?.parse().ok());
    Ok(value.expect("the kernel tells it"))
}

/// Records wait in 64 partitions while nothing can be written; then everything is applied.
async fn memory_with_a_stopped_sink(hint: &str, per_partition: usize, limit_mib: u64) -> TestResult {
    let world = World::new(hint, 64).await?;
    let padding = "x".repeat(100);
    let record =
        |partition: i32, n: usize| (format!("p{partition}-a{}", n % 20), format!("{} {padding}", n % 97));
    world.producer.fill(&world.topic, world.partitions, per_partition, record).await?;
    let sink = world.database.client().await?;
    sink.batch_execute("BEGIN; LOCK TABLE sink IN ACCESS EXCLUSIVE MODE").await?;
    let worker = Process::start(&world, "worker", "plain")?;
    let ready = "SELECT count(*) FROM highwater.partition_status WHERE state = 'running'";
    wait_until("all partitions are claimed", PATIENCE, async || {
        Ok((world.number(ready).await? == 64).then_some(()))
    })
    .await?;
    // The sink stands still, and what was fetched grows no more: wait until memory does not, either.
    let mut before = 0;
    wait_until("memory has stopped to grow", PATIENCE, async || {
        tokio::time::sleep(Duration::from_secs(3)).await;
        let now = proc_status(&worker, "VmHWM")?;
        Ok((std::mem::replace(&mut before, now) == now).then_some(()))
    })
    .await?;
    let stopped = proc_status(&worker, "VmHWM")? / 1024;
    sink.batch_execute("COMMIT").await?;
    let produced = i64::try_from(per_partition * 64)?;
    wait_until("everything is applied", 10 * PATIENCE, async || {
        tokio::time::sleep(Duration::from_secs(1)).await;
        let applied = "SELECT sum(next_offset)::int8 FROM highwater.consumer_offset";
        Ok((world.number(applied).await? == produced).then_some(()))
    })
    .await?;
    let peak = proc_status(&worker, "VmHWM")? / 1024;
    println!("{produced} records: at most {stopped} MiB while the sink stood still, {peak} MiB in all");
    world.verify().await?;
    assert!(stopped < limit_mib, "{stopped} MiB while the sink stood still");
    // The batches that are then under way, and what this handler makes of them, come on top: with small records, as
    // much again as they are.
    assert!(peak < 2 * limit_mib, "{peak} MiB in all");
    worker.stop().await?;
    Ok(())
}

#[tokio::test]
#[ignore = "soak: two million records"]
async fn memory_with_two_million_records_waiting() -> TestResult {
    memory_with_a_stopped_sink("two-million", 2_000_000 / 64, 200).await
}

/// What must not grow, of a worker process that counts its tasks every second.
#[derive(Debug, PartialEq, Eq)]
struct Taken {
    threads: u64,
    files: usize,
    tasks: u64,
    connections: i64,
}

async fn taken(world: &World<'_>, worker: &Process) -> Result<Taken> {
    let connections = "SELECT count(*) FROM pg_stat_activity \
                       WHERE datname = current_database() AND application_name LIKE 'highwater/%'";
    let mark = worker.child.mark();
    let line =
        worker.child.wait_for_line_from(mark, |line| line.starts_with("alive tasks: "), PATIENCE).await?;
    Ok(Taken {
        threads: proc_status(worker, "Threads")?,
        files: std::fs::read_dir(format!("/proc/{}/fd", worker.child.pid()))?.count(),
        tasks: line["alive tasks: ".len()..].parse().expect("a number"),
        connections: world.number(connections).await?,
    })
}

/// A second member of the group that does nothing but come and go.
fn come_and_go(world: &World<'_>) -> Result<()> {
    let consumer: BaseConsumer = quiet_client_config(world.kafka.bootstrap())
        .set("group.id", &world.group)
        // One of us, as far as workers can tell.
        .set("client.id", "highwater/passer-by")
        .set("partition.assignment.strategy", "cooperative-sticky")
        .set("session.timeout.ms", "6000")
        .set("heartbeat.interval.ms", "100")
        .set("enable.auto.commit", "false")
        .create()?;
    consumer.subscribe(&[&world.topic])?;
    let until = std::time::Instant::now() + PATIENCE;
    while consumer.assignment()?.count() == 0 {
        assert!(std::time::Instant::now() < until, "it is given a partition");
        let _ = consumer.poll(Duration::from_millis(20));
    }
    Ok(())
}

/// Answered by the worker; the passer-by's own are not counted.
async fn rebalances(worker: &Process) -> u64 {
    let answered = worker.child.lines();
    let is_answer =
        |text: &str| text.contains(" assigned partitions=") || text.contains(" revoked partitions=");
    u64::try_from(answered.iter().filter(|line| is_answer(&line.text)).count()).unwrap_or(u64::MAX)
}

async fn nothing_leaks(hint: &str, goal: u64) -> TestResult {
    let world = World::new(hint, 4).await?;
    let worker = Process::start(&world, "worker", "counted")?;
    let settled = async |world: &World<'_>| {
        world.held_by(1).await?;
        world.produce(5).await?;
        world.caught_up().await
    };
    // Once around before the first count, so that pools and caches are as full as they get.
    settled(&world).await?;
    tokio::task::block_in_place(|| come_and_go(&world))?;
    settled(&world).await?;
    let before = taken(&world, &worker).await?;
    while rebalances(&worker).await < goal {
        tokio::task::block_in_place(|| come_and_go(&world))?;
        settled(&world).await?;
    }
    // What ends, ends a moment later.
    let within = |now: &Taken| {
        now.threads <= before.threads + 2
            && now.files <= before.files + 6
            && now.tasks <= before.tasks + 4
            && now.connections <= before.connections + 6
    };
    let mut last = None;
    let came_back = wait_until("the worker takes what it took before", PATIENCE, async || {
        let now = taken(&world, &worker).await?;
        let done = within(&now);
        last = Some(now);
        Ok(done.then_some(()))
    });
    let came_back = came_back.await;
    println!("{} rebalances: before {before:?}, after {last:?}", rebalances(&worker).await);
    assert!(came_back.is_ok(), "before {before:?}, after {last:?}");
    world.verify().await?;
    worker.stop().await?;
    world.assert_ledger_gapless().await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_leaks_in_twenty_rebalances() -> TestResult {
    nothing_leaks("twenty", 20).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "soak: 500 rebalances take ten minutes"]
async fn nothing_leaks_in_five_hundred_rebalances() -> TestResult {
    nothing_leaks("five-hundred", 500).await
}
