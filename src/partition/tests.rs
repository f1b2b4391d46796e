mod echoes;

use proptest::prelude::*;
use uuid::Uuid;

use super::*;
use crate::ErrorKind;

fn claim(n: u8) -> ClaimId {
    ClaimId { epoch: i64::from(n), token: Uuid::from_bytes([n; 16]) }
}

fn granted(assignment: AssignmentId, n: u8) -> Input {
    Input::Granted { assignment, claim: claim(n), from: NextOffset::ZERO }
}

fn halt() -> Halt {
    Halt::new(ErrorKind::Guard, "why")
}

#[test]
fn a_claim_that_comes_after_the_revoke_is_released() {
    let mut partition = Partition::new();
    assert_eq!(partition.on(Input::Assigned(1)), [Effect::Claim(1)]);
    assert_eq!(partition.on(Input::Revoked), []);
    assert_eq!(partition.on(granted(1, 7)), [Effect::Release(claim(7))]);
    assert!(partition.is_gone());
}

#[test]
fn a_claim_for_an_older_assignment_is_released_and_the_new_one_runs() {
    let mut partition = Partition::new();
    partition.on(Input::Assigned(1));
    partition.on(Input::Revoked);
    assert_eq!(partition.on(Input::Assigned(2)), [Effect::Claim(2)]);
    assert_eq!(partition.on(granted(1, 7)), [Effect::Release(claim(7))]);
    let fetch = Effect::Fetch { assignment: 2, claim: claim(8), from: NextOffset::ZERO };
    assert_eq!(partition.on(granted(2, 8)), [fetch]);
}

#[test]
fn a_partition_that_comes_back_drains_first() {
    let mut partition = Partition::new();
    partition.on(Input::Assigned(1));
    partition.on(granted(1, 7));
    assert_eq!(partition.on(Input::Revoked), [Effect::Close { claim: claim(7), revoked: true }]);
    assert_eq!(partition.on(Input::Assigned(2)), [], "the batch of the old claim may still commit");
    assert_eq!(partition.on(Input::Idle { claim: claim(7) }), [Effect::Release(claim(7)), Effect::Claim(2)]);
}

#[test]
fn a_fenced_partition_claims_again_only_when_told_and_still_assigned() {
    let mut partition = Partition::new();
    partition.on(Input::Assigned(1));
    partition.on(granted(1, 7));
    partition.on(Input::Ended { claim: claim(7), after: After::Fence });
    assert_eq!(
        partition.on(Input::Idle { claim: claim(7) }),
        [Effect::Release(claim(7)), Effect::AwaitFence]
    );
    let mut revoked = partition.clone();
    assert_eq!(partition.on(Input::FenceOver), [Effect::Claim(1)]);
    revoked.on(Input::Revoked);
    assert_eq!(revoked.on(Input::FenceOver), []);
    assert!(revoked.is_gone());
}

#[test]
fn a_halted_partition_starts_anew_only_with_a_new_assignment() {
    let mut partition = Partition::new();
    partition.on(Input::Assigned(1));
    let refused = Input::Refused { assignment: 1, claim: Some(claim(7)), why: halt() };
    assert_eq!(partition.on(refused), [Effect::Release(claim(7))]);
    assert_eq!(partition.on(Input::FenceOver), []);
    assert_eq!(partition.on(Input::Assigned(2)), [Effect::Claim(2)]);
}

#[test]
fn a_halt_whose_cause_is_over_is_claimed_again_if_still_assigned() {
    let mut partition = Partition::new();
    partition.on(Input::Assigned(1));
    assert_eq!(partition.on(Input::HaltOver), [], "it has not halted: its claim is under way");
    partition.on(Input::Refused { assignment: 1, claim: None, why: halt() });
    let mut revoked = partition.clone();
    assert_eq!(partition.on(Input::HaltOver), [Effect::Claim(1)]);
    assert_eq!(partition.on(Input::HaltOver), []);
    revoked.on(Input::Revoked);
    assert_eq!(revoked.on(Input::HaltOver), []);
    assert!(revoked.is_gone());
}

/// What a world around the machine may do next. Claims are numbered, never reused.
#[derive(Debug, Clone, Copy)]
enum Move {
    Assign,
    Revoke,
    /// Answer the oldest claim that is under way: granted or refused.
    Answer(bool),
    End(u8),
    Idle,
    FenceOver,
    HaltOver,
}

fn moves() -> impl Strategy<Value = Vec<Move>> {
    let one = prop_oneof![
        Just(Move::Assign),
        Just(Move::Revoke),
        any::<bool>().prop_map(Move::Answer),
        (0..3_u8).prop_map(Move::End),
        Just(Move::Idle),
        Just(Move::FenceOver),
        Just(Move::HaltOver),
    ];
    prop::collection::vec(one, 1..60)
}

proptest! {
    /// EO-3 and EO-5 as the machine must keep them: at most one claim is fetched under; a claim is fetched under
    /// only for the present assignment; every granted claim is released exactly once, and only when idle.
    #[test]
    fn every_claim_is_released_once_and_never_two_run(moves in moves()) {
        let mut partition = Partition::new();
        let (mut assignment, mut last_assignment) = (None, 0);
        let (mut next_claim, mut asked) = (0_u8, std::collections::VecDeque::new());
        let mut granted = std::collections::BTreeSet::new();
        let mut running: Option<u8> = None;
        for step in moves {
            let mut idle = None;
            let input = match step {
                Move::Assign if assignment.is_none() => {
                    last_assignment += 1;
                    assignment = Some(last_assignment);
                    Input::Assigned(last_assignment)
                }
                Move::Revoke if assignment.take().is_some() => Input::Revoked,
                Move::Answer(yes) => {
                    let Some(id) = asked.pop_front() else { continue };
                    next_claim += 1;
                    granted.insert(next_claim);
                    if yes {
                        Input::Granted { assignment: id, claim: claim(next_claim), from: NextOffset::ZERO }
                    } else {
                        Input::Refused { assignment: id, claim: Some(claim(next_claim)), why: halt() }
                    }
                }
                Move::End(kind) => {
                    let Some(n) = running else { continue };
                    let after = [After::Claim, After::Fence, After::Halt(halt())][usize::from(kind)].clone();
                    Input::Ended { claim: claim(n), after }
                }
                Move::Idle => {
                    // A lane only calls a buffer idle once it was closed.
                    let State::Draining { claim, .. } = partition.state() else { continue };
                    idle = Some(*claim);
                    Input::Idle { claim: *claim }
                }
                Move::FenceOver => Input::FenceOver,
                Move::HaltOver => Input::HaltOver,
                _ => continue,
            };
            for effect in partition.on(input) {
                match effect {
                    Effect::Claim(id) => {
                        prop_assert_eq!(Some(id), assignment, "claims only what is assigned");
                        asked.push_back(id);
                    }
                    Effect::Fetch { assignment: id, claim, .. } => {
                        prop_assert_eq!(Some(id), assignment);
                        prop_assert_eq!(running, None, "two claims fetch");
                        running = Some(u8::try_from(claim.epoch).unwrap());
                    }
                    Effect::Close { claim, .. } => {
                        prop_assert_eq!(Some(claim.epoch), running.map(i64::from));
                    }
                    Effect::Release(released) => {
                        let n = u8::try_from(released.epoch).unwrap();
                        prop_assert!(granted.remove(&n), "released twice, or never granted");
                        if running == Some(n) {
                            prop_assert_eq!(idle, Some(released), "released while a batch may be out");
                            running = None;
                        }
                    }
                    Effect::AwaitFence => prop_assert_eq!(running, None),
                }
            }
        }
        // What is not released is the one that runs or drains.
        prop_assert!(granted.len() <= 1 && granted.into_iter().next() == running);
        // Nothing is stuck: assigned means claiming, running, draining, or waiting for somebody named.
        if assignment.is_some() && *partition.state() == State::Claiming {
            prop_assert!(!asked.is_empty(), "claiming, but nobody was asked");
        }
    }
}
