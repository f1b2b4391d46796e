//! Who is measured, and how one run of it is.

use std::time::{Duration, Instant};

use highwater::{Handler, PartialConfig};

use crate::support::bare::{Bare, Mode};
use crate::support::handler::Scores;
use crate::support::payments::Form;
use crate::support::servers::Servers;
use crate::support::{Result, Run, process, sink, stats, table, worker};
use crate::watched::{self, Watched};
use crate::{simple, textbook};

/// See the help text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Contender {
    Consume,
    Copy,
    Bare,
    Sorted,
    Append,
    Pipeline,
    Avro,
    Protobuf,
    Debezium,
    Poison,
    Handler,
    Unsorted,
    Merge,
    Upsert,
    InsertIgnore,
    Textbook,
    /// In a process of its own.
    Watched(Watched),
}

/// Where all of them run.
pub(crate) struct Stage {
    pub(crate) servers: Servers,
    pub(crate) topic: String,
    pub(crate) partitions: i32,
    pub(crate) records: u64,
    /// How many records each partition holds.
    pub(crate) ends: Vec<i64>,
    /// What Highwater is told beyond where its servers are: nothing, but for trials.
    pub(crate) settings: PartialConfig,
}

/// One run.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Measured {
    /// Records per second, from the first record to the last commit.
    pub(crate) rate: f64,
    pub(crate) startup: Duration,
    /// CPU per record in µs, start-up included: of this process, of Postgres, of the broker.
    pub(crate) client: f64,
    pub(crate) postgres: f64,
    pub(crate) broker: f64,
    /// Bytes of WAL per record.
    pub(crate) wal: f64,
    /// Records per transaction, where that is known.
    pub(crate) batch: Option<f64>,
}

impl Contender {
    const ALL: [Self; 20] = [
        Self::Consume,
        Self::Copy,
        Self::Bare,
        Self::Append,
        Self::Pipeline,
        Self::Avro,
        Self::Protobuf,
        Self::Debezium,
        Self::Poison,
        Self::Sorted,
        Self::Handler,
        Self::Unsorted,
        Self::Merge,
        Self::Upsert,
        Self::InsertIgnore,
        Self::Textbook,
        Self::Watched(Watched::No),
        Self::Watched(Watched::Scraped),
        Self::Watched(Watched::Traced),
        Self::Watched(Watched::AllTraced),
    ];

    /// All but those that must be named, or those of a list of names.
    ///
    /// # Errors
    /// When a name is none of them.
    pub(crate) fn chosen(list: Option<&str>) -> Result<Vec<Self>> {
        let by_name_only = |contender: &Self| {
            contender.form().is_some() || contender.is_apart() || *contender == Self::Poison
        };
        let Some(list) = list else {
            return Ok(Self::ALL.into_iter().filter(|contender| !by_name_only(contender)).collect());
        };
        let mut chosen = Vec::new();
        for name in list.split(',').map(str::trim) {
            match Self::ALL.into_iter().find(|contender| contender.name() == name) {
                Some(contender) => chosen.push(contender),
                None if name == "overhead" => {
                    chosen.extend(Self::ALL.into_iter().filter(|contender| contender.is_apart()));
                }
                None => return Err(format!("--only: there is no contender {name:?}; see --help").into()),
            }
        }
        Ok(chosen)
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Consume => "consume",
            Self::Copy => "copy",
            Self::Bare => "bare",
            Self::Sorted => "sorted",
            Self::Append => "append",
            Self::Pipeline => "pipeline",
            Self::Avro => "avro",
            Self::Protobuf => "protobuf",
            Self::Debezium => "debezium",
            Self::Poison => "poison",
            Self::Handler => "handler",
            Self::Unsorted => "unsorted",
            Self::Merge => "merge",
            Self::Upsert => "upsert",
            Self::InsertIgnore => "insert_ignore",
            Self::Textbook => "textbook",
            Self::Watched(Watched::No) => "plain",
            Self::Watched(Watched::Scraped) => "scraped",
            Self::Watched(Watched::Traced) => "traced",
            Self::Watched(Watched::AllTraced) => "all_traced",
        }
    }

    /// Whether it has a process of its own.
    pub(crate) fn is_apart(self) -> bool {
        matches!(self, Self::Watched(_))
    }

    /// What a pipeline reads.
    pub(crate) fn form(self) -> Option<Form> {
        match self {
            Self::Pipeline => Some(Form::Json),
            Self::Avro => Some(Form::Avro),
            Self::Protobuf => Some(Form::Protobuf),
            Self::Debezium => Some(Form::Debezium),
            _ => None,
        }
    }

    /// One run, and the CPU time of its process where that is not this one.
    pub(crate) async fn run(self, stage: &Stage) -> Result<(Run, Option<Duration>)> {
        let run = match self {
            Self::Watched(how) => {
                let (run, cpu) = watched::run(stage, how).await?;
                return Ok((run, Some(cpu)));
            }
            Self::Consume => simple::consume(stage).await,
            Self::Copy => simple::copy(stage).await,
            Self::Bare => stage.bare(20_000, Mode::Append).drain().await,
            Self::Sorted => stage.bare(50_000, Mode::Sorted).drain().await,
            Self::Merge => stage.bare(50_000, Mode::Merge).drain().await,
            Self::Append => stage.highwater(sink::append()).await,
            Self::Pipeline | Self::Avro | Self::Protobuf | Self::Debezium => {
                let form = self.form().unwrap_or(Form::Json);
                stage.pipeline(form).await
            }
            Self::Poison => stage.poisoned().await,
            Self::Handler => stage.highwater(Scores::into("scores").sorted()).await,
            Self::Unsorted => stage.highwater(Scores::into("scores")).await,
            Self::Upsert => stage.highwater(sink::upsert()).await,
            Self::InsertIgnore => stage.highwater(sink::insert_ignore()).await,
            Self::Textbook => textbook::run(stage).await,
        };
        Ok((run?, None))
    }

    /// A run from a fresh table to the oracle.
    pub(crate) async fn measure(self, stage: &Stage) -> Result<Measured> {
        table::fresh(&stage.servers.client, stage.partitions).await?;
        let before = Usage::now(stage).await?;
        let (run, client) = self.run(stage).await.map_err(|error| format!("{}: {error:?}", self.name()))?;
        let used = Usage::now(stage).await?.since(&before);
        let records = run.records;
        if self != Self::Consume {
            let verified = match self {
                Self::Poison => {
                    table::verify_but(&stage.servers.client, records, &stage.ends, sink::is_poison).await
                }
                _ if self.form().is_some() => {
                    table::verify_amounts(&stage.servers.client, records, &stage.ends).await
                }
                _ => table::verify(&stage.servers.client, records, &stage.ends).await,
            };
            verified.map_err(|error| format!("{}: {error}", self.name()))?;
        }
        let per_record = |used: Duration| used.as_secs_f64() * 1e6 / stats::float(records);
        Ok(Measured {
            rate: stats::float(records) / run.elapsed.as_secs_f64(),
            startup: run.startup,
            client: per_record(client.unwrap_or(used.client)),
            postgres: per_record(used.postgres),
            broker: per_record(used.broker),
            wal: stats::float(used.wal) / stats::float(records),
            batch: run.commits.map(|commits| stats::float(records) / stats::float(commits.max(1))),
        })
    }
}

impl Stage {
    pub(crate) async fn new(
        servers: Servers,
        topic: String,
        partitions: i32,
        records: u64,
        settings: PartialConfig,
    ) -> Result<Self> {
        let ends = servers.ends(&topic, partitions).await?;
        if ends.iter().sum::<i64>() == i64::try_from(records)? {
            Ok(Self { servers, topic, partitions, records, ends, settings })
        } else {
            Err(format!("the topic holds {ends:?} records, and not {records} in all").into())
        }
    }

    /// The topic with the payments in this form.
    pub(crate) fn topic_of(&self, form: Form) -> String {
        if form == Form::Json { self.topic.clone() } else { format!("{}-{form:?}", self.topic) }
    }

    async fn pipeline(&self, form: Form) -> Result<Run> {
        let topic = self.topic_of(form);
        self.highwater_on(&topic, sink::pipeline(&topic, form)?).await
    }

    async fn highwater(&self, handler: impl Handler) -> Result<Run> {
        self.highwater_on(&self.topic, handler).await
    }

    async fn highwater_on(&self, topic: &str, handler: impl Handler) -> Result<Run> {
        let settings = worker::settings(&self.servers, topic).or(self.settings.clone());
        worker::drain(settings, handler, self.records).await
    }

    /// Some records are rejected, and become dead letters.
    async fn poisoned(&self) -> Result<Run> {
        let settings = PartialConfig::default()
            .on_rejected(highwater::config::OnRejected::DeadLetter)
            .dead_letter_max_per_million(None::<usize>)
            .dead_letter_max_per_minute(None::<usize>);
        let settings = worker::settings(&self.servers, &self.topic).or(self.settings.clone()).or(settings);
        let mut poison = 0;
        for end in &self.ends {
            poison += (0..u64::try_from(*end)?).filter(|offset| sink::is_poison(*offset)).count();
        }
        // They are not applied, but worked on like the others.
        let run = worker::drain(settings, sink::poisoned(), self.records - u64::try_from(poison)?).await?;
        Ok(Run { records: self.records, ..run })
    }

    fn bare(&self, batch: usize, mode: Mode) -> Bare {
        Bare {
            bootstrap: self.servers.kafka.bootstrap().to_owned(),
            url: self.servers.database.url().to_owned(),
            topic: self.topic.clone(),
            partitions: self.partitions,
            records: self.ends.clone(),
            batch,
            mode,
            linger: None,
        }
    }
}

/// CPU times and the end of the WAL at one moment, or between two.
struct Usage {
    client: Duration,
    postgres: Duration,
    broker: Duration,
    wal: u64,
}

impl Usage {
    async fn now(stage: &Stage) -> Result<Self> {
        // Backends that have just ended are counted once the postmaster has waited for them.
        tokio::time::sleep_until((Instant::now() + Duration::from_millis(100)).into()).await;
        let sql = "SELECT pg_wal_lsn_diff(pg_current_wal_lsn(), '0/0')::int8";
        let wal: i64 = stage.servers.client.query_one(sql, &[]).await?.get(0);
        let tree = |pid: Option<u32>| pid.map(process::tree_cpu).unwrap_or_default();
        Ok(Self {
            client: process::own_cpu(),
            postgres: tree(stage.servers.postgres.pid()),
            broker: tree(stage.servers.kafka.pid()),
            wal: u64::try_from(wal)?,
        })
    }

    fn since(&self, before: &Self) -> Self {
        Self {
            client: self.client.saturating_sub(before.client),
            postgres: self.postgres.saturating_sub(before.postgres),
            broker: self.broker.saturating_sub(before.broker),
            wal: self.wal.saturating_sub(before.wal),
        }
    }
}
