//! Tokens for Kafka: who gives them out, and which settings go together.

use super::check::exclusive;
use super::settings::{Config, PartialConfig};
use super::table::Place;
use crate::consumer::access::{Issuer, TokenServer, is_extension};
use crate::error::{Error, Result};
use crate::http::{Address, Trust};
use crate::secret::Source;

/// As the settings say; `None` if none does.
pub(super) fn issuer(config: &Config) -> Option<Issuer> {
    let Some(url) = &config.kafka_token_url else {
        let source = Source::new(config.kafka_token_file.as_deref(), config.kafka_token_command.as_ref());
        return source.map(Issuer::Read);
    };
    let secret =
        Source::new(config.kafka_client_secret_file.as_deref(), config.kafka_client_secret_command.as_ref());
    Some(Issuer::Server(TokenServer {
        address: Address::parse(url).ok()?,
        trust: trust(config),
        client_id: config.kafka_token_client_id.clone()?,
        secret: secret.or_else(|| config.kafka_client_secret.clone().map(Source::Value))?,
        scope: config.kafka_token_scope.clone(),
    }))
}

/// Whom the token server's certificate must come from: the same as the brokers', unless that is said.
fn trust(config: &Config) -> Trust {
    let location = config.kafka.get("ssl.ca.location").filter(|location| *location != "probe");
    match (&config.kafka_token_ca, location, config.kafka.get("ssl.ca.pem")) {
        (Some(said), ..) => Trust::new(said),
        (None, Some(location), _) => Trust::Path(location.into()),
        (None, None, Some(pem)) => Trust::Pem(pem.to_owned()),
        (None, None, None) => Trust::System,
    }
}

/// `name=value` each.
pub(super) fn extensions(config: &Config) -> Vec<(String, String)> {
    let split = |item: &String| item.split_once('=').map(|(name, value)| (name.to_owned(), value.to_owned()));
    config.kafka_token_extensions.iter().filter_map(split).collect()
}

/// Each is `name=value`.
pub(super) fn check_extensions(items: &[String]) -> Result<(), String> {
    let is_one = |item: &&String| item.split_once('=').is_some_and(|(name, value)| is_extension(name, value));
    match items.iter().position(|item| !is_one(&item)) {
        Some(at) => Err(format!("number {} is no `name=value` with a name of letters", at + 1)),
        None => Ok(()),
    }
}

/// Who gives out tokens, in words for an error: refuses several, and a server without what it is to be shown.
pub(super) fn check_tokens(config: &Config, layer: &PartialConfig) -> Result<Option<Place<'static>>> {
    let place = |name, env| -> Place<'static> { layer.place(name, env) };
    let url = ("kafka_token_url", "HIGHWATER_KAFKA_TOKEN_URL", config.kafka_token_url.is_some());
    let file = ("kafka_token_file", "HIGHWATER_KAFKA_TOKEN_FILE", config.kafka_token_file.is_some());
    let command =
        ("kafka_token_command", "HIGHWATER_KAFKA_TOKEN_COMMAND", config.kafka_token_command.is_some());
    exclusive(url, file, place)?;
    exclusive(url, command, place)?;
    let read = exclusive(file, command, place)?;

    let id =
        ("kafka_token_client_id", "HIGHWATER_KAFKA_TOKEN_CLIENT_ID", config.kafka_token_client_id.is_some());
    let value =
        ("kafka_client_secret", "HIGHWATER_KAFKA_CLIENT_SECRET", config.kafka_client_secret.is_some());
    let in_file = (
        "kafka_client_secret_file",
        "HIGHWATER_KAFKA_CLIENT_SECRET_FILE",
        config.kafka_client_secret_file.is_some(),
    );
    let printed = (
        "kafka_client_secret_command",
        "HIGHWATER_KAFKA_CLIENT_SECRET_COMMAND",
        config.kafka_client_secret_command.is_some(),
    );
    let scope = ("kafka_token_scope", "HIGHWATER_KAFKA_TOKEN_SCOPE", config.kafka_token_scope.is_some());
    let ca = ("kafka_token_ca", "HIGHWATER_KAFKA_TOKEN_CA", config.kafka_token_ca.is_some());
    exclusive(value, in_file, place)?;
    exclusive(value, printed, place)?;
    exclusive(in_file, printed, place)?;
    if !url.2 {
        let shown = [id, value, in_file, printed, scope, ca].into_iter().find(|(_, _, is_set)| *is_set);
        return match shown {
            Some((name, env, _)) => Err(place(name, env)
                .error("is set, but `kafka_token_url` is not, so that no server is asked: set it")),
            None => Ok(read),
        };
    }
    let url = place(url.0, url.1);
    if !id.2 {
        return Err(url.error("is set, but `kafka_token_client_id` is not: say as whom to ask"));
    }
    if !(value.2 || in_file.2 || printed.2) {
        return Err(url.error(
            "is set, but there is no secret to show: set `kafka_client_secret_file`, `kafka_client_secret_command` or \
             `kafka_client_secret`",
        ));
    }
    Ok(Some(url))
}

/// Whether a program's own source of tokens is the one that will be asked.
pub(crate) fn check_own_tokens(config: &Config) -> Result<()> {
    let other = [
        ("kafka_token_url", config.kafka_token_url.is_some()),
        ("kafka_token_file", config.kafka_token_file.is_some()),
        ("kafka_token_command", config.kafka_token_command.is_some()),
    ];
    if let Some((name, _)) = other.into_iter().find(|(_, is_set)| *is_set) {
        return Err(Error::configuration(format!(
            "the program gives out tokens itself (`kafka_tokens`), but `{name}` is set, too: take one of the two out"
        )));
    }
    let is_sasl =
        config.kafka.get("security.protocol").is_some_and(|name| name.to_lowercase().starts_with("sasl_"));
    if !is_sasl || config.kafka.get("sasl.mechanisms") != Some("OAUTHBEARER") {
        return Err(Error::configuration(
            "the program gives out tokens for Kafka (`kafka_tokens`), but nobody would be shown them: set \
             `kafka.security.protocol` to SASL_SSL and `kafka.sasl.mechanism` to OAUTHBEARER",
        ));
    }
    Ok(())
}

/// What others on the way may read, in words for a warning.
pub(super) fn open(config: &Config) -> Option<String> {
    let address = Address::parse(config.kafka_token_url.as_ref()?).ok()?;
    address.is_open().then(|| {
        format!(
            "`kafka_token_url` is {address}, without TLS: everybody on the way may read the client's secret"
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::tests;

    fn partial() -> PartialConfig {
        tests::partial().kafka("security.protocol", "SASL_PLAINTEXT").kafka("sasl.mechanism", "OAUTHBEARER")
    }

    fn asking() -> PartialConfig {
        partial()
            .kafka_token_url(Some("https://id/token".to_owned()))
            .kafka_token_client_id(Some("me".to_owned()))
    }

    fn complete() -> PartialConfig {
        asking().kafka_client_secret(Some("s3cret".into()))
    }

    #[test]
    fn what_does_not_fit_together_is_refused() {
        let text = |text: &str| Some(text.to_owned());
        for (layer, words) in [
            (complete().kafka_token_file(text("/t")), "choose one of the two"),
            (complete().kafka_token_command(Some("x".into())), "choose one of the two"),
            (complete().kafka_client_secret_file(text("/s")), "choose one of the two"),
            (asking(), "there is no secret to show"),
            (complete().kafka_token_client_id(None), "say as whom to ask"),
            (partial().kafka_token_scope(text("x")), "`kafka_token_url` is not"),
            (partial().kafka_client_secret(Some("s3cret".into())), "`kafka_token_url` is not"),
            (complete().kafka("sasl.mechanism", "PLAIN"), "is not OAUTHBEARER"),
            (complete().kafka("security.protocol", "SSL"), "so that nobody would be shown it"),
            (complete().kafka_token_url(text("id.example")), "begins with neither"),
            (complete().kafka_token_extensions(vec!["a-b=s3cret".to_owned()]), "number 1 is no"),
            (
                complete().kafka_token_extensions(vec!["a=b".to_owned(), "s3cret".to_owned()]),
                "number 2 is no",
            ),
        ] {
            let error = layer.finish().unwrap_err().to_string();
            assert!(error.contains(words) && !error.contains("s3cret"), "{error}");
        }
    }

    #[test]
    fn a_servers_settings_become_a_server() {
        let server = |layer: PartialConfig| match issuer(&layer.finish().unwrap()) {
            Some(Issuer::Server(server)) => server,
            other => panic!("{other:?}"),
        };
        assert_eq!(server(complete()).trust, Trust::System);
        let located = complete().kafka("ssl.ca.location", "/ca");
        assert_eq!(server(located.clone()).trust, Trust::Path("/ca".into()));
        assert_eq!(server(located.kafka_token_ca(Some("system".to_owned()))).trust, Trust::System);
        let config =
            complete().kafka_token_extensions(vec!["logicalCluster=lkc=1".to_owned()]).finish().unwrap();
        assert_eq!(extensions(&config), [("logicalCluster".to_owned(), "lkc=1".to_owned())]);
        assert!(!format!("{config:?} {:?}", issuer(&config)).contains("s3cret"));
        assert_eq!(open(&config), None);
        let config = complete().kafka_token_url(Some("http://id.example/t".to_owned())).finish().unwrap();
        assert!(open(&config).unwrap().contains("http://id.example:80, without TLS"));
    }
}
