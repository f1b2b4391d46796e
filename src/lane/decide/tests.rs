use uuid::Uuid;

use super::*;
use crate::batch::PartitionKey;

const ME: Uuid = Uuid::from_u128(1);
const OTHER: Uuid = Uuid::from_u128(2);

const CLAIM: ClaimId = ClaimId { epoch: 5, token: Uuid::from_u128(50) };

fn from() -> NextOffset {
    NextOffset::new(100).unwrap()
}

fn row(epoch: i64, token: u128, next_offset: i64, owner: Option<Uuid>, owner_live: bool) -> OffsetRow {
    OffsetRow {
        key: PartitionKey { topic: "t".into(), partition: 0 },
        claim: ClaimId { epoch, token: Uuid::from_u128(token) },
        next_offset: NextOffset::new(next_offset).unwrap(),
        owner,
        owner_live,
        paused_reason: None,
        halted: false,
        draining: false,
    }
}

/// The table of DESIGN 3.7, line by line.
#[test]
fn the_decision_table_on_a_miss() {
    let over = |after, taken_by_another| Decision::Over { after, taken_by_another };
    let claim = || over(After::Claim, false);
    let cases = [
        (
            "my claim, my start: another partition missed",
            Some(row(5, 50, 100, Some(ME), true)),
            Decision::Ours,
        ),
        ("my claim, other offset", Some(row(5, 50, 110, Some(ME), true)), claim()),
        ("lower epoch: the database went back", Some(row(4, 40, 90, Some(ME), true)), claim()),
        ("same epoch, other token: fail-over", Some(row(5, 51, 90, Some(ME), true)), claim()),
        (
            "same epoch, other token, another owner",
            Some(row(5, 51, 90, Some(OTHER), true)),
            over(After::Claim, true),
        ),
        ("a reset leaves no owner", Some(row(6, 60, 0, None, false)), claim()),
        ("higher epoch, live owner", Some(row(6, 60, 120, Some(OTHER), true)), over(After::Fence, true)),
        ("higher epoch, dead owner", Some(row(6, 60, 120, Some(OTHER), false)), over(After::Claim, true)),
        ("higher epoch, my own later claim", Some(row(6, 60, 100, Some(ME), true)), claim()),
        ("vanished", None, claim()),
    ];
    for (what, row, expected) in cases {
        assert_eq!(decide(CLAIM, from(), row.as_ref(), ME), expected, "{what}");
    }
}
