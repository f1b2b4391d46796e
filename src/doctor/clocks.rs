//! Whether the clocks agree: the database's, this machine's, and those by which records are dated.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use tokio_postgres::Client;

use super::{Finding, Patient, unread};
use crate::batch::PartitionKey;

const CHECK: &str = "clocks";
/// From so many seconds on a difference is told.
const TOLD: f64 = 2.0;
/// How often the database is asked; the quickest answer counts.
const TRIES: usize = 5;

pub(super) async fn check(patient: &Patient<'_>, client: &Client) -> Vec<Finding> {
    let (ahead, within) = match of_database(client).await {
        Ok(measured) => measured,
        Err(error) => return vec![unread(CHECK, &error)],
    };
    let mut findings = vec![judge(ahead, within)];
    let Some(catalog) = &patient.catalog else { return findings };
    let mut keys: Vec<PartitionKey> = patient.subjects.places.iter().map(|place| place.key.clone()).collect();
    // Groups share topics; a partition may be asked for once.
    keys.sort_by(|a, b| (&a.topic, a.partition).cmp(&(&b.topic, b.partition)));
    keys.dedup();
    if keys.is_empty() {
        return findings;
    }
    let database_now = seconds(SystemTime::now()) + ahead;
    match catalog.newest(keys).await {
        Ok(newest) => findings.push(of_records(newest.into_iter(), database_now)),
        Err(error) => findings.push(
            Finding::unknown(CHECK, format!("Kafka does not tell the newest timestamps: {error}"))
                .cure("brokers do so from 3.0 on; a worker needs it not"),
        ),
    }
    findings
}

/// How far the database's clock is ahead of this machine's, in seconds, and within what that is known.
async fn of_database(client: &Client) -> Result<(f64, f64), tokio_postgres::Error> {
    let mut best = (0.0, f64::MAX);
    for _ in 0..TRIES {
        let (began, clock) = (Instant::now(), SystemTime::now());
        let row = client.query_one("SELECT extract(epoch FROM clock_timestamp())::float8", &[]).await?;
        let took = began.elapsed();
        let middle = seconds(clock + took / 2);
        let within = took.as_secs_f64() / 2.0;
        if within < best.1 {
            best = (row.get::<_, f64>(0) - middle, within);
        }
    }
    Ok(best)
}

fn seconds(at: SystemTime) -> f64 {
    at.duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO).as_secs_f64()
}

fn judge(ahead: f64, within: f64) -> Finding {
    let way = if ahead < 0.0 { "behind" } else { "ahead of" };
    let text = format!("the database's clock is {:.3} s {way} this machine's (± {within:.3} s)", ahead.abs());
    if ahead.abs() - within > TOLD {
        return Finding::warn(CHECK, text).cure(
            "let both follow NTP: fences and heartbeats go by the database's clock alone, but ages of records, --to-datetime \
             and --by-duration go by both",
        );
    }
    Finding::ok(CHECK, text)
}

/// Records that are dated later than it is: the clocks of their producers, or, with LogAppendTime, of their brokers.
fn of_records(newest: impl Iterator<Item = (PartitionKey, i64)>, now: f64) -> Finding {
    #[allow(clippy::cast_precision_loss)] // exact for another 285,000 years
    let ahead = newest.map(|(key, at_ms)| (at_ms as f64 / 1_000.0 - now, key));
    match ahead.max_by(|a, b| a.0.total_cmp(&b.0)) {
        Some((ahead, key)) if ahead > TOLD => Finding::warn(
            CHECK,
            format!("a record of {key} is dated {ahead:.1} s later than the database's clock says that it is"),
        )
        .cure(
            "let the producers (with message.timestamp.type=LogAppendTime the brokers) follow NTP: its age in lag is too small, \
             and retention keeps it for longer",
        ),
        _ => Finding::ok(CHECK, "no record is dated in the future"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::Severity;

    #[test]
    fn what_cannot_be_told_from_the_way_of_the_answer_is_no_difference() {
        for (ahead, within, severity) in [
            (0.1, 0.0, Severity::Ok),
            (-2.5, 0.1, Severity::Warn),
            (2.5, 0.1, Severity::Warn),
            (2.5, 0.6, Severity::Ok),
        ] {
            assert_eq!(judge(ahead, within).severity, severity, "{ahead} ± {within}");
        }
    }

    #[test]
    fn records_of_the_future_are_told() {
        let key = PartitionKey { topic: "t".into(), partition: 1 };
        let of = |at_ms| of_records([(key.clone(), at_ms)].into_iter(), 100.0);
        assert_eq!(of(101_000).severity, Severity::Ok);
        assert_eq!(of(99_000_000).severity, Severity::Warn);
    }
}
