//! The batch behind the present one: under lag it is taken, and its handler prepares it, while the present one is
//! written and committed.
//!
//! Nothing of it is written before the present batch is durable: it begins where that one ends, and if that one is not
//! applied, it goes back to where it came from.

use std::sync::Arc;
use std::time::Instant;

use tracing::Span;

use super::fill::{Taken, fill_ahead};
use super::{Lane, Parts};
use crate::commit::Attempt;
use crate::handler::Running;
use crate::trace;

/// A batch, and the work that may have begun on it.
pub(super) struct Ahead {
    pub(super) taken: Taken,
    pub(super) preparing: Option<Running<()>>,
    pub(super) span: Span,
}

impl Ahead {
    pub(super) fn new(mut taken: Taken, parts: &Parts) -> Self {
        let policies = parts.commit.policies();
        // Nobody else has it yet.
        if policies.is_any()
            && let Some(batch) = Arc::get_mut(&mut taken.batch)
        {
            batch.set_policies(policies);
        }
        let span = trace::process(&taken.batch, &parts.claims.db().identity, parts.claims.cluster());
        Self { taken, preparing: None, span }
    }

    /// Whether something of it must not be applied any more.
    pub(super) fn is_ended(&self) -> bool {
        self.taken.buffers.iter().any(|buffer| buffer.is_closed())
    }
}

impl Lane {
    /// Applies a batch once its preparation has ended, and meanwhile looks after the one behind it.
    pub(super) async fn attempt(
        &mut self,
        taken: &Taken,
        preparing: Option<Running<()>>,
    ) -> (Attempt, Option<Ahead>) {
        let limit = self.parts.commit.limit(Self::drain_deadline(&self.shared, &taken.buffers));
        tokio::pin!(limit);
        // Not inside the transaction: it would hold its snapshot and its locks for longer than it must.
        if let Some(mut running) = preparing {
            tokio::select! {
                () = running.ended() => {}
                ended = &mut limit => return (ended.after(&mut self.preparer, running).await, None),
            }
        }
        let began = Instant::now();
        self.lost_before = self.parts.claims.db().lost_sessions();
        let apply = self.parts.commit.apply(&taken.batch, &self.parts.handler, &mut self.thread, limit);
        tokio::pin!(apply);
        let mut ahead = None;
        loop {
            if ahead.is_none()
                && let Some(taken) = fill_ahead(&self.shared, &self.parts.limits, Instant::now())
            {
                let mut next = Ahead::new(taken, &self.parts);
                let (batch, handler) = (Arc::clone(&next.taken.batch), Arc::clone(&self.parts.handler));
                // Without a thread it is not prepared, which is no harm.
                if !batch.is_empty() {
                    next.preparing = self.preparer.prepare(batch, handler, trace::prepare(&next.span)).ok();
                }
                ahead = Some(next);
            }
            tokio::select! {
                attempt = &mut apply => {
                    if matches!(attempt, Attempt::Applied) {
                        self.parts.limits.linger.applied(began.elapsed());
                    }
                    return (attempt, ahead);
                }
                () = self.shared.signals.data.notified(), if ahead.is_none() => {}
            }
        }
    }
}
