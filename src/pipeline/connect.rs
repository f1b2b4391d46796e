//! Connect's JSON with its schema, `{"schema": …, "payload": …}`, into canonical JSON (`semantic.rs`).
//!
//! As `org.apache.kafka.connect.json.JsonConverter` writes it with `schemas.enable`.

mod known;
mod plan;
mod walk;

use std::cell::OnceCell;
use std::ops::Range;
use std::sync::LazyLock;

pub(crate) use self::known::KnownSchemas;
use super::extract::{Misfit, Raw, Tree};

/// A document in canonical JSON.
#[derive(Debug, Default)]
pub(crate) struct Canonical {
    text: Vec<u8>,
    /// Where a `null` stands for a value that could not be written, and why not: of interest only to who takes it.
    failures: Vec<(Range<usize>, String)>,
}

impl Canonical {
    /// Why a value of this document, or something in it, is not what the record says.
    pub(crate) fn failure(&self, raw: Raw<'_>) -> Option<&str> {
        if self.failures.is_empty() {
            return None;
        }
        let at = raw.get().as_ptr().addr().checked_sub(self.text.as_ptr().addr())?;
        let taken = at..at + raw.get().len();
        let overlaps = |range: &Range<usize>| range.start < taken.end && taken.start < range.end;
        self.failures.iter().find(|(range, _)| overlaps(range)).map(|(_, what)| what.as_str())
    }
}

/// Where a record's canonical JSON is kept.
#[derive(Debug, Default)]
pub(crate) struct Buffers {
    pub(crate) key: OnceCell<Canonical>,
    pub(crate) value: OnceCell<Canonical>,
}

/// The parts of an envelope.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Envelope<'a> {
    schema: Option<Raw<'a>>,
    payload: Option<Raw<'a>>,
    has_more: bool,
}

/// What a document turned out to be.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Unwrapped<'a> {
    pub(crate) document: &'a [u8],
    /// Its values are canonical.
    pub(crate) has_schema: bool,
}

const SCHEMA: &[u8] = b"{\"schema\":";
const PAYLOAD: &[u8] = b",\"payload\":";

impl KnownSchemas {
    /// A document without its envelope, which it must have; `part`: for messages.
    ///
    /// # Errors
    /// Why it has none, or one that cannot be read.
    pub(crate) fn unwrap<'a>(
        &self,
        part: &str,
        document: &'a [u8],
        buffer: &'a OnceCell<Canonical>,
    ) -> Result<Unwrapped<'a>, String> {
        if let Some(unwrapped) = self.by_the_last(part, document, buffer) {
            return unwrapped;
        }
        match Envelope::read(part, document)? {
            Envelope { schema: Some(schema), payload: Some(payload), has_more: false } => {
                self.canonical(part, schema, payload, buffer)
            }
            _ => Err(format!(
                "{part}: not in Connect's envelope, which has two fields, schema and payload: is it written with \
                 schemas.enable = false? Then envelope = \"none\""
            )),
        }
    }

    /// A document without its envelope, if it has one.
    ///
    /// # Errors
    /// If it is no JSON, or in an envelope that cannot be read.
    pub(crate) fn unwrap_if<'a>(
        &self,
        part: &str,
        document: &'a [u8],
        buffer: &'a OnceCell<Canonical>,
    ) -> Result<Unwrapped<'a>, String> {
        if let Some(unwrapped) = self.by_the_last(part, document, buffer) {
            return unwrapped;
        }
        let plain = Unwrapped { document, has_schema: false };
        if document.trim_ascii_start().first() != Some(&b'{') {
            return Ok(plain);
        }
        match Envelope::read(part, document)? {
            Envelope { schema: Some(schema), payload: Some(payload), has_more: false } => {
                self.canonical(part, schema, payload, buffer)
            }
            Envelope { payload: Some(payload), has_more: false, .. } if payload.get().starts_with('{') => {
                Ok(Unwrapped { document: payload.get().as_bytes(), ..plain })
            }
            _ => Ok(plain),
        }
    }

    /// Most records begin with the same schema as the one before, so that it need not even be read.
    fn by_the_last<'a>(
        &self,
        part: &str,
        document: &'a [u8],
        buffer: &'a OnceCell<Canonical>,
    ) -> Option<Result<Unwrapped<'a>, String>> {
        let (known, rest) = self.leading(document.strip_prefix(SCHEMA)?)?;
        let payload = rest.strip_prefix(PAYLOAD)?.trim_ascii_end().strip_suffix(b"}")?;
        // Anything else behind it is for the long way.
        let mut slots = [None];
        WHOLE.fill(payload, &mut slots, None).ok()?;
        Some(written(part, &known.plan, slots[0]?, buffer))
    }

    fn canonical<'a>(
        &self,
        part: &str,
        schema: Raw<'_>,
        payload: Raw<'a>,
        buffer: &'a OnceCell<Canonical>,
    ) -> Result<Unwrapped<'a>, String> {
        if schema.get() == "null" {
            return Ok(Unwrapped { document: payload.get().as_bytes(), has_schema: false });
        }
        let known = self.of(schema.get()).map_err(|what| format!("{part}: its schema: {what}"))?;
        written(part, &known.plan, payload, buffer)
    }
}

fn written<'a>(
    part: &str,
    plan: &plan::Plan,
    payload: Raw<'a>,
    buffer: &'a OnceCell<Canonical>,
) -> Result<Unwrapped<'a>, String> {
    let document = if matches!(plan, plan::Plan::Raw) {
        payload.get().as_bytes()
    } else {
        let canonical = walk::write(plan, payload).map_err(|what| format!("{part}: {what}"))?;
        &buffer.get_or_init(|| canonical).text
    };
    Ok(Unwrapped { document, has_schema: true })
}

impl<'a> Envelope<'a> {
    fn read(part: &str, document: &'a [u8]) -> Result<Self, String> {
        let mut slots = [None; 2];
        let mut rest = Vec::new();
        match ENVELOPE.fill(document, &mut slots, Some(&mut rest)) {
            Ok(()) => {}
            // An array, a number.
            Err(Misfit::Inside(_)) => rest.clear(),
            Err(misfit) => return Err(super::map::explain(part, &misfit)),
        }
        let [schema, payload] = slots;
        Ok(Self { schema, payload, has_more: !rest.is_empty() })
    }
}

static ENVELOPE: LazyLock<Tree> = LazyLock::new(|| super::extract::of_fields(["schema", "payload"]));
/// All of a document.
static WHOLE: LazyLock<Tree> = LazyLock::new(|| {
    let mut tree = Tree::default();
    tree.add(&[], 0, true);
    tree
});

#[cfg(test)]
mod tests;
