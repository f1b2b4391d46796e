//! A person's hand on a group's offsets: see, plan, move, undo a decision, and prove who did what.
//!
//! What `highwater offsets` and `highwater partitions` do, as a library, so that a service can offer the same. Nothing
//! here is a worker: an [`Offsets`] reads and writes rows, and workers obey them within two seconds.
//!
//! A move is a [`Plan`] first: absolute positions, from and to, under an id. [`apply`](Offsets::apply) compares every
//! *from* in the transaction that moves it, and looks the plan's state up first. So a plan that is applied twice, by two
//! people at once, or once more because the answer was lost, moves nothing twice.
//!
//! ```no_run
//! use highwater::PartialConfig;
//! use highwater::offsets::{ApplyOptions, Offsets, Request, Selection, Target};
//!
//! # async fn replay() -> highwater::Result<()> {
//! let mut offsets = Offsets::connect(&PartialConfig::from_env()?.finish_operator()?).await?;
//! let request = Request::new("fraud-rules-v2", Selection::topic("payments"), Target::ShiftBy(-100))
//!     .actor("ana")
//!     .reason("DEPLOY-812");
//! let plan = offsets.plan(&request).await?;
//! let applied = offsets.apply(plan.id.expect("it was stored"), &ApplyOptions::by("ana").live(true)).await?;
//! println!("{} partitions were moved", applied.plan.steps.len());
//! # Ok(())
//! # }
//! ```

mod active;
mod adopt;
mod apply;
mod copy;
mod dead_letters;
mod delete;
mod describe;
mod ends;
mod events;
mod healths;
mod leading;
mod mappings;
mod names;
mod near;
mod partitions;
mod plan;
mod read;
mod reconcile;
mod request;
mod rows;
#[cfg(feature = "cli")]
mod sample;
mod skipped;
mod status;
mod tail;
mod takeover;
mod target;
mod undo;
mod waiting_letters;

use std::time::Duration;

use tokio_postgres::Client;

use crate::config::{DatabaseConfig, OperatorConfig};
use crate::consumer::Catalog;
use crate::error::{Error, ErrorKind, Result};
use crate::migrate::check_version;
use crate::schema::SchemaName;

pub(crate) use self::leading::leading_index;
#[cfg(feature = "cli")]
pub(crate) use self::read::ReadRecord;
#[cfg(feature = "cli")]
pub(crate) use self::sample::{Place, Sample, sample};

pub use self::active::{Activity, GroupMember, LiveWorker};
pub use self::apply::{Applied, ApplyOptions};
pub use self::copy::Copy;
pub use self::dead_letters::{
    DeadLetter, DeadLetterAttempt, DeadLetterFilter, DeadLetterHeader, DeadLetterKind, DeadLetterPayload,
    DeadLetterState, Discard, ExportedDeadLetter, ExportedToTopic, LeftOut, NotEligible, PayloadState,
    Redrivable, Redrive, RedriveStatus, ShownDeadLetter,
};
pub use self::delete::Deleted;
pub use self::describe::{Description, GroupSummary, Line, Lines};
pub use self::events::Event;
pub use self::mappings::MappingChange;
pub use self::names::names;
pub use self::partitions::{Obeyed, Order, Verb};
pub use self::plan::{Plan, PlanState, Step};
pub use self::reconcile::{
    ComparedPartition, ComparedTable, Difference, DifferenceKind, Expect, LedgerRange, RangeKind,
    ReconcileOptions, ReconcileProgress, Reconciliation, RowCount, TableChoice, UnreadPartition,
};
pub use self::request::{Position, Request, Selection, TopicSelection};
pub use self::status::{
    GroupStatus, Lag, LastEvent, PartitionLetters, StatusOptions, Trouble, TroubleKind, Workers,
};
pub use self::tail::{Content, RecordState, TailFrom, TailOptions, TailedRecord, TimestampKind};
pub use self::target::{Clamp, Target};
pub use self::undo::{Undo, UndoTable, Undoing};
pub use self::waiting_letters::WaitingLetters;

/// From this version on there are tables for plans.
const PLANS_SINCE: i32 = 2;
/// By which the database's administrators know it.
const APPLICATION_NAME: &str = "highwater command";
/// No statement here waits longer for a row: a batch holds one for as long as its compare-and-set and its COMMIT take.
const LOCK_TIMEOUT: Duration = Duration::from_secs(10);
/// Nor may one of them hold rows for longer.
const STATEMENT_TIMEOUT: Duration = Duration::from_secs(60);
/// A connection that is lost on this side alone holds its rows for so long.
const IDLE_TIMEOUT: Duration = Duration::from_secs(5);

/// A person's hand on the offsets of one database's groups.
#[derive(Debug)]
pub struct Offsets {
    database: DatabaseConfig,
    catalog: Option<Catalog>,
    client: Client,
}

impl Offsets {
    /// Connects to Postgres; Kafka is asked when something depends on it.
    ///
    /// # Errors
    ///
    /// If Postgres cannot be reached or refuses the login, or has no tables of Highwater's, or such that lack those for
    /// plans ([`Schema`](ErrorKind::Schema)).
    pub async fn connect(config: &OperatorConfig) -> Result<Self> {
        let catalog = (!config.brokers.is_empty()).then(|| config.catalog()).transpose()?;
        let client = open(&config.database).await?;
        let found = check_version(&client, &config.database.schema).await?;
        if found.version < PLANS_SINCE {
            let (schema, version) = (&config.database.schema, found.version);
            return Err(Error::new(
                ErrorKind::Schema,
                format!(
                    "schema `{schema}` has version {version}, and plans need {PLANS_SINCE} at least: run `highwater migrate` \
                     as its owner; workers may run meanwhile"
                ),
            ));
        }
        Ok(Self { database: config.database.clone(), catalog, client })
    }

    /// The role that the database knows this by.
    ///
    /// # Errors
    ///
    /// If Postgres does not answer.
    pub async fn role(&mut self) -> Result<String> {
        self.reconnect().await?;
        let row = self.client.query_one("SELECT current_user::text", &[]).await;
        row.map(|row| row.get(0)).map_err(|source| Error::postgres("ask who this is", source))
    }

    fn schema(&self) -> &SchemaName {
        &self.database.schema
    }

    /// Makes a new connection where the one before is gone.
    async fn reconnect(&mut self) -> Result<()> {
        if self.client.is_closed() {
            self.client = open(&self.database).await?;
        }
        Ok(())
    }

    fn kafka(&self) -> Result<&Catalog> {
        self.catalog.as_ref().ok_or_else(|| {
            Error::configuration(
                "this asks Kafka, and no broker is configured: give --bootstrap-server, or set HIGHWATER_BROKERS",
            )
        })
    }
}

async fn open(database: &DatabaseConfig) -> Result<Client> {
    let client = database.connect(APPLICATION_NAME).await?;
    let settings = format!(
        "SET lock_timeout = {}; SET statement_timeout = {}; SET idle_in_transaction_session_timeout = {}; \
         SET synchronous_commit = on; SET default_transaction_isolation = 'read committed'",
        LOCK_TIMEOUT.as_millis(),
        STATEMENT_TIMEOUT.as_millis(),
        IDLE_TIMEOUT.as_millis()
    );
    client.batch_execute(&settings).await.map_err(|source| Error::postgres("prepare a session", source))?;
    Ok(client)
}

/// A time of the database as RFC 3339, to the millisecond, in UTC.
fn utc(column: &str) -> String {
    format!("to_char({column} AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.MS\"Z\"')")
}
