//! Every class of the judge's table once, with records set aside: only what is a record's fault becomes a dead letter.

use std::collections::{BTreeMap, BTreeSet};

use highwater::config::OnRejected;
use highwater::testing::wait_until;
use highwater::{Batch, Handler, HandlerError, PartitionState, Tx};

use crate::support::{PATIENCE, TestResult, World};

/// Of the class *reject*, and what is narrowed and is the data's.
const STORED: [&str; 7] = ["22003", "23502", "23503", "23505", "44000", "54000", "54001"];
/// The handler's, the configuration's, a session's or a time-out's: nobody knows that it is the record.
const HALT: [&str; 7] = ["0A000", "21000", "2D000", "42P01", "42601", "42501", "57014"];
/// The surroundings': waited for.
const WAIT: [&str; 6] = ["40001", "40P01", "53100", "53300", "55P03", "57P03"];

/// Has the server say what a record's value asks for, if that is a code.
struct Coded;

impl Handler for Coded {
    async fn handle(&self, batch: &Batch, tx: &mut Tx) -> Result<(), HandlerError> {
        for record in batch {
            let code = record.value().and_then(|value| std::str::from_utf8(value).ok()).unwrap_or_default();
            if code != "good" {
                tx.execute("SELECT say($1)", &[&code]).await?;
            }
            let row: [&(dyn tokio_postgres::types::ToSql + Sync); 3] =
                [&record.topic(), &record.partition(), &record.offset()];
            tx.execute("INSERT INTO sink VALUES ($1, $2, $3)", &row).await?;
        }
        Ok(())
    }
}

#[tokio::test]
async fn core_of_every_class_only_a_records_fault_is_stored() -> TestResult {
    let codes: Vec<&str> = STORED.into_iter().chain(HALT).chain(WAIT).collect();
    let partitions = i32::try_from(codes.len())?;
    let world = World::new("classes", partitions).await?;
    world
        .database
        .execute(
            "CREATE FUNCTION say(code text) RETURNS void LANGUAGE plpgsql AS $$ BEGIN \
               RAISE EXCEPTION 'as was asked for' USING ERRCODE = code, CONSTRAINT = 'asked_for'; END $$",
        )
        .await?;
    for (partition, code) in (0..).zip(&codes) {
        for n in 0..10 {
            let value = if n == 4 { *code } else { "good" };
            world.producer.send(world.message(partition).key(format!("k{n}")).value(value))?;
        }
    }
    world.producer.flush().await?;
    let settings = world
        .settings()
        .on_rejected(OnRejected::ParkKey)
        .retry_backoff_max(std::time::Duration::from_millis(300));
    let worker = world.worker_with(settings, Coded);
    let of = |wanted: &[&str]| -> BTreeSet<i32> {
        (0..).zip(&codes).filter(|(_, code)| wanted.contains(code)).map(|(partition, _)| partition).collect()
    };
    let (stored, halting, waiting) = (of(&STORED), of(&HALT), of(&WAIT));
    wait_until("every partition has come to its end", PATIENCE, async || {
        let states: BTreeMap<i32, PartitionState> =
            worker.status().partitions.iter().map(|status| (status.partition, status.state)).collect();
        let halted: BTreeSet<i32> = states
            .iter()
            .filter(|(_, state)| **state == PartitionState::Halted)
            .map(|(partition, _)| *partition)
            .collect();
        let applied =
            world.database.query("SELECT partition, next_offset FROM highwater.consumer_offset", &[]).await?;
        let at: BTreeMap<i32, i64> = applied.iter().map(|row| (row.get(0), row.get(1))).collect();
        let through = stored.iter().all(|partition| at.get(partition) == Some(&10));
        let stuck = waiting.iter().all(|partition| at.get(partition) == Some(&4));
        Ok((halted == halting && through && stuck).then_some(()))
    })
    .await?;
    // As often as what is narrowed, and more.
    let retried = worker.status().counters.retries;
    wait_until("those that wait have been tried again and again", PATIENCE, async || {
        Ok((worker.status().counters.retries > retried + 60).then_some(()))
    })
    .await?;
    let letters = world.letters().await?;
    assert_eq!(letters, stored.iter().map(|partition| (*partition, 4)).collect());
    worker.stop().await?;
    Ok(())
}
