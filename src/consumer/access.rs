//! What the Kafka clients of one process are made of, and what they show to brokers: one factory for all of them.
//!
//! librdkafka takes passwords and tokens by call while a client runs, and reads certificates only when a client is made.
//! So what has changed is either shown by the clients that there are, or needs new ones (librdkafka#2868).

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rdkafka::ClientConfig;
use rdkafka::admin::AdminClient;
use rdkafka::client::ClientContext;
use rdkafka::config::FromClientConfigAndContext;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::KafkaError;
use rdkafka::producer::Producer as _;

use super::context::Context;
use super::ffi::{self, Client};
use super::outbox::{Answers, Sender};
use crate::config::{KafkaSecrets, files_of};
use crate::secret::Source;

mod files;
mod issuer;
mod token;
mod unread;

pub(crate) use issuer::{Issuer, OwnTokens, TokenServer};
pub(crate) use token::is_extension;
use token::{Token, now_ms};
pub(crate) use unread::{Cause, Unread};

/// How long a password that a command has printed is taken for the present one, unless it is refused.
const PASSWORDS_LAST: Duration = Duration::from_secs(300);

/// What is not as the clients have it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Change {
    /// A password or a token: clients that run can be told.
    pub(crate) credentials: bool,
    /// Certificates, keys, authorities: they take new clients.
    pub(crate) files: bool,
}

impl Change {
    /// Whether there is any.
    pub(crate) fn any(self) -> bool {
        self.credentials || self.files
    }
}

/// Makes clients.
pub(crate) struct Access {
    properties: Vec<(String, String)>,
    secrets: KafkaSecrets,
    present: Mutex<Present>,
    /// What the clients that there are were made of, or told since.
    used: Mutex<Shown>,
    /// The last reading got none, for who gives out tokens does not answer.
    waits: AtomicBool,
}

#[derive(Default)]
struct Present {
    shown: Shown,
    passwords_read: Option<Instant>,
}

#[derive(Clone, Default)]
struct Shown {
    password: Option<String>,
    key_password: Option<String>,
    token: Option<Token>,
    files: Option<files::Digest>,
}

impl std::fmt::Debug for Access {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Access").finish_non_exhaustive()
    }
}

impl Access {
    /// From a consumer's properties, and where the secrets are that they lack. Reads these, which may block.
    ///
    /// # Errors
    /// If one of them cannot be read.
    pub(crate) fn open(
        properties: Vec<(String, String)>,
        secrets: KafkaSecrets,
    ) -> Result<Arc<Self>, Unread> {
        let this = Self {
            properties,
            secrets,
            present: Mutex::default(),
            used: Mutex::default(),
            waits: AtomicBool::new(false),
        };
        if this.is_without_tokens() {
            return Err(Unread::missing(
                "`kafka.sasl.mechanisms` is OAUTHBEARER, but nobody gives out tokens: set `kafka_token_url`, \
                 `kafka_token_command` or `kafka_token_file`",
            ));
        }
        this.refresh(true)?;
        this.is_used();
        Ok(Arc::new(this))
    }

    /// Reads secrets and files again; may block. `refused`: Kafka does not take the present ones, so that commands are run
    /// again, and tokens asked for, before their time. Says what is not as the clients have it, until
    /// [`is_used`](Self::is_used) is said.
    ///
    /// # Errors
    /// If a secret cannot be read; the one before stays.
    pub(crate) fn refresh(&self, refused: bool) -> Result<Change, Unread> {
        let read = self.read(refused);
        self.waits.store(matches!(&read, Err(unread) if unread.cause == Cause::Away), Ordering::Relaxed);
        read
    }

    /// Whether who gives out tokens did not answer when it was asked last: that Kafka refuses an old one is no wonder then.
    pub(crate) fn is_waiting(&self) -> bool {
        self.waits.load(Ordering::Relaxed)
    }

    /// In how long there should be a new token, if there is one that will expire.
    pub(crate) fn due_in(&self) -> Option<Duration> {
        self.present().shown.token.as_ref().map(|token| token.due_in(now_ms()))
    }

    fn read(&self, refused: bool) -> Result<Change, Unread> {
        let (mut now, mut read) = {
            let present = self.present();
            (present.shown.clone(), present.passwords_read)
        };
        let aged = read.is_none_or(|read| read.elapsed() >= PASSWORDS_LAST);
        let is_due = |source: &Source| refused || aged || matches!(source, Source::File(_));
        for (source, setting, secret) in [
            (&self.secrets.password, "kafka_password", &mut now.password),
            (&self.secrets.key_password, "kafka_key_password", &mut now.key_password),
        ] {
            if let Some(source) = source.as_ref().filter(|source| is_due(source)) {
                *secret = Some(text(source, setting).map_err(Unread::missing)?);
                read = Some(Instant::now());
            }
        }
        if let Some(issuer) = &self.secrets.tokens {
            let is_due = now.token.as_ref().is_none_or(|token| token.is_due(now_ms()));
            if refused || is_due || issuer.is_file() {
                let mut given = issuer.token()?;
                let stays = |token: &Token| token.text == given.text && !token.may_last(now_ms());
                if !now.token.as_ref().is_some_and(stays) {
                    given.extensions.extend(self.secrets.extensions.iter().cloned());
                    let token = Token::new(given, now_ms());
                    now.token = Some(token.map_err(|why| Unread::missing(format!("kafka_token: {why}")))?);
                }
            }
        }
        now.files = files::digest(files_of(&self.properties));
        let change = {
            let used = self.used.lock().unwrap_or_else(PoisonError::into_inner);
            Change {
                credentials: now.password != used.password || now.token != used.token,
                files: now.files != used.files || now.key_password != used.key_password,
            }
        };
        *self.present() = Present { shown: now, passwords_read: read };
        Ok(change)
    }

    fn is_without_tokens(&self) -> bool {
        let of = |wanted: &str| self.properties.iter().find(|(name, _)| name == wanted);
        let is_oauth = of("sasl.mechanisms").is_some_and(|(_, mechanism)| mechanism == "OAUTHBEARER");
        let is_sasl =
            of("security.protocol").is_some_and(|(_, name)| name.to_lowercase().starts_with("sasl_"));
        is_oauth && is_sasl && self.secrets.tokens.is_none()
    }

    /// The clients are made of what was read last, or were told it.
    pub(crate) fn is_used(&self) {
        let shown = self.present().shown.clone();
        *self.used.lock().unwrap_or_else(PoisonError::into_inner) = shown;
    }

    /// Whether anything may change without a restart.
    pub(crate) fn may_change(&self) -> bool {
        self.secrets.any() || files_of(&self.properties).next().is_some()
    }

    fn present(&self) -> MutexGuard<'_, Present> {
        self.present.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The properties as they are now, secrets among them, as far as `wanted` takes their names. (A `ClientConfig` that is
    /// there already must not be asked for them: it gives a placeholder for each that is secret.)
    pub(crate) fn properties_if(&self, wanted: impl Fn(&str) -> bool) -> ClientConfig {
        let mut config = ClientConfig::new();
        for (name, value) in self.properties.iter().filter(|(name, _)| wanted(name)) {
            config.set(name, value);
        }
        if wanted("ssl.ca.location") && self.authorities_are_to_be_found() {
            config.set("ssl.ca.location", "probe");
        }
        let present = self.present();
        let secrets =
            [("sasl.password", &present.shown.password), ("ssl.key.password", &present.shown.key_password)];
        for (name, value) in secrets.into_iter().filter(|(name, _)| wanted(name)) {
            if let Some(value) = value {
                config.set(name, value);
            }
        }
        config
    }

    /// An OpenSSL that is linked in looks for the authorities where it was compiled to, which is nowhere
    /// (rust-rdkafka#594); librdkafka knows where distributions have them.
    fn authorities_are_to_be_found(&self) -> bool {
        let value =
            |name: &str| self.properties.iter().rfind(|(given, _)| given == name).map(|(_, value)| value);
        cfg!(feature = "kafka-tls-vendored")
            && value("security.protocol")
                .is_some_and(|protocol| protocol.to_ascii_lowercase().ends_with("ssl"))
            && value("ssl.ca.location").or(value("ssl.ca.pem")).is_none()
    }

    /// All properties as they are now, secrets among them.
    pub(crate) fn properties(&self) -> ClientConfig {
        self.properties_if(|_| true)
    }

    /// A consumer of these properties, which are some of [`properties`](Self::properties) and others beside them.
    ///
    /// # Errors
    /// If the client refuses them.
    pub(crate) fn consumer(&self, config: &ClientConfig) -> Result<Client, KafkaError> {
        let client = BaseConsumer::from_config_and_context(config, Context)?;
        self.show_token(client.client())?;
        Ok(client)
    }

    /// As [`consumer`](Self::consumer), a client that administers.
    ///
    /// # Errors
    /// If the client refuses its properties.
    pub(crate) fn admin(&self, config: &ClientConfig) -> Result<AdminClient<Context>, KafkaError> {
        let client: AdminClient<Context> = AdminClient::from_config_and_context(config, Context)?;
        self.show_token(client.inner())?;
        Ok(client)
    }

    /// As [`consumer`](Self::consumer), a client that writes.
    ///
    /// # Errors
    /// If the client refuses its properties.
    pub(crate) fn sender(&self, config: &ClientConfig, answers: Answers) -> Result<Sender, KafkaError> {
        let client = Sender::from_config_and_context(config, answers)?;
        self.show_token(client.client())?;
        Ok(client)
    }

    fn show_token<C: ClientContext>(&self, client: &rdkafka::client::Client<C>) -> Result<(), KafkaError> {
        // The client does not take one that has expired. Without any it waits, too, and is told the next.
        let token = self.present().shown.token.clone().filter(|token| token.expires_ms > now_ms());
        token.map_or(Ok(()), |token| {
            ffi::access::set_token(client, &token.text, token.expires_ms, &token.principal, &token.extensions)
                .map_err(|why| KafkaError::ClientCreation(format!("kafka_token: {why}")))
        })
    }

    /// Tells a client that runs the present password, or the present token.
    pub(crate) fn show(&self, client: &Client) {
        let shown = self.show_token(client.client()).map_err(|error| error.to_string());
        let password = self.present().shown.password.clone();
        let user = self.properties.iter().find(|(name, _)| name == "sasl.username");
        let shown = match (shown, user, password) {
            (Ok(()), Some((_, user)), Some(password)) => {
                ffi::access::set_credentials(client.client(), user, &password)
            }
            (shown, ..) => shown,
        };
        if let Err(why) = shown {
            tracing::warn!(why, "the Kafka client does not take the new credentials");
        }
    }
}

/// A secret as text; errors name the setting, and never what it holds.
fn text(source: &Source, setting: &str) -> Result<String, String> {
    let setting = source.setting(setting);
    let read = source.read().map_err(|why| format!("could not read `{setting}`: {why}"))?;
    match String::from_utf8(read) {
        Ok(text) if !text.contains('\0') => Ok(text),
        _ => Err(format!("what `{setting}` gives is not text")),
    }
}

#[cfg(test)]
mod tests;
