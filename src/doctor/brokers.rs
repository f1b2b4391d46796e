//! Whether brokers can be reached: those of the configuration, and those that they name.

use std::collections::BTreeSet;
use std::time::Duration;

use tokio::net::TcpStream;

use super::{Finding, Patient, counted};

const CHECK: &str = "brokers";
/// How long a broker may take to accept a connection.
const CONNECT: Duration = Duration::from_secs(3);
const ANSWER: &str =
    "start it, or correct `brokers`; look at its listeners, at firewalls, and at `security.protocol`";

pub(super) async fn open(patient: &mut Patient<'_>) -> Vec<Finding> {
    let mut findings = Vec::new();
    let operator = &patient.config.operator;
    if operator.brokers.is_empty() {
        let finding = Finding::unknown(CHECK, "none are configured, so Kafka is not asked");
        findings.push(finding.cure("give --bootstrap-server, or set HIGHWATER_BROKERS"));
        return findings;
    }
    let catalog = match operator.catalog() {
        Ok(catalog) => catalog,
        Err(error) => {
            let text = error.report();
            findings.push(Finding::fail(CHECK, text).cure("correct the `kafka` settings"));
            return findings;
        }
    };
    let mut configured = BTreeSet::new();
    for address in &operator.brokers {
        configured.insert(address.clone());
        if let Some(why) = unreachable(address).await {
            let text = format!("accepts no connection: {why}");
            findings.push(Finding::warn(CHECK, text).of(address).cure(ANSWER));
        }
    }
    match catalog.cluster(patient.subjects.topics.iter().cloned().collect()).await {
        Err(error) => {
            let text = format!("none of {} answers: {error}", counted(configured.len(), "broker"));
            findings.push(Finding::fail(CHECK, text).cure(ANSWER));
        }
        Ok((brokers, views)) => {
            let mut reached = 0;
            for broker in &brokers {
                match unreachable(&broker.address).await {
                    None => reached += 1,
                    Some(why) => findings.push(
                        Finding::fail(CHECK, format!("the cluster names broker {} there: {why}", broker.id))
                            .of(&broker.address)
                            .cure(
                                "start it, or correct its advertised.listeners: clients go where these point",
                            ),
                    ),
                }
            }
            findings.push(Finding::ok(CHECK, format!("{reached} of {} accept connections", brokers.len())));
            patient.subjects.views = views;
            patient.subjects.broker = brokers.first().map(|broker| broker.id);
            patient.catalog = Some(catalog);
        }
    }
    findings
}

/// Why nobody accepts a connection there. Nothing is sent.
async fn unreachable(address: &str) -> Option<String> {
    match tokio::time::timeout(CONNECT, TcpStream::connect(address)).await {
        Ok(Ok(_)) => None,
        Ok(Err(error)) => Some(error.to_string()),
        Err(_) => Some(format!("nothing was heard within {CONNECT:?}")),
    }
}
