//! A schema registry: where schemas are asked for by what the records say of them.
//!
//! Confluent's API (<https://docs.confluent.io/platform/current/schema-registry/develop/api.html>), which Apicurio
//! (`/apis/ccompat/v7`), Karapace and Redpanda have, too. By the small client of our own, since `schema_registry_converter`
//! keeps a 404 for good, and its HTTP client writes what it sends to the log at TRACE.

use std::collections::HashSet;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Deserialize;

use super::file::{RegistryEntry, SecretEntry};
use super::wire::SchemaId;
use crate::config::{PasswordCommand, duration};
use crate::http::{Address, Failed, Trust, get};
use crate::secret::Source;

/// For one question, to one server.
const LIMIT: Duration = Duration::from_secs(5);
/// Of a schema's text; Confluent's own bound is 1 MiB.
const LONGEST: usize = 8 << 20;
/// More schemas does none refer to.
const MAX_REFERENCES: usize = 500;
/// How long a schema that the registry does not know yet is waited for.
const SCHEMA_WAIT: Duration = Duration::from_secs(300);

/// All but what RFC 3986 calls unreserved.
const SUBJECT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');

/// The servers, and what they are shown.
#[derive(Debug)]
pub(crate) struct Registry {
    servers: Vec<Address>,
    trust: Trust,
    shown: Shown,
    pub(crate) schema_wait: Duration,
    /// Who has answered last.
    next: AtomicUsize,
}

#[derive(Debug)]
enum Shown {
    Nothing,
    Password(String, Source),
    Token(Source),
}

/// What a registry has of a schema.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Found {
    /// `AVRO`, `PROTOBUF`, `JSON`.
    pub(crate) kind: String,
    pub(crate) text: String,
    /// Those that it refers to, by the names under which it does, each before those that refer to it.
    pub(crate) references: Vec<(String, String)>,
}

/// Why there is none.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Missing {
    /// The registry does not know it, or one that it refers to: this one. It may not know it yet.
    Unknown(SchemaId),
    /// Nobody has answered, or not as a registry does: this may pass.
    Away(String),
}

#[derive(Deserialize)]
struct Answered {
    schema: String,
    #[serde(rename = "schemaType")]
    kind: Option<String>,
    #[serde(default)]
    references: Option<Vec<Reference>>,
}

#[derive(Deserialize)]
struct Reference {
    name: String,
    subject: String,
    version: u32,
}

impl Registry {
    /// # Errors
    /// What is wrong with the entry.
    pub(crate) fn new(entry: &RegistryEntry) -> Result<Self, String> {
        let servers: Vec<_> = entry.url.0.iter().map(|url| Address::parse(url)).collect::<Result<_, _>>()?;
        if servers.is_empty() {
            return Err("`url` is empty: name the registry's address".to_owned());
        }
        let shown = match (&entry.user, &entry.password, &entry.token) {
            (None, None, None) => Shown::Nothing,
            (Some(user), Some(password), None) => Shown::Password(user.clone(), source(password)?),
            (None, None, Some(token)) => Shown::Token(source(token)?),
            _ => return Err("say `user` and `password`, or `token`, or none of them".to_owned()),
        };
        if !matches!(shown, Shown::Nothing)
            && let Some(open) = servers.iter().find(|server| server.is_open())
        {
            return Err(format!(
                "{open} is not TLS: what it is shown could be read on the way; write https://"
            ));
        }
        let schema_wait = match &entry.schema_wait {
            Some(text) => duration(text).map_err(|what| format!("schema_wait: {what}"))?,
            None => SCHEMA_WAIT,
        };
        let trust = entry.ca.as_deref().map_or(Trust::System, Trust::new);
        Ok(Self { servers, trust, shown, schema_wait, next: AtomicUsize::new(0) })
    }

    /// Asks for a schema and all that it refers to; blocks, for some seconds per schema at most.
    ///
    /// # Errors
    /// See [`Missing`].
    pub(crate) fn find(&self, id: &SchemaId) -> Result<Found, Missing> {
        let Answered { schema, kind, references } = self.ask(id)?;
        let mut found =
            Found { kind: kind.unwrap_or_else(|| "AVRO".to_owned()), text: schema, references: Vec::new() };
        let mut known = HashSet::new();
        for reference in references.unwrap_or_default() {
            self.refer(reference, &mut known, &mut found.references)?;
        }
        Ok(found)
    }

    /// Depth first, so that what is referred to comes before what refers to it.
    fn refer(
        &self,
        reference: Reference,
        known: &mut HashSet<(String, String, u32)>,
        found: &mut Vec<(String, String)>,
    ) -> Result<(), Missing> {
        // One schema may be referred to by two names.
        if !known.insert((reference.name.clone(), reference.subject.clone(), reference.version)) {
            return Ok(());
        }
        if known.len() > MAX_REFERENCES {
            return Err(Missing::Away(format!("a schema that refers to more than {MAX_REFERENCES} others")));
        }
        let version = SchemaId::Version(reference.subject, Some(reference.version));
        let inner = self.ask(&version)?;
        for reference in inner.references.unwrap_or_default() {
            self.refer(reference, known, found)?;
        }
        found.push((reference.name, inner.schema));
        Ok(())
    }

    /// One server after the other, beginning with the one that has answered last.
    fn ask(&self, id: &SchemaId) -> Result<Answered, Missing> {
        let first = self.next.load(Ordering::Relaxed);
        let (mut away, mut unknown) = (Vec::new(), None);
        for turn in 0..self.servers.len() {
            let at = (first + turn) % self.servers.len();
            match self.ask_one(&self.servers[at], id) {
                Err(Missing::Away(why)) => away.push(why),
                // It may follow one that does.
                Err(Missing::Unknown(id)) => unknown = Some(id),
                answered => {
                    self.next.store(at, Ordering::Relaxed);
                    return answered;
                }
            }
        }
        if let Some(id) = unknown {
            return Err(Missing::Unknown(id));
        }
        // Each of them: the last one's trouble may not be the one that matters.
        away.dedup();
        Err(Missing::Away(away.join("; ")))
    }

    fn ask_one(&self, server: &Address, id: &SchemaId) -> Result<Answered, Missing> {
        let mut headers = vec![
            ("Accept", "application/vnd.schemaregistry.v1+json, application/json".to_owned()),
            ("User-Agent", concat!("highwater/", env!("CARGO_PKG_VERSION")).to_owned()),
        ];
        // Read anew for each question, so that new ones need no restart.
        let read = |source: &Source| {
            let text = source
                .read()
                .and_then(|bytes| String::from_utf8(bytes).map_err(|_| "it is no text".to_owned()));
            let text = text.map_err(|why| Missing::Away(format!("the registry's secret: {why}")))?;
            let odd = |byte: u8| byte.is_ascii_control();
            if text.bytes().any(odd) {
                Err(Missing::Away("the registry's secret has a control character".to_owned()))
            } else {
                Ok(text)
            }
        };
        match &self.shown {
            Shown::Nothing => {}
            Shown::Password(user, source) => {
                let credentials = STANDARD.encode(format!("{user}:{}", read(source)?));
                headers.push(("Authorization", format!("Basic {credentials}")));
            }
            Shown::Token(source) => headers.push(("Authorization", format!("Bearer {}", read(source)?))),
        }
        let headers: Vec<_> = headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
        let answer = get(&server.below(&path(id)), &self.trust, &headers, LONGEST, Instant::now() + LIMIT);
        match answer {
            Ok(answer) if answer.status == 200 => serde_json::from_slice(&answer.body)
                .map_err(|_| Missing::Away(format!("{server} does not answer as a schema registry does"))),
            // By the body: a proxy's 404 is none of the registry's, nor is one of a path that is none (`error_code` 404).
            Ok(answer) if answer.status == 404 => {
                let said: serde_json::Value = serde_json::from_slice(&answer.body).unwrap_or_default();
                // One that knows no GUIDs at all has no such path.
                let code = said["error_code"].as_u64().unwrap_or_default();
                if (40_400..40_500).contains(&code) || matches!(id, SchemaId::Guid(_)) {
                    Err(Missing::Unknown(id.clone()))
                } else {
                    Err(Missing::Away(format!(
                        "{server} answers 404, and not as a schema registry does: is the path in `url` right?"
                    )))
                }
            }
            Ok(answer) => {
                let hint = match answer.status {
                    401 | 403 => ": what it is shown (`user` and `password`, or `token`) is refused",
                    _ => "",
                };
                Err(Missing::Away(format!("{server} answers {}{hint}", answer.status)))
            }
            Err(Failed::Away(why)) => Err(Missing::Away(why)),
            Err(Failed::Distrusted(why)) => {
                Err(Missing::Away(format!("{why}; see `ca` for whom its certificate must come from")))
            }
            Err(Failed::Unusable(why)) => Err(Missing::Away(format!("ca: {why}"))),
        }
    }
}

fn path(id: &SchemaId) -> String {
    let subject = |subject: &str| utf8_percent_encode(subject, SUBJECT).to_string();
    match id {
        SchemaId::Number(id) => format!("/schemas/ids/{id}"),
        SchemaId::Guid(guid) => format!("/schemas/guids/{}", uuid::Uuid::from_bytes(*guid)),
        SchemaId::Version(name, Some(version)) => format!("/subjects/{}/versions/{version}", subject(name)),
        SchemaId::Version(name, None) => format!("/subjects/{}/versions/latest", subject(name)),
    }
}

fn source(entry: &SecretEntry) -> Result<Source, String> {
    match (&entry.file, &entry.command, &entry.env) {
        (Some(file), None, None) => Ok(Source::File(file.into())),
        (None, Some(command), None) => Ok(Source::Command(PasswordCommand::from(command.as_str()))),
        (None, None, Some(name)) => match std::env::var(name) {
            Ok(value) => Ok(Source::Value(value.into())),
            Err(_) => Err(format!("the environment has no {name}")),
        },
        _ => Err("a secret is one of { file = \"…\" }, { env = \"…\" }, { command = \"…\" }".to_owned()),
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::io::{BufRead as _, BufReader, Write as _};
    use std::net::TcpListener;

    use super::*;

    /// Answers each question by its path until the process ends.
    pub(in crate::pipeline) fn serve(answer: fn(&str) -> (u16, &'static str)) -> String {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        std::thread::spawn(move || {
            for mut stream in listener.incoming().flatten() {
                let mut lines = BufReader::new(stream.try_clone().unwrap()).lines().map_while(Result::ok);
                let first = lines.next().unwrap_or_default();
                while lines.next().is_some_and(|line| !line.is_empty()) {}
                let (status, body) = answer(first.split(' ').nth(1).unwrap_or_default());
                let _ =
                    write!(stream, "HTTP/1.1 {status} So\r\nContent-Length: {}\r\n\r\n{body}", body.len());
            }
        });
        url
    }

    fn registry(urls: &[String]) -> Registry {
        Registry::new(&toml::from_str(&format!("url = {urls:?}")).unwrap()).unwrap()
    }

    #[test]
    fn each_server_in_trouble_is_named() {
        let dead = TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap();
        let busy = serve(|_| (503, "busy"));
        let urls = [format!("http://{dead}"), busy.clone()];
        let Err(Missing::Away(why)) = registry(&urls).find(&SchemaId::Number(1)) else { panic!() };
        assert!(why.contains(&format!("{busy} answers 503")) && why.contains(&dead.to_string()), "{why}");
        let found = registry(&[urls[0].clone(), serve(|_| (200, r#"{"schema":"\"int\""}"#))])
            .find(&SchemaId::Number(1));
        assert_eq!(found.unwrap().text, "\"int\"");
    }

    /// As Protobuf's files do that import one by the path that they know.
    #[test]
    fn one_schema_is_referred_to_by_two_names() {
        let answer = |path: &str| match path {
            "/schemas/ids/1" => (
                200,
                r#"{"schema":"main","schemaType":"PROTOBUF","references":[{"name":"a.proto","subject":"a","version":1},
                    {"name":"x.proto","subject":"x","version":2}]}"#,
            ),
            "/subjects/a/versions/1" => {
                (200, r#"{"schema":"a","references":[{"name":"shop/x.proto","subject":"x","version":2}]}"#)
            }
            "/subjects/x/versions/2" => (200, r#"{"schema":"x"}"#),
            _ => (404, ""),
        };
        let found = registry(&[serve(answer)]).find(&SchemaId::Number(1)).unwrap();
        let references = [("shop/x.proto", "x"), ("a.proto", "a"), ("x.proto", "x")];
        assert_eq!(found.references, references.map(|(name, text)| (name.to_owned(), text.to_owned())));
    }
}
