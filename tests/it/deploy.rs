//! What is in `deploy/` for Prometheus and Grafana: rules that fire as they should, names that exist, links that lead
//! somewhere.

pub(crate) mod scraped;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use regex::Regex;
use serde_json::Value;

use crate::support::TestResult;
use crate::support::needs::{runs, skipped_without};

/// Where the runbook is, in the rules; for a reader to replace.
const RUNBOOK: &str = "https://highwater.example/docs/operations.md#";

fn root(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

fn rules() -> TestResult<String> {
    Ok(std::fs::read_to_string(root("deploy/prometheus/highwater.rules.yml"))?)
}

fn board() -> TestResult<Value> {
    Ok(serde_json::from_slice(&std::fs::read(root("deploy/grafana/highwater.json"))?)?)
}

/// All that a regular expression finds.
fn found(pattern: &str, text: &str) -> TestResult<BTreeSet<String>> {
    let pattern = Regex::new(pattern)?;
    Ok(pattern.captures_iter(text).map(|found| found[1].to_owned()).collect())
}

fn promtool(arguments: &[&str]) -> TestResult {
    let output =
        Command::new("promtool").args(arguments).current_dir(root("deploy/prometheus/tests")).output()?;
    let text =
        format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    if output.status.success() { Ok(()) } else { Err(format!("promtool {arguments:?}:\n{text}").into()) }
}

/// Staged incidents as series: each fires its alert and no other.
#[test]
fn the_rules_fire_as_their_tests_say() -> TestResult {
    if skipped_without("promtool", runs("promtool", &["--version"])) {
        return Ok(());
    }
    promtool(&["check", "rules", "../highwater.rules.yml"])?;
    promtool(&["test", "rules", "incidents.yml", "alerts.yml", "hidden.yml"])
}

/// Pages as `/metrics` has them, in place of series that somebody has written down.
#[test]
fn scraped_pages_fire_what_they_should() -> TestResult {
    if skipped_without("promtool", runs("promtool", &["--version"])) {
        return Ok(());
    }
    let exporter = |class: &str, severity: u8| {
        format!(
            "# TYPE highwater_health gauge\n\
             highwater_health{{group=\"fraud\",topic=\"it's\",partition=\"0\",class=\"{class}\"}} {severity}\n\
             highwater_drain_seconds{{group=\"fraud\",topic=\"it's\"}} +Inf\n\
             highwater_exporter_up 1\n"
        )
    };
    let mut scraped = scraped::Scraped::default();
    for since in [0, 15, 30, 45] {
        let late = format!("highwater_since_commit_seconds{{group=\"fraud\",worker=\"pod-0\"}} {since}\n");
        scraped.add(&[("exporter", &(exporter("OK", 0) + &late))]);
    }
    scraped.fires(&["HighwaterNoCommit"])?;
    scraped.add(&[("exporter", &exporter("HALTED", 4))]);
    scraped.hold(8);
    scraped.fires(&["HighwaterHalted"])?;
    assert!(scraped.fires(&["HighwaterStall"]).is_err() && scraped.fires(&[]).is_err(), "it can fail");
    Ok(())
}

#[test]
fn each_alert_is_told_well_tested_and_has_its_section() -> TestResult {
    let rules = rules()?;
    let page = std::fs::read_to_string(root("docs/operations.md"))?;
    let sections: BTreeSet<String> =
        page.lines().filter_map(|line| line.strip_prefix("### ")).map(str::to_lowercase).collect();
    let tests =
        ["incidents.yml", "alerts.yml", "hidden.yml"].map(|name| root("deploy/prometheus/tests").join(name));
    let tests = tests.into_iter().map(std::fs::read_to_string).collect::<Result<String, _>>()?;
    let mut alerts = BTreeSet::new();
    let severity = Regex::new("severity: (critical|warning)")?;
    for alert in rules.split("- alert: ").skip(1) {
        let alert = alert.split("\n      - ").next().unwrap_or(alert);
        let name = alert.lines().next().expect("it has a name").trim();
        assert!(severity.is_match(alert), "{name}: no severity");
        // The second of two of one name has the texts of the first.
        if !alert.contains("annotations: *") {
            for text in ["summary: ", "description: "] {
                assert!(alert.contains(text), "{name}: no {text}");
            }
            let link = format!("runbook_url: {RUNBOOK}{}\n", name.to_lowercase());
            assert!(alert.contains(&link), "{name}: {link}");
        }
        assert!(sections.contains(&name.to_lowercase()), "docs/operations.md has no section {name}");
        assert!(tests.contains(name), "{name} has no test");
        alerts.insert(name.to_owned());
    }
    assert_eq!(alerts.len(), 25, "{alerts:?}");
    Ok(())
}

/// Whatever rules, their tests and the board read is recorded by the rules, or documented.
#[test]
fn every_name_is_one_that_exists() -> TestResult {
    let rules = rules()?;
    let board = board()?;
    let pages = ["docs/metrics.md", "docs/exporter.md"].map(|page| std::fs::read_to_string(root(page)));
    let metrics = pages.into_iter().collect::<Result<String, _>>()?;
    let documented = found(r"`(highwater_[a-z0-9_]+)[`{]", &metrics)?;
    let recorded = found(r"- record: (highwater:[a-z0-9_:]+)", &rules)?;
    let mut texts = vec![rules];
    let targets =
        board["panels"].as_array().into_iter().flatten().flat_map(|panel| panel["targets"].as_array());
    texts.extend(targets.flatten().filter_map(|target| target["expr"].as_str()).map(str::to_owned));
    texts.push(board["templating"].to_string());
    for text in texts {
        for name in found(r"\b(highwater_[a-z0-9_]+)", &text)? {
            let base =
                ["_bucket", "_sum", "_count"].iter().find_map(|end| name.strip_suffix(end)).unwrap_or(&name);
            let is_documented = documented.contains(&name) || documented.contains(base);
            assert!(is_documented, "neither docs/metrics.md nor docs/exporter.md has {name}");
        }
        // The override is for users to record.
        for name in found(r"\b(highwater:[a-z0-9_:]+)", &text)? {
            assert!(recorded.contains(&name) || name.ends_with(":override"), "no rule records {name}");
        }
    }
    Ok(())
}

#[test]
fn the_board_has_its_panels_and_asks_the_chosen_source() -> TestResult {
    let board = board()?;
    let panels = board["panels"].as_array().expect("panels");
    for (kind, title) in [
        ("table", "Groups"),
        ("status-history", "1. Lag per partition"),
        ("timeseries", "2. Lag and its rates"),
        ("timeseries", "3. Time since the last commit"),
    ] {
        assert!(panels.iter().any(|panel| panel["type"] == kind && panel["title"] == title), "{title}");
    }
    for panel in panels {
        assert!(panel["description"].as_str().is_some_and(|text| !text.is_empty()), "{}", panel["title"]);
        for target in panel["targets"].as_array().expect("targets") {
            assert_eq!(target["datasource"]["uid"], "${datasource}", "{}", panel["title"]);
        }
    }
    let variables: Vec<_> =
        board["templating"]["list"].as_array().into_iter().flatten().map(|v| &v["name"]).collect();
    assert_eq!(variables, ["datasource", "group", "topic"]);
    assert_eq!(board["time"]["from"], "now-30m");
    Ok(())
}
