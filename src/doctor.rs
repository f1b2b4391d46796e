//! An examination of everything that a group's workers depend on: settings, brokers, topics, rights, tables, clocks,
//! retention, vacuum, locks, what has halted. Each finding has its cure. It changes nothing, and an answer that is missing is a finding, too.
//!
//! ```no_run
//! use highwater::PartialConfig;
//! use highwater::doctor::{DoctorOptions, Severity, examine};
//!
//! # async fn examined() -> highwater::Result<()> {
//! let findings = examine(&PartialConfig::from_env()?.finish_doctor()?, &DoctorOptions::default()).await;
//! assert!(findings.iter().all(|finding| finding.severity != Severity::Fail));
//! # Ok(())
//! # }
//! ```

mod brokers;
mod clocks;
mod database;
mod locks;
mod partitions;
mod pooler;
mod replicas;
mod retention;
mod rights;
mod settings;
mod subjects;
mod tables;
mod topics;
mod vacuum;

use std::time::Duration;

use serde::Serialize;
use tokio_postgres::{Client, Transaction};

use crate::config::DoctorConfig;
use crate::consumer::Catalog;
use crate::schema::SchemaName;
use subjects::Subjects;

/// How long one question to Postgres may take.
const STATEMENT_TIMEOUT: Duration = Duration::from_secs(15);
/// By which the database's administrators know it.
const APPLICATION_NAME: &str = "highwater doctor";

/// What is examined.
#[derive(Debug, Clone, Default)]
pub struct DoctorOptions {
    groups: Vec<String>,
    role: Option<String>,
    max_transaction_age: Option<Duration>,
}

impl DoctorOptions {
    /// These groups; all that the database knows where none is named.
    #[must_use]
    pub fn groups(mut self, groups: Vec<String>) -> Self {
        self.groups = groups;
        self
    }

    /// The workers' role; those of the live workers where none is named.
    #[must_use]
    pub fn role(mut self, role: Option<String>) -> Self {
        self.role = role;
        self
    }

    /// How old a transaction in the database may be; 10 minutes where nothing is said.
    #[must_use]
    pub fn max_transaction_age(mut self, age: Option<Duration>) -> Self {
        self.max_transaction_age = age;
        self
    }
}

/// How grave a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Severity {
    /// As it should be.
    Ok,
    /// It could not be asked.
    Unknown,
    /// It works, and will not always.
    Warn,
    /// It does not work, or loses something.
    Fail,
}

/// What was found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Finding {
    /// Which check: one word of a list that is documented.
    pub check: &'static str,
    /// How grave it is.
    pub severity: Severity,
    /// Whose it is: a broker, a topic, a group, a table, a role; none if it is of the whole.
    pub subject: Option<String>,
    /// What was found.
    pub finding: String,
    /// What a worker says of it, which may be in a handler's words; none of most.
    pub detail: Option<String>,
    /// What to do about it.
    pub cure: Option<String>,
}

impl Finding {
    fn new(check: &'static str, severity: Severity, finding: impl Into<String>) -> Self {
        Self { check, severity, subject: None, finding: finding.into(), detail: None, cure: None }
    }

    fn ok(check: &'static str, finding: impl Into<String>) -> Self {
        Self::new(check, Severity::Ok, finding)
    }

    fn warn(check: &'static str, finding: impl Into<String>) -> Self {
        Self::new(check, Severity::Warn, finding)
    }

    fn fail(check: &'static str, finding: impl Into<String>) -> Self {
        Self::new(check, Severity::Fail, finding)
    }

    fn unknown(check: &'static str, finding: impl Into<String>) -> Self {
        Self::new(check, Severity::Unknown, finding)
    }

    fn of(mut self, subject: impl Into<String>) -> Self {
        self.subject = Some(subject.into());
        self
    }

    fn detail(mut self, detail: impl Into<String>) -> Self {
        self.detail = Some(detail.into());
        self
    }

    fn cure(mut self, cure: impl Into<String>) -> Self {
        self.cure = Some(cure.into());
        self
    }
}

/// What the examination has at hand.
struct Patient<'a> {
    config: &'a DoctorConfig,
    options: &'a DoctorOptions,
    catalog: Option<Catalog>,
    subjects: Subjects,
}

impl Patient<'_> {
    fn schema(&self) -> &SchemaName {
        &self.config.operator.database.schema
    }
}

type Checked = Result<Vec<Finding>, tokio_postgres::Error>;

/// Examines everything; takes seconds, and a quarter of a minute per server that does not answer.
pub async fn examine(config: &DoctorConfig, options: &DoctorOptions) -> Vec<Finding> {
    let mut findings = settings::check(config);
    let mut patient = Patient { config, options, catalog: None, subjects: Subjects::default() };
    let mut client = database::open(&patient, &mut findings).await;
    findings.extend(subjects::find(&mut patient, client.as_mut()).await);
    findings.extend(brokers::open(&mut patient).await);
    if patient.catalog.is_some() {
        findings.extend(topics::check(&patient).await);
        findings.extend(rights::of_the_client(&patient).await);
        findings.extend(settings::session(&patient).await);
        findings.extend(retention::check(&patient).await);
    }
    let Some(mut client) = client else { return findings };
    let (client, patient) = (&mut client, &patient);
    findings.extend(ask(client, "role", async |asked| rights::of_the_role(patient, asked).await).await);
    findings.extend(ask(client, "server", async |asked| database::server(asked).await).await);
    findings
        .extend(ask(client, "connections", async |asked| database::connections(patient, asked).await).await);
    findings.extend(ask(client, "batches", async |asked| database::batches(patient, asked).await).await);
    findings.extend(ask(client, "replicas", async |asked| replicas::check(asked).await).await);
    findings.extend(ask(client, "snapshots", async |asked| vacuum::snapshots(patient, asked).await).await);
    findings.extend(ask(client, "autovacuum", async |asked| vacuum::autovacuum(patient, asked).await).await);
    findings.extend(ask(client, "tables", async |asked| tables::damage(patient, asked).await).await);
    findings
        .extend(ask(client, "undo-index", async |asked| tables::undo_indexes(patient, asked).await).await);
    findings.extend(ask(client, "halted", async |asked| partitions::halted(patient, asked).await).await);
    findings.extend(locks::check(patient, client).await);
    findings.extend(clocks::check(patient, client).await);
    findings
}

/// In a transaction of its own that can change nothing, and takes no longer than it may: what is said to a *session* would
/// go to others behind a pooler.
async fn ask(
    client: &mut Client,
    check: &'static str,
    question: impl AsyncFnOnce(&Transaction<'_>) -> Checked,
) -> Vec<Finding> {
    let asked = async {
        let transaction = client.build_transaction().read_only(true).start().await?;
        let limit = format!("SET LOCAL statement_timeout = {}", STATEMENT_TIMEOUT.as_millis());
        transaction.batch_execute(&limit).await?;
        let found = question(&transaction).await?;
        transaction.commit().await?;
        Ok(found)
    };
    asked.await.unwrap_or_else(|error: tokio_postgres::Error| vec![unread(check, &error)])
}

fn unread(check: &'static str, error: &tokio_postgres::Error) -> Finding {
    let why = error.as_db_error().map_or_else(|| error.to_string(), crate::telling::database);
    Finding::unknown(check, format!("could not be read: {why}"))
        .cure("ask as the tables' owner; what is the server's own, a member of pg_monitor may see, too")
}

/// `3 partitions`, `1 partition`.
fn counted(count: usize, noun: &str) -> String {
    if count == 1 { format!("1 {noun}") } else { format!("{count} {noun}s") }
}

/// The first few, and how many more.
fn listed(names: &[String]) -> String {
    const NAMED: usize = 5;
    let mut text = names.iter().take(NAMED).cloned().collect::<Vec<_>>().join(", ");
    if names.len() > NAMED {
        text += &format!(" and {} more", names.len() - NAMED);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::PartialConfig;

    #[test]
    fn a_service_may_examine_in_a_task_of_its_own() {
        fn assert_send<T: Send>(_: &T) {}
        let config = PartialConfig::default().postgres_url("postgres://localhost/x").finish_doctor().unwrap();
        let options = DoctorOptions::default();
        assert_send(&examine(&config, &options));
        assert_send(&crate::report::collect(&config, &crate::report::ReportOptions::default()));
    }

    #[test]
    fn lists_are_not_endless() {
        let names: Vec<String> = (0..7).map(|n| n.to_string()).collect();
        assert_eq!(listed(&names), "0, 1, 2, 3, 4 and 2 more");
        assert_eq!((counted(1, "topic"), counted(2, "topic")), ("1 topic".to_owned(), "2 topics".to_owned()));
    }
}
