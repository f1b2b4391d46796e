//! `jdbc:postgresql://host/db?…` as `postgres://user@host/db?…`. No password comes out of here, and no value of a
//! parameter that is not known into a message.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use super::connector::{Source, is_reference};
use super::findings::Findings;
use crate::config::suggest;

const OPTION: &str = "connection.url";
const PLAIN: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// Where the rows go.
#[derive(Debug, Default)]
pub(super) struct Address {
    /// Without a password; none if the connector itself does not know it.
    pub(super) url: Option<String>,
    /// Where a table is that is named without its schema.
    pub(super) schema: Option<String>,
}

/// What becomes of a parameter of pgJDBC.
#[derive(Debug, Clone, Copy)]
enum Parameter {
    /// libpq's has this name, and takes the same.
    As(&'static str),
    /// It is read here.
    Read,
    /// It is about the driver, or the worker sees to it.
    NotNeeded,
    /// Not copied, and why.
    ByHand(&'static str),
    Refused(&'static str),
}

use Parameter::{As, ByHand, NotNeeded, Read, Refused};

const PARAMETERS: &[(&str, Parameter)] = &[
    ("user", Read),
    ("password", ByHand("the password is not copied: see `postgres_password_file`")),
    ("currentSchema", Read),
    ("ssl", Read),
    ("sslmode", As("sslmode")),
    ("sslrootcert", As("sslrootcert")),
    ("sslcert", As("sslcert")),
    ("sslkey", As("sslkey")),
    ("sslpassword", ByHand("encrypted keys are not read: keep the key in PEM, without a passphrase")),
    ("sslNegotiation", As("sslnegotiation")),
    ("sslfactory", Read),
    ("channelBinding", As("channel_binding")),
    ("options", As("options")),
    ("ApplicationName", As("application_name")),
    ("connectTimeout", As("connect_timeout")),
    ("loadBalanceHosts", Read),
    ("targetServerType", NotNeeded),
    ("hostRecheckSeconds", NotNeeded),
    ("loginTimeout", NotNeeded),
    ("socketTimeout", NotNeeded),
    ("cancelSignalTimeout", NotNeeded),
    ("sslResponseTimeout", NotNeeded),
    ("tcpKeepAlive", NotNeeded),
    ("tcpNoDelay", NotNeeded),
    ("receiveBufferSize", NotNeeded),
    ("sendBufferSize", NotNeeded),
    ("maxSendBufferSize", NotNeeded),
    ("reWriteBatchedInserts", NotNeeded),
    ("prepareThreshold", NotNeeded),
    ("preparedStatementCacheQueries", NotNeeded),
    ("preparedStatementCacheSizeMiB", NotNeeded),
    ("databaseMetadataCacheFields", NotNeeded),
    ("databaseMetadataCacheFieldsMiB", NotNeeded),
    ("defaultRowFetchSize", NotNeeded),
    ("adaptiveFetch", NotNeeded),
    ("maxResultBuffer", NotNeeded),
    ("preferQueryMode", NotNeeded),
    ("binaryTransfer", NotNeeded),
    ("stringtype", NotNeeded),
    ("autosave", NotNeeded),
    ("cleanupSavepoints", NotNeeded),
    ("assumeMinServerVersion", NotNeeded),
    ("logServerErrorDetail", NotNeeded),
    ("logUnclosedConnections", NotNeeded),
    ("loggerLevel", NotNeeded),
    ("loggerFile", NotNeeded),
    ("gssEncMode", NotNeeded),
    ("kerberosServerName", Refused("GSSAPI is not supported")),
    ("jaasApplicationName", Refused("GSSAPI is not supported")),
    ("socketFactory", Refused("classes are not run")),
    ("authenticationPluginClassName", Refused("classes are not run: see `postgres_password_command`")),
];

impl Address {
    pub(super) fn of(source: &Source, findings: &mut Findings) -> Self {
        let Some(jdbc) = source.get(OPTION) else {
            findings.refuse(OPTION, "is missing: without it nobody knows which database is written");
            return Self::default();
        };
        if is_reference(jdbc) {
            findings.note(
                OPTION,
                "is in one of Connect's config providers: give the address in HIGHWATER_POSTGRES_URL",
            );
            return Self::default();
        }
        let Some(rest) = jdbc.strip_prefix("jdbc:postgresql:") else {
            findings.refuse(OPTION, "is no jdbc:postgresql: address: only PostgreSQL is written");
            return Self::default();
        };
        let (server, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (hosts, database) = match server.strip_prefix("//") {
            Some(server) => server.split_once('/').unwrap_or((server, "")),
            None => ("", server.trim_start_matches('/')),
        };
        let hosts = match hosts.rsplit_once('@') {
            Some((_, hosts)) => {
                findings.note(
                    OPTION,
                    "user and password in the address are not copied: pgJDBC does not read them there",
                );
                hosts
            }
            None => hosts,
        };
        let mut parameters = Parameters::default();
        for parameter in query.split('&').filter(|parameter| !parameter.is_empty()) {
            let (name, value) = parameter.split_once('=').unwrap_or((parameter, ""));
            parameters.take(name, value, findings);
        }
        let option =
            ["connection.user", "connection.username"].into_iter().find(|name| source.get(name).is_some());
        let user = match option.and_then(|name| source.get(name)) {
            Some(user) if is_reference(user) => {
                findings.note(
                    option.unwrap_or_default(),
                    "is in one of Connect's config providers: write it into `postgres_url`",
                );
                String::new()
            }
            Some(user) => format!("{}@", utf8_percent_encode(user, PLAIN)),
            None => parameters.user.as_ref().map(|user| format!("{user}@")).unwrap_or_default(),
        };
        let hosts = if hosts.is_empty() { "localhost" } else { hosts };
        let query = parameters.query();
        Self { url: Some(format!("postgres://{user}{hosts}/{database}{query}")), schema: parameters.schema }
    }
}

/// The parameters, as libpq writes them; values stay percent-encoded.
#[derive(Debug, Default)]
struct Parameters {
    kept: Vec<(&'static str, String)>,
    user: Option<String>,
    schema: Option<String>,
    /// What `ssl` and `sslfactory` amount to, unless `sslmode` is there.
    mode: Option<&'static str>,
}

impl Parameters {
    fn take(&mut self, name: &str, value: &str, findings: &mut Findings) {
        let Some((name, fate)) = PARAMETERS.iter().find(|(known, _)| *known == name) else {
            // The name itself is not shown: it may be a piece of a password that was not encoded.
            let hint = match suggest(name, PARAMETERS.iter().map(|(known, _)| *known)) {
                Some(near) => format!("did you mean `{near}`?"),
                None => "remove it, or write libpq's into `postgres_url` afterwards".to_owned(),
            };
            findings.refuse(OPTION, format!("has a parameter that is not known: {hint}"));
            return;
        };
        match fate {
            As(other) => {
                if *name == "sslkey" {
                    findings
                        .note(OPTION, "sslkey: the key is read in PEM, while pgJDBC has it in DER (PKCS#8)");
                }
                self.kept.push((other, value.to_owned()));
            }
            Read => self.read(name, value, findings),
            NotNeeded => {}
            ByHand(what) => findings.note(OPTION, format!("{name}: {what}")),
            Refused(why) => findings.refuse(OPTION, format!("has the parameter {name}: {why}")),
        }
    }

    fn read(&mut self, name: &str, value: &str, findings: &mut Findings) {
        match name {
            "user" => self.user = Some(value.to_owned()),
            // `$user` and the like are the server's to read.
            "currentSchema" => {
                let plain = |name: &&str| name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
                self.schema = value.split(',').next().filter(plain).map(str::to_owned);
            }
            "ssl" if value.is_empty() || value == "true" => {
                self.mode = self.mode.or(Some("verify-full")); // as pgJDBC reads it
            }
            "sslfactory" if value.ends_with("NonValidatingFactory") => self.mode = Some("require"),
            "sslfactory" => findings.refuse(
                OPTION,
                "has the parameter sslfactory: classes are not run: write sslmode \
                                                     and sslrootcert",
            ),
            "loadBalanceHosts" if value == "true" => {
                self.kept.push(("load_balance_hosts", "random".to_owned()))
            }
            _ => {}
        }
    }

    fn query(&self) -> String {
        let mut all: Vec<String> = self.kept.iter().map(|(name, value)| format!("{name}={value}")).collect();
        if let Some(mode) = self.mode
            && !self.kept.iter().any(|(name, _)| *name == "sslmode")
        {
            all.push(format!("sslmode={mode}"));
        }
        if all.is_empty() { String::new() } else { format!("?{}", all.join("&")) }
    }
}
