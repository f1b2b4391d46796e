//! Workers as processes of their own: this program again, told by the environment to be one.

use std::process::{Command, ExitCode};
use std::time::Duration;

use highwater::Worker;
use highwater::testing::{Child, unique};

use super::Result;
use super::handler::{Nothing, Scores};
use super::servers::Servers;

/// Makes this program a worker process, and says what its handler does. The workers' configuration lets
/// `HIGHWATER_TEST_…` through.
const ROLE: &str = "HIGHWATER_TEST_BENCH_ROLE";

/// Runs as a worker, if the environment says so; until SIGTERM.
pub(crate) fn played() -> Option<ExitCode> {
    let role = std::env::var(ROLE).ok()?;
    let filter = std::env::var("HIGHWATER_LOG").unwrap_or_else(|_| "warn".to_owned());
    tracing_subscriber::fmt().with_ansi(false).with_env_filter(filter).init();
    let runtime =
        tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime can be built");
    let ended = runtime.block_on(async {
        match role.as_str() {
            "nothing" => Worker::builder().build(Nothing)?.run().await,
            "append" => Worker::builder().build(super::sink::append())?.run().await,
            "upsert" => Worker::builder().build(super::sink::upsert())?.run().await,
            table => Worker::builder().build(Scores::into(table))?.run().await,
        }
    });
    Some(match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            println!("error: {}", error.report());
            ExitCode::from(error.exit_code())
        }
    })
}

/// A setting of a worker: its variable's name without `HIGHWATER_`, and its value.
pub(crate) type Setting = (String, String);

/// Settings as in `LANES=2,LINGER=5ms`; each worker looks at them itself.
///
/// # Errors
/// When one has no `=`.
pub(crate) fn settings(list: Option<&str>) -> Result<Vec<Setting>> {
    let settings = list.into_iter().flat_map(|list| list.split(','));
    let pair = |setting: &str| match setting.split_once('=') {
        Some((name, value)) => Ok((name.trim().to_owned(), value.trim().to_owned())),
        None => Err(format!("--set: {setting:?} is not NAME=VALUE").into()),
    };
    settings.map(pair).collect()
}

/// A group of worker processes on one topic.
pub(crate) struct Group<'a> {
    servers: &'a Servers,
    topic: String,
    pub(crate) id: String,
    settings: Vec<(String, String)>,
}

impl<'a> Group<'a> {
    /// A group that nobody else uses; `settings` are environment variables without `HIGHWATER_`.
    pub(crate) fn new(servers: &'a Servers, topic: &str, settings: &[(&str, &str)]) -> Self {
        let settings =
            settings.iter().map(|(name, value)| (format!("HIGHWATER_{name}"), (*value).to_owned())).collect();
        Self { servers, topic: topic.to_owned(), id: unique("bench"), settings }
    }

    /// What it runs against.
    pub(crate) fn servers(&self) -> &'a Servers {
        self.servers
    }

    /// Starts a member that writes `table`.
    ///
    /// # Errors
    /// When no process can be started.
    pub(crate) fn start(&self, name: &str, table: &str, more: &[(&str, &str)]) -> Result<Child> {
        let mut command = self.command()?;
        command.env(ROLE, table);
        for (name, value) in more {
            command.env(format!("HIGHWATER_{name}"), value);
        }
        Ok(Child::spawn(name, &command)?)
    }

    /// This program again, with the settings of a worker of this group, and told no role yet.
    ///
    /// # Errors
    /// When it does not know where it is.
    pub(crate) fn command(&self) -> Result<Command> {
        let mut command = Command::new(std::env::current_exe()?);
        // The settings of some other worker, in the shell that this was started from, are not for this one.
        for (name, _) in std::env::vars() {
            if name.starts_with("OTEL_") || name.starts_with("HIGHWATER_") && name != "HIGHWATER_LOG" {
                command.env_remove(name);
            }
        }
        command
            .env("HIGHWATER_BROKERS", self.servers.kafka.bootstrap())
            .env("HIGHWATER_POSTGRES_URL", self.servers.database.url())
            .env("HIGHWATER_GROUP", &self.id)
            .env("HIGHWATER_TOPICS", &self.topic)
            .env("HIGHWATER_START", "earliest")
            .envs(self.settings.iter().map(|(name, value)| (name, value)));
        Ok(command)
    }

    /// How many records the group has applied, by its positions.
    ///
    /// # Errors
    /// When the database does not answer.
    pub(crate) async fn applied(&self) -> Result<u64> {
        let sql =
            "SELECT coalesce(sum(next_offset), 0)::int8 FROM highwater.consumer_offset WHERE group_id = $1";
        let applied: i64 = self.servers.client.query_one(sql, &[&self.id]).await?.get(0);
        Ok(u64::try_from(applied)?)
    }

    /// Waits until the group has applied `count` records; an error when a member ends before.
    ///
    /// # Errors
    /// When it takes longer than `timeout`.
    pub(crate) async fn wait(&self, members: &[Child], count: u64, timeout: Duration) -> Result {
        let began = std::time::Instant::now();
        while self.applied().await? < count {
            if let Some(ended) = members.iter().find(|member| member.exit_status().is_some()) {
                return Err(format!("a worker has ended; it wrote:\n{ended}").into());
            }
            if began.elapsed() > timeout {
                return Err(format!("{count} records were not applied within {timeout:?}").into());
            }
            // Its cost counts as Postgres' own.
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Ok(())
    }
}

/// Stops workers softly, and waits for them.
///
/// # Errors
/// When one does not end well.
pub(crate) async fn stop(members: &[Child]) -> Result {
    for member in members {
        member.term()?;
    }
    for member in members {
        if member.wait(Duration::from_secs(60)).await? != 0 {
            return Err(format!("a worker ended badly; it wrote:\n{member}").into());
        }
    }
    Ok(())
}
