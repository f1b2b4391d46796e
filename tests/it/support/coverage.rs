//! The coverage ledger: who held which range, in one unbroken chain.

use std::collections::BTreeMap;

use highwater::testing::Result;

use super::world::World;

/// A claim: finished (a row of `claim_history`), or the present one (`consumer_offset`).
struct Claim {
    epoch: i64,
    from: i64,
    to: i64,
    records: i64,
}

impl World<'_> {
    /// `claim_history` and the present rows are one chain per partition, from where the group started to
    /// `next_offset`: no offset is covered twice or by nobody, and no epoch is missing (EO-1, EO-2, EO-3). What the
    /// claims say they applied is what was produced.
    pub(crate) async fn assert_ledger_gapless(&self) -> Result<()> {
        let starts = self
            .by_partition(
                "SELECT partition, to_offset FROM highwater.offset_event \
             WHERE group_id = $1 AND topic = $2 AND kind = 'start'",
            )
            .await?;
        let sql = "SELECT partition, epoch, claimed_offset, end_offset, applied_records FROM highwater.claim_history \
                   WHERE group_id = $1 AND topic = $2 \
                   UNION ALL \
                   SELECT partition, epoch, claimed_offset, next_offset, applied_records FROM highwater.consumer_offset \
                   WHERE group_id = $1 AND topic = $2 AND claimed_at IS NOT NULL \
                   ORDER BY 1, 2";
        // A released row has no owner any more, but the ledger must still say who applied the range.
        let nobody = "SELECT count(*) FROM highwater.claim_history WHERE owner IS NULL AND group_id = $1";
        let nobody: i64 = self.database.query(nobody, &[&self.group]).await?[0].get(0);
        assert_eq!(nobody, 0, "a finished claim was made by nobody");
        let mut claims: BTreeMap<i32, Vec<Claim>> = BTreeMap::new();
        for row in self.database.query(sql, &[&self.group, &self.topic]).await? {
            let claim = Claim { epoch: row.get(1), from: row.get(2), to: row.get(3), records: row.get(4) };
            claims.entry(row.get(0)).or_default().push(claim);
        }
        let mut produced: BTreeMap<i32, i64> = BTreeMap::new();
        for ((partition, _), count) in self.producer.ledger().positions(&self.topic) {
            *produced.entry(partition).or_default() += i64::try_from(count).expect("a count of records");
        }
        for (partition, claims) in claims {
            let (mut epoch, mut end, mut records) = (0, starts[&partition], 0);
            for claim in claims {
                assert_eq!(claim.epoch, epoch + 1, "partition {partition}: a claim is not in the ledger");
                assert_eq!(
                    claim.from, end,
                    "partition {partition}, epoch {}: not where its predecessor ended",
                    claim.epoch
                );
                assert!(claim.to >= claim.from, "partition {partition}, epoch {}: it went back", claim.epoch);
                (epoch, end, records) = (claim.epoch, claim.to, records + claim.records);
            }
            let expected = produced.get(&partition).copied().unwrap_or_default();
            assert_eq!(records, expected, "partition {partition}: records that the claims say they applied");
        }
        Ok(())
    }

    /// A number per partition of this group and topic.
    async fn by_partition(&self, sql: &str) -> Result<BTreeMap<i32, i64>> {
        let rows = self.database.query(sql, &[&self.group, &self.topic]).await?;
        Ok(rows.iter().map(|row| (row.get(0), row.get(1))).collect())
    }
}
