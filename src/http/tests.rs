use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::time::{Duration, Instant};

use super::*;

/// Of a body.
const LONGEST: usize = 1 << 20;

/// What comes of a request to somebody who answers so, and what that one has read.
fn asked(answer: &'static [u8]) -> (Result<Answer, Failed>, String) {
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let address = Address::parse(&format!("http://{}/token?x=1", listener.local_addr().unwrap())).unwrap();
    let server = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut read = Vec::new();
        while !read.ends_with(b"a=b") {
            let mut some = [0; 16];
            let count = stream.read(&mut some).unwrap();
            read.extend_from_slice(&some[..count]);
        }
        // In small pieces, as networks have them.
        for piece in answer.chunks(7) {
            stream.write_all(piece).unwrap();
        }
        String::from_utf8(read).unwrap()
    });
    let deadline = Instant::now() + Duration::from_secs(20);
    let answered = post(&address, &Trust::System, &[("Accept", "x/y")], b"a=b", deadline);
    (answered, server.join().unwrap())
}

#[test]
fn a_request_and_its_answer_are_http() {
    let (answer, read) = asked(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nfine");
    assert_eq!(answer, Ok(Answer { status: 200, body: b"fine".to_vec() }));
    assert!(read.starts_with("POST /token?x=1 HTTP/1.1\r\nHost: 127.0.0.1:"), "{read}");
    assert!(read.ends_with("\r\nAccept: x/y\r\nContent-Length: 3\r\n\r\na=b"), "{read}");
    for (told, status, body) in [
        (
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2;x=y\r\nfi\r\n02\r\nne\r\n0\r\n\r\n",
            200,
            "fine",
        ),
        ("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.0 401 No\r\n\r\n{}", 401, "{}"),
        ("HTTP/1.1 204 None\r\n\r\n", 204, ""),
    ] {
        let answer = asked(told.as_bytes()).0.unwrap();
        assert_eq!((answer.status, answer.body.as_slice()), (status, body.as_bytes()), "{told}");
    }
    for wrong in [
        "",
        "no HTTP\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nshort",
        "HTTP/1.1 200 OK\r\nContent-Length: 999999999\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nfine\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffffff\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n+2\r\nfi\r\n0\r\n\r\n",
    ] {
        assert!(parse(wrong.as_bytes(), true, LONGEST).is_err(), "{wrong:?}");
    }
}

#[test]
fn nobody_waits_for_longer_than_the_deadline() {
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    for scheme in ["http", "https"] {
        let address = Address::parse(&format!("{scheme}://localhost:{port}/")).unwrap();
        let (began, limit) = (Instant::now(), Duration::from_millis(200));
        let pem = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap().cert.pem();
        let answered = post(&address, &Trust::Pem(pem), &[], b"", began + limit);
        assert!(matches!(answered, Err(Failed::Away(_))), "{answered:?}");
        let took = began.elapsed();
        assert!(took >= limit && took < Duration::from_secs(10), "{took:?}");
    }
}

#[test]
fn an_address_is_a_url_and_is_not_repeated() {
    for (text, shown, path) in [
        ("https://id.example/oauth2/token", "https://id.example:443", "/oauth2/token"),
        ("HTTP://127.0.0.1:8080", "http://127.0.0.1:8080", "/"),
        ("https://[::1]:8443?tenant=a", "https://[::1]:8443", "/?tenant=a"),
    ] {
        let address = Address::parse(text).unwrap();
        assert_eq!((address.to_string().as_str(), address.path.as_str()), (shown, path));
    }
    for text in [
        "",
        "s3cret",
        "ftp://s3cret/",
        "https://",
        "https:///s3cret",
        "https://me:s3cret@host/",
        "https://host:s3cret/",
        "https://host:0/",
        "https://host:99999/",
        "https://[::1/s3cret",
        "https://ho st/s3cret",
        "https://host/s3cret\r\nX: y",
        "https://host/#s3cret",
    ] {
        let error = Address::parse(text).unwrap_err();
        assert!(!error.contains("s3cret") && error.contains("https://host/path"), "{text}: {error}");
    }
    let open = |text: &str| Address::parse(text).unwrap().is_open();
    assert!(open("http://id.example/") && !open("https://id.example/") && !open("http://127.0.0.1/"));
}

#[test]
fn whom_to_trust_must_be_there() {
    let folder = tempfile::tempdir().unwrap();
    for trust in [Trust::Path(folder.path().to_owned()), Trust::Pem("x".to_owned())] {
        assert!(trust.client().unwrap_err().contains("no authority to trust"), "{trust:?}");
    }
    let pem = rcgen::generate_simple_self_signed(["a".to_owned()]).unwrap().cert.pem();
    std::fs::write(folder.path().join("ca.pem"), pem).unwrap();
    assert!(Trust::new(folder.path().to_str().unwrap()).client().is_ok());
    assert!(Trust::new("/nowhere").client().unwrap_err().contains("could not read /nowhere"));
    assert_eq!(Trust::new("system"), Trust::System);
}

crate::fuzz::fuzz!(
    /// In pieces it is what it is as a whole, and never larger than it may be.
    any_answer_is_read_or_refused,
    &[
        "HTTP/1.1 200 OK\r\n", "HTTP/1.1 100 Continue\r\n\r\n", "HTTP/1.0 401 No\r\n", "Content-Length: ", "3", "\r\n", "\r\n\r\n",
        "Transfer-Encoding: chunked\r\n", "0\r\n\r\n", "5;x\r\nabcde\r\n", "ffffffff", "abc", ":", " ",
    ],
    |bytes| {
        let whole = parse(bytes, true, LONGEST);
        let early = (0..=bytes.len()).find_map(|end| parse(&bytes[..end], false, LONGEST).transpose());
        if let Some(Ok(answer)) = early {
            assert_eq!(parse(bytes, false, LONGEST), Ok(Some(answer)));
        }
        if let Ok(answer) = whole {
            assert!(answer.is_some_and(|answer| answer.body.len() <= bytes.len()));
        }
    }
);

crate::fuzz::fuzz!(
    any_address_of_a_server_is_read_or_refused_without_a_word_of_it,
    &[
        "https://",
        "http://",
        "s3cret",
        "@",
        ":",
        "/",
        "?",
        "#",
        "[",
        "]",
        "::1",
        "localhost",
        "8443",
        "99999",
        "%20",
        "."
    ],
    |bytes| {
        let text = String::from_utf8_lossy(bytes);
        match Address::parse(&text) {
            Ok(address) => assert_eq!(Address::parse(&format!("{address}{}", address.path)), Ok(address)),
            Err(why) => assert!(!why.contains("s3cret"), "{text}: {why}"),
        }
    }
);
