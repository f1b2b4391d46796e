//! On a real server, with a role that owns the tables and a worker's that does not.

use std::time::{Duration, Instant};

use tokio_postgres::Client;

use super::*;
use crate::PartialConfig;
use crate::testing::{Database, Postgres, Role, wait_until};

/// How long what must happen may take.
const PATIENCE: Duration = Duration::from_secs(30);

struct World {
    database: Database,
    worker: Role,
    owner: Role,
}

impl World {
    async fn new(hint: &str) -> Self {
        let postgres = Postgres::shared().await.unwrap();
        let database = postgres.fresh_database(hint).await.unwrap();
        let (worker, owner) = (database.role("worker").await.unwrap(), database.role("owner").await.unwrap());
        let schema = format!(
            "CREATE SCHEMA shop AUTHORIZATION {}; GRANT USAGE ON SCHEMA shop TO {}",
            owner.name, worker.name
        );
        database.execute(&schema).await.unwrap();
        Self { database, worker, owner }
    }

    /// As the owner.
    async fn owner(&self, statements: &str) {
        self.client(&self.owner.url).await.batch_execute(statements).await.unwrap();
    }

    async fn client(&self, url: &str) -> Client {
        let (client, connection) = tokio_postgres::connect(url, tokio_postgres::NoTls).await.unwrap();
        tokio::spawn(connection);
        client
    }

    fn evolution_by(&self, evolve_url: Option<&str>) -> Evolution {
        let settings = PartialConfig::default()
            .brokers(vec!["localhost:1".to_owned()])
            .group("g")
            .topics(vec!["t".to_owned()])
            .postgres_url(self.worker.url.as_str())
            .evolve_url(evolve_url.map(Into::into));
        Evolution::new(&settings.finish().unwrap(), Printed::default()).unwrap()
    }

    fn evolution(&self) -> Evolution {
        self.evolution_by(Some(&self.owner.url))
    }

    async fn fit(&self, jobs: &[Job]) -> Result<()> {
        self.evolution().fit(jobs).await
    }

    /// `column type` of each column, in order.
    async fn columns(&self, table: &str) -> Vec<String> {
        let sql = "SELECT attname || ' ' || format_type(atttypid, atttypmod) || CASE WHEN attnotnull THEN '!' ELSE '' END \
                   FROM pg_attribute WHERE attrelid = to_regclass($1) AND attnum > 0 AND NOT attisdropped ORDER BY attnum";
        let rows = self.database.query(sql, &[&table]).await.unwrap();
        rows.iter().map(|row| row.get(0)).collect()
    }
}

fn job(evolve: Evolve, table: &str, mode: Mode, columns: &[(&str, Option<&str>)], key: &[&str]) -> Job {
    let column = |(name, sql_type): &(&str, Option<&str>)| WantedColumn {
        name: (*name).to_owned(),
        sql_type: sql_type.map(str::to_owned),
        declared: true,
        not_null: false,
    };
    let key = (!key.is_empty()).then(|| key.iter().map(|&column| column.to_owned()).collect());
    let columns = columns.iter().map(column).collect();
    Job {
        evolve,
        wanted: Wanted { table: table.to_owned(), columns, key, mode, deletes: mode == Mode::Upsert },
    }
}

const ORDER: [(&str, Option<&str>); 3] =
    [("Id", Some("int8")), ("note", Some("varchar(20)")), ("at", Some("timestamptz"))];

/// What a type means is the server's to say, for the look as for what is made.
#[tokio::test]
async fn types_are_those_that_a_table_of_the_same_words_has() {
    const TYPES: [&str; 26] = [
        "int8",
        "BigInt",
        "numeric",
        "numeric(12,2)",
        "decimal ( 5 )",
        "text",
        "varchar",
        "character varying(7)",
        "char(3)",
        "character",
        "\"char\"",
        "bool",
        "double precision",
        "real",
        "timestamp(3) with time zone",
        "timestamp",
        "time(0)",
        "interval",
        "interval day to second(3)",
        "bit(5)",
        "bit varying(9)",
        "numeric(9,3)[]",
        "text[][]",
        "jsonb",
        "shop.\"Mood\"",
        "shop.positive",
    ];
    let world = World::new("evolve-types").await;
    world.owner("CREATE TYPE shop.\"Mood\" AS ENUM ('a'); CREATE DOMAIN shop.positive AS numeric(5,1) CHECK (VALUE > 0)").await;
    let columns: Vec<(String, &str)> =
        TYPES.iter().enumerate().map(|(at, ty)| (format!("c{at}"), *ty)).collect();
    let by_hand: Vec<String> = columns.iter().map(|(name, ty)| format!("{name} {ty}")).collect();
    let grant = format!("GRANT INSERT ON shop.by_hand TO {}", world.worker.name);
    world.owner(&format!("CREATE TABLE shop.by_hand ({}); {grant}", by_hand.join(", "))).await;
    let columns: Vec<(&str, Option<&str>)> =
        columns.iter().map(|(name, ty)| (name.as_str(), Some(*ty))).collect();
    let of = |evolve, table| job(evolve, table, Mode::Append, &columns, &[]);
    world.fit(&[of(Evolve::Validate, "shop.by_hand"), of(Evolve::Create, "shop.made")]).await.unwrap();
    assert_eq!(world.columns("shop.made").await, world.columns("shop.by_hand").await);
    // Column by column, each as added later.
    world.owner("CREATE TABLE shop.grown ()").await;
    world.owner(&format!("GRANT INSERT ON shop.grown TO {}", world.worker.name)).await;
    world.fit(&[of(Evolve::AddColumns, "shop.grown")]).await.unwrap();
    assert_eq!(world.columns("shop.grown").await, world.columns("shop.by_hand").await);
    for (declared, is) in [
        ("numeric(12,3)", "numeric(12,2)"),
        ("numeric", "numeric(12,2)"),
        ("varchar(8)", "varchar(7)"),
        ("text", "varchar"),
        ("int4", "int8"),
        ("numeric(5,1)", "shop.positive"),
        ("timestamp", "timestamptz"),
        ("timestamptz(3)", "timestamptz"),
    ] {
        world.owner(&format!("DROP TABLE IF EXISTS shop.other; CREATE TABLE shop.other (c {is})")).await;
        world.owner(&format!("GRANT INSERT ON shop.other TO {}", world.worker.name)).await;
        for evolve in [Evolve::Validate, Evolve::AddColumns] {
            let other = job(evolve, "shop.other", Mode::Append, &[("c", Some(declared))], &[]);
            let error = world.fit(&[other]).await.unwrap_err();
            assert!(error.to_string().contains("table shop.other: column c is "), "{declared} {is}: {error}");
            assert!(error.to_string().contains("(a type is never changed here)"), "{error}");
        }
    }
}

/// What looks like a type and is more never gets to run.
#[tokio::test]
async fn a_type_smuggles_nothing_in() {
    let world = World::new("evolve-smuggler").await;
    world.owner("CREATE TABLE shop.victim (a int)").await;
    for text in [
        "int NOT NULL",
        "int PRIMARY KEY",
        "int DEFAULT 5",
        "int REFERENCES shop.victim",
        "int COLLATE \"C\"",
        "int, b int",
        "int) , (SELECT 1",
        "int); DROP TABLE shop.victim",
        "bigserial",
        "void",
        "anyelement",
        "nosuch",
        "nosuch.int4",
        "numeric(5000,2)",
        "int AS x",
        "setof int",
        "shop.victim%TYPE",
        "int GENERATED ALWAYS AS IDENTITY",
        "regclass[",
        "[]",
    ] {
        let made = job(Evolve::Create, "shop.made", Mode::Append, &[("c", Some(text))], &[]);
        let error = world.fit(&[made]).await.expect_err(text);
        assert!(
            error.is_configuration() && error.to_string().contains("table shop.made, column c: "),
            "{text}: {error}"
        );
    }
    assert!(world.columns("shop.made").await.is_empty());
    assert_eq!(world.columns("shop.victim").await, ["a integer"]);
    // Names are names.
    let name = "a\" int); DROP TABLE shop.victim; --";
    let table = "shop.\"b\"\" (x int); DROP TABLE shop.victim; --\"";
    world.fit(&[job(Evolve::Create, table, Mode::Upsert, &[(name, Some("int"))], &[name])]).await.unwrap();
    assert_eq!(world.columns(table).await, [format!("{name} integer!")]);
    assert_eq!(world.columns("shop.victim").await, ["a integer"]);
}

/// The owner's table, the worker's rights, names as SQL reads them.
#[tokio::test]
async fn a_table_is_made_by_its_owner_for_the_worker() {
    let world = World::new("evolve-create").await;
    let jobs = [
        job(Evolve::Create, "shop.\"Orders\"", Mode::Upsert, &ORDER, &["Id"]),
        job(Evolve::Create, "Shop.Payments", Mode::Append, &ORDER, &["Id"]),
        job(Evolve::None, "shop.nowhere", Mode::Append, &ORDER, &[]),
    ];
    world.fit(&jobs).await.unwrap();
    assert_eq!(
        world.columns("shop.\"Orders\"").await,
        ["Id bigint!", "note character varying(20)", "at timestamp with time zone"]
    );
    assert_eq!(
        world.columns("shop.payments").await[0],
        "Id bigint",
        "an append has no key that would refuse a row"
    );
    let owner = "SELECT tableowner::text FROM pg_tables WHERE schemaname = 'shop' ORDER BY 1";
    let owners = world.database.query(owner, &[]).await.unwrap();
    assert!(owners.len() == 2 && owners.iter().all(|row| row.get::<_, &str>(0) == world.owner.name));
    let worker = world.client(&world.worker.url).await;
    worker
        .batch_execute(
            "INSERT INTO shop.\"Orders\" VALUES (1); UPDATE shop.\"Orders\" SET note = 'a'; \
                          DELETE FROM shop.\"Orders\"; INSERT INTO shop.payments VALUES (1)",
        )
        .await
        .unwrap();
    let denied = worker.batch_execute("DELETE FROM shop.payments").await.unwrap_err();
    assert_eq!(denied.code().unwrap().code(), "42501", "no more than it takes");
    let denied = worker.batch_execute("ALTER TABLE shop.payments ADD COLUMN x int").await.unwrap_err();
    assert_eq!(denied.code().unwrap().code(), "42501");
    // Again: nothing to do, nothing to connect for.
    let nobody = "postgres://nobody@127.0.0.1:1/nowhere";
    world.evolution_by(Some(nobody)).fit(&jobs).await.unwrap();
    // A name without a schema is where the worker would find it, not where the owner would.
    world
        .database
        .execute(&format!(
            "GRANT CREATE ON SCHEMA public TO {}; ALTER ROLE {0} SET search_path = shop",
            world.owner.name
        ))
        .await
        .unwrap();
    world.fit(&[job(Evolve::Create, "Plain", Mode::Append, &ORDER, &[])]).await.unwrap();
    assert_eq!(world.columns("public.plain").await.len(), 3);
}

#[tokio::test]
async fn columns_are_added_nullable_and_for_the_worker() {
    let world = World::new("evolve-add").await;
    world.owner("CREATE TABLE shop.orders (\"Id\" bigint PRIMARY KEY, kept int); INSERT INTO shop.orders VALUES (1, 2)").await;
    // Rights to columns hold for no column that comes.
    let grant = "GRANT SELECT, INSERT, UPDATE (\"Id\", kept), DELETE ON shop.orders TO ".to_owned()
        + &world.worker.name;
    world.owner(&grant).await;
    let of = |evolve| job(evolve, "shop.orders", Mode::Upsert, &ORDER, &["Id"]);
    for evolve in [Evolve::Validate, Evolve::Create] {
        let error = world.fit(&[of(evolve)]).await.unwrap_err().to_string();
        assert!(error.contains("table shop.orders: there is no column note: add it, or"), "{error}");
        assert!(error.contains("table shop.orders: there is no column at: add it, or"), "{error}");
    }
    world.fit(&[of(Evolve::AddColumns)]).await.unwrap();
    assert_eq!(
        world.columns("shop.orders").await,
        ["Id bigint!", "kept integer", "note character varying(20)", "at timestamp with time zone"]
    );
    world
        .client(&world.worker.url)
        .await
        .batch_execute("UPDATE shop.orders SET note = 'a', at = now()")
        .await
        .unwrap();
    world.fit(&[of(Evolve::Validate)]).await.unwrap();
    // Without a type nothing is guessed.
    let untyped = [("Id", None), ("more", None)];
    let error =
        world.fit(&[job(Evolve::AddColumns, "shop.orders", Mode::Append, &untyped, &[])]).await.unwrap_err();
    assert!(
        error.to_string().contains("column more is to be added, and has no type: columns.more = {"),
        "{error}"
    );
}

/// All that is wrong with all tables, in one error.
#[tokio::test]
async fn validate_says_everything_at_once_and_changes_nothing() {
    let world = World::new("evolve-validate").await;
    world.owner("CREATE TABLE shop.a (id bigint, amount numeric(10,2), made int GENERATED ALWAYS AS (1) STORED, must int NOT NULL, \
                 filled int NOT NULL DEFAULT 1, one int GENERATED ALWAYS AS IDENTITY); \
                 CREATE UNIQUE INDEX ON shop.a (id) WHERE id > 0; CREATE VIEW shop.v AS SELECT 1 AS id").await;
    world.owner(&format!("GRANT INSERT (id, made) ON shop.a TO {}", world.worker.name)).await;
    let columns = [
        ("id", None),
        ("amount", Some("numeric(12,2)")),
        ("made", Some("int")),
        ("ammount", Some("int")),
        ("t", Some("nosuch")),
    ];
    let jobs = [
        job(Evolve::Validate, "shop.a", Mode::Upsert, &columns[..4], &["id"]),
        job(Evolve::Validate, "shop.b", Mode::Append, &columns[..1], &[]),
        job(Evolve::Validate, "shop.v", Mode::Append, &columns[..1], &[]),
        job(Evolve::Validate, "nowhere.c", Mode::Append, &columns[..1], &[]),
        job(Evolve::Validate, "shop.d", Mode::Append, &columns[4..], &[]),
        job(Evolve::Validate, "a b", Mode::Append, &columns[..1], &[]),
    ];
    let error = world.fit(&jobs).await.unwrap_err();
    assert!(error.is_configuration());
    let text = error.to_string();
    for words in [
        "table shop.a: column amount is numeric(10,2), and `type` says numeric(12,2)",
        "table shop.a: column made is generated by the table itself",
        "table shop.a: there is no column ammount; is amount meant?",
        "table shop.a: column must (integer) is NOT NULL without a default",
        "table shop.a: there is no unique index on exactly the key (id)",
        "table shop.a: this role may not INSERT amount: GRANT INSERT ON \"shop\".\"a\" TO ",
        "table shop.a: this role may not UPDATE amount, made: GRANT UPDATE",
        "table shop.a: this role may not SELECT id: GRANT SELECT",
        "table shop.a: this role may not DELETE: GRANT DELETE",
        "table shop.b: there is no such table",
        "table shop.v: it is no table",
        "table nowhere.c: there is no schema nowhere",
        "table shop.d, column t: there is no type \"nosuch\"",
        "table a b: is no table's name",
    ] {
        assert!(text.contains(words), "{words}: {text}");
    }
    assert_eq!(text.lines().count(), 15, "{text}");
    assert_eq!(world.columns("shop.b").await, [""; 0]);
}

/// What `print` says makes the tables fit, once their owner has run it.
#[tokio::test]
async fn print_says_what_is_missing_and_ends() {
    let world = World::new("evolve-print").await;
    world.owner("CREATE TABLE shop.a (\"Id\" bigint)").await;
    world.owner(&format!("GRANT INSERT (\"Id\") ON shop.a TO {}", world.worker.name)).await;
    world.owner(&format!("GRANT UPDATE ON shop.a TO {}", world.worker.name)).await;
    let jobs = [
        job(Evolve::Print, "shop.a", Mode::Append, &ORDER, &[]),
        job(Evolve::Print, "shop.\"B\"", Mode::Upsert, &ORDER, &["Id"]),
    ];
    let evolution = world.evolution_by(None);
    let error = evolution.fit(&jobs).await.unwrap_err();
    let printed = evolution.printed.get().unwrap();
    assert!(error.is_configuration());
    for line in printed.lines() {
        assert!(error.to_string().contains(line), "{line}: {error}");
    }
    assert!(world.columns("shop.\"B\"").await.is_empty());
    world.owner(printed).await;
    let evolution = world.evolution_by(None);
    evolution.fit(&jobs).await.unwrap();
    assert!(evolution.printed.get().is_none());
}

#[tokio::test]
async fn who_may_not_is_told_what_to_grant_or_to_run() {
    let world = World::new("evolve-rights").await;
    world.owner("CREATE TABLE shop.a (\"Id\" bigint)").await;
    world.owner(&format!("GRANT INSERT ON shop.a TO {}", world.worker.name)).await;
    let add = job(Evolve::AddColumns, "shop.a", Mode::Append, &ORDER, &[]);
    let make = job(Evolve::Create, "shop.b", Mode::Append, &ORDER, &[]);
    let as_worker = world.evolution_by(None);
    let error = as_worker.fit(std::slice::from_ref(&add)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Privilege);
    let run = "ALTER TABLE \"shop\".\"a\" ADD COLUMN \"note\" character varying(20);";
    assert!(error.to_string().contains(run) && error.to_string().contains("`evolve_url`"), "{error}");
    let error = as_worker.fit(std::slice::from_ref(&make)).await.unwrap_err();
    let grant = format!("GRANT CREATE, USAGE ON SCHEMA \"shop\" TO \"{}\"", world.worker.name);
    assert!(error.to_string().contains(&grant), "{error}");
    assert_eq!(world.columns("shop.a").await, ["Id bigint"]);
    // As it says.
    world.owner(&grant).await;
    world.owner(run).await;
    as_worker.fit(&[make]).await.unwrap();
    // An owner who leads elsewhere changes what the worker never sees.
    let elsewhere = World::new("evolve-elsewhere").await;
    elsewhere.owner("CREATE TABLE shop.a (\"Id\" bigint)").await;
    let writer = &world.worker.name;
    elsewhere
        .owner(&format!("GRANT USAGE ON SCHEMA shop TO {writer}; GRANT INSERT ON shop.a TO {writer}"))
        .await;
    let error = world.evolution_by(Some(&elsewhere.owner.url)).fit(&[add]).await.unwrap_err();
    assert!(error.to_string().contains("does evolve_url lead to the database of postgres_url?"), "{error}");
}

/// Processes that start together do the work once, and all of them go on.
#[tokio::test]
async fn processes_that_start_together_take_turns() {
    let world = World::new("evolve-turns").await;
    world.owner("CREATE TABLE shop.old (\"Id\" bigint)").await;
    world.owner(&format!("GRANT INSERT ON shop.old TO {}", world.worker.name)).await;
    let mut jobs: Vec<Job> = (0..3)
        .map(|n| job(Evolve::AddColumns, &format!("shop.t{n}"), Mode::Upsert, &ORDER, &["Id"]))
        .collect();
    jobs.push(job(Evolve::AddColumns, "shop.old", Mode::Append, &ORDER, &[]));
    let evolutions: Vec<Evolution> = (0..6).map(|_| world.evolution()).collect();
    let together = evolutions.iter().map(|evolution| evolution.fit(&jobs));
    for ended in futures_util::future::join_all(together).await {
        ended.unwrap();
    }
    assert_eq!(world.columns("shop.old").await.len(), 3);
}

/// Somebody reads for long, as pg_dump does: the change waits for him, and nobody waits for the change.
#[tokio::test]
async fn a_change_that_waits_holds_up_nobody() {
    const HELD: Duration = Duration::from_secs(4);
    let world = World::new("evolve-dump").await;
    world.owner("CREATE TABLE shop.a (\"Id\" bigint)").await;
    world.owner(&format!("GRANT INSERT, SELECT ON shop.a TO {}", world.worker.name)).await;
    let dump = world.client(world.database.url()).await;
    dump.batch_execute("SET application_name = 'pg_dump'; BEGIN; LOCK TABLE shop.a IN ACCESS SHARE MODE")
        .await
        .unwrap();

    // One attempt: it gives way, and says to whom.
    let add = job(Evolve::AddColumns, "shop.a", Mode::Append, &ORDER, &[]);
    let (look, owner) = (world.client(&world.worker.url).await, world.client(&world.owner.url).await);
    let wants = resolve(&add, &look).await.unwrap().unwrap();
    let begun = Instant::now();
    let Attempt::GaveWay(why) = attempt(&wants, &look, &owner).await.unwrap() else {
        panic!("it had the lock")
    };
    assert!(
        begun.elapsed() < 2 * PATIENCE / 30 && begun.elapsed() >= Duration::from_millis(400),
        "{:?}",
        begun.elapsed()
    );
    assert!(
        why.starts_with("waited for a lock on shop.a held by pid ") && why.contains("(pg_dump, "),
        "{why}"
    );
    let idle =
        "SELECT count(*) FROM pg_locks WHERE relation = 'shop.a'::regclass AND mode = 'AccessExclusiveLock'";
    assert_eq!(
        world.database.query(idle, &[]).await.unwrap()[0].get::<_, i64>(0),
        0,
        "nothing waits, nothing is held"
    );

    let evolutions = [world.evolution(), world.evolution()];
    let (fit, read) = tokio::join!(
        async {
            let jobs = [add.clone()];
            let (one, two) = tokio::join!(evolutions[0].fit(&jobs), evolutions[1].fit(&jobs));
            one.unwrap();
            two.unwrap();
            Instant::now()
        },
        async {
            // Readers and writers come all the time.
            let (mut longest, mut done) = (Duration::ZERO, 0_u32);
            let begun = Instant::now();
            while begun.elapsed() < HELD {
                let one = Instant::now();
                look.batch_execute("INSERT INTO shop.a VALUES (1); SELECT count(*) FROM shop.a")
                    .await
                    .unwrap();
                longest = longest.max(one.elapsed());
                done += 1;
            }
            let released = Instant::now();
            dump.batch_execute("COMMIT").await.unwrap();
            (longest, done, released)
        }
    );
    let (longest, done, released) = read;
    println!("{done} reads, the longest in {longest:?}; changed {:?} after the release", fit - released);
    assert!(fit > released, "it cannot have had the lock");
    // Two processes may wait one after the other; a bit more on a machine that is busy.
    assert!(longest < Duration::from_millis(1_500), "{longest:?}");
    assert!(longest > Duration::from_millis(100), "nobody has ever waited: {longest:?}");
    assert!(done > 50, "{done}");
    assert_eq!(world.columns("shop.a").await.len(), 3);
}

/// What somebody adds by hand meanwhile is compared: a name alone is not enough.
#[tokio::test]
async fn a_column_that_another_has_added_is_compared() {
    let world = World::new("evolve-race").await;
    world.owner("CREATE TABLE shop.a (\"Id\" bigint)").await;
    world.owner(&format!("GRANT INSERT ON shop.a TO {}", world.worker.name)).await;
    let add = [job(Evolve::AddColumns, "shop.a", Mode::Append, &ORDER, &[])];
    let by_hand = world.client(&world.owner.url).await;
    by_hand.batch_execute("BEGIN; ALTER TABLE shop.a ADD COLUMN note text").await.unwrap();
    let evolution = world.evolution();
    let (ended, ()) = tokio::join!(evolution.fit(&add), async {
        let waits = "SELECT FROM pg_locks WHERE relation = 'shop.a'::regclass AND NOT granted";
        wait_until("the change waits", PATIENCE, async || {
            Ok((!world.database.query(waits, &[]).await?.is_empty()).then_some(()))
        })
        .await
        .unwrap();
        by_hand.batch_execute("COMMIT").await.unwrap();
    });
    let error = ended.unwrap_err();
    assert!(
        error.to_string().contains("column note is text, and `type` says character varying(20)"),
        "{error}"
    );
    assert_eq!(world.columns("shop.a").await, ["Id bigint", "note text"]);
}
