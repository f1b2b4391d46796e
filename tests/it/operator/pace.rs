//! Figures for the documentation, and loads that the other tests spare the machine. Asked for by name, one at a time.

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use highwater::testing::wait_until;

use crate::support::{PATIENCE, Process, Sink, TestResult, World};

/// Partitions of the topic under load, how many records a second they get together, and how often.
const PARTITIONS: i32 = 6;
const PACE: f64 = 20_000.0;
const ROUND: Duration = Duration::from_millis(50);
/// What workers may need to catch up at the end.
const LONG: Duration = Duration::from_secs(600);

impl World<'_> {
    /// Produces at `PACE` for as long as `work` runs; returns how many a second it was.
    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a few million"
    )]
    async fn at_full_pace(&self, work: impl Future<Output = TestResult>) -> TestResult<f64> {
        let began = Instant::now();
        let mut records = 0;
        let load = async {
            let mut rounds = tokio::time::interval(ROUND);
            loop {
                rounds.tick().await;
                // What is due by now: a round waits until Kafka has acknowledged it, and may take longer than one.
                let due = (began.elapsed().as_secs_f64() * PACE) as usize - records;
                let each = due / usize::try_from(PARTITIONS)?;
                self.produce(each).await?;
                records += each * usize::try_from(PARTITIONS)?;
            }
        };
        let failed: TestResult = tokio::select! {
            done = work => done,
            failed = load => failed,
        };
        failed?;
        Ok(records as f64 / began.elapsed().as_secs_f64())
    }

    /// The longest time between two commits of a partition that is not one of `but`, in milliseconds.
    async fn longest_gap(&self, but: [i32; 2], from: &str, to: &str) -> TestResult<i64> {
        let sql = format!(
            "SELECT coalesce(max(extract(epoch FROM gap) * 1000), 0)::int8 FROM ( \
               SELECT partition, at, at - lag(at) OVER (PARTITION BY partition ORDER BY at) AS gap FROM commits) g \
             WHERE partition <> ALL('{{{},{}}}'::int4[]) AND at BETWEEN '{from}' AND '{to}'",
            but[0], but[1]
        );
        Ok(self.number(&sql).await?)
    }

    async fn now(&self) -> TestResult<String> {
        Ok(self.database.query("SELECT clock_timestamp()::text", &[]).await?[0].get(0))
    }
}

/// Moves under 20,000 records/s, three workers, some of them killed. The partitions that are not moved stand for no
/// longer than a batch.
#[tokio::test]
#[ignore = "takes minutes: cargo test --test it operator::pace::twenty -- --ignored --nocapture"]
async fn twenty_live_moves_at_twenty_thousand_records_a_second() -> TestResult {
    let world = World::new("live-pace", PARTITIONS).await?;
    world.database.execute("CREATE TABLE commits (partition int, at timestamptz)").await?;
    world.database.execute(&format!("GRANT INSERT ON commits TO {}", world.role.name)).await?;
    let mut fleet = Vec::new();
    for name in ["a", "b", "c"] {
        fleet.push(Process::start(&world, name, "timed")?);
    }
    let (mut usual, mut stalls, mut resumed) = (0, Vec::new(), Vec::new());
    let work = async {
        world.held_by(3).await?;
        world.progress(20_000).await?;
        let began = world.now().await?;
        world.progress(60_000).await?;
        usual = world.longest_gap([-1, -1], &began, &world.now().await?).await?;
        for round in 0..20_i32 {
            let form: &[&str] = match round % 4 {
                0 => &["--shift-by", "-20000"],
                1 => &["--to-latest"],
                2 => &["--by-duration", "PT3S"],
                _ => &["--shift-by", "500"],
            };
            let moved = [round % PARTITIONS, (round + 3) % PARTITIONS];
            let some = format!("{}:{},{}", world.topic, moved[0], moved[1]);
            let is_kill = round % 5 == 4;
            let from = world.now().await?;
            if is_kill {
                fleet.remove(0).child.kill()?;
                fleet.push(Process::start(&world, &format!("after-{round}"), "timed")?);
            }
            let arguments = [form, &["--topic", &some, "--live", "--execute", "--reason", "pace"]].concat();
            let said = world.offsets("reset", &arguments).await?;
            assert_eq!(said.code, 0, "{form:?}: {}{}", said.stdout, said.stderr);
            world.progress(40_000).await?;
            if is_kill {
                world.held_by(3).await?;
            } else {
                stalls.push(world.longest_gap(moved, &from, &world.now().await?).await?);
            }
            let sql = "SELECT max((extract(epoch FROM o.claimed_at - c.requested_at) * 1000)::int8) FROM \
                       highwater.partition_control c JOIN highwater.consumer_offset o USING (group_id, topic, partition) \
                       WHERE c.control_id > (SELECT max(control_id) - 2 FROM highwater.partition_control)";
            resumed.push(world.number(sql).await?);
        }
        Ok(())
    };
    let pace = world.at_full_pace(work).await?;
    assert!(pace > 0.95 * PACE, "{pace:.0} records/s were produced");
    let behind = "SELECT sum(greatest(s.last_stable_offset - o.next_offset, 0))::int8 FROM highwater.consumer_offset o \
                  JOIN highwater.partition_status s USING (group_id, topic, partition)";
    println!(
        "{pace:.0} records/s were produced; {} were to be applied at the end",
        world.number(behind).await?
    );
    println!(
        "longest time between two commits of a partition, usually: {usual} ms; of those that were not moved: {stalls:?} ms"
    );
    println!("from the order to the new claim: {resumed:?} ms");
    wait_until("the group has caught up", LONG, async || {
        Ok((tokio::time::timeout(PATIENCE, world.caught_up()).await.is_ok_and(|done| done.is_ok()))
            .then_some(()))
    })
    .await?;
    world.verify_with_moves().await?;
    println!(
        "{} rows, {} batches",
        world.database.count("sink").await?,
        world.database.count("commits").await?
    );
    for process in fleet {
        process.stop().await?;
    }
    Ok(())
}

/// How long `reconcile` takes, and how much memory, for docs/reconcile.md.
#[tokio::test]
#[ignore = "takes minutes: cargo test --release --test it operator::pace::millions -- --ignored --nocapture"]
async fn millions_of_records_are_compared() -> TestResult {
    const EACH: usize = 750_000;
    let world = World::new("reconcile-pace", 4).await?;
    let worker = world.worker(Sink { fault: (), rows_only: true });
    for _ in 0..10 {
        world.produce(EACH / 10).await?;
    }
    wait_until("the group has caught up", LONG, async || {
        Ok((tokio::time::timeout(PATIENCE, world.caught_up()).await.is_ok_and(|done| done.is_ok()))
            .then_some(()))
    })
    .await?;
    worker.stop().await?;
    let mut told = String::new();
    for (index, arguments) in [
        (false, &["--every-record"][..]),
        (false, &["--deep", "--every-record"]),
        (true, &["--every-record"]),
        (true, &["--deep", "--every-record"]),
    ] {
        if index {
            let create = "CREATE INDEX IF NOT EXISTS sink_source ON sink (source_topic, source_partition, source_offset)";
            world.database.execute(create).await?;
            world.database.execute("VACUUM ANALYZE sink").await?;
        }
        let began = Instant::now();
        let all = [&["reconcile", "--group", &world.group, "--table", "sink"][..], arguments].concat();
        let mut command = world.highwater_command(world.database.url(), &all);
        let mut child =
            command.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::null()).spawn()?;
        let status = format!("/proc/{}/status", child.id().unwrap_or_default());
        let mut most = String::new();
        let ended = loop {
            tokio::select! {
                ended = child.wait() => break ended?,
                () = tokio::time::sleep(Duration::from_millis(100)) => {
                    let text = std::fs::read_to_string(&status).unwrap_or_default();
                    let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:"));
                    most = line.map_or(most, |kib| kib.trim().to_owned());
                }
            }
        };
        assert!(ended.success(), "{arguments:?}: {ended}");
        let took = began.elapsed();
        #[expect(clippy::cast_precision_loss, reason = "a few million")]
        let pace = (4 * EACH) as f64 / took.as_secs_f64();
        writeln!(told, "{arguments:?}, index: {index}: {took:?}, {pace:.0} records/s, {most} at most")?;
    }
    println!("{} rows\n{told}", world.database.count("sink").await?);
    Ok(())
}
