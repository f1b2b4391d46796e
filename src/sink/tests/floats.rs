//! Rust's floats, of any bits: what we write is what the server makes of their shortest decimal, and it refuses what we do.

use bytes::BytesMut;

use super::literals::LITERAL;
use super::*;
use crate::sink::ToColumn;
use crate::sink::conversions::target;
use crate::sink::target::Kind;

const COLUMNS: [(Kind, &str); 3] =
    [(Kind::Float4, "real"), (Kind::Float8, "double precision"), (Kind::Numeric, "numeric")];

async fn as_their_decimals<F>(place: &Place, floats: Vec<F>)
where
    F: ToColumn + serde::Serialize + Copy + Send + Sync + 'static,
{
    let texts: Vec<String> = floats.iter().map(|float| serde_json::to_string(float).unwrap()).collect();
    for (kind, sql_type) in COLUMNS {
        let create = format!("DROP TABLE IF EXISTS v; CREATE TABLE v (n int, v {sql_type})");
        place.database.execute(&create).await.unwrap();
        let taken = |float: &F| float.put(&target(kind), &mut BytesMut::new()).is_ok();
        let rows: Vec<(i32, F)> =
            (0..).zip(floats.iter().copied()).filter(|(_, float)| taken(float)).collect();
        assert!(rows.len() > 100, "{sql_type}: {}", rows.len());
        place.apply(&constant(Table::append("v", ["n", "v"]), rows), &one_record()).await.unwrap();
        let sql = format!(
            "SELECT u.v, v.v::text, literal(u.v, '{sql_type}') FROM unnest($1::text[]) WITH ORDINALITY AS u (v, n) \
             LEFT JOIN v ON v.n = u.n - 1 WHERE v.v::text IS DISTINCT FROM literal(u.v, '{sql_type}')"
        );
        let differ = place.database.query(&sql, &[&texts]).await.unwrap();
        let differ: Vec<(String, Option<String>, Option<String>)> =
            differ.iter().map(|row| (row.get(0), row.get(1), row.get(2))).collect();
        assert_eq!(differ, [], "{sql_type}");
    }
}

#[tokio::test]
async fn floats_are_their_shortest_decimals() {
    let place = Place::new(LITERAL).await;
    let mut random = fastrand::Rng::with_seed(9);
    let wide = |random: &mut fastrand::Rng| f64::from_bits(random.u64(..));
    // Near the borders of `real`, in the middle between two of them, and as money is.
    let narrow = |random: &mut fastrand::Rng| f64::from(f32::from_bits(random.u32(..)));
    let middle = |random: &mut fastrand::Rng| f64::from_bits(narrow(random).to_bits() | 1 << 28);
    let cents = |random: &mut fastrand::Rng| f64::from(random.i32(..)) / 100.0;
    let mut floats: Vec<f64> = (0..500)
        .flat_map(|_| [wide(&mut random), narrow(&mut random), middle(&mut random), cents(&mut random)])
        .collect();
    floats.retain(|float| float.is_finite());
    let singles: Vec<f32> =
        (0..500).map(|_| f32::from_bits(random.u32(..))).filter(|float| float.is_finite()).collect();
    as_their_decimals(&place, floats).await;
    as_their_decimals(&place, singles).await;
}
