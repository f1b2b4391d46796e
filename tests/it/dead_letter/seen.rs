//! Where dead letters show, and that rows and dead letters together are all records.

use super::Named;
use crate::operator::command::Said;
use crate::operator::shapes::{check, documented};
use crate::support::{Sink, TestResult, World};

impl World<'_> {
    async fn group_said(&self, verb: &[&str]) -> TestResult<Said> {
        Ok(self.highwater(&[verb, &["--group", &self.group]].concat()).await?)
    }

    async fn reconciled(&self) -> TestResult<Said> {
        self.group_said(&["reconcile", "--table", "sink", "--deep", "--every-record"]).await
    }
}

#[tokio::test]
async fn core_describe_status_and_reconcile_tell_of_them() -> TestResult {
    let world = World::new("seen", 2).await?;
    world.send_with_bad(0, 100, |n| n % 25 == 3)?;
    world.send_with_bad(1, 100, |n| n == 7)?;
    world.producer.flush().await?;
    let worker = world.worker_with(world.setting_aside(), Sink { fault: Named::default(), rows_only: true });
    world.caught_up().await?;
    world.assert_rows_and_letters("sink").await?;
    let reported = "SELECT count(*) FROM highwater.partition_status WHERE on_rejected = 'dead_letter'";
    highwater::testing::wait_until("its policy is reported", crate::support::PATIENCE, async || {
        Ok((world.number(reported).await? == 2).then_some(()))
    })
    .await?;

    let described = world.group_said(&["offsets", "describe"]).await?.ended(0).stdout;
    for (partition, letters) in
        [(0, "; dead letters: 4 open, since 20"), (1, "; dead letters: 1 open, since 20")]
    {
        let line = described.lines().nth(1 + partition).expect("its line");
        assert!(line.contains(letters) && line.ends_with("Z; the next one is set aside, too"), "{line}");
    }
    let described = world.group_said(&["offsets", "describe", "--json"]).await?.ended(0).json();
    check(&described, &documented("offsets describe"), "describe");
    let partition = &described[0]["partitions"][0];
    assert_eq!(
        (&partition["dead_letters"]["states"]["open"], &partition["on_rejected"]),
        (&4.into(), &"dead_letter".into())
    );

    let status = world.group_said(&["status"]).await?.ended(0).stdout;
    let line =
        status.lines().find(|line| line.trim_start().starts_with("dead ")).expect("a line of dead letters");
    assert!(line.contains("letters: 5 open, the oldest for "), "{line}");
    let places = format!(": {0}:0 4, {0}:1 1; on_rejected = dead_letter", world.topic);
    assert!(line.ends_with(&places), "{line}");
    let status = world.group_said(&["status", "--json"]).await?.ended(0).json();
    check(&status, &documented("status"), "status");
    assert_eq!(status[0]["dead_letters_in"][0]["waiting"], 4);

    // Rows and dead letters together are all records: nothing else is looked for, and nothing is there as both.
    world.reconciled().await?.ended(0);
    let row = format!("INSERT INTO sink VALUES ('{}', 0, 28)", world.topic);
    world.database.execute(&row).await?;
    let said = world.reconciled().await?.ended(1).stdout;
    assert!(said.contains("row_of_dead_letter") && said.contains("[0]@28"), "{said}");
    // By counts alone it is seen, too.
    let said = world.group_said(&["reconcile", "--table", "sink"]).await?.ended(1).stdout;
    assert!(said.contains("row_of_dead_letter"), "{said}");
    // Once it is redriven it must be there, and once.
    let state = |state: &str| {
        format!(
            "UPDATE highwater.dead_letter SET state = '{state}' WHERE partition = 0 AND record_offset = 28"
        )
    };
    world.database.execute(&state("redriven")).await?;
    world.reconciled().await?.ended(0);
    world.database.execute(&row).await?;
    let said = world.reconciled().await?.ended(1).stdout;
    assert!(said.contains("doubled_row") && said.contains("[0]@28"), "{said}");
    world.database.execute("DELETE FROM sink WHERE source_partition = 0 AND source_offset = 28").await?;
    let said = world.reconciled().await?.ended(1).stdout;
    assert!(said.contains("missing_row") && said.contains("[0]@28"), "{said}");
    // Parked and discarded ones want none.
    for waiting in ["parked", "discarded", "open"] {
        world.database.execute(&state(waiting)).await?;
        world.reconciled().await?.ended(0);
    }
    // A dead letter that is lost is a record that is lost.
    world.database.execute("DELETE FROM highwater.dead_letter WHERE partition = 1").await?;
    let said = world.reconciled().await?.ended(1).stdout;
    assert!(said.contains("missing_row") && said.contains("[1]@7"), "{said}");
    worker.stop().await?;
    Ok(())
}
