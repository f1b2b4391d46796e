//! The handler on a real Postgres, which the test kit brings up; no broker is needed.

use highwater::testing::{Postgres, Rehearsal};
use my_sink::Payments;

type TestResult = Result<(), Box<dyn std::error::Error>>;

const RECORDS: [(Option<&str>, Option<&str>); 3] = [
    (Some("m1"), Some(r#"{"tx_id":"a","amount_cents":1250}"#)),
    (Some("m1"), Some(r#"{"tx_id":"b","amount_cents":-300}"#)),
    (Some("m2"), Some(r#"{"tx_id":"c"}"#)),
];

#[tokio::test]
async fn payments_become_rows_however_they_are_cut_into_batches() -> TestResult {
    for cuts in [&[2][..], &[1, 1]] {
        let database = Postgres::shared().await?.fresh_database("payments").await?;
        database.execute(include_str!("../schema.sql")).await?;
        let outcome = Rehearsal::new(&database).await?.apply(&Payments, &RECORDS, cuts).await?;
        assert_eq!(outcome.applied, 2, "the third has no amount: {:?}", outcome.halt);
        let sum = "SELECT sum(amount_cents)::bigint FROM payments";
        let sum: i64 = database.client().await?.query_one(sum, &[]).await?.get(0);
        assert_eq!(sum, 950);
    }
    Ok(())
}
