//! The quick start: its story in small, and the proof that its check can fail.

use std::process::Command;
use std::time::Duration;

use highwater::testing::Child;

use crate::support::{TestResult, example};

/// For servers, a kill, a zombie and the check on a busy machine.
const PATIENCE: Duration = Duration::from_secs(300);

/// One run for both: the check passes, one row is deleted and another doubled, and the same check must find just that.
#[tokio::test]
async fn a_row_deleted_and_one_doubled_are_seen_by_its_check() -> TestResult {
    let mut command = Command::new(example("quickstart"));
    command.args(["--rate", "1000"]);
    command.env("HIGHWATER_TEST_QUICKSTART_SECONDS", "5").env("HIGHWATER_TEST_QUICKSTART_SABOTAGE", "1");
    let quickstart = Child::spawn("quickstart", &command)?;
    let status = quickstart.wait(PATIENCE).await?;
    let output = quickstart.stdout();
    let lines: Vec<&str> = output.lines().collect();

    let honest = lines.iter().position(|line| *line == "missing 0, duplicates 0");
    let sabotaged = lines.iter().position(|line| line.starts_with("sabotage:"));
    assert!(honest.is_some() && honest < sabotaged, "the run itself is exact:\n{quickstart}");
    assert!(output.contains("… fenced: fenced_total of worker 3"), "the zombie was fenced:\n{quickstart}");
    assert!(!lines[..sabotaged.unwrap_or(0)].iter().any(|line| line.contains("WRONG")), "{quickstart}");

    assert_eq!(lines.last(), Some(&"missing 1, duplicates 1"), "{quickstart}");
    assert_eq!(status, 1, "{quickstart}");
    Ok(())
}

#[tokio::test]
async fn an_unknown_argument_is_refused() -> TestResult {
    let mut command = Command::new(example("quickstart"));
    command.arg("--second");
    let quickstart = Child::spawn("quickstart", &command)?;
    assert_eq!(quickstart.wait(PATIENCE).await?, 2);
    assert!(quickstart.lines()[0].text.contains("unknown argument \"--second\""), "{quickstart}");
    Ok(())
}
