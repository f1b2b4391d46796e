//! What the handler is given is the record as it was, and what it says of one letter is of that one alone.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::SystemTime;

use highwater::{Batch, Handler, HandlerError, Tx};

use crate::support::{TestResult, World};

/// Writes all that it is given, once it may; rejects what is worth nothing in any case, without failing the batch.
struct Witness(Arc<AtomicBool>);

impl Handler for Witness {
    async fn handle(&self, batch: &Batch, tx: &mut Tx) -> Result<(), HandlerError> {
        for record in batch {
            if !self.0.load(Ordering::SeqCst) || record.value() == Some(&b"nothing"[..]) {
                tx.reject(&record, "not yet, or never")?;
                continue;
            }
            let (names, values): (Vec<&str>, Vec<Option<&[u8]>>) = record.headers().unzip();
            tx.execute(
                "INSERT INTO witnessed VALUES ($1, $2, $3, $4, $5, $6)",
                &[&record.offset(), &record.key(), &record.value(), &names, &values, &record.timestamp_ms()],
            )
            .await?;
        }
        Ok(())
    }
}

#[tokio::test]
async fn core_the_record_is_whole_and_its_neighbours_are_not_to_blame() -> TestResult {
    let world = World::new("redrive-whole", 1).await?;
    let table = "CREATE TABLE witnessed (record_offset int8, key bytea, value bytea, names text[], headers bytea[], ms int8)";
    world.database.execute(table).await?;
    world.database.execute(&format!("GRANT INSERT ON witnessed TO {}", world.role.name)).await?;
    let bytes: Vec<u8> = (0..=255).collect();
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?;
    let ms = i64::try_from(now.as_millis())? - 5_000;
    let message = || world.message(0).timestamp_ms(ms);
    world
        .producer
        .send(message().key(bytes.clone()).value(bytes.clone()).header("h", bytes.clone()).header("h", ""))?;
    world.producer.send(message().value("nothing"))?;
    world.producer.send(message().key(""))?;
    world.producer.send(message().value(vec![b'x'; 900_000]))?;
    world.producer.flush().await?;
    let mended = Arc::new(AtomicBool::new(false));
    let worker = world.worker_with(world.setting_aside(), Witness(Arc::clone(&mended)));
    world.caught_up().await?;
    assert_eq!(world.letters().await?.len(), 4);
    mended.store(true, Ordering::SeqCst);
    // Nobody has said which tables it writes.
    let dry = world.dead_letters("redrive", &["--dry-run"]).await?.ended(0).stdout;
    assert!(dry.contains("does not say which tables it writes"), "{dry}");
    // A content that is gone is said to be, and stays out of it.
    world
        .database
        .execute(
            "DELETE FROM highwater.dead_letter_payload p USING highwater.dead_letter d \
        WHERE d.dead_letter_id = p.dead_letter_id AND d.record_offset = 2",
        )
        .await?;
    let dry = world.dead_letters("redrive", &["--dry-run", "--ignore-order"]).await?.ended(0).stdout;
    assert!(dry.contains("1 record: their content is not kept"), "{dry}");

    let said = world.redrive(&["--wait", "--json"]).await?.ended(1).json();
    let ended = &said["redrives"][0];
    assert_eq!(
        (&ended["state"], &ended["redriven"], &ended["failed"]),
        (&"done".into(), &2.into(), &1.into())
    );
    let rows = world.database.query("SELECT * FROM witnessed ORDER BY record_offset", &[]).await?;
    assert_eq!(rows.len(), 2);
    let first = &rows[0];
    assert_eq!(first.get::<_, Option<Vec<u8>>>(1).as_ref(), Some(&bytes));
    assert_eq!(first.get::<_, Option<Vec<u8>>>(2).as_ref(), Some(&bytes));
    assert_eq!(first.get::<_, Vec<String>>(3), ["h", "h"]);
    assert_eq!(first.get::<_, Vec<Option<Vec<u8>>>>(4), [Some(bytes), Some(Vec::new())]);
    assert_eq!(first.get::<_, i64>(5), ms);
    assert_eq!(rows[1].get::<_, Option<Vec<u8>>>(1), None);
    assert_eq!(rows[1].get::<_, Vec<u8>>(2).len(), 900_000);
    let again = "SELECT attempts::int8 FROM highwater.dead_letter WHERE record_offset = 1 AND state = 'open'";
    assert_eq!(world.number(again).await?, 2);
    worker.stop().await?;
    Ok(())
}

/// One that rejects everything, one by one.
pub(super) fn never() -> impl Handler {
    Witness(Arc::default())
}
