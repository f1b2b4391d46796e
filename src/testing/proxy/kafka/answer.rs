//! Two of a broker's answers, copied field by field with a few of them changed.
//!
//! The names and their order are those of `MetadataResponse.json` and `FetchResponse.json` in Kafka's sources.

use crate::testing::error::{Error, Result};

const LEADER_NOT_AVAILABLE: i16 = 5;
const NOBODY: i32 = -1;
const UNKNOWN: i64 = -1;

/// A metadata answer without brokers and leaders, as of a broker that knows of none.
pub(super) fn without_brokers(frame: &[u8], version: i16) -> Result<Vec<u8>> {
    let mut copy = Copy::of(frame);
    copy.header()?;
    copy.keep(4)?; // throttle_time_ms
    let brokers = copy.skip_array_length()?;
    copy.to.push(1); // an empty array
    for _ in 0..brokers {
        let start = copy.to.len();
        copy.keep(4)?; // node_id
        copy.keep_text()?; // host
        copy.keep(4)?; // port
        copy.keep_text()?; // rack
        copy.keep_tags()?;
        copy.to.truncate(start);
    }
    copy.keep_text()?; // cluster_id
    copy.replace(&NOBODY.to_be_bytes())?; // controller_id
    for _ in 0..copy.keep_array_length()? {
        copy.keep(2)?; // error_code
        copy.keep_text()?; // name
        if version >= 10 {
            copy.keep(16)?; // topic_id
        }
        copy.keep(1)?; // is_internal
        for _ in 0..copy.keep_array_length()? {
            copy.replace(&LEADER_NOT_AVAILABLE.to_be_bytes())?; // error_code
            copy.keep(4)?; // partition_index
            copy.replace(&NOBODY.to_be_bytes())?; // leader_id
            copy.keep(4)?; // leader_epoch
            for _ in ["replica_nodes", "isr_nodes", "offline_replicas"] {
                let nodes = copy.keep_array_length()?;
                copy.keep(4 * nodes)?;
            }
            copy.keep_tags()?;
        }
        copy.keep(4)?; // topic_authorized_operations
        copy.keep_tags()?;
    }
    Ok(copy.with_the_rest())
}

/// Whether a fetch answer is about anything: one that has nothing to tell of any partition cannot fail for one.
pub(super) fn has_partitions(frame: &[u8], version: i16) -> Result<bool> {
    let mut copy = Copy::of(frame);
    copy.fetch_head()?;
    let topics = copy.keep_array_length()?;
    if topics == 0 {
        return Ok(false);
    }
    copy.fetch_topic(version)?;
    Ok(copy.keep_array_length()? > 0)
}

/// A fetch answer with an error for each of its partitions, and no records.
pub(super) fn failed_fetch(frame: &[u8], version: i16, code: i16) -> Result<Vec<u8>> {
    let mut copy = Copy::of(frame);
    copy.fetch_head()?;
    for _ in 0..copy.keep_array_length()? {
        copy.fetch_topic(version)?;
        for _ in 0..copy.keep_array_length()? {
            copy.keep(4)?; // partition_index
            copy.replace(&code.to_be_bytes())?; // error_code
            for _ in ["high_watermark", "last_stable_offset", "log_start_offset"] {
                copy.replace(&UNKNOWN.to_be_bytes())?;
            }
            let start = copy.to.len();
            for _ in 0..copy.keep_array_length()? {
                copy.keep(16)?; // producer_id, first_offset
                copy.keep_tags()?;
            }
            copy.to.truncate(start);
            copy.to.push(0); // aborted_transactions: null
            copy.replace(&NOBODY.to_be_bytes())?; // preferred_read_replica
            let start = copy.to.len();
            copy.keep_text()?;
            copy.to.truncate(start);
            copy.to.push(1); // records: empty
            copy.keep_tags()?;
        }
        copy.keep_tags()?;
    }
    Ok(copy.with_the_rest())
}

/// What is left to be read, and what was written.
struct Copy<'a> {
    from: &'a [u8],
    to: Vec<u8>,
}

impl<'a> Copy<'a> {
    fn of(frame: &'a [u8]) -> Self {
        Self { from: frame, to: Vec::with_capacity(frame.len()) }
    }

    fn take(&mut self, length: usize) -> Result<&'a [u8]> {
        let short = || Error::new("an answer of Kafka's is shorter than its version says");
        let (taken, rest) = self.from.split_at_checked(length).ok_or_else(short)?;
        self.from = rest;
        Ok(taken)
    }

    fn keep(&mut self, length: usize) -> Result<()> {
        let taken = self.take(length)?;
        self.to.extend_from_slice(taken);
        Ok(())
    }

    /// Writes this in place of as many bytes.
    fn replace(&mut self, bytes: &[u8]) -> Result<()> {
        self.take(bytes.len())?;
        self.to.extend_from_slice(bytes);
        Ok(())
    }

    /// Correlation id and tags.
    fn header(&mut self) -> Result<()> {
        self.keep(4)?;
        self.keep_tags()
    }

    fn fetch_head(&mut self) -> Result<()> {
        self.header()?;
        self.keep(4 + 2 + 4) // throttle_time_ms, error_code, session_id
    }

    fn fetch_topic(&mut self, version: i16) -> Result<()> {
        if version >= 13 { self.keep(16) } else { self.keep_text() }
    }

    /// Seven bits a byte, the lowest first.
    fn skip_number(&mut self) -> Result<usize> {
        let (mut number, mut shift) = (0, 0);
        loop {
            let byte = self.take(1)?[0];
            number |= usize::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(number);
            }
            shift += 7;
            if shift > 28 {
                return Err(Error::new("a number in an answer of Kafka's does not end"));
            }
        }
    }

    fn keep_number(&mut self) -> Result<usize> {
        let before = self.from;
        let number = self.skip_number()?;
        self.to.extend_from_slice(&before[..before.len() - self.from.len()]);
        Ok(number)
    }

    /// Of a compact array; 0 for a null one.
    fn skip_array_length(&mut self) -> Result<usize> {
        Ok(self.skip_number()?.saturating_sub(1))
    }

    fn keep_array_length(&mut self) -> Result<usize> {
        Ok(self.keep_number()?.saturating_sub(1))
    }

    /// A compact string, or bytes, or null.
    fn keep_text(&mut self) -> Result<()> {
        let length = self.keep_array_length()?;
        self.keep(length)
    }

    fn keep_tags(&mut self) -> Result<()> {
        for _ in 0..self.keep_number()? {
            self.keep_number()?;
            let size = self.keep_number()?;
            self.keep(size)?;
        }
        Ok(())
    }

    fn with_the_rest(mut self) -> Vec<u8> {
        self.to.extend_from_slice(self.from);
        self.to
    }
}
