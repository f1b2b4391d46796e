//! `^patterns` of topics, in the dialect that everybody reads in the same way.
//!
//! Under the classic group protocol the client evaluates a pattern (POSIX extended, found at the beginning of a name),
//! under KIP-848 the broker does (RE2, the whole name), and the worker does, too: it must know before it joins where
//! to start, and which handler a topic belongs to. So patterns keep to what means the same to all three; the rest is
//! refused with a reason.

use regex::Regex;

/// Kafka's own topics: never matched by a pattern, and never applied.
pub(crate) const INTERNAL_TOPICS: [&str; 3] =
    ["__consumer_offsets", "__transaction_state", "__share_group_state"];
/// Far above any sensible pattern.
const MAX_BYTES: usize = 1_000;

/// Whether an entry of `topics` is a pattern; no topic's name begins like that.
pub(crate) fn is_pattern(topic: &str) -> bool {
    topic.starts_with('^')
}

/// A pattern that was checked.
#[derive(Debug, Clone)]
pub(crate) struct TopicPattern {
    text: String,
    regex: Regex,
}

impl TopicPattern {
    /// Checks a pattern. The error completes "setting topics: …".
    pub(crate) fn new(text: &str) -> Result<Self, String> {
        let refused = |why: &str| format!("pattern `{text}` {why}");
        Checker { rest: text }.check(text).map_err(|why| refused(&why))?;
        // Anchored at both ends whatever it ends with: `.*` reaches the end anyway.
        let body = text.strip_prefix('^').unwrap_or(text);
        let body = body.strip_suffix('$').unwrap_or(body);
        let regex = Regex::new(&format!("^(?:{body})$")).map_err(|_| refused("can't be compiled"))?;
        Ok(Self { text: text.to_owned(), regex })
    }

    /// The patterns among the entries of `topics`, which were checked before.
    pub(crate) fn among(topics: &[String]) -> Vec<Self> {
        topics.iter().filter(|topic| is_pattern(topic)).filter_map(|topic| Self::new(topic).ok()).collect()
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.text
    }

    /// Whether the topic is meant: the whole name fits, and it is not one of Kafka's own.
    pub(crate) fn matches(&self, topic: &str) -> bool {
        !INTERNAL_TOPICS.contains(&topic) && self.regex.is_match(topic)
    }
}

impl std::fmt::Display for TopicPattern {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.text)
    }
}

/// Walks through a pattern.
struct Checker<'a> {
    rest: &'a str,
}

impl Checker<'_> {
    fn check(mut self, text: &str) -> Result<(), String> {
        if text.len() > MAX_BYTES {
            return Err(format!("has {} bytes: keep it under {MAX_BYTES}", text.len()));
        }
        self.take('^');
        let reaches_the_end = self.sequence(0)?;
        let anchored = self.take('$');
        match self.peek() {
            None if anchored || reaches_the_end => Ok(()),
            None => Err("would match the beginning of a name under the classic protocol, but only a whole name under \
                         KIP-848: end it with `$` or `.*`"
                .to_owned()),
            Some(')') => Err("has a `)` without its `(`".to_owned()),
            Some('|') => Err("has a `|` to which `^` does not extend: write ^(a|b)$".to_owned()),
            Some(_) => Err("has a `$` that is not at its end: remove it".to_owned()),
        }
    }

    /// A row of items, up to what ends it; whether its last one is `.*`.
    fn sequence(&mut self, depth: usize) -> Result<bool, String> {
        let mut last_is_anything = None;
        loop {
            let anything = match self.peek() {
                None | Some(')' | '|' | '$') => break,
                Some('(') => self.group(depth)?,
                Some('[') => self.class()?,
                Some('\\') => self.escape()?,
                Some('.') => self.take('.'),
                Some(c) if is_plain(c) => !self.take(c),
                Some('*' | '+' | '?') => {
                    return Err("repeats nothing: put something before `*`, `+`, `?`".to_owned());
                }
                Some('{' | '}') => return Err("counts with `{…}`: write the item out".to_owned()),
                Some(c) => return Err(format!("has {c:?}, which no topic's name contains: remove it")),
            };
            let star = self.peek() == Some('*');
            if self.quantifier() && self.quantifier() {
                return Err(
                    "repeats a repetition, which the dialects read differently: put one of them in `(…)`"
                        .to_owned(),
                );
            }
            last_is_anything = Some(anything && star);
        }
        last_is_anything.ok_or_else(|| "has an empty alternative: write ? after the other one".to_owned())
    }

    fn group(&mut self, depth: usize) -> Result<bool, String> {
        self.take('(');
        if self.peek() == Some('?') {
            return Err("has `(?…)`, which POSIX does not know: write a plain group".to_owned());
        }
        loop {
            self.sequence(depth + 1)?;
            if self.take('|') {
                continue;
            }
            return match self.peek() {
                Some(')') => Ok(!self.take(')')),
                Some('$') => Err("has a `$` inside of parentheses: put it at the end".to_owned()),
                _ => Err("has a `(` without its `)`".to_owned()),
            };
        }
    }

    /// `[a-z0-9._-]`, or the same with `^` in front.
    fn class(&mut self) -> Result<bool, String> {
        let wrong = || {
            "has a class beyond letters, digits, `.`, `_`, ranges such as a-z, and a `-` at its end"
                .to_owned()
        };
        self.take('[');
        self.take('^');
        let mut items = 0;
        while !self.take(']') {
            let from = self.next().filter(|c| is_plain(*c) || *c == '.').ok_or_else(wrong)?;
            if from == '-' && self.peek() != Some(']') {
                return Err(wrong());
            }
            if from != '-' && self.peek() == Some('-') && !self.rest.starts_with("-]") {
                self.take('-');
                let to = self.next().ok_or_else(wrong)?;
                let same = [char::is_ascii_digit, char::is_ascii_lowercase, char::is_ascii_uppercase]
                    .iter()
                    .any(|kind: &fn(&char) -> bool| kind(&from) && kind(&to));
                if !same || from > to {
                    return Err(wrong());
                }
            }
            items += 1;
        }
        if items == 0 { Err(wrong()) } else { Ok(false) }
    }

    fn escape(&mut self) -> Result<bool, String> {
        self.take('\\');
        if self.take('.') {
            return Ok(false);
        }
        Err("has an escape other than `\\.`: classes such as \\d are not POSIX, write [0-9]".to_owned())
    }

    fn quantifier(&mut self) -> bool {
        self.take('*') || self.take('+') || self.take('?')
    }

    fn peek(&self) -> Option<char> {
        self.rest.chars().next()
    }

    fn next(&mut self) -> Option<char> {
        let next = self.peek()?;
        self.rest = &self.rest[next.len_utf8()..];
        Some(next)
    }

    /// Takes `c` if it comes next.
    fn take(&mut self, c: char) -> bool {
        let rest = self.rest.strip_prefix(c);
        self.rest = rest.unwrap_or(self.rest);
        rest.is_some()
    }
}

/// What topics' names are made of, apart from the dot.
fn is_plain(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '_' | '-')
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Also asked of the client and of the broker: `tests/it/subscription/dialects.rs`.
    const TABLE: &str = include_str!("../../tests/it/subscription/dialects.txt");

    #[test]
    fn patterns_match_what_the_table_says() {
        let mut lines = 0;
        for line in TABLE.lines().filter(|line| !line.starts_with('#')) {
            let (pattern, topics) = line.split_once(" = ").expect("pattern = topics");
            let pattern = TopicPattern::new(pattern).unwrap();
            let all = TABLE.lines().find_map(|line| line.strip_prefix("# topics: ")).unwrap();
            let found: Vec<&str> = all.split(' ').filter(|topic| pattern.matches(topic)).collect();
            assert_eq!(found.join(" "), topics, "{pattern}");
            lines += 1;
        }
        assert!(lines >= 10);
    }

    #[test]
    fn kafkas_own_topics_are_never_matched() {
        let pattern = TopicPattern::new("^__.*").unwrap();
        for topic in INTERNAL_TOPICS {
            assert!(!pattern.matches(topic));
        }
        assert!(pattern.matches("__mine"));
    }

    #[test]
    fn what_dialects_read_differently_is_refused_with_the_way_out() {
        for (pattern, part) in [
            ("^payments", "end it with `$` or `.*`"),
            (r"^payments\.*", "end it with `$` or `.*`"),
            ("^(payments.*)", "end it with `$` or `.*`"),
            ("^a$|^b$", "^(a|b)$"),
            ("^a|b$", "^(a|b)$"),
            ("^a$b", "not at its end"),
            ("^(a$)", "inside of parentheses"),
            ("^a.*?$", "repetition"),
            ("^a++$", "repetition"),
            ("^*a$", "repeats nothing"),
            ("^(a|*b)$", "repeats nothing"),
            ("^(a|)$", "empty alternative"),
            ("^()$", "empty alternative"),
            ("^$", "empty alternative"),
            ("^(?i)a$", "(?…)"),
            ("^(?:a)$", "(?…)"),
            ("^(a$", "inside of parentheses"),
            ("^(a", "without its `)`"),
            ("^a)$", "without its `(`"),
            ("^a{2}$", "write the item out"),
            (r"^a\d$", "write [0-9]"),
            (r"^(a)\1$", "write [0-9]"),
            (r"^a\$", "write [0-9]"),
            ("^[[:alpha:]]$", "class beyond"),
            ("^[a-Z]$", "class beyond"),
            ("^[z-a]$", "class beyond"),
            ("^[]a]$", "class beyond"),
            ("^[a--b]$", "class beyond"),
            ("^[a&&b]$", "class beyond"),
            ("^[a", "class beyond"),
            ("^a b$", "' '"),
            ("^ä$", "'ä'"),
            ("^^a$", "'^'"),
        ] {
            let why = TopicPattern::new(pattern).expect_err(pattern);
            assert!(why.contains(part) && why.contains(pattern), "{pattern}: {why}");
        }
        assert!(TopicPattern::new(&format!("^{}$", "a".repeat(MAX_BYTES))).is_err());
    }
}
