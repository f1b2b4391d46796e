//! Dead letters for whoever reads topics.
//!
//! Exactly once ends at the database: a topic may have a record twice, where an export was broken off and begun again.
//! The number of the dead letter is with each, so that readers can tell.

use serde::Serialize;

use super::super::Offsets;
use super::{DeadLetterFilter, DeadLetterPayload, ExportedDeadLetter};
use crate::consumer::outbox::{Outbox, Outgoing};
use crate::error::{Error, ErrorKind, Result};

/// What was written to a topic.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct ExportedToTopic {
    /// How many records.
    pub exported: u64,
    /// Those of which there is nothing to write.
    pub left_out: LeftOut,
}

/// Dead letters without a content.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct LeftOut {
    /// They were too large to be stored: they are in their own topic, as long as that holds them.
    pub omitted: u64,
    /// Their content has expired.
    pub gone: u64,
}

impl Offsets {
    /// Writes all that fit to a topic of Kafka, in the order in which they were first stored: key, value, headers and
    /// timestamp as the record had them, and behind its headers those of KIP-1191 (`__dlq.errors.…`), of Kafka Connect's
    /// error reporter (`__connect.errors.…`) and our own (`__highwater.dead_letter.…`). A record goes to the partition
    /// of its own number, modulo the topic's partitions. Dead letters are as they were.
    ///
    /// At least once: what is broken off is begun again from the start, and writes again what it has written.
    ///
    /// # Errors
    ///
    /// If they, or what is in them, cannot be read; if there is no such topic, or the group reads it itself; if brokers
    /// do not take a record. The error says how many they have.
    pub async fn export_dead_letters_to_topic(
        &mut self,
        filter: &DeadLetterFilter,
        topic: &str,
    ) -> Result<ExportedToTopic> {
        self.reconnect().await?;
        self.check_not_read(filter, topic).await?;
        let catalog = self.kafka()?;
        let partitions = catalog.partition_count(topic).await.map_err(|source| {
            Error::new(ErrorKind::Kafka, format!("could not ask Kafka for topic {topic}")).with_source(source)
        })?;
        let partitions = partitions.ok_or_else(|| {
            let text = format!(
                "there is no topic {topic}, or this client may not see it: make it first, as large records as the dead \
                 letters' topics take"
            );
            Error::new(ErrorKind::Configuration, text)
        })?;
        let outbox = catalog.outbox(topic).map_err(|source| crate::config::refused(&source))?;
        let exported = self.write_to(&outbox, filter, (topic, partitions)).await;
        // To close a client may block.
        drop(tokio::task::spawn_blocking(move || drop(outbox)));
        let exported = exported?;
        if exported == ExportedToTopic::default() {
            self.check_names(filter).await?;
        }
        Ok(exported)
    }

    async fn write_to(
        &self,
        outbox: &Outbox,
        filter: &DeadLetterFilter,
        (topic, partitions): (&str, i32),
    ) -> Result<ExportedToTopic> {
        let mut exported = ExportedToTopic::default();
        let mut after = 0;
        loop {
            let portion = self.exported_portion(filter, true, after).await?;
            let Some(last) = portion.last() else { return Ok(exported) };
            after = last.letter.id;
            let mut outgoing = Vec::with_capacity(portion.len());
            for letter in portion {
                let is_omitted = letter.letter.omitted_bytes.is_some();
                match record(letter, partitions) {
                    Some(record) => outgoing.push(record),
                    None if is_omitted => exported.left_out.omitted += 1,
                    None => exported.left_out.gone += 1,
                }
            }
            let count = outgoing.len() as u64;
            outbox.write(outgoing).await.map_err(|why| {
                let text = format!(
                    "Kafka did not take a dead letter for topic {topic}: {why}; {} before it are there, and of the next {count} \
                     some may be: begin again, readers tell what is there twice by `__highwater.dead_letter.id`",
                    exported.exported
                );
                Error::new(ErrorKind::Kafka, text)
            })?;
            exported.exported += count;
        }
    }

    /// The group would be given its own dead letters again, and reject them again, without end.
    async fn check_not_read(&self, filter: &DeadLetterFilter, topic: &str) -> Result<()> {
        let sql = format!(
            "SELECT 1 FROM {} WHERE group_id = $1 AND topic = $2 LIMIT 1",
            self.schema().qualified("consumer_offset")
        );
        let read = self.client.query_opt(&sql, &[&filter.group, &topic]).await;
        let read = read.map_err(|source| {
            Error::postgres(format!("read the topics of group `{}`", filter.group), source)
        })?;
        match read {
            None => Ok(()),
            Some(_) => Err(Error::new(
                ErrorKind::Configuration,
                format!(
                    "group `{}` reads topic {topic} itself: its dead letters would come back to it, and be rejected again, without \
                     end; give another topic",
                    filter.group
                ),
            )),
        }
    }
}

fn record(exported: ExportedDeadLetter, partitions: i32) -> Option<Outgoing> {
    let ExportedDeadLetter { letter, payload } = exported;
    let DeadLetterPayload { key, value, headers, timestamp_ms, timestamp_type } = payload?;
    let mut all: Vec<(String, Option<Vec<u8>>)> = headers
        .into_iter()
        // Kafka's protocol says that names are UTF-8, and the client takes nothing else.
        .map(|header| (String::from_utf8_lossy(&header.name).into_owned(), header.value))
        .collect();
    let mut add = |name: String, value: String| all.push((name, Some(value.into_bytes())));
    let (partition, offset) = (letter.partition.to_string(), letter.offset.to_string());
    for (name, value) in [
        ("__dlq.errors.topic", &letter.topic),
        ("__dlq.errors.partition", &partition),
        ("__dlq.errors.offset", &offset),
        ("__dlq.errors.group", &letter.group),
        ("__dlq.errors.delivery.count", &letter.attempts.to_string()),
        ("__dlq.errors.message", &letter.reason),
        ("__connect.errors.topic", &letter.topic),
        ("__connect.errors.partition", &partition),
        ("__connect.errors.offset", &offset),
        ("__connect.errors.connector.name", &letter.group),
        ("__connect.errors.exception.message", &letter.reason),
    ] {
        add(name.to_owned(), value.clone());
    }
    for (name, value) in [
        ("id", Some(letter.id.to_string())),
        ("kind", Some(letter.kind)),
        ("state", Some(letter.state)),
        ("sqlstate", letter.sqlstate),
        ("handler", letter.handler),
        ("first_at", Some(letter.first_at)),
        ("last_at", Some(letter.last_at)),
        ("timestamp_type", timestamp_type.map(str::to_owned)),
    ] {
        if let Some(value) = value {
            add(format!("__highwater.dead_letter.{name}"), value);
        }
    }
    Some(Outgoing { partition: letter.partition % partitions.max(1), key, value, headers: all, timestamp_ms })
}
