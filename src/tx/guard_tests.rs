//! Cases and properties of the statement guard. That a real server agrees is tested in `tx/tests.rs`.

use proptest::prelude::*;

use super::*;

fn statement(text: &str) -> Result<(), Refusal> {
    check(text, Via::Statement)
}

#[test]
fn transaction_control_is_refused_however_it_is_spelt() {
    use Refusal::{Savepoint, TransactionControl, TransactionMode, TwoPhase};
    for (text, refusal) in [
        ("COMMIT", TransactionControl),
        ("commit", TransactionControl),
        ("/**/COMMIT", TransactionControl),
        (";;commit", TransactionControl),
        ("select 1; end", TransactionControl),
        ("--x\ncommit", TransactionControl),
        ("--x\rcommit", TransactionControl),
        ("\u{b}commit", TransactionControl),
        ("'a''b'; commit", TransactionControl),
        (r"select E'\\'; commit --'", TransactionControl),
        ("select E'a'\n'\\\\'; commit --'", TransactionControl),
        ("select $a$;$a$;commit", TransactionControl),
        ("select $a$ $b$ $a$;commit --$b$", TransactionControl),
        ("select x$a$;commit;--$a$", TransactionControl),
        (r#"select U&"d\0061"; commit"#, TransactionControl),
        (r#"select "a"";"; commit"#, TransactionControl),
        ("/* /* */ */ commit", TransactionControl),
        ("select 'x' /* ' */; commit", TransactionControl),
        ("select (1; commit)", TransactionControl),
        ("begin", TransactionControl),
        ("START TRANSACTION", TransactionControl),
        ("END WORK", TransactionControl),
        ("Abort", TransactionControl),
        ("ROLLBACK AND CHAIN", TransactionControl),
        ("COMMIT AND CHAIN", TransactionControl),
        ("commit prepared 'x'", TwoPhase),
        ("ROLLBACK PREPARED 'x'", TwoPhase),
        ("PREPARE TRANSACTION 'x'", TwoPhase),
        ("prepare/**/transaction 'x'", TwoPhase),
        ("SAVEPOINT a", Savepoint),
        ("release a", Savepoint),
        ("rollback to a", Savepoint),
        ("ROLLBACK WORK TO SAVEPOINT a", Savepoint),
        ("set transaction read only", TransactionMode),
        ("SET LOCAL TRANSACTION ISOLATION LEVEL SERIALIZABLE", TransactionMode),
        ("SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY", TransactionMode),
        ("SET LOCAL SESSION CHARACTERISTICS AS TRANSACTION READ ONLY", TransactionMode),
    ] {
        assert_eq!(statement(text), Err(refusal), "{text:?}");
        assert!(check(text, Via::CopyIn).is_err(), "{text:?}");
    }
}

/// One text, two readings: a server with standard_conforming_strings off would run the COMMIT.
#[test]
fn a_text_must_be_harmless_whatever_a_backslash_means() {
    assert_eq!(statement(r"select '\' '; commit --'"), Err(Refusal::TransactionControl));
    assert_eq!(statement(r"select '\'; commit --'"), Err(Refusal::TransactionControl));
    assert_eq!(statement(r"select '\'"), Ok(()));
    assert_eq!(statement(r"select replace(path, '\', '/') from files where x = '\n'"), Ok(()));
}

#[test]
fn what_outlives_the_batch_or_weakens_the_commit_is_refused() {
    use Refusal::{Discard, Listen, ProtectedSetting, Role, SessionLock, SessionSetting, SqlPrepare};
    for (text, refusal) in [
        ("set search_path = x", SessionSetting),
        ("SET SESSION lock_timeout TO 0", SessionSetting),
        ("SET TIME ZONE 'UTC'", SessionSetting),
        ("SET local.x = 1", SessionSetting),
        ("set", SessionSetting),
        ("RESET ALL", SessionSetting),
        ("RESET search_path", SessionSetting),
        ("SET LOCAL synchronous_commit = off", ProtectedSetting),
        ("SET synchronous_commit = off", ProtectedSetting),
        ("SET LOCAL \"Synchronous_Commit\" TO off", ProtectedSetting),
        ("SET LOCAL U&\"\\0073ynchronous_commit\" TO off", ProtectedSetting),
        ("SET LOCAL transaction_read_only TO on", ProtectedSetting),
        ("SET LOCAL application_name = 'x'", ProtectedSetting),
        ("SET LOCAL NAMES 'SJIS'", ProtectedSetting),
        ("select pg_catalog.set_config ( 'synchronous_commit', 'off', true)", ProtectedSetting),
        ("select \"set_config\"($$Synchronous_commit$$, 'off', true)", ProtectedSetting),
        ("SET ROLE x", Role),
        ("SET LOCAL ROLE x", Role),
        ("SET SESSION AUTHORIZATION x", Role),
        ("SET LOCAL SESSION AUTHORIZATION x", Role),
        ("SET SESSION SESSION AUTHORIZATION x", Role),
        ("SET LOCAL standard_conforming_strings = off", ProtectedSetting),
        ("SET LOCAL default_transaction_read_only = on", ProtectedSetting),
        ("select set_config('search_path', 'a', false)", SessionSetting),
        ("select set_config('search_path', 'a', $1)", SessionSetting),
        ("select set_config('search_path', 'a', not true)", SessionSetting),
        ("select set_config('search_path', 'a', true and false)", SessionSetting),
        ("select set_config('search_path', 'a', is_local => true)", SessionSetting),
        ("select set_config($1, $2, (true))", SessionSetting),
        ("select \"set_config\"('a.b', set_config('c.d', 'x', false), true)", SessionSetting),
        ("select set_config('a.b', coalesce($1, set_config('c.d', 'x', false)), true)", SessionSetting),
        ("select f(set_config('a.b', f(1, 2), true), set_config('a.b', 'y', false))", SessionSetting),
        ("UPDATE pg_settings SET setting = 'off' WHERE name = 'synchronous_commit'", SessionSetting),
        ("update/**/only pg_catalog . \"pg_settings\" set setting = 'off'", SessionSetting),
        ("with x as (update pg_catalog.pg_settings set setting = 'off') select 1", SessionSetting),
        ("PREPARE a AS SELECT 1", SqlPrepare),
        ("DEALLOCATE ALL", SqlPrepare),
        ("DISCARD ALL", Discard),
        ("LISTEN x", Listen),
        ("select pg_advisory_lock(1)", SessionLock),
        ("select 1 where pg_catalog.PG_TRY_ADVISORY_LOCK (1)", SessionLock),
    ] {
        assert_eq!(statement(text), Err(refusal), "{text:?}");
    }
}

#[test]
fn ordinary_statements_pass() {
    for text in [
        "",
        " ; ; ",
        "insert into t (a) values ($1) on conflict do nothing returning a",
        "select case when a then 1 end, 'commit; rollback' from \"end\"; -- commit",
        "select 1; /* ; commit */ select 2;",
        "(select 1) union (select 2)",
        "with begin as (select 1) select * from begin",
        "select $1 commit",
        "select commit from begin",
        "update t set transaction = 1",
        "set local search_path = a, b",
        "SET LOCAL \"app\".tenant = '7'",
        "SET LOCAL TIME ZONE 'UTC'",
        "SET CONSTRAINTS ALL IMMEDIATE",
        "select set_config('app.tenant', $1, true)",
        "select set_config('app.tenant', f($1, 2), TRUE), set_config('a.b', '', true)",
        "select set_config('a.b', coalesce($1, set_config('c.d', 'x', true)), true)",
        "select set_config from t",
        "select setting from pg_settings where name = 'work_mem'",
        "update t set a = s.setting from pg_settings s",
        "insert into t values (1) on conflict (a) do update set b = 2",
        "select 1 from pg_settings for update",
        "select pg_advisory_xact_lock(1)",
        "do $$ begin commit; end $$",
        "call may_commit()",
        "execute a",
        "notify x, 'y'",
        "unlisten *",
        "lock table t in share mode",
        "create temporary table s (like t) on commit drop",
        "create rule r as on insert to t do also (insert into u values (1); insert into v values (2))",
        "create function f() returns int language sql as 'select 1; end'",
        "copy t from '/tmp/x'",
        "copy t from program 'true'",
        "explain copy_stdin",
        "select 'stdin' from stdin",
    ] {
        assert_eq!(statement(text), Ok(()), "{text:?}");
    }
}

#[test]
fn copy_goes_through_copy_in_alone() {
    for text in [
        "COPY t FROM STDIN",
        "copy t (a, b) from stdin (format binary);",
        "copy\"t\"from/**/stdout",
        "copy s.t (a) from stdin with (format csv, header) where a > 1",
    ] {
        assert_eq!(statement(text), Err(Refusal::CopyOutsideCopyIn), "{text:?}");
        assert_eq!(check(text, Via::CopyIn), Ok(()), "{text:?}");
    }
    for text in ["copy t to stdout", "copy (select * from t) to stdin", "select 1; copy t to stdout"] {
        assert_eq!(statement(text), Err(Refusal::CopyOutsideCopyIn), "{text:?}");
        assert_eq!(check(text, Via::CopyIn), Err(Refusal::NotACopyIn), "{text:?}");
    }
    for text in [
        "",
        "select 1",
        "copy t from '/x'",
        "copy t from stdin; select 1",
        "copy t from stdin; copy t from stdin",
    ] {
        assert_eq!(check(text, Via::CopyIn), Err(Refusal::NotACopyIn), "{text:?}");
    }
}

#[test]
fn text_that_cannot_be_read_for_certain_is_refused() {
    assert_eq!(statement("select 1\0; commit"), Err(Refusal::ZeroByte));
    assert_eq!(statement("select 'a"), Err(Refusal::Unterminated));
    assert_eq!(statement("select 1e'\\''; commit --'"), Err(Refusal::Ambiguous));
    assert_eq!(
        statement("create function f() returns int begin atomic select 1; end; commit"),
        Err(Refusal::SqlBody)
    );
}

#[test]
fn docs_list_the_refusals() {
    let table: String = Refusal::ALL
        .iter()
        .map(|refusal| format!("| {} | {} |\n", refusal.what(), refusal.instead()))
        .collect();
    crate::verdict::postgres::assert_documented(
        "statement-guard",
        &format!("| refused because | instead |\n|---|---|\n{table}"),
    );
}

/// Anything that separates statements from one another, or hides nothing.
fn blank() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        Just(" ".to_owned()),
        Just("\t\r\n".to_owned()),
        Just(";".to_owned()),
        "--[ -~]{0,8}[\n\r]",
        "/\\*[a-z;' \"$-]{0,8}\\*/",
        "/\\*[a-z;' ]{0,4}/\\*[a-z;']{0,4}\\*/[a-z;' ]{0,4}\\*/",
    ];
    prop::collection::vec(piece, 0..6).prop_map(|pieces| pieces.concat())
}

/// A whole statement that hides whatever it is given.
fn hiding() -> impl Strategy<Value = String> {
    let noise = "[a-zA-Z0-9 ;'\"\\\\$\n-]{0,24}";
    prop_oneof![
        noise.prop_map(|noise| format!("select '{}'", noise.replace('\\', "").replace('\'', "''"))),
        noise.prop_map(|noise| format!("select E'{}'", noise.replace('\\', "\\\\").replace('\'', "\\'"))),
        noise.prop_map(|noise| format!("select 1 as \"{}\"", noise.replace(['"', '\\'], ""))),
        noise.prop_map(|noise| format!("select $zz${}$zz$", noise.replace(['$', '\\'], ""))),
        noise.prop_map(|noise| format!("select /* {} */ 1", noise.replace('\\', ""))),
    ]
}

proptest! {
    #[test]
    fn hidden_text_passes_and_bare_commit_does_not(
        before in prop::collection::vec((hiding(), blank()), 0..4),
        gap in blank(),
        control in prop::sample::select(vec!["COMMIT", "end", "Rollback", "ABORT", "begin", "savepoint x"]),
    ) {
        let mut text = String::new();
        for (statement, blank) in &before {
            text.push_str(statement);
            text.push(';');
            text.push_str(blank);
        }
        prop_assert_eq!(statement(&text), Ok(()), "{:?}", text);
        text.push_str(&gap);
        text.push_str(control);
        prop_assert!(statement(&text).is_err(), "{:?}", text);
    }

    /// It neither panics nor depends on what follows a statement's end.
    #[test]
    fn noise_never_hides_a_commit_on_both_sides(noise in "[a-z'\"$;*/\\\\ \n1Ee-]{0,40}") {
        let alone = statement(&noise);
        let followed = statement(&format!("{noise}\n;\ncommit"));
        if alone.is_ok() {
            prop_assert!(followed.is_err(), "{:?}", noise);
        }
    }
}

crate::fuzz::fuzz!(
    /// Whatever it is, it is judged, and what is refused is not repeated. (That nothing which passes ends a transaction is
    /// asked of the server: `tests/fuzz.rs`.)
    any_text_is_judged,
    &[
        "select ", "SET ", "LOCAL ", "ROLE ", "commit", "savepoint a", "'", "''", "E'", "U&'", "$a$", "$$", "--", "\n", "/*",
        "*/", ";", "(", ")", "\"", "\\", "set_config(", "pg_catalog.", ",", " true", "copy t from ", "stdin", "do ", "1", "é",
    ],
    |bytes| {
        let text = String::from_utf8_lossy(bytes);
        for via in [Via::Statement, Via::CopyIn] {
            let _ = check(&text, via);
        }
        for backslash in [Backslash::Escapes, Backslash::Ordinary] {
            let mut lexer = Lexer::new(&text, backslash);
            let mut tokens = 0;
            while let Ok(Some(_)) = lexer.next() {
                tokens += 1;
                assert!(tokens <= text.len(), "it does not move on");
            }
        }
    }
);
