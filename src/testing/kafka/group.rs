//! Consumer groups, as Kafka's own tools describe them.

use super::{Kafka, tool::GroupDescription};
use crate::testing::error::{Error, Result};

const COMMAND: &str = "org.apache.kafka.tools.consumer.group.ConsumerGroupCommand";

/// What `ConsumerGroupCommand` says of a group as a whole: which protocol its members really speak, and who shares the
/// partitions out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupState {
    /// `Classic`, or `Consumer` (KIP-848).
    pub group_type: String,
    /// Such as `cooperative-sticky`, `range`, `uniform`.
    pub assignor: String,
    /// Such as `Stable`.
    pub state: String,
    /// How many members it has.
    pub members: usize,
}

impl Kafka {
    /// A consumer group as Kafka's own tool describes it. A group without commits and members has no rows.
    ///
    /// # Errors
    /// When the tool fails, for instance because there is no such group.
    pub async fn describe_group(&self, group: &str) -> Result<GroupDescription> {
        Ok(GroupDescription::parse(self.group_command(group, &["--describe", "--group", group]).await?))
    }

    /// Type, assignor and state of a consumer group by Kafka's own tool: two starts of Java, side by side.
    ///
    /// # Errors
    /// When the tool fails, for instance because there is no such group.
    pub async fn group_state(&self, group: &str) -> Result<GroupState> {
        let describe = ["--describe", "--state", "--group", group];
        let (listed, described) = tokio::try_join!(
            self.group_command(group, &["--list", "--type"]),
            self.group_command(group, &describe),
        )?;
        let found = || {
            Some(GroupState {
                group_type: column(&listed, group, "TYPE")?,
                assignor: column(&described, group, "ASSIGNMENT-STRATEGY")?,
                state: column(&described, group, "STATE")?,
                members: column(&described, group, "#MEMBERS")?.parse().ok()?,
            })
        };
        found()
            .ok_or_else(|| Error::new(format!("read the state of group {group} from: {listed}{described}")))
    }

    async fn group_command(&self, group: &str, arguments: &[&str]) -> Result<String> {
        let output = self.tool(COMMAND, arguments).await?;
        // The tool reports many a failure on standard output and exits with 0.
        if output.status != Some(0) || output.stdout.contains("Error: ") {
            return Err(Error::new(format!("describe group {group}: {}{}", output.stdout, output.stderr)));
        }
        Ok(output.stdout)
    }
}

/// The field of `group` under a heading. A coordinator is written as `host:port  (id)`, under one heading: fields are
/// therefore found from where their heading begins.
fn column(text: &str, group: &str, heading: &str) -> Option<String> {
    let header = text.lines().find(|line| line.starts_with("GROUP "))?;
    let begin = header.find(heading)?;
    let row = text.lines().find(|line| line.split_ascii_whitespace().next() == Some(group))?;
    row.get(begin..)?.split_ascii_whitespace().next().map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_found_under_their_headings() {
        let listed = "GROUP                           TYPE                \n\
                      jobs                            Classic             \n\
                      payments                        Consumer            \n";
        let described = "\n\
            GROUP                 COORDINATOR (ID)          ASSIGNMENT-STRATEGY  STATE                #MEMBERS\n\
            payments              127.0.0.1:26446  (1)      uniform              Stable               2\n";
        assert_eq!(column(listed, "jobs", "TYPE").as_deref(), Some("Classic"));
        assert_eq!(column(described, "payments", "ASSIGNMENT-STRATEGY").as_deref(), Some("uniform"));
        assert_eq!(column(described, "payments", "STATE").as_deref(), Some("Stable"));
        assert_eq!(column(described, "payments", "#MEMBERS").as_deref(), Some("2"));
        assert_eq!(column(described, "jobs", "STATE"), None);
    }
}
