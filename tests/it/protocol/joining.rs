//! A worker that is stopped while it begins: nobody may wait for it, neither the group for its session time-out nor an
//! operator for its last heartbeat.

use std::time::Duration;

use highwater::config::{Assignor, GroupProtocol, PartialConfig};
use highwater::offsets::{Activity, Lines, Offsets, Selection};

use crate::support::{Sink, TestResult, World};

/// One of two stops, in turn as soon as the second has said that it lives, and as soon as the group has it.
async fn has_left(hint: &str, settings: impl Fn(PartialConfig) -> PartialConfig) -> TestResult {
    let world = World::new(hint, 2).await?;
    world.produce(100).await?;
    // Far longer than this test may take: nothing waits for its end.
    let begin = || {
        let settings = settings(world.settings().session_timeout(Some(Duration::from_secs(45))));
        world.worker_with(settings, Sink::<()>::default())
    };
    let mut worker = begin();
    world.caught_up().await?;
    let mut offsets = world.operator(world.database.url()).await?;
    for round in 0..16 {
        let joining = begin();
        let mut looks = 0;
        // In the midst of it, which waiting politely would miss.
        while seen(&activity(&world, &mut offsets).await?, round) < 2 {
            looks += 1;
            assert!(looks < 10_000, "it never came");
        }
        // The one that begins; or the one that is there, while the other joins.
        let leaving = if round % 4 < 2 { joining } else { std::mem::replace(&mut worker, joining) };
        leaving.stop().await?;
        let left = activity(&world, &mut offsets).await?;
        assert_eq!((left.workers.len(), left.members.len()), (1, 1), "in round {round}: {left:?}");
    }
    world.produce(100).await?;
    world.verify().await?;
    worker.stop().await?;
    Ok(())
}

/// In turn how many workers, or how many members there are.
fn seen(Activity { workers, members, .. }: &Activity, round: usize) -> usize {
    if round.is_multiple_of(2) { workers.len() } else { members.len() }
}

async fn activity(world: &World<'_>, offsets: &mut Offsets) -> TestResult<Activity> {
    Ok(offsets.describe(&world.group, &Selection::topic(&world.topic), Lines::All).await?.activity)
}

#[tokio::test]
async fn who_is_stopped_while_it_joins_has_left_the_group() -> TestResult {
    has_left("joining", |settings| settings).await
}

#[tokio::test]
async fn who_is_stopped_while_it_joins_under_an_eager_protocol_has_left() -> TestResult {
    has_left("joining-eager", |settings| settings.assignor(Assignor::Range)).await
}

#[tokio::test]
async fn who_is_stopped_while_it_joins_under_kip_848_has_left() -> TestResult {
    has_left("joining-848", |settings| settings.group_protocol(GroupProtocol::Consumer).session_timeout(None))
        .await
}
