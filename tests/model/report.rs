//! Running the checker, and saying what it found.

use std::collections::BTreeSet;
use std::fmt::Debug;
use std::hash::Hash;
use std::time::Instant;

use stateright::{Checker, Expectation, HasDiscoveries, Model};

use super::cycles;

/// Checks every reachable state, demands that every property holds and every fault was reached, and that no run goes
/// on for ever.
pub(crate) fn check<M>(what: &str, model: &M)
where
    M: Model + Clone + Send + Sync + 'static,
    M::State: Clone + Debug + Hash + PartialEq + Send + Sync + 'static,
    M::Action: Clone + Debug + PartialEq,
{
    let began = Instant::now();
    let checker = model.clone().checker().finish_when(HasDiscoveries::AnyFailures).spawn_bfs().join();
    println!(
        "{what}: {} states, {} steps, depth {}, {:.1} s",
        checker.unique_state_count(),
        checker.state_count(),
        checker.max_depth(),
        began.elapsed().as_secs_f64()
    );
    let found = checker.discoveries();
    for property in model.properties() {
        let result = match (&property.expectation, found.contains_key(property.name)) {
            (Expectation::Sometimes, true) => "reached",
            (Expectation::Sometimes, false) => "NOT REACHED",
            (_, false) => "holds",
            (_, true) => "VIOLATED",
        };
        println!("  {:<74} {result}", property.name);
    }
    checker.assert_properties();
    let finite = Instant::now();
    let longest = cycles::longest_run(model);
    println!(
        "  {:<74} holds: the longest has {longest} steps ({:.1} s)",
        "no run goes on for ever",
        finite.elapsed().as_secs_f64()
    );
}

/// Demands that the property is violated, and prints the shortest way to it.
pub(crate) fn counterexample<M>(what: &str, model: M, property: &'static str)
where
    M: Model + Send + Sync + 'static,
    M::State: Clone + Debug + Hash + PartialEq + Send + Sync + 'static,
    M::Action: Clone + Debug + PartialEq,
{
    let wanted = HasDiscoveries::AnyOf(BTreeSet::from([property]));
    let checker = model.checker().finish_when(wanted).spawn_bfs().join();
    let Some(path) = checker.discovery(property) else {
        panic!("{what}: not noticed in {} states: {property}", checker.unique_state_count())
    };
    let actions = path.into_actions();
    println!(
        "{what}: violates \"{property}\" in {} steps ({} states looked at)",
        actions.len(),
        checker.unique_state_count()
    );
    for (step, action) in (1..).zip(&actions) {
        println!("  {step:>3} {action:?}");
    }
}
