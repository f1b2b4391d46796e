//! The protocol, checked: every interleaving of a small world, with faults.
//!
//! The world is Kafka's group, one row of `consumer_offset` with the rows of a sink beside it, and two or three
//! workers. The workers run production code: the state machine of `src/partition.rs`, the decision table of
//! `src/lane/decide.rs`, the predicates of `src/invariants.rs`. What the database and the group do is modelled:
//! `model/database.rs` says what each statement does, `model/world.rs` who may step when, `model/properties.rs` what
//! must hold. `model/start.rs` is a second, smaller model: two workers that start a group on a topic at once; `model/parking.rs` a third: the order of a
//! key whose records are parked behind a dead letter.
//!
//! ```sh
//! cargo test --test model -- --nocapture              # prints states and depth
//! cargo test --test model -- --ignored --nocapture    # the larger worlds; minutes, better with --release
//! ```
//!
//! Each mutation breaks one rule of the protocol, and a test demands that the model notices (docs/guarantees.md).

mod model {
    pub(crate) mod actions;
    pub(crate) mod cycles;
    pub(crate) mod database;
    pub(crate) mod mutation;
    pub(crate) mod parking;
    pub(crate) mod properties;
    pub(crate) mod report;
    pub(crate) mod start;
    pub(crate) mod walk;
    pub(crate) mod worker;
    pub(crate) mod world;
}

use model::mutation::Mutation;
use model::parking::{self, Parking};
use model::properties;
use model::report::{check, counterexample};
use model::start::{self, StartModel};
use model::world::Protocol;

/// A zombie, because the group has moved the partition and the worker has not heard; and one fault of any kind at any
/// moment, a fail-over to an older database among them.
#[test]
fn a_zombie_and_a_fault() {
    check("a zombie and a fault", &Protocol { log: 1, ..Protocol::small() });
}

/// The same, apart, with several batches.
#[test]
fn several_batches() {
    check("a zombie, three records", &Protocol { log: 3, faults: 0, ..Protocol::small() });
    check("a fault, three records", &Protocol { log: 3, moves: 0, ..Protocol::small() });
}

/// An operator moves the offset, with and without undo, back and forth, beside a zombie.
#[test]
fn an_operator_moves_the_offset() {
    check("reset", &Protocol { log: 2, moves: 0, faults: 0, resets: 2, ..Protocol::small() });
    check("reset beside a zombie", &Protocol { log: 1, faults: 0, resets: 1, ..Protocol::small() });
}

/// An operator pauses, resumes, and undoes rows in portions under the plan's own claim, beside a zombie and a fault.
#[test]
fn an_operator_undoes_rows_in_portions() {
    let world = || Protocol { lasting: true, resets: 2, ..Protocol::small() };
    check("undo", &Protocol { log: 2, moves: 0, faults: 0, ..world() });
    check("undo beside a zombie", &Protocol { log: 2, faults: 0, resets: 1, fail_over: false, ..world() });
    check("undo and a fault", &Protocol { log: 1, moves: 0, resets: 1, ..world() });
}

/// A record is rejected, stored as a dead letter, read again after a reset, discarded, redriven by whoever holds the claim.
#[test]
fn dead_letters() {
    let bad = Some(0);
    check("dead letter", &Protocol { log: 2, moves: 0, faults: 0, resets: 2, bad, ..Protocol::small() });
    check("dead letter and a fault", &Protocol { log: 1, moves: 0, resets: 1, bad, ..Protocol::small() });
    check(
        "dead letter beside a zombie",
        &Protocol { log: 1, faults: 0, resets: 1, bad, ..Protocol::small() },
    );
}

/// Later records of a key are parked behind a dead letter, redriven, discarded, read again.
#[test]
fn parked_keys() {
    check("parked behind the first", &Parking::small());
    check("parked behind the second", &Parking { bad: 1, ..Parking::small() });
}

/// Two workers start a group on a topic at once.
#[test]
fn start_policy() {
    check("start policy", &StartModel::new(Mutation::None));
}

mod mutation {
    use super::*;

    fn breaks_parking(mutation: parking::Mutation, property: &'static str) {
        let model = Parking { mutation, ..Parking::small() };
        counterexample(&format!("parking, {mutation:?}"), model, property);
    }

    #[test]
    fn parking_keys_kept() {
        breaks_parking(parking::Mutation::KeysKept, parking::NONE_OVERTAKES);
        breaks_parking(parking::Mutation::KeysKept, parking::ORDERED);
    }

    #[test]
    fn parking_keys_inherited() {
        breaks_parking(parking::Mutation::KeysInherited, parking::NONE_OVERTAKES);
    }

    #[test]
    fn parked_unchecked() {
        breaks_parking(parking::Mutation::ParkedUnchecked, parking::BEHIND_ONE);
    }

    #[test]
    fn overtaken_applied() {
        breaks_parking(parking::Mutation::OvertakenApplied, parking::NONE_OVERTAKES);
    }

    #[test]
    fn parked_out_of_order() {
        breaks_parking(parking::Mutation::OutOfOrder, parking::ORDERED);
    }

    fn breaks(mutation: Mutation, world: Protocol, property: &'static str) {
        counterexample(&format!("{mutation:?}"), world.with(mutation), property);
    }

    #[test]
    fn no_epoch() {
        breaks(Mutation::NoEpoch, Protocol { log: 1, faults: 0, ..Protocol::small() }, properties::BOUNDED);
    }

    #[test]
    fn no_token() {
        breaks(Mutation::NoToken, Protocol { log: 1, ..Protocol::small() }, properties::FENCED);
    }

    #[test]
    fn no_token_two_live_batches() {
        breaks(Mutation::NoToken, Protocol { log: 1, ..Protocol::small() }, properties::ONE_BATCH);
    }

    #[test]
    fn no_fence() {
        breaks(Mutation::NoFence, Protocol { log: 1, faults: 0, ..Protocol::small() }, properties::FENCED);
    }

    #[test]
    fn no_compare_and_set() {
        let world = Protocol { moves: 0, ..Protocol::small() };
        breaks(Mutation::NoCompareAndSet, world.clone(), properties::CONTIGUOUS);
        breaks(Mutation::NoCompareAndSet, world, properties::NOT_SKIPPED);
    }

    #[test]
    fn no_reclaim() {
        let world = Protocol { moves: 0, ..Protocol::small() };
        breaks(Mutation::NoReclaim, world.clone(), properties::RESOLVED);
        breaks(Mutation::NoReclaim, world, properties::ONE_BATCH);
    }

    #[test]
    fn unknown_is_applied() {
        let world = Protocol { moves: 0, ..Protocol::small() };
        breaks(Mutation::UnknownIsApplied, world, properties::MIRROR);
    }

    #[test]
    fn single_statement_undo() {
        let world = Protocol { moves: 0, faults: 0, resets: 1, ..Protocol::small() };
        breaks(Mutation::SingleStatementUndo, world.clone(), properties::PROMISE);
        breaks(Mutation::SingleStatementUndo, world, properties::NOT_TWICE);
    }

    #[test]
    fn walk_moves_first() {
        let world = Protocol { log: 2, moves: 0, faults: 0, resets: 1, lasting: true, ..Protocol::small() };
        breaks(Mutation::WalkMovesFirst, world, properties::PROMISE);
    }

    #[test]
    fn redrive_without_superseding() {
        let world = Protocol { moves: 0, faults: 0, resets: 1, bad: Some(0), ..Protocol::small() };
        breaks(Mutation::RedriveWithoutSuperseding, world, properties::NOT_TWICE);
    }

    #[test]
    fn letter_of_its_own() {
        let world = Protocol { log: 1, moves: 0, bad: Some(0), ..Protocol::small() };
        breaks(Mutation::LetterOfItsOwn, world, properties::PROMISE);
    }

    #[test]
    fn redrive_unchecked() {
        let world = Protocol { log: 1, moves: 0, faults: 0, resets: 1, bad: Some(0), ..Protocol::small() };
        breaks(Mutation::RedriveUnchecked, world, properties::DECIDED);
    }

    #[test]
    fn redrive_unfenced() {
        let world = Protocol { log: 1, faults: 0, bad: Some(0), ..Protocol::small() };
        breaks(Mutation::RedriveUnfenced, world, properties::FENCED);
    }

    #[test]
    fn blind_heartbeat() {
        breaks(Mutation::BlindHeartbeat, Protocol { moves: 0, ..Protocol::small() }, properties::ENABLED);
    }

    #[test]
    fn start_per_partition() {
        let world = || StartModel::new(Mutation::StartPerPartition);
        counterexample("StartPerPartition", world(), start::NOTHING_SKIPPED);
        counterexample("StartPerPartition", world(), start::ONE_POLICY);
        counterexample("StartPerPartition", world(), start::ALL_OR_NONE);
    }
}

/// The larger worlds: `cargo test --release --test model -- --ignored --nocapture`.
mod larger {
    use super::*;

    #[test]
    #[ignore = "soak: minutes, and with --release"]
    fn two_faults() {
        check("two faults", &Protocol { log: 1, moves: 0, faults: 2, ..Protocol::small() });
    }

    #[test]
    #[ignore = "soak: minutes, and with --release"]
    fn a_zombie_and_a_fault_in_several_batches() {
        check("a zombie and a fault, two records", &Protocol::small());
    }

    #[test]
    #[ignore = "soak: minutes, and with --release"]
    fn an_undo_and_a_fault() {
        let world = || Protocol { lasting: true, resets: 1, ..Protocol::small() };
        check("undo and a fault, two records", &Protocol { moves: 0, ..world() });
        check("undo, a zombie and a fault", &Protocol { log: 1, ..world() });
    }

    #[test]
    #[ignore = "soak: minutes, and with --release"]
    fn three_workers() {
        check("three workers", &Protocol { workers: 3, log: 1, ..Protocol::small() });
    }

    #[test]
    #[ignore = "soak: minutes, and with --release"]
    fn an_operator_and_a_fault() {
        let bad = Some(1);
        check("reset and a fault", &Protocol { moves: 0, resets: 1, ..Protocol::small() });
        check("dead letter, reset and a fault", &Protocol { moves: 0, resets: 1, bad, ..Protocol::small() });
        check("reset beside a zombie", &Protocol { faults: 0, resets: 1, ..Protocol::small() });
        check("dead letter beside a zombie", &Protocol { faults: 0, resets: 1, bad, ..Protocol::small() });
    }
}
