//! What the faults themselves have produced: it must be in the tables like any other payment.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use highwater::testing::Ledger;

use crate::check::{Balances, Expected};
use crate::transactions::{Produced, add};
use crate::{Result, TOPIC};

/// Kept while faults go on.
pub(crate) struct Own(Mutex<Produced>);

impl Own {
    pub(crate) fn new() -> Self {
        let expected = Expected { ledger: Ledger::new(), balances: Balances::new() };
        Self(Mutex::new(Produced { expected, uncertain: BTreeMap::new(), rolled_back: 0 }))
    }

    /// Enters what a producer of its own has committed.
    pub(crate) fn produced<'a>(&self, ledger: &Ledger, bodies: impl IntoIterator<Item = &'a str>) -> Result {
        let mut own = self.lock();
        for ((partition, offset), _) in ledger.positions(TOPIC) {
            own.expected.ledger.record(TOPIC, partition, offset);
        }
        for body in bodies {
            add(&mut own.expected.balances, &serde_json::from_str(body)?);
        }
        Ok(())
    }

    /// Enters payments of a transaction with an unknown outcome.
    pub(crate) fn uncertain<'a>(&self, bodies: impl IntoIterator<Item = &'a str>) -> Result {
        for body in bodies {
            self.lock().uncertain.insert(body.to_owned(), serde_json::from_str(body)?);
        }
        Ok(())
    }

    pub(crate) fn take(&self) -> Produced {
        std::mem::replace(
            &mut *self.lock(),
            Self::new().0.into_inner().unwrap_or_else(PoisonError::into_inner),
        )
    }

    fn lock(&self) -> MutexGuard<'_, Produced> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
