use super::*;

fn read(text: &str) -> Address {
    Address::parse(text).unwrap_or_else(|defect| panic!("{text}: {defect}"))
}

fn refused(text: &str) -> String {
    let defect = Address::parse(text).err();
    defect.unwrap_or_else(|| panic!("{text} is taken"))
}

#[test]
fn libpqs_modes_are_known_in_both_forms() {
    for (name, mode) in [
        ("disable", Mode::Disable),
        ("allow", Mode::Allow),
        ("prefer", Mode::Prefer),
        ("require", Mode::Require),
        ("verify-ca", Mode::VerifyCa),
        ("verify-full", Mode::VerifyFull),
    ] {
        assert_eq!(read(&format!("postgres://u:p@h/d?sslmode={name}&connect_timeout=3")).tls.mode(), mode);
        assert_eq!(read(&format!("host=h sslmode='{name}' user=u")).tls.mode(), mode);
    }
    assert_eq!(read("postgres://h/d").tls.mode(), Mode::Prefer);
    assert_eq!(read("postgres://h/d?ssl=true").tls.mode(), Mode::Require);
    assert_eq!(read("postgres://h/d?sslrootcert=system").tls.mode(), Mode::VerifyFull);
    assert_eq!(read("postgres://h/d?sslmode=&sslcert=").tls.mode(), Mode::Prefer, "empty is the default");
}

#[test]
fn what_is_not_supported_is_refused_by_name() {
    for (parameters, words) in [
        ("sslmode=verify_full", "sslmode, which must be one of disable, allow, prefer, require, verify-ca"),
        ("sslmode=require&sslrootcert=system", "needs sslmode=verify-full"),
        ("sslpassword=x", "sslpassword: encrypted keys are not supported"),
        ("sslcrl=x", "sslcrl: revocation lists are not supported"),
        ("sslcrldir=x", "sslcrldir: revocation lists"),
        ("sslkey=x", "sslkey without sslcert"),
        ("sslsni=yes", "sslsni, which must be one of 0 and 1"),
        ("sslcertmode=require", "sslcertmode, which must be one of allow and disable"),
        ("ssl_min_protocol_version=TLSv1.3&ssl_max_protocol_version=TLSv1.2", "above"),
        ("ssl_max_protocol_version=TLSv1.1", "TLSv1.2 and TLSv1.3"),
        ("sslnegotiation=direct", "needs sslmode=require"),
        ("gssencmode=require", "gssencmode, which may only be disable or prefer"),
        (
            "target_session_attrs=standby",
            "target_session_attrs, which may only be any or primary or read-write",
        ),
        ("target_session_attrs=read-only", "target_session_attrs"),
        ("require_auth=scram-sha-256", "require_auth"),
        ("service=x", "service files are not read"),
        ("passfile=x", "password files are not read"),
        ("ssl=true", "a parameter that is not known"),
        ("sslmod=require", "a parameter that is not known"),
    ] {
        let pairs = format!("host=h {}", parameters.replace('&', " "));
        assert!(refused(&pairs).contains(words), "{pairs}: {}", refused(&pairs));
        if parameters != "ssl=true" {
            let url = format!("postgres://h/d?{parameters}");
            assert!(refused(&url).contains(words), "{url}: {}", refused(&url));
        }
    }
}

#[test]
fn what_changes_nothing_is_taken() {
    read(
        "postgres://u@h/d?keepalives_count=3&tcp_user_timeout=5&gssencmode=prefer&client_encoding=UTF8\
         &target_session_attrs=read-write&sslcompression=0&fallback_application_name=x&sslmode=disable",
    );
}

#[test]
fn every_server_gets_its_own_configuration() {
    let address =
        read("postgres://u:p@a:1,b:2,[::1]:3/d?connect_timeout=7&options=-c%20x.y%3D1&sslmode=require");
    assert_eq!(address.servers(), ["a:1", "b:2", "::1:3"]);
    for (config, port) in address.configs().iter().zip(1..) {
        assert_eq!((config.get_hosts().len(), config.get_ports()), (1, [port].as_slice()));
        assert_eq!(config.get_password(), Some(b"p".as_slice()));
        assert_eq!(config.get_options(), Some("-c x.y=1"));
        assert_eq!(config.get_connect_timeout().map(std::time::Duration::as_secs), Some(7));
        assert_eq!(config.get_target_session_attrs(), TargetSessionAttrs::ReadWrite);
    }
    let address = read("host=a,b hostaddr=127.0.0.1,127.0.0.2 port=7 load_balance_hosts=random");
    assert_eq!((address.servers(), address.random_order()), (vec!["a:7".to_owned(), "b:7".to_owned()], true));
    assert_eq!(address.configs()[1].get_hostaddrs(), ["127.0.0.2".parse::<std::net::IpAddr>().unwrap()]);
    // Without a name, a certificate is compared with the address.
    let address = read("hostaddr=127.0.0.1 user=u");
    assert_eq!(address.configs()[0].get_hosts(), [Host::Tcp("127.0.0.1".to_owned())]);
    let socket = read("postgres:///d?host=/var/run/postgresql&port=6");
    assert_eq!(socket.configs()[0].get_hosts(), [Host::Unix("/var/run/postgresql".into())]);
    assert_eq!(socket.servers(), ["/var/run/postgresql:6"]);
    assert_eq!(read("postgres://%2Frun%2Fpg/d").servers(), ["/run/pg:5432"]);
    for (wrong, words) in [
        ("host=a,b port=1,2,3", "2 hosts but 3 ports"),
        ("host=a,b hostaddr=127.0.0.1", "2 hosts but 1 hostaddr"),
        ("user=u", "names no host"),
        ("postgres:///d", "names no host"),
    ] {
        assert!(refused(wrong).contains(words), "{wrong}: {}", refused(wrong));
    }
}

/// Whatever a mistake makes of a password: neither names that libpq does not know nor values are shown.
#[test]
fn no_mistake_shows_a_password() {
    for text in [
        "postgres://u:s3cret@x@h/d",
        "postgres://u@h/d?password=a&s3cret=b",
        "postgres://u@h/d?password=a&s3cret",
        "postgres://u:p@h:s3cret/d",
        "postgres://u@h/d?sslmode=s3cret",
        "postgres://u@h/d?target_session_attrs=s3cret",
        "host=h password='x' s3cret=1",
        "host=h password=x s3cret",
        "host=h port=s3cret",
        "s3cret",
    ] {
        let defect = refused(text);
        assert!(!defect.contains("s3cret"), "{defect}");
    }
    let read = read("postgres://u:s3cret@h/d?sslmode=verify-full&sslrootcert=/x");
    assert!(!format!("{read:?}").contains("s3cret"));
}

crate::fuzz::fuzz!(
    /// No spelling of an address shows what may be its password.
    any_address_is_read_or_refused_without_a_word_of_it,
    &[
        "postgres://", "postgresql://", "s3cret", ":", "@", "/", "?", "&", "=", ",", "%", "%73", "[::1]", "host", "host=", "'",
        "\\", " ", "password=", "user=", "sslmode=", "verify-full", "sslrootcert=system", "port=", "5432", "options=", "-c a=b",
        "hostaddr=", "127.0.0.1", "/var/run", "dbname=", "target_session_attrs=", "read-write",
    ],
    |bytes| {
        let text = String::from_utf8_lossy(bytes);
        match Address::parse(&text) {
            Ok(address) => assert!(address.servers().len() <= text.len() + 1),
            Err(why) => assert!(!why.contains("s3cret"), "{text}: {why}"),
        }
    }
);
