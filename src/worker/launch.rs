//! From "built" to "in the group": everything that must be settled before anything joins.

use std::sync::Arc;
use std::time::{Duration, Instant};

use rdkafka::consumer::Consumer;
use rdkafka::error::KafkaError;
use tokio::sync::mpsc;
use tokio_util::task::AbortOnDropHandle;
use uuid::Uuid;

use super::control::{Control, Inboxes, Parts, RunningLanes, Tasks};
use super::heartbeat::{Heartbeat, HeldClaims, TakenClaim};
use super::members::{Members, Us};
use super::monitor::About;
use super::orders::Orders;
use super::redriver::Redriver;
use super::registrar::Registrar;
use super::vigil::Vigil;
use super::{Mapping, Phase, Worker};
use crate::backoff::Backoff;
use crate::batch::PartitionKey;
use crate::claim::mark::Marks;
use crate::claim::start::Start;
use crate::claim::{Arbiter, Claims, Guard, Obtain};
use crate::commit::Commit;
use crate::config::{Config, GroupProtocol, KafkaSecrets, client_properties, is_pattern};
use crate::consumer::access::{Cause, Issuer, OwnTokens};
use crate::consumer::ffi::EventQueue;
use crate::consumer::poll::{Membership, Notice, Poller};
use crate::consumer::{Access, Budget, Catalog, Waker};
use crate::control::is_older;
use crate::db::{Db, DbError, Identity};
use crate::due::{Trouble, span};
use crate::error::{Error, ErrorKind, Result};
use crate::lane::{Lane, LaneShared, Lanes, Limits, Linger, Pace};
use crate::migrate::check_version;

/// Runs a worker from its first connection to its last.
pub(super) async fn run(mut worker: Worker, shutdown: impl Future<Output = ()>) -> Result<()> {
    let board = Arc::clone(&worker.board);
    let owner = Uuid::new_v4();
    worker.config.name_group(owner);
    // First, so that it answers while the worker begins, and until it has ended.
    let admin = super::admin::open(&worker).await.inspect_err(|_| board.set_phase(Phase::Stopped, None))?;
    let address = admin.as_ref().map(|admin| admin.address());
    let _ = board.about.set(About::new(&worker.config, address));
    let admin = admin.map(|admin| admin.serve(worker.monitor()));
    tokio::pin!(shutdown);
    let launched = tokio::select! {
        biased;
        // Nothing was written, claimed or joined yet: there is nothing to give back.
        () = &mut shutdown => Ok(None),
        prepared = prepare(&worker, owner) => prepared.map(Some),
    };
    let launched = match launched {
        Ok(Some(prepared)) => tokio::select! {
            biased;
            // A row says that it lives, and nobody should count it as one that does.
            () = &mut shutdown => {
                prepared.heartbeat.say_farewell().await;
                Ok(None)
            }
            entered = prepared.enter(&worker) => entered.and_then(|()| launch(&worker, prepared)).map(Some),
        },
        Ok(None) => Ok(None),
        Err(error) => Err(error),
    };
    let ended = match launched {
        Ok(Some(Launched { control, tasks })) => control.run(shutdown, tasks).await,
        Ok(None) => Ok(()),
        Err(error) => Err(error),
    };
    board.set_phase(Phase::Stopped, None);
    if let Some(admin) = admin {
        admin.end().await;
    }
    ended
}

struct Launched {
    control: Control,
    tasks: Tasks,
}

/// What stands before anybody can know of this worker.
struct Prepared {
    database_id: Uuid,
    db: Arc<Db>,
    access: Arc<Access>,
    catalog: Catalog,
    start: Arc<Start>,
    held: Arc<HeldClaims>,
    heartbeat: Heartbeat,
    taken: mpsc::UnboundedReceiver<TakenClaim>,
    backoff: Backoff,
}

async fn prepare(worker: &Worker, owner: Uuid) -> Result<Prepared> {
    let config = &worker.config;
    let board = &worker.board;
    let identity = Identity {
        owner,
        group: config.group.as_str().into(),
        instance_id: config.instance_id.as_deref().map(Into::into),
    };
    board.set_phase(Phase::Starting, Some(owner));
    let assign: Vec<String> = config.assign.iter().map(ToString::to_string).collect();
    tracing::info!(group = config.group, %owner, topics = ?config.topics, ?assign, "starting");

    let backoff = Backoff::new(config.retry_backoff_min, config.retry_backoff_max);
    let db = Arc::new(Db::new(config, identity)?);
    let properties = properties(config, owner);
    for warning in crate::config::warnings(config) {
        tracing::warn!("{warning}");
    }
    let access = open_access(properties, secrets(worker), backoff.clone()).await?;
    let catalog = Catalog::new(Arc::clone(&access)).map_err(refused_properties)?;

    let database_id = connect(&db, backoff.clone()).await?;
    if let Some(before) = &worker.before {
        before(config.clone()).await?;
    }
    let start = Arc::new(Start::new(Arc::clone(&db), database_id, catalog.clone(), config, backoff.clone()));
    let held = Arc::new(HeldClaims::default());
    let (taken_sender, taken) = mpsc::unbounded_channel();
    let heartbeat =
        Heartbeat::new(Arc::clone(&db), Arc::clone(board), Arc::clone(&held), taken_sender, config);
    Ok(Prepared { database_id, db, access, catalog, start, held, heartbeat, taken, backoff })
}

impl Prepared {
    /// Becomes a worker of the group.
    async fn enter(&self, worker: &Worker) -> Result<()> {
        // Before any other statement that takes a lock: a process without a row counts as gone.
        first_heartbeat(&self.db, &self.heartbeat, self.backoff.clone()).await?;
        if let Err(refused) = self.start.ensure_all().await {
            // It is no worker of the group any more, and nobody should count it as one.
            self.heartbeat.say_farewell().await;
            return Err(refused);
        }
        // Where the group stands is known now, and nothing is applied yet.
        if let Some(mapping) = &worker.mapping {
            record_mapping(&self.db, &worker.config, mapping, self.backoff.clone()).await?;
        }
        Ok(())
    }
}

fn launch(worker: &Worker, prepared: Prepared) -> Result<Launched> {
    let Prepared { database_id, db, access, catalog, start, held, heartbeat, taken, backoff } = prepared;
    let (config, board, owner) = (&worker.config, &worker.board, db.identity.owner);
    let budget = Arc::new(Budget::new(config.buffer_budget));
    board.works_with(&db, &budget);
    let arbiter = if config.is_assigned_by_hand() { Arbiter::Nobody } else { Arbiter::Kafka };
    let claims = Arc::new(Claims::new(Arc::clone(&db), arbiter));
    let (outcome_sender, outcomes) = mpsc::unbounded_channel();
    let (report_sender, reports) = mpsc::unbounded_channel();
    let waker = Arc::new(Waker::default());
    let (lanes, commit) = start_lanes(worker, &db, &claims, &backoff, &report_sender, &waker);
    let redriver = Redriver::new(&db, &held, &commit, &worker.handler, config);
    let (roll_sender, rolls) = mpsc::unbounded_channel();
    let members = Members::new(
        catalog.clone(),
        config.group.clone(),
        Us::new(config, owner),
        Arc::clone(board),
        roll_sender,
    );
    let (mark_sender, marks) = mpsc::unbounded_channel();
    // Without membership Kafka takes a commit only while the group is empty: nothing is held for want of one.
    let mark_sender = config.mirror_interval.filter(|_| !config.is_assigned_by_hand()).map(|_| mark_sender);
    let guard = Guard::new(catalog, Arc::clone(&db));
    let vigil = Vigil::new(
        guard.clone(),
        config.on_offset_lost,
        lanes.shared.iter().map(Arc::clone).collect(),
        report_sender,
        Arc::clone(board),
        probe(config),
    );
    let obtain = Obtain::new(
        Arc::clone(&claims),
        guard,
        start,
        Arc::new(Marks::new(Arc::clone(&db), database_id, mark_sender)),
        backoff,
        config.on_offset_lost,
        outcome_sender,
    );

    let parts = Parts {
        config: config.clone(),
        board: Arc::clone(board),
        obtain,
        claims,
        held,
        budget,
        waker,
        lanes,
        access,
    };
    let (order_sender, orders) = mpsc::unbounded_channel();
    let control = Control::new(parts, Inboxes { outcomes, reports, taken, marks, rolls, orders })?;
    let orders = Orders::new(Arc::clone(&db), order_sender);
    let registrar = Registrar::new(db, &config.program, worker.handler.writes());
    Ok(Launched { control, tasks: Tasks { heartbeat, members, vigil, orders, registrar, redriver } })
}

/// A topic to ask about while nothing is read, so that it is known whether Kafka answers; none if there are only patterns.
fn probe(config: &Config) -> Option<String> {
    let by_hand = config.assign.first().map(|assigned| assigned.topic.clone());
    by_hand.or_else(|| config.topics.iter().find(|topic| !is_pattern(topic)).cloned())
}

fn start_lanes(
    worker: &Worker,
    db: &Arc<Db>,
    claims: &Arc<Claims>,
    backoff: &Backoff,
    reports: &mpsc::UnboundedSender<crate::lane::Report>,
    waker: &Arc<Waker>,
) -> (RunningLanes, Arc<Commit>) {
    let config = &worker.config;
    let commit =
        Commit::new(Arc::clone(db), config.max_processing_time, Arc::clone(&worker.board.lanes.batches));
    let commit = Arc::new(commit.under(Arc::clone(&worker.policies)));
    let pace = config.max_records_per_second.map(|limit| Arc::new(Pace::new(limit)));
    let evenly = pace.as_ref().map_or(usize::MAX, |pace| pace.max_records());
    let limits = Limits {
        target_records: config.batch_target_records,
        max_records: config.batch_max_records.min(evenly),
        max_bytes: config.batch_max_bytes,
        linger: Linger::new(config.linger),
        single_record_timeouts: u32::try_from(config.single_record_timeouts).unwrap_or(u32::MAX),
        pace,
    };
    let shared = Arc::new(Lanes::new(config.lanes));
    let parts = crate::lane::Parts {
        claims: Arc::clone(claims),
        commit: Arc::clone(&commit),
        handler: Arc::clone(&worker.handler),
        limits,
        backoff: backoff.clone(),
        counters: Arc::clone(&worker.board.lanes),
        reports: reports.clone(),
        waker: Arc::clone(waker),
        lanes: Arc::clone(&shared),
    };
    let start = |lane: &Arc<LaneShared>| {
        AbortOnDropHandle::new(tokio::spawn(Lane::new(Arc::clone(lane), parts.clone()).run()))
    };
    let tasks = shared.iter().map(start).collect();
    (RunningLanes { shared, tasks, policies: Arc::clone(&worker.policies) }, commit)
}

/// Waits for Postgres, checks what is between and the schema, and reads the database's id.
async fn connect(db: &Db, backoff: Backoff) -> Result<Uuid> {
    let mut waiting = Waiting { backoff, trouble: None };
    loop {
        // First: behind such a pooler nothing that follows could be relied on.
        match db.shares_backends().await {
            Ok(false) => {}
            Ok(true) => return Err(crate::db::pooler::refused()),
            Err(error) => {
                waiting.retry_or_fail(db, error).await?;
                continue;
            }
        }
        match db.renamed().await {
            Ok(None) => {}
            Ok(Some(seen)) => return Err(crate::db::pooler::renames(&seen)),
            Err(error) => {
                waiting.retry_or_fail(db, error).await?;
                continue;
            }
        }
        match db.control().await {
            Ok(client) => match client.within(check_version(client.raw(), &db.schema)).await {
                Ok(Ok(found)) => {
                    waiting.is_over(db);
                    return Ok(found.database_id);
                }
                Err(error) => waiting.retry_or_fail(db, error.into()).await?,
                // The connection broke just then: as if it had not been made.
                Ok(Err(error)) if error.kind() == ErrorKind::Postgres => {
                    waiting.retry_or_fail(db, DbError::Other(error.report())).await?;
                }
                Ok(Err(error)) => return Err(error),
            },
            Err(error) => waiting.retry_or_fail(db, error.into()).await?,
        }
    }
}

async fn first_heartbeat(db: &Db, heartbeat: &Heartbeat, backoff: Backoff) -> Result<()> {
    let mut waiting = Waiting { backoff, trouble: None };
    loop {
        let written = async { heartbeat.write(&db.control().await?).await };
        match written.await {
            Ok(()) => {
                waiting.is_over(db);
                return Ok(());
            }
            Err(error) => waiting.retry_or_fail(db, error).await?,
        }
    }
}

async fn record_mapping(db: &Db, config: &Config, mapping: &Mapping, backoff: Backoff) -> Result<()> {
    let mut waiting = Waiting { backoff, trouble: None };
    loop {
        match super::mapping::record(db, config, mapping).await {
            Ok(()) => {
                waiting.is_over(db);
                return Ok(());
            }
            Err(DbError::Postgres(error)) if is_older(&error) => {
                tracing::warn!(%error, "the file's mapping is not kept on record: run `highwater migrate`, and --print-grants again");
                return Ok(());
            }
            Err(error) => waiting.retry_or_fail(db, error).await?,
        }
    }
}

/// Waiting for Postgres, and what was said of it.
struct Waiting {
    backoff: Backoff,
    trouble: Option<Trouble>,
}

impl Waiting {
    /// A server that is away is waited for; a wrong password is not.
    async fn retry_or_fail(&mut self, db: &Db, error: DbError) -> Result<()> {
        db.heed(&error);
        let error = crate::db::into_fatal(error, db)?;
        let (wait, now, server) = (self.backoff.next(), Instant::now(), &db.server);
        if self.trouble.get_or_insert_with(|| Trouble::new(now)).is_due(now) {
            tracing::warn!(server, %error, retry_in = ?wait, "cannot use Postgres yet; trying again");
        } else {
            tracing::debug!(server, %error, retry_in = ?wait, "cannot use Postgres yet; trying again");
        }
        tokio::time::sleep(wait).await;
        Ok(())
    }

    fn is_over(&self, db: &Db) {
        if let Some(words) = &self.trouble {
            tracing::info!(
                server = db.server,
                "Postgres answers after {}",
                span(words.lasted(Instant::now()))
            );
        }
    }
}

/// Makes the client, subscribes it and starts its thread.
pub(super) fn start_poller(
    config: &Config,
    access: &Access,
    board: &super::StatusBoard,
    budget: &Arc<Budget>,
    notices: mpsc::UnboundedSender<Notice>,
) -> Result<Poller> {
    let mut native = access.properties();
    // The other clients, which only ask, have nothing to say of themselves.
    if native.get("statistics.interval.ms").is_none() {
        native.set("statistics.interval.ms", STATISTICS_INTERVAL_MS);
    }
    let client = access.consumer(&native).map_err(refused_properties)?;
    let by_hand = config.assign.iter().map(PartitionKey::from).collect();
    if !config.is_assigned_by_hand() {
        let topics: Vec<&str> = config.topics.iter().map(String::as_str).collect();
        client.subscribe(&topics).map_err(|error| {
            Error::new(ErrorKind::Kafka, format!("could not subscribe to {}", config.topics.join(", ")))
                .with_source(error)
        })?;
    }
    let queue = EventQueue::of(Arc::new(client))
        .ok_or_else(|| Error::new(ErrorKind::Internal, "the Kafka client has no consumer queue"))?;
    // Without a group there is no protocol that would ask for whole lists.
    let membership = Membership {
        cooperative: config.is_cooperative() || config.is_assigned_by_hand(),
        classic: config.group_protocol == GroupProtocol::Classic,
        leaves: config.instance_id.is_none() && !config.is_assigned_by_hand(),
    };
    Poller::start(queue, membership, by_hand, Arc::clone(budget), Arc::clone(&board.poll), notices).map_err(
        |error| Error::new(ErrorKind::Internal, "could not start the poll thread").with_source(error),
    )
}

/// What the Kafka clients are to be shown.
fn secrets(worker: &Worker) -> KafkaSecrets {
    let mut secrets = KafkaSecrets::of(&worker.config);
    if let Some(source) = &worker.tokens {
        let runtime = tokio::runtime::Handle::current();
        secrets.tokens = Some(Issuer::Own(OwnTokens { source: Arc::clone(source), runtime }));
    }
    secrets
}

/// Reads the secrets, which may block. Who gives out tokens and does not answer is waited for, as brokers are.
async fn open_access(
    properties: Vec<(String, String)>,
    secrets: KafkaSecrets,
    mut backoff: Backoff,
) -> Result<Arc<Access>> {
    loop {
        let (properties, secrets) = (properties.clone(), secrets.clone());
        let opened = tokio::task::spawn_blocking(move || Access::open(properties, secrets)).await;
        match opened
            .map_err(|error| Error::new(ErrorKind::Internal, "could not read secrets").with_source(error))?
        {
            Ok(access) => return Ok(access),
            Err(unread) if unread.cause == Cause::Away => {
                let wait = backoff.next();
                tracing::warn!(why = unread.why, retry_in = ?wait, "there is no token for Kafka yet; trying again");
                tokio::time::sleep(wait).await;
            }
            Err(unread) => return Err(unread.into()),
        }
    }
}

/// The properties of the worker's client. Without a group to join, those of the membership are left out.
fn properties(config: &Config, owner: Uuid) -> Vec<(String, String)> {
    let mut properties = client_properties(config, owner);
    if config.is_assigned_by_hand() {
        properties.retain(|(name, _)| name == "group.id" || !name.starts_with("group."));
    }
    properties
}

#[allow(clippy::needless_pass_by_value)] // for `map_err`
fn refused_properties(error: KafkaError) -> Error {
    crate::config::refused(&error)
}

/// How often the client tells its statistics: a document that grows with brokers and partitions.
const STATISTICS_INTERVAL_MS: &str = "10000";
/// How long the client may take to leave the group and close.
pub(super) const CLOSE_LIMIT: Duration = Duration::from_secs(10);
