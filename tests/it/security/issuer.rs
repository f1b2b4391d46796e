//! A server that gives out tokens for client credentials, as a company's identity server does.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use highwater::PartialConfig;
use rcgen::ExtendedKeyUsagePurpose::ServerAuth;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};

use super::broker::token;
use crate::support::certificates::Authority;

/// What it does with whoever asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mood {
    /// Gives a token to whoever shows the right secret.
    Gives,
    /// Says that it is busy.
    Busy,
}

pub(super) struct Issuer {
    pub(super) url: String,
    shared: Arc<Shared>,
}

struct Shared {
    mood: Mutex<Mood>,
    secret: Mutex<String>,
    lasts: Duration,
    given: Mutex<Vec<String>>,
    tls: Arc<ServerConfig>,
}

impl Issuer {
    /// Listens as `localhost`, with a certificate of this authority.
    pub(super) fn start(authority: &Authority, secret: &str, lasts: Duration) -> Self {
        let (certificate, key) = authority.issue(&["localhost"], ServerAuth);
        let chain = CertificateDer::pem_slice_iter(certificate.as_bytes()).collect::<Result<_, _>>();
        let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).expect("a key");
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let tls = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_no_client_auth()
            .with_single_cert(chain.expect("a certificate"), key)
            .expect("a certificate and its key");
        let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a port");
        let url = format!("https://localhost:{}/token", listener.local_addr().expect("an address").port());
        let shared = Arc::new(Shared {
            mood: Mutex::new(Mood::Gives),
            secret: Mutex::new(secret.to_owned()),
            lasts,
            given: Mutex::default(),
            tls: Arc::new(tls),
        });
        let serving = Arc::clone(&shared);
        // Ends with the process.
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                // Who does not trust its certificate hangs up.
                let _ = serving.serve(stream);
            }
        });
        Self { url, shared }
    }

    /// `settings` of somebody who asks it, and trusts its authority.
    pub(super) fn asked(
        &self,
        settings: PartialConfig,
        secret: &str,
        authority: &Authority,
    ) -> PartialConfig {
        settings
            .kafka("sasl.mechanism", "OAUTHBEARER")
            .kafka_token_url(Some(self.url.clone()))
            .kafka_token_client_id(Some("a client".to_owned()))
            .kafka_client_secret(Some(secret.into()))
            .kafka_token_scope(Some("kafka payments".to_owned()))
            .kafka_token_extensions(vec!["logicalCluster=lkc-1".to_owned()])
            .kafka_token_ca(Some(authority.root_file().display().to_string()))
    }

    pub(super) fn set(&self, mood: Mood) {
        *self.shared.mood.lock().expect("unpoisoned") = mood;
    }

    pub(super) fn set_secret(&self, secret: &str) {
        secret.clone_into(&mut self.shared.secret.lock().expect("unpoisoned"));
    }

    /// How many tokens it has given out.
    pub(super) fn given(&self) -> usize {
        self.tokens().len()
    }

    /// Those.
    pub(super) fn tokens(&self) -> Vec<String> {
        self.shared.given.lock().expect("unpoisoned").clone()
    }
}

impl Shared {
    fn serve(&self, stream: TcpStream) -> std::io::Result<()> {
        stream.set_read_timeout(Some(Duration::from_secs(5)))?;
        let tls = ServerConnection::new(Arc::clone(&self.tls)).map_err(std::io::Error::other)?;
        let mut reader = BufReader::new(StreamOwned::new(tls, stream));
        let (mut shown, mut length, mut line) = (String::new(), 0, String::new());
        while reader.read_line(&mut line)? > 2 {
            let (name, value) = line.trim_end().split_once(": ").unwrap_or_default();
            match name {
                "Authorization" => value.clone_into(&mut shown),
                "Content-Length" => length = value.parse().unwrap_or_default(),
                _ => {}
            }
            line.clear();
        }
        let mut body = vec![0; length];
        reader.read_exact(&mut body)?;
        // As a form has them (RFC 6749, 2.3.1).
        let secret = self.secret.lock().expect("unpoisoned").replace('+', "%2B").replace('/', "%2F");
        let right = format!("a%20client:{secret}");
        let is_right = shown == format!("Basic {}", STANDARD.encode(right))
            && body == b"grant_type=client_credentials&scope=kafka%20payments";
        let answer = match *self.mood.lock().expect("unpoisoned") {
            Mood::Busy => "HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n".to_owned(),
            Mood::Gives if !is_right => {
                let why = r#"{"error":"invalid_client","error_description":"who is that?"}"#;
                format!("HTTP/1.1 401 No\r\nContent-Length: {}\r\n\r\n{why}", why.len())
            }
            Mood::Gives => {
                let token = self.token();
                // In chunks, as most servers do it.
                let (first, second) = token.split_at(token.len() / 2);
                let chunk = |part: &str| format!("{:x}\r\n{part}\r\n", part.len());
                format!(
                    "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n{}{}0\r\n\r\n",
                    chunk(first),
                    chunk(second)
                )
            }
        };
        let stream = reader.get_mut();
        stream.write_all(answer.as_bytes())?;
        stream.conn.send_close_notify();
        stream.flush()
    }

    fn token(&self) -> String {
        let lasts = self.lasts.as_secs();
        let token = token(self.lasts);
        self.given.lock().expect("unpoisoned").push(token.clone());
        format!(r#"{{"access_token":"{token}","token_type":"Bearer","expires_in":{lasts}}}"#)
    }
}
