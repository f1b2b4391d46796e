//! One batch, one transaction: the handler's rows and the offsets, or neither (EO-1).

mod aside;
mod compare_and_set;
mod redriven;

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::{Duration, Instant};

use tokio_postgres::CancelToken;
use tokio_postgres::error::SqlState;
use tracing::Instrument as _;

use crate::batch::{ClaimId, PartitionKey};
use crate::claim::watch;
use crate::db::waits::Wait;
use crate::db::{Backend, Db, DbError};
use crate::dead_letter::{Deed, Keys, Letter, Policies, Rejection, Store, WaitingKeys, payload_of};
use crate::failpoint::failpoint;
use crate::handler::{ErasedHandler, HandlerThread, Running};
use crate::metrics::meter::BatchMeter;
use crate::record::RecordId;
use crate::tx::protected::Tampered;
use crate::verdict::{Class, Connection, Place};
use crate::{Batch, HandlerError, Tx, trace};
use aside::{Aside, Set, overtaken};
use compare_and_set::CompareAndSet;
pub(crate) use redriven::{FailedAgain, Redrive};

/// How long a rollback, a cancel or the end of a backend may take before it is given up.
const PROMPTLY: Duration = Duration::from_secs(2);

/// What became of a batch.
#[derive(Debug)]
pub(crate) enum Attempt {
    /// Durable: rows and offsets.
    Applied,
    /// Rolled back: the compare-and-set found fewer rows under their claim than the batch has partitions. As far as is
    /// known, the transaction was the one that began.
    Missed,
    /// Rolled back: somebody holds a partition's row for longer than `lock_timeout`. Who, if that was seen.
    Locked(Option<Wait>),
    /// Rolled back or never begun; certainly nothing is durable.
    Failed { place: Place, error: HandlerError },
    /// The handler panicked; nothing is durable.
    Panicked(String),
    /// `max_processing_time` passed before COMMIT was sent; nothing is durable. For which lock it waited then, if it did.
    TimedOut(Option<Wait>),
    /// As `TimedOut`; the handler blocks its thread, and so do too many that were given up before.
    Crowded,
    /// The drain deadline passed before COMMIT was sent; nothing is durable.
    Cancelled,
    /// COMMIT may have been sent and its answer is not known: the next claim tells (EO-7).
    Unknown { class: Class, why: String },
    /// Rows are durable without their offsets: the handler ended the transaction behind our back.
    Smuggled,
    /// Rolled back: the handler has rejected these, at most one of each part, though later records of their keys were in the
    /// batch, which are to be parked behind them.
    Overtaken(Vec<(RecordId, Rejection)>),
    /// Rolled back: nothing waits any more of what a record was to be parked behind.
    NotParked,
}

/// What ended the work on a batch before COMMIT was sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ended {
    TimedOut,
    Cancelled,
}

impl From<Ended> for Attempt {
    fn from(ended: Ended) -> Self {
        match ended {
            Ended::TimedOut => Self::TimedOut(None),
            Ended::Cancelled => Self::Cancelled,
        }
    }
}

impl Attempt {
    /// What it waited for, if it was given up meanwhile.
    fn having_waited(self, lock: Option<Wait>) -> Self {
        match self {
            Self::TimedOut(_) => Self::TimedOut(lock),
            other => other,
        }
    }
}

impl Ended {
    /// Leaves its thread to work that does not end by being told to.
    pub(crate) async fn after<T: Send + 'static>(
        self,
        thread: &mut HandlerThread,
        running: Running<T>,
    ) -> Attempt {
        let crowded = !thread.give_up(running).await;
        if crowded && self == Self::TimedOut { Attempt::Crowded } else { self.into() }
    }
}

/// Applies batches.
#[derive(Debug)]
pub(crate) struct Commit {
    db: Arc<Db>,
    compare_and_set: CompareAndSet,
    max_processing_time: Duration,
    /// Handlers that were given up and block their threads.
    abandoned: Arc<AtomicUsize>,
    meter: Arc<BatchMeter>,
    /// What becomes of records that are rejected.
    policies: Arc<Policies>,
    store: Store,
    keys: Keys,
    /// What becomes of dead letters that are applied once more.
    redrive: Redrive,
}

impl Commit {
    pub(crate) fn new(db: Arc<Db>, max_processing_time: Duration, meter: Arc<BatchMeter>) -> Self {
        let compare_and_set = CompareAndSet::new(&db);
        let (store, policies) = (Store::whole(&db.schema), Arc::new(Policies::halting()));
        let (keys, redrive, abandoned) = (Keys::new(&db), Redrive::new(&db), Arc::default());
        Self { compare_and_set, db, max_processing_time, abandoned, meter, policies, store, keys, redrive }
    }

    /// The same under these policies.
    pub(crate) fn under(self, policies: Arc<Policies>) -> Self {
        // Their count is there from the start, as one that may grow.
        policies.setting_aside().for_each(|route| self.meter.set_aside(route, 0));
        let store = Store::new(&self.db.schema, policies.keep());
        Self { policies, store, ..self }
    }

    pub(crate) fn policies(&self) -> &Arc<Policies> {
        &self.policies
    }

    pub(crate) fn meter(&self) -> &BatchMeter {
        &self.meter
    }

    /// Notes whether these partitions park, from now on.
    pub(crate) async fn begin_parking(&self, held: &[(PartitionKey, ClaimId, bool)]) -> Result<(), DbError> {
        self.keys.begin(&self.db, held).await
    }

    /// The keys of which a record is a dead letter, in these partitions; one that is missing is not under this claim.
    pub(crate) async fn waiting_keys(
        &self,
        held: &[(PartitionKey, ClaimId)],
    ) -> Result<HashMap<PartitionKey, WaitingKeys>, DbError> {
        self.keys.read(&self.db, held).await
    }

    /// Whether letters of the partition are being redriven; `false` if that cannot be said.
    pub(crate) async fn is_redriven(&self, key: &PartitionKey) -> bool {
        self.keys.is_redriven(&self.db, key).await.unwrap_or(false)
    }

    /// A thread for the handlers of one lane.
    pub(crate) fn handler_thread(&self) -> HandlerThread {
        HandlerThread::new(Arc::clone(&self.abandoned), Arc::clone(&self.meter))
    }

    /// A thread for handlers beside the lanes: what they leave behind is counted apart.
    pub(crate) fn thread_apart(&self) -> HandlerThread {
        HandlerThread::new(Arc::default(), Arc::clone(&self.meter))
    }

    /// What ends the work on a batch: everything up to COMMIT is under it, COMMIT itself is not.
    pub(crate) async fn limit(&self, cancelled: impl Future<Output = ()>) -> Ended {
        tokio::select! {
            () = tokio::time::sleep(self.max_processing_time) => Ended::TimedOut,
            () = cancelled => Ended::Cancelled,
        }
    }

    /// Applies `batch`, within [`limit`](Self::limit).
    pub(crate) async fn apply(
        &self,
        batch: &Arc<Batch>,
        handler: &Arc<dyn ErasedHandler>,
        thread: &mut HandlerThread,
        mut limit: Pin<&mut impl Future<Output = Ended>>,
    ) -> Attempt {
        let began = Instant::now();
        let tx = tokio::select! {
            begun = self.begin() => match begun {
                Ok(tx) => tx,
                Err((place, error)) => return Attempt::Failed { place, error },
            },
            ended = &mut limit => return match ended {
                // The batch has not even begun: that is Postgres' slowness, not the batch's.
                Ended::TimedOut => {
                    let error = HandlerError::retry("Postgres gave no connection in time");
                    Attempt::Failed { place: Place::Connect, error }
                }
                Ended::Cancelled => Attempt::Cancelled,
            },
        };
        self.meter.begin.took(began.elapsed());
        let left_behind = LeftBehind {
            backend: Backend { pid: tx.backend_pid(), xact_id: tx.xact_id().to_owned() },
            cancel: Some(tx.cancel_token()),
        };
        failpoint!("batch_begun");

        // 1. The rows. On a thread apart, so that a panic, or a handler that blocks, stays there.
        let tx = if batch.is_empty() {
            tx
        } else {
            let began = Instant::now();
            let mut running = match thread.run(Arc::clone(batch), Arc::clone(handler), tx) {
                Ok(running) => running,
                Err(error) => {
                    self.leave_behind(left_behind);
                    let error =
                        HandlerError::retry("the system gave no thread for the handler").with_source(error);
                    return Attempt::Failed { place: Place::Begin, error };
                }
            };
            let handled = tokio::select! {
                handled = watch(&self.db, left_behind.backend.pid, running.finished()) => handled,
                ended = &mut limit => {
                    let lock = self.db.blockers.waited(left_behind.backend.pid);
                    self.leave_behind(left_behind);
                    return ended.after(thread, running).await.having_waited(lock);
                }
            };
            self.meter.handler.took(began.elapsed());
            match handled {
                Ok((Ok(()), tx)) => tx,
                Ok((Err(error), tx)) => {
                    let named = error.record().is_some() && error.sqlstate().is_some();
                    let place = if named { Place::CopyRow } else { Place::Statement };
                    return self.failed(place, error, tx, left_behind).await;
                }
                Err(panic) => {
                    self.leave_behind(left_behind);
                    return Attempt::Panicked(panic);
                }
            }
        };
        if !tx.written().is_zero() {
            self.meter.write.took(tx.written());
        }
        if let Err(error) = tx.usable() {
            return self.failed(Place::Statement, error, tx, left_behind).await;
        }
        // Also where the handler has kept it to itself: what it rejected, it has not written.
        if let Some(error) = tx.refused() {
            return self.failed(Place::Statement, error, tx, left_behind).await;
        }
        failpoint!("rows_written");

        let span = trace::commit(batch, &self.db.identity);
        let attempt = self.settle(tx, batch, left_behind, limit).instrument(span.clone()).await;
        trace::committed(&span, &attempt);
        attempt
    }

    /// The part of a batch's transaction that is ours.
    async fn settle(
        &self,
        mut tx: Tx,
        batch: &Batch,
        mut left_behind: LeftBehind,
        mut limit: Pin<&mut impl Future<Output = Ended>>,
    ) -> Attempt {
        let by_handler = tx.take_rejected();
        let overtaken = overtaken(&self.policies, batch, &by_handler);
        if !overtaken.is_empty() {
            self.roll_back(tx, left_behind).await;
            return Attempt::Overtaken(overtaken);
        }
        if let Some(redriven) = batch.redriven() {
            return self.settle_letters(tx, batch, redriven, &by_handler, left_behind, limit).await;
        }
        let aside = match Aside::new(&self.policies, batch, &by_handler) {
            Ok(aside) => aside,
            Err(error) => return self.failed(Place::Statement, error, tx, left_behind).await,
        };

        // 2. The offsets. The last statement before COMMIT, but for dead letters: in a transaction that an SQL error has
        //    aborted it fails, also when the handler swallowed that error (PITFALLS 19).
        let began = Instant::now();
        let compared = {
            let compared = self.compare_and_set.run(&tx, batch);
            tokio::select! {
                compared = watch(&self.db, left_behind.backend.pid, compared) => compared,
                ended = &mut limit => {
                    let lock = self.db.blockers.waited(left_behind.backend.pid);
                    self.leave_behind(left_behind);
                    return Attempt::from(ended).having_waited(lock);
                }
            }
        };
        self.meter.offsets.took(began.elapsed());
        match compared {
            Ok(count) if count == batch.parts.len() => {}
            Ok(count) => {
                tracing::debug!(partitions = batch.parts.len(), moved = count, "the compare-and-set missed");
                return self.missed(tx, left_behind).await;
            }
            Err(error) => return self.not_compared(error, tx, left_behind).await,
        }
        tracing::trace!(elapsed = ?began.elapsed(), "offsets compared and set");
        failpoint!("before_commit");

        // Behind the compare-and-set: it has seen that the transaction is the batch's own, and moves lock in this order, too.
        if !aside.letters.is_empty() {
            let stored = {
                let stored = self.set_aside(&tx, batch, &aside.letters);
                tokio::select! {
                    stored = watch(&self.db, left_behind.backend.pid, stored) => stored,
                    ended = &mut limit => {
                        self.leave_behind(left_behind);
                        return ended.into();
                    }
                }
            };
            match stored {
                Ok(true) => {}
                Ok(false) => {
                    self.roll_back(tx, left_behind).await;
                    return Attempt::NotParked;
                }
                Err(error) => {
                    return self.failed(Place::CompareAndSet, aside.not_stored(error), tx, left_behind).await;
                }
            }
            failpoint!("letters_stored");
        }
        self.count(aside, batch, &mut tx);

        // 3. From here on nothing is cancelled: COMMIT may have been carried out (EO-7).
        left_behind.cancel = None;
        self.commit(tx, left_behind).await
    }

    /// Stores what is set aside; `false`: what would be parked has nothing to wait behind any more.
    async fn set_aside(
        &self,
        tx: &Tx,
        batch: &Batch,
        letters: &[Set<'_>],
    ) -> Result<bool, tokio_postgres::Error> {
        let parks = batch.parts.iter().any(|part| !part.parked.is_empty());
        if parks && !self.keys.still_wait(tx, batch).await? {
            return Ok(false);
        }
        self.store(tx, letters).await?;
        Ok(true)
    }

    async fn store(&self, tx: &Tx, letters: &[Set<'_>]) -> Result<(), tokio_postgres::Error> {
        let client = tx.raw();
        let statement = client.prepare_cached(&self.store.sql).await?;
        let identity = &self.db.identity;
        let letters: Vec<Letter<'_>> = letters
            .iter()
            .map(|Set { record, why, deed }| Letter {
                group: &identity.group,
                topic: record.topic(),
                topic_id: None,
                partition: record.partition(),
                offset: record.offset(),
                payload: payload_of(record),
                fingerprint: &why.fingerprint,
                sqlstate: why.sqlstate.as_deref(),
                reason: &why.reason,
                handler: Some(self.policies.handler(record.topic())),
                worker: Some(identity.owner),
                deed: *deed,
            })
            .collect();
        self.store.write(&**client, &statement, &letters).await
    }

    /// Counts what is set aside, once it is durable.
    fn count(&self, aside: Aside<'_>, batch: &Batch, tx: &mut Tx) {
        let Aside { letters, counted, by_handler } = aside;
        let Some(counted) = counted else { return };
        // Read after COMMIT only.
        batch.has_rejected(by_handler);
        let (policies, meter) = (Arc::clone(&self.policies), Arc::clone(&self.meter));
        let parked = letters.iter().filter(|set| set.deed == Deed::Park).count();
        let rejected = letters.len() - parked;
        let first = letters.iter().find(|set| set.deed != Deed::Park);
        let first = first.map(|set| (set.record.id(), set.why.clone().into_owned()));
        tx.on_commit(move || {
            if let Some((record, why)) = first {
                let (kind, reason) = (why.fingerprint, why.reason);
                tracing::warn!(records = rejected, %record, kind, reason, "stored as dead letters, and stepped over: the first of them");
            }
            if parked > 0 {
                tracing::debug!(records = parked, "parked behind dead letters of their keys");
            }
            for (route, stored) in policies.count(&counted) {
                meter.set_aside(route, stored);
            }
        });
    }

    async fn begin(&self) -> Result<Tx, (Place, HandlerError)> {
        let connection = self.db.lane().await.map_err(|error| (Place::Connect, pool_error(error)))?;
        let begun = Tx::begin(connection, self.db.renewal()).await.inspect_err(|error| self.heed(error));
        let mut begun = begun.map_err(|error| (Place::Begin, error))?;
        if self.policies.is_any() {
            begun.under(&self.policies);
        }
        Ok(begun)
    }

    async fn commit(&self, tx: Tx, left_behind: LeftBehind) -> Attempt {
        let began = Instant::now();
        let committed = {
            let commit = tx.raw().batch_execute("COMMIT");
            tokio::pin!(commit);
            #[cfg(feature = "testing")]
            let answered = {
                // The first poll hands COMMIT to the connection's task, the yield lets that task send it.
                let answered = futures_util::poll!(&mut commit);
                tokio::task::yield_now().await;
                answered
            };
            #[cfg(not(feature = "testing"))]
            let answered = std::task::Poll::Pending;
            failpoint!("commit_sent");
            match answered {
                // On a connection that is closed already; to poll again would be a panic.
                std::task::Poll::Ready(answered) => Ok(answered),
                std::task::Poll::Pending => tokio::time::timeout(self.max_processing_time, commit).await,
            }
        };
        failpoint!("commit_answered");
        self.meter.commit.took(began.elapsed());
        let error = match committed {
            Ok(Ok(())) => {
                drop(tx.into_connection());
                return Attempt::Applied;
            }
            Ok(Err(error)) => HandlerError::from(error),
            Err(_) => {
                self.leave_behind(left_behind);
                let why = format!("no answer to COMMIT in {:?}", self.max_processing_time);
                return Attempt::Unknown { class: Class::OwnTimeout, why };
            }
        };
        let cause = error.cause();
        if cause.definite {
            // A deferred constraint, or a serialization failure: the server rolled back.
            return self.failed(Place::Commit, error, tx, left_behind).await;
        }
        self.heed(&error);
        self.leave_behind(left_behind);
        Attempt::Unknown { class: cause.class, why: error.to_string() }
    }

    async fn failed(&self, place: Place, error: HandlerError, tx: Tx, left_behind: LeftBehind) -> Attempt {
        // What the server says between two statements does not reach the handler: to it, the connection was lost.
        let error = match self.db.timed_out(left_behind.backend.pid) {
            Some(sqlstate) if matches!(error.cause().class, Class::Environment | Class::Lost) => {
                error.timed_out(&sqlstate)
            }
            _ => error,
        };
        let error = match error.sqlstate() {
            // The server has ended the wait: what is known of it was seen before.
            Some("55P03") => match self.db.blockers.waited(left_behind.backend.pid) {
                Some(lock) => error.having_waited(&lock.to_string()),
                None => error,
            },
            _ => error,
        };
        self.heed(&error);
        if error.cause().connection == Connection::Keep {
            self.roll_back(tx, left_behind).await;
        } else {
            self.leave_behind(left_behind);
        }
        Attempt::Failed { place, error }
    }

    /// Back to the pool with the connection if that goes well and quickly. It may not: a rollback queues behind a
    /// statement that the handler began and did not wait for, and behind a COPY that nobody ends.
    async fn roll_back(&self, tx: Tx, left_behind: LeftBehind) {
        if !matches!(tokio::time::timeout(PROMPTLY, tx.rollback()).await, Ok(Some(_))) {
            self.leave_behind(left_behind);
        }
    }

    async fn not_compared(&self, error: tokio_postgres::Error, tx: Tx, left_behind: LeftBehind) -> Attempt {
        match error.code() {
            Some(&SqlState::LOCK_NOT_AVAILABLE) => {
                let lock = self.db.blockers.waited(left_behind.backend.pid);
                self.roll_back(tx, left_behind).await;
                Attempt::Locked(lock)
            }
            Some(&SqlState::IN_FAILED_SQL_TRANSACTION) => {
                self.roll_back(tx, left_behind).await;
                Attempt::Failed { place: Place::CompareAndSet, error: HandlerError::swallowed(error) }
            }
            // It could write when it began, and a server is not demoted under a session.
            Some(&SqlState::READ_ONLY_SQL_TRANSACTION) => {
                self.roll_back(tx, left_behind).await;
                let error = changed("transaction_read_only").with_source(error);
                Attempt::Failed { place: Place::CompareAndSet, error }
            }
            _ => self.failed(Place::CompareAndSet, HandlerError::from(error), tx, left_behind).await,
        }
    }

    /// Nothing may be committed. Looks, before rolling back, whether the transaction is still the one that began, and what
    /// it was then.
    async fn missed(&self, tx: Tx, left_behind: LeftBehind) -> Attempt {
        match tokio::time::timeout(PROMPTLY, tx.tampered()).await {
            Ok(Some(Tampered::Ended)) => {
                // What the session is by now is not known.
                self.leave_behind(left_behind);
                Attempt::Smuggled
            }
            Ok(Some(Tampered::Changed(names))) => {
                self.roll_back(tx, left_behind).await;
                Attempt::Failed { place: Place::CompareAndSet, error: changed(&names) }
            }
            // An administrator, or what switches servers over: the next transaction begins under what holds now.
            Ok(Some(Tampered::Reloaded(names))) => {
                self.roll_back(tx, left_behind).await;
                let error = HandlerError::retry(format!(
                    "{names} has changed in the server's configuration while the batch was written: nothing was committed"
                ));
                Attempt::Failed { place: Place::CompareAndSet, error }
            }
            Ok(None) => {
                self.roll_back(tx, left_behind).await;
                Attempt::Missed
            }
            Err(_) => {
                self.leave_behind(left_behind);
                Attempt::Missed
            }
        }
    }

    /// A demoted or restarted server: nothing in the pool is what it was.
    fn heed(&self, error: &HandlerError) {
        if error.cause().connection == Connection::DiscardAll {
            self.db.clear();
        }
    }

    /// Gets rid of a backend whose transaction was given up: cancel what runs, then end it. Its connection is
    /// never used again, since a late cancel could hit the next query (PITFALLS 24).
    fn leave_behind(&self, LeftBehind { backend, cancel }: LeftBehind) {
        self.db.blockers.abandon(backend.clone());
        let db = Arc::clone(&self.db);
        tokio::spawn(async move {
            if let Some(cancel) = cancel {
                let _ = tokio::time::timeout(PROMPTLY, db.cancel(&cancel)).await;
            }
            let ended = tokio::time::timeout(PROMPTLY, async {
                let client = db.control().await.ok()?;
                let ended = db.blockers.end_own(&client, &backend).await.ok()?;
                Some(ended)
            });
            // If it fails, whoever the backend blocks will end it.
            let ended = ended.await.ok().flatten();
            tracing::debug!(pid = backend.pid, ?ended, "left a backend behind");
        });
    }
}

/// What is needed to get rid of a transaction that is given up.
struct LeftBehind {
    backend: Backend,
    /// `None` once COMMIT may have been sent: that is never cancelled (PITFALLS 24).
    cancel: Option<CancelToken>,
}

fn changed(names: &str) -> HandlerError {
    HandlerError::fatal(format!(
        "the handler changed {names}, which the commit, the fence or the protocol rests on, by a way that the text of its \
         statements does not show (a DO block, a function or trigger of the database, a name passed as a parameter): \
         nothing was committed; leave it as the worker sets it"
    ))
}

fn pool_error(error: deadpool_postgres::PoolError) -> HandlerError {
    match error {
        deadpool_postgres::PoolError::Backend(error)
        | deadpool_postgres::PoolError::PostCreateHook(deadpool_postgres::HookError::Backend(error)) => {
            HandlerError::from(error)
        }
        other => HandlerError::lost_connection(Class::Environment, format!("no connection: {other}")),
    }
}

#[cfg(test)]
mod tests;
