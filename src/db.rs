//! The Postgres edge: who we are there, pools, sessions, and backends that must go.

pub(crate) mod blockers;
mod connect;
mod denied;
mod ended;
mod error;
mod horizon;
mod lease;
mod live;
mod notices;
#[cfg(feature = "cli")]
pub(crate) mod one_off;
mod password;
pub(crate) mod pooler;
mod privilege;
pub(crate) mod refused;
mod session;
pub(crate) mod tls;
pub(crate) mod url;
pub(crate) mod waits;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use deadpool_postgres::{
    Hook, HookError, Manager, ManagerConfig, Object, Pool, PoolError, RecyclingMethod, Runtime, Timeouts,
};
use sha2::{Digest, Sha256};
use tokio_postgres::error::SqlState;
use tokio_postgres::{CancelToken, Config as PostgresConfig};
use uuid::Uuid;

use crate::config::Config;
use crate::error::{Error, ErrorKind, Result};
use crate::handler::MAX_ABANDONED;
use crate::metrics::PoolMetrics;
use crate::schema::SchemaName;
use crate::verdict::Connection;
use crate::verdict::postgres::classify;
pub(crate) use blockers::{Backend, Blockers};
use connect::Connector;
pub(crate) use denied::Denied;
pub(crate) use error::{DbError, postgres_error};
pub(crate) use horizon::{HOLDS_BACK, oldest_sql};
pub(crate) use lease::{Lease, Transaction};
pub(crate) use live::{LIVE_SECONDS, REPORT_COUNTS, from_the_future, live, live_in_snapshot};
use password::Password;

/// How old a session may grow. Temporary tables hold the database's transaction ids back for as long as they exist, and
/// no vacuum can help it.
const MAX_AGE: Duration = Duration::from_secs(3600);
/// Connections for claims, releases and reads. Claims that wait for a lock take at most half of those.
const CONTROL_CONNECTIONS: usize = 8;
/// Connections for what must not wait behind claims: the heartbeat, which keeps one and is given a second while that is
/// silent, the reports, the look for orders, the pruning and the survey.
const STATUS_CONNECTIONS: usize = 6;
/// Beside one connection per lane: the pool counts those that handlers hold which were given up and block their
/// threads. The server has ended these; a few are left over besides the limit, one per partition that it halted.
const ABANDONED_CONNECTIONS: usize = MAX_ABANDONED + 1_000;

/// Who this process is to the database.
#[derive(Debug, Clone)]
pub(crate) struct Identity {
    /// Random per process start.
    pub(crate) owner: Uuid,
    pub(crate) group: Arc<str>,
    pub(crate) instance_id: Option<Arc<str>>,
}

impl Identity {
    /// What the `application_name` of every session begins with: `highwater/<hash of schema and group>/<owner>`. A
    /// pooler may write something after it.
    ///
    /// 8 hex digits of SHA-256: `application_name` holds 63 bytes, and a colliding group is still told apart by its
    /// owners.
    pub(crate) fn application_name(&self, schema: &SchemaName) -> String {
        let digest = Sha256::digest(format!("{schema}\0{}", self.group));
        let [a, b, c, d] = [digest[0], digest[1], digest[2], digest[3]];
        format!("highwater/{a:02x}{b:02x}{c:02x}{d:02x}/{}", self.owner.simple())
    }
}

/// The database as a worker uses it.
#[derive(Debug)]
pub(crate) struct Db {
    pub(crate) identity: Identity,
    pub(crate) schema: SchemaName,
    /// Where it is, as `postgres://user@host:port/database`: never a password.
    pub(crate) server: String,
    connector: Connector,
    lanes: Pool,
    /// Statements that make a lane's session what it was when it was new.
    renewal: String,
    control: Pool,
    status: Pool,
    /// How long a statement of the worker's own may take.
    control_limit: Duration,
    /// Older connections lead to a server that is not what it was.
    cleared: Arc<Mutex<Option<Instant>>>,
    pub(crate) blockers: Blockers,
}

impl Db {
    /// Makes the pools; connects to nothing yet.
    pub(crate) fn new(config: &Config, identity: Identity) -> Result<Self> {
        let record = session::record(&config.schema, identity.owner);
        Self::opening(config, identity, Some(&record))
    }

    /// As [`new`](Self::new), for whoever only looks: nothing is recorded of its sessions.
    #[cfg(feature = "cli")]
    pub(crate) fn of_visitor(config: &Config, identity: Identity) -> Result<Self> {
        Self::opening(config, identity, None)
    }

    fn opening(config: &Config, identity: Identity, record: Option<&str>) -> Result<Self> {
        let address = config
            .postgres_url
            .address()
            .map_err(|defect| Error::configuration(format!("the address in postgres_url {defect}")))?;
        let schema = config.schema.clone();
        let name = identity.application_name(&schema);
        let password = Password::new(
            config.postgres_password_file.as_deref(),
            config.postgres_password_command.as_ref(),
        );
        let connector = Connector::new(&address, password, |server| session::client_settings(server, &name))?;
        let cleared = Arc::default();
        let pool = |size: usize, settings: String| {
            let record = record.map(str::to_owned);
            pool(&connector, &cleared, size, session::Opening { settings, record })
        };
        Ok(Self {
            blockers: Blockers::new(&schema, &identity),
            renewal: session::lane_renewal(config, &name),
            lanes: pool(config.lanes + ABANDONED_CONNECTIONS, session::lane_settings(config))?,
            control: pool(CONTROL_CONNECTIONS, session::control_settings(config))?,
            status: pool(STATUS_CONNECTIONS, session::control_settings(config))?,
            control_limit: session::control_limit(config),
            connector,
            cleared,
            identity,
            schema,
            server: config.postgres_url.to_string(),
        })
    }

    /// A connection for claims, releases and reads.
    pub(crate) async fn control(&self) -> Result<Lease, PoolError> {
        self.lease_of(&self.control).await
    }

    /// A connection for the heartbeat, or for telling how things stand.
    pub(crate) async fn status(&self) -> Result<Lease, PoolError> {
        self.lease_of(&self.status).await
    }

    /// Connecting has limits of its own; waiting for others to give one back has that of their statements.
    async fn lease_of(&self, pool: &Pool) -> Result<Lease, PoolError> {
        let limits = Timeouts { wait: Some(self.control_limit), ..Timeouts::default() };
        Ok(Lease::new(pool.timeout_get(&limits).await?, self.control_limit))
    }

    /// A connection for a lane's batches.
    pub(crate) async fn lane(&self) -> Result<Object, PoolError> {
        self.lanes.get().await
    }

    /// Statements with which each transaction on a lane's connection begins: see [`Tx::begin`](crate::Tx::begin).
    pub(crate) fn renewal(&self) -> &str {
        &self.renewal
    }

    /// Drops every connection that was made before: the server is not what it was (demoted, restarted). Those in use
    /// go when they are given back.
    pub(crate) fn clear(&self) {
        *self.cleared.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
        self.lanes.retain(|_, _| false);
        self.control.retain(|_, _| false);
        self.status.retain(|_, _| false);
    }

    /// Whether a connection that is kept leads to the server that is meant now.
    pub(crate) fn is_current(&self, connection: &Lease) -> bool {
        let cleared = *self.cleared.lock().unwrap_or_else(PoisonError::into_inner);
        cleared.is_none_or(|cleared| connection.created() > cleared)
    }

    /// Whether the database refuses this worker's credentials: as far as anybody has asked it for a session, it has
    /// not done anything else since it began to.
    pub(crate) fn is_denied(&self) -> bool {
        self.connector.denied().is_some()
    }

    /// Fails once it has done so for `limit`, without a break.
    pub(crate) fn check_access(&self, limit: Option<Duration>) -> Result<()> {
        match (self.connector.denied(), limit) {
            (Some((since, why)), Some(limit)) if since >= limit => Err(Error::new(
                ErrorKind::Authentication,
                format!(
                    "Postgres ({}) has refused this worker's credentials for {since:?} without a break ({why}): correct \
                     postgres_url, or have rotated passwords read anew with postgres_password_file or \
                     postgres_password_command",
                    self.server
                ),
            )),
            _ => Ok(()),
        }
    }

    /// Clears the pools if this error says that the server is not what it was.
    pub(crate) fn heed(&self, error: &DbError) {
        let source = match error {
            DbError::Postgres(source) | DbError::Waited(source, _) => Some(source),
            DbError::Pool(error) => postgres_error(error),
            DbError::Other(_) => None,
        };
        if source.is_some_and(|source| classify(source).connection == Connection::DiscardAll) {
            self.clear();
        }
    }

    /// The SQLSTATE with which the server ended a session for having idled, or lasted, for too long: whoever used it
    /// next was told only that it is closed.
    pub(crate) fn timed_out(&self, pid: i32) -> Option<String> {
        self.connector.ended(pid)
    }

    /// How many sessions this process has lost so far: ended by the server, or cut off.
    pub(crate) fn lost_sessions(&self) -> u64 {
        self.connector.lost_sessions()
    }

    /// Cancels what runs on a connection of ours; see [`Connector::cancel`].
    pub(crate) async fn cancel(&self, token: &CancelToken) -> Result<(), tokio_postgres::Error> {
        self.connector.cancel(token).await
    }

    /// How much the pools are used.
    pub(crate) fn pools(&self) -> Vec<PoolMetrics> {
        let pools = [("lanes", &self.lanes), ("control", &self.control), ("status", &self.status)];
        let metrics = pools.map(|(name, pool)| {
            let status = pool.status();
            PoolMetrics::new(name, status.size, status.available, status.waiting)
        });
        metrics.into()
    }

    pub(crate) fn close(&self) {
        self.lanes.close();
        self.control.close();
        self.status.close();
    }
}

fn pool(
    connector: &Connector,
    cleared: &Arc<Mutex<Option<Instant>>>,
    size: usize,
    opening: session::Opening,
) -> Result<Pool> {
    let recycling = ManagerConfig { recycling_method: RecyclingMethod::Fast };
    let manager = Manager::from_connect(PostgresConfig::new(), connector.clone(), recycling);
    let cleared = Arc::clone(cleared);
    Pool::builder(manager)
        .max_size(size)
        .runtime(Runtime::Tokio1)
        .post_create(Hook::async_fn(move |client, _| {
            let opening = opening.clone();
            Box::pin(async move { session::prepare(client, &opening).await.map_err(HookError::Backend) })
        }))
        .pre_recycle(Hook::sync_fn(move |_, metrics| {
            if metrics.created.elapsed() > MAX_AGE {
                return Err(HookError::message("the session is old"));
            }
            let cleared = *cleared.lock().unwrap_or_else(PoisonError::into_inner);
            if cleared.is_some_and(|cleared| metrics.created <= cleared) {
                return Err(HookError::message("the server is not what it was"));
            }
            Ok(())
        }))
        .build()
        .map_err(|error| {
            Error::new(ErrorKind::Internal, "could not build a connection pool").with_source(error)
        })
}

/// Makes an error of what no waiting cures (wrong credentials, no such database, no tables, no rights); gives
/// anything else back.
pub(crate) fn into_fatal(error: DbError, db: &Db) -> Result<DbError, Error> {
    let (schema, server) = (&db.schema, &db.server);
    let source = match error {
        DbError::Postgres(source) | DbError::Waited(source, _) => source,
        DbError::Pool(PoolError::Backend(source) | PoolError::PostCreateHook(HookError::Backend(source))) => {
            source
        }
        other @ (DbError::Pool(_) | DbError::Other(_)) => return Ok(other),
    };
    match source.code() {
        Some(&SqlState::INVALID_CATALOG_NAME) => {
            let text = format!("the database that postgres_url names does not exist ({server})");
            Err(Error::configuration(text).with_source(source))
        }
        Some(&SqlState::UNDEFINED_TABLE | &SqlState::INVALID_SCHEMA_NAME | &SqlState::UNDEFINED_COLUMN) => {
            let text =
                format!("the tables of schema {schema} are missing or too old: run `highwater migrate`");
            Err(Error::new(ErrorKind::Schema, text).with_source(source))
        }
        _ => {
            let error = Error::postgres(format!("use Postgres at {server}"), source);
            if error.is_access_denied() { Err(error) } else { Ok(DbError::Other(error.report())) }
        }
    }
}
