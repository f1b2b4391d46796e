//! The oracle where offsets were moved on purpose: every move is on record, and so the number of times that each record
//! was applied follows exactly. One commit has crossed it for good; a move back over it adds one, a move ahead over it
//! takes one away, and an undo takes all of them.

use std::collections::BTreeMap;

use highwater::testing::Result;

use crate::support::{World, read};

impl World<'_> {
    /// When the group has caught up: rows, balances and the ledger of claims are those that the events say (EO-1).
    pub(crate) async fn verify_with_moves(&self) -> Result<()> {
        self.verify_moved(true).await
    }

    /// As [`verify_with_moves`](Self::verify_with_moves), for sinks without balances.
    pub(crate) async fn verify_rows_with_moves(&self) -> Result<()> {
        self.verify_moved(false).await
    }

    async fn verify_moved(&self, balances: bool) -> Result<()> {
        self.caught_up().await?;
        let sql = "SELECT partition, from_offset, to_offset, kind = 'undo' FROM highwater.offset_event \
                   WHERE group_id = $1 AND topic = $2 AND kind IN ('reset', 'skip', 'undo') ORDER BY event_id";
        let rows = self.database.query(sql, &[&self.group, &self.topic]).await?;
        let moves: Vec<(i32, i64, i64)> =
            rows.iter().map(|row| (row.get(0), row.get(1), row.get(2))).collect();
        let undone: Vec<bool> = rows.iter().map(|row| row.get(3)).collect();
        let (mut expected, mut totals) = (BTreeMap::new(), BTreeMap::<String, (i64, i64)>::new());
        for record in self.kafka.read(&self.topic).await? {
            // What was before an undo is gone with its rows.
            let counts_from = moves.iter().zip(&undone).rposition(|(&(partition, _, to), is_undo)| {
                *is_undo && partition == record.partition && record.offset >= to
            });
            let counts = &moves[counts_from.map_or(0, |undo| undo + 1)..];
            let crossed = |&&(partition, from, to): &&(i32, i64, i64)| {
                partition == record.partition && (from.min(to)..from.max(to)).contains(&record.offset)
            };
            let signs = counts.iter().filter(crossed).map(|(_, from, to)| if to < from { 1 } else { -1 });
            let times = 1 + signs.sum::<i64>();
            assert!(
                times >= 0,
                "{}/{} was stepped over more often than it was met",
                record.partition,
                record.offset
            );
            if times == 0 {
                continue;
            }
            expected.insert((record.partition, record.offset), times);
            let (account, amount) = read(record.key.as_deref(), record.value.as_deref());
            let total = totals.entry(account).or_default();
            total.0 += amount * times;
            total.1 += times;
        }
        let sql = "SELECT source_partition, source_offset, count(*) FROM sink WHERE source_topic = $1 GROUP BY 1, 2";
        let rows = self.database.query(sql, &[&self.topic]).await?;
        let found: BTreeMap<(i32, i64), i64> =
            rows.iter().map(|row| ((row.get(0), row.get(1)), row.get(2))).collect();
        let differs: Vec<_> = expected
            .iter()
            .filter(|(key, times)| found.get(key) != Some(times))
            .map(|(key, times)| (key, times, found.get(key)))
            .take(10)
            .collect();
        assert!(
            differs.is_empty(),
            "(record, times by the events, times in the sink): {differs:?}; moves {moves:?}"
        );
        assert_eq!(
            found.len(),
            expected.len(),
            "there are rows of records that were stepped over, or of none"
        );
        if !balances {
            return self.assert_ledger_with_moves(&moves).await;
        }
        let rows = self.database.query("SELECT account, balance, payments FROM balances", &[]).await?;
        let balances: BTreeMap<String, (i64, i64)> =
            rows.iter().map(|row| (row.get(0), (row.get(1), row.get(2)))).collect();
        assert_eq!(balances, totals, "the balances are not those of the moves {moves:?}");
        self.assert_ledger_with_moves(&moves).await
    }

    /// Each claim begins where the one before it ended, or where a move has put it.
    async fn assert_ledger_with_moves(&self, moves: &[(i32, i64, i64)]) -> Result<()> {
        let sql = "SELECT partition, epoch, claimed_offset, end_offset FROM highwater.claim_history \
                   WHERE group_id = $1 AND topic = $2 \
                   UNION ALL \
                   SELECT partition, epoch, claimed_offset, next_offset FROM highwater.consumer_offset \
                   WHERE group_id = $1 AND topic = $2 AND claimed_at IS NOT NULL ORDER BY 1, 2";
        let mut last: BTreeMap<i32, (i64, i64)> = BTreeMap::new();
        let mut pending = moves.to_vec();
        for row in self.database.query(sql, &[&self.group, &self.topic]).await? {
            let (partition, epoch, from, to): (i32, i64, i64, i64) =
                (row.get(0), row.get(1), row.get(2), row.get(3));
            if let Some(&(before, mut end)) = last.get(&partition) {
                assert!(epoch > before, "partition {partition}: epoch {epoch} after {before}");
                while end != from {
                    let next = pending.iter().position(|&(of, at, _)| of == partition && at == end);
                    let next = next.unwrap_or_else(|| {
                        panic!("partition {partition}, epoch {epoch}: begins at {from}, and {end} was the end; {moves:?}")
                    });
                    end = pending.remove(next).2;
                }
            }
            assert!(to >= from, "partition {partition}, epoch {epoch}: it went back by itself");
            last.insert(partition, (epoch, to));
        }
        Ok(())
    }
}
