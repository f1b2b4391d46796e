//! As much of HTTP/1.1 as one question to a token server or a schema registry needs, with or without TLS, on the thread
//! that asks.
//!
//! Not by a general client: such write what they send into the logs at TRACE (`ureq` 3.5 does, byte for byte), and here that
//! is the client's secret. `security::secrets` listens at TRACE.

mod answer;
mod trust;

use std::fmt;
use std::io::{self, Read, Write};
use std::net::{TcpStream, ToSocketAddrs as _};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, StreamOwned};

pub(crate) use answer::{Answer, parse};
pub(crate) use trust::Trust;

/// Of the answer of a token server.
const TOKEN_BYTES: usize = 256 * 1024;
/// To connect to one of a host's addresses.
const CONNECT_LIMIT: Duration = Duration::from_secs(5);

/// Where somebody is asked.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Address {
    is_tls: bool,
    host: String,
    port: u16,
    /// With its query.
    path: String,
}

impl Address {
    /// Reads `https://host:port/path`. The error repeats nothing of it, and completes "setting …".
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let wrong = |why: &str| format!("{why}: write it as https://host/path, or https://host:8443/path");
        let (is_tls, rest) = match text.split_once("://") {
            Some((scheme, rest)) if scheme.eq_ignore_ascii_case("https") => (true, rest),
            Some((scheme, rest)) if scheme.eq_ignore_ascii_case("http") => (false, rest),
            _ => return Err(wrong("begins with neither https:// nor http://")),
        };
        if !rest.bytes().all(|byte| byte.is_ascii_graphic()) || rest.contains('#') {
            return Err(wrong("has characters that no address has"));
        }
        let end = rest.find(['/', '?']).unwrap_or(rest.len());
        let (authority, path) = rest.split_at(end);
        if authority.contains('@') {
            return Err(wrong("has a user name in it"));
        }
        let default = if is_tls { 443 } else { 80 };
        let (host, port) = match authority.strip_prefix('[') {
            Some(rest) => rest.split_once(']').ok_or_else(|| wrong("has a [ without its ]"))?,
            None => authority.split_at(authority.find(':').unwrap_or(authority.len())),
        };
        let port = match port.strip_prefix(':') {
            None if port.is_empty() => default,
            port => port
                .and_then(|port| port.parse().ok())
                .filter(|port| *port > 0)
                .ok_or_else(|| wrong("has a port that is none"))?,
        };
        if ServerName::try_from(host).is_err() {
            return Err(wrong("has no host"));
        }
        let path = if path.starts_with('/') { path.to_owned() } else { format!("/{path}") };
        Ok(Self { is_tls, host: host.to_owned(), port, path })
    }

    /// Another path of the same server, below this one.
    #[cfg(feature = "cli")]
    pub(crate) fn below(&self, path: &str) -> Self {
        let path = format!("{}{path}", self.path.trim_end_matches('/'));
        Self { path, ..self.clone() }
    }

    /// Whether what is sent can be read by others on the way: without TLS, and not to this machine.
    pub(crate) fn is_open(&self) -> bool {
        let is_here = self.host == "localhost"
            || self.host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback());
        !self.is_tls && !is_here
    }

    /// As the header `Host` has it.
    fn authority(&self) -> String {
        let host = if self.host.contains(':') { format!("[{}]", self.host) } else { self.host.clone() };
        format!("{host}:{}", self.port)
    }
}

impl fmt::Debug for Address {
    /// Without the path, whose query may say what nobody is to know.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}", if self.is_tls { "https" } else { "http" }, self.authority())
    }
}

/// Why there is no answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Failed {
    /// Nobody is there, or not in time: this may pass.
    Away(String),
    /// It is not the server that it should be: no authority that is trusted says so.
    Distrusted(String),
    /// What was configured cannot be read.
    Unusable(String),
}

/// Posts `body`, and reads the answer; ends by `deadline`, but for the time that a look-up of the name takes.
///
/// # Errors
/// See [`Failed`]. An answer that says no is none.
pub(crate) fn post(
    address: &Address,
    trust: &Trust,
    headers: &[(&str, &str)],
    body: &[u8],
    deadline: Instant,
) -> Result<Answer, Failed> {
    let request = Request { method: "POST", headers, body: Some(body), longest: TOKEN_BYTES };
    ask(address, trust, &request, deadline)
}

/// Gets what is there, of at most `longest` bytes; otherwise as [`post`].
///
/// # Errors
/// As [`post`].
#[cfg(feature = "cli")]
pub(crate) fn get(
    address: &Address,
    trust: &Trust,
    headers: &[(&str, &str)],
    longest: usize,
    deadline: Instant,
) -> Result<Answer, Failed> {
    ask(address, trust, &Request { method: "GET", headers, body: None, longest }, deadline)
}

struct Request<'a> {
    method: &'a str,
    headers: &'a [(&'a str, &'a str)],
    body: Option<&'a [u8]>,
    /// Of the answer's body.
    longest: usize,
}

fn ask(address: &Address, trust: &Trust, request: &Request<'_>, deadline: Instant) -> Result<Answer, Failed> {
    let away = |error: io::Error| Failed::Away(format!("{address}: {error}"));
    let tls = if address.is_tls { Some(trust.client().map_err(Failed::Unusable)?) } else { None };
    let mut head = format!(
        "{} {} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n",
        request.method,
        address.path,
        address.authority()
    );
    for (name, value) in request.headers {
        head += &format!("{name}: {value}\r\n");
    }
    if let Some(body) = request.body {
        head += &format!("Content-Length: {}\r\n", body.len());
    }
    let bytes = [head.as_bytes(), b"\r\n", request.body.unwrap_or_default()].concat();
    let stream = Timed { stream: connect(address, deadline).map_err(away)?, deadline };
    let answered = match tls {
        None => exchange(stream, &bytes, request.longest),
        Some(client) => {
            secured(client, address, stream).and_then(|stream| exchange(stream, &bytes, request.longest))
        }
    };
    answered.map_err(|error| match error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
        Some(refused) => Failed::Distrusted(format!("{address}: {refused}")),
        None => away(error),
    })
}

fn connect(address: &Address, deadline: Instant) -> io::Result<TcpStream> {
    let mut refused = io::Error::from(io::ErrorKind::AddrNotAvailable);
    for found in (address.host.as_str(), address.port).to_socket_addrs()? {
        match TcpStream::connect_timeout(&found, CONNECT_LIMIT.min(left(deadline)?)) {
            Ok(stream) => return Ok(stream),
            Err(error) => refused = error,
        }
    }
    Err(refused)
}

fn secured(
    client: Arc<ClientConfig>,
    address: &Address,
    stream: Timed,
) -> io::Result<StreamOwned<ClientConnection, Timed>> {
    let name = ServerName::try_from(address.host.clone()).map_err(io::Error::other)?;
    let connection = ClientConnection::new(client, name).map_err(io::Error::other)?;
    Ok(StreamOwned::new(connection, stream))
}

fn exchange(mut stream: impl Read + Write, request: &[u8], longest: usize) -> io::Result<Answer> {
    stream.write_all(request)?;
    stream.flush()?;
    let odd = |why: String| io::Error::new(io::ErrorKind::InvalidData, why);
    let mut bytes = Vec::new();
    loop {
        let mut some = [0; 16 * 1024];
        let count = match stream.read(&mut some) {
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        bytes.extend_from_slice(&some[..count]);
        if let Some(answer) = parse(&bytes, count == 0, longest).map_err(odd)? {
            return Ok(answer);
        }
    }
}

/// A connection no call of which lasts beyond its deadline.
struct Timed {
    stream: TcpStream,
    deadline: Instant,
}

impl Read for Timed {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        self.stream.set_read_timeout(Some(left(self.deadline)?))?;
        self.stream.read(into).map_err(timed_out)
    }
}

impl Write for Timed {
    fn write(&mut self, from: &[u8]) -> io::Result<usize> {
        self.stream.set_write_timeout(Some(left(self.deadline)?))?;
        self.stream.write(from).map_err(timed_out)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.stream.flush()
    }
}

/// The system calls it "would block".
fn timed_out(error: io::Error) -> io::Error {
    if error.kind() == io::ErrorKind::WouldBlock { io::ErrorKind::TimedOut.into() } else { error }
}

fn left(deadline: Instant) -> io::Result<Duration> {
    let left = deadline.saturating_duration_since(Instant::now());
    if left.is_zero() { Err(io::ErrorKind::TimedOut.into()) } else { Ok(left) }
}

#[cfg(test)]
mod tests;
