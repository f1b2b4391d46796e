//! The two forms of an address, taken apart into parameters and put together again.

use percent_encoding::percent_decode_str;

/// A parameter, decoded, and as it was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Parameter {
    pub(super) name: String,
    pub(super) value: String,
    written: String,
}

/// What is left of an address without its parameters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Form {
    /// Everything before the `?`.
    Url(String),
    /// `key=value` pairs are nothing but parameters.
    Pairs,
}

impl Form {
    /// The address with these parameters, in a way that the driver reads.
    pub(super) fn with(&self, parameters: &[&Parameter]) -> String {
        match self {
            Self::Pairs => {
                let quoted = |value: &str| value.replace('\\', "\\\\").replace('\'', "\\'");
                let pairs = parameters.iter().map(|one| format!("{}='{}'", one.name, quoted(&one.value)));
                pairs.collect::<Vec<_>>().join(" ")
            }
            // The driver takes everything before an `@` for user and password, wherever it stands.
            Self::Url(base) => {
                let written = parameters.iter().map(|one| one.written.replace('@', "%40"));
                let query = written.collect::<Vec<_>>().join("&");
                if query.is_empty() { base.clone() } else { format!("{base}?{query}") }
            }
        }
    }
}

/// `None` if it has neither form.
pub(super) fn split(text: &str) -> Option<(Form, Vec<Parameter>)> {
    let is_url = ["postgres://", "postgresql://"].iter().find(|scheme| text.starts_with(**scheme));
    match is_url {
        Some(scheme) => split_url(text, scheme.len()),
        None => Some((Form::Pairs, pairs(text)?)),
    }
}

fn split_url(text: &str, scheme: usize) -> Option<(Form, Vec<Parameter>)> {
    let rest = &text[scheme..];
    // A `?` in the password is legal; one after the `@` begins the parameters.
    let authority = rest.split('/').next().unwrap_or_default();
    let credentials = authority.find('@').map_or(0, |at| at + 1);
    if authority.matches('@').count() > 1 {
        return None; // the first ends the password, and who knows where the host begins
    }
    let Some(query) = rest[credentials..].find('?') else {
        return Some((Form::Url(text.to_owned()), Vec::new()));
    };
    let (base, query) = text.split_at(scheme + credentials + query);
    let decode = |text: &str| Some(percent_decode_str(text).decode_utf8().ok()?.into_owned());
    let parameters = query[1..].split('&').filter(|written| !written.is_empty()).map(|written| {
        let (name, value) = written.split_once('=')?;
        Some(Parameter { name: decode(name)?, value: decode(value)?, written: written.to_owned() })
    });
    Some((Form::Url(base.to_owned()), parameters.collect::<Option<_>>()?))
}

/// `key = value` with values bare or in single quotes, and backslashes before what is to be taken literally.
fn pairs(text: &str) -> Option<Vec<Parameter>> {
    let mut rest = text.trim_start();
    let mut parameters = Vec::new();
    while !rest.is_empty() {
        let (name, after) = rest.split_once('=')?;
        let name = name.trim_end();
        if name.is_empty() || name.contains(char::is_whitespace) {
            return None;
        }
        let (value, after) = value(after.trim_start())?;
        parameters.push(Parameter { name: name.to_owned(), value, written: String::new() });
        rest = after.trim_start();
    }
    Some(parameters)
}

fn value(text: &str) -> Option<(String, &str)> {
    let quoted = text.strip_prefix('\'');
    let body = quoted.unwrap_or(text);
    let mut value = String::new();
    let mut chars = body.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '\\' => value.push(chars.next()?.1),
            '\'' if quoted.is_some() => return Some((value, &body[at + 1..])),
            c if quoted.is_none() && c.is_whitespace() => return Some((value, &body[at..])),
            c => value.push(c),
        }
    }
    // A quote that does not end is no value.
    quoted.is_none().then_some((value, ""))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Option<Vec<(String, String)>> {
        let (_, parameters) = split(text)?;
        Some(parameters.into_iter().map(|one| (one.name, one.value)).collect())
    }

    fn pair(name: &str, value: &str) -> (String, String) {
        (name.to_owned(), value.to_owned())
    }

    #[test]
    fn pairs_are_read_as_libpq_reads_them() {
        let text = r"host = db  password='it''s' ";
        assert_eq!(read(text), None, "a doubled quote is two values to libpq");
        let text = r"host = db  password='it\'s a \\' user=a\ b dbname=''";
        let expected =
            [pair("host", "db"), pair("password", r"it's a \"), pair("user", "a b"), pair("dbname", "")];
        assert_eq!(read(text).unwrap(), expected);
        for wrong in ["host", "host db=x", "=x", "host='db", r"host=db\"] {
            assert_eq!(read(wrong), None, "{wrong}");
        }
        let (form, parameters) = split(text).unwrap();
        let again = form.with(&parameters.iter().collect::<Vec<_>>());
        assert_eq!(read(&again).unwrap(), expected);
    }

    #[test]
    fn parameters_of_a_url_are_decoded() {
        let text = "postgres://u:a?b@h/d?sslrootcert=%2Fetc%2Fca%20x.pem&options=-c%20a%3Db&user=x@y";
        let expected = [pair("sslrootcert", "/etc/ca x.pem"), pair("options", "-c a=b"), pair("user", "x@y")];
        assert_eq!(read(text).unwrap(), expected);
        let (form, parameters) = split(text).unwrap();
        let again = form.with(&[&parameters[2]]);
        assert_eq!(again, "postgres://u:a?b@h/d?user=x%40y");
        assert_eq!(form.with(&[]), "postgres://u:a?b@h/d");
        for wrong in ["postgres://h/d?x", "postgres://u:p@w@h/d", "postgres://h/d?a=%FF"] {
            assert_eq!(read(wrong), None, "{wrong}");
        }
    }
}
