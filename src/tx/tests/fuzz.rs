//! The statement guard against the server's own parser. `HIGHWATER_FUZZ_ROUNDS` sets how long.

use deadpool_postgres::Object;
use proptest::strategy::{Strategy, ValueTree};
use proptest::test_runner::TestRunner;
use tokio_postgres::SimpleQueryMessage;

use super::connection;
use crate::tx::{BEGIN, guard};

/// Whatever text passes, the transaction is still the same one after, or
/// has failed. Under both values of standard_conforming_strings.
#[tokio::test]
async fn text_that_passes_never_ends_the_transaction() {
    let piece = proptest::sample::select(vec![
        "'", "''", "E'", "e'", "x'", "B'", "U&'", "N'", "\\", "\\'", "\\\\", "$a$", "$$", "$", "$1", "--",
        "\n", "\r", "/*", "*/", "\"", "U&\"", ";", ";commit;", ";end;", "commit", "select 1", "select ", " ",
        "a", "1", "1e", "_0", "(", ")", "é", "\u{b}", "\u{a0}", "select '", "; --", "0x1", ".", "::text",
        "||", "as ",
    ]);
    let noise = proptest::collection::vec(piece, 1..12).prop_map(|pieces| pieces.concat());
    let frames =
        proptest::sample::select(vec!["{}", "select '{}", "select E'{}", "select 1 {}", "select $a$ {}"]);
    let texts = (frames, noise).prop_map(|(frame, noise)| frame.replace("{}", &noise));
    let rounds = std::env::var("HIGHWATER_FUZZ_ROUNDS").ok().and_then(|n| n.parse().ok()).unwrap_or(5_000);
    let mut runner = TestRunner::default();
    let connection = connection().await;
    let (mut passed, mut ran, mut refused_commits) = (0, 0, 0);
    for round in 0..rounds {
        let text = texts.new_tree(&mut runner).expect("a text is made").current();
        let conforming = if round % 2 == 0 { "on" } else { "off" };
        connection
            .batch_execute(&format!("SET standard_conforming_strings = {conforming}; {BEGIN}NULL"))
            .await
            .unwrap();
        connection.batch_execute("SELECT set_config('highwater.mark', 'set', true)").await.unwrap();
        let allowed = guard::check(&text, guard::Via::Statement).is_ok();
        let answer = connection.batch_execute(&text).await;
        let same = mark(&connection).await;
        if allowed {
            passed += 1;
            ran += usize::from(answer.is_ok());
            assert!(same, "it passed, and ended the transaction (conforming {conforming}): {text:?}");
        } else {
            refused_commits += usize::from(!same);
        }
        connection.batch_execute("ROLLBACK").await.unwrap();
    }
    eprintln!(
        "{rounds} texts: {passed} passed, {ran} of them ran; {refused_commits} refused ones did commit"
    );
    assert!(ran > 0 && refused_commits > 0, "the noise is too wild to tell anything");
}

/// Whether the transaction that was marked is still there, or has failed as a whole.
async fn mark(connection: &Object) -> bool {
    match connection.simple_query("SELECT current_setting('highwater.mark', true)").await {
        Ok(answer) => answer
            .iter()
            .any(|message| matches!(message, SimpleQueryMessage::Row(row) if row.get(0) == Some("set"))),
        Err(error) => error.code().is_some_and(|code| code.code() == "25P02"),
    }
}
