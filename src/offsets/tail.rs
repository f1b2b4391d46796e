//! Looking at a topic's records, and at what became of each in a group.

mod silence;
mod standings;

use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::SystemTime;

use serde::Serialize;

use self::silence::{SILENCE, Silence};
use self::standings::Standings;
use super::ends::survey;
use super::read::{self, Read, ReadRecord, Reader, Span, TimestampType, bounds};
use super::rows::Standing;
use super::{Offsets, TopicSelection};
use crate::config::epoch_ms;
use crate::consumer::Catalog;
use crate::error::{Error, ErrorKind, Result};

/// Where a tail begins, in each partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum TailFrom {
    /// Where the group stands.
    Group,
    /// The first record that Kafka holds.
    Beginning,
    /// Behind the last one.
    End,
    /// This offset.
    Offset(i64),
    /// So many offsets before the end; markers count.
    Last(i64),
    /// The first record that is not older; the end where there is none.
    Timestamp(SystemTime),
}

/// Whether keys, values and headers are wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Content {
    /// Only where the records are, and how large.
    #[default]
    Without,
    /// Everything that they hold.
    Whole,
}

/// What is to be shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TailOptions {
    topic: TopicSelection,
    from: TailFrom,
    until: Option<TailFrom>,
    count: Option<u64>,
    content: Content,
}

impl TailOptions {
    /// What comes from now on of a topic, without content, for ever.
    #[must_use]
    pub fn new(topic: TopicSelection) -> Self {
        Self { topic, from: TailFrom::End, until: None, count: None, content: Content::Without }
    }

    /// Where to begin.
    #[must_use]
    pub fn from(mut self, from: TailFrom) -> Self {
        self.from = from;
        self
    }

    /// Where to stop, this excluded; [`End`](TailFrom::End) is the end as it is when the tail begins.
    #[must_use]
    pub fn until(mut self, until: Option<TailFrom>) -> Self {
        self.until = until;
        self
    }

    /// After how many records to stop.
    #[must_use]
    pub fn count(mut self, count: Option<u64>) -> Self {
        self.count = count;
        self
    }

    /// Whether keys, values and headers are wanted: they are somebody's data.
    #[must_use]
    pub fn content(mut self, content: Content) -> Self {
        self.content = content;
        self
    }
}

/// Whose clock a timestamp is from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum TimestampKind {
    /// The producer's.
    CreateTime,
    /// The broker's.
    LogAppendTime,
}

/// What became of a record in a group.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum RecordState {
    /// It was applied; or a dead letter that was redriven.
    Applied,
    /// It was rejected, and is a dead letter.
    Dead,
    /// An operator has stepped over it.
    Skipped,
    /// The group has stepped over it, because Kafka did not seem to hold it.
    Lost,
    /// It lies before the group's start.
    Before,
    /// It is still to be applied.
    Ahead,
}

impl RecordState {
    /// As in JSON.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Applied => "applied",
            Self::Dead => "dead",
            Self::Skipped => "skipped",
            Self::Lost => "lost",
            Self::Before => "before",
            Self::Ahead => "ahead",
        }
    }
}

/// A record, and what became of it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct TailedRecord {
    /// The topic.
    pub topic: Arc<str>,
    /// The partition.
    pub partition: i32,
    /// The offset.
    pub offset: i64,
    /// Milliseconds since 1970.
    pub timestamp_ms: Option<i64>,
    /// Whose clock that is.
    pub timestamp_kind: Option<TimestampKind>,
    /// What became of it, as the group stood when it was read.
    pub state: RecordState,
    /// Bytes of the key; none: it is null.
    pub key_bytes: Option<usize>,
    /// Bytes of the value; none: it is null, a tombstone.
    pub value_bytes: Option<usize>,
    /// Only where the content was asked for, as the next two.
    pub key: Option<Vec<u8>>,
    /// The value.
    pub value: Option<Vec<u8>>,
    /// Names and values, in order.
    pub headers: Vec<(Vec<u8>, Option<Vec<u8>>)>,
}

impl TailedRecord {
    fn new(record: ReadRecord, state: RecordState) -> Self {
        let kind = record.timestamp_type.map(|kind| match kind {
            TimestampType::CreateTime => TimestampKind::CreateTime,
            TimestampType::LogAppendTime => TimestampKind::LogAppendTime,
        });
        Self {
            topic: record.topic,
            partition: record.partition,
            offset: record.offset,
            timestamp_ms: record.timestamp_ms,
            timestamp_kind: kind,
            state,
            key_bytes: record.key_len,
            value_bytes: record.value_len,
            key: record.key,
            value: record.value,
            headers: record.headers,
        }
    }
}

impl Offsets {
    /// Shows records to `each` as they come, those of a partition in their order, until it breaks, or what was asked for is
    /// done. The group's claims, positions and Kafka's group are not touched.
    ///
    /// # Errors
    ///
    /// If the group or the topic is unknown, or is not the one that the group has read so far, or Kafka or Postgres do not
    /// answer; [`Guard`](ErrorKind::Guard) if the topic is deleted, or made anew, while it is followed. A partition without a
    /// leader is waited for, and so is Kafka: that is said.
    pub async fn tail(
        &mut self,
        group: &str,
        options: &TailOptions,
        each: &mut (dyn FnMut(TailedRecord) -> ControlFlow<()> + Send),
    ) -> Result<()> {
        self.reconnect().await?;
        let selection = super::Selection::Topics(vec![options.topic.clone()]);
        let standing = self.standing(group, &selection).await?;
        let spans = spans(self.kafka()?, &standing, options).await?;
        let mut open = spans.iter().filter(|span| span.to.is_some()).count();
        if spans.is_empty() || options.count == Some(0) {
            return Ok(());
        }
        let is_bounded = open > 0;
        let content = match options.content {
            Content::Without => read::Content::Without,
            Content::Whole => read::Content::Whole,
        };
        let mut followed = Reader::new(self.kafka()?)?.follow(spans, content)?;
        let mut standings = Standings::new(group);
        let mut silence = Silence::new(standing);
        let mut left = options.count.unwrap_or(u64::MAX);
        while !is_bounded || open > 0 {
            let mut records = Vec::new();
            let Some(portion) = followed.next(SILENCE).await? else {
                silence.look(self.kafka()?).await?;
                continue;
            };
            for read in portion {
                match read {
                    Read::Record(record) => records.push(record),
                    Read::End { .. } if is_bounded => open -= 1,
                    Read::End { .. } => {}
                }
            }
            if records.is_empty() {
                continue;
            }
            self.reconnect().await?;
            let schema = self.schema().clone();
            let looked = standings.look(&self.client, &schema, &records).await;
            looked.map_err(|source| Error::postgres(format!("read where group `{group}` stands"), source))?;
            for record in records {
                let state = standings.of(&record);
                left -= 1;
                if each(TailedRecord::new(record, state)).is_break() || left == 0 {
                    return Ok(());
                }
            }
        }
        Ok(())
    }
}

/// What is to be read; what is empty is left out.
async fn spans(catalog: &Catalog, standing: &[Standing], options: &TailOptions) -> Result<Vec<Span>> {
    let survey = survey(catalog, standing).await?;
    let from = positions(catalog, standing, options.from).await?;
    let until = match options.until {
        Some(until) => Some(positions(catalog, standing, until).await?),
        None => None,
    };
    let mut spans = Vec::new();
    for (index, row) in standing.iter().enumerate() {
        let (low, end) = bounds(catalog, &survey, &row.key);
        let place = |position: &Position| match *position {
            Position::At(offset) => offset.clamp(low, end),
            Position::BeforeEnd(offsets) => (end - offsets).max(low),
        };
        let from = place(&from[index]);
        let to = until.as_ref().map(|until| place(&until[index]));
        if to.is_none_or(|to| from < to) {
            spans.push(Span { key: row.key.clone(), from, to });
        }
    }
    Ok(spans)
}

/// Before it is known where the log ends.
enum Position {
    At(i64),
    BeforeEnd(i64),
}

async fn positions(catalog: &Catalog, standing: &[Standing], from: TailFrom) -> Result<Vec<Position>> {
    let all = |position: fn(i64) -> Position, offset: i64| {
        standing.iter().map(|_| position(offset)).collect::<Vec<_>>()
    };
    Ok(match from {
        TailFrom::Group => standing.iter().map(|row| Position::At(row.next_offset)).collect(),
        TailFrom::Beginning => all(Position::At, 0),
        TailFrom::End => all(Position::BeforeEnd, 0),
        TailFrom::Offset(offset) => all(Position::At, offset),
        TailFrom::Last(offsets) => all(Position::BeforeEnd, offsets),
        TailFrom::Timestamp(instant) => {
            let Some(first) = standing.first() else { return Ok(Vec::new()) };
            let count = standing.iter().map(|row| row.key.partition + 1).max().unwrap_or_default();
            let found = catalog.offsets_at(&first.key.topic, count, epoch_ms(instant)).await;
            let found = found.map_err(|source| {
                let text = "Kafka does not say which offsets that instant has";
                Error::new(ErrorKind::Kafka, text).with_source(source)
            })?;
            let of = |row: &Standing| usize::try_from(row.key.partition).ok().and_then(|at| found[at]);
            standing.iter().map(|row| of(row).map_or(Position::BeforeEnd(0), Position::At)).collect()
        }
    })
}
