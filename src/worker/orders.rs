//! What people have ordered: read every second, obeyed by the control loop, and answered when it is done.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;

use super::control::{Chore, Control};
use crate::batch::PartitionKey;
use crate::claim::On;
pub(super) use crate::control::Order;
use crate::control::Orders as Statements;
use crate::db::Db;
use crate::partition::{After, Input, State};

/// How often it is looked for orders: with the claim that follows, they are obeyed within two seconds.
const INTERVAL: Duration = Duration::from_secs(1);
/// And while there are some that were just given, so that they are answered as soon as they are obeyed.
const FRESH: Duration = Duration::from_millis(200);
/// And where the tables do not have them yet.
const SELDOM: Duration = Duration::from_secs(60);

/// Looks for orders.
pub(super) struct Orders {
    db: Arc<Db>,
    statements: Statements,
    found: mpsc::UnboundedSender<Vec<Order>>,
}

impl Orders {
    pub(super) fn new(db: Arc<Db>, found: mpsc::UnboundedSender<Vec<Order>>) -> Self {
        Self { statements: Statements::new(&db), db, found }
    }

    /// Looks until aborted.
    pub(super) async fn run(self) {
        let mut complained = false;
        loop {
            let mut wait = INTERVAL;
            match self.statements.open(&self.db).await {
                Ok(Some(orders)) if orders.is_empty() => {}
                Ok(Some(orders)) => {
                    if orders.iter().any(|order| order.is_fresh) {
                        wait = FRESH;
                    }
                    let _ = self.found.send(orders);
                }
                Ok(None) => {
                    wait = SELDOM;
                    if !std::mem::replace(&mut complained, true) {
                        tracing::warn!(
                            "there is no table partition_control yet, or no right to it: what `highwater partitions` and \
                             `highwater offsets` tell a halted partition is not heard; run `highwater migrate`, and grant \
                             what `highwater migrate --print-grants` prints"
                        );
                    }
                }
                Err(error) => {
                    self.db.heed(&error);
                    tracing::debug!(%error, "could not look for orders");
                }
            }
            tokio::time::sleep(wait).await;
        }
    }
}

/// What an order asks of a partition as it stands.
#[derive(Debug, PartialEq, Eq)]
enum Answer {
    /// It is as ordered.
    Obeyed,
    /// It comes to be.
    Wait,
    Do(Input),
}

impl Control {
    /// Does what is left to do: the fence has ended the old claims already, so that this only makes haste.
    pub(super) fn on_orders(&mut self, orders: Vec<Order>) {
        let (mut inputs, mut obeyed) = (Vec::new(), Vec::new());
        for order in orders {
            match self.answer(&order) {
                Answer::Obeyed => obeyed.push(order.id),
                Answer::Wait => {}
                Answer::Do(input) => {
                    if let (Input::HaltOver, Some(entry)) = (&input, self.entries.get_mut(&order.key)) {
                        entry.woken_by = order.id;
                    }
                    tracing::info!(partition = %order.key, verb = &*order.verb, order = order.id, "ordered by an operator");
                    inputs.push((order.key, input));
                }
            }
        }
        self.feed(inputs);
        if obeyed.is_empty() {
            return;
        }
        let db = Arc::clone(self.claims.db());
        self.chores.spawn(async move {
            if let Err(error) = Statements::new(&db).obeyed(&db, &obeyed).await {
                tracing::debug!(%error, "could not say that orders were obeyed; they are found again");
            }
            Chore::Nothing
        });
    }

    fn answer(&self, order: &Order) -> Answer {
        let Some(entry) = self.entries.get(&order.key).filter(|entry| entry.machine.assignment().is_some())
        else {
            return Answer::Wait;
        };
        match entry.machine.state() {
            State::Running { claim } if claim.epoch <= order.epoch => {
                Answer::Do(Input::Ended { claim: *claim, after: After::Claim })
            }
            State::Running { .. } => Answer::Obeyed,
            State::Halted { .. } => {
                // Whatever its epoch: a database that has gone back counts anew. To wake in vain costs a claim.
                if !order.wakes() || entry.woken_by >= order.id {
                    Answer::Obeyed
                } else {
                    Answer::Do(Input::HaltOver)
                }
            }
            State::Claiming if self.is_paused(&order.key) => Answer::Obeyed,
            State::Claiming | State::Draining { .. } | State::Fenced | State::Unassigned => Answer::Wait,
        }
    }

    fn is_paused(&self, key: &PartitionKey) -> bool {
        self.obtain.still.waiting_for(key).is_some_and(|waiting| waiting.on == On::Operator)
    }
}
