//! The shell blocks of the documentation, typed one after the other against a prepared group.
//!
//! Not by trycmd: a block needs two servers, a group that stands as the block before it has left it, and ids, times and
//! hosts that differ with every run; trycmd runs each file by itself. What is compared is all that is told but those: both
//! sides are reduced by [`reduced`]. `HIGHWATER_TEST_WRITE_PAGES=1` writes what was given into the page; where several
//! tests type a page, with `--test-threads=1`.

use std::path::Path;
use std::process::Stdio;
use std::sync::LazyLock;

use highwater::testing::{Result, wait_until};
use regex::Regex;
use tokio::process::Command;

use crate::support::{PATIENCE, World};

/// Names that the pages have instead of this run's.
const GROUP: &str = "fraud-rules-v2";
const TOPIC: &str = "payments.tx_events";
const ROLE: &str = "fraud_worker";
/// As somebody who is tired types it.
const MISTYPED: &str = "fraud-rules-V2";
/// The user's program: this very test binary, started again as a worker.
const PROGRAM: &str = "fraud-detector";

/// Types what a page says, in order: lines of `sh` blocks that call the command, which must succeed, and `console` blocks,
/// which must also answer as the page says.
pub(crate) async fn type_page(world: &World<'_>, name: &str) -> Result<()> {
    type_part(world, name, None).await
}

/// As [`type_page`], of the part under a heading alone.
pub(crate) async fn type_part(world: &World<'_>, name: &str, heading: Option<&str>) -> Result<()> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs").join(name);
    let page = std::fs::read_to_string(&path)?;
    let folder = tempfile::tempdir()?;
    install_program(world, folder.path())?;
    let hosts = world.database.query("SELECT DISTINCT host FROM highwater.worker_status", &[]).await?;
    let hosts: Vec<String> = hosts.iter().map(|row| row.get(0)).collect();
    let mut plan = String::new();
    let (mut written, mut fence, mut expected) = (String::new(), "", Vec::new());
    let mut typed: Option<(String, String)> = None;
    let mut count = 0;
    let mut is_meant = heading.is_none();
    for line in page.lines() {
        if let (Some(heading), Some(found)) = (heading, line.strip_prefix("## ")) {
            is_meant = found == heading;
        }
        if !is_meant {
            written += line;
            written.push('\n');
            continue;
        }
        let ends = line == "```" && !fence.is_empty();
        if fence == "console" && (ends || line.starts_with("$ ")) {
            if let Some((typed, answer)) = typed.take() {
                compare(&typed, &answer, &expected.join("\n"));
                written += &answer;
            }
            expected.clear();
        }
        match line {
            "```sh" | "```console" => fence = line.trim_start_matches('`'),
            "```" => fence = "",
            _ => {}
        }
        let command = match fence {
            "sh" if line.starts_with("highwater ") => Some(line),
            "console" => line.strip_prefix("$ "),
            _ => None,
        };
        if let Some(command) = command {
            let said = run(world, folder.path(), &real(world, command, &plan)).await?;
            count += 1;
            if heading.is_some() && ["partitions ", "--execute"].iter().any(|word| command.contains(word)) {
                settled(world).await?;
            }
            if let Some(rest) = said.1.lines().find_map(|line| line.strip_prefix("plan ")) {
                plan = rest.split(|c: char| !c.is_ascii_digit()).next().unwrap_or_default().to_owned();
            }
            if fence == "sh" {
                assert_eq!(said.0, 0, "{command}\n{}", said.1);
            } else {
                typed = Some((command.to_owned(), pretty(world, &hosts, &said.1)));
            }
            println!("$ {command}\n{}", said.1);
        }
        if fence == "console" && line != "```console" && !line.starts_with("$ ") {
            expected.push(line.to_owned());
        } else {
            written += line;
            written.push('\n');
        }
    }
    assert!(count > 0, "{name} has nothing to type");
    if std::env::var_os("HIGHWATER_TEST_WRITE_PAGES").is_some() {
        std::fs::write(&path, written)?;
    }
    Ok(())
}

/// As somebody who looks again a few seconds later would find it: the fleet, if there is one, has done what was ordered,
/// and caught up.
async fn settled(world: &World<'_>) -> Result<()> {
    let unsettled = format!(
        "SELECT count(*) FROM highwater.lag l JOIN highwater.health h USING (group_id, topic, partition) \
         WHERE l.group_id = '{}' AND (l.lag_records IS DISTINCT FROM 0 OR h.class NOT IN ('OK', 'DRAINING')) \
           AND (SELECT live_workers FROM highwater.scaling s WHERE s.group_id = l.group_id) > 0",
        world.group
    );
    wait_until(
        "it has caught up",
        PATIENCE,
        async || Ok((world.number(&unsettled).await? == 0).then_some(())),
    )
    .await
}

/// A script of the program's name: of what it says, the error with which it ends.
fn install_program(world: &World<'_>, folder: &Path) -> Result<()> {
    let script = format!(
        "#!/bin/sh\n\
         export HIGHWATER_TEST_WORKER=plain HIGHWATER_TOPICS={} HIGHWATER_PROGRAM=\"${{HIGHWATER_PROGRAM:-{PROGRAM}}}\"\n\
         said=$({} --exact support::process::worker_process --ignored --nocapture 2>&1); code=$?\n\
         printf '%s\\n' \"$said\" | grep -o 'error: .*'\n\
         exit $code\n",
        world.topic,
        std::env::current_exe()?.display(),
    );
    let path = folder.join(PROGRAM);
    std::fs::write(&path, script)?;
    std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o755))?;
    Ok(())
}

/// The group, with a slip in it.
fn mistyped(world: &World<'_>) -> String {
    world.group.replacen("-group", "-Group", 1)
}

/// Exit code, and what was said on both outputs.
async fn run(world: &World<'_>, folder: &Path, typed: &str) -> Result<(i32, String)> {
    let command = Path::new(env!("CARGO_BIN_EXE_highwater"));
    let own = command.parent().map(Path::to_path_buf);
    let path = std::env::join_paths(
        [folder.to_path_buf()].into_iter().chain(own).chain(std::env::split_paths("/usr/bin:/bin")),
    );
    let output = Command::new("sh")
        .args(["-c", &format!("exec 2>&1\n{typed}")])
        .current_dir(folder)
        .env_clear()
        .env("PATH", path.expect("paths without colons"))
        .env("USER", "ana")
        .env("HIGHWATER_POSTGRES_URL", world.database.url())
        .env("HIGHWATER_BROKERS", world.kafka.bootstrap())
        .stdin(Stdio::null())
        .output()
        .await?;
    Ok((output.status.code().unwrap_or(-1), String::from_utf8_lossy(&output.stdout).into_owned()))
}

fn real(world: &World<'_>, command: &str, plan: &str) -> String {
    let command = command
        .replace(MISTYPED, &mistyped(world))
        .replace(GROUP, &world.group)
        .replace(TOPIC, &world.topic)
        .replace(ROLE, &world.role.name);
    command.replace("apply 17", &format!("apply {plan}"))
}

/// With the page's names.
fn pretty(world: &World<'_>, hosts: &[String], text: &str) -> String {
    let mut text = text
        .replace(&mistyped(world), MISTYPED)
        .replace(&world.group, GROUP)
        .replace(&world.topic, TOPIC)
        .replace(&world.role.name, ROLE);
    for host in hosts {
        text = text.replace(host.as_str(), "worker-1");
    }
    realigned(&text.replace(world.kafka.bootstrap(), "kafka-1:9092"))
}

/// Tables whose columns are as wide as the page's names.
fn realigned(text: &str) -> String {
    let cells = |line: &str| -> Vec<String> {
        line.split("  ").map(str::trim).filter(|cell| !cell.is_empty()).map(str::to_owned).collect()
    };
    let is_header = |line: &str| {
        let is_name = |cell: &String| cell.chars().all(|c| c.is_ascii_uppercase() || "-+1".contains(c));
        cells(line).len() > 1 && cells(line).iter().all(is_name)
    };
    let lines: Vec<&str> = text.lines().collect();
    let mut out = String::new();
    let mut at = 0;
    while at < lines.len() {
        let columns = cells(lines[at]).len();
        // Only rows that have a cell in each column can be told apart.
        let rows = match is_header(lines[at]) {
            true => 1 + lines[at + 1..].iter().take_while(|line| cells(line).len() == columns).count(),
            false => 1,
        };
        let table: Vec<Vec<String>> = lines[at..at + rows].iter().map(|line| cells(line)).collect();
        if rows == 1 {
            out += lines[at];
            out.push('\n');
        } else {
            let width =
                |column: usize| table.iter().map(|row| row[column].chars().count()).max().unwrap_or_default();
            for row in &table {
                let padded = row.iter().zip(0..).map(|(cell, column)| format!("{cell:<0$}  ", width(column)));
                out += padded.collect::<String>().trim_end();
                out.push('\n');
            }
        }
        at += rows;
    }
    out
}

#[track_caller]
fn compare(typed: &str, answer: &str, expected: &str) {
    if std::env::var_os("HIGHWATER_TEST_WRITE_PAGES").is_some() {
        return;
    }
    assert_eq!(
        reduced(answer),
        reduced(expected),
        "the page says of `{typed}`\n{expected}\nand it says\n{answer}"
    );
}

/// Without what differs from run to run: ids, times, how long something took, sizes, the widths of columns.
fn reduced(text: &str) -> String {
    static PATTERNS: LazyLock<Vec<(Regex, &str)>> = LazyLock::new(|| {
        [
            (r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}", "ID"),
            (r"[0-9]{4}-[0-9][0-9]-[0-9][0-9]T[0-9][0-9]:[0-9][0-9]:[0-9][0-9](\.[0-9]+)?Z", "TIME"),
            (r"process [0-9]+", "process NUMBER"),
            (r"[0-9]+(\.[0-9]+)? (s|min|h|days|KiB|bytes)(?-u:\b)", "MUCH"),
            (r"(?-u:\b)[0-9]+\.[0-9]+(?-u:\b)", "NUMBER"),
            (r"(plan|apply) [0-9]+", "$1 PLAN"),
            (r"host [^ ]+, process [0-9]+", "PROCESS"),
            (r" +", " "),
            // How old the next record is, how often a partition was claimed, how far its copy in Kafka has come.
            (r"(NUMBER|-) (ID|-) (worker-1|-) [0-9]+ NUMBER ([0-9]+|-) ", "AGE $2 $3 EPOCH NUMBER MIRRORED "),
            // On a busy machine a worker may answer later than the command waits.
            (r"warning: no worker has taken note of it.*\n", ""),
            (r"(?m)(TIME ID|- -)$", "OBEYED"),
        ]
        .map(|(pattern, with)| (Regex::new(pattern).expect("a pattern"), with))
        .into()
    });
    let text = PATTERNS
        .iter()
        .fold(text.to_owned(), |text, (pattern, with)| pattern.replace_all(&text, *with).into_owned());
    text.lines().map(str::trim_end).collect::<Vec<_>>().join("\n").trim_end().to_owned()
}
