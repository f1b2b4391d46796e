//! Reading records of Kafka outside of any group: nothing is joined, committed or stored. The records are those that a
//! worker of these settings would be given (`read_committed`, unless the settings say otherwise).

mod thread;

use std::sync::mpsc as requests;
use std::time::Duration;

use tokio::sync::mpsc;

pub(crate) use self::thread::Span;
use self::thread::{Failure, Request};
use super::ends::logs;
use crate::batch::PartitionKey;
use crate::consumer::Catalog;
use crate::consumer::catalog::Survey;
pub(crate) use crate::consumer::ffi::TimestampType;
use crate::error::{Error, ErrorKind, Result};
use crate::record::chunk::RawRecord;

/// How long nothing may come of a range before that is an error: what a producer has aborted comes as nothing, too.
const SILENCE: Duration = Duration::from_secs(60);
/// Portions that wait to be taken. With the client's own queue (16 MiB by default) they bound the memory.
const PORTIONS: usize = 4;

/// A record as it was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ReadRecord {
    pub(crate) topic: std::sync::Arc<str>,
    pub(crate) partition: i32,
    pub(crate) offset: i64,
    /// Milliseconds since 1970.
    pub(crate) timestamp_ms: Option<i64>,
    pub(crate) timestamp_type: Option<TimestampType>,
    /// Bytes of the key; none: it is null. So with the value, a tombstone's.
    pub(crate) key_len: Option<usize>,
    pub(crate) value_len: Option<usize>,
    /// As with [`value`](Self::value) and [`headers`](Self::headers), only where the content was asked for.
    pub(crate) key: Option<Vec<u8>>,
    pub(crate) value: Option<Vec<u8>>,
    pub(crate) headers: Vec<(Vec<u8>, Option<Vec<u8>>)>,
}

impl ReadRecord {
    fn without_content(key: &PartitionKey, raw: &RawRecord<'_>, kind: Option<TimestampType>) -> Self {
        Self {
            topic: std::sync::Arc::clone(&key.topic),
            partition: key.partition,
            offset: raw.offset,
            timestamp_ms: kind.map(|_| raw.timestamp_ms),
            timestamp_type: kind,
            key_len: raw.key.map(<[u8]>::len),
            value_len: raw.value.map(<[u8]>::len),
            key: None,
            value: None,
            headers: Vec::new(),
        }
    }

    pub(crate) fn content_bytes(&self) -> usize {
        let of = |bytes: &Option<Vec<u8>>| bytes.as_ref().map_or(0, Vec::len);
        let headers = self.headers.iter().map(|(name, value)| name.len() + of(value));
        of(&self.key) + of(&self.value) + headers.sum::<usize>()
    }
}

/// What comes of reading.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Read {
    /// In the order of a partition's offsets.
    Record(ReadRecord),
    /// A range was read to its end; or, of a partition that is followed, this is all for now.
    End {
        /// Which partition.
        key: PartitionKey,
    },
}

/// Whether keys, values and headers are wanted, or only where the records are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Content {
    /// Offsets, timestamps and lengths.
    Without,
    /// Everything.
    Whole,
}

/// A client of its own that reads one thing after another.
pub(crate) struct Reader {
    catalog: Catalog,
    requests: requests::Sender<Request>,
}

impl std::fmt::Debug for Reader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Reader").finish_non_exhaustive()
    }
}

impl Reader {
    /// Makes the client, with the catalogue's properties. It is closed, in the background, when the reader is dropped.
    ///
    /// # Errors
    ///
    /// If the properties don't make a client, or there is no thread for it.
    pub(crate) fn new(catalog: &Catalog) -> Result<Self> {
        let refused = |source| {
            Error::configuration("the Kafka client refused its properties: see the `kafka` settings")
                .with_source(source)
        };
        let queue = catalog.reader().map_err(refused)?;
        let (sender, receiver) = requests::channel();
        let thread = std::thread::Builder::new().name("highwater-read".to_owned());
        thread.spawn(move || thread::run(&queue, &receiver)).map_err(|source| {
            Error::new(ErrorKind::Internal, "could not start a thread to read with").with_source(source)
        })?;
        Ok(Self { catalog: catalog.clone(), requests: sender })
    }

    /// Reads `[from, to)` of a partition, as far as there is such a range: what Kafka does not hold any more, or not
    /// yet (or which an open transaction hides), is left out; see [`Records::range`].
    ///
    /// What was begun before ends with it.
    ///
    /// # Errors
    ///
    /// If Kafka does not say where the log begins and ends: the partition has no leader, or is unknown.
    pub(crate) async fn range(
        &self,
        key: &PartitionKey,
        from: i64,
        to: i64,
        content: Content,
    ) -> Result<Records> {
        let survey = logs(&self.catalog, std::slice::from_ref(key)).await?;
        let (low, end) = bounds(&self.catalog, &survey, key);
        let from = from.max(low);
        let range = from..to.min(end).max(from);
        let spans = match range.is_empty() {
            true => Vec::new(),
            false => vec![Span { key: key.clone(), from, to: Some(range.end) }],
        };
        let is_over = range.is_empty();
        Ok(Records {
            portions: self.begin(spans, content)?,
            catalog: self.catalog.clone(),
            range,
            is_over,
            is_gone: false,
        })
    }

    /// Reads these spans until the answer is dropped. Their order among each other is Kafka's affair. An
    /// [`End`](Read::End) comes of each that has one when it was read to it, and of the others whenever there is no more for
    /// now. Nothing may be empty.
    ///
    /// # Errors
    ///
    /// As [`range`](Self::range).
    pub(crate) fn follow(&self, spans: Vec<Span>, content: Content) -> Result<Followed> {
        Ok(Followed { portions: self.begin(spans, content)?, catalog: self.catalog.clone() })
    }

    fn begin(&self, spans: Vec<Span>, content: Content) -> Result<Portions> {
        let (sender, portions) = mpsc::channel(PORTIONS);
        let whole = content == Content::Whole;
        let request = Request { spans, whole, silence: SILENCE, portions: sender };
        self.requests.send(request).map_err(|_| has_ended())?;
        Ok(portions)
    }
}

type Portions = mpsc::Receiver<Result<Vec<Read>, Failure>>;

/// The records of a range, in portions.
#[derive(Debug)]
pub(crate) struct Records {
    portions: Portions,
    catalog: Catalog,
    range: std::ops::Range<i64>,
    is_over: bool,
    is_gone: bool,
}

impl Records {
    /// What is read: the asked range, cut to what Kafka has.
    pub(crate) fn range(&self) -> std::ops::Range<i64> {
        self.range.clone()
    }

    /// Whether the last error was that retention, or a deletion, has taken what comes next meanwhile: a range anew begins
    /// behind it.
    pub(crate) fn is_gone(&self) -> bool {
        self.is_gone
    }

    /// The next records, in offset order; none: the range was read to its end.
    ///
    /// # Errors
    ///
    /// If Kafka does not give them: retention or truncation has taken them meanwhile
    /// ([`Guard`](ErrorKind::Guard)), they are corrupt, this client may not read them, or nothing has come for too long.
    pub(crate) async fn next(&mut self) -> Result<Option<Vec<ReadRecord>>> {
        if self.is_over {
            return Ok(None);
        }
        // That nothing more comes is not yet that nothing is missing.
        let portion = match self.portions.recv().await {
            Some(Err(failure)) => {
                self.is_gone = matches!(failure, Failure::Gone { .. });
                return Err(explain(&self.catalog, failure).await);
            }
            Some(Ok(portion)) => portion,
            None => return Err(has_ended()),
        };
        let mut records = Vec::with_capacity(portion.len());
        for read in portion {
            match read {
                Read::Record(record) => records.push(record),
                Read::End { .. } => self.is_over = true,
            }
        }
        Ok(Some(records))
    }
}

/// The records of partitions that are followed.
#[derive(Debug)]
pub(crate) struct Followed {
    portions: Portions,
    catalog: Catalog,
}

impl Followed {
    /// What comes next; `None`: nothing for so long.
    ///
    /// # Errors
    ///
    /// As [`Records::next`].
    pub(crate) async fn next(&mut self, silence: Duration) -> Result<Option<Vec<Read>>> {
        match tokio::time::timeout(silence, self.portions.recv()).await {
            Ok(Some(Ok(portion))) => Ok(Some(portion)),
            Ok(Some(Err(failure))) => Err(explain(&self.catalog, failure).await),
            Ok(None) => Err(has_ended()),
            Err(_) => Ok(None),
        }
    }
}

fn has_ended() -> Error {
    Error::new(ErrorKind::Internal, "the reading thread has ended")
}

/// The first offset, and the end that a reader under these settings reaches.
pub(crate) fn bounds(catalog: &Catalog, survey: &Survey, key: &PartitionKey) -> (i64, i64) {
    let available = &survey.available[key];
    let stable = survey.ends.get(key).map(|ends| ends.stable).filter(|_| catalog.is_read_committed());
    (available.low.get(), stable.unwrap_or(available.end).get())
}

async fn explain(catalog: &Catalog, failure: Failure) -> Error {
    match failure {
        Failure::Gone { key, at } => Error::new(
            ErrorKind::Guard,
            format!(
                "Kafka has no record at or after {at} of {key} any more: retention, or a deletion, has passed it"
            ),
        ),
        Failure::Unreadable { key, at, code, words } => {
            Error::new(ErrorKind::Guard, format!("{key} cannot be read at {at} ({code}): {words}"))
        }
        Failure::Denied { key: Some(key), code } => Error::new(
            ErrorKind::Privilege,
            format!("Kafka does not let this client read {key} ({code}): grant it READ on the topic"),
        ),
        Failure::Denied { key: None, code } => {
            Error::new(ErrorKind::Authentication, format!("Kafka refused the credentials ({code})"))
        }
        Failure::Silent { key, at, last_error } => {
            let survey = catalog.survey(std::slice::from_ref(&key)).await;
            let why = match (survey, last_error) {
                (Ok(survey), _) if survey.leaderless.contains(&key) => "; it has no leader".to_owned(),
                (_, Some(error)) => format!("; the client's last word was: {error}"),
                _ => String::new(),
            };
            Error::new(ErrorKind::Kafka, format!("Kafka sends nothing of {key} from {at} on{why}"))
        }
        Failure::Client(text) => {
            Error::new(ErrorKind::Kafka, format!("the Kafka client gave up reading: {text}"))
        }
    }
}
