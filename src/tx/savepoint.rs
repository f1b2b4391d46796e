//! Savepoints: undoing a part of what the handler wrote.

use super::Tx;
use crate::HandlerError;
use crate::verdict::Class;

/// A point in the transaction to return to; made by [`Tx::savepoint`].
///
/// Dropping it does nothing: the savepoint then lives, and costs a little, until an outer one or the transaction
/// ends.
#[derive(Debug)]
#[must_use = "a savepoint does nothing until it is given to rollback_to or release"]
pub struct Savepoint {
    id: u64,
    xact_id: String,
}

/// A savepoint that can be returned to, and what there was when it was set.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Live {
    id: u64,
    /// How many stages had been filled.
    staged: usize,
    /// How much was to be done after COMMIT.
    on_commit: usize,
}

impl Tx {
    /// Sets a savepoint. They nest.
    ///
    /// ```
    /// use highwater::{HandlerError, Tx};
    ///
    /// # #[expect(dead_code)]
    /// async fn insert_once(tx: &mut Tx, id: i64) -> Result<(), HandlerError> {
    ///     let before = tx.savepoint().await?;
    ///     match tx.execute("INSERT INTO seen (id) VALUES ($1)", &[&id]).await {
    ///         Ok(_) => tx.release(before).await,
    ///         Err(error) if error.sqlstate() == Some("23505") => tx.rollback_to(&before).await,
    ///         Err(error) => Err(error),
    ///     }
    /// }
    /// ```
    ///
    /// A savepoint per record is costly: three round trips, and beyond 64 with writes in one transaction PostgreSQL
    /// slows down for all sessions. Better check a record before writing, and [reject](HandlerError::reject) it.
    ///
    /// # Errors
    /// As [`query`](Self::query).
    ///
    /// # Cancel safety
    /// A dropped future may leave a savepoint that nobody can return to; it does no harm.
    pub async fn savepoint(&mut self) -> Result<Savepoint, HandlerError> {
        self.usable()?;
        self.set_savepoint().await
    }

    /// As [`savepoint`](Self::savepoint), also inside of a part that is right only as a whole.
    pub(crate) async fn set_savepoint(&mut self) -> Result<Savepoint, HandlerError> {
        self.in_step()?;
        self.last_savepoint += 1;
        let id = self.last_savepoint;
        self.raw().batch_execute(&format!("SAVEPOINT {}", name(id))).await?;
        self.savepoints.push(Live { id, staged: self.staged.len(), on_commit: self.on_commit.len() });
        Ok(Savepoint { id, xact_id: self.xact_id.clone() })
    }

    /// Undoes everything since the savepoint, also after an SQL error. The savepoint stays, so that it can be
    /// returned to again; those set after it are gone.
    ///
    /// # Errors
    /// As [`query`](Self::query); [fatal](HandlerError::fatal) if the savepoint was released or undone, or belongs
    /// to another transaction.
    ///
    /// # Cancel safety
    /// A dropped future leaves the connection unusable: the batch is rolled back.
    pub async fn rollback_to(&mut self, savepoint: &Savepoint) -> Result<(), HandlerError> {
        self.usable()?;
        self.return_to(savepoint).await
    }

    /// As [`rollback_to`](Self::rollback_to), also inside of a part that is right only as a whole.
    pub(crate) async fn return_to(&mut self, savepoint: &Savepoint) -> Result<(), HandlerError> {
        self.in_step()?;
        let index = self.position(savepoint)?;
        self.broken = Some(Class::RetryThenHalt);
        let done = async {
            self.raw().batch_execute(&format!("ROLLBACK TO SAVEPOINT {}", name(savepoint.id))).await?;
            if self.copied { self.check_in_step().await } else { Ok(()) }
        };
        match done.await {
            Ok(()) => {
                self.broken = None;
                let Live { staged, on_commit, .. } = self.savepoints[index];
                self.savepoints.truncate(index + 1);
                // What was made or noted since is undone as well.
                self.staged.truncate(staged);
                self.on_commit.truncate(on_commit);
                Ok(())
            }
            Err(error) => {
                let error = if self.copied && error.sqlstate().is_none() {
                    // A COPY that was refused late costs the connection too. Were it taken for the environment's
                    // fault, a handler's bug would be retried for ever.
                    let reason =
                        "cannot return to a savepoint: the connection was lost, likely by a failed COPY";
                    HandlerError::lost_connection(Class::RetryThenHalt, reason).with_source(error)
                } else {
                    error.discarding()
                };
                self.break_with(&error);
                Err(error)
            }
        }
    }

    /// Ends the savepoint and those set after it, and keeps what was written since.
    ///
    /// # Errors
    /// As [`rollback_to`](Self::rollback_to); SQLSTATE 25P02 if a statement since the savepoint failed.
    ///
    /// # Cancel safety
    /// A dropped future leaves open whether the savepoint still exists; what was written stays either way.
    pub async fn release(&mut self, savepoint: Savepoint) -> Result<(), HandlerError> {
        self.usable()?;
        self.end_savepoint(savepoint).await
    }

    /// As [`release`](Self::release), also inside of a part that is right only as a whole.
    pub(crate) async fn end_savepoint(&mut self, savepoint: Savepoint) -> Result<(), HandlerError> {
        self.in_step()?;
        let index = self.position(&savepoint)?;
        self.raw().batch_execute(&format!("RELEASE SAVEPOINT {}", name(savepoint.id))).await?;
        self.savepoints.truncate(index);
        Ok(())
    }

    fn position(&self, savepoint: &Savepoint) -> Result<usize, HandlerError> {
        let alive = self.savepoints.iter().position(|live| live.id == savepoint.id);
        alive.filter(|_| savepoint.xact_id == self.xact_id).ok_or_else(|| {
            HandlerError::fatal(
                "savepoint refused before it was sent: it was ended, or belongs to another batch",
            )
        })
    }
}

fn name(id: u64) -> String {
    format!("highwater_{id}")
}
