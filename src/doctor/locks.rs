//! Who holds up the workers' sessions: locks that they wait for, and whose those are.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio_postgres::{Client, Row, Transaction};

use super::{Checked, Finding, Patient, ask};
use crate::db::waits::{self, Wait};

const CHECK: &str = "locks";
/// How often it is looked where a worker says that it waits: between two tries it does not.
const LOOKS: usize = 10;
const PAUSE: Duration = Duration::from_millis(200);
/// How many sessions are looked at.
const SESSIONS: i64 = 50;

/// Looks once; a few times where workers have said that they were in each other's way, or in somebody's.
pub(super) async fn check(patient: &Patient<'_>, client: &mut Client) -> Vec<Finding> {
    let mut found = ask(client, CHECK, async |asked| waiting(asked).await).await;
    if !found.is_empty() {
        return found;
    }
    let said = ask(client, CHECK, async |asked| said(patient, asked).await).await;
    if said.is_empty() {
        return vec![Finding::ok(CHECK, "no session of a worker waits for a lock")];
    }
    for _ in 0..LOOKS {
        tokio::time::sleep(PAUSE).await;
        found = ask(client, CHECK, async |asked| waiting(asked).await).await;
        if !found.is_empty() {
            return found;
        }
    }
    said
}

/// What sessions of workers wait for, told by who holds it. Locks are everybody's to see; what another role's session does
/// is not.
async fn waiting(client: &Transaction<'_>) -> Checked {
    let sql = format!(
        "SELECT w.pid, {columns} FROM (SELECT a.pid FROM pg_catalog.pg_stat_activity a \
           WHERE a.datname = pg_catalog.current_database() AND pg_catalog.starts_with(a.application_name, 'highwater/') \
             AND a.pid IN (SELECT l.pid FROM pg_catalog.pg_locks l WHERE NOT l.granted) ORDER BY a.pid LIMIT {SESSIONS}) w \
         CROSS JOIN LATERAL {wait}",
        columns = waits::COLUMNS,
        wait = waits::from("w.pid"),
    );
    let rows = client.query(&sql, &[]).await?;
    let mut by_session: BTreeMap<i32, Vec<&Row>> = BTreeMap::new();
    for row in &rows {
        by_session.entry(row.get(0)).or_default().push(row);
    }
    // Many wait for one: that is one finding.
    let mut found: BTreeMap<String, (Wait, usize)> = BTreeMap::new();
    for wait in by_session.into_values().filter_map(|rows| Wait::new(rows, 1)) {
        let pids: Vec<String> = wait.holders().iter().map(|holder| holder.pid.to_string()).collect();
        let key = format!("{} {}", wait.lock(), pids.join(" "));
        found.entry(key).or_insert_with(|| (wait, 0)).1 += 1;
    }
    Ok(found.into_values().map(|(wait, sessions)| finding(&wait, sessions)).collect())
}

fn finding(wait: &Wait, sessions: usize) -> Finding {
    let who = if sessions == 1 { "a session of a worker waits" } else { "sessions of workers wait" };
    let count = if sessions > 1 { format!("{sessions} ") } else { String::new() };
    let finding = Finding::warn(CHECK, format!("{count}{who} for {wait}"));
    let pid = wait.holders().iter().map(|holder| holder.pid).find(|pid| *pid != 0);
    let cure = match pid {
        Some(pid) => format!("end what holds it, or that session: SELECT pg_terminate_backend({pid})"),
        None => "COMMIT PREPARED or ROLLBACK PREPARED what pg_prepared_xacts shows".to_owned(),
    };
    let finding = finding.cure(cure);
    match &wait.relation {
        Some(relation) => finding.of(relation),
        None => finding,
    }
}

/// What workers say of locks, where nobody waits at this very moment.
async fn said(patient: &Patient<'_>, client: &Transaction<'_>) -> Checked {
    let groups: Vec<&String> = patient.subjects.groups.iter().collect();
    let sql = format!(
        "SELECT s.group_id, s.topic, s.partition, s.detail FROM {} s WHERE s.group_id = ANY($1) AND s.state <> 'halted' \
           AND (s.detail LIKE '%55P03%' OR s.detail LIKE '%it waited for %' OR s.detail LIKE '%holds the lock%') \
         ORDER BY 1, 2, 3 LIMIT {SESSIONS}",
        patient.schema().qualified("partition_status")
    );
    let rows = client.query(&sql, &[&groups]).await?;
    Ok(rows
        .iter()
        .map(|row| {
            let (group, topic, partition): (&str, &str, i32) = (row.get(0), row.get(1), row.get(2));
            Finding::warn(CHECK, "its worker says that it waited for a lock")
                .detail(row.get::<_, &str>(3))
                .of(format!("{group} {topic}:{partition}"))
                .cure("end what holds the lock, or wait for it")
        })
        .collect())
}
