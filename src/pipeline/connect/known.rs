//! Schemas that were seen, compiled: each record carries its own, and nearly always the one of the record before.

use std::collections::VecDeque;
use std::sync::{Arc, PoisonError, RwLock};

use super::plan::Plan;

/// How many are kept, and how long all of them are together.
const MOST: usize = 256;
const MOST_BYTES: usize = 16 * 1_024 * 1_024;

/// A schema's text, and what follows from it.
#[derive(Debug)]
pub(super) struct Known {
    text: Box<str>,
    pub(super) plan: Plan,
}

/// Those of a sink, the newest first.
#[derive(Debug, Default)]
pub(crate) struct KnownSchemas(RwLock<VecDeque<Arc<Known>>>);

impl KnownSchemas {
    /// The schema that a text begins with, if it is known, and what comes behind it.
    pub(super) fn leading<'a>(&self, text: &'a [u8]) -> Option<(Arc<Known>, &'a [u8])> {
        let known = self.0.read().unwrap_or_else(PoisonError::into_inner);
        // An object ends where its text ends, so that no schema is the beginning of another.
        known.iter().find_map(|known| {
            let rest = text.strip_prefix(known.text.as_bytes())?;
            Some((Arc::clone(known), rest))
        })
    }

    /// # Errors
    /// Why it is none.
    pub(super) fn of(&self, text: &str) -> Result<Arc<Known>, String> {
        {
            let known = self.0.read().unwrap_or_else(PoisonError::into_inner);
            if let Some(known) = known.iter().find(|known| *known.text == *text) {
                return Ok(Arc::clone(known));
            }
        }
        let new = Arc::new(Known { text: text.into(), plan: Plan::compile(text)? });
        let mut known = self.0.write().unwrap_or_else(PoisonError::into_inner);
        known.push_front(Arc::clone(&new));
        let bytes = |known: &VecDeque<Arc<Known>>| known.iter().map(|known| known.text.len()).sum::<usize>();
        while known.len() > MOST || bytes(&known) > MOST_BYTES {
            known.pop_back();
        }
        Ok(new)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn schemas_are_kept_within_bounds() {
        let schemas = KnownSchemas::default();
        let text = |n: usize| format!(r#"{{"type":"int32","version":{n}}}"#);
        for n in 0..MOST + 10 {
            schemas.of(&text(n)).unwrap();
        }
        assert_eq!(schemas.0.read().unwrap().len(), MOST);
        assert!(schemas.leading(text(0).as_bytes()).is_none());
        let (first, rest) = schemas
            .leading(format!("{} rest", text(MOST)).as_bytes())
            .map(|(known, rest)| (known, rest.to_vec()))
            .unwrap();
        assert_eq!(rest, b" rest");
        assert!(Arc::ptr_eq(&first, &schemas.of(&text(MOST)).unwrap()));
        let long = format!(r#"{{"type":"int32","doc":"{}"}}"#, "x".repeat(MOST_BYTES));
        schemas.of(&long).unwrap();
        assert!(schemas.0.read().unwrap().is_empty());
        assert!(schemas.of("{}").is_err());
        assert!(schemas.0.read().unwrap().is_empty());
    }
}
