//! Kafka's own tools.

use std::process::{Command, Output, Stdio};

use super::{
    Kafka,
    jars::{self, java, java_command},
    local::class_archive,
};
use crate::testing::{
    error::{Attempted, Result, blocking},
    server::Server,
};

/// What one of Kafka's tools printed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ToolOutput {
    /// The exit status, if it ended by itself.
    pub status: Option<i32>,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

/// What `ConsumerGroupCommand --describe` says of a group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupDescription {
    /// A row per partition.
    pub rows: Vec<GroupRow>,
    /// The tool's output as it was.
    pub raw: String,
}

/// A row of `ConsumerGroupCommand --describe`; what it prints as `-` is none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupRow {
    /// The topic.
    pub topic: String,
    /// The partition.
    pub partition: i32,
    /// The committed offset.
    pub current_offset: Option<i64>,
    /// The offset of the next record to be written.
    pub log_end_offset: Option<i64>,
    /// The difference.
    pub lag: Option<i64>,
    /// The member that has the partition.
    pub consumer_id: Option<String>,
    /// The `client.id` of that member.
    pub client_id: Option<String>,
}

impl GroupDescription {
    pub(super) fn parse(raw: String) -> Self {
        let mut columns = Vec::new();
        let mut rows = Vec::new();
        for line in raw.lines() {
            let fields: Vec<&str> = line.split_ascii_whitespace().collect();
            if fields.first() == Some(&"GROUP") {
                columns = fields;
                continue;
            }
            if fields.len() != columns.len() {
                continue; // Remarks such as "Consumer group 'g' has no active members."
            }
            let field = |name| {
                let index = columns.iter().position(|&column| column == name)?;
                fields.get(index).copied().filter(|&field| field != "-")
            };
            let number = |name| field(name).and_then(|field| field.parse().ok());
            let Some(partition) = field("PARTITION").and_then(|field| field.parse().ok()) else { continue };
            rows.push(GroupRow {
                topic: field("TOPIC").unwrap_or_default().to_owned(),
                partition,
                current_offset: number("CURRENT-OFFSET"),
                log_end_offset: number("LOG-END-OFFSET"),
                lag: number("LAG"),
                consumer_id: field("CONSUMER-ID").map(str::to_owned),
                client_id: field("CLIENT-ID").map(str::to_owned),
            });
        }
        rows.sort_by(|a, b| (&a.topic, a.partition).cmp(&(&b.topic, b.partition)));
        Self { rows, raw }
    }
}

impl Kafka {
    /// Runs one of Kafka's tools by the name of its class, with `--bootstrap-server` and then `arguments`.
    ///
    /// With containers it is the broker's own; else it comes from the same jars as a local broker.
    ///
    /// # Errors
    /// When it cannot be run. Its own failure is in the output's status.
    pub async fn tool(&self, class: &str, arguments: &[&str]) -> Result<ToolOutput> {
        let mut all = vec![class.to_owned(), "--bootstrap-server".to_owned(), self.bootstrap.clone()];
        all.extend(arguments.iter().map(|&argument| argument.to_owned()));
        let attempt = format!("run Kafka's tool {class}");
        let output = match &self.server {
            Server::Container(container) => {
                all.insert(0, "/opt/kafka/bin/kafka-run-class.sh".to_owned());
                container.execute(&all).await
            }
            Server::Local(_) | Server::External => {
                let runtime = tokio::runtime::Handle::current();
                blocking(move || run_locally(&all, &runtime)).await
            }
        };
        let Output { status, stdout, stderr } = output.attempted(|| attempt)?;
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        Ok(ToolOutput { status: status.code(), stdout: text(stdout), stderr: text(stderr) })
    }
}

fn run_locally(arguments: &[String], runtime: &tokio::runtime::Handle) -> Result<Output> {
    let (java, jars) = (java()?, jars::KAFKA.folder()?);
    let archive = class_archive(&java, &jars, runtime)?;
    let java_command = java_command(&java, &jars, archive.as_deref());
    let mut command = Command::new(&java_command[0]);
    command.args(&java_command[1..]).args(arguments).stdin(Stdio::null());
    command.output().attempted(|| "run java".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_description_is_read_by_the_names_of_its_columns() {
        let raw = "\n\
            Consumer group 'g' has no active members.\n\
            \n\
            GROUP  TOPIC   PARTITION  CURRENT-OFFSET  LOG-END-OFFSET  LAG  CONSUMER-ID  HOST  CLIENT-ID\n\
            g      orders  1          -               7               -    -            -     -\n\
            g      orders  0          5               7               2    abc          /::1  highwater/1\n";
        let description = GroupDescription::parse(raw.to_owned());
        assert_eq!(
            description.rows[0],
            GroupRow {
                topic: "orders".into(),
                partition: 0,
                current_offset: Some(5),
                log_end_offset: Some(7),
                lag: Some(2),
                consumer_id: Some("abc".into()),
                client_id: Some("highwater/1".into()),
            }
        );
        assert_eq!((description.rows[1].current_offset, description.rows[1].lag), (None, None));
        assert_eq!((description.rows.len(), description.raw.as_str()), (2, raw));
    }
}
