//! A plan moves once, whoever presses, how often, and whatever happens to the answer.

use std::time::Duration;

use highwater::PartialConfig;
use highwater::offsets::{ApplyOptions, Offsets, Request, Selection, Target};
use highwater::testing::{Cut, Proxy, wait_until};

use crate::support::{PATIENCE, Sink, TestResult, World};

/// A group at rest that has applied 50 records of each of two partitions.
async fn at_rest(hint: &str) -> TestResult<World<'static>> {
    let world = World::new(hint, 2).await?;
    world.produce(50).await?;
    let worker = world.worker(Sink::<()>::default());
    world.verify().await?;
    worker.stop().await?;
    Ok(world)
}

impl World<'_> {
    /// The library, as its owner uses it, on some way to the database.
    pub(crate) async fn operator(&self, url: &str) -> TestResult<Offsets> {
        let config =
            PartialConfig::default().postgres_url(url).brokers(vec![self.kafka.bootstrap().to_owned()]);
        Ok(Offsets::connect(&config.finish_operator()?).await?)
    }

    fn back_by(&self, records: i64) -> Request {
        Request::new(&self.group, Selection::topic(&self.topic), Target::ShiftBy(-records))
            .actor("ana")
            .reason("a test")
    }

    async fn resets(&self) -> TestResult<i64> {
        Ok(self.number("SELECT count(*) FROM highwater.offset_event WHERE kind = 'reset'").await?)
    }

    /// The records of before the move are applied once more, as the events say, and not twice more.
    async fn goes_on(&self) -> TestResult {
        let worker = self.worker(Sink::<()>::default());
        self.verify_with_moves().await?;
        worker.stop().await?;
        Ok(())
    }
}

#[tokio::test]
async fn a_plan_is_applied_once_however_often_it_is_pressed() -> TestResult {
    let world = at_rest("pressed").await?;
    let planned =
        world.offsets("plan", &["--all-topics", "--shift-by", "-10", "--reason", "once", "--json"]).await?;
    let planned = planned.ended(0).json();
    let id = planned[0]["id"].as_i64().expect("an id").to_string();
    assert_eq!(planned[0]["steps"][0]["from"], 50);
    assert_eq!(planned[0]["steps"][0]["to"], 40);
    assert_eq!(world.resets().await?, 0, "a plan moves nothing");
    let first = world.highwater(&["offsets", "apply", &id, "--json"]).await?.ended(0).json();
    assert_eq!((&first["before"], &first["plan"]["state"]), (&false.into(), &"applied".into()));
    for _ in 0..2 {
        let again = world.highwater(&["offsets", "apply", &id]).await?.ended(0);
        assert!(again.stderr.contains("was applied before, by ana"), "{}", again.stderr);
    }
    assert_eq!((world.next_offset(0).await?, world.resets().await?), (Some(40), 2));
    let events = world.offsets("events", &["--json"]).await?.ended(0).json();
    assert_eq!(events[0]["plan_id"].to_string(), id);
    assert_eq!(events[0]["actor"], "ana");
    assert_eq!(events[0]["reason"], "once (--shift-by -10)");
    let plans = world.offsets("plans", &[]).await?.ended(0).stdout;
    assert!(plans.contains("--shift-by -10"), "{plans}");
    let unknown = world.highwater(&["offsets", "apply", "999999"]).await?.ended(2);
    assert!(unknown.stderr.contains(&format!("the newest are {id} (")), "{}", unknown.stderr);
    world.goes_on().await
}

#[tokio::test]
async fn two_at_once_move_it_once() -> TestResult {
    let world = at_rest("two").await?;
    let url = world.database.url();
    let id = world.operator(url).await?.plan(&world.back_by(10)).await?.id.expect("it is stored");
    let press = async |who: &str| -> TestResult<_> {
        let mut offsets = world.operator(url).await?;
        Ok(offsets.apply(id, &ApplyOptions::by(who)).await?)
    };
    let all = tokio::try_join!(press("ana"), press("ben"), press("cem"), press("dan"))?;
    let all = [all.0, all.1, all.2, all.3];
    assert_eq!(all.iter().filter(|applied| !applied.before).count(), 1);
    assert!(all.iter().all(|applied| applied.plan == all[0].plan), "all see the same");
    assert_eq!((world.next_offset(0).await?, world.resets().await?), (Some(40), 2));
    world.goes_on().await
}

/// The answer to COMMIT is lost; or COMMIT itself, and the server goes on holding the rows for a while.
#[tokio::test]
async fn a_lost_answer_is_looked_up() -> TestResult {
    for (cut, hint) in [(Cut::Answer, "answer"), (Cut::Commit, "commit")] {
        let world = at_rest(&format!("lost-{hint}")).await?;
        let proxy = Proxy::before_postgres(world.database.url()).await?;
        let mut offsets = world.operator(&proxy.url(world.database.url())?).await?;
        let id = offsets.plan(&world.back_by(10)).await?.id.expect("it is stored");
        let options = ApplyOptions::by("ana");
        let (cut, applied) =
            tokio::join!(proxy.cut(cut, Duration::from_secs(60)), offsets.apply(id, &options));
        cut?;
        let applied = applied?;
        assert!(!applied.before, "{hint}: it was this call that moved it");
        assert_eq!((world.next_offset(0).await?, world.resets().await?), (Some(40), 2), "{hint}");
        // And whoever comes later, not knowing.
        let later = world.operator(world.database.url()).await?.apply(id, &options).await?;
        assert!(later.before, "{hint}");
        assert_eq!(world.resets().await?, 2, "{hint}");
        world.goes_on().await?;
    }
    Ok(())
}

/// Its session is ended while it waits for a row that somebody holds.
#[tokio::test]
async fn a_session_that_is_ended_before_its_commit_is_begun_anew() -> TestResult {
    let world = at_rest("ended").await?;
    let mut offsets = world.operator(world.database.url()).await?;
    let id = offsets.plan(&world.back_by(10)).await?.id.expect("it is stored");
    let holder = world.database.client().await?;
    holder.batch_execute("BEGIN; SELECT FROM highwater.consumer_offset FOR UPDATE").await?;
    let end = async {
        let sql = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE datname = current_database() \
                   AND application_name = 'highwater command' AND wait_event_type = 'Lock'";
        wait_until("the move waits for the row", PATIENCE, async || {
            Ok((world.number(sql).await? > 0).then_some(()))
        })
        .await?;
        holder.batch_execute("COMMIT").await?;
        Ok::<_, Box<dyn std::error::Error + Send + Sync>>(())
    };
    let options = ApplyOptions::by("ana");
    let (applied, ended) = tokio::join!(offsets.apply(id, &options), end);
    ended?;
    assert!(!applied?.before);
    assert_eq!((world.next_offset(0).await?, world.resets().await?), (Some(40), 2));
    world.goes_on().await
}

#[tokio::test]
async fn a_stale_plan_moves_nothing() -> TestResult {
    let world = at_rest("stale").await?;
    let mut offsets = world.operator(world.database.url()).await?;
    let first = offsets.plan(&world.back_by(10)).await?.id.expect("it is stored");
    let second = offsets.plan(&world.back_by(20)).await?.id.expect("it is stored");
    offsets.apply(second, &ApplyOptions::by("ana")).await?;
    for live in ["", "--live"] {
        let id = first.to_string();
        let arguments: Vec<&str> =
            ["offsets", "apply", &id, live].into_iter().filter(|word| !word.is_empty()).collect();
        let said = world.highwater(&arguments).await?.ended(1);
        assert!(said.stderr.contains("is stale, and nothing was moved"), "{}", said.stderr);
    }
    // One of its partitions is where it was, and the other is not: neither is moved.
    let third = offsets.plan(&world.back_by(5)).await?.id.expect("it is stored");
    let one = Selection::Topics(vec![format!("{}:1", world.topic).parse()?]);
    let other = Request::new(&world.group, one, Target::ShiftBy(3)).actor("ben");
    let other = offsets.plan(&other).await?.id.expect("it is stored");
    offsets.apply(other, &ApplyOptions::by("ben")).await?;
    let error = offsets.apply(third, &ApplyOptions::by("ana")).await.expect_err("it is stale");
    assert_eq!(error.exit_code(), 1, "{error}");
    assert_eq!((world.next_offset(0).await?, world.next_offset(1).await?), (Some(30), Some(33)));
    world.goes_on().await
}

/// What is read again would be rejected again: its dead letters are not to be redriven beside it.
#[tokio::test]
async fn dead_letters_of_what_is_read_again_are_superseded() -> TestResult {
    let world = at_rest("superseded").await?;
    let insert = "INSERT INTO highwater.dead_letter (group_id, topic, topic_id, partition, record_offset, fingerprint, reason) \
                  SELECT $1, $2, 'id', 0, n, 'kind', 'why' FROM unnest('{39,40,49}'::int8[]) n";
    world.database.query(insert, &[&world.group, &world.topic]).await?;
    world.offsets("reset", &["--all-topics", "--shift-by", "-10", "--execute"]).await?.ended(0);
    let sql = "SELECT record_offset, state FROM highwater.dead_letter ORDER BY 1";
    let rows = world.database.query(sql, &[]).await?;
    let states: Vec<(i64, &str)> = rows.iter().map(|row| (row.get(0), row.get(1))).collect();
    assert_eq!(states, [(39, "open"), (40, "superseded"), (49, "superseded")]);
    world.goes_on().await
}

#[tokio::test]
async fn a_workers_role_may_look_but_not_plan() -> TestResult {
    let world = at_rest("rights").await?;
    let group = ["--group", &world.group];
    let describe = [&["offsets", "describe"][..], &group].concat();
    world.highwater_at(&world.role.url, &describe).await?.ended(0);
    let plan = [&["offsets", "plan"][..], &group, &["--all-topics", "--to-earliest"]].concat();
    world.highwater_at(&world.role.url, &plan).await?.ended(5);
    let pause = [&["partitions", "pause"][..], &group, &["--all-topics", "--reason", "why"]].concat();
    world.highwater_at(&world.role.url, &pause).await?.ended(5);
    world.verify().await?;
    Ok(())
}
