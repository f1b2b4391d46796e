//! Addresses as libpq writes them. What the driver understands stays in the text; what it does not, TLS above all
//! (PITFALLS 30), is taken out of it here.
//!
//! No message holds a value, nor a name that libpq does not know: either may be a part of a password that was not
//! percent-encoded.

mod split;

use tokio_postgres::Config;
use tokio_postgres::config::{Host, LoadBalanceHosts, SslNegotiation, TargetSessionAttrs};

use super::tls::{Mode, TlsSettings};
use split::Form;

/// Parameters that the driver reads by itself.
const DRIVER: &[&str] = &[
    "application_name",
    "channel_binding",
    "connect_timeout",
    "dbname",
    "host",
    "hostaddr",
    "load_balance_hosts",
    "options",
    "password",
    "port",
    "sslnegotiation",
    "user",
];

/// Parameters that change nothing: the worker chooses these for its sessions (PITFALLS 23), or they name what is not
/// there.
const WITHOUT_EFFECT: &[&str] = &[
    "fallback_application_name",
    "keepalives",
    "keepalives_count",
    "keepalives_idle",
    "keepalives_interval",
    "keepalives_retries",
    "tcp_user_timeout",
];

/// Parameters of libpq that are not supported. To ignore one would be to promise what it promises.
const REFUSED: &[(&str, &str)] = &[
    ("gssdelegation", "GSSAPI is not supported: leave it out"),
    ("gsslib", "GSSAPI is not supported: leave it out"),
    ("krbsrvname", "GSSAPI is not supported: leave it out"),
    (
        "passfile",
        "libpq's password files are not read: use the setting postgres_password_file, or put the password into the address",
    ),
    ("replication", "the worker needs ordinary sessions: leave it out"),
    ("require_auth", "it is not supported: use sslmode=verify-full, or channel_binding=require"),
    ("requirepeer", "it is not supported: use sslmode=verify-full"),
    ("requiressl", "it is obsolete: write sslmode=require"),
    ("service", "service files are not read: write its parameters out"),
    ("servicefile", "service files are not read: write the service's parameters out"),
    ("sslcrl", "revocation lists are not supported: use certificates that do not live long"),
    ("sslcrldir", "revocation lists are not supported: use certificates that do not live long"),
    ("sslkeylogfile", "secrets of the connection are written nowhere: leave it out"),
    (
        "sslpassword",
        "encrypted keys are not supported: keep the key without a passphrase, readable by the worker only",
    ),
];

/// Parameters of libpq of which one value is what happens anyway.
const ONLY: &[(&str, &[&str])] = &[
    ("client_encoding", &["UTF8", "utf8", "UTF-8", "utf-8", "auto"]),
    ("gssencmode", &["disable", "prefer"]),
    ("sslcompression", &["0"]),
    // Offsets are read from the primary only, whatever is said here.
    ("target_session_attrs", &["any", "primary", "read-write"]),
];

/// An address, read.
#[derive(Debug, Clone)]
pub(crate) struct Address {
    /// All hosts; TLS is not in it.
    config: Config,
    pub(crate) tls: TlsSettings,
}

impl Address {
    /// Reads `postgres://…`, `postgresql://…` or `key=value` pairs. The error completes "the address …".
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let (form, parameters) = split::split(text).ok_or_else(malformed)?;
        let mut tls = TlsSettings::default();
        let mut kept = Vec::new();
        for parameter in &parameters {
            let (name, value) = (parameter.name.as_str(), parameter.value.as_str());
            if tls.set(name, value)? || WITHOUT_EFFECT.contains(&name) {
                continue;
            }
            if name == "ssl" && matches!(form, Form::Url(_)) && value == "true" {
                tls.set("sslmode", "require")?; // as libpq takes it from JDBC's addresses
                continue;
            }
            judge(name, value)?;
            if DRIVER.contains(&name) {
                kept.push(parameter);
            }
        }
        let config = form.with(&kept).parse::<Config>().map_err(|_| malformed())?;
        let tls = tls.complete()?;
        let this = Self { config, tls };
        this.check()?;
        Ok(this)
    }

    /// What the driver would only find when it connects, where it looks like an outage.
    fn check(&self) -> Result<(), String> {
        let (hosts, addresses) = (self.config.get_hosts().len(), self.config.get_hostaddrs().len());
        let ports = self.config.get_ports().len();
        if hosts == 0 && addresses == 0 {
            return Err("names no host: write postgres://user@host/database".to_owned());
        }
        if hosts > 0 && addresses > 0 && hosts != addresses {
            return Err(format!("has {hosts} hosts but {addresses} hostaddr: give each host one"));
        }
        if ports > 1 && ports != self.len() {
            return Err(format!(
                "has {} hosts but {ports} ports: give each host one, or one for all",
                self.len()
            ));
        }
        let direct = self.config.get_ssl_negotiation() == SslNegotiation::Direct;
        if direct && matches!(self.tls.mode(), Mode::Disable | Mode::Allow | Mode::Prefer) {
            return Err("has sslnegotiation=direct, which needs sslmode=require or a stronger one".to_owned());
        }
        Ok(())
    }

    fn len(&self) -> usize {
        self.config.get_hosts().len().max(self.config.get_hostaddrs().len())
    }

    pub(crate) fn user(&self) -> Option<&str> {
        self.config.get_user()
    }

    pub(crate) fn database(&self) -> Option<&str> {
        self.config.get_dbname()
    }

    pub(crate) fn has_password(&self) -> bool {
        self.config.get_password().is_some()
    }

    pub(crate) fn random_order(&self) -> bool {
        self.config.get_load_balance_hosts() == LoadBalanceHosts::Random
    }

    pub(crate) fn application_name(&self) -> Option<&str> {
        self.config.get_application_name()
    }

    /// `host:port` of each server, for people.
    pub(crate) fn servers(&self) -> Vec<String> {
        (0..self.len())
            .map(|index| {
                let host = match (self.config.get_hosts().get(index), self.config.get_hostaddrs().get(index))
                {
                    (Some(Host::Tcp(name)), _) => name.clone(),
                    #[cfg(unix)]
                    (Some(Host::Unix(path)), _) => path.display().to_string(),
                    (None, address) => address.map(ToString::to_string).unwrap_or_default(),
                };
                format!("{host}:{}", self.port(index))
            })
            .collect()
    }

    fn port(&self, index: usize) -> u16 {
        let ports = self.config.get_ports();
        ports.get(index).or(ports.first()).copied().unwrap_or(5432)
    }

    /// A configuration per server, in the order given. Each accepts a primary only (PITFALLS 30).
    pub(crate) fn configs(&self) -> Vec<Config> {
        (0..self.len()).map(|index| self.config_of(index)).collect()
    }

    fn config_of(&self, index: usize) -> Config {
        let mut one = Config::new();
        let all = &self.config;
        match (all.get_hosts().get(index), all.get_hostaddrs().get(index)) {
            (Some(Host::Tcp(name)), address) => {
                one.host(name);
                if let Some(address) = address {
                    one.hostaddr(*address);
                }
            }
            #[cfg(unix)]
            (Some(Host::Unix(path)), _) => {
                one.host_path(path);
            }
            // The name that a certificate is compared with is the address, then.
            (None, address) => {
                one.host(address.map(ToString::to_string).unwrap_or_default());
            }
        }
        one.port(self.port(index));
        if let Some(user) = all.get_user() {
            one.user(user);
        }
        if let Some(password) = all.get_password() {
            one.password(password);
        }
        if let Some(name) = all.get_dbname() {
            one.dbname(name);
        }
        if let Some(options) = all.get_options() {
            one.options(options);
        }
        if let Some(limit) = all.get_connect_timeout() {
            one.connect_timeout(*limit);
        }
        one.ssl_negotiation(all.get_ssl_negotiation());
        one.channel_binding(all.get_channel_binding());
        one.target_session_attrs(TargetSessionAttrs::ReadWrite);
        one
    }
}

fn judge(name: &str, value: &str) -> Result<(), String> {
    if let Some((_, why)) = REFUSED.iter().find(|(refused, _)| *refused == name) {
        return Err(format!("has the parameter {name}: {why}"));
    }
    if let Some((_, values)) = ONLY.iter().find(|(only, _)| *only == name) {
        return if values.contains(&value) {
            Ok(())
        } else {
            Err(format!("has the parameter {name}, which may only be {}", values.join(" or ")))
        };
    }
    if DRIVER.contains(&name) {
        Ok(())
    } else {
        Err("has a parameter that is not known: compare it with libpq's list, and percent-encode &, = and ? in values"
            .to_owned())
    }
}

fn malformed() -> String {
    "is not a Postgres address: write postgres://user:password@host:5432/database, with /, ?, #, @ and % in the \
     password percent-encoded"
        .to_owned()
}

#[cfg(test)]
mod tests;
