use proptest::prelude::*;

use super::*;

/// Anything that may be said to a machine, of this claim and assignment or of any before.
#[derive(Debug, Clone, Copy)]
enum Echo {
    Assign,
    Revoke,
    /// An answer for one of the assignments so far, the latest or an old one.
    Granted(u8),
    Refused(u8, bool),
    /// The end of one of the claims so far.
    Ended(u8, u8),
    Idle(u8),
    FenceOver,
}

fn echoes() -> impl Strategy<Value = Vec<Echo>> {
    // Small numbers are recent ones: mostly the present, now and then the past.
    let back = || prop_oneof![4 => Just(0_u8), 1 => 0..4_u8];
    let one = prop_oneof![
        2 => Just(Echo::Assign),
        2 => Just(Echo::Revoke),
        3 => back().prop_map(Echo::Granted),
        1 => (back(), any::<bool>()).prop_map(|(back, claimed)| Echo::Refused(back, claimed)),
        2 => (back(), 0..3_u8).prop_map(|(back, after)| Echo::Ended(back, after)),
        3 => back().prop_map(Echo::Idle),
        1 => Just(Echo::FenceOver),
    ];
    prop::collection::vec(one, 1..80)
}

/// The transitions of the diagram, and no others.
fn is_a_transition(before: &State, input: &Input, after: &State, assigned: bool) -> bool {
    match (before, after) {
        (State::Running { claim: a }, State::Running { claim: b }) => a == b,
        (State::Draining { claim: a, .. }, State::Draining { claim: b, .. }) => a == b,
        (State::Running { claim: a }, State::Draining { claim: b, .. }) => a == b,
        (State::Draining { claim, .. }, State::Unassigned) => {
            !assigned && *input == Input::Idle { claim: *claim }
        }
        (State::Draining { claim, .. }, State::Claiming | State::Fenced | State::Halted { .. }) => {
            assigned && *input == Input::Idle { claim: *claim }
        }
        (State::Claiming, State::Running { claim }) => {
            matches!(input, Input::Granted { claim: granted, .. } if granted == claim)
        }
        (State::Claiming, State::Halted { .. }) => matches!(input, Input::Refused { .. }),
        (State::Fenced, State::Claiming) => matches!(input, Input::FenceOver | Input::Assigned(_)),
        (State::Unassigned | State::Halted { .. }, State::Claiming) => matches!(input, Input::Assigned(_)),
        (State::Claiming | State::Fenced | State::Halted { .. }, State::Unassigned) => {
            *input == Input::Revoked
        }
        (before, after) => before == after,
    }
}

proptest! {
    /// Whatever is said, however late and however often: only the transitions of the diagram, nothing from an older
    /// claim or assignment moves it, two claims never run, and each claim is released exactly once (EO-3, EO-5).
    #[test]
    fn stale_words_move_nothing(echoes in echoes()) {
        let mut partition = Partition::new();
        let (mut assigned, mut assignments) = (None, 0_u8);
        let (mut claims, mut held) = (0_u8, std::collections::BTreeSet::new());
        for echo in echoes {
            let input = match echo {
                Echo::Assign => {
                    assignments += 1;
                    assigned = Some(u64::from(assignments));
                    Input::Assigned(u64::from(assignments))
                }
                Echo::Revoke => {
                    assigned = None;
                    Input::Revoked
                }
                // Claims are never given out twice: each answer brings one of its own.
                Echo::Granted(back) if back < assignments => {
                    claims += 1;
                    held.insert(claims);
                    granted(u64::from(assignments - back), claims)
                }
                Echo::Refused(back, claimed) if back < assignments => {
                    claims += u8::from(claimed);
                    let claim = claimed.then(|| claim(claims));
                    held.extend(claim.map(|_| claims));
                    Input::Refused { assignment: u64::from(assignments - back), claim, why: halt() }
                }
                Echo::Ended(back, after) if back < claims => {
                    let after = [After::Claim, After::Fence, After::Halt(halt())][usize::from(after)].clone();
                    Input::Ended { claim: claim(claims - back), after }
                }
                Echo::Idle(back) if back < claims => Input::Idle { claim: claim(claims - back) },
                Echo::FenceOver => Input::FenceOver,
                _ => continue,
            };
            let before = partition.clone();
            let effects = partition.on(input.clone());

            prop_assert_eq!(partition.assignment(), assigned);
            prop_assert!(
                is_a_transition(before.state(), &input, partition.state(), assigned.is_some()),
                "{:?} --{:?}--> {:?}", before.state(), input, partition.state()
            );
            let of_another_claim = match input {
                Input::Ended { claim, .. } | Input::Idle { claim } => before.claim() != Some(claim),
                _ => false,
            };
            if of_another_claim {
                prop_assert_eq!((&partition, effects.len()), (&before, 0), "an echo of an older claim");
            }
            for effect in effects {
                match effect {
                    Effect::Claim(id) => prop_assert_eq!(Some(id), assigned),
                    Effect::Fetch { assignment, claim, .. } => {
                        prop_assert_eq!((before.claim(), partition.claim()), (None, Some(claim)), "two claims run");
                        prop_assert_eq!(Some(assignment), assigned);
                    }
                    Effect::Close { claim, .. } => prop_assert_eq!(before.state(), &State::Running { claim }),
                    Effect::Release(claim) => {
                        prop_assert!(held.remove(&u8::try_from(claim.epoch).unwrap()), "released twice");
                        prop_assert_ne!(partition.claim(), Some(claim), "released, and yet held");
                    }
                    Effect::AwaitFence => prop_assert_eq!(partition.state(), &State::Fenced),
                }
            }
            // What was granted and not released is the claim that is held.
            let holds = partition.claim().map(|claim| u8::try_from(claim.epoch).unwrap());
            prop_assert_eq!(held.iter().copied().collect::<Vec<_>>(), holds.into_iter().collect::<Vec<_>>());
        }
    }
}
