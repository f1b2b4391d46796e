//! On a terminal it asks, where a script must say.

use std::process::Stdio;

use tokio::process::Command;

use crate::support::needs::{runs, skipped_without};
use crate::support::{Sink, TestResult, World};

#[tokio::test]
async fn on_a_terminal_it_shows_the_moves_and_asks() -> TestResult {
    if skipped_without("script", runs("script", &["--version"])) {
        return Ok(());
    }
    let world = World::new("terminal", 1).await?;
    world.produce(20).await?;
    let worker = world.worker(Sink::<()>::default());
    world.verify().await?;
    worker.stop().await?;
    for (answer, stands) in [("", 20), ("n", 20), ("yes", 15)] {
        // A terminal of its own, on which somebody types after a while.
        let typed = format!(
            "{} offsets reset --group {} --all-topics --shift-by -5 --reason asked",
            env!("CARGO_BIN_EXE_highwater"),
            world.group
        );
        let shell = format!("(sleep 3; echo '{answer}'; sleep 3) | script -qec '{typed}' /dev/null");
        let output = Command::new("sh")
            .args(["-c", &shell])
            .env("HIGHWATER_POSTGRES_URL", world.database.url())
            .env("HIGHWATER_BROKERS", world.kafka.bootstrap())
            .env("USER", "ana")
            .stdin(Stdio::null())
            .output()
            .await?;
        let shown = String::from_utf8_lossy(&output.stdout);
        assert!(shown.contains("NEW-OFFSET") && shown.contains("Move them? [y/N]"), "{shown}");
        assert_eq!(shown.contains("nothing was moved"), stands == 20, "{shown}");
        assert_eq!(world.next_offset(0).await?, Some(stands), "{answer:?}: {shown}");
    }
    let worker = world.worker(Sink::<()>::default());
    world.verify_with_moves().await?;
    worker.stop().await?;
    Ok(())
}
