//! The one table of SQLSTATEs.

use super::postgres::Class::{
    self, Authentication, Bug, Environment, Lost, OwnTimeout, Privilege, Reject, RetryThenHalt,
};
use super::postgres::Connection::{self, Discard, DiscardAll, Keep};

/// What must hold beside the code for a rule to apply.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum When {
    Always,
    /// The error names no constraint.
    NoConstraint,
    /// The error was raised by this function of the server: a name that is not translated.
    Routine(&'static str),
}

/// One line of the table.
#[derive(Debug)]
#[cfg_attr(
    not(test),
    expect(dead_code, reason = "name and note stand in docs/errors.md, which a test compares")
)]
pub(super) struct Rule {
    /// A whole SQLSTATE, or the two characters of its class for all that are not listed by themselves.
    pub(super) code: &'static str,
    pub(super) when: When,
    /// PostgreSQL's name for the condition or the class.
    pub(super) name: &'static str,
    pub(super) class: Class,
    pub(super) connection: Connection,
    /// Why it is so, or what to do; may be empty.
    pub(super) note: &'static str,
}

const fn entry(
    code: &'static str,
    name: &'static str,
    class: Class,
    connection: Connection,
    note: &'static str,
) -> Rule {
    Rule { code, when: When::Always, name, class, connection, note }
}

/// Sorted by code; a rule with a condition stands before the one without.
pub(super) const RULES: &[Rule] = &[
    entry(
        "08",
        "connection_exception",
        Lost,
        Discard,
        "with severity ERROR of a statement: a connection that it made elsewhere, so retry and keep",
    ),
    Rule {
        code: "0A000",
        when: When::Routine("RevalidateCachedQuery"),
        name: "feature_not_supported",
        class: RetryThenHalt,
        connection: Discard,
        note: "a prepared statement's result type changed with the table: a fresh connection prepares it anew",
    },
    entry("0A000", "feature_not_supported", Bug, Keep, ""),
    entry(
        "21000",
        "cardinality_violation",
        Bug,
        Keep,
        "one statement upserts a key twice: keep the last write per key",
    ),
    entry("22", "data_exception", Reject, Keep, "a default: some of these are a handler's bug"),
    entry(
        "22P03",
        "invalid_binary_representation",
        RetryThenHalt,
        Discard,
        "a column changed its type under a binary COPY, which then fails for every row: the catalogue is read again",
    ),
    entry(
        "23",
        "integrity_constraint_violation",
        Reject,
        Keep,
        "a default: 23503 may only mean that the referenced row comes later",
    ),
    Rule {
        code: "23514",
        when: When::NoConstraint,
        name: "check_violation",
        class: RetryThenHalt,
        connection: Keep,
        note: "without a constraint's name: the table has no partition for the row",
    },
    entry(
        "25006",
        "read_only_sql_transaction",
        Environment,
        DiscardAll,
        "the primary was demoted, and stays so for every pooled connection",
    ),
    entry(
        "25P02",
        "in_failed_sql_transaction",
        Bug,
        Keep,
        "the handler swallowed an earlier SQL error; pass it on, or use a savepoint",
    ),
    entry("25P03", "idle_in_transaction_session_timeout", OwnTimeout, Discard, ""),
    entry("25P04", "transaction_timeout", OwnTimeout, Discard, ""),
    entry(
        "26000",
        "invalid_sql_statement_name",
        RetryThenHalt,
        Discard,
        "the session lost its prepared statements; if it persists, a pooler between does not support them",
    ),
    entry("28000", "invalid_authorization_specification", Authentication, Discard, ""),
    entry("28P01", "invalid_password", Authentication, Discard, ""),
    entry(
        "2D000",
        "invalid_transaction_termination",
        Bug,
        Keep,
        "a procedure or DO block tried to end the worker's transaction",
    ),
    entry("40001", "serialization_failure", Environment, Keep, ""),
    entry("40003", "statement_completion_unknown", Environment, DiscardAll, ""),
    entry("40P01", "deadlock_detected", Environment, Keep, "write keys in sorted order to avoid it"),
    entry(
        "42",
        "syntax_error_or_access_rule_violation",
        Bug,
        Keep,
        "undefined table or column, bad SQL; 42P05 means a pooler that mixes up prepared statements",
    ),
    Rule {
        code: "42501",
        when: When::Routine("ExecWithCheckOptions"),
        name: "insufficient_privilege",
        class: Bug,
        connection: Keep,
        note: "a row-level security policy refuses the row: look at the policy, and at what it asks of a row",
    },
    Rule {
        code: "42501",
        when: When::Routine("exec_stmt_raise"),
        name: "insufficient_privilege",
        class: Bug,
        connection: Keep,
        note: "a trigger or function of yours has raised it, not the server",
    },
    entry(
        "42501",
        "insufficient_privilege",
        Privilege,
        Keep,
        "no record is to blame: the halt names the table, and the GRANT that the worker's role lacks",
    ),
    entry("44000", "with_check_option_violation", Reject, Keep, ""),
    entry(
        "53",
        "insufficient_resources",
        Environment,
        Keep,
        "disk full, out of memory, too many connections",
    ),
    entry("54000", "program_limit_exceeded", Reject, Keep, "usually a value too long for its index"),
    entry("54001", "statement_too_complex", Reject, Keep, "usually JSON that is nested too deeply"),
    entry("55006", "object_in_use", Environment, Keep, ""),
    entry("55P03", "lock_not_available", Environment, Keep, "lock_timeout"),
    entry(
        "57014",
        "query_canceled",
        OwnTimeout,
        Discard,
        "statement_timeout, or cancelled at the deadline; a late cancellation could hit the next batch",
    ),
    entry("57P01", "admin_shutdown", Lost, Discard, "this session was ended, or the server stops"),
    entry("57P02", "crash_shutdown", Lost, Discard, "every session of the server is"),
    entry("57P03", "cannot_connect_now", Environment, DiscardAll, ""),
    entry("57P04", "database_dropped", Environment, DiscardAll, ""),
    entry("57P05", "idle_session_timeout", Lost, Discard, ""),
    entry("58000", "system_error", Environment, Keep, ""),
    entry("58030", "io_error", Environment, Keep, ""),
    entry("72000", "snapshot_too_old", Environment, Keep, ""),
    entry("HV00N", "fdw_unable_to_establish_connection", Environment, Keep, ""),
    entry(
        "P0001",
        "raise_exception",
        Reject,
        Keep,
        "a trigger or function of yours refused the data; raise with another ERRCODE to halt, or with 40001 to retry",
    ),
    entry(
        "XX000",
        "internal_error",
        RetryThenHalt,
        Discard,
        "\"tuple concurrently updated\" passes; most others do not",
    ),
];

/// For every code that no rule names.
const UNLISTED: Rule = entry(
    "other",
    "",
    Bug,
    Keep,
    "also codes that you raise yourself, P0004 (a failed ASSERT) and data corruption",
);

/// The rule for a code: the most exact one that applies.
pub(super) fn rule(code: &str, has_constraint: bool, routine: Option<&str>) -> &'static Rule {
    let applies = |rule: &&Rule| match rule.when {
        When::Always => true,
        When::NoConstraint => !has_constraint,
        When::Routine(name) => routine == Some(name),
    };
    let listed = |wanted: &str| RULES.iter().filter(|rule| rule.code == wanted).find(applies);
    listed(code).or_else(|| listed(code.get(..2)?)).unwrap_or(&UNLISTED)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn class(code: &str) -> Class {
        rule(code, true, None).class
    }

    #[test]
    fn exact_codes_win_over_classes_and_conditions_over_plain_rules() {
        assert_eq!(class("22001"), Reject);
        assert_eq!(class("22P03"), RetryThenHalt);
        assert_eq!(class("23505"), Reject);
        assert_eq!(class("23514"), Reject);
        assert_eq!(rule("23514", false, None).class, RetryThenHalt);
        assert_eq!(class("0A000"), Bug);
        assert_eq!(rule("0A000", true, Some("RevalidateCachedQuery")).class, RetryThenHalt);
        assert_eq!(class("42P01"), Bug);
        assert_eq!(class("42501"), Privilege);
        for routine in ["ExecWithCheckOptions", "exec_stmt_raise"] {
            assert_eq!(rule("42501", false, Some(routine)).class, Bug, "{routine} looks at the row");
        }
        assert_eq!(class("53100"), Environment);
        assert_eq!(class("57014"), OwnTimeout);
        for unlisted in ["XX001", "P0004", "25001", "99999", "40002", "", "é"] {
            assert_eq!(class(unlisted), Bug, "{unlisted}");
        }
        assert_eq!(
            rule("25006", true, None).connection,
            DiscardAll,
            "the others lead to the same demoted server"
        );
        for ended in ["57P01", "08006"] {
            assert_eq!(rule(ended, true, None).connection, Discard, "{ended} says nothing of other sessions");
        }
    }

    #[test]
    fn rules_are_sorted_and_none_is_unreachable() {
        for pair in RULES.windows(2) {
            let plain = |rule: &Rule| rule.when == When::Always;
            assert!(
                pair[0].code < pair[1].code || pair[0].code == pair[1].code && !plain(&pair[0]),
                "{} before {}",
                pair[0].code,
                pair[1].code
            );
        }
        assert!(RULES.iter().all(|rule| matches!(rule.code.len(), 2 | 5)));
    }

    fn answer(class: Class) -> &'static str {
        match class {
            Environment => "retry",
            Lost => "session lost",
            OwnTimeout => "own time-out",
            Reject => "reject",
            RetryThenHalt => "retry a few times, then narrow",
            Bug => "narrow, then halt",
            Privilege => "missing right",
            Class::Halt => unreachable!("no code says that"),
            Authentication => "authentication",
        }
    }

    fn fate(connection: Connection) -> &'static str {
        match connection {
            Keep => "keep",
            Discard => "drop",
            DiscardAll => "drop, clear the pool",
        }
    }

    #[test]
    fn docs_show_this_table() {
        let mut page =
            "| SQLSTATE | condition | answer | connection | note |\n|---|---|---|---|---|\n".to_owned();
        for rule in RULES.iter().chain([&UNLISTED]) {
            let code = match (rule.code, rule.when) {
                ("other", _) => "any other".to_owned(),
                (class, _) if class.len() == 2 => format!("`{class}…`"),
                (code, When::Always) => format!("`{code}`"),
                (code, When::NoConstraint) => format!("`{code}`, no constraint named"),
                (code, When::Routine(name)) => format!("`{code}` from `{name}`"),
            };
            let (name, note) = (rule.name, rule.note);
            page.push_str(&format!(
                "| {code} | {name} | {} | {} | {note} |\n",
                answer(rule.class),
                fate(rule.connection)
            ));
        }
        super::super::postgres::assert_documented("sqlstates", &page);
    }
}
