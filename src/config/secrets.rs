//! What the Kafka client is to be shown that is not in its properties, and how the two fit together.

use super::check::exclusive;
use super::settings::{Config, PartialConfig};
use super::table::Place;
use super::tokens;
use crate::consumer::access::Issuer;
use crate::error::Result;
use crate::secret::Source;

/// Where the secrets of the Kafka client are, as far as they are not in its properties.
#[derive(Debug, Clone, Default)]
pub(crate) struct KafkaSecrets {
    pub(crate) password: Option<Source>,
    pub(crate) key_password: Option<Source>,
    /// Who gives out tokens.
    pub(crate) tokens: Option<Issuer>,
    /// Of these tokens.
    pub(crate) extensions: Vec<(String, String)>,
}

impl KafkaSecrets {
    /// As the settings say.
    pub(crate) fn of(config: &Config) -> Self {
        let source = |file: &Option<String>, command| Source::new(file.as_deref(), command);
        Self {
            password: source(&config.kafka_password_file, config.kafka_password_command.as_ref()),
            key_password: source(&config.kafka_key_password_file, config.kafka_key_password_command.as_ref()),
            tokens: tokens::issuer(config),
            extensions: tokens::extensions(config),
        }
    }

    /// Whether there is one.
    pub(crate) fn any(&self) -> bool {
        self.password.is_some() || self.key_password.is_some() || self.tokens.is_some()
    }
}

/// Files, and folders of files, that a Kafka client reads when it is made and never again.
const FILES: &[&str] = &[
    "ssl.ca.location",
    "ssl.certificate.location",
    "ssl.crl.location",
    "ssl.key.location",
    "ssl.keystore.location",
];

/// Those among these properties.
pub(crate) fn files_of(properties: &[(String, String)]) -> impl Iterator<Item = &str> {
    let named = properties.iter().filter(|(name, _)| FILES.contains(&name.as_str()));
    // A word instead of a path: the client looks where systems keep them.
    named.map(|(_, path)| path.as_str()).filter(|path| *path != "probe")
}

/// Refuses settings that contradict each other, or would be shown to nobody.
pub(super) fn check_security(config: &Config, layer: &PartialConfig) -> Result<()> {
    let place = |name, env| -> Place<'static> { layer.place(name, env) };
    let password = exclusive(
        ("kafka_password_file", "HIGHWATER_KAFKA_PASSWORD_FILE", config.kafka_password_file.is_some()),
        (
            "kafka_password_command",
            "HIGHWATER_KAFKA_PASSWORD_COMMAND",
            config.kafka_password_command.is_some(),
        ),
        place,
    )?;
    let key_password = exclusive(
        (
            "kafka_key_password_file",
            "HIGHWATER_KAFKA_KEY_PASSWORD_FILE",
            config.kafka_key_password_file.is_some(),
        ),
        (
            "kafka_key_password_command",
            "HIGHWATER_KAFKA_KEY_PASSWORD_COMMAND",
            config.kafka_key_password_command.is_some(),
        ),
        place,
    )?;
    let token = tokens::check_tokens(config, layer)?;
    let of = |property: &str| config.kafka.get(property);
    for (given, property) in [(&password, "sasl.password"), (&key_password, "ssl.key.password")] {
        if let Some(given) = given
            && of(property).is_some()
        {
            let defect = format!("is set, but so is `kafka.{property}`: take one of the two out");
            return Err(given.error(&defect));
        }
    }
    let protocol = of("security.protocol").unwrap_or("plaintext").to_lowercase();
    let mechanism = of("sasl.mechanisms").unwrap_or("GSSAPI");
    if let Some(given) = token.as_ref().filter(|_| mechanism != "OAUTHBEARER") {
        return Err(
            given.error("is set, but `kafka.sasl.mechanisms` is not OAUTHBEARER: set it, or take this out")
        );
    }
    let takes_passwords = mechanism == "PLAIN" || mechanism.starts_with("SCRAM-");
    if let Some(given) = password.as_ref().filter(|_| !takes_passwords) {
        return Err(given.error(&format!(
            "is set, but `kafka.sasl.mechanisms` is {mechanism}, which shows no password: set PLAIN, SCRAM-SHA-256 or \
             SCRAM-SHA-512"
        )));
    }
    if let Some(given) = key_password.as_ref().filter(|_| of("ssl.key.location").is_none()) {
        return Err(given.error("is set, but `kafka.ssl.key.location` is not: set it, or take this out"));
    }
    if let Some(given) = password.or(token).filter(|_| !protocol.starts_with("sasl_")) {
        return Err(given.error(&format!(
            "is set, but `kafka.security.protocol` is {protocol}, so that nobody would be shown it: set SASL_SSL (or \
             SASL_PLAINTEXT, where everybody on the way may read it)"
        )));
    }
    Ok(())
}

/// Which properties would be shown to nobody, in words for a warning.
fn ignored(config: &Config) -> Option<String> {
    let protocol = config.kafka.get("security.protocol").unwrap_or("plaintext").to_lowercase();
    let is_sasl = |name: &str| ["sasl.username", "sasl.password", "sasl.mechanisms"].contains(&name);
    let is_tls = |name: &str| FILES.contains(&name);
    let ignored: Vec<&str> = config
        .kafka
        .iter()
        .map(|(name, _)| name)
        .filter(|name| {
            (is_sasl(name) && !protocol.starts_with("sasl_")) || (is_tls(name) && !protocol.ends_with("ssl"))
        })
        .collect();
    (!ignored.is_empty()).then(|| {
        format!("`kafka.security.protocol` is {protocol}, so that {} will be ignored", ignored.join(", "))
    })
}

/// Everything about these settings that is to be warned of.
pub(crate) fn warnings(config: &Config) -> impl Iterator<Item = String> {
    ignored(config).into_iter().chain(tokens::open(config))
}

#[cfg(test)]
mod tests {
    use crate::PartialConfig;
    use crate::config::tests::partial;

    #[test]
    fn what_would_be_ignored_or_contradicts_itself_is_refused() {
        let sasl = || partial().kafka("security.protocol", "SASL_PLAINTEXT").kafka("sasl.username", "me");
        let plain = || sasl().kafka("sasl.mechanism", "PLAIN");
        for (layer, words) in [
            (partial().kafka_password_file(Some("/p".to_owned())), "which shows no password"),
            (
                partial().kafka("sasl.mechanism", "PLAIN").kafka_password_file(Some("/p".to_owned())),
                "set SASL_SSL",
            ),
            (partial().kafka_key_password_file(Some("/p".to_owned())), "`kafka.ssl.key.location` is not"),
            (
                plain().kafka("sasl.password", "x").kafka_password_file(Some("/p".to_owned())),
                "so is `kafka.sasl.password`",
            ),
            (
                plain().kafka_password_file(Some("/p".to_owned())).kafka_password_command(Some("x".into())),
                "choose one of the two",
            ),
            (plain().kafka_token_file(Some("/t".to_owned())), "is not OAUTHBEARER"),
        ] {
            let error = layer.finish().unwrap_err();
            assert!(error.is_configuration() && error.to_string().contains(words), "{error}");
        }
        assert!(plain().kafka_password_file(Some("/p".to_owned())).finish().is_ok());
        let words = |layer: PartialConfig| super::ignored(&layer.finish().unwrap()).unwrap_or_default();
        for layer in [partial().kafka("sasl.username", "me"), partial().kafka("ssl.ca.location", "/ca")] {
            assert!(words(layer).contains("will be ignored"));
        }
        assert!(words(sasl().kafka("ssl.ca.location", "/ca")).contains("ssl.ca.location will be ignored"));
        assert_eq!(words(plain()), "");
        let oauth = sasl().kafka("sasl.mechanisms", "OAUTHBEARER");
        assert!(oauth.kafka_token_command(Some("x".into())).finish().is_ok());
    }
}
