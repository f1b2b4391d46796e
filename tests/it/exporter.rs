//! What Prometheus is told of a database: of two groups, one at work and one whose workers are gone.

use std::collections::BTreeMap;

use highwater::testing::{Result, unique, wait_until};

use crate::support::served::Served;
use crate::support::web::get;
use crate::support::{PATIENCE, Sink, TestResult, World};

/// The samples of a page: name and labels, as they are written, and the value.
fn samples(page: &str) -> BTreeMap<String, f64> {
    let lines = page.lines().filter(|line| !line.starts_with('#'));
    lines
        .filter_map(|line| line.rsplit_once(' '))
        .map(|(name, value)| (name.to_owned(), value.parse().unwrap_or(f64::NAN)))
        .collect()
}

/// One that has this name and these labels, in whatever order.
fn sample(page: &BTreeMap<String, f64>, name: &str, labels: &[(&str, &str)]) -> Option<f64> {
    let has = |found: &str, (label, value): &(&str, &str)| found.contains(&format!("{label}=\"{value}\""));
    let fits =
        |found: &str| found.split('{').next() == Some(name) && labels.iter().all(|label| has(found, label));
    page.iter().find(|(found, _)| fits(found)).map(|(_, value)| *value)
}

impl World<'_> {
    /// Another group of the same topic, whose worker has come as far as this and is gone.
    async fn left_behind(&self, records: i64) -> Result<String> {
        let group = unique("left-group");
        let worker =
            self.worker_with(self.settings().group(group.clone()), Sink { fault: (), rows_only: true });
        let sql = "SELECT count(*) FROM highwater.consumer_offset WHERE group_id = $1 AND next_offset >= $2";
        wait_until("the other group has come so far", PATIENCE, async || {
            let rows = self.database.query(sql, &[&group, &records]).await?;
            Ok((rows[0].get::<_, i64>(0) == i64::from(self.partitions)).then_some(()))
        })
        .await?;
        worker.stop().await.expect("it stops");
        Ok(group)
    }
}

#[tokio::test]
async fn the_exporter_tells_of_every_group_with_the_least_rights() -> TestResult {
    let world = World::new("exporter", 2).await?;
    world.produce(10).await?;
    let left = world.left_behind(10).await?;
    world.produce(15).await?;
    let worker = world.worker(Sink { fault: (), rows_only: true });
    world.caught_up().await?;
    let letter = "INSERT INTO highwater.dead_letter (group_id, topic, topic_id, partition, record_offset, fingerprint, reason) \
                  VALUES ($1, $2, '', 0, 3, 'f', 'why'), ($1, $2, '', 1, 4, 'f', 'why')";
    world.database.query(letter, &[&world.group, &world.topic]).await?;
    // More kinds than are told apart.
    let parked = "INSERT INTO highwater.dead_letter (group_id, topic, topic_id, partition, record_offset, fingerprint, reason, state) \
                  SELECT $1, $2, '', 0, n, 'kind' || n, 'why', 'parked' FROM generate_series(11, 35) n";
    world.database.query(parked, &[&world.group, &world.topic]).await?;

    // Only what `--print-grants --monitor` gives: everything is there all the same.
    let compat = ["--compat", "kafka_exporter,kafka_lag_exporter,burrow,kminion", "--cluster-name", "prod"];
    let served = Served::of("exporter", &world, &world.monitor().await?, &compat).await?;
    let sql = "SELECT group_id, topic, partition, next_offset, lag_records::int8, last_stable_offset FROM highwater.lag ORDER BY 1, 2, 3";
    // Of the group that nobody works on, the exporter sees itself how far behind it is.
    let page = wait_until("it tells what SQL tells", PATIENCE, async || {
        let page = served.get("/metrics").await?;
        let found = samples(&page.body);
        let is = |name, group: &str, partition, value| {
            sample(&found, name, &[("group", group), ("partition", partition)]) == Some(value)
        };
        let all = ["0", "1"].iter().all(|partition| {
            is("highwater_lag_records", &left, partition, 15.0)
                && is("highwater_lag_records", &world.group, partition, 0.0)
                && is("highwater_last_stable_offset", &left, partition, 25.0)
                && is("highwater_last_stable_offset", &world.group, partition, 25.0)
        });
        Ok(all.then_some(page))
    })
    .await?;
    assert_eq!(page.header("content-type"), Some("text/plain; version=0.0.4; charset=utf-8"));
    let found = samples(&page.body);
    let rows = world.database.query(sql, &[]).await?;
    assert_eq!(rows.len(), 4);
    for row in &rows {
        let (group, topic, partition): (&str, &str, i32) = (row.get(0), row.get(1), row.get(2));
        let number = partition.to_string();
        let labels = [("group", group), ("topic", topic), ("partition", &*number)];
        #[allow(clippy::cast_precision_loss)]
        let column = |index: usize| row.get::<_, Option<i64>>(index).map(|number| number as f64);
        assert_eq!(sample(&found, "highwater_next_offset", &labels), column(3), "{labels:?}");
        assert_eq!(sample(&found, "highwater_lag_records", &labels), column(4), "{labels:?}");
        assert_eq!(sample(&found, "highwater_last_stable_offset", &labels), column(5), "{labels:?}");
        // The same in the others' names.
        let theirs = [("consumergroup", group), ("topic", topic), ("partition", &*number)];
        assert_eq!(sample(&found, "kafka_consumergroup_lag", &theirs), column(4));
        assert_eq!(sample(&found, "kafka_consumergroup_current_offset", &theirs), column(3));
        let theirs = [("cluster_name", "prod"), ("group", group), ("topic", topic), ("partition", &*number)];
        assert_eq!(sample(&found, "kafka_consumergroup_group_lag", &theirs), column(4));
        let theirs =
            [("cluster", "prod"), ("consumer_group", group), ("topic", topic), ("partition", &*number)];
        assert_eq!(sample(&found, "burrow_kafka_consumer_partition_lag", &theirs), column(4));
        let theirs = [("group_id", group), ("topic_name", topic), ("partition_id", &*number)];
        assert_eq!(sample(&found, "kminion_kafka_consumer_group_topic_partition_lag", &theirs), column(4));
    }
    for (name, labels, value) in [
        ("highwater_exporter_up", vec![], 1.0),
        ("highwater_group_workers", vec![("group", &*world.group)], 1.0),
        ("highwater_group_workers", vec![("group", &*left)], 0.0),
        ("highwater_group_health", vec![("group", &*world.group), ("class", "OK")], 0.0),
        ("highwater_group_health", vec![("group", &*left), ("class", "UNOWNED")], 3.0),
        ("highwater_group_lag_records", vec![("group", &*left)], 30.0),
        ("highwater_dead_letters", vec![("group", &*world.group), ("state", "open")], 2.0),
        ("highwater_dead_letters", vec![("group", &*left), ("state", "open")], 0.0),
        ("highwater_dead_letters", vec![("group", &*world.group), ("state", "parked")], 25.0),
        ("highwater_dead_letters_of_kind", vec![("group", &*world.group), ("kind", "f")], 2.0),
        ("highwater_dead_letters_of_kind", vec![("group", &*world.group), ("kind", "kind29")], 1.0),
        ("highwater_dead_letters_of_kind", vec![("group", &*world.group), ("kind", "other")], 6.0),
        ("highwater_dead_letter_halts", vec![("group", &*world.group), ("topic", &*world.topic)], 0.0),
        ("kafka_consumergroup_lag_sum", vec![("consumergroup", &*left)], 30.0),
        ("kafka_consumergroup_members", vec![("consumergroup", &*world.group)], 1.0),
        ("kafka_topic_partitions", vec![("topic", &*world.topic)], 2.0),
        ("kafka_consumergroup_group_max_lag", vec![("group", &*left)], 15.0),
        ("burrow_kafka_consumer_lag_total", vec![("consumer_group", &*left)], 30.0),
        ("burrow_kafka_consumer_status", vec![("consumer_group", &*world.group)], 1.0),
        ("kminion_kafka_consumer_group_topic_lag", vec![("group_id", &*left)], 30.0),
        ("kminion_kafka_consumer_group_info", vec![("group_id", &*world.group), ("state", "Stable")], 1.0),
        ("kminion_kafka_topic_partition_high_water_mark", vec![("topic_name", &*world.topic)], 25.0),
    ] {
        assert_eq!(sample(&found, name, &labels), Some(value), "{name} {labels:?}\n{}", page.body);
    }
    let oldest = [("group", &*world.group), ("topic", &*world.topic)];
    let oldest =
        sample(&found, "highwater_dead_letters_oldest_seconds", &oldest).expect("since when they wait");
    assert!((0.0..600.0).contains(&oldest), "{oldest} s");
    let of_its_own = [("group", &*world.group), ("kind", "kind30")];
    assert_eq!(sample(&found, "highwater_dead_letters_of_kind", &of_its_own), None, "one of the others");
    let none = [("group", &*left)];
    assert_eq!(sample(&found, "highwater_dead_letters_oldest_seconds", &none), None, "there is none");
    assert!(
        page.body.contains("# TYPE burrow_kafka_consumer_lag_total gauge\n"),
        "a gauge, whatever its name says"
    );
    assert!(!page.body.contains("highwater_lag_records{group=\"\""), "nothing without a name");

    let open = [("Accept", "application/openmetrics-text; version=1.0.0")];
    let open = get(&served.address, "/metrics", &open).await?;
    assert_eq!(
        open.header("content-type"),
        Some("application/openmetrics-text; version=1.0.0; charset=utf-8")
    );
    assert!(open.body.ends_with("# EOF\n"));

    // Its own names alone, unless it is told otherwise.
    let plain = Served::of("exporter", &world, &world.monitor().await?, &[]).await?;
    let names = plain.get("/metrics").await?.body;
    let strange = names.lines().filter(|line| !line.starts_with('#') && !line.starts_with("highwater_"));
    assert_eq!(strange.collect::<Vec<_>>(), [""; 0]);
    plain.stop().await?;
    served.stop().await?;
    worker.stop().await?;
    Ok(())
}

#[tokio::test]
async fn what_the_exporter_cannot_read_it_does_not_tell() -> TestResult {
    let world = World::new("exporter-blind", 1).await?;
    world.produce(3).await?;
    let worker = world.worker(Sink::<()>::default());
    world.verify().await?;
    worker.stop().await?;
    let monitor = world.monitor().await?;
    let served = Served::of("exporter", &world, &monitor, &["--stale-after", "2"]).await?;
    let first = samples(&served.get("/metrics").await?.body);
    assert_eq!(sample(&first, "highwater_group_partitions", &[("group", &world.group)]), Some(1.0));
    world.database.execute("ALTER VIEW highwater.lag RENAME TO lag_gone").await?;
    // Told at once; and the groups' samples go when they are too old to be told as if they were of now.
    wait_until("the error is counted", PATIENCE, async || {
        let found = samples(&served.get("/metrics").await?.body);
        Ok(sample(&found, "highwater_exporter_errors_total", &[]).filter(|errors| *errors > 0.0))
    })
    .await?;
    let last = wait_until("it tells no more of the groups", PATIENCE, async || {
        let found = samples(&served.get("/metrics").await?.body);
        Ok((sample(&found, "highwater_exporter_up", &[]) == Some(0.0)).then_some(found))
    })
    .await?;
    assert_eq!(sample(&last, "highwater_group_partitions", &[]), None);
    assert!(sample(&last, "highwater_exporter_last_survey_timestamp_seconds", &[]).is_some());
    assert_eq!(served.get("/readyz").await?.status, 503);
    world.database.execute("ALTER VIEW highwater.lag_gone RENAME TO lag").await?;
    wait_until("it tells again", PATIENCE, async || {
        let found = samples(&served.get("/metrics").await?.body);
        Ok((sample(&found, "highwater_exporter_up", &[]) == Some(1.0)).then_some(()))
    })
    .await?;
    served.stop().await?;
    Ok(())
}

#[tokio::test]
async fn an_exporter_that_may_not_look_says_so_and_ends() -> TestResult {
    let world = World::new("exporter-rights", 1).await?;
    let nobody = world.database.role("nobody").await?;
    let said = world.highwater_at(&nobody.url, &["exporter", "--listen", "127.0.0.1:0"]).await?;
    assert!(said.code == 5 || said.code == 3, "{said:?}");
    let said =
        world.highwater(&["exporter", "--listen", "127.0.0.1:0", "--compat", "lagometer"]).await?.ended(2);
    assert!(said.stderr.contains("kafka_exporter, kafka_lag_exporter, burrow, kminion"), "{}", said.stderr);
    Ok(())
}
