//! Writing dead letters: rejected by a worker, or skipped by a person.

use futures_util::future::try_join_all;
use tokio_postgres::types::ToSql;
use tokio_postgres::{Error, GenericClient, Statement};
use uuid::Uuid;

use super::hash;
use crate::Record;
use crate::config::Config;
use crate::consumer::ffi::TimestampType;
use crate::schema::SchemaName;
use crate::tx::hidden::Hidden;

/// How many statements are under way at a time.
const AHEAD: usize = 200;

/// The statement that stores one.
#[derive(Debug)]
pub(crate) struct Store {
    pub(crate) sql: String,
    keep: Keep,
}

/// How much of a record is kept, and for how long. The facts are always kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Keep {
    /// A record with more bytes in key, value and headers stays where it is: in Kafka, as long as that holds it.
    pub(crate) max_bytes: Option<usize>,
    /// Then the content is deleted, whatever has become of the record.
    pub(crate) seconds: Option<i64>,
}

impl Keep {
    /// All of it, as long as the dead letter.
    pub(crate) const WHOLE: Self = Self { max_bytes: None, seconds: None };

    /// As the settings have it.
    pub(crate) fn of(config: &Config) -> Self {
        let seconds = config.dead_letter_payload_retention.map(|kept| kept.as_secs());
        Self {
            max_bytes: Some(config.dead_letter_max_payload_bytes),
            seconds: seconds.map(|seconds| i64::try_from(seconds).unwrap_or(i64::MAX)),
        }
    }
}

/// A record, whole, and why it is stored.
#[derive(Debug)]
pub(crate) struct Letter<'a> {
    pub(crate) group: &'a str,
    pub(crate) topic: &'a str,
    /// `None`: as the group knows it.
    pub(crate) topic_id: Option<&'a str>,
    pub(crate) partition: i32,
    pub(crate) offset: i64,
    pub(crate) payload: Payload<'a>,
    pub(crate) fingerprint: &'a str,
    pub(crate) sqlstate: Option<&'a str>,
    pub(crate) reason: &'a str,
    pub(crate) handler: Option<&'a str>,
    /// `None`: a person has skipped it.
    pub(crate) worker: Option<Uuid>,
    pub(crate) deed: Deed,
}

/// What is done by storing one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Deed {
    Reject,
    Skip,
    /// It waits behind another of its key, and was not rejected itself.
    Park,
}

impl Deed {
    fn as_str(self) -> &'static str {
        match self {
            Self::Reject => "reject",
            Self::Skip => "skip",
            Self::Park => "park",
        }
    }
}

/// Everything that the record had, byte for byte.
#[derive(Debug)]
pub(crate) struct Payload<'a> {
    pub(crate) key: Option<&'a [u8]>,
    pub(crate) value: Option<&'a [u8]>,
    pub(crate) headers: Vec<(&'a [u8], Option<&'a [u8]>)>,
    pub(crate) timestamp_ms: Option<i64>,
    pub(crate) timestamp_type: Option<TimestampType>,
}

impl Payload<'_> {
    /// Of key, value and headers.
    fn bytes(&self) -> usize {
        let of = |bytes: Option<&[u8]>| bytes.map_or(0, <[u8]>::len);
        let headers = self.headers.iter().map(|(name, value)| name.len() + of(*value));
        of(self.key) + of(self.value) + headers.sum::<usize>()
    }
}

/// Of a record that a worker was given.
pub(crate) fn payload_of<'a>(record: &Record<'a>) -> Payload<'a> {
    Payload {
        key: record.key(),
        value: record.value(),
        headers: record.raw_headers().collect(),
        timestamp_ms: record.timestamp_type().and(Some(record.raw_timestamp_ms())),
        timestamp_type: record.timestamp_type(),
    }
}

impl Store {
    /// For whoever keeps records whole: needs no right to delete a content, nor to read one.
    pub(crate) fn whole(schema: &SchemaName) -> Self {
        Self::new(schema, Keep::WHOLE)
    }

    pub(crate) fn new(schema: &SchemaName, keep: Keep) -> Self {
        let payloads = schema.qualified("dead_letter_payload");
        // What was kept of it when it was smaller, or the setting another, is not its content any more.
        let gone = match keep.max_bytes {
            None => String::new(),
            Some(_) => format!(
                "gone AS ( \
                   DELETE FROM {payloads} g USING letter l WHERE g.dead_letter_id = l.dead_letter_id AND $19::int8 IS NOT NULL), "
            ),
        };
        let sql = format!(
            "WITH letter AS ( \
               INSERT INTO {letters} AS d (group_id, topic, topic_id, partition, record_offset, key_hash, fingerprint, sqlstate, \
                 reason, handler, worker, omitted_bytes, state, attempts) \
               VALUES ($1, $2, coalesce($3::text, (SELECT t.topic_id FROM {topics} t WHERE t.group_id = $1 AND t.topic = $2), ''), \
                 $4, $5, $6, $7, $8, $9, $10, $11, $19::int8, CASE WHEN $12 = 'park' THEN 'parked' ELSE 'open' END, \
                 ($12 <> 'park')::int4) \
               ON CONFLICT (group_id, topic, topic_id, partition, record_offset) DO UPDATE SET \
                 key_hash = excluded.key_hash, fingerprint = excluded.fingerprint, sqlstate = excluded.sqlstate, \
                 reason = excluded.reason, handler = excluded.handler, worker = excluded.worker, state = excluded.state, \
                 omitted_bytes = excluded.omitted_bytes, \
                 attempts = d.attempts + excluded.attempts, last_at = clock_timestamp(), state_changed_at = clock_timestamp() \
               RETURNING dead_letter_id), \
             attempt AS ( \
               INSERT INTO {attempts} (dead_letter_id, kind, error, owner) SELECT dead_letter_id, $12::text, $9, $11 FROM letter), \
             {gone}kept AS (SELECT dead_letter_id, clock_timestamp() + $20::int8 * interval '1 second' AS expires_at FROM letter \
               WHERE $19::int8 IS NULL) \
             INSERT INTO {payloads} (dead_letter_id, record_key, record_value, header_names, header_values, timestamp_ms, \
               timestamp_type, expires_at) SELECT dead_letter_id, $13, $14, $15, $16, $17, $18, expires_at FROM kept \
             ON CONFLICT (dead_letter_id) DO UPDATE SET record_key = $13, record_value = $14, header_names = $15, \
               header_values = $16, timestamp_ms = $17, timestamp_type = $18, \
               expires_at = clock_timestamp() + $20::int8 * interval '1 second'",
            letters = schema.qualified("dead_letter"),
            topics = schema.qualified("group_topic"),
            attempts = schema.qualified("dead_letter_attempt"),
        );
        Self { sql, keep }
    }

    /// Writes them, in the transaction that `client` is in. `statement`: [`sql`](Self::sql), prepared there.
    pub(crate) async fn write<C: GenericClient + Sync>(
        &self,
        client: &C,
        statement: &Statement,
        letters: &[Letter<'_>],
    ) -> Result<(), Error> {
        for portion in letters.chunks(AHEAD) {
            try_join_all(portion.iter().map(|letter| write_one(client, statement, letter, self.keep)))
                .await?;
        }
        Ok(())
    }
}

async fn write_one<C: GenericClient + Sync>(
    client: &C,
    statement: &Statement,
    letter: &Letter<'_>,
    keep: Keep,
) -> Result<(), Error> {
    let payload = &letter.payload;
    let key_hash = payload.key.map(|key| hash(key).to_vec());
    let (names, values): (Vec<&[u8]>, Vec<Option<&[u8]>>) = payload.headers.iter().copied().unzip();
    let timestamp_type = payload.timestamp_type.map(|kind| match kind {
        TimestampType::CreateTime => 0_i16,
        TimestampType::LogAppendTime => 1,
    });
    let bytes = payload.bytes();
    let omitted = keep.max_bytes.filter(|most| bytes > *most);
    let omitted = omitted.map(|_| i64::try_from(bytes).unwrap_or(i64::MAX));
    // Nothing of it is sent that is not kept.
    let nothing = (None, None, Vec::new(), Vec::new());
    let (key, value, names, values) = match omitted {
        None => (payload.key, payload.value, names, values),
        Some(_) => nothing,
    };
    let parameters: [&(dyn ToSql + Sync); 20] = [
        &letter.group,
        &letter.topic,
        &letter.topic_id,
        &letter.partition,
        &letter.offset,
        &key_hash,
        &letter.fingerprint,
        &letter.sqlstate,
        &letter.reason,
        &letter.handler,
        &letter.worker,
        &letter.deed.as_str(),
        &key,
        &value,
        &names,
        &values,
        &payload.timestamp_ms,
        &timestamp_type,
        &omitted,
        &keep.seconds,
    ];
    let hidden = Hidden::new(&parameters);
    client.execute(statement, &hidden.params()).await.map(drop)
}
