//! Where handlers run: on a thread of their lane's own.
//!
//! Not on the runtime's threads, because a handler may block (a lock, a synchronous client, a busy loop), and nobody
//! can interrupt a thread. On a runtime whose thread is blocked the timers stand still, also those that would notice
//! the batch's time-out, and with them the heartbeat, the claims and the other lanes: always on a runtime of one
//! thread, and on a larger one whenever the blocked thread was the one that waited for timers and sockets
//! (`docs/adr/0009-handler-threads.md` has the measurements). So what a handler can hold up is this thread alone.
//!
//! The future is polled here but lives in the runtime that runs the worker: `tokio::spawn`, timers, clients made
//! elsewhere and `block_in_place` work as they do in a task.

use std::any::Any;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use futures_util::FutureExt;
use futures_util::future::{AbortHandle, AbortRegistration, Abortable, Aborted};
use tokio::runtime::Handle;
use tokio::sync::oneshot;
use tracing::{Instrument as _, Span};

use super::ErasedHandler;
use crate::metrics::meter::BatchMeter;
use crate::{Batch, HandlerError, Tx, trace};

/// How long a handler that was told to end may take to give its thread back.
const PROMPTLY: Duration = Duration::from_millis(100);
/// How many handlers of a worker may go on blocking their threads after their batch was given up, before the next one
/// halts its partition. Each holds a thread and the records of its batch.
pub(crate) const MAX_ABANDONED: usize = 8;

/// What a handler left: its verdict and its transaction, or the message of its panic.
pub(crate) type Handled = Result<(Result<(), HandlerError>, Tx), String>;

/// A lane's thread, made when it is first needed, and made anew when a handler does not give it back.
#[derive(Debug)]
pub(crate) struct HandlerThread {
    jobs: Option<mpsc::Sender<Job>>,
    abandoned: Arc<AtomicUsize>,
    meter: Arc<BatchMeter>,
}

type Job = Box<dyn FnOnce(&Handle) + Send>;

/// A handler at work. Dropping it tells the handler to end.
#[derive(Debug)]
pub(crate) struct Running<T> {
    abort: AbortHandle,
    /// `None` when it was told to end.
    done: oneshot::Receiver<Option<T>>,
}

impl HandlerThread {
    /// `abandoned`: shared by the lanes of a worker.
    pub(crate) fn new(abandoned: Arc<AtomicUsize>, meter: Arc<BatchMeter>) -> Self {
        Self { jobs: None, abandoned, meter }
    }

    /// Has `handler` apply `batch`.
    ///
    /// # Errors
    /// If the system gives no thread; the transaction is gone then.
    pub(crate) fn run(
        &mut self,
        batch: Arc<Batch>,
        handler: Arc<dyn ErasedHandler>,
        mut tx: Tx,
    ) -> io::Result<Running<Handled>> {
        let span = trace::handler();
        self.start(|abort, done| {
            Box::new(move |runtime| {
                let work = async { handler.handle(&batch, &mut tx).await }.instrument(span);
                let work = AssertUnwindSafe(work).catch_unwind();
                let ended = runtime.block_on(Abortable::new(work, abort));
                // Whoever gave it up does not listen any more; then the transaction's connection goes here.
                let _ = done.send(match ended {
                    Ok(Ok(verdict)) => Some(Ok((verdict, tx))),
                    Ok(Err(panic)) => Some(Err(panic_message(&*panic))),
                    Err(Aborted) => None,
                });
            })
        })
    }

    /// Has `handler` prepare `batch`, inside `span`; a panic counts as done.
    ///
    /// # Errors
    /// If the system gives no thread.
    pub(crate) fn prepare(
        &mut self,
        batch: Arc<Batch>,
        handler: Arc<dyn ErasedHandler>,
        span: Span,
    ) -> io::Result<Running<()>> {
        let meter = Arc::clone(&self.meter);
        self.start(|_, done| {
            Box::new(move |runtime| {
                let _entered = runtime.enter();
                let began = Instant::now();
                let _ = catch_unwind(AssertUnwindSafe(|| span.in_scope(|| handler.prepare(&batch))));
                meter.decode.took(began.elapsed());
                drop(span);
                // Not held for longer than the lane does.
                drop(batch);
                let _ = done.send(Some(()));
            })
        })
    }

    fn start<T>(
        &mut self,
        job: impl FnOnce(AbortRegistration, oneshot::Sender<Option<T>>) -> Job,
    ) -> io::Result<Running<T>> {
        let (abort, registration) = AbortHandle::new_pair();
        let (answer, done) = oneshot::channel();
        let mut job = job(registration, answer);
        loop {
            let jobs = match self.jobs.take() {
                Some(jobs) => jobs,
                None => spawn()?,
            };
            match jobs.send(job) {
                Ok(()) => {
                    self.jobs = Some(jobs);
                    return Ok(Running { abort, done });
                }
                // The thread has died: a destructor of the handler's panicked.
                Err(mpsc::SendError(back)) => job = back,
            }
        }
    }

    /// Tells the handler to end, and leaves its thread to it if it blocks there. `false` if too many do by now.
    pub(crate) async fn give_up<T: Send + 'static>(&mut self, mut running: Running<T>) -> bool {
        running.abort.abort();
        if tokio::time::timeout(PROMPTLY, &mut running.done).await.is_ok() {
            return true;
        }
        self.jobs = None;
        let abandoned = Arc::clone(&self.abandoned);
        let before = abandoned.fetch_add(1, Ordering::Relaxed);
        tracing::warn!(
            abandoned = before + 1,
            "the handler blocks its thread and cannot be interrupted; its transaction is gone, and the lane goes on \
             with another thread: let handlers wait with await, or in spawn_blocking"
        );
        tokio::spawn(async move {
            let _ = (&mut running.done).await;
            abandoned.fetch_sub(1, Ordering::Relaxed);
            tracing::info!("a handler that was given up has let go of its thread");
        });
        before < MAX_ABANDONED
    }
}

impl Running<Handled> {
    /// Waits for the handler.
    ///
    /// # Cancel safety
    /// Safe: it may be asked again.
    pub(crate) async fn finished(&mut self) -> Handled {
        match (&mut self.done).await {
            Ok(Some(handled)) => handled,
            Ok(None) | Err(_) => Err("the handler's thread has died".to_owned()),
        }
    }
}

impl Running<()> {
    /// Waits until the preparation has ended, be it by its thread's death.
    ///
    /// # Cancel safety
    /// Safe until it has ended.
    pub(crate) async fn ended(&mut self) {
        let _ = (&mut self.done).await;
    }
}

impl<T> Drop for Running<T> {
    fn drop(&mut self) {
        self.abort.abort();
    }
}

/// A thread that runs one job after the other, until the lane lets go of it.
fn spawn() -> io::Result<mpsc::Sender<Job>> {
    let runtime = Handle::current();
    let (jobs, inbox) = mpsc::channel::<Job>();
    let serve = move || inbox.into_iter().for_each(|job| job(&runtime));
    std::thread::Builder::new().name("highwater-handler".to_owned()).spawn(serve)?;
    Ok(jobs)
}

/// A literal as it stands. A message that was put together may quote data, and so is for the process's panic hook alone,
/// which is the program's and has had it, with its place.
fn panic_message(panic: &(dyn Any + Send)) -> String {
    match (panic.downcast_ref::<&str>(), panic.downcast_ref::<String>()) {
        (Some(literal), _) => (*literal).to_owned(),
        (None, Some(text)) => format!(
            "its message, of {} bytes, is not shown here, for it may quote data; the process's panic hook, by default \
             standard error, has it, with its place",
            text.len()
        ),
        (None, None) => "no message".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_shows_its_literal_and_hides_what_was_put_together() {
        let account = "4711".to_owned();
        let caught = |panic: fn(&str)| panic_message(&*catch_unwind(|| panic(&account)).unwrap_err());
        assert_eq!(caught(|_| panic!("an account has no branch")), "an account has no branch");
        let hidden = caught(|account| panic!("account {account} has no branch"));
        assert!(hidden.contains("26 bytes") && !hidden.contains("4711"), "{hidden}");
        let asserted = caught(|account| assert_eq!(account.parse::<i16>(), Ok(0)));
        assert!(!asserted.contains("4711"), "{asserted}");
    }
}
