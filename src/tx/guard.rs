//! Refuses, before it is sent, SQL text that would end the worker's transaction, outlive it in the session, or
//! break the protocol (PITFALLS 20). Afterwards is too late: the rows would be durable without their offsets (EO-1).
//!
//! Every `;` outside quotes and comments ends a statement here, also inside parentheses, where the server would
//! refuse the whole text or read a rule's body: to look at too many statement beginnings is safe. What text alone
//! cannot show (a procedure that commits, dynamic SQL) the server refuses itself inside a transaction block; the
//! transaction id and the [protected settings](super::protected) in the compare-and-set are the back-stop for the rest, and
//! each transaction begins by making the session anew.

use std::fmt;

use super::lexer::{Backslash, LexError, Lexer, Token};
use super::protected::is_protected;

/// By which kind of call a text is about to be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Via {
    Statement,
    CopyIn,
}

/// Why a text is refused. The messages are repeated in `docs/errors.md`, which a test compares.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refusal {
    TransactionControl,
    TwoPhase,
    Savepoint,
    TransactionMode,
    SessionSetting,
    ProtectedSetting,
    Role,
    SqlPrepare,
    Discard,
    Listen,
    SessionLock,
    CopyOutsideCopyIn,
    NotACopyIn,
    SqlBody,
    ZeroByte,
    Unterminated,
    Ambiguous,
}

impl Refusal {
    #[cfg(test)]
    const ALL: [Self; 17] = [
        Self::TransactionControl,
        Self::TwoPhase,
        Self::Savepoint,
        Self::TransactionMode,
        Self::SessionSetting,
        Self::ProtectedSetting,
        Self::Role,
        Self::SqlPrepare,
        Self::Discard,
        Self::Listen,
        Self::SessionLock,
        Self::CopyOutsideCopyIn,
        Self::NotACopyIn,
        Self::SqlBody,
        Self::ZeroByte,
        Self::Unterminated,
        Self::Ambiguous,
    ];

    fn what(self) -> &'static str {
        match self {
            Self::TransactionControl => "BEGIN, START, COMMIT, END, ABORT and ROLLBACK belong to the worker",
            Self::TwoPhase => "two-phase commit would part the rows from their offsets",
            Self::Savepoint => "savepoints are set and ended through the transaction object",
            Self::TransactionMode => "isolation level and access mode belong to the worker",
            Self::SessionSetting => {
                "SET and RESET without LOCAL, set_config without a plain `true` at its end and UPDATE of pg_settings \
                 outlive the batch in a shared session"
            }
            Self::ProtectedSetting => "this setting protects the commit, the fence or the protocol",
            Self::Role => "the offsets are committed under the session's own role",
            Self::SqlPrepare => "PREPARE and DEALLOCATE collide with the driver's statements",
            Self::Discard => "DISCARD destroys state of the session that the worker relies on",
            Self::Listen => "LISTEN outlives the batch, and nobody reads the notifications",
            Self::SessionLock => "a session-level advisory lock outlives the batch",
            Self::CopyOutsideCopyIn => "COPY from or to the client breaks the protocol in this call",
            Self::NotACopyIn => "copy_in takes one COPY … FROM STDIN statement",
            Self::SqlBody => "a BEGIN ATOMIC body cannot be told from transaction control",
            Self::ZeroByte => "the text holds a zero byte",
            Self::Unterminated => "a quote or comment in the text does not end",
            Self::Ambiguous => "a number in the text runs into a quote",
        }
    }

    fn instead(self) -> &'static str {
        match self {
            Self::TransactionControl => {
                "return Ok(()) to commit, an error to roll back; Tx::savepoint undoes a part"
            }
            Self::TwoPhase => "write to one database, and let another consumer group feed the other",
            Self::Savepoint => "use Tx::savepoint, Tx::rollback_to and Tx::release",
            Self::TransactionMode => {
                "the batch runs in READ COMMITTED, and may write; lock rows with FOR UPDATE"
            }
            Self::SessionSetting => {
                "use SET LOCAL or set_config(…, …, true), or set it for the role: ALTER ROLE … IN DATABASE … SET"
            }
            Self::ProtectedSetting => {
                "leave it as the worker sets it; settings of the worker are in its configuration"
            }
            Self::Role => "call a SECURITY DEFINER function, or grant the rights to the worker's role",
            Self::SqlPrepare => {
                "pass the text itself: it is prepared once per connection; or use Tx::prepare"
            }
            Self::Discard => "drop temporary tables by name, or create them ON COMMIT DROP",
            Self::Listen => "NOTIFY is allowed, and is sent with the commit",
            Self::SessionLock => "use pg_advisory_xact_lock and its relatives",
            Self::CopyOutsideCopyIn => "use Tx::copy_in for FROM STDIN, Tx::query in place of TO STDOUT",
            Self::NotACopyIn => "send other statements through Tx::execute or Tx::batch_execute",
            Self::SqlBody => "create functions in a migration, or with a dollar-quoted body",
            Self::ZeroByte => "pass data as parameters; text and jsonb never hold U+0000, bytea does",
            Self::Unterminated => "close it; pass data as parameters",
            Self::Ambiguous => "put a blank between them",
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "statement refused before it was sent: {}; {}", self.what(), self.instead())
    }
}

const SESSION_LOCKS: [&str; 4] =
    ["pg_advisory_lock", "pg_advisory_lock_shared", "pg_try_advisory_lock", "pg_try_advisory_lock_shared"];

/// Lets a text pass, or says why not.
pub(super) fn check(text: &str, via: Via) -> Result<(), Refusal> {
    read(text, via, Backslash::Ordinary)?;
    if !text.contains('\\') {
        return Ok(());
    }
    // With standard_conforming_strings off the same text has other strings. It must be harmless under both
    // readings; where this one is no complete text, such a server refuses all of it.
    match read(text, via, Backslash::Escapes) {
        Err(Refusal::Unterminated | Refusal::Ambiguous) => Ok(()),
        verdict => verdict,
    }
}

fn read(text: &str, via: Via, backslash: Backslash) -> Result<(), Refusal> {
    let mut lexer = Lexer::new(text, backslash);
    let mut statement = Statement::default();
    let mut statements = 0_usize;
    loop {
        let token = lexer.next().map_err(|error| match error {
            LexError::Unterminated => Refusal::Unterminated,
            LexError::ZeroByte => Refusal::ZeroByte,
            LexError::Ambiguous => Refusal::Ambiguous,
        })?;
        match token {
            Some(token) if token != Token::Symbol(b';') => statement.push(token)?,
            end => {
                if statement.length > 0 {
                    statements += 1;
                    statement.judge(via)?;
                }
                statement = Statement::default();
                if end.is_none() {
                    break;
                }
            }
        }
    }
    if via == Via::CopyIn && statements != 1 { Err(Refusal::NotACopyIn) } else { Ok(()) }
}

/// What must be remembered of one statement: its first words, its last two tokens, where a COPY leads, and what is being
/// set by other words than `SET`.
#[derive(Default)]
struct Statement<'a> {
    head: [Option<Token<'a>>; 4],
    last: [Option<Token<'a>>; 2],
    length: usize,
    depth: usize,
    copy: Option<CopyDirection>,
    /// The calls of `set_config` that are not closed yet, innermost last.
    set_configs: Vec<SetConfig>,
    /// What follows is the table of an `UPDATE`.
    updates: bool,
}

/// Where we are in a call of `set_config`.
#[derive(Clone, Copy)]
struct SetConfig {
    /// The depth of its arguments.
    depth: usize,
    /// How many arguments are complete.
    arguments: usize,
    /// Tokens of the argument under way, and whether the last one was `true`.
    tokens: usize,
    plain_true: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum CopyDirection {
    FromClient,
    ToClient,
}

impl<'a> Statement<'a> {
    fn push(&mut self, token: Token<'a>) -> Result<(), Refusal> {
        let [before, previous] = self.last;
        if let Some(previous) = previous {
            if previous.is_word("BEGIN") && token.is_word("ATOMIC") {
                return Err(Refusal::SqlBody);
            }
            if token == Token::Symbol(b'(') && names_one_of(previous, &SESSION_LOCKS) {
                return Err(Refusal::SessionLock);
            }
            if previous == Token::Symbol(b'(')
                && before.is_some_and(|function| names_one_of(function, &["set_config"]))
                && matches!(token, Token::Text(name) if is_protected(name))
            {
                return Err(Refusal::ProtectedSetting);
            }
            // The server takes STDIN and STDOUT for one another.
            if self.depth == 0 && (token.is_word("STDIN") || token.is_word("STDOUT")) {
                if previous.is_word("FROM") {
                    self.copy = Some(CopyDirection::FromClient);
                } else if previous.is_word("TO") {
                    self.copy = Some(CopyDirection::ToClient);
                }
            }
        }
        self.push_set_config(token)?;
        match token {
            Token::Symbol(b'(') => self.depth += 1,
            Token::Symbol(b')') => self.depth = self.depth.saturating_sub(1),
            _ => {}
        }
        let names_settings = names_one_of(token, &["pg_settings"]);
        if self.updates && names_settings {
            return Err(Refusal::SessionSetting);
        }
        let goes_on =
            token.is_word("ONLY") || names_one_of(token, &["pg_catalog"]) || token == Token::Symbol(b'.');
        self.updates = token.is_word("UPDATE") || self.updates && goes_on;
        if let Some(slot) = self.head.get_mut(self.length) {
            *slot = Some(token);
        }
        self.length += 1;
        self.last = [previous, Some(token)];
        Ok(())
    }

    /// The third argument of `set_config` says whether the setting ends with the transaction.
    fn push_set_config(&mut self, token: Token<'a>) -> Result<(), Refusal> {
        if let Some(call) = self.set_configs.last_mut() {
            let outermost = call.depth == self.depth;
            if outermost && matches!(token, Token::Symbol(b',' | b')')) {
                if call.arguments == 2 && !(call.plain_true && call.tokens == 1) {
                    return Err(Refusal::SessionSetting);
                }
                *call = SetConfig { arguments: call.arguments + 1, tokens: 0, plain_true: false, ..*call };
                if token == Token::Symbol(b')') {
                    self.set_configs.pop();
                }
            } else {
                call.tokens += 1;
                call.plain_true = outermost && token.is_word("TRUE");
            }
        }
        let called = self.last[1].is_some_and(|function| names_one_of(function, &["set_config"]));
        if called && token == Token::Symbol(b'(') {
            let depth = self.depth + 1;
            self.set_configs.push(SetConfig { depth, arguments: 0, tokens: 0, plain_true: false });
        }
        Ok(())
    }

    fn judge(&self, via: Via) -> Result<(), Refusal> {
        let first = match self.head[0] {
            Some(Token::Word(word)) => word.to_ascii_uppercase(),
            _ => String::new(),
        };
        let refusal = match first.as_str() {
            "BEGIN" | "START" | "END" | "ABORT" => Refusal::TransactionControl,
            "COMMIT" if self.word_at(1, "PREPARED") => Refusal::TwoPhase,
            "COMMIT" => Refusal::TransactionControl,
            "ROLLBACK" if self.word_at(1, "PREPARED") => Refusal::TwoPhase,
            "ROLLBACK" if self.word_at(1, "TO") || self.word_at(2, "TO") => Refusal::Savepoint,
            "ROLLBACK" => Refusal::TransactionControl,
            "SAVEPOINT" | "RELEASE" => Refusal::Savepoint,
            "PREPARE" if self.word_at(1, "TRANSACTION") => Refusal::TwoPhase,
            "PREPARE" | "DEALLOCATE" => Refusal::SqlPrepare,
            "DISCARD" => Refusal::Discard,
            "LISTEN" => Refusal::Listen,
            "RESET" => Refusal::SessionSetting,
            "SET" => return self.judge_set(via),
            "COPY" => return self.judge_copy(via),
            _ => return self.judge_other(via),
        };
        Err(refusal)
    }

    fn judge_other(&self, via: Via) -> Result<(), Refusal> {
        if via == Via::CopyIn { Err(Refusal::NotACopyIn) } else { Ok(()) }
    }

    fn judge_copy(&self, via: Via) -> Result<(), Refusal> {
        match (via, self.copy) {
            (Via::CopyIn, Some(CopyDirection::FromClient)) | (Via::Statement, None) => Ok(()),
            (Via::CopyIn, _) => Err(Refusal::NotACopyIn),
            (Via::Statement, Some(_)) => Err(Refusal::CopyOutsideCopyIn),
        }
    }

    fn judge_set(&self, via: Via) -> Result<(), Refusal> {
        if self.word_at(1, "CONSTRAINTS") {
            return self.judge_other(via);
        }
        let scoped = self.word_at(1, "LOCAL") || self.word_at(1, "SESSION");
        let name = self.head[if scoped { 2 } else { 1 }];
        let characteristics = self.word_at(2, "CHARACTERISTICS") || self.word_at(3, "CHARACTERISTICS");
        match name {
            Some(name) if name.is_word("TRANSACTION") => return Err(Refusal::TransactionMode),
            _ if characteristics => return Err(Refusal::TransactionMode),
            // `SET SESSION AUTHORIZATION`, and with a scope before it.
            Some(name) if ["ROLE", "AUTHORIZATION", "SESSION"].iter().any(|word| name.is_word(word)) => {
                return Err(Refusal::Role);
            }
            // A name spelt with Unicode escapes (`U&"…"`), and client_encoding's other spelling.
            Some(name) if name.is_word("U") || name.is_word("NAMES") => {
                return Err(Refusal::ProtectedSetting);
            }
            Some(Token::Word(name) | Token::Quoted(name)) if is_protected(name) => {
                return Err(Refusal::ProtectedSetting);
            }
            // `SET local.x = 1` is a session setting of that name.
            Some(Token::Word(_) | Token::Quoted(_)) if self.word_at(1, "LOCAL") => {}
            _ => return Err(Refusal::SessionSetting),
        }
        self.judge_other(via)
    }

    fn word_at(&self, index: usize, keyword: &str) -> bool {
        self.head[index].is_some_and(|token| token.is_word(keyword))
    }
}

fn names_one_of(token: Token<'_>, names: &[&str]) -> bool {
    matches!(token, Token::Word(word) | Token::Quoted(word) if names.iter().any(|name| word.eq_ignore_ascii_case(name)))
}

#[cfg(test)]
#[path = "guard_tests.rs"]
mod tests;
