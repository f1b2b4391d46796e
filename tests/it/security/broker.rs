//! A broker with a listener for each way in.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use highwater::PartialConfig;
use highwater::testing::{Kafka, Result};
use rcgen::ExtendedKeyUsagePurpose::ServerAuth;

use crate::support::certificates::Authority;

pub(super) const USER: &str = "worker";
/// Somebody else; of PLAIN alone.
pub(super) const LOOKER: &str = "looker";
pub(super) const PASSWORD: &str = "pl4nted-pa55word";

/// Listeners and what they ask for.
const LISTENERS: [(&str, &str); 6] = [
    ("TLS", "SSL"),
    ("MUTUAL", "SSL"),
    ("EXPIRED", "SSL"),
    ("PLAIN", "SASL_SSL"),
    ("SCRAM", "SASL_SSL"),
    ("OAUTH", "SASL_PLAINTEXT"),
];

pub(super) struct Broker {
    pub(super) kafka: Kafka,
    /// Whom clients are to trust.
    pub(super) authority: Authority,
    /// Whose clients the broker trusts.
    pub(super) of_clients: Authority,
    folder: tempfile::TempDir,
}

impl Broker {
    /// `reauthenticate_ms`: for how long a session that SCRAM or a token has opened may live.
    pub(super) async fn start(reauthenticate_ms: Option<u32>) -> Result<Self> {
        Self::start_with(reauthenticate_ms, &[]).await
    }

    /// As [`start`](Self::start), with properties of the test's own.
    pub(super) async fn start_with(reauthenticate_ms: Option<u32>, own: &[(&str, &str)]) -> Result<Self> {
        let (root, of_clients) = (Authority::new("root"), Authority::new("clients"));
        let folder = tempfile::tempdir()?;
        let write = |name: &str, text: String| -> std::io::Result<String> {
            let path = folder.path().join(name);
            std::fs::write(&path, text)?;
            Ok(path.display().to_string())
        };
        // As in the field: the broker's certificate is an intermediate authority's, and is shown with that one's.
        let intermediate = root.subordinate("intermediate");
        let (certificate, key) = intermediate.issue(&["localhost"], ServerAuth);
        let server = write("server.pem", format!("{key}{certificate}{}", intermediate.pem))?;
        let (certificate, key) = root.expired(&["localhost"], ServerAuth);
        let expired = write("expired.pem", format!("{key}{certificate}"))?;
        let trusted = write("clients.pem", of_clients.pem.clone())?;

        let jaas = "org.apache.kafka.common.security";
        let mut properties: Vec<(String, String)> = Vec::new();
        let mut set = |listener: &str, name: &str, value: &str| {
            properties.push((format!("listener.name.{listener}.{name}"), value.to_owned()));
        };
        for (listener, _) in LISTENERS {
            let listener = listener.to_lowercase();
            set(&listener, "ssl.keystore.type", "PEM");
            set(&listener, "ssl.keystore.location", if listener == "expired" { &expired } else { &server });
        }
        set("mutual", "ssl.client.auth", "required");
        set("mutual", "ssl.truststore.type", "PEM");
        set("mutual", "ssl.truststore.location", &trusted);
        set("plain", "sasl.enabled.mechanisms", "PLAIN");
        let plain = format!(
            "{jaas}.plain.PlainLoginModule required user_{USER}=\"{PASSWORD}\" user_{LOOKER}=\"{PASSWORD}\";"
        );
        set("plain", "plain.sasl.jaas.config", &plain);
        set("scram", "sasl.enabled.mechanisms", "SCRAM-SHA-256,SCRAM-SHA-512");
        for mechanism in ["scram-sha-256", "scram-sha-512"] {
            let login = format!("{jaas}.scram.ScramLoginModule required;");
            set("scram", &format!("{mechanism}.sasl.jaas.config"), &login);
        }
        set("oauth", "sasl.enabled.mechanisms", "OAUTHBEARER");
        let login = format!(
            "{jaas}.oauthbearer.OAuthBearerLoginModule required unsecuredLoginStringClaim_sub=\"b\";"
        );
        set("oauth", "oauthbearer.sasl.jaas.config", &login);
        if let Some(ms) = reauthenticate_ms {
            for (listener, mechanism) in [("scram", "scram-sha-512"), ("oauth", "oauthbearer")] {
                let name = format!("{mechanism}.connections.max.reauth.ms");
                set(listener, &name, &ms.to_string());
            }
        }
        let properties: Vec<_> = properties
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str()))
            .chain(own.iter().copied())
            .collect();
        let kafka = Kafka::start_listening(&LISTENERS, &properties).await?;
        Ok(Self { kafka, authority: root, of_clients, folder })
    }

    /// Gives the user a password for a kind of SCRAM.
    pub(super) async fn set_password(&self, mechanism: &str, password: &str) -> Result<()> {
        self.credential("--add-config", &format!("{mechanism}=[password={password}]")).await
    }

    /// The user has no password of that kind any more.
    pub(super) async fn delete_password(&self, mechanism: &str) -> Result<()> {
        self.credential("--delete-config", mechanism).await
    }

    async fn credential(&self, verb: &str, credential: &str) -> Result<()> {
        let arguments = ["--alter", verb, credential, "--entity-type", "users", "--entity-name", USER];
        let output = self.kafka.tool("kafka.admin.ConfigCommand", &arguments).await?;
        assert_eq!(output.status, Some(0), "{output:?}");
        Ok(())
    }

    /// Whose clients MUTUAL lets in from the broker's next start on.
    pub(super) fn trust_clients_of(&self, authority: &Authority) {
        self.write("clients.pem", &authority.pem);
    }

    /// A file of the test's own.
    pub(super) fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.folder.path().join(name);
        std::fs::write(&path, text).expect("a file of the test's own");
        path
    }

    /// `settings` for a listener, under the host name that its certificate has.
    pub(super) fn through(&self, settings: PartialConfig, listener: &str) -> PartialConfig {
        let (_, protocol) = LISTENERS.iter().find(|(name, _)| *name == listener).expect("a listener");
        let settings = settings
            .brokers(vec![format!("localhost:{}", self.kafka.listener(listener))])
            .kafka("broker.address.family", "v4")
            .kafka("security.protocol", *protocol);
        if protocol.ends_with("SSL") { trusting(settings, &self.authority.root_file()) } else { settings }
    }
}

/// Trusts this authority, or those of a folder.
pub(super) fn trusting(settings: PartialConfig, path: &Path) -> PartialConfig {
    settings.kafka("ssl.ca.location", path.display().to_string())
}

/// Shows a password by a mechanism.
pub(super) fn sasl(settings: PartialConfig, mechanism: &str, password: &Path) -> PartialConfig {
    settings
        .kafka("sasl.mechanism", mechanism)
        .kafka("sasl.username", USER)
        .kafka_password_file(Some(password.display().to_string()))
}

/// A token as the broker takes it without a signature; it lasts for so long.
pub(super) fn token(lasts: Duration) -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let claims = format!(r#"{{"sub":"{USER}","iat":{now},"exp":{}}}"#, now + lasts.as_secs());
    let [head, claims] = [r#"{"alg":"none"}"#, &claims].map(|part| URL_SAFE_NO_PAD.encode(part));
    format!("{head}.{claims}.")
}

/// A command that prints a token as the broker takes it without a signature; it lasts for so long.
pub(super) fn token_command(seconds: u32) -> String {
    format!(
        "e() {{ base64 -w0 | tr '+/' '-_' | tr -d '='; }}; n=$(date +%s); printf '{{\"alg\":\"none\"}}' | e; printf .; \
         printf '{{\"sub\":\"{USER}\",\"iat\":%s,\"exp\":%s}}' $n $((n + {seconds})) | e; printf ."
    )
}

/// A key that nobody can use without the password, by the system's OpenSSL.
pub(super) fn locked(broker: &Broker, key: &str) -> PathBuf {
    let (plain, locked) = (broker.write("plain.key", key), broker.write("locked.key", ""));
    let mut command = Command::new("openssl");
    command.args(["pkcs8", "-topk8", "-passout", &format!("pass:{PASSWORD}"), "-in"]);
    let status = command.arg(plain).arg("-out").arg(&locked).status().expect("openssl runs");
    assert!(status.success());
    locked
}
