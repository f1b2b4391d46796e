//! The schemas of a registry that are here, each compiled once, and how the others get here.

use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{Duration, Instant};

use super::codec::{Decoder, Kind, Undecoded};
use super::registry::{Missing, Registry};
use super::wire::SchemaId;
use crate::HandlerError;

/// What was asked for once is kept for as long as the process lives: what an id means never changes, and the latest version
/// of a subject is that of the process's start.
#[derive(Debug)]
pub(crate) struct Schemas {
    registry: Registry,
    known: RwLock<HashMap<SchemaId, (Kind, Arc<Decoder>)>>,
    /// Locked while one is asked for, so that each is once.
    asking: Mutex<Asking>,
}

/// What came of earlier questions.
#[derive(Debug, Default)]
struct Asking {
    /// Since when the registry does not know them.
    unknown: HashMap<SchemaId, Instant>,
    /// When it did not answer, and why.
    away: Option<(Instant, String)>,
}

impl Schemas {
    pub(crate) fn new(registry: Registry) -> Self {
        Self { registry, known: RwLock::default(), asking: Mutex::default() }
    }

    /// Whether [`obtain`](Self::obtain) has nothing to do.
    pub(crate) fn has(&self, id: &SchemaId) -> bool {
        self.known.read().unwrap_or_else(PoisonError::into_inner).contains_key(id)
    }

    /// Of one that is here.
    pub(crate) fn kind(&self, id: &SchemaId) -> Option<Kind> {
        self.known.read().unwrap_or_else(PoisonError::into_inner).get(id).map(|(kind, _)| *kind)
    }

    /// # Errors
    /// If it is not here, or of another kind.
    pub(crate) fn of(&self, kind: Kind, id: &SchemaId) -> Result<Arc<Decoder>, Undecoded> {
        match self.known.read().unwrap_or_else(PoisonError::into_inner).get(id) {
            Some((known, decoder)) if *known == kind => Ok(Arc::clone(decoder)),
            Some((known, _)) => Err(Undecoded::Bad(format!(
                "its {id} is of kind {}, and the file says {}",
                known.name(),
                kind.name()
            ))),
            None => Err(Undecoded::Without(id.clone())),
        }
    }

    /// Asks the registry for a schema; blocks its thread.
    ///
    /// # Errors
    /// [Retry](HandlerError::retry) while the registry is away, or while it may not know it yet; else
    /// [fatal](HandlerError::fatal).
    pub(crate) fn obtain(&self, id: &SchemaId) -> Result<(), HandlerError> {
        let came = Instant::now();
        let mut asking = self.asking.lock().unwrap_or_else(PoisonError::into_inner);
        if self.has(id) {
            return Ok(());
        }
        let away =
            |why: &str| HandlerError::retry(format!("{id} is not here yet: the schema registry: {why}"));
        // Whoever has waited behind a question that was not answered would ask the same.
        if let Some((at, why)) = &asking.away
            && *at >= came
        {
            return Err(away(why));
        }
        let found = match self.registry.find(id) {
            Ok(found) => found,
            Err(Missing::Away(why)) => {
                let error = away(&why);
                asking.away = Some((Instant::now(), why));
                return Err(error);
            }
            Err(Missing::Unknown(what)) => return Err(self.waited(&mut asking.unknown, id, &what)),
        };
        asking.unknown.remove(id);
        let kind =
            [Kind::Avro, Kind::Protobuf, Kind::JsonSchema].into_iter().find(|kind| kind.name() == found.kind);
        let kind = kind.ok_or_else(|| {
            HandlerError::fatal(format!("{id} is of a kind that is none of AVRO, PROTOBUF and JSON"))
        })?;
        // Compilers of texts by strangers have panicked before.
        let compiled = catch_unwind(AssertUnwindSafe(|| Decoder::new(kind, &found.text, found.references)));
        let decoder = compiled.unwrap_or_else(|_| Err("breaks the compiler of schemas".to_owned()));
        let decoder = decoder.map_err(|what| {
            HandlerError::fatal(format!("{id} of the registry, of kind {}, {what}", kind.name()))
        })?;
        tracing::info!(schema = %id, kind = kind.name(), "schema compiled");
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        known.insert(id.clone(), (kind, Arc::new(decoder)));
        Ok(())
    }

    /// Whether the registry has answered that it does not know a schema; that is forgotten, and whoever asks again waits anew.
    /// Blocks its thread.
    pub(crate) fn is_unknown(&self, id: &SchemaId) -> bool {
        self.asking.lock().unwrap_or_else(PoisonError::into_inner).unknown.remove(id).is_some()
    }

    /// How long a schema that the registry does not know yet is waited for.
    pub(crate) fn patience(&self) -> Duration {
        self.registry.schema_wait
    }

    /// A registry that follows another one may lag behind; but not for ever.
    fn waited(
        &self,
        unknown: &mut HashMap<SchemaId, Instant>,
        id: &SchemaId,
        what: &SchemaId,
    ) -> HandlerError {
        let wait = self.registry.schema_wait;
        let since = *unknown.entry(id.clone()).or_insert_with(Instant::now);
        if since.elapsed() < wait {
            return HandlerError::retry(format!("the schema registry does not know {what} yet"));
        }
        // Whoever tries again waits anew.
        unknown.remove(id);
        HandlerError::fatal(format!(
            "the schema registry does not know {what}, and has not for {wait:?} (`schema_wait`): is it the registry of those who \
             write this topic?"
        ))
    }
}
