//! Every form of a reset beside what Kafka's own tool makes of it, for a twin group on the same topic.

use std::collections::BTreeSet;

use highwater::testing::{Kafka, Postgres, Result};

use crate::support::{Setup, Sink, TestResult, World};

const TOOL: &str = "org.apache.kafka.tools.consumer.group.ConsumerGroupCommand";
/// The timestamp of record 0 of each partition; the others follow minute by minute. 2026-04-25T03:00:00Z.
const BEGIN_MS: i64 = 1_777_086_000_000;
const MINUTE_MS: i64 = 60_000;
const RECORDS: i64 = 100;

/// The table: what is typed, and whether it is of all topics. The two groups go from each place to the next together.
const FORMS: &[&[&str]] = &[
    &["--to-earliest", "--all-topics"],
    &["--to-latest", "--all-topics"],
    &["--to-current", "--all-topics"],
    &["--to-offset", "70", "--all-topics"],
    &["--to-offset", "70000", "--all-topics"],
    // Before the first record of partition 0, which retention has cut.
    &["--to-offset", "5", "--all-topics"],
    &["--shift-by", "50", "--all-topics"],
    &["--shift-by", "-10", "--topic", "TOPIC:1,2"],
    &["--shift-by", "5000", "--topic", "TOPIC:0"],
    &["--shift-by", "-5000", "--topic", "TOPIC"],
    &["--to-datetime", "2026-04-25T03:30:00.000", "--all-topics"],
    &["--to-datetime", "2026-04-25T05:45:00.000+02:00", "--topic", "TOPIC:0", "--topic", "TOPIC:2"],
    // No record is that new: the end.
    &["--to-datetime", "2037-01-01T00:00:00.000", "--all-topics"],
    &["--by-duration", "P20000D", "--all-topics"],
    &["--from-file", "FILE"],
    &["--by-duration", "PT1M", "--all-topics"],
];

/// Kafka's tool, of the twin group; its CSV as a set of lines.
async fn kafkas(kafka: &Kafka, twin: &str, form: &[&str]) -> Result<BTreeSet<String>> {
    let command = ["--reset-offsets", "--group", twin, "--execute", "--export"];
    let output = kafka.tool(TOOL, &[&command, form].concat()).await?;
    assert_eq!(output.status, Some(0), "{output:?}");
    Ok(lines(&output.stdout))
}

/// The lines of CSV in a text; Kafka's tool warns on standard output, too.
fn lines(text: &str) -> BTreeSet<String> {
    let is_csv = |line: &&str| line.split(',').count() == 3 && !line.contains(' ');
    text.lines().map(str::trim).filter(is_csv).map(|line| line.replace('"', "")).collect()
}

#[tokio::test]
#[ignore = "slow: cargo test --test it slow_ -- --ignored"]
async fn slow_every_form_moves_where_kafkas_own_tool_does() -> TestResult {
    let (kafka, postgres) = tokio::try_join!(Kafka::shared(), Postgres::shared())?;
    // The records are old.
    let topic_config = &[("retention.ms", "-1")];
    let world = World::with("forms", Setup { kafka, postgres, partitions: 3, topic_config }).await?;
    for partition in 0..3 {
        for n in 0..RECORDS {
            let at = BEGIN_MS + n * MINUTE_MS;
            world.producer.send(world.message(partition).key("a").value("1").timestamp_ms(at))?;
        }
    }
    world.producer.flush().await?;
    let worker = world.worker(Sink::<()>::default());
    world.verify().await?;
    worker.stop().await?;
    world.kafka.delete_records(&world.topic, 0, 20).await?;

    let twin = format!("{}-twin", world.group);
    let begin = ["--to-offset", "50", "--topic", &world.topic];
    kafkas(world.kafka, &twin, &begin).await?;
    world.offsets("reset", &[&begin[..], &["--execute"]].concat()).await?.ended(0);
    let folder = std::env::temp_dir().join(format!("{}.csv", world.group));
    let file = folder.to_str().expect("a path of plain letters");
    std::fs::write(&folder, format!("{0},0,33\n{0},1,44\n{0},2,7000\n", world.topic))?;

    let mut table = String::new();
    for form in FORMS {
        let typed: Vec<String> =
            form.iter().map(|word| word.replace("TOPIC", &world.topic).replace("FILE", file)).collect();
        let typed: Vec<&str> = typed.iter().map(String::as_str).collect();
        let before = world.offsets("export", &[]).await?.ended(0).stdout;
        let dry = world.offsets("reset", &[&typed[..], &["--dry-run", "--export"]].concat()).await?.ended(0);
        assert_eq!(world.offsets("export", &[]).await?.stdout, before, "{form:?}: a dry run moves nothing");
        let done = world.offsets("reset", &[&typed[..], &["--execute", "--export"]].concat()).await?.ended(0);
        let theirs = kafkas(world.kafka, &twin, &typed).await?;
        assert!(!theirs.is_empty(), "{form:?}: Kafka's tool said nothing");
        table += &format!("{:<70} {:?}\n", form.join(" "), theirs);
        assert_eq!(lines(&dry.stdout), theirs, "{form:?}, dry\n{table}");
        assert_eq!(lines(&done.stdout), theirs, "{form:?}, executed\n{table}");
        // What both really have.
        for partition in 0..3 {
            let ours = world.next_offset(partition).await?;
            let committed = world.kafka.committed(&twin, &world.topic, partition).await?;
            assert_eq!(ours, committed.map(|(offset, _)| offset), "{form:?}, partition {partition}\n{table}");
        }
        let clamps = dry.stderr.matches("Value will be set to").count();
        let expected = match form[..2] {
            ["--to-offset", "70000"] => 3,
            ["--to-offset", "5"] | ["--shift-by", "5000"] | ["--from-file", _] => 1,
            ["--shift-by", "-5000"] => 3,
            _ => 0,
        };
        assert_eq!(clamps, expected, "{form:?}: {}", dry.stderr);
    }
    println!("{table}");
    std::fs::remove_file(&folder)?;

    // The instant that was looked up is said, in UTC.
    let zoned = ["--to-datetime", "2026-04-25T05:45:00+02:00", "--all-topics", "--dry-run"];
    let said = world.offsets("reset", &zoned).await?.ended(0);
    assert!(said.stderr.contains("2026-04-25T03:45:00Z"), "{}", said.stderr);

    // Nothing was applied meanwhile, and the last form has put both at the end.
    world.verify_with_moves_at_rest(false).await
}

#[tokio::test]
async fn csv_goes_to_kafkas_tool_and_back() -> TestResult {
    let world = World::new("csv", 2).await?;
    world.produce(30).await?;
    let worker = world.worker(Sink::<()>::default());
    world.verify().await?;
    worker.stop().await?;
    let twin = format!("{}-twin", world.group);
    let path = std::env::temp_dir().join(format!("{}-csv.csv", world.group));
    let file = path.to_str().expect("a path of plain letters");

    // Ours is theirs.
    let ours = world.offsets("export", &[]).await?.ended(0).stdout;
    std::fs::write(&path, &ours)?;
    assert_eq!(kafkas(world.kafka, &twin, &["--from-file", file]).await?, lines(&ours));
    // Theirs is ours.
    let back = ["--shift-by", "-7", "--topic", &world.topic];
    kafkas(world.kafka, &twin, &back).await?;
    let export =
        ["--reset-offsets", "--group", &twin, "--to-current", "--all-topics", "--dry-run", "--export"];
    let theirs = world.kafka.tool(TOOL, &export).await?.stdout;
    let csv: Vec<String> = lines(&theirs).into_iter().collect();
    assert_eq!(csv.len(), 2, "{theirs}");
    std::fs::write(&path, csv.join("\n"))?;
    let import = ["offsets", "import", file, "--group", &world.group];
    let unsaid = world.highwater(&import).await?.ended(0);
    assert!(unsaid.stderr.contains("the --execute option is missing"), "{}", unsaid.stderr);
    assert!(unsaid.stdout.ends_with("nothing was moved\n"), "{}", unsaid.stdout);
    world.highwater(&[&import[..], &["--execute"]].concat()).await?.ended(0);
    assert_eq!((world.next_offset(0).await?, world.next_offset(1).await?), (Some(23), Some(23)));
    // Several groups have a column more.
    let both = world.highwater(&["offsets", "export", "--all-groups"]).await?.ended(0).stdout;
    assert!(both.lines().all(|line| line.split(',').count() == 3), "one group: {both}");
    std::fs::write(&path, format!("{0},{1},0,30\nother,{1},0,5\n{0},{1},1,30\n", world.group, world.topic))?;
    world.highwater(&[&import[..], &["--execute"]].concat()).await?.ended(0);
    std::fs::remove_file(&path)?;
    world.verify_with_moves_at_rest(true).await
}

impl World<'_> {
    /// Moves that end where they began, with nobody at work: nothing was applied twice. `balances`: Kafka still holds all
    /// records, to tell them by.
    async fn verify_with_moves_at_rest(&self, balances: bool) -> TestResult {
        self.assert_exact(balances).await?;
        let worker = self.worker(Sink::<()>::default());
        self.produce(5).await?;
        self.caught_up().await?;
        self.assert_exact(balances).await?;
        worker.stop().await?;
        Ok(())
    }
}

#[tokio::test]
async fn a_mistyped_name_names_its_neighbours_and_moves_nothing() -> TestResult {
    let world = World::new("mistyped", 2).await?;
    world.produce(10).await?;
    let worker = world.worker(Sink::<()>::default());
    world.verify().await?;
    worker.stop().await?;
    let mistyped = world.group.replace("group", "gruop");
    let all = ["--all-topics", "--to-earliest", "--execute"];
    let said =
        world.highwater(&[&["offsets", "reset", "--group", &mistyped][..], &all].concat()).await?.ended(2);
    assert!(said.stderr.contains(&format!("did you mean {}", world.group)), "{}", said.stderr);
    let topic = world.topic.replace("mistyped", "mistyepd");
    for (typed, meant) in [
        (topic, format!("did you mean {}", world.topic)),
        (format!("{}:0,7", world.topic), "partition 7".to_owned()),
    ] {
        let said = world.offsets("reset", &["--topic", &typed, "--to-earliest", "--execute"]).await?.ended(2);
        assert!(said.stderr.contains(&meant), "{}", said.stderr);
    }
    // In a script nothing is done unless it says so, as with Kafka's own tool, and nothing is left out by mistake.
    let said = world.offsets("reset", &["--all-topics", "--to-earliest"]).await?.ended(0);
    assert!(said.stderr.contains("--execute"), "{}", said.stderr);
    for (arguments, why) in [
        (&["--to-earliest", "--execute"][..], "which partitions"),
        (&["--all-topics", "--execute"], "--to-earliest"),
        (&["--all-topics", "--to-earliest", "--to-latest", "--execute"], "cannot be used with"),
        (&["--all-topics", "--to-datetime", "yesterday", "--execute"], "UTC"),
        (&["--all-topics", "--from-file", "before.csv", "--execute"], "the file names the partitions"),
    ] {
        let said = world.offsets("reset", arguments).await?.ended(2);
        assert!(said.stderr.contains(why), "{arguments:?}: {}", said.stderr);
    }
    assert_eq!(world.number("SELECT count(*) FROM highwater.offset_event WHERE kind <> 'start'").await?, 0);
    assert_eq!(world.number("SELECT count(*) FROM highwater.offset_plan").await?, 0);
    world.verify().await?;
    Ok(())
}

#[tokio::test]
async fn several_groups_are_moved_and_written_with_their_names() -> TestResult {
    let world = World::new("groups", 2).await?;
    world.produce(30).await?;
    let worker = world.worker(Sink::<()>::default());
    world.verify().await?;
    worker.stop().await?;
    // Another group that stands in the same place, of which nobody runs.
    let other = format!("{}-other", world.group);
    for (table, columns) in [
        ("group_topic", "topic, start_policy, partition_count, cluster_id, topic_id, program, resolved_by"),
        ("consumer_offset", "topic, partition, next_offset"),
    ] {
        let copy = format!(
            "INSERT INTO highwater.{table} (group_id, {columns}) SELECT '{other}', {columns} FROM highwater.{table}"
        );
        world.database.execute(&copy).await?;
    }
    let all = ["--all-groups", "--all-topics", "--shift-by", "-5", "--execute", "--export"];
    let said = world.highwater(&[&["offsets", "reset"][..], &all].concat()).await?.ended(0);
    let expected: BTreeSet<String> = [&world.group, &other]
        .iter()
        .flat_map(|group| [0, 1].map(|partition| format!("{group},{},{partition},25", world.topic)))
        .collect();
    let found: BTreeSet<String> = said.stdout.lines().map(str::to_owned).collect();
    assert_eq!(found, expected);
    assert_eq!(world.number("SELECT count(*) FROM highwater.offset_plan WHERE state = 'applied'").await?, 2);
    // Back by the file, one of them alone.
    let path = std::env::temp_dir().join(format!("{other}.csv"));
    std::fs::write(&path, said.stdout.replace(",25", ",30"))?;
    let file = path.to_str().expect("a path of plain letters");
    let both = ["offsets", "import", file, "--group", &other, "--execute"];
    world.highwater(&both).await?.ended(0);
    std::fs::remove_file(&path)?;
    let stands = "SELECT next_offset FROM highwater.consumer_offset WHERE group_id = $1 ORDER BY partition";
    for (group, offset) in [(&world.group, 25), (&other, 30)] {
        let rows = world.database.query(stands, &[group]).await?;
        assert!(rows.iter().all(|row| row.get::<_, i64>(0) == offset), "{group}");
    }
    let deleted = ["offsets", "delete", "--group", &other, "--all-topics", "--execute"];
    world.highwater(&deleted).await?.ended(0);
    let worker = world.worker(Sink::<()>::default());
    world.verify_with_moves().await?;
    worker.stop().await?;
    Ok(())
}
