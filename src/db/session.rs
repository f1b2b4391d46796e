//! Session settings (PITFALLS 23): a half-open connection must not hold locks for hours, whichever side is gone.

use std::time::Duration;

use tokio_postgres::{Client, Error};

use crate::config::Config;

/// Added to `max_processing_time` for the server's own limits, so that the worker's comes first and the server's
/// only acts when the worker cannot.
const GRACE: Duration = Duration::from_secs(5);
/// How long a dead peer may stay unnoticed, on either side.
const PEER_TIMEOUT: Duration = Duration::from_secs(10);

/// Settings of the client's side of the connection.
pub(super) fn client_settings(config: &mut tokio_postgres::Config, application_name: &str) {
    config.application_name(application_name);
    if config.get_connect_timeout().is_none() {
        config.connect_timeout(Duration::from_secs(5));
    }
    config
        .keepalives(true)
        .keepalives_idle(Duration::from_secs(5))
        .keepalives_interval(Duration::from_secs(2))
        .keepalives_retries(3)
        .tcp_user_timeout(PEER_TIMEOUT)
        .target_session_attrs(tokio_postgres::config::TargetSessionAttrs::ReadWrite);
}

/// For the connections on which batches are applied.
pub(super) fn lane_settings(config: &Config) -> String {
    let limit = config.max_processing_time + GRACE;
    format!(
        "{}SET idle_in_transaction_session_timeout = {idle};SET statement_timeout = {idle};",
        common(config),
        idle = limit.as_millis()
    )
}

/// For claims and reads: nothing there takes longer than waiting for one lock.
pub(super) fn control_settings(config: &Config) -> String {
    let limit = (config.lock_timeout + GRACE).as_millis();
    format!(
        "{}SET idle_in_transaction_session_timeout = {limit};SET statement_timeout = {limit};",
        common(config)
    )
}

fn common(config: &Config) -> String {
    let peer = PEER_TIMEOUT.as_millis();
    format!(
        "SET synchronous_commit = on;\
         SET default_transaction_isolation = 'read committed';\
         SET lock_timeout = {lock};\
         SET tcp_keepalives_idle = 5;SET tcp_keepalives_interval = 2;SET tcp_keepalives_count = 3;\
         SET tcp_user_timeout = {peer};\
         SET client_connection_check_interval = {check};",
        lock = config.lock_timeout.as_millis(),
        check = 2_000,
    )
}

/// Applies the settings to a new connection; one round trip.
pub(super) async fn prepare(client: &Client, settings: &str) -> Result<(), Error> {
    client.batch_execute(settings).await
}
