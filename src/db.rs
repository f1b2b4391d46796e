//! The Postgres edge: who we are there, pools, sessions, and backends that must go.

pub(crate) mod blockers;
mod connect;
mod ended;
mod error;
mod lease;
mod notices;
pub(crate) mod pooler;
pub(crate) mod refused;
mod session;
pub(crate) mod tls;
pub(crate) mod url;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use deadpool_postgres::{
    Hook, HookError, Manager, ManagerConfig, Object, Pool, PoolError, RecyclingMethod, Runtime,
};
use sha2::{Digest, Sha256};
use tokio_postgres::error::SqlState;
use tokio_postgres::{CancelToken, Config as PostgresConfig};
use uuid::Uuid;

use crate::config::Config;
use crate::error::{Error, ErrorKind, Result};
use crate::handler::MAX_ABANDONED;
use crate::schema::SchemaName;
use crate::sqlstate::{Connection, classify};
pub(crate) use blockers::{Backend, Blockers};
use connect::Connector;
pub(crate) use error::{DbError, postgres_error};
pub(crate) use lease::Lease;

/// How old a session may grow. Temporary tables hold the database's transaction ids back for as long as they exist, and
/// no vacuum can help it.
const MAX_AGE: Duration = Duration::from_secs(3600);
/// Connections for the heartbeat, which keeps one, and for claims, releases and reads. Claims that wait for a lock
/// take at most half of those.
const CONTROL_CONNECTIONS: usize = 9;
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
    /// The `application_name` of every session: `highwater/<group hash>/<owner>`; by it a successor knows whose
    /// backend blocks it.
    pub(crate) fn application_name(&self) -> String {
        format!("{}{}", self.application_prefix(), self.owner.simple())
    }

    /// What the sessions of all processes of this group begin with. 8 hex digits of SHA-256: `application_name`
    /// holds 63 bytes, and a colliding group is still told apart by its owners.
    pub(crate) fn application_prefix(&self) -> String {
        let digest = Sha256::digest(self.group.as_bytes());
        format!("highwater/{:02x}{:02x}{:02x}{:02x}/", digest[0], digest[1], digest[2], digest[3])
    }
}

/// The database as a worker uses it.
#[derive(Debug)]
pub(crate) struct Db {
    pub(crate) identity: Identity,
    pub(crate) schema: SchemaName,
    connector: Connector,
    lanes: Pool,
    /// Statements that make a lane's session what it was when it was new.
    renewal: String,
    control: Pool,
    /// Older connections lead to a server that is not what it was.
    cleared: Arc<Mutex<Option<Instant>>>,
    pub(crate) blockers: Blockers,
}

impl Db {
    /// Makes the pools; connects to nothing yet.
    pub(crate) fn new(config: &Config, identity: Identity) -> Result<Self> {
        let address = config
            .postgres_url
            .address()
            .map_err(|defect| Error::configuration(format!("the address in postgres_url {defect}")))?;
        let name = identity.application_name();
        let connector = Connector::new(&address, |server| session::client_settings(server, &name))?;
        let cleared = Arc::default();
        let pool = |size: usize, settings: String| pool(&connector, &cleared, size, settings);
        let schema = config.schema.clone();
        Ok(Self {
            blockers: Blockers::new(&schema, &identity),
            renewal: session::lane_renewal(config, &name),
            lanes: pool(config.lanes + ABANDONED_CONNECTIONS, session::lane_settings(config))?,
            control: pool(CONTROL_CONNECTIONS, session::control_settings(config))?,
            connector,
            cleared,
            identity,
            schema,
        })
    }

    /// A connection for claims, releases and reads.
    pub(crate) async fn control(&self) -> Result<Object, PoolError> {
        self.control.get().await
    }

    /// As [`control`](Self::control), for work that a time-out may interrupt.
    pub(crate) async fn lease(&self) -> Result<Lease, PoolError> {
        Ok(Lease::new(self.control.get().await?))
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
    }

    /// Whether a connection that is kept leads to the server that is meant now.
    pub(crate) fn is_current(&self, connection: &Object) -> bool {
        let cleared = *self.cleared.lock().unwrap_or_else(PoisonError::into_inner);
        cleared.is_none_or(|cleared| Object::metrics(connection).created > cleared)
    }

    /// Clears the pools if this error says that the server is not what it was.
    pub(crate) fn heed(&self, error: &DbError) {
        let source = match error {
            DbError::Postgres(source) => Some(source),
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

    /// Cancels what runs on a connection of ours; see [`Connector::cancel`].
    pub(crate) async fn cancel(&self, token: &CancelToken) -> Result<(), tokio_postgres::Error> {
        self.connector.cancel(token).await
    }

    pub(crate) fn close(&self) {
        self.lanes.close();
        self.control.close();
    }
}

fn pool(
    connector: &Connector,
    cleared: &Arc<Mutex<Option<Instant>>>,
    size: usize,
    settings: String,
) -> Result<Pool> {
    let recycling = ManagerConfig { recycling_method: RecyclingMethod::Fast };
    let manager = Manager::from_connect(PostgresConfig::new(), connector.clone(), recycling);
    let cleared = Arc::clone(cleared);
    Pool::builder(manager)
        .max_size(size)
        .runtime(Runtime::Tokio1)
        .post_create(Hook::async_fn(move |client, _| {
            let settings = settings.clone();
            Box::pin(async move { session::prepare(client, &settings).await.map_err(HookError::Backend) })
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
pub(crate) fn into_fatal(error: DbError, schema: &SchemaName) -> Result<DbError, Error> {
    let source = match error {
        DbError::Postgres(source) => source,
        DbError::Pool(PoolError::Backend(source) | PoolError::PostCreateHook(HookError::Backend(source))) => {
            source
        }
        other @ (DbError::Pool(_) | DbError::Other(_)) => return Ok(other),
    };
    match source.code() {
        Some(&SqlState::INVALID_CATALOG_NAME) => {
            Err(Error::configuration("the database that postgres_url names does not exist")
                .with_source(source))
        }
        Some(&SqlState::UNDEFINED_TABLE | &SqlState::INVALID_SCHEMA_NAME | &SqlState::UNDEFINED_COLUMN) => {
            let text =
                format!("the tables of schema {schema} are missing or too old: run `highwater migrate`");
            Err(Error::new(ErrorKind::Schema, text).with_source(source))
        }
        _ => {
            let error = Error::postgres("use Postgres", source);
            if error.is_access_denied() { Err(error) } else { Ok(DbError::Other(error.report())) }
        }
    }
}
