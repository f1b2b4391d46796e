//! The ways in which the protocol is broken on purpose.

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Mutation {
    /// The protocol as it is.
    None,
    /// A claim makes a new token, but no new epoch: nobody can tell who came later.
    NoEpoch,
    /// Commits are fenced by the epoch alone (EO-3).
    NoToken,
    /// Commits are not fenced at all, only compared with the offset (EO-3).
    NoFence,
    /// Commits are fenced, but not compared with the offset (EO-2).
    NoCompareAndSet,
    /// After an unknown outcome the batch is tried again under the same claim (EO-7).
    NoReclaim,
    /// An unknown outcome counts as applied (EO-7, EO-8).
    UnknownIsApplied,
    /// A reset locks the row and deletes the sink's rows in one statement: what is committed while it waits for the
    /// lock is not in its snapshot.
    SingleStatementUndo,
    /// A reset leaves the dead letters of the records that it makes the workers read again (EO-9).
    RedriveWithoutSuperseding,
    /// A dead letter is written in a transaction of its own, before the one that steps over its record (EO-9).
    LetterOfItsOwn,
    /// A dead letter is redriven whatever its state is by now (EO-9).
    RedriveUnchecked,
    /// A dead letter is redriven under a claim that is over (EO-3).
    RedriveUnfenced,
    /// An undo in portions moves the offset first, and deletes the rows when it has arrived (EO-1).
    WalkMovesFirst,
    /// The heartbeat's answer looks at claims only, not at positions.
    BlindHeartbeat,
    /// Each worker resolves the start policy for the partition that it is assigned (EO-4).
    StartPerPartition,
}
