//! The certificate of the database's server, and its authority, change while records flow: nothing is lost, nothing comes
//! twice, nobody restarts; how long partitions stood still is printed.

use std::path::Path;

use highwater::testing::{Error, Kafka, Postgres, Result, wait_until};
use rcgen::ExtendedKeyUsagePurpose::ServerAuth;

use crate::support::certificates::Authority;
use crate::support::{PATIENCE, Process, Setup, TestResult, World};

const PARTITIONS: i32 = 3;

async fn world<'a>(kafka: &'a Kafka, postgres: &'a Postgres) -> Result<World<'a>> {
    let world =
        World::with("servers", Setup { kafka, postgres, partitions: PARTITIONS, topic_config: &[] }).await?;
    world.database.execute("CREATE TABLE commits (partition int, at timestamptz)").await?;
    world.database.execute(&format!("GRANT INSERT ON commits TO {}", world.role.name)).await?;
    Ok(world)
}

/// Does one step of the drill, waits until every partition has committed again, and prints the longest time without a
/// commit.
async fn step(world: &World<'_>, what: &str, work: impl Future<Output = Result<()>>) -> Result<()> {
    let began = clock(world).await?;
    work.await?;
    let done = clock(world).await?;
    wait_until(&format!("every partition has committed after: {what}"), PATIENCE, async || {
        let sql = "SELECT count(*) FROM (SELECT 1 FROM commits WHERE at > to_timestamp($1) \
                   GROUP BY partition HAVING count(*) > 3) AS moving";
        let moving: i64 = world.database.query(sql, &[&done]).await?[0].get(0);
        Ok((moving == i64::from(PARTITIONS)).then_some(()))
    })
    .await?;
    let sql = "SELECT EXTRACT(epoch FROM max(gap))::float8 FROM ( \
                   SELECT at, at - lag(at) OVER (PARTITION BY partition ORDER BY at) AS gap FROM commits \
               ) AS gaps WHERE at > to_timestamp($1)";
    let longest: f64 = world.database.query(sql, &[&began]).await?[0].get(0);
    println!("| {what} | {longest:.2} s |");
    Ok(())
}

/// A moment, by the clock of the database.
async fn clock(world: &World<'_>) -> Result<f64> {
    let sql = "SELECT EXTRACT(epoch FROM clock_timestamp())::float8";
    Ok(world.database.query(sql, &[]).await?[0].get(0))
}

/// A file takes another's place whole, as the kubelet's link does.
fn replace(path: &Path, text: &str) -> Result<()> {
    let next = path.with_extension("next");
    let written = std::fs::write(&next, text).and_then(|()| std::fs::rename(&next, path));
    written.map_err(|error| Error::caused("replace a file", error))
}

/// Has Postgres show a new certificate, as one does: files, and `pg_reload_conf()`.
async fn serve_certificate_of(world: &World<'_>, postgres: &Postgres, authority: &Authority) -> Result<()> {
    let (certificate, key) = authority.issue(&["localhost", "127.0.0.1"], ServerAuth);
    postgres.write_file("server.crt", &certificate).await?;
    postgres.write_file("server.key", &key).await?;
    let client = postgres.client().await?;
    let loaded = "SELECT pg_conf_load_time()::text";
    let before: String = client.query_one(loaded, &[]).await?.get(0);
    client.batch_execute("SELECT pg_reload_conf()").await?;
    // A session learns of it some time after the postmaster, which is the one that has the certificate.
    wait_until("the server has read its files again", PATIENCE, async || {
        let now: String = postgres.client().await?.query_one(loaded, &[]).await?.get(0);
        Ok((now != before).then_some(()))
    })
    .await?;
    connect_anew(world).await
}

/// Ends every session of the worker: the next ones begin with what the server shows, and the worker trusts, now.
async fn connect_anew(world: &World<'_>) -> Result<()> {
    let sessions =
        "FROM pg_stat_activity WHERE datname = current_database() AND application_name LIKE 'highwater/%'";
    let ended = world.number(&format!("SELECT count(pg_terminate_backend(pid)) {sessions}")).await?;
    assert!(ended > 0, "the worker had sessions");
    Ok(())
}

#[tokio::test]
#[ignore = "slow: cargo test --test it slow_ -- --ignored"]
async fn slow_the_database_servers_certificate_and_its_authority_are_rotated_under_load() -> TestResult {
    let (old, new) = (Authority::new("root"), Authority::new("the next root"));
    let rules = "hostnossl all postgres all scram-sha-256\n\
                 hostnossl all all all reject\n\
                 hostssl all all all scram-sha-256";
    let (kafka, postgres) = tokio::try_join!(Kafka::shared(), old.server(rules))?;
    let mut world = world(kafka, &postgres).await?;
    world.role.url = format!("{}?sslmode=verify-full&{}", world.role.url, old.root());
    let file = old.root_file();
    let worker = Process::start(&world, "rotated", "timed")?;
    let both = format!("{}{}", old.pem, new.pem);
    let trust = async |text: &str| {
        replace(&file, text)?;
        connect_anew(&world).await
    };
    world
        .under_load(async {
            world.progress(300).await?;
            let serve = |authority| serve_certificate_of(&world, &postgres, authority);
            step(&world, "Postgres: a new certificate", serve(&old)).await?;
            step(&world, "Postgres: clients trust both authorities", trust(&both)).await?;
            step(&world, "Postgres: a certificate of the new one", serve(&new)).await?;
            step(&world, "Postgres: the old one leaves the file", trust(&new.pem)).await?;
            world.progress(300).await
        })
        .await
        .inspect_err(|_| eprintln!("{}", worker.child))?;
    world.verify().await?;
    worker.stop().await?;
    Ok(())
}
