//! Configuration: where settings come from, which wins, and what a worker finally gets.
//!
//! From the strongest to the weakest: the **builder** (the program itself), **flags**, the **environment**
//! (`HIGHWATER_…`), the **file** (TOML, named by `HIGHWATER_CONFIG`), the **defaults**. Each is a [`PartialConfig`];
//! [`or`](PartialConfig::or) puts one on top of another, [`finish`](PartialConfig::finish) checks the whole.
//!
//! ```
//! use highwater::PartialConfig;
//!
//! let env = [
//!     ("HIGHWATER_BROKERS", "kafka-1:9092,kafka-2:9092"),
//!     ("HIGHWATER_POSTGRES_URL", "postgres://worker:secret@db/payments"),
//!     ("HIGHWATER_GROUP", "fraud-rules-v2"),
//!     ("HIGHWATER_TOPICS", "payments.tx_events"),
//!     ("HIGHWATER_LINGER", "50ms"),
//! ];
//! let env = env.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned()));
//! let config = PartialConfig::default()      // the program's own choices win
//!     .lanes(4_usize)
//!     .or(PartialConfig::from_sources(None, env)?)
//!     .finish()?;
//! assert_eq!((config.lanes, config.linger), (4, Some(std::time::Duration::from_millis(50))));
//! # Ok::<(), highwater::Error>(())
//! ```
//!
//! Unknown keys are errors, with a suggestion: a setting that is mistyped and ignored is worse than one that stops
//! the start. All settings stand in one table (`settings.rs`), from which `docs/configuration.md` is made.

mod check;
mod group;
mod instant;
mod items;
mod kafka;
mod parse;
mod pattern;
mod properties;
mod reference;
mod secrets;
mod settings;
mod sources;
mod start;
mod subscription;
mod table;
mod tokens;
mod topic_partition;
mod values;

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

pub use self::group::{Assignor, GroupProtocol};
pub(crate) use self::instant::{epoch_ms, show_instant};
#[cfg(feature = "cli")]
pub(crate) use self::items::check_topics;
pub use self::kafka::{CLIENT_ID_PREFIX, client_properties};
pub use self::parse::parse_duration as duration;
pub(crate) use self::pattern::{INTERNAL_TOPICS, TopicPattern, is_pattern};
pub use self::properties::KafkaProperties;
pub(crate) use self::properties::{refusal, refused};
pub use self::reference::reference;
pub(crate) use self::secrets::{KafkaSecrets, files_of, warnings};
pub use self::settings::{Config, PartialConfig};
#[cfg(feature = "cli")]
pub(crate) use self::sources::{line_at, place_in};
pub use self::start::StartPolicy;
pub(crate) use self::subscription::ONE_OFF_GROUP;
pub(crate) use self::tokens::check_own_tokens;
pub use self::topic_partition::TopicPartition;
pub use self::values::{Isolation, OnOffsetLost, OnRejected, PasswordCommand, PostgresUrl, SecretText};

use crate::error::Result;
use crate::schema::SchemaName;

const SESSION_TIMEOUT: Duration = Duration::from_secs(10);
/// Long enough for a pod to be replaced under the same instance id.
const STATIC_SESSION_TIMEOUT: Duration = Duration::from_secs(60);
const HEARTBEAT_INTERVAL: Duration = Duration::from_millis(300);
const STATIC_HEARTBEAT_INTERVAL: Duration = Duration::from_secs(1);

impl Config {
    /// The configuration from the environment and the file that `HIGHWATER_CONFIG` names.
    ///
    /// # Errors
    ///
    /// [`Configuration`](crate::ErrorKind::Configuration), naming the setting, its origin and what to do.
    pub fn from_env() -> Result<Self> {
        PartialConfig::from_env()?.finish()
    }

    /// The configuration from a given file (which wins over `HIGHWATER_CONFIG`) and given environment variables.
    ///
    /// # Errors
    ///
    /// As [`from_env`](Self::from_env).
    pub fn from_sources(file: Option<&Path>, env: impl Iterator<Item = (String, String)>) -> Result<Self> {
        PartialConfig::from_sources(file, env)?.finish()
    }

    /// The assignor in force: the setting, or its default, which depends on the protocol. `None`: the broker chooses.
    #[must_use]
    pub fn effective_assignor(&self) -> Option<Assignor> {
        match self.group_protocol {
            GroupProtocol::Classic => Some(self.assignor.unwrap_or(Assignor::CooperativeSticky)),
            GroupProtocol::Consumer => self.assignor,
        }
    }

    /// Whether a rebalance touches only the partitions that move; under the others it takes away everything first.
    ///
    /// From the configuration, because asking the client hangs once it is closed (PITFALLS 6).
    #[must_use]
    pub fn is_cooperative(&self) -> bool {
        self.group_protocol == GroupProtocol::Consumer
            || self.effective_assignor() == Some(Assignor::CooperativeSticky)
    }

    /// The session time-out in force under the classic protocol: the setting, or its default, which depends on the
    /// membership. Under `consumer` the broker decides.
    #[must_use]
    pub fn effective_session_timeout(&self) -> Duration {
        let default = if self.instance_id.is_some() { STATIC_SESSION_TIMEOUT } else { SESSION_TIMEOUT };
        self.session_timeout.unwrap_or(default)
    }

    /// The heartbeat interval in force under the classic protocol: the setting, or its default, which depends on the membership and is at most
    /// a third of the session time-out.
    #[must_use]
    pub fn effective_heartbeat_interval(&self) -> Duration {
        let default = if self.instance_id.is_some() { STATIC_HEARTBEAT_INTERVAL } else { HEARTBEAT_INTERVAL };
        self.heartbeat_interval.unwrap_or_else(|| default.min(self.effective_session_timeout() / 3))
    }
}

/// The part of the configuration that reaches the database: all that the command-line tools need.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct DatabaseConfig {
    /// As [`Config::postgres_url`].
    pub postgres_url: PostgresUrl,
    /// As [`Config::postgres_password_file`].
    pub postgres_password_file: Option<String>,
    /// As [`Config::postgres_password_command`].
    pub postgres_password_command: Option<PasswordCommand>,
    /// As [`Config::schema`].
    pub schema: SchemaName,
}

/// What a person's tools need: the database, and Kafka where it can be asked.
#[derive(Clone)]
#[non_exhaustive]
pub struct OperatorConfig {
    /// Where Highwater's tables are.
    pub database: DatabaseConfig,
    /// Kafka's bootstrap servers; empty where none are configured.
    pub brokers: Vec<String>,
    /// Of a client that is in no group. May hold secrets.
    pub(crate) properties: Vec<(String, String)>,
    /// What they lack.
    pub(crate) secrets: KafkaSecrets,
}

/// What a tool needs that only asks Kafka.
#[derive(Clone)]
#[non_exhaustive]
pub struct KafkaConfig {
    /// Kafka's bootstrap servers.
    pub brokers: Vec<String>,
    /// Of a client that is in no group. May hold secrets.
    pub(crate) properties: Vec<(String, String)>,
    /// What they lack.
    pub(crate) secrets: KafkaSecrets,
}

impl std::fmt::Debug for KafkaConfig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("KafkaConfig").field("brokers", &self.brokers).finish_non_exhaustive()
    }
}

impl std::fmt::Debug for OperatorConfig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("OperatorConfig")
            .field("database", &self.database)
            .field("brokers", &self.brokers)
            .finish_non_exhaustive()
    }
}

/// What an examination needs: see [`PartialConfig::finish_doctor`].
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct DoctorConfig {
    /// Where the database and Kafka are.
    pub operator: OperatorConfig,
    /// What a worker of this environment would be told; what a program sets by itself is not in it.
    pub worker: Config,
    /// Two of these settings contradict each other.
    pub contradiction: Option<String>,
}

impl PartialConfig {
    /// Checks the layer, takes the defaults for what is missing, and gives the configuration.
    ///
    /// # Errors
    ///
    /// [`Configuration`](crate::ErrorKind::Configuration) for missing, unreadable, refused and contradictory values.
    pub fn finish(self) -> Result<Config> {
        // Who assigns partitions by hand needs no group to share them, and names their topics with them.
        let of_the_group: &[&str] = if self.assign.is_some() { &[] } else { &["group", "topics"] };
        check::require(&self, &[&["brokers", "postgres_url"], of_the_group].concat())?;
        self.check_values()?;
        let mut config = self.clone().fill();
        if config.program.is_empty() {
            config.program = executable_name();
        }
        check::adapt_defaults(&mut config, &self);
        check::check_together(&config, &self)?;
        Ok(config)
    }

    /// As [`finish`](Self::finish), for a tool that only talks to the database: nothing else is required, but what
    /// is there must make sense.
    ///
    /// # Errors
    ///
    /// As [`finish`](Self::finish).
    pub fn finish_database(self) -> Result<DatabaseConfig> {
        check::require(&self, &["postgres_url"])?;
        self.check_values()?;
        let config = self.clone().fill();
        check::check_password(&config, &self)?;
        Ok(DatabaseConfig {
            postgres_url: config.postgres_url,
            postgres_password_file: config.postgres_password_file,
            postgres_password_command: config.postgres_password_command,
            schema: config.schema,
        })
    }

    /// As [`finish_database`](Self::finish_database), for a tool that also asks Kafka, if `brokers` are configured.
    ///
    /// # Errors
    ///
    /// As [`finish`](Self::finish).
    pub fn finish_operator(self) -> Result<OperatorConfig> {
        let database = self.clone().finish_database()?;
        let KafkaConfig { brokers, properties, secrets } = self.kafka_part()?;
        Ok(OperatorConfig { database, brokers, properties, secrets })
    }

    /// As [`finish`](Self::finish), for a tool that only asks Kafka: `brokers` are needed, a database is not.
    ///
    /// # Errors
    ///
    /// As [`finish`](Self::finish).
    pub fn finish_kafka(self) -> Result<KafkaConfig> {
        check::require(&self, &["brokers"])?;
        self.kafka_part()
    }

    fn kafka_part(self) -> Result<KafkaConfig> {
        secrets::check_security(&self.clone().fill(), &self)?;
        let config = self.fill();
        let properties = client_properties(&config, uuid::Uuid::new_v4());
        let is_of_a_member = |name: &str| name.starts_with("group.");
        Ok(KafkaConfig {
            properties: properties.into_iter().filter(|(name, _)| !is_of_a_member(name)).collect(),
            secrets: KafkaSecrets::of(&config),
            brokers: config.brokers,
        })
    }

    /// As [`finish_operator`](Self::finish_operator), with what a worker of this environment would be told beside it: what
    /// contradicts itself there is something to tell, and no error.
    ///
    /// # Errors
    ///
    /// As [`finish`](Self::finish), but for settings that only a worker needs.
    pub fn finish_doctor(self) -> Result<DoctorConfig> {
        let operator = self.clone().finish_operator()?;
        let mut worker = self.clone().fill();
        check::adapt_defaults(&mut worker, &self);
        let contradiction = check::check_together(&worker, &self).err().map(|error| error.to_string());
        Ok(DoctorConfig { operator, worker, contradiction })
    }

    /// The schema, if this layer has one.
    #[must_use]
    pub fn given_schema(&self) -> Option<&SchemaName> {
        self.schema.as_ref().map(|given| &given.value)
    }

    /// The group, if this layer has one.
    #[must_use]
    pub fn given_group(&self) -> Option<&str> {
        self.group.as_ref().map(|given| given.value.as_str())
    }

    /// Where the admin server listens, if this layer says so.
    #[must_use]
    pub fn given_admin_address(&self) -> Option<SocketAddr> {
        self.admin_address.as_ref().and_then(|given| given.value)
    }

    /// In whose names the exporter shall tell metrics beside its own, if this layer says so.
    #[must_use]
    pub fn given_exporter_compat(&self) -> &[String] {
        self.exporter_compat.as_ref().map(|given| given.value.as_slice()).unwrap_or_default()
    }

    /// Whether this layer says which topics.
    #[cfg(feature = "cli")]
    pub(crate) fn names_topics(&self) -> bool {
        self.topics.is_some()
    }

    /// Whether this layer names the program.
    #[cfg(feature = "cli")]
    pub(crate) fn names_program(&self) -> bool {
        self.program.is_some()
    }

    /// How long a batch may take, if this layer says so.
    #[must_use]
    pub fn given_max_processing_time(&self) -> Option<Duration> {
        self.max_processing_time.as_ref().map(|given| given.value)
    }

    /// The program's name, if it was given; its default is that of the executable.
    #[must_use]
    pub fn given_program(&self) -> Option<&str> {
        self.program.as_ref().map(|given| given.value.as_str())
    }
}

/// The default of `program`: the executable's file name without its extension.
fn executable_name() -> String {
    std::env::current_exe()
        .ok()
        .and_then(|path| Some(path.file_stem()?.to_string_lossy().into_owned()))
        .unwrap_or_else(|| "highwater".to_owned())
}

/// Every setting's name, and the first sentence of what it is.
#[cfg(feature = "cli")]
pub(crate) fn described_settings() -> impl Iterator<Item = (&'static str, String)> {
    settings::SETTINGS.iter().map(|setting| {
        let doc = setting.doc.split_whitespace().collect::<Vec<_>>().join(" ");
        let first = doc
            .split_once(". ")
            .map_or_else(|| doc.trim_end_matches('.').to_owned(), |(first, _)| first.to_owned());
        (setting.name, first)
    })
}

/// The known name nearest to a mistyped one, if one is near enough to be meant.
pub(crate) fn suggest<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    known
        .map(|candidate| (strsim::damerau_levenshtein(name, candidate), candidate))
        .filter(|(distance, candidate)| *distance <= (candidate.len() / 4).max(2))
        .min()
        .map(|(_, candidate)| candidate)
}

#[cfg(test)]
mod tests;
