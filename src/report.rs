//! What a bug report needs, collected: how the groups stand, what happened to them, settings and versions, the servers'
//! side. Best effort: what this role may not read, or what does not answer, is a part that says why.
//!
//! No secrets, no payloads, no keys. What people and handlers have written in their own words (reasons, and why a record
//! was rejected) may quote a record, and is left out unless it is [asked for](ReportOptions::with_texts).
//!
//! ```no_run
//! use highwater::PartialConfig;
//! use highwater::report::{ReportOptions, collect};
//!
//! # async fn report() -> highwater::Result<()> {
//! for part in collect(&PartialConfig::from_env()?.finish_doctor()?, &ReportOptions::default()).await {
//!     std::fs::write(&part.name, &part.content).ok();
//! }
//! # Ok(())
//! # }
//! ```

mod groups;
mod kafka;
mod manifest;
mod server;
mod settings;
mod tables;
mod words;

use serde::Serialize;
use serde_json::Value;
use tokio_postgres::Client;

use crate::config::DoctorConfig;
use crate::doctor::{DoctorOptions, examine};
use words::Words;

/// By which the database's administrators know it.
const APPLICATION_NAME: &str = "highwater report";
/// How long one question to Postgres may take, in ms.
const STATEMENT_TIMEOUT_MS: u32 = 15_000;
/// How many rows of a table are taken, the newest first.
const ROWS: i64 = 5_000;

/// What goes into a report.
#[derive(Debug, Clone)]
pub struct ReportOptions {
    groups: Vec<String>,
    texts: bool,
    rows: i64,
}

impl Default for ReportOptions {
    fn default() -> Self {
        Self { groups: Vec::new(), texts: false, rows: ROWS }
    }
}

impl ReportOptions {
    /// These groups; all that the database knows where none is named.
    #[must_use]
    pub fn groups(mut self, groups: Vec<String>) -> Self {
        self.groups = groups;
        self
    }

    /// Also what people and handlers have written in their own words, which may quote a record.
    #[must_use]
    pub fn with_texts(mut self, texts: bool) -> Self {
        self.texts = texts;
        self
    }

    /// How many rows of a table at most, the newest first; 5,000 where nothing is said.
    #[must_use]
    pub fn rows(mut self, rows: i64) -> Self {
        self.rows = rows;
        self
    }
}

/// A file of the report.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Part {
    /// Its name.
    pub name: String,
    /// What is in it, in a line.
    pub about: String,
    /// It could not be read, and says why.
    pub unread: bool,
    /// It.
    #[serde(skip)]
    pub content: String,
}

/// What was collected so far.
struct Collection {
    words: Words,
    rows: i64,
    parts: Vec<Part>,
}

impl Collection {
    fn text(&mut self, name: &str, about: &str, answer: Result<String, String>) {
        let (name, about) = (name.to_owned(), about.to_owned());
        self.parts.push(match answer {
            Ok(content) => Part { name, about, unread: false, content },
            Err(why) => Part {
                name: format!("{name}.unread.txt"),
                about: format!("why there is no {name}"),
                unread: true,
                content: why + "\n",
            },
        });
    }

    fn json(&mut self, name: &str, about: &str, answer: Result<Value, String>) {
        let answer = answer.and_then(|mut value| {
            self.words.reduce(&mut value);
            serde_json::to_string_pretty(&value).map_err(|error| error.to_string())
        });
        self.text(name, about, answer.map(|text| text + "\n"));
    }
}

/// Collects everything; the first part is the manifest.
pub async fn collect(config: &DoctorConfig, options: &ReportOptions) -> Vec<Part> {
    let words = Words::new(options.texts);
    let mut collection = Collection { words, rows: options.rows, parts: Vec::new() };
    settings::add(&mut collection, config);
    let groups = groups::add(&mut collection, config, &options.groups).await;
    let examined = DoctorOptions::default().groups(options.groups.clone());
    let findings = serde_json::to_value(examine(config, &examined).await);
    collection.json(
        "doctor.json",
        "what `highwater doctor` found",
        findings.map_err(|error| error.to_string()),
    );
    match connect(config).await {
        Ok(mut client) => {
            tables::add(&mut collection, &mut client, config, &groups).await;
            server::add(&mut collection, &mut client, config).await;
        }
        Err(why) => collection.text("postgres", "tables and server", Err(why)),
    }
    kafka::add(&mut collection, config, &groups).await;
    let manifest = manifest::of(&collection, options);
    collection.parts.insert(0, manifest);
    collection.parts
}

async fn connect(config: &DoctorConfig) -> Result<Client, String> {
    config.operator.database.connect(APPLICATION_NAME).await.map_err(|error| error.report())
}

/// The rows of a query as JSON, in a transaction of its own that changes nothing.
async fn rows(
    client: &mut Client,
    sql: &str,
    parameters: &[&(dyn tokio_postgres::types::ToSql + Sync)],
) -> Result<Value, String> {
    let asked = async {
        let transaction = client.build_transaction().read_only(true).start().await?;
        transaction.batch_execute(&format!("SET LOCAL statement_timeout = {STATEMENT_TIMEOUT_MS}")).await?;
        let rows = transaction.query(&format!("SELECT to_jsonb(t) FROM ({sql}) t"), parameters).await?;
        transaction.commit().await?;
        Ok::<_, tokio_postgres::Error>(rows.iter().map(|row| row.get::<_, Value>(0)).collect())
    };
    asked.await.map(Value::Array).map_err(|error| why(&error))
}

fn why(error: &tokio_postgres::Error) -> String {
    let why = error.as_db_error().map_or_else(|| error.to_string(), crate::telling::database);
    format!("could not be read: {why}")
}
