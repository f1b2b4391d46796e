use std::time::Duration;

use uuid::Uuid;

use super::*;
use crate::db::url::Address;
use crate::db::{Db, Identity};
use crate::testing::Postgres;
use crate::{ErrorKind, PartialConfig};

fn defect(parameters: &str) -> String {
    let address = Address::parse(&format!("postgres://h/d?{parameters}")).expect(parameters);
    let error = Tls::new(address.tls).expect_err(parameters);
    assert_eq!(error.kind(), ErrorKind::Configuration);
    error.report()
}

#[test]
fn files_are_looked_at_before_anything_is_connected_to() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.display().to_string()
    };
    let made = rcgen::generate_simple_self_signed(["db".to_owned()]).unwrap();
    let (certificate, key) =
        (file("a.crt", &made.cert.pem()), file("a.key", &made.signing_key.serialize_pem()));
    let other = file("b.key", &rcgen::KeyPair::generate().unwrap().serialize_pem());
    let nothing = file("nothing", "hello");
    let locked =
        file("locked", "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n");
    for (parameters, words) in [
        ("sslrootcert=/nowhere/ca.pem".to_owned(), "could not read sslrootcert /nowhere/ca.pem"),
        (format!("sslrootcert={nothing}"), "holds no certificate in PEM"),
        (format!("sslcert={certificate}&sslkey=/nowhere/key"), "could not read sslkey /nowhere/key"),
        (format!("sslcert={certificate}&sslkey={locked}"), "without a passphrase"),
        (format!("sslcert={certificate}&sslkey={other}"), "sslcert and sslkey do not do"),
        (format!("sslcert={nothing}&sslkey={key}"), "holds no certificate in PEM"),
    ] {
        let defect = defect(&format!("sslmode=require&{parameters}"));
        assert!(defect.contains(words), "{defect}");
    }
    if home_file("root.crt").is_none() {
        for mode in ["verify-ca", "verify-full"] {
            assert!(defect(&format!("sslmode={mode}")).contains("add sslrootcert=FILE"));
        }
    }
    let whole = format!("sslmode=verify-full&sslrootcert={certificate}&sslcert={certificate}&sslkey={key}");
    let address =
        Address::parse(&format!("postgres://h/d?{whole}&ssl_min_protocol_version=TLSv1.3")).unwrap();
    assert_eq!(address.tls.protocol_versions(), [&version::TLS13]);
    assert!(Tls::new(address.tls).unwrap().is_some());
    // Files that a connection without TLS does not need may be missing.
    let address = Address::parse("postgres://h/d?sslmode=disable&sslrootcert=/nowhere").unwrap();
    assert!(Tls::new(address.tls).unwrap().is_none());
}

/// A batch that is given up is cancelled first: the request must take the way that the connection took.
#[tokio::test]
async fn a_cancel_goes_over_tls() {
    let postgres = Postgres::start_local(&[]).await.unwrap();
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    postgres.write_file("server.crt", &made.cert.pem()).await.unwrap();
    postgres.write_file("server.key", &made.signing_key.serialize_pem()).await.unwrap();
    postgres.client().await.unwrap().batch_execute("ALTER SYSTEM SET ssl = on").await.unwrap();
    postgres.restart().await.unwrap();
    let config = PartialConfig::default()
        .brokers(vec!["localhost:1".to_owned()])
        .postgres_url(format!("{}?sslmode=require", postgres.admin_url()))
        .group("g")
        .topics(vec!["t".to_owned()])
        .finish()
        .unwrap();
    let identity = Identity { owner: Uuid::new_v4(), group: "g".into(), instance_id: None };
    let db = Db::new(&config, identity).unwrap();
    let lane = db.lane().await.unwrap();
    let row = lane.query_one("SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()", &[]).await.unwrap();
    assert!(row.get::<_, bool>(0));

    let token = lane.cancel_token();
    let sleep = lane.batch_execute("SELECT pg_sleep(60)");
    let cancel = async {
        // Again and again: the first may come before the statement.
        loop {
            tokio::time::sleep(Duration::from_millis(100)).await;
            db.cancel(&token).await.unwrap();
        }
    };
    let ended = tokio::select! {
        ended = sleep => ended,
        () = cancel => unreachable!("it goes on"),
    };
    assert_eq!(ended.unwrap_err().code().map(|code| code.code()), Some("57014"));
}
