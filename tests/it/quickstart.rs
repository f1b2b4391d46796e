//! The quick start and its check: what it says of a sound run, and that it sees a row gone and a row doubled.

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use highwater::testing::Child;

use crate::support::TestResult;

/// Built by `cargo test` beside this binary.
fn quickstart() -> PathBuf {
    let test = std::env::current_exe().expect("the test binary has a path");
    let profile = test.parent().and_then(|deps| deps.parent()).expect("target/<profile>/deps");
    let example = profile.join("examples/quickstart");
    assert!(example.exists(), "{} is missing: cargo build --example quickstart", example.display());
    example
}

#[tokio::test]
async fn a_row_deleted_and_one_doubled_are_seen_by_its_check() -> TestResult {
    let mut command = Command::new(quickstart());
    command.args(["--seconds", "5", "--rate", "500"]).env("HIGHWATER_TEST_QUICKSTART_SABOTAGE", "1");
    let story = Child::spawn("quickstart", &command)?;
    let status = story.wait(Duration::from_secs(180)).await?;
    let out = story.stdout();
    // First the honest check, then the same one after the sabotage.
    assert!(out.lines().any(|line| line == "missing 0, duplicates 0"), "{out}");
    assert!(out.contains("fenced: fenced_total of worker"), "the zombie was fenced: {out}");
    assert_eq!(out.lines().last(), Some("missing 1, duplicates 1"), "{out}");
    assert_eq!(status, 1);
    Ok(())
}
