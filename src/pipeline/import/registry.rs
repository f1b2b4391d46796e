//! The registry of the converters as `registry`. No secret comes out of here.

use super::connector::{Source, is_reference, split};
use super::converters::Family;
use super::findings::Findings;
use super::formats::Format;
use crate::http::Address;

const VALUE: &str = "value.converter";
const KEY: &str = "key.converter";

/// Where the schemas are, and what is shown there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Registry {
    pub(super) urls: Vec<String>,
    pub(super) shown: Shown,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Shown {
    Nothing,
    /// A password of this user's.
    Password(String),
    Token,
}

/// What may differ between two sides that show the same.
const SECRETS: &[&str] = &[
    "basic.auth.user.info",
    "schema.registry.basic.auth.user.info",
    "bearer.auth.token",
    "apicurio.registry.auth.password",
    "apicurio.auth.password",
];

impl Registry {
    /// That of both sides, as far as they are read by schemas.
    pub(super) fn of(
        source: &Source,
        value: Format,
        key: Option<Format>,
        findings: &mut Findings,
    ) -> Option<Self> {
        let mut read = |side: &str, format: Format| match format.family? {
            Family::Apicurio => apicurio(source, side, findings),
            _ => confluent(source, side, findings),
        };
        let value = read(VALUE, value);
        let key = key.and_then(|format| read(KEY, format));
        if let (Some(of_value), Some(of_key)) = (&value, &key) {
            let secret = |side: &str, own: &str| source.get(&format!("{side}.{own}")).map(str::to_owned);
            if of_value != of_key || SECRETS.iter().any(|own| secret(VALUE, own) != secret(KEY, own)) {
                findings.refuse(
                    KEY,
                    "asks another registry than `value.converter`, or shows it something else: a file has one registry",
                );
            }
        }
        value.or(key)
    }
}

fn confluent(source: &Source, side: &str, findings: &mut Findings) -> Option<Registry> {
    let option = |own: &str| format!("{side}.{own}");
    let of = |own: &str| source.get(&format!("{side}.{own}"));
    let url = option("schema.registry.url");
    let mut urls = split(address(source, &url, findings)?);
    let within = within(&mut urls);
    let info = ["schema.registry.basic.auth.user.info", "basic.auth.user.info"]
        .into_iter()
        .find(|own| of(own).is_some());
    let basic = option("basic.auth.credentials.source");
    let is_token = of("bearer.auth.token").is_some() || of("bearer.auth.credentials.source").is_some();
    let shown = match source.get(&basic).unwrap_or("URL").to_uppercase().as_str() {
        "USER_INFO" => match info {
            Some(own) => user(&option(own), of(own).unwrap_or_default(), findings)?,
            None => {
                findings
                    .refuse(&basic, "`USER_INFO`, and there is no basic.auth.user.info: write it as `user:`");
                return None;
            }
        },
        "URL" => {
            if let Some(own) = info {
                findings.refuse(
                    &option(own),
                    "is not read by the converter without `basic.auth.credentials.source` = `USER_INFO`: add that, or \
                     leave it out",
                );
            }
            match within {
                Within::Nobody => Shown::Nothing,
                Within::One(user) => {
                    findings.note(&url, NOT_COPIED);
                    Shown::Password(user)
                }
                Within::Several => {
                    findings.refuse(&url, "has several users in its addresses: a registry has one `user`");
                    return None;
                }
            }
        }
        _ => {
            findings.refuse(
                &basic,
                "only `USER_INFO` and `URL` are taken over: write `USER_INFO`, and the user as `user:` into \
                 basic.auth.user.info",
            );
            return None;
        }
    };
    let shown = if is_token { token(side, &shown, source, findings)? } else { shown };
    checked(&url, urls, shown, findings)
}

const NOT_COPIED: &str = "its secret is not copied: put it into the file that `registry.password` names, or name another one there";

fn user(option: &str, info: &str, findings: &mut Findings) -> Option<Shown> {
    match info.split_once(':') {
        Some((user, _)) if !user.is_empty() && !is_reference(user) && !user.contains('$') => {
            findings.note(option, NOT_COPIED);
            Some(Shown::Password(user.to_owned()))
        }
        _ => {
            findings.refuse(
                option,
                "says no user: write the user's name and a colon, `user:`, and import again; a secret behind it is never \
                 copied",
            );
            None
        }
    }
}

fn token(side: &str, basic: &Shown, source: &Source, findings: &mut Findings) -> Option<Shown> {
    let option = format!("{side}.bearer.auth.credentials.source");
    if !source.get(&option).unwrap_or("STATIC_TOKEN").eq_ignore_ascii_case("STATIC_TOKEN") {
        findings.refuse(
            &option,
            "tokens are not asked for at an issuer: leave bearer.auth.* out, import, and write `registry.token = { command \
             = \"…\" }`",
        );
        return None;
    }
    if *basic != Shown::Nothing {
        findings
            .refuse(&option, "a registry is shown a user and password, or a token: leave one of them out");
        return None;
    }
    findings.note(
        &format!("{side}.bearer.auth.token"),
        "is not copied: put it into the file that `registry.token` names, or name another one there",
    );
    Some(Shown::Token)
}

fn apicurio(source: &Source, side: &str, findings: &mut Findings) -> Option<Registry> {
    let option = |own: &str| format!("{side}.apicurio.registry.{own}");
    let of = |own: &str| source.get(&format!("{side}.apicurio.registry.{own}"));
    let url = option("url");
    let given = address(source, &url, findings)?;
    let Some((server, version)) = ["/apis/registry/v2", "/apis/registry/v3"]
        .into_iter()
        .find_map(|path| Some((given.trim_end_matches('/').strip_suffix(path)?, path)))
    else {
        findings
            .refuse(&url, "ends with neither /apis/registry/v2 nor /apis/registry/v3: which Apicurio is it?");
        return None;
    };
    let is_new = version.ends_with("v3");
    // What holds without it depends on the converter's version: only the address may tell.
    let four_bytes = match of("id-handler") {
        Some(class) => class.ends_with("4ByteIdHandler"),
        None => source.is(&option("as-confluent"), is_new),
    };
    if !four_bytes {
        findings.refuse(
            &option("as-confluent"),
            "is not `true`, so that values name their schemas in Apicurio's own way (eight bytes), which is not read; if \
             they do it in four, say so here",
        );
    }
    if of("use-id").map_or(!is_new, |id| id != "contentId") {
        findings.refuse(
            &option("use-id"),
            "is not `contentId`, by which Confluent's API finds schemas: if the values have another id, they cannot be \
             read; if they have this one, say so here",
        );
    }
    let mut urls = vec![format!("{server}/apis/ccompat/v7")];
    findings.note(
        &url,
        "Apicurio is asked by Confluent's API, /apis/ccompat/v7 (Apicurio 2.4 and later; without its legacy-id-mode): see \
         that its address is right",
    );
    if !matches!(within(&mut urls), Within::Nobody) {
        findings.note(&url, "user and password in the address are not copied");
    }
    let name = [option("auth.username"), format!("{side}.apicurio.auth.username")];
    let user = name.iter().find_map(|name| source.get(name));
    checked(&url, urls, user.map_or(Shown::Nothing, |user| Shown::Password(user.to_owned())), findings)
}

/// The addresses as they are given, if they are.
fn address<'a>(source: &'a Source, option: &str, findings: &mut Findings) -> Option<&'a str> {
    match source.get(option) {
        // Refused already.
        Some(url) if is_reference(url) => None,
        Some(url) => Some(url),
        None => {
            findings.refuse(option, "is missing: without it nobody knows where the schemas are");
            None
        }
    }
}

enum Within {
    Nobody,
    One(String),
    Several,
}

/// Takes users, and what goes with them, out of addresses.
fn within(urls: &mut [String]) -> Within {
    let mut users: Vec<Option<String>> = Vec::new();
    for url in urls {
        let Some((scheme, rest)) = url.split_once("://") else { continue };
        let end = rest.find('/').unwrap_or(rest.len());
        let (authority, path) = rest.split_at(end);
        let (user, host) = match authority.rsplit_once('@') {
            Some((user, host)) => (Some(user.split_once(':').map_or(user, |(user, _)| user)), host),
            None => (None, authority),
        };
        let user =
            user.map(|user| percent_encoding::percent_decode_str(user).decode_utf8_lossy().into_owned());
        users.push(user);
        *url = format!("{scheme}://{host}{path}");
    }
    users.dedup();
    match users.as_slice() {
        [] | [None] => Within::Nobody,
        [Some(user)] => Within::One(user.clone()),
        _ => Within::Several,
    }
}

/// That a pipeline would take it.
fn checked(option: &str, urls: Vec<String>, shown: Shown, findings: &mut Findings) -> Option<Registry> {
    for url in &urls {
        match Address::parse(url) {
            Err(why) => {
                findings.refuse(option, why);
                return None;
            }
            Ok(address) if address.is_open() && shown != Shown::Nothing => {
                findings.refuse(
                    option,
                    "is not TLS, so that what is shown to it could be read on the way: write https://, or leave the \
                     credentials out",
                );
                return None;
            }
            Ok(_) => {}
        }
    }
    if urls.is_empty() {
        findings.refuse(option, "names no address");
        return None;
    }
    Some(Registry { urls, shown })
}
