use super::*;

const NOTHING: Change = Change { credentials: false, files: false };
const CREDENTIALS: Change = Change { credentials: true, files: false };
const FILES: Change = Change { credentials: false, files: true };

fn secrets() -> KafkaSecrets {
    KafkaSecrets::default()
}

#[test]
fn a_password_in_a_file_is_seen_to_change_and_a_command_is_run_again_when_it_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let (file, counter) = (folder.path().join("password"), folder.path().join("n"));
    std::fs::write(&file, "one\n").unwrap();
    let of_file = KafkaSecrets { password: Some(Source::File(file.clone())), ..secrets() };
    let access = Access::open(Vec::new(), of_file).unwrap();
    assert_eq!(access.properties().get("sasl.password"), Some("one"));
    assert_eq!(access.refresh(false), Ok(NOTHING));
    std::fs::write(&file, "two").unwrap();
    assert_eq!(access.refresh(false), Ok(CREDENTIALS));
    assert_eq!(access.properties().get("sasl.password"), Some("two"));
    std::fs::remove_file(&file).unwrap();
    let why = access.refresh(false).unwrap_err().why;
    assert!(why.contains("kafka_password_file") && !why.contains("two"), "{why}");
    assert_eq!(access.properties().get("sasl.password"), Some("two"), "the one before stays");

    let command = format!("echo x >> {0}; wc -l < {0}", counter.display());
    let command = Source::Command(command.as_str().into());
    let access = Access::open(Vec::new(), KafkaSecrets { password: Some(command), ..secrets() }).unwrap();
    assert_eq!(access.refresh(false), Ok(NOTHING), "not run again before its time");
    assert_eq!(access.refresh(true), Ok(CREDENTIALS));
    assert_eq!(access.properties().get("sasl.password"), Some("2"));
}

/// Kubernetes swaps a link: neither the path nor the time of change says that anything is new.
#[test]
fn a_certificate_is_compared_by_its_content() {
    let folder = tempfile::tempdir().unwrap();
    let (link, old, new) =
        (folder.path().join("..data"), folder.path().join("old"), folder.path().join("new"));
    for (path, text) in [(&old, "a"), (&new, "b")] {
        std::fs::create_dir(path).unwrap();
        std::fs::write(path.join("tls.crt"), text).unwrap();
    }
    std::os::unix::fs::symlink(&old, &link).unwrap();
    let path = link.join("tls.crt").display().to_string();
    let properties = vec![("ssl.certificate.location".to_owned(), path)];
    let access = Access::open(properties, secrets()).unwrap();
    assert!(access.may_change());
    assert_eq!(access.refresh(false), Ok(NOTHING));
    std::fs::remove_file(&link).unwrap();
    std::os::unix::fs::symlink(&new, &link).unwrap();
    assert_eq!(access.refresh(false), Ok(FILES));
    assert_eq!(access.refresh(false), Ok(FILES), "it could not be used");
    access.is_used();
    assert_eq!(access.refresh(false), Ok(NOTHING));
    // Gone for a moment: the clients have what is there again.
    std::fs::remove_file(&link).unwrap();
    assert_eq!(access.refresh(false), Ok(FILES));
    std::os::unix::fs::symlink(&new, &link).unwrap();
    assert_eq!(access.refresh(false), Ok(NOTHING));
}

/// A server that gives out tokens, is away for a while, and refuses.
#[test]
fn a_token_is_asked_for_when_it_is_due_and_who_does_not_answer_is_waited_for() {
    use std::sync::atomic::AtomicUsize;

    use crate::{KafkaToken, TokenError, TokenSource};

    struct Some(Arc<AtomicUsize>);

    impl TokenSource for Some {
        async fn token(&self) -> Result<KafkaToken, TokenError> {
            match self.0.fetch_add(1, Ordering::Relaxed) {
                0 => Ok(KafkaToken::new("one")),
                1 => Err(TokenError::away("not now")),
                2 => Err(TokenError::denied("not you")),
                _ => Ok(KafkaToken::new("two").extension("a", "b")),
            }
        }
    }

    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).build().unwrap();
    let asked = Arc::new(AtomicUsize::new(0));
    let source = Arc::new(Some(Arc::clone(&asked)));
    let own = OwnTokens { source, runtime: runtime.handle().clone() };
    let tokens = KafkaSecrets { tokens: Option::Some(Issuer::Own(own)), ..secrets() };
    let access = Access::open(Vec::new(), tokens).unwrap();
    assert_eq!(access.refresh(false), Ok(NOTHING), "not asked before its time");
    assert!(access.due_in().is_some_and(|due| due > Duration::from_secs(2_800)));
    assert_eq!(access.refresh(true).unwrap_err().cause, Cause::Away);
    assert!(access.is_waiting());
    assert_eq!(access.refresh(true).unwrap_err().cause, Cause::Denied);
    assert!(!access.is_waiting());
    assert_eq!(access.refresh(true), Ok(CREDENTIALS));
    assert_eq!(asked.load(Ordering::Relaxed), 4);
}

#[test]
fn tokens_that_nobody_gives_out_are_missed_at_once() {
    let properties = [("sasl.mechanisms", "OAUTHBEARER"), ("security.protocol", "SASL_SSL")];
    let properties = properties.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec();
    let unread = Access::open(properties, secrets()).unwrap_err();
    assert!(unread.cause == Cause::Missing && unread.why.contains("kafka_token_url"), "{unread:?}");
}
