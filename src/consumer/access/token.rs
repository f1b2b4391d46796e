//! Tokens for SASL/OAUTHBEARER (RFC 7628): when they expire, and when to ask for the next.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use crate::token::KafkaToken;

/// How long a token that does not say when it expires is taken to last, in ms.
const UNTOLD_LASTS_MS: i64 = 3_600_000;

/// A token, when it expires, and whose it is.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Token {
    pub(super) text: String,
    pub(super) principal: String,
    /// In ms since 1970.
    pub(super) expires_ms: i64,
    pub(super) extensions: Vec<(String, String)>,
    /// When to ask for the next.
    due_ms: i64,
    /// It does not say when it expires.
    is_untold: bool,
}

impl Token {
    /// A token that was given at `now_ms`. Where it is a JSON Web Token (RFC 7519), it says itself when it expires, unless
    /// who gave it has said so: that one's clock and ours may differ.
    ///
    /// # Errors
    /// If it has expired already, or cannot be a token: the client's own words for that quote it.
    pub(super) fn new(given: KafkaToken, now_ms: i64) -> Result<Self, String> {
        let KafkaToken { text, expires_at, principal, extensions } = given;
        if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err("it has characters that no token has".to_owned());
        }
        if let Some((name, _)) = extensions.iter().find(|(name, value)| !is_extension(name, value)) {
            return Err(format!("`{}` is no extension of a token", name.escape_default()));
        }
        let claims = claims(&text).unwrap_or_default();
        // A numeric date may have a fraction.
        #[allow(clippy::cast_possible_truncation)] // saturates
        let claimed = || claims["exp"].as_f64().map(|seconds| (seconds * 1_000.0) as i64);
        let told = expires_at.map(ms_since_1970).or_else(claimed);
        let expires_ms = told.unwrap_or(now_ms.saturating_add(UNTOLD_LASTS_MS));
        if expires_ms <= now_ms {
            let ago = now_ms.saturating_sub(expires_ms) / 1_000;
            return Err(format!("the token has expired {ago} s ago"));
        }
        let named = principal.as_deref().or(claims["sub"].as_str());
        let principal = named.filter(|name| !name.contains('\0')).unwrap_or("highwater").to_owned();
        let due_ms = now_ms + (expires_ms - now_ms) / 10 * 8;
        Ok(Self { text, principal, expires_ms, extensions, due_ms, is_untold: told.is_none() })
    }

    /// Whether the same text, read again, is as good as new: nobody knows better.
    pub(super) fn may_last(&self, now_ms: i64) -> bool {
        self.is_untold && self.is_due(now_ms)
    }

    /// Four fifths of its life are over.
    pub(super) fn is_due(&self, now_ms: i64) -> bool {
        now_ms >= self.due_ms
    }

    /// In how long that will be so.
    pub(super) fn due_in(&self, now_ms: i64) -> Duration {
        Duration::from_millis(u64::try_from(self.due_ms.saturating_sub(now_ms)).unwrap_or_default())
    }
}

/// As RFC 7628 (3.1) has them: a name of letters other than `auth`, and a value that is shown, with blanks.
pub(crate) fn is_extension(name: &str, value: &str) -> bool {
    let is_name = !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphabetic()) && name != "auth";
    is_name && value.bytes().all(|byte| byte.is_ascii_graphic() || byte == b' ')
}

fn ms_since_1970(at: SystemTime) -> i64 {
    let since = at.duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

pub(super) fn now_ms() -> i64 {
    ms_since_1970(SystemTime::now())
}

fn claims(token: &str) -> Option<serde_json::Value> {
    let body = token.split('.').nth(1)?;
    let body = URL_SAFE_NO_PAD.decode(body.trim_end_matches('=')).ok()?;
    serde_json::from_slice(&body).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn jwt(claims: &str) -> String {
        format!("{}.{}.c2lnbmF0dXJl", URL_SAFE_NO_PAD.encode("{}"), URL_SAFE_NO_PAD.encode(claims))
    }

    fn token(text: &str, now_ms: i64) -> Result<Token, String> {
        Token::new(KafkaToken::new(text), now_ms)
    }

    #[test]
    fn a_token_says_when_it_expires_and_whose_it_is() {
        let told = token(&jwt(r#"{"sub":"worker","exp":1000.5}"#), 0).unwrap();
        assert_eq!((told.principal.as_str(), told.expires_ms), ("worker", 1_000_500));
        assert!(!told.is_due(800_000) && told.is_due(800_400));
        assert_eq!(told.due_in(700_400), Duration::from_secs(100));
        assert_eq!(told.due_in(i64::MAX), Duration::ZERO);
        let opaque = token("abc", 5).unwrap();
        assert_eq!((opaque.principal.as_str(), opaque.expires_ms), ("highwater", 5 + UNTOLD_LASTS_MS));
        for odd in ["..", "a.b.c", "a.!!.c", &jwt("[]"), &jwt(r#"{"exp":"soon"}"#), &jwt(r#"{"exp":1e300}"#)]
        {
            assert!(token(odd, 5).is_ok(), "{odd}");
        }
        let why = token(&jwt(r#"{"exp":1}"#), 61_000).err().unwrap();
        assert_eq!(why, "the token has expired 60 s ago");
        assert!(token(&jwt(r#"{"exp":-1e300}"#), 61_000).is_err());
        for secret in ["s3cret\u{feff}", "s3 cret", "s3cret\n", ""] {
            let why = token(secret, 0).err().unwrap();
            assert!(!why.contains("s3"), "{why}");
        }
        assert!(opaque.may_last(5 + UNTOLD_LASTS_MS) && !opaque.may_last(5) && !told.may_last(2_000_000));
    }

    /// A clock of ours that is wrong must not make a good token expired.
    #[test]
    fn who_gives_a_token_knows_better() {
        let at = UNIX_EPOCH + Duration::from_secs(100);
        let given = KafkaToken::new(jwt(r#"{"sub":"worker","exp":1}"#)).expires_at(at).principal("me");
        let token = Token::new(given, 50_000).unwrap();
        assert_eq!((token.expires_ms, token.principal.as_str(), token.is_untold), (100_000, "me", false));
    }

    #[test]
    fn an_extension_has_a_name_of_letters() {
        assert!(is_extension("logicalCluster", "lkc-1 a"));
        for (name, value) in [("", "x"), ("auth", "x"), ("a-b", "x"), ("a", "x\u{1}"), ("a", "x\ny")] {
            assert!(!is_extension(name, value), "{name}={value:?}");
            let given = KafkaToken::new("t").extension(name, value);
            assert!(Token::new(given, 0).is_err());
        }
    }

    crate::fuzz::fuzz!(
        any_token_is_read_or_refused_without_being_shown,
        &[
            "s3cret",
            ".",
            "eyJhbGciOiJub25lIn0",
            "eyJleHAiOjFlMzAwfQ",
            "eyJleHAiOi0xLCJzdWIiOiJcdTAwMDAifQ",
            "=",
            "-",
            "e30"
        ],
        |bytes| {
            let text = String::from_utf8_lossy(bytes).into_owned();
            match Token::new(KafkaToken::new(text.clone()), 5_000) {
                Ok(token) => {
                    assert!(token.expires_ms > 5_000 && !token.principal.contains('\0'));
                    let _ = (token.due_in(i64::MIN), token.is_due(i64::MAX));
                }
                Err(why) => assert!(!why.contains("s3cret"), "{text}: {why}"),
            }
        }
    );
}
