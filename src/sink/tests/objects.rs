//! Objects that do not fit the table: none of its columns, or some never.

use std::sync::{Arc, Mutex};

use super::*;
use crate::HandlerErrorKind;
use crate::sink::absent::{Absent, LOOKED_AT};

const ORDERS: &str = "CREATE TABLE o (order_id int, amount int, note text)";

fn orders() -> TableSink {
    TableSink::json(Table::append("o", ["order_id", "amount"]))
}

#[tokio::test]
async fn an_object_with_none_of_the_columns_is_rejected() {
    let place = Place::new(ORDERS).await;
    for value in [
        r#"{"before":null,"after":{"order_id":1,"amount":5}}"#,
        r#"{"schema":{},"payload":{"order_id":1}}"#,
        r#"{"orderId":1,"Amount":5}"#,
        // A column of the table, but not one that is written.
        r#"{"note":"secret"}"#,
        "{}",
    ] {
        let error = place.apply(&orders(), &batch(&[(None, Some(value))])).await.expect_err(value);
        assert_eq!(error.kind(), HandlerErrorKind::Reject, "{error:?}");
        let text = error.to_string();
        assert!(text.contains("table o: none of the columns order_id, amount is among"), "{text}");
        assert!(text.contains("envelope"), "{text}");
        assert!(!text.contains("orderId") && !text.contains("payload") && !text.contains("note"), "{text}");
    }
    assert_eq!(place.texts("SELECT amount::text FROM o").await, []);
    // One of them is enough, and null is a value.
    place.apply(&orders(), &batch(&[(None, Some(r#"{"amount":null}"#))])).await.unwrap();
    assert_eq!(place.texts("SELECT amount::text FROM o").await, [None]);
}

#[test]
fn columns_that_never_come_are_told_once() {
    let absent = Absent::new(3);
    for n in 1..LOOKED_AT {
        assert!(absent.note([true, n == 7, false].into_iter()).is_empty());
    }
    assert_eq!(absent.note([true, false, false].into_iter()), [2]);
    assert!(absent.note([true, false, false].into_iter()).is_empty());
}

/// What is said while `work` runs, on this thread.
fn said(work: impl FnOnce()) -> String {
    #[derive(Clone, Default)]
    struct Log(Arc<Mutex<Vec<u8>>>);
    impl std::io::Write for Log {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let log = Log::default();
    let writer = log.clone();
    let subscriber = tracing_subscriber::fmt().with_ansi(false).with_writer(move || writer.clone()).finish();
    tracing::subscriber::with_default(subscriber, work);
    let text = log.0.lock().unwrap().clone();
    String::from_utf8(text).unwrap()
}

#[tokio::test]
async fn a_column_that_never_comes_is_warned_of() {
    let place = Place::new(ORDERS).await;
    let sink = orders();
    let value = r#"{"order_id":1,"amounts":5}"#;
    place.apply(&sink, &batch(&[(None, Some(value))])).await.unwrap();
    let many = batch(&vec![(None, Some(value)); LOOKED_AT as usize]);
    let log = said(|| sink.prepare(&many));
    assert_eq!(log.matches("WARN").count(), 1, "{log}");
    assert!(log.contains("table=\"o\"") && log.contains("columns=\"amount\""), "{log}");
    assert!(!log.contains("amounts"), "{log}");
    assert_eq!(said(|| sink.prepare(&many)), "");
}
