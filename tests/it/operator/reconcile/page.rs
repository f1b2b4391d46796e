//! What docs/reconcile.md says is typed, and printed.

use std::collections::BTreeSet;

use serde_json::Value;

use super::STRICT;
use crate::support::{PATIENCE, TestResult, World};

/// The names between backticks in a row of the page's table of shapes, or in its last sentence.
fn documented(part: &str) -> BTreeSet<&'static str> {
    let page = include_str!("../../../../docs/reconcile.md");
    let row = page.lines().find(|line| line.starts_with(&format!("| `{part}` | "))).expect("the part's row");
    let words = row.split('`').skip(3).step_by(2).flat_map(|words| words.split(','));
    words.map(str::trim).collect()
}

fn keys(value: &Value) -> BTreeSet<&str> {
    value.as_object().expect("an object").keys().map(String::as_str).collect()
}

#[tokio::test]
async fn the_page_says_what_is_typed_and_what_is_printed() -> TestResult {
    let world = World::new("proof-page", 2).await?;
    world.produce(4_300).await?;
    world.apply_all().await?;
    world.produce(3).await?;
    let page = include_str!("../../../../docs/reconcile.md");
    let blocks = page.split("```sh\n").skip(1).filter_map(|rest| rest.split("```").next());
    let lines: Vec<&str> = blocks.flat_map(str::lines).collect();
    assert!(lines.len() > 8, "{lines:?}");
    for line in lines {
        let typed = line
            .replace("fraud-rules-v2", &world.group)
            .replace("payments.tx_events", &world.topic)
            .replace("fraud_scores", "sink");
        let words = typed.strip_prefix("highwater ").expect("the command");
        let shell = format!("{} {words}", env!("CARGO_BIN_EXE_highwater"));
        let mut command = tokio::process::Command::new("sh");
        command
            .args(["-c", &shell])
            .env("HIGHWATER_POSTGRES_URL", world.database.url())
            .env("HIGHWATER_BROKERS", world.kafka.bootstrap())
            .stdin(std::process::Stdio::null())
            .kill_on_drop(true);
        let output = tokio::time::timeout(PATIENCE, command.output()).await??;
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        println!("$ {typed}\n{said}");
        assert!(
            output.status.success() && !said.is_empty(),
            "{typed}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
    }

    world.database.execute("DELETE FROM sink WHERE source_partition = 0 AND source_offset = 5").await?;
    let json = world.reconcile(&[STRICT, &["--json"]].concat()).await?.ended(1).json();
    let found = &json[0];
    assert_eq!(keys(found), documented("reconcile"));
    assert_eq!(keys(&found["tables"][0]), documented("tables"));
    let partition = &found["partitions"][0];
    assert_eq!(keys(partition), documented("partitions"));
    assert_eq!(keys(&partition["rows"][0]), documented("rows"));
    assert_eq!(keys(&partition["ledger"][1]), documented("ledger"));
    assert_eq!(keys(&found["differences"][0]), documented("differences"));
    assert_eq!((&partition["rows"][0]["records"], &partition["records"]), (&4_299.into(), &4_300.into()));
    for kind in found["difference_counts"].as_object().expect("an object").keys() {
        assert!(page.contains(&format!("`{kind}`")), "{kind} is documented");
    }
    Ok(())
}
