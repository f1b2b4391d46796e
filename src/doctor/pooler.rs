//! Whether something between here and the server deals sessions out per transaction: see `db/pooler.rs`, which a worker
//! asks at its start.

use tokio_postgres::{Client, SimpleQueryMessage};

use super::{APPLICATION_NAME, Finding, Patient, unread};

const CHECK: &str = "pooler";
/// In simple queries, for these work behind any pooler.
const PASSES: usize = 3;

/// … and whether it makes sense to ask anything else.
pub(super) async fn check(patient: &Patient<'_>) -> (Vec<Finding>, bool) {
    let database = &patient.config.operator.database;
    let connect = || database.connect(APPLICATION_NAME);
    let (Ok(a), Ok(b), Ok(c)) = tokio::join!(connect(), connect(), connect()) else {
        let finding = Finding::unknown(CHECK, "three more sessions could not be had");
        return (vec![finding.cure("see max_connections, and the limits of role and database")], true);
    };
    let (finding, usable) = match look(&a, &b, &c).await {
        Err(error) => (unread(CHECK, &error), true),
        Ok((true, _)) => {
            let finding =
                Finding::fail(CHECK, "sessions share backends: a pooler in transaction or statement mode");
            let cure = "use its session mode, or connect to the server itself: workers refuse this (exit code 2), and nothing \
                        else can be asked of the database here";
            (finding.cure(cure), false)
        }
        Ok((false, Some(name))) => {
            let text = format!("the server sees application_name {name:?} instead of {APPLICATION_NAME:?}");
            let cure = "have it passed on as it is: by it a successor finds the backend of a frozen worker";
            (Finding::fail(CHECK, text).cure(cure), true)
        }
        Ok((false, None)) => {
            (Finding::ok(CHECK, "each session has a backend of its own, under its own name"), true)
        }
    };
    (vec![finding], usable)
}

/// Whether backends are shared, and the name that the server sees, if it is another.
async fn look(a: &Client, b: &Client, c: &Client) -> Result<(bool, Option<String>), tokio_postgres::Error> {
    let mut shared = false;
    for _ in 0..PASSES {
        let first = backend(a, "").await?;
        let others = [backend(b, "BEGIN;").await?, backend(c, "BEGIN;").await?];
        let again = backend(a, "").await?;
        b.batch_execute("ROLLBACK").await?;
        c.batch_execute("ROLLBACK").await?;
        shared |= others.contains(&first) || others[0] == others[1] || again != first;
    }
    let ours =
        "SELECT application_name FROM pg_catalog.pg_stat_activity WHERE pid = pg_catalog.pg_backend_pid()";
    let seen = value(a, ours).await?.unwrap_or_default();
    Ok((shared, (!seen.starts_with(APPLICATION_NAME)).then_some(seen)))
}

async fn backend(client: &Client, before: &str) -> Result<Option<String>, tokio_postgres::Error> {
    value(client, &format!("{before}SELECT pg_catalog.pg_backend_pid()")).await
}

async fn value(client: &Client, sql: &str) -> Result<Option<String>, tokio_postgres::Error> {
    let answer = client.simple_query(sql).await?;
    Ok(answer.iter().find_map(|message| match message {
        SimpleQueryMessage::Row(row) => row.get(0).map(str::to_owned),
        _ => None,
    }))
}
