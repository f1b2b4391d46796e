//! What `docs/operations.md` tells an operator to type, typed.

mod active;
pub(crate) mod command;
mod doctor;
mod documented;
mod forms;
mod groups;
mod live;
mod manners;
mod moves;
mod pace;
mod pages;
mod partitions;
mod plans;
mod pruning;
mod reconcile;
mod releases;
mod report;
mod role;
mod runbook;
pub(crate) mod shapes;
mod status;
mod tail;
mod terminal;
mod undo;

use highwater::tokio_postgres::error::SqlState;

use crate::support::{Sink, TestResult, World};

/// The SQL between the page's marks.
fn sql(name: &str) -> &'static str {
    let page = include_str!("../../docs/operations.md");
    let block = page.split(&format!("<!-- {name}: begin -->")).nth(1).expect("the begin mark");
    block.split("```sql").nth(1).expect("a fence").split("```").next().expect("its end")
}

/// With psql's variables filled in.
fn block(world: &World<'_>, name: &str, to: i64, undo: &str) -> String {
    let block = sql(name);
    let hole = block.lines().find(|line| line.starts_with("-- …")).expect("the place for the undo");
    block
        .replace(hole, undo)
        .replace(":'group'", &format!("'{}'", world.group))
        .replace(":'topic'", &format!("'{}'", world.topic))
        .replace(":'reason'", "'a test'")
        .replace(":to", &to.to_string())
}

pub(crate) fn reset(world: &World<'_>, partition: i32, to: i64, undo: &str) -> String {
    block(world, "reset", to, undo).replace(":partition", &partition.to_string())
}

/// The way out when a topic was created anew, or moved to another cluster.
pub(crate) fn accept_topic(
    world: &World<'_>,
    cluster_id: &str,
    topic_id: &str,
    to: i64,
    undo: &str,
) -> String {
    let block = block(world, "accept-topic", to, undo);
    block
        .replace(":'cluster_id'", &format!("'{cluster_id}'"))
        .replace(":'topic_id'", &format!("'{topic_id}'"))
}

#[tokio::test]
async fn an_offset_is_moved_under_a_running_worker_and_its_rows_undone_with_it() -> TestResult {
    let world = World::new("reset", 3).await?;
    world.produce(300).await?;
    let worker = world.worker(Sink::<()>::default());
    world.verify().await?;

    // Back to 100, and the rows from there on are taken out; the balances with them.
    let undo = "DELETE FROM sink WHERE source_partition = 1 AND source_offset >= 100;
        UPDATE balances b SET balance = b.balance - u.amount, payments = b.payments - u.payments
        FROM undo u WHERE u.account = b.account;";
    world.database.execute("CREATE TABLE undo (account text, amount bigint, payments bigint)").await?;
    let client = world.database.client().await?;
    for record in world.kafka.read(&world.topic).await? {
        if record.partition == 1 && record.offset >= 100 {
            let (account, amount) =
                crate::support::sink::read(record.key.as_deref(), record.value.as_deref());
            client.execute("INSERT INTO undo VALUES ($1, $2, 1)", &[&account, &amount]).await?;
        }
    }
    client
        .batch_execute(
            "CREATE TABLE undone AS SELECT account, sum(amount) AS amount, sum(payments) AS payments FROM undo GROUP BY 1;
             DROP TABLE undo; ALTER TABLE undone RENAME TO undo",
        )
        .await?;
    // Under load, so that a batch of the old claim is likely in flight.
    world.produce(50).await?;
    // A batch in flight writes its rows first and the offset's row last: one of the two may be ended as a deadlock's victim.
    // The worker tries again, and so does a person.
    while let Err(error) = client.batch_execute(&reset(&world, 1, 100, undo)).await {
        assert_eq!(error.code(), Some(&SqlState::T_R_DEADLOCK_DETECTED), "{error:?}");
        client.batch_execute("ROLLBACK").await?;
    }
    world.produce(50).await?;
    // The batch of new records that was applied before the reset was not in the undo list: compare after it.
    world.caught_up().await?;
    let kept =
        world.number("SELECT count(*) FROM sink WHERE source_partition = 1 AND source_offset < 100").await?;
    assert_eq!(kept, 100);
    world.assert_exact(false).await?;

    let events = world
        .database
        .query("SELECT from_offset, to_offset, reason FROM highwater.offset_event WHERE kind = 'reset'", &[])
        .await?;
    assert_eq!(events.len(), 1);
    assert!(events[0].get::<_, i64>(0) >= 300);
    assert_eq!((events[0].get::<_, i64>(1), events[0].get::<_, &str>(2)), (100, "a test"));
    worker.stop().await?;
    Ok(())
}

#[tokio::test]
async fn a_quiet_worker_notices_a_reset_and_the_balances_come_out_right() -> TestResult {
    let world = World::new("quiet-reset", 1).await?;
    world.produce(200).await?;
    let worker = world.worker(Sink::<()>::default());
    world.verify().await?;
    // Everything is undone; the heartbeat alone can tell the idle worker.
    let undo = "DELETE FROM sink; DELETE FROM balances;";
    world.database.execute(&reset(&world, 0, 0, undo)).await?;
    world.caught_up().await?;
    world.assert_exact(true).await?;
    assert_eq!(worker.status().counters.fenced, 0, "an operator's reset is no zombie");
    worker.stop().await?;
    Ok(())
}

#[tokio::test]
async fn sessions_are_found_by_group_and_instance() -> TestResult {
    let world = World::new("sessions", 1).await?;
    let instance = Some("pod-0".to_owned());
    let worker = world.worker_with(world.settings().instance_id(instance), Sink::<()>::default());
    world.produce(10).await?;
    world.verify().await?;
    let found = world.database.query(sql("sessions"), &[]).await?;
    let ours = found.iter().filter(|row| row.get::<_, &str>(0) == world.group);
    let instances: Vec<Option<&str>> = ours.map(|row| row.get(1)).collect();
    assert!(instances.len() > 1 && instances.iter().all(|found| *found == Some("pod-0")), "{instances:?}");
    worker.stop().await?;
    Ok(())
}
