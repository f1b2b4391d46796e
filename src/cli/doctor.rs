//! `highwater doctor`.

use std::time::Duration;

use clap::Args;
use highwater::Result;
use highwater::doctor::{DoctorOptions, Finding, Severity, examine};

use super::found;
use super::operator::{OperatorArguments, json};
use super::table::Table;

const AFTER_HELP: &str = "\
It looks at brokers, topics, what this client may do (READ and DESCRIBE, one by one), retention
against lag, the tables' version and the role's rights, settings and time-outs against each other,
clocks, connections, open batches, standbys, what holds back vacuum, indexes for --undo-rows, halted
partitions, locks that workers wait for and who holds them, and poolers. It asks, and changes nothing. `unknown` is what could not be asked: its cure says how.

Exit codes: 0 nothing failed, 1 something did, 2 usage.

Examples:
  highwater doctor
  highwater doctor --group fraud-rules-v2 --role fraud_worker
  highwater doctor --json | jq '.[] | select(.severity == \"fail\")'";

/// Examine everything that workers depend on: each finding with its cure
#[derive(Debug, Args)]
#[command(after_help = AFTER_HELP)]
pub(super) struct Arguments {
    #[command(flatten)]
    operator: OperatorArguments,

    /// The consumer group; may be repeated [env: HIGHWATER_GROUP] [default: all of this database]
    #[arg(long = "group", value_name = "NAME")]
    groups: Vec<String>,

    /// The workers' role in Postgres [default: the live workers', else highwater_worker]
    #[arg(long, value_name = "NAME")]
    role: Option<String>,

    /// How old a transaction in the database may be [default: 10 minutes]
    #[arg(long, value_name = "SECONDS")]
    max_transaction_age: Option<u64>,

    /// Leave out what is as it should be
    #[arg(long)]
    quiet: bool,
}

pub(super) async fn run(arguments: &Arguments) -> Result<String> {
    let config = arguments.operator.layer()?.finish_doctor()?;
    let options = DoctorOptions::default()
        .groups(arguments.groups.clone())
        .role(arguments.role.clone())
        .max_transaction_age(arguments.max_transaction_age.map(Duration::from_secs));
    let mut findings = examine(&config, &options).await;
    let failed = findings.iter().filter(|finding| finding.severity == Severity::Fail).count();
    if arguments.quiet {
        findings.retain(|finding| finding.severity != Severity::Ok);
    }
    let text = if arguments.operator.json { json(&findings)? } else { text(&findings) };
    if failed == 0 { Ok(text) } else { Err(found(&text, format!("{failed} of the checks failed"))) }
}

fn text(findings: &[Finding]) -> String {
    if findings.is_empty() {
        return "nothing to say\n".to_owned();
    }
    let mut table = Table::new(&["SEVERITY", "CHECK", "FINDING"]);
    for finding in findings {
        let severity = match finding.severity {
            Severity::Ok => "ok",
            Severity::Warn => "warn",
            Severity::Fail => "FAIL",
            _ => "unknown",
        };
        let whose = finding.subject.as_ref().map_or_else(String::new, |subject| format!("{subject}: "));
        let detail = finding
            .detail
            .as_ref()
            .map_or_else(String::new, |detail| format!(": {}", detail.replace('\n', " ")));
        let text = format!("{whose}{}{detail}", finding.finding);
        table.row(vec![severity.to_owned(), finding.check.to_owned(), text]);
        if let Some(cure) = &finding.cure {
            table.row(vec![String::new(), String::new(), format!("cure: {cure}")]);
        }
    }
    table.to_string()
}
