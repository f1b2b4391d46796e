//! As much of Kafka's protocol as it takes to change what a broker says of the cluster and of a fetch.
//!
//! Only the flexible versions of the two answers are known (Metadata from 9, Fetch from 12), which is what the client
//! asks any broker of today; others pass as they are.

mod answer;

use std::collections::HashMap;
use std::sync::atomic::Ordering;
use std::sync::{Mutex, PoisonError};

use tokio::io::AsyncReadExt;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};

use super::{Proxy, Shared, lock};
use crate::testing::error::{Error, Result};

const FETCH: i16 = 1;
const METADATA: i16 = 3;
const FIRST_FLEXIBLE_FETCH: i16 = 12;
const FIRST_FLEXIBLE_METADATA: i16 = 9;
/// More than any answer in a test has: a frame that claims to be longer is no frame of Kafka's.
const LONGEST_FRAME: usize = 256 << 20;

/// What is changed of a broker's answers.
#[derive(Debug, Default)]
pub(super) struct Changes {
    is_brokerless: bool,
    /// An error code, and how many more answers get it.
    failing_fetches: Option<(i16, usize)>,
}

impl Changes {
    fn next_fetch_error(&mut self) -> Option<i16> {
        let (code, left) = self.failing_fetches.as_mut()?;
        let code = *code;
        *left -= 1;
        if *left == 0 {
            self.failing_fetches = None;
        }
        Some(code)
    }
}

/// The kind and version of the requests of one connection that are still to be answered, by correlation id.
#[derive(Debug, Default)]
pub(super) struct Pending(Mutex<HashMap<i32, (i16, i16)>>);

impl Proxy {
    /// Whether the broker's metadata name no broker and no leader any more, but all topics: what a lone broker says
    /// that its controller has fenced. Answers to come only; only for a proxy before Kafka.
    pub fn hide_brokers(&self, is_brokerless: bool) {
        lock(&self.shared.changes).is_brokerless = is_brokerless;
    }

    /// How many metadata answers had their brokers hidden so far.
    #[must_use]
    pub fn brokerless_answers(&self) -> usize {
        self.shared.brokerless_answers.load(Ordering::SeqCst)
    }

    /// Gives the next `answers` answers to fetches this error code for each of their partitions, and no records. What
    /// the broker had sent is lost on the way, so that only a new fetch finds it. Only for a proxy before Kafka.
    pub fn fail_fetches(&self, code: i16, answers: usize) {
        lock(&self.shared.changes).failing_fetches = (answers > 0).then_some((code, answers));
    }

    /// How many answers to fetches were made to fail so far.
    #[must_use]
    pub fn failed_fetches(&self) -> usize {
        self.shared.failed_fetches.load(Ordering::SeqCst)
    }
}

impl Shared {
    /// From client to broker, frame by frame; remembers what was asked.
    pub(super) async fn kafka_requests(
        &self,
        from: &mut OwnedReadHalf,
        to: &mut OwnedWriteHalf,
        pending: &Pending,
    ) -> Result<()> {
        loop {
            let frame = read_frame(from).await?;
            if let Some(&[k0, k1, v0, v1, c0, c1, c2, c3]) = frame.first_chunk::<8>() {
                let (kind, version) = (i16::from_be_bytes([k0, k1]), i16::from_be_bytes([v0, v1]));
                if matches!(
                    (kind, version),
                    (FETCH, FIRST_FLEXIBLE_FETCH..) | (METADATA, FIRST_FLEXIBLE_METADATA..)
                ) {
                    pending.lock().insert(i32::from_be_bytes([c0, c1, c2, c3]), (kind, version));
                }
            }
            self.deliver(&framed(&frame)?, to).await?;
        }
    }

    /// From broker to client, frame by frame; changed, if that was asked for.
    pub(super) async fn kafka_answers(
        &self,
        from: &mut OwnedReadHalf,
        to: &mut OwnedWriteHalf,
        pending: &Pending,
    ) -> Result<()> {
        loop {
            let frame = read_frame(from).await?;
            let asked = frame.first_chunk().and_then(|id| pending.lock().remove(&i32::from_be_bytes(*id)));
            let changed = match asked {
                Some((METADATA, version)) => self.without_brokers(&frame, version)?,
                Some((_, version)) => self.failed_fetch(&frame, version)?,
                None => None,
            };
            self.deliver(&framed(changed.as_ref().unwrap_or(&frame))?, to).await?;
        }
    }

    fn without_brokers(&self, frame: &[u8], version: i16) -> Result<Option<Vec<u8>>> {
        if !lock(&self.changes).is_brokerless {
            return Ok(None);
        }
        let changed = answer::without_brokers(frame, version)?;
        self.brokerless_answers.fetch_add(1, Ordering::SeqCst);
        Ok(Some(changed))
    }

    fn failed_fetch(&self, frame: &[u8], version: i16) -> Result<Option<Vec<u8>>> {
        let mut changes = lock(&self.changes);
        if changes.failing_fetches.is_none() || !answer::has_partitions(frame, version)? {
            return Ok(None);
        }
        let Some(code) = changes.next_fetch_error() else { return Ok(None) };
        let changed = answer::failed_fetch(frame, version, code)?;
        self.failed_fetches.fetch_add(1, Ordering::SeqCst);
        Ok(Some(changed))
    }
}

impl Pending {
    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<i32, (i16, i16)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Without its length.
async fn read_frame(from: &mut OwnedReadHalf) -> Result<Vec<u8>> {
    let length = usize::try_from(from.read_i32().await?).unwrap_or(usize::MAX);
    if length > LONGEST_FRAME {
        return Err(Error::new("what passes a proxy before Kafka is not Kafka's protocol"));
    }
    let mut frame = vec![0; length];
    from.read_exact(&mut frame).await?;
    Ok(frame)
}

/// With its length.
fn framed(frame: &[u8]) -> Result<Vec<u8>> {
    let length = i32::try_from(frame.len()).map_err(|error| Error::caused("measure a frame", error))?;
    Ok([&length.to_be_bytes(), frame].concat())
}
