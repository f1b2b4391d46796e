//! What a worker may do: with topics and groups in Kafka, and with tables in Postgres. Asked, never tried.

use std::collections::{BTreeMap, BTreeSet};

use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use tokio_postgres::Transaction;

use super::{Checked, Finding, Patient, listed};
use crate::consumer::inspect::Right;
use crate::migrate::{DEFAULT_ROLE, needed};

const ACL: &str = "acl";
const ROLE: &str = "role";

/// Of the client that this environment's `kafka` settings make.
pub(super) async fn of_the_client(patient: &Patient<'_>) -> Vec<Finding> {
    let Some(catalog) = &patient.catalog else { return Vec::new() };
    let subjects = &patient.subjects;
    let mut findings = Vec::new();
    let there: Vec<String> = subjects.topics.iter().cloned().collect();
    match catalog.topic_rights(there).await {
        Err(error) => findings.push(not_told("topics", &error)),
        Ok(topics) => {
            for (topic, rights) in topics {
                let subject = format!("topic {topic}");
                findings.extend(match rights {
                    Ok(rights) => {
                        judge(&subject, &rights, &[(Right::Read, "READ"), (Right::Describe, "DESCRIBE")])
                    }
                    Err(RDKafkaErrorCode::TopicAuthorizationFailed) => vec![lacks(&subject, "DESCRIBE")],
                    // `topics` says so.
                    Err(_) => Vec::new(),
                });
            }
        }
    }
    for group in &subjects.groups {
        let subject = format!("group {group}");
        findings.extend(match catalog.group_rights(group).await {
            Ok(rights) => judge(&subject, &rights, &[(Right::Read, "READ"), (Right::Describe, "DESCRIBE")]),
            Err(error) => match crate::consumer::groups::code(&error) {
                Some(RDKafkaErrorCode::GroupAuthorizationFailed) => vec![lacks(&subject, "DESCRIBE")],
                Some(RDKafkaErrorCode::GroupIdNotFound) => vec![
                    Finding::unknown(ACL, "Kafka does not know it yet, and so tells no rights")
                        .of(&subject)
                        .cure("nothing to do: a worker that lacks READ says so when it joins"),
                ],
                _ => vec![not_told(&subject, &error)],
            },
        });
    }
    findings
}

fn judge(subject: &str, rights: &BTreeSet<Right>, needed: &[(Right, &str)]) -> Vec<Finding> {
    let one = |(right, name): &(Right, &str)| match rights.contains(right) {
        true => Finding::ok(ACL, format!("{name} is granted")).of(subject),
        false => lacks(subject, name),
    };
    needed.iter().map(one).collect()
}

fn lacks(subject: &str, right: &str) -> Finding {
    let (resource, name) = subject.split_once(' ').unwrap_or((subject, "…"));
    let cure = format!(
        "kafka-acls.sh --bootstrap-server … --add --allow-principal User:… --operation {} --{resource} {name}",
        capitalised(right)
    );
    Finding::fail(ACL, format!("{right} is not granted to this client")).of(subject).cure(cure)
}

/// `READ` as Kafka's tool writes it: `Read`.
fn capitalised(right: &str) -> String {
    let (first, rest) = right.split_at(right.len().min(1));
    first.to_owned() + &rest.to_lowercase()
}

fn not_told(subject: &str, error: &KafkaError) -> Finding {
    let finding = Finding::unknown(ACL, format!("Kafka does not tell what this client may do: {error}"));
    finding.of(subject).cure("see `brokers`; or look with kafka-acls.sh --list")
}

/// Of the workers' role: that which was named, those that the live workers use, or the usual one.
pub(super) async fn of_the_role(patient: &Patient<'_>, client: &Transaction<'_>) -> Checked {
    let mut findings = Vec::new();
    let roles = match &patient.options.role {
        Some(role) => vec![role.clone()],
        None => present(patient, client).await?,
    };
    if roles.is_empty() {
        let finding = Finding::unknown(ROLE, "no worker is live, so its role is not known");
        return Ok(vec![finding.cure("name it: --role NAME")]);
    }
    for role in roles {
        findings.extend(of_role(patient, client, &role).await?);
    }
    Ok(findings)
}

async fn present(
    patient: &Patient<'_>,
    client: &Transaction<'_>,
) -> Result<Vec<String>, tokio_postgres::Error> {
    let sql = format!(
        "SELECT DISTINCT a.usename::text FROM pg_catalog.pg_stat_activity a JOIN {} s ON s.pid = a.pid \
         WHERE a.usename IS NOT NULL AND {} ORDER BY 1",
        patient.schema().qualified("worker_session"),
        crate::db::live(patient.schema(), "s.owner"),
    );
    let roles: Vec<String> = client.query(&sql, &[]).await?.iter().map(|row| row.get(0)).collect();
    if !roles.is_empty() {
        return Ok(roles);
    }
    let usual =
        client.query("SELECT rolname::text FROM pg_catalog.pg_roles WHERE rolname = $1", &[&DEFAULT_ROLE]);
    Ok(usual.await?.iter().map(|row| row.get(0)).collect())
}

async fn of_role(patient: &Patient<'_>, client: &Transaction<'_>, role: &str) -> Checked {
    let sql = "SELECT r.oid, r.rolcanlogin, r.rolsuper FROM pg_catalog.pg_roles r WHERE r.rolname = $1";
    let Some(row) = client.query_opt(sql, &[&role]).await? else {
        let finding = Finding::fail(ROLE, "there is no such role").of(role);
        return Ok(vec![finding.cure("create it: `highwater migrate --print-grants` says how")]);
    };
    let (oid, may_log_in, is_super): (u32, bool, bool) = (row.get(0), row.get(1), row.get(2));
    let mut findings = Vec::new();
    if !may_log_in {
        findings
            .push(Finding::fail(ROLE, "it may not log in").of(role).cure(format!("ALTER ROLE {role} LOGIN")));
    }
    if is_super {
        let finding =
            Finding::warn(ROLE, "it is a superuser: nothing keeps a handler's bug within its tables");
        findings.push(
            finding.of(role).cure("give the workers a role of their own: `highwater migrate --print-grants`"),
        );
    }
    let missing = missing(patient, client, oid).await?;
    if missing.is_empty() {
        findings
            .push(Finding::ok(ROLE, "it has every right that a worker needs on Highwater's tables").of(role));
    } else {
        findings.push(
            Finding::fail(ROLE, format!("it lacks {}", listed(&missing))).of(role).cure(format!(
                "as the tables' owner: highwater migrate --print-grants --role {role} | psql …"
            )),
        );
    }
    findings.extend(of_sinks(patient, client, oid, role).await?);
    findings.extend(interfering(client, oid, role).await?);
    Ok(findings)
}

/// Rights on Highwater's own tables that the role has not.
async fn missing(
    patient: &Patient<'_>,
    client: &Transaction<'_>,
    role: u32,
) -> Result<Vec<String>, tokio_postgres::Error> {
    let schema = patient.schema();
    let (tables, rights): (Vec<&str>, Vec<&str>) = needed().unzip();
    let sql = "SELECT t.name, t.privilege FROM unnest($1::text[], $2::text[]) AS t(name, privilege) \
               LEFT JOIN pg_catalog.pg_namespace n ON n.nspname = $3 \
               LEFT JOIN pg_catalog.pg_class c ON c.relnamespace = n.oid AND c.relname = t.name \
               WHERE c.oid IS NULL OR NOT pg_catalog.has_table_privilege($4::oid, c.oid, t.privilege) ORDER BY 1, 2";
    let rows = client.query(sql, &[&tables, &rights, &schema.as_str(), &role]).await?;
    let mut missing: Vec<String> =
        rows.iter().map(|row| format!("{} on {}", row.get::<_, &str>(1), row.get::<_, &str>(0))).collect();
    let sql = "SELECT 'USAGE on schema ' || n.nspname FROM pg_catalog.pg_namespace n \
               WHERE n.nspname = $1 AND NOT pg_catalog.has_schema_privilege($2::oid, n.oid, 'USAGE') \
               UNION ALL SELECT 'EXECUTE on ' || p.proname FROM pg_catalog.pg_proc p \
               JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace WHERE n.nspname = $1 \
                 AND p.proname IN ('prune_history', 'expire_payloads') AND NOT pg_catalog.has_function_privilege($2::oid, p.oid, 'EXECUTE')";
    missing.extend(
        client.query(sql, &[&schema.as_str(), &role]).await?.iter().map(|row| row.get::<_, String>(0)),
    );
    Ok(missing)
}

/// … and on the tables that the groups' programs say they write.
async fn of_sinks(patient: &Patient<'_>, client: &Transaction<'_>, oid: u32, role: &str) -> Checked {
    let groups: Vec<&String> = patient.subjects.groups.iter().collect();
    let sql = format!(
        "SELECT DISTINCT format('%I.%I', t.table_schema, t.table_name), p.privilege FROM {} t \
         CROSS JOIN LATERAL unnest(CASE t.mode WHEN 'append' THEN ARRAY['INSERT'] WHEN 'insert_ignore' \
           THEN ARRAY['INSERT', 'SELECT'] ELSE ARRAY['INSERT', 'SELECT', 'UPDATE'] END) AS p(privilege) \
         JOIN pg_catalog.pg_namespace n ON n.nspname = t.table_schema \
         JOIN pg_catalog.pg_class c ON c.relnamespace = n.oid AND c.relname = t.table_name \
         WHERE t.group_id = ANY($1) AND NOT pg_catalog.has_any_column_privilege($2::oid, c.oid, p.privilege) ORDER BY 1, 2",
        patient.schema().qualified("sink_table")
    );
    let mut by_table: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for row in client.query(&sql, &[&groups, &oid]).await? {
        by_table.entry(row.get(0)).or_default().push(row.get(1));
    }
    let lacking = by_table.into_iter().map(|(table, rights)| {
        let rights = rights.join(", ");
        Finding::fail(ROLE, format!("it may not {rights} in {table}, which its group's program writes"))
            .of(role)
            .cure(format!("GRANT {rights} ON {table} TO {role}"))
    });
    Ok(lacking.collect())
}

/// Settings of the role, or of the database, that a worker does not override, and that hinder it.
async fn interfering(client: &Transaction<'_>, oid: u32, role: &str) -> Checked {
    const HARM: &[(&str, &str, bool)] = &[
        (
            "default_transaction_read_only",
            "workers take this server for a standby, and look for another",
            true,
        ),
        ("idle_session_timeout", "sessions that idle are ended, and made anew at the next batch", false),
        ("session_replication_role", "triggers and foreign keys are not looked at", false),
        ("row_security", "what policies hide makes statements fail", false),
    ];
    const OVERRIDDEN: &[&str] = &[
        "statement_timeout",
        "lock_timeout",
        "idle_in_transaction_session_timeout",
        "transaction_timeout",
        "synchronous_commit",
        "default_transaction_isolation",
    ];
    let sql = "SELECT split_part(c.setting, '=', 1), substr(c.setting, strpos(c.setting, '=') + 1), s.setrole <> 0 \
               FROM pg_catalog.pg_db_role_setting s CROSS JOIN LATERAL unnest(s.setconfig) AS c(setting) \
               WHERE s.setrole IN (0, $1) AND s.setdatabase IN (0, (SELECT oid FROM pg_catalog.pg_database \
                 WHERE datname = pg_catalog.current_database())) \
               ORDER BY s.setrole <> 0, s.setdatabase <> 0";
    let mut given: BTreeMap<String, (String, bool)> = BTreeMap::new();
    // Of the server: what this session would have, if nothing were said of its role.
    let of_server = "SELECT name, reset_val FROM pg_catalog.pg_settings WHERE name = ANY($1) \
                     AND source IN ('configuration file', 'command line', 'environment variable')";
    let names: Vec<&str> = HARM.iter().map(|(name, ..)| *name).collect();
    for row in client.query(of_server, &[&names]).await? {
        given.insert(row.get(0), (row.get(1), false));
    }
    for row in client.query(sql, &[&oid]).await? {
        given.insert(row.get(0), (row.get(1), row.get(2)));
    }
    let mut findings = Vec::new();
    for (name, harm, fails) in HARM {
        let Some((value, of_role)) = given.get(*name) else { continue };
        let harmless = match *name {
            "row_security" => matches!(value.as_str(), "on" | "true" | "1"),
            "session_replication_role" => value == "origin",
            _ => matches!(value.as_str(), "off" | "false" | "0" | "no"),
        };
        if harmless {
            continue;
        }
        let severity = if *fails { super::Severity::Fail } else { super::Severity::Warn };
        let cure = match of_role {
            true => format!(
                "ALTER ROLE {role} RESET {name}, or for the one database: … IN DATABASE … RESET {name}"
            ),
            false => {
                format!("ALTER ROLE {role} SET {name} to its default, or correct the server's configuration")
            }
        };
        findings.push(Finding::new(ROLE, severity, format!("{name} = {value}: {harm}")).of(role).cure(cure));
    }
    let overridden: Vec<String> =
        OVERRIDDEN.iter().filter_map(|name| Some(format!("{name} = {}", given.get(*name)?.0))).collect();
    if !overridden.is_empty() {
        findings.push(
            Finding::ok(ROLE, format!("{} of role or database; workers set their own", listed(&overridden)))
                .of(role),
        );
    }
    Ok(findings)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::Severity;

    #[test]
    fn a_right_that_is_missing_comes_with_the_command_that_grants_it() {
        let found = judge(
            "topic t",
            &[Right::Describe].into(),
            &[(Right::Read, "READ"), (Right::Describe, "DESCRIBE")],
        );
        assert_eq!((found[0].severity, found[1].severity), (Severity::Fail, Severity::Ok));
        assert!(found[0].cure.as_deref().unwrap().ends_with("--operation Read --topic t"), "{found:?}");
    }
}
