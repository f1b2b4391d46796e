//! The settings of this environment, against each other. Pure.

use super::{Finding, Patient};
use crate::config::{Config, DoctorConfig, GroupProtocol};

const CHECK: &str = "settings";

pub(super) fn check(config: &DoctorConfig) -> Vec<Finding> {
    let mut findings = Vec::new();
    match &config.contradiction {
        Some(text) => findings.push(
            Finding::fail(CHECK, text.clone())
                .cure("correct one of the two; docs/configuration.md has them all"),
        ),
        None => findings.push(Finding::ok(CHECK, "those of this environment do not contradict each other")),
    }
    findings.push(time_outs(&config.worker));
    findings
}

/// What the settings' own check lets pass, because it works, if not as it was meant.
fn time_outs(worker: &Config) -> Finding {
    const CHECK: &str = "time-outs";
    let (processing, drain, lock) = (worker.max_processing_time, worker.drain_deadline, worker.lock_timeout);
    if worker.stuck_after.is_some_and(|stuck_after| stuck_after <= 2 * processing) {
        return Finding::warn(
            CHECK,
            format!(
                "`stuck_after` ({:?}) is within two `max_processing_time` ({processing:?}): a claim that waits for a slow \
                 batch's locks ends the process",
                worker.stuck_after.unwrap_or_default()
            ),
        )
        .cure("raise `stuck_after` above two batches");
    }
    if drain > processing {
        return Finding::warn(
            CHECK,
            format!(
                "`drain_deadline` ({drain:?}) is above `max_processing_time` ({processing:?}), which ends a batch first"
            ),
        )
        .cure("lower `drain_deadline`: a successor waits for it where a worker hangs");
    }
    let session = match worker.group_protocol {
        GroupProtocol::Classic => format!("session {:?}", worker.effective_session_timeout()),
        GroupProtocol::Consumer => "session by the broker".to_owned(),
    };
    Finding::ok(
        CHECK,
        format!(
            "{session}, batch {processing:?}, drain {drain:?}, lock {lock:?}; give pods a grace period above drain and 15 s"
        ),
    )
}

/// The session against the brokers' own limits, as far as they tell them.
pub(super) async fn session(patient: &Patient<'_>) -> Vec<Finding> {
    const CHECK: &str = "time-outs";
    let worker = &patient.config.worker;
    let (Some(catalog), GroupProtocol::Classic) = (&patient.catalog, worker.group_protocol) else {
        return Vec::new();
    };
    let found = catalog.configs(&[], patient.subjects.broker).await;
    let Ok((_, Some(properties))) = found else {
        let finding = Finding::unknown(CHECK, "the brokers do not tell their limits of a session");
        return vec![
            finding.cure("grant this client DESCRIBE_CONFIGS on the cluster; a worker needs it not"),
        ];
    };
    let limit = |name: &str| properties.get(name).and_then(|value| value.parse::<u128>().ok());
    let session_ms = worker.effective_session_timeout().as_millis();
    let (least, most) = (limit("group.min.session.timeout.ms"), limit("group.max.session.timeout.ms"));
    if least.is_some_and(|least| session_ms < least) || most.is_some_and(|most| session_ms > most) {
        let text = format!(
            "the session time-out is {session_ms} ms, and the brokers take {} to {} ms",
            least.unwrap_or_default(),
            most.unwrap_or_default()
        );
        let cure = "set `session_timeout` within, or change group.min.session.timeout.ms and group.max.session.timeout.ms";
        return vec![Finding::fail(CHECK, text).cure(cure)];
    }
    Vec::new()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::PartialConfig;
    use crate::doctor::Severity;

    fn found(layer: PartialConfig) -> Vec<(&'static str, Severity)> {
        let config = layer.postgres_url("postgres://localhost/x").finish_doctor().unwrap();
        check(&config).iter().map(|finding| (finding.check, finding.severity)).collect()
    }

    #[test]
    fn contradictions_and_what_is_not_as_it_was_meant_are_told() {
        let seconds = Duration::from_secs;
        let fine = found(PartialConfig::default());
        assert_eq!(fine, [("settings", Severity::Ok), ("time-outs", Severity::Ok)]);
        let contradiction = PartialConfig::default().lock_timeout(seconds(60));
        assert_eq!(found(contradiction)[0].1, Severity::Fail);
        let drain = PartialConfig::default().drain_deadline(seconds(31));
        assert_eq!(found(drain)[1].1, Severity::Warn);
        let stuck = PartialConfig::default().stuck_after(seconds(60));
        assert_eq!(found(stuck)[1].1, Severity::Warn);
    }
}
