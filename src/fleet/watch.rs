//! Reading again and again, at a pace that costs little.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use tokio::sync::watch;

use super::survey::{self, Survey, Surveyed};
use super::{Fleet, History, Reading};
use crate::config::epoch_ms;
use crate::error::{ErrorKind, Result};

/// A reading is followed by a pause of so many times what it took, so that it takes a fortieth of anybody's time; one that
/// takes more than a quarter of a second takes more of it, for the pause ends at `longest`.
const PAUSES: u32 = 40;
/// After so many intervals without an answer, what is known is too old to be told as if it were of now.
const STALE_INTERVALS: u32 = 3;
/// How to watch.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct WatchOptions {
    /// The shortest time between two readings. 2 s by default.
    pub interval: Duration,
    /// The longest, however long a reading takes. 10 s by default.
    pub longest: Duration,
    /// For how long the database may be silent until what is known is no longer told as if it were of now; three intervals
    /// at least. 30 s by default.
    pub stale_after: Duration,
}

impl Default for WatchOptions {
    fn default() -> Self {
        let (interval, longest) = (Duration::from_secs(2), Duration::from_secs(10));
        Self { interval, longest, stale_after: Duration::from_secs(30) }
    }
}

impl WatchOptions {
    /// Sets [`interval`](Self::interval); the longest is at least that.
    #[must_use]
    pub fn interval(mut self, interval: Duration) -> Self {
        self.interval = interval;
        self.longest = self.longest.max(interval);
        self
    }

    /// Sets [`stale_after`](Self::stale_after).
    #[must_use]
    pub fn stale_after(mut self, stale_after: Duration) -> Self {
        self.stale_after = stale_after;
        self
    }
}

/// What is known now.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct View {
    /// The last reading that succeeded.
    pub reading: Option<Arc<Reading>>,
    /// Half an hour of it.
    pub history: Arc<History>,
    /// Why the last attempt failed, if it did.
    pub error: Option<String>,
    /// How often one has failed.
    pub errors_total: u64,
    /// When the last one succeeded, by this machine's clock, in milliseconds since 1970.
    pub read_at_ms: Option<i64>,
    /// How the survey of what no worker holds gets on; none without brokers.
    pub survey: Option<Surveyed>,
    /// How long until the next one, when this was published.
    pub interval: Duration,
    stale_after: Duration,
    read_at: Option<Instant>,
}

impl View {
    /// A reading of this moment, and what came before it.
    #[must_use]
    pub fn of(reading: Reading, history: History) -> Self {
        let (read_at, read_at_ms) = (Some(Instant::now()), Some(epoch_ms(SystemTime::now())));
        let (reading, history) = (Some(Arc::new(reading)), Arc::new(history));
        let WatchOptions { interval, stale_after, .. } = WatchOptions::default();
        Self { reading, history, read_at, read_at_ms, interval, stale_after, ..Self::default() }
    }

    /// How long ago the last reading succeeded.
    #[must_use]
    pub fn age(&self) -> Option<Duration> {
        self.read_at.map(|at| at.elapsed())
    }

    /// Whether what is known is too old to be told as if it were of now: no answer for three intervals, and for
    /// [`stale_after`](WatchOptions::stale_after).
    #[must_use]
    pub fn is_stale(&self) -> bool {
        self.age().is_none_or(|age| age > (self.interval * STALE_INTERVALS).max(self.stale_after))
    }
}

/// Watches a database. Ends when it is dropped.
#[derive(Debug)]
pub struct Watch {
    views: watch::Receiver<Arc<View>>,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Watch {
    /// Reads once, and goes on doing so in the background. Where the configuration names brokers, Kafka is asked for what no
    /// live worker reports.
    ///
    /// # Errors
    ///
    /// If nothing but a person can mend it: a wrong password, a missing right, no tables. That the database is away is
    /// none: it is looked for until it is there.
    pub async fn start(mut fleet: Fleet, options: WatchOptions) -> Result<Self> {
        let mut view = View { stale_after: options.stale_after, ..View::default() };
        let started = Instant::now();
        let first = match fleet.read().await {
            Err(error) if !matches!(error.kind(), ErrorKind::Postgres | ErrorKind::Kafka) => {
                return Err(error);
            }
            first => first,
        };
        view.take(first, started.elapsed(), &options);
        let survey = survey::start(&fleet.config)?;
        view.survey = survey.as_ref().map(Survey::now);
        let (sender, views) = watch::channel(Arc::new(view.clone()));
        Ok(Self { views, task: tokio::spawn(run(fleet, options, view, survey, sender)) })
    }

    /// Shows one view for ever, and reads nothing: to try what shows it.
    #[must_use]
    pub fn fixed(view: View) -> Self {
        let (sender, views) = watch::channel(Arc::new(view));
        Self { views, task: tokio::spawn(async move { sender.closed().await }) }
    }

    /// What is known now.
    #[must_use]
    pub fn now(&self) -> Arc<View> {
        Arc::clone(&self.views.borrow())
    }

    /// Every change.
    #[must_use]
    pub fn subscribe(&self) -> watch::Receiver<Arc<View>> {
        self.views.clone()
    }
}

impl View {
    fn take(&mut self, read: Result<Reading>, took: Duration, options: &WatchOptions) {
        match read {
            Ok(reading) => {
                if self.history.is_due(reading.at_ms) {
                    Arc::make_mut(&mut self.history).add(&reading);
                }
                self.reading = Some(Arc::new(reading));
                self.error = None;
                self.read_at = Some(Instant::now());
                self.read_at_ms = Some(epoch_ms(SystemTime::now()));
            }
            Err(error) => {
                tracing::warn!(error = %error.report(), "the groups could not be read");
                self.error = Some(error.report());
                self.errors_total += 1;
            }
        }
        self.interval = (took * PAUSES).clamp(options.interval, options.longest.max(options.interval));
    }
}

async fn run(
    mut fleet: Fleet,
    options: WatchOptions,
    mut view: View,
    survey: Option<Survey>,
    sender: watch::Sender<Arc<View>>,
) {
    loop {
        tokio::time::sleep(view.interval).await;
        if sender.is_closed() {
            return;
        }
        let started = Instant::now();
        let read = fleet.read().await;
        view.take(read, started.elapsed(), &options);
        view.survey = survey.as_ref().map(Survey::now);
        sender.send_replace(Arc::new(view.clone()));
    }
}
