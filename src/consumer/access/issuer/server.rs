//! Tokens for client credentials (RFC 6749, 4.4), as a company's identity server gives them.

use std::time::{Duration, Instant, SystemTime};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::Value;

use super::super::unread::Unread;
use crate::http::{Address, Answer, Failed, Trust, post};
use crate::secret::Source;
use crate::token::KafkaToken;

/// How long a server may take.
const LIMIT: Duration = Duration::from_secs(10);
/// As forms are written, but that a blank is `%20`, which every server reads as `+` is read.
const FORM: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');
/// How much of a server's own words is passed on.
const WORDS: usize = 300;

/// A server, and what it is shown.
#[derive(Debug, Clone)]
pub(crate) struct TokenServer {
    pub(crate) address: Address,
    pub(crate) trust: Trust,
    pub(crate) client_id: String,
    pub(crate) secret: Source,
    pub(crate) scope: Option<String>,
}

impl TokenServer {
    /// Asks for a token; blocks, for [`LIMIT`] at most.
    pub(super) fn token(&self) -> Result<KafkaToken, Unread> {
        let secret = super::super::text(&self.secret, "kafka_client_secret").map_err(Unread::missing)?;
        let mut body = "grant_type=client_credentials".to_owned();
        if let Some(scope) = &self.scope {
            body += &format!("&scope={}", form(scope));
        }
        // By HTTP Basic, which every server has to take (2.3.1), as a form has them.
        let credentials = STANDARD.encode(format!("{}:{}", form(&self.client_id), form(&secret)));
        let headers = [
            ("Authorization", format!("Basic {credentials}")),
            ("Content-Type", "application/x-www-form-urlencoded".to_owned()),
            ("Accept", "application/json".to_owned()),
            ("User-Agent", concat!("highwater/", env!("CARGO_PKG_VERSION")).to_owned()),
        ];
        let headers = headers.each_ref().map(|(name, value)| (*name, value.as_str()));
        match post(&self.address, &self.trust, &headers, body.as_bytes(), Instant::now() + LIMIT) {
            Ok(answer) => {
                let said = read(&answer, SystemTime::now());
                said.map_err(|unread| unread.about(&format!("the token server {}", self.address), &secret))
            }
            Err(Failed::Away(why)) => Err(Unread::away(format!("the token server {why}"))),
            Err(Failed::Distrusted(why)) => Err(Unread::denied(format!(
                "the token server {why}; see `kafka_token_ca` for whom its certificate must come from"
            ))),
            Err(Failed::Unusable(why)) => Err(Unread::missing(format!("kafka_token_ca: {why}"))),
        }
    }
}

fn form(text: &str) -> String {
    utf8_percent_encode(text, FORM).to_string()
}

/// What a server has said at `now`.
fn read(answer: &Answer, now: SystemTime) -> Result<KafkaToken, Unread> {
    let said: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
    match answer.status {
        200 => {
            let is_bearer =
                said["token_type"].as_str().is_none_or(|kind| kind.eq_ignore_ascii_case("bearer"));
            let token = said["access_token"].as_str().filter(|_| is_bearer);
            let token = token.ok_or_else(|| Unread::denied("answers without a bearer token"))?;
            // A number; some say it as a text.
            let lasts = &said["expires_in"];
            let lasts = lasts.as_f64().or_else(|| lasts.as_str()?.parse().ok());
            let lasts = lasts.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
            let token = KafkaToken::new(token);
            Ok(match lasts.and_then(|lasts| now.checked_add(lasts)) {
                Some(at) => token.expires_at(at),
                None => token,
            })
        }
        status @ (408 | 425 | 429 | 500..=599) => Err(Unread::away(format!("answers {status}"))),
        status => {
            let word = |name: &str| said[name].as_str().map(shown).filter(|word| !word.is_empty());
            let words: Vec<String> = ["error", "error_description"].into_iter().filter_map(word).collect();
            let why = match (status, words.as_slice()) {
                (300..=399, _) => "it sends elsewhere, which is not followed".to_owned(),
                (_, []) => "is that where tokens are given out?".to_owned(),
                (_, words) => words.join(": "),
            };
            Err(Unread::denied(format!("answers {status}: {why}")))
        }
    }
}

fn shown(word: &str) -> String {
    word.chars().filter(|c| !c.is_control()).take(WORDS).collect()
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use super::*;

    fn said(status: u16, body: &str) -> Result<KafkaToken, Unread> {
        read(&Answer { status, body: body.as_bytes().to_vec() }, UNIX_EPOCH)
    }

    #[test]
    fn a_token_comes_with_its_life_and_a_refusal_with_its_reason() {
        let at = |seconds| Some(UNIX_EPOCH + Duration::from_secs(seconds));
        for (body, expires_at) in [
            (r#"{"access_token":"t","token_type":"Bearer","expires_in":3600}"#, at(3_600)),
            (r#"{"access_token":"t","token_type":"bearer","expires_in":"60"}"#, at(60)),
            (r#"{"access_token":"t","expires_in":1e300}"#, None),
            (r#"{"access_token":"t","expires_in":-1}"#, None),
            (r#"{"access_token":"t"}"#, None),
        ] {
            let token = said(200, body).unwrap();
            assert_eq!((token.text.as_str(), token.expires_at), ("t", expires_at), "{body}");
        }
        for body in ["", "[]", r#"{"access_token":"t","token_type":"mac"}"#, r#"{"access_token":1}"#] {
            assert_eq!(said(200, body).unwrap_err(), Unread::denied("answers without a bearer token"));
        }
        let body = r#"{"error":"invalid_client","error_description":"wrong\nsecret"}"#;
        assert_eq!(said(401, body).unwrap_err(), Unread::denied("answers 401: invalid_client: wrongsecret"));
        assert!(said(404, "<html>").unwrap_err().why.contains("where tokens are given out"));
        assert!(said(302, "").unwrap_err().why.contains("is not followed"));
        assert_eq!(said(503, "").unwrap_err(), Unread::away("answers 503"));
    }

    #[test]
    fn what_is_shown_is_written_as_a_form_has_it() {
        assert_eq!(form("a b+c/ü:=&~"), "a%20b%2Bc%2F%C3%BC%3A%3D%26~");
    }

    crate::fuzz::fuzz!(
        any_answer_of_a_token_server_is_a_token_or_a_reason,
        &[
            "{",
            "}",
            "\"access_token\":",
            "\"s3cret\"",
            "\"token_type\":\"Bearer\"",
            ",",
            "\"expires_in\":",
            "1e400",
            "-1",
            "\"60\"",
            "\"error\":",
            "\"error_description\":",
            "\"\\u0007\"",
            "null",
            "[",
        ],
        |bytes| {
            let body = bytes.to_vec();
            let _ = read(&Answer { status: 200, body: body.clone() }, SystemTime::now());
            for status in [0, 302, 400, 429, 503] {
                let unread = read(&Answer { status, body: body.clone() }, UNIX_EPOCH).unwrap_err();
                assert!(unread.why.chars().count() < 3 * WORDS && !unread.why.contains(char::is_control));
                assert!(!unread.about("it", "s3cret").why.contains("s3cret"));
            }
        }
    );
}
