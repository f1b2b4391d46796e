//! Cuts SQL text into tokens the way PostgreSQL's own scanner does, as far as a statement's beginning depends on it.
//!
//! What counts is to agree with the server on where quotes and comments end: a disagreement is a way to smuggle a
//! `COMMIT` past the [guard](super::guard). Rules that differ between settings (`standard_conforming_strings`) are a
//! parameter; texts that differ between server versions are an error. It runs in one pass over the bytes.

/// How a backslash in a plain `'…'` string is read: the server's `standard_conforming_strings`, which a client
/// cannot see without asking.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Backslash {
    Ordinary,
    Escapes,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Token<'a> {
    /// A keyword or an unquoted identifier.
    Word(&'a str),
    /// What stands between double quotes; doubled quotes are left doubled.
    Quoted(&'a str),
    /// What stands between single or dollar quotes, not unescaped.
    Text(&'a str),
    /// A number or a parameter: never the beginning of a statement.
    Number,
    /// Any other byte.
    Symbol(u8),
}

impl Token<'_> {
    pub(super) fn is_word(self, keyword: &str) -> bool {
        matches!(self, Token::Word(word) if word.eq_ignore_ascii_case(keyword))
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum LexError {
    /// A string, a quoted identifier or a comment that does not end.
    Unterminated,
    ZeroByte,
    /// A number runs into letters and these into a quote: one string to servers before 15, another, or an error,
    /// to later ones.
    Ambiguous,
}

pub(super) struct Lexer<'a> {
    text: &'a str,
    position: usize,
    backslash: Backslash,
}

impl<'a> Lexer<'a> {
    pub(super) fn new(text: &'a str, backslash: Backslash) -> Self {
        Self { text, position: 0, backslash }
    }

    pub(super) fn next(&mut self) -> Result<Option<Token<'a>>, LexError> {
        self.skip_blanks_and_comments()?;
        let start = self.position;
        let Some(first) = self.peek(0) else { return Ok(None) };
        match first {
            0 => Err(LexError::ZeroByte),
            b'\'' => self.string(self.backslash).map(Some),
            b'"' => self.quoted().map(Some),
            b'$' => self.dollar().map(Some),
            b'0'..=b'9' => self.number().map(Some),
            _ if starts_word(first) => {
                self.skip_while(continues_word);
                let word = &self.text[start..self.position];
                match (word, self.peek(0)) {
                    ("e" | "E", Some(b'\'')) => self.string(Backslash::Escapes).map(Some),
                    ("b" | "B" | "x" | "X", Some(b'\'')) => self.string(Backslash::Ordinary).map(Some),
                    _ => Ok(Some(Token::Word(word))),
                }
            }
            symbol => {
                self.position += 1;
                Ok(Some(Token::Symbol(symbol)))
            }
        }
    }

    fn peek(&self, ahead: usize) -> Option<u8> {
        self.text.as_bytes().get(self.position + ahead).copied()
    }

    fn skip_while(&mut self, wanted: impl Fn(u8) -> bool) {
        while self.peek(0).is_some_and(&wanted) {
            self.position += 1;
        }
    }

    fn skip_blanks_and_comments(&mut self) -> Result<(), LexError> {
        loop {
            match (self.peek(0), self.peek(1)) {
                (Some(byte), _) if is_blank(byte) => self.position += 1,
                (Some(b'-'), Some(b'-')) => self.line_comment(),
                (Some(b'/'), Some(b'*')) => self.block_comment()?,
                _ => return Ok(()),
            }
        }
    }

    /// A carriage return ends it too.
    fn line_comment(&mut self) {
        self.skip_while(|byte| byte != b'\n' && byte != b'\r' && byte != 0);
    }

    /// Block comments nest.
    fn block_comment(&mut self) -> Result<(), LexError> {
        let mut depth = 0_usize;
        loop {
            match (self.peek(0), self.peek(1)) {
                (Some(b'/'), Some(b'*')) => {
                    depth += 1;
                    self.position += 2;
                }
                (Some(b'*'), Some(b'/')) => {
                    depth -= 1;
                    self.position += 2;
                    if depth == 0 {
                        return Ok(());
                    }
                }
                (Some(0), _) => return Err(LexError::ZeroByte),
                (Some(_), _) => self.position += 1,
                (None, _) => return Err(LexError::Unterminated),
            }
        }
    }

    /// From an opening quote to the closing one, and on through segments that continue it on a later line: these
    /// keep the first one's way with backslashes (`E'a'⏎'\''` is one string).
    fn string(&mut self, backslash: Backslash) -> Result<Token<'a>, LexError> {
        let mut first = None;
        loop {
            self.position += 1;
            let start = self.position;
            loop {
                match self.peek(0) {
                    None => return Err(LexError::Unterminated),
                    Some(0) => return Err(LexError::ZeroByte),
                    Some(b'\\') if backslash == Backslash::Escapes => {
                        self.position += if self.peek(1).is_some_and(|next| next != 0) { 2 } else { 1 };
                    }
                    Some(b'\'') if self.peek(1) == Some(b'\'') => self.position += 2,
                    Some(b'\'') => break,
                    Some(_) => self.position += 1,
                }
            }
            let segment = &self.text[start..self.position];
            let content = *first.get_or_insert(segment);
            self.position += 1;
            if !self.at_continuation() {
                return Ok(Token::Text(content));
            }
        }
    }

    /// Moves to the next segment's quote if only blanks with a line end, and line comments, stand before it.
    fn at_continuation(&mut self) -> bool {
        let back = self.position;
        let mut line_ended = false;
        loop {
            match (self.peek(0), self.peek(1)) {
                (Some(byte), _) if is_blank(byte) => {
                    line_ended |= byte == b'\n' || byte == b'\r';
                    self.position += 1;
                }
                (Some(b'-'), Some(b'-')) => self.line_comment(),
                (Some(b'\''), _) if line_ended => return true,
                _ => {
                    self.position = back;
                    return false;
                }
            }
        }
    }

    fn quoted(&mut self) -> Result<Token<'a>, LexError> {
        self.position += 1;
        let start = self.position;
        loop {
            match (self.peek(0), self.peek(1)) {
                (Some(b'"'), Some(b'"')) => self.position += 2,
                (Some(b'"'), _) => break,
                (Some(0), _) => return Err(LexError::ZeroByte),
                (Some(_), _) => self.position += 1,
                (None, _) => return Err(LexError::Unterminated),
            }
        }
        let content = &self.text[start..self.position];
        self.position += 1;
        Ok(Token::Quoted(content))
    }

    /// `$tag$…$tag$`, a parameter `$1`, or a lone `$`.
    fn dollar(&mut self) -> Result<Token<'a>, LexError> {
        let start = self.position;
        self.position += 1;
        if self.peek(0).is_some_and(|byte| byte.is_ascii_digit()) {
            self.skip_while(|byte| byte.is_ascii_digit());
            return Ok(Token::Number);
        }
        if self.peek(0).is_some_and(starts_word) {
            self.skip_while(|byte| continues_word(byte) && byte != b'$');
        }
        if self.peek(0) != Some(b'$') {
            self.position = start + 1;
            return Ok(Token::Symbol(b'$'));
        }
        self.position += 1;
        let delimiter = &self.text[start..self.position];
        let body = &self.text[self.position..];
        let length = body.find(delimiter).ok_or(LexError::Unterminated)?;
        let content = &body[..length];
        if content.as_bytes().contains(&0) {
            return Err(LexError::ZeroByte);
        }
        self.position += length + delimiter.len();
        Ok(Token::Text(content))
    }

    /// `1`, and the digits before the dot in `1.5`; `1e5`, `0x1f` and `1_000` whole.
    fn number(&mut self) -> Result<Token<'a>, LexError> {
        self.skip_while(|byte| byte.is_ascii_digit());
        let digits_end = self.position;
        self.skip_while(|byte| continues_word(byte) && byte != b'$');
        match self.peek(0) {
            Some(b'$' | b'\'' | b'"') if self.position > digits_end => Err(LexError::Ambiguous),
            _ => Ok(Token::Number),
        }
    }
}

/// A vertical tab is a blank since PostgreSQL 16, and a syntax error before.
fn is_blank(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\n' | b'\r' | 0x0b | 0x0c)
}

fn starts_word(byte: u8) -> bool {
    byte.is_ascii_alphabetic() || byte == b'_' || byte >= 0x80
}

fn continues_word(byte: u8) -> bool {
    starts_word(byte) || byte.is_ascii_digit() || byte == b'$'
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tokens(text: &str, backslash: Backslash) -> Result<Vec<Token<'_>>, LexError> {
        let mut lexer = Lexer::new(text, backslash);
        let mut all = Vec::new();
        while let Some(token) = lexer.next()? {
            all.push(token);
        }
        Ok(all)
    }

    fn ordinary(text: &str) -> Vec<Token<'_>> {
        tokens(text, Backslash::Ordinary).unwrap()
    }

    use Token::{Number, Quoted, Symbol, Text, Word};

    #[test]
    fn quotes_end_where_the_server_ends_them() {
        assert_eq!(ordinary("'a''b' c"), [Text("a''b"), Word("c")]);
        assert_eq!(ordinary(r"'\' c"), [Text(r"\"), Word("c")]);
        assert_eq!(tokens(r"'\' c'", Backslash::Escapes).unwrap(), [Text(r"\' c")]);
        assert_eq!(ordinary(r"E'\' c' d"), [Text(r"\' c"), Word("d")]);
        assert_eq!(ordinary(r"E'\\' c"), [Text(r"\\"), Word("c")]);
        assert_eq!(ordinary("fe'a'"), [Word("fe"), Text("a")]);
        assert_eq!(ordinary(r"B'1' x'\' n'\'"), [Text("1"), Text(r"\"), Word("n"), Text(r"\")]);
        assert_eq!(
            ordinary(r#""a""b" U&"d\0061""#),
            [Quoted(r#"a""b"#), Word("U"), Symbol(b'&'), Quoted(r"d\0061")]
        );
    }

    #[test]
    fn a_string_goes_on_after_a_line_end() {
        assert_eq!(ordinary("E'a'\n'\\' b' c"), [Text("a"), Word("c")]);
        assert_eq!(ordinary("E'a' -- x\r  -- 'y\n '\\' b' c"), [Text("a"), Word("c")]);
        assert_eq!(ordinary(r"E'a' '\' b"), [Text("a"), Text(r"\"), Word("b")]);
        assert_eq!(ordinary("E'a' /* \n */ '\\' b"), [Text("a"), Text(r"\"), Word("b")]);
    }

    #[test]
    fn dollar_quotes_and_what_looks_like_them() {
        assert_eq!(ordinary("$$;$a$;$$ b"), [Text(";$a$;"), Word("b")]);
        assert_eq!(ordinary("$a$ $b$a$ b"), [Text(" $b"), Word("b")]);
        assert_eq!(ordinary("$1$a$;$a$"), [Number, Text(";")]);
        assert_eq!(ordinary("1$a$;$a$"), [Number, Text(";")]);
        assert_eq!(ordinary("x$a$;"), [Word("x$a$"), Symbol(b';')]);
        assert_eq!(ordinary("$é$;$é$"), [Text(";")]);
        assert_eq!(ordinary("$a;"), [Symbol(b'$'), Word("a"), Symbol(b';')]);
    }

    #[test]
    fn comments_nest_and_end_at_either_line_end() {
        assert_eq!(ordinary("/*a/*b*/;*/c"), [Word("c")]);
        assert_eq!(ordinary("/*/ */ c"), [Word("c")]);
        assert_eq!(ordinary("--;\rc --d\ne"), [Word("c"), Word("e")]);
        assert_eq!(ordinary("a+--b\nc"), [Word("a"), Symbol(b'+'), Word("c")]);
    }

    #[test]
    fn what_has_no_certain_end_is_an_error() {
        for text in ["'a", "E'a\\'", "\"a", "/* /* */", "$a$ $b$", "e'\\"] {
            assert_eq!(tokens(text, Backslash::Ordinary), Err(LexError::Unterminated), "{text}");
        }
        for text in ["a\0", "'\0'", "E'\\\0'", "\"\0\"", "--\0", "/*\0*/", "$$\0$$"] {
            assert_eq!(tokens(text, Backslash::Ordinary), Err(LexError::ZeroByte), "{text:?}");
        }
        for text in ["1e'\\''", "1e5$a$", "0x$a$"] {
            assert_eq!(tokens(text, Backslash::Ordinary), Err(LexError::Ambiguous), "{text}");
        }
        assert_eq!(ordinary("1.5 1e5 0x1f 1_000"), [Number, Symbol(b'.'), Number, Number, Number, Number]);
    }
}
