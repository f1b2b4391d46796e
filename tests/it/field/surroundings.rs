//! W1: errors of the surroundings. Connecting and BEGIN have sent no record: whatever comes back there is waited for, and
//! blames neither a record nor a handler.

use highwater::WorkerHandle;
use highwater::testing::{Postgres, wait_until};

use crate::support::watch::halted_now;
use crate::support::{PATIENCE, Sink, TestResult, World};

/// Ends all backends of the workers of a database.
const END_ALL: &str = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
                       WHERE datname = $1 AND application_name LIKE 'highwater/%'";

/// Under load, with the database closed by `close` and opened again by `open`, both run in another database.
async fn closed_for_a_while(hint: &str, close: &str, open: &str) -> TestResult {
    let world = World::new(hint, 3).await?;
    let worker = world.worker(Sink::<()>::default());
    world.produce(50).await?;
    world.verify().await?;
    let admin = Postgres::shared().await?.client().await?;
    let name = world.database.name().to_owned();
    let fill = |sql: &str| sql.replace("{db}", &name).replace("{role}", &world.role.name);
    admin.batch_execute(&fill(close)).await?;
    admin.execute(END_ALL, &[&name]).await?;
    world.produce(50).await?;
    refused_for_a_while(&worker).await?;
    assert_eq!(halted_now(&worker), [] as [i32; 0], "{:#?}", worker.status());
    admin.batch_execute(&fill(open)).await?;
    world.verify().await?;
    assert_eq!(halted_now(&worker), [] as [i32; 0], "{:#?}", worker.status());
    worker.stop().await?;
    Ok(())
}

/// Several tries in vain.
async fn refused_for_a_while(worker: &WorkerHandle) -> TestResult {
    let goal = worker.status().counters.retries + 6;
    wait_until("it tries again and again", PATIENCE, async || {
        Ok((worker.status().counters.retries >= goal).then_some(()))
    })
    .await?;
    let said = |detail: &Option<String>| detail.as_deref().is_some_and(|text| text.contains("trying again"));
    assert!(worker.status().partitions.iter().any(|at| said(&at.detail)), "{:#?}", worker.status());
    Ok(())
}

#[tokio::test]
async fn w1_1_a_database_that_takes_no_connections_for_a_while() -> TestResult {
    let (close, open) =
        ("ALTER DATABASE \"{db}\" ALLOW_CONNECTIONS false", "ALTER DATABASE \"{db}\" ALLOW_CONNECTIONS true");
    closed_for_a_while("closed", close, open).await
}

#[tokio::test]
async fn w1_2_the_right_to_connect_is_taken_away_and_given_back() -> TestResult {
    let close = "REVOKE CONNECT ON DATABASE \"{db}\" FROM PUBLIC, {role}";
    closed_for_a_while("revoked", close, "GRANT CONNECT ON DATABASE \"{db}\" TO {role}").await
}

#[tokio::test]
async fn w1_2_a_role_that_may_not_log_in_for_a_while() -> TestResult {
    closed_for_a_while("nologin", "ALTER ROLE {role} NOLOGIN", "ALTER ROLE {role} LOGIN").await
}

#[tokio::test]
async fn w1_2_a_database_that_is_renamed_and_back() -> TestResult {
    let world = World::new("renamed", 2).await?;
    let worker = world.worker(Sink::<()>::default());
    world.produce(50).await?;
    world.verify().await?;
    let admin = Postgres::shared().await?.client().await?;
    let name = world.database.name().to_owned();
    // A database is renamed only while nobody is connected.
    let rename = async |from: &str, to: &str| {
        wait_until("the database is renamed", PATIENCE, async || {
            let shut = format!("ALTER DATABASE \"{from}\" ALLOW_CONNECTIONS false");
            let end = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = $1";
            let done = async {
                admin.batch_execute(&shut).await?;
                admin.execute(end, &[&from]).await?;
                admin.batch_execute(&format!("ALTER DATABASE \"{from}\" RENAME TO \"{to}\"")).await
            };
            Ok(done.await.ok())
        })
        .await
    };
    let away = format!("{name}_away");
    rename(&name, &away).await?;
    world.produce(50).await?;
    refused_for_a_while(&worker).await?;
    assert_eq!(halted_now(&worker), [] as [i32; 0], "{:#?}", worker.status());
    rename(&away, &name).await?;
    admin.batch_execute(&format!("ALTER DATABASE \"{name}\" ALLOW_CONNECTIONS true")).await?;
    world.verify().await?;
    assert_eq!(halted_now(&worker), [] as [i32; 0], "{:#?}", worker.status());
    worker.stop().await?;
    Ok(())
}
