//! W5: ways around the guard. What a handler does by accident is refused in words; what no text shows, or what it does on
//! purpose, is caught by the compare-and-set: nothing is committed, and the halt names what was changed.

use std::sync::{Arc, Mutex};

use highwater::testing::Result;
use highwater::{Batch, HandlerError, PartialConfig, Tx};
use tokio_postgres::types::ToSql;

use crate::support::watch::{halted, halted_now};
use crate::support::{Fault, Sink, TestResult, World};

/// At which record of its partition each way is tried.
const AT: i64 = 20;

/// What the handler of one partition does, after everything was written, whenever it is given the record at [`AT`].
#[derive(Clone, Copy)]
struct Way {
    sql: &'static str,
    params: &'static [&'static str],
    /// What the text of the halt must hold; `None`: it is no way around anything, and the batch is committed.
    halts: Option<&'static str>,
}

const fn way(sql: &'static str, halts: &'static str) -> Way {
    Way { sql, params: &[], halts: Some(halts) }
}

/// What an owner of the database may have put there.
const FUNCTIONS: &str = "
    CREATE FUNCTION weaken() RETURNS void LANGUAGE sql AS
      $$ SELECT set_config('synchronous_commit', 'off', true) $$;
    CREATE FUNCTION weaken_by_name(name text) RETURNS void LANGUAGE plpgsql AS
      $$ BEGIN EXECUTE 'SET ' || name || ' TO local'; END $$;
    CREATE FUNCTION weaken_in_a_trigger() RETURNS trigger LANGUAGE plpgsql AS
      $$ BEGIN SET LOCAL synchronous_commit = off; RETURN NEW; END $$;
    CREATE TABLE noted (n int);
    CREATE TRIGGER weaken BEFORE INSERT ON noted FOR EACH ROW EXECUTE FUNCTION weaken_in_a_trigger();
    CREATE FUNCTION weak_inside() RETURNS text LANGUAGE sql AS $$ SELECT current_setting('synchronous_commit') $$;
    ALTER FUNCTION weak_inside() SET synchronous_commit = off;
    CREATE SCHEMA evil;
    CREATE FUNCTION evil.current_setting(text, boolean) RETURNS text LANGUAGE sql AS $$ SELECT 'on'::text $$;
    CREATE FUNCTION evil.yes(text[], text[]) RETURNS boolean LANGUAGE sql AS $$ SELECT true $$;
    CREATE OPERATOR evil.= (LEFTARG = text[], RIGHTARG = text[], FUNCTION = evil.yes);";

const WAYS: [Way; 20] = [
    way("DO $$ BEGIN SET LOCAL synchronous_commit = off; END $$", "changed synchronous_commit,"),
    Way {
        sql: "SELECT set_config($1, $2, true)",
        params: &["synchronous_commit", "off"],
        halts: Some("changed synchronous_commit,"),
    },
    way("DO $$ BEGIN EXECUTE 'SET synchronous_' || 'commit TO local'; END $$", "changed synchronous_commit,"),
    way(
        "DO $$ BEGIN UPDATE pg_settings SET setting = 'off' WHERE name = 'synchronous_commit'; END $$",
        "changed synchronous_commit,",
    ),
    way("SELECT weaken()", "changed synchronous_commit,"),
    way("SELECT weaken_by_name('synchronous_commit')", "changed synchronous_commit,"),
    way("INSERT INTO noted VALUES (1)", "changed synchronous_commit,"),
    way("SELECT set_config(lower('SYNCHRONOUS_COMMIT'), 'off', true)", "changed synchronous_commit,"),
    way(
        "DO $$ BEGIN SET LOCAL search_path = evil, pg_catalog, public; SET LOCAL synchronous_commit = off; END $$",
        "changed synchronous_commit,",
    ),
    way("DO $$ BEGIN SET LOCAL application_name = 'psql'; END $$", "changed application_name,"),
    way(
        "DO $$ BEGIN SET LOCAL idle_in_transaction_session_timeout = 0; SET LOCAL standard_conforming_strings = off; END $$",
        "changed idle_in_transaction_session_timeout and standard_conforming_strings,",
    ),
    way(
        "DO $$ BEGIN SET default_transaction_isolation = serializable; END $$",
        "changed default_transaction_isolation,",
    ),
    way("DO $$ BEGIN SET LOCAL transaction_read_only = on; END $$", "changed transaction_read_only,"),
    way("SELECT be_a_stranger()", "changed role,"),
    // By accident: refused before anything is sent.
    way(
        "UPDATE pg_settings SET setting = 'off' WHERE name = 'synchronous_commit'",
        "statement refused before it was sent: SET and RESET without LOCAL, set_config without a plain `true`",
    ),
    way(
        "SELECT set_config('search_path', 'a', false)",
        "statement refused before it was sent: SET and RESET without LOCAL, set_config without a plain `true`",
    ),
    way(
        "SET LOCAL synchronous_commit = off",
        "statement refused before it was sent: this setting protects the commit",
    ),
    // No ways around anything.
    Way { sql: "SELECT weak_inside()", params: &[], halts: None },
    Way { sql: "DO $$ BEGIN SET LOCAL synchronous_commit = remote_apply; END $$", params: &[], halts: None },
    Way { sql: "SET LOCAL search_path = evil, public", params: &[], halts: None },
];

struct Ways;

impl Fault for Ways {
    async fn after(&self, batch: &Batch, tx: &mut Tx) -> Result<(), HandlerError> {
        for record in batch.records().filter(|record| record.offset() == AT) {
            let way = usize::try_from(record.partition()).ok().and_then(|partition| WAYS.get(partition));
            let Some(way) = way else { continue };
            if way.params.is_empty() {
                tx.batch_execute(way.sql).await?;
            } else {
                let params: Vec<&(dyn ToSql + Sync)> =
                    way.params.iter().map(|param| param as &(dyn ToSql + Sync)).collect();
                tx.query(way.sql, &params).await?;
            }
        }
        Ok(())
    }
}

#[tokio::test]
async fn w5_1_every_way_to_weaken_the_commit_is_caught_before_it() -> TestResult {
    let partitions = i32::try_from(WAYS.len())?;
    let world = World::new("ways", partitions).await?;
    world.database.execute(FUNCTIONS).await?;
    let stranger = format!("stranger_{}", world.database.name());
    let ours = &world.role.name;
    world
        .database
        .execute(&format!(
            "CREATE ROLE {stranger}; GRANT {stranger} TO {ours}; GRANT ALL ON SCHEMA highwater TO {stranger}; \
             GRANT ALL ON ALL TABLES IN SCHEMA highwater TO {stranger}; GRANT INSERT ON noted TO {ours}; \
             GRANT USAGE ON SCHEMA evil TO {ours};"
        ))
        .await?;
    let sql = format!(
        "CREATE FUNCTION be_a_stranger() RETURNS void LANGUAGE plpgsql AS $$ BEGIN SET LOCAL ROLE {stranger}; END $$"
    );
    world.database.execute(&sql).await?;

    world.produce(30).await?;
    let worker = world.worker(Sink { fault: Ways, rows_only: false });
    let mut bad = Vec::new();
    for (partition, way) in (0..).zip(WAYS) {
        let Some(expected) = way.halts else { continue };
        bad.push(partition);
        let why = halted(&worker, partition).await?;
        assert!(why.contains(expected), "{}: {why}", way.sql);
        assert!(world.reported_halt(partition).await?.contains(expected), "{}", way.sql);
        assert!(world.next_offset(partition).await?.expect("it was claimed") <= AT, "{}", way.sql);
    }
    for (partition, _) in (0..).zip(WAYS).filter(|(_, way)| way.halts.is_none()) {
        world.reached(partition, 30).await?;
    }
    world.assert_consistent().await?;
    assert_eq!(halted_now(&worker), bad, "nobody else halted");
    worker.stop().await?;

    let worker = world.worker(Sink::<()>::default());
    world.verify().await?;
    worker.stop().await?;
    world.database.execute(&format!("DROP OWNED BY {stranger}; DROP ROLE {stranger}")).await?;
    Ok(())
}

/// What a batch found in its session.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Found {
    backend: i32,
    settings: [String; 4],
}

/// Looks at the session, then leaves something behind in it.
#[derive(Default)]
struct Litter(Mutex<Vec<Found>>);

impl Fault for Litter {
    async fn before(&self, _: &Batch, tx: &mut Tx) -> Result<(), HandlerError> {
        let look = "SELECT pg_backend_pid(), current_setting('search_path'), current_setting('TimeZone'), \
                    coalesce(current_setting('app.tenant', true), ''), current_setting('lock_timeout')";
        let row = tx.query_one(look, &[]).await?;
        let settings = [1, 2, 3, 4].map(|column| row.get(column));
        self.0.lock().expect("no panic").push(Found { backend: row.get(0), settings });
        Ok(())
    }

    async fn after(&self, _: &Batch, tx: &mut Tx) -> Result<(), HandlerError> {
        tx.execute("SELECT public.litter()", &[]).await?;
        Ok(())
    }
}

fn small(world: &World<'_>) -> PartialConfig {
    world.settings().lanes(1_usize).batch_target_records(10_usize).batch_max_records(10_usize)
}

/// Row security by `app.tenant` and a route's own search path are what people use settings for.
#[tokio::test]
async fn s3_2_what_a_function_sets_for_the_session_does_not_rule_the_next_batch() -> TestResult {
    let world = World::new("litter", 1).await?;
    world
        .database
        .execute(
            "CREATE SCHEMA a; CREATE TABLE a.sink (LIKE sink);
             CREATE FUNCTION litter() RETURNS void LANGUAGE sql AS
             $$ SELECT set_config('search_path', 'a', false), set_config('app.tenant', '7', false), \
                       set_config('TimeZone', 'Asia/Tokyo', false), set_config('lock_timeout', '0', false) $$",
        )
        .await?;
    world.produce(60).await?;
    let litter = Arc::new(Litter::default());
    let worker = world.worker_with(small(&world), Sink { fault: Arc::clone(&litter), rows_only: false });
    world.verify().await?;
    worker.stop().await?;
    let found = litter.0.lock().expect("no panic").clone();
    let first = found.first().expect("there was a batch");
    assert!(found.len() >= 6, "batches of ten: {found:#?}");
    assert!(found.iter().all(|batch| batch == first), "one session, and the same in each batch: {found:#?}");
    assert_eq!(world.number("SELECT count(*) FROM a.sink").await?, 0);
    Ok(())
}

/// Texts of which only the server's setting says where their strings end, and whether they are refused; one per partition.
const STRINGS: [(&str, bool); 4] = [
    (r"SELECT '\' '; COMMIT; --'", true),
    (r"SELECT '\'; COMMIT; --'", true),
    (r"SELECT 'a\\', 'b\n'", false),
    (r"SELECT replace('a\b', '\', '/')", false),
];

struct Strings;

impl Fault for Strings {
    async fn after(&self, batch: &Batch, tx: &mut Tx) -> Result<(), HandlerError> {
        let length: i32 = tx.query_one(r"SELECT length('\n')", &[]).await?.get(0);
        if length != 2 {
            return Err(HandlerError::fatal("a backslash is an escape here"));
        }
        for record in batch.records().filter(|record| record.offset() == AT) {
            let partition = usize::try_from(record.partition()).expect("not negative");
            tx.batch_execute(STRINGS[partition].0).await?;
        }
        Ok(())
    }
}

#[tokio::test]
async fn w5_2_a_commit_under_backslashes_is_refused_whatever_the_role_has_set() -> TestResult {
    let world = World::new("backslash", i32::try_from(STRINGS.len())?).await?;
    let role = &world.role.name;
    world.database.execute(&format!("ALTER ROLE {role} SET standard_conforming_strings = off")).await?;
    world.produce(30).await?;
    let worker = world.worker(Sink { fault: Strings, rows_only: false });
    for (partition, (text, refused)) in (0..).zip(STRINGS) {
        if refused {
            let why = halted(&worker, partition).await?;
            let expected = "BEGIN, START, COMMIT, END, ABORT and ROLLBACK belong to the worker";
            assert!(why.contains(expected), "{text}: {why}");
        } else {
            world.reached(partition, 30).await?;
        }
    }
    world.assert_consistent().await?;
    worker.stop().await?;
    let worker = world.worker(Sink::<()>::default());
    world.verify().await?;
    worker.stop().await?;
    Ok(())
}

#[test]
fn w5_3_what_would_take_the_isolation_level_out_of_a_fetch_is_refused() {
    for (property, value) in [
        ("api.version.request", "false"),
        ("api.version.fallback.ms", "1000"),
        ("broker.version.fallback", "0.9.0"),
    ] {
        let settings = PartialConfig::default()
            .brokers(vec!["127.0.0.1:1".to_owned()])
            .postgres_url("postgres://localhost/x")
            .group("g")
            .topics(vec!["t".to_owned()])
            .kafka(property, value);
        let error = settings.finish().expect_err(property).to_string();
        assert!(error.contains(property) && error.contains("no isolation level"), "{error}");
    }
}
