//! As much of HTTP as a collector nearby needs: one POST, on the thread that sends.
//!
//! Not by a general client: what such a one does depends on the features that other crates of the program turn on. With
//! TLS turned on elsewhere, and no provider for it, the one that the SDK suggests panics as soon as it is made.

use std::io::{self, Read as _, Write as _};
use std::net::{TcpStream, ToSocketAddrs as _};
use std::pin::Pin;
use std::time::{Duration, Instant};

use opentelemetry_http::{Bytes, HttpClient, HttpError, Request, Response};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// Of an answer, head or body; a collector's is some hundred bytes.
const MAX_ANSWER: usize = 64 * 1024;

/// A client without TLS that blocks its caller for at most `timeout`.
#[derive(Debug)]
pub(super) struct PlainClient {
    pub(super) timeout: Duration,
}

impl HttpClient for PlainClient {
    fn send_bytes<'client, 'sending>(
        &'client self,
        request: Request<Bytes>,
    ) -> Pin<Box<dyn Future<Output = Result<Response<Bytes>, HttpError>> + Send + 'sending>>
    where
        'client: 'sending,
        Self: 'sending,
    {
        Box::pin(std::future::ready(self.post(&request)))
    }
}

impl PlainClient {
    fn post(&self, request: &Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let deadline = Instant::now() + self.timeout;
        let authority = request.uri().authority().ok_or("the address names no host")?;
        let host = authority.host().trim_start_matches('[').trim_end_matches(']');
        let mut stream = connect(host, authority.port_u16().unwrap_or(80), deadline)?;
        let path = request.uri().path_and_query().map_or("/", |path| path.as_str());
        let mut head = format!(
            "POST {path} HTTP/1.1\r\nhost: {authority}\r\nconnection: close\r\ncontent-length: {}\r\n",
            request.body().len()
        )
        .into_bytes();
        for (name, value) in request.headers() {
            head.extend([name.as_str().as_bytes(), b": ", value.as_bytes(), b"\r\n"].concat());
        }
        head.extend(b"\r\n");
        stream.set_write_timeout(Some(left(deadline)?))?;
        stream.write_all(&head)?;
        stream.write_all(request.body())?;
        answer(&mut stream, deadline)
    }
}

fn connect(host: &str, port: u16, deadline: Instant) -> Result<TcpStream, HttpError> {
    let mut refused = io::Error::from(io::ErrorKind::AddrNotAvailable);
    for address in (host, port).to_socket_addrs()? {
        match TcpStream::connect_timeout(&address, CONNECT_TIMEOUT.min(left(deadline)?)) {
            Ok(stream) => return Ok(stream),
            Err(error) => refused = error,
        }
    }
    Err(refused.into())
}

fn left(deadline: Instant) -> io::Result<Duration> {
    let left = deadline.saturating_duration_since(Instant::now());
    if left.is_zero() { Err(io::ErrorKind::TimedOut.into()) } else { Ok(left) }
}

/// Status, headers, and the body where its length is told. One in chunks would say no more than the status does.
fn answer(stream: &mut TcpStream, deadline: Instant) -> Result<Response<Bytes>, HttpError> {
    let mut bytes = Vec::new();
    let head = loop {
        if let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
            break end + 4;
        }
        read(stream, &mut bytes, deadline)?;
    };
    let text = std::str::from_utf8(&bytes[..head])?;
    let mut lines = text.trim_end().split("\r\n");
    let status = lines.next().and_then(|line| line.split(' ').nth(1)).ok_or("the answer is not HTTP")?;
    let mut response = Response::builder().status(status);
    let mut length = 0;
    for (name, value) in lines.filter_map(|line| line.split_once(':')) {
        if name.eq_ignore_ascii_case("content-length") {
            length = value.trim().parse()?;
        }
        response = response.header(name, value.trim());
    }
    if length > MAX_ANSWER {
        return Err("the answer is too long".into());
    }
    while bytes.len() < head + length {
        read(stream, &mut bytes, deadline)?;
    }
    Ok(response.body(Bytes::copy_from_slice(&bytes[head..head + length]))?)
}

fn read(stream: &mut TcpStream, into: &mut Vec<u8>, deadline: Instant) -> Result<(), HttpError> {
    stream.set_read_timeout(Some(left(deadline)?))?;
    let mut some = [0; 4096];
    let count = stream.read(&mut some)?;
    if count == 0 {
        return Err("the collector closed the connection before its answer was whole".into());
    }
    into.extend_from_slice(&some[..count]);
    if into.len() > 2 * MAX_ANSWER { Err("the answer is too long".into()) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    /// What comes of a request to somebody who answers so, and what that one has read.
    fn asked(answer: &'static str) -> (Result<Response<Bytes>, HttpError>, String) {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let uri = format!("http://{}/v1/traces?x=1", listener.local_addr().unwrap());
        let server = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut read = Vec::new();
            while !read.ends_with(b"body") {
                let mut some = [0; 16];
                let count = stream.read(&mut some).unwrap();
                read.extend_from_slice(&some[..count]);
            }
            stream.write_all(answer.as_bytes()).unwrap();
            String::from_utf8(read).unwrap()
        });
        let request = Request::post(uri).header("content-type", "application/x-protobuf");
        let client = PlainClient { timeout: Duration::from_secs(20) };
        let response = client.post(&request.body(Bytes::from_static(b"body")).unwrap());
        (response, server.join().unwrap())
    }

    #[test]
    fn a_request_and_its_answer_are_http() {
        let (response, read) = asked("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nfine");
        assert_eq!(response.unwrap().body(), "fine");
        assert!(read.starts_with("POST /v1/traces?x=1 HTTP/1.1\r\nhost: 127.0.0.1:"), "{read}");
        assert!(read.ends_with("content-type: application/x-protobuf\r\n\r\nbody"), "{read}");

        let (response, _) =
            asked("HTTP/1.1 503 Busy\r\nRetry-After: 7\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nwait\r\n");
        let response = response.unwrap();
        assert_eq!(
            (response.status().as_u16(), &response.headers()["retry-after"]),
            (503, &"7".parse().unwrap())
        );

        for wrong in ["", "HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nshort", "no HTTP\r\n\r\n"] {
            assert!(asked(wrong).0.is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn nobody_waits_for_longer_than_the_timeout() {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let request = Request::post(format!("http://{}/", listener.local_addr().unwrap()));
        let began = Instant::now();
        let client = PlainClient { timeout: Duration::from_millis(300) };
        assert!(client.post(&request.body(Bytes::new()).unwrap()).is_err());
        assert!(began.elapsed() >= Duration::from_millis(290) && began.elapsed() < Duration::from_secs(15));
    }
}
