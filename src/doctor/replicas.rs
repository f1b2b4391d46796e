//! Standbys: how far they are behind, and whether a commit waits for one that is not there.

use tokio_postgres::Transaction;

use super::{Checked, Finding, counted};

const CHECK: &str = "replicas";
/// From so many bytes, or seconds, on a standby's lag is told.
const TOLD_BYTES: f64 = 64.0 * 1024.0 * 1024.0;
const TOLD_SECONDS: f64 = 30.0;

pub(super) async fn check(client: &Transaction<'_>) -> Checked {
    let names: String =
        client.query_one("SELECT current_setting('synchronous_standby_names')", &[]).await?.get(0);
    let sql = "SELECT coalesce(application_name, ''), state, sync_state, \
                 pg_catalog.pg_wal_lsn_diff(pg_catalog.pg_current_wal_lsn(), replay_lsn)::float8, \
                 extract(epoch FROM replay_lag)::float8 FROM pg_catalog.pg_stat_replication ORDER BY 1, pid";
    let rows = client.query(sql, &[]).await?;
    let mut findings = Vec::new();
    let (mut synchronous, mut hidden) = (0, false);
    for row in &rows {
        let (name, state, sync): (String, Option<String>, Option<String>) =
            (row.get(0), row.get(1), row.get(2));
        let Some(state) = state else {
            hidden = true;
            continue;
        };
        synchronous +=
            usize::from(matches!(sync.as_deref(), Some("sync" | "quorum")) && state == "streaming");
        let (bytes, seconds): (Option<f64>, Option<f64>) = (row.get(3), row.get(4));
        let (bytes, seconds) = (bytes.unwrap_or_default(), seconds.unwrap_or_default());
        if bytes > TOLD_BYTES || seconds > TOLD_SECONDS {
            findings.push(
                Finding::warn(CHECK, format!("{state}, {:.0} MiB and {seconds:.0} s behind", bytes / 1024.0 / 1024.0))
                    .of(name)
                    .cure(
                        "see what slows it down: a fail-over to it takes rows and offsets back together, and what is lost is \
                         applied again, as long as Kafka holds it",
                    ),
            );
        }
    }
    if hidden {
        findings.push(
            Finding::unknown(CHECK, "this role may not see how standbys are doing")
                .cure("ask as a member of pg_monitor"),
        );
    } else if !names.is_empty() && synchronous == 0 {
        findings.push(
            Finding::fail(CHECK, format!("synchronous_standby_names = {names:?}, and none of them is there: commits wait for ever"))
                .cure("bring the standby back, or take it out: ALTER SYSTEM SET synchronous_standby_names = '', and reload"),
        );
    } else if findings.is_empty() {
        let text = match rows.len() {
            0 => "there are none".to_owned(),
            count => format!("{}, none far behind; {synchronous} synchronous", counted(count, "standby")),
        };
        findings.push(Finding::ok(CHECK, text));
    }
    Ok(findings)
}
