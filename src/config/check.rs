//! The checks of settings that depend on each other.

use super::group::GroupProtocol;
use super::parse::show_duration;
use super::properties;
use super::secrets::check_security;
use super::settings::SETTINGS;
use super::settings::{Config, PartialConfig};
use super::subscription::check_assign;
use super::table::{DefaultValue, Place};
use super::values::PostgresUrl;
use crate::error::{Error, Result};

/// Refuses a layer that lacks one of `names`.
pub(super) fn require(layer: &PartialConfig, names: &[&str]) -> Result<()> {
    let given = |name: &str| match name {
        "brokers" => layer.brokers.is_some(),
        "postgres_url" => layer.postgres_url.is_some(),
        "group" => layer.group.is_some(),
        "topics" => layer.topics.is_some(),
        _ => true,
    };
    let missing: Vec<String> = SETTINGS
        .iter()
        .filter(|setting| setting.default == DefaultValue::Required && names.contains(&setting.name))
        .filter(|setting| !given(setting.name))
        .map(|setting| format!("`{}` (environment variable `{}`)", setting.name, setting.env))
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    let noun = if missing.len() == 1 { "setting" } else { "settings" };
    Err(Error::configuration(format!("required {noun} missing: {}", missing.join(", "))))
}

/// Lets a default give way where a neighbour was set on purpose: who sets `max_processing_time = "2s"` should not have
/// to lower `lock_timeout` too. Values that were given are never changed; if two of them contradict each other,
/// [`check_together`] says so.
pub(super) fn adapt_defaults(config: &mut Config, layer: &PartialConfig) {
    if layer.lock_timeout.is_none() {
        config.lock_timeout = config.lock_timeout.min(config.max_processing_time / 2);
    }
    if layer.retry_backoff_min.is_none() {
        config.retry_backoff_min = config.retry_backoff_min.min(config.retry_backoff_max);
    }
    if layer.retry_backoff_max.is_none() {
        config.retry_backoff_max = config.retry_backoff_max.max(config.retry_backoff_min);
    }
    if layer.batch_target_records.is_none() {
        config.batch_target_records = config.batch_target_records.min(config.batch_max_records);
    }
    if layer.batch_max_records.is_none() {
        config.batch_max_records = config.batch_max_records.max(config.batch_target_records);
    }
    if layer.batch_max_bytes.is_none() {
        config.batch_max_bytes = config.batch_max_bytes.min(config.buffer_budget);
    }
    if layer.buffer_budget.is_none() {
        config.buffer_budget = config.buffer_budget.max(config.batch_max_bytes);
    }
}

/// Checks what depends on several settings. `layer` says where they came from.
pub(super) fn check_together(config: &Config, layer: &PartialConfig) -> Result<()> {
    let place = |name: &str| -> Place<'static> {
        let setting = SETTINGS.iter().find(|setting| setting.name == name).expect("a setting of the table");
        layer.place(setting.name, setting.env)
    };
    if config.retry_backoff_max < config.retry_backoff_min {
        return Err(place("retry_backoff_max").error(&format!(
            "{} is less than `retry_backoff_min` ({}): raise it",
            show_duration(config.retry_backoff_max),
            show_duration(config.retry_backoff_min),
        )));
    }
    if config.batch_max_records < config.batch_target_records {
        return Err(place("batch_max_records").error(&format!(
            "{} is less than `batch_target_records` ({}): raise it, or lower the other",
            config.batch_max_records, config.batch_target_records,
        )));
    }
    if config.buffer_budget < config.batch_max_bytes {
        return Err(place("buffer_budget").error(&format!(
            "{} bytes are less than `batch_max_bytes` ({}), so that no batch could fill: raise it, or lower the other",
            config.buffer_budget, config.batch_max_bytes,
        )));
    }
    if config.lock_timeout >= config.max_processing_time {
        return Err(place("lock_timeout").error(&format!(
            "{} leaves no time to answer within `max_processing_time` ({}): lower it",
            show_duration(config.lock_timeout),
            show_duration(config.max_processing_time),
        )));
    }
    check_password(config, layer)?;
    check_evolution(config, layer)?;
    check_group(config, place)?;
    let (session, heartbeat) = (config.effective_session_timeout(), config.effective_heartbeat_interval());
    if heartbeat * 3 > session {
        return Err(place("heartbeat_interval").error(&format!(
            "{} is more than a third of the session time-out ({}), so that one lost heartbeat could end the session: \
             lower it",
            show_duration(heartbeat),
            show_duration(session),
        )));
    }
    check_security(config, layer)?;
    check_assign(config).map_err(|defect| place("assign").error(&defect))?;
    for (property, given) in &layer.kafka {
        let name = format!("kafka.{property}");
        let env = properties::env_name(property);
        let place = Place { name: &name, env: &env, origin: given.origin.clone() };
        properties::check_property(property, &given.value.0).map_err(|defect| place.error(&defect))?;
    }
    Ok(())
}

/// The password comes from one place.
pub(super) fn check_password(config: &Config, layer: &PartialConfig) -> Result<()> {
    let given = exclusive(
        (
            "postgres_password_file",
            "HIGHWATER_POSTGRES_PASSWORD_FILE",
            config.postgres_password_file.is_some(),
        ),
        (
            "postgres_password_command",
            "HIGHWATER_POSTGRES_PASSWORD_COMMAND",
            config.postgres_password_command.is_some(),
        ),
        |name, env| layer.place(name, env),
    )?;
    match (given, config.postgres_url.address()) {
        (Some(given), Ok(address)) if address.has_password() => {
            Err(given.error("is set, but `postgres_url` has a password, too: take that out"))
        }
        _ => Ok(()),
    }
}

/// So does the password of `evolve_url`, without which there is none.
fn check_evolution(config: &Config, layer: &PartialConfig) -> Result<()> {
    let given = exclusive(
        ("evolve_password_file", "HIGHWATER_EVOLVE_PASSWORD_FILE", config.evolve_password_file.is_some()),
        (
            "evolve_password_command",
            "HIGHWATER_EVOLVE_PASSWORD_COMMAND",
            config.evolve_password_command.is_some(),
        ),
        |name, env| layer.place(name, env),
    )?;
    match (given, config.evolve_url.as_ref().map(PostgresUrl::address)) {
        (Some(given), None) => Err(given.error("is the password of `evolve_url`, which is not set")),
        (Some(given), Some(Ok(address))) if address.has_password() => {
            Err(given.error("is set, but `evolve_url` has a password, too: take that out"))
        }
        _ => Ok(()),
    }
}

/// Which of two settings is set that exclude each other: name, variable, and whether it is.
pub(super) fn exclusive(
    first: (&'static str, &'static str, bool),
    second: (&'static str, &'static str, bool),
    place: impl Fn(&'static str, &'static str) -> Place<'static>,
) -> Result<Option<Place<'static>>> {
    match (first.2, second.2) {
        (false, false) => Ok(None),
        (true, false) => Ok(Some(place(first.0, first.1))),
        (false, true) => Ok(Some(place(second.0, second.1))),
        (true, true) => {
            let defect = format!("is set beside `{}`: choose one of the two", first.0);
            Err(place(second.0, second.1).error(&defect))
        }
    }
}

/// Checks what depends on the group's protocol.
fn check_group(config: &Config, place: impl Fn(&str) -> Place<'static>) -> Result<()> {
    let protocol = config.group_protocol;
    if let Some(assignor) = config.assignor
        && !assignor.fits(protocol)
    {
        let choices = match protocol {
            GroupProtocol::Classic => "cooperative-sticky, range or roundrobin",
            GroupProtocol::Consumer => "uniform or range, or leave it out and let the broker choose",
        };
        return Err(place("assignor").error(&format!(
            "`{assignor}` does not exist under `group_protocol` {}: choose {choices}",
            protocol.as_str(),
        )));
    }
    if protocol == GroupProtocol::Classic {
        return Ok(());
    }
    let given = [
        ("session_timeout", config.session_timeout.is_some(), "consumer.session.timeout.ms"),
        ("heartbeat_interval", config.heartbeat_interval.is_some(), "consumer.heartbeat.interval.ms"),
    ];
    match given.iter().find(|(_, given, _)| *given) {
        None => Ok(()),
        Some((name, _, property)) => Err(place(name).error(&format!(
            "the broker decides under `group_protocol` consumer: leave it out, and set {property} of the group, or \
             group.{property} of the brokers",
        ))),
    }
}
