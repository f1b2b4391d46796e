//! What stands still until somebody acts.

use std::collections::BTreeMap;

use tokio_postgres::Transaction;

use super::{Checked, Finding, Patient, counted};

const CHECK: &str = "halted";
/// How many are told one by one; of more, how many there are.
const TOLD: usize = 10;

/// Partitions that have halted, or that a person has halted, with why and the command that lets them go on.
pub(super) async fn halted(patient: &Patient<'_>, client: &Transaction<'_>) -> Checked {
    let groups: Vec<&String> = patient.subjects.groups.iter().collect();
    // As `status`: the row of a halt belongs to the present claim, or to nobody.
    let sql = format!(
        "SELECT o.group_id, o.topic, o.partition, o.next_offset, coalesce(s.detail, o.paused_reason), \
           o.paused_reason IS NOT NULL \
         FROM {offsets} o LEFT JOIN {status} s ON s.group_id = o.group_id AND s.topic = o.topic \
           AND s.partition = o.partition AND s.state = 'halted' AND (s.epoch = o.epoch OR o.owner IS NULL) \
         WHERE o.group_id = ANY($1) AND (s.state = 'halted' \
           OR o.paused_reason IS NOT NULL AND coalesce((pg_catalog.to_jsonb(o) ->> 'halted')::boolean, false)) \
         ORDER BY 1, 2, 3",
        offsets = patient.schema().qualified("consumer_offset"),
        status = patient.schema().qualified("partition_status"),
    );
    let rows = client.query(&sql, &[&groups]).await?;
    let mut more: BTreeMap<&str, usize> = BTreeMap::new();
    let mut findings = Vec::new();
    for row in &rows {
        let (group, topic, partition): (&str, &str, i32) = (row.get(0), row.get(1), row.get(2));
        if findings.len() == TOLD {
            *more.entry(group).or_default() += 1;
            continue;
        }
        let why = row.get::<_, Option<&str>>(4).unwrap_or("its worker has not said why");
        let retry = format!("highwater partitions retry --group {group} --topic {topic}:{partition}");
        let cure = if row.get::<_, bool>(5) {
            format!("a person has halted it; when it is to go on: {retry}")
        } else {
            format!("mend what it says, then {retry}; or step over a record: highwater partitions skip")
        };
        let finding = Finding::warn(CHECK, format!("halted at offset {}", row.get::<_, i64>(3))).detail(why);
        findings.push(finding.of(format!("{group} {topic}:{partition}")).cure(cure));
    }
    findings.extend(more.into_iter().map(|(group, count)| {
        Finding::warn(CHECK, format!("{} more", counted(count, "halted partition")))
            .of(group)
            .cure(format!("highwater status --group {group} names them"))
    }));
    if findings.is_empty() {
        findings.push(Finding::ok(CHECK, "no partition is halted"));
    }
    Ok(findings)
}
