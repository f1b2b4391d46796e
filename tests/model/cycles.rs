//! Every run ends. The checker's own `eventually` takes a run that comes back to a state for one that ends well; this
//! looks for such runs. Together with "until all is applied, somebody can go on" it says that with finitely many faults
//! every run ends, and ends caught up.

use std::collections::HashMap;
use std::collections::hash_map::{DefaultHasher, Entry};
use std::hash::{Hash, Hasher};

use stateright::Model;

/// The longest run from an initial state.
///
/// # Panics
/// If a run comes back to a state that it was in.
pub(crate) fn longest_run<M>(model: &M) -> usize
where
    M: Model,
    M::State: Hash,
{
    // How long a run from that state can be; `None` while it is on the present path.
    let mut known: HashMap<u64, Option<usize>> = HashMap::new();
    let mut longest = 0;
    for state in model.init_states() {
        let mut path = vec![Visit::new(model, state, &mut known)];
        while let Some(visit) = path.last_mut() {
            let Some(action) = visit.actions.pop() else {
                let done = path.pop().expect("it is there");
                known.insert(done.fingerprint, Some(done.longest));
                longest = longest.max(done.longest);
                if let Some(before) = path.last_mut() {
                    before.longest = before.longest.max(done.longest + 1);
                }
                continue;
            };
            let Some(next) = model.next_state(&visit.state, action) else { continue };
            match known.entry(fingerprint(&next)) {
                Entry::Occupied(seen) => {
                    let rest = seen.get().unwrap_or_else(|| {
                        panic!("a run can go on for ever: it comes back after {} steps", path.len())
                    });
                    let visit = path.last_mut().expect("it is there");
                    visit.longest = visit.longest.max(rest + 1);
                }
                Entry::Vacant(_) => path.push(Visit::new(model, next, &mut known)),
            }
        }
    }
    longest
}

struct Visit<M: Model> {
    state: M::State,
    fingerprint: u64,
    actions: Vec<M::Action>,
    longest: usize,
}

impl<M> Visit<M>
where
    M: Model,
    M::State: Hash,
{
    fn new(model: &M, state: M::State, known: &mut HashMap<u64, Option<usize>>) -> Self {
        let fingerprint = fingerprint(&state);
        known.insert(fingerprint, None);
        let mut actions = Vec::new();
        model.actions(&state, &mut actions);
        Self { state, fingerprint, actions, longest: 0 }
    }
}

fn fingerprint(state: &impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    state.hash(&mut hasher);
    hasher.finish()
}
