//! What an operator does while everything else goes wrong: a pause, and a move back that takes the rows with it.

use std::time::Duration;

use highwater::PartialConfig;
use highwater::offsets::{
    ApplyOptions, Offsets, Order, Request, Selection, Target, TopicSelection, Undoing, Verb,
};

use super::Faults;
use crate::{GROUP, Result, TOPIC};

/// Small, so that an undo is many transactions, and faults on processes hit the walk.
const PORTION: i64 = 50;

impl Faults<'_> {
    async fn hand(&self) -> Result<Offsets> {
        let settings = PartialConfig::default()
            .postgres_url(self.servers.database().url())
            .brokers(vec![self.servers.kafka.bootstrap().to_owned()]);
        Ok(Offsets::connect(&settings.finish_operator()?).await?)
    }

    async fn position(&self, partition: i32) -> Result<i64> {
        let sql = format!("SELECT next_offset FROM highwater.consumer_offset WHERE partition = {partition}");
        self.servers.number(&sql).await
    }

    pub(super) async fn operator_pause(&self, partition: i32, length: Duration) -> Result<String> {
        let _alone = self.postgres.lock().await;
        let mut hand = self.hand().await?;
        let order = |verb| Order::new(GROUP, one(partition), verb).by("soak", "a pause");
        hand.order(&order(Verb::Pause)).await?;
        let stands = self.position(partition).await?;
        tokio::time::sleep(length).await;
        let still = self.position(partition).await?;
        hand.order(&order(Verb::Resume)).await?;
        if still != stands {
            return Err(
                format!("partition {partition} went from {stands} to {still} while it was paused").into()
            );
        }
        Ok(format!("partition {partition} stood at {stands} for {length:.1?}"))
    }

    pub(super) async fn operator_undo(&self, partition: i32, back: i64) -> Result<String> {
        let _alone = self.postgres.lock().await;
        let mut hand = self.hand().await?;
        let request =
            Request::new(GROUP, one(partition), Target::ShiftBy(-back)).actor("soak").undo_rows(true);
        let id = hand.plan(&request).await?.id.ok_or("a plan that was stored has an id")?;
        let (mut portions, mut rows, mut from) = (0, 0, 0);
        let options = ApplyOptions::by("soak").live(true).portion(PORTION);
        let mut watch = |undoing: &Undoing| {
            portions += 1;
            (rows, from) = (undoing.rows, undoing.from);
        };
        let plan = hand.apply_watched(id, &options, &mut watch).await?.plan;
        let to = plan.steps.first().map_or(0, |step| step.to);
        if rows == 0 && from > to {
            return Err(format!("no row of partition {partition} was undone from {from} to {to}").into());
        }
        Ok(format!(
            "partition {partition} from {from} back to {to}, {rows} rows undone in {portions} transactions"
        ))
    }
}

fn one(partition: i32) -> Selection {
    Selection::Topics(vec![TopicSelection { topic: TOPIC.to_owned(), partitions: Some([partition].into()) }])
}
